/// System calls that fail, queues and pools that are too small, descriptors that run out: on the real drivers.
#include <plait/framing.hpp>
#include <plait/plait.hpp>
#include <plait/serve.hpp>

#include "support/connections.hpp"
#include "support/linux/faults.hpp"
#include "support/plain_client.hpp"
#include "support/scale.hpp"
#include "support/serving.hpp"
#include "support/sockets.hpp"
#include "support/watchdog.hpp"

#include <catch2/catch_test_macros.hpp>

#include <sys/resource.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

using namespace std::chrono_literals;
using plait::context_options;
using plait::errc;
using plait::event_info;
using plait::io_result;
using plait::task;
using plait::task_group;
using plait::tcp_listener;
using plait::tcp_stream;
using support::call;
using support::faults;
using support::name_of;
using support::scaled;
using support::sequence;

namespace {

bool on_io_uring() {
    static const bool answer = plait::io_context().backend() == plait::backend::io_uring;
    return answer;
}

// --- a whole small conversation --------------------------------------------------------------------------------

constexpr std::size_t raw_bytes = 3'000;
constexpr std::size_t frame_count = 200;

std::span<const std::byte> frame_at(std::size_t number) {
    return sequence::at(number * 131, number * 37 % 300);
}

/// What became of it.
struct outcome {
    std::vector<std::error_code> errors; ///< as the verbs reported them
    std::size_t answered = 0;            ///< frames that came back
    bool client_done = false;
    bool server_done = false;
    bool hung = false;
    std::size_t wrong = 0; ///< bytes or frames that are not what was sent
    std::size_t leaked = 0;

