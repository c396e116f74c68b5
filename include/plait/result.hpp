#pragma once
/// What every operation returns: a value or an error code, and never an exception.
///
///     io_result<std::size_t> n = co_await stream.recv(buffer);
///     if (!n) report(n.error().message());
///     else    use(buffer.first(*n));
///
/// or `auto [error, value] = co_await stream.recv(buffer);` (with g++ 15 and 16: name the result first).

#include <plait/detail/config.hpp>
#include <plait/detail/slot.hpp>

#include <concepts>
#include <cstddef>
#include <memory>
#include <optional>
#include <system_error>
#include <tuple>
#include <type_traits>
#include <utility>

namespace plait::inline v1 {

/// The library's own errors. What the system reports (refused, reset, …) arrives as the `std::errc` of the
/// same meaning, on every platform.
enum class errc : int {
    end_of_stream = 1, ///< the peer sent all it had to send; nothing was cut
    draining = 2,      ///< request_drain() was called and nothing was waiting to be read or accepted
    canceled = 3,  ///< the scope was cancelled, or the context stopped; equals std::errc::operation_canceled
    timed_out = 4, ///< a timer of with_timeout or with_deadline fired; differs from std::errc::timed_out
    truncated_frame = 5,     ///< the stream ended inside a frame, or inside recv_exactly
    frame_too_large = 6,     ///< a frame claims, or was given, more than its codec allows
    malformed_frame = 7,     ///< a length that no frame can have, or a broken varint
    closed = 8,              ///< the channel, or the writing side, was closed on this end
    host_not_found = 9,      ///< resolve: there is no host of that name, or it has no address
    service_not_found = 10,  ///< resolve: neither a service that the system knows nor a number up to 65535
    invalid_name = 11,       ///< resolve: no host can be called that; equals std::errc::invalid_argument
    lookup_unavailable = 12, ///< resolve: no name server answers at present
    lookup_failed = 13,      ///< resolve: the name server refuses to answer
};

/// The category of `errc`; its name is "plait".
PLAIT_API const std::error_category& error_category() noexcept;

/// So that an `errc` converts to a std::error_code.
inline std::error_code make_error_code(errc e) noexcept { return {static_cast<int>(e), error_category()}; }

} // namespace plait::inline v1

template <>
struct std::is_error_code_enum<plait::errc> : std::true_type {};

namespace plait::inline v1 {

template <class T>
class io_result;

namespace detail {

/// An error as two plain words. Holding a std::error_code instead cost several per cent in small frames.
struct status {
    const std::error_category* category = nullptr; ///< nullptr: success
    int value = 0;

    constexpr status() noexcept = default;
    status(std::error_code code) noexcept
        : category(code ? &code.category() : nullptr), value(code.value()) {}
    status(errc e) noexcept : category(&error_category()), value(static_cast<int>(e)) {}

    constexpr bool ok() const noexcept { return category == nullptr; }
    bool is(errc e) const noexcept { return value == static_cast<int>(e) && category == &error_category(); }
    std::error_code code() const noexcept {
        return category ? std::error_code(value, *category) : std::error_code();
    }
};

/// Throws std::system_error(code); without exceptions prints it and aborts.
[[noreturn]] PLAIT_API void throw_error(const std::error_code& code);

template <class T>
inline constexpr bool is_io_result = false;
template <class T>
inline constexpr bool is_io_result<io_result<T>> = true;

/// What an io_result<T> is made of by another of its constructors.
template <class U, class T>
inline constexpr bool no_value_of =
    is_io_result<U> || std::is_same_v<U, T> || std::is_error_code_enum<U>::value ||
    std::is_same_v<U, std::error_code> || std::is_same_v<U, status>;

[[noreturn]] PLAIT_API void result_without_value() noexcept;
[[noreturn]] PLAIT_API void result_without_error() noexcept;

} // namespace detail

/// A `T`, or the `std::error_code` that stands in its place. Member names are those of std::expected.
///
/// `bytes()` is the number of bytes that were transferred in either case: after an error, what had moved before it.
template <class T>
class [[nodiscard]] io_result {
  public:
    /// As std::expected names them.
    using value_type = T;
    using error_type = std::error_code;

    /// A success. Implicit, so that a coroutine may `co_return value`.
    io_result(T value) noexcept(std::is_nothrow_move_constructible_v<T>) { emplace(std::move(value)); }

    /// The same of what converts to a `T`, as a literal does to a std::string. (An arithmetic `T` takes the constructor
    /// above, and with it the compiler's warning about a narrowing conversion.)
    template <class U>
    requires(std::convertible_to<U, T> && !std::is_arithmetic_v<T> &&
             !detail::no_value_of<std::remove_cvref_t<U>, T>) io_result(U&& value)
    noexcept(std::is_nothrow_constructible_v<T, U>) { emplace(std::forward<U>(value)); }

    /// A success that is told apart from the number of bytes that it moved.
    io_result(T value, std::size_t bytes) : bytes_(bytes) { emplace(std::move(value)); }

    /// A failure; `bytes` were transferred before it.
    io_result(errc e, std::size_t bytes = 0) noexcept : io_result(detail::status(e), bytes) {}
    io_result(std::error_code code, std::size_t bytes = 0) noexcept
        : io_result(detail::status(code), bytes) {}
    io_result(detail::status status, std::size_t bytes) noexcept : status_(status), bytes_(bytes) {
        if (status.ok()) detail::result_without_error();
    }

