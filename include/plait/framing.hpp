#pragma once
/// Messages on a stream: `frame_reader`, `frame_writer`, and `framed`, which is both.
///
///     plait::framed messages{std::move(stream), plait::length_prefix{}.width(4).little_endian()};
///     while (auto message = co_await messages.next())       // io_result<std::span<const std::byte>>
///         if (!co_await messages.write(*message)) break;
///
/// What leaves and what arrives never depends on how the bytes were cut into sends and receives.

#include <plait/codec.hpp>
#include <plait/detail/collected_output.hpp>
#include <plait/detail/frame_buffer.hpp>
#include <plait/stream.hpp>
#include <plait/task.hpp>
#include <plait/task_group.hpp>

#include <exception>
#include <memory>
#include <span>
#include <string_view>
#include <type_traits>
#include <utility>

namespace plait::inline v1 {
namespace detail {

/// A stream whose collected output the loop sends at the turn's end.
template <class S>
concept collecting_stream = requires(S& s) {
    { s.collected_output() } -> std::same_as<socket_state*>;
};

/// Payloads below this are copied behind the output collected so far; larger ones are gathered.
inline constexpr std::size_t copied_below = 4096;
/// Above this much collected output a write waits.
inline constexpr std::size_t collect_at_most = 64 * 1024;

/// What next() answers where no loop hands pieces over, and what write() answers: at once where `Owner` can (try_now,
/// then outcome), and by a coroutine of its own otherwise (wait_for).
template <class Owner>
class [[nodiscard]] next_by_task {
  public:
    using plait_awaitable_tag = void;

    explicit next_by_task(Owner& owner) noexcept : owner_(&owner) {}
    next_by_task(next_by_task&& other) noexcept : owner_(other.owner_) {}

    bool await_ready() { return owner_->try_now(); }
    template <environment_promise P>
    bool await_suspend(std::coroutine_handle<P> waiter) {
        slow_ = owner_->wait_for();
        return slow_.operator co_await().await_suspend(waiter);
    }
    io_result<frame_view> await_resume() {
        if (slow_) return slow_.operator co_await().await_resume();
        return owner_->outcome();
    }

  private:
    Owner* owner_;
    task<io_result<frame_view>> slow_;
};

/// How far a write came without waiting: written, an error is known, or it has to wait, and then does.
enum class attempt : std::uint8_t { done, failed, waits, begun };

template <class Owner>
class [[nodiscard]] write_by_task {
  public:
    using plait_awaitable_tag = void;

    write_by_task(Owner& owner, const frame_view& payload) noexcept
        : data_(payload.data()), owner_(&owner), size_(payload.size()) {}
    write_by_task(write_by_task&& other) noexcept
        : data_(other.data_), owner_(other.owner_), size_(other.size_) {}

    ~write_by_task() {
        if (state_ == attempt::begun) [[unlikely]]
            slow_.~task();
    }

    PLAIT_HOT bool await_ready() {
        state_ = owner_->try_now(payload());
        return state_ != attempt::waits;
    }
    template <environment_promise P>
    bool await_suspend(std::coroutine_handle<P> waiter) {
        std::construct_at(&slow_, owner_->wait_for(payload()));
        state_ = attempt::begun;
        return slow_.operator co_await().await_suspend(waiter);
    }
    PLAIT_HOT io_result<void> await_resume() {
        if (state_ == attempt::done) [[likely]]
            return {};
        return state_ == attempt::failed ? owner_->written() : slow_.operator co_await().await_resume();
    }

  private:
    frame_view payload() const noexcept { return {data_, size_}; }

