#pragma once
/// `lease`: received bytes in a buffer of the library's, given back when the lease ends.
///
///     while (auto received = co_await stream.recv()) use(received->bytes());

#include <plait/detail/socket_state.hpp>

#include <span>

namespace plait::inline v1 {

/// Move-only. A connection that waits for data holds no buffer; one that has data holds a piece of a buffer shared with
/// others, until the lease is destroyed. May outlive the stream and the context, on the same thread, but not the
/// context's memory resource.
class [[nodiscard]] lease {
  public:
    /// An empty one, without bytes.
    lease() noexcept = default;
    // For the library: a piece of `block`.
    lease(std::byte* data, std::size_t size, detail::buffer_block* block) noexcept
        : data_(data), size_(size), block_(block) {}

    lease(lease&& other) noexcept
        : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)),
          block_(std::exchange(other.block_, nullptr)) {}
    lease& operator=(lease&& other) noexcept {
        if (this != &other) {
            reset();
            data_ = std::exchange(other.data_, nullptr);
            size_ = std::exchange(other.size_, 0);
            block_ = std::exchange(other.block_, nullptr);
        }
        return *this;
    }
    ~lease() { reset(); }

    /// The bytes received, at least one; writable, valid until the lease is destroyed, reset or moved from.
    std::span<std::byte> bytes() const noexcept { return {data_, size_}; }
    /// How many they are.
    std::size_t size() const noexcept { return size_; }

    /// Gives the buffer back.
    void reset() noexcept {
        if (block_) block_->release(*block_);
        block_ = nullptr;
        data_ = nullptr;
        size_ = 0;
    }

  private:
    std::byte* data_ = nullptr;
    std::size_t size_ = 0;
    detail::buffer_block* block_ = nullptr;
};

} // namespace plait::inline v1
