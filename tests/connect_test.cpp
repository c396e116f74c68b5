#include <plait/plait.hpp>

#include "src/connect.hpp"
#include "src/resolve.hpp"
#include "support/cancellable.hpp"
#include "support/plain_client.hpp"
#include "support/scale.hpp"
#include "support/sockets.hpp"
#include "support/system.hpp"
#include "support/watchdog.hpp"

#include <catch2/catch_test_macros.hpp>

#include <array>
#include <atomic>
#include <map>
#include <optional>
#include <string>
#include <vector>

using namespace std::chrono_literals;
using plait::endpoint;
using plait::errc;
using plait::io_result;
using plait::task;
using plait::tcp_stream;
using plait::detail::connect_first;
using support::scaled;

namespace {

constexpr auto never = plait::steady_duration::max();

template <class F>
void in_a_context(F body) {
    auto whole = [&]() -> task<> { co_await body(); };
    plait::run(whole());
}

std::uint16_t port_of(const plait::tcp_listener& listener) {
    return listener.local_endpoint().value().port();
}

/// Attempts that end when and as a test says. Those without a script connect in earnest.
class scripted {
  public:
    /// The attempt on that port waits until the test ends it.
    plait::event& holds(std::uint16_t port, std::error_code then = {}) {
        errors_[port] = then;
        return gates_[port];
    }
    /// It fails at once.
    void fails(std::uint16_t port, std::error_code why) { holds(port, why).set(); }

    plait::detail::connect_attempt attempt() {
        return [this](endpoint peer) { return run(peer); };
    }
    std::vector<std::uint16_t> started;
    std::size_t canceled = 0;

  private:
    task<io_result<tcp_stream>> run(endpoint peer) {
        started.push_back(peer.port());
        const auto gate = gates_.find(peer.port());
        if (gate != gates_.end()) {
            auto opened = co_await gate->second.wait();
            if (!opened) {
                ++canceled;
                co_return errc::canceled;
            }
            if (errors_[peer.port()]) co_return errors_[peer.port()];
        }
        co_return co_await tcp_stream::connect(peer);
    }

    std::map<std::uint16_t, plait::event> gates_;
    std::map<std::uint16_t, std::error_code> errors_;
};

endpoint v4(std::uint16_t port) { return endpoint("127.0.0.1", port); }
endpoint v6(std::uint16_t port) { return endpoint("::1", port); }

/// (g++ 12 takes no braces for this in a co_await expression.)
template <class... E>
std::vector<endpoint> peers(E... each) {
    return {each...};
}

std::error_code error(std::errc what) { return std::make_error_code(what); }

/// A listener that answers nobody any more, because its backlog is full; unless the system has no limit that small.
class silent_listener {
  public:
    static task<silent_listener> make() {
        silent_listener made;
        for (std::size_t i = 0; i < 20 && !made.is_silent; ++i) {
            auto waiting = co_await plait::with_timeout(tcp_stream::connect(made.where()), 50ms);
            made.is_silent = waiting.error() == errc::timed_out;
            if (waiting) made.backlog_.push_back(std::move(*waiting));
        }
        co_return std::move(made);
    }
    endpoint where() const { return {"127.0.0.1", listener_.port()}; }

    bool is_silent = false;

  private:
    support::plain_listener listener_{1};
    std::vector<tcp_stream> backlog_;
};

/// What the system's lookup is said to have found. For any name.
std::vector<endpoint>& found_endpoints() {
    static std::vector<endpoint> found;
    return found;
}

class finds {
  public:
    explicit finds(std::vector<endpoint> what) {
        found_endpoints() = std::move(what);
        before_ = plait::detail::exchange_lookup(
            [](const std::string&, const std::string&, std::vector<endpoint>& found) {
                found = found_endpoints();
                return plait::detail::status();
            });
    }
    finds(const finds&) = delete;
    finds& operator=(const finds&) = delete;
    ~finds() { plait::detail::exchange_lookup(before_); }

