#pragma once
/// `run_per_core`: one context on each of several threads.
///
///     plait::run_per_core(0, [] { return plait::serve_per_core({"127.0.0.1", 8000}, session); });

#include <plait/io_context.hpp>

#include <cstddef>
#include <exception>
#include <functional>
#include <memory>
#include <type_traits>
#include <vector>

namespace plait::inline v1 {
namespace detail {

class core_team;

/// Several contexts, each with a thread of its own.
class PLAIT_API core_runner {
  public:
    core_runner(std::size_t contexts, const context_options& options);
    core_runner(const core_runner&) = delete;
    core_runner& operator=(const core_runner&) = delete;
    ~core_runner();

    std::size_t size() const noexcept { return contexts_.size(); }

    /// Calls `work` once for each context, on its thread; the calling thread has the first. Returns when all have
    /// returned. The first exception stops the other contexts, and comes out.
    void run(const std::function<void(io_context&, std::size_t)>& work);

  private:
    using work_on = std::function<void(io_context&, std::size_t)>;
    void run_one(const work_on& work, std::size_t index) noexcept;

    std::shared_ptr<core_team> team_;
    std::vector<std::unique_ptr<io_context>> contexts_;
    std::exception_ptr exception_; ///< behind the team's mutex
};

/// What `f` gives for one context: f(index), or f().
template <class F>
auto start_on_core(F& f, std::size_t index) {
    if constexpr (std::is_invocable_v<F&, std::size_t>)
        return std::invoke(f, index);
    else
        return std::invoke(f);
}
template <class F>
using core_result_t = await_result_t<decltype(start_on_core(std::declval<F&>(), std::size_t{}))>;

/// The whole of one context. `f` is called here, where it may ask for its context.
template <class F, class T>
task<> run_on_core(F& f, std::size_t index, slot<T>& result) {
    co_await run_into(start_on_core(f, index), result);
}

} // namespace detail

/// Runs `f()`, or `f(index)` with an index from 0, on `n` contexts side by side, each on a thread of its own: the
/// calling thread is the first. With n = 0 there are as many as the machine has cores
/// (std::thread::hardware_concurrency). `f` gives a task; the one object `f` is called on all the threads at once.
///
/// Returns when every task has ended: their results in the order of the indices, or nothing where the tasks give
/// nothing. The first exception stops the other contexts, as request_stop() does, and comes out once they have ended.
///
/// Each context is made with `options`: so what they refer to (a memory resource, on_event) is used by all the threads.
/// A context and what was opened on it stay on their thread; from one to another leads io_context::post(), and every
/// context lives until the tasks of all have ended.
template <class F>
auto run_per_core(std::size_t n, F f, context_options options = {}) {
    using result_type = detail::core_result_t<F>;
    detail::core_runner runner(n, options);
    std::vector<detail::slot<result_type>> results(runner.size());
    runner.run([&f, &results](io_context& context, std::size_t index) {
        context.run(detail::run_on_core(f, index, results[index]));
    });
    if constexpr (!std::is_void_v<result_type>) {
        std::vector<detail::regular<result_type>> taken;
        taken.reserve(results.size());
        for (auto& each : results) taken.push_back(each.take());
        return taken;
    }
}

} // namespace plait::inline v1
