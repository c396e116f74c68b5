#include "platform/linux/socket.hpp"

#include <csignal>

#include <array>
#include <atomic>
#include <mutex>
#include <thread>

namespace plait::inline v1 {
namespace detail {
namespace {

constexpr int signal_limit = 65;
constexpr std::size_t most_wakers = 256;

/// What the handler touches: lock-free, and nothing is freed while a handler looks at it.
std::array<std::atomic<std::uint64_t>, signal_limit> arrivals{};
std::array<std::atomic<waker*>, most_wakers> wakers{};
std::atomic<int> handlers_running{0};

/// Behind the mutex: who watches, and what to put back.
struct watched_signal {
    int watchers = 0;
    struct sigaction before {};
};
struct registered_waker {
    std::shared_ptr<waker> held;
    int uses = 0;
};
std::mutex mutex;
std::array<watched_signal, signal_limit> watched;
std::array<registered_waker, most_wakers> registered;

extern "C" void plait_on_signal(int number) {
    handlers_running.fetch_add(1);
    arrivals[static_cast<std::size_t>(number)].fetch_add(1);
    for (std::atomic<waker*>& slot : wakers)
        if (waker* wake = slot.load()) wake->wake();
    handlers_running.fetch_sub(1);
}

std::size_t slot_of(const std::shared_ptr<waker>& wake) noexcept {
    std::size_t slot = 0;
    while (slot < most_wakers && registered[slot].held != wake) ++slot;
    return slot;
}

} // namespace

status watch_signal(int number, const std::shared_ptr<waker>& wake) noexcept {
    if (number <= 0 || number >= signal_limit) return std::make_error_code(std::errc::invalid_argument);
    std::lock_guard lock(mutex);
    std::size_t slot = slot_of(wake);
    if (slot == most_wakers) slot = slot_of(nullptr);
    if (slot == most_wakers) return std::make_error_code(std::errc::not_enough_memory);
    watched_signal& entry = watched[static_cast<std::size_t>(number)];
    if (entry.watchers == 0) {
        struct sigaction action {};
        action.sa_handler = plait_on_signal;
        action.sa_flags = SA_RESTART;
        sigemptyset(&action.sa_mask);
        if (::sigaction(number, &action, &entry.before) != 0) return last_error();
    }
    ++entry.watchers;
    registered[slot].held = wake;
    ++registered[slot].uses;
    wakers[slot].store(wake.get());
    return {};
}

void unwatch_signal(int number, const std::shared_ptr<waker>& wake) noexcept {
    std::lock_guard lock(mutex);
    watched_signal& entry = watched[static_cast<std::size_t>(number)];
    if (--entry.watchers == 0) ::sigaction(number, &entry.before, nullptr);
    const std::size_t slot = slot_of(wake);
    if (--registered[slot].uses > 0) return;
    wakers[slot].store(nullptr);
    // A handler on another thread may have read the slot just before.
    while (handlers_running.load() > 0) std::this_thread::yield();
    registered[slot].held.reset();
}

std::uint64_t signal_arrivals(int number) noexcept {
    return number > 0 && number < signal_limit ? arrivals[static_cast<std::size_t>(number)].load() : 0;
}

} // namespace detail
} // namespace plait::inline v1
