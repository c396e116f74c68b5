// What the completion port promises: one packet for each call that waits, none for one that is done at once, and none
// for memory that is gone.

#include <plait/io_context.hpp>
#include <plait/task_group.hpp>
#include <plait/tcp.hpp>

#include "support/cancellable.hpp"
#include "support/freed_memory.hpp"
#include "support/plain_client.hpp"
#include "support/sockets.hpp"
#include "support/watchdog.hpp"

#include <catch2/catch_test_macros.hpp>
#include <catch2/generators/catch_generators.hpp>

#include <array>
#include <memory_resource>
#include <optional>
#include <vector>

using plait::task;
using plait::tcp_stream;
using support::turns;

namespace {

task<> receive_into(tcp_stream& stream, std::size_t& ended) {
    std::array<std::byte, 64> room; // in the frame
    static_cast<void>(co_await stream.recv(room));
    ++ended;
}

task<> send_more_than_fits(tcp_stream& stream, std::span<const std::byte> bytes, std::size_t& ended) {
    static_cast<void>(co_await stream.send_all(bytes));
    ++ended;
}

std::uint64_t completions(plait::io_context& context) { return context.metrics().completions; }

/// Counts what is in use.
class counting_resource final : public std::pmr::memory_resource {
  public:
    std::size_t in_use = 0;

  private:
    void* do_allocate(std::size_t bytes, std::size_t alignment) override {
        in_use += bytes;
        return std::pmr::new_delete_resource()->allocate(bytes, alignment);
    }
    void do_deallocate(void* block, std::size_t bytes, std::size_t alignment) override {
        in_use -= bytes;
        std::pmr::new_delete_resource()->deallocate(block, bytes, alignment);
    }
    bool do_is_equal(const memory_resource& other) const noexcept override { return this == &other; }
};

} // namespace

TEST_CASE("a thousand sockets destroyed beneath pending calls get no late packet", "[iocp]") {
    constexpr std::size_t rounds = 1000;
    std::size_t ended = 0;
    auto body = [&]() -> task<> {
        auto listener = co_await support::loopback_listener();
        const std::vector<std::byte> much(1024 * 1024, std::byte{'m'});
        support::freed_memory freed;
        for (std::size_t i = 0; i < rounds; ++i) {
            auto pair = co_await support::connected_pair(listener);
            pair.near.set_send_buffer_size(8 * 1024).value();
            const auto& here = co_await plait::detail::this_environment();
            {
                support::cancellable receiving(support::carry(receive_into(pair.near, ended)), here);
                support::cancellable sending(support::carry(send_more_than_fits(pair.near, much, ended)),
                                             here);
                if (i % 3 == 0) co_await turns(1);
                if (i % 2 == 0) receiving.cancel();
                if (i % 4 == 1) sending.cancel();
                if (i % 5 == 0) co_await turns(1);
                receiving.destroy();
                sending.destroy();
            }
            if (i % 2 == 0) support::reset_by(pair.near);
            pair.near = tcp_stream();
            if (i % 7 == 0) co_await turns(2);
        }
        co_await turns(10);
        CHECK(freed.changed_bytes() == 0);
    };
    plait::run(body());
    CHECK(ended < rounds); // most were destroyed where they waited
}

