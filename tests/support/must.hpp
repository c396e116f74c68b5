#pragma once

#include <cstdio>
#include <cstdlib>

namespace support {

/// Ends the program where a test cannot go on and a failed check would leave tasks behind.
inline void must(bool condition, const char* what) {
    if (condition) return;
    std::fprintf(stderr, "this test cannot go on: %s\n", what);
    std::abort();
}

} // namespace support
