#include <plait/testing/simulated_network.hpp>

#include "platform/simulated/simulation.hpp"

#include <algorithm>
#include <climits>
#include <string>

namespace plait::inline v1 {
namespace testing {
namespace {

double checked(double probability) noexcept {
    PLAIT_ASSERT(probability >= 0 && probability <= 1, "a probability is from 0 to 1");
    return probability;
}

int checked_size(std::size_t bytes) noexcept {
    PLAIT_ASSERT(bytes > 0 && bytes <= INT_MAX,
                 "a buffer has a byte at least, and no more than an int can count");
    return static_cast<int>(bytes);
}

} // namespace

simulated_network::simulated_network(std::uint64_t seed)
    : state_(std::make_shared<detail::simulation>(seed)) {}
simulated_network::~simulated_network() = default;

context_options simulated_network::options() const { return context_options().simulation(state_); }

simulated_network& simulated_network::latency(std::chrono::nanoseconds least, std::chrono::nanoseconds most) {
    PLAIT_ASSERT(least.count() >= 0 && least <= most, "latency(least, most): neither negative nor exchanged");
    state_->settings.least_latency = least;
    state_->settings.most_latency = most;
    return *this;
}

simulated_network& simulated_network::cut_bytes(bool on) {
    state_->settings.cut_bytes = on;
    return *this;
}

simulated_network& simulated_network::buffers(std::size_t receive, std::size_t send) {
    state_->settings.receive_buffer = checked_size(receive);
    state_->settings.send_buffer = checked_size(send);
    return *this;
}

simulated_network& simulated_network::late_completions(double probability) {
    state_->settings.late_completion = checked(probability);
    return *this;
}

simulated_network& simulated_network::refuse_connects(double probability) {
    state_->settings.refused_connect = checked(probability);
    return *this;
}

simulated_network& simulated_network::lose_connects(double probability) {
    state_->settings.lost_connect = checked(probability);
    return *this;
}

simulated_network& simulated_network::reset_connections(double probability, std::size_t first,
                                                        std::size_t last) {
    PLAIT_ASSERT(first <= last, "reset_connections(probability, first, last): exchanged");
    state_->settings.reset_connection = checked(probability);
    state_->settings.first_reset = first;
    state_->settings.last_reset = last;
    return *this;
}

simulated_network& simulated_network::fail_accepts(double probability, std::vector<std::errc> errors) {
    state_->settings.failed_accept = checked(probability);
    state_->settings.accept_errors = std::move(errors);
    return *this;
}

simulated_network& simulated_network::lose_datagrams(double probability) {
    state_->settings.lost_datagram = checked(probability);
    return *this;
}

simulated_network& simulated_network::double_datagrams(double probability) {
    state_->settings.doubled_datagram = checked(probability);
    return *this;
}

simulated_network& simulated_network::delay_datagrams(double probability) {
    state_->settings.delayed_datagram = checked(probability);
    return *this;
}

simulated_network& simulated_network::every_fault() {
    using namespace std::chrono_literals;
    return latency(0ms, 50ms)
        .cut_bytes()
        .buffers(4096, 4096)
        .late_completions(0.2)
        .refuse_connects(0.05)
        .lose_connects(0.02)
        .reset_connections(0.2)
        .fail_accepts(0.1)
        .lose_datagrams(0.1)
        .double_datagrams(0.1)
        .delay_datagrams(0.1);
}

simulated_network& simulated_network::cut(const ip_address& a, const ip_address& b) {
    state_->cut(a, b);
    return *this;
}

simulated_network& simulated_network::heal() {
    state_->heal();
    return *this;
}

simulated_network& simulated_network::connect_from(const ip_address& address) {
    state_->connect_from(address);
    return *this;
}

simulated_network& simulated_network::host(std::string_view name, std::vector<ip_address> addresses) {
    state_->hosts.insert_or_assign(std::string(name), std::move(addresses));
    return *this;
}

simulated_network& simulated_network::patience(std::chrono::milliseconds d) {
    state_->settings.patience = d;
    return *this;
}

simulated_network& simulated_network::on_event(std::function<void(std::string_view)> f) {
    state_->settings.on_event = std::move(f);
    return *this;
}

std::uint64_t simulated_network::trace() const noexcept { return state_->trace(); }
steady_time simulated_network::now() const noexcept { return state_->now(); }
std::uint64_t simulated_network::seed() const noexcept { return state_->seed; }
std::uint64_t simulated_network::random(std::uint64_t bound) noexcept {
    return state_->test_chance.below(bound);
}

} // namespace testing
} // namespace plait::inline v1
