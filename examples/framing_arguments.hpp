#pragma once
// --width, --endian and --max-frame: how the framed examples write the length in front of a message.

#include "arguments.hpp"

namespace example {

/// By default four bytes, little-endian and signed: struct.pack('<i', n). A length below zero is an error.
inline plait::length_prefix length_codec(arguments& line) {
    plait::length_prefix codec;
    codec.signed_length();
    const std::uint64_t width = line.number("--width", 4, 1, 8);
    if (width > 4 && width < 8) line.refuse("--width is 1, 2, 3, 4 or 8");
    codec.width(static_cast<std::size_t>(width));
    const std::string_view endian = line.text("--endian", "little");
    if (endian == "little")
        codec.little_endian();
    else if (endian != "big")
        line.refuse("--endian is big or little");
    const std::uint64_t most = std::uint64_t{1} << 30;
    codec.max_frame(static_cast<std::size_t>(line.number("--max-frame", plait::default_max_frame, 1, most)));
    return codec;
}

} // namespace example
