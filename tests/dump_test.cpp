#include <plait/plait.hpp>
#include <plait/signal.hpp>

#include "src/resolve.hpp"
#include "support/cancellable.hpp"
#include "support/must.hpp"
#include "support/sockets.hpp"
#include "support/system.hpp"
#include "support/watchdog.hpp"

#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <functional>
#include <future>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

using namespace std::chrono_literals;
using plait::task;
using plait::task_group;
using plait::tcp_stream;
using support::turns;

namespace {

using texts = std::vector<std::string>;

std::string dumped(const plait::io_context& context) {
    std::FILE* out = std::tmpfile();
    support::must(out != nullptr, "a file for the dump");
    context.dump(out);
    std::rewind(out);
    std::string text(64 * 1024, '\0');
    text.resize(std::fread(text.data(), 1, text.size(), out));
    std::fclose(out);
    std::erase(text, '\r');
    return text;
}

struct entry {
    std::string what;
    std::string state; // "ready", or "for 1.2 s"
    texts above; // where its co_await stands, those of the tasks above it, and who owns the last of them
};

struct listing {
    std::string title;
    std::vector<entry> entries;

    /// The one entry that begins so.
    entry only(std::string_view what) const {
        entry found;
        int count = 0;
        for (const entry& each : entries) {
            if (!each.what.starts_with(what)) continue;
            found = each;
            ++count;
        }
        CHECK(count == 1);
        return found;
    }
};

/// Takes a dump apart; whatever is not laid out as it should be fails.
listing parsed(const std::string& dump) {
    listing found;
    std::size_t begin = 0, number = 0;
    while (begin < dump.size()) {
        const std::size_t end = dump.find('\n', begin);
        REQUIRE(end != std::string::npos);
        const std::string line = dump.substr(begin, end - begin);
        if (begin == 0) {
            CHECK(line.starts_with("plait: "));
            found.title = line;
        } else if (line.starts_with('#')) {
            const std::string mark = '#' + std::to_string(++number) + ' ';
            CHECK(line.starts_with(mark));
            const std::size_t comma = line.rfind(", ");
            REQUIRE(comma != std::string::npos);
            found.entries.push_back(
                {line.substr(mark.size(), comma - mark.size()), line.substr(comma + 2), {}});
        } else {
            CHECK(line.starts_with("     "));
            REQUIRE(!found.entries.empty());
            found.entries.back().above.push_back(line.substr(5));
        }
        begin = end + 1;
    }
    return found;
}

std::string here(std::string_view function, unsigned line) {
    return std::string(function) + " at tests/dump_test.cpp:" + std::to_string(line);
}

unsigned join_line = 0; // of seen_meanwhile
const std::function<void()> nothing_more;

task<> look(listing& found, task_group& group, const std::function<void()>& afterwards) {
    co_await turns(10);
    plait::io_context& context = co_await plait::this_context();
    const std::string text = dumped(context);
    INFO(text);
    found = parsed(text);
    group.request_stop();
    if (afterwards) afterwards();
}

/// What a dump says while `work()` waits; then that is cancelled.
template <class F>
task<listing> seen_meanwhile(F& work, const std::function<void()>& afterwards = nothing_more) {
    listing found;
    task_group group;
    group.spawn(std::ref(work));
    group.spawn(look, std::ref(found), std::ref(group), std::cref(afterwards));
    join_line = __LINE__ + 1;
    co_await group.join();
    co_return found;
}

texts above_with_group(texts above) {
    above.push_back("child of " + here("seen_meanwhile", join_line));
    return above;
}

/// One wait of `work()`, a coroutine called `name` that notes the line of its co_await.
template <class F>
task<> check_wait(F& work, const std::string& what, const unsigned& line,
                  std::string_view name = "a lambda") {
    const listing found = co_await seen_meanwhile(work);
    const entry seen = found.only(what);
    CHECK(seen.what == what);
    CHECK(seen.state.starts_with("for "));
    CHECK(seen.above == above_with_group({here(name, line)}));
}

std::string joined(const plait::endpoint& local, std::string_view arrow, const plait::endpoint& peer) {
    return local.to_string() + ' ' + std::string(arrow) + ' ' + peer.to_string();
}
std::string from_peer(const tcp_stream& stream) {
    return joined(stream.local_endpoint().value(), "<-", stream.remote_endpoint().value());
}
std::string to_peer(const tcp_stream& stream) {
    return joined(stream.local_endpoint().value(), "->", stream.remote_endpoint().value());
}

void use_small_buffers(support::stream_pair& pair) {
    static_cast<void>(pair.near.set_send_buffer_size(16 * 1024));
    static_cast<void>(pair.far.set_receive_buffer_size(16 * 1024));
}

template <class F>
void in_a_context(F body) {
    auto whole = [&]() -> task<> { co_await body(); };
    plait::run(whole());
}

std::string title(std::string_view what, const plait::io_context& context) {
    return "plait: " + std::string(what) + " (" + std::string(to_string(context.backend())) + ')';
}

} // namespace

