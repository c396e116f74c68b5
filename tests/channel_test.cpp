#include <plait/io_context.hpp>
#include <plait/sync.hpp>
#include <plait/task_group.hpp>
#include <plait/time.hpp>
#include <plait/when.hpp>

#include "support/cancellable.hpp"
#include "support/scale.hpp"
#include "support/tracked.hpp"
#include "support/watchdog.hpp"

#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <array>
#include <deque>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <type_traits>
#include <vector>

using namespace std::chrono_literals;
using plait::channel;
using plait::errc;
using plait::io_result;
using plait::task;
using plait::detail::await_result_t;
using support::cancellable;
using support::foreign;
using support::let_run;
using support::scaled;
using support::tally;
using support::tracked;

namespace {

constexpr auto never = std::chrono::hours(24);

std::string said(std::error_code error) {
    if (!error) return "+";
    if (error == errc::canceled) return "x";
    if (error == errc::closed) return "closed";
    if (error == errc::end_of_stream) return "end";
    return "?";
}

/// Notes "<value", or how it ended otherwise.
template <class T>
foreign get(channel<T>& from, std::string& trace, std::string name) {
    auto value = co_await from.receive();
    trace += name + "<" + (value ? std::to_string(int(*value)) : said(value.error())) + " ";
}

foreign put(channel<int>& to, std::string& trace, int value) {
    auto sent = co_await to.send(value);
    trace += std::to_string(value) + ">" + said(sent.error()) + " ";
}

task<> put_all(channel<int>& to, int first, int last) {
    for (int i = first; i < last; ++i) {
        auto sent = co_await to.send(i);
        CHECK(sent);
    }
}

/// A value that cannot be copied, moved-assigned or made without an argument.
class odd {
  public:
    explicit odd(int number) : number_(std::make_unique<int>(number)) {}
    odd(odd&&) noexcept = default;
    odd& operator=(odd&&) = delete;
    explicit operator int() const { return *number_; }

  private:
    std::unique_ptr<int> number_;
};

} // namespace

static_assert(!std::is_copy_constructible_v<channel<int>> && !std::is_move_constructible_v<channel<int>>);
static_assert(
    std::is_same_v<await_result_t<decltype(std::declval<channel<int>&>().send(1))>, io_result<void>>);
static_assert(
    std::is_same_v<await_result_t<decltype(std::declval<channel<odd>&>().receive())>, io_result<odd>>);

// --- values and waiting --------------------------------------------------------------------------------------------

TEST_CASE("values come out of a channel in the order in which they went in", "[channel]") {
    for (const std::size_t capacity : {0U, 1U, 2U, 7U, 1000U}) {
        std::vector<int> got;
        auto body = [&]() -> task<> {
            channel<int> numbers(capacity);
            CHECK(numbers.capacity() == capacity);
            plait::task_group group;
            auto sender = [&]() -> task<> {
                co_await put_all(numbers, 0, 100);
                numbers.close();
            };
            group.spawn(sender);
            while (auto number = co_await numbers.receive()) got.push_back(*number);
            co_await group.join();
        };
        plait::run(body());
        CHECK(got.size() == 100);
        for (int i = 0; i < 100; ++i) CHECK(got.at(static_cast<std::size_t>(i)) == i);
    }
}

TEST_CASE("a send waits while the channel is full, a receive while it is empty", "[channel]") {
    std::string trace;
    auto body = [&]() -> task<> {
        auto& env = co_await plait::detail::this_environment();
        channel<int> numbers(2);
        cancellable a(put(numbers, trace, 1), env);
        cancellable b(put(numbers, trace, 2), env);
        CHECK(trace == "1>+ 2>+ "); // there was room: at once
        cancellable c(put(numbers, trace, 3), env);
        co_await let_run(3);
        CHECK(trace == "1>+ 2>+ ");
        CHECK(numbers.size() == 2);
        trace.clear();
        cancellable d(get(numbers, trace, "d"), env);
        CHECK(trace == "d<1 ");
        co_await let_run();
        CHECK(trace == "d<1 3>+ ");
        cancellable e(get(numbers, trace, "e"), env);
        cancellable f(get(numbers, trace, "f"), env);
        cancellable g(get(numbers, trace, "g"), env);
        co_await let_run(3);
        CHECK(trace == "d<1 3>+ e<2 f<3 ");
        cancellable h(put(numbers, trace, 4), env);
        CHECK(trace == "d<1 3>+ e<2 f<3 4>+ "); // the loop resumes the receiver, not the sender
        co_await let_run();
        CHECK(trace == "d<1 3>+ e<2 f<3 4>+ g<4 ");
        CHECK(numbers.size() == 0);
    };
    plait::run(body());
}

