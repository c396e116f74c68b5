// Events of the console as they come from the system.

#include <plait/io_context.hpp>
#include <plait/signal.hpp>
#include <plait/task_group.hpp>

#include "support/lacks.hpp"
#include "support/streams.hpp"
#include "support/system.hpp"
#include "support/watchdog.hpp"

#include <catch2/catch_test_macros.hpp>

#include <csignal>

using plait::task;

namespace {

/// What a wait for both events hears when `number` is sent to everybody on this console.
int heard_of(int number) {
    int heard = 0;
    auto waiting = [&]() -> task<> {
        heard = (co_await plait::wait_for_signal({SIGINT, SIGBREAK})).value_or(-1);
    };
    auto sending = [&]() -> task<> {
        co_await support::turns(3);
        support::send_signal_to_process(number);
    };
    auto body = [&]() -> task<> {
        plait::task_group group;
        group.spawn(waiting);
        group.spawn(sending);
        co_await group.join();
    };
    plait::run(body());
    return heard;
}

} // namespace

TEST_CASE("the console's Ctrl-C is SIGINT", "[console]") {
    for (int i = 0; i < 10; ++i) CHECK(heard_of(SIGINT) == SIGINT);
}

TEST_CASE("the console's Ctrl-Break is SIGBREAK", "[console]") {
    if (const std::string why = support::lacks_ctrl_break(); !why.empty()) SKIP(why);
    for (int i = 0; i < 10; ++i) CHECK(heard_of(SIGBREAK) == SIGBREAK);
}

TEST_CASE("a Ctrl-Break that reaches this process alone is SIGBREAK", "[console]") {
    for (int i = 0; i < 10; ++i) CHECK(heard_of(SIGBREAK) == SIGBREAK);
}
