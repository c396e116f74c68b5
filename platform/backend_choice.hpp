#pragma once
/// Which backend a context should have, by whom.

#include <plait/io_context.hpp>

#include <optional>
#include <string>
#include <string_view>

namespace plait::inline v1 {
namespace detail {

struct backend_choice {
    plait::backend wanted;
    std::string_view by; ///< who asked for it: part of a sentence
};

/// The program's word first, then that of the environment variable PLAIT_BACKEND. Nothing, and a `reason`, when that
/// names no backend; `known` lists those that the system has.
std::optional<backend_choice> chosen_backend(const context_options& options, std::string_view known,
                                             std::string& reason);

} // namespace detail
} // namespace plait::inline v1