    // Neither a span here nor one by value in write(): g++ copies it as 16 bytes at once, and when the two words were
    // stored one by one just before, as those of a frame just received are, the processor makes that load wait until
    // both have reached the cache.
    const std::byte* data_;
    Owner* owner_;
    std::size_t size_;
    attempt state_ = attempt::done;
    union {
        task<io_result<void>> slow_; ///< when begun
    };
};

/// Receives once from `from` into `buffer`. Success, or why not; the end of the stream is a success here.
template <class S>
task<io_result<void>> receive_into(S& from, frame_buffer& buffer) {
    status failure;
    buffer.settle();
    if constexpr (leasing_stream<S>) {
        auto received = co_await from.recv();
        if (received) {
            buffer.received(std::move(*received));
            co_return io_result<void>();
        }
        failure = received.raw_status();
    } else {
        constexpr std::size_t piece_size = 2048;
        auto received = co_await from.recv(buffer.prepare(piece_size));
        if (received) {
            buffer.committed(*received);
            co_return io_result<void>();
        }
        failure = received.raw_status();
    }
    if (receive_failed(buffer, failure)) co_return io_result<void>();
    co_return io_result<void>(failure, 0);
}

/// next() on a socket. The loop hands each piece to take(), and resumes the waiter when a frame is complete: no
/// coroutine stands between the two, and none is allocated for a wait.
template <class Owner>
class [[nodiscard]] socket_next_awaitable : operation_awaitable, lease_taker {
  public:
    using operation_awaitable::plait_awaitable_tag;

    explicit socket_next_awaitable(Owner& owner) noexcept : operation_awaitable(nullptr), owner_(&owner) {}
    socket_next_awaitable(socket_next_awaitable&& other) noexcept
        : operation_awaitable(nullptr), owner_(other.owner_) {}
    ~socket_next_awaitable() {
        if (threw_) [[unlikely]]
            std::destroy_at(&thrown_);
        if (started_) [[unlikely]]
            op_->socket->taker = nullptr;
    }

    PLAIT_HOT bool await_ready() {
        here_ = owner_->try_now();
        return here_ && !owner_->buffer_.share_is_used();
    }
    template <environment_promise P>
    bool await_suspend(std::coroutine_handle<P> waiter) {
        if (here_) return pass(waiter);
        socket_state* const socket = owner_->stream_.collected_output();
        if (!socket) {
            owner_->buffer_.answer(not_open());
            return false;
        }
        owner_->buffer_.settle();
        op_ = &socket->receive;
        op_->kind = op_kind::lease;
        op_->whole = false;
        op_->boundary = !owner_->buffer_.inside_frame();
        op_->piece_count = 0;
        take = &take_piece;
        socket->taker = this;
        const std::uint16_t before = owner_->buffer_.waits();
        if (start(waiter)) return true;
        owner_->buffer_.has_not_waited(before);
        return false;
    }
    PLAIT_HOT io_result<frame_view> await_resume() {
        if (started_) return resume();
        return owner_->outcome();
    }

  private:
    PLAIT_COLD io_result<frame_view> resume() {
        if (here_) {
            static_cast<void>(take_pieces(ended()));
            owner_->buffer_.outcome_taken();
            return owner_->outcome();
        }
        op_->socket->taker = nullptr;
        const status ended_with = take_pieces(ended());
        if (threw_) std::rethrow_exception(thrown_);
        if (ended_with.ok()) return owner_->outcome();
        if (!receive_failed(owner_->buffer_, ended_with)) return {ended_with, 0};
        static_cast<void>(owner_->try_now());
        return owner_->outcome();
    }
    template <class P>
    bool pass(std::coroutine_handle<P> waiter) {
        owner_->buffer_.waits();
        socket_state* const socket = owner_->stream_.collected_output();
        if (!socket || socket->closing) return false;
        op_ = &socket->receive;
        started_ = pass_turn(*op_, waiter, waiter.promise().plait_environment());
        if (started_) owner_->buffer_.keep_outcome();
        return started_;
    }
    static bool take_piece(lease_taker& base, operation& op) noexcept {
        auto& self = static_cast<socket_next_awaitable&>(base);
        lease piece(op.data, op.size, op.block);
        frame_buffer& buffer = self.owner_->buffer_;
#if PLAIT_HAS_EXCEPTIONS
        try {
#endif
            buffer.received(std::move(piece));
            if (self.owner_->try_now()) return true;
            buffer.settle();
#if PLAIT_HAS_EXCEPTIONS
        } catch (...) { // out of memory, or what a codec throws
            std::construct_at(&self.thrown_, std::current_exception());
            self.threw_ = true;
            return true;
        }
#endif
        op.boundary = !buffer.inside_frame(); // a frame that has begun is still to be answered
        return false;
    }

