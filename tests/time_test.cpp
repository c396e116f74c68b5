#include <plait/io_context.hpp>
#include <plait/stream.hpp>
#include <plait/task_group.hpp>
#include <plait/tcp.hpp>
#include <plait/time.hpp>

#include "support/allocations.hpp"
#include "support/foreign.hpp"
#include "support/scale.hpp"
#include "support/simulated.hpp"
#include "support/watchdog.hpp"

#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <array>
#include <chrono>
#include <functional>
#include <memory>
#include <random>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <thread>
#include <type_traits>
#include <vector>

using namespace std::chrono_literals;
using clock_type = support::context_clock;
using plait::errc;
using plait::io_result;
using plait::task;
using support::scaled;

namespace {

constexpr auto never = std::chrono::hours(24);

task<int> number(int n, int yields = 0) {
    for (int i = 0; i < yields; ++i) co_await plait::yield();
    co_return n;
}

/// Has a value although it was cancelled.
task<int> stubborn(int n) {
    static_cast<void>(co_await plait::sleep_for(never));
    co_return n;
}

task<io_result<void>> nap(std::chrono::nanoseconds span) { co_return co_await plait::sleep_for(span); }

/// No compiler warns of the result that is dropped here.
task<> nap_quietly(std::chrono::nanoseconds span) { co_await plait::sleep_for(span); }

static_assert(std::is_same_v<plait::detail::await_result_t<plait::sleep_awaitable>, io_result<void>>);
using limited_nap = decltype(plait::with_timeout(plait::sleep_for(1s), 1s));
static_assert(std::is_same_v<limited_nap, task<io_result<void>>>);

} // namespace

// --- sleeping --------------------------------------------------------------------------------------------------------

TEST_CASE("sleep_for and sleep_until never wake early", "[time]") {
    std::mt19937 random(1);
    auto body = [&]() -> task<> {
        for (std::size_t i = 0; i < scaled(200); ++i) {
            const auto span = std::chrono::nanoseconds(random() % 3'000'000);
            const auto before = clock_type::now();
            auto slept = co_await plait::sleep_for(span);
            const auto after = clock_type::now();
            CHECK(slept);
            CHECK(after - before >= span);
            const auto until = clock_type::now() + span;
            auto again = co_await plait::sleep_until(until);
            CHECK(again);
            CHECK(clock_type::now() >= until);
        }
    };
    plait::run(body());
}

TEST_CASE("sleeping no time, or until a time that has passed, completes", "[time]") {
    auto body = [&]() -> task<> {
        auto none = co_await plait::sleep_for(0s);
        auto negative = co_await plait::sleep_for(-1h);
        auto past = co_await plait::sleep_until(clock_type::now() - 1h);
        auto oldest = co_await plait::sleep_until(plait::steady_time::min());
        CHECK((none && negative && past && oldest));
    };
    plait::run(body());
}

