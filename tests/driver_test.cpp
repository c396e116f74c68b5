/// One suite for every driver: each verb in each situation that can befall it. The driver is the default context's,
/// which the environment chooses; nothing here knows its name.
#include <plait/framing.hpp>
#include <plait/plait.hpp>

#include "support/bench.hpp"
#include "support/foreign.hpp"
#include "support/scale.hpp"
#include "support/simulated.hpp"
#include "support/sockets.hpp"
#include "support/watchdog.hpp"

#include <catch2/catch_template_test_macros.hpp>
#include <catch2/catch_test_macros.hpp>

#include <array>
#include <chrono>
#include <cstdlib>
#include <optional>
#include <string_view>
#include <vector>

using namespace std::chrono_literals;
using plait::errc;
using plait::task;
using plait::task_group;
using plait::tcp_listener;
using plait::tcp_stream;
using support::bench;
using support::collect;
using support::collect_output;
using support::collected_frames;
using support::fill_near;
using support::open;
using support::outcome;
using support::outcome_of;
using support::payload;
using support::scaled;
using support::tell;
using support::turns;
using support::words;

namespace {

enum class sort { accepts, receives, sends, flushes };

// --- the verbs: prepare() makes it wait, satisfy() lets it complete ------------------------------------------------

struct accept_verb {
    static constexpr auto what = sort::accepts;
    static task<> prepare(bench&) { co_return; }
    static task<> satisfy(bench& b) {
        ++b.connected;
        auto stream = co_await tcp_stream::connect(b.listener.local_endpoint().value());
        CHECK(stream.error() == std::error_code());
        if (stream) b.others.push_back(std::move(*stream));
    }
    static task<outcome> run(bench& b) {
        auto stream = co_await b.listener.accept();
        if (stream) {
            ++b.accepted;
            b.others.push_back(std::move(*stream));
        }
        co_return outcome_of(stream);
    }
};

/// After a first lease a driver may go on receiving by itself; the verbs marked so stand behind one.
template <bool BehindALease>
struct receiving {
    static constexpr auto what = sort::receives;
    static task<> prepare(bench& b) {
        if (!BehindALease) co_return;
        co_await tell(b, "first ");
        auto first = co_await b.near.recv();
        CHECK(first.error() == std::error_code());
        if (first) b.heard += plait::as_text(first->bytes());
    }
    static task<> satisfy(bench& b) { return tell(b, words); }
};

template <bool BehindALease>
struct recv_verb : receiving<BehindALease> {
    static task<outcome> run(bench& b) {
        auto got = co_await b.near.recv(b.room);
        b.heard += plait::as_text(std::span(b.room).first(got.bytes()));
        co_return outcome_of(got);
    }
};

template <bool BehindALease>
struct recv_lease_verb : receiving<BehindALease> {
    static task<outcome> run(bench& b) {
        auto got = co_await b.near.recv();
        if (got) b.heard += plait::as_text(got->bytes());
        co_return outcome_of(got);
    }
};

template <bool BehindALease>
struct recv_exactly_verb : receiving<BehindALease> {
    static task<outcome> run(bench& b) {
        const std::span<std::byte> room = std::span(b.room).first(words.size());
        auto got = co_await b.near.recv_exactly(room);
        b.heard += plait::as_text(room.first(got.bytes()));
        co_return outcome_of(got);
    }
};

struct sending {
    static constexpr auto what = sort::sends;
    static task<> prepare(bench& b) { return fill_near(b); }
    static task<> satisfy(bench& b) { return collect(b, b.left.size()); }
    static outcome account(bench& b, const plait::io_result<std::size_t>& sent) {
        b.left += payload().substr(0, sent.bytes());
        return outcome_of(sent);
    }
};

struct send_verb : sending {
    static task<outcome> run(bench& b) {
        auto sent = co_await b.near.send(payload());
        co_return account(b, sent);
    }
};

struct send_all_verb : sending {
    static task<outcome> run(bench& b) {
        auto sent = co_await b.near.send_all(payload());
        co_return account(b, sent);
    }
};

struct send_gathered_verb : sending {
    static task<outcome> run(bench& b) {
        std::vector<std::span<const std::byte>> pieces;
        for (std::size_t i = 0; i < 40; ++i) {
            pieces.push_back(plait::as_bytes(payload()).subspan(i * 500, 500));
            if (i % 7 == 0) pieces.emplace_back();
        }
        auto sent = co_await b.near.send_all(std::span<const std::span<const std::byte>>(pieces));
        co_return account(b, sent);
    }
};

/// A send that has to wait for collected output.
struct send_behind_output_verb : send_all_verb {
    static task<> prepare(bench& b) {
        co_await fill_near(b);
        co_await collect_output(b);
    }
};

struct flushing : send_behind_output_verb {
    static constexpr auto what = sort::flushes;
};

struct flush_verb : flushing {
    static task<outcome> run(bench& b) {
        auto flushed = co_await b.messages->flush();
        co_return outcome_of(flushed);
    }
};

struct shutdown_send_verb : flushing {
    static task<outcome> run(bench& b) {
        auto ended = co_await b.near.shutdown_send();
        co_return outcome_of(ended);
    }
};

// A connect has no second party that could make it wait, and close() ends its own stream: both stand apart, below.
#define RECEIVING_VERBS                                                                                      \
    recv_verb<false>, recv_verb<true>, recv_lease_verb<false>, recv_lease_verb<true>,                        \
        recv_exactly_verb<false>, recv_exactly_verb<true>
#define SENDING_VERBS                                                                                        \
    send_verb, send_all_verb, send_gathered_verb, send_behind_output_verb, flush_verb, shutdown_send_verb
#define STREAM_VERBS RECEIVING_VERBS, SENDING_VERBS
#define EVERY_VERB accept_verb, STREAM_VERBS

template <class V>
task<> run_into(bench& b, std::optional<outcome>& slot) {
    const outcome ended = co_await V::run(b);
    slot = ended;
}

/// Runs `V` as a child, to where it waits.
template <class V>
task<> begin(bench& b, task_group& group, std::optional<outcome>& slot) {
    group.spawn(run_into<V>, std::ref(b), std::ref(slot));
    co_await turns(4);
}

task<> end_far(bench& b) { static_cast<void>(co_await b.far.shutdown_send()); }

task<> close_near(bench& b) { static_cast<void>(co_await b.near.close()); }

/// Nothing that went in is lost, doubled or out of order.
template <class V>
task<> settle_accounts(bench& b) {
    if (V::what == sort::accepts) {
        while (b.accepted < b.connected) {
            const outcome one = co_await V::run(b);
            CHECK(one.error == std::error_code());
        }
    } else if (V::what == sort::receives) {
        if (b.far.is_open()) co_await end_far(b);
        while (auto got = co_await b.near.recv(b.room))
            b.heard += plait::as_text(std::span(b.room).first(*got));
        CHECK(b.heard == b.told);
    } else {
        task_group group;
        group.spawn(close_near, std::ref(b));
        co_await collect(b, static_cast<std::size_t>(-1));
        co_await end_far(b);
        co_await group.join();
        CHECK(b.came.size() == b.left.size());
        const bool same = b.came == b.left;
        CHECK(same);
    }
}

template <class F>
void on_a_bench(F body) {
    auto whole = [&]() -> task<> {
        bench b;
        co_await open(b);
        co_await body(b);
    };
    plait::run(whole());
}

} // namespace

