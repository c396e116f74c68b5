/// The classes of faults that networking libraries have died of, each with as many repetitions as a debug build does
/// in seconds.
#include <plait/framing.hpp>
#include <plait/plait.hpp>
#include <plait/serve.hpp>

#include "support/foreign.hpp"
#include "support/freed_memory.hpp"
#include "support/plain_client.hpp"
#include "support/scale.hpp"
#include "support/sockets.hpp"
#include "support/watchdog.hpp"

#include <catch2/catch_test_macros.hpp>

#include <dirent.h>
#include <malloc.h>
#include <sys/resource.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <cstring>
#include <deque>
#include <memory>
#include <memory_resource>
#include <optional>
#include <random>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

using namespace std::chrono_literals;
using plait::context_options;
using plait::errc;
using plait::task;
using plait::task_group;
using plait::tcp_listener;
using plait::tcp_stream;
using support::scaled;
using support::turns;

namespace {

std::size_t open_descriptors() {
    DIR* directory = ::opendir("/proc/self/fd");
    support::must(directory != nullptr, "/proc/self/fd");
    std::size_t count = 0;
    while (::readdir(directory)) ++count;
    ::closedir(directory);
    return count - 3; // ".", ".." and the directory itself
}

/// As many connected pairs as the limit of descriptors allows, up to `wanted`.
std::size_t pairs_at_once(std::size_t wanted) {
    rlimit limit{};
    ::getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    ::setrlimit(RLIMIT_NOFILE, &limit);
    const std::size_t room = limit.rlim_cur > 1000 ? static_cast<std::size_t>(limit.rlim_cur) - 500 : 500;
    return std::min(wanted, room / 2);
}

task<std::vector<support::stream_pair>> connected_pairs(std::size_t count) {
    auto listener = co_await support::loopback_listener();
    std::vector<support::stream_pair> pairs;
    pairs.reserve(count);
    for (std::size_t i = 0; i < count; ++i) pairs.push_back(co_await support::connected_pair(listener));
    static_cast<void>(co_await listener.close());
    co_return std::move(pairs);
}

/// A sequence in which every place can be told from its neighbours; both ends of a connection count along in it.
class sequence {
  public:
    static constexpr std::size_t period = 65'537;

    static std::span<const std::byte> at(std::size_t place, std::size_t most) {
        static const std::vector<std::byte> bytes = [] {
            std::vector<std::byte> made(period);
            support::byte_source(11).fill(made);
            return made;
        }();
        const std::size_t from = place % period;
        return std::span(bytes).subspan(from, std::min(most, period - from));
    }
    /// Whether `bytes` stand at `place`.
    static bool holds(std::size_t place, std::span<const std::byte> bytes) {
        while (!bytes.empty()) {
            const auto part = at(place, bytes.size());
            if (std::memcmp(part.data(), bytes.data(), part.size()) != 0) return false;
            place += part.size();
            bytes = bytes.subspan(part.size());
        }
        return true;
    }
};

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
        if (!error) ++completed;
        else if (error == errc::canceled) ++cancelled;
        else ++wrong;
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

task<> wait_to_send(tcp_stream& to, std::span<const std::byte> much) { static_cast<void>(co_await to.send_all(much)); }

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
                if (kind % 3 == 0) group.spawn(wait_to_send, std::ref(each.far), std::span<const std::byte>(much));
                else group.spawn(wait_to_receive, std::ref(each.near), kind);
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
        tcp_listener listener = co_await support::loopback_listener();
        const plait::endpoint where = listener.local_endpoint().value();
        std::mt19937_64 random(4);
        std::vector<tcp_stream> clients;
        auto accepts = [&]() -> task<> {
            auto stream = co_await listener.accept();
            if (stream) ++accepted;
            else if (stream.error() == errc::canceled) ++cancelled;
        };
        auto connects = [&]() -> task<> {
            auto stream = co_await tcp_stream::connect(where);
            if (!stream) co_return;
            ++connected;
            static_cast<void>(stream->set_linger(0s)); // thousands of connections shall not linger on
            clients.push_back(std::move(*stream));
        };
        during = open_descriptors();
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
        co_await turns(5);
        CHECK(open_descriptors() == during);
    };
    plait::run(body());
    CHECK(accepted == connected);
    CHECK(accepted > 0);
    CHECK(cancelled > 0);
    CHECK(open_descriptors() == before);
}

// --- queues that are full ------------------------------------------------------------------------------------------

