// expect: plait: \*result of a result that holds an error; test it with `if \(result\)` first
#include <plait/result.hpp>

int main() {
    const plait::io_result<int> failed = plait::errc::canceled;
    return *failed;
}