TEST_CASE("the default context runs on the driver that the environment names", "[driver]") {
    plait::io_context context;
    if (const char* wanted = std::getenv("PLAIT_BACKEND"))
        CHECK(plait::to_string(context.backend()) == wanted);
    UNSCOPED_INFO("backend " << plait::to_string(context.backend()) << ": " << context.backend_reason());
    CHECK(!context.backend_reason().empty());
}

// --- completing ----------------------------------------------------------------------------------------------------

TEMPLATE_TEST_CASE("a verb completes when everything is there already", "[driver]", EVERY_VERB) {
    on_a_bench([](bench& b) -> task<> {
        co_await TestType::prepare(b);
        co_await TestType::satisfy(b);
        co_await turns(3);
        const outcome got = co_await TestType::run(b);
        CHECK(got.error == std::error_code());
        if (TestType::what == sort::receives) CHECK(got.bytes == words.size());
        if (TestType::what == sort::sends) CHECK(got.bytes > 0);
        co_await settle_accounts<TestType>(b);
    });
}

TEMPLATE_TEST_CASE("a verb waits until it can complete", "[driver]", EVERY_VERB) {
    on_a_bench([](bench& b) -> task<> {
        co_await TestType::prepare(b);
        task_group group;
        std::optional<outcome> slot;
        co_await begin<TestType>(b, group, slot);
        CHECK(!slot);
        co_await TestType::satisfy(b);
        co_await group.join();
        CHECK(slot.value_or(outcome()).error == std::error_code());
        if (TestType::what == sort::receives) CHECK(slot->bytes == words.size());
        co_await settle_accounts<TestType>(b);
    });
}

