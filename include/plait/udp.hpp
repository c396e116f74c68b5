#pragma once
/// UDP: datagrams, to and from anybody or one connected peer.
///
///     auto socket = co_await plait::udp_socket::bind({"127.0.0.1", 8000});
///     std::array<std::byte, 1024> buffer;
///     while (auto received = co_await socket->recv_from(buffer))
///         co_await socket->send_to(std::span(buffer).first(received->bytes), received->sender);

#include <plait/detail/datagram_awaitables.hpp>
#include <plait/detail/stream_socket.hpp>
#include <plait/endpoint.hpp>

#include <cstdint>
#include <span>
#include <string_view>

namespace plait::inline v1 {

/// How a UDP socket is opened. Setters chain and may all be left out.
class udp_options {
  public:
    /// An IPv6 socket neither sends to nor receives from IPv4. Default: it does both (dual stack, RFC 3493); an IPv4
    /// peer's address is then mapped, "::ffff:127.0.0.1".
    udp_options& v6_only(bool on = true) noexcept {
        v6_only_ = on;
        return *this;
    }
    /// SO_REUSEADDR: other sockets that say so, too, may bind the same port; each receives what is sent to a multicast
    /// group. Default off: the port is this socket's alone.
    udp_options& reuse_address(bool on = true) noexcept {
        reuse_address_ = on;
        return *this;
    }
    /// SO_REUSEPORT: several sockets share the port, and the kernel spreads senders over them. Default off. Linux only:
    /// elsewhere bind fails with operation_not_supported.
    udp_options& reuse_port(bool on = true) noexcept {
        reuse_port_ = on;
        return *this;
    }

    /// What was set.
    bool v6_only() const noexcept { return v6_only_; }
    bool reuse_address() const noexcept { return reuse_address_; }
    bool reuse_port() const noexcept { return reuse_port_; }

  private:
    bool v6_only_ = false;
    bool reuse_address_ = false;
    bool reuse_port_ = false;
};

/// What recv_from gives: how much of the buffer was filled, by whom, and whether there was more than it could hold.
struct datagram {
    std::size_t bytes = 0;  ///< filled
    endpoint sender;        ///< to whom an answer goes
    bool truncated = false; ///< the rest of this datagram is lost
};

/// A UDP socket. One task may receive while another sends; two receives, or two sends, at once are an assertion.
/// Buffers must live until the operation completes.
class PLAIT_API udp_socket : public detail::socket_handle {
  public:
    using socket_handle::socket_handle;

    /// Binds `local`; port 0 takes a free one, which local_endpoint() tells. Fails with address_in_use,
    /// address_not_available, permission_denied, invalid_argument for an invalid endpoint. bind(2).
    static task<io_result<udp_socket>> bind(endpoint local, udp_options options = {});

    /// Takes over a datagram socket that was made elsewhere; see tcp_stream::from_native_handle.
    static task<io_result<udp_socket>> from_native_handle(native_socket handle);

    /// Receives one datagram, which may be empty: that is a success with 0 bytes. One that is longer than `buffer` is
    /// cut and told to be truncated, also by an empty buffer. Cancelling it loses none: one that was taken is
    /// delivered. That a peer is gone does not end it. Fails with errc::canceled, or what the system says. recvmsg(2).
    receive_from_awaitable<datagram> recv_from(std::span<std::byte> buffer) noexcept {
        return {receive_op(), buffer};
    }

    /// Sends one datagram, which may be empty; all of it or nothing. Completes when the system took it, and says
    /// nothing about its arrival. Fails with message_size (UDP carries 65,507 bytes over IPv4), permission_denied (a
    /// broadcast without set_broadcast), network_unreachable, invalid_argument for an invalid endpoint, errc::canceled.
    /// sendmsg(2).
    send_to_awaitable<endpoint> send_to(std::span<const std::byte> bytes, const endpoint& to) noexcept {
        return {send_op(), bytes, to};
    }
    send_to_awaitable<endpoint> send_to(std::string_view text, const endpoint& to) noexcept {
        return {send_op(), std::as_bytes(std::span(text)), to};
    }

