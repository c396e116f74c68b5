// expect: plait: a context that runs is dumped on its own thread; post\(\) a call of dump\(\) to it
#include <plait/io_context.hpp>

#include <cstdio>
#include <thread>

namespace {

plait::task<> dumped_elsewhere() {
    plait::io_context& context = co_await plait::this_context();
    std::thread([&] { context.dump(stdout); }).join();
}

} // namespace

int main() { plait::run(dumped_elsewhere()); }
