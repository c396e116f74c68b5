// One address served by several contexts: where connections go, what bounds them, and how it ends.

#include <plait/framing.hpp>
#include <plait/serve.hpp>
#include <plait/udp.hpp>

#include "support/lacks.hpp"
#include "support/plain_client.hpp"
#include "support/scale.hpp"
#include "support/system.hpp"
#include "support/watchdog.hpp"

#include <catch2/catch_test_macros.hpp>
#include <catch2/generators/catch_generators.hpp>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <map>
#include <mutex>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

using namespace std::chrono_literals;
using plait::endpoint;
using plait::errc;
using plait::io_context;
using plait::io_result;
using plait::run_per_core;
using plait::serve_options;
using plait::serve_per_core;
using plait::task;
using plait::tcp_stream;
using support::plain_client;

namespace {

using results = std::vector<io_result<void>>;

void wait_until(const auto& condition) {
    while (!condition()) std::this_thread::sleep_for(1ms);
}

/// Which threads had sessions, and how many at a time. Catch2 takes no checks from other threads: what they saw is
/// checked afterwards.
class watched {
  public:
    void begin() {
        std::lock_guard lock(mutex_);
        ++by_thread_[std::this_thread::get_id()];
        ++started_;
        most_ = std::max(most_, ++live_);
    }
    void end(std::error_code error) {
        std::lock_guard lock(mutex_);
        --live_;
        ends_.push_back(error);
    }
    template <class F>
    auto look(F f) const {
        std::lock_guard lock(mutex_);
        return f(*this);
    }
    std::vector<int> by_thread() const {
        return look([](const watched& all) {
            std::vector<int> counts;
            for (const auto& [thread, count] : all.by_thread_) counts.push_back(count);
            return counts;
        });
    }
    int started() const {
        return look([](const watched& all) { return all.started_; });
    }
    int live() const {
        return look([](const watched& all) { return all.live_; });
    }
    int most() const {
        return look([](const watched& all) { return all.most_; });
    }
    std::vector<std::error_code> ends() const {
        return look([](const watched& all) { return all.ends_; });
    }

  private:
    mutable std::mutex mutex_;
    std::map<std::thread::id, int> by_thread_;
    std::vector<std::error_code> ends_;
    int live_ = 0;
    int most_ = 0;
    int started_ = 0;
};

/// Sends back what it receives.
template <class S>
task<> echo(S stream, watched& seen) {
    seen.begin();
    std::error_code error;
    while (!error) {
        auto received = co_await stream.recv();
        error = received.error();
        if (error) break;
        auto sent = co_await stream.send_all(received->bytes());
        error = sent.error();
    }
    seen.end(error);
}

/// What a client of a test can do to the server. The contexts belong to their threads, so each looks for itself whether
/// something was asked of it.
class site {
  public:
    explicit site(std::size_t contexts) : orders_(contexts) {}

    void drain(std::size_t index) { orders_[index] = order::drain; }
    void stop(std::size_t index) { orders_[index] = order::stop; }

    /// Until it is cancelled.
    task<> obey(std::size_t index) {
        io_context& context = co_await plait::this_context();
        bool asked = false;
        while (!asked) {
            auto slept = co_await plait::sleep_for(1ms);
            if (!slept) co_return;
            const order what = orders_[index];
            asked = what != order::none;
            if (what == order::drain) context.request_drain();
            if (what == order::stop) context.request_stop();
        }
    }

    std::uint16_t port = 0;

  private:
    enum class order : int { none, drain, stop };
    std::vector<std::atomic<order>> orders_;
};

/// Runs `serve` on this context, beside what obeys the client.
template <class Serve>
task<io_result<void>> obedient(site& where, std::size_t index, Serve serve) {
    plait::task_group group;
    group.spawn(&site::obey, &where, index);
    auto result = co_await serve();
    group.request_stop();
    co_await group.join();
    co_return result;
}

/// Serves a free port on `n` contexts, and runs `client(site&)` on a thread of its own meanwhile.
template <class Session, class Client>
results serve_on(std::size_t n, Session session, serve_options options, Client client) {
    site where(n);
    std::jthread talker; // joined also when an exception comes out
    std::atomic<int> announced{0};
    options.on_listening([&](const endpoint& local) {
        ++announced;
        where.port = local.port();
        talker = std::jthread([&] { client(where); });
    });
    auto serve = [&] { return serve_per_core({"127.0.0.1", 0}, session, options); };
    results all = run_per_core(n, [&](std::size_t index) { return obedient(where, index, std::ref(serve)); });
    talker.join();
    CHECK(announced == 1);
    CHECK(where.port != 0);
    REQUIRE(all.size() == n);
    return all;
}

std::string exchange(plain_client& client, const std::string& text) {
    client.send(text);
    return client.receive(text.size());
}

void check_all(const results& all) {
    for (const auto& each : all) CHECK(each);
}

} // namespace

