#pragma once
/// Memory for coroutine frames and socket state: size classes, recycled by the thread that frees them.

#include <plait/detail/config.hpp>

#include <cstddef>
#include <cstdint>

namespace plait::inline v1 {
namespace detail {

/// At least `size` bytes, aligned for any scalar. A block may be freed on any thread; the free list belongs to
/// the thread that freed it. Sanitizer builds do not recycle, so that they see a use after free.
PLAIT_API void* allocate(std::size_t size);
PLAIT_API void deallocate(void* block, std::size_t size) noexcept;

/// How many of this thread's blocks came from the heap, because its free lists had none.
PLAIT_API std::uint64_t heap_blocks() noexcept;

/// For tests: called with each freed block; when it answers true it has taken the block over, and gives it back
/// with release_block. nullptr takes the hook away. Call it while no other thread frees.
using free_hook = bool (*)(void* block, std::size_t size) noexcept;
PLAIT_API void set_free_hook(free_hook hook) noexcept;
PLAIT_API void release_block(void* block) noexcept;

/// The base of every coroutine promise: frames come from allocate().
struct recycled_frame {
    static void* operator new(std::size_t size) { return allocate(size); }
    static void operator delete(void* frame, std::size_t size) noexcept { deallocate(frame, size); }
};

} // namespace detail
} // namespace plait::inline v1
