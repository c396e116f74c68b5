#include "platform/driver.hpp"

namespace plait::inline v1 {
namespace detail {
namespace {

struct end_of_thread {
    at_end last = nullptr;
    void* what = nullptr;

    end_of_thread() = default;
    end_of_thread(const end_of_thread&) = delete;
    end_of_thread& operator=(const end_of_thread&) = delete;
    ~end_of_thread() {
        if (last) last(what, true);
    }
};

} // namespace

bool at_thread_end(at_end last, void* what) noexcept {
    thread_local end_of_thread here;
    here.last = last;
    here.what = what;
    return true;
}

} // namespace detail
} // namespace plait::inline v1
