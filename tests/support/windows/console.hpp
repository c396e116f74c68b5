#pragma once
/// Events of a console, which reach every process that has it.

#include "support/windows/winsock.hpp"

namespace support {

/// This process gets a console for itself, once.
void have_own_console();

/// Sends a Ctrl-Break to this process alone, and waits for it: 0, the error of GenerateConsoleCtrlEvent, or WAIT_TIMEOUT.
DWORD try_ctrl_break();

/// CTRL_C_EVENT or CTRL_BREAK_EVENT for all who have this process' console. Wine 8 refuses Ctrl-Break; `process` alone
/// has one then: its handlers run on a new thread there, begun by the function that a console has in every process.
/// False with GetLastError().
inline bool send_console_event(DWORD event, HANDLE process) {
    if (::GenerateConsoleCtrlEvent(event, 0)) return true;
    const DWORD error = ::GetLastError();
    void* const routine = reinterpret_cast<void*>(::GetProcAddress(
        ::GetModuleHandleW(L"kernelbase.dll"), "CtrlRoutine")); // at one address in all processes
    ::SetLastError(error);
    if (!routine) return false;
    const HANDLE thread =
        ::CreateRemoteThread(process, nullptr, 0, reinterpret_cast<LPTHREAD_START_ROUTINE>(routine),
                             reinterpret_cast<void*>(static_cast<ULONG_PTR>(event)), 0, nullptr);
    if (thread) ::CloseHandle(thread);
    return thread != nullptr;
}

} // namespace support
