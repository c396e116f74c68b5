// Listeners that a supervisor passes: what the environment says of them. activation_test.py starts programs with some.

#include <plait/activation.hpp>

#include <catch2/catch_test_macros.hpp>

TEST_CASE("a process that was started with no listeners finds none, also when asked again", "[activation]") {
    CHECK(plait::activated_listeners().empty());
    CHECK(plait::activated_listeners().empty());
}

TEST_CASE("an activated listener is a handle with a name", "[activation]") {
    const plait::activated_listener listener(3, "web");
    CHECK(listener.native_handle() == 3);
    CHECK(listener.name() == "web");
}
