// Runs a program on a console of its own, where Ctrl-C reaches it and nobody else:
//
//     with_console PROGRAM [ARGUMENT...]
//
// For each 'c' that comes on stdin there is one Ctrl-C, for each 'b' one Ctrl-Break; for a 'q' the console closes, as far
// as the program can tell. It ends with the program, and with the program's exit code; killing it kills the program, too.

#include "support/windows/console.hpp"

#include <cstdio>
#include <string>

namespace {

int failed(const char* what) {
    std::fprintf(stderr, "with_console: %s: error %lu\n", what, ::GetLastError());
    return 99;
}

BOOL WINAPI ignore(DWORD) { return TRUE; }

HANDLE events = nullptr;
PROCESS_INFORMATION program{};

DWORD event_of(char byte) {
    return byte == 'q' ? CTRL_CLOSE_EVENT : byte == 'b' ? CTRL_BREAK_EVENT : CTRL_C_EVENT;
}

DWORD WINAPI pass_on(void*) {
    char byte = 0;
    DWORD got = 0;
    while (::ReadFile(events, &byte, 1, &got, nullptr) && got == 1)
        if (!support::send_console_event(event_of(byte), program.hProcess))
            failed("GenerateConsoleCtrlEvent");
    return 0;
}

/// The words of our own command line behind our own name, as they stand.
std::wstring rest_of_command_line() {
    const wchar_t* text = ::GetCommandLineW();
    bool quoted = false;
    for (; *text && (quoted || *text != L' '); ++text)
        if (*text == L'"') quoted = !quoted;
    while (*text == L' ') ++text;
    return text;
}

} // namespace

int main() {
    events = ::GetStdHandle(STD_INPUT_HANDLE);
    STARTUPINFOW start{}; // the pipes that we were given, not the console
    start.cb = sizeof start;
    start.dwFlags = STARTF_USESTDHANDLES;
    start.hStdOutput = ::GetStdHandle(STD_OUTPUT_HANDLE);
    start.hStdError = ::GetStdHandle(STD_ERROR_HANDLE);
    for (const HANDLE each : {events, start.hStdOutput, start.hStdError})
        ::SetHandleInformation(each, HANDLE_FLAG_INHERIT, 0); // not for the console's process
    ::FreeConsole();
    if (!::AllocConsole()) return failed("AllocConsole");
    ::SetConsoleCtrlHandler(nullptr,
                            FALSE); // who started us may have switched Ctrl-C off; children inherit that
    ::SetConsoleCtrlHandler(ignore, TRUE);
    for (const HANDLE each : {start.hStdOutput, start.hStdError})
        ::SetHandleInformation(each, HANDLE_FLAG_INHERIT, HANDLE_FLAG_INHERIT);

    const HANDLE job = ::CreateJobObjectW(nullptr, nullptr);
    JOBOBJECT_EXTENDED_LIMIT_INFORMATION limits{};
    limits.BasicLimitInformation.LimitFlags = JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE;
    ::SetInformationJobObject(job, JobObjectExtendedLimitInformation, &limits, sizeof limits);

    std::wstring command = rest_of_command_line();
    if (!::CreateProcessW(nullptr, command.data(), nullptr, nullptr, TRUE, 0, nullptr, nullptr, &start,
                          &program))
        return failed("CreateProcess");
    ::AssignProcessToJobObject(job, program.hProcess);
    ::CreateThread(nullptr, 0, pass_on, nullptr, 0, nullptr);

    DWORD code = 0;
    ::WaitForSingleObject(program.hProcess, INFINITE);
    ::GetExitCodeProcess(program.hProcess, &code);
    ::ExitProcess(code); // not by return: a thread of ours still reads
}
