#include <plait/endpoint.hpp>

#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <set>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

using plait::endpoint;
using plait::ip_address;
using plait::unix_path;
using namespace std::string_literals;
using namespace std::string_view_literals;

namespace {

std::string quoted(std::string_view text) { return '"' + std::string(text) + '"'; }

} // namespace

TEST_CASE("addresses are printed as they are parsed", "[endpoint]") {
    for (const char* text :
         {"0.0.0.0", "127.0.0.1", "255.255.255.255", "192.168.0.10", "::", "::1", "2001:db8::1", "fe80::1",
          "ff02::1", "2001:db8:1:2:3:4:5:6", "::ffff:10.0.0.1"}) {
        INFO(text);
        const auto address = ip_address::parse(text);
        REQUIRE(address);
        CHECK(address.message().empty());
        CHECK(address->to_string() == text);
    }
}

TEST_CASE("an IPv6 address is printed in its short form", "[endpoint]") {
    const auto address = ip_address::parse("2001:0DB8:0000:0000:0000:0000:0000:0001");
    REQUIRE(address);
    CHECK(address->to_string() == "2001:db8::1");
    CHECK(*address == *ip_address::parse("2001:db8::1"));
}

TEST_CASE("an address holds its octets in network order", "[endpoint]") {
    const auto v4 = ip_address::parse("1.2.3.4").value();
    CHECK(v4.is_v4());
    CHECK_FALSE(v4.is_v6());
    CHECK(v4 == ip_address::v4({1, 2, 3, 4}));
    CHECK(v4.octets()[0] == 1);
    CHECK(v4.octets()[3] == 4);

    const auto v6 = ip_address::parse("2001:db8::ff").value();
    CHECK(v6.is_v6());
    CHECK(v6.octets()[0] == 0x20);
    CHECK(v6.octets()[15] == 0xff);
    CHECK(v6.scope() == 0);
}

