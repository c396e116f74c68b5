/// Leases: who holds a buffer, for how long, and that nobody else is stopped by it.
#include <plait/lease.hpp>
#include <plait/plait.hpp>

#include "support/scale.hpp"
#include "support/sockets.hpp"
#include "support/watchdog.hpp"

#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <array>
#include <deque>
#include <memory_resource>
#include <new>
#include <optional>
#include <random>
#include <string>
#include <vector>

using plait::context_options;
using plait::errc;
using plait::lease;
using plait::task;
using plait::task_group;
using plait::tcp_stream;
using support::scaled;
using support::stream_hash;
using support::turns;

namespace {

/// A block that counts how often it was given back.
struct counted_block : plait::detail::buffer_block {
    counted_block() {
        release = [](plait::detail::buffer_block& block) noexcept {
            ++static_cast<counted_block&>(block).released;
        };
    }
    int released = 0;
    std::array<std::byte, 8> bytes{};
};

/// Memory for a context, with a count of what is out.
class counting_resource final : public std::pmr::memory_resource {
  public:
    std::size_t live = 0;
    std::size_t peak = 0;
    std::size_t allocations = 0;

  private:
    void* do_allocate(std::size_t bytes, std::size_t alignment) override {
        ++allocations;
        live += bytes;
        peak = std::max(peak, live);
        return std::pmr::new_delete_resource()->allocate(bytes, alignment);
    }
    void do_deallocate(void* block, std::size_t bytes, std::size_t alignment) override {
        live -= bytes;
        std::pmr::new_delete_resource()->deallocate(block, bytes, alignment);
    }
    bool do_is_equal(const memory_resource& other) const noexcept override { return this == &other; }
};

/// Sends `count` bytes of a seeded sequence in pieces of random size, then ends the stream.
task<> send_sequence(tcp_stream& to, std::uint64_t seed, std::size_t count, std::size_t longest_piece) {
    support::byte_source bytes(seed);
    std::mt19937_64 random(seed);
    std::vector<std::byte> piece(longest_piece);
    for (std::size_t done = 0; done < count;) {
        const std::size_t size = std::min(count - done, 1 + random() % longest_piece);
        bytes.fill(std::span(piece).first(size));
        auto sent = co_await to.send_all(std::span(piece).first(size));
        if (!sent) break;
        done += size;
        if (random() % 4 == 0) co_await plait::yield();
    }
    static_cast<void>(co_await to.shutdown_send());
}

std::uint64_t hash_of_sequence(std::uint64_t seed, std::size_t count) {
    support::byte_source bytes(seed);
    stream_hash hash;
    std::vector<std::byte> piece(4096);
    for (std::size_t done = 0; done < count; done += piece.size()) {
        piece.resize(std::min(piece.size(), count - done));
        bytes.fill(piece);
        hash.add(piece);
    }
    return hash.value();
}

/// Receives to the end with all three verbs, mixed at random, and now and then cancels one. Holds up to `held`
/// leases at a time.
task<> receive_mixed(tcp_stream& from, std::uint64_t seed, std::size_t held, stream_hash& hash,
                     bool cancels) {
    std::mt19937_64 random(seed);
    std::deque<lease> leases;
    std::vector<std::byte> room(9000);
    for (;;) {
        std::error_code error;
        const std::uint64_t how = random() % 3;
        const std::span<std::byte> part = std::span(room).first(1 + random() % room.size());
        const bool cancelled = cancels && random() % 8 == 0;
        const auto limit = cancelled ? std::chrono::microseconds(random() % 50) : std::chrono::hours(1);
        if (how == 0) {
            auto got = co_await plait::with_timeout(from.recv(), limit);
            error = got.error();
            if (got) {
                hash.add(got->bytes());
                leases.push_back(std::move(*got));
            }
        } else if (how == 1) {
            auto got = co_await plait::with_timeout(from.recv(part), limit);
            error = got.error();
            hash.add(part.first(got.bytes()));
        } else {
            auto got = co_await plait::with_timeout(from.recv_exactly(part), limit);
            error = got.error();
            hash.add(part.first(got.bytes()));
        }
        while (leases.size() > held) {
            if (random() % 2)
                leases.pop_front();
            else
                leases.pop_back();
        }
        if (error == errc::end_of_stream || error == errc::truncated_frame) break;
        if (error && error != errc::timed_out) {
            FAIL_CHECK(error.message());
            break;
        }
    }
}

task<> mixed_session(plait::tcp_listener& listener, std::uint64_t seed, std::size_t bytes, std::size_t held,
                     bool cancels) {
    auto pair = co_await support::connected_pair(listener);
    stream_hash hash;
    task_group group;
    group.spawn(send_sequence, std::ref(pair.far), seed, bytes, std::size_t{20'000});
    group.spawn(receive_mixed, std::ref(pair.near), seed, held, std::ref(hash), cancels);
    co_await group.join();
    CHECK(hash.count() == bytes);
    CHECK(hash.value() == hash_of_sequence(seed, bytes));
}

/// Sessions side by side; one after another connects, so that accepted streams are matched to their peers.
task<> mixed_sessions(std::size_t count, std::size_t bytes, std::size_t held, bool cancels) {
    std::deque<plait::tcp_listener> listeners;
    task_group group;
    for (std::size_t i = 0; i < count; ++i) {
        listeners.push_back(co_await support::loopback_listener());
        group.spawn(mixed_session, std::ref(listeners.back()), i + 1, bytes, held, cancels);
    }
    co_await group.join();
}

/// Sends and receives `size` bytes of an own sequence, and adds the leases to `held`.
task<> receive_into(support::stream_pair& pair, std::size_t size, std::uint64_t seed,
                    std::vector<lease>& held) {
    std::vector<std::byte> piece(size);
    support::byte_source(seed).fill(piece);
    static_cast<void>(co_await pair.far.send_all(piece));
    for (std::size_t came = 0; came < size;) {
        auto got = co_await pair.near.recv();
        support::must(got.has_value(), "recv");
        const auto expected = std::span(piece).subspan(came, got->size());
        CHECK(std::ranges::equal(got->bytes(), expected));
        came += got->size();
        held.push_back(std::move(*got));
    }
}

/// Whether these leases, taken together, still hold what receive_into received with the seeds 1, 2, ...
bool hold_their_bytes(const std::vector<lease>& held, std::size_t size_of_each) {
    std::vector<std::byte> all, expected(size_of_each);
    for (const lease& each : held) all.insert(all.end(), each.bytes().begin(), each.bytes().end());
    for (std::size_t i = 0; i * size_of_each < all.size(); ++i) {
        support::byte_source(i + 1).fill(expected);
        if (!std::ranges::equal(std::span(all).subspan(i * size_of_each, size_of_each), expected))
            return false;
    }
    return true;
}

/// A session holds `most` blocks' worth of leases, gives them up, and goes on with small messages.
task<> hold_many_then_few(counting_resource& memory, unsigned first, unsigned most, std::size_t block) {
    constexpr std::size_t message = 1000;
    auto pair = co_await support::connected_pair();
    std::vector<lease> held, brief;
    for (std::uint64_t round = 0; round < 3; ++round) {
        held.clear();
        for (std::size_t i = 0; i * message < most * block; ++i)
            co_await receive_into(pair, message, i + 1, held);
        CHECK(memory.live >= most * block / 2); // that much is held in pooled buffers
        CHECK(memory.live <= most * block);
        CHECK(hold_their_bytes(held, message));
        std::mt19937_64 random(round);
        std::ranges::shuffle(held, random);
        while (!held.empty()) { // some end, some come
            held.resize(held.size() - std::min<std::size_t>(held.size(), random() % 8));
            co_await receive_into(pair, message, random(), brief);
            brief.clear();
        }
        for (std::size_t i = 0; i < 5 * most * block / message; ++i) {
            co_await receive_into(pair, message, i, brief);
            brief.clear();
        }
        CHECK(memory.live <= (std::max(first, 4U) + 1) * block);
    }
}

} // namespace

// --- the object ----------------------------------------------------------------------------------------------------

TEST_CASE("a lease gives its buffer back once", "[lease]") {
    counted_block block;
    {
        lease one(block.bytes.data(), 5, &block);
        CHECK(one.size() == 5);
        CHECK(one.bytes().data() == block.bytes.data());
        one.reset();
        CHECK(block.released == 1);
        CHECK(one.bytes().empty());
        one.reset();
    }
    CHECK(block.released == 1);
}

TEST_CASE("a moved lease takes the buffer along, and an assigned one gives back what it held", "[lease]") {
    counted_block first, second;
    {
        lease one(first.bytes.data(), 3, &first);
        lease two(std::move(one));
        CHECK(one.bytes().empty());
        CHECK(two.size() == 3);
        lease three(second.bytes.data(), 4, &second);
        three = std::move(two);
        CHECK(second.released == 1);
        CHECK(first.released == 0);
        CHECK(three.size() == 3);
        lease& same = three;
        three = std::move(same);
        CHECK(three.size() == 3);
        CHECK(first.released == 0);
    }
    CHECK(first.released == 1);
    CHECK(second.released == 1);
    const lease nothing;
    CHECK(nothing.bytes().empty());
}

// --- lifetime ------------------------------------------------------------------------------------------------------

TEST_CASE("a lease outlives its stream and its context", "[lease]") {
    counting_resource memory; // outlives the leases, too
    {
        std::vector<lease> kept;
        auto body = [&]() -> task<> {
            auto pair = co_await support::connected_pair();
            for (int i = 0; i < 10; ++i) {
                const std::string text = "message " + std::to_string(i);
                static_cast<void>(co_await pair.far.send_all(text));
                auto got = co_await pair.near.recv();
                if (got) kept.push_back(std::move(*got));
            }
        };
        plait::run(body(), context_options().memory_resource(&memory));
        REQUIRE(kept.size() == 10);
        for (std::size_t i = 0; i < kept.size(); ++i) {
            CHECK(plait::as_text(kept[i].bytes()) == "message " + std::to_string(i));
            kept[i].bytes()[0] = std::byte{'M'}; // still ours to write
        }
    }
    CHECK(memory.live == 0);
}

TEST_CASE("what was received and never asked for is given back with its stream", "[lease]") {
    counting_resource memory;
    auto body = [&]() -> task<> {
        for (std::size_t i = 0; i < scaled(100); ++i) {
            auto pair = co_await support::connected_pair();
            static_cast<void>(co_await pair.far.send_all("one"));
            auto got = co_await pair.near.recv();
            CHECK(got.bytes() == 3);
            static_cast<void>(co_await pair.far.send_all("two"));
            co_await turns(i % 4); // the driver may have it by now
        }
    };
    plait::run(body(), context_options().memory_resource(&memory).buffer_pool(2, 4, 4096));
    CHECK(memory.live == 0);
    CHECK(memory.peak <= 4 * 4096);
}

TEST_CASE("a lease in a frame that is cancelled or done returns its buffer to the pool", "[lease]") {
    counting_resource memory;
    auto body = [&]() -> task<> {
        auto pair = co_await support::connected_pair();
        for (std::size_t i = 0; i < scaled(2'000); ++i) { // 10,000 at PLAIT_TEST_SCALE=5
            task_group group;
            auto receives = [](tcp_stream& from) -> task<> {
                while (auto got = co_await from.recv()) {
                }
            };
            group.spawn(receives, std::ref(pair.near));
            static_cast<void>(co_await pair.far.send_all("some bytes"));
            co_await turns(i % 3);
            group.request_stop();
            co_await group.join();
        }
    };
    plait::run(body(), context_options().memory_resource(&memory).buffer_pool(1, 2, 4096));
    CHECK(memory.live == 0);
}

// --- nobody is stopped by what another holds -----------------------------------------------------------------------

TEST_CASE("leases that one session holds do not stop another, whatever the size of the pool", "[lease]") {
    for (const unsigned pool : {1U, 4U}) {
        auto body = [&]() -> task<> {
            auto listener = co_await support::loopback_listener();
            auto hoarder = co_await support::connected_pair(listener);
            auto other = co_await support::connected_pair(listener);
            std::vector<lease> hoard;
            const std::string piece(1000, 'h');
            std::array<std::byte, 100> room;
            for (std::size_t i = 0; i < scaled(100); ++i) {
                static_cast<void>(co_await hoarder.far.send_all(piece));
                std::size_t came = 0;
                while (came < piece.size()) {
                    auto got = co_await hoarder.near.recv();
                    if (!got) break;
                    came += got->size();
                    hoard.push_back(std::move(*got));
                }
                CHECK(came == piece.size());
                static_cast<void>(co_await other.far.send_all("for the other"));
                if (i % 2) {
                    auto got = co_await other.near.recv();
                    CHECK(got.bytes() == 13);
                } else { // a buffer of the caller's, though earlier leases came by the pool
                    auto got = co_await other.near.recv(room);
                    CHECK(got.bytes() == 13);
                    CHECK(plait::as_text(std::span(room).first(got.bytes())) == "for the other");
                }
            }
            std::size_t held = 0;
            for (const lease& each : hoard) {
                held += each.size();
                CHECK(each.bytes()[0] == std::byte{'h'});
            }
            CHECK(held == scaled(100) * piece.size());
        };
        plait::run(body(), context_options().buffer_pool(1, pool, 4096));
    }
}

#if PLAIT_HAS_EXCEPTIONS

TEST_CASE("leases are given although the memory resource gives nothing more", "[lease]") {
    struct limited_memory : std::pmr::memory_resource {
        void* do_allocate(std::size_t bytes, std::size_t alignment) override {
            if (left == 0) throw std::bad_alloc();
            --left;
            return std::pmr::new_delete_resource()->allocate(bytes, alignment);
        }
        void do_deallocate(void* block, std::size_t bytes, std::size_t alignment) override {
            std::pmr::new_delete_resource()->deallocate(block, bytes, alignment);
        }
        bool do_is_equal(const memory_resource& other) const noexcept override { return this == &other; }
        std::size_t left = 0;
    };
    auto body = []() -> task<> {
        auto listener = co_await support::loopback_listener();
        auto pair = co_await support::connected_pair(listener);
        std::vector<lease> held;
        const std::string text(100'000, 'x');
        for (int i = 0; i < 4; ++i) {
            auto sent = co_await pair.far.send_all(text);
            CHECK(sent);
            for (std::size_t got = 0; got < text.size();) {
                auto piece = co_await pair.near.recv();
                CHECK(piece);
                if (!piece) co_return;
                got += piece->size();
                held.push_back(std::move(*piece));
            }
        }
    };
    for (std::size_t blocks : {0U, 1U, 3U}) {
        limited_memory memory;
        memory.left = blocks;
        plait::run(body(), plait::context_options().memory_resource(&memory));
    }
}

#endif

TEST_CASE("receives into the caller's buffer, too, go on when the pool is held by others", "[lease]") {
    auto body = [&]() -> task<> {
        auto listener = co_await support::loopback_listener();
        auto hoarder = co_await support::connected_pair(listener);
        auto other = co_await support::connected_pair(listener);
        // `other` receives by the pool once, and then waits there when the pool runs out.
        static_cast<void>(co_await other.far.send_all("once"));
        auto once = co_await other.near.recv();
        CHECK(once.bytes() == 4);
        if (once) once->reset();
        std::vector<lease> hoard;
        std::array<std::byte, 64> room;
        const std::string piece(4096, 'h');
        for (std::size_t i = 0; i < scaled(50); ++i) {
            task_group group;
            std::error_code error;
            auto receives = [](tcp_stream& from, std::span<std::byte> into, std::error_code& out) -> task<> {
                auto got = co_await from.recv_exactly(into);
                out = got.error();
            };
            group.spawn(receives, std::ref(other.near), std::span(room), std::ref(error));
            static_cast<void>(co_await hoarder.far.send_all(piece));
            std::size_t came = 0;
            while (came < piece.size()) {
                auto got = co_await hoarder.near.recv();
                if (!got) break;
                came += got->size();
                hoard.push_back(std::move(*got));
            }
            std::array<std::byte, 64> message;
            support::byte_source(i).fill(message);
            static_cast<void>(co_await other.far.send_all(std::span(message).first(20)));
            co_await turns(i % 3);
            static_cast<void>(co_await other.far.send_all(std::span(message).subspan(20)));
            co_await group.join();
            CHECK(error == std::error_code());
            CHECK(room == message);
        }
    };
    plait::run(body(), context_options().buffer_pool(1, 1, 4096));
}

TEST_CASE("buffers run out under many connections, and every byte arrives", "[lease]") {
    // 1 MiB on each at PLAIT_TEST_SCALE=5
    counting_resource memory;
    plait::run(mixed_sessions(256, scaled(210'000), 3, false),
               context_options().memory_resource(&memory).buffer_pool(1, 4, 4096));
    CHECK(memory.live == 0);
    CHECK(memory.peak <= 4 * 4096);
}

// --- the pool's size -----------------------------------------------------------------------------------------------

TEST_CASE("a pool that many leases made grow comes back near its first size", "[lease]") {
    struct pool {
        unsigned first, most;
        std::size_t block;
    };
    for (const pool each : {pool{4, 300, 4096}, pool{16, 64, 16'384}, pool{1, 4, 4096}, pool{1, 1, 4096}}) {
        CAPTURE(each.first, each.most, each.block);
        counting_resource memory;
        plait::run(hold_many_then_few(memory, each.first, each.most, each.block),
                   context_options().memory_resource(&memory).buffer_pool(each.first, each.most, each.block));
        CHECK(memory.live == 0);
    }
}

TEST_CASE("a pool that has shrunk leaves its last leases alone when the context ends", "[lease]") {
    constexpr std::size_t block = 4096;
    counting_resource memory;
    std::vector<lease> kept;
    auto body = [&]() -> task<> {
        co_await hold_many_then_few(memory, 2, 100, block);
        auto pair = co_await support::connected_pair();
        for (std::size_t i = 0; i < 20; ++i) co_await receive_into(pair, 1000, i + 1, kept);
    };
    plait::run(body(), context_options().memory_resource(&memory).buffer_pool(2, 100, block));
    CHECK(hold_their_bytes(kept, 1000));
    // What no lease refers to is gone already; each may have a block of its own.
    CHECK(memory.live <= (kept.size() + 4) * block);
    while (!kept.empty()) {
        kept.pop_back();
        CHECK((memory.live == 0) == kept.empty());
    }
}

TEST_CASE("a load that comes in waves allocates no buffers once the pool has its size", "[lease]") {
    counting_resource memory;
    auto body = [&]() -> task<> {
        plait::io_context& context = co_await plait::this_context();
        // Of the other drivers' pools spare buffers can be freed at any time, and all but four are.
        if (context.backend() != plait::backend::io_uring) co_return;
        auto pair = co_await support::connected_pair();
        std::vector<lease> held;
        std::size_t before = 0;
        for (std::size_t wave = 0; wave < scaled(60); ++wave) {
            if (wave == 5) before = memory.allocations;
            for (std::size_t i = 0; i < 160; ++i) co_await receive_into(pair, 1000, i + 1, held);
            CHECK(hold_their_bytes(held, 1000));
            held.clear();
        }
        if (scaled(60) > 5) CHECK(memory.allocations == before);
    };
    plait::run(body(), context_options().memory_resource(&memory).buffer_pool(4, 100, 4096));
    CHECK(memory.live == 0);
}

TEST_CASE("connections that find the pool empty together make it grow by what they need", "[lease]") {
    constexpr std::size_t count = 64, message = 1000, block = 4096;
    counting_resource memory;
    auto body = [&]() -> task<> {
        auto listener = co_await support::loopback_listener();
        std::deque<support::stream_pair> pairs;
        for (std::size_t i = 0; i < count; ++i) pairs.push_back(co_await support::connected_pair(listener));
        std::vector<lease> held;
        for (int round = 0; round < 2; ++round) {
            auto receives = [&](support::stream_pair& pair) -> task<> {
                for (std::size_t came = 0; came < message; came += held.back().size()) {
                    auto got = co_await pair.near.recv();
                    support::must(got.has_value(), "recv");
                    held.push_back(std::move(*got));
                }
            };
            const std::vector<std::byte> bytes(message);
            auto sends = [&](support::stream_pair& pair) -> task<> {
                static_cast<void>(co_await pair.far.send_all(bytes));
            };
            task_group group;
            for (support::stream_pair& pair : pairs) group.spawn(receives, std::ref(pair));
            co_await plait::yield(); // all of them wait before anything is sent
            for (support::stream_pair& pair : pairs) group.spawn(sends, std::ref(pair));
            co_await group.join();
            held.clear();
        }
    };
    plait::run(body(), context_options().memory_resource(&memory).buffer_pool(1, 1000, block));
    CHECK(memory.peak >= count * message);
    CHECK(memory.peak <= 2 * count * block); // before Linux 6.12 each receive takes a whole block
}

// --- one order of bytes for all verbs ------------------------------------------------------------------------------

TEST_CASE("receives of all kinds mixed on one stream keep the order of the bytes", "[lease]") {
    plait::run(mixed_sessions(4, scaled(2'000'000), 5, false));
    plait::run(mixed_sessions(4, scaled(1'000'000), 5, false), context_options().buffer_pool(1, 1, 4096));
    plait::run(mixed_sessions(4, scaled(1'000'000), 0, false), context_options().buffer_pool(2, 3, 512));
}

TEST_CASE("cancelled receives of all kinds lose no byte and keep their order", "[lease]") {
    plait::run(mixed_sessions(4, scaled(2'000'000), 5, true));
    plait::run(mixed_sessions(4, scaled(1'000'000), 5, true), context_options().buffer_pool(1, 1, 4096));
    plait::run(mixed_sessions(4, scaled(1'000'000), 0, true), context_options().queue_sizes(4, 8));
}

// --- back-pressure -------------------------------------------------------------------------------------------------

TEST_CASE("a reader that stops makes its peer wait, not memory grow", "[lease]") {
    counting_resource memory;
    auto body = [&]() -> task<> {
        auto pair = co_await support::connected_pair();
        static_cast<void>(co_await pair.far.send_all("first"));
        auto first = co_await pair.near.recv();
        CHECK(first.bytes() == 5);
        first->reset();
        const std::size_t filled = co_await support::fill(pair.far, std::byte{'x'});
        co_await turns(100);
        const std::size_t then = memory.live;
        task_group group;
        bool left = false;
        auto sends = [](tcp_stream& to, bool& done) -> task<> {
            const std::vector<std::byte> much(8 << 20, std::byte{'y'});
            static_cast<void>(co_await to.send_all(much));
            done = true;
        };
        group.spawn(sends, std::ref(pair.far), std::ref(left));
        co_await turns(1000);
        CHECK(!left);
        CHECK(memory.live == then);
        CHECK(memory.live < std::size_t{4} << 20);
        // Whoever goes on reading gets everything.
        std::size_t came = 0;
        while (came < filled + (std::size_t{8} << 20)) {
            auto got = co_await pair.near.recv();
            if (!got) break;
            came += got->size();
        }
        CHECK(came == filled + (std::size_t{8} << 20));
        co_await group.join();
    };
    plait::run(body(), context_options().memory_resource(&memory));
    CHECK(memory.live == 0);
}
