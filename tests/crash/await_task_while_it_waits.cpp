// expect: plait: a task can be awaited once
#include <plait/io_context.hpp>
#include <plait/task_group.hpp>

#include <functional>

namespace {

plait::task<> yields() { co_await plait::yield(); }

plait::task<> awaits(plait::task<>& shared) { co_await shared; }

plait::task<> share() {
    auto shared = yields();
    plait::task_group group;
    group.spawn(awaits, std::ref(shared));
    group.spawn(awaits, std::ref(shared));
    co_await group.join();
}

} // namespace

int main() { plait::run(share()); }