// --- who gets a connection -------------------------------------------------------------------------------------------

TEST_CASE("connections are spread over the contexts", "[serve_per_core]") {
    const auto connections = static_cast<int>(std::max<std::size_t>(20, support::scaled(200)));
    watched seen;
    int answered = 0;
    auto session = [&](tcp_stream stream) { return echo(std::move(stream), seen); };
    const results all = serve_on(2, session, {}, [&](site& server) {
        for (int i = 0; i < connections; ++i) {
            plain_client client(server.port);
            if (exchange(client, "hello") == "hello") ++answered;
        }
        server.drain(0);
    });
    check_all(all);
    CHECK(answered == connections);
    CHECK(seen.started() == connections);
    CHECK(seen.by_thread().size() == 2);
}

TEST_CASE("one acceptor gives each connection to the context with the fewest sessions", "[serve_per_core]") {
    watched seen;
    int answered = 0;
    auto session = [&](tcp_stream stream) { return echo(std::move(stream), seen); };
    const results all = serve_on(3, session, serve_options().one_acceptor(), [&](site& server) {
        std::vector<plain_client> clients;
        for (int i = 0; i < 60; ++i) clients.emplace_back(server.port);
        for (auto& each : clients)
            if (exchange(each, "hello") == "hello") ++answered;
        server.drain(1);
    });
    check_all(all);
    CHECK(answered == 60);
    CHECK(seen.by_thread() == std::vector<int>{20, 20, 20});
}

TEST_CASE("two addresses are served side by side by the same contexts", "[serve_per_core]") {
    watched letters, digits;
    std::atomic<int> port_of_letters{0}, port_of_digits{0};
    site server(2);
    std::string answers;
    std::thread client([&] {
        wait_until([&] { return port_of_letters != 0 && port_of_digits != 0; });
        plain_client first(static_cast<std::uint16_t>(port_of_letters));
        plain_client second(static_cast<std::uint16_t>(port_of_digits));
        answers = exchange(first, "a") + exchange(second, "1");
        server.drain(1);
    });
    auto serve_one = [](watched& seen, std::atomic<int>& port) -> task<io_result<void>> {
        serve_options options;
        options.on_listening([&port](const endpoint& local) { port = local.port(); });
        auto session = [&seen](tcp_stream stream) { return echo(std::move(stream), seen); };
        const endpoint any_port("127.0.0.1", 0);
        auto result = co_await serve_per_core(any_port, session, options);
        co_return result;
    };
    run_per_core(2, [&](std::size_t index) -> task<> {
        plait::task_group both;
        both.spawn(&site::obey, &server, index);
        both.spawn(serve_one, std::ref(letters), std::ref(port_of_letters));
        both.spawn(serve_one, std::ref(digits), std::ref(port_of_digits));
        while (both.size() > 1) static_cast<void>(co_await plait::sleep_for(1ms));
        both.request_stop();
        co_await both.join();
    });
    client.join();
    CHECK(answers == "a1");
    CHECK(port_of_letters != port_of_digits);
    CHECK(letters.started() == 1);
    CHECK(digits.started() == 1);
}

TEST_CASE("outside of run_per_core one context serves alone", "[serve_per_core]") {
    watched seen;
    std::string answer;
    std::thread client;
    io_context context;
    serve_options options;
    options.on_listening([&](const endpoint& local) {
        client = std::thread([&answer, &context, port = local.port()] {
            plain_client talker(port);
            answer = exchange(talker, "hello");
            context.request_drain();
        });
    });
    auto session = [&](tcp_stream stream) { return echo(std::move(stream), seen); };
    const auto result = context.run(serve_per_core({"127.0.0.1", 0}, session, options));
    client.join();
    CHECK(result);
    CHECK(answer == "hello");
}