    /// Notes an error. True: go on.
    template <class Result>
    bool fine(const Result& result) {
        if (!result) errors.push_back(result.error());
        return result.has_value();
    }
    bool whole() const {
        return errors.empty() && client_done && server_done && answered == frame_count && sound();
    }
    bool sound() const { return !hung && wrong == 0 && leaked == 0; }
};

/// Takes raw bytes and sends them back, echoes frames up to the half-close, and closes.
task<> serve_one(tcp_listener listener, outcome& seen) {
    auto accepted = co_await listener.accept();
    if (!seen.fine(accepted)) co_return;
    tcp_stream stream = std::move(*accepted);
    for (std::size_t place = 0; place < raw_bytes;) {
        auto got = co_await stream.recv();
        if (!seen.fine(got)) co_return;
        seen.wrong += !sequence::holds(place, got->bytes());
        place += got->size();
        const std::array<std::span<const std::byte>, 2> pieces = {got->bytes().first(got->size() / 2),
                                                                  got->bytes().subspan(got->size() / 2)};
        auto sent = co_await stream.send_all(std::span<const std::span<const std::byte>>(pieces));
        if (!seen.fine(sent)) co_return;
    }
    plait::framed messages(std::move(stream), plait::length_prefix());
    for (std::size_t number = 0;; ++number) {
        auto message = co_await messages.next();
        if (!message) {
            if (message.error() != errc::end_of_stream) {
                seen.fine(message);
                co_return;
            }
            break;
        }
        const auto expected = frame_at(number);
        seen.wrong += !std::equal(message->begin(), message->end(), expected.begin(), expected.end());
        auto written = co_await messages.write(*message);
        if (!seen.fine(written)) co_return;
    }
    auto closed = co_await messages.close();
    if (!seen.fine(closed)) co_return;
    auto listener_closed = co_await listener.close();
    seen.server_done = seen.fine(listener_closed);
}

task<> call_frames(tcp_stream& stream, outcome& seen) {
    plait::framed<tcp_stream&, plait::length_prefix> messages(stream, plait::length_prefix());
    bool written = true;
    task_group group;
    auto writes = [&]() -> task<> {
        for (std::size_t number = 0; number < frame_count && written; ++number) {
            auto result = co_await messages.write(frame_at(number));
            written = seen.fine(result);
            if (number % 20 == 0) co_await plait::yield();
        }
        if (written) {
            auto flushed = co_await messages.flush();
            written = seen.fine(flushed);
        }
        if (written) {
            auto ended = co_await stream.shutdown_send();
            written = seen.fine(ended);
        }
        if (!written) group.request_stop(); // nobody would answer the reader
    };
    auto reads = [&]() -> task<> {
        for (;; ++seen.answered) {
            auto message = co_await messages.next();
            if (!message) {
                if (message.error() != errc::end_of_stream && written) seen.fine(message);
                break;
            }
            const auto expected = frame_at(seen.answered);
            seen.wrong += !std::equal(message->begin(), message->end(), expected.begin(), expected.end());
        }
    };
    group.spawn(writes);
    group.spawn(reads);
    co_await group.join();
    seen.client_done = written;
}

task<> call_one(plait::endpoint where, task_group& both, outcome& seen) {
    auto connected = co_await tcp_stream::connect(where);
    if (!seen.fine(connected)) {
        both.request_stop(); // nobody else will come to the server
        co_return;
    }
    tcp_stream stream = std::move(*connected);
    std::vector<std::byte> room(raw_bytes);
    auto sends = [&]() -> task<bool> {
        auto sent = co_await stream.send_all(sequence::at(0, raw_bytes));
        co_return seen.fine(sent);
    };
    const bool sent = co_await sends();
    if (!sent) co_return;
    auto got = co_await stream.recv_exactly(room);
    seen.wrong += !sequence::holds(0, std::span<const std::byte>(room).first(got.bytes()));
    if (!seen.fine(got)) co_return;
    co_await call_frames(stream, seen);
    if (!seen.client_done) co_return;
    seen.client_done = false;
    auto closed = co_await stream.close();
    seen.client_done = seen.fine(closed);
}

task<io_result<void>> converse(outcome& seen) {
    auto listener = co_await tcp_listener::bind({"127.0.0.1", 0});
    if (!seen.fine(listener)) co_return io_result<void>();
    const plait::endpoint where = listener->local_endpoint().value();
    task_group both;
    both.spawn([&](tcp_listener& on) { return serve_one(std::move(on), seen); }, std::ref(*listener));
    both.spawn(call_one, where, std::ref(both), std::ref(seen));
    co_await both.join();
    const bool stopped =
        std::find(seen.errors.begin(), seen.errors.end(), errc::canceled) != seen.errors.end();
    co_return stopped ? io_result<void>(errc::canceled) : io_result<void>();
}

task<> bounded(outcome& seen) {
    auto result = co_await plait::with_timeout(converse(seen), 30s);
    seen.hung = result.error() == errc::timed_out;
}

/// The conversation on a context of its own.
outcome conversation(context_options options = {}) {
    outcome seen;
    const std::size_t before = support::open_descriptors();
    const auto body = [&] {
        plait::io_context context(std::move(options));
        context.run(bounded(seen));
    };
#if PLAIT_HAS_EXCEPTIONS
    try {
        body();
    } catch (const std::system_error& error) { // the context could not be made
        seen.errors.push_back(error.code());
    }
#else
    body();
#endif
    const std::size_t after = support::open_descriptors();
    seen.leaked = after > before ? after - before : 0;
    return seen;
}

std::string described(const outcome& seen) {
    std::string text = "answered " + std::to_string(seen.answered) + ", client " +
                       std::to_string(seen.client_done) + ", server " + std::to_string(seen.server_done) +
                       ", hung " + std::to_string(seen.hung) + ", wrong " + std::to_string(seen.wrong) +
                       ", leaked " + std::to_string(seen.leaked);
    for (const std::error_code& each : seen.errors) text += "; " + each.message();
    return text;
}

/// Errors of one call: those that the library has to live with, and those that it has to report.
struct failing_call {
    call which;
    std::vector<int> survived;
    std::vector<int> reported;
};

std::vector<failing_call> failing_calls() {
    std::vector<failing_call> list = {
        {call::socket, {}, {EMFILE, ENFILE, ENOBUFS, ENOMEM}},
        {call::set_option, {}, {ENOMEM, ENOBUFS}},
        {call::bind, {}, {EADDRINUSE, ENOMEM}},
        {call::listen, {}, {EADDRINUSE}},
        {call::shutdown, {}, {ENOTCONN, ENOBUFS, EIO}},
        {call::connect, {EINTR}, {ECONNREFUSED, ECONNRESET, ENOBUFS, EIO, ENOMEM, EAGAIN}},
        {call::accept, {EINTR}, {ECONNABORTED, ECONNRESET, EMFILE, ENFILE, ENOBUFS, EIO, ENOMEM}},
        {call::receive, {EINTR}, {ECONNRESET, ENOBUFS, EIO, ENOMEM}},
        {call::send, {EINTR}, {ECONNRESET, EPIPE, ENOBUFS, EIO, ENOMEM}},
        {call::wait, {EINTR}, {}},
    };
#if PLAIT_HAS_EXCEPTIONS
    list.push_back({call::event_descriptor, {}, {EMFILE, ENFILE, ENOMEM}});
#endif
    if (on_io_uring()) {
        // Sockets block, so that no entry completes with EAGAIN; io_uring_enter does.
        for (failing_call& each : list)
            if (each.which == call::wait) each.survived = {EINTR, EAGAIN, EBUSY};
        list.push_back({call::buffer_ring, {ENOMEM, EINVAL}, {}});
        list.push_back({call::wake_up, {EINTR, EAGAIN, ENOMEM}, {}});
#if PLAIT_HAS_EXCEPTIONS
        list.push_back({call::ring, {}, {ENOMEM, EPERM, EMFILE}});
#endif
    } else {
        for (failing_call& each : list)
            if (each.which == call::accept || each.which == call::receive || each.which == call::send)
                each.survived.push_back(EAGAIN);
        list.push_back({call::wait_precisely, {ENOSYS, EPERM}, {}});
#if PLAIT_HAS_EXCEPTIONS // without them a context that cannot be made aborts, and the first call is its own
        list.push_back({call::epoll_ctl, {}, {ENOMEM, ENOSPC}});
        list.push_back({call::epoll_create, {}, {EMFILE, ENFILE, ENOMEM}});
#endif
    }
    return list;
}

/// A call of `which` fails, each one once in a conversation of its own; the context has no other fault.
void fail_each(call which, int error, bool survives, std::size_t count) {
    const std::size_t step = std::max<std::size_t>(1, count / scaled(300));
    for (std::size_t n = 1; n <= count; n += step) {
        INFO(name_of(which) << " number " << n << " of " << count << ": " << std::strerror(error));
        outcome seen;
        std::size_t failed = 0;
        {
            faults injected;
            injected.fail(which, n, error);
            seen = conversation();
            failed = injected.failed();
        }
        INFO(described(seen));
        CHECK(seen.sound());
        if (survives || failed == 0)
            CHECK(seen.whole());
        else
            CHECK((seen.whole() || !seen.errors.empty()));
    }
}

bool entries_fail() { return !on_io_uring() || faults::can_fail_entries(); }
constexpr const char* why_not = "this kernel's io_uring cannot be told to fail an entry (6.10 can)";

} // namespace

