#include <plait/detail/memory.hpp>

#include "platform/driver.hpp"

#include <array>
#include <atomic>
#include <bit>
#include <cstddef>
#include <memory>
#include <new>
#include <utility>

#if defined(__has_feature)
#    if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#        define PLAIT_RECYCLES 0
#    endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#    define PLAIT_RECYCLES 0
#endif
#ifndef PLAIT_RECYCLES
#    define PLAIT_RECYCLES 1
#endif

namespace plait::inline v1 {
namespace detail {
namespace {

// Classes of 16 bytes up to 4 KiB, for frames and state blocks, then powers of two up to 128 KiB, for output and
// partial frames. What is larger goes to the system at once. The small ones are 8 bytes above a multiple of 16, where
// malloc's own 8 bytes for each block cost nothing.
constexpr std::size_t class_width = 16;
constexpr std::size_t class_offset = 8;
constexpr std::size_t small_limit = 4096;
constexpr std::size_t small_classes = small_limit / class_width + 1;
constexpr std::size_t class_count = small_classes + 5;
constexpr std::size_t large_limit = small_limit << 5;

struct free_block {
    free_block* next;
};

/// One thread's free lists. Its end gives the blocks back.
struct free_lists {
    std::array<free_block*, class_count> heads{};

    free_lists() = default;
    free_lists(const free_lists&) = delete;
    free_lists& operator=(const free_lists&) = delete;
    ~free_lists() {
        for (free_block*& head : heads)
            while (head) ::operator delete(std::exchange(head, head->next));
    }
};

// On the heap, because at the end of a thread its thread-local objects may be gone before anybody hears of it (GCC
// emulates them on Windows). Constant-initialised, so that reaching them costs no guard.
constinit thread_local free_lists* lists = nullptr;
constinit thread_local bool ended = false; ///< frames that are destroyed still later go straight back
constinit thread_local std::uint64_t from_heap = 0; ///< blocks that no list had

void end_lists(void* which, bool thread_locals_live) noexcept {
    if (thread_locals_live) {
        lists = nullptr;
        ended = true;
    }
    delete static_cast<free_lists*>(which);
}

/// On this thread's first free. nullptr when there can be none.
free_lists* make_lists() noexcept {
    if (ended) return nullptr;
    std::unique_ptr<free_lists> made(new (std::nothrow) free_lists);
    if (!made || !at_thread_end(end_lists, made.get())) return nullptr;
    lists = made.release();
    return lists;
}

std::atomic<free_hook> hook{nullptr};

constexpr std::size_t class_of(std::size_t size) {
    if (size <= small_limit) return (size + class_width - 1 - class_offset) / class_width;
    return small_classes - 1 + static_cast<std::size_t>(std::bit_width((size - 1) / small_limit));
}

constexpr std::size_t block_size(std::size_t index) {
    return index < small_classes ? index * class_width + class_offset
                                 : small_limit << (index - small_classes + 1);
}

static_assert(class_of(0) == 0 && class_of(8) == 0 && class_of(9) == 1 && block_size(1) == 24);
static_assert(class_of(4096) == small_classes - 1 && block_size(class_of(4096)) >= 4096);
static_assert(class_of(4097) == small_classes && block_size(class_of(4097)) == 8192);
static_assert(class_of(large_limit) == class_count - 1 && block_size(class_count - 1) == large_limit);

} // namespace

void* allocate(std::size_t size) {
    if (PLAIT_RECYCLES && size <= large_limit) {
        const std::size_t index = class_of(size);
        if (free_lists* const own = lists) [[likely]] {
            free_block*& head = own->heads[index];
            if (head) [[likely]]
                return std::exchange(head, head->next);
        }
        size = block_size(index);
    }
    ++from_heap;
    return ::operator new(size);
}

std::uint64_t heap_blocks() noexcept { return from_heap; }

void deallocate(void* block, std::size_t size) noexcept {
    if (free_hook take = hook.load(std::memory_order_relaxed)) [[unlikely]]
        if (take(block, size)) return;
    if (PLAIT_RECYCLES && size <= large_limit) {
        free_lists* own = lists;
        if (!own) [[unlikely]]
            own = make_lists();
        if (own) [[likely]] {
            free_block*& head = own->heads[class_of(size)];
            head = ::new (block) free_block{head};
            return;
        }
    }
    ::operator delete(block);
}

void set_free_hook(free_hook value) noexcept { hook.store(value, std::memory_order_relaxed); }

void release_block(void* block) noexcept { ::operator delete(block); }

} // namespace detail
} // namespace plait::inline v1