    Owner* owner_;
    union {
        std::exception_ptr thrown_; ///< if it threw
    };
};

template <class Owner, class S>
using next_awaitable = std::conditional_t<collecting_stream<std::remove_reference_t<S>>,
                                          socket_next_awaitable<Owner>, next_by_task<Owner>>;

/// What the writing side says from then on. A cancellation is the answer of the cancelled write alone.
inline status for_good(status failure) noexcept {
    return failure.is(errc::canceled) ? status(errc::closed) : failure;
}

/// Where one task waits while the other one sends what was collected. At most one does.
class sending_turn : public pending {
  public:
    using plait_awaitable_tag = void;

    explicit sending_turn(sending_turn*& slot) noexcept : pending(kind), slot_(slot) {}
    ~sending_turn() {
        if (slot_ == this) slot_ = nullptr;
    }

    bool await_ready() const noexcept { return false; }
    template <environment_promise P>
    bool await_suspend(std::coroutine_handle<P> handle) {
        if (begin_wait(*this, handle, handle.promise().plait_environment())) {
            slot_ = this;
            return true;
        }
        canceled_ = true;
        return false;
    }
    io_result<void> await_resume() const noexcept {
        if (canceled_) return errc::canceled;
        return {};
    }

  private:
    static void cancel(pending& wait) noexcept {
        auto& self = static_cast<sending_turn&>(wait);
        self.canceled_ = true;
        self.slot_ = nullptr;
        self.waiting->cancel->notice();
        make_ready(self);
    }
    static constexpr pending_type kind{"flush", &sending_turn::cancel};

    sending_turn*& slot_;
    bool canceled_ = false;
};

inline std::size_t frame_size(const frame_edges& edges, frame_view payload) noexcept {
    return edges.header_size + payload.size() + edges.trailer.size();
}

/// Writes header, payload and trailer one behind the other.
inline void put_frame(std::byte* to, const frame_edges& edges, frame_view payload) noexcept {
    if (edges.header_size == 4) // the usual width, and then a single move
        std::memcpy(to, edges.header.data(), 4);
    else
        std::memcpy(to, edges.header.data(), edges.header_size);
    to += edges.header_size;
    if (!payload.empty()) std::memcpy(to, payload.data(), payload.size());
    to += payload.size();
    if (!edges.trailer.empty()) std::memcpy(to, edges.trailer.data(), edges.trailer.size());
}

inline frame_view header_of(const frame_edges& edges) noexcept {
    return frame_view(edges.header).first(edges.header_size);
}

/// The sending half, for a stream of type S that the owner keeps. What it collects, its owner flushes.
template <class S>
class frame_sink {
  public:
    /// Without suspending. When it failed, outcome() tells why.
    template <class C>
    attempt try_write(S&, C& codec, frame_view payload) {
        if (const io_result<void> encoded = codec.encode(payload, edges_); !encoded) {
            outcome_ = encoded.raw_status();
            return attempt::failed;
        }
        outcome_ = failure_;
        if (!outcome_.ok()) return attempt::failed;
        if (payload.size() >= copied_below || unsent() >= collect_at_most) return attempt::waits;
        append_own(payload);
        return attempt::done;
    }
    io_result<void> outcome() const noexcept { return {outcome_, 0}; }

