// expect: plait: spawn\(\) needs a running context; call it from a task
#include <plait/task_group.hpp>

namespace {

plait::task<> nothing() { co_return; }

} // namespace

int main() {
    plait::task_group group;
    group.spawn(nothing);
}
