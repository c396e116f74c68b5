// expect: plait: a task can be awaited once
#include <plait/io_context.hpp>

namespace {

plait::task<int> number() { co_return 1; }

plait::task<int> awaits_twice() {
    auto once = number();
    const int first = co_await once;
    const int second = co_await once;
    co_return first + second;
}

} // namespace

int main() { return plait::run(awaits_twice()); }