// --- nothing, and oneself ------------------------------------------------------------------------------------------

TEST_CASE("a dump of a context where nothing waits says so", "[dump]") {
    plait::io_context context;
    CHECK(dumped(context) == title("no task waits", context) + '\n');
    auto look_around = [&]() -> task<std::string> { co_return dumped(context); };
    CHECK(context.run(look_around()) == title("no task waits", context) + '\n'); // who looks does not wait
    CHECK(dumped(context) == title("no task waits", context) + '\n');
}

TEST_CASE("a dump counts those who wait and those who are ready", "[dump]") {
    in_a_context([]() -> task<> {
        plait::io_context& context = co_await plait::this_context();
        plait::event never;
        task_group group;
        unsigned line = 0;
        auto wait = [&]() -> task<> {
            line = __LINE__ + 1;
            static_cast<void>(co_await never.wait());
        };
        group.spawn(wait);
        listing found = parsed(dumped(context));
        CHECK(found.title == title("no task waits, 1 is ready to go on", context));
        CHECK(found.only("start").state == "ready");
        co_await turns(2);
        CHECK(parsed(dumped(context)).title == title("1 task waits", context));
        group.spawn(wait);
        group.spawn(wait);
        co_await turns(2);
        CHECK(parsed(dumped(context)).title == title("3 tasks wait", context));
        never.set();
        found = parsed(dumped(context));
        CHECK(found.title == title("no task waits, 3 are ready to go on", context));
        for (const entry& each : found.entries) {
            CHECK(each.what == "event");
            CHECK(each.state == "ready");
            CHECK(each.above.front() == here("a lambda", line));
        }
        co_await group.join();
    });
}

// --- the tasks above -----------------------------------------------------------------------------------------------

namespace {

unsigned inner_line, middle_line, outer_line;

task<> inner(tcp_stream& stream) {
    inner_line = __LINE__ + 1;
    static_cast<void>(co_await stream.recv());
}

task<> middle(tcp_stream& stream) {
    middle_line = __LINE__ + 1;
    co_await inner(stream);
}

task<> outer(tcp_stream& stream) {
    outer_line = __LINE__ + 1;
    co_await middle(stream);
}

unsigned root_line;

task<listing> look_at_itself() {
    auto pair = co_await support::connected_pair();
    auto work = [&]() -> task<> { return outer(pair.near); };
    root_line = __LINE__ + 1;
    auto found = co_await seen_meanwhile(work);
    CHECK(found.only("recv").what == "recv " + from_peer(pair.near));
    co_return found;
}

} // namespace

TEST_CASE("a dump names the co_await of every task from the one that waits up to the group that owns them",
          "[dump]") {
    const listing found = plait::run(look_at_itself());
    CHECK(found.entries.size() == 2);
    CHECK(found.only("recv").above ==
          above_with_group(
              {here("inner", inner_line), here("middle", middle_line), here("outer", outer_line)}));
    const entry join = found.only("join");
    CHECK(join.what == "join of 2 tasks");
    CHECK(join.above == texts{here("seen_meanwhile", join_line), here("look_at_itself", root_line), "run()"});
}

