#include <plait/foreign.hpp>
#include <plait/task_group.hpp>
#include <plait/time.hpp>

#include "support/foreign.hpp"

#include <catch2/catch_test_macros.hpp>

#include <atomic>
#include <chrono>
#include <string>
#include <thread>

using namespace std::chrono_literals;

namespace {

/// Another library's coroutine: starts at once, frees itself.
struct foreign {
    struct promise_type {
        foreign get_return_object() const noexcept { return {}; }
        std::suspend_never initial_suspend() const noexcept { return {}; }
        std::suspend_never final_suspend() const noexcept { return {}; }
        void return_void() const noexcept {}
        void unhandled_exception() const noexcept { std::terminate(); }
    };
};

/// Another library's awaitable, which completes on a thread of its own.
struct on_other_thread {
    std::thread* worker;
    int value;

    bool await_ready() const noexcept { return false; }
    void await_suspend(std::coroutine_handle<> waiter) const {
        std::thread& started = *worker; // this awaiter may be gone as soon as the thread runs
        started = std::thread([waiter] { waiter.resume(); });
    }
    int await_resume() const noexcept { return value; }
};

plait::task<std::string> greet(std::string name) {
    static_cast<void>(co_await plait::sleep_for(1ms));
    co_return "hello " + name;
}

foreign visit(plait::io_context& context, std::string& out, std::thread::id& where) {
    auto greeting = plait::on(context, greet("visitor"));
    out = co_await greeting;
    where = std::this_thread::get_id();
    context.request_stop();
}

plait::task<> until_stopped() { static_cast<void>(co_await plait::sleep_for(1h)); }

plait::task<int> fetch(std::thread& worker, std::thread::id& where) {
    on_other_thread outside{&worker, 42};
    auto here = plait::resume_here(outside);
    const int value = co_await here;
    where = std::this_thread::get_id();
    co_return value;
}

} // namespace

TEST_CASE("on() runs a task for a coroutine of another kind, and resumes it on the context's thread") {
    plait::io_context context;
    std::string greeting;
    std::thread::id where;
    visit(context, greeting, where);
    CHECK(greeting.empty());
    context.run(until_stopped());
    CHECK(greeting == "hello visitor");
    CHECK(where == std::this_thread::get_id());
}

TEST_CASE("on() may be awaited from another thread") {
    plait::io_context context;
    std::string greeting;
    std::thread::id where;
    std::thread other([&] { visit(context, greeting, where); });
    context.run(until_stopped());
    other.join();
    CHECK(greeting == "hello visitor");
    CHECK(where == std::this_thread::get_id());
}

TEST_CASE("a foreign coroutine that still waits hears of the context's end") {
    struct local {
        static foreign wait(plait::io_context& context, std::error_code& out) {
            auto sleeping = plait::on(context, plait::sleep_for(1h));
            auto result = co_await sleeping;
            out = result.error();
        }
        static plait::task<> turn() { co_await plait::yield(); }
    };
    std::error_code heard;
    {
        plait::io_context context;
        local::wait(context, heard);
        context.run(local::turn());
        CHECK(!heard);
    }
    CHECK(heard == plait::errc::canceled);
}

TEST_CASE("resume_here comes back to the task's thread from wherever the awaitable completed") {
    std::thread worker;
    std::thread::id where;
    CHECK(plait::run(fetch(worker, where)) == 42);
    worker.join();
    CHECK(where == std::this_thread::get_id());
}

TEST_CASE("what resume_here fetches may outlive the task that was destroyed") {
    struct handed_out {
        std::coroutine_handle<>* waiter;
        bool await_ready() const noexcept { return false; }
        void await_suspend(std::coroutine_handle<> handle) const noexcept { *waiter = handle; }
        void await_resume() const noexcept {}
    };
    struct local {
        static plait::task<> wait(std::coroutine_handle<>& waiter, bool& resumed) {
            handed_out outside{&waiter};
            auto here = plait::resume_here(outside);
            co_await here;
            resumed = true;
        }
        static plait::task<> main(bool& resumed) {
            std::coroutine_handle<> waiter;
            auto& env = co_await plait::detail::this_environment();
            auto carried = support::carry(wait(waiter, resumed));
            carried.start(env);
            carried.destroy();
            waiter.resume(); // it completes, and nobody is there
            for (int i = 0; i < 3; ++i) co_await plait::yield();
        }
    };
    bool resumed = false;
    plait::run(local::main(resumed));
    CHECK(!resumed);
}

namespace {

/// Gives a reference into itself, as other libraries' tasks do when they are awaited as temporary objects.
struct gives_rvalue {
    std::string text = "inside of the awaitable";
    explicit gives_rvalue() = default;
    bool await_ready() const noexcept { return true; }
    void await_suspend(std::coroutine_handle<>) const noexcept {}
    std::string&& await_resume() noexcept { return std::move(text); }
};
struct gives_lvalue {
    int* to;
    bool await_ready() const noexcept { return true; }
    void await_suspend(std::coroutine_handle<>) const noexcept {}
    int& await_resume() const noexcept { return *to; }
};

} // namespace

TEST_CASE("references come through both ways", "[foreign]") {
    int value = 1;
    auto refer = [&]() -> plait::task<int&> {
        co_await plait::yield();
        co_return value;
    };
    int* seen = nullptr;
    auto abroad = [&](plait::io_context& context) -> foreign {
        int& there = co_await plait::on(context, refer());
        seen = &there;
    };
    auto body = [&]() -> plait::task<> {
        int& here = co_await plait::resume_here(gives_lvalue{&value});
        CHECK(&here == &value);
        auto text = co_await plait::resume_here(gives_rvalue());
        CHECK(text == "inside of the awaitable");
        abroad(co_await plait::this_context());
        while (!seen) co_await plait::yield();
    };
    plait::run(body());
    CHECK(seen == &value);
}