TEMPLATE_TEST_CASE("a verb works again and again on one socket", "[driver]", accept_verb, RECEIVING_VERBS) {
    on_a_bench([](bench& b) -> task<> {
        co_await TestType::prepare(b);
        for (std::size_t i = 0; i < scaled(50); ++i) {
            task_group group;
            std::optional<outcome> slot;
            group.spawn(run_into<TestType>, std::ref(b), std::ref(slot));
            co_await turns(i % 4);
            co_await TestType::satisfy(b);
            co_await group.join();
            CHECK(slot.value_or(outcome()).error == std::error_code());
        }
        co_await settle_accounts<TestType>(b);
    });
}

// --- cancelling ----------------------------------------------------------------------------------------------------

TEMPLATE_TEST_CASE("a verb in a cancelled scope fails unstarted and can be used again", "[driver]",
                   EVERY_VERB) {
    on_a_bench([](bench& b) -> task<> {
        co_await TestType::prepare(b);
        task_group group;
        std::optional<outcome> slot;
        group.request_stop();
        group.spawn(run_into<TestType>, std::ref(b), std::ref(slot));
        co_await group.join();
        CHECK(slot.value_or(outcome()).error == errc::canceled);
        CHECK(slot->bytes == 0);
        co_await TestType::satisfy(b);
        const outcome again = co_await TestType::run(b);
        CHECK(again.error == std::error_code());
        co_await settle_accounts<TestType>(b);
    });
}

TEMPLATE_TEST_CASE("a waiting verb completes as cancelled, and nothing is lost", "[driver]", EVERY_VERB) {
    on_a_bench([](bench& b) -> task<> {
        co_await TestType::prepare(b);
        for (int round = 0; round < 3; ++round) {
            task_group group;
            std::optional<outcome> slot;
            co_await begin<TestType>(b, group, slot);
            group.request_stop();
            co_await group.join();
            CHECK(slot.value_or(outcome()).error == errc::canceled);
            CHECK(slot->bytes == 0);
        }
        co_await TestType::satisfy(b);
        const outcome again = co_await TestType::run(b);
        CHECK(again.error == std::error_code());
        co_await settle_accounts<TestType>(b);
    });
}

