#include "src/connect.hpp"

#include <plait/resolve.hpp>
#include <plait/sync.hpp>
#include <plait/task_group.hpp>
#include <plait/time.hpp>

#include <algorithm>
#include <string>

namespace plait::inline v1 {
namespace detail {
namespace {

/// Says that there was no way, and nothing about the host.
bool is_no_way(std::error_code error) noexcept {
    return error == std::errc::network_unreachable || error == std::errc::host_unreachable ||
           error == std::errc::address_family_not_supported || error == std::errc::address_not_available;
}

/// What the attempts tell the task that starts them.
struct race {
    std::optional<tcp_stream> winner;
    status failure; ///< the one to report if there is no winner
    std::size_t under_way = 0;
    event changed; ///< an attempt has ended
};

/// Tells of the end of an attempt, also when an exception is that end.
class end_of_attempt {
  public:
    explicit end_of_attempt(race& in) noexcept : race_(in) {}
    end_of_attempt(const end_of_attempt&) = delete;
    end_of_attempt& operator=(const end_of_attempt&) = delete;
    ~end_of_attempt() {
        --race_.under_way;
        race_.changed.set();
    }

  private:
    race& race_;
};

task<> run_attempt(race& in, const connect_attempt& attempt, endpoint peer) {
    const end_of_attempt at_the_end(in);
    auto connected = co_await attempt(peer);
    if (!connected) {
        const status error = connected.raw_status();
        if (in.failure.ok() || (is_no_way(in.failure.code()) && !is_no_way(error.code()))) in.failure = error;
        co_return;
    }
    // Who comes second, although it was cancelled, is closed with this frame.
    if (!in.winner) in.winner.emplace(std::move(*connected));
}

/// Until an attempt has ended, or until it is time for the next. False: cancelled.
task<bool> until_changed(race& in, bool more, steady_duration delay) {
    if (!more) co_return (co_await in.changed.wait()).has_value();
    auto woken = co_await with_timeout(in.changed.wait(), delay);
    co_return woken.has_value() || woken.error() == errc::timed_out;
}

task<io_result<tcp_stream>> connect_to_name(std::string host, std::string service) {
    auto found = co_await resolve(host, service);
    if (!found) co_return io_result<tcp_stream>(found.raw_status(), 0);
    const connect_attempt attempt = [](endpoint peer) { return tcp_stream::connect(peer); };
    auto order = alternate_families(*found);
    co_return co_await connect_first(std::move(order), attempt_delay, attempt);
}

} // namespace

std::vector<endpoint> alternate_families(const std::vector<endpoint>& found) {
    std::vector<endpoint> order, other;
    for (const endpoint& each : found) {
        const bool first_family = each.address().is_v6() == found.front().address().is_v6();
        (first_family ? order : other).push_back(each);
    }
    for (std::size_t i = 0; i < other.size(); ++i) {
        const std::size_t place = std::min(2 * i + 1, order.size());
        order.insert(order.begin() + static_cast<std::ptrdiff_t>(place), other[i]);
    }
    return order;
}

task<io_result<tcp_stream>> connect_first(std::vector<endpoint> peers, steady_duration delay,
                                          connect_attempt attempt) {
    race run;
    task_group attempts;
    std::size_t started = 0;
    bool canceled = false;
    while (!run.winner && !canceled && (started < peers.size() || run.under_way > 0)) {
        // One more for each wake-up: a failure brings the next forward, as the delay does.
        if (started < peers.size()) {
            ++run.under_way;
            attempts.spawn(run_attempt, std::ref(run), std::cref(attempt), peers[started++]);
        }
        run.changed.reset();
        canceled = !co_await until_changed(run, started < peers.size(), delay);
    }
    attempts.request_stop();
    co_await attempts.join();
    // A connection that was there before the cancellation is delivered.
    if (run.winner) co_return std::move(*run.winner);
    if (canceled) co_return errc::canceled;
    co_return io_result<tcp_stream>(run.failure, 0);
}

} // namespace detail

task<io_result<tcp_stream>> tcp_stream::connect(std::string_view host, std::string_view service) {
    return detail::connect_to_name(std::string(host), std::string(service));
}

} // namespace plait::inline v1
