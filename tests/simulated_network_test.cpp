#include <plait/testing/simulated_network.hpp>

#include <plait/plait.hpp>

#include "support/simulations.hpp"
#include "support/sockets.hpp"
#include "support/streams.hpp"
#include "support/watchdog.hpp"

#include <catch2/catch_test_macros.hpp>

#include <array>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

using namespace std::chrono_literals;
using plait::context_options;
using plait::endpoint;
using plait::errc;
using plait::io_context;
using plait::ip_address;
using plait::task;
using plait::task_group;
using plait::tcp_listener;
using plait::tcp_stream;
using plait::udp_socket;
using plait::testing::simulated_network;
using support::connected_at;
using support::listen_at;
using support::numbered_text;
using support::on;
using support::server_address;
using support::stopwatch;

namespace {

const ip_address server_host = server_address.address();
const ip_address client_host = ip_address::v4({192, 0, 2, 1}); // where connects come from
const std::vector<endpoint> db_endpoints{{"10.0.0.2", 80}, {"fd00::2", 80}};
const std::vector<std::errc> out_of_files{std::errc::too_many_files_open};
const std::vector<std::errc> aborted_connection{std::errc::connection_aborted};
const std::array<plait::unix_path, 2> unix_names{plait::unix_path("/no/such/folder/s"),
                                                 plait::unix_path::abstract("s")};

/// Awaits what must succeed.
template <class A>
task<> works(A awaitable) {
    auto result = co_await std::move(awaitable);
    CHECK(result.error() == std::error_code());
}

} // namespace

// --- contexts and their clock ----------------------------------------------------------------------------------------

TEST_CASE("a context on a simulated network says so, and why", "[simulated]") {
    simulated_network network(42);
    CHECK(network.seed() == 42);
    io_context context(network.options());
    CHECK(context.backend() == plait::backend::simulated);
    CHECK(plait::to_string(context.backend()) == "simulated");
    CHECK(context.backend_reason() == "a simulated network, with seed 42");
    io_context alone(context_options().backend(plait::backend::simulated));
    CHECK(alone.backend() == plait::backend::simulated);
    CHECK(alone.backend_reason() == "asked for: a simulated network of this context's own, with seed 1");
}

TEST_CASE("an hour of sleep and of time-outs takes no time", "[simulated]") {
    simulated_network network(1);
    on(network, [&]() -> task<> {
        io_context& context = co_await plait::this_context();
        const stopwatch watch(network);
        co_await works(plait::sleep_for(1h));
        CHECK(watch.read() >= 1h);
        CHECK(watch.read() < 1h + 1ms);
        auto late = co_await plait::with_timeout(plait::sleep_for(24h * 365), 24h);
        CHECK(late.error() == errc::timed_out);
        CHECK(watch.read() < 25h + 1ms);
        co_await works(plait::sleep_until(context.now() + 10s));
        const plait::steady_time here = context.now();
        CHECK(here == network.now());
    });
}

TEST_CASE("tasks that only yield see time pass", "[simulated]") {
    simulated_network network(1);
    network.latency(1ms, 1ms);
    on(network, [&]() -> task<> {
        tcp_listener listener = co_await listen_at(server_address);
        std::optional<bool> connected;
        auto connects = [&]() -> task<> {
            connected = (co_await tcp_stream::connect(server_address)).has_value();
        };
        task_group group;
        group.spawn(connects);
        while (!connected) co_await plait::yield();
        CHECK(*connected);
        co_await group.join();
    });
}

TEST_CASE(
    "the network outlives its object as long as a context needs it, and contexts may follow one another",
    "[simulated]") {
    std::optional<io_context> context;
    tcp_listener kept;
    {
        simulated_network network(3);
        const plait::steady_time before = network.now();
        on(network, []() -> task<> { co_await plait::sleep_for(1s); });
        CHECK(network.now() - before >= 1s);
        context.emplace(network.options());
    }
    auto body = [&]() -> task<> { kept = co_await listen_at(server_address); };
    context->run(body());
    auto again = [&]() -> task<> {
        auto stream = co_await tcp_stream::connect(server_address);
        CHECK(stream.has_value());
    };
    context->run(again());
    context.reset();
}

