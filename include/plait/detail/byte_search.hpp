#pragma once
/// Looking for bytes, also where the compiler looks for them.

#include <cstddef>
#include <cstring>
#include <span>
#include <string_view>
#include <type_traits>

namespace plait::inline v1 {
namespace detail {

/// std::find for bytes: as fast as memchr, and constexpr. The end when there is none.
constexpr std::size_t find_byte(std::span<const std::byte> bytes, std::size_t from,
                                std::byte wanted) noexcept {
    if (from >= bytes.size()) return bytes.size();
    if (std::is_constant_evaluated()) {
        while (from < bytes.size() && bytes[from] != wanted) ++from;
        return from;
    }
    const void* const found =
        std::memchr(bytes.data() + from, std::to_integer<int>(wanted), bytes.size() - from);
    return found ? static_cast<std::size_t>(static_cast<const std::byte*>(found) - bytes.data())
                 : bytes.size();
}

/// Does `text` stand at `bytes`?
constexpr bool same_bytes(const std::byte* bytes, std::string_view text) noexcept {
    for (std::size_t i = 0; i < text.size(); ++i)
        if (bytes[i] != static_cast<std::byte>(text[i])) return false;
    return true;
}

} // namespace detail
} // namespace plait::inline v1
