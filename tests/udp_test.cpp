#include <plait/plait.hpp>
#include <plait/udp.hpp>

#include "support/allocations.hpp"
#include "support/cancellable.hpp"
#include "support/freed_memory.hpp"
#include "support/lacks.hpp"
#include "support/must.hpp"
#include "support/scale.hpp"
#include "support/simulated.hpp"
#include "support/sockets.hpp"
#include "support/system.hpp"
#include "support/watchdog.hpp"

#include <catch2/catch_test_macros.hpp>

#include <array>
#include <chrono>
#include <optional>
#include <string>
#include <vector>

using namespace std::chrono_literals;
using plait::as_bytes;
using plait::as_text;
using plait::datagram;
using plait::endpoint;
using plait::errc;
using plait::io_result;
using plait::ip_address;
using plait::task;
using plait::task_group;
using plait::udp_options;
using plait::udp_socket;
using support::scaled;
using support::turns;

namespace {

template <class F>
void in_a_context(F body) {
    auto whole = [&]() -> task<> { co_await body(); };
    plait::run(whole());
}

task<udp_socket> bound(std::string_view address = "127.0.0.1") {
    auto socket = co_await udp_socket::bind({address, 0});
    support::must(socket.has_value(), "bind");
    co_return std::move(*socket);
}

endpoint where(const udp_socket& socket) { return socket.local_endpoint().value(); }

task<std::error_code> bind_error(endpoint local, udp_options options = {}) {
    auto socket = co_await udp_socket::bind(local, options);
    co_return socket.error();
}

struct letter {
    std::error_code error;
    std::string text;
    endpoint sender;
    bool truncated = false;
};

/// With a limit not for ever: what was sent may have been lost on the way.
task<letter> next(udp_socket& socket, std::size_t room = 2048,
                  plait::steady_duration limit = plait::steady_duration::max()) {
    std::vector<std::byte> buffer(room);
    auto received = co_await plait::with_timeout(socket.recv_from(buffer), limit);
    letter got;
    got.error = received.error();
    if (received) {
        CHECK(received.bytes() == received->bytes);
        got.text = as_text(std::span(buffer).first(received->bytes));
        got.sender = received->sender;
        got.truncated = received->truncated;
    }
    co_return got;
}

task<> post(udp_socket& from, std::string text, endpoint to) {
    auto sent = co_await from.send_to(text, to);
    CHECK(sent.error() == std::error_code());
    CHECK(sent.bytes() == text.size());
}

task<> connect(udp_socket& socket, endpoint peer) {
    auto connected = co_await socket.connect(peer);
    CHECK(connected.error() == std::error_code());
}

bool has_ipv6() {
    bool found = false;
    in_a_context([&]() -> task<> {
        auto probe = co_await udp_socket::bind({"::1", 0});
        found = probe.has_value();
    });
    return found;
}

/// An address nobody listens at.
task<endpoint> nobody() {
    auto socket = co_await bound();
    const endpoint gone = where(socket);
    static_cast<void>(co_await socket.close());
    co_return gone;
}

} // namespace

// --- binding -------------------------------------------------------------------------------------------------------

TEST_CASE("bind tells why it failed", "[udp]") {
    in_a_context([]() -> task<> {
        auto first = co_await bound();
        const std::error_code taken = co_await bind_error(where(first));
        CHECK(taken == std::errc::address_in_use);
        const std::error_code literal = co_await bind_error({"not an address", 80});
        CHECK(literal == std::errc::invalid_argument);
    });
}

TEST_CASE("bind refuses an address of another machine", "[udp]") {
    if (const std::string why = support::lacks_real_sockets(); !why.empty())
        SKIP(why); // any address is there
    if (const std::string why = support::lacks_bind_errors(); !why.empty()) SKIP(why);
    in_a_context([]() -> task<> {
        const std::error_code elsewhere = co_await bind_error({support::foreign_address, 0});
        CHECK(elsewhere == std::errc::address_not_available);
    });
}

TEST_CASE("port 0 takes a free port, and child processes do not get the socket", "[udp]") {
    in_a_context([]() -> task<> {
        auto first = co_await bound();
        auto second = co_await bound();
        CHECK(where(first).port() != 0);
        CHECK(where(first).port() != where(second).port());
        CHECK(first.native_handle() != second.native_handle());
        const bool real = support::lacks_real_sockets().empty();
        if (real) CHECK_FALSE(support::is_inherited(first.native_handle()));
    });
}

