/// Operations that end in every way at random moments: nothing is lost, and no freed memory is written to.
#include <plait/plait.hpp>

#include "support/connections.hpp"
#include "support/foreign.hpp"
#include "support/freed_memory.hpp"
#include "support/scale.hpp"
#include "support/sockets.hpp"
#include "support/watchdog.hpp"

#include <catch2/catch_test_macros.hpp>

#include <array>
#include <cstring>
#include <deque>
#include <memory>
#include <random>
#include <stdexcept>
#include <vector>

using namespace std::chrono_literals;
using plait::context_options;
using plait::errc;
using plait::task;
using plait::task_group;
using plait::tcp_listener;
using plait::tcp_stream;
using support::connected_pairs;
using support::open_descriptors;
using support::pairs_at_once;
using support::scaled;
using support::sequence;
using support::turns;

namespace {

// --- a lane: one connection, and operations on it that end in every way at random moments ---------------------------

struct lane {
    tcp_stream near;
    tcp_stream far;
    std::size_t told = 0;  ///< by far
    std::size_t heard = 0; ///< by near
    std::size_t left = 0;  ///< from near
    std::size_t came = 0;  ///< to far
    std::size_t wrong = 0; ///< receives that brought something else than the sequence
    std::size_t completed = 0;
    std::size_t cancelled = 0;