TEST_CASE("a child of a group that nobody joins yet is named with the place of the group", "[dump]") {
    in_a_context([]() -> task<> {
        plait::event never;
        unsigned line = 0;
        auto wait = [&]() -> task<> {
            line = __LINE__ + 1;
            static_cast<void>(co_await never.wait());
        };
        const unsigned made = __LINE__ + 1;
        task_group group;
        for (int round = 0; round < 2; ++round) {
            group.spawn(wait);
            co_await turns(2);
            const listing found = parsed(dumped(co_await plait::this_context()));
            CHECK(found.entries.size() == 1);
            CHECK(found.only("event").above ==
                  texts{here("a lambda", line),
                        "child of a task_group that nobody joins yet, made by " + here("a lambda", made)});
            never.set();
            co_await group.join();
            never.reset();
        }
    });
}

TEST_CASE("the waits of when_all, when_any, with_timeout and shielded are theirs", "[dump]") {
    in_a_context([]() -> task<> {
        plait::event left, right;
        unsigned line = 0;
        auto all = [&]() -> task<> {
            line = __LINE__ + 1;
            static_cast<void>(co_await plait::when_all(left.wait(), right.wait()));
        };
        auto any = [&]() -> task<> {
            line = __LINE__ + 1;
            static_cast<void>(co_await plait::when_any(left.wait(), right.wait()));
        };
        listing found = co_await seen_meanwhile(all);
        int children = 0;
        for (const entry& each : found.entries) {
            if (each.what != "event") continue;
            ++children;
            CHECK(each.above == texts{"child of when_all of " + here("a lambda", line)});
        }
        CHECK(children == 2);
        found = co_await seen_meanwhile(any);
        children = 0;
        for (const entry& each : found.entries)
            if (each.above == texts{"child of when_any of " + here("a lambda", line)}) ++children;
        CHECK(children == 2);

        auto limited = [&]() -> task<> {
            line = __LINE__ + 1;
            static_cast<void>(co_await plait::with_timeout(left.wait(), 1h));
        };
        found = co_await seen_meanwhile(limited);
        texts above = found.only("event").above;
        REQUIRE(above.size() == 3);
        CHECK(above[0].starts_with("with_timeout at plait/time.hpp:"));
        CHECK(above[1] == here("a lambda", line));

        auto shielded = [&]() -> task<> {
            line = __LINE__ + 1;
            static_cast<void>(co_await plait::shielded(left.wait(), 1ms));
        };
        found = co_await seen_meanwhile(shielded);
        above = found.only("event").above;
        REQUIRE(above.size() == 3);
        CHECK(above[0].starts_with("shielded at plait/time.hpp:"));
        CHECK(above[1] == here("a lambda", line));
    });
}

// --- each kind of wait -----------------------------------------------------------------------------------------------

TEST_CASE("a dump names receives on a stream, with both endpoints", "[dump]") {
    in_a_context([]() -> task<> {
        auto pair = co_await support::connected_pair();
        unsigned line = 0;
        std::array<std::byte, 10> buffer;
        auto leased = [&]() -> task<> {
            line = __LINE__ + 1;
            static_cast<void>(co_await pair.near.recv());
        };
        auto some = [&]() -> task<> {
            line = __LINE__ + 1;
            static_cast<void>(co_await pair.near.recv(buffer));
        };
        auto exactly = [&]() -> task<> {
            line = __LINE__ + 1;
            static_cast<void>(co_await pair.near.recv_exactly(buffer));
        };
        auto next = [&]() -> task<> {
            plait::frame_reader messages(pair.near, plait::lines());
            line = __LINE__ + 1;
            static_cast<void>(co_await messages.next());
        };
        co_await check_wait(leased, "recv " + from_peer(pair.near), line);
        co_await check_wait(some, "recv " + from_peer(pair.near), line);
        co_await check_wait(next, "next " + from_peer(pair.near), line);
        co_await check_wait(exactly, "recv_exactly " + from_peer(pair.near) + ", 0 of 10 bytes", line);
        static_cast<void>(co_await pair.far.send_all("four"));
        co_await check_wait(exactly, "recv_exactly " + from_peer(pair.near) + ", 4 of 10 bytes", line);
    });
}

