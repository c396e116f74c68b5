// expect: plait: this awaitable needs a context; use plait::run\(\) or on\(context, awaitable\)
#include <plait/time.hpp>

#include "support/foreign.hpp"

#include <chrono>

namespace {

support::foreign sleeps() { static_cast<void>(co_await plait::sleep_for(std::chrono::milliseconds(1))); }

} // namespace

int main() {
    auto stranger = sleeps();
    stranger.start_without_context();
}
