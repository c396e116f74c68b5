#pragma once
/// Formatters for fmt. Who includes this links plait::fmt; nothing else of the library needs fmt.
///
///     fmt::print("{} connected\n", peer);                          // an endpoint: 127.0.0.1:8000
///     fmt::print("{}: {}\n", plait::errc::draining, received);     // an io_result: its value, or why not
///
/// Endpoints, addresses, paths and errors take the format of a string (`{:>21}`); results and `parsed` that of their
/// value's type, and show the error's message when there is none.

#include <plait/endpoint.hpp>
#include <plait/result.hpp>

#include <fmt/format.h>

#include <concepts>
#include <string_view>

/// What to_string() gives, with the format of a string: `{:>21}`.
template <class T>
requires(std::same_as<T, plait::ip_address> || std::same_as<T, plait::endpoint> ||
         std::same_as<T, plait::unix_path>) struct fmt::formatter<T> : fmt::formatter<std::string_view> {
    template <class Context>
    auto format(const T& value, Context& context) const {
        return fmt::formatter<std::string_view>::format(value.to_string(), context);
    }
};

/// The message of the error, with the format of a string.
template <>
struct fmt::formatter<plait::errc> : fmt::formatter<std::string_view> {
    template <class Context>
    auto format(plait::errc error, Context& context) const {
        return fmt::formatter<std::string_view>::format(plait::make_error_code(error).message(), context);
    }
};

/// The value, with the format of its type; or, as it is, the message of the error.
template <class T>
requires(fmt::is_formattable<T>::value) struct fmt::formatter<plait::io_result<T>> : fmt::formatter<T> {
    template <class Context>
    auto format(const plait::io_result<T>& result, Context& context) const {
        if (result) return fmt::formatter<T>::format(*result, context);
        return fmt::format_to(context.out(), "{}", result.error().message());
    }
};

/// "success", or the message of the error; with the format of a string.
template <>
struct fmt::formatter<plait::io_result<void>> : fmt::formatter<std::string_view> {
    template <class Context>
    auto format(const plait::io_result<void>& result, Context& context) const {
        using text = fmt::formatter<std::string_view>;
        return result ? text::format("success", context) : text::format(result.error().message(), context);
    }
};

/// The value, with the format of its type; or, as it is, the sentence about the text that could not be parsed.
template <class T>
requires(fmt::is_formattable<T>::value) struct fmt::formatter<plait::parsed<T>> : fmt::formatter<T> {
    template <class Context>
    auto format(const plait::parsed<T>& result, Context& context) const {
        if (result) return fmt::formatter<T>::format(*result, context);
        return fmt::format_to(context.out(), "{}", result.message());
    }
};
