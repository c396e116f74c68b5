#pragma once
/// Messages on a stream: `frame_reader`, `frame_writer`, and `framed`, which is both.
///
///     plait::framed messages{std::move(stream), plait::length_prefix{}.width(4).little_endian()};
///     while (auto message = co_await messages.next())       // io_result<std::span<const std::byte>>
///         if (!co_await messages.write(*message)) break;
///
/// What leaves and what arrives never depends on how the bytes were cut into sends and receives.

#include <plait/codec.hpp>
#include <plait/detail/byte_buffer.hpp>
#include <plait/detail/collected_output.hpp>
#include <plait/lease.hpp>
#include <plait/stream.hpp>
#include <plait/task.hpp>

#include <optional>
#include <span>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>

namespace plait::inline v1 {
namespace detail {

using frame_view = std::span<const std::byte>;

/// A stream whose collected output the loop sends at the turn's end.
template <class S>
concept collecting_stream = requires(S& s) {
    { s.collected_output() } -> std::same_as<socket_state*>;
};

/// Payloads below this are copied behind the output collected so far; larger ones are gathered.
inline constexpr std::size_t copied_below = 4096;
/// Above this much collected output a write waits.
inline constexpr std::size_t collect_at_most = 64 * 1024;

/// What next() and write() answer: ready at once where `Owner` can, and a coroutine of its own otherwise.
/// `Argument` is what both are given.
template <class Owner, class Result, class... Argument>
class [[nodiscard]] two_speed_awaitable {
  public:
    using plait_awaitable_tag = void;

    explicit two_speed_awaitable(Owner& owner, Argument... argument) noexcept
        : owner_(&owner), argument_(argument...) {}
    two_speed_awaitable(two_speed_awaitable&& other) noexcept : owner_(other.owner_), argument_(other.argument_) {}

    bool await_ready() {
        return std::apply([this](auto... argument) { return owner_->try_now(argument..., result_); }, argument_);
    }
    template <environment_promise P>
    bool await_suspend(std::coroutine_handle<P> waiter) {
        slow_ = std::apply([this](auto... argument) { return owner_->wait_for(argument...); }, argument_);
        return slow_.operator co_await().await_suspend(waiter);
    }
    Result await_resume() {
        if (slow_) return slow_.operator co_await().await_resume();
        return std::move(*result_);
    }

  private:
    Owner* owner_;
    [[no_unique_address]] std::tuple<Argument...> argument_;
    std::optional<Result> result_;
    task<Result> slow_;
};

/// The receiving half: buffered bytes and what the codec makes of them. No I/O here.
class frame_buffer {
  public:
    /// Something to hand out, if the buffered bytes suffice.
    template <class C>
    bool decode(C& codec, std::optional<io_result<frame_view>>& out);

    /// A partial frame is buffered, or skipped.
    bool inside_frame() const noexcept { return !bytes_.empty() || skip_ > 0; }

    void received(lease piece);
    std::span<std::byte> prepare(std::size_t count) { return own_.prepare(count); }
    void committed(std::size_t count) noexcept {
        own_.commit(count);
        bytes_ = own_.bytes();
        drop_skipped();
    }
    void stream_ended() noexcept { ended_ = true; }
    void failed(status failure) noexcept { failure_ = failure; }
    /// Lets go of what is not needed while waiting. A partial frame moves to memory of its own, so that a slow
    /// peer pins no pooled buffer.
    void settle();

  private:
    void take(std::size_t count) noexcept {
        bytes_ = bytes_.subspan(count);
        if (!lease_.bytes().empty()) return;
        own_.consume(count);
    }
    void drop_skipped() noexcept;