TEST_CASE("a channel carries what can only be moved and has no default", "[channel]") {
    auto body = [&]() -> task<> {
        channel<odd> odds(3);
        for (int i = 0; i < 10; ++i) {
            odd value(i);
            auto sent = co_await odds.send(std::move(value));
            CHECK(sent);
            if (i % 2 == 0) CHECK(odds.try_send(odd(100 + i)));
            while (odds.size() > 0) {
                auto got = co_await odds.receive();
                CHECK(int(*got) % 100 == i);
            }
        }
        channel<bool> flags(2);
        CHECK(flags.try_send(true));
        auto flag = co_await flags.receive();
        CHECK(*flag);
    };
    plait::run(body());
}

TEST_CASE("a channel copies nothing that is moved into it, and destroys what nobody received", "[channel]") {
    tally counts;
    auto body = [&]() -> task<> {
        channel<tracked> values(20);
        for (int i = 0; i < 10; ++i) {
            tracked value(counts, i);
            auto sent = co_await values.send(std::move(value));
            CHECK(sent);
        }
        for (int i = 0; i < 4; ++i) {
            auto got = co_await values.receive();
            CHECK(got->value == i);
        }
        CHECK(counts.copies == 0);
        CHECK(counts.live == 6);
        const tracked original(counts, 50);
        CHECK(values.try_send(original));
        CHECK(counts.copies == 1);
    };
    plait::run(body());
    CHECK(counts.live == 0);
}

TEST_CASE("memory follows the values in a channel, not its capacity", "[channel]") {
    auto body = [&]() -> task<> {
        channel<int> endless(static_cast<std::size_t>(-1));
        co_await put_all(endless, 0, 1000);
        CHECK(endless.size() == 1000);
        endless.close();
        int expected = 0;
        while (auto number = co_await endless.receive()) CHECK(*number == expected++);
        CHECK(expected == 1000);
    };
    plait::run(body());
}

TEST_CASE("try_send sends now or not at all, and overtakes nobody", "[channel]") {
    std::string trace;
    tally counts;
    auto body = [&]() -> task<> {
        auto& env = co_await plait::detail::this_environment();
        channel<int> numbers(1);
        CHECK(numbers.try_send(1));
        CHECK_FALSE(numbers.try_send(2));
        cancellable a(put(numbers, trace, 3), env);
        cancellable b(put(numbers, trace, 4), env);
        cancellable c(get(numbers, trace, "c"), env);
        CHECK(trace == "c<1 ");
        CHECK_FALSE(numbers.try_send(5)); // the room is the first sender's
        co_await let_run();
        CHECK(trace == "c<1 3>+ ");
        numbers.close();
        CHECK_FALSE(numbers.try_send(6));
        co_await let_run();

        channel<tracked> values(1);
        tracked value(counts, 7);
        CHECK(values.try_send(std::move(value)));
        tracked other(counts, 8);
        CHECK_FALSE(values.try_send(std::move(other)));
        CHECK(other.value == 8); // not moved from
        CHECK_FALSE(values.try_send(other));
        CHECK(counts.copies == 0);
    };
    plait::run(body());
    CHECK(trace == "c<1 3>+ 4>closed ");
}

// --- order ---------------------------------------------------------------------------------------------------------

