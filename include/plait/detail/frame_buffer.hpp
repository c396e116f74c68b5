#pragma once
/// The receiving half of framing: buffered bytes, and what the codec makes of them. No I/O here.

#include <plait/codec.hpp>
#include <plait/detail/byte_buffer.hpp>
#include <plait/lease.hpp>

#include <concepts>
#include <memory>
#include <span>

namespace plait::inline v1 {
namespace detail {

using frame_view = std::span<const std::byte>;

/// A session that finds so many frames in a row without waiting lets the others go on before the next one.
inline constexpr std::uint16_t frames_in_a_row = 256;

constexpr std::size_t saturated_size(std::size_t a, std::size_t b) noexcept {
    return b > static_cast<std::size_t>(-1) - a ? static_cast<std::size_t>(-1) : a + b;
}

/// The receiving half: buffered bytes and what the codec makes of them. No I/O here. What a connection needs only
/// while bytes are there is allocated when they come, and gone when it waits for the next frame.
class frame_buffer {
  public:
    /// True: outcome() has something to hand out. False: the buffered bytes do not suffice.
    template <class C>
    PLAIT_HOT bool decode(C& codec) {
        if (!ended_ && fixed_ == fixed::no && held_ && held_->bytes.size() >= held_->needed) [[likely]] {
            if constexpr (std::same_as<C,
                                       length_prefix>) { // the most usual frame, and the shortest way to it
                const std::size_t payload = codec.plain_payload(held_->bytes);
                if (payload != C::not_plain) [[likely]] {
                    hand_out(C::plain_header + payload, C::plain_header, payload);
                    return true;
                }
            }
            return decode_on(codec, codec.decode(held_->bytes));
        }
        return decode_rarely(codec);
    }

    PLAIT_HOT io_result<frame_view> outcome() const noexcept {
        if (!outcome_.ok()) [[unlikely]]
            return {outcome_, 0};
        return {held_->payload, held_->payload.size()};
    }
    /// So many frames were handed out since the last wait that it is somebody else's turn.
    bool share_is_used() const noexcept { return in_a_row_ >= frames_in_a_row; }
    /// Answers how many there were, for has_not_waited.
    std::uint16_t waits() noexcept { return std::exchange(in_a_row_, std::uint16_t{0}); }
    /// What was to be waited for was there at once, and counts with what came `before`.
    void has_not_waited(std::uint16_t before) noexcept {
        in_a_row_ = static_cast<std::uint16_t>(in_a_row_ + before);
    }
    /// The outcome is handed out once more, should nobody take it now: the await may be destroyed.
    void keep_outcome() noexcept {
        waits();
        if (fixed_ == fixed::no) fixed_ = fixed::once;
    }
    void outcome_taken() noexcept {
        if (fixed_ == fixed::once) fixed_ = fixed::no;
    }

    /// To be handed out next.
    void answer(status failure) noexcept { outcome_ = failure; }

    /// A partial frame is buffered, or skipped.
    bool inside_frame() const noexcept { return held_ && (!held_->bytes.empty() || held_->skip > 0); }

    void received(lease piece);
    std::span<std::byte> prepare(std::size_t count) {
        contents& held = hold();
        const std::span<std::byte> room = held.own.prepare(count);
        held.bytes = held.own.bytes(); // they may have moved
        return room;
    }
    void committed(std::size_t count) noexcept {
        held_->own.commit(count);
        held_->bytes = held_->own.bytes();
        held_->drop_skipped();
    }
    void stream_ended() noexcept { ended_ = true; }
    /// From now on nothing else is handed out.
    void failed(status failure) noexcept {
        outcome_ = failure;
        fixed_ = fixed::for_good;
    }
    /// Lets go of what is not needed while waiting. A partial frame moves to memory of its own, so that a slow
    /// peer pins no pooled buffer.
    void settle();

  private:
    struct contents : recycled_frame {
        void take(std::size_t count) noexcept {
            bytes = {bytes.data() + count, bytes.size() - count};
            if (leased.bytes().empty()) own.consume(count);
        }
        void drop_skipped() noexcept {
            const std::size_t dropped = std::min(skip, bytes.size());
            take(dropped);
            skip -= dropped;
        }

