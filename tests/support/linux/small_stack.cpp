#include "support/small_stack.hpp"

#include <pthread.h>

#include <cstdlib>

namespace support::detail {

namespace {
struct job {
    void (*call)(void*);
    void* argument;
};
} // namespace

void call_on_small_stack(void (*call)(void*), void* argument) {
    pthread_attr_t attributes;
    if (pthread_attr_init(&attributes) != 0 || pthread_attr_setstacksize(&attributes, small_stack) != 0)
        std::abort();
    job work{call, argument};
    auto start = [](void* given) -> void* {
        const job& mine = *static_cast<job*>(given);
        mine.call(mine.argument);
        return nullptr;
    };
    pthread_t thread;
    if (pthread_create(&thread, &attributes, start, &work) != 0) std::abort();
    pthread_join(thread, nullptr);
    pthread_attr_destroy(&attributes);
}

} // namespace support::detail