TEST_CASE("senders and receivers are served in the order in which they came", "[channel]") {
    std::string trace;
    auto body = [&]() -> task<> {
        auto& env = co_await plait::detail::this_environment();
        channel<int> numbers(2);
        std::deque<cancellable> waits;
        for (const char* name : {"a", "b", "c"}) waits.emplace_back(get(numbers, trace, name), env);
        co_await put_all(numbers, 1, 4);
        co_await let_run(2);
        CHECK(trace == "a<1 b<2 c<3 ");
        trace.clear();
        for (int i = 0; i < 6; ++i) waits.emplace_back(put(numbers, trace, i), env);
        CHECK(trace == "0>+ 1>+ ");
        for (const char* name : {"d", "e", "f", "g"}) waits.emplace_back(get(numbers, trace, name), env);
        co_await let_run(4);
        CHECK(trace == "0>+ 1>+ d<0 e<1 f<2 g<3 2>+ 3>+ 4>+ 5>+ ");
    };
    plait::run(body());
}

TEST_CASE("a receive that comes when others were served and not resumed yet gets a later value",
          "[channel]") {
    std::string trace;
    auto body = [&]() -> task<> {
        auto& env = co_await plait::detail::this_environment();
        channel<int> numbers(4);
        cancellable a(get(numbers, trace, "a"), env);
        CHECK(numbers.try_send(1));
        CHECK(numbers.try_send(2));
        cancellable b(get(numbers, trace, "b"), env);
        cancellable c(get(numbers, trace, "c"), env);
        CHECK(trace.empty());
        CHECK(numbers.try_send(3));
        co_await let_run(2);
        CHECK(trace == "a<1 b<2 c<3 ");
    };
    plait::run(body());
}

TEST_CASE("with capacity 0 a send completes when a receiver is there", "[channel]") {
    std::string trace;
    auto body = [&]() -> task<> {
        auto& env = co_await plait::detail::this_environment();
        channel<int> numbers(0);
        CHECK_FALSE(numbers.try_send(1));
        cancellable a(put(numbers, trace, 2), env);
        cancellable b(put(numbers, trace, 3), env);
        co_await let_run(2);
        CHECK(trace.empty());
        CHECK(numbers.size() == 0);
        cancellable c(get(numbers, trace, "c"), env);
        CHECK(trace == "c<2 "); // it was waiting with its sender
        co_await let_run();
        CHECK(trace == "c<2 2>+ ");
        cancellable d(get(numbers, trace, "d"), env);
        co_await let_run();
        trace.clear();
        cancellable e(get(numbers, trace, "e"), env);
        cancellable f(get(numbers, trace, "f"), env);
        cancellable g(put(numbers, trace, 4), env);
        CHECK(trace == "4>+ ");
        CHECK_FALSE(numbers.try_send(5)); // one at a time
        co_await let_run();
        CHECK(trace == "4>+ e<4 ");
        CHECK(numbers.try_send(6));
        co_await let_run();
        CHECK(trace == "4>+ e<4 f<6 ");
        CHECK_FALSE(numbers.try_send(7));
    };
    plait::run(body());
}

// --- closing -------------------------------------------------------------------------------------------------------

TEST_CASE("a closed channel gives out what is in it, then its end, and takes nothing more", "[channel]") {
    std::string trace;
    auto body = [&]() -> task<> {
        auto& env = co_await plait::detail::this_environment();
        channel<int> numbers(2);
        co_await put_all(numbers, 1, 3);
        cancellable a(put(numbers, trace, 3), env);
        cancellable b(put(numbers, trace, 4), env);
        CHECK_FALSE(numbers.is_closed());
        numbers.close();
        numbers.close();
        CHECK(numbers.is_closed());
        CHECK(trace.empty()); // the loop resumes the senders, not close()
        co_await let_run();
        CHECK(trace == "3>closed 4>closed ");
        trace.clear();
        cancellable c(put(numbers, trace, 5), env);
        for (const char* name : {"d", "e", "f", "g"}) cancellable(get(numbers, trace, name), env);
        CHECK(trace == "5>closed d<1 e<2 f<end g<end ");
    };
    plait::run(body());
}

TEST_CASE("closing an empty channel ends the receives that wait", "[channel]") {
    std::string trace;
    for (const std::size_t capacity : {0U, 3U}) {
        auto body = [&]() -> task<> {
            auto& env = co_await plait::detail::this_environment();
            channel<int> numbers(capacity);
            cancellable a(get(numbers, trace, "a"), env);
            cancellable b(get(numbers, trace, "b"), env);
            CHECK(numbers.try_send(1));
            numbers.close();
            co_await let_run(2); // b hears of it when a has taken the last value
        };
        plait::run(body());
    }
    CHECK(trace == "a<1 b<end a<1 b<end ");
}

