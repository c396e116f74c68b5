// Every public name once, with the types that it is documented to give. When this no longer compiles, other people's
// programs do not either. It runs, too, and answers 0.

#include <plait/plait.hpp>

#include <array>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

using namespace std::chrono_literals;

namespace {

bool all_well = true;

void expect(bool fact, const char* what) {
    if (fact) return;
    std::fprintf(stderr, "signatures: %s\n", what);
    all_well = false;
}

plait::task<int> seven() { co_return 7; }
plait::task<> nothing() { co_return; }

plait::task<> echo(plait::tcp_stream stream) {
    while (auto received = co_await stream.recv())
        if (!co_await stream.send_all(received->bytes())) break;
}

plait::task<plait::io_result<void>> echo_frames(plait::tcp_stream stream) {
    plait::framed messages{std::move(stream), plait::length_prefix{}.width(4).little_endian()};
    while (auto message = co_await messages.next())
        if (!co_await messages.write(*message)) break;
    co_return plait::io_result<void>();
}

plait::task<> verbs_of_streams(plait::endpoint server) {
    plait::io_result<plait::tcp_stream> stream = co_await plait::tcp_stream::connect(server);
    std::array<std::byte, 64> room{};
    const std::span<const std::byte> abc = std::as_bytes(std::span("abc", 3));
    plait::io_result<std::size_t> count = co_await stream->send("hello");
    count = co_await stream->send(abc);
    count = co_await stream->send_all("hello");
    count = co_await stream->send_all(abc);
    const std::array<std::span<const std::byte>, 2> pieces{abc, abc};
    const std::span<const std::span<const std::byte>> gathered(pieces);
    count = co_await stream->send_all(gathered);
    auto [error, sent] = count;
    static_assert(std::is_same_v<decltype(error), std::error_code>);
    static_assert(std::is_same_v<decltype(sent), std::size_t>);
    expect(!error && sent == 6 && count.bytes() == 6, "send_all");
    count = co_await stream->recv(room);
    count = co_await stream->recv_exactly(std::span(room).first(2));
    plait::io_result<plait::lease> lease = co_await stream->recv();
    std::span<std::byte> leased = lease->bytes();
    std::string_view text = plait::as_text(leased);
    expect(!text.empty(), "recv()");
    plait::io_result<plait::endpoint> near = stream->local_endpoint();
    plait::io_result<plait::endpoint> far = stream->remote_endpoint();
    expect(near && far && *far == server, "remote_endpoint()");
    expect(stream->native_handle() >= 0, "native_handle()");
    plait::io_result<void> done = stream->set_no_delay(true);
    done = co_await stream->shutdown_send();
    done = co_await stream->close();
    expect(done.has_value(), "close()");
}

plait::task<> codecs() {
    constexpr auto length = plait::length_prefix{}
                                .width(4)
                                .little_endian()
                                .signed_length()
                                .offset(0)
                                .adjustment(0)
                                .strip(4)
                                .max_frame(1 << 20);
    constexpr auto varint = plait::varint_prefix{}.max_bytes(5).max_frame(1 << 20);
    auto [left, right] = plait::memory_stream_pair();
    plait::frame_writer writer{left, length};
    plait::frame_reader reader{right, length};
    plait::io_result<void> written = co_await writer.write("hello");
    written = co_await writer.write(std::as_bytes(std::span("abc", 3)));
    written = co_await writer.flush();
    plait::io_result<std::span<const std::byte>> frame = co_await reader.next();
    expect(written && frame && plait::as_text(*frame) == "hello", "frame_reader::next()");

    auto [ours, theirs] = plait::memory_stream_pair(1024);
    plait::framed lines{std::move(ours), plait::lines{}
                                             .max_frame(1024)
                                             .lf_only()
                                             .keep_terminator()
                                             .at_end(plait::remainder::emit)
                                             .on_oversize(plait::oversize::discard)};
    plait::framed records{std::move(theirs), plait::delimited{"\r\n"}.add("\n").max_frame(1024)};
    plait::framed small{plait::memory_stream(), varint};
    written = co_await lines.write("a line");
    written = co_await lines.flush();
    static_cast<void>(lines.stream());
    static_cast<void>(lines.codec());
    auto record = co_await records.next();
    expect(record.has_value(), "framed::next()");
    written = co_await lines.close();
}

plait::task<> time_and_cancellation() {
    plait::io_result<int> number = co_await plait::with_timeout(seven(), 1s);
    plait::io_result<void> slept = co_await plait::with_timeout(plait::sleep_for(1h), 1ms);
    expect(number.value_or(0) == 7 && slept.error() == plait::errc::timed_out, "with_timeout");
    const auto soon = std::chrono::steady_clock::now() + 1ms;
    slept = co_await plait::with_deadline(plait::sleep_for(1h), soon);
    slept = co_await plait::sleep_until(soon);
    std::stop_source source;
    source.request_stop();
    slept = co_await plait::with_stop(plait::sleep_for(1h), source.get_token());
    expect(slept.error() == plait::errc::canceled, "with_stop");
    slept = co_await plait::shielded(plait::sleep_for(1ms), 1s);
    bool stopping = co_await plait::stop_requested();
    expect(!stopping, "stop_requested");
    co_await plait::yield();
}

plait::task<> add(int& sum, int n) {
    sum += n;
    co_return;
}

plait::task<> several_at_once() {
    std::tuple<int, std::monostate> both = co_await plait::when_all(seven(), nothing());
    std::vector<plait::task<int>> many;
    many.push_back(seven());
    many.push_back(seven());
    std::vector<int> sevens = co_await plait::when_all(std::move(many));
    auto first = co_await plait::when_any(plait::sleep_for(1h), seven());
    std::size_t index = first.index;
    std::tuple<std::optional<plait::io_result<void>>, std::optional<int>> results = std::move(first.results);
    expect(std::get<0>(both) == 7 && sevens.size() == 2 && index == 1 && std::get<1>(results) == 7, "when");
    int sum = 0;
    plait::task_group group;
    group.spawn(add, std::ref(sum), 3);
    group.spawn(add(sum, 4));
    expect(group.size() == 2, "task_group::size()");
    co_await group.join();
    group.request_stop();
    expect(sum == 7, "task_group");

    plait::channel<int> numbers(4);
    plait::io_result<void> put = co_await numbers.send(1);
    plait::io_result<int> taken = co_await numbers.receive();
    numbers.close();
    plait::event event;
    event.set();
    put = co_await event.wait();
    event.reset();
    plait::mutex mutex;
    auto guard = co_await mutex.lock();
    expect(put && taken.value_or(0) == 1 && guard, "channel, event, mutex");
    int offloaded = co_await plait::offload([](int a, int b) { return a + b; }, 3, 4);
    expect(offloaded == 7, "offload");
}

plait::task<> names_and_datagrams() {
    plait::io_result<std::vector<plait::endpoint>> found = co_await plait::resolve("127.0.0.1", "80");
    expect(found && found->front() == plait::endpoint("127.0.0.1", 80), "resolve");
    auto parsed = plait::endpoint::parse("[::1]:80");
    auto wrong = plait::endpoint::parse("1.2.3.4:99999");
    expect(parsed && !wrong && wrong.message().find("99999") != wrong.message().npos, "endpoint::parse");
    plait::io_result<plait::udp_socket> near = co_await plait::udp_socket::bind({"127.0.0.1", 0});
    plait::io_result<plait::udp_socket> far = co_await plait::udp_socket::bind({"127.0.0.1", 0});
    plait::io_result<std::size_t> sent =
        co_await near->send_to(std::as_bytes(std::span("abc", 3)), far->local_endpoint().value());
    std::array<std::byte, 16> room{};
    plait::io_result<plait::datagram> got = co_await far->recv_from(room);
    std::size_t size = got->bytes;
    bool truncated = got->truncated;
    plait::endpoint sender = got->sender;
    expect(sent && size == 3 && !truncated && sender == near->local_endpoint().value(), "recv_from");
}

plait::task<> everything() {
    plait::io_context& context = co_await plait::this_context();
    auto listener = co_await plait::tcp_listener::bind({"127.0.0.1", 0}, plait::listen_options());
    const plait::endpoint where = listener->local_endpoint().value();
    auto options = plait::serve_options().drain_timeout(1s).max_connections(10).idle_timeout(5s);
    options.stop_on({SIGINT, SIGTERM});
    options.on_error([](std::error_code, const plait::endpoint&) { all_well = false; });
    plait::task<plait::io_result<void>> served = plait::serve(std::move(*listener), echo, options);
    auto frames = co_await plait::tcp_listener::bind({"127.0.0.1", 0});
    plait::task<plait::io_result<void>> served_frames =
        plait::serve(std::move(*frames), echo_frames, options);
    plait::task_group servers;
    servers.spawn(
        [](plait::task<plait::io_result<void>> each) -> plait::task<> {
            plait::io_result<void> ended = co_await std::move(each);
            expect(ended.has_value(), "serve");
        },
        std::move(served));
    servers.spawn(
        [](plait::task<plait::io_result<void>> each) -> plait::task<> {
            plait::io_result<void> ended = co_await std::move(each);
            expect(ended.has_value(), "serve, with results");
        },
        std::move(served_frames));
    co_await verbs_of_streams(where);
    co_await codecs();
    co_await time_and_cancellation();
    co_await several_at_once();
    co_await names_and_datagrams();
    struct plait::metrics counters = context.metrics();
    expect(counters.turns > 0, "metrics()");
    std::FILE* const nowhere = std::tmpfile();
    if (nowhere) {
        context.dump(nowhere);
        std::fclose(nowhere);
    }
    bool posted = context.post([moved = std::make_unique<int>(1)] { expect(*moved == 1, "post"); });
    expect(posted, "post");
    context.request_drain();
    co_await servers.join();
}

// These need a signal, or an address for good; that they compile is enough.
[[maybe_unused]] plait::task<> never_awaited() {
    plait::io_result<int> signal = co_await plait::wait_for_signal({SIGINT, SIGTERM});
    auto asked = co_await plait::wait_for_dump_request();
    plait::io_result<plait::tcp_stream> named = co_await plait::tcp_stream::connect("localhost", "8000");
    plait::io_result<plait::unix_listener> listener =
        co_await plait::unix_listener::bind(plait::unix_path("name"));
    plait::io_result<plait::unix_stream> stream =
        co_await plait::unix_stream::connect(plait::unix_path("name"));
    plait::io_result<plait::unix_datagram> datagrams =
        co_await plait::unix_datagram::bind(plait::unix_path("name"));
    plait::io_result<void> served =
        co_await plait::serve_per_core({"127.0.0.1", 8000}, echo, plait::serve_options());
    expect(signal && asked && named && listener && stream && datagrams && served, "");
}

} // namespace

int main() {
    expect(plait::run(seven()) == 7, "run");
    plait::io_context context(plait::context_options()
                                  .backend(plait::backend::automatic)
                                  .poll_before_sleep(0us)
                                  .on_event([](const plait::event_info&) {}));
    context.run(everything());
    plait::backend used = context.backend();
    std::string_view reason = context.backend_reason();
    expect(used != plait::backend::automatic && !reason.empty(), "backend_reason()");
    context.request_stop();
    bool posted = context.post([] {});
    expect(!posted, "post after the end");
    std::vector<int> sevens = plait::run_per_core(2, [] { return seven(); });
    expect(sevens.size() == 2, "run_per_core");
    return all_well ? 0 : 1;
}
