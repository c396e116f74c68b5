#pragma once
/// A coroutine type that is not plait's, but knows a context and a scope: plait's awaitables work in it. It can be
/// destroyed wherever it stands.

#include <plait/task.hpp>

#include <coroutine>
#include <exception>
#include <utility>

namespace support {

class foreign {
  public:
    struct promise_type {
        plait::detail::environment environment;

        plait::detail::environment& plait_environment() noexcept { return environment; }
        foreign get_return_object() {
            return foreign(std::coroutine_handle<promise_type>::from_promise(*this));
        }
        std::suspend_always initial_suspend() const noexcept { return {}; }
        std::suspend_always final_suspend() const noexcept { return {}; }
        void return_void() const noexcept {}
        void unhandled_exception() const noexcept { std::terminate(); }
    };

    foreign(foreign&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
    foreign& operator=(foreign&&) = delete;
    ~foreign() { destroy(); }

    /// Runs it to its first wait, on the context and in the scope of `env`:
    /// `f.start(co_await plait::detail::this_environment())`.
    void start(const plait::detail::environment& env) {
        handle_.promise().environment.context = env.context;
        handle_.promise().environment.cancel = env.cancel;
        handle_.resume();
    }
    /// As a caller would who has no context.
    void start_without_context() { handle_.resume(); }

    bool done() const noexcept { return handle_.done(); }
    void destroy() noexcept {
        if (auto handle = std::exchange(handle_, nullptr)) handle.destroy();
    }

  private:
    explicit foreign(std::coroutine_handle<promise_type> handle) noexcept : handle_(handle) {}
    std::coroutine_handle<promise_type> handle_;
};

/// Lets `work` run until it is destroyed.
inline foreign carry(plait::task<> work) { co_await std::move(work); }

} // namespace support