  private:
    plait::detail::lookup_function before_;
};

/// An endpoint at which nobody listens.
task<endpoint> refusing_endpoint() {
    auto listener = co_await support::loopback_listener();
    const endpoint where = listener.local_endpoint().value();
    static_cast<void>(co_await listener.close());
    co_return where;
}

} // namespace

// --- the order -----------------------------------------------------------------------------------------------------

TEST_CASE("families take turns, beginning with the first answer's", "[connect]") {
    using list = std::vector<endpoint>;
    using plait::detail::alternate_families;
    CHECK(alternate_families({}).empty());
    CHECK(alternate_families({v4(1)}) == list{v4(1)});
    CHECK(alternate_families({v6(1), v6(2), v6(3), v4(4), v4(5)}) == list{v6(1), v4(4), v6(2), v4(5), v6(3)});
    CHECK(alternate_families({v4(1), v6(2), v6(3), v6(4)}) == list{v4(1), v6(2), v6(3), v6(4)});
    CHECK(alternate_families({v4(1), v4(2), v6(3)}) == list{v4(1), v6(3), v4(2)});
    CHECK(alternate_families({v6(1), v6(2)}) == list{v6(1), v6(2)});
}

// --- the race ------------------------------------------------------------------------------------------------------

TEST_CASE("the first of several endpoints is enough when it answers", "[connect]") {
    in_a_context([]() -> task<> {
        auto listener = co_await support::loopback_listener();
        scripted script;
        script.holds(1);
        auto stream = co_await connect_first(peers(v4(port_of(listener)), v4(1)), never, script.attempt());
        CHECK(stream.error() == std::error_code());
        CHECK(stream->remote_endpoint().value() == v4(port_of(listener)));
        CHECK(script.started == std::vector<std::uint16_t>{port_of(listener)});
    });
}

TEST_CASE("an attempt that fails makes room for the next at once", "[connect]") {
    in_a_context([]() -> task<> {
        auto listener = co_await support::loopback_listener();
        scripted script;
        script.fails(1, error(std::errc::connection_refused));
        script.fails(2, error(std::errc::network_unreachable));
        // The delay would never pass.
        auto stream =
            co_await connect_first(peers(v4(1), v6(2), v4(port_of(listener))), never, script.attempt());
        CHECK(stream.error() == std::error_code());
        CHECK(script.started == std::vector<std::uint16_t>{1, 2, port_of(listener)});
    });
}

TEST_CASE("a silent endpoint is not waited for: the next has its turn after the delay", "[connect]") {
    in_a_context([]() -> task<> {
        auto listener = co_await support::loopback_listener();
        scripted script;
        script.holds(1);
        script.holds(2);
        auto stream =
            co_await connect_first(peers(v6(1), v4(2), v4(port_of(listener))), 1ms, script.attempt());
        CHECK(stream.error() == std::error_code());
        CHECK(stream->remote_endpoint().value() == v4(port_of(listener)));
        CHECK(script.started == std::vector<std::uint16_t>{1, 2, port_of(listener)});
        CHECK(script.canceled == 2); // before connect_first completed
    });
}

TEST_CASE("no attempt starts before the delay has passed", "[connect]") {
    in_a_context([]() -> task<> {
        auto listener = co_await support::loopback_listener();
        scripted script;
        plait::event& first = script.holds(port_of(listener));
        auto connecting = [&]() -> task<> {
            auto stream =
                co_await connect_first(peers(v4(port_of(listener)), v4(1)), never, script.attempt());
            CHECK(stream.error() == std::error_code());
        };
        plait::task_group group;
        group.spawn(connecting);
        co_await support::let_run(20);
        CHECK(script.started.size() == 1);
        first.set();
        co_await group.join();
        CHECK(script.started.size() == 1);
    });
}

TEST_CASE("an older attempt may still win after the next has started", "[connect]") {
    in_a_context([]() -> task<> {
        auto listener = co_await support::loopback_listener();
        scripted script;
        plait::event& slow = script.holds(port_of(listener));
        script.holds(1);
        auto connecting = [&]() -> task<> {
            auto stream = co_await connect_first(peers(v4(port_of(listener)), v6(1)), 1ms, script.attempt());
            CHECK(stream.error() == std::error_code());
            CHECK(stream->remote_endpoint().value() == v4(port_of(listener)));
        };
        plait::task_group group;
        group.spawn(connecting);
        while (script.started.size() < 2) static_cast<void>(co_await plait::sleep_for(1ms));
        slow.set();
        co_await group.join();
        CHECK(script.canceled == 1);
    });
}

