/// The end of a thread, of which a callback of fiber-local storage hears. The destructor of a thread_local object would
/// not do: GCC emulates these, and frees them before it calls their destructors.

#include "platform/windows/socket.hpp"

#include <memory>
#include <new>

namespace plait::inline v1 {
namespace detail {
namespace {

#ifdef __MINGW32__
constexpr bool thread_locals_live = false;
#else
constexpr bool thread_locals_live = true;
#endif

struct end_of_thread {
    at_end last;
    void* what;
};

void NTAPI on_end(void* value) {
    const std::unique_ptr<end_of_thread> end(static_cast<end_of_thread*>(value));
    if (end) end->last(end->what, thread_locals_live);
}

DWORD make_slot() noexcept {
    // Threads may end after who loaded plait as a DLL has let go of it: the callback stays where it is.
    HMODULE ours = nullptr;
    ::GetModuleHandleExW(GET_MODULE_HANDLE_EX_FLAG_FROM_ADDRESS | GET_MODULE_HANDLE_EX_FLAG_PIN,
                         reinterpret_cast<LPCWSTR>(reinterpret_cast<void*>(on_end)), &ours);
    return ::FlsAlloc(on_end);
}

} // namespace

bool at_thread_end(at_end last, void* what) noexcept {
    static const DWORD slot = make_slot();
    if (slot == FLS_OUT_OF_INDEXES) return false;
    std::unique_ptr<end_of_thread> end(new (std::nothrow) end_of_thread{last, what});
    if (!end || !::FlsSetValue(slot, end.get())) return false;
    static_cast<void>(end.release());
    return true;
}

} // namespace detail
} // namespace plait::inline v1