TEST_CASE("a dump names sends on a stream, and what is left of them", "[dump]") {
    in_a_context([]() -> task<> {
        const std::vector<std::byte> much(8 * 1024 * 1024);
        unsigned line = 0;
        for (int kind = 0; kind < 3; ++kind) {
            auto pair = co_await support::connected_pair();
            use_small_buffers(pair);
            plait::framed messages(pair.near, plait::length_prefix());
            const std::array<std::span<const std::byte>, 2> pieces{std::span(much).first(1), much};
            auto work = [&]() -> task<> {
                line = __LINE__ + 1;
                if (kind == 0) static_cast<void>(co_await pair.near.send_all(much));
                if (kind == 1) static_cast<void>(co_await pair.near.send_all(pieces));
                if (kind == 2) static_cast<void>(co_await messages.write(much));
            };
            const listing found = co_await seen_meanwhile(work);
            const std::string name = kind == 2 ? "write " : "send_all ";
            const entry seen = found.only(name);
            CHECK(seen.what.starts_with(name + to_peer(pair.near) + ", "));
            CHECK(seen.what.ends_with(" bytes left"));
            const auto own = static_cast<unsigned>(kind);
            CHECK(seen.above[kind == 2 ? 1 : 0] == here("a lambda", line + own));
        }
    });
}

TEST_CASE("a dump names a write that waits for room, and a flush", "[dump]") {
    in_a_context([]() -> task<> {
        auto pair = co_await support::connected_pair();
        use_small_buffers(pair);
        plait::framed messages(pair.near, plait::length_prefix());
        const std::vector<std::byte> some(2000);
        unsigned line = 0;
        auto fill = [&]() -> task<> {
            for (;;) {
                line = __LINE__ + 1;
                auto written = co_await messages.write(some);
                if (!written) break;
            }
        };
        auto flush = [&]() -> task<> {
            line = __LINE__ + 1;
            static_cast<void>(co_await messages.flush());
        };
        for (int round = 0; round < 100; ++round) { // until the kernel takes no more
            auto filled = co_await plait::with_timeout(fill(), 1ms);
            static_cast<void>(filled);
            co_await turns(10);
        }
        listing found = co_await seen_meanwhile(fill);
        CHECK(found.only("write ").what == "write " + to_peer(pair.near));
        CHECK(found.only("write ").above.at(1) == here("a lambda", line));
        found = co_await seen_meanwhile(flush);
        CHECK(found.only("flush ").what == "flush " + to_peer(pair.near));
        CHECK(found.only("flush ").above.at(1) == here("a lambda", line));
        support::reset_by(pair.far);
    });
}

TEST_CASE("a dump names accept, and where it listens", "[dump]") {
    in_a_context([]() -> task<> {
        auto listener = co_await support::loopback_listener();
        unsigned line = 0;
        auto work = [&]() -> task<> {
            line = __LINE__ + 1;
            static_cast<void>(co_await listener.accept());
        };
        co_await check_wait(work, "accept " + listener.local_endpoint().value().to_string(), line);
    });
}