TEST_CASE("the last value of a closed channel goes to the next when its receiver is destroyed", "[channel]") {
    std::string trace;
    auto body = [&]() -> task<> {
        auto& env = co_await plait::detail::this_environment();
        channel<int> numbers(1);
        cancellable a(get(numbers, trace, "a"), env);
        cancellable b(get(numbers, trace, "b"), env);
        CHECK(numbers.try_send(1));
        numbers.close();
        cancellable c(get(numbers, trace, "c"), env); // whether there is an end is not known yet
        CHECK(trace.empty());
        a.destroy();
        co_await let_run(2);
        CHECK(trace == "b<1 c<end ");
    };
    plait::run(body());
}

// --- cancelling and destroying -------------------------------------------------------------------------------------

TEST_CASE("a cancelled receive ends as canceled, and what is sent in that turn goes to the next",
          "[channel]") {
    std::string trace;
    auto body = [&]() -> task<> {
        auto& env = co_await plait::detail::this_environment();
        channel<int> numbers(1);
        cancellable a(get(numbers, trace, "a"), env);
        a.cancel();
        CHECK(numbers.try_send(1));
        CHECK(numbers.size() == 1);
        co_await let_run();
        CHECK(trace == "a<x ");
        cancellable b(get(numbers, trace, "b"), env);
        CHECK(trace == "a<x b<1 ");
    };
    plait::run(body());
}

TEST_CASE("a value that was handed to a receive before its cancellation is delivered", "[channel]") {
    std::string trace;
    auto body = [&]() -> task<> {
        auto& env = co_await plait::detail::this_environment();
        channel<int> numbers(1);
        cancellable a(get(numbers, trace, "a"), env);
        CHECK(numbers.try_send(1));
        a.cancel();
        co_await let_run();
        CHECK(trace == "a<1 ");
        CHECK(numbers.size() == 0);
    };
    plait::run(body());
}

TEST_CASE("a cancelled send has not sent, and its value is still in the awaitable", "[channel]") {
    struct local {
        static foreign send(channel<odd>& to, std::string& trace, int number) {
            auto sending = to.send(odd(number));
            auto sent = co_await sending;
            trace += said(sent.error());
            if (!sent) trace += std::to_string(int(sending.value()));
        }
    };
    std::string trace;
    auto body = [&]() -> task<> {
        auto& env = co_await plait::detail::this_environment();
        channel<odd> odds(1);
        CHECK(odds.try_send(odd(1)));
        cancellable a(local::send(odds, trace, 2), env);
        cancellable b(local::send(odds, trace, 3), env);
        a.cancel();
        co_await let_run();
        CHECK(trace == "x2");
        auto got = co_await odds.receive();
        CHECK(int(*got) == 1);
        co_await let_run();
        CHECK(trace == "x2+");
        odds.close();
        cancellable c(local::send(odds, trace, 4), env);
        CHECK(trace == "x2+closed4");
        auto last = co_await odds.receive();
        CHECK(int(*last) == 3);
    };
    plait::run(body());
}

TEST_CASE("a send that failed may be awaited again, with the value that it kept", "[channel]") {
    auto body = [&]() -> task<> {
        channel<odd> odds(1);
        CHECK(odds.try_send(odd(1)));
        plait::task_group group;
        auto sender = [&]() -> task<> {
            auto sending = odds.send(odd(2));
            auto sent = co_await sending;
            CHECK(sent.error() == errc::canceled);
            auto first = co_await odds.receive(); // in a cancelled scope
            CHECK(first.error() == errc::canceled);
            auto finish = [&]() -> task<io_result<void>> { co_return co_await sending; };
            auto again = co_await plait::shielded(finish(), never);
            CHECK(again);
        };
        group.spawn(sender);
        co_await plait::yield();
        group.request_stop();
        co_await plait::yield();
        auto first = co_await odds.receive();
        auto second = co_await odds.receive();
        CHECK(int(*first) == 1);
        CHECK(int(*second) == 2);
        co_await group.join();
    };
    plait::run(body());
}

