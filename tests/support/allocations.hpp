#pragma once
/// Counts what the whole program asks malloc for. A test that calls this gets its malloc replaced.
///
///     if (!support::counts_allocations()) SKIP("…");
///     const auto before = support::allocations();

#include <cstdint>

namespace support {

/// False where malloc cannot be replaced: under a sanitizer, and without glibc.
bool counts_allocations() noexcept;

/// Calls of malloc, calloc, realloc, the aligned ones, mmap and mremap by this thread, so far.
std::uint64_t allocations() noexcept;

/// What those calls asked for, in bytes.
std::uint64_t allocated_bytes() noexcept;

/// Asks the system for a page of memory, past malloc, and gives it back.
void map_a_page();

} // namespace support