TEST_CASE("a link-local address keeps its scope", "[endpoint]") {
    const auto address = ip_address::parse("fe80::1%1");
    REQUIRE(address);
    CHECK(address->scope() == 1);
    CHECK(*address != *ip_address::parse("fe80::1"));
    // Printed with the interface's name where it has one; that is read back as the same.
    const auto again = ip_address::parse(address->to_string());
    REQUIRE(again);
    CHECK(*again == *address);

    const auto unnamed = ip_address::v6(address->octets(), 4'000'000'000);
    CHECK(unnamed.to_string() == "fe80::1%4000000000");
    CHECK(ip_address::parse(unnamed.to_string()).value() == unnamed);
}

TEST_CASE("addresses know whether they are loopback, unspecified or multicast", "[endpoint]") {
    const auto of = [](const char* text) { return ip_address::parse(text).value(); };
    CHECK(of("127.0.0.1").is_loopback());
    CHECK(of("127.9.9.9").is_loopback());
    CHECK(of("::1").is_loopback());
    CHECK_FALSE(of("128.0.0.1").is_loopback());
    CHECK_FALSE(of("::2").is_loopback());
    CHECK_FALSE(of("::1:1").is_loopback());
    CHECK(of("0.0.0.0").is_unspecified());
    CHECK(of("::").is_unspecified());
    CHECK_FALSE(of("::1").is_unspecified());
    CHECK(of("224.0.0.1").is_multicast());
    CHECK(of("239.255.255.255").is_multicast());
    CHECK(of("ff02::1").is_multicast());
    CHECK_FALSE(of("240.0.0.1").is_multicast());
    CHECK_FALSE(of("fe80::1").is_multicast());
    CHECK(ip_address() == of("0.0.0.0"));
}

TEST_CASE("text that is no address is refused, and the message quotes it", "[endpoint]") {
    for (std::string_view text :
         {""sv,
          "localhost"sv,
          "1.2.3"sv,
          "1.2.3.4.5"sv,
          "256.0.0.1"sv,
          "1.2.3.-4"sv,
          " 1.2.3.4"sv,
          "1.2.3.4 "sv,
          "1.2.3.4%1"sv,
          "0x7f.0.0.1"sv,
          "127.0.0.01"sv,
          "1.2.3.4\0"sv,
          ":"sv,
          ":::"sv,
          "1::2::3"sv,
          "g::1"sv,
          "12345::"sv,
          "1:2:3:4:5:6:7"sv,
          "1:2:3:4:5:6:7:8:9"sv,
          "[::1]"sv,
          "::1%"sv,
          "fe80::1%no-such-link"sv,
          "fe80::1%0"sv,
          "fe80::1%1x"sv,
          "fe80::1%-1"sv,
          "fe80::1%99999999999"sv,
          "fe80::1% 1"sv,
          "1111111111111111111111111111111111111111111111111111111111111111111111111111111111"sv}) {
        INFO(text);
        const auto address = ip_address::parse(text);
        CHECK_FALSE(address);
        CHECK(address.error() == std::errc::invalid_argument);
        CHECK(address.message().find(quoted(text)) != std::string::npos);
    }
}

TEST_CASE("endpoints are printed as they are parsed", "[endpoint]") {
    for (const char* text : {"1.2.3.4:80", "0.0.0.0:0", "127.0.0.1:65535", "[::1]:80", "[::]:0",
                             "[2001:db8::1]:443", "[::ffff:10.0.0.1]:9"}) {
        INFO(text);
        const auto where = endpoint::parse(text);
        REQUIRE(where);
        CHECK(where->valid());
        CHECK(where->to_string() == text);
        CHECK(endpoint::parse(where->to_string()).value() == *where);
    }
}

TEST_CASE("an endpoint keeps the scope of its address", "[endpoint]") {
    const auto where = endpoint::parse("[fe80::1%1]:8000");
    REQUIRE(where);
    CHECK(where->address().scope() == 1);
    CHECK(where->port() == 8000);
    CHECK(endpoint::parse(where->to_string()).value() == *where);
}

TEST_CASE("text that is no endpoint is refused, and the message quotes it and says why", "[endpoint]") {
    struct refusal {
        std::string_view text;
        std::string_view why;
    };
    for (const refusal& each : {
             refusal{"", "port is missing"},
             {"1.2.3.4", "port is missing"},
             {"[::1]", "port is missing"},
             {"localhost", "port is missing"},
             {"1.2.3.4:", "port is not a number"},
             {"1.2.3.4:http", "port is not a number"},
             {"1.2.3.4:65536", "port is not a number"},
             {"1.2.3.4:99999999999999999999", "port is not a number"},
             {"1.2.3.4:-1", "port is not a number"},
             {"1.2.3.4:+1", "port is not a number"},
             {"1.2.3.4: 80", "port is not a number"},
             {"1.2.3.4:80 ", "port is not a number"},
             {"1.2.3.4:0x50", "port is not a number"},
             {"[::1]:", "port is not a number"},
             {":80", "address is missing"},
             {"[]:80", "address is missing"},
             {"localhost:80", "not an IPv4 or IPv6 address"},
             {"1.2.3:80", "not an IPv4 or IPv6 address"},
             {"[::1::]:80", "not an IPv4 or IPv6 address"},
             {"[[::1]]:80", "not an IPv4 or IPv6 address"},
             {"::1:80", "brackets"},
             {"2001:db8::1:80", "brackets"},
             {"[1.2.3.4]:80", "only IPv6"},
             {"[::1]x:80", "between"},
         }) {
        INFO(each.text);
        const auto where = endpoint::parse(each.text);
        CHECK_FALSE(where);
        CHECK(where.error() == std::errc::invalid_argument);
        INFO(where.message());
        CHECK(where.message().find(quoted(each.text)) != std::string::npos);
        CHECK(where.message().find(each.why) != std::string::npos);
    }
}

TEST_CASE("an endpoint is made from a literal address", "[endpoint]") {
    const endpoint v4{"127.0.0.1", 8000};
    CHECK(v4.valid());
    CHECK(v4.address().is_loopback());
    CHECK(v4.port() == 8000);
    CHECK(v4.to_string() == "127.0.0.1:8000");

    const endpoint v6{"::1", 8000};
    CHECK(v6.valid());
    CHECK(v6.address().is_v6());
    CHECK(v6.to_string() == "[::1]:8000");

    CHECK(endpoint(v4.address(), 8000) == v4);
    CHECK(endpoint() == endpoint("0.0.0.0", 0));
}

TEST_CASE("a literal that is no address makes an invalid endpoint that shows it", "[endpoint]") {
    for (std::string_view text : {"localhost"sv, "300.1.1.1"sv, "[::1]"sv, "127.0.0.1:80"sv, " "sv}) {
        INFO(text);
        const endpoint where{text, 80};
        CHECK_FALSE(where.valid());
        CHECK(where.to_string().find(quoted(text)) != std::string::npos);
    }
    CHECK_FALSE(endpoint("", 80).valid());
    CHECK(endpoint("", 80).to_string().find("\"\"") != std::string::npos);

    const std::string longest(300, 'x');
    const endpoint cut{longest, 80};
    CHECK_FALSE(cut.valid());
    CHECK(cut.to_string().find("xxxx") != std::string::npos);
}

TEST_CASE("endpoints are ordered by address and port", "[endpoint]") {
    const std::vector<endpoint> sorted{{"1.2.3.4", 80},  {"1.2.3.4", 81}, {"1.2.3.5", 1},
                                       {"200.0.0.0", 0}, {"::1", 1},      {"2001:db8::1", 1}};
    std::set<endpoint> unique(sorted.rbegin(), sorted.rend());
    CHECK(std::equal(unique.begin(), unique.end(), sorted.begin(), sorted.end()));
    CHECK(endpoint("1.2.3.4", 80) != endpoint("1.2.3.4", 81));
    CHECK(endpoint("127.0.0.1", 80) != endpoint("::ffff:127.0.0.1", 80));
    CHECK(endpoint("bad", 80) != endpoint("worse", 80));
    CHECK(endpoint("bad", 80) == endpoint("bad", 80));
}

TEST_CASE("addresses and endpoints are written to streams", "[endpoint]") {
    std::ostringstream out;
    out << endpoint("::1", 80) << ' ' << ip_address::v4({10, 0, 0, 1});
    CHECK(out.str() == "[::1]:80 10.0.0.1");
}

TEST_CASE("a parsed value is used like a result", "[endpoint]") {
    const auto good = endpoint::parse("1.2.3.4:5");
    CHECK(good.has_value());
    CHECK((*good).port() == 5);
    CHECK(good.value().port() == 5);
    CHECK(good.value_or(endpoint()).port() == 5);
    CHECK_FALSE(good.error());

    const auto bad = endpoint::parse("nonsense");
    CHECK_FALSE(bad.has_value());
    CHECK(bad.value_or(endpoint("::1", 6)).port() == 6);
#if PLAIT_HAS_EXCEPTIONS
    CHECK_THROWS_AS(bad.value(), std::system_error);
#endif
}

// --- names of Unix sockets ------------------------------------------------------------------------------------------

TEST_CASE("a unix_path is made of any text, and keeps it", "[endpoint]") {
    for (const unix_path& path :
         {unix_path("/tmp/a.sock"), unix_path("/tmp/a.sock"s), unix_path("/tmp/a.sock"sv)}) {
        CHECK(path.valid());
        CHECK_FALSE(path.error());
        CHECK_FALSE(path.is_abstract());
        CHECK_FALSE(path.is_unnamed());
        CHECK(path.name() == "/tmp/a.sock");
        CHECK(path.to_string() == "/tmp/a.sock");
        CHECK(path == unix_path("/tmp/a.sock"));
    }
    CHECK(unix_path("a") != unix_path("b"));
    CHECK(unix_path("a") < unix_path("b"));
}

TEST_CASE("no name, and names in the abstract namespace, are told apart from paths", "[endpoint]") {
    CHECK(unix_path().is_unnamed());
    CHECK(unix_path() == unix_path(""));
    CHECK(unix_path().to_string().empty());
    const unix_path hidden = unix_path::abstract("in\0side"sv);
    CHECK(hidden.valid());
    CHECK(hidden.is_abstract());
    CHECK_FALSE(hidden.is_unnamed());
    CHECK(hidden.name() == "in\0side"sv);
    CHECK(hidden.to_string() == "@in@side");
    CHECK(unix_path::abstract("a") != unix_path("a"));
    CHECK_FALSE(unix_path::abstract("").is_unnamed());
}

TEST_CASE("a path that is too long is an invalid one, which shows its beginning", "[endpoint]") {
    const std::string longest(unix_path::longest, 'x');
    CHECK(unix_path(longest).valid());
    CHECK(unix_path(longest).name() == longest);
    CHECK(unix_path::abstract(longest).valid());
    for (const unix_path& bad : {unix_path(longest + 'y'), unix_path::abstract(longest + 'y'),
                                 unix_path(std::string(100'000, 'x'))}) {
        CHECK_FALSE(bad.valid());
        CHECK(bad.error() == std::errc::filename_too_long);
        CHECK_FALSE(bad.is_unnamed());
        CHECK(bad.to_string().find(longest) != std::string::npos);
        CHECK(bad != unix_path(longest));
    }
}

TEST_CASE("a path with a zero byte is an invalid one", "[endpoint]") {
    const unix_path bad("a\0b"sv);
    CHECK_FALSE(bad.valid());
    CHECK(bad.error() == std::errc::invalid_argument);
    CHECK(bad.to_string() == "a path with a zero byte: \"a@b\"");
}

TEST_CASE("the names of Unix sockets are written to streams", "[endpoint]") {
    std::ostringstream out;
    out << unix_path("/run/a") << ' ' << unix_path::abstract("b");
    CHECK(out.str() == "/run/a @b");
}
