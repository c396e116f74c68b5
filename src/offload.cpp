#include <plait/offload.hpp>

#include "src/helper_pool.hpp"

namespace plait::inline v1 {
namespace detail {

const pending_type offload_type{"offload", [](pending&) noexcept {}};

void run_on_helper(std::unique_ptr<posted> job) {
    // Each blocked call has a thread of its own: one that waits for the keyboard must not hold up a file.
    static helper_pool& pool = *new helper_pool(helper_pool::unlimited);
    if (pool.run(std::move(job)) == 0)
        throw_error(std::make_error_code(std::errc::resource_unavailable_try_again));
}

} // namespace detail
} // namespace plait::inline v1
