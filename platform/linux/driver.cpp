#include "platform/linux/socket.hpp"

#include <cstdlib>

namespace plait::inline v1 {
namespace detail {

std::unique_ptr<driver> make_driver(const context_options& options, std::string& reason) {
    plait::backend wanted = options.backend();
    std::string asked = "asked for";
    if (wanted == plait::backend::automatic) {
        if (const char* name = std::getenv("PLAIT_BACKEND"); name && *name) {
            asked = "asked for by PLAIT_BACKEND";
            const std::string_view text = name;
            if (text == "io_uring")
                wanted = plait::backend::io_uring;
            else if (text != "automatic") {
                reason = "PLAIT_BACKEND=" + std::string(text) + ": this system has io_uring";
                return nullptr;
            }
        }
    }
    if (wanted == plait::backend::epoll || wanted == plait::backend::iocp) {
        reason = std::string(to_string(wanted)) + " was asked for; this system has io_uring";
        return nullptr;
    }
    auto made = make_io_uring_driver(options, reason);
    if (made && wanted == plait::backend::io_uring) reason = asked;
    return made;
}

} // namespace detail
} // namespace plait::inline v1