TEST_CASE("a receiver may be destroyed, waiting or served: no value is lost or changes places", "[channel]") {
    for (const std::size_t capacity : {0U, 1U, 2U, 4U}) {
        std::string trace;
        auto body = [&]() -> task<> {
            auto& env = co_await plait::detail::this_environment();
            channel<int> numbers(capacity);
            std::deque<cancellable> waits;
            for (const char* name : {"a", "b", "c", "d", "e"})
                waits.emplace_back(get(numbers, trace, name), env);
            waits[0].destroy();
            std::string sends;
            for (int i = 1; i <= 3; ++i) waits.emplace_back(put(numbers, sends, i), env);
            waits[1].destroy(); // served
            waits[3].destroy(); // served, or waiting
            co_await let_run(4);
            CHECK(trace == "c<1 e<2 ");
            cancellable f(get(numbers, trace, "f"), env);
            co_await let_run(2);
            CHECK(trace == "c<1 e<2 f<3 ");
            CHECK(sends == "1>+ 2>+ 3>+ ");
        };
        plait::run(body());
    }
}

TEST_CASE("a sender may be destroyed while it waits, and its value goes with it", "[channel]") {
    struct local {
        static foreign send(channel<tracked>& to, tally& counts, int number) {
            auto sending = to.send(tracked(counts, number));
            auto sent = co_await sending;
            CHECK(sent);
        }
    };
    for (const std::size_t capacity : {0U, 1U}) {
        tally counts;
        auto body = [&]() -> task<> {
            auto& env = co_await plait::detail::this_environment();
            channel<tracked> values(capacity);
            if (capacity == 1) CHECK(values.try_send(tracked(counts, 0)));
            cancellable a(local::send(values, counts, 1), env);
            cancellable b(local::send(values, counts, 2), env);
            CHECK(counts.live == 2 + static_cast<int>(capacity));
            a.destroy();
            CHECK(counts.live == 1 + static_cast<int>(capacity));
            if (capacity == 1) {
                auto zero = co_await values.receive();
                CHECK(zero->value == 0);
                b.destroy(); // its value is in the channel already
            }
            auto two = co_await values.receive();
            CHECK(two->value == 2);
            co_await let_run();
        };
        plait::run(body());
        CHECK(counts.live == 0);
    }
}

TEST_CASE("destroying a channel ends the waits on it as canceled", "[channel]") {
    std::string trace;
    auto body = [&]() -> task<> {
        auto& env = co_await plait::detail::this_environment();
        auto numbers = std::make_unique<channel<int>>(1);
        cancellable a(get(*numbers, trace, "a"), env);
        cancellable b(get(*numbers, trace, "b"), env);
        CHECK(numbers->try_send(1)); // a is served, and not resumed yet
        cancellable c(put(*numbers, trace, 2), env);
        numbers.reset();
        co_await let_run(2);
        CHECK(trace == "a<x 2>x b<x ");
    };
    plait::run(body());
}

TEST_CASE("in a cancelled scope channel operations fail unstarted", "[channel]") {
    auto body = [&]() -> task<> {
        channel<int> numbers(2);
        CHECK(numbers.try_send(1));
        plait::task_group group;
        auto both = [&]() -> task<> {
            auto got = co_await numbers.receive();
            CHECK(got.error() == errc::canceled);
            auto sent = co_await numbers.send(2);
            CHECK(sent.error() == errc::canceled);
            auto shielded = co_await plait::shielded(numbers.receive(), never);
            CHECK(shielded.value_or(0) == 1);
        };
        group.spawn(both);
        group.request_stop();
        co_await group.join();
        CHECK(numbers.size() == 0);
    };
    plait::run(body());
}

// --- together with others ------------------------------------------------------------------------------------------

