#include "support/small_stack.hpp"

#include "support/windows/winsock.hpp"

#include <cstdlib>

namespace support::detail {

namespace {
struct job {
    void (*call)(void*);
    void* argument;
};

DWORD WINAPI run_job(void* given) {
    const job& mine = *static_cast<job*>(given);
    mine.call(mine.argument);
    return 0;
}
} // namespace

void call_on_small_stack(void (*call)(void*), void* argument) {
    job work{call, argument};
    const HANDLE thread =
        ::CreateThread(nullptr, small_stack, run_job, &work, STACK_SIZE_PARAM_IS_A_RESERVATION, nullptr);
    if (!thread || ::WaitForSingleObject(thread, INFINITE) != WAIT_OBJECT_0) std::abort();
    ::CloseHandle(thread);
}

} // namespace support::detail
