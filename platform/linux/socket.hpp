#pragma once
/// What every Linux driver shares: sockets, their options and addresses, over plain system calls.

#include "platform/driver.hpp"
#include "platform/socket_address.hpp"

#include <sys/socket.h>
#include <sys/uio.h>

namespace plait::inline v1 {
namespace detail {

/// errno of the last failed call, as a portable code.
status last_error() noexcept;

/// The bytes that a gathered send has left, as far as `out` goes; how many pieces that is.
std::size_t gather(const operation& op, std::span<iovec> out) noexcept;

/// What recvmsg fills in besides the bytes, and what sendmsg reads.
struct message_frame {
    void receive_into(std::byte* data, std::size_t size) noexcept;
    /// Of a receive that is over; `succeeded` if a datagram came.
    void deliver(envelope& cover, bool succeeded) noexcept;
    void send_from(const std::byte* data, std::size_t size, const envelope& cover) noexcept;

    msghdr header;
    iovec piece;
    socket_address address;
};

/// An eventfd, shared with whoever may want to wake the loop.
class event_descriptor final : public waker {
  public:
    event_descriptor();
    event_descriptor(const event_descriptor&) = delete;
    event_descriptor& operator=(const event_descriptor&) = delete;
    ~event_descriptor() override;

    void wake() noexcept override;
    int descriptor() const noexcept { return descriptor_; }

  private:
    int descriptor_;
};

class linux_driver : public driver {
  public:
    linux_driver() : wake_(std::make_shared<event_descriptor>()) {}

    using driver::close;
    std::shared_ptr<waker> get_waker() override { return wake_; }

    status open_listener(const endpoint& local, const listen_options& options, native_socket& out) override;
    bool shares_ports() const noexcept override { return true; }
    status prepare(native_socket handle) noexcept override;
    status inspect(native_socket handle, socket_kind kind, bool of_unix) noexcept override;
    status open_stream(const endpoint& peer, native_socket& out) override;
    status open_datagram(const endpoint& local, const udp_options& options, native_socket& out) override;
    status open_unix(socket_kind kind, const unix_path& local, int backlog, native_socket& out,
                     socket_file& file) override;
    status connect_unix(native_socket handle, const unix_path& peer) override;
    status unix_name(native_socket handle, bool remote, unix_path& out) const noexcept override;
    status connect_datagram(native_socket handle, const endpoint& peer) override;
    status set_membership(native_socket handle, const ip_address& group, std::uint32_t index,
                          bool join) override;
    void close(native_socket handle) noexcept override;
    status shutdown_send(socket_state& socket) noexcept override;
    status local_endpoint(native_socket handle, endpoint& out) const noexcept override;
    status remote_endpoint(native_socket handle, endpoint& out) const noexcept override;
    status set_option(native_socket handle, socket_option option, int value) noexcept override;
    status get_option(native_socket handle, socket_option option, int& value) const noexcept override;
    status set_option(native_socket handle, int level, int name,
                      std::span<const std::byte> value) noexcept override;

  protected:
    /// What accept4(2) answered.
    static void finish_accept(operation& op, int accepted) noexcept {
        if (accepted < 0) return finish(op, last_error());
        op.accepted = accepted;
        finish(op, 0);
    }

    /// SOCK_NONBLOCK where readiness drives the sockets; io_uring wants them blocking.
    int extra_socket_flags_ = 0;
    std::shared_ptr<event_descriptor> wake_;
};

/// nullptr, and a reason, when the kernel refuses io_uring.
std::unique_ptr<driver> make_io_uring_driver(const context_options& options, std::string& reason);

std::unique_ptr<driver> make_epoll_driver(const context_options& options, std::string& reason);

} // namespace detail
} // namespace plait::inline v1