TEMPLATE_TEST_CASE("a cancellation that races with completion loses nothing", "[driver]", EVERY_VERB) {
    on_a_bench([](bench& b) -> task<> {
        const std::size_t rounds =
            TestType::what == sort::accepts || TestType::what == sort::receives ? 10 : 1;
        for (std::size_t i = 0; i < scaled(rounds) * 16; ++i) {
            if (TestType::what == sort::sends || TestType::what == sort::flushes || i == 0)
                co_await TestType::prepare(b);
            task_group group, helpers;
            std::optional<outcome> slot;
            group.spawn(run_into<TestType>, std::ref(b), std::ref(slot));
            co_await turns(i & 3);
            const bool cancel_first = i & 4;
            if (cancel_first) group.request_stop();
            helpers.spawn(TestType::satisfy, std::ref(b));
            if (i & 8) co_await turns(1); // so that the other side's half is with the system already
            if (!cancel_first) group.request_stop();
            co_await group.join();
            co_await helpers.join();
            const outcome got = slot.value_or(outcome());
            CHECK((!got.error || got.error == errc::canceled));
            // What has ended the stream cannot be done again.
            if (!got.error && std::is_same_v<TestType, shutdown_send_verb>) break;
        }
        co_await settle_accounts<TestType>(b);
    });
}

TEMPLATE_TEST_CASE("a cancellation after completion changes nothing", "[driver]", EVERY_VERB) {
    on_a_bench([](bench& b) -> task<> {
        co_await TestType::prepare(b);
        co_await TestType::satisfy(b);
        task_group group;
        std::optional<outcome> slot;
        group.spawn(run_into<TestType>, std::ref(b), std::ref(slot));
        while (!slot) co_await plait::yield();
        group.request_stop();
        co_await group.join();
        CHECK(slot->error == std::error_code());
        co_await settle_accounts<TestType>(b);
    });
}

TEST_CASE("a cancelled recv_exactly tells how many bytes had come, and they are the first", "[driver]") {
    on_a_bench([](bench& b) -> task<> {
        for (const bool armed : {false, true}) {
            if (armed) co_await receiving<true>::prepare(b);
            co_await tell(b, "abc");
            task_group group;
            std::optional<outcome> slot;
            co_await begin<recv_exactly_verb<false>>(b, group, slot);
            CHECK(!slot);
            group.request_stop();
            co_await group.join();
            CHECK(slot.value_or(outcome()).error == errc::canceled);
            CHECK(slot->bytes == 3);
        }
        co_await settle_accounts<recv_verb<false>>(b);
    });
}

// --- closed, destroyed ---------------------------------------------------------------------------------------------

TEMPLATE_TEST_CASE("a verb whose stream another task closes ends as cancelled", "[driver]", STREAM_VERBS) {
    on_a_bench([](bench& b) -> task<> {
        co_await TestType::prepare(b);
        task_group group;
        std::optional<outcome> slot;
        co_await begin<TestType>(b, group, slot);
        task_group closing;
        closing.spawn(close_near, std::ref(b));
        while (!slot) co_await plait::yield();
        CHECK(slot->error == errc::canceled);
        CHECK(!b.near.is_open());
        co_await end_far(b);
        co_await collect(b, static_cast<std::size_t>(-1)); // the polite close has sent what was collected
        co_await closing.join();
        co_await group.join();
        CHECK(b.came.size() == b.left.size());
        const bool same = b.came == b.left;
        CHECK(same);
        const outcome afterwards = co_await recv_verb<false>::run(b);
        CHECK(afterwards.error == std::errc::bad_file_descriptor);
    });
}

TEMPLATE_TEST_CASE("a verb whose stream is destroyed ends as cancelled", "[driver]", STREAM_VERBS) {
    on_a_bench([](bench& b) -> task<> {
        co_await TestType::prepare(b);
        task_group group;
        std::optional<outcome> slot;
        co_await begin<TestType>(b, group, slot);
        b.near = tcp_stream(); // moving it would be an assertion; destroying it is not
        co_await group.join();
        CHECK(slot.value_or(outcome()).error == errc::canceled);
    });
}

TEST_CASE("an accept whose listener another task closes ends as cancelled", "[driver]") {
    on_a_bench([](bench& b) -> task<> {
        task_group group;
        std::optional<outcome> slot;
        co_await begin<accept_verb>(b, group, slot);
        auto closed = co_await b.listener.close();
        CHECK(closed.error() == std::error_code());
        co_await group.join();
        CHECK(slot.value_or(outcome()).error == errc::canceled);
        const outcome afterwards = co_await accept_verb::run(b);
        CHECK(afterwards.error == std::errc::bad_file_descriptor);
    });
}

