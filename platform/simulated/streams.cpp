/// The simulated network's streams: connections, and the bytes on their way.

#include "platform/simulated/simulation.hpp"

#include <plait/tcp.hpp>

#include <algorithm>
#include <cstring>

namespace plait::inline v1 {
namespace detail {
namespace {

/// As Linux has it: asked again after 1, 3, 7, ... seconds, given up after 127.
constexpr int most_attempts = 7;
/// How long bytes may stay unacknowledged where nothing is set.
constexpr auto longest_silence = std::chrono::minutes(15);

std::error_code code(std::errc error) noexcept { return std::make_error_code(error); }

} // namespace

// --- connecting --------------------------------------------------------------------------------------------------

status simulation::open_listener(const endpoint& local, const listen_options& options, native_socket& out) {
    const socket_pointer made = make_socket(socket_kind::listener, local.address().is_v6());
    made->option(socket_option::no_delay) = options.no_delay();
    made->option(socket_option::reuse_address) = options.reuse_address();
    made->option(socket_option::reuse_port) = options.reuse_port();
    made->option(socket_option::v6_only) = options.v6_only();
    made->longest_backlog = static_cast<std::size_t>(std::max(options.backlog(), 0)) + 1;
    if (const status failure = bind(*made, local, false); !failure.ok()) return failure;
    out = give_handle(made);
    note("listens", *made, made->local.port(), "is its port");
    return {};
}

status simulation::open_stream(const endpoint& peer, native_socket& out) {
    out = give_handle(make_socket(socket_kind::stream, peer.address().is_v6()));
    return {};
}

socket_pointer simulation::find_listener(const endpoint& where) noexcept {
    std::vector<simulated_socket*> found;
    for (const bool exactly : {true, false}) {
        for (simulated_socket* each : bound_) {
            if (each->kind != socket_kind::listener || each->of_unix || each->local.port() != where.port())
                continue;
            const ip_address& address = each->local.address();
            const bool any =
                address.is_unspecified() && (address.is_v6() == where.address().is_v6() ||
                                             (address.is_v6() && each->option(socket_option::v6_only) == 0));
            if (exactly ? address == where.address() : any) found.push_back(each);
        }
        if (!found.empty()) break;
    }
    if (found.empty()) return nullptr;
    return found[found.size() == 1 ? 0 : network_chance.below(found.size())]->shared_from_this();
}

bool simulation::begin_connect(simulated_socket& socket, const endpoint& peer, status& result) {
    ip_address to = unmapped(peer.address());
    if (to.is_unspecified()) // this machine, as everywhere
        to = to.is_v6() ? ip_address::v6({0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1})
                        : ip_address::v4({127, 0, 0, 1});
    if (to.is_multicast()) {
        result = code(std::errc::network_unreachable);
        return true;
    }
    const ip_address from = source_for(to);
    const std::uint16_t port = free_port(socket, false, from);
    if (port == 0) {
        result = code(std::errc::address_not_available);
        return true;
    }
    ++streams_of_port_[port];
    socket.owns_port = true;
    socket.local = endpoint(from, port);
    socket.remote = endpoint(to, peer.port());
    socket.connecting = true;
    socket.refused = network_chance.happens(settings.refused_connect);
    socket.lost = network_chance.happens(settings.lost_connect);
    note("connects", socket, peer.port(), "is the port");
    at(now_ + some_latency(), [this, client = socket.shared_from_this()] { try_to_connect(client); });
    return false;
}

bool simulation::connect_result(simulated_socket& socket, status& result) {
    if (socket.connecting) return false;
    result = std::exchange(socket.error, status());
    return true;
}

void simulation::connect_failed(const socket_pointer& client, std::errc error) {
    if (!client->connecting) return;
    note(error == std::errc::timed_out ? "gives up to connect" : "is refused", *client);
    client->connecting = false;
    client->error = code(error);
    look_at(*client);
}

/// The client's request has reached the other address, or the place where it is lost.
void simulation::try_to_connect(const socket_pointer& client) {
    if (!client->connecting) return;
    if (client->attempts == most_attempts) return connect_failed(client, std::errc::timed_out);
    ++client->attempts;
    const bool passes = !client->lost && !is_cut(client->local.address(), client->remote.address());
    socket_pointer listener;
    if (passes && !client->refused) listener = find_listener(client->remote);
    if (passes && !listener) {
        at(now_ + some_latency(), [this, client] { connect_failed(client, std::errc::connection_refused); });
        return;
    }
    if (!passes || listener->backlog.size() >= listener->longest_backlog) {
        note("is not answered", *client);
        at(now_ + std::chrono::seconds(std::int64_t{1} << (client->attempts - 1)),
           [this, client] { try_to_connect(client); });
        return;
    }
    const socket_pointer server = make_socket(socket_kind::stream, listener->v6);
    server->options = listener->options;
    server->local = client->remote;
    server->remote = client->local;
    join(client, server);
    if (network_chance.happens(settings.reset_connection)) {
        const std::size_t span = settings.last_reset - settings.first_reset;
        simulated_socket& counts = network_chance.below(2) == 0 ? *client : *server;
        counts.bytes_to_reset =
            settings.first_reset + static_cast<std::size_t>(network_chance.below(span + 1));
    }
    note("waits to be accepted", *server);
    listener->backlog.push_back(server);
    server->out->last_arrival = now_ + some_latency(); // nothing that the server sends overtakes its answer
    at(server->out->last_arrival, [this, client, server] {
        if (client->connecting) {
            note("is connected", *client);
            client->connecting = false;
            client->connected = true;
            look_at(*client);
        }
        break_when_due(*client);
        break_when_due(*server);
    });
    look_at(*listener);
}

/// Lays the two directions between them.
void simulation::join(const socket_pointer& client, const socket_pointer& server) {
    auto lay = [](simulated_socket& writer, simulated_socket& reader) {
        auto made = std::make_shared<flow>();
        made->writer = &writer;
        made->reader = &reader;
        made->from = writer.local.address();
        made->to = reader.local.address();
        made->local = writer.of_unix;
        writer.out = reader.in = made;
    };
    lay(*client, *server);
    lay(*server, *client);
    server->connected = true;
}

bool simulation::accept(simulated_socket& listener, native_socket& accepted, status& result) {
    if (listener.backlog.empty()) return false;
    if (network_chance.happens(settings.failed_accept) && !settings.accept_errors.empty()) {
        const std::uint64_t which = network_chance.below(settings.accept_errors.size());
        const std::errc error = settings.accept_errors[which];
        note("cannot accept for reason", listener, which, "of those given");
        if (error == std::errc::connection_aborted) {
            const socket_pointer lost = std::move(listener.backlog.front());
            listener.backlog.pop_front();
            lost->option(socket_option::linger) = 0;
            close_stream(*lost);
        }
        result = code(error);
        return true;
    }
    const socket_pointer made = std::move(listener.backlog.front());
    listener.backlog.pop_front();
    accepted = give_handle(made);
    note("is accepted", *made);
    result = {};
    return true;
}

// --- bytes on their way --------------------------------------------------------------------------------------------

void simulation::dispatch(const flow_pointer& over, flow::arrival what, std::size_t size) {
    over->last_arrival =
        std::max(over->last_arrival, now_ + (over->local ? steady_duration() : some_latency()));
    at(over->last_arrival, [this, over, piece = flow::piece{what, size}] { arrive(over, piece); });
}

void simulation::arrive(const flow_pointer& over, flow::piece piece) {
    if (!over->held.empty() || (!over->local && is_cut(over->from, over->to))) return hold(over, piece);
    take_in(over, piece);
}

void simulation::take_in(const flow_pointer& over, flow::piece piece) {
    simulated_socket* const reader = over->reader;
    if (!reader || reader->reset) {
        // Nobody is there any more, which who sends bytes is told.
        const bool answer = piece.what == flow::arrival::bytes && over->writer && over->writer->in;
        if (answer && !std::exchange(over->answered, true))
            dispatch(over->writer->in, flow::arrival::reset, 0);
        return;
    }
    switch (piece.what) {
    case flow::arrival::bytes:
        over->arrived += piece.size;
        note("has got", *reader, piece.size, "bytes");
        break;
    case flow::arrival::end:
        over->end_arrived = true;
        note("has got the end", *reader);
        break;
    case flow::arrival::reset: return fail(*reader, std::errc::connection_reset, "is reset");
    }
    look_at(*reader);
}

void simulation::fail(simulated_socket& socket, std::errc error, std::string_view what) {
    if (socket.reset) return;
    note(what, socket);
    socket.reset = true;
    socket.error = code(error);
    look_at(socket);
}

void simulation::hold(const flow_pointer& over, flow::piece piece) {
    over->held.push_back(piece);
    if (over->held.size() > 1) return;
    holding_.push_back(over);
    const int set = over->writer ? over->writer->option(socket_option::user_timeout) : 0;
    const steady_duration limit = set > 0 ? steady_duration(std::chrono::milliseconds(set)) : longest_silence;
    at(now_ + limit, [this, over, turn = ++over->holds] {
        if (over->held.empty() || over->holds != turn) return;
        over->held.clear();
        if (over->writer) fail(*over->writer, std::errc::timed_out, "gives up");
    });
}

void simulation::release(const flow_pointer& over) {
    if (over->held.empty()) return;
    if (is_cut(over->from, over->to)) {
        holding_.push_back(over);
        return;
    }
    for (const flow::piece& each : std::exchange(over->held, {})) take_in(over, each);
}

void simulation::announce_room(const flow_pointer& over) {
    if (!over->writer || !over->writer->sending || std::exchange(over->room_announced, true)) return;
    at(now_ + (over->local ? steady_duration() : some_latency()), [this, over] {
        over->room_announced = false;
        if (over->writer) look_at(*over->writer);
    });
}

void simulation::break_when_due(simulated_socket& socket) {
    if (socket.bytes_to_reset != std::size_t{0} || !socket.out || !socket.in) return;
    socket.bytes_to_reset.reset();
    note("will be reset", socket);
    dispatch(socket.out, flow::arrival::reset, 0);
    dispatch(socket.in, flow::arrival::reset, 0);
}

// --- the verbs -----------------------------------------------------------------------------------------------------

bool simulation::receive(simulated_socket& socket, std::span<std::byte> room, outcome& result) {
    if (!socket.in) {
        result.result = code(std::errc::not_connected);
        return true;
    }
    flow& from = *socket.in;
    if (from.arrived > 0) {
        const std::size_t size = some_part(std::min(room.size(), from.arrived));
        const std::span<const std::byte> bytes(from.bytes.data() + from.taken, size);
        if (size > 0) std::memcpy(room.data(), bytes.data(), size);
        note("received", socket, size, "bytes", bytes);
        from.taken += size;
        from.arrived -= size;
        if (from.unread() == 0) {
            from.bytes.clear();
            from.bytes.shrink_to_fit();
            from.taken = 0;
        } else if (from.taken > 64 * 1024) {
            from.bytes.erase(from.bytes.begin(),
                             from.bytes.begin() + static_cast<std::ptrdiff_t>(from.taken));
            from.taken = 0;
        }
        announce_room(socket.in);
        result = {{}, size};
        return true;
    }
    if (!socket.error.ok())
        result.result = std::exchange(socket.error, status());
    else if (from.end_arrived || socket.reset)
        result.result = errc::end_of_stream;
    else
        return false;
    note(result.result.is(errc::end_of_stream) ? "received the end" : "received an error", socket);
    return true;
}

bool simulation::send(simulated_socket& socket, const operation& op, outcome& result) {
    if (!socket.error.ok()) {
        result.result = std::exchange(socket.error, status());
    } else if (socket.reset || socket.sent_end) {
        result.result = code(std::errc::broken_pipe);
    } else if (!socket.connected) {
        result.result = code(std::errc::not_connected);
    } else {
        flow& into = *socket.out;
        std::size_t most = socket.buffer(socket_option::send_buffer);
        if (into.reader) most += into.reader->buffer(socket_option::receive_buffer);
        if (into.unread() >= most) return false;
        std::size_t wanted = op.size;
        if (op.piece_count > 0) {
            wanted = 0;
            for (std::size_t i = 0; i < op.piece_count; ++i) wanted += op.pieces[i].size();
            wanted -= op.size; // of the first piece these have left
        }
        std::size_t size = some_part(std::min(wanted, most - into.unread()));
        if (socket.bytes_to_reset) size = std::min(size, *socket.bytes_to_reset);
        const std::size_t before = into.bytes.size();
        auto append = [&](std::span<const std::byte> bytes) {
            bytes = bytes.first(std::min(bytes.size(), size - (into.bytes.size() - before)));
            into.bytes.insert(into.bytes.end(), bytes.begin(), bytes.end());
        };
        if (op.piece_count == 0) append({op.data, op.size});
        for (std::size_t i = 0; i < op.piece_count; ++i) append(op.pieces[i].subspan(i == 0 ? op.size : 0));
        note("sent", socket, size, "bytes", std::span(into.bytes).subspan(before));
        for (std::size_t left = size; left > 0;) {
            const std::size_t piece = some_part(left);
            dispatch(socket.out, flow::arrival::bytes, piece);
            left -= piece;
        }
        if (socket.bytes_to_reset) {
            *socket.bytes_to_reset -= size;
            break_when_due(socket);
        }
        result = {{}, size};
        return true;
    }
    note("could not send", socket);
    return true;
}

status simulation::shutdown_send(simulated_socket& socket) {
    if (!socket.connected || socket.reset) return code(std::errc::not_connected);
    if (std::exchange(socket.sent_end, true)) return {};
    note("ends its side", socket);
    dispatch(socket.out, flow::arrival::end, 0);
    return {};
}

void simulation::close_stream(simulated_socket& socket) {
    if (std::exchange(socket.owns_port, false)) --streams_of_port_[socket.local.port()];
    const bool half_open = std::exchange(socket.connecting, false);
    if (socket.in) socket.in->reader = nullptr;
    if (!socket.out) return;
    socket.out->writer = nullptr;
    if (socket.reset) return;
    // What nobody has read makes an end a reset, as with every system.
    const bool lingers = socket.of_unix || socket.option(socket_option::linger) != 0;
    if (half_open || !lingers || socket.in->arrived > 0)
        dispatch(socket.out, flow::arrival::reset, 0);
    else if (!socket.sent_end)
        dispatch(socket.out, flow::arrival::end, 0);
}

// --- Unix sockets --------------------------------------------------------------------------------------------------

simulated_socket* simulation::find_unix(socket_kind kind, const unix_path& name) noexcept {
    const auto found = std::find_if(bound_.begin(), bound_.end(), [&](const simulated_socket* each) {
        return each->of_unix && each->kind == kind && each->local_path == name;
    });
    return found == bound_.end() ? nullptr : *found;
}

status simulation::open_unix(socket_kind kind, const unix_path& local, int backlog, native_socket& out) {
    if (!local.is_unnamed()) {
        for (const socket_kind each : {socket_kind::listener, socket_kind::datagram})
            if (find_unix(each, local)) return code(std::errc::address_in_use);
    }
    const socket_pointer made = make_socket(kind, false);
    made->of_unix = true;
    made->local_path = local;
    made->longest_backlog = static_cast<std::size_t>(std::max(backlog, 0)) + 1;
    if (kind == socket_kind::datagram && local.is_unnamed())
        made->local_path = unix_path::abstract("simulated-" + std::to_string(made->number));
    if (kind != socket_kind::stream) bound_.push_back(made.get());
    out = give_handle(made);
    note("is a Unix socket", *made);
    return {};
}

status simulation::connect_unix(simulated_socket& socket, const unix_path& peer) {
    const bool datagram = socket.kind == socket_kind::datagram;
    simulated_socket* const found = find_unix(datagram ? socket_kind::datagram : socket_kind::listener, peer);
    if (!found)
        return code(peer.is_abstract() ? std::errc::connection_refused
                                       : std::errc::no_such_file_or_directory);
    if (!datagram) {
        if (found->backlog.size() >= found->longest_backlog) return code(std::errc::operation_would_block);
        const socket_pointer server = make_socket(socket_kind::stream, false);
        server->of_unix = true;
        server->local_path = peer;
        join(socket.shared_from_this(), server);
        socket.connected = true;
        found->backlog.push_back(server);
        soon([this, listener = found->shared_from_this()] { look_at(*listener); });
    }
    socket.remote_path = peer;
    note("is connected", socket);
    return {};
}

} // namespace detail
} // namespace plait::inline v1