TEST_CASE("a conversation without faults counts the calls that can fail", "[fault]") {
    faults counted;
    const outcome seen = conversation();
    INFO(described(seen));
    CHECK(seen.whole());
    for (const failing_call& each : failing_calls()) {
        INFO(name_of(each.which));
        CHECK((counted.calls(each.which) > 0 || each.which == call::wait_precisely));
    }
    CHECK(counted.failed() == 0);
}

TEST_CASE("each system call fails once, and the conversation lives or says so", "[fault]") {
    if (!entries_fail()) SKIP(why_not);
    for (const failing_call& each : failing_calls()) {
        std::size_t count = 0;
        {
            faults counted;
            REQUIRE(conversation().whole());
            count = counted.calls(each.which);
        }
        for (const int error : each.survived) fail_each(each.which, error, true, count);
        for (const int error : each.reported) fail_each(each.which, error, false, count);
    }
}

TEST_CASE("every call is interrupted before it succeeds", "[fault]") {
    if (!entries_fail()) SKIP(why_not);
    for (std::size_t round = 0; round < scaled(10); ++round) {
        faults injected;
        injected.interrupt_all();
        const outcome seen = conversation();
        INFO(described(seen));
        CHECK(seen.whole());
        CHECK(injected.failed() > 10);
    }
}

TEST_CASE("sends and receives that move a few bytes keep them in order", "[fault]") {
    for (std::size_t most = 1; most <= 7; ++most) {
        faults injected;
        injected.cut(most);
        // Receives into the pool are as short as its buffers.
        const outcome seen = conversation(context_options().buffer_pool(8, 8, most));
        INFO("at most " << most << " bytes; " << described(seen));
        CHECK(seen.whole());
        CHECK(injected.calls(call::send) > frame_count);
    }
}

