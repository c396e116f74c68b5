#pragma once
/// A coroutine in a scope of its own: it may be cancelled, or destroyed, wherever it stands.

#include "support/foreign.hpp"

#include <plait/detail/pending.hpp>
#include <plait/task.hpp>

#include <cstddef>
#include <utility>

namespace support {

class cancellable {
  public:
    /// Runs `work` to its first wait, in a scope inside that of `env`.
    cancellable(foreign work, const plait::detail::environment& env) : frame_(std::move(work)) {
        scope_.enter(*env.context, env.cancel);
        auto inside = env;
        inside.cancel = &scope_;
        frame_.start(inside);
    }
    cancellable(const cancellable&) = delete;
    cancellable& operator=(const cancellable&) = delete;

    void cancel() noexcept { scope_.cancel(); }
    void destroy() noexcept {
        destroyed_ = true;
        frame_.destroy();
    }
    bool done() const noexcept { return destroyed_ || frame_.done(); }

  private:
    plait::detail::scope scope_;
    foreign frame_; // goes before its scope
    bool destroyed_ = false;
};

/// Lets everything else run, that often.
inline plait::task<> let_run(std::size_t turns = 1) {
    for (std::size_t i = 0; i < turns; ++i) co_await plait::yield();
}

} // namespace support
