#pragma once
/// What a byte stream is, what works on every one, and a stream in memory for tests and pipelines.
///
///     auto [left, right] = plait::memory_stream_pair();
///     co_await plait::send_all(left, plait::as_bytes("hello"));
///     co_await plait::recv_exactly(right, buffer);

#include <plait/bytes.hpp>
#include <plait/detail/pending.hpp>
#include <plait/endpoint.hpp>
#include <plait/lease.hpp>
#include <plait/result.hpp>
#include <plait/task.hpp>

#include <concepts>
#include <memory>
#include <span>
#include <string_view>
#include <utility>

namespace plait::inline v1 {

/// `co_await s.recv(span<byte>)` receives some bytes, at least one, or fails with errc::end_of_stream.
template <class S>
concept readable_stream = requires(S& s, std::span<std::byte> buffer) {
    { s.recv(buffer) } -> detail::plait_awaitable;
    requires std::same_as<detail::await_result_t<decltype(s.recv(buffer))>, io_result<std::size_t>>;
};

/// `co_await s.send(span<const byte>)` sends some bytes, at least one.
template <class S>
concept writable_stream = requires(S& s, std::span<const std::byte> bytes) {
    { s.send(bytes) } -> detail::plait_awaitable;
    requires std::same_as<detail::await_result_t<decltype(s.send(bytes))>, io_result<std::size_t>>;
};

/// Both.
template <class S>
concept stream = readable_stream<S> && writable_stream<S>;

/// Receives until `buffer` is full. The end of the stream is errc::end_of_stream before the first byte and
/// errc::truncated_frame after it; bytes() tells how many came before any error. 0 bytes succeed at once.
template <readable_stream S>
task<io_result<std::size_t>> recv_exactly(S& from, std::span<std::byte> buffer) {
    std::size_t done = 0;
    while (done < buffer.size()) {
        auto received = co_await from.recv(buffer.subspan(done));
        if (!received) {
            const bool cut = done > 0 && received.raw_status().is(errc::end_of_stream);
            co_return io_result<std::size_t>(
                cut ? detail::status(errc::truncated_frame) : received.raw_status(), done + received.bytes());
        }
        done += *received;
    }
    co_return done;
}

/// Sends all of `bytes`; after an error bytes() tells how many had left.
template <writable_stream S>
task<io_result<std::size_t>> send_all(S& to, std::span<const std::byte> bytes) {
    std::size_t done = 0;
    while (done < bytes.size()) {
        auto sent = co_await to.send(bytes.subspan(done));
        if (!sent) co_return io_result<std::size_t>(sent.raw_status(), done + sent.bytes());
        done += *sent;
    }
    co_return done;
}

/// Sends all pieces in order.
template <writable_stream S>
task<io_result<std::size_t>> send_all(S& to, std::span<const std::span<const std::byte>> pieces) {
    std::size_t done = 0;
    for (const auto& piece : pieces) {
        auto sent = co_await send_all(to, piece);
        done += sent.bytes();
        if (!sent) co_return io_result<std::size_t>(sent.raw_status(), done);
    }
    co_return done;
}

namespace detail {

template <class S>
concept leasing_stream = requires(S& s) {
    requires std::same_as<await_result_t<decltype(s.recv())>, io_result<lease>>;
};

/// One direction between two memory streams.
struct memory_pipe;

/// Waits until a pipe can give, or take, a byte.
class memory_awaitable {
  public:
    using plait_awaitable_tag = void;

    PLAIT_API memory_awaitable(std::shared_ptr<memory_pipe> pipe, std::span<std::byte> into,
                               std::span<const std::byte> from, bool receiving) noexcept;
    memory_awaitable(memory_awaitable&&) noexcept = default;
    PLAIT_API ~memory_awaitable();

    PLAIT_API bool await_ready() noexcept;
    template <environment_promise P>
    bool await_suspend(std::coroutine_handle<P> waiter) {
        return start(waiter, waiter.promise().plait_environment());
    }
    PLAIT_API io_result<std::size_t> await_resume() noexcept;

    /// Ends the wait, which has begun, as cancelled.
    void cancel_now() noexcept { cancel(wait_); }

  private:
    friend struct memory_pipe;
    PLAIT_API bool start(std::coroutine_handle<> waiter, environment& env);
    bool try_now() noexcept;
    static void cancel(pending& wait) noexcept;

    static const pending_type receive_type;
    static const pending_type send_type;

    std::shared_ptr<memory_pipe> pipe_;
    std::span<std::byte> into_;
    std::span<const std::byte> from_;
    bool receiving_;
    bool started_ = false;
    status failure_;
    std::size_t moved_ = 0;
    struct waiting : pending {
        using pending::pending;
        memory_awaitable* owner = nullptr;
    } wait_;
};

} // namespace detail

/// One end of a pipe in memory, with the verbs of every stream. Both ends belong to one context.
class PLAIT_API memory_stream {
  public:
    /// One that is not connected.
    memory_stream() noexcept = default;
    memory_stream(memory_stream&&) noexcept = default;
    memory_stream& operator=(memory_stream&& other) noexcept;
    /// As if closed: the other end reads what was sent and then the end, and cannot send any more.
    ~memory_stream();

    /// As those of tcp_stream, with the same results and the same answers to a cancellation.
    detail::memory_awaitable recv(std::span<std::byte> buffer) noexcept;
    task<io_result<lease>> recv();
    task<io_result<std::size_t>> recv_exactly(std::span<std::byte> buffer);
    detail::memory_awaitable send(std::span<const std::byte> bytes) noexcept;
    detail::memory_awaitable send(std::string_view text) noexcept { return send(as_bytes(text)); }
    task<io_result<std::size_t>> send_all(std::span<const std::byte> bytes);
    task<io_result<std::size_t>> send_all(std::string_view text) { return send_all(as_bytes(text)); }
    task<io_result<std::size_t>> send_all(std::span<const std::span<const std::byte>> pieces);
    task<io_result<void>> shutdown_send();
    task<io_result<void>> close();

    /// A memory stream has no endpoints: std::errc::not_supported.
    io_result<endpoint> local_endpoint() const noexcept;
    io_result<endpoint> remote_endpoint() const noexcept;

  private:
    friend std::pair<memory_stream, memory_stream> memory_stream_pair(std::size_t capacity);
    void end() noexcept;

    std::shared_ptr<detail::memory_pipe> in_;
    std::shared_ptr<detail::memory_pipe> out_;
};

/// Two connected streams; each direction holds up to `capacity` bytes, then a send waits.
PLAIT_API std::pair<memory_stream, memory_stream> memory_stream_pair(std::size_t capacity = 64 * 1024);

} // namespace plait::inline v1
