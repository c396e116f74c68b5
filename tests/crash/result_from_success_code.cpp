// expect: plait: an io_result was made from an error_code that says success
#include <plait/result.hpp>

int main() {
    const plait::io_result<int> neither = std::error_code();
    return neither ? 0 : 1;
}