TEST_CASE("two connections at the same moment: one is given, the other is closed", "[connect]") {
    in_a_context([]() -> task<> {
        auto one = co_await support::loopback_listener();
        auto two = co_await support::loopback_listener();
        const std::size_t before = support::open_descriptors();
        std::size_t both = 0;
        for (std::size_t i = 0; i < scaled(100); ++i) {
            scripted script;
            auto stream =
                co_await connect_first(peers(v4(port_of(one)), v4(port_of(two))), 0ms, script.attempt());
            CHECK(stream.error() == std::error_code());
            if (script.started.size() == 2) ++both;
            CHECK(support::open_descriptors() == before + 1);
        }
        INFO(both << " times both were under way");
        CHECK(support::open_descriptors() == before);
    });
}

TEST_CASE("when every attempt fails, the first that reached somebody has the word", "[connect]") {
    in_a_context([]() -> task<> {
        scripted script;
        script.fails(1, error(std::errc::network_unreachable));
        script.fails(2, error(std::errc::connection_refused));
        script.fails(3, error(std::errc::timed_out));
        auto told = co_await connect_first(peers(v6(1), v4(2), v4(3)), never, script.attempt());
        CHECK(told.error() == std::errc::connection_refused);
        auto no_way = co_await connect_first(peers(v6(1)), never, script.attempt());
        CHECK(no_way.error() == std::errc::network_unreachable);
        CHECK(script.started == std::vector<std::uint16_t>{1, 2, 3, 1});
    });
}

#if PLAIT_HAS_EXCEPTIONS
TEST_CASE("an exception of an attempt ends the others and comes out", "[connect]") {
    in_a_context([]() -> task<> {
        scripted script;
        script.holds(1);
        auto usual = script.attempt();
        plait::detail::connect_attempt throwing = [&](endpoint peer) -> task<io_result<tcp_stream>> {
            if (peer.port() == 2) throw std::bad_alloc();
            co_return co_await usual(peer);
        };
        bool came = false;
        try {
            static_cast<void>(co_await connect_first(peers(v4(1), v4(2)), 1ms, throwing));
        } catch (const std::bad_alloc&) {
            came = true;
        }
        CHECK(came);
        CHECK(script.canceled == 1);
    });
}
#endif

// --- cancelling ----------------------------------------------------------------------------------------------------

TEST_CASE("cancelling ends every attempt before it completes", "[connect]") {
    in_a_context([]() -> task<> {
        scripted script;
        for (std::uint16_t port : {std::uint16_t{1}, std::uint16_t{2}, std::uint16_t{3}}) script.holds(port);
        const std::size_t before = support::open_descriptors();
        bool over = false;
        auto connecting = [&]() -> task<> {
            auto stream = co_await connect_first(peers(v4(1), v6(2), v4(3)), 1ms, script.attempt());
            CHECK(stream.error() == errc::canceled);
            CHECK(script.canceled == 3);
            over = true;
        };
        plait::task_group group;
        group.spawn(connecting);
        while (script.started.size() < 3) static_cast<void>(co_await plait::sleep_for(1ms));
        group.request_stop();
        CHECK_FALSE(over);
        co_await group.join();
        CHECK(over);
        CHECK(support::open_descriptors() == before);
    });
}

