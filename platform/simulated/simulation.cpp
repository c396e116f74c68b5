#include "platform/simulated/simulation.hpp"

#include <plait/tcp.hpp>

#include <algorithm>
#include <cstdio>
#include <utility>

namespace plait::inline v1 {
namespace detail {
namespace {

/// No descriptor or handle of the system's has such a number, should one be closed by mistake.
constexpr native_socket first_handle = native_socket{1} << 30;

constexpr std::uint16_t first_free_port = 32768;
constexpr std::uint16_t last_free_port = 60999;
constexpr std::uint16_t free_ports = last_free_port - first_free_port + 1;

constexpr auto beginning = steady_time(std::chrono::hours(1));

/// Spreads the bits of each number over all of the sum (the last steps of SplitMix64).
std::uint64_t mixed(std::uint64_t sum, std::uint64_t number) noexcept { return chance(sum ^ number).next(); }

std::uint64_t hash_of(std::string_view text) noexcept {
    std::uint64_t hash = 14695981039346656037U;
    for (const char each : text) hash = (hash ^ static_cast<unsigned char>(each)) * 1099511628211U;
    return hash;
}

bool covers(const ip_address& bound, bool v6_only, const ip_address& other) noexcept {
    if (bound == other) return true;
    if (!bound.is_unspecified()) return false;
    return bound.is_v6() ? other.is_v6() || !v6_only : other.is_v4();
}

} // namespace

ip_address unmapped(const ip_address& address) noexcept {
    if (!address.is_v6()) return address;
    const auto& octets = address.octets();
    for (std::size_t i = 0; i < 10; ++i)
        if (octets[i] != 0) return address;
    if (octets[10] != 0xff || octets[11] != 0xff) return address;
    return ip_address::v4({octets[12], octets[13], octets[14], octets[15]});
}

endpoint shown(const endpoint& where, bool v6) noexcept {
    if (!v6 || where.address().is_v6()) return where;
    const auto& octets = where.address().octets();
    if (where.address().is_unspecified()) return endpoint(ip_address::v6({}), where.port());
    return endpoint(ip_address::v6({0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, octets[0], octets[1], octets[2],
                                    octets[3]}),
                    where.port());
}

simulation::simulation(std::uint64_t number)
    : seed(number), network_chance(number), test_chance(~number), now_(beginning), next_handle_(first_handle),
      next_port_(static_cast<std::uint16_t>(first_free_port + network_chance.below(free_ports))) {}

// --- the clock and the events ----------------------------------------------------------------------------------

void simulation::at(steady_time when, std::function<void()> call) {
    events_.push_back({when, events_so_far_++, std::move(call)});
    std::push_heap(events_.begin(), events_.end());
}

void simulation::advance(steady_time to) {
    while (!events_.empty() && events_.front().at <= to) {
        std::pop_heap(events_.begin(), events_.end());
        const event due = std::move(events_.back());
        events_.pop_back();
        now_ = std::max(now_, due.at);
        due.call();
    }
    now_ = std::max(now_, to);
}

void simulation::note(std::string_view what, const simulated_socket& socket, std::uint64_t number,
                      std::string_view unit, std::span<const std::byte> bytes) {
    trace_ = mixed(trace_, static_cast<std::uint64_t>((now_ - beginning).count()));
    trace_ = mixed(trace_, hash_of(what));
    trace_ = mixed(trace_, socket.number);
    trace_ = mixed(trace_, number);
    if (!bytes.empty())
        trace_ = mixed(trace_, hash_of({reinterpret_cast<const char*>(bytes.data()), bytes.size()}));
    if (!settings.on_event) return;
    std::array<char, 32> time;
    const auto microseconds = std::chrono::duration_cast<std::chrono::microseconds>(now_ - beginning).count();
    std::snprintf(time.data(), time.size(), "%lld.%03lld ms #", static_cast<long long>(microseconds / 1000),
                  static_cast<long long>(microseconds % 1000));
    std::string line = time.data() + std::to_string(socket.number) + ' ' + std::string(what);
    if (!unit.empty()) line += ' ' + std::to_string(number) + ' ' + std::string(unit);
    settings.on_event(line);
}

void simulation::enter_thread() {
    if (thread_ == std::thread::id()) thread_ = std::this_thread::get_id();
    PLAIT_ASSERT(thread_ == std::this_thread::get_id(),
                 "a simulated network belongs to one thread; give each thread a network of its own");
}

steady_duration simulation::some_latency() noexcept {
    const auto span = settings.most_latency - settings.least_latency;
    if (span.count() <= 0) return settings.least_latency;
    const auto more = network_chance.below(static_cast<std::uint64_t>(span.count()) + 1);
    return settings.least_latency + std::chrono::nanoseconds(static_cast<std::int64_t>(more));
}

/// All of it every other time; otherwise rather little than much.
std::size_t simulation::some_part(std::size_t size) noexcept {
    if (!settings.cut_bytes || size <= 1 || network_chance.below(2) == 0) return size;
    const std::size_t most = std::size_t{1} << network_chance.below(16);
    return 1 + static_cast<std::size_t>(network_chance.below(std::min(size, most)));
}

// --- sockets -----------------------------------------------------------------------------------------------------

socket_pointer simulation::make_socket(socket_kind kind, bool v6) {
    auto made = std::make_shared<simulated_socket>();
    made->kind = kind;
    made->v6 = v6;
    made->number = ++sockets_so_far_;
    made->option(socket_option::no_delay) = 1;
    made->option(socket_option::keep_alive_idle) = 7200;
    made->option(socket_option::keep_alive_interval) = 75;
    made->option(socket_option::keep_alive_count) = 9;
    made->option(socket_option::linger) = -1;
    made->option(socket_option::receive_buffer) = settings.receive_buffer;
    made->option(socket_option::send_buffer) = settings.send_buffer;
    made->option(socket_option::multicast_ttl) = 1;
    made->option(socket_option::multicast_loop) = 1;
    return made;
}

native_socket simulation::give_handle(const socket_pointer& socket) {
    socket->handle = next_handle_++;
    sockets_.emplace(socket->handle, socket);
    return socket->handle;
}

simulated_socket* simulation::find(native_socket handle) noexcept {
    const auto found = sockets_.find(handle);
    return found == sockets_.end() ? nullptr : found->second.get();
}

void simulation::look_at(simulated_socket& socket) {
    if (socket.owner) socket.owner->look_at(socket);
}

void simulation::close(native_socket handle) {
    const auto found = sockets_.find(handle);
    if (found == sockets_.end()) return;
    const socket_pointer socket = std::move(found->second);
    sockets_.erase(found);
    note("closed", *socket);
    socket->owner = nullptr;
    socket->receiving = socket->sending = nullptr;
    std::erase(bound_, socket.get());
    if (socket->kind == socket_kind::stream) close_stream(*socket);
    for (const socket_pointer& each : std::exchange(socket->backlog, {})) {
        each->option(socket_option::linger) = 0; // nobody has accepted it
        close_stream(*each);
    }
}

// --- addresses and ports -----------------------------------------------------------------------------------------

bool simulation::port_is_free(const simulated_socket& socket, bool datagram, const endpoint& local) noexcept {
    auto allows = [&](socket_option which) {
        return const_cast<simulated_socket&>(socket).option(which) != 0;
    };
    const bool v6_only = allows(socket_option::v6_only);
    return std::none_of(bound_.begin(), bound_.end(), [&](simulated_socket* other) {
        if (other->of_unix || (other->kind == socket_kind::datagram) != datagram) return false;
        if (other->local.port() != local.port()) return false;
        if (allows(socket_option::reuse_port) && other->option(socket_option::reuse_port)) return false;
        if (datagram && allows(socket_option::reuse_address) && other->option(socket_option::reuse_address))
            return false;
        return covers(local.address(), v6_only, other->local.address()) ||
               covers(other->local.address(), other->option(socket_option::v6_only) != 0, local.address());
    });
}

/// 0: all are taken.
std::uint16_t simulation::free_port(const simulated_socket& socket, bool datagram,
                                    const ip_address& address) noexcept {
    for (int tries = 0; tries < free_ports; ++tries) {
        const std::uint16_t port = next_port_;
        next_port_ = port == last_free_port ? first_free_port : static_cast<std::uint16_t>(port + 1);
        if (!datagram && streams_of_port_[port] > 0) continue;
        if (port_is_free(socket, datagram, endpoint(address, port))) return port;
    }
    return 0;
}

status simulation::bind(simulated_socket& socket, const endpoint& local, bool datagram) {
    const ip_address address = unmapped(local.address());
    if (address.is_multicast() && !datagram) return std::make_error_code(std::errc::address_not_available);
    std::uint16_t port = local.port();
    if (port == 0) port = free_port(socket, datagram, address);
    const endpoint where(address, port);
    if (port == 0 || !port_is_free(socket, datagram, where))
        return std::make_error_code(std::errc::address_in_use);
    socket.local = where;
    bound_.push_back(&socket);
    return {};
}

ip_address simulation::source_for(const ip_address& peer) const noexcept {
    if (peer.is_loopback()) return peer.is_v6() ? peer : ip_address::v4({127, 0, 0, 1});
    return peer.is_v6() ? source_v6_ : source_v4_;
}

// --- partitions --------------------------------------------------------------------------------------------------

bool simulation::is_cut(const ip_address& a, const ip_address& b) const noexcept {
    return std::any_of(cuts_.begin(), cuts_.end(), [&](const auto& each) {
        return (each.first == a && each.second == b) || (each.first == b && each.second == a);
    });
}

void simulation::cut(const ip_address& a, const ip_address& b) {
    cuts_.emplace_back(unmapped(a), unmapped(b));
}

void simulation::heal() {
    cuts_.clear();
    for (const std::weak_ptr<flow>& each : std::exchange(holding_, {}))
        if (const flow_pointer over = each.lock()) {
            over->last_arrival = std::max(over->last_arrival, now_ + some_latency());
            at(over->last_arrival, [this, over] { release(over); });
        }
}

} // namespace detail
} // namespace plait::inline v1
