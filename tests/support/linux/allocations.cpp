#include "support/allocations.hpp"

#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdarg>
#include <cstddef>
#include <cstdlib>

#if defined(__has_feature)
#    if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#        define SUPPORT_SANITIZED
#    endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#    define SUPPORT_SANITIZED
#endif

#if defined(__GLIBC__) && !defined(SUPPORT_SANITIZED)

namespace {
constinit thread_local std::uint64_t count = 0;
constinit thread_local std::uint64_t bytes = 0;

void note(std::size_t size) noexcept {
    ++count;
    bytes += size;
}
} // namespace

// glibc's own names of its allocator; a program may define the public ones itself.
extern "C" {
void* __libc_malloc(std::size_t size);
void* __libc_calloc(std::size_t count, std::size_t size);
void* __libc_realloc(void* block, std::size_t size);
void* __libc_memalign(std::size_t alignment, std::size_t size);
void __libc_free(void* block);

__attribute__((visibility("default"))) void* malloc(std::size_t size) {
    note(size);
    return __libc_malloc(size);
}
__attribute__((visibility("default"))) void* calloc(std::size_t number, std::size_t size) {
    note(number * size);
    return __libc_calloc(number, size);
}
__attribute__((visibility("default"))) void* realloc(void* block, std::size_t size) {
    note(size);
    return __libc_realloc(block, size);
}
__attribute__((visibility("default"))) void* memalign(std::size_t alignment, std::size_t size) {
    note(size);
    return __libc_memalign(alignment, size);
}
__attribute__((visibility("default"))) void* aligned_alloc(std::size_t alignment, std::size_t size) {
    note(size);
    return __libc_memalign(alignment, size);
}
__attribute__((visibility("default"))) int posix_memalign(void** block, std::size_t alignment,
                                                          std::size_t size) {
    note(size);
    *block = __libc_memalign(alignment, size);
    return *block ? 0 : ENOMEM;
}
__attribute__((visibility("default"))) void free(void* block) { __libc_free(block); }

// What calls these by name; malloc's own go by another.
__attribute__((visibility("default"))) void* mmap(void* address, std::size_t size, int protection, int flags,
                                                  int descriptor, off_t offset) noexcept {
    note(size);
    const long mapped = ::syscall(SYS_mmap, address, size, protection, flags, descriptor, offset);
    return mapped == -1 ? MAP_FAILED : reinterpret_cast<void*>(mapped);
}
__attribute__((visibility("default"))) void* mremap(void* address, std::size_t old_size, std::size_t size,
                                                    int flags, ...) noexcept {
    note(size);
    va_list rest;
    va_start(rest, flags);
    void* wanted = (flags & MREMAP_FIXED) != 0 ? va_arg(rest, void*) : nullptr;
    va_end(rest);
    const long mapped = ::syscall(SYS_mremap, address, old_size, size, flags, wanted);
    return mapped == -1 ? MAP_FAILED : reinterpret_cast<void*>(mapped);
}
}

bool support::counts_allocations() noexcept { return true; }
std::uint64_t support::allocations() noexcept { return count; }
std::uint64_t support::allocated_bytes() noexcept { return bytes; }

#else

bool support::counts_allocations() noexcept { return false; }
std::uint64_t support::allocations() noexcept { return 0; }
std::uint64_t support::allocated_bytes() noexcept { return 0; }

#endif

void support::map_a_page() {
    void* volatile mapped = ::mmap(nullptr, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ::munmap(mapped, 4096);
}
