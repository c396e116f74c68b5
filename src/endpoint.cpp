#include <plait/endpoint.hpp>

#include "platform/driver.hpp"

#include <algorithm>
#include <charconv>
#include <ostream>

namespace plait::inline v1 {
namespace {

std::error_code invalid_argument() { return std::make_error_code(std::errc::invalid_argument); }

std::string quoted(std::string_view text) { return '"' + std::string(text) + '"'; }

template <class T>
parsed<T> refuse(std::string_view text, const char* why) {
    return {invalid_argument(), quoted(text) + ": " + why};
}

} // namespace

parsed<ip_address> ip_address::parse(std::string_view text) {
    if (text.empty()) return refuse<ip_address>(text, "the address is missing");
    if (auto address = detail::parse_address(text)) return *address;
    return refuse<ip_address>(text, "not an IPv4 or IPv6 address");
}

bool ip_address::is_loopback() const noexcept {
    if (!v6_) return bytes_[0] == 127;
    return std::all_of(bytes_.begin(), bytes_.end() - 1, [](auto b) { return b == 0; }) && bytes_[15] == 1;
}

bool ip_address::is_unspecified() const noexcept {
    return std::all_of(bytes_.begin(), bytes_.end(), [](auto b) { return b == 0; });
}

bool ip_address::is_multicast() const noexcept {
    return v6_ ? bytes_[0] == 0xff : (bytes_[0] & 0xf0) == 0xe0;
}

std::string ip_address::to_string() const { return detail::print_address(*this); }

endpoint::endpoint(std::string_view address, std::uint16_t port) noexcept : port_(port) {
    if (auto parsed_address = detail::parse_address(address)) {
        address_ = *parsed_address;
        return;
    }
    const std::size_t kept = std::min(address.size(), bad_text_.size());
    std::copy_n(address.begin(), kept, bad_text_.begin());
    bad_text_size_ = static_cast<std::uint8_t>(std::max<std::size_t>(kept, 1));
}

parsed<endpoint> endpoint::parse(std::string_view text) {
    const std::size_t colon = text.rfind(':');
    const bool bracketed = !text.empty() && text.front() == '[';
    if (colon == std::string_view::npos || (bracketed && text.find(']') > colon))
        return refuse<endpoint>(text, "the port is missing; write ADDRESS:PORT");
    std::string_view host = text.substr(0, colon);
    const std::string_view digits = text.substr(colon + 1);
    if (bracketed) {
        if (host.back() != ']') return refuse<endpoint>(text, "text between \"]\" and the port");
        host = host.substr(1, host.size() - 2);
    } else if (host.find(':') != std::string_view::npos) {
        return refuse<endpoint>(text, "an IPv6 address stands in brackets: [ADDRESS]:PORT");
    }
    auto address = ip_address::parse(host);
    if (!address) return {invalid_argument(), quoted(text) + ": " + address.message()};
    if (bracketed && address->is_v4()) return refuse<endpoint>(text, "only IPv6 addresses stand in brackets");
    std::uint16_t port = 0;
    const auto [end, failure] = std::from_chars(digits.data(), digits.data() + digits.size(), port);
    if (digits.empty() || failure != std::errc() || end != digits.data() + digits.size())
        return refuse<endpoint>(text, "the port is not a number from 0 to 65535");
    return endpoint(*address, port);
}

std::string endpoint::to_string() const {
    if (!valid()) {
        const char* text = bad_text_.data();
        return "invalid address " + quoted(std::string_view(text, *text ? bad_text_size_ : 0));
    }
    const std::string host = address_.to_string();
    return (address_.is_v6() ? '[' + host + ']' : host) + ':' + std::to_string(port_);
}

void unix_path::set(std::string_view name, bool abstract) noexcept {
    size_ = static_cast<std::uint8_t>(std::min(name.size(), bytes_.size()));
    std::copy_n(name.begin(), size_, bytes_.begin());
    abstract_ = abstract;
    if (name.size() > longest)
        error_ = std::errc::filename_too_long;
    else if (!abstract && name.find('\0') != std::string_view::npos)
        error_ = std::errc::invalid_argument;
}

std::string unix_path::to_string() const {
    std::string text(name());
    std::replace(text.begin(), text.end(), '\0', '@');
    if (error_ == std::errc::filename_too_long) return "a path that is too long: " + quoted(text + "...");
    if (!valid()) return "a path with a zero byte: " + quoted(text);
    return abstract_ ? '@' + text : text;
}

std::ostream& operator<<(std::ostream& out, const ip_address& address) { return out << address.to_string(); }
std::ostream& operator<<(std::ostream& out, const endpoint& where) { return out << where.to_string(); }
std::ostream& operator<<(std::ostream& out, const unix_path& name) { return out << name.to_string(); }

} // namespace plait::inline v1