TEST_CASE("a dump names connect, and where it goes", "[dump]") {
    in_a_context([]() -> task<> {
        auto listener = co_await support::loopback_listener(plait::listen_options().backlog(1));
        const plait::endpoint where = listener.local_endpoint().value();
        std::vector<tcp_stream> in_the_way;
        for (int i = 0; i < 8; ++i) {
            auto stream = co_await plait::with_timeout(tcp_stream::connect(where), 100ms);
            if (!stream) break;
            in_the_way.push_back(std::move(*stream));
        }
        unsigned line = 0;
        bool ended = false;
        auto work = [&]() -> task<> {
            line = __LINE__ + 1;
            auto stream = co_await tcp_stream::connect(where);
            ended = stream.error() != plait::errc::canceled;
        };
        const listing found = co_await seen_meanwhile(work);
        if (ended) co_return; // this system does not let it wait
        const entry seen = found.only("connect ");
        CHECK(seen.what.ends_with(" -> " + where.to_string()));
        REQUIRE(seen.above.size() == 3);
        CHECK(seen.above[0].starts_with("connect at src/tcp.cpp:"));
        CHECK(seen.above[1] == here("a lambda", line));
    });
}

TEST_CASE("a dump names what waits for datagrams", "[dump]") {
    in_a_context([]() -> task<> {
        auto socket = co_await plait::udp_socket::bind({"127.0.0.1", 0});
        auto peer = co_await plait::udp_socket::bind({"127.0.0.1", 0});
        REQUIRE((socket && peer));
        const plait::endpoint local = socket->local_endpoint().value(),
                              remote = peer->local_endpoint().value();
        std::array<std::byte, 10> buffer;
        unsigned line = 0;
        auto from_anybody = [&]() -> task<> {
            line = __LINE__ + 1;
            static_cast<void>(co_await socket->recv_from(buffer));
        };
        auto from_peer = [&]() -> task<> {
            line = __LINE__ + 1;
            static_cast<void>(co_await socket->recv(buffer));
        };
        co_await check_wait(from_anybody, "recv_from " + local.to_string(), line);
        auto connected = co_await socket->connect(remote);
        REQUIRE(connected);
        co_await check_wait(from_peer, "recv " + joined(local, "<-", remote), line);
    });
}

TEST_CASE("a dump names Unix sockets by their paths", "[dump]") {
    in_a_context([]() -> task<> {
        const auto now = std::chrono::steady_clock::now().time_since_epoch().count();
        const auto path = plait::unix_path::abstract("plait-dump-" + std::to_string(now));
        auto listener = co_await plait::unix_listener::bind(path);
        if (!listener) co_return; // no such names here
        unsigned line = 0;
        auto accept = [&]() -> task<> {
            line = __LINE__ + 1;
            static_cast<void>(co_await listener->accept());
        };
        co_await check_wait(accept, "accept " + path.to_string(), line);
        auto near = co_await plait::unix_stream::connect(path);
        REQUIRE(near);
        auto receive = [&]() -> task<> {
            line = __LINE__ + 1;
            static_cast<void>(co_await near->recv());
        };
        co_await check_wait(receive, "recv (unnamed) <- " + path.to_string(), line);
    });
}

TEST_CASE("a dump names what tasks of one context wait for among themselves", "[dump]") {
    in_a_context([]() -> task<> {
        plait::event never;
        plait::mutex files;
        plait::channel<int> full(1), empty(1);
        auto held = co_await files.lock();
        static_cast<void>(full.try_send(1));
        unsigned line = 0;
        auto event = [&]() -> task<> {
            line = __LINE__ + 1;
            static_cast<void>(co_await never.wait());
        };
        auto lock = [&]() -> task<> {
            line = __LINE__ + 1;
            static_cast<void>(co_await files.lock());
        };
        auto send = [&]() -> task<> {
            line = __LINE__ + 1;
            static_cast<void>(co_await full.send(2));
        };
        auto receive = [&]() -> task<> {
            line = __LINE__ + 1;
            static_cast<void>(co_await empty.receive());
        };
        co_await check_wait(event, "event", line);
        co_await check_wait(lock, "lock", line);
        co_await check_wait(send, "send to a channel", line);
        co_await check_wait(receive, "receive from a channel", line);
    });
}