TEST_CASE("sockets share a port with reuse_address if all of them say so", "[udp]") {
    in_a_context([]() -> task<> {
        auto first = co_await udp_socket::bind({"127.0.0.1", 0}, udp_options().reuse_address());
        CHECK(first.error() == std::error_code());
        const std::error_code friendly = co_await bind_error(where(*first), udp_options().reuse_address());
        CHECK(friendly == std::error_code());
        const std::error_code stranger = co_await bind_error(where(*first));
        CHECK(stranger != std::error_code());
    });
}

// --- datagrams -----------------------------------------------------------------------------------------------------

TEST_CASE("each datagram arrives as it was sent, with the address of its sender", "[udp]") {
    in_a_context([]() -> task<> {
        auto receiver = co_await bound();
        auto one = co_await bound();
        auto two = co_await bound();
        co_await post(one, "one", where(receiver));
        co_await post(two, "two", where(receiver));
        co_await post(one, "three", where(receiver));
        for (const char* const text : {"one", "two", "three"}) {
            const letter got = co_await next(receiver);
            CHECK(got.error == std::error_code());
            CHECK(got.text == text);
            CHECK(got.sender == where(got.text == "two" ? two : one));
            CHECK_FALSE(got.truncated);
        }
    });
}

TEST_CASE("a receive waits for a datagram", "[udp]") {
    in_a_context([]() -> task<> {
        auto receiver = co_await bound();
        auto sender = co_await bound();
        std::optional<letter> got;
        auto receiving = [&]() -> task<> { got = co_await next(receiver); };
        for (const std::size_t waits : {1U, 3U, 0U}) {
            got.reset();
            task_group group;
            group.spawn(receiving);
            co_await turns(waits);
            CHECK(!got);
            co_await post(sender, "late", where(receiver));
            co_await group.join();
            CHECK(got->text == "late");
        }
    });
}

TEST_CASE("an empty datagram is sent, and delivered as a success with 0 bytes", "[udp]") {
    in_a_context([]() -> task<> {
        auto receiver = co_await bound();
        auto sender = co_await bound();
        co_await post(sender, "", where(receiver));
        co_await post(sender, "behind it", where(receiver));
        const letter empty = co_await next(receiver);
        CHECK(empty.error == std::error_code());
        CHECK(empty.text.empty());
        CHECK(empty.sender == where(sender));
        CHECK_FALSE(empty.truncated);
        const letter behind = co_await next(receiver);
        CHECK(behind.text == "behind it");

        co_await connect(receiver, where(sender));
        co_await connect(sender, where(receiver));
        std::array<std::byte, 8> room;
        auto sent = co_await sender.send("");
        CHECK(sent.error() == std::error_code());
        auto received = co_await receiver.recv(room);
        CHECK(received.error() == std::error_code());
        CHECK(received.bytes() == 0);
    });
}

TEST_CASE("a datagram that is longer than the buffer is told to be truncated, and the next one is whole",
          "[udp]") {
    in_a_context([]() -> task<> {
        auto receiver = co_await bound();
        auto sender = co_await bound();
        for (const bool waits : {false, true}) {
            for (const std::size_t room : {4U, 9U, 10U, 1U}) {
                std::optional<letter> got;
                auto receiving = [&]() -> task<> { got = co_await next(receiver, room); };
                task_group group;
                if (waits) {
                    group.spawn(receiving);
                    co_await turns(2);
                }
                co_await post(sender, "0123456789", where(receiver));
                co_await post(sender, "next", where(receiver));
                if (!waits) group.spawn(receiving);
                co_await group.join();
                CHECK(got->error == std::error_code());
                CHECK(got->text == std::string("0123456789").substr(0, room));
                CHECK(got->truncated == (room < 10));
                CHECK(got->sender == where(sender));
                const letter after = co_await next(receiver);
                CHECK(after.text == "next");
            }
        }
    });
}

TEST_CASE("an empty buffer takes a datagram, and tells that it was cut", "[udp]") {
    in_a_context([]() -> task<> {
        auto receiver = co_await bound();
        auto sender = co_await bound();
        co_await post(sender, "words", where(receiver));
        co_await post(sender, "", where(receiver));
        const letter cut = co_await next(receiver, 0);
        CHECK(cut.error == std::error_code());
        CHECK(cut.truncated);
        const letter empty = co_await next(receiver, 0);
        CHECK(empty.error == std::error_code());
        CHECK_FALSE(empty.truncated);
    });
}