TEST_CASE("on_listening of serve tells where", "[serve_per_core]") {
    endpoint told, asked;
    auto body = [&]() -> task<io_result<void>> {
        const endpoint any_port("127.0.0.1", 0);
        auto listener = co_await plait::tcp_listener::bind(any_port);
        asked = listener->local_endpoint().value();
        io_context& context = co_await plait::this_context();
        serve_options options;
        options.on_listening([&](const endpoint& local) {
            told = local;
            context.request_drain();
        });
        auto session = [](tcp_stream) -> task<> { co_return; };
        auto result = co_await plait::serve(std::move(*listener), session, options);
        co_return result;
    };
    CHECK(plait::run(body()));
    CHECK(told == asked);
}

// --- the port ------------------------------------------------------------------------------------------------------

TEST_CASE("who serves on several contexts has the port for itself", "[serve_per_core]") {
    std::error_code stranger;
    auto session = [](tcp_stream) -> task<> { co_return; };
    const results all = serve_on(2, session, {}, [&](site& server) {
        auto bind = [](endpoint where) -> task<std::error_code> {
            auto listener = co_await plait::tcp_listener::bind(where);
            co_return listener.error();
        };
        stranger = plait::run(bind(endpoint("127.0.0.1", server.port)));
        server.drain(0);
    });
    check_all(all);
    CHECK(stranger == std::errc::address_in_use);
}

TEST_CASE("an address that is in use is the result of every context", "[serve_per_core]") {
    const bool shared = GENERATE(false, true); // whether the other one would share its port
    if (shared && !support::listeners_share_ports()) SKIP("about Linux: listeners that share a port");
    auto body = [&]() -> task<> {
        const endpoint any_port("127.0.0.1", 0);
        plait::listen_options options;
        options.reuse_port(shared);
        auto taken = co_await plait::tcp_listener::bind(any_port, options);
        const endpoint where = taken->local_endpoint().value();
        int announced = 0;
        std::vector<std::error_code> errors;
        std::thread other([&] {
            serve_options quiet;
            quiet.on_listening([&](const endpoint&) { ++announced; });
            auto session = [](tcp_stream) -> task<> { co_return; };
            for (const auto& each : run_per_core(3, [&] { return serve_per_core(where, session, quiet); }))
                errors.push_back(each.error());
        });
        other.join();
        CHECK(announced == 0);
        CHECK(errors.size() == 3);
        for (const auto& each : errors) CHECK(each == std::errc::address_in_use);
    };
    plait::run(body());
}

TEST_CASE("an address that is none is an invalid argument", "[serve_per_core]") {
    auto session = [](tcp_stream) -> task<> { co_return; };
    for (const auto& each : run_per_core(2, [&] { return serve_per_core({"nowhere", 80}, session); }))
        CHECK(each.error() == std::errc::invalid_argument);
    auto by_path = [](plait::unix_stream) -> task<> { co_return; };
    for (const auto& each : run_per_core(2, [&] { return serve_per_core("", by_path); }))
        CHECK(each.error() == std::errc::invalid_argument);
}

// --- limits and errors -------------------------------------------------------------------------------------------------

TEST_CASE("max_connections bounds the sessions of all contexts together", "[serve_per_core]") {
    const bool one_acceptor = GENERATE(false, true);
    const std::size_t most = GENERATE(1u, 2u);
    watched seen;
    int answered = 0;
    auto session = [&](tcp_stream stream) { return echo(std::move(stream), seen); };
    auto options = serve_options().max_connections(most).one_acceptor(one_acceptor);
    const results all = serve_on(3, session, options, [&](site& server) {
        std::vector<std::thread> clients;
        std::atomic<int> good{0};
        for (int i = 0; i < 12; ++i)
            clients.emplace_back([&] {
                plain_client client(server.port);
                if (exchange(client, "hello") == "hello") ++good;
            });
        for (auto& each : clients) each.join();
        answered = good;
        server.drain(2);
    });
    check_all(all);
    CHECK(answered == 12);
    CHECK(seen.started() == 12);
    CHECK(seen.most() <= static_cast<int>(most));
}

TEST_CASE("an idle session is cancelled on every context", "[serve_per_core]") {
    watched seen;
    auto session = [&](tcp_stream stream) { return echo(std::move(stream), seen); };
    const results all = serve_on(2, session, serve_options().idle_timeout(20ms), [&](site& server) {
        std::vector<plain_client> clients;
        for (int i = 0; i < 20; ++i) clients.emplace_back(server.port);
        for (auto& each : clients) each.receive(1);
        server.drain(0);
    });
    check_all(all);
    CHECK(seen.ends() == std::vector<std::error_code>(20, make_error_code(errc::canceled)));
}