    /// After try_write answered false. `payload` is not referenced once this has returned.
    task<io_result<void>> write(S& stream, frame_view payload) {
        auto flushed = co_await flush(stream);
        if (!flushed) co_return flushed;
        if (payload.size() < copied_below) {
            append_own(payload);
            co_return io_result<void>();
        }
        // In the middle of a frame there is no way back; also when this coroutine is destroyed there.
        breach whole(*this);
        std::size_t left = 0;
        for (frame_view piece : {header_of(edges_), payload, edges_.trailer}) {
            auto sent = co_await plait::send_all(stream, piece);
            left += sent.bytes();
            if (sent) continue;
            whole.happened = false;
            if (!sent.raw_status().is(errc::canceled) || left > 0) failure_ = for_good(sent.raw_status());
            co_return io_result<void>(sent.raw_status(), 0);
        }
        whole.happened = false;
        co_return io_result<void>();
    }

    /// Returns when the stream has taken everything. A cancelled one goes on at its byte.
    task<io_result<void>> flush(S& stream) {
        while (failure_.ok() && unsent() > 0) {
            if (sending_) {
                sending_turn turn(waiting_);
                auto waited = co_await turn;
                if (!waited) co_return waited;
                continue;
            }
            // A write of the other task appends to own_, and may move it.
            if (leaving_.empty()) leaving_.swap(own_);
            sender mark(*this);
            breach whole(*this);
            auto sent = co_await plait::send_all(stream, leaving_.bytes());
            whole.happened = false;
            leaving_.consume(sent.bytes());
            if (sent) continue;
            if (sent.raw_status().is(errc::canceled)) co_return io_result<void>(sent.raw_status(), 0);
            failure_ = sent.raw_status();
        }
        own_.reset();
        leaving_.reset();
        co_return io_result<void>(failure_, 0);
    }

    /// Something is collected that only this side can send, and is not being sent.
    bool must_flush() const noexcept { return unsent() > 0 && !sending_; }

    /// What a send of collected output ended with; sticky.
    status failure(S&) const noexcept { return failure_; }
    bool works(S&) const noexcept { return failure_.ok(); }

  private:
    /// Says that one task sends; when that is over, also because its frame is destroyed, the other one may.
    class sender {
      public:
        explicit sender(frame_sink& sink) noexcept : sink_(sink) { sink_.sending_ = true; }
        sender(const sender&) = delete;
        sender& operator=(const sender&) = delete;
        ~sender() {
            sink_.sending_ = false;
            if (sending_turn* waiting = std::exchange(sink_.waiting_, nullptr)) make_ready(*waiting);
        }

      private:
        frame_sink& sink_;
    };

    /// A send whose await was destroyed: nobody knows how much of it has left, so nothing may follow.
    struct breach {
        explicit breach(frame_sink& to) noexcept : sink(to) {}
        breach(const breach&) = delete;
        breach& operator=(const breach&) = delete;
        ~breach() {
            if (happened && sink.failure_.ok()) sink.failure_ = errc::closed;
        }
        frame_sink& sink;
        bool happened = true;
    };

    std::size_t unsent() const noexcept { return own_.size() + leaving_.size(); }
    void append_own(frame_view payload) {
        const std::size_t size = frame_size(edges_, payload);
        put_frame(own_.prepare(size).data(), edges_, payload);
        own_.commit(size);
    }

    frame_edges edges_; ///< of the frame being written
    status outcome_;    ///< of the write that try_write did
    status failure_;
    byte_buffer own_;     ///< collected
    byte_buffer leaving_; ///< collected, and being sent
    bool sending_ = false;
    sending_turn* waiting_ = nullptr;
};

/// Sends a large frame together with what was collected before it.
class [[nodiscard]] frame_send_awaitable {
  public:
    using plait_awaitable_tag = void;

    /// `before` holds `earlier` bytes that were collected, and the frame's header; it is the first of the `pieces`.
    frame_send_awaitable(socket_state& socket, byte_buffer& before, std::size_t earlier,
                         std::span<const frame_view> pieces) noexcept
        : sending_(&socket.send, pieces), socket_(&socket), before_(&before), earlier_(earlier) {}

