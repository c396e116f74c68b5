// expect: plait: a wait on an event, a mutex or a channel is awaited once, and again only after it failed
#include <plait/io_context.hpp>
#include <plait/sync.hpp>

namespace {

plait::task<> send_again() {
    plait::channel<int> numbers(2);
    auto sending = numbers.send(1);
    auto first = co_await sending;
    if (!first) co_return;
    static_cast<void>(co_await sending);
}

} // namespace

int main() { plait::run(send_again()); }
