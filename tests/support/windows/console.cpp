#include "support/windows/console.hpp"

namespace support {

namespace {

HANDLE break_came() {
    static const HANDLE event = ::CreateEventW(nullptr, FALSE, FALSE, nullptr);
    return event;
}

BOOL WINAPI note_break(DWORD event) {
    if (event != CTRL_BREAK_EVENT) return FALSE;
    ::SetEvent(break_came());
    return TRUE;
}

} // namespace

void have_own_console() {
    static const bool made = [] {
        ::FreeConsole();
        must(::AllocConsole() != 0, "AllocConsole");
        ::SetConsoleCtrlHandler(nullptr, FALSE); // who started us may have switched Ctrl-C off
        return true;
    }();
    static_cast<void>(made);
}

DWORD try_ctrl_break() {
    have_own_console();
    must(break_came() && ::SetConsoleCtrlHandler(note_break, TRUE), "SetConsoleCtrlHandler");
    DWORD outcome = 0;
    if (!::GenerateConsoleCtrlEvent(CTRL_BREAK_EVENT, 0))
        outcome = ::GetLastError();
    else
        outcome = ::WaitForSingleObject(break_came(), 2000);
    ::SetConsoleCtrlHandler(note_break, FALSE);
    return outcome;
}

} // namespace support
