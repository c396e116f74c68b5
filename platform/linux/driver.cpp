#include "platform/backend_choice.hpp"
#include "platform/linux/socket.hpp"

namespace plait::inline v1 {
namespace detail {

const std::string_view system_backends = "automatic, io_uring, epoll";

std::unique_ptr<driver> make_system_driver(const backend_choice& choice, const context_options& options,
                                           std::string& reason) {
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
