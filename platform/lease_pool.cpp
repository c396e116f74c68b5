#include "platform/lease_pool.hpp"

#include "platform/private_buffer.hpp"

#include <algorithm>
#include <memory>
#include <new>

namespace plait::inline v1 {
namespace detail {
namespace {

/// Free blocks that are kept; more go back to the system.
constexpr unsigned most_spare = 4;

} // namespace

lease_pool::lease_pool(const context_options& options)
    : memory_(options.memory_resource() ? options.memory_resource() : std::pmr::new_delete_resource()),
      block_size_(options.pool_bytes() ? options.pool_bytes() : 64 * 1024),
      most_(options.pool_most() ? options.pool_most() : 1024) {}

lease_pool::~lease_pool() {
    while (block* each = free_) {
        free_ = each->next_free;
        memory_->deallocate(each->memory, block_size_);
        delete each;
    }
}

/// Makes an empty block the one to fill. False when there are as many as there may be.
bool lease_pool::take_fresh() noexcept {
    if (current_ && current_->leases == 0) {
        current_->used = 0;
        return true;
    }
    block* fresh = free_;
    if (fresh) {
        free_ = fresh->next_free;
        --spare_;
    } else {
        if (blocks_ >= most_) return false;
        std::unique_ptr<block> made(new (std::nothrow) block{});
        if (!made) return false;
#if PLAIT_HAS_EXCEPTIONS
        try {
            made->memory = static_cast<std::byte*>(memory_->allocate(block_size_));
        } catch (...) { // a resource that gives no more is a pool that is as large as it may be
            return false;
        }
#else
        made->memory = static_cast<std::byte*>(memory_->allocate(block_size_));
#endif
        fresh = made.release();
        fresh->owner = this;
        fresh->buffer_block::release = &lease_pool::release;
        ++blocks_;
    }
    fresh->used = 0;
    current_ = fresh; // the one before is freed by its last lease
    return true;
}

std::span<std::byte> lease_pool::prepare() {
    prepared_private_ = false;
    const std::size_t left = current_ ? block_size_ - current_->used : 0;
    if (left * 4 < block_size_ || left == 0) {
        if (!take_fresh() && left == 0) {
            prepared_private_ = true;
            if (!private_) private_ = private_buffer::make(private_buffer::usual_size);
            return {static_cast<private_buffer*>(private_)->data(), private_buffer::usual_size};
        }
    }
    return {current_->memory + current_->used, block_size_ - current_->used};
}

void lease_pool::commit(operation& op, std::size_t size) noexcept {
    op.size = size;
    if (prepared_private_) {
        auto* mine = static_cast<private_buffer*>(std::exchange(private_, nullptr));
        op.data = mine->data();
        op.block = mine;
        return;
    }
    op.data = current_->memory + current_->used;
    op.block = current_;
    current_->used += size;
    ++current_->leases;
    ++leases_;
}

void lease_pool::free_block(block& which) noexcept {
    if (attached_ && spare_ < most_spare) {
        which.next_free = std::exchange(free_, &which);
        ++spare_;
        return;
    }
    --blocks_;
    memory_->deallocate(which.memory, block_size_);
    delete &which;
}

void lease_pool::release(buffer_block& lease) noexcept {
    auto& which = static_cast<block&>(lease);
    lease_pool& pool = *which.owner;
    --pool.leases_;
    if (--which.leases == 0) {
        if (&which == pool.current_)
            which.used = 0;
        else
            pool.free_block(which);
    }
    if (!pool.attached_ && pool.leases_ == 0) delete &pool;
}

void lease_pool::detach() noexcept {
    attached_ = false;
    if (private_) private_->release(*private_);
    private_ = nullptr;
    if (block* last = std::exchange(current_, nullptr); last && last->leases == 0) free_block(*last);
    if (leases_ == 0) delete this;
}

} // namespace detail
} // namespace plait::inline v1
