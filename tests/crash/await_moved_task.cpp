// expect: plait: a task can be awaited once, and not after it was moved from
#include <plait/io_context.hpp>

#include <utility>

namespace {

plait::task<int> number() { co_return 1; }

plait::task<int> awaits_moved() {
    auto first = number();
    auto second = std::move(first);
    co_return co_await first + co_await second;
}

} // namespace

int main() { return plait::run(awaits_moved()); }
