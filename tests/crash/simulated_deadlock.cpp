// expect: (?s)simulated network with seed 7.*1 task waits \(simulated\).*accept.*plait: every task waits for another one
#include <plait/tcp.hpp>
#include <plait/testing/simulated_network.hpp>

namespace {

plait::task<> waits_for_nobody() {
    auto listener = co_await plait::tcp_listener::bind({"10.0.0.1", 80});
    static_cast<void>(co_await listener->accept());
}

} // namespace

int main() {
    plait::testing::simulated_network network(7);
    network.patience(std::chrono::milliseconds(10));
    plait::run(waits_for_nobody(), network.options());
}
