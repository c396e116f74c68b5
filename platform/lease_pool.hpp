#pragma once
/// Buffers that readiness-driven receives draw on: filled piece by piece, so that small messages lie densely.

#include "platform/driver.hpp"

#include <memory_resource>

namespace plait::inline v1 {
namespace detail {

/// Belongs to one driver. A block is free again when no lease refers to it and it is not the one being filled.
class lease_pool {
  public:
    static lease_pool* make(const context_options& options) { return new lease_pool(options); }
    lease_pool(const lease_pool&) = delete;
    lease_pool& operator=(const lease_pool&) = delete;

    /// Room for one receive: at least a quarter of a block, or, the pool being exhausted, a private buffer.
    std::span<std::byte> prepare();
    /// `size` >= 1 bytes of the room that was prepared last were filled: they are the lease of `op`.
    void commit(operation& op, std::size_t size) noexcept;

    /// The driver is gone; what leases still refer to lives on until they end.
    void detach() noexcept;

  private:
    struct block : buffer_block {
        lease_pool* owner;
        std::byte* memory;
        std::size_t used;
        unsigned leases;
        block* next_free;
    };

    explicit lease_pool(const context_options& options);
    ~lease_pool();
    bool take_fresh() noexcept;
    void free_block(block& which) noexcept;
    static void release(buffer_block& lease) noexcept;

    std::pmr::memory_resource* memory_;
    std::size_t block_size_;
    unsigned most_;
    unsigned blocks_ = 0; ///< in use or free
    unsigned spare_ = 0;  ///< free
    unsigned leases_ = 0;
    block* current_ = nullptr; ///< being filled
    block* free_ = nullptr;
    buffer_block* private_ = nullptr; ///< at hand for when the pool is exhausted
    bool prepared_private_ = false;   ///< and what prepare() answered last
    bool attached_ = true;
};

} // namespace detail
} // namespace plait::inline v1
