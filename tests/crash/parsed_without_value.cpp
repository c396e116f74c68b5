// expect: plait: \*parsed of text that could not be parsed
#include <plait/endpoint.hpp>

int main() {
    const auto where = plait::endpoint::parse("localhost");
    return where->port();
}