    std::span<const std::byte> bytes_; ///< received and not consumed: within lease_, or all of own_
    lease lease_;
    byte_buffer own_;
    std::size_t skip_ = 0;   ///< bytes to drop, when they come
    std::size_t needed_ = 0; ///< do not ask the codec before this many bytes are there
    status failure_;         ///< sticky
    bool ended_ = false;
};

inline void frame_buffer::drop_skipped() noexcept {
    const std::size_t dropped = std::min(skip_, bytes_.size());
    take(dropped);
    skip_ -= dropped;
}

inline void frame_buffer::settle() {
    if (bytes_.empty()) {
        lease_.reset();
        own_.reset();
        bytes_ = {};
    } else if (!lease_.bytes().empty()) {
        own_.append(bytes_);
        lease_.reset();
        bytes_ = own_.bytes();
    }
}

inline void frame_buffer::received(lease piece) {
    if (bytes_.empty()) {
        lease_ = std::move(piece);
        bytes_ = lease_.bytes();
    } else {
        own_.append(piece.bytes());
        bytes_ = own_.bytes();
    }
    drop_skipped();
}

template <class C>
bool frame_buffer::decode(C& codec, std::optional<io_result<frame_view>>& out) {
    if (!failure_.ok()) {
        out.emplace(failure_, 0);
        return true;
    }
    for (;;) {
        if (skip_ > 0 && !ended_) return false;
        if (!ended_ && (bytes_.empty() || bytes_.size() < needed_)) return false;
        if (skip_ > 0) {
            failure_ = errc::truncated_frame;
            out.emplace(failure_, 0);
            return true;
        }
        const decoded said = ended_ ? codec.finish(bytes_) : codec.decode(bytes_);
        needed_ = 0;
        switch (said.kind()) {
        case decoded_kind::frame: {
            const frame_view payload = said.payload(bytes_);
            take(said.size());
            out.emplace(payload);
            return true;
        }
        case decoded_kind::need: needed_ = bytes_.size() + said.more(); return false;
        case decoded_kind::skip:
            skip_ = said.size();
            drop_skipped();
            break;
        case decoded_kind::discard:
            skip_ = said.size();
            drop_skipped();
            out.emplace(said.error());
            return true;
        case decoded_kind::failed:
            failure_ = said.error();
            out.emplace(failure_, 0);
            return true;
        case decoded_kind::end:
            failure_ = errc::end_of_stream;
            out.emplace(failure_, 0);
            return true;
        }
    }
}

/// Receives once from `from` into `buffer`. Success, or why not; the end of the stream is a success here.
template <class S>
task<io_result<void>> receive_into(S& from, frame_buffer& buffer) {
    status failure;
    buffer.settle();
    if constexpr (leasing_stream<S>) {
        if constexpr (collecting_stream<S>) {
            // Inside a frame draining must not end the receive: this frame is still to be answered.
            auto piece = buffer.inside_frame() ? from.recv(inside_message()) : from.recv();
            auto received = co_await piece;
            if (received) {
                buffer.received(std::move(*received));
                co_return io_result<void>();
            }
            failure = received.raw_status();
        } else {
            auto received = co_await from.recv();
            if (received) {
                buffer.received(std::move(*received));
                co_return io_result<void>();
            }
            failure = received.raw_status();
        }
    } else {
        constexpr std::size_t piece_size = 2048;
        auto received = co_await from.recv(buffer.prepare(piece_size));
        if (received) {
            buffer.committed(*received);
            co_return io_result<void>();
        }
        failure = received.raw_status();
    }
    if (failure.is(errc::end_of_stream)) {
        buffer.stream_ended();
        co_return io_result<void>();
    }
    // A cancelled receive has lost nothing, and draining may be asked again. The rest is final.
    if (!failure.is(errc::canceled) && !failure.is(errc::draining) && !failure.is(errc::timed_out))
        buffer.failed(failure);
    co_return io_result<void>(failure, 0);
}

/// The sending half, for a stream of type S that the owner keeps.
template <class S>
class frame_sink {
  public:
    /// True: done, or failed, without suspending.
    template <class C>
    bool try_write(S& stream, C& codec, frame_view payload, std::optional<io_result<void>>& out) {
        io_result<void> encoded = codec.encode(payload, edges_);
        if (!encoded) {
            out.emplace(encoded);
            return true;
        }
        if (const status failed = failure(stream); !failed.ok()) {
            out.emplace(failed, 0);
            return true;
        }
        if constexpr (collecting_stream<S>) {
            socket_state& socket = *stream.collected_output();
            if (payload.size() >= copied_below || collected_size(socket) >= collect_at_most) return false;
            append(collect_output(socket, frame_size(payload)), payload);
        } else {
            if (payload.size() >= copied_below || own_.size() >= collect_at_most) return false;
            append_own(payload);
        }
        out.emplace();
        return true;
    }

    /// After try_write answered false. `payload` is not referenced once this has returned.
    task<io_result<void>> write(S& stream, frame_view payload) {
        if constexpr (collecting_stream<S>) {
            socket_state& socket = *stream.collected_output();
            if (payload.size() < copied_below) {
                auto room = co_await output_awaitable(socket, true);
                if (!room) co_return room;
                append(collect_output(socket, frame_size(payload)), payload);
                co_return io_result<void>();
            }
            // What was collected, this header and this payload leave in one system call.
            byte_buffer before = take_collected(socket);
            const std::size_t earlier = before.size();
            before.append(header());
            const frame_view pieces[] = {before.bytes(), payload, edges_.trailer};
            auto sent = co_await stream.send_all(std::span<const frame_view>(pieces));
            if (sent) co_return io_result<void>();
            if (sent.raw_status().is(errc::canceled) && sent.bytes() == 0) {
                // Nothing has left: this frame is withdrawn, what was collected before it stays.
                before.truncate(earlier);
                give_back_collected(socket, std::move(before));
            } else {
                fail_output(socket, sent.raw_status());
            }
            co_return io_result<void>(sent.raw_status(), 0);
        } else {
            auto flushed = co_await flush(stream);
            if (!flushed) co_return flushed;
            if (payload.size() < copied_below) {
                append_own(payload);
                co_return io_result<void>();
            }
            std::size_t left = 0;
            for (frame_view piece : {header(), payload, edges_.trailer}) {
                auto sent = co_await plait::send_all(stream, piece);
                left += sent.bytes();
                if (sent) continue;
                // In the middle of a frame there is no way back.
                if (!sent.raw_status().is(errc::canceled) || left > 0) failure_ = sent.raw_status();
                co_return io_result<void>(sent.raw_status(), 0);
            }
            co_return io_result<void>();
        }
    }