TEST_CASE("a dump names memory streams, and messages on them", "[dump]") {
    in_a_context([]() -> task<> {
        auto [left, right] = plait::memory_stream_pair(16);
        plait::memory_stream& near = left;
        std::array<std::byte, 10> buffer;
        unsigned line = 0;
        auto receive = [&]() -> task<> {
            line = __LINE__ + 1;
            static_cast<void>(co_await near.recv(buffer));
        };
        co_await check_wait(receive, "recv from a memory stream", line);
        plait::framed messages(near, plait::lines());
        auto next = [&]() -> task<> {
            line = __LINE__ + 1;
            static_cast<void>(co_await messages.next());
        };
        const listing found = co_await seen_meanwhile(next);
        const texts above = found.only("recv from a memory stream").above;
        CHECK(std::find(above.begin(), above.end(), here("a lambda", line)) != above.end());
        CHECK(above.back() == "child of " + here("seen_meanwhile", join_line));
    });
}

TEST_CASE("a dump tells how long a task still sleeps", "[dump]") {
    in_a_context([]() -> task<> {
        unsigned line = 0;
        std::chrono::seconds span{};
        auto work = [&]() -> task<> {
            line = __LINE__ + 1;
            static_cast<void>(co_await plait::sleep_for(span));
        };
        const auto seen = [&](std::chrono::seconds how_long, std::string_view left) -> task<> {
            span = how_long;
            const listing found = co_await seen_meanwhile(work);
            const entry sleeping = found.only("sleep");
            INFO(sleeping.what);
            CHECK(sleeping.what.starts_with("sleep, " + std::string(left)));
            CHECK(sleeping.what.ends_with(" left"));
            CHECK(sleeping.above == above_with_group({here("a lambda", line)}));
        };
        co_await seen(100h, "4 d 3 h");
        co_await seen(10h, "9 h 59 min");
        co_await seen(30min, "29 min ");
    });
}

TEST_CASE("a dump tells for how long a task has waited", "[dump]") {
    in_a_context([]() -> task<> {
        plait::event never;
        auto work = [&]() -> task<> { static_cast<void>(co_await never.wait()); };
        task_group group;
        group.spawn(work);
        co_await turns(2);
        static_cast<void>(co_await plait::sleep_for(150ms));
        listing found = parsed(dumped(co_await plait::this_context()));
        CHECK(found.only("event").state.starts_with("for "));
        CHECK(found.only("event").state != "for 0.0 s");
        group.spawn(work); // the longest comes first
        co_await turns(2);
        found = parsed(dumped(co_await plait::this_context()));
        REQUIRE(found.entries.size() == 2);
        CHECK(found.entries[0].state != "for 0.0 s");
        never.set();
        co_await group.join();
    });
}

TEST_CASE("a dump names signals, and requests for dumps", "[dump]") {
    in_a_context([]() -> task<> {
        unsigned line = 0;
        auto signal = [&]() -> task<> {
            line = __LINE__ + 1;
            static_cast<void>(co_await plait::wait_for_signal(support::other_signal()));
        };
        auto request = [&]() -> task<> {
            line = __LINE__ + 1;
            static_cast<void>(co_await plait::wait_for_dump_request());
        };
        co_await check_wait(signal, "wait_for_signal", line);
        co_await check_wait(request, "wait_for_dump_request", line);
    });
}

TEST_CASE("a dump names calls on other threads, which no cancellation ends", "[dump]") {
    in_a_context([]() -> task<> {
        std::promise<void> let_go;
        auto gone = let_go.get_future().share();
        auto wait = [gone] { gone.wait(); };
        unsigned line = 0;
        auto work = [&]() -> task<> {
            line = __LINE__ + 1;
            co_await plait::offload(wait);
        };
        bool seen_after_stop = false;
        plait::io_context& context = co_await plait::this_context();
        const std::function<void()> afterwards = [&] {
            seen_after_stop = parsed(dumped(context)).only("offload").what == "offload";
            let_go.set_value();
        };
        const listing found = co_await seen_meanwhile(work, afterwards);
        CHECK(seen_after_stop);
        const texts above = found.only("offload").above;
        REQUIRE(above.size() == 3);
        CHECK(above[0].starts_with("offload at plait/offload.hpp:"));
        CHECK(above[1] == here("a lambda", line));
    });
}

