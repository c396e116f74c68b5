#pragma once
/// Events of a console, which reach every process that has it.

#include "support/windows/winsock.hpp"

namespace support {

/// This process gets a console for itself, once.
void have_own_console();

/// Sends a Ctrl-Break to this process alone, and waits for it: 0, the error of GenerateConsoleCtrlEvent, or WAIT_TIMEOUT.
DWORD try_ctrl_break();

/// What a console begins in each of its processes, on a new thread, to run the handlers there. At one address in all
/// processes; Wine has it, Windows need not tell.
inline LPTHREAD_START_ROUTINE console_routine() {
    return reinterpret_cast<LPTHREAD_START_ROUTINE>(
        reinterpret_cast<void*>(::GetProcAddress(::GetModuleHandleW(L"kernelbase.dll"), "CtrlRoutine")));
}

/// An event for all who have this process' console. Where the system sends none of that kind (Wine 8 no Ctrl-Break, nobody
/// the end of the console), it is begun in `process` alone. False with GetLastError().
inline bool send_console_event(DWORD event, HANDLE process) {
    if (::GenerateConsoleCtrlEvent(event, 0)) return true;
    const DWORD error = ::GetLastError();
    const auto routine = console_routine();
    ::SetLastError(error);
    if (!routine) return false;
    void* const argument = reinterpret_cast<void*>(static_cast<ULONG_PTR>(event));
    const HANDLE thread = ::CreateRemoteThread(process, nullptr, 0, routine, argument, 0, nullptr);
    if (thread) ::CloseHandle(thread);
    return thread != nullptr;
}

} // namespace support
