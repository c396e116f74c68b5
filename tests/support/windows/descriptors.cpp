#include "support/system.hpp"

#include "support/windows/winsock.hpp"

#include <winternl.h>

#include <cstring>
#include <string_view>
#include <vector>

namespace support {

namespace {

template <class F>
F function_of_ntdll(const char* name) {
    const auto found = reinterpret_cast<F>(
        reinterpret_cast<void*>(::GetProcAddress(::GetModuleHandleW(L"ntdll.dll"), name)));
    must(found != nullptr, name);
    return found;
}

/// The object's type is "File": a socket, a file, a pipe. False for what is no handle.
bool is_descriptor(ULONG_PTR handle, bool& is_handle) {
    using query = LONG(WINAPI*)(HANDLE, ULONG, void*, ULONG, ULONG*);
    static const auto ask = function_of_ntdll<query>("NtQueryObject");
    constexpr ULONG object_type_information = 2;
    alignas(UNICODE_STRING) std::byte answer[1024];
    is_handle =
        ask(reinterpret_cast<HANDLE>(handle), object_type_information, answer, sizeof answer, nullptr) >= 0;
    if (!is_handle) return false;
    UNICODE_STRING name; // which stands first
    std::memcpy(&name, answer, sizeof name);
    return std::wstring_view(name.Buffer, name.Length / sizeof(wchar_t)) == L"File";
}

/// Of this process, in the system's list of processes. Wine 8 tells how many handles its table has room for.
std::size_t handle_count() {
    using query = LONG(WINAPI*)(ULONG, void*, ULONG, ULONG*);
    static const auto ask = function_of_ntdll<query>("NtQuerySystemInformation");
    constexpr ULONG process_information = 5;
    constexpr LONG too_short = static_cast<LONG>(0xC0000004); // STATUS_INFO_LENGTH_MISMATCH
    std::vector<std::byte> room(16 * 1024);
    LONG answer = too_short;
    while (answer == too_short) {
        room.resize(2 * room.size());
        answer = ask(process_information, room.data(), static_cast<ULONG>(room.size()), nullptr);
    }
    must(answer >= 0, "NtQuerySystemInformation");
    const auto own = static_cast<ULONG_PTR>(::GetCurrentProcessId());
    for (std::size_t at = 0;;) {
        const auto& each = *reinterpret_cast<const SYSTEM_PROCESS_INFORMATION*>(room.data() + at);
        if (reinterpret_cast<ULONG_PTR>(each.UniqueProcessId) == own) return each.HandleCount;
        must(each.NextEntryOffset != 0, "this process among all");
        at += each.NextEntryOffset;
    }
}

} // namespace

// Every number that may be a handle is asked for. (The system's list of all handles would be less work, but Wine 8's
// server crashes when it makes that while a process begins or ends, and everybody's programs with it.)
std::size_t open_descriptors() {
    DWORD handles = 0;
    must(::GetProcessHandleCount(::GetCurrentProcess(), &handles) != 0, "GetProcessHandleCount");
    const std::size_t most = handles > 0 ? 1'000'000 : handle_count(); // Wine 8 says 0
    std::size_t descriptors = 0;
    for (std::size_t i = 1, found = 0; i <= most && (handles == 0 || found < handles); ++i) {
        bool is_handle = false;
        if (is_descriptor(4 * i, is_handle)) ++descriptors;
        if (is_handle) ++found;
    }
    return descriptors;
}

} // namespace support