// --- queues and pools that are too small -----------------------------------------------------------------------

namespace {

/// That many clients and echoing sessions at once; answers how many frames came back right.
task<std::size_t> crowd(std::size_t connections, std::size_t frames) {
    auto pairs = co_await support::connected_pairs(connections);
    std::size_t right = 0;
    auto echoes = [](tcp_stream& on) -> task<> {
        plait::framed<tcp_stream&, plait::length_prefix> messages(on, plait::length_prefix());
        while (auto message = co_await messages.next()) {
            auto written = co_await messages.write(*message);
            if (!written) break;
        }
        static_cast<void>(co_await messages.flush());
        static_cast<void>(co_await on.shutdown_send());
    };
    auto writes = [&](tcp_stream& on, std::size_t who) -> task<> {
        plait::framed<tcp_stream&, plait::length_prefix> messages(on, plait::length_prefix());
        for (std::size_t number = 0; number < frames; ++number) {
            auto written = co_await messages.write(frame_at(who + number));
            if (!written) break;
            if (number % 3 == 0) co_await plait::yield();
        }
        static_cast<void>(co_await messages.flush());
        static_cast<void>(co_await on.shutdown_send());
    };
    auto reads = [&](tcp_stream& on, std::size_t who) -> task<> {
        plait::framed<tcp_stream&, plait::length_prefix> messages(on, plait::length_prefix());
        for (std::size_t number = 0;; ++number) {
            auto message = co_await messages.next();
            if (!message) break;
            const auto expected = frame_at(who + number);
            right += std::equal(message->begin(), message->end(), expected.begin(), expected.end());
        }
    };
    task_group group;
    for (std::size_t who = 0; who < connections; ++who) {
        group.spawn(echoes, std::ref(pairs[who].far));
        group.spawn(writes, std::ref(pairs[who].near), who);
        group.spawn(reads, std::ref(pairs[who].near), who);
    }
    co_await group.join();
    co_return right;
}

void check_crowd(const context_options& options) {
    const std::size_t connections = support::pairs_at_once(scaled(250));
    constexpr std::size_t frames = 50;
    const std::size_t before = support::open_descriptors();
    CHECK(plait::run(crowd(connections, frames), options) == connections * frames);
    CHECK(support::open_descriptors() == before);
}

} // namespace

TEST_CASE("hundreds of connections share queues of 4 and 8", "[fault]") {
    check_crowd(context_options().queue_sizes(4, 8));
}

TEST_CASE("hundreds of connections share a pool of one buffer, or of four", "[fault]") {
    for (const std::size_t bytes : {std::size_t{0}, std::size_t{64}}) {
        check_crowd(context_options().buffer_pool(1, 1, bytes));
        check_crowd(context_options().buffer_pool(4, 4, bytes));
        check_crowd(context_options().queue_sizes(4, 8).buffer_pool(1, 1, bytes));
    }
}

TEST_CASE("hundreds of connections share small queues while every call is interrupted", "[fault]") {
    if (!entries_fail()) SKIP(why_not);
    faults injected;
    injected.interrupt_all();
    check_crowd(context_options().queue_sizes(4, 8).buffer_pool(4, 4, 0));
    CHECK(injected.failed() > scaled(200));
}

TEST_CASE("hundreds of connections live without a pool", "[fault]") {
    if (!on_io_uring()) SKIP("epoll's pool is registered nowhere");
    faults injected;
    injected.fail(call::buffer_ring, 1, ENOMEM);
    check_crowd(context_options());
    CHECK(injected.failed() == 1);
}

// --- descriptors that run out ----------------------------------------------------------------------------------

namespace {

/// The limit of descriptors, restored at the end.
class descriptor_limit {
  public:
    descriptor_limit() { support::must(::getrlimit(RLIMIT_NOFILE, &before_) == 0, "getrlimit"); }
    descriptor_limit(const descriptor_limit&) = delete;
    descriptor_limit& operator=(const descriptor_limit&) = delete;
    ~descriptor_limit() { restore(); }

