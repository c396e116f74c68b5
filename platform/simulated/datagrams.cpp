/// The simulated network's datagrams, over UDP and Unix sockets.

#include "platform/simulated/simulation.hpp"

#include <plait/udp.hpp>

#include <algorithm>
#include <cstring>

namespace plait::inline v1 {
namespace detail {
namespace {

/// What IPv4 and UDP leave of 64 KiB.
constexpr std::size_t longest_datagram = 65507;
/// net.unix.max_dgram_qlen
constexpr std::size_t longest_unix_queue = 10;

constexpr ip_address everybody = ip_address::v4({255, 255, 255, 255});

std::error_code code(std::errc error) noexcept { return std::make_error_code(error); }

} // namespace

status simulation::open_datagram(const endpoint& local, const udp_options& options, native_socket& out) {
    const socket_pointer made = make_socket(socket_kind::datagram, local.address().is_v6());
    made->option(socket_option::reuse_address) = options.reuse_address();
    made->option(socket_option::reuse_port) = options.reuse_port();
    made->option(socket_option::v6_only) = options.v6_only();
    if (const status failure = bind(*made, local, true); !failure.ok()) return failure;
    out = give_handle(made);
    note("is a datagram socket", *made, made->local.port(), "is its port");
    return {};
}

status simulation::connect_datagram(simulated_socket& socket, const endpoint& peer) {
    if (peer.address().is_v6() && !socket.v6) return code(std::errc::address_family_not_supported);
    const endpoint to(unmapped(peer.address()), peer.port());
    if (socket.local.address().is_unspecified())
        socket.local = endpoint(source_for(to.address()), socket.local.port());
    socket.peer = to;
    // What others had sent stays out from now on, also what has come already.
    std::erase_if(socket.datagrams, [&](const simulated_datagram& each) {
        if (each.sender == to) return false;
        socket.queued_bytes -= each.bytes.size();
        return true;
    });
    note("has a peer", socket, to.port(), "is its port");
    return {};
}

/// Who receives what is sent there: a socket that is connected to the sender before others, an exact address before
/// any.
socket_pointer simulation::find_datagram_socket(const endpoint& to, const endpoint& from) noexcept {
    std::vector<simulated_socket*> best;
    int best_rank = -1;
    for (simulated_socket* each : bound_) {
        if (each->kind != socket_kind::datagram || each->of_unix || each->local.port() != to.port()) continue;
        const ip_address& address = each->local.address();
        const bool any =
            address.is_unspecified() && (address.is_v6() == to.address().is_v6() ||
                                         (address.is_v6() && each->option(socket_option::v6_only) == 0));
        if (address != to.address() && !any) continue;
        if (each->peer && *each->peer != from) continue;
        const int rank = (each->peer ? 2 : 0) + (any ? 0 : 1);
        if (rank > best_rank) best.clear();
        if (rank >= best_rank) best.push_back(each);
        best_rank = std::max(best_rank, rank);
    }
    if (best.empty()) return nullptr;
    return best[best.size() == 1 ? 0 : network_chance.below(best.size())]->shared_from_this();
}

void simulation::deliver(const endpoint& to, simulated_datagram datagram,
                         const std::weak_ptr<simulated_socket>& sender) {
    const socket_pointer from = sender.lock();
    if (is_cut(datagram.sender.address(), to.address())) {
        if (from) note("has lost", *from, datagram.bytes.size(), "bytes");
        return;
    }
    const socket_pointer receiver = find_datagram_socket(to, datagram.sender);
    if (!receiver) {
        if (!from || from->peer != to) return;
        at(now_ + some_latency(), [this, sender] {
            const socket_pointer told = sender.lock();
            if (!told) return;
            note("is refused", *told);
            told->error = code(std::errc::connection_refused);
            look_at(*told);
        });
        return;
    }
    const std::size_t size = datagram.bytes.size();
    if (receiver->queued_bytes + size > receiver->buffer(socket_option::receive_buffer)) {
        note("has no room for", *receiver, size, "bytes");
        return;
    }
    note("has got", *receiver, size, "bytes");
    receiver->queued_bytes += size;
    receiver->datagrams.push_back(std::move(datagram));
    look_at(*receiver);
}

bool simulation::send_datagram(simulated_socket& socket, std::span<const std::byte> bytes,
                               const envelope& cover, outcome& result) {
    if (!socket.error.ok()) {
        result.result = std::exchange(socket.error, status());
        return true;
    }
    simulated_datagram sent;
    sent.bytes.assign(bytes.begin(), bytes.end());
    if (socket.of_unix) {
        const unix_path to = cover.path ? *cover.path : socket.remote_path;
        simulated_socket* const found = find_unix(socket_kind::datagram, to);
        if (to.is_unnamed())
            result.result = code(std::errc::not_connected);
        else if (!found)
            result.result = code(to.is_abstract() || !cover.path ? std::errc::connection_refused
                                                                 : std::errc::no_such_file_or_directory);
        else if (bytes.size() > socket.buffer(socket_option::send_buffer))
            result.result = code(std::errc::message_size);
        else if (found->datagrams.size() < longest_unix_queue) {
            note("sent", socket, bytes.size(), "bytes", bytes);
            sent.sender_path = socket.local_path;
            found->datagrams.push_back(std::move(sent));
            soon([this, receiver = found->shared_from_this()] { look_at(*receiver); });
            result.moved = bytes.size();
        } else if (cover.path) {
            result.result = code(std::errc::operation_would_block);
        } else {
            return false;
        }
        return true;
    }
    if (!cover.address && !socket.peer) {
        result.result = code(std::errc::destination_address_required);
        return true;
    }
    endpoint to =
        cover.address ? endpoint(unmapped(cover.address->address()), cover.address->port()) : *socket.peer;
    if (cover.address && cover.address->address().is_v6() != socket.v6) {
        result.result = code(std::errc::address_family_not_supported);
        return true;
    }
    if (to.address().is_unspecified())
        to = endpoint(to.address().is_v6() ? ip_address::v6({0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1})
                                           : ip_address::v4({127, 0, 0, 1}),
                      to.port());
    if (bytes.size() > longest_datagram)
        result.result = code(std::errc::message_size);
    else if (to.port() == 0)
        result.result = code(std::errc::invalid_argument);
    else if (to.address() == everybody && socket.option(socket_option::broadcast) == 0)
        result.result = code(std::errc::permission_denied);
    else if (to.address() == everybody || to.address().is_multicast() ||
             (to.address().is_v4() && socket.option(socket_option::v6_only)))
        result.result = code(std::errc::network_unreachable);
    if (!result.result.ok()) return true;

    note("sent", socket, bytes.size(), "bytes", bytes);
    result.moved = bytes.size();
    const ip_address from =
        socket.local.address().is_unspecified() ? source_for(to.address()) : socket.local.address();
    sent.sender = endpoint(from, socket.local.port());
    if (network_chance.happens(settings.lost_datagram)) {
        note("has lost", socket, bytes.size(), "bytes");
        return true;
    }
    for (int copies = network_chance.happens(settings.doubled_datagram) ? 2 : 1; copies > 0; --copies) {
        steady_duration under_way = some_latency();
        if (network_chance.happens(settings.delayed_datagram))
            under_way +=
                (settings.most_latency + std::chrono::milliseconds(1)) * (1 + network_chance.below(10));
        at(now_ + under_way,
           [this, to, sent, sender = socket.weak_from_this()] { deliver(to, sent, sender); });
    }
    return true;
}

bool simulation::receive_datagram(simulated_socket& socket, std::span<std::byte> room, envelope& cover,
                                  outcome& result) {
    cover.truncated = false;
    if (socket.datagrams.empty()) {
        if (socket.error.ok()) return false;
        result.result = std::exchange(socket.error, status());
        return true;
    }
    const simulated_datagram got = std::move(socket.datagrams.front());
    socket.datagrams.pop_front();
    if (!socket.of_unix) socket.queued_bytes -= got.bytes.size();
    const std::size_t size = std::min(room.size(), got.bytes.size());
    if (size > 0) std::memcpy(room.data(), got.bytes.data(), size);
    cover.truncated = size < got.bytes.size();
    if (cover.address) *cover.address = shown(got.sender, socket.v6);
    if (cover.path) *cover.path = got.sender_path;
    note("received", socket, size, "bytes", got.bytes);
    result.moved = size;
    if (socket.of_unix) // who waits for room in this queue is among them
        soon([this] {
            const std::vector<simulated_socket*> all = bound_;
            for (simulated_socket* each : all)
                if (each->of_unix && each->kind == socket_kind::datagram && each->sending) look_at(*each);
        });
    return true;
}

} // namespace detail
} // namespace plait::inline v1
