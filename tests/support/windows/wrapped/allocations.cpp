// With the linker's --wrap: who calls malloc gets __wrap_malloc, and __real_malloc is what was there before.

#include "support/allocations.hpp"

#include "support/windows/winsock.hpp"

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace {

/// A number for each thread. (Not thread_local, which calls malloc itself: GCC emulates it on Windows.)
class thread_number {
  public:
    std::uint64_t get() noexcept { return reinterpret_cast<std::uintptr_t>(::TlsGetValue(slot())); }
    void add(std::uint64_t more) noexcept {
        const DWORD error = ::GetLastError(); // TlsGetValue and TlsSetValue set it
        ::TlsSetValue(slot(), reinterpret_cast<void*>(static_cast<std::uintptr_t>(get() + more)));
        ::SetLastError(error);
    }

  private:
    DWORD slot() noexcept {
        DWORD known = slot_.load();
        if (known != TLS_OUT_OF_INDEXES) return known;
        const DWORD made = ::TlsAlloc();
        if (slot_.compare_exchange_strong(known, made)) return made;
        ::TlsFree(made);
        return known;
    }

    std::atomic<DWORD> slot_{TLS_OUT_OF_INDEXES};
};

constinit thread_number count;
constinit thread_number bytes;

void note(std::size_t size) noexcept {
    count.add(1);
    bytes.add(size);
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
std::uint64_t support::allocations() noexcept { return count.get(); }
std::uint64_t support::allocated_bytes() noexcept { return bytes.get(); }

void support::map_a_page() {
    void* const page = ::VirtualAlloc(nullptr, 4096, MEM_RESERVE | MEM_COMMIT, PAGE_READONLY);
    note(4096); // VirtualAlloc is not wrapped: plait's own memory is malloc's
    ::VirtualFree(page, 0, MEM_RELEASE);
}