    bool await_ready() const noexcept { return sending_.await_ready(); }
    template <environment_promise P>
    bool await_suspend(std::coroutine_handle<P> waiter) {
        socket_->sends_frame = true; // should the coroutine be destroyed, the loop fails the writing side
        return sending_.await_suspend(waiter);
    }
    io_result<void> await_resume() noexcept {
        // First: a socket that was closed meanwhile may be gone once its operation is free.
        const status ended = socket_->send.result;
        const bool withdrawn = ended.is(errc::canceled) && socket_->send.transferred == 0;
        if (withdrawn && !socket_->closing) {
            // Nothing has left: what was collected before this frame stays, also for a close() that has cancelled it.
            before_->truncate(earlier_);
            give_back_collected(*socket_, std::move(*before_));
        } else if (!withdrawn && !ended.ok()) {
            fail_output(*socket_, for_good(ended));
        }
        return io_result<void>(sending_.await_resume().raw_status(), 0);
    }

  private:
    send_awaitable sending_;
    socket_state* socket_;
    byte_buffer* before_;
    std::size_t earlier_;
};

/// On a socket the state block collects, the loop sends, and the sink is next to nothing.
template <collecting_stream S>
class frame_sink<S> {
  public:
    template <class C>
    PLAIT_HOT attempt try_write(S& stream, C& codec, frame_view payload) {
        if constexpr (std::same_as<C,
                                   length_prefix>) { // the most usual frame, and the shortest way to write it
            socket_state* const socket = stream.collected_output();
            if (payload.size() < copied_below && codec.writes_plainly(payload.size()) &&
                can_collect(socket)) {
                if (std::byte* room = append_collected(*socket, C::plain_header + payload.size(),
                                                       collect_at_most)) [[likely]] {
                    codec.write_plain_header(room, payload.size());
                    if (!payload.empty()) std::memcpy(room + C::plain_header, payload.data(), payload.size());
                    return attempt::done;
                }
            }
        }
        return try_any_write(stream, codec, payload);
    }
    io_result<void> outcome() const noexcept { return {outcome_, 0}; }

    task<io_result<void>> write(S& stream, frame_view payload) {
        const std::unique_ptr<kept_edges> kept = std::move(kept_);
        const frame_edges& edges = kept->edges;
        socket_state& socket = *stream.collected_output();
        if (payload.size() < copied_below) {
            auto room = co_await output_awaitable(socket, true);
            if (!room) co_return room;
            put_frame(collect_output(socket, frame_size(edges, payload)), edges, payload);
            co_return io_result<void>();
        }
        // What was collected, this header and this payload leave in one system call.
        byte_buffer before = take_collected(socket);
        const std::size_t earlier = before.size();
        before.append(header_of(edges));
        const frame_view pieces[] = {before.bytes(), payload, edges.trailer};
        co_return co_await frame_send_awaitable(socket, before, earlier, pieces);
    }

    task<io_result<void>> flush(S& stream) {
        socket_state* socket = stream.collected_output();
        if (!socket) co_return io_result<void>(not_open(), 0);
        co_return co_await output_awaitable(*socket, false);
    }

    status failure(S& stream) const noexcept {
        socket_state* socket = stream.collected_output();
        return socket ? output_failure(*socket) : not_open();
    }
    PLAIT_HOT bool works(S& stream) const noexcept { return can_collect(stream.collected_output()); }

  private:
    template <class C>
    PLAIT_COLD attempt try_any_write(S& stream, C& codec, frame_view payload) {
        frame_edges edges{};
        if (const io_result<void> encoded = codec.encode(payload, edges); !encoded) {
            outcome_ = encoded.raw_status();
            return attempt::failed;
        }
        outcome_ = failure(stream);
        if (!outcome_.ok()) return attempt::failed;
        if (payload.size() < copied_below) {
            const std::size_t size = frame_size(edges, payload);
            if (std::byte* room = try_collect(*stream.collected_output(), size, collect_at_most)) {
                put_frame(room, edges, payload);
                return attempt::done;
            }
        }
        kept_ = std::make_unique<kept_edges>(edges); // a codec is asked once for each frame
        return attempt::waits;
    }

