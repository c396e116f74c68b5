// With the linker's --wrap: who calls malloc gets __wrap_malloc, and __real_malloc is what was there before.

#include "support/allocations.hpp"

#include "support/windows/winsock.hpp"

#include <cstddef>
#include <cstdint>

namespace {

constinit thread_local std::uint64_t count = 0;
constinit thread_local std::uint64_t bytes = 0;

void note(std::size_t size) noexcept {
    ++count;
    bytes += size;
}

} // namespace

extern "C" {
void* __real_malloc(std::size_t size);
void* __real_calloc(std::size_t number, std::size_t size);
void* __real_realloc(void* block, std::size_t size);

void* __wrap_malloc(std::size_t size) {
    note(size);
    return __real_malloc(size);
}
void* __wrap_calloc(std::size_t number, std::size_t size) {
    note(number * size);
    return __real_calloc(number, size);
}
void* __wrap_realloc(void* block, std::size_t size) {
    note(size);
    return __real_realloc(block, size);
}
}

bool support::counts_allocations() noexcept { return true; }
std::uint64_t support::allocations() noexcept { return count; }
std::uint64_t support::allocated_bytes() noexcept { return bytes; }

void support::map_a_page() {
    void* const page = ::VirtualAlloc(nullptr, 4096, MEM_RESERVE | MEM_COMMIT, PAGE_READONLY);
    note(4096); // VirtualAlloc is not wrapped: plait's own memory is malloc's
    ::VirtualFree(page, 0, MEM_RELEASE);
}
