// expect: plait: an event, a mutex or a channel is used on the thread of the context whose tasks wait on it; post\(\)
#include <plait/io_context.hpp>
#include <plait/sync.hpp>
#include <plait/task_group.hpp>

#include <functional>
#include <thread>

namespace {

plait::task<> wait(plait::event& ready) { static_cast<void>(co_await ready.wait()); }

plait::task<> set_elsewhere() {
    plait::event ready;
    plait::task_group group;
    group.spawn(wait, std::ref(ready));
    co_await plait::yield();
    std::thread([&] { ready.set(); }).join();
    co_await group.join();
}

} // namespace

int main() { plait::run(set_elsewhere()); }