    struct kept_edges : recycled_frame {
        explicit kept_edges(const frame_edges& what) noexcept : edges(what) {}
        frame_edges edges;
    };

    std::unique_ptr<kept_edges> kept_; ///< of the frame that write() is to send
    status outcome_;
};

} // namespace detail

/// Reads frames. One task reads at a time.
template <class S, codec C>
requires readable_stream<std::remove_reference_t<S>>
class frame_reader {
    using result = io_result<std::span<const std::byte>>;
    using next_awaitable = detail::next_awaitable<frame_reader, S>;

  public:
    /// Moves `stream` in; an lvalue is held by reference and must outlive the reader.
    frame_reader(std::type_identity_t<S> stream, const C& how)
        : stream_(std::forward<S>(stream)), codec_(how) {}
    frame_reader(std::type_identity_t<S> stream, C&& how)
        : stream_(std::forward<S>(stream)), codec_(std::move(how)) {}

    /// The next frame's payload: a view into the reader's buffer, valid until the following next(). When a whole
    /// frame is there already it does not suspend and makes no system call, but for every 256th in a row on a socket:
    /// then the other tasks have their turn. While it waits between frames it
    /// holds no buffer; inside a frame it holds what was received, never what a header claims.
    ///
    /// Cancelling loses no byte: the following next() goes on where this one stopped. Fails with
    /// errc::end_of_stream after the last frame, errc::truncated_frame when the stream ends inside one,
    /// errc::frame_too_large and errc::malformed_frame as the codec says, errc::draining, errc::canceled, or the
    /// stream's own error. All but draining and canceled stay: the reader repeats them.
    next_awaitable next() noexcept { return next_awaitable(*this); }

    /// The stream and the codec underneath.
    std::remove_reference_t<S>& stream() noexcept { return stream_; }
    C& codec() noexcept { return codec_; }

  private:
    friend next_awaitable;

