#include "platform/signal_registry.hpp"

#include <array>
#include <atomic>
#include <mutex>
#include <thread>

namespace plait::inline v1 {
namespace detail {
namespace {

constexpr std::size_t most_wakers = 256;

/// What handlers touch: lock-free, and nothing is freed while a handler looks at it.
std::array<std::atomic<std::uint64_t>, signal_limit> arrivals{};
std::atomic<std::uint64_t> all_arrivals{0};
std::array<std::atomic<waker*>, most_wakers> wakers{};
std::atomic<int> handlers_running{0};

/// Behind the mutex: how many watch, and through which wakers.
struct registered_waker {
    std::shared_ptr<waker> held;
    int uses = 0;
};
std::mutex mutex;
std::array<int, signal_limit> watchers{};
std::array<registered_waker, most_wakers> registered;

std::size_t slot_of(const std::shared_ptr<waker>& wake) noexcept {
    std::size_t slot = 0;
    while (slot < most_wakers && registered[slot].held != wake) ++slot;
    return slot;
}

} // namespace

void signal_arrived(int number) noexcept {
    handlers_running.fetch_add(1);
    arrivals[static_cast<std::size_t>(number)].fetch_add(1);
    all_arrivals.fetch_add(1);
    for (std::atomic<waker*>& slot : wakers)
        if (waker* wake = slot.load()) wake->wake();
    handlers_running.fetch_sub(1);
}

status watch_signal(int number, const std::shared_ptr<waker>& wake) noexcept {
    if (number <= 0 || number >= signal_limit) return std::make_error_code(std::errc::invalid_argument);
    std::lock_guard lock(mutex);
    std::size_t slot = slot_of(wake);
    if (slot == most_wakers) slot = slot_of(nullptr);
    if (slot == most_wakers) return std::make_error_code(std::errc::not_enough_memory);
    int& watching = watchers[static_cast<std::size_t>(number)];
    if (watching == 0) {
        if (const status failure = take_signal(number); !failure.ok()) return failure;
    }
    ++watching;
    registered[slot].held = wake;
    ++registered[slot].uses;
    wakers[slot].store(wake.get());
    return {};
}

void unwatch_signal(int number, const std::shared_ptr<waker>& wake) noexcept {
    std::lock_guard lock(mutex);
    if (--watchers[static_cast<std::size_t>(number)] == 0) give_signal_back(number);
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

std::uint64_t signal_arrivals() noexcept { return all_arrivals.load(); }

} // namespace detail
} // namespace plait::inline v1
