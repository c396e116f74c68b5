#pragma once
// The examples' command lines. A bad one prints what is wrong and the usage, and ends the program with 2.

#include <plait/plait.hpp>

#include <charconv>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

namespace example {

/// The words of a command line. Ask for options first, then for what stands alone, then call end().
class arguments {
  public:
    arguments(int count, char** words, const char* usage) : usage_(usage), words_(words + 1, words + count) {
        if (!flag("--help")) return;
        std::printf("usage: %s\n", usage_);
        std::exit(0);
    }

    /// Whether `name` is there.
    bool flag(std::string_view name) {
        return std::erase_if(words_, [name](std::string_view word) { return word == name; }) > 0;
    }

    /// The word behind `name`, or `otherwise`.
    std::string_view text(std::string_view name, std::string_view otherwise) {
        for (std::size_t i = 0; i < words_.size(); ++i) {
            if (words_[i] != name) continue;
            if (i + 1 == words_.size()) refuse(std::string(name) + " needs a value");
            const std::string_view value = words_[i + 1];
            const auto at = words_.begin() + static_cast<std::ptrdiff_t>(i);
            words_.erase(at, at + 2);
            return value;
        }
        return otherwise;
    }
    bool has(std::string_view name) const {
        for (std::string_view word : words_)
            if (word == name) return true;
        return false;
    }

    std::uint64_t number(std::string_view name, std::uint64_t otherwise, std::uint64_t least,
                         std::uint64_t most) {
        return has(name) ? to_number(name, text(name, ""), least, most) : otherwise;
    }

    /// The next word that stands alone.
    std::string_view word(const char* what) {
        if (words_.empty()) refuse(std::string(what) + " is missing");
        const std::string_view first = words_.front();
        words_.erase(words_.begin());
        return first;
    }

    /// --backend NAME
    plait::backend backend() {
        const std::string_view name = text("--backend", "automatic");
        using enum plait::backend;
        for (plait::backend each : {automatic, io_uring, epoll, iocp})
            if (name == plait::to_string(each)) return each;
        refuse("--backend: there is no \"" + std::string(name) + '"');
    }

    /// --threads NUMBER; 0: as many as the machine has cores
    std::size_t threads() { return static_cast<std::size_t>(number("--threads", 1, 0, 1024)); }

    /// --host ADDRESS --port NUMBER
    plait::endpoint local() {
        const std::string_view host = text("--host", "127.0.0.1");
        return to_endpoint(host, number("--port", 8000, 0, 65535));
    }

    /// HOST PORT: a name or an address, and a number
    struct peer_name {
        std::string host;
        std::string service;
        std::string to_string() const {
            return (host.find(':') == std::string::npos ? host : '[' + host + ']') + ':' + service;
        }
    };
    peer_name peer() {
        const std::string_view host = word("HOST");
        const std::uint64_t port = to_number("PORT", word("PORT"), 1, 65535);
        return {std::string(host), std::to_string(port)};
    }

    /// PATH, or @NAME for an abstract one
    plait::unix_path path() {
        const std::string_view name = word("PATH");
        const plait::unix_path made =
            name.starts_with('@') ? plait::unix_path::abstract(name.substr(1)) : plait::unix_path(name);
        if (made.is_unnamed()) refuse("PATH is empty");
        if (!made.valid()) refuse(made.to_string());
        return made;
    }

    /// Nothing may be left.
    void end() const {
        if (!words_.empty()) refuse("what is \"" + std::string(words_.front()) + "\"?");
    }

    [[noreturn]] void refuse(const std::string& why) const {
        std::fprintf(stderr, "%s\nusage: %s\n", why.c_str(), usage_);
        std::exit(2);
    }

  private:
    std::uint64_t to_number(std::string_view name, std::string_view digits, std::uint64_t least,
                            std::uint64_t most) const {
        std::uint64_t value = 0;
        const char* const end = digits.data() + digits.size();
        const auto [behind, error] = std::from_chars(digits.data(), end, value);
        if (error != std::errc() || behind != end || value < least || value > most)
            refuse(std::string(name) + ": \"" + std::string(digits) + "\" is not a number from " +
                   std::to_string(least) + " to " + std::to_string(most));
        return value;
    }
    plait::endpoint to_endpoint(std::string_view host, std::uint64_t port) const {
        const auto address = plait::ip_address::parse(host);
        if (!address) refuse(address.message());
        return {*address, static_cast<std::uint16_t>(port)};
    }

    const char* usage_;
    std::vector<std::string_view> words_;
};

} // namespace example