TEST_CASE("an accept whose listener is destroyed ends as cancelled", "[driver]") {
    on_a_bench([](bench& b) -> task<> {
        task_group group;
        std::optional<outcome> slot;
        co_await begin<accept_verb>(b, group, slot);
        b.listener = tcp_listener();
        co_await group.join();
        CHECK(slot.value_or(outcome()).error == errc::canceled);
    });
}

TEMPLATE_TEST_CASE("a frame may be destroyed while its verb waits, and the socket goes on", "[driver]",
                   EVERY_VERB) {
    on_a_bench([](bench& b) -> task<> {
        co_await TestType::prepare(b);
        std::optional<outcome> never;
        plait::detail::environment& env = co_await plait::detail::this_environment();
        for (std::size_t wait : {0U, 1U, 4U}) {
            auto frame = support::carry(run_into<TestType>(b, never));
            frame.start(env);
            co_await turns(wait);
            CHECK(!frame.done());
            frame.destroy();
            co_await turns(wait);
        }
        CHECK(!never);
        co_await TestType::satisfy(b);
        const outcome again = co_await TestType::run(b);
        CHECK(again.error == std::error_code());
        co_await settle_accounts<TestType>(b);
    });
}

TEMPLATE_TEST_CASE("a frame may be destroyed in the turn in which its verb completes", "[driver]",
                   accept_verb, STREAM_VERBS) {
    on_a_bench([](bench& b) -> task<> {
        plait::detail::environment& env = co_await plait::detail::this_environment();
        co_await TestType::prepare(b);
        std::optional<outcome> slot;
        for (std::size_t wait = 0; wait < 6; ++wait) {
            auto frame = support::carry(run_into<TestType>(b, slot));
            frame.start(env);
            co_await TestType::satisfy(b);
            co_await turns(wait);
            frame.destroy();
            if (TestType::what != sort::receives) break; // the wire of the others is empty now
        }
        // What the destroyed frame had been given is gone with it; the sockets are whole.
        support::reset_by(b.far);
        while (co_await b.near.recv(b.room)) {
        }
    });
}

#if PLAIT_HAS_EXCEPTIONS
TEMPLATE_TEST_CASE("an exception beside a waiting verb unwinds through it", "[driver]", EVERY_VERB) {
    on_a_bench([](bench& b) -> task<> {
        co_await TestType::prepare(b);
        std::optional<outcome> never;
        auto doomed = [&]() -> task<> {
            task_group group;
            co_await begin<TestType>(b, group, never);
            throw 5;
        };
        int thrown = 0;
        try {
            co_await doomed();
        } catch (int number) {
            thrown = number;
        }
        CHECK(thrown == 5);
        CHECK(!never);
        co_await TestType::satisfy(b);
        const outcome again = co_await TestType::run(b);
        CHECK(again.error == std::error_code());
        co_await settle_accounts<TestType>(b);
    });
}
#endif

TEST_CASE("a frame that closes a listener may be destroyed before the close is done", "[driver]") {
    on_a_bench([](bench& b) -> task<> {
        plait::detail::environment& env = co_await plait::detail::this_environment();
        for (std::size_t wait : {0U, 1U, 2U}) {
            tcp_listener listener = co_await support::loopback_listener();
            task_group group;
            auto accepts = [](tcp_listener& from) -> task<> { static_cast<void>(co_await from.accept()); };
            group.spawn(accepts, std::ref(listener));
            co_await turns(3);
            auto closes = [](tcp_listener& which) -> task<> { static_cast<void>(co_await which.close()); };
            auto frame = support::carry(closes(listener));
            frame.start(env);
            co_await turns(wait);
            frame.destroy();
            co_await turns(5);
            co_await group.join();
        }
        co_await tell(b, words);
        const outcome untouched = co_await recv_verb<false>::run(b);
        CHECK(untouched.bytes == words.size());
    });
}

