#include "platform/backend_choice.hpp"
#include "platform/linux/socket.hpp"

namespace plait::inline v1 {
namespace detail {

std::unique_ptr<driver> make_driver(const context_options& options, std::string& reason) {
    const auto choice = chosen_backend(options, "automatic, io_uring, epoll", reason);
    if (!choice) return nullptr;
    if (choice->wanted == plait::backend::iocp) {
        reason = "iocp is Windows' backend; this system has io_uring and epoll";
        return nullptr;
    }
    if (choice->wanted != plait::backend::epoll) {
        if (auto made = make_io_uring_driver(options, reason)) {
            if (choice->wanted == plait::backend::io_uring) reason = choice->by;
            return made;
        }
        if (choice->wanted == plait::backend::io_uring) return nullptr;
    } else {
        reason = choice->by;
    }
    return make_epoll_driver(options, reason);
}

} // namespace detail
} // namespace plait::inline v1
