#pragma once
/// IP addresses, endpoints and the names of Unix sockets: made from text, parsed, compared and printed.
///
///     plait::endpoint local{"127.0.0.1", 8000};
///     plait::unix_path service = "/run/service.sock";
///     auto peer = plait::endpoint::parse("[::1]:80");
///     if (!peer) std::puts(peer.message().c_str());

#include <plait/result.hpp>

#include <array>
#include <compare>
#include <cstdint>
#include <iosfwd>
#include <string>
#include <string_view>
#include <system_error>
#include <type_traits>

namespace plait::inline v1 {

/// A value, or an error whose message quotes the text that could not be parsed.
template <class T>
class [[nodiscard]] parsed {
  public:
    /// A value.
    parsed(T value) : value_(std::move(value)) {}
    /// What is wrong, and a sentence with the text.
    parsed(std::error_code code, std::string message) : error_(code), message_(std::move(message)) {}

    /// Whether it holds a value.
    explicit operator bool() const noexcept { return !error_; }
    bool has_value() const noexcept { return !error_; }
    /// The value. Without one, an assertion.
    const T& operator*() const noexcept {
        PLAIT_ASSERT(!error_, "*parsed of text that could not be parsed; test it with `if (result)` first");
        return value_;
    }
    const T* operator->() const noexcept { return &**this; }
    /// Throws std::system_error when there is an error.
    const T& value() const {
        if (error_) detail::throw_error(error_);
        return value_;
    }
    /// The value, or `other` in its place.
    T value_or(T other) const { return error_ ? std::move(other) : value_; }
    /// The error; no error when there is a value.
    std::error_code error() const noexcept { return error_; }
    /// What is wrong with which text; empty when there is a value.
    const std::string& message() const noexcept { return message_; }

  private:
    T value_{};
    std::error_code error_;
    std::string message_;
};

/// An IPv4 or IPv6 address, the latter with its scope (the interface of a link-local address).
class PLAIT_API ip_address {
  public:
    /// 0.0.0.0
    constexpr ip_address() noexcept = default;

    /// From its 4 or 16 bytes in network order; a link-local IPv6 address with its interface's index.
    static constexpr ip_address v4(std::array<std::uint8_t, 4> octets) noexcept {
        ip_address address;
        for (std::size_t i = 0; i < 4; ++i) address.bytes_[i] = octets[i];
        return address;
    }
    static constexpr ip_address v6(std::array<std::uint8_t, 16> octets, std::uint32_t scope = 0) noexcept {
        ip_address address;
        address.bytes_ = octets;
        address.scope_ = scope;
        address.v6_ = true;
        return address;
    }
    /// "127.0.0.1", "::1", "fe80::1%eth0"; without brackets and without a port.
    static parsed<ip_address> parse(std::string_view text);

    /// IPv4 or IPv6.
    constexpr bool is_v4() const noexcept { return !v6_; }
    constexpr bool is_v6() const noexcept { return v6_; }
    /// 127.0.0.0/8 or ::1.
    bool is_loopback() const noexcept;
    /// 0.0.0.0 or ::, which listeners take for every address of the machine.
    bool is_unspecified() const noexcept;
    /// 224.0.0.0/4 or ff00::/8.
    bool is_multicast() const noexcept;
    /// In network order; the first 4 for IPv4, all 16 for IPv6.
    constexpr const std::array<std::uint8_t, 16>& octets() const noexcept { return bytes_; }
    /// The index of a link-local IPv6 address' interface; otherwise 0.
    constexpr std::uint32_t scope() const noexcept { return scope_; }

    /// What parse() reads; IPv6 as RFC 5952 says.
    std::string to_string() const;

    friend constexpr bool operator==(const ip_address&, const ip_address&) noexcept = default;
    friend constexpr auto operator<=>(const ip_address&, const ip_address&) noexcept = default;

