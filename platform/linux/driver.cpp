#include "platform/linux/socket.hpp"

#include <cstdlib>

namespace plait::inline v1 {
namespace detail {
namespace {

struct choice {
    plait::backend wanted;
    std::string_view by; ///< who asked for it
    bool known = true;
};

/// The program's word first, then the environment's.
choice chosen_backend(const context_options& options) {
    if (options.backend() != plait::backend::automatic) return {options.backend(), "asked for"};
    const char* name = std::getenv("PLAIT_BACKEND");
    if (!name || !*name) return {plait::backend::automatic, ""};
    for (auto each :
         {plait::backend::automatic, plait::backend::io_uring, plait::backend::epoll, plait::backend::iocp})
        if (name == to_string(each)) return {each, "asked for by PLAIT_BACKEND"};
    return {plait::backend::automatic, name, false};
}

} // namespace

std::unique_ptr<driver> make_driver(const context_options& options, std::string& reason) {
    const choice choice = chosen_backend(options);
    if (!choice.known) {
        reason = "PLAIT_BACKEND=" + std::string(choice.by) + " is none of automatic, io_uring, epoll";
        return nullptr;
    }
    if (choice.wanted == plait::backend::iocp) {
        reason = "iocp is Windows' backend; this system has io_uring and epoll";
        return nullptr;
    }
    if (choice.wanted != plait::backend::epoll) {
        if (auto made = make_io_uring_driver(options, reason)) {
            if (choice.wanted == plait::backend::io_uring) reason = choice.by;
            return made;
        }
        if (choice.wanted == plait::backend::io_uring) return nullptr;
    } else {
        reason = choice.by;
    }
    return make_epoll_driver(options, reason);
}

} // namespace detail
} // namespace plait::inline v1
