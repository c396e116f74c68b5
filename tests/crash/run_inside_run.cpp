// expect: plait: run\(\) inside a running context; co_await the task instead
#include <plait/io_context.hpp>

namespace {

plait::task<int> inner() { co_return 1; }

plait::task<int> outer() { co_return plait::run(inner()); }

} // namespace

int main() { return plait::run(outer()); }
