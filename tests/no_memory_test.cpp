// What goes on without memory: operator new of this program fails while a test says so.

#include <plait/framing.hpp>
#include <plait/io_context.hpp>
#include <plait/task_group.hpp>
#include <plait/tcp.hpp>

#include "support/sockets.hpp"

#include <catch2/catch_test_macros.hpp>

#include <cstdlib>
#include <new>
#include <optional>
#include <vector>

using plait::errc;
using plait::task;

namespace {

thread_local bool no_memory = false;

class without_memory {
  public:
    without_memory() noexcept { no_memory = true; }
    without_memory(const without_memory&) = delete;
    without_memory& operator=(const without_memory&) = delete;
    ~without_memory() { no_memory = false; }
};

} // namespace

void* operator new(std::size_t size, const std::nothrow_t&) noexcept {
    return no_memory ? nullptr : std::malloc(size > 0 ? size : 1);
}
void* operator new(std::size_t size) {
    if (void* block = operator new(size, std::nothrow)) return block;
#if PLAIT_HAS_EXCEPTIONS
    throw std::bad_alloc();
#else
    std::abort();
#endif
}
void operator delete(void* block) noexcept { std::free(block); }
void operator delete(void* block, std::size_t) noexcept { std::free(block); }

#if PLAIT_HAS_EXCEPTIONS

namespace {

using messages = plait::framed<plait::tcp_stream, plait::lines>;

/// A connection on which something was written that has not been sent yet, and its other end.
struct talk {
    talk(plait::tcp_stream here, plait::tcp_stream there)
        : speaker(std::in_place, std::move(here), plait::lines{}),
          listener(std::move(there), plait::lines{}) {}
    std::optional<messages> speaker;
    messages listener;
};

task<std::vector<talk>> talks(std::size_t n) {
    std::vector<talk> all;
    for (std::size_t i = 0; i < n; ++i) {
        auto pair = co_await support::connected_pair();
        all.emplace_back(std::move(pair.near), std::move(pair.far));
    }
    for (auto& each : all) {
        auto written = co_await each.speaker->write("the last words");
        CHECK(written);
    }
    co_return all;
}

task<> hears_the_last_words(talk& one) {
    auto heard = co_await one.listener.next();
    REQUIRE(heard);
    CHECK(plait::as_text(*heard) == "the last words");
    auto end = co_await one.listener.next();
    CHECK(end.error() == errc::end_of_stream);
}

constexpr std::size_t more_than_lie_ready = 64; // frames for reuse

} // namespace

TEST_CASE("a close in the background that finds no memory takes none of the others with it", "[no_memory]") {
    auto body = []() -> task<> {
        auto all = co_await talks(more_than_lie_ready);
        for (auto& each : all) each.speaker.reset();
        {
            const without_memory now;
            for (int i = 0; i < 3; ++i) co_await plait::yield();
        }
        for (auto& each : all) co_await hears_the_last_words(each);
    };
    plait::run(body());
}

TEST_CASE("a stream that finds no memory to close politely in the background closes at once", "[no_memory]") {
    std::size_t dropped = 0;
    auto body = [&]() -> task<> {
        auto all = co_await talks(more_than_lie_ready);
        {
            const without_memory now;
            for (auto& each : all) each.speaker.reset();
        }
        std::size_t heard = 0;
        for (auto& each : all) {
            auto last = co_await each.listener.next();
            heard += last.has_value();
        }
        CHECK(heard + dropped == all.size());
        auto later = co_await talks(1);
        later[0].speaker.reset();
        co_await hears_the_last_words(later[0]);
    };
    plait::run(body(), plait::context_options().on_event([&](const plait::event_info& event) {
        dropped += event.what == plait::event_info::kind::dropped;
    }));
}

#else

TEST_CASE("without exceptions there is no going on without memory", "[no_memory]") {
    SKIP("an allocation that fails ends the program when exceptions are off");
}

#endif
