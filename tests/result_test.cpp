#include <plait/result.hpp>

#include "support/tracked.hpp"

#include <catch2/catch_test_macros.hpp>

#include <any>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <system_error>
#include <type_traits>
#include <utility>
#include <vector>

using plait::errc;
using plait::io_result;
using support::tally;
using support::tracked;

namespace {

constexpr errc every_error[] = {errc::end_of_stream,   errc::draining,        errc::canceled,
                                errc::timed_out,       errc::truncated_frame, errc::frame_too_large,
                                errc::malformed_frame, errc::closed};

/// Neither copyable nor default-constructible.
struct ticket {
    explicit ticket(int n) : number(std::make_unique<int>(n)) {}
    std::unique_ptr<int> number;
};

static_assert(std::is_convertible_v<int, io_result<int>>, "a coroutine may co_return a value");
static_assert(std::is_convertible_v<errc, io_result<int>>, "and an error");
static_assert(!std::is_convertible_v<io_result<int>, bool>, "the test for success is explicit");
static_assert(std::is_copy_constructible_v<io_result<std::string>>);
static_assert(!std::is_copy_constructible_v<io_result<ticket>> &&
              std::is_move_constructible_v<io_result<ticket>>);
static_assert(!std::is_copy_assignable_v<io_result<ticket>> && std::is_move_assignable_v<io_result<ticket>>);
static_assert(std::is_nothrow_move_constructible_v<io_result<std::string>>);
static_assert(std::is_convertible_v<const char*, io_result<std::string>>, "a value of another type");
static_assert(!std::is_convertible_v<std::string, io_result<int>>);
static_assert(!std::is_convertible_v<io_result<int>, io_result<std::optional<int>>>, "a result is no value");
static_assert(std::is_same_v<plait::detail::as_io_result<int&>, io_result<std::reference_wrapper<int>>>);
static_assert(std::is_same_v<plait::detail::as_io_result<int>, io_result<int>>);
static_assert(std::is_same_v<plait::detail::as_io_result<io_result<int>>, io_result<int>>);

} // namespace

TEST_CASE("a result with a value is true, gives it, and has no error", "[result]") {
    io_result<std::string> result = std::string("hello");
    REQUIRE(result);
    CHECK(result.has_value());
    CHECK(*result == "hello");
    CHECK(result->size() == 5);
    CHECK(result.value() == "hello");
    CHECK_FALSE(result.error());
    CHECK(result.bytes() == 0);
    *result += "!";
    CHECK(std::as_const(result).value() == "hello!");
    CHECK(*std::as_const(result) == "hello!");
    CHECK(std::as_const(result)->back() == '!');
}

TEST_CASE("a result with an error is false and gives it", "[result]") {
    const io_result<int> own = errc::frame_too_large;
    CHECK_FALSE(own);
    CHECK_FALSE(own.has_value());
    CHECK(own.error() == errc::frame_too_large);
    CHECK(own.bytes() == 0);

    const io_result<int> systems = std::make_error_code(std::errc::connection_reset);
    CHECK_FALSE(systems);
    CHECK(systems.error() == std::errc::connection_reset);
    CHECK(systems.error() != errc::frame_too_large);
}

TEST_CASE("an error tells how many bytes had moved before it", "[result]") {
    const io_result<std::size_t> cut(errc::canceled, 17);
    CHECK_FALSE(cut);
    CHECK(cut.bytes() == 17);
    const io_result<std::string> other(std::make_error_code(std::errc::broken_pipe), 3);
    CHECK(other.bytes() == 3);
    const io_result<void> empty(errc::timed_out, 5);
    CHECK_FALSE(empty);
    CHECK(empty.bytes() == 5);
}

TEST_CASE("the bytes of a transfer are its value", "[result]") {
    const io_result<std::size_t> moved = std::size_t{1234};
    CHECK(*moved == 1234);
    CHECK(moved.bytes() == 1234);
}

TEST_CASE("a success can tell its bytes apart from its value", "[result]") {
    const io_result<std::string> result("text", 99);
    REQUIRE(result);
    CHECK(*result == "text");
    CHECK(result.bytes() == 99);
}

TEST_CASE("a result without a value succeeds or fails", "[result]") {
    const io_result<void> fine;
    REQUIRE(fine);
    CHECK(fine.has_value());
    CHECK_FALSE(fine.error());
    *fine;
    fine.value();

    const io_result<void> failed = errc::closed;
    CHECK_FALSE(failed);
    CHECK(failed.error() == errc::closed);
}

TEST_CASE("structured bindings give the error first and the value second", "[result]") {
    SECTION("of a success") {
        auto [error, value] = io_result<std::string>("yes");
        CHECK_FALSE(error);
        CHECK(value == "yes");
    }
    SECTION("of a failure the value is default-constructed") {
        auto [error, value] = io_result<std::string>(errc::end_of_stream);
        CHECK(error == errc::end_of_stream);
        CHECK(value.empty());
    }
    SECTION("by reference the result keeps its value") {
        const io_result<std::string> result = std::string("kept");
        const auto& [error, value] = result;
        CHECK_FALSE(error);
        CHECK(value == "kept");
        CHECK(*result == "kept");
    }
    SECTION("of a value that can only be moved") {
        auto [error, value] = io_result<std::unique_ptr<int>>(std::make_unique<int>(7));
        CHECK_FALSE(error);
        REQUIRE(value);
        CHECK(*value == 7);
    }
}

TEST_CASE("values that can only be moved, and not be made from nothing, travel in results", "[result]") {
    io_result<ticket> first = ticket(4);
    io_result<ticket> second = std::move(first);
    REQUIRE(second);
    CHECK(*second->number == 4);
    second = io_result<ticket>(errc::canceled);
    CHECK(second.error() == errc::canceled);
    second = ticket(5);
    ticket taken = *std::move(second);
    CHECK(*taken.number == 5);
    io_result<ticket> third = ticket(6);
    CHECK(*std::move(third).value().number == 6);
}

