#include "platform/linux/socket.hpp"
#include "platform/signal_registry.hpp"

#include <csignal>

#include <array>

namespace plait::inline v1 {
namespace detail {
namespace {

std::array<struct sigaction, signal_limit> before; ///< what to put back

extern "C" void plait_on_signal(int number) { signal_arrived(number); }

} // namespace

const int dump_signal = SIGUSR1;

status take_signal(int number) noexcept {
    struct sigaction action {};
    action.sa_handler = plait_on_signal;
    action.sa_flags = SA_RESTART;
    sigemptyset(&action.sa_mask);
    return ::sigaction(number, &action, &before[static_cast<std::size_t>(number)]) == 0 ? status()
                                                                                        : last_error();
}

void give_signal_back(int number) noexcept {
    ::sigaction(number, &before[static_cast<std::size_t>(number)], nullptr);
}

} // namespace detail
} // namespace plait::inline v1