    PLAIT_HOT bool try_now() { return buffer_.decode(codec_); }
    result outcome() const noexcept { return buffer_.outcome(); }
    task<result> wait_for() {
        do {
            auto received = co_await detail::receive_into(stream_, buffer_);
            if (!received) co_return result(received.raw_status(), 0);
        } while (!try_now());
        co_return outcome();
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
    using write_awaitable = detail::write_by_task<frame_writer>;

  public:
    /// Moves `stream` in; an lvalue is held by reference and must outlive the writer.
    frame_writer(std::type_identity_t<S> stream, const C& how)
        : stream_(std::forward<S>(stream)), codec_(how) {}
    frame_writer(std::type_identity_t<S> stream, C&& how)
        : stream_(std::forward<S>(stream)), codec_(std::move(how)) {}

    /// Writes one frame. Below 4 KiB the payload is copied behind the output collected so far, and the loop sends
    /// everything collected before it next enters the kernel; larger payloads have been sent when this returns.
    /// Above 64 KiB of collected output it waits: a peer that never reads blocks the writer, not memory.
    ///
    /// Fails before a byte is sent with errc::frame_too_large or errc::malformed_frame for what the codec cannot
    /// carry. A failed send stays: every later write, flush and next reports it. Cancelled before it began to
    /// leave, the frame is withdrawn; cancelled later, or destroyed, a large one has failed the writing side for good:
    /// it reports errc::closed from then on.
    ///
    /// On a stream type of your own, which the loop cannot send for, collected output leaves in flush().
    write_awaitable write(const std::span<const std::byte>& payload) noexcept {
        return write_awaitable(*this, payload);
    }
    write_awaitable write(std::string_view payload) noexcept { return write(as_bytes(payload)); }

    /// Completes when the kernel, or the stream, has taken everything that was written. Cancelling it loses nothing: a
    /// later flush goes on at its byte. Fails with errc::canceled, or with what a send failed with, which stays.
    task<io_result<void>> flush() { return sink_.flush(stream_); }

    /// The stream and the codec underneath.
    std::remove_reference_t<S>& stream() noexcept { return stream_; }
    C& codec() noexcept { return codec_; }

  private:
    friend write_awaitable;

    PLAIT_HOT detail::attempt try_now(std::span<const std::byte> payload) {
        return sink_.try_write(stream_, codec_, payload);
    }
    io_result<void> written() const noexcept { return sink_.outcome(); }
    task<io_result<void>> wait_for(std::span<const std::byte> payload) {
        return sink_.write(stream_, payload);
    }

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
    using next_awaitable = detail::next_awaitable<framed, S>;
    using write_awaitable = detail::write_by_task<framed>;

  public:
    /// Moves `stream` in; an lvalue is held by reference and must outlive this.
    framed(std::type_identity_t<S> stream, const C& how) : stream_(std::forward<S>(stream)), codec_(how) {}
    framed(std::type_identity_t<S> stream, C&& how)
        : stream_(std::forward<S>(stream)), codec_(std::move(how)) {}

    /// frame_reader::next(); reports a failed send, too.
    next_awaitable next() noexcept { return next_awaitable(*this); }

    /// frame_writer::write().
    write_awaitable write(const std::span<const std::byte>& payload) noexcept {
        return write_awaitable(*this, payload);
    }
    write_awaitable write(std::string_view payload) noexcept { return write(as_bytes(payload)); }

    /// frame_writer::flush().
    task<io_result<void>> flush() { return sink_.flush(stream_); }

    /// Flushes, then closes the stream politely, as its own close() does.
    task<io_result<void>> close() {
        auto flushed = co_await flush();
        auto closed = co_await stream_.close();
        co_return flushed ? closed : flushed;
    }

    /// The stream and the codec underneath.
    std::remove_reference_t<S>& stream() noexcept { return stream_; }
    C& codec() noexcept { return codec_; }

  private:
    friend next_awaitable;
    friend write_awaitable;

    PLAIT_HOT bool try_now() {
        if (!sink_.works(stream_)) [[unlikely]] {
            buffer_.answer(sink_.failure(stream_));
            return true;
        }
        return buffer_.decode(codec_);
    }
    frame outcome() const noexcept { return buffer_.outcome(); }
    task<frame> wait_for() {
        do {
            auto received = co_await receive();
            if (!received) co_return frame(received.raw_status(), 0);
        } while (!try_now());
        co_return outcome();
    }
    task<io_result<void>> receive() {
        if (sink_.must_flush()) return flush_and_receive();
        return detail::receive_into(stream_, buffer_);
    }
    /// Side by side: a peer that wants to be read before it reads would wait for us for ever.
    task<io_result<void>> flush_and_receive() {
        io_result<void> received;
        task_group both;
        both.spawn(flush_beside(both));
        both.spawn(receive_beside(both, received));
        co_await both.join();
        if (const detail::status failed = sink_.failure(stream_); !failed.ok())
            co_return io_result<void>(failed, 0);
        co_return received;
    }
    task<> flush_beside(task_group& both) {
        auto flushed = co_await flush();
        if (!flushed) both.request_stop();
    }
    /// Something has come: what is not flushed by now stays collected, and leaves later.
    task<> receive_beside(task_group& both, io_result<void>& received) {
        received = co_await detail::receive_into(stream_, buffer_);
        both.request_stop();
    }

    PLAIT_HOT detail::attempt try_now(std::span<const std::byte> payload) {
        return sink_.try_write(stream_, codec_, payload);
    }
    io_result<void> written() const noexcept { return sink_.outcome(); }
    task<io_result<void>> wait_for(std::span<const std::byte> payload) {
        return sink_.write(stream_, payload);
    }

    S stream_;
    C codec_;
    detail::frame_buffer buffer_;
    detail::frame_sink<std::remove_reference_t<S>> sink_;
};

template <class S, class C>
framed(S&&, C) -> framed<S, C>;

} // namespace plait::inline v1