    /// Returns when the kernel, or the stream, has taken everything. A cancelled one goes on at its byte.
    task<io_result<void>> flush(S& stream) {
        if constexpr (collecting_stream<S>) {
            socket_state* socket = stream.collected_output();
            if (!socket) co_return io_result<void>(not_open(), 0);
            co_return co_await output_awaitable(*socket, false);
        } else {
            while (failure_.ok() && !own_.empty()) {
                flushing_ = true;
                auto sent = co_await plait::send_all(stream, own_.bytes());
                flushing_ = false;
                own_.consume(sent.bytes());
                if (sent) continue;
                if (sent.raw_status().is(errc::canceled)) co_return io_result<void>(sent.raw_status(), 0);
                failure_ = sent.raw_status();
            }
            own_.reset();
            co_return io_result<void>(failure_, 0);
        }
    }

    /// Something is collected that only this side can send, and is not being sent.
    bool must_flush() const noexcept { return !own_.empty() && !flushing_; }

    /// What a send of collected output ended with; sticky.
    status failure(S& stream) const noexcept {
        if constexpr (collecting_stream<S>) {
            socket_state* socket = stream.collected_output();
            return socket ? output_failure(*socket) : not_open();
        } else {
            return failure_;
        }
    }

  private:
    frame_view header() const noexcept { return frame_view(edges_.header).first(edges_.header_size); }
    std::size_t frame_size(frame_view payload) const noexcept {
        return edges_.header_size + payload.size() + edges_.trailer.size();
    }
    void append(std::byte* to, frame_view payload) const noexcept {
        for (frame_view piece : {header(), payload, edges_.trailer}) {
            if (!piece.empty()) std::memcpy(to, piece.data(), piece.size());
            to += piece.size();
        }
    }
    void append_own(frame_view payload) {
        append(own_.prepare(frame_size(payload)).data(), payload);
        own_.commit(frame_size(payload));
    }

    frame_edges edges_; ///< of the frame being written
    byte_buffer own_;   ///< collected here when the loop cannot send for this stream
    status failure_;
    bool flushing_ = false;
};

} // namespace detail

/// Reads frames. One task reads at a time.
template <class S, codec C>
    requires readable_stream<std::remove_reference_t<S>>
class frame_reader {
    using result = io_result<std::span<const std::byte>>;
    using next_awaitable = detail::two_speed_awaitable<frame_reader, result>;

  public:
    /// Moves `stream` in; an lvalue is held by reference and must outlive the reader.
    frame_reader(std::type_identity_t<S> stream, C how) : stream_(std::forward<S>(stream)), codec_(std::move(how)) {}

    /// The next frame's payload: a view into the reader's buffer, valid until the following next(). When a whole
    /// frame is there already it does not suspend and makes no system call. While it waits between frames it
    /// holds no buffer; inside a frame it holds what was received, never what a header claims.
    ///
    /// Cancelling loses no byte: the following next() goes on where this one stopped. Fails with
    /// errc::end_of_stream after the last frame, errc::truncated_frame when the stream ends inside one,
    /// errc::frame_too_large and errc::malformed_frame as the codec says, errc::draining, errc::canceled, or the
    /// stream's own error. All but draining and canceled stay: the reader repeats them.
    next_awaitable next() noexcept { return next_awaitable(*this); }

    std::remove_reference_t<S>& stream() noexcept { return stream_; }
    C& codec() noexcept { return codec_; }

  private:
    friend next_awaitable;

    bool try_now(std::optional<result>& out) { return buffer_.decode(codec_, out); }
    task<result> wait_for() {
        std::optional<result> out;
        do {
            auto received = co_await detail::receive_into(stream_, buffer_);
            if (!received) co_return result(received.raw_status(), 0);
        } while (!try_now(out));
        co_return *out;
    }

    S stream_;
    C codec_;
    detail::frame_buffer buffer_;
};

template <class S, class C>
frame_reader(S&&, C) -> frame_reader<S, C>;

/// Writes frames. One task writes at a time.
template <class S, codec C>
    requires writable_stream<std::remove_reference_t<S>>
class frame_writer {
    using write_awaitable = detail::two_speed_awaitable<frame_writer, io_result<void>, std::span<const std::byte>>;

