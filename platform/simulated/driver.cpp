/// The driver over a simulated network: like that for epoll, but that nobody has to ask what is ready.

#include "platform/lease_pool.hpp"
#include "platform/simulated/simulation.hpp"

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <thread>

namespace plait::inline v1 {
namespace detail {
namespace {

using namespace std::chrono_literals;

/// What a turn of the loop takes, so that tasks that only yield see time pass.
constexpr auto turn_length = 1us;
/// For so long, in real time, the clock stands still for a call on another thread.
constexpr auto longest_call = 1s;

/// Kept in the state block.
simulated_socket*& mine(socket_state& socket) noexcept {
    return *static_cast<simulated_socket**>(socket.extra());
}

std::error_code code(std::errc error) noexcept { return std::make_error_code(error); }

} // namespace

bool simulated_waker::wait_for(std::chrono::nanoseconds limit) {
    const auto start = std::chrono::steady_clock::now();
    for (auto pause = 20us; !take(); pause = std::min<decltype(pause)>(pause * 2, 1000us)) {
        if (std::chrono::steady_clock::now() - start >= limit) return false;
        std::this_thread::sleep_for(pause);
    }
    return true;
}

simulated_driver::simulated_driver(const context_options& options, std::shared_ptr<simulation> network)
    : network_(std::move(network)), wake_(std::make_shared<simulated_waker>()),
      pool_(lease_pool::make(options)) {}

simulated_driver::~simulated_driver() { pool_->detach(); }

// --- the turn ----------------------------------------------------------------------------------------------------

void simulated_driver::wait(steady_time deadline) {
    network_->advance(network_->now() + turn_length);
    const bool woken = wake_->take();
    while (!woken && completed().empty() && deadline > network_->now()) {
        const steady_time next = std::min(deadline, network_->next_event());
        const bool called = thread_is_awaited && thread_is_awaited();
        if (called && next == steady_time::max()) {
            while (!wake_->wait_for(longest_call)) {
            }
            return;
        }
        if (called && wake_->wait_for(longest_call)) return;
        if (next == steady_time::max()) {
            if (wake_->wait_for(network_->settings.patience)) return;
            nothing_can_happen();
        }
        network_->advance(next);
    }
}

void simulated_driver::nothing_can_happen() {
    std::fprintf(stderr, "plait: nothing can happen any more in the simulated network with seed %llu\n",
                 static_cast<unsigned long long>(network_->seed));
    if (dump) dump(stderr);
    assertion_failed("an event, a timer or a call of another thread",
                     "every task waits for another one: a deadlock; above is what each waits for", __FILE__,
                     __LINE__);
}

// --- operations --------------------------------------------------------------------------------------------------

bool simulated_driver::start(operation& op) {
    simulated_socket& socket = *mine(*op.socket);
    const bool sends = &op != &op.socket->receive;
    operation*& slot = sends ? socket.sending : socket.receiving;
    if (op.kind == op_kind::connect) {
        status result;
        if (network_->begin_connect(socket, *op.peer, result)) {
            finish(op, result);
            return true;
        }
    } else if (!op.dont_wait && network_->network_chance.happens(network_->settings.late_completion)) {
        network_->soon([this, late = socket.shared_from_this()] {
            if (late->owner == this) look_at(*late);
        });
    } else if (attempt(op)) {
        return true;
    }
    if (op.dont_wait) {
        finish(op, code(std::errc::operation_would_block));
        return true;
    }
    PLAIT_ASSERT(!slot, "two operations of one direction on a socket at once");
    slot = &op;
    return false;
}

void simulated_driver::cancel(operation& op) noexcept {
    simulated_socket& socket = *mine(*op.socket);
    if (socket.receiving == &op) socket.receiving = nullptr;
    if (socket.sending == &op) socket.sending = nullptr;
    network_->note("is asked no more", socket);
    finish(op, errc::canceled);
    complete(op);
}

/// True: `op` has its outcome.
bool simulated_driver::attempt(operation& op) {
    simulated_socket& socket = *mine(*op.socket);
    simulation::outcome got;
    switch (op.kind) {
    case op_kind::accept:
        if (!network_->accept(socket, op.accepted, got.result)) return false;
        break;
    case op_kind::connect:
        if (!network_->connect_result(socket, got.result)) return false;
        break;
    case op_kind::receive:
        if (!network_->receive(socket, {op.data, op.size}, got)) return false;
        if (got.result.ok()) {
            advance(op, got.moved);
            return true;
        }
        break;
    case op_kind::lease:
        if (!network_->receive(socket, pool_->prepare(), got)) return false;
        if (got.result.ok()) pool_->commit(op, got.moved);
        break;
    case op_kind::send:
        if (!network_->send(socket, op, got)) return false;
        if (got.result.ok()) {
            advance(op, got.moved);
            return true;
        }
        break;
    case op_kind::receive_from:
        if (!network_->receive_datagram(socket, {op.data, op.size}, *op.cover, got)) return false;
        break;
    case op_kind::send_to:
        if (!network_->send_datagram(socket, {op.data, op.size}, *op.cover, got)) return false;
        break;
    }
    if (got.result.ok())
        finish(op, got.moved);
    else
        finish(op, got.result);
    return true;
}

void simulated_driver::look_at(simulated_socket& socket) {
    for (operation** slot : {&socket.receiving, &socket.sending}) {
        if (!*slot || !attempt(**slot)) continue;
        ++metrics_.completions;
        complete(*std::exchange(*slot, nullptr));
    }
}

// --- sockets -----------------------------------------------------------------------------------------------------

void simulated_driver::attach(socket_state& socket) noexcept {
    simulated_socket* const found = network_->find(socket.handle);
    PLAIT_ASSERT(found, "a socket of another network");
    mine(socket) = found;
    found->owner = this;
}

void simulated_driver::forget(socket_state& socket) noexcept { mine(socket)->owner = nullptr; }

bool simulated_driver::close(socket_state& socket) noexcept {
    network_->close(socket.handle);
    return true;
}

status simulated_driver::inspect(native_socket handle, socket_kind kind, bool of_unix) noexcept {
    simulated_socket* const found = network_->find(handle);
    if (!found) return code(std::errc::bad_file_descriptor);
    if (found->of_unix != of_unix) return code(std::errc::address_family_not_supported);
    if ((found->kind == socket_kind::datagram) != (kind == socket_kind::datagram))
        return code(std::errc::wrong_protocol_type);
    if (found->kind != kind) return code(std::errc::invalid_argument);
    if (kind == socket_kind::stream && !found->connected) return code(std::errc::not_connected);
    return {};
}

status simulated_driver::connect_datagram(native_socket handle, const endpoint& peer) {
    return network_->connect_datagram(*network_->find(handle), peer);
}

/// There are no groups: none can be joined, so that none can be left.
status simulated_driver::set_membership(native_socket handle, const ip_address& group, std::uint32_t,
                                        bool join) {
    if (group.is_v6() != network_->find(handle)->v6) return code(std::errc::invalid_argument);
    return code(join ? std::errc::operation_not_supported : std::errc::address_not_available);
}

status simulated_driver::connect_unix(native_socket handle, const unix_path& peer) {
    return network_->connect_unix(*network_->find(handle), peer);
}

status simulated_driver::unix_name(native_socket handle, bool remote, unix_path& out) const noexcept {
    const simulated_socket& socket = *network_->find(handle);
    if (!socket.of_unix) return code(std::errc::address_family_not_supported);
    if (remote && !socket.connected && socket.remote_path.is_unnamed()) return code(std::errc::not_connected);
    out = remote ? socket.remote_path : socket.local_path;
    return {};
}

status simulated_driver::shutdown_send(socket_state& socket) noexcept {
    return network_->shutdown_send(*mine(socket));
}

status simulated_driver::local_endpoint(native_socket handle, endpoint& out) const noexcept {
    const simulated_socket& socket = *network_->find(handle);
    if (socket.of_unix) return code(std::errc::address_family_not_supported);
    out = shown(socket.local, socket.v6);
    return {};
}

status simulated_driver::remote_endpoint(native_socket handle, endpoint& out) const noexcept {
    const simulated_socket& socket = *network_->find(handle);
    if (socket.of_unix) return code(std::errc::address_family_not_supported);
    const bool datagram = socket.kind == socket_kind::datagram;
    if (datagram ? !socket.peer : !socket.connected || socket.reset) return code(std::errc::not_connected);
    out = shown(datagram ? *socket.peer : socket.remote, socket.v6);
    return {};
}

status simulated_driver::set_option(native_socket handle, socket_option option, int value) noexcept {
    const bool sized = option == socket_option::receive_buffer || option == socket_option::send_buffer;
    if (value < 0 && option != socket_option::linger) return code(std::errc::invalid_argument);
    network_->find(handle)->option(option) = sized ? std::max(value, 1) : value;
    return {};
}

status simulated_driver::get_option(native_socket handle, socket_option option, int& value) const noexcept {
    value = network_->find(handle)->option(option);
    return {};
}

status simulated_driver::set_option(native_socket, int, int, std::span<const std::byte>) noexcept {
    return code(std::errc::no_protocol_option);
}

// --- names -------------------------------------------------------------------------------------------------------

bool simulated_driver::look_up(const std::string& host, const std::string& service, status& result,
                               std::vector<endpoint>& found) {
    std::uint16_t port = 0;
    const char* const end = service.data() + service.size();
    const auto [behind, failure] = std::from_chars(service.data(), end, port);
    if (failure != std::errc() || behind != end) {
        result = errc::service_not_found;
        return true;
    }
    if (const auto literal = parse_address(host)) {
        found.emplace_back(*literal, port);
    } else if (const auto known = network_->hosts.find(host); known != network_->hosts.end()) {
        for (const ip_address& each : known->second) found.emplace_back(each, port);
    } else if (host == "localhost") {
        found.emplace_back("::1", port);
        found.emplace_back("127.0.0.1", port);
    }
    result = found.empty() ? status(errc::host_not_found) : status();
    return true;
}

// --- making one --------------------------------------------------------------------------------------------------

std::unique_ptr<driver> make_simulated_driver(const context_options& options, std::string_view by,
                                              std::string& reason) {
    std::shared_ptr<simulation> network = options.simulation();
    reason =
        network ? "a simulated network" : std::string(by) + ": a simulated network of this context's own";
    if (!network) network = std::make_shared<simulation>(1);
    reason += ", with seed " + std::to_string(network->seed);
    return std::make_unique<simulated_driver>(options, std::move(network));
}

} // namespace detail
} // namespace plait::inline v1
