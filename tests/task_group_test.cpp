#include <plait/io_context.hpp>
#include <plait/stream.hpp>
#include <plait/sync.hpp>
#include <plait/task_group.hpp>
#include <plait/tcp.hpp>
#include <plait/time.hpp>

#include "support/allocations.hpp"
#include "support/foreign.hpp"
#include "support/scale.hpp"
#include "support/tracked.hpp"
#include "support/watchdog.hpp"

#include <catch2/catch_test_macros.hpp>

#include <array>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

using namespace std::chrono_literals;
using plait::task;
using plait::task_group;
using support::at_exit;
using support::scaled;
using support::tally;
using support::tracked;

namespace {

task<> hold(tracked&, int yields) {
    for (int i = 0; i < yields; ++i) co_await plait::yield();
}

task<> add(int& sum, int n) {
    sum += n;
    co_return;
}

/// Waits until it is cancelled, and notes that.
task<> wait_until_canceled(int& canceled) {
    auto slept = co_await plait::sleep_for(1h);
    canceled += slept.error() == plait::errc::canceled;
}

/// A connection over loopback.
struct connection {
    plait::tcp_stream client;
    plait::tcp_stream server;
};

task<> connect(plait::tcp_listener& listener, connection& out) {
    auto client = co_await plait::tcp_stream::connect(listener.local_endpoint().value());
    auto server = co_await listener.accept();
    out.client = std::move(client).value();
    out.server = std::move(server).value();
}

task<> receive_forever(plait::tcp_stream& from, tracked) {
    std::array<std::byte, 64> buffer;
    while (co_await from.recv(buffer)) {
    }
}

// The results are named because g++ 12 never runs a coroutine without local variables that awaits in a condition.
task<> lease_forever(plait::tcp_stream& from, tracked) {
    while (auto received = co_await from.recv()) {
    }
}

task<> accept_forever(plait::tcp_listener& listener, tracked) {
    while (auto accepted = co_await listener.accept()) {
    }
}

task<> send_forever(plait::tcp_stream& to, tracked) {
    const std::vector<std::byte> much(1024 * 1024);
    while (co_await to.send_all(much)) {
    }
}

task<> sleep_long(tracked) { static_cast<void>(co_await plait::sleep_for(1h)); }

task<> limited_sleep(tracked counted) {
    static_cast<void>(co_await plait::with_timeout(sleep_long(std::move(counted)), 2h));
}

/// Starts every kind of waiting child, then waits itself; never returns.
task<> nest_of_waiters(plait::tcp_listener& listener, connection& pair, tally& counts, int depth,
                       bool joined) {
    task_group group;
    tracked local(counts);
    if (depth > 0) {
        group.spawn(nest_of_waiters(listener, pair, counts, depth - 1, !joined));
    } else {
        group.spawn(receive_forever, std::ref(pair.client), tracked(counts));
        group.spawn(lease_forever, std::ref(pair.server), tracked(counts));
        group.spawn(send_forever, std::ref(pair.client), tracked(counts));
        group.spawn(accept_forever, std::ref(listener), tracked(counts));
    }
    for (int i = 0; i < 5; ++i) {
        group.spawn(sleep_long, tracked(counts));
        group.spawn(limited_sleep, tracked(counts));
    }
    if (!joined) static_cast<void>(co_await plait::sleep_for(1h));
    co_await group.join();
}

} // namespace

// --- spawn and join ------------------------------------------------------------------------------------------------

TEST_CASE("join completes when every child has ended", "[task_group]") {
    int sum = 0;
    auto body = [&]() -> task<> {
        task_group group;
        for (int i = 1; i <= 100; ++i) group.spawn(add, std::ref(sum), i);
        CHECK(group.size() == 100);
        CHECK(sum == 0); // spawn queues
        co_await group.join();
        CHECK(group.size() == 0);
        CHECK(sum == 5050);
    };
    plait::run(body());
}

TEST_CASE("joining a group without children completes at once", "[task_group]") {
    auto body = [&]() -> task<> {
        task_group group;
        co_await group.join();
        co_await group.join();
    };
    plait::run(body());
}

