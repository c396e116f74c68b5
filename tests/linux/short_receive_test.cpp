// What a receive that brought less than there was room for does not mean, and what closing a descriptor does not do.

#include <plait/bytes.hpp>
#include <plait/io_context.hpp>
#include <plait/tcp.hpp>
#include <plait/time.hpp>
#include <plait/unix.hpp>

#include "support/sockets.hpp"
#include "support/watchdog.hpp"

#include <catch2/catch_test_macros.hpp>

#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <string>
#include <string_view>

using namespace std::chrono_literals;
using plait::task;

namespace {

int descriptor_of(const plait::detail::socket_handle& socket) {
    return static_cast<int>(socket.native_handle());
}

void send_now(int to, std::string_view text, int flags = 0) {
    CHECK(::send(to, text.data(), text.size(), flags) == static_cast<ssize_t>(text.size()));
}

/// With a descriptor in its company.
void send_with_descriptor(int to, std::string_view text, int passed) {
    iovec piece{const_cast<char*>(text.data()), text.size()};
    alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof passed)> control{};
    msghdr message{};
    message.msg_iov = &piece;
    message.msg_iovlen = 1;
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    cmsghdr* rights = CMSG_FIRSTHDR(&message);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(sizeof passed);
    std::memcpy(CMSG_DATA(rights), &passed, sizeof passed);
    CHECK(::sendmsg(to, &message, 0) == static_cast<ssize_t>(text.size()));
}

/// The verbs in turn, until that many bytes have come.
template <class S>
task<std::string> receive_by_all_verbs(S& from, std::size_t size) {
    std::string got;
    std::array<std::byte, 64> room;
    for (int verb = 0; got.size() < size; ++verb) {
        if (verb % 2 == 0) {
            auto some = co_await from.recv(room);
            if (!some) break;
            got += plait::as_text(std::span(room).first(*some));
        } else {
            auto piece = co_await from.recv();
            if (!piece) break;
            got += plait::as_text(piece->bytes());
        }
    }
    co_return got;
}

/// The system has been asked to watch it, and nothing is there.
template <class S>
task<> wait_in_vain(S& from) {
    std::array<std::byte, 8> room;
    auto nothing = co_await plait::with_timeout(from.recv(room), 2ms);
    CHECK(nothing.error() == plait::errc::timed_out);
}

} // namespace

TEST_CASE("a receive that stops at urgent data is followed by one that gets what stands behind it",
          "[short]") {
    auto body = []() -> task<> {
        auto listener = co_await support::loopback_listener();
        auto pair = co_await support::connected_pair(listener);
        co_await wait_in_vain(pair.near);
        for (int round = 0; round < 3; ++round) {
            send_now(descriptor_of(pair.far), "ab");
            send_now(descriptor_of(pair.far), "!", MSG_OOB);
            send_now(descriptor_of(pair.far), "cd");
            static_cast<void>(co_await plait::sleep_for(2ms)); // all of it is there before the first receive
            auto got = co_await receive_by_all_verbs(pair.near, 4);
            CHECK(got == "abcd");
        }
    };
    plait::run(body());
}

TEST_CASE("a receive that stops behind a passed descriptor is followed by one that gets the rest",
          "[short]") {
    auto body = []() -> task<> {
        const auto name = plait::unix_path::abstract("plait-short-receive-" + std::to_string(::getpid()));
        auto listener = co_await plait::unix_listener::bind(name);
        auto far = co_await plait::unix_stream::connect(name);
        auto near = co_await listener->accept();
        co_await wait_in_vain(*near);
        for (int round = 0; round < 3; ++round) {
            send_with_descriptor(descriptor_of(*far), "ab", 0);
            send_now(descriptor_of(*far), "cd");
            static_cast<void>(co_await plait::sleep_for(2ms));
            auto got = co_await receive_by_all_verbs(*near, 4);
            CHECK(got == "abcd");
        }
    };
    plait::run(body());
}

TEST_CASE("a closed stream hears no more of its socket, although somebody else has a copy of the descriptor",
          "[short]") {
    auto body = []() -> task<> {
        plait::io_context& context = co_await plait::this_context();
        auto listener = co_await support::loopback_listener();
        auto pair = co_await support::connected_pair(listener);
        co_await wait_in_vain(pair.near);
        const int copy = ::dup(descriptor_of(pair.near));
        pair.near = plait::tcp_stream();
        static_cast<void>(co_await plait::sleep_for(1ms));
        const auto before = context.metrics().completions;
        send_now(descriptor_of(pair.far), "to the copy");
        static_cast<void>(co_await plait::sleep_for(2ms));
        CHECK(context.metrics().completions == before);
        ::close(copy);
    };
    plait::run(body());
}
