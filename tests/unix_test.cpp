#include <plait/plait.hpp>
#include <plait/unix.hpp>

#include "support/cancellable.hpp"
#include "support/freed_memory.hpp"
#include "support/lacks.hpp"
#include "support/must.hpp"
#include "support/scale.hpp"
#include "support/sockets.hpp"
#include "support/system.hpp"
#include "support/watchdog.hpp"

#include <catch2/catch_test_macros.hpp>

#include <array>
#include <atomic>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <optional>
#include <string>
#include <vector>

using namespace std::chrono_literals;
using plait::as_text;
using plait::errc;
using plait::io_result;
using plait::task;
using plait::task_group;
using plait::unix_datagram;
using plait::unix_listener;
using plait::unix_path;
using plait::unix_stream;
using support::scaled;
using support::turns;

namespace {

template <class F>
void in_a_context(F body) {
    auto whole = [&]() -> task<> { co_await body(); };
    plait::run(whole());
}

/// A folder of this test's own, with a short name.
class folder {
  public:
    folder() {
        static std::atomic<unsigned> count{0};
        const auto now = std::chrono::steady_clock::now().time_since_epoch().count();
        path_ = std::filesystem::temp_directory_path() /
                ("plait-" + std::to_string(now) + '-' + std::to_string(++count));
        support::must(std::filesystem::create_directory(path_), "a folder for sockets");
    }
    folder(const folder&) = delete;
    folder& operator=(const folder&) = delete;
    ~folder() {
        std::error_code ignored;
        std::filesystem::remove_all(path_, ignored);
    }
    unix_path file(const char* name = "a") const { return unix_path((path_ / name).string()); }
    std::size_t files() const {
        std::size_t count = 0;
        for ([[maybe_unused]] const auto& each : std::filesystem::directory_iterator(path_)) ++count;
        return count;
    }

