// What event, mutex and channel share. What each does is in event_test, mutex_test and channel_test.

#include <plait/io_context.hpp>
#include <plait/sync.hpp>
#include <plait/task_group.hpp>
#include <plait/time.hpp>

#include "support/allocations.hpp"
#include "support/scale.hpp"
#include "support/watchdog.hpp"

#include <catch2/catch_test_macros.hpp>

#include <cstdint>
#include <functional>
#include <string>

using plait::channel;
using plait::errc;
using plait::event;
using plait::mutex;
using plait::task;
using support::scaled;

namespace {

struct everything {
    event go;
    mutex lock;
    channel<std::uint64_t> forth{2};
    channel<std::uint64_t> back{0};
    std::uint64_t sum = 0;
    bool over = false;
};

task<> answer(everything& with) {
    while (auto number = co_await with.forth.receive()) {
        auto held = co_await with.lock.lock();
        co_await plait::yield();
        held->unlock();
        auto sent = co_await with.back.send(*number + 1);
        if (!sent) break;
    }
}

task<> wake(everything& with) {
    while (!with.over) {
        with.go.set();
        co_await plait::yield();
        with.go.reset();
        co_await plait::yield();
    }
}

/// Waits in every way, each time.
task<> ask(everything& with, std::uint64_t count) {
    for (std::uint64_t i = 0; i < count; ++i) {
        auto woken = co_await with.go.wait();
        auto sent = co_await with.forth.send(i);
        auto held = co_await with.lock.lock();
        co_await plait::yield();
        held->unlock();
        auto answered = co_await with.back.receive();
        if (woken && sent) with.sum += answered.value_or(0);
    }
}

} // namespace

TEST_CASE("waiting for events, locks and channels allocates nothing", "[sync]") {
    const std::uint64_t rounds = scaled(5000);
    std::uint64_t allocated = 0;
    auto body = [&]() -> task<> {
        everything with;
        plait::task_group group;
        for (int i = 0; i < 3; ++i) group.spawn(answer, std::ref(with));
        group.spawn(wake, std::ref(with));
        co_await ask(with, 200);
        with.sum = 0;
        const auto before = support::allocations();
        co_await ask(with, rounds);
        allocated = support::allocations() - before;
        CHECK(with.sum == rounds * (rounds + 1) / 2);
        with.over = true;
        with.forth.close();
        co_await group.join();
    };
    plait::run(body());
    if (!support::counts_allocations()) SKIP("malloc cannot be counted in this build");
    CHECK(allocated == 0);
}
