#pragma once
/// The simulated network: its clock, the events to come, and the sockets. Everything happens on one thread, in the
/// order that the seed determines.

#include "platform/driver.hpp"

#include <array>
#include <atomic>
#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <thread>
#include <utility>

namespace plait::inline v1 {
namespace detail {

class simulated_driver;
struct simulated_socket;
using socket_pointer = std::shared_ptr<simulated_socket>;

/// Numbers that follow from a seed, the same on every system (SplitMix64).
class chance {
  public:
    explicit chance(std::uint64_t seed) noexcept : state_(seed) {}

    std::uint64_t next() noexcept {
        state_ += 0x9e3779b97f4a7c15U;
        std::uint64_t mixed = state_;
        mixed = (mixed ^ (mixed >> 30)) * 0xbf58476d1ce4e5b9U;
        mixed = (mixed ^ (mixed >> 27)) * 0x94d049bb133111ebU;
        return mixed ^ (mixed >> 31);
    }
    /// 0 to bound - 1; 0 for a bound of 0.
    std::uint64_t below(std::uint64_t bound) noexcept { return bound == 0 ? 0 : next() % bound; }
    bool happens(double probability) noexcept {
        return probability > 0 && static_cast<double>(next() >> 11) * 0x1p-53 < probability;
    }

  private:
    std::uint64_t state_;
};

/// One direction of a connection: the bytes that the reader has not taken yet, and of these how many have arrived.
struct flow {
    enum class arrival : std::uint8_t { bytes, end, reset };
    struct piece {
        arrival what;
        std::size_t size;
    };

    std::size_t unread() const noexcept { return bytes.size() - taken; }

    simulated_socket* writer = nullptr; ///< nullptr: closed
    simulated_socket* reader = nullptr;
    ip_address from, to;
    std::vector<std::byte> bytes;
    std::size_t taken = 0;   ///< of `bytes`, at the front
    std::size_t arrived = 0; ///< behind those
    bool end_arrived = false;
    bool answered = false;       ///< by a reset, since nobody reads any more
    bool room_announced = false; ///< an event that tells the writer of room is under way
    bool local = false;          ///< of Unix sockets: nothing befalls it
    steady_time last_arrival{};
    std::deque<piece> held; ///< could not pass, because the addresses are cut off from each other
    std::uint64_t holds = 0;
};
using flow_pointer = std::shared_ptr<flow>;

struct simulated_datagram {
    endpoint sender;
    unix_path sender_path;
    std::vector<std::byte> bytes;
};

struct simulated_socket : std::enable_shared_from_this<simulated_socket> {
    native_socket handle = no_socket; ///< none while it waits to be accepted
    std::uint64_t number = 0;         ///< for the trace
    socket_kind kind = socket_kind::stream;
    bool of_unix = false;
    bool v6 = false; ///< takes IPv4 as mapped addresses
    endpoint local, remote;
    unix_path local_path, remote_path;
    std::array<int, 16> options{};
    bool owns_port = false; ///< an ephemeral one

    // The driver that it belongs to at present.
    simulated_driver* owner = nullptr;
    operation* receiving = nullptr; ///< also an accept
    operation* sending = nullptr;   ///< also a connect

    // A stream.
    bool connecting = false;
    bool connected = false;
    bool sent_end = false;
    bool reset = false;   ///< by the peer, or by a fault
    bool lost = false;    ///< its connect is never answered
    bool refused = false; ///< its connect is
    int attempts = 0;     ///< to connect
    status error;         ///< told once
    flow_pointer in, out;
    std::optional<std::size_t> bytes_to_reset; ///< that it may still send

    // A listener.
    std::deque<socket_pointer> backlog;
    std::size_t longest_backlog = 0;

    // A datagram socket.
    std::optional<endpoint> peer;
    std::deque<simulated_datagram> datagrams;
    std::size_t queued_bytes = 0;

    int& option(socket_option which) noexcept { return options[static_cast<std::size_t>(which)]; }
    std::size_t buffer(socket_option which) noexcept { return static_cast<std::size_t>(option(which)); }
};

struct simulation_settings {
    std::chrono::nanoseconds least_latency{0};
    std::chrono::nanoseconds most_latency{0};
    bool cut_bytes = false;
    int receive_buffer = 64 * 1024;
    int send_buffer = 64 * 1024;
    double late_completion = 0;
    double refused_connect = 0;
    double lost_connect = 0;
    double reset_connection = 0;
    std::size_t first_reset = 0;
    std::size_t last_reset = 0;
    double failed_accept = 0;
    std::vector<std::errc> accept_errors;
    double lost_datagram = 0;
    double doubled_datagram = 0;
    double delayed_datagram = 0;
    std::chrono::milliseconds patience{5000};
    std::function<void(std::string_view)> on_event;
};

class simulation {
  public:
    explicit simulation(std::uint64_t seed);

