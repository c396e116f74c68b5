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
      initial_(options.pool_initial() ? options.pool_initial()
               : incremental          ? 16
                                      : 64),
      most_(std::min(entries, options.pool_most() ? options.pool_most() : entries)),
      incremental_(incremental) {
    initial_ = std::min(initial_, most_);
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
    pool->add_blocks(pool->initial_);
    return pool;
}

buffer_ring::~buffer_ring() {
    for (block* each : blocks_)
        if (each) free_block(*each);
}

void buffer_ring::free_block(block& which) noexcept {
    blocks_[which.id] = nullptr;
    --live_;
    memory_->deallocate(which.memory, block_size_);
    delete &which;
}

bool buffer_ring::add_blocks(unsigned count) noexcept {
    unsigned added = 0;
    std::size_t id = 0;
    for (; added < count && live_ < most_; ++added) {
        while (id < blocks_.size() && blocks_[id]) ++id;
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
        fresh->id = static_cast<std::uint16_t>(id);
        if (id == blocks_.size()) blocks_.push_back(nullptr);
        blocks_[id] = fresh.release();
        ++live_;
        give_back(*blocks_[id]);
    }
    return added > 0;
}

bool buffer_ring::grow() noexcept {
    surplus_ = 0;
    // Many sockets find the pool empty together, and it may have grown for another one.
    if (kernels_ > 0) return true;
    return add_blocks(std::max(1U, live_ / 2));
}

void buffer_ring::give_back(block& which) noexcept {
    which.used = 0;
    which.kernels = true;
    ++kernels_;
    io_uring_buf_ring_add(shared_, which.memory, static_cast<unsigned>(block_size_), which.id,
                          io_uring_buf_ring_mask(entries), 0);
    io_uring_buf_ring_advance(shared_, 1);
}

/// A buffer that the kernel has cannot be had back, so the pool shrinks here. What the kernel never came down to while
/// the whole pool went round once was not needed; half of that goes. A load that comes and goes in waves takes the
/// kernel's buffers away each time, and so keeps the pool at the size of a wave.
void buffer_ring::give_back_or_free(block& which) noexcept {
    if (live_ > initial_) {
        if (++returned_ >= live_) {
            surplus_ = std::min(lowest_ / 2, live_ - initial_);
            returned_ = 0;
            lowest_ = kernels_;
        }
        if (surplus_ > 0 && kernels_ > surplus_) {
            --surplus_;
            return free_block(which);
        }
    }
    give_back(which);
}

buffer_ring::received buffer_ring::take(unsigned completion_flags, std::size_t size) noexcept {
    block& which = *blocks_[completion_flags >> IORING_CQE_BUFFER_SHIFT];
    std::byte* data = which.memory + which.used;
    which.used += size;
    which.kernels = incremental_ && (completion_flags & cqe_buffer_more) != 0;
    if (!which.kernels) lowest_ = std::min(lowest_, --kernels_);
    if (size > 0) {
        ++which.leases;
        ++leases_;
        return {data, &which};
    }
    if (!which.kernels && which.leases == 0) give_back_or_free(which);
    return {nullptr, nullptr};
}

void buffer_ring::release(buffer_block& lease) noexcept {
    auto& which = static_cast<block&>(lease);
    buffer_ring& pool = *which.owner;
    --pool.leases_;
    if (--which.leases > 0 || which.kernels) return;
    if (pool.attached_) return pool.give_back_or_free(which);
    pool.free_block(which);
    if (pool.leases_ == 0) delete &pool;
}

void buffer_ring::detach() noexcept {
    attached_ = false;
    ::munmap(shared_, ring_bytes(entries));
    for (block* each : blocks_) {
        if (!each) continue;
        each->kernels = false;
        if (each->leases == 0) free_block(*each);
    }
    if (leases_ == 0) delete this;
}

} // namespace detail
} // namespace plait::inline v1
