// expect: plait: a task_group is joined by one task at a time
#include <plait/io_context.hpp>
#include <plait/task_group.hpp>

#include <functional>

namespace {

plait::task<> yields() {
    for (int i = 0; i < 3; ++i) co_await plait::yield();
}

plait::task<> joins(plait::task_group& group) { co_await group.join(); }

plait::task<> join_from_two() {
    plait::task_group joined, joining;
    joined.spawn(yields);
    joining.spawn(joins, std::ref(joined));
    joining.spawn(joins, std::ref(joined));
    co_await joining.join();
}

} // namespace

int main() { plait::run(join_from_two()); }