TEST_CASE("with_timeout limits sends and receives", "[channel]") {
    auto body = [&]() -> task<> {
        channel<int> numbers(1);
        auto nothing = co_await plait::with_timeout(numbers.receive(), 1ms);
        CHECK(nothing.error() == errc::timed_out);
        auto sent = co_await plait::with_timeout(numbers.send(1), never);
        CHECK(sent);
        auto full = co_await plait::with_timeout(numbers.send(2), 1ms);
        CHECK(full.error() == errc::timed_out);
        auto got = co_await plait::with_timeout(numbers.receive(), never);
        CHECK(got.value_or(0) == 1);
        CHECK(numbers.size() == 0);
    };
    plait::run(body());
}

TEST_CASE("when_any takes from one of several channels and leaves the others alone", "[channel]") {
    auto body = [&]() -> task<> {
        channel<int> left(1), right(1);
        plait::task_group group;
        auto sender = [&]() -> task<> {
            co_await plait::yield();
            CHECK(right.try_send(1));
            co_await plait::yield();
            co_await plait::yield();
            co_await plait::yield();
            CHECK(left.try_send(2));
        };
        group.spawn(sender);
        auto first = co_await plait::when_any(left.receive(), right.receive());
        CHECK(first.index == 1);
        CHECK(std::get<1>(first.results)->value_or(0) == 1);
        CHECK(std::get<0>(first.results)->error() == errc::canceled);
        auto second = co_await plait::when_all(left.receive(), right.send(3));
        CHECK(std::get<0>(second).value_or(0) == 2);
        CHECK(std::get<1>(second));
        // Both have something: the loser's value is in the results.
        CHECK(left.try_send(4));
        auto both = co_await plait::when_any(left.receive(), right.receive());
        const bool lost_one = both.index == 0 && !*std::get<1>(both.results);
        CHECK(right.size() == (lost_one ? 1 : 0));
        co_await group.join();
    };
    plait::run(body());
}

TEST_CASE("many producers and consumers move every value once", "[channel]") {
    constexpr int producers = 7, consumers = 5;
    const int each = static_cast<int>(scaled(2000));
    for (const std::size_t capacity : {0U, 1U, 16U}) {
        std::vector<int> seen(static_cast<std::size_t>(producers * each));
        auto body = [&]() -> task<> {
            channel<int> numbers(capacity);
            plait::task_group takers, makers;
            auto consumer = [&]() -> task<> {
                while (auto number = co_await numbers.receive()) ++seen.at(static_cast<std::size_t>(*number));
            };
            for (int i = 0; i < consumers; ++i) takers.spawn(consumer);
            for (int i = 0; i < producers; ++i)
                makers.spawn(put_all, std::ref(numbers), i * each, (i + 1) * each);
            co_await makers.join();
            numbers.close();
            co_await takers.join();
        };
        plait::run(body());
        bool once = true;
        for (const int count : seen) once = once && count == 1;
        CHECK(once);
    }
}

TEST_CASE("an unused channel may go on to the next context", "[channel]") {
    channel<int> numbers(1);
    for (int i = 0; i < 3; ++i) {
        auto body = [&]() -> task<> {
            co_await put_all(numbers, i, i + 1);
            auto got = co_await numbers.receive();
            CHECK(got.value_or(-1) == i);
        };
        plait::run(body());
    }
    CHECK(numbers.try_send(4)); // outside of any context, for the next one
    auto last = [&]() -> task<> {
        auto got = co_await numbers.receive();
        CHECK(got.value_or(-1) == 4);
    };
    plait::run(last());
}

// --- everything at random ------------------------------------------------------------------------------------------

namespace {

/// What became of one value.
struct fate {
    bool told_sent = false;
    bool told_failed = false;
    bool sender_destroyed = false;
    int received = 0;
};

struct books {
    std::deque<fate> values;
    std::size_t last_value = 0;    ///< the values come out in the order of the sends
    std::size_t last_receiver = 0; ///< and go to the receivers in the order of theirs
    std::size_t received = 0, cancelled = 0, closed = 0, ended = 0, destroyed = 0, wrong = 0;

    void came_out(std::size_t number) {
        ++received;
        wrong += number <= last_value;
        last_value = number;
        ++values.at(number - 1).received;
    }
};

/// A number that only one holds at a time.
class token {
  public:
    explicit token(std::size_t number) : number_(std::make_unique<std::size_t>(number)) {}
    std::size_t number() const { return number_ ? *number_ : 0; }

