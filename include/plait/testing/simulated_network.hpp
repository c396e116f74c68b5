#pragma once
/// `testing::simulated_network`: a network and a clock of the program's own, in which a seed determines all that
/// happens.
///
///     plait::testing::simulated_network network(seed);
///     network.latency(1ms, 80ms).cut_bytes().reset_connections(0.1);
///     plait::run(servers_and_clients(), network.options());
///     CHECK(network.trace() == before); // the same seed: the same events, bit for bit
///
/// The code under test is the real one and knows nothing of this: it listens, connects, sends and sleeps as ever. No
/// time passes but in the simulation: where nobody can go on, the clock jumps to what comes next, so that an hour of
/// time-outs takes no time. One turn of the loop costs a microsecond.
///
/// There are TCP, UDP and Unix sockets (their names are the simulation's own, no files), any IP address may be bound,
/// and a network without faults behaves as the loopback of Linux does. There is no multicast, no broadcast and no
/// option that has no setter; keep-alive does nothing.
///
/// It belongs to one thread, and all that should reach one another belongs into one context, or into several that run
/// one after the other. What other threads do (offload, post) is in no seed: for a call that is awaited the clock
/// stands still, for a second of real time at most.

#include <plait/endpoint.hpp>
#include <plait/io_context.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string_view>
#include <system_error>
#include <vector>

namespace plait::inline v1 {
namespace testing {

/// See above. Setters chain, may all be left out, and may be called again at any time, by the tasks in it too:
/// what happens from then on follows them. Probabilities are from 0 to 1.
class PLAIT_API simulated_network {
  public:
    /// Without faults. The clock begins one hour after its epoch.
    explicit simulated_network(std::uint64_t seed);
    simulated_network(const simulated_network&) = delete;
    simulated_network& operator=(const simulated_network&) = delete;
    ~simulated_network();

    /// For a context that runs on this network; more may be set. The context may outlive this object.
    context_options options() const;

    /// How long each piece of a stream and each datagram is under way, anything between the two. A stream keeps its
    /// order, datagrams do not. Default: no time.
    simulated_network& latency(std::chrono::nanoseconds least, std::chrono::nanoseconds most);

    /// Sends and receives of streams move random parts of what they could, and what was sent arrives in pieces.
    simulated_network& cut_bytes(bool on = true);

    /// What sockets that are opened from now on hold, bytes, until they are asked for other sizes. Default 64 KiB each.
    simulated_network& buffers(std::size_t receive, std::size_t send);

    /// Operations that could complete at once do so a turn later, as io_uring's do.
    simulated_network& late_completions(double probability);

    /// Connects that fail with connection_refused, although somebody listens.
    simulated_network& refuse_connects(double probability);

    /// Connects that nobody ever answers: after 127 seconds they fail with std::errc::timed_out.
    simulated_network& lose_connects(double probability);

    /// Connections that are reset on both sides when one of them, by chance, has sent so many bytes: from `first` to
    /// `last`.
    simulated_network& reset_connections(double probability, std::size_t first = 0,
                                         std::size_t last = 64 * 1024);

    /// Accepts that fail with one of `errors` although a connection is there. With connection_aborted that connection
    /// is lost; otherwise it waits for the next accept.
    simulated_network& fail_accepts(double probability,
                                    std::vector<std::errc> errors = {std::errc::too_many_files_open,
                                                                     std::errc::connection_aborted});

    /// Datagrams that never arrive, arrive twice, or are under way longer than others that were sent after them.
    simulated_network& lose_datagrams(double probability);
    simulated_network& double_datagrams(double probability);
    simulated_network& delay_datagrams(double probability);

    /// All of the above, each now and then.
    simulated_network& every_fault();

    /// Nothing passes between the two addresses any more, which may be the same one. Connections wait, and those with
    /// bytes under way fail after fifteen minutes, or their set_user_timeout(), with std::errc::timed_out.
    simulated_network& cut(const ip_address& a, const ip_address& b);
    /// Ends all that cut() began: what waited is under way again.
    simulated_network& heal();

    /// Where connects to other addresses than loopback ones come from, from now on; of IPv4 and of IPv6 one each.
    /// Default 192.0.2.1 and 2001:db8::1.
    simulated_network& connect_from(const ip_address& address);

    /// What resolve() finds for `name`. Beside these, literal addresses and "localhost" are known, and no services by
    /// name.
    simulated_network& host(std::string_view name, std::vector<ip_address> addresses);

    /// How long, in real time, another thread is waited for when nothing else can happen any more. Then the program
    /// ends with a dump of what all tasks wait for. Default 5 s.
    simulated_network& patience(std::chrono::milliseconds d);

    /// Told of each event in one line of text, such as "12.034 ms #3 sent 100 bytes"; #3 is the third socket. It must
    /// not use the network.
    simulated_network& on_event(std::function<void(std::string_view)> f);

    /// A hash of everything that has happened so far, in order, with its times and bytes: equal for equal runs, also on
    /// different systems.
    std::uint64_t trace() const noexcept;

    /// The simulation's clock; io_context::now() is the same.
    steady_time now() const noexcept;

    /// What it was made with.
    std::uint64_t seed() const noexcept;

    /// For what the test itself leaves to chance: a number below `bound`, of a sequence of its own.
    std::uint64_t random(std::uint64_t bound) noexcept;

  private:
    std::shared_ptr<detail::simulation> state_;
};

} // namespace testing
} // namespace plait::inline v1
