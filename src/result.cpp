#include <plait/result.hpp>

#include <cstdio>
#include <cstdlib>
#include <string>

namespace plait::inline v1 {
namespace {

class plait_category final : public std::error_category {
  public:
    const char* name() const noexcept override { return "plait"; }

    std::string message(int value) const override {
        switch (static_cast<errc>(value)) {
        case errc::end_of_stream: return "end of stream";
        case errc::draining: return "draining: no further input is taken";
        case errc::canceled: return "canceled";
        case errc::timed_out: return "timed out";
        case errc::truncated_frame: return "the stream ended inside a frame";
        case errc::frame_too_large: return "frame too large";
        case errc::malformed_frame: return "malformed frame";
        case errc::closed: return "closed on this end";
        case errc::host_not_found: return "no such host";
        case errc::service_not_found: return "no such service: neither a known name nor a port up to 65535";
        case errc::invalid_name: return "not a host's name: empty, too long, or with a zero byte in it";
        case errc::lookup_unavailable: return "no name server answers at present";
        case errc::lookup_failed: return "the name server refuses to answer";
        }
        return "unknown plait error " + std::to_string(value);
    }

    std::error_condition default_error_condition(int value) const noexcept override {
        if (static_cast<errc>(value) == errc::canceled) return std::errc::operation_canceled;
        if (static_cast<errc>(value) == errc::invalid_name) return std::errc::invalid_argument;
        return {value, *this};
    }
};

} // namespace

const std::error_category& error_category() noexcept {
    // Never destroyed: results may outlive main(). Without memory for it there is no way on either.
    // NOLINTNEXTLINE(bugprone-unhandled-exception-at-new)
    static const plait_category& category = *new plait_category;
    return category;
}

namespace detail {

void assertion_failed(const char* condition, const char* advice, const char* file, int line) noexcept {
    std::fprintf(stderr, "plait: %s (%s, %s:%d)\n", advice, condition, file, line);
    std::abort();
}

void throw_error(const std::error_code& code) {
#if PLAIT_HAS_EXCEPTIONS
    throw std::system_error(code);
#else
    std::fprintf(stderr, "plait: value() of a result that holds an error: %s\n", code.message().c_str());
    std::abort();
#endif
}

void result_without_value() noexcept {
    std::fputs("plait: *result of a result that holds an error; test it with `if (result)` first\n", stderr);
    std::abort();
}

void result_without_error() noexcept {
    std::fputs("plait: an io_result was made from an error_code that says success\n", stderr);
    std::abort();
}

} // namespace detail
} // namespace plait::inline v1