    /// Makes `peer` the one that recv and recv_from hear and that send goes to; later calls choose another. Nothing is
    /// sent, so it succeeds also if nobody is there. connect(2).
    task<io_result<void>> connect(endpoint peer);

    /// Receives one datagram of the connected peer; an empty one is a success with 0 bytes. One that is longer than
    /// `buffer` fails with std::errc::message_size, and bytes() tells what `buffer` holds of it. That nobody listens at
    /// the peer is reported once, as connection_refused, by the next receive or send; then the socket goes on.
    receive_datagram_awaitable recv(std::span<std::byte> buffer) noexcept { return {receive_op(), buffer}; }

    /// Sends one datagram to the connected peer, otherwise like send_to. Without one it fails with
    /// destination_address_required.
    send_datagram_awaitable send(std::span<const std::byte> bytes) noexcept { return {send_op(), bytes}; }
    send_datagram_awaitable send(std::string_view text) noexcept {
        return {send_op(), std::as_bytes(std::span(text))};
    }

    /// The connected peer; std::errc::not_connected without one.
    io_result<endpoint> remote_endpoint() const noexcept;

    /// SO_REUSEPORT: from now on other sockets that say so (udp_options::reuse_port) may bind this port, too, and the
    /// kernel spreads senders over all of them. A socket that was bound without it is first alone for sure, and opens
    /// its port then. Linux only: elsewhere operation_not_supported.
    io_result<void> set_reuse_port(bool on) noexcept;
    io_result<bool> reuse_port() const noexcept;
    /// SO_BROADCAST: allows to send to broadcast addresses.
    io_result<void> set_broadcast(bool on) noexcept;
    io_result<bool> broadcast() const noexcept;
    /// SO_RCVBUF and SO_SNDBUF, bytes; Linux doubles what is asked for. What finds no room in it is lost.
    io_result<void> set_receive_buffer_size(int bytes) noexcept;
    io_result<int> receive_buffer_size() const noexcept;
    io_result<void> set_send_buffer_size(int bytes) noexcept;
    io_result<int> send_buffer_size() const noexcept;

    /// Receives what is sent to `group` (what other sockets joined is not heard), on the interface with that index (see
    /// interface_index); 0: the one that the system's routes choose, or that a link-local group's scope names. Fails
    /// with invalid_argument for an address that is no multicast one or of the other family, no_such_device.
    /// IP_ADD_MEMBERSHIP, IPV6_JOIN_GROUP.
    io_result<void> join_group(const ip_address& group, std::uint32_t interface_index = 0) noexcept;
    /// The same group and interface that were joined. Fails with address_not_available if they were not.
    io_result<void> leave_group(const ip_address& group, std::uint32_t interface_index = 0) noexcept;
    /// How many routers a multicast datagram may pass: 0 to 255. Default 1, which stays in this network.
    io_result<void> set_multicast_ttl(int hops) noexcept;
    io_result<int> multicast_ttl() const noexcept;
    /// Whether groups joined on this machine receive what is sent from it. Default on. On Linux the sender's setting
    /// counts, on Windows the receiver's.
    io_result<void> set_multicast_loop(bool on) noexcept;
    io_result<bool> multicast_loop() const noexcept;
    /// The interface, by its index, that multicast datagrams leave through; 0: the system chooses.
    io_result<void> set_multicast_interface(std::uint32_t interface_index) noexcept;

    /// Closes. What other tasks wait for on this socket ends as cancelled; datagrams not yet received are lost.
    task<io_result<void>> close();

  private:
    detail::operation* receive_op() const noexcept { return state_ ? &state_->receive : nullptr; }
    detail::operation* send_op() const noexcept { return state_ ? &state_->send : nullptr; }
};

/// The index of a network interface ("lo", "eth0"); fails with no_such_device. if_nametoindex(3).
PLAIT_API io_result<std::uint32_t> interface_index(std::string_view name);

} // namespace plait::inline v1