// --- the peer ends -------------------------------------------------------------------------------------------------

TEMPLATE_TEST_CASE("a receive reports the end of the stream after the peer's last byte, as often as asked",
                   "[driver]", RECEIVING_VERBS) {
    for (const bool waiting : {false, true})
        on_a_bench([waiting](bench& b) -> task<> {
            co_await TestType::prepare(b);
            task_group group;
            std::optional<outcome> slot;
            co_await tell(b, words);
            const outcome last = co_await TestType::run(b);
            CHECK(last.error == std::error_code());
            if (waiting) co_await begin<TestType>(b, group, slot);
            co_await end_far(b);
            if (!waiting) co_await begin<TestType>(b, group, slot);
            co_await group.join();
            CHECK(slot.value_or(outcome()).error == errc::end_of_stream);
            CHECK(slot->bytes == 0);
            const outcome again = co_await TestType::run(b);
            CHECK(again.error == errc::end_of_stream);
            // Our own half stays open.
            auto sent = co_await b.near.send_all(words);
            CHECK(sent.bytes() == words.size());
        });
}

TEMPLATE_TEST_CASE("recv_exactly reports a stream that ends inside as truncated", "[driver]",
                   recv_exactly_verb<false>, recv_exactly_verb<true>) {
    for (std::size_t size = 1; size < words.size(); ++size)
        on_a_bench([size](bench& b) -> task<> {
            co_await TestType::prepare(b);
            task_group group;
            std::optional<outcome> slot;
            if (size % 2) co_await begin<TestType>(b, group, slot);
            co_await tell(b, words.substr(0, size));
            if (size % 3) co_await turns(2);
            co_await end_far(b);
            if (!(size % 2)) co_await begin<TestType>(b, group, slot);
            co_await group.join();
            CHECK(slot.value_or(outcome()).error == errc::truncated_frame);
            CHECK(slot->bytes == size);
        });
}

TEMPLATE_TEST_CASE("a reset by the peer ends a verb with the system's error", "[driver]", STREAM_VERBS) {
    for (const bool waiting : {true, false})
        on_a_bench([waiting](bench& b) -> task<> {
            co_await TestType::prepare(b);
            task_group group;
            std::optional<outcome> slot;
            if (waiting) co_await begin<TestType>(b, group, slot);
            support::reset_by(b.far);
            co_await turns(3);
            if (!waiting) co_await begin<TestType>(b, group, slot);
            co_await group.join();
            const std::error_code error = slot.value_or(outcome()).error;
            INFO(error.message());
            // A half-close of a connection that is gone already is answered by its absence.
            const bool gone = error == std::errc::connection_reset || error == std::errc::broken_pipe ||
                              (TestType::what == sort::flushes && error == std::errc::not_connected);
            CHECK(gone);
        });
}

// --- nothing to do -------------------------------------------------------------------------------------------------

TEST_CASE("receives and sends of nothing succeed at once with 0", "[driver]") {
    on_a_bench([](bench& b) -> task<> {
        for (const bool full : {false, true}) {
            if (full) co_await fill_near(b);
            auto received = co_await b.near.recv(std::span<std::byte>());
            auto exactly = co_await b.near.recv_exactly(std::span<std::byte>());
            auto sent = co_await b.near.send(std::string_view());
            auto all = co_await b.near.send_all(std::string_view());
            auto none = co_await b.near.send_all(std::span<const std::span<const std::byte>>());
            std::vector<std::span<const std::byte>> empty(3);
            auto gathered = co_await b.near.send_all(std::span<const std::span<const std::byte>>(empty));
            for (const auto* each : {&received, &exactly, &sent, &all, &none, &gathered}) {
                CHECK(each->error() == std::error_code());
                CHECK(each->bytes() == 0);
            }
        }
        co_await settle_accounts<send_verb>(b);
    });
}

// --- connect and close ---------------------------------------------------------------------------------------------

