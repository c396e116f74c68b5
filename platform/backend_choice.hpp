#pragma once
/// Which backend a context should have, by whom.

#include "platform/driver.hpp"

#include <string>
#include <string_view>

namespace plait::inline v1 {
namespace detail {

struct backend_choice {
    plait::backend wanted;
    std::string_view by; ///< who asked for it: part of a sentence
};

/// What a platform defines: the names of its backends, "automatic" among them, and the one that is wanted, or the best.
extern const std::string_view system_backends;
std::unique_ptr<driver> make_system_driver(const backend_choice& choice, const context_options& options,
                                           std::string& reason);

} // namespace detail
} // namespace plait::inline v1
