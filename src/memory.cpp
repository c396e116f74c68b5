#include <plait/detail/memory.hpp>

#include <array>
#include <atomic>
#include <bit>
#include <cstddef>
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

/// One thread's free lists. Constant-initialised, so that reaching it costs no guard.
struct free_lists {
    std::array<free_block*, class_count> heads{};
    bool usable = true;
};
constinit thread_local free_lists lists;

/// Gives a thread's blocks back when it ends. Apart from `lists`, which has to stay usable for frames that are
/// destroyed later than this.
struct lists_cleaner {
    ~lists_cleaner() {
        lists.usable = false;
        for (free_block*& head : lists.heads)
            while (head) ::operator delete(std::exchange(head, head->next));
    }
};

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
        free_block*& head = lists.heads[index];
        if (head) [[likely]]
            return std::exchange(head, head->next);
        return ::operator new(block_size(index));
    }
    return ::operator new(size);
}

void deallocate(void* block, std::size_t size) noexcept {
    if (free_hook take = hook.load(std::memory_order_relaxed)) [[unlikely]]
        if (take(block, size)) return;
    if (PLAIT_RECYCLES && size <= large_limit && lists.usable) {
        const std::size_t index = class_of(size);
        thread_local lists_cleaner cleaner;
        static_cast<void>(cleaner);
        lists.heads[index] = ::new (block) free_block{lists.heads[index]};
        return;
    }
    ::operator delete(block);
}

void set_free_hook(free_hook value) noexcept { hook.store(value, std::memory_order_relaxed); }

void release_block(void* block) noexcept { ::operator delete(block); }

} // namespace detail
} // namespace plait::inline v1