namespace {

task<> connect_into(plait::endpoint where, std::optional<outcome>& slot, tcp_stream& kept) {
    auto stream = co_await tcp_stream::connect(where);
    slot = outcome_of(stream);
    if (stream) kept = std::move(*stream);
}

/// A listener whose backlog is full, so that a connect has to wait. (Where the system refuses instead, the caller's
/// connect ends with connection_refused.)
task<> fill_backlog(bench& b, std::vector<tcp_stream>& in_the_way) {
    b.listener = co_await support::loopback_listener(plait::listen_options().backlog(1));
    for (int i = 0; i < 8; ++i) {
        auto stream =
            co_await plait::with_timeout(tcp_stream::connect(b.listener.local_endpoint().value()), 100ms);
        if (!stream) break;
        in_the_way.push_back(std::move(*stream));
    }
}

} // namespace

TEST_CASE("a connect waits for room in the backlog, and is cancelled, timed out or destroyed there",
          "[driver]") {
    on_a_bench([](bench& b) -> task<> {
        std::vector<tcp_stream> in_the_way;
        co_await fill_backlog(b, in_the_way);
        const plait::endpoint where = b.listener.local_endpoint().value();
        tcp_stream kept;
        std::optional<outcome> slot;
        {
            task_group group;
            group.spawn(connect_into, where, std::ref(slot), std::ref(kept));
            co_await turns(5);
            if (slot) co_return; // this system does not let it wait
            group.request_stop();
            co_await group.join();
            CHECK(slot.value_or(outcome()).error == errc::canceled);
        }
        auto late = co_await plait::with_timeout(tcp_stream::connect(where), 10ms);
        CHECK(late.error() == errc::timed_out);
        plait::detail::environment& env = co_await plait::detail::this_environment();
        std::optional<outcome> never;
        auto frame = support::carry(connect_into(where, never, kept));
        frame.start(env);
        co_await turns(3);
        frame.destroy();
        CHECK(!never);

        task_group group;
        slot.reset();
        group.spawn(connect_into, where, std::ref(slot), std::ref(kept));
        co_await turns(3);
        for (std::size_t i = 0; i < in_the_way.size(); ++i) {
            auto stream = co_await b.listener.accept();
            if (stream) b.others.push_back(std::move(*stream));
        }
        co_await group.join(); // the system tries it again after a second
        CHECK(slot.value_or(outcome()).error == std::error_code());
        CHECK(kept.is_open());
    });
}

TEST_CASE("a connect that is cancelled at any moment either connects or is cancelled", "[driver]") {
    on_a_bench([](bench& b) -> task<> {
        const plait::endpoint where = b.listener.local_endpoint().value();
        std::size_t connected = 0;
        for (std::size_t i = 0; i < scaled(100); ++i) {
            task_group group;
            std::optional<outcome> slot;
            tcp_stream kept;
            if (i % 5 == 4) group.request_stop();
            group.spawn(connect_into, where, std::ref(slot), std::ref(kept));
            co_await turns(i % 5);
            group.request_stop();
            co_await group.join();
            const outcome got = slot.value_or(outcome());
            CHECK((!got.error || got.error == errc::canceled));
            CHECK(kept.is_open() == !got.error);
            if (i % 5 == 4) CHECK(got.error == errc::canceled);
            connected += !got.error;
        }
        CHECK(connected < scaled(100));
    });
}

TEST_CASE("close waits for the peer's end, discards its input, and sends what was collected", "[driver]") {
    on_a_bench([](bench& b) -> task<> {
        co_await fill_near(b);
        co_await collect_output(b);
        std::optional<outcome> slot;
        task_group group;
        auto closes = [](bench& on, std::optional<outcome>& into) -> task<> {
            auto closed = co_await on.near.close();
            into = outcome_of(closed);
        };
        group.spawn(closes, std::ref(b), std::ref(slot));
        co_await tell(b, payload());
        co_await turns(5);
        CHECK(!slot);
        co_await collect(b, static_cast<std::size_t>(-1));
        CHECK(!slot);
        co_await end_far(b);
        co_await group.join();
        CHECK(slot.value_or(outcome()).error == std::error_code());
        const bool same = b.came == b.left;
        CHECK(same);
    });
}

