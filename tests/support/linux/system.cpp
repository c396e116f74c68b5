#include "support/system.hpp"

#include "support/must.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <malloc.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <csignal>

namespace support {

namespace {
int number_of(plait::native_socket socket) { return static_cast<int>(socket); }
} // namespace

std::size_t open_descriptors() {
    DIR* directory = ::opendir("/proc/self/fd");
    must(directory != nullptr, "/proc/self/fd");
    std::size_t count = 0;
    while (::readdir(directory)) ++count;
    ::closedir(directory);
    return count - 3; // ".", ".." and the directory itself
}

std::size_t most_descriptors() {
    rlimit limit{};
    ::getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    ::setrlimit(RLIMIT_NOFILE, &limit);
    return static_cast<std::size_t>(limit.rlim_cur);
}

// A sanitizer has an allocator of its own, which mallinfo2 knows nothing of.
std::optional<std::size_t> live_heap_bytes() {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    return std::nullopt;
#else
    const struct mallinfo2 now = ::mallinfo2();
    return now.uordblks + now.hblkhd;
#endif
}

bool listeners_share_ports() { return true; }

int first_signal() { return SIGUSR1; }
int second_signal() { return SIGUSR2; }
int other_signal() { return SIGTERM; }
int dump_signal() { return SIGUSR1; }

void send_signal(int number) { static_cast<void>(::raise(number)); }
void send_signal_to_process(int number) { ::kill(::getpid(), number); }

bool is_open_socket(plait::native_socket socket) { return ::fcntl(number_of(socket), F_GETFD) >= 0; }

bool is_inherited(plait::native_socket socket) {
    return (::fcntl(number_of(socket), F_GETFD) & FD_CLOEXEC) == 0;
}

std::ptrdiff_t receive_at_once(plait::native_socket socket, std::span<std::byte> into) {
    return ::recv(number_of(socket), into.data(), into.size(), MSG_DONTWAIT);
}

bool acknowledgements_are_due(plait::native_socket socket) {
    int kept = 0, unsent = 0;
    must(::ioctl(number_of(socket), SIOCOUTQ, &kept) == 0 &&
             ::ioctl(number_of(socket), SIOCOUTQNSD, &unsent) == 0,
         "SIOCOUTQ");
    return kept != unsent;
}

option_number listener_option() { return {IPPROTO_TCP, TCP_DEFER_ACCEPT}; }
option_number stream_option() { return {SOL_SOCKET, SO_PRIORITY}; }
const int stream_option_value = 5;
option_number unknown_option() { return {IPPROTO_TCP, 9999}; }

int option_of(plait::native_socket socket, option_number option) {
    int value = -1;
    socklen_t size = sizeof value;
    ::getsockopt(number_of(socket), option.level, option.name, &value, &size);
    return value;
}

bool has_no_delay(plait::native_socket socket) { return option_of(socket, {IPPROTO_TCP, TCP_NODELAY}) != 0; }

keep_alive_values keep_alive_of(plait::native_socket socket) {
    return {option_of(socket, {IPPROTO_TCP, TCP_KEEPIDLE}), option_of(socket, {IPPROTO_TCP, TCP_KEEPINTVL}),
            option_of(socket, {IPPROTO_TCP, TCP_KEEPCNT})};
}

deadly_broken_pipe::deadly_broken_pipe() : before_(std::signal(SIGPIPE, SIG_DFL)) {}
deadly_broken_pipe::~deadly_broken_pipe() { std::signal(SIGPIPE, before_); }

} // namespace support
