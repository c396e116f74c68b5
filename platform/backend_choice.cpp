#include "platform/backend_choice.hpp"

#include <cstdlib>

namespace plait::inline v1 {
namespace detail {

std::optional<backend_choice> chosen_backend(const context_options& options, std::string_view known,
                                             std::string& reason) {
    if (options.backend() != plait::backend::automatic) return backend_choice{options.backend(), "asked for"};
    const char* name = std::getenv("PLAIT_BACKEND");
    if (!name || !*name) return backend_choice{plait::backend::automatic, ""};
    for (auto each :
         {plait::backend::automatic, plait::backend::io_uring, plait::backend::epoll, plait::backend::iocp})
        if (name == to_string(each)) return backend_choice{each, "asked for by PLAIT_BACKEND"};
    reason = "PLAIT_BACKEND=" + std::string(name) + " is none of " + std::string(known);
    return std::nullopt;
}

} // namespace detail
} // namespace plait::inline v1
