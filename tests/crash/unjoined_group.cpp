// expect: plait: a task_group is destroyed while children run; co_await group.join\(\) before it goes out of scope
#include <plait/io_context.hpp>
#include <plait/task_group.hpp>

namespace {

plait::task<> yields() { co_await plait::yield(); }

plait::task<> forgets_to_join() {
    {
        plait::task_group group;
        group.spawn(yields);
    }
    co_await plait::yield();
}

} // namespace

int main() { plait::run(forgets_to_join()); }