TEST_CASE("thousands of operations complete once each through a completion queue of 8", "[reliability]") {
    const std::size_t count = pairs_at_once(scaled(2'000));
    std::size_t completions = 0, wrong = 0;
    constexpr std::size_t rounds = 5;
    auto body = [&]() -> task<> {
        auto pairs = co_await connected_pairs(count);
        auto receives = [&](tcp_stream& from, std::size_t tag) -> task<> {
            std::uint64_t value = 0;
            const auto room = std::as_writable_bytes(std::span(&value, 1));
            if (tag % 2) {
                auto got = co_await from.recv_exactly(room);
                wrong += !got;
            } else {
                auto got = co_await from.recv();
                if (got && got->size() == sizeof value) std::memcpy(&value, got->bytes().data(), sizeof value);
            }
            wrong += value != tag;
            ++completions;
        };
        auto sends = [&](tcp_stream& to, std::size_t tag) -> task<> {
            const std::uint64_t value = tag;
            auto sent = co_await to.send_all(std::as_bytes(std::span(&value, 1)));
            wrong += sent.bytes() != sizeof value;
        };
        for (std::size_t round = 0; round < rounds; ++round) {
            task_group group;
            for (std::size_t i = 0; i < count; ++i) group.spawn(receives, std::ref(pairs[i].near), round * count + i);
            co_await turns(2);
            for (std::size_t i = 0; i < count; ++i) group.spawn(sends, std::ref(pairs[i].far), round * count + i);
            co_await group.join();
        }
    };
    plait::run(body(), context_options().queue_sizes(4, 8));
    CHECK(completions == rounds * count);
    CHECK(wrong == 0);
}

TEST_CASE("a thousand submitters share a submission queue of 4", "[reliability]") {
    const std::size_t count = pairs_at_once(scaled(1'000));
    std::size_t answers = 0;
    constexpr std::size_t rounds = 10;
    auto body = [&]() -> task<> {
        auto pairs = co_await connected_pairs(count);
        auto echoes = [](tcp_stream& on) -> task<> {
            while (auto got = co_await on.recv())
                if (!co_await on.send_all(got->bytes())) break;
        };
        auto asks = [&](tcp_stream& on, std::size_t who) -> task<> {
            for (std::size_t i = 0; i < rounds; ++i) {
                const auto question = sequence::at(who * 31 + i * 7, 100);
                std::array<std::byte, 100> room;
                const auto answer = std::span(room).first(question.size());
                // Two pieces: a gathered send needs more than an entry.
                const std::array<std::span<const std::byte>, 2> pieces = {question.first(question.size() / 2),
                                                                          question.subspan(question.size() / 2)};
                auto sent = co_await on.send_all(std::span<const std::span<const std::byte>>(pieces));
                auto got = co_await on.recv_exactly(answer);
                answers += sent && got && std::equal(answer.begin(), answer.end(), question.begin());
            }
            static_cast<void>(co_await on.shutdown_send());
        };
        task_group group;
        for (std::size_t i = 0; i < count; ++i) {
            group.spawn(echoes, std::ref(pairs[i].far));
            group.spawn(asks, std::ref(pairs[i].near), i);
        }
        co_await group.join();
    };
    plait::run(body(), context_options().queue_sizes(4, 4096));
    CHECK(answers == rounds * count);
}

// --- descriptors that are used again -------------------------------------------------------------------------------

TEST_CASE("no byte crosses over when a descriptor's number is used again", "[reliability]") {
    std::size_t reused = 0, wrong = 0;
    const std::size_t cycles = scaled(50'000); // 100,000 at PLAIT_TEST_SCALE=2
    auto body = [&]() -> task<> {
        tcp_listener listener = co_await support::loopback_listener();
        std::mt19937_64 random(9);
        plait::native_socket last = -1;
        std::optional<tcp_stream> old_far;
        auto receives = [](tcp_stream& from, bool pooled, std::vector<std::uint64_t>& tags) -> task<> {
            std::array<std::byte, 64> room;
            std::uint64_t tag = 0;
            for (;;) {
                if (pooled) {
                    auto got = co_await from.recv();
                    if (!got) break;
                    if (got->size() == sizeof tag) std::memcpy(&tag, got->bytes().data(), sizeof tag);
                } else {
                    auto got = co_await from.recv(room);
                    if (!got) break;
                    std::memcpy(&tag, room.data(), sizeof tag);
                }
                tags.push_back(tag);
            }
        };
        for (std::uint64_t i = 1; i <= cycles; ++i) {
            auto pair = co_await support::connected_pair(listener);
            reused += pair.near.native_handle() == last;
            last = pair.near.native_handle();
            task_group group;
            std::vector<std::uint64_t> tags;
            group.spawn(receives, std::ref(pair.near), random() % 2 == 0, std::ref(tags));
            co_await turns(random() % 3);
            if (old_far) { // speaks to a socket that is gone, whose number is another's now
                const std::uint64_t late = i - 1;
                static_cast<void>(co_await old_far->send(std::as_bytes(std::span(&late, 1))));
                support::reset_by(*old_far);
                old_far.reset();
            }
            auto sent = co_await pair.far.send(std::as_bytes(std::span(&i, 1)));
            wrong += !sent;
            if (random() % 2) co_await turns(random() % 3);
            pair.near = tcp_stream(); // with the receive pending
            co_await group.join();
            for (const std::uint64_t tag : tags) wrong += tag != i;
            old_far.emplace(std::move(pair.far));
        }
        if (old_far) support::reset_by(*old_far);
    };
    plait::run(body());
    CHECK(wrong == 0);
    CHECK(reused > cycles / 4);
}

// --- peers that are gone -------------------------------------------------------------------------------------------

TEST_CASE("writing to a closed peer is an error and never a signal", "[reliability]") {
    const auto before = std::signal(SIGPIPE, SIG_DFL);
    std::size_t right = 0, writes = 0;
    auto body = [&]() -> task<> {
        auto listener = co_await support::loopback_listener();
        const std::string_view text = "to nobody";
        const std::array<std::span<const std::byte>, 2> pieces = {plait::as_bytes(text), plait::as_bytes(text)};
        const std::span<const std::span<const std::byte>> list(pieces);
        while (writes < scaled(10'000)) {
            auto pair = co_await support::connected_pair(listener);
            if (writes % 400 < 200) support::reset_by(pair.far);
            else pair.far = tcp_stream();
            // A peer that has closed answers the first bytes with a reset; until that is here they are taken.
            for (bool failed = false; !failed;) failed = !co_await pair.near.send(text);
            plait::framed<tcp_stream&, plait::length_prefix> messages(pair.near, plait::length_prefix());
            for (unsigned i = 0; i < 200; ++i) {
                std::error_code error;
                if (i % 4 == 0) error = (co_await pair.near.send(text)).error();
                if (i % 4 == 1) error = (co_await pair.near.send_all(text)).error();
                if (i % 4 == 2) error = (co_await pair.near.send_all(list)).error();
                if (i % 4 == 3) {
                    static_cast<void>(co_await messages.write(text));
                    error = (co_await messages.flush()).error();
                }
                ++writes;
                right += error == std::errc::broken_pipe || error == std::errc::connection_reset;
            }
        }
    };
    plait::run(body());
    CHECK(right == writes);
    std::signal(SIGPIPE, before);
}

// --- short writes --------------------------------------------------------------------------------------------------

TEST_CASE("sends that small buffers cut anywhere arrive whole and in order", "[reliability]") {
    const std::size_t total = scaled(std::size_t{256} << 20); // 1 GiB at PLAIT_TEST_SCALE=4
    std::size_t received = 0, wrong = 0;
    auto body = [&]() -> task<> {
        auto pair = co_await support::connected_pair();
        static_cast<void>(pair.far.set_receive_buffer_size(128 * 1024));
        auto sends = [&]() -> task<> {
            std::mt19937_64 random(13);
            std::vector<std::span<const std::byte>> pieces;
            for (std::size_t done = 0; done < total;) {
                if (random() % 16 == 0)
                    static_cast<void>(pair.near.set_send_buffer_size(static_cast<int>(30'000 + random() % 150'000)));
                if (random() % 2) {
                    const auto some = sequence::at(done, std::min<std::size_t>(total - done, 1 + random() % 60'000));
                    auto sent = random() % 4 ? co_await pair.near.send_all(some) : co_await pair.near.send(some);
                    if (!sent) break;
                    done += *sent;
                } else {
                    pieces.clear();
                    std::size_t size = 0;
                    for (auto count = 1 + random() % 40; count > 0 && done + size < total; --count) {
                        pieces.push_back(sequence::at(done + size, std::min<std::size_t>(total - done - size,
                                                                                        random() % 20'000)));
                        size += pieces.back().size();
                    }
                    auto sent = co_await pair.near.send_all(std::span<const std::span<const std::byte>>(pieces));
                    wrong += sent.bytes() != size;
                    if (!sent) break;
                    done += size;
                }
            }
            static_cast<void>(co_await pair.near.shutdown_send());
        };
        auto receives = [&]() -> task<> {
            while (auto got = co_await pair.far.recv()) {
                wrong += !sequence::holds(received, got->bytes());
                received += got->size();
            }
        };
        co_await plait::when_all(sends(), receives());
    };
    plait::run(body());
    CHECK(received == total);
    CHECK(wrong == 0);
}

TEST_CASE("frames of many writers with small buffers never interleave", "[reliability]") {
    constexpr std::size_t writers = 8;
    const std::size_t frames = scaled(2'000);
    std::size_t right = 0, wrong = 0;
    auto body = [&]() -> task<> {
        auto pairs = co_await connected_pairs(writers);
        auto size_of = [](std::size_t who, std::size_t number) {
            std::mt19937_64 random(who * 1'000'003 + number);
            // Small ones are collected, large ones gathered; each kind must stay behind the other.
            return static_cast<std::size_t>(random() % 8 == 0 ? random() % 60'000 : random() % 200);
        };
        auto writes = [&](tcp_stream& to, std::size_t who) -> task<> {
            static_cast<void>(to.set_send_buffer_size(8192));
            plait::framed<tcp_stream&, plait::length_prefix> messages(to, plait::length_prefix());
            std::mt19937_64 random(who);
            for (std::size_t i = 0; i < frames; ++i) {
                auto written = co_await messages.write(sequence::at((who + i) % 5'000, size_of(who, i)));
                wrong += !written;
                if (random() % 16 == 0) co_await plait::yield();
                if (random() % 64 == 0) wrong += !co_await messages.flush();
            }
            wrong += !co_await messages.close();
        };
        auto reads = [&](tcp_stream& from, std::size_t who) -> task<> {
            plait::framed<tcp_stream&, plait::length_prefix> messages(from, plait::length_prefix());
            std::size_t i = 0;
            for (;; ++i) {
                auto message = co_await messages.next();
                if (!message) {
                    wrong += message.error() != errc::end_of_stream;
                    break;
                }
                const auto expected = sequence::at((who + i) % 5'000, size_of(who, i));
                right += std::equal(message->begin(), message->end(), expected.begin(), expected.end());
            }
            static_cast<void>(co_await from.close());
        };
        task_group group;
        for (std::size_t i = 0; i < writers; ++i) {
            group.spawn(writes, std::ref(pairs[i].near), i);
            group.spawn(reads, std::ref(pairs[i].far), i);
        }
        co_await group.join();
    };
    plait::run(body());
    CHECK(right == writers * frames);
    CHECK(wrong == 0);
}

// --- streams that are cut inside a frame ---------------------------------------------------------------------------

TEST_CASE("a stream cut at any byte gives whole frames and then the right error", "[reliability]") {
    std::string wire;
    std::vector<std::size_t> ends{0};
    std::vector<std::string> frames;
    for (const std::size_t size : {0U, 1U, 5U, 0U, 40U}) {
        frames.emplace_back(size, static_cast<char>('a' + size % 26));
        wire += std::string(3, '\0') + static_cast<char>(size) + frames.back();
        ends.push_back(wire.size());
    }
    struct cut {
        std::size_t place;
        bool reset;
        bool late; ///< the reader waits before the bytes come
        std::size_t came = 0;
        bool right = true;
        std::error_code error{};
    };
    auto one = [&](tcp_listener& listener, cut& at) -> task<> {
        auto pair = co_await support::connected_pair(listener);
        auto reads = [&]() -> task<> {
            plait::framed<tcp_stream&, plait::length_prefix> messages(pair.near, plait::length_prefix());
            for (;;) {
                auto message = co_await messages.next();
                at.error = message.error();
                if (!message) break;
                at.right = at.right && at.came < frames.size() && plait::as_text(*message) == frames[at.came];
                ++at.came;
            }
        };
        task_group group;
        if (at.late) {
            group.spawn(reads());
            co_await turns(2);
        }
        if (at.place > 0) static_cast<void>(co_await pair.far.send_all(std::string_view(wire).substr(0, at.place)));
        if (at.place % 2) co_await turns(2);
        if (at.reset) support::reset_by(pair.far);
        else static_cast<void>(co_await pair.far.shutdown_send());
        if (!at.late) group.spawn(reads());
        co_await group.join();
    };
    std::vector<cut> cuts;
    for (std::size_t place = 0; place <= wire.size(); ++place)
        for (const bool reset : {false, true})
            for (const bool late : {false, true}) cuts.push_back({place, reset, late});
    auto body = [&]() -> task<> {
        auto listener = co_await support::loopback_listener();
        for (cut& each : cuts) co_await one(listener, each);
    };
    plait::run(body());
    for (const cut& each : cuts) {
        INFO("cut at " << each.place << (each.reset ? " by a reset: " : ": ") << each.error.message());
        const auto boundary = std::find(ends.begin(), ends.end(), each.place);
        CHECK(each.right);
        if (each.reset) {
            CHECK(each.error == std::errc::connection_reset);
            continue; // a reset may overtake bytes
        }
        const auto whole = std::upper_bound(ends.begin(), ends.end(), each.place) - ends.begin() - 1;
        CHECK(each.came == static_cast<std::size_t>(whole));
        CHECK(each.error == (boundary == ends.end() ? errc::truncated_frame : errc::end_of_stream));
    }
}

TEST_CASE("draining waits for the rest of what recv_exactly has begun", "[reliability]") {
    for (const bool before : {false, true}) {
        plait::io_context context;
        std::string heard;
        std::error_code error;
        auto body = [&]() -> task<> {
            auto listener = co_await support::loopback_listener();
            support::plain_client client(listener.local_endpoint()->port());
            bool here = false;
            auto session = [&](tcp_stream stream) -> task<> {
                here = true;
                // Begun before the drain, or during it with a part there already.
                if (!before) co_await turns(20);
                std::array<std::byte, 8> room;
                auto got = co_await stream.recv_exactly(room);
                heard = plait::as_text(std::span(room).first(got.bytes()));
                error = got.error();
                auto next = co_await stream.recv_exactly(room);
                CHECK(next.error() == errc::draining);
                static_cast<void>(co_await stream.send_all("bye"));
            };
            task_group group;
            auto serves = [&]() -> task<> {
                auto served = co_await plait::serve(std::move(listener), session);
                CHECK(served.error() == std::error_code());
            };
            group.spawn(serves());
            client.send("abc");
            while (!here) co_await plait::yield();
            co_await turns(4);
            context.request_drain();
            co_await turns(30);
            client.send("defgh");
            while (heard.empty()) co_await plait::yield();
            client.finish();
            co_await group.join();
            CHECK(client.receive(3) == "bye");
        };
        context.run(body());
        CHECK(heard == "abcdefgh");
        CHECK(error == std::error_code());
    }
}

// --- memory follows what was received ------------------------------------------------------------------------------

TEST_CASE("a header that claims the maximum costs little memory", "[reliability]") {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    SKIP("a sanitizer's allocator is not asked by mallinfo2");
#endif
    auto live = [] {
        const struct mallinfo2 now = ::mallinfo2();
        return now.uordblks + now.hblkhd;
    };
    const std::size_t batch = std::min<std::size_t>(pairs_at_once(scaled(10'000)), 4'000); // and again, up to 10,000
    std::size_t connections = 0;
    auto body = [&]() -> task<> {
        auto listener = co_await support::loopback_listener();
        const std::uint16_t port = listener.local_endpoint()->port();
        auto session = [](tcp_stream stream) -> task<> {
            plait::framed messages{std::move(stream), plait::length_prefix{}};
            auto message = co_await messages.next();
            CHECK(message.error() == errc::truncated_frame);
        };
        while (connections < scaled(10'000)) {
            std::vector<support::plain_client> clients;
            clients.reserve(batch);
            task_group group;
            const std::size_t before = live();
            for (std::size_t i = 0; i < batch; ++i) {
                clients.emplace_back(port);
                clients.back().send(std::string_view("\x00\x80\x00\x00", 4)); // 8 MiB
                auto stream = co_await listener.accept();
                if (stream) group.spawn(session, std::move(*stream));
                co_await plait::yield();
            }
            co_await turns(5);
            CHECK(group.size() == batch);
            const std::size_t each = (live() - before) / batch;
            CAPTURE(each);
            CHECK(each <= 4096);
            connections += batch;
            for (auto& client : clients) client.close();
            co_await group.join();
        }
    };
    plait::run(body());
}

TEST_CASE("a write to freed memory would be found", "[reliability]") {
    support::freed_memory freed;
    void* block = plait::detail::allocate(100);
    plait::detail::deallocate(block, 100);
    static_cast<std::byte*>(block)[40] = std::byte{1};
    CHECK(freed.changed_bytes() == 1);
}
