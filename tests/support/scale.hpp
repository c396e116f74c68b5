#pragma once
/// How often a test repeats something: PLAIT_TEST_SCALE in the environment is a factor for every count.

#include <algorithm>
#include <cstddef>
#include <cstdlib>

namespace support {

/// `n` times the factor; at least 1.
inline std::size_t scaled(std::size_t n) {
    static const double factor = [] {
        const char* text = std::getenv("PLAIT_TEST_SCALE");
        const double value = text ? std::strtod(text, nullptr) : 1.0;
        return value > 0 ? value : 1.0;
    }();
    return std::max<std::size_t>(1, static_cast<std::size_t>(static_cast<double>(n) * factor));
}

} // namespace support
