#pragma once
/// A server under test: what its sessions saw, and clients beside it.
///
///     auto session = [&](plait::tcp_stream stream) { return support::echo_frames(std::move(stream), seen); };
///     auto client = [&](plait::endpoint where) -> plait::task<> { … co_await support::request_drain(); };
///     CHECK(support::run_server(session, plait::serve_options(), client));

#include <plait/framing.hpp>
#include <plait/io_context.hpp>
#include <plait/serve.hpp>
#include <plait/task_group.hpp>

#include "support/streams.hpp"

#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

namespace support {

inline plait::task<plait::tcp_listener> listen() {
    auto listener = co_await plait::tcp_listener::bind({"127.0.0.1", 0});
    co_return std::move(listener).value();
}

inline plait::task<plait::tcp_stream> connect(plait::endpoint to) {
    auto stream = co_await plait::tcp_stream::connect(to);
    co_return std::move(stream).value();
}

inline std::string length_framed(std::string_view payload) {
    std::string text(4, '\0');
    text[3] = static_cast<char>(payload.size());
    return text.append(payload);
}

/// What a session saw last, and how many there were.
struct sessions_seen {
    int started = 0;
    int live = 0;
    int most = 0;
    std::vector<std::error_code> ends;

    void start() {
        ++started;
        most = std::max(most, ++live);
    }
    void end(std::error_code error) {
        --live;
        ends.push_back(error);
    }
};

/// Answers each frame with itself.
inline plait::task<> echo_frames(plait::tcp_stream stream, sessions_seen& seen) {
    seen.start();
    plait::framed messages{std::move(stream), plait::length_prefix{}};
    std::error_code error;
    while (!error) {
        auto message = co_await messages.next();
        error = message.error();
        if (!error) error = (co_await messages.write(*message)).error();
    }
    seen.end(error);
}

/// Runs `client(listener's endpoint)` beside serve(); gives serve's result.
template <class Session, class Client>
plait::task<plait::io_result<void>> serve_beside(plait::tcp_listener listener, Session session,
                                                 plait::serve_options options, Client client) {
    const plait::endpoint where = listener.local_endpoint().value();
    plait::io_result<void> result;
    auto serving = [&]() -> plait::task<> {
        result = co_await plait::serve(std::move(listener), session, options);
    };
    auto calling = [&]() -> plait::task<> { co_await client(where); };
    plait::task_group both;
    both.spawn(serving);
    both.spawn(calling);
    co_await both.join();
    co_return result;
}

/// The whole of it on a context of its own.
template <class Session, class Client>
plait::io_result<void> run_server(Session session, plait::serve_options options, Client client,
                                  plait::context_options context_options = {}) {
    plait::io_context context(std::move(context_options));
    auto body = [&]() -> plait::task<plait::io_result<void>> {
        auto listener = co_await listen();
        auto result = co_await serve_beside(std::move(listener), session, options, client);
        co_return result;
    };
    return context.run(body());
}

inline plait::task<> request_drain() {
    plait::io_context& context = co_await plait::this_context();
    context.request_drain();
}

inline plait::task<> check_received(plait::tcp_stream& stream, std::string expected) {
    const std::string got = co_await receive_text(stream, expected.size());
    CHECK(got == expected);
}

/// One frame there and back, so that the session is under way.
inline plait::task<> check_exchange(plait::tcp_stream& stream, std::string_view payload) {
    const std::string frame = length_framed(payload);
    auto sent = co_await stream.send_all(frame);
    CHECK(sent);
    co_await check_received(stream, frame);
}

} // namespace support
