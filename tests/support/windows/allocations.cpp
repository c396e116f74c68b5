#include "support/allocations.hpp"

#include "support/windows/winsock.hpp"

// malloc lies in a library of the system's, where a program cannot replace it.
bool support::counts_allocations() noexcept { return false; }
std::uint64_t support::allocations() noexcept { return 0; }
std::uint64_t support::allocated_bytes() noexcept { return 0; }

void support::map_a_page() {
    void* const page = ::VirtualAlloc(nullptr, 4096, MEM_RESERVE | MEM_COMMIT, PAGE_READONLY);
    ::VirtualFree(page, 0, MEM_RELEASE);
}