  public:
    /// Moves `stream` in; an lvalue is held by reference and must outlive the writer.
    frame_writer(std::type_identity_t<S> stream, C how) : stream_(std::forward<S>(stream)), codec_(std::move(how)) {}

    /// Writes one frame. Below 4 KiB the payload is copied behind the output collected so far, and the loop sends
    /// everything collected before it next enters the kernel; larger payloads have been sent when this returns.
    /// Above 64 KiB of collected output it waits: a peer that never reads blocks the writer, not memory.
    ///
    /// Fails before a byte is sent with errc::frame_too_large or errc::malformed_frame for what the codec cannot
    /// carry. A failed send stays: every later write, flush and next reports it. Cancelled before it began to
    /// leave, the frame is withdrawn; cancelled later, a large one has failed the writing side for good.
    ///
    /// On a stream type of your own, which the loop cannot send for, collected output leaves in flush().
    write_awaitable write(std::span<const std::byte> payload) noexcept { return write_awaitable(*this, payload); }
    write_awaitable write(std::string_view payload) noexcept { return write(as_bytes(payload)); }

    /// Completes when the kernel, or the stream, has taken everything that was written.
    task<io_result<void>> flush() { return sink_.flush(stream_); }

    std::remove_reference_t<S>& stream() noexcept { return stream_; }
    C& codec() noexcept { return codec_; }

  private:
    friend write_awaitable;

    bool try_now(std::span<const std::byte> payload, std::optional<io_result<void>>& out) {
        return sink_.try_write(stream_, codec_, payload, out);
    }
    task<io_result<void>> wait_for(std::span<const std::byte> payload) { return sink_.write(stream_, payload); }

    S stream_;
    C codec_;
    detail::frame_sink<std::remove_reference_t<S>> sink_;
};

template <class S, class C>
frame_writer(S&&, C) -> frame_writer<S, C>;

/// A stream of messages: next() of frame_reader and write() of frame_writer on one stream. One task may read
/// while another writes. On a stream type of your own, collected output leaves in next() before it suspends, in
/// flush() and in close().
template <class S, codec C>
    requires stream<std::remove_reference_t<S>>
class framed {
    using frame = io_result<std::span<const std::byte>>;
    using next_awaitable = detail::two_speed_awaitable<framed, frame>;
    using write_awaitable = detail::two_speed_awaitable<framed, io_result<void>, std::span<const std::byte>>;

  public:
    /// Moves `stream` in; an lvalue is held by reference and must outlive this.
    framed(std::type_identity_t<S> stream, C how) : stream_(std::forward<S>(stream)), codec_(std::move(how)) {}

    /// frame_reader::next(); reports a failed send, too.
    next_awaitable next() noexcept { return next_awaitable(*this); }

    /// frame_writer::write().
    write_awaitable write(std::span<const std::byte> payload) noexcept { return write_awaitable(*this, payload); }
    write_awaitable write(std::string_view payload) noexcept { return write(as_bytes(payload)); }

    /// frame_writer::flush().
    task<io_result<void>> flush() { return sink_.flush(stream_); }

    /// Flushes, then closes the stream politely, as its own close() does.
    task<io_result<void>> close() {
        auto flushed = co_await flush();
        auto closed = co_await stream_.close();
        co_return flushed ? closed : flushed;
    }

    std::remove_reference_t<S>& stream() noexcept { return stream_; }
    C& codec() noexcept { return codec_; }

  private:
    friend next_awaitable;
    friend write_awaitable;

    bool try_now(std::optional<frame>& out) {
        if (const detail::status failed = sink_.failure(stream_); !failed.ok()) {
            out.emplace(failed, 0);
            return true;
        }
        return buffer_.decode(codec_, out);
    }
    task<frame> wait_for() {
        std::optional<frame> out;
        do {
            if (sink_.must_flush()) {
                auto flushed = co_await flush();
                if (!flushed) co_return frame(flushed.raw_status(), 0);
            }
            auto received = co_await detail::receive_into(stream_, buffer_);
            if (!received) co_return frame(received.raw_status(), 0);
        } while (!try_now(out));
        co_return *out;
    }

    bool try_now(std::span<const std::byte> payload, std::optional<io_result<void>>& out) {
        return sink_.try_write(stream_, codec_, payload, out);
    }
    task<io_result<void>> wait_for(std::span<const std::byte> payload) { return sink_.write(stream_, payload); }

    S stream_;
    C codec_;
    detail::frame_buffer buffer_;
    detail::frame_sink<std::remove_reference_t<S>> sink_;
};

template <class S, class C>
framed(S&&, C) -> framed<S, C>;

} // namespace plait::inline v1
