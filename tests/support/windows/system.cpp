#include "support/system.hpp"

#include "support/must.hpp"
#include "support/windows/console.hpp"
#include "support/windows/winsock.hpp"

#include <malloc.h>

#include <csignal>
#include <cstdlib>

namespace support {

namespace {

SOCKET number_of(plait::native_socket socket) { return static_cast<SOCKET>(socket); }

bool get_option(plait::native_socket socket, option_number option, int& value) {
    int size = sizeof value;
    return ::getsockopt(number_of(socket), option.level, option.name, reinterpret_cast<char*>(&value),
                        &size) == 0;
}

} // namespace

std::size_t most_descriptors() { return 16'000; } // there is no limit; more ports than this are not for us

std::optional<std::size_t> live_heap_bytes() {
    const auto heap = reinterpret_cast<HANDLE>(::_get_heap_handle());
    PROCESS_HEAP_ENTRY entry{};
    std::size_t bytes = 0;
    if (!::HeapLock(heap)) return std::nullopt;
    while (::HeapWalk(heap, &entry))
        if ((entry.wFlags & PROCESS_HEAP_ENTRY_BUSY) != 0) bytes += entry.cbData;
    const bool whole = ::GetLastError() == ERROR_NO_MORE_ITEMS;
    ::HeapUnlock(heap);
    return whole ? std::optional(bytes) : std::nullopt;
}

bool listeners_share_ports() { return false; }

// --- signals: events of a console that belongs to this process alone, for they reach all who share it ---------------

int first_signal() {
    have_own_console(); // before anybody waits: a new console forgets the handlers
    return SIGINT;
}
int second_signal() { return SIGBREAK; }
int other_signal() { return SIGTERM; }
int dump_signal() {
    have_own_console(); // as above
    return SIGBREAK;
}

void send_signal(int number) { static_cast<void>(std::raise(number)); }

void send_signal_to_process(int number) {
    have_own_console();
    must(send_console_event(number == SIGBREAK ? CTRL_BREAK_EVENT : CTRL_C_EVENT, ::GetCurrentProcess()),
         "GenerateConsoleCtrlEvent");
}

// --- sockets -------------------------------------------------------------------------------------------------------

bool is_open_socket(plait::native_socket socket) {
    int value = 0;
    return get_option(socket, {SOL_SOCKET, SO_TYPE}, value);
}

bool is_inherited(plait::native_socket socket) {
    DWORD flags = 0;
    must(::GetHandleInformation(reinterpret_cast<HANDLE>(socket), &flags) != 0, "GetHandleInformation");
    return (flags & HANDLE_FLAG_INHERIT) != 0;
}

std::ptrdiff_t receive_at_once(plait::native_socket socket, std::span<std::byte> into) {
    u_long there = 0;
    if (::ioctlsocket(number_of(socket), static_cast<long>(FIONREAD), &there) != 0 || there == 0) return -1;
    return ::recv(number_of(socket), reinterpret_cast<char*>(into.data()), static_cast<int>(into.size()), 0);
}

bool acknowledgements_are_due(plait::native_socket) { return false; }

option_number listener_option() { return {IPPROTO_IP, IP_TTL}; }
option_number stream_option() { return {SOL_SOCKET, SO_RCVTIMEO}; }
const int stream_option_value = 2000;
option_number unknown_option() { return {IPPROTO_TCP, 9999}; }

int option_of(plait::native_socket socket, option_number option) {
    int value = -1;
    get_option(socket, option, value);
    return value;
}

bool has_no_delay(plait::native_socket socket) {
    int value = 0; // of which one byte may come
    return get_option(socket, {IPPROTO_TCP, TCP_NODELAY}, value) && value != 0;
}

// TCP_KEEPIDLE, TCP_KEEPINTVL and TCP_KEEPCNT came with Windows 10, version 1709: not every header has them.
keep_alive_values keep_alive_of(plait::native_socket socket) {
    return {option_of(socket, {IPPROTO_TCP, 3}), option_of(socket, {IPPROTO_TCP, 17}),
            option_of(socket, {IPPROTO_TCP, 16})};
}

deadly_broken_pipe::deadly_broken_pipe() = default; // there is none
deadly_broken_pipe::~deadly_broken_pipe() = default;

} // namespace support