    /// Leaves room for `more` beyond the highest that is open.
    void lower(rlim_t more) const {
        const int next = ::dup(0);
        support::must(next >= 0, "dup");
        ::close(next);
        rlimit limit = before_;
        limit.rlim_cur = static_cast<rlim_t>(next) + more;
        support::must(::setrlimit(RLIMIT_NOFILE, &limit) == 0, "setrlimit");
    }
    void restore() const { ::setrlimit(RLIMIT_NOFILE, &before_); }

  private:
    rlimit before_{};
};

/// Clients that have connected before anybody accepts; each then wants an answer.
struct waiting_clients {
    explicit waiting_clients(std::uint16_t port, std::size_t count) {
        for (std::size_t i = 0; i < count; ++i) {
            list.emplace_back(port);
            support::must(list.back().send(support::length_framed("who is there?")), "send");
        }
    }
    std::vector<support::plain_client> list;
};

/// Serves `count` clients that wait already; `begin` is called before the first accept, `in_trouble` once serve()
/// has reported that accepting pauses. Answers how many clients got their answer.
template <class Begin, class Trouble>
std::size_t serve_in_trouble(std::size_t count, Begin begin, Trouble in_trouble, std::set<int>& causes) {
    std::size_t answered = 0;
    support::sessions_seen seen;
    bool troubled = false;
    auto noted = [&](const event_info& event) {
        if (event.what != event_info::kind::accept_backoff) return;
        causes.insert(event.error.value());
        troubled = true;
    };
    plait::io_context context{context_options().on_event(noted)};
    auto body = [&]() -> task<> {
        auto listener = co_await support::listen();
        waiting_clients clients(listener.local_endpoint().value().port(), count);
        auto session = [&](tcp_stream stream) { return support::echo_frames(std::move(stream), seen); };
        auto client = [&](plait::endpoint) -> task<> {
            co_await support::until([&] { return troubled; });
            in_trouble();
            co_await support::until([&] { return seen.started == static_cast<int>(count); });
            for (support::plain_client& each : clients.list) {
                // The session answers when the loop turns; a blocking receive would stop it.
                std::string text(17, '\0');
                std::size_t size = 0;
                co_await support::until([&] {
                    const auto got = ::recv(static_cast<int>(each.native_handle()), text.data() + size,
                                            text.size() - size, MSG_DONTWAIT);
                    if (got > 0) size += static_cast<std::size_t>(got);
                    return size == text.size() || got == 0;
                });
                answered += text == support::length_framed("who is there?");
                each.close();
            }
            co_await support::request_drain();
        };
        begin();
        auto result =
            co_await support::serve_beside(std::move(listener), session, plait::serve_options(), client);
        CHECK(result);
    };
    context.run(body());
    return answered;
}

} // namespace

TEST_CASE("serve outlives a process without descriptors", "[fault]") {
    constexpr std::size_t clients = 200;
    const descriptor_limit limit;
    std::set<int> causes;
    const std::size_t before = support::open_descriptors();
    const std::size_t answered = serve_in_trouble(
        clients, [&] { limit.lower(10); }, [&] { limit.restore(); }, causes);
    CHECK(answered == clients);
    CHECK(causes == std::set<int>{EMFILE});
    CHECK(support::open_descriptors() == before);
}

TEST_CASE("serve outlives a system without descriptors or memory", "[fault]") {
    if (!entries_fail()) SKIP(why_not);
    for (const int error : {ENFILE, EMFILE, ENOBUFS, ENOMEM}) {
        for (const std::size_t n : {1U, 2U}) {
            INFO("accept number " << n << ": " << std::strerror(error));
            std::set<int> causes;
            faults injected;
            const std::size_t answered = serve_in_trouble(
                5, [&] { injected.fail(call::accept, n, error); }, [] {}, causes);
            CHECK(answered == 5);
            CHECK(causes == std::set<int>{error});
        }
    }
}

