// "Sticky packets": why messages over TCP run together, and the cure. One process talks to itself over loopback.
//
//     sticky_packets
//     sticky_packets --udp     datagrams do not stick, but they have other troubles
//
// TCP carries bytes, not messages. What arrives while nobody reads lies together, and a read takes as much as there is
// room for. So each message needs a mark of where it ends, such as its length in front.

#include "arguments.hpp"
#include "program.hpp"

#include <array>
#include <chrono>

namespace {

using namespace std::chrono_literals;
using plait::as_bytes;
using plait::as_text;

std::string quoted(std::span<const std::byte> bytes) { return '"' + std::string(as_text(bytes)) + '"'; }

std::string in_hex(std::span<const std::byte> bytes) {
    std::string text;
    for (std::byte each : bytes) {
        std::array<char, 4> two{};
        std::snprintf(two.data(), two.size(), text.empty() ? "%02x" : " %02x",
                      std::to_integer<unsigned>(each));
        text += two.data();
    }
    return text;
}

// Time for what was sent to arrive, as when the receiver is busy with something else.
plait::task<> be_busy() { co_await plait::sleep_for(50ms); }

plait::task<int> show() {
    auto listener = (co_await plait::tcp_listener::bind({"127.0.0.1", 0})).value();
    auto sender = (co_await plait::tcp_stream::connect(listener.local_endpoint().value())).value();
    auto receiver = (co_await listener.accept()).value();
    constexpr std::array<std::string_view, 3> words = {"one", "two", "three"};
    std::array<std::byte, 1024> buffer{};
    const std::span<std::byte> whole(buffer);

    std::puts("1. Three sends arrive as one read");
    for (std::string_view word : words) {
        (co_await sender.send_all(word)).value();
        std::printf("   send        %s\n", quoted(as_bytes(word)).c_str());
    }
    co_await be_busy();
    std::size_t count = (co_await receiver.recv(whole)).value();
    std::printf("   recv(1024)  %s\n", quoted(whole.first(count)).c_str());

    std::puts("\n2. A read takes what it has room for, and leaves the rest to the next one");
    (co_await sender.send_all("hello world")).value();
    std::puts("   send        \"hello world\"");
    co_await be_busy();
    count = (co_await receiver.recv(whole.first(5))).value();
    std::printf("   recv(5)     %s\n", quoted(whole.first(count)).c_str());
    count = (co_await receiver.recv(whole)).value();
    std::printf("   recv(1024)  %s\n", quoted(whole.first(count)).c_str());

    std::puts("\n3. The cure: its length in front of each message, as struct.pack('i', 11) writes it");
    auto codec = plait::length_prefix{}.width(4).little_endian().signed_length();
    plait::frame_edges edges;
    codec.encode(as_bytes("hello world"), edges).value();
    const auto header = std::span<const std::byte>(edges.header).first(edges.header_size);
    const std::size_t meaning = codec.decode(header).more(); // so many bytes are still to come
    std::printf("   header      %s, which means %zu\n", in_hex(header).c_str(), meaning);
    const std::array<std::span<const std::byte>, 2> pieces = {header, as_bytes("hello world")};
    count = (co_await sender.send_all(pieces)).value(); // gathered: one system call, one packet
    std::printf("   send        header and body in one write, %zu bytes\n", count);
    co_await be_busy();
    count = (co_await receiver.recv(whole)).value();
    const plait::decoded frame = codec.decode(whole.first(count));
    std::printf("   recv(1024)  %s: the first 4 of %zu bytes say that %zu belong to the message %s\n",
                in_hex(whole.first(4)).c_str(), count, frame.payload_size(),
                quoted(frame.payload(whole)).c_str());

    std::puts("\n4. plait::framed does that: three messages stay three, however they travel");
    plait::framed outgoing{std::move(sender), codec};
    plait::framed incoming{std::move(receiver), codec};
    for (std::string_view word : words) {
        (co_await outgoing.write(word)).value();
        std::printf("   write       %s\n", quoted(as_bytes(word)).c_str());
    }
    for (std::size_t i = 0; i < words.size(); ++i) {
        const auto message = (co_await incoming.next()).value();
        std::printf("   next()      %s\n", quoted(message).c_str());
    }
    co_return 0;
}

// The same over UDP. What is received is always one datagram; but it may be lost, or come late, or twice.
plait::task<int> show_datagrams() {
    auto receiver = (co_await plait::udp_socket::bind({"127.0.0.1", 0})).value();
    auto sender = (co_await plait::udp_socket::bind({"127.0.0.1", 0})).value();
    const plait::endpoint to = receiver.local_endpoint().value();
    std::array<std::byte, 1024> buffer{};
    const std::span<std::byte> whole(buffer);

    std::puts("1. Three sends arrive as three reads");
    constexpr std::array<std::string_view, 3> words = {"one", "two", "three"};
    for (std::string_view word : words) {
        (co_await sender.send_to(word, to)).value();
        std::printf("   send_to          %s\n", quoted(as_bytes(word)).c_str());
    }
    co_await be_busy();
    for (std::size_t i = 0; i < words.size(); ++i) {
        const auto received = (co_await receiver.recv_from(whole)).value();
        std::printf("   recv_from(1024)  %s\n", quoted(whole.first(received.bytes)).c_str());
    }

    std::puts("\n2. A read takes what it has room for, and the rest of that datagram is lost");
    for (std::string_view word : {"hello world", "next"}) {
        (co_await sender.send_to(word, to)).value();
        std::printf("   send_to          %s\n", quoted(as_bytes(word)).c_str());
    }
    for (std::size_t room : {5U, 1024U}) {
        const auto received = (co_await receiver.recv_from(whole.first(room))).value();
        std::printf("   recv_from(%zu)%*s%s%s\n", room, room > 9 ? 2 : 5, "",
                    quoted(whole.first(received.bytes)).c_str(), received.truncated ? ", truncated" : "");
    }
    co_return 0;
}

} // namespace

int main(int count, char** words) {
    example::arguments line(count, words, "sticky_packets [--udp] [--backend automatic|io_uring|epoll|iocp]");
    const plait::backend backend = line.backend();
    const bool udp = line.flag("--udp");
    line.end();
    return example::run(udp ? show_datagrams() : show(), backend);
}
