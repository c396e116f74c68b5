/// Socket activation: the protocol is sd_listen_fds(3).

#include <plait/activation.hpp>

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <optional>

namespace plait::inline v1 {
namespace {

constexpr int first_descriptor = 3;

std::optional<long> number_in(const char* variable) noexcept {
    const char* const text = std::getenv(variable);
    if (!text) return std::nullopt;
    const std::string_view digits(text);
    long value = 0;
    const auto [behind, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
    if (error != std::errc() || behind != digits.data() + digits.size()) return std::nullopt;
    return value;
}

} // namespace

std::vector<activated_listener> activated_listeners() {
    const std::optional<long> process = number_in("LISTEN_PID");
    const std::optional<long> count = number_in("LISTEN_FDS");
    const char* const variable = std::getenv("LISTEN_FDNAMES");
    const std::string names = variable ? variable : "";
    for (const char* each : {"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"}) ::unsetenv(each);

    std::vector<activated_listener> found;
    if (process != ::getpid() || !count) return found; // meant for another process, the parent perhaps
    std::size_t begin = 0;
    for (long i = 0; i < *count && i < 1024; ++i) {
        const int descriptor = first_descriptor + static_cast<int>(i);
        const std::size_t end = std::min(names.find(':', begin), names.size());
        std::string name = begin < names.size() ? names.substr(begin, end - begin) : std::string();
        begin = end + 1;
        const int flags = ::fcntl(descriptor, F_GETFD);
        if (flags < 0) continue; // there is none after all
        ::fcntl(descriptor, F_SETFD, flags | FD_CLOEXEC);
        found.emplace_back(descriptor, std::move(name));
    }
    return found;
}

} // namespace plait::inline v1
