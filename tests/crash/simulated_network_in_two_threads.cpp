// expect: plait: a simulated network belongs to one thread; give each thread a network of its own
#include <plait/testing/simulated_network.hpp>
#include <plait/time.hpp>

#include <thread>

namespace {

plait::task<> naps(plait::testing::simulated_network&) {
    static_cast<void>(co_await plait::sleep_for(std::chrono::seconds(1)));
}

} // namespace

int main() {
    plait::testing::simulated_network network(7);
    plait::run(naps(network), network.options());
    std::thread([&] { plait::run(naps(network), network.options()); }).join();
}