TEST_CASE("serve outlives connections that end before they are accepted", "[fault]") {
    if (!entries_fail()) SKIP(why_not);
    for (const int error : {ECONNABORTED, ECONNRESET, EPROTO, EPERM, ENETDOWN, ENETUNREACH, EHOSTUNREACH,
                            EHOSTDOWN, ENOPROTOOPT, EOPNOTSUPP, ETIMEDOUT, EINTR, EAGAIN}) {
        INFO(std::strerror(error));
        faults injected;
        injected.fail(call::accept, 1, error);
        support::sessions_seen seen;
        auto session = [&](tcp_stream stream) { return support::echo_frames(std::move(stream), seen); };
        auto client = [&](plait::endpoint where) -> task<> {
            for (int i = 0; i < 3; ++i) {
                auto stream = co_await support::connect(where);
                co_await support::check_exchange(stream, "still there?");
            }
            co_await support::request_drain();
        };
        const auto result = support::run_server(session, plait::serve_options(), client);
        CHECK(result);
        CHECK(seen.started == 3);
        CHECK(injected.failed() == 1);
    }
}

// --- streams of completions that end by themselves -------------------------------------------------------------
// On io_uring one entry receives, or accepts, over and over, until the kernel ends it. epoll has to give the same.

namespace {

/// Bytes that leave at once, without the loop's knowledge.
void send_now(const tcp_stream& from, std::span<const std::byte> bytes) {
    const auto sent =
        ::send(static_cast<int>(from.native_handle()), bytes.data(), bytes.size(), MSG_NOSIGNAL);
    support::must(sent == static_cast<ssize_t>(bytes.size()), "send");
}

/// Receives leases up to `most` bytes; they must follow `place`.
task<std::error_code> receive_sequence(tcp_stream& from, std::size_t& place, std::size_t most) {
    while (place < most) {
        auto got = co_await from.recv();
        if (!got) co_return got.error();
        const bool right = sequence::holds(place, got->bytes());
        CHECK(right);
        place += got->size();
    }
    co_return std::error_code();
}

} // namespace

