/// Unix sockets and their files.

#include "platform/linux/socket.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <ctime>
#include <string>

namespace plait::inline v1 {
namespace detail {
namespace {

/// Two programs that start at once may both find the same stale file: the second must not remove what the first has
/// just bound and does not listen at yet. So they take turns, by a lock on the folder. Where it cannot be had, because
/// the folder may not be read or because somebody keeps it locked, things go on without.
class folder_lock {
  public:
    explicit folder_lock(const std::string& path) {
        const std::size_t slash = path.rfind('/');
        const std::string folder = slash == std::string::npos ? "." : path.substr(0, slash + 1);
        folder_ = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (folder_ < 0) return;
        constexpr timespec a_moment{0, 1'000'000};
        for (int tries = 0; tries < 100 && ::flock(folder_, LOCK_EX | LOCK_NB) != 0; ++tries)
            ::nanosleep(&a_moment, nullptr);
    }
    folder_lock(const folder_lock&) = delete;
    folder_lock& operator=(const folder_lock&) = delete;
    ~folder_lock() {
        if (folder_ >= 0) ::close(folder_);
    }

  private:
    int folder_ = -1;
};

/// Whether a socket stands there that is nobody's. A datagram socket asks: who listens for streams does not hear of
/// it, and answers EPROTOTYPE, also before it listens.
bool is_stale(const std::string& path, const socket_address& address) noexcept {
    struct stat found {};
    if (::lstat(path.c_str(), &found) != 0 || !S_ISSOCK(found.st_mode)) return false;
    const int probe = ::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (probe < 0) return false;
    const bool refused = ::connect(probe, address.get(), address.size) != 0 && errno == ECONNREFUSED;
    ::close(probe);
    return refused;
}

/// -1 and errno, or the socket is bound, and listens if `backlog` is not negative.
int bind_and_listen(int made, const socket_address& address, int backlog) noexcept {
    if (::bind(made, address.get(), address.size) != 0) return -1;
    return backlog < 0 ? 0 : ::listen(made, backlog);
}

status bind_file(int made, const unix_path& local, int backlog, socket_file& file) {
    const std::string path(local.name());
    const socket_address address(local);
    const folder_lock turn(path);
    int outcome = bind_and_listen(made, address, backlog);
    if (outcome != 0 && errno == EADDRINUSE) {
        if (!is_stale(path, address)) return native_error(EADDRINUSE);
        ::unlink(path.c_str());
        outcome = bind_and_listen(made, address, backlog);
    }
    if (outcome != 0) return last_error();
    struct stat ours {};
    if (::lstat(path.c_str(), &ours) == 0) file = socket_file(local, {ours.st_dev, ours.st_ino});
    return {};
}

} // namespace

void remove_socket_file(const unix_path& path, const file_identity& identity) noexcept {
    struct stat found {};
    const std::string name(path.name());
    if (::lstat(name.c_str(), &found) == 0 && file_identity{found.st_dev, found.st_ino} == identity)
        ::unlink(name.c_str());
}

status linux_driver::open_unix(socket_kind kind, const unix_path& local, int backlog, native_socket& out,
                               socket_file& file) {
    metrics_.system_calls += 2;
    const int type = kind == socket_kind::datagram ? SOCK_DGRAM : SOCK_STREAM;
    if (kind != socket_kind::listener) backlog = -1;
    const int made = ::socket(AF_UNIX, type | SOCK_CLOEXEC | extra_socket_flags_, 0);
    if (made < 0) return last_error();
    status failure;
    if (!local.is_unnamed() && !local.is_abstract()) {
        failure = bind_file(made, local, backlog, file);
    } else if (kind != socket_kind::stream) { // without a name the kernel finds a free one
        if (bind_and_listen(made, socket_address(local), backlog) != 0) failure = last_error();
    }
    if (!failure.ok()) {
        ::close(made);
        return failure;
    }
    out = made;
    return {};
}

status linux_driver::connect_unix(native_socket handle, const unix_path& peer) {
    metrics_.system_calls += 1;
    const int descriptor = static_cast<int>(handle);
    const socket_address address(peer);
    // A full backlog would block a blocking descriptor, and a non-blocking one never hears of room: the caller waits.
    const int flags = ::fcntl(descriptor, F_GETFL);
    if (!(flags & O_NONBLOCK)) ::fcntl(descriptor, F_SETFL, flags | O_NONBLOCK);
    const status outcome = ::connect(descriptor, address.get(), address.size) == 0 ? status() : last_error();
    if (!(flags & O_NONBLOCK)) ::fcntl(descriptor, F_SETFL, flags);
    return outcome;
}

status linux_driver::unix_name(native_socket handle, bool remote, unix_path& out) const noexcept {
    socket_address address;
    const int descriptor = static_cast<int>(handle);
    if ((remote ? ::getpeername(descriptor, address.get(), &address.size)
                : ::getsockname(descriptor, address.get(), &address.size)) != 0)
        return last_error();
    out = address.to_path();
    return {};
}

} // namespace detail
} // namespace plait::inline v1