    void heard_bytes(std::span<const std::byte> bytes) {
        wrong += !sequence::holds(heard, bytes);
        heard += bytes.size();
    }
    void count(std::error_code error) {
        if (!error)
            ++completed;
        else if (error == errc::canceled)
            ++cancelled;
        else
            ++wrong;
    }
};

enum class verb : unsigned { recv, recv_lease, recv_exactly, send, send_all, send_gathered, count };

/// The buffers stand in the frame, so that the system writes to freed memory if it writes too late.
task<> operate(lane& on, verb what, std::size_t size) {
    std::array<std::byte, 512> room;
    if (what == verb::recv) {
        auto got = co_await on.near.recv(std::span(room).first(size));
        on.heard_bytes(std::span(room).first(got.bytes()));
        on.count(got.error());
    } else if (what == verb::recv_lease) {
        auto got = co_await on.near.recv();
        if (got) on.heard_bytes(got->bytes());
        on.count(got.error());
    } else if (what == verb::recv_exactly) {
        auto got = co_await on.near.recv_exactly(std::span(room).first(size));
        on.heard_bytes(std::span(room).first(got.bytes()));
        on.count(got.error());
    } else {
        const auto bytes = sequence::at(on.left, size);
        std::memcpy(room.data(), bytes.data(), bytes.size());
        const auto payload = std::span<const std::byte>(room).first(bytes.size());
        const std::array<std::span<const std::byte>, 3> pieces = {payload.first(1), payload.subspan(1, 0),
                                                                  payload.subspan(1)};
        const std::span<const std::span<const std::byte>> list(pieces);
        auto sent = what == verb::send       ? on.near.send(payload)
                    : what == verb::send_all ? on.near.send_all(payload)
                                             : on.near.send_all(list);
        auto done = co_await sent;
        on.left += done.bytes();
        on.count(done.error());
    }
}

task<> tell(lane& on, std::size_t size) {
    const auto bytes = sequence::at(on.told, size);
    auto sent = co_await on.far.send_all(bytes);
    on.told += sent.bytes();
}

/// The far side reads what is there.
task<> listen(lane& on) {
    std::vector<std::byte> room(64 * 1024);
    while (on.came < on.left) {
        auto got = co_await on.far.recv(room);
        if (!got) break;
        on.wrong += !sequence::holds(on.came, std::span(room).first(*got));
        on.came += *got;
    }
}

task<> connect_lane(tcp_listener& listener, lane& on) {
    auto pair = co_await support::connected_pair(listener);
    on.near = std::move(pair.near);
    on.far = std::move(pair.far);
    on.told = on.heard = on.left = on.came = 0;
}

/// Everything that was sent is there, in order.
task<> settle(lane& on) {
    auto lost = [](lane& which) -> task<> { co_await listen(which); };
    co_await lost(on);
    while (on.heard < on.told) {
        auto got = co_await on.near.recv();
        if (!got) break;
        on.heard_bytes(got->bytes());
    }
    on.wrong += on.heard != on.told;
    on.wrong += on.came != on.left;
}

enum class ending { cancel, destroy, close };

task<> run_lane(lane& on, std::uint64_t seed, std::size_t operations, ending how) {
    std::mt19937_64 random(seed);
    plait::detail::environment& env = co_await plait::detail::this_environment();
    tcp_listener listener = co_await support::loopback_listener();
    co_await connect_lane(listener, on);
    for (std::size_t i = 0; i < operations; ++i) {
        const auto what = static_cast<verb>(random() % static_cast<unsigned>(verb::count));
        const std::size_t size = 2 + random() % 500;
        task_group helpers;
        const auto talk = random() % 3; // before, while or after the operation waits
        if (talk == 0) co_await tell(on, 1 + random() % 300);
        if (how == ending::destroy) {
            auto frame = support::carry(operate(on, what, size));
            frame.start(env);
            if (talk == 1) helpers.spawn(tell, std::ref(on), 1 + random() % 300);
            co_await turns(random() % 4);
            const bool unfinished = !frame.done();
            frame.destroy();
            co_await helpers.join();
            // What an unfinished one had moved is unknown; the connection cannot go on in step.
            if (unfinished || i % 64 == 0) {
                support::reset_by(on.far);
                co_await connect_lane(listener, on);
            }
            continue;
        }
        task_group group;
        group.spawn(operate, std::ref(on), what, size);
        if (talk == 1) helpers.spawn(tell, std::ref(on), 1 + random() % 300);
        co_await turns(random() % 4);
        if (how == ending::cancel) {
            group.request_stop();
        } else {
            on.near = tcp_stream(); // beneath it
        }
        if (talk == 2 && how == ending::cancel) helpers.spawn(tell, std::ref(on), 1 + random() % 300);
        co_await group.join();
        co_await helpers.join();
        if (how == ending::close) {
            support::reset_by(on.far);
            co_await connect_lane(listener, on);
        } else if (i % 64 == 63) {
            co_await settle(on);
        }
    }
    if (how == ending::cancel) co_await settle(on);
}

struct lanes_result {
    std::size_t wrong = 0;
    std::size_t completed = 0;
    std::size_t cancelled = 0;
    std::size_t changed_bytes = 0;
};

lanes_result run_lanes(std::size_t operations, ending how, context_options options = {}) {
    constexpr std::size_t count = 8;
    lanes_result result;
    support::freed_memory freed;
    {
        std::deque<lane> lanes(count);
        auto body = [&]() -> task<> {
            task_group group;
            for (std::size_t i = 0; i < count; ++i)
                group.spawn(run_lane, std::ref(lanes[i]), i + 1, operations / count + 1, how);
            co_await group.join();
        };
        plait::run(body(), std::move(options));
        for (const lane& each : lanes) {
            result.wrong += each.wrong;
            result.completed += each.completed;
            result.cancelled += each.cancelled;
        }
    }
    result.changed_bytes = freed.changed_bytes();
    return result;
}

/// Queues and a pool that are always full.
context_options tiny() { return context_options().queue_sizes(4, 8).buffer_pool(1, 1, 256); }

} // namespace

// --- memory and cancellation ---------------------------------------------------------------------------------------