TEST_CASE("close ends at once with a peer that ended, or reset, before", "[driver]") {
    for (const bool reset : {false, true})
        on_a_bench([reset](bench& b) -> task<> {
            if (reset)
                support::reset_by(b.far);
            else
                co_await end_far(b);
            co_await turns(3);
            const auto before = support::context_clock::now();
            auto closed = co_await b.near.close();
            CHECK(closed.error() == std::error_code());
            CHECK(support::context_clock::now() - before < 2s); // the grace for peers that do not end
        });
}

TEST_CASE("a close that is cancelled, or destroyed, has closed", "[driver]") {
    on_a_bench([](bench& b) -> task<> {
        for (int how = 0; how < 3; ++how) {
            auto pair = co_await support::connected_pair(b.listener);
            b.near = std::move(pair.near);
            b.far = std::move(pair.far);
            if (how < 2) {
                task_group group;
                if (how == 0) group.request_stop();
                group.spawn(close_near, std::ref(b));
                co_await turns(4);
                group.request_stop();
                co_await group.join();
            } else {
                plait::detail::environment& env = co_await plait::detail::this_environment();
                auto frame = support::carry(close_near(b));
                frame.start(env);
                co_await turns(4);
                CHECK(!frame.done());
                frame.destroy();
            }
            CHECK(!b.near.is_open());
            auto ended = co_await b.far.recv(b.room);
            CHECK(!ended);
        }
    });
}

TEST_CASE("a stream that is dropped while its output cannot leave is closed all the same", "[driver]") {
    on_a_bench([](bench& b) -> task<> {
        co_await fill_near(b);
        co_await collect_output(b);
        co_await turns(3); // the loop's own send is with the system now
        auto closed = co_await b.near.close();
        CHECK(closed.error() == errc::timed_out);
        // The peer learns of it: after what had left comes the end, or a reset.
        co_await collect(b, static_cast<std::size_t>(-1));
        CHECK(b.came.size() <= b.left.size());
        const bool same = b.came == b.left.substr(0, b.came.size());
        CHECK(same);
    });
}

TEST_CASE("a context ends although output cannot leave", "[driver]") {
    for (const bool by_stop : {false, true}) {
        plait::io_context context;
        bench b;
        auto whole = [&]() -> task<> {
            co_await open(b);
            co_await fill_near(b);
            co_await collect_output(b);
            co_await turns(3);
            if (by_stop) context.request_stop();
            co_await turns(1);
        };
        context.run(whole());
    }
}

TEST_CASE("destroying one waiting frame does not disturb another stream's collected output", "[driver]") {
    // A destructor drains through the driver, so that the loop's own send completes in the middle of a turn.
    if (const std::string why = support::lacks_real_sockets(); !why.empty()) SKIP(why);
    on_a_bench([](bench& b) -> task<> {
        plait::detail::environment& env = co_await plait::detail::this_environment();
        auto other = co_await support::connected_pair(b.listener);
        auto waits = [&]() -> task<> { static_cast<void>(co_await other.near.recv(b.room)); };
        for (std::size_t i = 0; i < scaled(10); ++i) {
            co_await fill_near(b);
            co_await collect_output(b);
            auto frame = support::carry(waits());
            frame.start(env);
            co_await turns(2);
            std::array<std::byte, 4096> piece; // at once, without a turn of the loop
            while (b.came.size() < b.left.size() - collected_frames * 1002) {
                const auto got = support::receive_at_once(b.far.native_handle(), piece);
                if (got <= 0) break;
                b.came.append(plait::as_text(std::span(piece).first(static_cast<std::size_t>(got))));
            }
            frame.destroy();
            co_await collect_output(b);
            co_await collect(b, b.left.size());
        }
        co_await settle_accounts<send_verb>(b);
    });
}