TEST_CASE("a group may be destroyed when its children have ended, though nobody joined it", "[task_group]") {
    int sum = 0;
    auto body = [&]() -> task<> {
        task_group group;
        group.spawn(add, std::ref(sum), 1);
        while (group.size() > 0) co_await plait::yield();
    };
    plait::run(body());
    CHECK(sum == 1);
}

TEST_CASE("a group takes tasks, functions and lambdas, whatever they give", "[task_group]") {
    int sum = 0;
    auto body = [&]() -> task<> {
        task_group group;
        group.spawn(add(sum, 1));
        auto gives_a_number = [&sum](int n) -> task<int> {
            sum += n;
            co_return n;
        };
        group.spawn(gives_a_number, 2);
        group.spawn([&sum]() -> task<std::string> {
            sum += 4;
            co_return "dropped";
        });
        co_await group.join();
    };
    plait::run(body());
    CHECK(sum == 7);
}

TEST_CASE("a child may spawn into its group, and join waits for that, too", "[task_group]") {
    int sum = 0;
    auto body = [&]() -> task<> {
        task_group group;
        std::function<task<>(int)> spawner = [&](int depth) -> task<> {
            ++sum;
            co_await plait::yield();
            if (depth == 0) co_return;
            group.spawn(std::ref(spawner), depth - 1);
            group.spawn(std::ref(spawner), depth - 1);
        };
        group.spawn(std::ref(spawner), 6);
        co_await group.join();
    };
    plait::run(body());
    CHECK(sum == 127);
}

TEST_CASE("join waits for a child that is spawned when the last one has just ended", "[task_group]") {
    for (int before = 0; before < 6; ++before) {
        int sum = 0;
        plait::event start;
        auto child = [&]() -> task<> {
            static_cast<void>(co_await start.wait());
            ++sum;
        };
        auto slow = [&]() -> task<> {
            co_await plait::yield();
            co_await plait::yield();
            ++sum;
        };
        auto spawner = [&](task_group& into) -> task<> {
            static_cast<void>(co_await start.wait());
            for (int i = 0; i < before; ++i) co_await plait::yield();
            if (into.size() == 0 && sum != 1) co_return; // join() has returned
            into.spawn(slow);
        };
        auto body = [&]() -> task<> {
            task_group group;
            task_group others;
            group.spawn(child);
            co_await plait::yield();
            others.spawn(spawner, std::ref(group));
            co_await plait::yield();
            start.set();
            co_await group.join();
            CHECK(group.size() == 0);
            CHECK((sum == 1 || sum == 2));
            if (before == 0) CHECK(sum == 2);
            sum += 10;
            co_await others.join();
            co_await group.join();
        };
        plait::run(body());
    }
}

TEST_CASE("a group can be used again after join", "[task_group]") {
    int sum = 0;
    auto body = [&]() -> task<> {
        task_group group;
        for (int round = 0; round < 10; ++round) {
            group.spawn(add, std::ref(sum), 1);
            group.spawn(add, std::ref(sum), 1);
            co_await group.join();
            CHECK(sum == 2 * (round + 1));
        }
    };
    plait::run(body());
}