  private:
    std::unique_ptr<std::size_t> number_;
};

foreign send_token(channel<token>& to, books& notes, std::size_t number) {
    auto sending = to.send(token(number));
    auto sent = co_await sending;
    if (sent) {
        notes.values.at(number - 1).told_sent = true;
        notes.wrong += sending.value().number() != 0;
        co_return;
    }
    notes.values.at(number - 1).told_failed = true;
    notes.wrong += sending.value().number() != number;
    if (sent.error() == errc::canceled)
        ++notes.cancelled;
    else if (sent.error() == errc::closed)
        ++notes.closed;
    else
        ++notes.wrong;
}

foreign receive_token(channel<token>& from, books& notes, std::size_t receiver) {
    auto got = co_await from.receive();
    if (got) {
        notes.came_out(got->number());
        notes.wrong += receiver <= notes.last_receiver;
        notes.last_receiver = receiver;
    } else if (got.error() == errc::canceled) {
        ++notes.cancelled;
    } else {
        notes.wrong += got.error() != errc::end_of_stream;
        ++notes.ended;
    }
}

struct actor {
    std::unique_ptr<cancellable> coroutine;
    std::size_t value; ///< of a sender, or 0
};

task<> shake(std::uint64_t seed, books& notes) {
    std::mt19937_64 random(seed);
    auto& env = co_await plait::detail::this_environment();
    const std::size_t capacity = std::array<std::size_t, 5>{0, 1, 2, 3, 8}[random() % 5];
    channel<token> tokens(capacity);
    std::deque<actor> alive;
    std::size_t receivers = 0;
    const auto forget_done = [&] {
        std::erase_if(alive, [](const actor& each) { return each.coroutine->done(); });
    };
    const auto steps = 50 + random() % 300;
    const auto sends_in_ten = 2 + random() % 5;
    for (std::size_t step = 0; step < steps; ++step) {
        const auto what = random() % 16;
        if (what < 10) {
            if (what < sends_in_ten) {
                notes.values.emplace_back();
                const std::size_t number = notes.values.size();
                alive.push_back(
                    {std::make_unique<cancellable>(send_token(tokens, notes, number), env), number});
            } else {
                ++receivers;
                alive.push_back(
                    {std::make_unique<cancellable>(receive_token(tokens, notes, receivers), env), 0});
            }
        } else if (what < 14) {
            if (alive.empty()) continue;
            actor& some = alive[random() % alive.size()];
            if (what < 12) {
                some.coroutine->cancel();
            } else {
                ++notes.destroyed;
                if (some.value > 0) notes.values.at(some.value - 1).sender_destroyed = true;
                some.coroutine->destroy();
            }
        } else {
            co_await let_run(1 + random() % 2);
        }
        forget_done();
        notes.wrong += tokens.size() > std::max<std::size_t>(capacity, 1);
    }
    if (random() % 2 == 0) co_await let_run();
    tokens.close();
    while (auto got = co_await tokens.receive()) notes.came_out(got->number());
    co_await let_run(2);
    forget_done();
    notes.wrong += !alive.empty();
    notes.wrong += tokens.size() != 0;
    for (const fate& each : notes.values) {
        if (each.told_sent) notes.wrong += each.received != 1;
        if (each.told_failed) notes.wrong += each.received != 0;
        if (each.sender_destroyed) notes.wrong += each.received > 1;
        notes.wrong += each.told_sent + each.told_failed + each.sender_destroyed != 1;
    }
}

} // namespace

TEST_CASE("sends and receives that are cancelled, destroyed and closed at random lose no value",
          "[channel]") {
    books total;
    for (std::size_t seed = 0; seed < scaled(1500); ++seed) {
        books notes;
        plait::run(shake(seed, notes));
        INFO("seed " << seed);
        CHECK(notes.wrong == 0);
        total.received += notes.received;
        total.cancelled += notes.cancelled;
        total.closed += notes.closed;
        total.ended += notes.ended;
        total.destroyed += notes.destroyed;
    }
    CHECK(total.received > 0);
    CHECK(total.cancelled > 0);
    CHECK(total.closed > 0);
    CHECK(total.ended > 0);
    CHECK(total.destroyed > 0);
}