TEST_CASE("connections to a name that are cancelled or destroyed at any moment leave nothing open",
          "[connect]") {
    in_a_context([]() -> task<> {
        auto listener = co_await support::loopback_listener();
        const finds both({v6(port_of(listener)), v4(port_of(listener))});
        auto& here = co_await plait::detail::this_environment();
        auto accepts = [&]() -> task<> {
            for (;;) {
                auto accepted = co_await listener.accept();
                if (!accepted) co_return;
            }
        };
        plait::task_group server;
        server.spawn(accepts);
        co_await support::let_run(2); // a system may hold sockets ready for whom it accepts
        const std::size_t before = support::open_descriptors();
        auto connects = [&]() -> task<> {
            auto stream = co_await tcp_stream::connect("name", "80");
            const bool expected = stream.has_value() || stream.error() == errc::canceled;
            CHECK(expected);
        };
        const std::size_t count = scaled(300);
        for (std::size_t i = 0; i < count; ++i) {
            support::cancellable connecting(support::carry(connects()), here);
            co_await support::let_run(i % 16);
            if (i % 2 == 0)
                connecting.cancel();
            else
                connecting.destroy();
            while (!connecting.done()) co_await plait::yield();
        }
        // The last that the server accepted may still be on its way.
        while (support::open_descriptors() > before) static_cast<void>(co_await plait::sleep_for(1ms));
        static_cast<void>(co_await listener.close());
        co_await server.join();
    });
}

// --- by name -------------------------------------------------------------------------------------------------------

TEST_CASE("a stream is connected to a name", "[connect]") {
    in_a_context([]() -> task<> {
        auto listener = co_await support::loopback_listener();
        const std::string service = std::to_string(port_of(listener));
        auto near = co_await tcp_stream::connect("localhost", service);
        CHECK(near.error() == std::error_code());
        auto far = co_await listener.accept();
        CHECK(far.error() == std::error_code());
        auto sent = co_await near->send_all("word");
        CHECK(sent.bytes() == 4);
        auto heard = co_await far->recv();
        CHECK(plait::as_text(heard->bytes()) == "word");
        auto literal = co_await tcp_stream::connect("127.0.0.1", service);
        CHECK(literal.error() == std::error_code());
    });
}

TEST_CASE("a name with a refused address and a good one leads to the good one", "[connect]") {
    in_a_context([]() -> task<> {
        auto listener = co_await support::loopback_listener();
        const endpoint refused = co_await refusing_endpoint();
        const finds both({refused, v4(port_of(listener))});
        auto stream = co_await tcp_stream::connect("name", "80");
        CHECK(stream.error() == std::error_code());
        CHECK(stream->remote_endpoint().value() == v4(port_of(listener)));
    });
}

TEST_CASE("a name with a silent address and a good one leads to the good one, and leaves nothing open",
          "[connect]") {
    bool is_silent = true;
    in_a_context([&]() -> task<> {
        auto silent = co_await silent_listener::make();
        is_silent = silent.is_silent;
        if (!is_silent) co_return;
        auto good = co_await support::loopback_listener();
        const std::size_t before = support::open_descriptors();
        {
            const finds both({silent.where(), v4(port_of(good))});
            auto stream = co_await tcp_stream::connect("name", "80");
            CHECK(stream.error() == std::error_code());
            CHECK(stream->remote_endpoint().value() == v4(port_of(good)));
            CHECK(support::open_descriptors() == before + 1);
        }
        const finds one({silent.where()});
        auto stream = co_await plait::with_timeout(tcp_stream::connect("name", "80"), 20ms);
        CHECK(stream.error() == errc::timed_out);
        CHECK(support::open_descriptors() == before);
    });
    if (!is_silent) SKIP("20 connections to a listener with a backlog of 1 give 0, a success, here");
}

TEST_CASE("a name whose addresses all refuse is refused", "[connect]") {
    in_a_context([]() -> task<> {
        const endpoint refused = co_await refusing_endpoint();
        const finds one({refused});
        auto stream = co_await tcp_stream::connect("name", "80");
        CHECK(stream.error() == std::errc::connection_refused);
    });
}

TEST_CASE("connect copies host and service before it is awaited", "[connect]") {
    in_a_context([]() -> task<> {
        auto listener = co_await support::loopback_listener();
        std::string host = "localhost", service = std::to_string(port_of(listener));
        auto connecting = tcp_stream::connect(host, service);
        host = "elsewhere";
        service = "1";
        auto stream = co_await std::move(connecting);
        CHECK(stream.error() == std::error_code());
    });
}