TEST_CASE("a socket that one context releases may be adopted by the next on the same network",
          "[simulated]") {
    simulated_network network(3);
    plait::native_socket listener = -1, stream = -1;
    std::optional<tcp_stream> peer;
    io_context first(network.options());
    auto releases = [&]() -> task<> {
        tcp_listener opened = co_await listen_at(server_address);
        auto pair = co_await support::connected_pair(opened);
        co_await works(pair.near.send_all("hello"));
        stream = (co_await pair.far.release()).value();
        listener = (co_await opened.release()).value();
        peer = std::move(pair.near);
    };
    first.run(releases());
    on(network, [&]() -> task<> {
        auto nothing = co_await tcp_stream::from_native_handle(listener);
        CHECK(nothing.error() == std::errc::invalid_argument);
        auto far = co_await tcp_stream::from_native_handle(stream);
        REQUIRE(far.has_value());
        const std::string got = co_await support::receive_text(*far, 5);
        CHECK(got == "hello");
        auto opened = co_await tcp_listener::from_native_handle(listener);
        REQUIRE(opened.has_value());
        CHECK(opened->local_endpoint().value() == server_address);
    });
    peer.reset();
    simulated_network other(3);
    on(other, [&]() -> task<> {
        auto stranger = co_await tcp_stream::from_native_handle(stream);
        CHECK(stranger.error() == std::errc::bad_file_descriptor);
    });
}

TEST_CASE("for a call on another thread the clock stands still", "[simulated]") {
    simulated_network network(1);
    on(network, [&]() -> task<> {
        const stopwatch watch(network);
        auto slow = [] {
            std::this_thread::sleep_for(20ms);
            return 7;
        };
        const int answer = co_await plait::offload(slow);
        CHECK(answer == 7);
        auto waits = [&]() -> task<plait::io_result<int>> { co_return co_await plait::offload(slow); };
        auto in_time = co_await plait::with_timeout(waits(), 1ms);
        CHECK(in_time.value_or(0) == 7);
        CHECK(watch.read() < 1ms);
    });
}

TEST_CASE("what another thread posts arrives while nothing else can happen", "[simulated]") {
    simulated_network network(1);
    io_context context(network.options());
    plait::event posted;
    std::thread other;
    auto body = [&]() -> task<> {
        other = std::thread([&] {
            std::this_thread::sleep_for(10ms);
            context.post([&] { posted.set(); });
        });
        co_await works(posted.wait());
    };
    context.run(body());
    other.join();
}

// --- streams without faults ------------------------------------------------------------------------------------------

TEST_CASE("addresses are anybody's, and both ends know them", "[simulated]") {
    simulated_network network(5);
    on(network, [&]() -> task<> {
        auto pair = co_await connected_at(server_address);
        CHECK(pair.far.local_endpoint().value() == server_address);
        CHECK(pair.near.remote_endpoint().value() == server_address);
        CHECK(pair.near.local_endpoint().value() == pair.far.remote_endpoint().value());
        CHECK(pair.near.local_endpoint().value().address() == client_host);
        network.connect_from(ip_address::v4({10, 0, 0, 9}));
        auto other = co_await connected_at({"10.0.0.3", 80});
        CHECK(other.far.remote_endpoint().value().address() == ip_address::v4({10, 0, 0, 9}));
        auto six = co_await connected_at({"fd00::1", 80});
        CHECK(six.far.remote_endpoint().value().address().to_string() == "2001:db8::1");
        auto both = co_await connected_at({"::", 81});
        CHECK(both.far.remote_endpoint().value().address().is_v6());
        auto nobody = co_await tcp_stream::connect({"10.0.0.4", 80});
        CHECK(nobody.error() == std::errc::connection_refused);
    });
}