TEST_CASE("on_error hears of the sessions of every context", "[serve_per_core]") {
    std::mutex mutex;
    std::map<std::thread::id, int> reports;
    auto session = [&](tcp_stream) -> task<io_result<void>> { co_return errc::malformed_frame; };
    serve_options options;
    options.on_error([&](std::error_code error, const endpoint& peer) {
        std::lock_guard lock(mutex);
        if (error == errc::malformed_frame && peer.port() != 0) ++reports[std::this_thread::get_id()];
    });
    options.one_acceptor();
    const results all = serve_on(2, session, options, [&](site& server) {
        std::vector<plain_client> clients;
        for (int i = 0; i < 20; ++i) clients.emplace_back(server.port);
        for (auto& each : clients) each.receive(1);
        server.drain(0);
    });
    check_all(all);
    int sum = 0;
    for (const auto& [thread, count] : reports) sum += count;
    CHECK(sum == 20);
}

#if PLAIT_HAS_EXCEPTIONS
TEST_CASE("an exception of a session stops all contexts", "[serve_per_core]") {
    std::atomic<int> cancelled{0};
    std::string message;
    auto session = [&](tcp_stream stream) -> task<> {
        auto received = co_await stream.recv();
        if (!received) {
            if (received.error() == errc::canceled) ++cancelled;
            co_return;
        }
        throw std::runtime_error("from a session");
    };
    try {
        serve_on(2, session, serve_options().one_acceptor(), [&](site& server) {
            std::vector<plain_client> clients;
            for (int i = 0; i < 10; ++i) clients.emplace_back(server.port);
            clients[3].send("x");
            for (auto& each : clients) each.receive(1);
        });
    } catch (const std::runtime_error& error) {
        message = error.what();
    }
    CHECK(message == "from a session");
    CHECK(cancelled <= 9);
}
#endif

// --- the end -----------------------------------------------------------------------------------------------------------

TEST_CASE("one signal drains all contexts", "[serve_per_core]") {
    const bool one_acceptor = GENERATE(false, true);
    watched seen;
    auto session = [&](tcp_stream stream) { return echo(std::move(stream), seen); };
    auto options = serve_options().stop_on({support::first_signal(), support::second_signal()});
    const results all = serve_on(3, session, options.one_acceptor(one_acceptor), [&](site& server) {
        std::vector<plain_client> clients;
        for (int i = 0; i < 30; ++i) clients.emplace_back(server.port);
        for (auto& each : clients) exchange(each, "hello");
        support::send_signal_to_process(support::first_signal());
        for (auto& each : clients) each.receive(1);
    });
    check_all(all);
    CHECK(seen.ends() == std::vector<std::error_code>(30, make_error_code(errc::draining)));
}

TEST_CASE("a second signal stops all contexts", "[serve_per_core]") {
    std::atomic<int> waiting{0}, draining{0}, cancelled{0};
    auto session = [&](tcp_stream stream) -> task<> {
        ++waiting;
        auto received = co_await stream.recv();
        if (received.error() == errc::draining) ++draining;
        auto slept = co_await plait::sleep_for(1h);
        if (slept.error() == errc::canceled) ++cancelled;
    };
    auto options = serve_options().stop_on(support::first_signal()).drain_timeout(1h).one_acceptor();
    const results all = serve_on(2, session, options, [&](site& server) {
        std::vector<plain_client> clients;
        for (int i = 0; i < 8; ++i) clients.emplace_back(server.port);
        wait_until([&] { return waiting == 8; });
        support::send_signal_to_process(support::first_signal());
        wait_until([&] { return draining == 8; });
        support::send_signal_to_process(support::first_signal());
        for (auto& each : clients) each.receive(1);
    });
    for (const auto& each : all) CHECK(each.error() == errc::canceled);
    CHECK(cancelled == 8);
}

TEST_CASE("the drain's deadline is that of every context", "[serve_per_core]") {
    auto session = [](tcp_stream) -> task<> { static_cast<void>(co_await plait::sleep_for(1h)); };
    auto options = serve_options().drain_timeout(10ms).one_acceptor();
    watched seen;
    auto counted = [&](tcp_stream stream) -> task<> {
        seen.begin();
        co_await session(std::move(stream));
        seen.end({});
    };
    const results all = serve_on(2, counted, options, [&](site& server) {
        std::vector<plain_client> clients;
        for (int i = 0; i < 8; ++i) clients.emplace_back(server.port);
        wait_until([&] { return seen.started() == 8; });
        server.drain(0);
        for (auto& each : clients) each.receive(1);
    });
    for (const auto& each : all) CHECK(each.error() == errc::timed_out);
}

