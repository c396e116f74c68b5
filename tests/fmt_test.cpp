#include <plait/fmt.hpp>

#include <catch2/catch_test_macros.hpp>

#include <iterator>
#include <string>
#include <system_error>

using plait::endpoint;
using plait::errc;
using plait::io_result;
using plait::ip_address;

TEST_CASE("addresses and endpoints are formatted as they print themselves", "[fmt]") {
    const endpoint v4{"127.0.0.1", 8000}, v6{"::1", 80}, bad{"nowhere", 1};
    CHECK(fmt::format("{}", v4) == "127.0.0.1:8000");
    CHECK(fmt::format("{}", v6) == "[::1]:80");
    CHECK(fmt::format("{}", bad) == bad.to_string());
    CHECK(fmt::format("{} {}", v4.address(), v6.address()) == "127.0.0.1 ::1");
    CHECK(fmt::format("{}", ip_address()) == "0.0.0.0");
    CHECK(fmt::format("{} {}", plait::unix_path("/run/a"), plait::unix_path::abstract("b")) == "/run/a @b");
}

TEST_CASE("addresses and endpoints take the format of a string", "[fmt]") {
    const endpoint where{"10.0.0.1", 9};
    CHECK(fmt::format("[{:>12}]", where) == "[  10.0.0.1:9]");
    CHECK(fmt::format("[{:*<12}]", where) == "[10.0.0.1:9**]");
    CHECK(fmt::format("[{:.4}]", where) == "[10.0]");
    CHECK(fmt::format("[{:^10}]", where.address()) == "[ 10.0.0.1 ]");
}

TEST_CASE("an error is formatted as its message", "[fmt]") {
    for (errc e : {errc::end_of_stream, errc::draining, errc::canceled, errc::timed_out,
                   errc::truncated_frame, errc::frame_too_large, errc::malformed_frame, errc::closed})
        CHECK(fmt::format("{}", e) == plait::make_error_code(e).message());
    CHECK(fmt::format("{:.3}", errc::draining).size() == 3);
}

TEST_CASE("a result is formatted as its value, with the format of its type, or as the error's message",
          "[fmt]") {
    const io_result<int> number = 42;
    const io_result<int> failed = errc::canceled;
    CHECK(fmt::format("{}", number) == "42");
    CHECK(fmt::format("{:#06x}", number) == "0x002a");
    CHECK(fmt::format("{}", failed) == plait::make_error_code(errc::canceled).message());
    CHECK(fmt::format("{:#06x}", failed) == plait::make_error_code(errc::canceled).message());

    const io_result<std::string> text = std::string("text");
    CHECK(fmt::format("{:>6}", text) == "  text");
    const io_result<endpoint> where = endpoint("::1", 1);
    CHECK(fmt::format("{}", where) == "[::1]:1");

    const std::error_code refused = std::make_error_code(std::errc::connection_refused);
    const io_result<std::size_t> refused_result = refused;
    CHECK(fmt::format("{}", refused_result) == refused.message());
}

TEST_CASE("a result without a value is formatted as success or as the error's message", "[fmt]") {
    const io_result<void> fine;
    const io_result<void> failed = errc::timed_out;
    CHECK(fmt::format("{}", fine) == "success");
    CHECK(fmt::format("{}", failed) == plait::make_error_code(errc::timed_out).message());
    CHECK(fmt::format("{:>9}", fine) == "  success");
}

TEST_CASE("parsed text is formatted as its value or as what is wrong with it", "[fmt]") {
    const auto good = endpoint::parse("1.2.3.4:5");
    const auto bad = endpoint::parse("1.2.3.4:port");
    CHECK(fmt::format("{}", good) == "1.2.3.4:5");
    CHECK(fmt::format("{}", bad) == bad.message());
    CHECK(fmt::format("{}", ip_address::parse("::1")) == "::1");
}

TEST_CASE("the formatters write to any output", "[fmt]") {
    std::string text;
    fmt::format_to(std::back_inserter(text), "{}", endpoint("127.0.0.1", 1));
    fmt::memory_buffer buffer;
    fmt::format_to(std::back_inserter(buffer), "{}", io_result<int>(7));
    CHECK(text == "127.0.0.1:1");
    CHECK(fmt::to_string(buffer) == "7");
}

TEST_CASE("a result of something that cannot be formatted cannot be formatted either", "[fmt]") {
    struct opaque {};
    STATIC_CHECK(fmt::is_formattable<io_result<int>>::value);
    STATIC_CHECK_FALSE(fmt::is_formattable<io_result<opaque>>::value);
}