    const std::uint64_t seed;
    simulation_settings settings;
    chance network_chance; ///< decides what befalls the network
    chance test_chance;    ///< is asked by the test

    // --- the clock and the events ---
    steady_time now() const noexcept { return now_; }
    /// Each look finds it a nanosecond later, so that a time-out of nothing ends in the next turn, as with every clock.
    steady_time look_at_clock() noexcept { return now_ += std::chrono::nanoseconds(1); }
    /// steady_time::max() when there is none.
    steady_time next_event() const noexcept {
        return events_.empty() ? steady_time::max() : events_.front().at;
    }
    /// Lets everything happen that is due until then.
    void advance(steady_time to);
    void at(steady_time when, std::function<void()> call);
    void soon(std::function<void()> call) { at(now_, std::move(call)); }
    std::uint64_t trace() const noexcept { return trace_; }
    void note(std::string_view what, const simulated_socket& socket, std::uint64_t number = 0,
              std::string_view unit = {}, std::span<const std::byte> bytes = {});
    /// The calling thread is the one that uses it.
    void enter_thread();

    // --- sockets ---
    simulated_socket* find(native_socket handle) noexcept;
    status open_listener(const endpoint& local, const listen_options& options, native_socket& out);
    status open_stream(const endpoint& peer, native_socket& out);
    status open_datagram(const endpoint& local, const udp_options& options, native_socket& out);
    status connect_datagram(simulated_socket& socket, const endpoint& peer);
    status open_unix(socket_kind kind, const unix_path& local, int backlog, native_socket& out);
    status connect_unix(simulated_socket& socket, const unix_path& peer);
    void close(native_socket handle);
    status shutdown_send(simulated_socket& socket);

    // --- attempts. True: `op` is over, with `result`; `moved` bytes are done ---
    struct outcome {
        status result;
        std::size_t moved = 0;
    };
    bool accept(simulated_socket& listener, native_socket& accepted, status& result);
    /// Starts it. True: it has failed already.
    bool begin_connect(simulated_socket& socket, const endpoint& peer, status& result);
    bool connect_result(simulated_socket& socket, status& result);
    bool receive(simulated_socket& socket, std::span<std::byte> room, outcome& result);
    bool send(simulated_socket& socket, const operation& op, outcome& result);
    bool receive_datagram(simulated_socket& socket, std::span<std::byte> room, envelope& cover,
                          outcome& result);
    bool send_datagram(simulated_socket& socket, std::span<const std::byte> bytes, const envelope& cover,
                       outcome& result);

    // --- the network ---
    void cut(const ip_address& a, const ip_address& b);
    void heal();
    void connect_from(const ip_address& address) noexcept {
        (address.is_v6() ? source_v6_ : source_v4_) = address;
    }
    std::map<std::string, std::vector<ip_address>, std::less<>> hosts;

  private:
    struct event {
        steady_time at;
        std::uint64_t order;
        std::function<void()> call;
        bool operator<(const event& other) const noexcept { // the heap's greatest is the earliest
            return at != other.at ? at > other.at : order > other.order;
        }
    };

    steady_duration some_latency() noexcept;
    std::size_t some_part(std::size_t size) noexcept;
    socket_pointer make_socket(socket_kind kind, bool v6);
    native_socket give_handle(const socket_pointer& socket);
    /// What waits on the socket is tried again.
    void look_at(simulated_socket& socket);

    status bind(simulated_socket& socket, const endpoint& local, bool datagram);
    bool port_is_free(const simulated_socket& socket, bool datagram, const endpoint& local) noexcept;
    std::uint16_t free_port(const simulated_socket& socket, bool datagram,
                            const ip_address& address) noexcept;
    ip_address source_for(const ip_address& peer) const noexcept;
    bool is_cut(const ip_address& a, const ip_address& b) const noexcept;

    void try_to_connect(const socket_pointer& client);
    void connect_failed(const socket_pointer& client, std::errc error);
    socket_pointer find_listener(const endpoint& where) noexcept;
    void join(const socket_pointer& client, const socket_pointer& server);
    void break_when_due(simulated_socket& socket);
    void dispatch(const flow_pointer& over, flow::arrival what, std::size_t size);
    void arrive(const flow_pointer& over, flow::piece piece);
    void take_in(const flow_pointer& over, flow::piece piece);
    void hold(const flow_pointer& over, flow::piece piece);
    void release(const flow_pointer& over);
    void fail(simulated_socket& socket, std::errc error, std::string_view what);
    void announce_room(const flow_pointer& over);
    void close_stream(simulated_socket& socket);

    socket_pointer find_datagram_socket(const endpoint& to, const endpoint& from) noexcept;
    simulated_socket* find_unix(socket_kind kind, const unix_path& name) noexcept;
    void deliver(const endpoint& to, simulated_datagram datagram,
                 const std::weak_ptr<simulated_socket>& sender);

