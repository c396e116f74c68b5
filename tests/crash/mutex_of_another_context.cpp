// expect: plait: an event, a mutex or a channel is used by the tasks of one context at a time; post\(\)
#include <plait/io_context.hpp>
#include <plait/sync.hpp>

#include <thread>

namespace {

plait::task<> lock(plait::mutex& shared) { static_cast<void>(co_await shared.lock()); }

plait::task<> lock_here_and_elsewhere() {
    plait::mutex shared;
    auto held = co_await shared.lock();
    std::thread([&] { plait::run(lock(shared)); }).join();
}

} // namespace

int main() { plait::run(lock_here_and_elsewhere()); }
