#include "platform/backend_choice.hpp"

#include "platform/simulated/simulation.hpp"

#include <cstdlib>

namespace plait::inline v1 {
namespace detail {
namespace {

/// The program's word first, then that of the environment variable PLAIT_BACKEND. Nothing, and a `reason`, when that
/// names no backend.
std::optional<backend_choice> chosen_backend(const context_options& options, std::string& reason) {
    if (options.backend() != plait::backend::automatic) return backend_choice{options.backend(), "asked for"};
    const char* name = std::getenv("PLAIT_BACKEND");
    if (!name || !*name) return backend_choice{plait::backend::automatic, ""};
    for (auto each : {plait::backend::automatic, plait::backend::io_uring, plait::backend::epoll,
                      plait::backend::iocp, plait::backend::simulated})
        if (name == to_string(each)) return backend_choice{each, "asked for by PLAIT_BACKEND"};
    reason =
        "PLAIT_BACKEND=" + std::string(name) + " is none of " + std::string(system_backends) + ", simulated";
    return std::nullopt;
}

} // namespace

std::unique_ptr<driver> make_driver(const context_options& options, std::string& reason) {
    if (options.simulation()) return make_simulated_driver(options, "", reason);
    const auto choice = chosen_backend(options, reason);
    if (!choice) return nullptr;
    if (choice->wanted == plait::backend::simulated)
        return make_simulated_driver(options, choice->by, reason);
    return make_system_driver(*choice, options, reason);
}

} // namespace detail
} // namespace plait::inline v1