  private:
    bool v6_ = false;
    std::array<std::uint8_t, 16> bytes_{};
    std::uint32_t scope_ = 0;
};

/// An address and a port.
class PLAIT_API endpoint {
  public:
    /// 0.0.0.0:0
    constexpr endpoint() noexcept = default;
    /// Of an address and a port in the machine's byte order.
    constexpr endpoint(const ip_address& address, std::uint16_t port) noexcept
        : address_(address), port_(port) {}

    /// A literal address. One that is none makes an invalid endpoint, which `bind` and `connect` answer with
    /// std::errc::invalid_argument, and which to_string() shows as such.
    endpoint(std::string_view address, std::uint16_t port) noexcept;

    /// "1.2.3.4:80" or "[::1]:80". The error's message quotes `text` and says what is wrong.
    static parsed<endpoint> parse(std::string_view text);

    /// False: it was made from a text that is no address.
    constexpr bool valid() const noexcept { return bad_text_size_ == 0; }
    /// Its two parts.
    constexpr const ip_address& address() const noexcept { return address_; }
    constexpr std::uint16_t port() const noexcept { return port_; }

    /// What parse() reads; for an invalid endpoint a sentence with the text that it was made from.
    std::string to_string() const;

    friend bool operator==(const endpoint&, const endpoint&) noexcept = default;
    friend auto operator<=>(const endpoint&, const endpoint&) noexcept = default;

  private:
    ip_address address_;
    std::uint16_t port_ = 0;
    std::uint8_t bad_text_size_ = 0; ///< 0: valid; otherwise how much of the bad text is kept
    std::array<char, 45> bad_text_{};
};

/// The name of a Unix socket: a path, on Linux also a name in the abstract namespace, or none at all. unix(7).
class PLAIT_API unix_path {
  public:
    /// What a path or an abstract name may have, bytes.
    static constexpr std::size_t longest = 107;

    /// No name: what a socket has that was never bound.
    constexpr unix_path() noexcept = default;

    /// A path. One that is too long, or holds a zero byte, makes an invalid unix_path, which `bind` and `connect`
    /// answer with error(), and which to_string() shows as such.
    template <class T>
    requires std::is_convertible_v<const T&, std::string_view> unix_path(const T& path)
    noexcept { set(path, false); }

    /// A name that needs no file and is gone with its last socket. Linux only; elsewhere `bind` and `connect` fail.
    /// Any bytes will do.
    static unix_path abstract(std::string_view name) noexcept {
        unix_path made;
        made.set(name, true);
        return made;
    }

    /// False: it was made from a text that is no path.
    constexpr bool valid() const noexcept { return error_ == std::errc(); }
    /// std::errc::filename_too_long or invalid_argument; no error for a valid one.
    std::error_code error() const noexcept {
        return valid() ? std::error_code() : std::make_error_code(error_);
    }
    /// In Linux' abstract namespace.
    constexpr bool is_abstract() const noexcept { return abstract_; }
    /// No name at all.
    constexpr bool is_unnamed() const noexcept { return size_ == 0 && !abstract_ && valid(); }
    /// The path, or the abstract name, as it is; of one that is too long its beginning.
    std::string_view name() const noexcept { return {bytes_.data(), size_}; }

    /// The path; '@' and the name of an abstract one, whose zero bytes are shown as '@', too; "" for none; for an
    /// invalid one a sentence.
    std::string to_string() const;

    friend bool operator==(const unix_path&, const unix_path&) noexcept = default;
    friend auto operator<=>(const unix_path&, const unix_path&) noexcept = default;

  private:
    void set(std::string_view name, bool abstract) noexcept;

    std::array<char, longest> bytes_{};
    std::uint8_t size_ = 0;
    bool abstract_ = false;
    std::errc error_{};
};

PLAIT_API std::ostream& operator<<(std::ostream& out, const ip_address& address);
PLAIT_API std::ostream& operator<<(std::ostream& out, const endpoint& where);
PLAIT_API std::ostream& operator<<(std::ostream& out, const unix_path& name);

} // namespace plait::inline v1