TEST_CASE("any unit of time can be slept or waited for, however long", "[time]") {
    auto body = [&]() -> task<> {
        auto fraction = co_await plait::sleep_for(std::chrono::duration<double, std::milli>(0.5));
        CHECK(fraction);
        auto eternity = co_await plait::with_timeout(plait::sleep_for(std::chrono::nanoseconds::max()), 1ms);
        CHECK(eternity.error() == errc::timed_out);
        auto longer = co_await plait::with_timeout(plait::sleep_for(std::chrono::hours::max()), 1ms);
        CHECK(longer.error() == errc::timed_out);
        auto endless =
            co_await plait::with_timeout(plait::sleep_for(std::chrono::duration<double>(1e300)), 1ms);
        CHECK(endless.error() == errc::timed_out);
        auto shortest = co_await plait::sleep_for(std::chrono::hours::min());
        CHECK(shortest);
        auto nothing = co_await plait::with_timeout(plait::sleep_for(1h), std::chrono::hours::min());
        CHECK(nothing.error() == errc::timed_out);
        auto longest = co_await plait::with_timeout(number(1, 2), std::chrono::hours::max());
        CHECK(longest.value_or(0) == 1);
        auto years = co_await plait::with_timeout(number(2, 2), std::chrono::years(100'000));
        CHECK(years.value_or(0) == 2);
        auto last = co_await plait::with_deadline(number(3, 2), plait::steady_time::max());
        CHECK(last.value_or(0) == 3);
    };
    plait::run(body());
}

TEST_CASE("sleepers wake in the order of their deadlines", "[time]") {
    const std::size_t count = scaled(10'000);
    std::mt19937 random(2);
    std::vector<std::int64_t> woken;
    auto sleeper = [&](plait::steady_time until, std::int64_t id) -> task<> {
        auto slept = co_await plait::sleep_until(until);
        if (slept) woken.push_back(id);
    };
    auto body = [&]() -> task<> {
        const auto start = clock_type::now() + 20ms;
        std::vector<std::int64_t> offsets(count); // distinct, in microseconds
        for (std::size_t i = 0; i < count; ++i) offsets[i] = static_cast<std::int64_t>(i) * 10;
        std::shuffle(offsets.begin(), offsets.end(), random);
        plait::task_group group;
        for (auto offset : offsets) group.spawn(sleeper, start + std::chrono::microseconds(offset), offset);
        co_await group.join();
    };
    plait::run(body());
    CHECK(woken.size() == count);
    CHECK(std::is_sorted(woken.begin(), woken.end()));
}

TEST_CASE("timers that are taken out of the middle leave the others in order", "[time]") {
    const std::size_t count = scaled(3000);
    std::mt19937 random(3);
    std::vector<std::int64_t> woken;
    std::size_t canceled = 0;
    auto sleeper = [&](plait::steady_time until, std::int64_t id, std::stop_token token) -> task<> {
        auto slept = co_await plait::with_stop(plait::sleep_until(until), std::move(token));
        if (slept)
            woken.push_back(id);
        else
            ++canceled;
    };
    auto body = [&]() -> task<> {
        const auto start = clock_type::now() + 100ms;
        std::stop_source source;
        plait::task_group group;
        std::size_t doomed = 0;
        for (std::size_t i = 0; i < count; ++i) {
            const auto offset = static_cast<std::int64_t>(random() % 50'000);
            const bool dies = random() % 2 == 0;
            doomed += dies;
            group.spawn(sleeper, start + std::chrono::microseconds(offset), offset,
                        dies ? source.get_token() : std::stop_token());
        }
        co_await plait::yield();
        source.request_stop();
        co_await group.join();
        // A slow machine may see some deadlines pass before the stop arrives.
        CHECK(woken.size() + canceled == count);
        CHECK(canceled <= doomed);
    };
    plait::run(body());
    CHECK(std::is_sorted(woken.begin(), woken.end()));
}

TEST_CASE("a sleep that is cancelled says so", "[time]") {
    auto body = [&]() -> task<> {
        plait::task_group group;
        int canceled = 0;
        auto sleeper = [&]() -> task<> {
            auto slept = co_await plait::sleep_for(never);
            canceled += slept.error() == errc::canceled;
            auto next = co_await plait::sleep_for(1ms); // fails unstarted
            canceled += next.error() == errc::canceled;
        };
        group.spawn(sleeper);
        co_await plait::yield();
        group.request_stop();
        co_await group.join();
        CHECK(canceled == 2);
    };
    plait::run(body());
}

// --- with_timeout ----------------------------------------------------------------------------------------------------

TEST_CASE("with_timeout gives an io_result, and never one inside another", "[time]") {
    using plait::detail::await_result_t;
    static_assert(
        std::is_same_v<await_result_t<decltype(plait::with_timeout(number(1), 1s))>, io_result<int>>);
    static_assert(
        std::is_same_v<await_result_t<decltype(plait::with_timeout(nap(1s), 1s))>, io_result<void>>);
    static_assert(
        std::is_same_v<await_result_t<decltype(plait::with_timeout(nap_quietly(1s), 1s))>, io_result<void>>);
    static_assert(
        std::is_same_v<await_result_t<decltype(plait::with_timeout(plait::with_timeout(number(1), 1s), 1s))>,
                       io_result<int>>);
    static_assert(
        std::is_same_v<await_result_t<decltype(plait::with_stop(number(1), std::stop_token()))>, int>);
    static_assert(std::is_same_v<await_result_t<decltype(plait::shielded(number(1), 1s))>, int>);
}

TEST_CASE("with_timeout says timed_out when its own timer ended the wait", "[time]") {
    auto body = [&]() -> task<> {
        const auto before = clock_type::now();
        auto slept = co_await plait::with_timeout(plait::sleep_for(never), 5ms);
        CHECK(slept.error() == errc::timed_out);
        CHECK(slept.error() != errc::canceled);
        CHECK(clock_type::now() - before >= 5ms);
        auto of_task = co_await plait::with_timeout(nap(never), 1ms);
        CHECK(of_task.error() == errc::timed_out);
        auto of_void = co_await plait::with_timeout(nap_quietly(never), 1ms);
        CHECK(of_void.error() == errc::timed_out);
    };
    plait::run(body());
}

TEST_CASE("with_timeout passes a success through, and the task goes on uncancelled", "[time]") {
    auto body = [&]() -> task<> {
        auto value = co_await plait::with_timeout(number(4, 3), never);
        CHECK(value.value_or(0) == 4);
        auto of_void = co_await plait::with_timeout(nap_quietly(1ms), never);
        CHECK(of_void);
        auto slept = co_await plait::with_timeout(plait::sleep_for(1ms), never);
        CHECK(slept);
        const bool stopped = co_await plait::stop_requested();
        CHECK_FALSE(stopped);
    };
    plait::run(body());
}

TEST_CASE("with_timeout passes other errors through", "[time]") {
    auto body = [&]() -> task<> {
        auto fails = [](errc code, std::size_t bytes) -> task<io_result<std::size_t>> {
            static_cast<void>(co_await plait::sleep_for(never)); // until the timer fires
            co_return io_result<std::size_t>(code, bytes);
        };
        auto ended = co_await plait::with_timeout(fails(errc::end_of_stream, 3), 1ms);
        CHECK(ended.error() == errc::end_of_stream);
        CHECK(ended.bytes() == 3);
        auto cut = co_await plait::with_timeout(fails(errc::canceled, 4), 1ms);
        CHECK(cut.error() == errc::timed_out);
        CHECK(cut.bytes() == 4);
    };
    plait::run(body());
}

TEST_CASE("a value is delivered although the time has passed", "[time]") {
    auto body = [&]() -> task<> {
        auto late = co_await plait::with_timeout(stubborn(5), 1ms);
        CHECK(late.value_or(0) == 5);
        auto at_once = co_await plait::with_timeout(number(6), 0s);
        CHECK(at_once.value_or(0) == 6);
        auto negative = co_await plait::with_timeout(number(7), -1s);
        CHECK(negative.value_or(0) == 7);
    };
    plait::run(body());
}

TEST_CASE("what was received before a time-out is told and kept", "[time]") {
    auto body = [&]() -> task<> {
        auto ends = plait::memory_stream_pair();
        std::array<std::byte, 8> buffer{};
        static_cast<void>(co_await ends.second.send("abc"));
        auto cut = co_await plait::with_timeout(ends.first.recv_exactly(buffer), 2ms);
        CHECK(cut.error() == errc::timed_out);
        CHECK(cut.bytes() == 3);
        CHECK(plait::as_text(std::span(buffer).first(3)) == "abc");
        static_cast<void>(co_await ends.second.send("defgh"));
        auto rest = co_await ends.first.recv_exactly(std::span(buffer).subspan(3));
        CHECK(rest);
        CHECK(plait::as_text(buffer) == "abcdefgh");
    };
    plait::run(body());
}

TEST_CASE("a time-out on a socket tells the bytes that came before it, and loses none", "[time]") {
    auto body = [&]() -> task<> {
        auto listener = co_await plait::tcp_listener::bind({"127.0.0.1", 0});
        auto client = co_await plait::tcp_stream::connect(listener->local_endpoint().value());
        auto server = co_await listener->accept();
        std::array<std::byte, 8> buffer{};
        static_cast<void>(co_await client->send_all("abc"));
        auto cut = co_await plait::with_timeout(server->recv_exactly(buffer), 50ms);
        CHECK(cut.error() == errc::timed_out);
        CHECK(plait::as_text(std::span(buffer).first(cut.bytes())) ==
              std::string("abc").substr(0, cut.bytes()));
        auto quiet = co_await plait::with_timeout(client->recv(), 2ms);
        CHECK(quiet.error() == errc::timed_out);
        static_cast<void>(co_await client->send_all("defgh"));
        auto rest = co_await server->recv_exactly(std::span(buffer).subspan(cut.bytes()));
        CHECK(rest);
        CHECK(plait::as_text(buffer) == "abcdefgh");
        auto nobody = co_await plait::with_timeout(listener->accept(), 2ms);
        CHECK(nobody.error() == errc::timed_out);
    };
    plait::run(body());
}

TEST_CASE("a cancellation from outside stays canceled under a time limit", "[time]") {
    auto body = [&]() -> task<> {
        std::error_code inside;
        auto limited = [&]() -> task<> {
            auto slept = co_await plait::with_timeout(plait::sleep_for(never), never);
            inside = slept.error();
        };
        plait::task_group group;
        group.spawn(limited);
        co_await plait::yield();
        group.request_stop();
        co_await group.join();
        CHECK(inside == errc::canceled);
    };
    plait::run(body());
}

TEST_CASE("of nested time limits the one that fires says timed_out", "[time]") {
    auto body = [&]() -> task<> {
        std::error_code inner_error;
        auto inner = [&](std::chrono::nanoseconds span) -> task<io_result<void>> {
            auto slept = co_await plait::with_timeout(plait::sleep_for(never), span);
            inner_error = slept.error();
            co_return slept;
        };
        auto outer_fires = co_await plait::with_timeout(inner(never), 2ms);
        CHECK(inner_error == errc::canceled);
        CHECK(outer_fires.error() == errc::timed_out);

        auto inner_fires = co_await plait::with_timeout(inner(2ms), never);
        CHECK(inner_error == errc::timed_out);
        CHECK(inner_fires.error() == errc::timed_out);

        auto recovers = [&]() -> task<int> {
            auto slept = co_await plait::with_timeout(plait::sleep_for(never), 1ms);
            co_return slept.error() == errc::timed_out ? 1 : 0;
        };
        auto outer = co_await plait::with_timeout(recovers(), never);
        CHECK(outer.value_or(-1) == 1);
    };
    plait::run(body());
}

TEST_CASE("a time limit around a group ends its children", "[time]") {
    auto body = [&]() -> task<> {
        int ended = 0;
        auto child = [&]() -> task<> {
            auto slept = co_await plait::sleep_for(never);
            ended += slept.error() == errc::canceled;
        };
        auto owner = [&]() -> task<> {
            plait::task_group group;
            for (int i = 0; i < 4; ++i) group.spawn(child);
            co_await group.join();
        };
        auto result = co_await plait::with_timeout(owner(), 2ms);
        CHECK(result.error() == errc::timed_out);
        CHECK(ended == 4);
    };
    plait::run(body());
}

#if PLAIT_HAS_EXCEPTIONS
TEST_CASE("an exception passes through a time limit", "[time]") {
    auto thrower = []() -> task<int> {
        co_await plait::yield();
        throw std::runtime_error("out");
    };
    auto body = [&]() -> task<> {
        std::string message;
        try {
            static_cast<void>(co_await plait::with_timeout(thrower(), never));
        } catch (const std::runtime_error& error) {
            message = error.what();
        }
        CHECK(message == "out");
        const bool stopped = co_await plait::stop_requested();
        CHECK_FALSE(stopped);
    };
    plait::run(body());
}
#endif

// --- with_deadline ---------------------------------------------------------------------------------------------------

TEST_CASE("with_deadline ends the wait when the time has come", "[time]") {
    auto body = [&]() -> task<> {
        const auto deadline = clock_type::now() + 3ms;
        auto slept = co_await plait::with_deadline(plait::sleep_for(never), deadline);
        CHECK(slept.error() == errc::timed_out);
        CHECK(clock_type::now() >= deadline);
        auto in_time = co_await plait::with_deadline(number(1, 2), clock_type::now() + never);
        CHECK(in_time.value_or(0) == 1);
    };
    plait::run(body());
}

TEST_CASE("with_deadline in the past delivers a value that is there at once", "[time]") {
    auto body = [&]() -> task<> {
        const auto past = clock_type::now() - 1h;
        auto ends = plait::memory_stream_pair();
        std::array<std::byte, 4> buffer;
        static_cast<void>(co_await ends.second.send("here"));
        auto ready = co_await plait::with_deadline(ends.first.recv(buffer), past);
        CHECK(ready.bytes() == 4);
        auto absent = co_await plait::with_deadline(ends.first.recv(buffer), past);
        CHECK(absent.error() == errc::timed_out);
        auto value = co_await plait::with_deadline(number(2), past);
        CHECK(value.value_or(0) == 2);
    };
    plait::run(body());
}

// --- with_stop -------------------------------------------------------------------------------------------------------

TEST_CASE("with_stop cancels when its token is stopped before, during or after", "[time]") {
    if (const std::string why = support::lacks_real_time(); !why.empty()) SKIP(why);
    auto body = [&]() -> task<> {
        std::stop_source before;
        before.request_stop();
        auto unstarted = co_await plait::with_stop(plait::sleep_for(never), before.get_token());
        CHECK(unstarted.error() == errc::canceled);

        std::stop_source during;
        std::thread stopper([&] { during.request_stop(); });
        auto stopped = co_await plait::with_stop(plait::sleep_for(never), during.get_token());
        CHECK(stopped.error() == errc::canceled);
        stopper.join();

        std::stop_source after;
        auto value = co_await plait::with_stop(number(3, 2), after.get_token());
        CHECK(value == 3);
        after.request_stop();
        auto slept = co_await plait::sleep_for(1ms);
        CHECK(slept);

        auto stateless = co_await plait::with_stop(number(4), std::stop_token());
        CHECK(stateless == 4);
    };
    plait::run(body());
}

TEST_CASE("a token may be stopped by another thread at any moment", "[time]") {
    std::mt19937 random(4);
    auto body = [&]() -> task<> {
        for (std::size_t i = 0; i < scaled(500); ++i) {
            std::stop_source source;
            std::thread stopper([&] { source.request_stop(); });
            auto slept = co_await plait::with_stop(
                plait::sleep_for(std::chrono::microseconds(random() % 100)), source.get_token());
            CHECK((slept || slept.error() == errc::canceled));
            stopper.join();
        }
    };
    plait::run(body());
}

TEST_CASE("one token may stop many, and its stop is no time-out", "[time]") {
    auto body = [&]() -> task<> {
        std::stop_source source;
        int canceled = 0;
        auto child = [&]() -> task<> {
            auto slept = co_await plait::with_timeout(
                plait::with_stop(plait::sleep_for(never), source.get_token()), never);
            canceled += slept.error() == errc::canceled;
        };
        plait::task_group group;
        for (int i = 0; i < 10; ++i) group.spawn(child);
        co_await plait::yield();
        source.request_stop();
        co_await group.join();
        CHECK(canceled == 10);
    };
    plait::run(body());
}

TEST_CASE("a stop that reaches a context after its run has no effect", "[time]") {
    std::stop_source source;
    plait::io_context context;
    auto body = [&]() -> task<int> { co_return co_await plait::with_stop(number(1, 1), source.get_token()); };
    CHECK(context.run(body()) == 1);
    source.request_stop();
    CHECK(context.run(number(2, 1)) == 2);
}

// --- shielded --------------------------------------------------------------------------------------------------------

TEST_CASE("under a shield operations still work in a cancelled scope", "[time]") {
    auto body = [&]() -> task<> {
        bool naked = true, covered = false, stopped = false;
        auto child = [&]() -> task<> {
            static_cast<void>(co_await plait::sleep_for(never));
            stopped = co_await plait::stop_requested();
            auto first = co_await plait::sleep_for(1ms);
            naked = first.has_value();
            auto second = co_await plait::shielded(plait::sleep_for(1ms), never);
            covered = second.has_value();
        };
        plait::task_group group;
        group.spawn(child);
        co_await plait::yield();
        group.request_stop();
        co_await group.join();
        CHECK(stopped);
        CHECK_FALSE(naked);
        CHECK(covered);
    };
    plait::run(body());
}

TEST_CASE("a shield lasts for its grace, counted from the cancellation", "[time]") {
    auto body = [&]() -> task<> {
        std::error_code cut;
        clock_type::time_point canceled_at, ended_at;
        auto child = [&]() -> task<> {
            auto slept = co_await plait::shielded(plait::sleep_for(never), 20ms);
            ended_at = clock_type::now();
            cut = slept.error();
        };
        plait::task_group group;
        group.spawn(child);
        static_cast<void>(co_await plait::sleep_for(2ms));
        canceled_at = clock_type::now();
        group.request_stop();
        co_await group.join();
        CHECK(cut == errc::canceled);
        CHECK(ended_at - canceled_at >= 20ms);
    };
    plait::run(body());
}

TEST_CASE("a shield changes nothing while the scope is not cancelled", "[time]") {
    auto body = [&]() -> task<> {
        auto value = co_await plait::shielded(number(5, 3), 1ms);
        CHECK(value == 5);
        auto slept = co_await plait::shielded(plait::sleep_for(5ms), 1ms);
        CHECK(slept);
        auto limited = co_await plait::shielded(plait::with_timeout(plait::sleep_for(never), 2ms), 1ms);
        CHECK(limited.error() == errc::timed_out);
    };
    plait::run(body());
}

TEST_CASE("a time limit reaches under a shield after its grace", "[time]") {
    auto body = [&]() -> task<> {
        auto cut = co_await plait::with_timeout(plait::shielded(plait::sleep_for(never), 5ms), 2ms);
        CHECK(cut.error() == errc::timed_out);
        auto saved = co_await plait::with_timeout(plait::shielded(plait::sleep_for(10ms), never), 2ms);
        CHECK(saved);
    };
    plait::run(body());
}

// --- destruction, allocation -------------------------------------------------------------------------------------------

TEST_CASE("waits under limits, stops and shields can be destroyed midway", "[time]") {
    auto body = [&]() -> task<> {
        auto& here = co_await plait::detail::this_environment();
        std::stop_source source;
        auto work = [&]() -> task<> {
            static_cast<void>(co_await plait::with_timeout(
                plait::with_stop(
                    plait::shielded(plait::with_deadline(nap(never), clock_type::now() + never), 1s),
                    source.get_token()),
                never));
        };
        for (int turns = 0; turns < 3; ++turns) {
            auto owner = support::carry(work());
            owner.start(here);
            for (int i = 0; i < turns; ++i) co_await plait::yield();
            if (turns == 1) source.request_stop(); // its function is in the loop's queue when the frame goes
            owner.destroy();
            co_await plait::yield();
        }
    };
    plait::run(body());
}

TEST_CASE("sleeping and time limits allocate nothing once their frames are recycled", "[time]") {
    if (!support::counts_allocations()) SKIP("malloc cannot be counted in this build");
    const std::size_t count = scaled(2000);
    std::uint64_t used = 1;
    auto body = [&]() -> task<> {
        std::uint64_t before = 0;
        for (std::size_t i = 0; i < count + 20; ++i) {
            if (i == 20) before = support::allocations();
            static_cast<void>(co_await plait::with_timeout(number(1, 1), never));
            static_cast<void>(co_await plait::sleep_for(1us));
            static_cast<void>(co_await plait::with_timeout(plait::sleep_for(never), 1us));
            static_cast<void>(co_await plait::shielded(number(2, 1), 1s));
        }
        used = support::allocations() - before;
    };
    plait::run(body());
    CHECK(used == 0);
}

TEST_CASE("points in time may be of any precision", "[time]") {
    auto body = []() -> task<> {
        const auto soon = clock_type::now() + std::chrono::duration<double>(0.001);
        CHECK(co_await plait::sleep_until(soon));
        CHECK(clock_type::now() >= soon);
        auto late = co_await plait::with_deadline(plait::sleep_for(never), clock_type::now() + 0.001s);
        CHECK(late.error() == errc::timed_out);
        const auto whole = std::chrono::time_point_cast<std::chrono::hours>(clock_type::now());
        auto past = co_await plait::with_deadline(plait::sleep_for(never), whole);
        CHECK(past.error() == errc::timed_out);
        constexpr auto end_of_time =
            std::chrono::time_point<std::chrono::steady_clock, std::chrono::duration<double>>::max();
        CHECK(co_await plait::with_deadline(number(1, 1), end_of_time));
    };
    plait::run(body());
}

TEST_CASE("a task of a reference can be limited and shielded", "[time]") {
    int value = 1;
    auto refer = [&]() -> task<int&> {
        co_await plait::yield();
        co_return value;
    };
    auto body = [&]() -> task<> {
        io_result<std::reference_wrapper<int>> limited = co_await plait::with_timeout(refer(), never);
        CHECK(&limited->get() == &value);
        int& shielded = co_await plait::shielded(refer(), never);
        CHECK(&shielded == &value);
    };
    plait::run(body());
}
