#pragma once
/// What is done when a token is stopped, on the thread that stops it.

#include <atomic>
#include <functional>
#include <memory>
#include <stop_token>

namespace plait::inline v1 {
namespace detail {

/// A std::stop_callback whose end does not wait for an action that has begun: what `action` touches has to live as long
/// as itself. (Where there are no futexes libstdc++ 12 can wait for ever, when the action ends just then.)
class stop_hook {
  public:
    stop_hook(std::stop_token token, std::function<void()> action);
    stop_hook(const stop_hook&) = delete;
    stop_hook& operator=(const stop_hook&) = delete;
    ~stop_hook();

  private:
    enum class phase { making, armed, over };
    struct registration;

    std::shared_ptr<std::atomic<phase>> now_; ///< who ends it first has `registered_`
    registration* registered_;
};

} // namespace detail
} // namespace plait::inline v1