TEST_CASE("every value in a result is destroyed exactly once", "[result]") {
    tally counts;
    {
        io_result<tracked> one = tracked(counts, 1);
        io_result<tracked> copy = one;
        CHECK(counts.copies == 1);
        CHECK(copy->value == 1);
        CHECK(counts.live == 2);

        io_result<tracked> moved = std::move(one);
        CHECK(counts.copies == 1);
        CHECK(moved->value == 1);
        CHECK(counts.live == 3); // a value that was moved from is still one

        io_result<tracked> failed = errc::canceled;
        CHECK(counts.live == 3);

        SECTION("a value replaces an error") {
            failed = moved;
            REQUIRE(failed);
            CHECK(failed->value == 1);
            CHECK(counts.live == 4);
        }
        SECTION("an error replaces a value") {
            moved = failed;
            CHECK_FALSE(moved);
            CHECK(moved.error() == errc::canceled);
            CHECK(counts.live == 2);
        }
        SECTION("a value replaces a value") {
            copy = io_result<tracked>(tracked(counts, 2));
            CHECK(copy->value == 2);
            CHECK(counts.live == 3);
        }
        SECTION("an error replaces an error") {
            failed = io_result<tracked>(errc::timed_out, 3);
            CHECK(failed.error() == errc::timed_out);
            CHECK(failed.bytes() == 3);
        }
        SECTION("assigning a result to itself changes nothing") {
            auto& same = copy;
            copy = same;
            CHECK(copy->value == 1);
            copy = std::move(same);
            CHECK(copy->value == 1);
            CHECK(counts.live == 3);
        }
    }
    CHECK(counts.live == 0);
}

TEST_CASE("copies and moves keep the error and the bytes", "[result]") {
    tally counts;
    io_result<tracked> failed(errc::truncated_frame, 8);
    const io_result<tracked> copy = failed;
    const io_result<tracked> moved = std::move(failed);
    for (const auto* each : {&copy, &moved}) {
        CHECK(each->error() == errc::truncated_frame);
        CHECK(each->bytes() == 8);
    }
    CHECK(counts.copies + counts.moves == 0);
}

TEST_CASE("value_or gives the value, or what it was given", "[result]") {
    const io_result<std::string> value = std::string("mine");
    const io_result<std::string> error = errc::canceled;
    CHECK(value.value_or("yours") == "mine");
    CHECK(error.value_or("yours") == "yours");
    CHECK(io_result<std::unique_ptr<int>>(errc::canceled).value_or(nullptr) == nullptr);
}

#if PLAIT_HAS_EXCEPTIONS
TEST_CASE("value throws std::system_error with the error's code", "[result]") {
    io_result<int> failed = errc::end_of_stream;
    try {
        static_cast<void>(failed.value());
        FAIL("value() of an error returned");
    } catch (const std::system_error& thrown) {
        CHECK(thrown.code() == errc::end_of_stream);
    }
    CHECK_THROWS_AS(std::as_const(failed).value(), std::system_error);
    CHECK_THROWS_AS(std::move(failed).value(), std::system_error);
    CHECK_THROWS_AS(io_result<void>(errc::closed).value(), std::system_error);
    CHECK_NOTHROW(io_result<void>().value());
}
#endif

TEST_CASE("every error of the library is distinct, has a message, and names its category", "[result]") {
    std::set<std::string> messages;
    for (errc each : every_error) {
        const std::error_code code = each;
        CHECK(code);
        CHECK(code.category() == plait::error_category());
        CHECK(std::string(code.category().name()) == "plait");
        CHECK_FALSE(code.message().empty());
        messages.insert(code.message());
        for (errc other : every_error) CHECK((code == other) == (each == other));
    }
    CHECK(messages.size() == std::size(every_error));
    CHECK_FALSE(std::error_code(9999, plait::error_category()).message().empty());
}

TEST_CASE("canceled equals std::errc::operation_canceled and no other error equals it", "[result]") {
    for (errc each : every_error)
        CHECK((std::error_code(each) == std::errc::operation_canceled) == (each == errc::canceled));
}

TEST_CASE("the library's timed_out differs from the system's", "[result]") {
    CHECK(std::error_code(errc::timed_out) != std::errc::timed_out);
    CHECK(std::make_error_code(std::errc::timed_out) != errc::timed_out);
    CHECK(std::error_code(errc::end_of_stream) != std::errc::broken_pipe);
    // The numbers are small, so they must not be taken for errno values.
    for (errc each : every_error)
        CHECK(std::error_code(each) != std::error_code(static_cast<int>(each), std::generic_category()));
}

TEST_CASE("a result takes an error from a result of another type", "[result]") {
    const io_result<int> from(errc::draining, 4);
    const io_result<std::string> to(from.raw_status(), from.bytes());
    CHECK(to.error() == from.error());
    CHECK(to.bytes() == 4);
}

TEST_CASE("what converts to the value makes a result with it, and an error stays one", "[result]") {
    const io_result<std::string> text = "a literal";
    CHECK(*text == "a literal");
    const io_result<std::shared_ptr<const int>> shared = std::make_unique<int>(3);
    CHECK(**shared == 3);
    const io_result<std::any> none = errc::closed;
    CHECK(none.error() == errc::closed);
    const io_result<std::any> reset = std::make_error_code(std::errc::connection_reset);
    CHECK(reset.error() == std::errc::connection_reset);
    const io_result<std::any> some = 5;
    CHECK(std::any_cast<int>(*some) == 5);
}