TEST_CASE("a receive goes on when kept leases have emptied the pool", "[fault]") {
    constexpr std::size_t total = 200'000;
    std::size_t place = 0, kept = 0;
    auto body = [&]() -> task<> {
        auto pair = co_await support::connected_pair();
        auto sends = [&]() -> task<> {
            for (std::size_t done = 0; done < total;) {
                auto sent = co_await pair.far.send_all(
                    sequence::at(done, std::min<std::size_t>(1'000, total - done)));
                if (!sent) break;
                done += *sent;
            }
            static_cast<void>(co_await pair.far.shutdown_send());
        };
        auto receives = [&]() -> task<> {
            std::vector<plait::lease> leases;
            std::size_t start = 0;
            auto check_kept = [&] { // nobody has written over them
                for (const plait::lease& each : leases) {
                    const bool right = sequence::holds(start, each.bytes());
                    CHECK(right);
                    start += each.size();
                }
                leases.clear();
            };
            for (;;) {
                auto got = co_await pair.near.recv();
                if (!got) {
                    CHECK(got.error() == errc::end_of_stream);
                    break;
                }
                place += got->size();
                leases.push_back(std::move(*got));
                kept = std::max(kept, leases.size());
                if (leases.size() == 20) check_kept();
            }
            check_kept();
        };
        co_await plait::when_all(sends(), receives());
    };
    plait::run(body(), context_options().buffer_pool(1, 2, 512));
    CHECK(place == total);
    CHECK(kept == 20);
}

TEST_CASE("a receive that the kernel ends anywhere loses nothing", "[fault]") {
    if (!on_io_uring()) SKIP("epoll has nothing that the kernel could end");
    if (!entries_fail()) SKIP(why_not);
    constexpr std::size_t pieces = 40;
    for (const int error : {ENOBUFS, ECANCELED, EINTR}) {
        for (std::size_t n = 1; n <= 10; ++n) {
            INFO("receive number " << n << ": " << std::strerror(error));
            std::size_t place = 0;
            faults injected;
            auto body = [&]() -> task<> {
                auto pair = co_await support::connected_pair();
                injected.fail(call::receive, n, error);
                std::size_t sent = 0;
                for (std::size_t i = 0; i < pieces; ++i) {
                    const auto piece = sequence::at(sent, 100 + i);
                    send_now(pair.far, piece);
                    sent += piece.size();
                    // A burst that nobody asks for ends the multishot too: it is armed again by the next receive.
                    if (i % 8 < 6) {
                        co_await support::turns(1);
                        continue;
                    }
                    auto error_here = co_await receive_sequence(pair.near, place, sent);
                    CHECK_FALSE(error_here);
                }
                auto error_at_end = co_await receive_sequence(pair.near, place, sent);
                CHECK_FALSE(error_at_end);
                CHECK(place == sent);
            };
            plait::run(body(), context_options().buffer_pool(1, 1, 64));
            CHECK(injected.failed() == 1);
        }
    }
}

TEST_CASE("the peer's end and its reset come behind its last bytes", "[fault]") {
    for (const bool reset : {false, true}) {
        for (const std::size_t lateness : {0U, 1U, 3U}) {
            for (const std::size_t size : {0U, 10U, 30'000U}) {
                INFO("reset " << reset << ", " << lateness << " turns late, " << size << " bytes");
                std::size_t place = 0;
                std::error_code first, again;
                auto body = [&]() -> task<> {
                    auto pair = co_await support::connected_pair();
                    auto receives = [&]() -> task<> {
                        auto before = co_await receive_sequence(pair.near, place, 5);
                        CHECK_FALSE(before); // the multishot stands from now on
                        co_await support::turns(lateness);
                        first = co_await receive_sequence(pair.near, place, 1'000'000);
                        again = (co_await pair.near.recv()).error();
                    };
                    auto ends = [&]() -> task<> {
                        send_now(pair.far, sequence::at(0, 5));
                        if (size > 0) send_now(pair.far, sequence::at(5, size));
                        if (reset) {
                            co_await support::turns(lateness);
                            support::reset_by(pair.far);
                        } else {
                            static_cast<void>(co_await pair.far.shutdown_send());
                        }
                    };
                    co_await plait::when_all(receives(), ends());
                };
                plait::run(body(), context_options().buffer_pool(2, 2, 128));
                if (reset) {
                    // What the kernel still held may be gone with a reset.
                    CHECK(place <= 5 + size);
                    CHECK(first == std::errc::connection_reset);
                } else {
                    CHECK(place == 5 + size);
                    CHECK(first == errc::end_of_stream);
                }
                CHECK(again == errc::end_of_stream);
            }
        }
    }
}

TEST_CASE("cancelled receives lose no byte, whoever wins", "[fault]") {
    const std::size_t rounds = scaled(2'000); // 10,000 at PLAIT_TEST_SCALE=5
    std::size_t place = 0, sent = 0, cancelled = 0;
    auto body = [&]() -> task<> {
        auto pair = co_await support::connected_pair();
        auto receives = [&]() -> task<> {
            auto error = co_await receive_sequence(pair.near, place, sent + 1'000'000);
            cancelled += error == errc::canceled;
        };
        for (std::size_t round = 0; round < rounds; ++round) {
            task_group group;
            group.spawn(receives);
            co_await support::turns(1 + round % 3);
            for (std::size_t i = 0; i < round % 7; ++i) {
                const auto piece = sequence::at(sent, 1 + round % 200);
                send_now(pair.far, piece);
                sent += piece.size();
                if (round % 2) co_await support::turns(1);
            }
            group.request_stop();
            co_await group.join();
        }
        auto error = co_await receive_sequence(pair.near, place, sent);
        CHECK_FALSE(error);
        CHECK(place == sent);
    };
    plait::run(body(), context_options().buffer_pool(2, 2, 256));
    CHECK(cancelled == rounds);
}

TEST_CASE("receives and accepts outlive a completion queue that overflows", "[fault]") {
    constexpr std::size_t streams = 64;
    const std::size_t rounds = scaled(20);
    const std::size_t before = support::open_descriptors();
    faults counted;
    auto body = [&]() -> task<> {
        auto listener = co_await support::loopback_listener();
        const plait::endpoint where = listener.local_endpoint().value();
        std::vector<tcp_stream> accepted;
        std::vector<support::plain_client> clients;
        for (std::size_t round = 0; round < rounds; ++round) {
            // Every second one takes its connections after they have come, the others wait for them.
            auto accepts = [&]() -> task<> {
                while (accepted.size() < streams) {
                    auto stream = co_await listener.accept();
                    support::must(stream.has_value(), "accept");
                    accepted.push_back(std::move(*stream));
                }
            };
            task_group group;
            if (round % 2) {
                group.spawn(accepts);
                co_await support::turns(2);
            }
            for (std::size_t i = 0; i < streams; ++i) clients.emplace_back(where.port());
            if (round % 2 == 0) group.spawn(accepts);
            co_await group.join();

            std::vector<std::size_t> places(streams, 0);
            auto receives = [&](std::size_t who) -> task<> {
                auto error = co_await receive_sequence(accepted[who], places[who], 1'000'000);
                CHECK(error == errc::end_of_stream);
            };
            for (std::size_t who = 0; who < streams; ++who) group.spawn(receives, who);
            co_await support::turns(2);
            std::size_t sent = 0;
            for (std::size_t burst = 0; burst < 6; ++burst) {
                const auto piece = sequence::at(sent, 20);
                sent += piece.size();
                for (auto& client : clients)
                    client.send(std::string_view(reinterpret_cast<const char*>(piece.data()), piece.size()));
                if (burst % 2) co_await support::turns(1);
            }
            for (auto& client : clients) client.close();
            co_await group.join();
            CHECK(places == std::vector<std::size_t>(streams, sent));
            accepted.clear();
            clients.clear();
        }
    };
    plait::run(body(), context_options().queue_sizes(4, 8));
    CHECK(support::open_descriptors() == before);
    CHECK((counted.overflows() > 0) == on_io_uring());
}

TEST_CASE("cancelled accepts lose no connection, and a closed listener keeps none", "[fault]") {
    const std::size_t rounds = scaled(100);
    const std::size_t before = support::open_descriptors();
    std::size_t accepted = 0, connected = 0;
    auto body = [&]() -> task<> {
        auto listener = co_await support::loopback_listener();
        const plait::endpoint where = listener.local_endpoint().value();
        auto accepts = [&]() -> task<> {
            while (auto stream = co_await listener.accept()) ++accepted;
        };
        for (std::size_t round = 0; round < rounds; ++round) {
            task_group group;
            group.spawn(accepts);
            co_await support::turns(1 + round % 2);
            for (std::size_t i = 0; i < round % 4; ++i, ++connected)
                support::plain_client client(where.port());
            if (round % 3 == 0) co_await support::turns(round % 5);
            group.request_stop();
            co_await group.join();
        }
        while (accepted < connected) {
            auto stream = co_await listener.accept();
            support::must(stream.has_value(), "accept");
            ++accepted;
        }
        CHECK(accepted == connected);

        // Those that nobody took go with the listener.
        auto one = [&]() -> task<> { static_cast<void>(co_await listener.accept()); };
        task_group group;
        group.spawn(one);
        co_await support::turns(2);
        std::vector<support::plain_client> clients;
        for (int i = 0; i < 10; ++i) clients.emplace_back(where.port());
        co_await group.join();
        co_await support::turns(2);
        static_cast<void>(co_await listener.close());
        std::size_t ended = 0;
        for (auto& client : clients) {
            int error = 0;
            ended += client.receive_all(error).empty();
        }
        CHECK(ended == clients.size());
    };
    plait::run(body());
    CHECK(support::open_descriptors() == before);
}

TEST_CASE("an accept that the system refuses on one listener changes nothing for the others", "[fault]") {
    constexpr std::size_t clients = 20;
    std::size_t accepted = 0, entries = 0;
    faults counted;
    auto body = [&]() -> task<> {
        auto bad = co_await support::loopback_listener();
        auto good = co_await support::loopback_listener();
        support::must(::shutdown(static_cast<int>(bad.native_handle()), SHUT_RDWR) == 0, "shutdown");
        auto refused = co_await bad.accept();
        CHECK(refused.error() == std::errc::invalid_argument);
        const std::size_t before = counted.calls(call::accept);
        auto accepts = [&]() -> task<> {
            while (accepted < clients) {
                auto stream = co_await good.accept();
                if (!stream) break;
                ++accepted;
            }
        };
        auto connects = [&]() -> task<> {
            for (std::size_t i = 0; i < clients; ++i) {
                support::plain_client client(good.local_endpoint().value().port());
                while (accepted <= i) co_await support::turns(1);
            }
        };
        co_await plait::when_all(accepts(), connects());
        entries = counted.calls(call::accept) - before;
    };
    plait::run(body());
    CHECK(accepted == clients);
    if (on_io_uring()) CHECK(entries == 1); // one entry accepts over and over
}