TEST_CASE("request_stop of one context ends the servers of all", "[serve_per_core]") {
    const std::size_t which = GENERATE(0u, 1u);
    const bool one_acceptor = GENERATE(false, true);
    watched seen;
    auto session = [&](tcp_stream stream) { return echo(std::move(stream), seen); };
    const results all = serve_on(2, session, serve_options().one_acceptor(one_acceptor), [&](site& server) {
        std::vector<plain_client> clients;
        for (int i = 0; i < 10; ++i) clients.emplace_back(server.port);
        for (auto& each : clients) exchange(each, "hello");
        server.stop(which);
        for (auto& each : clients) each.receive(1);
    });
    for (const auto& each : all) CHECK(each.error() == errc::canceled);
    CHECK(seen.ends() == std::vector<std::error_code>(10, make_error_code(errc::canceled)));
}

TEST_CASE("connections that wait for a slot are served although the drain has begun", "[serve_per_core]") {
    watched seen;
    int answered = 0;
    auto session = [&](tcp_stream stream) { return echo(std::move(stream), seen); };
    auto options = serve_options().max_connections(1).drain_timeout(1h);
    const results all = serve_on(2, session, options, [&](site& server) {
        std::vector<plain_client> clients;
        for (int i = 0; i < 6; ++i) {
            clients.emplace_back(server.port);
            clients.back().send("hello");
        }
        wait_until([&] { return seen.started() > 0; });
        server.drain(1);
        for (auto& each : clients)
            if (each.receive(5) == "hello") ++answered;
    });
    check_all(all);
    CHECK(answered == 6);
}

TEST_CASE("no socket is left over when contexts end while connections come", "[serve_per_core]") {
    plait::run([]() -> task<> { co_return; }()); // what a first context keeps
    const std::size_t before = support::open_descriptors();
    for (std::size_t round = 0; round < support::scaled(20); ++round) {
        watched seen;
        auto session = [&](tcp_stream stream) { return echo(std::move(stream), seen); };
        results all = serve_on(3, session, serve_options().one_acceptor(), [&](site& server) {
            std::vector<plain_client> some;
            for (int i = 0; i < 50; ++i) some.emplace_back(server.port);
            wait_until([&] { return seen.started() > 5; });
            server.stop(round % 3);
        });
        for (const auto& each : all) CHECK(each.error() == errc::canceled);
    }
    CHECK(support::open_descriptors() == before);
}

// --- Unix sockets --------------------------------------------------------------------------------------------------------

TEST_CASE("a Unix socket is served by all contexts, through one acceptor", "[serve_per_core]") {
    if (const std::string why = support::lacks_unix_abstract_names(); !why.empty()) SKIP(why);
    const auto path =
        plait::unix_path::abstract("plait serve_per_core test " +
                                   std::to_string(std::hash<std::thread::id>()(std::this_thread::get_id())));
    watched seen;
    std::string answers;
    std::vector<plait::unix_path> told;
    std::thread client;
    site server(2);
    serve_options options;
    options.on_listening([&](const plait::unix_path& where) {
        told.push_back(where);
        client = std::thread([&] {
            auto talk = [&]() -> task<> {
                std::vector<plait::unix_stream> streams;
                for (int i = 0; i < 6; ++i) {
                    auto stream = co_await plait::unix_stream::connect(path);
                    streams.push_back(std::move(*stream));
                }
                for (auto& each : streams) {
                    static_cast<void>(co_await each.send_all("x"));
                    auto received = co_await each.recv();
                    if (received) answers += plait::as_text(received->bytes());
                }
            };
            plait::run(talk());
            server.drain(0);
        });
    });
    auto session = [&](plait::unix_stream stream) { return echo(std::move(stream), seen); };
    auto serve = [&] { return serve_per_core(path, session, options); };
    results all =
        run_per_core(2, [&](std::size_t index) { return obedient(server, index, std::ref(serve)); });
    if (client.joinable()) client.join();
    check_all(all);
    CHECK(told == std::vector<plait::unix_path>{path});
    CHECK(answers == "xxxxxx");
    CHECK(seen.by_thread() == std::vector<int>{3, 3});
}