  private:
    std::filesystem::path path_;
};

std::filesystem::path as_file(const unix_path& name) { return {std::string(name.name())}; }
bool exists(const unix_path& name) {
    return std::filesystem::exists(std::filesystem::symlink_status(as_file(name)));
}
void rename(const unix_path& from, const unix_path& to) {
    std::filesystem::rename(as_file(from), as_file(to));
}

task<std::error_code> bind_error(unix_path where) {
    auto listener = co_await unix_listener::bind(where);
    co_return listener.error();
}
task<std::error_code> datagram_bind_error(unix_path where) {
    auto socket = co_await unix_datagram::bind(where);
    co_return socket.error();
}
task<std::error_code> connect_error(unix_path where) {
    auto stream = co_await unix_stream::connect(where);
    co_return stream.error();
}

#define NEEDS(what)                                                                                          \
    if (const std::string why = support::lacks_unix_##what(); !why.empty()) SKIP(why)

task<unix_listener> listening(unix_path where, int backlog = 128) {
    auto listener = co_await unix_listener::bind(where, backlog);
    support::must(listener.has_value(), "bind");
    co_return std::move(*listener);
}
task<unix_datagram> bound(unix_path where) {
    auto socket = co_await unix_datagram::bind(where);
    support::must(socket.has_value(), "bind");
    co_return std::move(*socket);
}

struct stream_pair {
    unix_stream near;
    unix_stream far;
};
task<stream_pair> connected_pair(unix_listener& listener, unix_path where) {
    auto near = co_await unix_stream::connect(where);
    support::must(near.has_value(), "connect");
    auto far = co_await listener.accept();
    support::must(far.has_value(), "accept");
    stream_pair pair;
    pair.near = std::move(*near);
    pair.far = std::move(*far);
    co_return std::move(pair);
}

/// Whether a word gets through to `where`, at whom `listener` listens.
task<bool> word_passes(unix_listener& listener, unix_path where) {
    auto pair = co_await connected_pair(listener, where);
    std::array<std::byte, 4> room;
    auto sent = co_await pair.near.send_all("word");
    auto heard = co_await pair.far.recv_exactly(room);
    co_return sent&& heard&& as_text(room) == "word";
}

struct letter {
    std::error_code error;
    std::string text;
    unix_path sender;
    bool truncated = false;
};
task<letter> next(unix_datagram& socket, std::size_t room = 2048) {
    std::vector<std::byte> buffer(room);
    auto received = co_await socket.recv_from(buffer);
    letter got;
    got.error = received.error();
    if (received) {
        got.text = as_text(std::span(buffer).first(received->bytes));
        got.sender = received->sender;
        got.truncated = received->truncated;
    }
    co_return got;
}
task<> post(unix_datagram& from, std::string text, unix_path to) {
    auto sent = co_await from.send_to(text, to);
    CHECK(sent.error() == std::error_code());
    CHECK(sent.bytes() == text.size());
}

} // namespace

// --- names and files -------------------------------------------------------------------------------------------------

TEST_CASE("bind and connect tell what is wrong with a path", "[unix]") {
    in_a_context([]() -> task<> {
        const unix_path too_long(std::string(300, 'x')), broken(std::string("a\0b", 3));
        for (const auto& [path, expected] : {std::pair(too_long, std::errc::filename_too_long),
                                             std::pair(broken, std::errc::invalid_argument)}) {
            const std::error_code listener = co_await bind_error(path);
            CHECK(listener == expected);
            const std::error_code datagram = co_await datagram_bind_error(path);
            CHECK(datagram == expected);
            const std::error_code stream = co_await connect_error(path);
            CHECK(stream == expected);
        }
        const std::error_code unnamed = co_await bind_error(unix_path());
        CHECK(unnamed == std::errc::invalid_argument);
    });
}

TEST_CASE("where the system has no Unix sockets, bind and connect say so", "[unix]") {
    if (support::lacks_unix_streams().empty()) SKIP("this system has them");
    in_a_context([]() -> task<> {
        const folder here;
        const std::error_code listener = co_await bind_error(here.file());
        CHECK(listener == std::errc::address_family_not_supported);
        const std::error_code stream = co_await connect_error(here.file());
        CHECK(stream == std::errc::address_family_not_supported);
        const std::error_code datagram = co_await datagram_bind_error(here.file());
        CHECK(datagram == std::errc::address_family_not_supported);
        CHECK(here.files() == 0);
    });
}

TEST_CASE("bind tells why the system refuses", "[unix]") {
    NEEDS(streams);
    in_a_context([]() -> task<> {
        const folder here;
        const std::error_code nowhere = co_await bind_error(here.file("no/such/folder"));
        CHECK(nowhere == std::errc::no_such_file_or_directory);
        auto listener = co_await listening(here.file());
        const std::error_code taken = co_await bind_error(here.file());
        CHECK(taken == std::errc::address_in_use);
        const bool passes = co_await word_passes(listener, here.file());
        CHECK(passes);
        CHECK_FALSE(support::is_inherited(listener.native_handle()));
    });
}

TEST_CASE("a file that is no socket is left alone", "[unix]") {
    NEEDS(streams);
    in_a_context([]() -> task<> {
        const folder here;
        std::ofstream(as_file(here.file())) << "precious";
        const std::error_code taken = co_await bind_error(here.file());
        CHECK(taken == std::errc::address_in_use);
        std::string kept;
        std::ifstream(as_file(here.file())) >> kept;
        CHECK(kept == "precious");
    });
}

TEST_CASE("a stale file is replaced", "[unix]") {
    NEEDS(streams);
    in_a_context([]() -> task<> {
        const folder here;
        {
            auto dead = co_await listening(here.file("dead"));
            rename(here.file("dead"), here.file()); // so that it is not removed
        }
        CHECK(exists(here.file()));
        const std::error_code refused = co_await connect_error(here.file());
        CHECK(refused == std::errc::connection_refused);
        auto listener = co_await listening(here.file());
        const bool passes = co_await word_passes(listener, here.file());
        CHECK(passes);
    });
}

TEST_CASE("a socket that somebody listens at is not replaced, also with a full backlog", "[unix]") {
    NEEDS(streams);
    in_a_context([]() -> task<> {
        const folder here;
        auto listener = co_await listening(here.file(), 0);
        std::vector<unix_stream> waiting;
        for (;;) {
            auto stream = co_await plait::with_timeout(unix_stream::connect(here.file()), 20ms);
            if (!stream) break;
            waiting.push_back(std::move(*stream));
        }
        CHECK(!waiting.empty());
        const std::error_code taken = co_await bind_error(here.file());
        CHECK(taken == std::errc::address_in_use);
        auto accepted = co_await listener.accept();
        CHECK(accepted.error() == std::error_code());
    });
}

TEST_CASE("the file is removed by close, and by the destructor", "[unix]") {
    NEEDS(streams);
    in_a_context([]() -> task<> {
        const folder here;
        {
            auto listener = co_await listening(here.file());
            CHECK(exists(here.file()));
            auto closed = co_await listener.close();
            CHECK(closed.error() == std::error_code());
            CHECK_FALSE(exists(here.file()));
        }
        {
            auto listener = co_await listening(here.file());
            unix_listener moved = std::move(listener);
            CHECK(exists(here.file()));
            CHECK(moved.is_open());
        }
        CHECK(here.files() == 0);
    });
}

TEST_CASE("a file that is another listener's by now is not removed", "[unix]") {
    NEEDS(streams);
    in_a_context([]() -> task<> {
        const folder here;
        auto first = co_await listening(here.file());
        std::filesystem::remove(as_file(here.file()));
        auto second = co_await listening(here.file());
        auto closed = co_await first.close();
        CHECK(closed.error() == std::error_code());
        CHECK(exists(here.file()));
        const bool passes = co_await word_passes(second, here.file());
        CHECK(passes);
    });
}

TEST_CASE("a listener may outlive its context, and its file goes with it", "[unix]") {
    NEEDS(streams);
    const folder here;
    {
        unix_listener listener;
        in_a_context([&]() -> task<> { listener = co_await listening(here.file()); });
        CHECK(exists(here.file()));
        in_a_context([&]() -> task<> {
            auto accepted = co_await listener.accept();
            CHECK(accepted.error() == std::errc::bad_file_descriptor);
        });
    }
    CHECK(here.files() == 0);
}

TEST_CASE("abstract names need no file", "[unix]") {
    NEEDS(abstract_names);
    in_a_context([]() -> task<> {
        const folder here;
        const unix_path name = unix_path::abstract(here.file().name());
        auto listener = co_await listening(name);
        CHECK(listener.local_path().value() == name);
        CHECK(here.files() == 0);
        const std::error_code taken = co_await bind_error(name);
        CHECK(taken == std::errc::address_in_use);
        const bool passes = co_await word_passes(listener, name);
        CHECK(passes);
        static_cast<void>(co_await listener.close());
        const std::error_code gone = co_await connect_error(name);
        CHECK(gone == std::errc::connection_refused);
        auto other =
            co_await listening(unix_path::abstract(std::string("\0zero", 5) + here.file().to_string()));
        CHECK(other.local_path()->name().substr(0, 5) == std::string("\0zero", 5));
    });
}

// --- streams ---------------------------------------------------------------------------------------------------------

TEST_CASE("a stream carries bytes both ways, and ends each way by itself", "[unix]") {
    NEEDS(streams);
    in_a_context([]() -> task<> {
        const folder here;
        auto listener = co_await listening(here.file());
        auto pair = co_await connected_pair(listener, here.file());
        CHECK(listener.local_path().value() == here.file());
        CHECK(pair.near.remote_path().value() == here.file());
        CHECK(pair.far.local_path().value() == here.file());
        CHECK(pair.near.local_path()->is_unnamed());
        CHECK(pair.far.remote_path()->is_unnamed());
        CHECK(pair.near.remote_endpoint().error() == std::errc::address_family_not_supported);
        CHECK(pair.far.local_endpoint().error() == std::errc::address_family_not_supported);
        CHECK(pair.near.set_send_buffer_size(64 * 1024));
        CHECK(pair.near.send_buffer_size().value() >= 64 * 1024);
        CHECK_FALSE(support::is_inherited(pair.near.native_handle()));
        CHECK_FALSE(support::is_inherited(pair.far.native_handle()));

        std::string sent(1 << 20, '\0');
        support::byte_source(5).fill(std::as_writable_bytes(std::span(sent)));
        std::string heard(sent.size(), '\0');
        auto sends = [&]() -> task<> {
            auto all = co_await pair.near.send_all(sent);
            CHECK(all.bytes() == sent.size());
            auto ended = co_await pair.near.shutdown_send();
            CHECK(ended.error() == std::error_code());
        };
        auto receives = [&]() -> task<> {
            auto all = co_await pair.far.recv_exactly(std::as_writable_bytes(std::span(heard)));
            CHECK(all.error() == std::error_code());
            auto end = co_await pair.far.recv();
            CHECK(end.error() == errc::end_of_stream);
        };
        co_await plait::when_all(sends(), receives());
        const bool same = sent == heard;
        CHECK(same);
        auto answer = co_await pair.far.send_all("answer");
        CHECK(answer.bytes() == 6);
        auto got = co_await pair.near.recv();
        CHECK(as_text(got->bytes()) == "answer");
        auto closed = co_await pair.far.close();
        CHECK(closed.error() == std::error_code());
    });
}

TEST_CASE("connect tells why it failed", "[unix]") {
    NEEDS(streams);
    in_a_context([]() -> task<> {
        const folder here;
        const std::error_code nobody = co_await connect_error(here.file());
        CHECK(nobody == std::errc::no_such_file_or_directory);
    });
}

TEST_CASE("a connect waits for room in the backlog, and can be cancelled there", "[unix]") {
    NEEDS(streams);
    in_a_context([]() -> task<> {
        const folder here;
        auto listener = co_await listening(here.file(), 1);
        std::size_t connected = 0, cancelled = 0;
        auto connects = [&]() -> task<> {
            auto stream = co_await unix_stream::connect(here.file());
            if (stream)
                ++connected;
            else if (stream.error() == errc::canceled)
                ++cancelled;
        };
        {
            task_group group;
            for (int i = 0; i < 10; ++i) group.spawn(connects);
            co_await turns(3);
            CHECK(connected < 10);
            for (int i = 0; i < 10; ++i) {
                auto accepted = co_await listener.accept();
                CHECK(accepted.error() == std::error_code());
            }
            co_await group.join();
            CHECK(connected == 10);
        }
        task_group group;
        for (int i = 0; i < 10; ++i) group.spawn(connects);
        co_await turns(3);
        group.request_stop();
        co_await group.join();
        CHECK(cancelled > 0);
        CHECK(connected + cancelled == 20);
        // In a cancelled scope nothing is begun.
        task_group late;
        late.spawn(connects);
        late.request_stop();
        co_await late.join();
        CHECK(connected + cancelled == 21);
    });
}

TEST_CASE("closing a listener by another task ends its accept as cancelled", "[unix]") {
    NEEDS(streams);
    in_a_context([]() -> task<> {
        const folder here;
        auto listener = co_await listening(here.file());
        std::error_code error;
        auto accepts = [&]() -> task<> {
            auto accepted = co_await listener.accept();
            error = accepted.error();
        };
        task_group group;
        group.spawn(accepts);
        co_await turns(2);
        static_cast<void>(co_await listener.close());
        co_await group.join();
        CHECK(error == errc::canceled);
    });
}

TEST_CASE("framed messages travel over a Unix stream", "[unix]") {
    NEEDS(streams);
    in_a_context([]() -> task<> {
        const folder here;
        auto listener = co_await listening(here.file());
        auto pair = co_await connected_pair(listener, here.file());
        plait::framed near{std::move(pair.near), plait::length_prefix{}};
        plait::framed far{std::move(pair.far), plait::length_prefix{}};
        const std::size_t rounds = scaled(1000);
        auto asks = [&]() -> task<> {
            for (std::size_t i = 0; i < rounds; ++i) {
                auto written = co_await near.write(std::to_string(i));
                CHECK(written.error() == std::error_code());
                auto answer = co_await near.next();
                CHECK(as_text(*answer) == std::to_string(i));
            }
            static_cast<void>(co_await near.close());
        };
        auto answers = [&]() -> task<> {
            for (;;) {
                auto message = co_await far.next();
                if (!message) {
                    CHECK(message.error() == errc::end_of_stream);
                    static_cast<void>(co_await far.close());
                    break;
                }
                auto written = co_await far.write(*message);
                CHECK(written.error() == std::error_code());
            }
        };
        co_await plait::when_all(asks(), answers());
    });
}

TEST_CASE("serve runs sessions over Unix streams, and a drain answers what has arrived", "[unix]") {
    NEEDS(streams);
    in_a_context([]() -> task<> {
        const folder here;
        auto listener = co_await listening(here.file());
        int ended = 0;
        std::error_code told;
        auto session = [&](unix_stream stream) -> task<io_result<void>> {
            plait::framed messages{std::move(stream), plait::length_prefix{}};
            for (;;) {
                auto message = co_await messages.next();
                if (!message) {
                    ++ended;
                    co_return message.error();
                }
                if (as_text(*message) == "fail") co_return std::make_error_code(std::errc::io_error);
                auto written = co_await messages.write(*message);
                if (!written) co_return written;
            }
        };
        plait::serve_options options;
        options.on_error([&](std::error_code error, const plait::endpoint&) { told = error; });
        auto serving = [&]() -> task<> {
            auto served = co_await plait::serve(std::move(listener), session, options);
            CHECK(served.error() == std::error_code());
        };
        auto clients = [&]() -> task<> {
            std::vector<plait::framed<unix_stream, plait::length_prefix>> all;
            for (int i = 0; i < 20; ++i) {
                auto stream = co_await unix_stream::connect(here.file());
                all.emplace_back(std::move(*stream), plait::length_prefix{});
            }
            for (auto& each : all) {
                static_cast<void>(co_await each.write("hello"));
                auto answer = co_await each.next();
                CHECK(as_text(*answer) == "hello");
            }
            static_cast<void>(co_await all.back().write("fail"));
            auto end = co_await all.back().next();
            CHECK_FALSE(end);
            all.pop_back();
            for (auto& each : all) static_cast<void>(co_await each.write("last words"));
            for (auto& each : all) static_cast<void>(co_await each.flush());
            plait::io_context& context = co_await plait::this_context();
            context.request_drain();
            for (auto& each : all) {
                auto answer = co_await each.next();
                CHECK(answer.error() == std::error_code());
                auto over = co_await each.next();
                CHECK(over.error() == errc::end_of_stream);
            }
        };
        co_await plait::when_all(serving(), clients());
        CHECK(ended == 19);
        CHECK(told == std::errc::io_error);
        CHECK(here.files() == 0);
    });
}

// --- datagrams -------------------------------------------------------------------------------------------------------

TEST_CASE("each datagram arrives as it was sent, with the path of its sender", "[unix]") {
    NEEDS(datagrams);
    in_a_context([]() -> task<> {
        const folder here;
        auto receiver = co_await bound(here.file("receiver"));
        auto sender = co_await bound(here.file("sender"));
        CHECK(receiver.local_path().value() == here.file("receiver"));
        CHECK(receiver.remote_path().error() == std::errc::not_connected);
        co_await post(sender, "one", here.file("receiver"));
        co_await post(sender, "", here.file("receiver"));
        co_await post(sender, "0123456789", here.file("receiver"));
        co_await post(sender, "end", here.file("receiver"));
        const letter one = co_await next(receiver);
        CHECK(one.text == "one");
        CHECK(one.sender == here.file("sender"));
        const letter empty = co_await next(receiver);
        CHECK(empty.error == std::error_code());
        CHECK(empty.text.empty());
        CHECK_FALSE(empty.truncated);
        const letter cut = co_await next(receiver, 4);
        CHECK(cut.text == "0123");
        CHECK(cut.truncated);
        CHECK(cut.sender == here.file("sender"));
        const letter end = co_await next(receiver);
        CHECK(end.text == "end");
        CHECK_FALSE(end.truncated);
    });
}

TEST_CASE("a datagram socket without a name gets one, so that it can be answered", "[unix]") {
    NEEDS(datagrams);
    NEEDS(abstract_names);
    in_a_context([]() -> task<> {
        const folder here;
        auto server = co_await bound(here.file());
        auto client = co_await bound({});
        CHECK(client.local_path()->is_abstract());
        co_await post(client, "question", here.file());
        const letter asked = co_await next(server);
        CHECK(asked.sender == client.local_path().value());
        co_await post(server, "answer", asked.sender);
        const letter answer = co_await next(client);
        CHECK(answer.text == "answer");
    });
}

TEST_CASE("a bound datagram socket is not replaced, a dead one is; its file goes with it", "[unix]") {
    NEEDS(datagrams);
    in_a_context([]() -> task<> {
        const folder here;
        {
            auto alive = co_await bound(here.file());
            const std::error_code same_kind = co_await datagram_bind_error(here.file());
            CHECK(same_kind == std::errc::address_in_use);
            const std::error_code other_kind = co_await bind_error(here.file());
            CHECK(other_kind == std::errc::address_in_use);
        }
        CHECK(here.files() == 0);
        {
            auto dead = co_await bound(here.file("dead"));
            rename(here.file("dead"), here.file());
        }
        auto again = co_await bound(here.file());
        co_await post(again, "to itself", here.file());
        const letter got = co_await next(again);
        CHECK(got.text == "to itself");
        auto closed = co_await again.close();
        CHECK(closed.error() == std::error_code());
        CHECK(here.files() == 0);
    });
}

TEST_CASE("connected datagram sockets speak to each other", "[unix]") {
    NEEDS(datagrams);
    in_a_context([]() -> task<> {
        const folder here;
        auto left = co_await bound(here.file("left"));
        auto right = co_await bound(here.file("right"));
        auto early = co_await left.send("to whom?");
        CHECK(early.error() == std::errc::not_connected);
        auto connected = co_await left.connect(here.file("right"));
        CHECK(connected.error() == std::error_code());
        connected = co_await right.connect(here.file("left"));
        CHECK(connected.error() == std::error_code());
        CHECK(left.remote_path().value() == here.file("right"));
        std::array<std::byte, 4> room;
        auto sent = co_await left.send("four");
        CHECK(sent.bytes() == 4);
        auto heard = co_await right.recv(room);
        CHECK(heard.bytes() == 4);
        sent = co_await right.send("five5");
        heard = co_await left.recv(room);
        CHECK(heard.error() == std::errc::message_size);
        CHECK(heard.bytes() == 4);
        sent = co_await right.send("");
        CHECK(sent.error() == std::error_code());
        heard = co_await left.recv(room);
        CHECK(heard.error() == std::error_code());
        CHECK(heard.bytes() == 0);
        const std::error_code nobody = (co_await left.connect(here.file("nobody"))).error();
        CHECK(nobody == std::errc::no_such_file_or_directory);
    });
}

TEST_CASE("who sends to a name that is gone is told so, and goes on", "[unix]") {
    NEEDS(datagrams);
    in_a_context([]() -> task<> {
        const folder here;
        auto socket = co_await bound(here.file("socket"));
        auto nobody = co_await socket.send_to("x", here.file("nobody"));
        CHECK(nobody.error() == std::errc::no_such_file_or_directory);
        {
            auto dead = co_await bound(here.file("dead"));
            rename(here.file("dead"), here.file("stale"));
        }
        auto refused = co_await socket.send_to("x", here.file("stale"));
        CHECK(refused.error() == std::errc::connection_refused);
        auto invalid = co_await socket.send_to("x", std::string(200, 'x'));
        CHECK(invalid.error() == std::errc::filename_too_long);
        co_await post(socket, "to itself", here.file("socket"));
        const letter got = co_await next(socket);
        CHECK(got.text == "to itself");
    });
}

TEST_CASE("a send waits while the receiver's queue is full, and loses nothing", "[unix]") {
    NEEDS(datagrams);
    in_a_context([]() -> task<> {
        const folder here;
        for (const bool connected : {false, true}) {
            auto receiver = co_await bound(here.file("receiver"));
            auto sender = co_await bound(here.file("sender"));
            if (connected) {
                auto done = co_await sender.connect(here.file("receiver"));
                CHECK(done.error() == std::error_code());
            }
            const std::size_t count = 1000;
            std::size_t sent = 0;
            auto sends = [&]() -> task<> {
                for (std::size_t i = 0; i < count; ++i) {
                    const std::string text = std::to_string(i);
                    io_result<std::size_t> done = errc::canceled;
                    if (connected)
                        done = co_await sender.send(text);
                    else
                        done = co_await sender.send_to(text, here.file("receiver"));
                    CHECK(done.error() == std::error_code());
                    ++sent;
                }
            };
            task_group group;
            group.spawn(sends);
            std::size_t before = 1;
            while (sent != before) { // until it stands
                before = sent;
                static_cast<void>(co_await plait::sleep_for(30ms));
            }
            CHECK(sent < count);
            for (std::size_t i = 0; i < count; ++i) {
                const letter got = co_await next(receiver);
                CHECK(got.text == std::to_string(i));
            }
            co_await group.join();
            CHECK(sent == count);
        }
    });
}

TEST_CASE("a send that waits for a full queue can be cancelled", "[unix]") {
    NEEDS(datagrams);
    in_a_context([]() -> task<> {
        const folder here;
        for (const bool connected : {false, true}) {
            auto receiver = co_await bound(here.file("receiver"));
            auto sender = co_await bound(here.file("sender"));
            if (connected) {
                auto done = co_await sender.connect(here.file("receiver"));
                CHECK(done.error() == std::error_code());
            }
            std::size_t sent = 0;
            for (;;) {
                const std::string text = std::to_string(sent);
                io_result<std::size_t> done = errc::canceled;
                if (connected)
                    done = co_await plait::with_timeout(sender.send(text), 20ms);
                else
                    done = co_await plait::with_timeout(sender.send_to(text, here.file("receiver")), 20ms);
                if (!done) {
                    CHECK(done.error() == errc::timed_out);
                    break;
                }
                ++sent;
            }
            for (std::size_t i = 0; i < sent; ++i) {
                const letter got = co_await next(receiver);
                CHECK(got.text == std::to_string(i));
            }
            co_await post(sender, "afterwards", here.file("receiver"));
            const letter got = co_await next(receiver);
            CHECK(got.text == "afterwards");
        }
    });
}

TEST_CASE("a datagram receive that is cancelled at any moment loses nothing", "[unix]") {
    NEEDS(datagrams);
    in_a_context([]() -> task<> {
        const folder here;
        auto receiver = co_await bound(here.file("receiver"));
        auto sender = co_await bound(here.file("sender"));
        const std::size_t rounds = scaled(1000);
        std::size_t came = 0;
        auto receives = [&]() -> task<> {
            const letter got = co_await next(receiver);
            if (!got.error) {
                CHECK(got.text == std::to_string(came));
                CHECK(got.sender == here.file("sender"));
                ++came;
            } else {
                CHECK(got.error == errc::canceled);
            }
        };
        for (std::size_t i = 0; i < rounds; ++i) {
            task_group group;
            group.spawn(receives);
            co_await turns(i % 3);
            if (i & 4) group.request_stop();
            co_await post(sender, std::to_string(i), here.file("receiver"));
            co_await turns(i / 8 % 3);
            group.request_stop();
            co_await group.join();
            while (came <= i) co_await receives();
        }
        CHECK(came == rounds);
    });
}

TEST_CASE("closing a datagram socket by another task ends its waits as cancelled", "[unix]") {
    NEEDS(datagrams);
    in_a_context([]() -> task<> {
        const folder here;
        auto socket = co_await bound(here.file());
        std::optional<letter> got;
        auto receives = [&]() -> task<> { got = co_await next(socket); };
        task_group group;
        group.spawn(receives);
        co_await turns(2);
        auto closed = co_await socket.close();
        CHECK(closed.error() == std::error_code());
        co_await group.join();
        CHECK(got->error == errc::canceled);
        auto sent = co_await socket.send_to("x", here.file());
        CHECK(sent.error() == std::errc::bad_file_descriptor);
        auto connected = co_await socket.connect(here.file());
        CHECK(connected.error() == std::errc::bad_file_descriptor);
        CHECK(socket.local_path().error() == std::errc::bad_file_descriptor);
    });
}

TEST_CASE("a frame may be destroyed while it waits for a Unix datagram, and nothing writes to its memory "
          "afterwards",
          "[unix]") {
    NEEDS(datagrams);
    support::freed_memory freed;
    in_a_context([&]() -> task<> {
        const folder here;
        auto& env = co_await plait::detail::this_environment();
        auto sender = co_await bound(here.file("sender"));
        auto receiver = co_await bound(here.file("receiver"));
        for (std::size_t i = 0; i < scaled(100); ++i) {
            auto waits = [&]() -> task<> { static_cast<void>(co_await next(receiver)); };
            support::cancellable frame(support::carry(waits()), env);
            co_await turns(i % 3);
            if (i & 4) co_await post(sender, "just now", here.file("receiver"));
            frame.destroy();
            co_await post(sender, "mark", here.file("receiver"));
            std::string last;
            while (last != "mark") last = (co_await next(receiver)).text;
        }
    });
    CHECK(freed.changed_bytes() == 0);
}
