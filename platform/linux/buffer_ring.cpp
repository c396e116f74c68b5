#include "platform/linux/buffer_ring.hpp"

#include <sys/mman.h>

#include <algorithm>

namespace plait::inline v1 {
namespace detail {
namespace {

// liburing 2.3 is older than the kernel's incremental buffers (6.12).
constexpr std::uint16_t buf_ring_incremental = 2; // IOU_PBUF_RING_INC
constexpr unsigned cqe_buffer_more = 1U << 4;     // IORING_CQE_F_BUF_MORE

constexpr std::size_t ring_bytes(unsigned entries) { return entries * sizeof(io_uring_buf); }

} // namespace

buffer_ring::buffer_ring(const context_options& options, bool incremental)
    : memory_(options.memory_resource() ? options.memory_resource() : std::pmr::new_delete_resource()),
      block_size_(options.pool_bytes() ? options.pool_bytes()
                  : incremental        ? 64 * 1024
                                       : 8 * 1024),
      most_(std::min(entries, options.pool_most() ? options.pool_most() : entries)),
      incremental_(incremental) {
    blocks_.reserve(most_);
}

buffer_ring* buffer_ring::make(io_uring& ring, const context_options& options) {
    void* memory =
        ::mmap(nullptr, ring_bytes(entries), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) return nullptr;
    io_uring_buf_reg request{};
    request.ring_addr = reinterpret_cast<std::uintptr_t>(memory);
    request.ring_entries = entries;
    request.bgid = group;
    bool incremental = true;
    request.pad = buf_ring_incremental; // the field that later became `flags`
    int outcome = io_uring_register_buf_ring(&ring, &request, 0);
    if (outcome == -EINVAL) {
        incremental = false;
        request.pad = 0;
        outcome = io_uring_register_buf_ring(&ring, &request, 0);
    }
    if (outcome != 0) {
        ::munmap(memory, ring_bytes(entries));
        return nullptr;
    }
    auto* pool = new buffer_ring(options, incremental);
    pool->shared_ = static_cast<io_uring_buf_ring*>(memory);
    io_uring_buf_ring_init(pool->shared_);
    const unsigned initial = options.pool_initial() ? options.pool_initial() : incremental ? 16 : 64;
    pool->add_blocks(std::min(initial, pool->most_));
    return pool;
}

buffer_ring::~buffer_ring() {
    for (block* each : blocks_) {
        memory_->deallocate(each->memory, block_size_);
        delete each;
    }
}

bool buffer_ring::add_blocks(unsigned count) noexcept {
    unsigned added = 0;
    for (; added < count && blocks_.size() < most_; ++added) {
        std::unique_ptr<block> fresh(new (std::nothrow) block{});
        if (!fresh) break;
#if PLAIT_HAS_EXCEPTIONS
        try {
            fresh->memory = static_cast<std::byte*>(memory_->allocate(block_size_));
        } catch (...) {
            break;
        }
#else
        fresh->memory = static_cast<std::byte*>(memory_->allocate(block_size_));
#endif
        fresh->buffer_block::release = &buffer_ring::release;
        fresh->owner = this;
        fresh->id = static_cast<std::uint16_t>(blocks_.size());
        blocks_.push_back(fresh.release());
        give_back(*blocks_.back());
    }
    return added > 0;
}

bool buffer_ring::grow() noexcept {
    return add_blocks(std::max(1U, static_cast<unsigned>(blocks_.size()) / 2));
}

void buffer_ring::give_back(block& which) noexcept {
    which.used = 0;
    which.kernels = true;
    io_uring_buf_ring_add(shared_, which.memory, static_cast<unsigned>(block_size_), which.id,
                          io_uring_buf_ring_mask(entries), 0);
    io_uring_buf_ring_advance(shared_, 1);
}

buffer_ring::received buffer_ring::take(unsigned completion_flags, std::size_t size) noexcept {
    block& which = *blocks_[completion_flags >> IORING_CQE_BUFFER_SHIFT];
    std::byte* data = which.memory + which.used;
    which.used += size;
    which.kernels = incremental_ && (completion_flags & cqe_buffer_more) != 0;
    if (size > 0) {
        ++which.leases;
        ++leases_;
        return {data, &which};
    }
    if (!which.kernels && which.leases == 0) give_back(which);
    return {nullptr, nullptr};
}

void buffer_ring::release(buffer_block& lease) noexcept {
    auto& which = static_cast<block&>(lease);
    buffer_ring& pool = *which.owner;
    --pool.leases_;
    if (--which.leases == 0 && !which.kernels && pool.attached_) pool.give_back(which);
    if (!pool.attached_ && pool.leases_ == 0) delete &pool;
}

void buffer_ring::detach() noexcept {
    attached_ = false;
    ::munmap(shared_, ring_bytes(entries));
    if (leases_ == 0) delete this;
}

} // namespace detail
} // namespace plait::inline v1