TEST_CASE("a dual-stack listener shows IPv4 clients as mapped addresses", "[simulated]") {
    simulated_network network(5);
    on(network, [&]() -> task<> {
        tcp_listener listener = co_await listen_at({"::", 8000});
        auto near = co_await tcp_stream::connect(server_address);
        auto far = co_await listener.accept();
        REQUIRE(far.has_value());
        CHECK(far->remote_endpoint().value().address().to_string() == "::ffff:192.0.2.1");
        listener = co_await listen_at({"::", 8001}, plait::listen_options().v6_only());
        auto refused = co_await tcp_stream::connect({"10.0.0.2", 8001});
        CHECK(refused.error() == std::errc::connection_refused);
    });
}

TEST_CASE("a port has one owner, unless all of them share it", "[simulated]") {
    simulated_network network(5);
    on(network, [&]() -> task<> {
        tcp_listener first = co_await listen_at({"0.0.0.0", 8000});
        auto second = co_await tcp_listener::bind(server_address);
        CHECK(second.error() == std::errc::address_in_use);
        auto datagrams = co_await udp_socket::bind(server_address);
        CHECK(datagrams.has_value()); // another protocol
        static_cast<void>(co_await first.close());
        second = co_await tcp_listener::bind(server_address);
        CHECK(second.has_value());
        const auto shared = plait::listen_options().reuse_port();
        tcp_listener one = co_await listen_at({"10.0.0.3", 80}, shared);
        tcp_listener two = co_await listen_at({"10.0.0.3", 80}, shared);
        CHECK(one.local_endpoint().value() == two.local_endpoint().value());
    });
}

TEST_CASE("resolve knows literals, localhost and the hosts that the test has named", "[simulated]") {
    simulated_network network(5);
    network.host("db.test", {server_host, ip_address::parse("fd00::2").value()});
    on(network, [&]() -> task<> {
        auto db = co_await plait::resolve("db.test", "80");
        REQUIRE(db.has_value());
        CHECK(*db == db_endpoints);
        auto self = co_await plait::resolve("localhost", "80");
        CHECK(self.value_or(std::vector<endpoint>()).size() == 2);
        auto nobody = co_await plait::resolve("nobody.test", "80");
        CHECK(nobody.error() == errc::host_not_found);
        auto service = co_await plait::resolve("db.test", "http");
        CHECK(service.error() == errc::service_not_found);
    });
}

TEST_CASE("the next address of a name is tried after a quarter of a second", "[simulated]") {
    simulated_network network(5);
    const ip_address first = ip_address::parse("fd00::2").value();
    network.host("db.test", {first, server_host}).cut(ip_address::parse("2001:db8::1").value(), first);
    on(network, [&]() -> task<> {
        tcp_listener listener = co_await listen_at({"10.0.0.2", 80});
        const stopwatch watch(network);
        auto stream = co_await tcp_stream::connect("db.test", "80");
        REQUIRE(stream.has_value());
        CHECK(stream->remote_endpoint().value().address() == server_host);
        CHECK(watch.read() >= 250ms);
        CHECK(watch.read() < 251ms);
    });
}

TEST_CASE("a polite close waits two seconds for a peer that does not end", "[simulated]") {
    simulated_network network(5);
    on(network, [&]() -> task<> {
        auto pair = co_await connected_at(server_address);
        const stopwatch watch(network);
        auto closed = co_await pair.near.close();
        CHECK(closed.error() == std::error_code());
        CHECK(watch.read() >= 2s);
        CHECK(watch.read() < 2s + 1ms);
    });
}

TEST_CASE("Unix sockets have names of the simulation's own", "[simulated]") {
    simulated_network network(5);
    on(network, [&]() -> task<> {
        for (const plait::unix_path& name : unix_names) {
            auto absent = co_await plait::unix_stream::connect(name);
            CHECK(!absent.has_value());
            auto listener = co_await plait::unix_listener::bind(name);
            REQUIRE(listener.has_value());
            auto taken = co_await plait::unix_listener::bind(name);
            CHECK(taken.error() == std::errc::address_in_use);
            auto near = co_await plait::unix_stream::connect(name);
            auto far = co_await listener->accept();
            REQUIRE((near.has_value() && far.has_value()));
            CHECK(near->remote_path().value() == name);
            co_await works(near->send_all("hello"));
            const std::string got = co_await support::receive_text(*far, 5);
            CHECK(got == "hello");
            static_cast<void>(co_await listener->close());
            auto gone = co_await plait::unix_stream::connect(name);
            CHECK(!gone.has_value());
        }
        auto left = co_await plait::unix_datagram::bind("/d/left");
        auto right = co_await plait::unix_datagram::bind("/d/right");
        REQUIRE((left.has_value() && right.has_value()));
        std::array<std::byte, 8> room;
        co_await works(left->send_to(plait::as_bytes("abc"), "/d/right"));
        auto got = co_await right->recv_from(room);
        REQUIRE(got.has_value());
        CHECK(got->bytes == 3);
        CHECK(got->sender == plait::unix_path("/d/left"));
    });
}