namespace {

std::atomic<bool> lookups_may_end{false};

plait::detail::status look_up_slowly(const std::string&, const std::string&, std::vector<plait::endpoint>&) {
    while (!lookups_may_end) std::this_thread::sleep_for(1ms);
    return {};
}

} // namespace

TEST_CASE("a dump names a lookup", "[dump]") {
    const auto before = plait::detail::exchange_lookup(look_up_slowly);
    in_a_context([]() -> task<> {
        unsigned line = 0;
        auto work = [&]() -> task<> {
            line = __LINE__ + 1;
            static_cast<void>(co_await plait::resolve("somewhere.test", "80"));
        };
        const listing found = co_await seen_meanwhile(work);
        const texts above = found.only("resolve").above;
        CHECK(std::find(above.begin(), above.end(), here("a lambda", line)) != above.end());
        CHECK(above.back() == "child of " + here("seen_meanwhile", join_line));
    });
    lookups_may_end = true;
    plait::detail::exchange_lookup(before);
}

TEST_CASE("a dump names what is cancelled until it has ended", "[dump]") {
    in_a_context([]() -> task<> {
        auto pair = co_await support::connected_pair();
        plait::io_context& context = co_await plait::this_context();
        auto work = [&]() -> task<> { static_cast<void>(co_await pair.near.recv()); };
        int count = 0;
        const std::function<void()> afterwards = [&] {
            for (const entry& each : parsed(dumped(context)).entries)
                if (each.what == "recv " + from_peer(pair.near)) ++count;
        };
        static_cast<void>(co_await seen_meanwhile(work, afterwards));
        CHECK(count == 1);
    });
}

TEST_CASE("a dump names the steps of a polite close, also of one that nobody waits for", "[dump]") {
    in_a_context([]() -> task<> {
        auto pair = co_await support::connected_pair();
        const std::string ends = from_peer(pair.near);
        unsigned line = 0;
        auto work = [&]() -> task<> {
            line = __LINE__ + 1;
            static_cast<void>(co_await pair.near.close());
        };
        const listing found = co_await seen_meanwhile(work);
        const entry seen = found.only("recv");
        CHECK(seen.what == "recv " + ends);
        REQUIRE(seen.above.size() == 5);
        CHECK(seen.above[0].starts_with("say_goodbye at src/socket.cpp:"));
        CHECK(seen.above[1].starts_with("with_timeout at plait/time.hpp:"));
        CHECK(seen.above[2].starts_with("close at src/socket.cpp:"));
        CHECK(seen.above[3] == here("a lambda", line));
    });
}

TEST_CASE("a dump names coroutines of another kind", "[dump]") {
    in_a_context([]() -> task<> {
        plait::event never;
        unsigned line = 0;
        auto waiting = [&]() -> task<> {
            line = __LINE__ + 1;
            static_cast<void>(co_await never.wait());
        };
        plait::detail::environment& env = co_await plait::detail::this_environment();
        support::foreign other = support::carry(waiting());
        other.start(env);
        auto bare = [](plait::event& what) -> support::foreign { static_cast<void>(co_await what.wait()); };
        plait::detail::environment alone;
        alone.context = env.context;
        alone.cancel = env.cancel;
        support::foreign nameless = bare(never);
        nameless.start(alone);
        const std::string text = dumped(co_await plait::this_context());
        INFO(text);
        const listing found = parsed(text);
        REQUIRE(found.entries.size() == 2);
        CHECK(found.entries[0].above.front() == here("a lambda", line));
        CHECK(found.entries[1].what == "event");
        never.set();
        co_await turns(2);
    });
}

