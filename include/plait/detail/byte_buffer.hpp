#pragma once
/// Bytes in recycled memory: appended at the end, consumed at the front, and gone when empty.

#include <plait/detail/memory.hpp>

#include <algorithm>
#include <bit>
#include <cstring>
#include <span>
#include <utility>

namespace plait::inline v1 {
namespace detail {

class byte_buffer {
  public:
    byte_buffer() noexcept = default;
    byte_buffer(byte_buffer&& other) noexcept { swap(other); }
    byte_buffer& operator=(byte_buffer&& other) noexcept {
        byte_buffer old(std::move(*this));
        swap(other);
        return *this;
    }
    ~byte_buffer() { reset(); }

    std::span<std::byte> bytes() const noexcept { return {data_ + first_, last_ - first_}; }
    std::size_t size() const noexcept { return last_ - first_; }
    bool empty() const noexcept { return first_ == last_; }

    /// Whether there is room behind the end without moving anything.
    bool has_room(std::size_t count) const noexcept { return count <= capacity_ - last_; }
    /// Room for `count` bytes behind the end; commit() says how many of them were filled.
    std::span<std::byte> prepare(std::size_t count) {
        if (!has_room(count)) [[unlikely]]
            make_room(count);
        return {data_ + last_, capacity_ - last_};
    }
    void commit(std::size_t count) noexcept { last_ += count; }

    void append(std::span<const std::byte> bytes) {
        if (bytes.empty()) return;
        std::memcpy(prepare(bytes.size()).data(), bytes.data(), bytes.size());
        commit(bytes.size());
    }
    void consume(std::size_t count) noexcept { first_ += count; }
    /// Takes the last bytes away again.
    void truncate(std::size_t size) noexcept { last_ = first_ + size; }

    void reset() noexcept {
        if (data_) deallocate(data_, capacity_);
        data_ = nullptr;
        first_ = last_ = capacity_ = 0;
    }
    void swap(byte_buffer& other) noexcept {
        std::swap(data_, other.data_);
        std::swap(first_, other.first_);
        std::swap(last_, other.last_);
        std::swap(capacity_, other.capacity_);
    }

  private:
    /// Moves the bytes to the front, or into a block of at least twice the size: a byte is moved twice on average.
    PLAIT_COLD void make_room(std::size_t count) {
        const std::size_t held = size();
        if (held + count <= capacity_ && first_ >= held) {
            std::memcpy(data_, data_ + first_, held);
        } else {
            constexpr std::size_t smallest = 1024;
            constexpr std::size_t largest_step = 64 * 1024;
            std::size_t wanted = std::max({smallest, 2 * held, held + count});
            // Few different sizes, so that soon each has been allocated once and is recycled from then on.
            if (wanted <= largest_step) wanted = std::bit_ceil(wanted);
            auto* larger = static_cast<std::byte*>(allocate(wanted));
            if (held > 0) std::memcpy(larger, data_ + first_, held);
            reset();
            data_ = larger;
            capacity_ = wanted;
        }
        first_ = 0;
        last_ = held;
    }

    std::byte* data_ = nullptr;
    std::size_t first_ = 0;
    std::size_t last_ = 0;
    std::size_t capacity_ = 0;
};

} // namespace detail
} // namespace plait::inline v1
