#pragma once
/// The pool of buffers that the kernel fills by itself (a provided-buffer ring), and the leases on them.

#include "platform/driver.hpp"

#include <liburing.h>

#include <memory_resource>
#include <vector>

namespace plait::inline v1 {
namespace detail {

/// Buffers of one size, shared by all sockets of a ring. Where the kernel can (6.12), it fills a buffer piece by
/// piece, so that small messages lie densely; otherwise each receive takes a whole one. A buffer goes back to the
/// kernel when the kernel is done with it and every lease has ended.
class buffer_ring {
  public:
    struct received {
        std::byte* data;
        buffer_block* block;
    };

    /// nullptr when the kernel has no provided-buffer rings (before 5.19).
    static buffer_ring* make(io_uring& ring, const context_options& options);

    buffer_ring(const buffer_ring&) = delete;
    buffer_ring& operator=(const buffer_ring&) = delete;

    static constexpr std::uint16_t group = 0;

    /// Takes note of `size` bytes that a completion with these flags says were received.
    received take(unsigned completion_flags, std::size_t size) noexcept;

    /// After the kernel ran out: more buffers. False when the pool is as large as it may be, or memory is out.
    bool grow() noexcept;

    /// The ring is gone; what leases still refer to lives on until they end.
    void detach() noexcept;

  private:
    struct block : buffer_block {
        buffer_ring* owner;
        std::byte* memory;
        std::size_t used; ///< filled by the kernel so far
        unsigned leases;
        std::uint16_t id;
        bool kernels; ///< the kernel may still fill it
    };

    buffer_ring(const context_options& options, bool incremental);
    ~buffer_ring();
    bool add_blocks(unsigned count) noexcept;
    void give_back(block& which) noexcept;
    static void release(buffer_block& which) noexcept;

    static constexpr unsigned entries = 1024;

    io_uring_buf_ring* shared_ = nullptr; ///< what the kernel reads; entries x 16 bytes
    std::pmr::memory_resource* memory_;
    std::size_t block_size_;
    unsigned most_;
    unsigned leases_ = 0;
    bool incremental_;
    bool attached_ = true;
    std::vector<block*> blocks_;
};

} // namespace detail
} // namespace plait::inline v1