TEST_CASE("what is done at once brings no packet, and what waits brings one", "[iocp]") {
    constexpr std::uint64_t rounds = 1000;
    const bool adopted = GENERATE(false, true); // such a socket skips no packets
    auto body = [&]() -> task<> {
        plait::io_context& context = co_await plait::this_context();
        auto listener = co_await support::loopback_listener();
        auto pair = co_await support::connected_pair(listener);
        if (adopted) {
            support::plain_client client(listener.local_endpoint()->port());
            auto near = co_await listener.accept();
            auto far = co_await tcp_stream::from_native_handle(client.native_handle());
            support::must(near && far, "an adopted socket");
            client.leave();
            pair.near = std::move(*near);
            pair.far = std::move(*far);
        }
        static_cast<void>(co_await listener.close());
        co_await turns(5);
        std::array<std::byte, 10> room{};

        std::uint64_t before = completions(context), resumed = 0;
        for (std::uint64_t i = 0; i < rounds; ++i) {
            auto sent = co_await pair.near.send(room);
            resumed += sent.bytes() == room.size();
        }
        CHECK(completions(context) == before);
        for (std::uint64_t i = 0; i < rounds; ++i) {
            auto got = co_await pair.far.recv_exactly(room);
            resumed += got.bytes() == room.size();
        }
        CHECK(resumed == 2 * rounds);

        // Each of these waits before it is answered.
        co_await turns(5);
        before = completions(context);
        std::uint64_t heard = 0;
        for (std::uint64_t i = 0; i < rounds; ++i) {
            plait::task_group group;
            auto hear = [](tcp_stream& from, std::uint64_t& count) -> task<> {
                std::array<std::byte, 10> into;
                auto got = co_await from.recv_exactly(into);
                count += got.bytes() == into.size();
            };
            group.spawn(hear, std::ref(pair.far), std::ref(heard));
            co_await turns(2);
            static_cast<void>(co_await pair.near.send(room));
            co_await group.join();
        }
        CHECK(heard == rounds);
        CHECK(completions(context) - before == rounds);
    };
    plait::run(body());
}

TEST_CASE("sockets of AcceptEx and ConnectEx know their peers and can be shut down", "[iocp]") {
    auto body = []() -> task<> {
        auto listener = co_await support::loopback_listener();
        const plait::endpoint where = listener.local_endpoint().value();
        for (int i = 0; i < 50; ++i) {
            std::optional<tcp_stream> far;
            auto accepts = [&]() -> task<> {
                auto accepted = co_await listener.accept();
                if (accepted) far.emplace(std::move(*accepted));
            };
            plait::task_group group;
            group.spawn(accepts);
            co_await turns(static_cast<std::size_t>(i % 3)); // before or after the connection is there
            auto near = co_await tcp_stream::connect(where);
            co_await group.join();
            CHECK((near && far));
            if (!near || !far) break;
            CHECK(near->remote_endpoint().value() == where);
            CHECK(far->local_endpoint().value() == where);
            CHECK(far->remote_endpoint().value() == near->local_endpoint().value());
            for (tcp_stream* each : {&*near, &*far}) {
                auto ended = co_await each->shutdown_send();
                CHECK(ended.error() == std::error_code());
            }
            for (tcp_stream* each : {&*near, &*far}) {
                auto nothing = co_await each->recv();
                CHECK(nothing.error() == plait::errc::end_of_stream);
            }
        }
    };
    plait::run(body());
}

TEST_CASE("connections that wait for bytes hold no buffer", "[iocp]") {
    counting_resource memory;
    auto body = [&]() -> task<> {
        auto listener = co_await support::loopback_listener();
        std::vector<support::stream_pair> pairs;
        std::size_t ended = 0;
        auto wait = [](tcp_stream& stream, std::size_t& count) -> task<> {
            for (;;) {
                auto got = co_await stream.recv();
                if (!got) break;
                ++count;
            }
        };
        plait::task_group group;
        for (unsigned i = 0; i < 200; ++i) pairs.push_back(co_await support::connected_pair(listener));
        for (auto& pair : pairs) group.spawn(wait, std::ref(pair.near), std::ref(ended));
        co_await turns(3);
        for (auto& pair : pairs) static_cast<void>(co_await pair.far.send_all("once"));
        while (ended < pairs.size()) co_await plait::yield();
        co_await turns(3);
        CHECK(memory.in_use <= 2 * 64 * 1024); // the block that is being filled, and perhaps a spare one
        for (auto& pair : pairs) pair.far = tcp_stream();
        co_await group.join();
    };
    plait::run(body(), plait::context_options().memory_resource(&memory));
    CHECK(memory.in_use == 0);
}