        std::span<const std::byte> bytes; ///< received and not consumed: within `leased`, or all of `own`
        lease leased;
        byte_buffer own;
        std::size_t skip = 0;   ///< bytes to drop, when they come
        std::size_t needed = 1; ///< do not ask the codec before this many bytes are there
        frame_view payload;     ///< of the frame that is handed out
    };
    template <class C>
    PLAIT_COLD bool decode_rarely(C& codec);
    template <class C>
    PLAIT_COLD bool decode_on(C& codec, decoded said);
    PLAIT_HOT void hand_out(std::size_t size, std::size_t payload_offset, std::size_t payload_size) noexcept {
        contents& held = *held_;
        held.needed = 1;
        held.payload = {held.bytes.data() + payload_offset, payload_size};
        held.take(size);
        outcome_ = status();
        ++in_a_row_;
    }
    contents& hold() {
        if (!held_) held_ = std::make_unique<contents>();
        return *held_;
    }

    std::unique_ptr<contents> held_;
    status outcome_;             ///< what is handed out: success stands for the payload
    std::uint16_t in_a_row_ = 0; ///< frames handed out without a wait in between
    bool ended_ = false;
    enum class fixed : std::uint8_t { no, once, for_good } fixed_ = fixed::no; ///< the outcome stays
};

inline void frame_buffer::settle() {
    if (!held_) return;
    contents& held = *held_;
    if (held.bytes.empty() && held.skip == 0) {
        held_.reset();
    } else if (!held.leased.bytes().empty()) {
        held.own.append(held.bytes);
        held.leased.reset();
        held.bytes = held.own.bytes();
    }
}

inline void frame_buffer::received(lease piece) {
    contents& held = hold();
    if (held.bytes.empty()) {
        held.leased = std::move(piece);
        held.bytes = held.leased.bytes();
    } else {
        held.own.append(piece.bytes());
        held.bytes = held.own.bytes();
    }
    held.drop_skipped();
}

/// When the buffered bytes are not the first thing to look at.
template <class C>
bool frame_buffer::decode_rarely(C& codec) {
    if (fixed_ != fixed::no) {
        outcome_taken();
        return true;
    }
    if (!ended_) return false;
    contents& held = hold();
    if (held.skip > 0) { // the end came inside a frame that was being dropped
        failed(errc::truncated_frame);
        return true;
    }
    return decode_on(codec, codec.finish(held.bytes));
}

/// Goes on from what the codec said about the buffered bytes.
template <class C>
bool frame_buffer::decode_on(C& codec, decoded said) {
    contents& held = *held_;
    for (;;) {
        held.needed = 1;
        switch (said.kind()) {
        case decoded_kind::frame:
            hand_out(said.size(), said.payload_offset(), said.payload_size());
            return true;
        case decoded_kind::need: held.needed = saturated_size(held.bytes.size(), said.more()); return false;
        case decoded_kind::skip:
            held.skip = said.size();
            held.drop_skipped();
            break;
        case decoded_kind::discard:
            held.skip = said.size();
            held.drop_skipped();
            outcome_ = said.error();
            return true;
        case decoded_kind::failed: failed(said.error()); return true;
        case decoded_kind::end: failed(errc::end_of_stream); return true;
        }
        if (ended_ && held.skip > 0) {
            failed(errc::truncated_frame);
            return true;
        }
        if (!ended_ && held.bytes.empty()) return false;
        said = ended_ ? codec.finish(held.bytes) : codec.decode(held.bytes);
    }
}

/// What a receive that failed means to the buffer. True: the stream has ended, and decoding goes on to its last word.
inline bool receive_failed(frame_buffer& buffer, status failure) noexcept {
    if (failure.is(errc::end_of_stream)) {
        buffer.stream_ended();
        return true;
    }
    // A cancelled receive has lost nothing, and draining may be asked again. The rest is final.
    if (!failure.is(errc::canceled) && !failure.is(errc::draining) && !failure.is(errc::timed_out))
        buffer.failed(failure);
    return false;
}

} // namespace detail
} // namespace plait::inline v1