TEST_CASE("recv fails with message_size where the datagram was cut, and tells what it has of it", "[udp]") {
    in_a_context([]() -> task<> {
        auto receiver = co_await bound();
        auto sender = co_await bound();
        co_await connect(receiver, where(sender));
        co_await post(sender, "0123456789", where(receiver));
        co_await post(sender, "next", where(receiver));
        std::array<std::byte, 4> room;
        auto cut = co_await receiver.recv(room);
        CHECK(cut.error() == std::errc::message_size);
        CHECK(cut.bytes() == 4);
        CHECK(as_text(room) == "0123");
        auto whole = co_await receiver.recv(room);
        CHECK(whole.error() == std::error_code());
        CHECK(as_text(room) == "next");
    });
}

TEST_CASE("the largest datagram arrives, a larger one is message_size", "[udp]") {
    in_a_context([]() -> task<> {
        auto receiver = co_await bound();
        auto sender = co_await bound();
        std::string largest(65'507, '\0');
        support::byte_source(3).fill(std::as_writable_bytes(std::span(largest)));
        co_await post(sender, largest, where(receiver));
        const letter got = co_await next(receiver, 70'000);
        const bool same = got.text == largest;
        CHECK(same);
        auto refused = co_await sender.send_to(std::string(65'508, 'x'), where(receiver));
        CHECK(refused.error() == std::errc::message_size);
        CHECK(refused.bytes() == 0);
    });
}

TEST_CASE("two tasks receive and send on one socket at once", "[udp]") {
    in_a_context([]() -> task<> {
        auto left = co_await bound();
        auto right = co_await bound();
        const std::size_t rounds = scaled(1000);
        auto plays = [&](udp_socket& socket, const udp_socket& other, bool begins) -> task<> {
            std::array<std::byte, 16> room;
            for (std::size_t i = 0; i < rounds; ++i) {
                if (begins) co_await post(socket, std::to_string(i), where(other));
                auto heard = co_await socket.recv_from(room);
                CHECK(as_text(std::span(room).first(heard->bytes)) == std::to_string(i));
                if (!begins) co_await post(socket, std::to_string(i), heard->sender);
            }
        };
        co_await plait::when_all(plays(left, right, true), plays(right, left, false));
    });
}

TEST_CASE("a hundred sockets send in one turn", "[udp]") {
    in_a_context([]() -> task<> {
        auto receiver = co_await bound();
        std::vector<udp_socket> senders;
        for (int i = 0; i < 100; ++i) senders.push_back(co_await bound());
        task_group group;
        auto sends = [&](std::size_t i) { return post(senders[i], std::to_string(i), where(receiver)); };
        for (std::size_t i = 0; i < senders.size(); ++i) group.spawn(sends, i);
        co_await group.join();
        std::size_t sum = 0;
        for (std::size_t i = 0; i < senders.size(); ++i) {
            const letter got = co_await next(receiver);
            CHECK(got.sender == where(senders[std::stoul(got.text)]));
            sum += std::stoul(got.text);
        }
        CHECK(sum == 99 * 100 / 2);
    });
}

// --- connected sockets ---------------------------------------------------------------------------------------------

TEST_CASE("a connected socket sends to its peer and hears nobody else", "[udp]") {
    in_a_context([]() -> task<> {
        auto socket = co_await bound();
        auto peer = co_await bound();
        auto stranger = co_await bound();
        CHECK(socket.remote_endpoint().error() == std::errc::not_connected);
        auto early = co_await socket.send("to whom?");
        CHECK(early.error() == std::errc::destination_address_required);
        auto connected = co_await socket.connect(where(peer));
        CHECK(connected.error() == std::error_code());
        CHECK(socket.remote_endpoint().value() == where(peer));
        co_await post(stranger, "psst", where(socket));
        auto sent = co_await socket.send("hello");
        CHECK(sent.bytes() == 5);
        const letter asked = co_await next(peer);
        CHECK(asked.text == "hello");
        co_await post(peer, "answer", asked.sender);
        std::array<std::byte, 16> room;
        auto answer = co_await socket.recv(room);
        CHECK(as_text(std::span(room).first(answer.bytes())) == "answer");
        co_await post(peer, "again", asked.sender);
        const letter again = co_await next(socket);
        CHECK(again.text == "again");
        CHECK(again.sender == where(peer));

        auto other = co_await socket.connect(where(stranger));
        CHECK(other.error() == std::error_code());
        CHECK(socket.remote_endpoint().value() == where(stranger));
        co_await post(stranger, "now?", where(socket));
        const letter heard = co_await next(socket);
        CHECK(heard.text == "now?");
    });
}

TEST_CASE("a connected socket reports once that nobody listens at its peer, and goes on", "[udp]") {
    if (const std::string why = support::lacks_refusals(); !why.empty()) SKIP(why);
    in_a_context([]() -> task<> {
        auto socket = co_await bound();
        const endpoint gone = co_await nobody();
        co_await connect(socket, gone);
        for (const bool waits : {false, true}) {
            std::array<std::byte, 16> room;
            std::optional<io_result<std::size_t>> got;
            auto receiving = [&]() -> task<> { got = co_await socket.recv(room); };
            task_group group;
            if (waits) {
                group.spawn(receiving);
                co_await turns(2);
            }
            auto sent = co_await socket.send("anybody?");
            CHECK(sent.error() == std::error_code());
            if (!waits) group.spawn(receiving);
            co_await group.join();
            CHECK(got->error() == std::errc::connection_refused);
        }
        auto peer = co_await udp_socket::bind(gone);
        CHECK(peer.error() == std::error_code());
        auto sent = co_await socket.send("and now?");
        CHECK(sent.error() == std::error_code());
        const letter heard = co_await next(*peer);
        CHECK(heard.text == "and now?");
        co_await post(*peer, "yes", heard.sender);
        const letter answer = co_await next(socket);
        CHECK(answer.text == "yes");
    });
}

TEST_CASE("a dead peer does not end a receive loop", "[udp]") {
    in_a_context([]() -> task<> {
        auto server = co_await bound();
        auto client = co_await bound();
        const endpoint gone = co_await nobody();
        for (int i = 0; i < 10; ++i) {
            if (i % 2) co_await post(server, "to nobody", gone);
            std::optional<letter> got;
            auto receiving = [&]() -> task<> { got = co_await next(server); };
            task_group group;
            group.spawn(receiving);
            co_await turns(2);
            if (i % 3) co_await post(server, "to nobody", gone);
            co_await post(client, "alive", where(server));
            co_await group.join();
            CHECK(got->error == std::error_code());
            CHECK(got->text == "alive");
        }
    });
}

TEST_CASE("an invalid endpoint is an invalid argument", "[udp]") {
    in_a_context([]() -> task<> {
        auto socket = co_await bound();
        auto connected = co_await socket.connect({"nonsense", 80});
        CHECK(connected.error() == std::errc::invalid_argument);
        auto sent = co_await socket.send_to("words", {"nonsense", 80});
        CHECK(sent.error() == std::errc::invalid_argument);
        CHECK(sent.bytes() == 0);
    });
}

// --- one port, several sockets ---------------------------------------------------------------------------------------

TEST_CASE("a socket that was alone at its port opens it to others, and each datagram reaches one of them",
          "[udp]") {
    in_a_context([]() -> task<> {
        udp_socket first = co_await bound();
        const udp_options shared = udp_options().reuse_port();
        const bool shares = support::listeners_share_ports() || !support::lacks_real_sockets().empty();
        if (!shares) {
            CHECK(first.set_reuse_port(true).error() == std::errc::operation_not_supported);
            const std::error_code refused = co_await bind_error({"127.0.0.1", 0}, shared);
            CHECK(refused == std::errc::operation_not_supported);
            co_return;
        }
        CHECK_FALSE(first.reuse_port().value());
        const std::error_code too_early = co_await bind_error(where(first), shared);
        CHECK(too_early == std::errc::address_in_use);
        CHECK(first.set_reuse_port(true));
        CHECK(first.reuse_port().value());
        auto second = co_await udp_socket::bind(where(first), shared);
        REQUIRE(second.error() == std::error_code());
        const std::error_code stranger = co_await bind_error(where(first));
        CHECK(stranger == std::errc::address_in_use);

        constexpr int senders = 64;
        std::vector<udp_socket> clients;
        for (int i = 0; i < senders; ++i) {
            clients.push_back(co_await bound());
            auto sent = co_await clients.back().send_to("hello", where(first));
            CHECK(sent);
        }
        int heard[2] = {0, 0};
        auto count = [](udp_socket& socket, int& mine, const int(&all)[2], task_group& both) -> task<> {
            std::array<std::byte, 16> buffer{};
            while (co_await socket.recv_from(buffer)) {
                ++mine;
                if (all[0] + all[1] == senders) both.request_stop();
            }
        };
        task_group both;
        both.spawn(count, std::ref(first), std::ref(heard[0]), std::cref(heard), std::ref(both));
        both.spawn(count, std::ref(*second), std::ref(heard[1]), std::cref(heard), std::ref(both));
        co_await both.join();
        CHECK(heard[0] + heard[1] == senders);
        CHECK(heard[1] > 0); // of 64 random ports
        CHECK(heard[0] > 0);
    });
}

// --- options, broadcast, multicast, IPv6 ----------------------------------------------------------------------------

TEST_CASE("every option gives back what was set", "[udp]") {
    in_a_context([]() -> task<> {
        std::vector<udp_socket> sockets;
        sockets.push_back(co_await bound());
        auto v6 = co_await udp_socket::bind({"::1", 0});
        if (v6) sockets.push_back(std::move(*v6));
        for (udp_socket& socket : sockets) {
            for (const bool on : {true, false}) {
                CHECK(socket.set_broadcast(on));
                CHECK(socket.broadcast().value() == on);
                CHECK(socket.set_multicast_loop(on));
                CHECK(socket.multicast_loop().value() == on);
            }
            CHECK(socket.multicast_ttl().value() == 1);
            for (const int hops : {0, 7, 255}) {
                CHECK(socket.set_multicast_ttl(hops));
                CHECK(socket.multicast_ttl().value() == hops);
            }
            CHECK(socket.set_multicast_ttl(256).error() == std::errc::invalid_argument);
            CHECK(socket.set_multicast_ttl(-1).error() == std::errc::invalid_argument);
            CHECK(socket.set_receive_buffer_size(32 * 1024));
            CHECK(socket.receive_buffer_size().value() >= 32 * 1024);
            CHECK(socket.set_send_buffer_size(32 * 1024));
            CHECK(socket.send_buffer_size().value() >= 32 * 1024);
            CHECK(socket.set_multicast_interface(0));
        }
    });
}

TEST_CASE("a broadcast needs set_broadcast", "[udp]") {
    in_a_context([]() -> task<> {
        auto socket = co_await bound();
        const endpoint everybody("255.255.255.255", 9);
        auto refused = co_await socket.send_to("hello", everybody);
        CHECK(refused.error() == std::errc::permission_denied);
        CHECK(socket.set_broadcast(true));
        auto sent = co_await socket.send_to("hello", everybody);
        // A machine without a network has no way there; that is another matter.
        CHECK(sent.error() != std::errc::permission_denied);
    });
}

TEST_CASE("a group that is none, or of the other family, is refused", "[udp]") {
    in_a_context([]() -> task<> {
        auto socket = co_await bound();
        CHECK(socket.join_group(ip_address::v4({127, 0, 0, 1})).error() == std::errc::invalid_argument);
        const auto v6_group = ip_address::parse("ff02::1234").value();
        CHECK(socket.join_group(v6_group).error() == std::errc::invalid_argument);
        CHECK(socket.leave_group(ip_address::v4({239, 255, 77, 78})).error() != std::error_code());
    });
}

TEST_CASE("who leaves a group that was never joined has no such address", "[udp]") {
    if (const std::string why = support::lacks_leave_errors(); !why.empty()) SKIP(why);
    in_a_context([]() -> task<> {
        auto socket = co_await bound();
        const std::error_code left = socket.leave_group(ip_address::v4({239, 255, 77, 78})).error();
        // Or, on a machine without a way to any group: no such device.
        CHECK((left == std::errc::address_not_available || left == std::errc::no_such_device));
    });
}

namespace {

/// What became of datagrams to a group of this machine; or why it cannot be tried on this interface.
struct multicast_outcome {
    std::string why_not;
    std::string heard, heard_after_leaving, heard_without_loop, heard_by_a_stranger;
};

task<multicast_outcome> try_multicast(std::string_view any, ip_address group, std::uint32_t index) {
    multicast_outcome seen;
    auto receiver = co_await udp_socket::bind({any, 0}, udp_options().reuse_address());
    auto sender = co_await udp_socket::bind({any, 0});
    if (!receiver || !sender) {
        seen.why_not = "this machine lacks the address family";
        co_return seen;
    }
    const auto joined = receiver->join_group(group, index);
    const auto chosen = sender->set_multicast_interface(index);
    if (!joined || !chosen) {
        seen.why_not = "it takes no groups: " + support::with_number((joined ? chosen : joined).error());
        co_return seen;
    }
    const endpoint to(group, where(*receiver).port());
    const endpoint directly(group.is_v6() ? "::1" : "127.0.0.1", to.port());
    auto sent = co_await sender->send_to("to all", to);
    if (!sent) {
        seen.why_not = "no route to the group: " + support::with_number(sent.error());
        co_return seen;
    }
    const letter first = co_await next(*receiver, 100, 2s);
    if (first.error) {
        seen.why_not = "it loses its own multicast datagrams";
        co_return seen;
    }
    seen.heard = first.text;
    auto stranger = co_await udp_socket::bind({any, 0});
    const std::uint16_t strange_port = where(*stranger).port();
    co_await post(*sender, "to others", endpoint(group, strange_port));
    co_await post(*sender, "mark", endpoint(directly.address(), strange_port));
    seen.heard_by_a_stranger = (co_await next(*stranger, 100, 2s)).text;
    for (udp_socket* each : {&*sender, &*receiver}) // Linux asks the sender, Windows the receiver
        CHECK(each->set_multicast_loop(false));
    co_await post(*sender, "not to me", to);
    co_await post(*sender, "mark", directly);
    seen.heard_without_loop = (co_await next(*receiver, 100, 2s)).text;
    if (seen.heard_without_loop != "mark") static_cast<void>(co_await next(*receiver, 100, 2s));
    for (udp_socket* each : {&*sender, &*receiver}) CHECK(each->set_multicast_loop(true));
    CHECK(receiver->leave_group(group, index));
    co_await post(*sender, "too late", to);
    co_await post(*sender, "mark", directly);
    seen.heard_after_leaving = (co_await next(*receiver, 100, 2s)).text;
    co_return seen;
}

/// Gives `check` what was seen on each interface where groups work, and whether it is the loopback interface.
template <class F>
void on_each_interface(std::string_view any, ip_address group, F check) {
    const std::uint32_t loopback = plait::interface_index("lo").value_or(1);
    std::string why_not;
    bool heard = false;
    for (const std::uint32_t index : {loopback, std::uint32_t{0}}) {
        multicast_outcome seen;
        in_a_context([&]() -> task<> { seen = co_await try_multicast(any, group, index); });
        if (!seen.why_not.empty()) {
            why_not +=
                (index == 0 ? " The default interface: " : "The loopback interface: ") + seen.why_not + '.';
            continue;
        }
        heard = true;
        check(seen, index != 0);
    }
    if (!heard) SKIP(why_not);
}

void check_members(const multicast_outcome& seen, bool is_loopback) {
    CHECK(seen.heard == "to all");
    CHECK(seen.heard_after_leaving == "mark");
    if (!is_loopback) CHECK(seen.heard_without_loop == "mark"); // a loopback interface always loops
}

void check_stranger(const multicast_outcome& seen, bool) { CHECK(seen.heard_by_a_stranger == "mark"); }

constexpr const char *any_v4 = "0.0.0.0", *any_v6 = "::";
ip_address v4_group() { return ip_address::v4({239, 255, 77, 77}); }
ip_address v6_group() { return ip_address::parse("ff15::7777").value(); }

} // namespace

TEST_CASE("who joined an IPv4 group hears what is sent to it, until it leaves", "[udp]") {
    on_each_interface(any_v4, v4_group(), check_members);
}

TEST_CASE("who joined an IPv6 group hears what is sent to it, until it leaves", "[udp]") {
    on_each_interface(any_v6, v6_group(), check_members);
}

TEST_CASE("who did not join an IPv4 group does not hear it", "[udp]") {
    if (const std::string why = support::lacks_private_groups(false); !why.empty()) SKIP(why);
    on_each_interface(any_v4, v4_group(), check_stranger);
}

TEST_CASE("who did not join an IPv6 group does not hear it", "[udp]") {
    if (const std::string why = support::lacks_private_groups(true); !why.empty()) SKIP(why);
    on_each_interface(any_v6, v6_group(), check_stranger);
}

TEST_CASE("IPv6, and a dual-stack socket between both worlds", "[udp]") {
    if (!has_ipv6()) SKIP("this machine has no IPv6 loopback");
    in_a_context([]() -> task<> {
        auto one = co_await bound("::1");
        auto two = co_await bound("::1");
        co_await post(one, "six", where(two));
        const letter six = co_await next(two);
        CHECK(six.text == "six");
        CHECK(six.sender == where(one));

        auto both = co_await bound("::");
        auto four = co_await bound("127.0.0.1");
        co_await post(four, "four", {"127.0.0.1", where(both).port()});
        const letter mapped = co_await next(both);
        CHECK(mapped.text == "four");
        CHECK(mapped.sender == endpoint("::ffff:127.0.0.1", where(four).port()));
        co_await post(both, "back", mapped.sender);
        const letter back = co_await next(four);
        CHECK(back.text == "back");
        co_await post(one, "six", {"::1", where(both).port()});
        const letter again = co_await next(both);
        CHECK(again.sender == where(one));

        auto only = co_await udp_socket::bind({"::", 0}, udp_options().v6_only());
        CHECK(only.error() == std::error_code());
        co_await post(four, "unheard", {"127.0.0.1", where(*only).port()});
        co_await post(one, "heard", {"::1", where(*only).port()});
        const letter heard = co_await next(*only);
        CHECK(heard.text == "heard");
    });
}

// --- cancelling, closing, destroying -------------------------------------------------------------------------------

TEST_CASE("a receive that is cancelled at any moment loses no datagram", "[udp]") {
    in_a_context([]() -> task<> {
        auto receiver = co_await bound();
        auto sender = co_await bound();
        const std::size_t rounds = scaled(2000);
        std::size_t came = 0, cancelled = 0;
        std::array<std::byte, 32> room;
        auto receives = [&]() -> task<> {
            auto got = co_await receiver.recv_from(room);
            if (got) {
                CHECK(as_text(std::span(room).first(got->bytes)) == std::to_string(came));
                ++came;
            } else {
                CHECK(got.error() == errc::canceled);
                ++cancelled;
            }
        };
        for (std::size_t i = 0; i < rounds; ++i) {
            task_group group;
            group.spawn(receives);
            co_await turns(i % 3);
            if (i & 4) group.request_stop();
            co_await post(sender, std::to_string(i), where(receiver));
            co_await turns(i / 8 % 3);
            group.request_stop();
            co_await group.join();
            while (came <= i) co_await receives(); // what it did not get stays for the next
        }
        CHECK(came == rounds);
        CHECK(cancelled > 0);
    });
}

TEST_CASE("time-outs that race with datagrams lose none", "[udp]") {
    in_a_context([]() -> task<> {
        auto receiver = co_await bound();
        auto sender = co_await bound();
        const std::size_t count = scaled(500);
        std::size_t came = 0;
        auto receives = [&]() -> task<> {
            std::array<std::byte, 32> room;
            for (unsigned i = 0; came < count; ++i) {
                auto got = co_await plait::with_timeout(receiver.recv_from(room),
                                                        std::chrono::microseconds(i * 37 % 400));
                if (got) {
                    CHECK(as_text(std::span(room).first(got->bytes)) == std::to_string(came));
                    ++came;
                } else {
                    CHECK(got.error() == errc::timed_out);
                }
            }
        };
        auto sends = [&]() -> task<> {
            for (std::size_t i = 0; i < count; ++i) {
                while (i > came + 20) co_await plait::yield(); // a full socket loses what comes
                co_await post(sender, std::to_string(i), where(receiver));
                if (i % 3 == 0) static_cast<void>(co_await plait::sleep_for(200us));
            }
        };
        co_await plait::when_all(receives(), sends());
        CHECK(came == count);
    });
}

TEST_CASE("a receive that times out leaves the socket as it was", "[udp]") {
    in_a_context([]() -> task<> {
        auto receiver = co_await bound();
        auto sender = co_await bound();
        const letter none = co_await next(receiver, 100, 5ms);
        CHECK(none.error == errc::timed_out);
        co_await post(sender, "later", where(receiver));
        const letter got = co_await next(receiver);
        CHECK(got.text == "later");
    });
}

TEST_CASE("closing by another task ends a wait as cancelled", "[udp]") {
    in_a_context([]() -> task<> {
        auto receiver = co_await bound();
        std::optional<letter> got;
        auto receiving = [&]() -> task<> { got = co_await next(receiver); };
        task_group group;
        group.spawn(receiving);
        co_await turns(2);
        const endpoint before = where(receiver);
        auto closed = co_await receiver.close();
        CHECK(closed.error() == std::error_code());
        co_await group.join();
        CHECK(got->error == errc::canceled);
        CHECK_FALSE(receiver.is_open());

        std::array<std::byte, 4> room;
        auto received = co_await receiver.recv_from(room);
        CHECK(received.error() == std::errc::bad_file_descriptor);
        auto heard = co_await receiver.recv(room);
        CHECK(heard.error() == std::errc::bad_file_descriptor);
        auto sent = co_await receiver.send_to("x", before);
        CHECK(sent.error() == std::errc::bad_file_descriptor);
        auto said = co_await receiver.send("x");
        CHECK(said.error() == std::errc::bad_file_descriptor);
        auto connected = co_await receiver.connect(before);
        CHECK(connected.error() == std::errc::bad_file_descriptor);
        CHECK(receiver.set_broadcast(true).error() == std::errc::bad_file_descriptor);
        CHECK(receiver.set_reuse_port(true).error() == std::errc::bad_file_descriptor);
        CHECK(receiver.join_group(ip_address::v4({239, 1, 1, 1})).error() == std::errc::bad_file_descriptor);
        CHECK(receiver.remote_endpoint().error() == std::errc::bad_file_descriptor);
        auto twice = co_await receiver.close();
        CHECK(twice.error() == std::error_code());

        const std::error_code free_again = co_await bind_error(before);
        CHECK(free_again == std::error_code());
    });
}

TEST_CASE("a receive whose socket is destroyed ends as cancelled", "[udp]") {
    in_a_context([]() -> task<> {
        auto receiver = co_await bound();
        std::optional<letter> got;
        auto receiving = [&]() -> task<> { got = co_await next(receiver); };
        task_group group;
        group.spawn(receiving);
        co_await turns(2);
        receiver = udp_socket();
        co_await group.join();
        CHECK(got->error == errc::canceled);
    });
}

TEST_CASE(
    "a frame may be destroyed while it waits for a datagram, and nothing writes to its memory afterwards",
    "[udp]") {
    support::freed_memory freed;
    in_a_context([&]() -> task<> {
        auto& env = co_await plait::detail::this_environment();
        auto sender = co_await bound();
        auto receiver = co_await bound();
        for (std::size_t i = 0; i < scaled(200); ++i) {
            auto waits = [&]() -> task<> { static_cast<void>(co_await next(receiver)); };
            support::cancellable frame(support::carry(waits()), env);
            co_await turns(i % 3);
            if (i & 4) co_await post(sender, "just now", where(receiver));
            frame.destroy();
            if (i & 8) receiver = co_await bound();
            co_await post(sender, "mark", where(receiver));
            std::string last;
            while (last != "mark") last = (co_await next(receiver)).text;
        }
    });
    CHECK(freed.changed_bytes() == 0);
}

TEST_CASE("a socket may outlive its context", "[udp]") {
    udp_socket socket;
    in_a_context([&]() -> task<> { socket = co_await bound(); });
    in_a_context([&]() -> task<> {
        std::array<std::byte, 4> room;
        auto got = co_await socket.recv_from(room);
        CHECK(got.error() == std::errc::bad_file_descriptor);
        auto connected = co_await socket.connect({"127.0.0.1", 9});
        CHECK(connected.error() == std::errc::bad_file_descriptor);
        auto closed = co_await socket.close();
        CHECK(closed.error() == std::error_code());
    });
}

TEST_CASE("a stopped context ends waits for datagrams as cancelled", "[udp]") {
    in_a_context([]() -> task<> {
        auto receiver = co_await bound();
        plait::io_context& context = co_await plait::this_context();
        auto stops = [&]() -> task<> {
            co_await turns(2);
            context.request_stop();
        };
        auto receives = [&]() -> task<> {
            const letter got = co_await next(receiver);
            CHECK(got.error == errc::canceled);
        };
        co_await plait::when_all(receives(), stops());
    });
}

TEST_CASE("receiving and answering datagrams allocates nothing", "[udp]") {
    if (!support::counts_allocations()) SKIP("malloc cannot be counted in this build");
    if (const std::string why = support::lacks_real_sockets(); !why.empty()) SKIP(why); // they allocate
    in_a_context([]() -> task<> {
        auto server = co_await bound();
        auto client = co_await bound();
        std::array<std::byte, 64> room, answer;
        auto exchange = [&]() -> task<> {
            auto sent = co_await client.send_to("question", where(server));
            auto asked = co_await server.recv_from(room);
            auto answered = co_await server.send_to(std::span(room).first(asked->bytes), asked->sender);
            auto heard = co_await client.recv_from(answer);
            CHECK((sent && answered && heard->bytes == 8));
        };
        for (int i = 0; i < 10; ++i) co_await exchange();
        std::size_t made = 0;
        for (int i = 0; i < 100; ++i) {
            const auto before = support::allocations();
            auto sent = co_await client.send_to("question", where(server));
            auto asked = co_await server.recv_from(room);
            auto answered = co_await server.send_to(std::span(room).first(asked->bytes), asked->sender);
            auto heard = co_await client.recv_from(answer);
            made += support::allocations() - before;
        }
        CHECK(made == 0);
    });
}
