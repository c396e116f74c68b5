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
/// kernel when the kernel is done with it and every lease has ended; or to its memory resource, when the pool has
/// grown and was not needed in that size for a while (docs/decisions/0011-the-pool-shrinks-at-returns.md).
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

    /// After the kernel ran out: more buffers, unless it has some by now. False when the pool is as large as it may
    /// be, or memory is out.
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
    void free_block(block& which) noexcept;
    void give_back(block& which) noexcept;
    void give_back_or_free(block& which) noexcept;
    static void release(buffer_block& which) noexcept;

    static constexpr unsigned entries = 1024;

    io_uring_buf_ring* shared_ = nullptr; ///< what the kernel reads; entries x 16 bytes
    std::pmr::memory_resource* memory_;
    std::size_t block_size_;
    unsigned initial_;
    unsigned most_;
    unsigned live_ = 0; ///< blocks there are
    unsigned leases_ = 0;
    unsigned kernels_ = 0;  ///< blocks that the kernel has
    unsigned lowest_ = 0;   ///< the fewest of these since `returned_` was 0
    unsigned returned_ = 0; ///< blocks that came back, up to `live_`
    unsigned surplus_ = 0;  ///< of those that come back next, so many are freed
    bool incremental_;
    bool attached_ = true;
    std::vector<block*> blocks_; ///< by id; nullptr where one was freed
};

} // namespace detail
} // namespace plait::inline v1