TEST_CASE("the system writes nothing to the memory of operations that were cancelled", "[reliability]") {
    const std::size_t before = open_descriptors();
    const auto result = run_lanes(scaled(60'000), ending::cancel);
    CHECK(result.changed_bytes == 0);
    CHECK(result.wrong == 0);
    CHECK(result.completed > 0);
    CHECK(result.cancelled > 0);
    const auto crowded = run_lanes(scaled(40'000), ending::cancel, tiny());
    CHECK(crowded.changed_bytes == 0);
    CHECK(crowded.wrong == 0);
    CHECK(open_descriptors() == before);
}

TEST_CASE("frames may be destroyed wherever they wait, and no completion comes for them", "[reliability]") {
    const std::size_t before = open_descriptors();
    const auto result = run_lanes(scaled(10'000), ending::destroy);
    CHECK(result.changed_bytes == 0);
    CHECK(result.wrong == 0);
    const auto crowded = run_lanes(scaled(2'000), ending::destroy, tiny());
    CHECK(crowded.changed_bytes == 0);
    CHECK(open_descriptors() == before);
}

TEST_CASE("streams may be destroyed beneath whatever waits on them", "[reliability]") {
    const std::size_t before = open_descriptors();
    const auto result = run_lanes(scaled(10'000), ending::close);
    CHECK(result.changed_bytes == 0);
    CHECK(open_descriptors() == before);
}

// --- the end of a context ------------------------------------------------------------------------------------------

namespace {

task<> wait_long() { static_cast<void>(co_await plait::sleep_for(1h)); }

task<> wait_to_accept(tcp_listener& from) { static_cast<void>(co_await from.accept()); }

task<> wait_to_receive(tcp_stream& from, unsigned how) {
    std::array<std::byte, 100> room;
    if (how % 3 == 0) static_cast<void>(co_await from.recv());
    if (how % 3 == 1) static_cast<void>(co_await from.recv(room));
    if (how % 3 == 2) static_cast<void>(co_await from.recv_exactly(room));
}

task<> wait_to_send(tcp_stream& to, std::span<const std::byte> much) {
    static_cast<void>(co_await to.send_all(much));
}

enum class end_of_context { stop, exception, destruction };

/// Thousands of operations of every kind wait; then the context ends.
void end_with_everything_pending(end_of_context how, std::size_t wanted) {
    const std::size_t before = open_descriptors();
    support::freed_memory freed;
    const std::size_t count = pairs_at_once(wanted / 4); // of each pair: two receives, one send, and a timer
    const std::vector<std::byte> much(1 << 20);
    std::size_t pending = 0;
    {
        auto context = std::make_unique<plait::io_context>();
        std::deque<tcp_listener> listeners;
        std::vector<support::stream_pair> pairs;
        auto start = [&](task_group& group) -> task<> {
            pairs = co_await connected_pairs(count);
            for (int i = 0; i < 50; ++i) listeners.push_back(co_await support::loopback_listener());
            for (tcp_listener& each : listeners) group.spawn(wait_to_accept, std::ref(each));
            unsigned kind = 0;
            for (support::stream_pair& each : pairs) {
                group.spawn(wait_to_receive, std::ref(each.far), ++kind);
                // Small buffers, and nobody reads as fast as this is written: it stays in flight.
                static_cast<void>(each.near.set_send_buffer_size(4096));
                if (kind % 3 == 0)
                    group.spawn(wait_to_send, std::ref(each.far), std::span<const std::byte>(much));
                else
                    group.spawn(wait_to_receive, std::ref(each.near), kind);
                group.spawn(wait_long);
                group.spawn(wait_long);
            }
            pending = group.size();
            co_await turns(3);
        };
        auto body = [&]() -> task<> {
            task_group group;
            co_await start(group);
            if (how == end_of_context::stop) {
                context->request_stop();
#if PLAIT_HAS_EXCEPTIONS
            } else if (how == end_of_context::exception) {
                throw std::runtime_error("the end");
#endif
            }
            co_await group.join();
        };
        if (how == end_of_context::destruction) {
            // Frames that nobody resumes any more are destroyed before their context, streams after it.
            std::vector<support::foreign> frames;
            auto held = [&]() -> task<> {
                plait::detail::environment& env = co_await plait::detail::this_environment();
                pairs = co_await connected_pairs(count);
                for (support::stream_pair& each : pairs) {
                    frames.push_back(support::carry(wait_to_receive(each.near, 1)));
                    frames.back().start(env);
                    frames.push_back(support::carry(wait_to_receive(each.far, 0)));
                    frames.back().start(env);
                    pending += 2;
                }
                co_await turns(2);
                frames.clear();
                co_await turns(1);
            };
            context->run(held());
        } else {
#if PLAIT_HAS_EXCEPTIONS
            try {
                context->run(body());
            } catch (const std::runtime_error&) {
                CHECK(how == end_of_context::exception);
            }
#else
            context->run(body());
#endif
        }
        context.reset();
        for (support::stream_pair& each : pairs) CHECK_FALSE(each.near.local_endpoint());
    }
    CHECK(pending >= count * 2);
    CHECK(freed.changed_bytes() == 0);
    CHECK(open_descriptors() == before);
}

} // namespace

TEST_CASE("a stopped context completes everything that waits before it ends", "[reliability]") {
    end_with_everything_pending(end_of_context::stop, scaled(10'000));
}

#if PLAIT_HAS_EXCEPTIONS
TEST_CASE("an exception ends a context with everything pending", "[reliability]") {
    end_with_everything_pending(end_of_context::exception, scaled(10'000));
}
#endif

TEST_CASE("a context ends after everything that waited was destroyed", "[reliability]") {
    end_with_everything_pending(end_of_context::destruction, scaled(10'000));
}

// --- the cancelled operation won -----------------------------------------------------------------------------------

TEST_CASE("cancellations that race with connections lose no connection and no descriptor", "[reliability]") {
    const std::size_t before = open_descriptors();
    std::size_t accepted = 0, connected = 0, cancelled = 0, during = 0;
    auto body = [&]() -> task<> {
        during = open_descriptors();
        tcp_listener listener = co_await support::loopback_listener();
        const plait::endpoint where = listener.local_endpoint().value();
        std::mt19937_64 random(4);
        std::vector<tcp_stream> clients;
        auto accepts = [&]() -> task<> {
            auto stream = co_await listener.accept();
            if (stream)
                ++accepted;
            else if (stream.error() == errc::canceled)
                ++cancelled;
        };
        auto connects = [&]() -> task<> {
            auto stream = co_await tcp_stream::connect(where);
            if (!stream) co_return;
            ++connected;
            static_cast<void>(stream->set_linger(0s)); // thousands of connections shall not linger on
            clients.push_back(std::move(*stream));
        };
        for (std::size_t i = 0; i < scaled(10'000); ++i) {
            task_group group, helpers;
            if (random() % 2) helpers.spawn(connects());
            group.spawn(accepts());
            co_await turns(random() % 4);
            if (random() % 2) helpers.spawn(connects());
            co_await turns(random() % 2);
            group.request_stop();
            co_await group.join();
            co_await helpers.join();
            if (clients.size() > 100) {
                while (accepted < connected) co_await accepts();
                clients.clear();
            }
        }
        while (accepted < connected) co_await accepts();
        clients.clear();
        // A listener may have sockets of its own, for connections to come, and may give them back a little later.
        static_cast<void>(co_await listener.close());
        for (int i = 0; i < 1000 && open_descriptors() != during; ++i) co_await turns(1);
        CHECK(open_descriptors() == during);
    };
    plait::run(body());
    CHECK(accepted == connected);
    CHECK(accepted > 0);
    CHECK(cancelled > 0);
    CHECK(open_descriptors() == before);
}

TEST_CASE("a write to freed memory would be found", "[reliability]") {
    support::freed_memory freed;
    void* block = plait::detail::allocate(100);
    plait::detail::deallocate(block, 100);
    static_cast<std::byte*>(block)[40] = std::byte{1};
    CHECK(freed.changed_bytes() == 1);
}