    io_result(const io_result& other) requires std::copy_constructible<T> : status_(other.status_),
                                                                            bytes_(other.bytes_) {
        if (other) emplace(other.value_);
    }
    io_result(io_result&& other) noexcept(std::is_nothrow_move_constructible_v<T>)
        : status_(other.status_), bytes_(other.bytes_) {
        if (other) emplace(std::move(other.value_));
    }
    io_result& operator=(const io_result& other) requires std::copy_constructible<T> {
        io_result copy(other);
        return *this = std::move(copy);
    }
    io_result& operator=(io_result&& other) noexcept(std::is_nothrow_move_constructible_v<T>) {
        if (this != &other) {
            destroy();
            status_ = other.status_;
            bytes_ = other.bytes_;
            if (other) emplace(std::move(other.value_));
        }
        return *this;
    }
    ~io_result() { destroy(); }

    /// Whether it holds a value.
    explicit operator bool() const noexcept { return status_.ok(); }
    bool has_value() const noexcept { return status_.ok(); }

    /// The value. Without one, an assertion.
    T& operator*() & noexcept { return checked(); }
    const T& operator*() const& noexcept { return const_cast<io_result*>(this)->checked(); }
    T&& operator*() && noexcept { return std::move(checked()); }
    T* operator->() noexcept { return std::addressof(checked()); }
    const T* operator->() const noexcept { return std::addressof(const_cast<io_result*>(this)->checked()); }

    /// The value; throws std::system_error when there is an error.
    T& value() & {
        if (!status_.ok()) detail::throw_error(error());
        return value_;
    }
    const T& value() const& { return const_cast<io_result*>(this)->value(); }
    T&& value() && { return std::move(value()); }

    /// The value, or `other` in its place.
    template <class U>
    T value_or(U&& other) const& {
        return has_value() ? value_ : static_cast<T>(std::forward<U>(other));
    }
    template <class U>
    T value_or(U&& other) && {
        return has_value() ? std::move(value_) : static_cast<T>(std::forward<U>(other));
    }

    /// The error; a default-constructed code (no error) when there is a value.
    std::error_code error() const noexcept { return status_.code(); }

    /// Bytes transferred: with the value, or before the error.
    std::size_t bytes() const noexcept {
        if constexpr (std::same_as<T, std::size_t>)
            if (status_.ok()) return value_;
        return bytes_;
    }

    // For the library: the error, cheaper to hand on.
    detail::status raw_status() const noexcept { return status_; }

  private:
    template <class... A>
    void emplace(A&&... a) {
        std::construct_at(std::addressof(value_), std::forward<A>(a)...);
    }
    void destroy() noexcept {
        if (status_.ok()) std::destroy_at(std::addressof(value_));
    }
    T& checked() noexcept {
        if (!status_.ok()) detail::result_without_value();
        return value_;
    }

    detail::status status_;
    std::size_t bytes_ = 0;
    union {
        T value_;
    };
};

/// Success or an error, for operations without a value.
template <>
class [[nodiscard]] io_result<void> {
  public:
    /// As std::expected names them.
    using value_type = void;
    using error_type = std::error_code;

    /// A success.
    io_result() noexcept = default;
    /// A failure; `bytes` were transferred before it.
    io_result(errc e, std::size_t bytes = 0) noexcept : status_(e), bytes_(bytes) {}
    io_result(std::error_code code, std::size_t bytes = 0) noexcept : status_(code), bytes_(bytes) {}
    io_result(detail::status status, std::size_t bytes) noexcept : status_(status), bytes_(bytes) {}

    /// Whether it is a success.
    explicit operator bool() const noexcept { return status_.ok(); }
    bool has_value() const noexcept { return status_.ok(); }
    /// Without a success, an assertion.
    void operator*() const noexcept {
        if (!status_.ok()) detail::result_without_value();
    }
    /// Throws std::system_error when there is an error.
    void value() const {
        if (!status_.ok()) detail::throw_error(error());
    }
    /// The error; no error when it is a success.
    std::error_code error() const noexcept { return status_.code(); }
    /// Bytes transferred, also before an error.
    std::size_t bytes() const noexcept { return bytes_; }
    // For the library: the error, cheaper to hand on.
    detail::status raw_status() const noexcept { return status_; }

  private:
    detail::status status_;
    std::size_t bytes_ = 0;
};

namespace detail {

/// io_result<T> for a T, and for an io_result<T> alike: results are never nested.
template <class T>
using as_io_result =
    std::conditional_t<is_io_result<T>, T,
                       std::conditional_t<std::is_reference_v<T>, io_result<regular<T>>, io_result<T>>>;

} // namespace detail

/// `auto [error, value] = result;`: the value is default-constructed when there is an error.
template <std::size_t I, class T>
auto get(io_result<T>&& result) {
    if constexpr (I == 0)
        return result.error();
    else
        return result ? T(std::move(*result)) : T();
}
template <std::size_t I, class T>
auto get(const io_result<T>& result) {
    if constexpr (I == 0)
        return result.error();
    else
        return result ? T(*result) : T();
}

} // namespace plait::inline v1

template <class T>
requires(!std::is_void_v<T>) struct std::tuple_size<plait::io_result<T>>
    : std::integral_constant<std::size_t, 2> {
};
template <class T>
struct std::tuple_element<0, plait::io_result<T>> {
    using type = std::error_code;
};
template <class T>
requires(!std::is_void_v<T>) struct std::tuple_element<1, plait::io_result<T>> {
    using type = T;
};
