#pragma once
/// The same bytes, seen as text and as bytes. Nothing is copied; a view lives as long as what it was made
/// from.
///
///     co_await stream.send_all(plait::as_bytes("hello\n"));
///     std::string_view line = plait::as_text(*message);

#include <cstddef>
#include <span>
#include <string_view>

namespace plait::inline v1 {

/// The bytes as characters. They need not be valid UTF-8 and may contain zeros.
inline std::string_view as_text(std::span<const std::byte> bytes) noexcept {
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

/// The characters as bytes, without a terminating zero.
inline std::span<const std::byte> as_bytes(std::string_view text) noexcept {
    return {reinterpret_cast<const std::byte*>(text.data()), text.size()};
}

} // namespace plait::inline v1