// --- each fault ------------------------------------------------------------------------------------------------------

TEST_CASE("bytes are as long under way as the latency says, and stay in order", "[simulated]") {
    simulated_network network(7);
    network.latency(10ms, 30ms);
    on(network, [&]() -> task<> {
        auto pair = co_await connected_at(server_address);
        const stopwatch watch(network);
        std::string expected;
        for (std::size_t i = 0; i < 50; ++i) {
            expected += numbered_text(i, 10);
            co_await works(pair.near.send_all(numbered_text(i, 10)));
        }
        const std::string got = co_await support::receive_text(pair.far, expected.size());
        CHECK(got == expected);
        CHECK(watch.read() >= 10ms);
        CHECK(watch.read() < 31ms);
    });
}

TEST_CASE("cut bytes arrive in random parts, all and in order", "[simulated]") {
    simulated_network network(7);
    network.cut_bytes().latency(0ms, 1ms);
    on(network, [&]() -> task<> {
        auto pair = co_await connected_at(server_address);
        const std::string text = numbered_text(7, 100'000);
        std::size_t short_sends = 0, receives = 0;
        auto sends = [&]() -> task<> {
            std::string_view left = text;
            while (!left.empty()) {
                const std::string_view piece = left.substr(0, 1000);
                auto sent = co_await pair.near.send(piece);
                REQUIRE(sent.has_value());
                short_sends += *sent < piece.size();
                left.remove_prefix(*sent);
            }
            static_cast<void>(co_await pair.near.shutdown_send());
        };
        task_group group;
        group.spawn(sends);
        std::string got;
        while (auto piece = co_await pair.far.recv()) {
            got += plait::as_text(piece->bytes());
            ++receives;
        }
        co_await group.join();
        CHECK(got == text);
        CHECK(short_sends > 10);
        CHECK(receives > 10);
    });
}

TEST_CASE("small buffers make a writer wait for its reader", "[simulated]") {
    simulated_network network(7);
    network.buffers(100, 50);
    on(network, [&]() -> task<> {
        auto pair = co_await connected_at(server_address);
        CHECK(pair.near.send_buffer_size().value() == 50);
        CHECK(pair.far.receive_buffer_size().value() == 100);
        auto sent = co_await plait::with_timeout(pair.near.send_all(numbered_text(1, 1000)), 1s);
        CHECK(sent.error() == errc::timed_out);
        CHECK(sent.bytes() == 150);
    });
}

TEST_CASE("operations that could complete at once do so a turn later", "[simulated]") {
    for (const double probability : {0.0, 1.0}) {
        simulated_network network(7);
        network.late_completions(probability);
        on(network, [&]() -> task<> {
            auto pair = co_await connected_at(server_address);
            co_await works(pair.near.send_all("hello"));
            co_await support::turns(2);
            std::array<std::byte, 5> room;
            bool others_ran = false;
            auto other = [&]() -> task<> {
                others_ran = true;
                co_return;
            };
            task_group group;
            group.spawn(other);
            auto got = co_await pair.far.recv(room);
            CHECK(got.bytes() == 5);
            CHECK(others_ran == (probability == 1.0));
            co_await group.join();
        });
    }
}

TEST_CASE("connects are refused, or lost and timed out by the system", "[simulated]") {
    simulated_network network(7);
    on(network, [&]() -> task<> {
        tcp_listener listener = co_await listen_at(server_address);
        network.refuse_connects(1);
        auto refused = co_await tcp_stream::connect(server_address);
        CHECK(refused.error() == std::errc::connection_refused);
        network.refuse_connects(0).lose_connects(1);
        const stopwatch watch(network);
        auto limited = co_await plait::with_timeout(tcp_stream::connect(server_address), 3s);
        CHECK(limited.error() == errc::timed_out);
        auto lost = co_await tcp_stream::connect(server_address);
        CHECK(lost.error() == std::errc::timed_out);
        CHECK(lost.error() != errc::timed_out);
        CHECK(watch.read() >= 130s);
        network.lose_connects(0);
        auto connected = co_await tcp_stream::connect(server_address);
        CHECK(connected.has_value());
    });
}

TEST_CASE("a connection is reset at exactly the byte that was asked for", "[simulated]") {
    for (std::size_t at = 0; at < 12; ++at) {
        simulated_network network(at);
        network.reset_connections(1, at, at);
        on(network, [&]() -> task<> {
            auto pair = co_await connected_at(server_address);
            auto exchange = [](tcp_stream& from, tcp_stream& to) -> task<std::size_t> {
                auto sent = co_await from.send_all("hello world!");
                static_cast<void>(sent);
                std::array<std::byte, 12> room;
                auto got = co_await to.recv_exactly(room);
                CHECK((got.bytes() < 12 || !got.error()));
                if (got.error()) CHECK(got.error() == std::errc::connection_reset);
                co_return got.bytes();
            };
            const std::size_t one = co_await exchange(pair.near, pair.far);
            const std::size_t two = one == 12 ? co_await exchange(pair.far, pair.near) : one;
            CHECK(two == at);
            auto ended = co_await pair.near.send("x");
            CHECK(!ended.has_value());
        });
    }
}

TEST_CASE("accepts fail with the errors that were asked for, and only an aborted connection is lost",
          "[simulated]") {
    simulated_network network(7);
    on(network, [&]() -> task<> {
        tcp_listener listener = co_await listen_at(server_address);
        network.fail_accepts(1, out_of_files);
        auto waiting = co_await tcp_stream::connect(server_address);
        REQUIRE(waiting.has_value());
        auto full = co_await listener.accept();
        CHECK(full.error() == std::errc::too_many_files_open);
        network.fail_accepts(0);
        auto accepted = co_await listener.accept();
        CHECK(accepted.has_value());
        network.fail_accepts(1, aborted_connection);
        auto doomed = co_await tcp_stream::connect(server_address);
        REQUIRE(doomed.has_value());
        auto aborted = co_await listener.accept();
        CHECK(aborted.error() == std::errc::connection_aborted);
        std::array<std::byte, 1> room;
        auto got = co_await doomed->recv(room);
        CHECK(got.error() == std::errc::connection_reset);
    });
}

TEST_CASE("datagrams are lost, doubled and overtaken", "[simulated]") {
    simulated_network network(7);
    network.latency(1ms, 2ms);
    on(network, [&]() -> task<> {
        auto from = co_await udp_socket::bind({"10.0.0.1", 0});
        auto to = co_await udp_socket::bind({"10.0.0.2", 53});
        REQUIRE((from.has_value() && to.has_value()));
        // The numbers of those that arrive.
        auto send_and_collect = [&](int count) -> task<std::vector<int>> {
            for (int i = 0; i < count; ++i) {
                const std::array<std::byte, 1> number{std::byte(i)};
                co_await works(from->send_to(number, {"10.0.0.2", 53}));
            }
            std::vector<int> numbers;
            std::array<std::byte, 8> room;
            for (;;) {
                auto got = co_await plait::with_timeout(to->recv_from(room), 1s);
                if (!got) break;
                CHECK(got->sender == from->local_endpoint().value());
                numbers.push_back(static_cast<int>(room[0]));
            }
            co_return numbers;
        };
        network.lose_datagrams(0.5);
        const std::size_t rest = (co_await send_and_collect(100)).size();
        CHECK(rest > 20);
        CHECK(rest < 80);
        network.lose_datagrams(0).double_datagrams(0.5);
        const std::size_t more = (co_await send_and_collect(100)).size();
        CHECK(more > 120);
        CHECK(more < 180);
        network.double_datagrams(0).latency(1ms, 1ms);
        auto ordered = co_await send_and_collect(50);
        CHECK(ordered.size() == 50);
        CHECK(std::is_sorted(ordered.begin(), ordered.end()));
        network.delay_datagrams(0.3);
        auto overtaken = co_await send_and_collect(50);
        CHECK(overtaken.size() == 50);
        CHECK(!std::is_sorted(overtaken.begin(), overtaken.end()));
    });
}

TEST_CASE("a datagram to nobody is heard of by a connected socket alone", "[simulated]") {
    simulated_network network(7);
    on(network, [&]() -> task<> {
        auto socket = co_await udp_socket::bind({"10.0.0.1", 0});
        REQUIRE(socket.has_value());
        std::array<std::byte, 8> room;
        co_await works(socket->send_to(plait::as_bytes("x"), {"10.0.0.2", 53}));
        auto nothing = co_await plait::with_timeout(socket->recv_from(room), 1s);
        CHECK(nothing.error() == errc::timed_out);
        co_await works(socket->connect({"10.0.0.2", 53}));
        co_await works(socket->send(plait::as_bytes("x")));
        auto refused = co_await socket->recv(room);
        CHECK(refused.error() == std::errc::connection_refused);
    });
}

TEST_CASE("addresses that are cut off wait for each other until they are healed", "[simulated]") {
    simulated_network network(7);
    network.latency(1ms, 1ms);
    on(network, [&]() -> task<> {
        auto pair = co_await connected_at(server_address);
        network.cut(server_host, client_host);
        const std::string text = numbered_text(3, 5000);
        co_await works(pair.near.send_all(text.substr(0, 1000)));
        co_await works(pair.near.send_all(text.substr(1000, 1000)));
        std::array<std::byte, 1> room;
        auto nothing = co_await plait::with_timeout(pair.far.recv(room), 5min);
        CHECK(nothing.error() == errc::timed_out);
        network.heal();
        co_await works(pair.near.send_all(text.substr(2000)));
        const std::string got = co_await support::receive_text(pair.far, text.size());
        CHECK(got == text);

        network.cut(client_host, server_host);
        co_await works(pair.near.send_all("lost"));
        const stopwatch watch(network);
        auto gone = co_await pair.near.recv(room);
        CHECK(gone.error() == std::errc::timed_out);
        CHECK(watch.read() >= 15min);
    });
}

TEST_CASE("a connect waits behind a cut, and set_user_timeout bounds how long bytes do", "[simulated]") {
    simulated_network network(7);
    on(network, [&]() -> task<> {
        tcp_listener listener = co_await listen_at(server_address);
        network.cut(server_host, client_host);
        auto heals = [&]() -> task<> {
            co_await plait::sleep_for(5s);
            network.heal();
        };
        task_group group;
        group.spawn(heals);
        const stopwatch watch(network);
        auto stream = co_await tcp_stream::connect(server_address);
        REQUIRE(stream.has_value());
        CHECK(watch.read() > 5s);
        co_await group.join();
        CHECK(stream->set_user_timeout(10s).has_value());
        network.cut(server_host, client_host);
        co_await works(stream->send_all("lost"));
        const stopwatch second(network);
        std::array<std::byte, 1> room;
        auto gone = co_await stream->recv(room);
        CHECK(gone.error() == std::errc::timed_out);
        CHECK(second.read() >= 10s);
        CHECK(second.read() < 11s);
    });
}

// --- the trace --------------------------------------------------------------------------------------------------------

TEST_CASE("the trace follows the bytes, too", "[simulated]") {
    std::vector<std::uint64_t> traces;
    for (const std::string_view text : {"hello", "hellp", "hello"}) {
        simulated_network network(1);
        on(network, [&]() -> task<> {
            auto pair = co_await connected_at(server_address);
            co_await works(pair.near.send_all(text));
            const std::string got = co_await support::receive_text(pair.far, text.size());
            CHECK(got == text);
        });
        traces.push_back(network.trace());
    }
    CHECK(traces[0] == traces[2]);
    CHECK(traces[0] != traces[1]);
}