    steady_time now_;
    std::vector<event> events_; ///< a heap
    std::uint64_t events_so_far_ = 0;
    std::uint64_t trace_ = 0;
    std::thread::id thread_;
    std::map<native_socket, socket_pointer> sockets_;
    std::vector<simulated_socket*> bound_; ///< listeners and datagram sockets, with their places taken
    std::vector<std::weak_ptr<flow>> holding_;
    std::array<std::uint16_t, 65536> streams_of_port_{};
    native_socket next_handle_;
    std::uint64_t sockets_so_far_ = 0;
    std::uint16_t next_port_;
    std::vector<std::pair<ip_address, ip_address>> cuts_;
    ip_address source_v4_ = ip_address::v4({192, 0, 2, 1});
    ip_address source_v6_ = ip_address::v6({0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1});
};

/// An IPv4 address that is written as one of IPv6, as IPv4; others as they are.
ip_address unmapped(const ip_address& address) noexcept;
/// How a socket of that family shows it.
endpoint shown(const endpoint& where, bool v6) noexcept;

/// Wakes a simulation that waits for other threads in real time. A signal handler may call it, so that it is no
/// condition variable.
class simulated_waker final : public waker {
  public:
    void wake() noexcept override { woken_.store(true); }
    bool take() noexcept { return woken_.exchange(false); }
    /// False: nobody called wake() in that time.
    bool wait_for(std::chrono::nanoseconds limit);

  private:
    std::atomic<bool> woken_{false};
};

class simulated_driver final : public driver {
  public:
    simulated_driver(const context_options& options, std::shared_ptr<simulation> network);
    ~simulated_driver() override;

    plait::backend backend() const noexcept override { return plait::backend::simulated; }
    void enter_thread() override { network_->enter_thread(); }
    void wait(steady_time deadline) override;
    steady_time now() const noexcept override { return network_->look_at_clock(); }
    std::shared_ptr<waker> get_waker() override { return wake_; }
    bool start(operation& op) override;
    void cancel(operation& op) noexcept override;

    status open_listener(const endpoint& local, const listen_options& options, native_socket& out) override {
        return network_->open_listener(local, options, out);
    }
    status open_stream(const endpoint& peer, native_socket& out) override {
        return network_->open_stream(peer, out);
    }
    bool shares_ports() const noexcept override { return true; }
    status inspect(native_socket handle, socket_kind kind, bool of_unix) noexcept override;
    status quiesce(socket_state&) noexcept override { return {}; } // nothing is received unasked
    void forget(socket_state& socket) noexcept override;
    status open_datagram(const endpoint& local, const udp_options& options, native_socket& out) override {
        return network_->open_datagram(local, options, out);
    }
    status connect_datagram(native_socket handle, const endpoint& peer) override;
    status open_unix(socket_kind kind, const unix_path& local, int backlog, native_socket& out,
                     socket_file&) override {
        return network_->open_unix(kind, local, backlog, out);
    }
    status connect_unix(native_socket handle, const unix_path& peer) override;
    status unix_name(native_socket handle, bool remote, unix_path& out) const noexcept override;
    bool look_up(const std::string& host, const std::string& service, status& result,
                 std::vector<endpoint>& found) override;

    status set_membership(native_socket handle, const ip_address& group, std::uint32_t index,
                          bool join) override;

    std::size_t socket_bytes() const noexcept override { return sizeof(simulated_socket*); }
    void attach(socket_state& socket) noexcept override;
    bool close(socket_state& socket) noexcept override;
    void close(native_socket handle) noexcept override { network_->close(handle); }
    void pause_accept(socket_state&) noexcept override {} // nothing is accepted unasked
    status shutdown_send(socket_state& socket) noexcept override;
    status local_endpoint(native_socket handle, endpoint& out) const noexcept override;
    status remote_endpoint(native_socket handle, endpoint& out) const noexcept override;
    status set_option(native_socket handle, socket_option option, int value) noexcept override;
    status get_option(native_socket handle, socket_option option, int& value) const noexcept override;
    status set_option(native_socket handle, int level, int name,
                      std::span<const std::byte> value) noexcept override;

    /// What waits on the socket is tried, and completed where it succeeds.
    void look_at(simulated_socket& socket);

  private:
    bool attempt(operation& op);
    [[noreturn]] void nothing_can_happen();

    std::shared_ptr<simulation> network_;
    std::shared_ptr<simulated_waker> wake_;
    class lease_pool* pool_;
};

/// For a context with a network of its own, where no other is given.
std::unique_ptr<driver> make_simulated_driver(const context_options& options, std::string_view by,
                                              std::string& reason);

} // namespace detail
} // namespace plait::inline v1
