// Says what this system lacks, for the tests that are not C++: print_lacks NAME writes what lacks_NAME() answers.

#include "support/lacks.hpp"

#include <cstdio>
#include <string_view>

int main(int count, char** words) {
    struct entry {
        std::string_view name;
        std::string (*asks)();
    };
    const entry known[] = {{"refusals", support::lacks_refusals},
                           {"unix_streams", support::lacks_unix_streams},
                           {"unix_abstract_names", support::lacks_unix_abstract_names},
                           {"close_event", support::lacks_close_event}};
    for (const auto& each : known) {
        if (count != 2 || each.name != words[1]) continue;
        std::puts(each.asks().c_str());
        return 0;
    }
    std::fputs("usage: print_lacks refusals|unix_streams|unix_abstract_names|close_event\n", stderr);
    return 2;
}