TEST_CASE("a dump names what on() runs for a coroutine that knows no context", "[dump]") {
    struct bystander {
        struct promise_type {
            bystander get_return_object() const noexcept { return {}; }
            std::suspend_never initial_suspend() const noexcept { return {}; }
            std::suspend_never final_suspend() const noexcept { return {}; }
            void return_void() const noexcept {}
            void unhandled_exception() const noexcept { std::terminate(); }
        };
    };
    in_a_context([]() -> task<> {
        plait::io_context& context = co_await plait::this_context();
        plait::event never;
        bool over = false;
        auto body = [&]() -> bystander {
            static_cast<void>(co_await plait::on(context, never.wait()));
            over = true;
        };
        static_cast<void>(body());
        co_await turns(2);
        const listing found = parsed(dumped(context));
        REQUIRE(found.entries.size() == 1);
        CHECK(found.entries[0].what == "event");
        CHECK(found.entries[0].above == texts{"on(), for a coroutine of another kind"});
        never.set();
        while (!over) co_await plait::yield();
    });
}

// --- servers -------------------------------------------------------------------------------------------------------

namespace {

unsigned session_line, serve_line;

task<> wait_in_a_session(tcp_stream stream) {
    session_line = __LINE__ + 1;
    static_cast<void>(co_await stream.recv());
}

task<> serve_waiting(plait::tcp_listener& listener, plait::serve_options options) {
    serve_line = __LINE__ + 1;
    static_cast<void>(co_await plait::serve(std::move(listener), wait_in_a_session, options));
}

} // namespace

TEST_CASE("a dump names each session, its server, and who called serve", "[dump]") {
    in_a_context([]() -> task<> {
        auto listener = co_await support::loopback_listener();
        const plait::endpoint where = listener.local_endpoint().value();
        std::vector<tcp_stream> clients;
        for (int i = 0; i < 3; ++i) {
            auto stream = co_await tcp_stream::connect(where);
            clients.push_back(std::move(stream).value());
        }
        auto work = [&]() -> task<> { return serve_waiting(listener, plait::serve_options()); };
        task_group group;
        group.spawn(work);
        while ((co_await plait::this_context()).metrics().accepts < 3) co_await plait::yield();
        co_await turns(2);
        const listing found = parsed(dumped(co_await plait::this_context()));
        CHECK(found.entries.size() == 4);
        for (const tcp_stream& each : clients) {
            const std::string ends =
                joined(each.remote_endpoint().value(), "<-", each.local_endpoint().value());
            CHECK(found.only("recv " + ends).above ==
                  texts{here("wait_in_a_session", session_line),
                        "child of serve of " + here("serve_waiting", serve_line)});
        }
        const entry accept = found.only("accept");
        CHECK(accept.what == "accept " + where.to_string());
        REQUIRE(accept.above.size() == 3);
        CHECK(accept.above[0].starts_with("serve at plait/"));
        CHECK(accept.above[1] == here("serve_waiting", serve_line));
        group.request_stop();
        co_await group.join();
    });
}

TEST_CASE("a dump tells that a server waits for the end of a session", "[dump]") {
    in_a_context([]() -> task<> {
        auto listener = co_await support::loopback_listener();
        auto client = co_await tcp_stream::connect(listener.local_endpoint().value());
        auto work = [&]() -> task<> {
            return serve_waiting(listener, plait::serve_options().max_connections(1));
        };
        task_group group;
        group.spawn(work);
        while ((co_await plait::this_context()).metrics().accepts < 1) co_await plait::yield();
        co_await turns(2);
        const listing found = parsed(dumped(co_await plait::this_context()));
        const entry slot = found.only("session slot");
        REQUIRE(slot.above.size() == 4);
        CHECK(slot.above[0].starts_with("wait_for_slot at src/serve.cpp:"));
        CHECK(slot.above[2] == here("serve_waiting", serve_line));
        group.request_stop();
        co_await group.join();
    });
}
