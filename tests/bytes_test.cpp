#include <plait/bytes.hpp>

#include <catch2/catch_test_macros.hpp>

#include <string_view>

using namespace std::string_view_literals;

TEST_CASE("text and bytes are views of each other", "[bytes]") {
    const std::string_view text = "a\0b"sv;
    CHECK(plait::as_text(plait::as_bytes(text)) == text);
    CHECK(plait::as_bytes(text).data() == static_cast<const void*>(text.data()));
    CHECK(plait::as_bytes("hi").size() == 2);
    CHECK(plait::as_text({}).empty());
}
