/// Console control events as signals: Ctrl-C is SIGINT, Ctrl-Break SIGBREAK; closing the console, logging off and
/// shutting down are SIGTERM. What the program raises itself (std::raise) counts too.

#include "platform/signal_registry.hpp"
#include "platform/windows/socket.hpp"

#include <atomic>
#include <csignal>

namespace plait::inline v1 {
namespace detail {
namespace {

using handler = void (*)(int);

struct watched_signal {
    std::atomic<bool> on{false};
    handler before = SIG_DFL;
};
watched_signal watched[signal_limit];
int watched_count = 0; ///< behind the registry's lock

/// The console closes, or everything does. The system holds its lock of the handlers as long as ours runs, and ours
/// does not return then: SetConsoleCtrlHandler would wait for ever.
std::atomic<bool> ending{false};

bool known(int number) noexcept { return number == SIGINT || number == SIGTERM || number == SIGBREAK; }

extern "C" void plait_on_signal(int number) {
    std::signal(number, plait_on_signal); // the runtime has put the default action back
    signal_arrived(number);
}

/// Runs on a thread of the system's.
BOOL WINAPI on_console_event(DWORD event) {
    const int number = event == CTRL_C_EVENT ? SIGINT : event == CTRL_BREAK_EVENT ? SIGBREAK : SIGTERM;
    if (!watched[number].on.load()) return FALSE;
    if (number == SIGTERM) ending.store(true);
    signal_arrived(number);
    // Closing, logging off and shutting down end the process when this returns, or some seconds later. The program
    // is given that time: it ends by returning from main().
    if (number == SIGTERM) ::Sleep(INFINITE);
    return TRUE;
}

} // namespace

const int dump_signal = SIGBREAK;

status take_signal(int number) noexcept {
    if (!known(number)) return std::make_error_code(std::errc::invalid_argument);
    watched_signal& entry = watched[number];
    if (!ending.load()) {
        // In this order: of several console handlers the latest is asked first, and the runtime has one for SIGINT.
        entry.before = std::signal(number, plait_on_signal);
        if (entry.before == SIG_ERR) return std::make_error_code(std::errc::invalid_argument);
        if (watched_count > 0) ::SetConsoleCtrlHandler(on_console_event, FALSE);
        if (!::SetConsoleCtrlHandler(on_console_event, TRUE))
            return native_error(static_cast<int>(::GetLastError()));
    }
    ++watched_count;
    entry.on.store(true);
    return {};
}

void give_signal_back(int number) noexcept {
    watched_signal& entry = watched[number];
    entry.on.store(false);
    --watched_count;
    if (ending.load()) return;
    std::signal(number, entry.before);
    if (watched_count == 0) ::SetConsoleCtrlHandler(on_console_event, FALSE);
}

} // namespace detail
} // namespace plait::inline v1