TEST_CASE("a hundred thousand children run and end", "[task_group]") {
    const std::size_t count = scaled(100'000);
    std::size_t ended = 0;
    auto child = [&](std::size_t n) -> task<> {
        if (n % 2) co_await plait::yield();
        ++ended;
    };
    auto body = [&]() -> task<> {
        task_group group;
        for (std::size_t i = 0; i < count; ++i) group.spawn(child, i);
        CHECK(group.size() == count);
        co_await group.join();
    };
    plait::run(body());
    CHECK(ended == count);
}

// --- what a child keeps alive ----------------------------------------------------------------------------------------

TEST_CASE("a child's callable and arguments live as long as the child", "[task_group]") {
    tally counts;
    auto body = [&]() -> task<> {
        task_group group;
        {
            tracked captured(counts, 5), argument(counts, 6);
            auto callable = [captured](const tracked& given) -> task<> {
                co_await plait::yield();
                co_await plait::yield();
                CHECK(captured.value == 5);
                CHECK(given.value == 6);
            };
            group.spawn(callable, argument);
        }
        CHECK(counts.live == 2);
        co_await plait::yield();
        CHECK(counts.live == 2);
        co_await group.join();
        CHECK(counts.live == 0);
    };
    plait::run(body());
}

TEST_CASE("a child's callable and arguments are destroyed as soon as it has ended", "[task_group]") {
    tally counts;
    auto body = [&]() -> task<> {
        task_group group;
        auto by_value = [](tracked held, int yields) -> task<> { co_await hold(held, yields); };
        for (int i = 0; i < 10; ++i) group.spawn(by_value, tracked(counts), i);
        std::size_t seen = group.size();
        while (group.size() > 0) {
            co_await plait::yield();
            // A child holds its argument twice: in the group's frame, and in its own.
            CHECK(static_cast<std::size_t>(counts.live) <= 2 * group.size());
            CHECK(group.size() <= seen);
            seen = group.size();
        }
        CHECK(counts.live == 0);
        co_await group.join();
    };
    plait::run(body());
    CHECK(counts.copies == 0);
}

TEST_CASE("a child's frame is gone before join resumes", "[task_group]") {
    tally counts;
    auto body = [&]() -> task<> {
        task_group group;
        for (int i = 0; i < 5; ++i) {
            group.spawn([local = tracked(counts), i]() -> task<> {
                for (int n = 0; n < i; ++n) co_await plait::yield();
            });
        }
        co_await group.join();
        CHECK(counts.live == 0);
    };
    plait::run(body());
}

TEST_CASE("arguments are moved where they can be, and passed by reference with std::ref", "[task_group]") {
    tally counts;
    auto body = [&]() -> task<> {
        tracked original(counts, 1);
        auto changes = [](tracked& given) -> task<> {
            co_await plait::yield();
            given.value = 2;
        };
        auto owns = [](std::unique_ptr<int> owned) -> task<> {
            co_await plait::yield();
            CHECK(*owned == 9);
        };
        task_group group;
        group.spawn(changes, std::ref(original));
        group.spawn(owns, std::make_unique<int>(9));
        co_await group.join();
        CHECK(original.value == 2);
    };
    plait::run(body());
    CHECK(counts.copies == 0);
    CHECK(counts.live == 0);
}

// --- exceptions --------------------------------------------------------------------------------------------------------

#if PLAIT_HAS_EXCEPTIONS
namespace {

task<> fail_after(int yields, std::string what) {
    for (int i = 0; i < yields; ++i) co_await plait::yield();
    throw std::runtime_error(what);
}

/// The message of what `join()` throws.
task<std::string> message_of_join(task_group& group) {
    try {
        co_await group.join();
    } catch (const std::runtime_error& error) {
        co_return error.what();
    }
    co_return "nothing";
}

} // namespace

TEST_CASE("join rethrows the first exception, after every child has ended", "[task_group]") {
    int canceled = 0;
    auto body = [&]() -> task<> {
        task_group group;
        group.spawn(fail_after, 3, "second");
        group.spawn(fail_after, 1, "first");
        for (int i = 0; i < 5; ++i) group.spawn(wait_until_canceled, std::ref(canceled));
        const std::string message = co_await message_of_join(group);
        CHECK(message == "first");
        CHECK(group.size() == 0);
        CHECK(canceled == 5);
    };
    plait::run(body());
}

TEST_CASE("an exception before join stops the siblings, and join rethrows it", "[task_group]") {
    int canceled = 0;
    auto body = [&]() -> task<> {
        task_group group;
        group.spawn(wait_until_canceled, std::ref(canceled));
        group.spawn(fail_after, 0, "early");
        while (group.size() > 0) co_await plait::yield();
        CHECK(canceled == 1);
        const std::string message = co_await message_of_join(group);
        CHECK(message == "early");
    };
    plait::run(body());
}

TEST_CASE("after an exception the group can be used again, and starts clean", "[task_group]") {
    int sum = 0, canceled = 0;
    auto body = [&]() -> task<> {
        task_group group;
        group.spawn(fail_after, 0, "once");
        const std::string message = co_await message_of_join(group);
        CHECK(message == "once");
        group.spawn(add, std::ref(sum), 1);
        auto naps = [&]() -> task<> {
            auto slept = co_await plait::sleep_for(1ms);
            canceled += !slept;
        };
        group.spawn(naps);
        const std::string none = co_await message_of_join(group);
        CHECK(none == "nothing");
    };
    plait::run(body());
    CHECK(sum == 1);
    CHECK(canceled == 0);
}

TEST_CASE("an unjoined group that an exception unwinds cancels and destroys its children", "[task_group]") {
    tally counts;
    auto body = [&]() -> task<> {
        auto listener = co_await plait::tcp_listener::bind({"127.0.0.1", 0});
        for (int started = 0; started < 2; ++started) {
            connection pair;
            co_await connect(*listener, pair);
            bool caught = false;
            try {
                task_group group;
                group.spawn(nest_of_waiters, std::ref(*listener), std::ref(pair), std::ref(counts), 1, false);
                group.spawn(sleep_long, tracked(counts));
                if (started) static_cast<void>(co_await plait::sleep_for(2ms));
                throw std::runtime_error("unwinds");
            } catch (const std::runtime_error&) {
                caught = true;
            }
            CHECK(caught);
            CHECK(counts.live == 0);
        }
    };
    plait::run(body());
    CHECK(counts.live == 0);
}

TEST_CASE("an unjoined group with waiting children is unwound through several levels", "[task_group]") {
    tally counts;
    auto inner = [&]() -> task<> {
        task_group group;
        group.spawn(sleep_long, tracked(counts));
        co_await plait::yield();
        throw std::runtime_error("deep");
    };
    auto outer = [&]() -> task<> {
        task_group group;
        group.spawn(limited_sleep, tracked(counts));
        co_await plait::yield();
        co_await inner();
    };
    auto body = [&]() -> task<bool> {
        try {
            co_await outer();
        } catch (const std::runtime_error&) {
            co_return true;
        }
        co_return false;
    };
    CHECK(plait::run(body()));
    CHECK(counts.live == 0);
}
#endif

// --- cancelling ----------------------------------------------------------------------------------------------------------

TEST_CASE("request_stop cancels the children", "[task_group]") {
    int canceled = 0;
    auto body = [&]() -> task<> {
        task_group group;
        for (int i = 0; i < 10; ++i) group.spawn(wait_until_canceled, std::ref(canceled));
        co_await plait::yield();
        group.request_stop();
        group.request_stop();
        group.spawn(wait_until_canceled, std::ref(canceled)); // starts cancelled
        co_await group.join();
        CHECK(canceled == 11);
        const bool stopped = co_await plait::stop_requested();
        CHECK_FALSE(stopped);

        // After join it is a fresh group.
        bool slept = false;
        auto naps = [&]() -> task<> {
            auto nap = co_await plait::sleep_for(1ms);
            slept = nap.has_value();
        };
        group.spawn(naps);
        co_await group.join();
        CHECK(slept);
    };
    plait::run(body());
}

TEST_CASE("a child may stop its own group", "[task_group]") {
    int canceled = 0;
    auto body = [&]() -> task<> {
        task_group group;
        for (int i = 0; i < 3; ++i) group.spawn(wait_until_canceled, std::ref(canceled));
        auto stopper = [&]() -> task<> {
            co_await plait::yield();
            group.request_stop();
            auto slept = co_await plait::sleep_for(1h);
            canceled += !slept;
        };
        group.spawn(stopper);
        co_await group.join();
    };
    plait::run(body());
    CHECK(canceled == 4);
}

TEST_CASE("cancelling the scope of the task that joins cancels the children", "[task_group]") {
    int canceled = 0;
    auto owner = [&]() -> task<> {
        task_group group;
        for (int i = 0; i < 10; ++i) group.spawn(wait_until_canceled, std::ref(canceled));
        co_await group.join();
    };
    auto body = [&]() -> task<> {
        auto ended = co_await plait::with_timeout(owner(), 5ms);
        CHECK(ended.error() == plait::errc::timed_out);
    };
    plait::run(body());
    CHECK(canceled == 10);
}

TEST_CASE("children that wait on sockets end as cancelled", "[task_group]") {
    tally counts;
    auto body = [&]() -> task<> {
        auto listener = co_await plait::tcp_listener::bind({"127.0.0.1", 0});
        connection pair;
        co_await connect(*listener, pair);
        task_group group;
        group.spawn(nest_of_waiters, std::ref(*listener), std::ref(pair), std::ref(counts), 2, true);
        static_cast<void>(co_await plait::sleep_for(5ms));
        CHECK(counts.live > 0);
        group.request_stop();
        co_await group.join();
        CHECK(counts.live == 0);
    };
    plait::run(body());
}

// --- destruction of the frame around ---------------------------------------------------------------------------------------

TEST_CASE("destroying a frame destroys its groups' children, whatever they wait for", "[task_group]") {
    tally counts;
    auto body = [&]() -> task<> {
        auto& here = co_await plait::detail::this_environment();
        auto listener = co_await plait::tcp_listener::bind({"127.0.0.1", 0});
        for (std::size_t round = 0; round < scaled(50); ++round) {
            connection pair;
            co_await connect(*listener, pair);
            auto owner = support::carry(
                nest_of_waiters(*listener, pair, counts, static_cast<int>(round % 3), round % 2 == 0));
            owner.start(here);
            for (std::size_t i = 0; i < round % 7; ++i) co_await plait::yield();
            owner.destroy();
            CHECK(counts.live == 0);
            co_await plait::yield();
        }
    };
    plait::run(body());
}

TEST_CASE("a stream can be used again after the frame that waited on it was destroyed", "[task_group]") {
    tally counts;
    auto body = [&]() -> task<> {
        auto& here = co_await plait::detail::this_environment();
        auto listener = co_await plait::tcp_listener::bind({"127.0.0.1", 0});
        connection pair;
        co_await connect(*listener, pair);
        for (std::size_t round = 0; round < scaled(50); ++round) {
            auto waits = support::carry(receive_forever(pair.server, tracked(counts)));
            waits.start(here);
            co_await plait::yield();
            waits.destroy();
            std::array<std::byte, 4> buffer{};
            auto sent = co_await pair.client.send_all("ping");
            auto received = co_await pair.server.recv_exactly(buffer);
            CHECK(sent);
            CHECK(received);
            CHECK(plait::as_text(buffer) == "ping");
        }
    };
    plait::run(body());
    CHECK(counts.live == 0);
}

TEST_CASE("a group destroyed with its frame before its children started runs none of them", "[task_group]") {
    tally counts;
    bool ran = false;
    auto child = [&](tracked) -> task<> {
        ran = true;
        co_return;
    };
    auto owner = [&]() -> task<> {
        task_group group;
        for (int i = 0; i < 5; ++i) group.spawn(child, tracked(counts));
        co_await group.join();
    };
    auto body = [&]() -> task<> {
        auto& here = co_await plait::detail::this_environment();
        {
            auto holder = support::carry(owner());
            holder.start(here);
            CHECK(counts.live == 5);
        }
        CHECK(counts.live == 0);
        co_await plait::yield();
    };
    plait::run(body());
    CHECK_FALSE(ran);
}

// --- no allocation -------------------------------------------------------------------------------------------------------------

TEST_CASE("spawning and joining allocate nothing once frames are recycled", "[task_group]") {
    if (!support::counts_allocations()) SKIP("malloc cannot be counted in this build");
    const std::size_t rounds = scaled(1000);
    std::uint64_t used = 1;
    int sum = 0;
    auto body = [&]() -> task<> {
        task_group group;
        std::uint64_t before = 0;
        for (std::size_t round = 0; round < rounds + 10; ++round) {
            if (round == 10) before = support::allocations();
            for (int i = 0; i < 10; ++i) group.spawn(add, std::ref(sum), 1);
            co_await group.join();
        }
        used = support::allocations() - before;
    };
    plait::run(body());
    CHECK(used == 0);
    CHECK(static_cast<std::size_t>(sum) == (rounds + 10) * 10);
}
