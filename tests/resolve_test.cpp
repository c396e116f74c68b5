#include <plait/io_context.hpp>
#include <plait/resolve.hpp>
#include <plait/task_group.hpp>
#include <plait/tcp.hpp>
#include <plait/time.hpp>
#include <plait/when.hpp>

#include "src/loop.hpp"
#include "src/resolve.hpp"
#include "support/cancellable.hpp"
#include "support/scale.hpp"
#include "support/system.hpp"
#include "support/watchdog.hpp"

#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

using namespace std::chrono_literals;
using plait::endpoint;
using plait::errc;
using plait::task;
using support::scaled;

namespace {

using answer = plait::io_result<std::vector<endpoint>>;

template <class F>
void in_a_context(F body) {
    auto whole = [&]() -> task<> { co_await body(); };
    plait::run(whole());
}

/// Puts a function in place of the system's lookup. No test asks for a name that is not this machine's own.
class instead_of_the_system {
  public:
    explicit instead_of_the_system(plait::detail::lookup_function function)
        : before_(plait::detail::exchange_lookup(function)) {}
    instead_of_the_system(const instead_of_the_system&) = delete;
    instead_of_the_system& operator=(const instead_of_the_system&) = delete;
    ~instead_of_the_system() { plait::detail::exchange_lookup(before_); }

  private:
    plait::detail::lookup_function before_;
};

/// Holds lookups up until it is opened. Never destroyed: a lookup may outlive the test, and the program.
class gate {
  public:
    void close() {
        std::lock_guard lock(mutex_);
        open_ = false;
        arrived_ = inside_ = most_ = 0;
    }
    void open() {
        std::lock_guard lock(mutex_);
        open_ = true;
        changed_.notify_all();
    }
    void pass() {
        std::unique_lock lock(mutex_);
        ++arrived_;
        most_ = std::max(most_, ++inside_);
        changed_.wait(lock, [this] { return open_; });
        --inside_;
    }
    std::size_t arrived() { return read(arrived_); }
    std::size_t inside() { return read(inside_); }
    std::size_t most_inside() { return read(most_); }

  private:
    std::size_t read(const std::size_t& what) {
        std::lock_guard lock(mutex_);
        return what;
    }

    std::mutex mutex_;
    std::condition_variable changed_;
    bool open_ = false;
    std::size_t arrived_ = 0;
    std::size_t inside_ = 0;
    std::size_t most_ = 0;
};

gate& slow_server() {
    static gate& made = *new gate;
    return made;
}

plait::detail::status answer_late(const std::string&, const std::string&, std::vector<endpoint>& found) {
    slow_server().pass();
    found.emplace_back("127.0.0.1", std::uint16_t{7});
    return {};
}

plait::detail::status answer_at_once(const std::string&, const std::string&, std::vector<endpoint>& found) {
    found.emplace_back("127.0.0.1", std::uint16_t{7});
    return {};
}

task<> until_asked(std::size_t count) {
    while (slow_server().arrived() < count) static_cast<void>(co_await plait::sleep_for(1ms));
}

/// A later test finds the pool's threads free.
void let_all_pass() {
    slow_server().open();
    while (slow_server().inside() > 0) std::this_thread::sleep_for(1ms);
}

task<std::error_code> error_of(std::string host, std::string service) {
    auto found = co_await plait::resolve(host, service);
    co_return found.error();
}

} // namespace

// --- what it answers -----------------------------------------------------------------------------------------------

TEST_CASE("resolve answers a literal address with a number, without asking anybody", "[resolve]") {
    const instead_of_the_system refuse([](const std::string&, const std::string&, std::vector<endpoint>&) {
        return plait::detail::status(errc::lookup_failed);
    });
    in_a_context([]() -> task<> {
        auto v4 = co_await plait::resolve("127.0.0.1", "8000");
        REQUIRE(v4.has_value());
        CHECK(*v4 == std::vector<endpoint>{{"127.0.0.1", 8000}});
        auto v6 = co_await plait::resolve("::1", "65535");
        REQUIRE(v6.has_value());
        CHECK(*v6 == std::vector<endpoint>{{"::1", 65535}});
        const std::error_code by_name = co_await error_of("127.0.0.1", "a name");
        CHECK(by_name == errc::lookup_failed);
    });
}

TEST_CASE("localhost resolves to loopback addresses, each of them once", "[resolve]") {
    in_a_context([]() -> task<> {
        auto found = co_await plait::resolve("localhost", "8000");
        REQUIRE(found.has_value());
        CHECK_FALSE(found->empty());
        for (const endpoint& each : *found) {
            CHECK(each.address().is_loopback());
            CHECK(each.port() == 8000);
            CHECK(std::count(found->begin(), found->end(), each) == 1);
        }
    });
}

TEST_CASE("a service has a name, too", "[resolve]") {
    bool listed = true;
    in_a_context([&]() -> task<> {
        auto found = co_await plait::resolve("127.0.0.1", "http");
        listed = found.error() != errc::service_not_found;
        if (!listed) co_return;
        REQUIRE(found.has_value());
        CHECK(*found == std::vector<endpoint>{{"127.0.0.1", 80}});
        auto of_udp_alone = co_await plait::resolve("127.0.0.1", "tftp");
        REQUIRE(of_udp_alone.has_value());
        CHECK(*of_udp_alone == std::vector<endpoint>{{"127.0.0.1", 69}});
    });
    if (!listed) SKIP("this machine has no list of services");
}

TEST_CASE("the order is the system's, and what it names twice is there once", "[resolve]") {
    const instead_of_the_system repeat(
        [](const std::string&, const std::string&, std::vector<endpoint>& found) {
            for (const char* each : {"::1", "127.0.0.2", "::1", "127.0.0.1", "127.0.0.2"})
                found.emplace_back(each, std::uint16_t{9});
            return plait::detail::status();
        });
    in_a_context([]() -> task<> {
        auto found = co_await plait::resolve("many", "9");
        REQUIRE(found.has_value());
        CHECK(*found == std::vector<endpoint>{{"::1", 9}, {"127.0.0.2", 9}, {"127.0.0.1", 9}});
    });
}

TEST_CASE("resolve copies its arguments before it is awaited", "[resolve]") {
    const instead_of_the_system compare(
        [](const std::string& host, const std::string& service, std::vector<endpoint>& found) {
            if (host != "a name that is long enough to be on the heap") return plait::detail::status();
            found.emplace_back("127.0.0.1", static_cast<std::uint16_t>(service.size()));
            return plait::detail::status();
        });
    in_a_context([]() -> task<> {
        std::optional<std::string> host("a name that is long enough to be on the heap");
        std::optional<std::string> service("a service that is long enough to be there, too");
        auto later = plait::resolve(*host, *service);
        host->assign(host->size(), 'x');
        host.reset();
        service.reset();
        auto found = co_await std::move(later);
        REQUIRE(found.has_value());
        CHECK(found->front().port() == 46);
    });
}

// --- what it refuses -----------------------------------------------------------------------------------------------

TEST_CASE("what cannot be a name is refused before anybody is asked", "[resolve]") {
    static std::atomic<int> asked{0};
    asked = 0;
    const instead_of_the_system count([](const std::string&, const std::string&, std::vector<endpoint>&) {
        ++asked;
        return plait::detail::status();
    });
    in_a_context([]() -> task<> {
        const std::vector<std::string> hosts{std::string(), std::string("local\0host", 10),
                                             std::string(254, 'a'), std::string(100'000, 'a')};
        for (const std::string& bad : hosts) {
            const std::error_code error = co_await error_of(bad, "80");
            CHECK(error == errc::invalid_name);
            CHECK(error == std::errc::invalid_argument);
        }
        const std::vector<std::string> services{std::string(), std::string("80\0", 3), std::string("65536"),
                                                std::string("18446744073709551617"),
                                                std::string(100'000, '1')};
        for (const std::string& bad : services) {
            const std::error_code error = co_await error_of("127.0.0.1", bad);
            CHECK(error == errc::service_not_found);
        }
        CHECK(asked == 0);
        // The longest that there is, and its dot at the end does not count.
        const std::string dotted = std::string(253, 'a') + '.';
        const std::error_code longest = co_await error_of(dotted, "80");
        CHECK(longest == errc::host_not_found); // an empty answer
        CHECK(asked == 1);
    });
}

TEST_CASE("a service that the system does not know is an error of its own", "[resolve]") {
    in_a_context([]() -> task<> {
        const std::error_code error = co_await error_of("127.0.0.1", "no-such-service");
        CHECK(error == errc::service_not_found);
    });
}

TEST_CASE("the errors of lookups say what is wrong", "[resolve]") {
    const instead_of_the_system refuse(
        [](const std::string& host, const std::string&, std::vector<endpoint>&) {
            if (host == "nobody") return plait::detail::status(errc::host_not_found);
            if (host == "later") return plait::detail::status(errc::lookup_unavailable);
            return plait::detail::status(errc::lookup_failed);
        });
    in_a_context([]() -> task<> {
        const std::error_code nobody = co_await error_of("nobody", "80");
        CHECK(nobody.message() == "no such host");
        const std::error_code later = co_await error_of("later", "80");
        CHECK(later.message() == "no name server answers at present");
        const std::error_code refused = co_await error_of("other", "80");
        CHECK(refused.message() == "the name server refuses to answer");
        auto stream = co_await plait::tcp_stream::connect("nobody", "80");
        CHECK(stream.error() == errc::host_not_found);
    });
}

#if PLAIT_HAS_EXCEPTIONS
TEST_CASE("a lookup that finds no memory ends with that error", "[resolve]") {
    const instead_of_the_system exhaust(
        [](const std::string&, const std::string&, std::vector<endpoint>&) -> plait::detail::status {
            throw std::bad_alloc();
        });
    in_a_context([]() -> task<> {
        const std::error_code error = co_await error_of("name", "80");
        CHECK(error == std::errc::not_enough_memory);
    });
}
#endif

// --- many at once --------------------------------------------------------------------------------------------------

TEST_CASE("many lookups overlap, at most four of them in the system", "[resolve]") {
    const instead_of_the_system slow(answer_late);
    slow_server().close();
    in_a_context([]() -> task<> {
        const std::size_t count = 50;
        std::size_t found = 0;
        auto ask = [&]() -> task<> {
            auto one = co_await plait::resolve("slow", "7");
            if (one) ++found;
        };
        plait::task_group group;
        for (std::size_t i = 0; i < count; ++i) group.spawn(ask);
        co_await until_asked(plait::detail::most_lookups);
        CHECK(found == 0);
        slow_server().open();
        co_await group.join();
        CHECK(found == count);
        CHECK(slow_server().arrived() == count);
        CHECK(slow_server().most_inside() == plait::detail::most_lookups);
    });
}

TEST_CASE("contexts on several threads look names up at the same time", "[resolve]") {
    const instead_of_the_system quick(answer_at_once);
    std::atomic<int> right{0};
    std::vector<std::thread> threads;
    for (int i = 0; i < 4; ++i)
        threads.emplace_back([&right] {
            auto body = [&]() -> task<> {
                for (int n = 0; n < 100; ++n) {
                    auto found = co_await plait::resolve("name", "7");
                    if (found && found->size() == 1) ++right;
                }
            };
            plait::run(body());
        });
    for (auto& each : threads) each.join();
    CHECK(right == 400);
}

// --- cancelling ----------------------------------------------------------------------------------------------------

TEST_CASE("cancelling a lookup ends it at once, while the system still works on it", "[resolve]") {
    const instead_of_the_system slow(answer_late);
    slow_server().close();
    in_a_context([]() -> task<> {
        std::optional<std::error_code> error;
        auto ask = [&]() -> task<> { error = co_await error_of("slow", "7"); };
        plait::task_group group;
        group.spawn(ask);
        co_await until_asked(1);
        group.request_stop();
        CHECK_FALSE(error.has_value()); // by the loop, not from inside of request_stop()
        co_await group.join();
        REQUIRE(error.has_value());
        CHECK(*error == errc::canceled);
        CHECK(slow_server().inside() == 1);
    });
    let_all_pass();
}

TEST_CASE("a lookup can be limited in time", "[resolve]") {
    const instead_of_the_system slow(answer_late);
    slow_server().close();
    in_a_context([]() -> task<> {
        auto found = co_await plait::with_timeout(plait::resolve("slow", "7"), 5ms);
        CHECK(found.error() == errc::timed_out);
        auto stream = co_await plait::with_timeout(plait::tcp_stream::connect("slow", "7"), 5ms);
        CHECK(stream.error() == errc::timed_out);
    });
    let_all_pass();
}

TEST_CASE("in a cancelled scope no lookup starts, not even that of a literal", "[resolve]") {
    const instead_of_the_system quick(answer_at_once);
    in_a_context([]() -> task<> {
        std::optional<std::error_code> by_name, literal;
        auto ask = [&]() -> task<> {
            static_cast<void>(co_await plait::sleep_for(1h));
            by_name = co_await error_of("name", "7");
            literal = co_await error_of("127.0.0.1", "7");
        };
        plait::task_group group;
        group.spawn(ask);
        co_await support::let_run();
        group.request_stop();
        co_await group.join();
        CHECK(by_name == errc::canceled);
        CHECK(literal == errc::canceled);
    });
}

TEST_CASE("a lookup that waits for a thread leaves no trace when it is cancelled", "[resolve]") {
    const instead_of_the_system slow(answer_late);
    slow_server().close();
    in_a_context([]() -> task<> {
        auto ask = []() -> task<> {
            const std::error_code error = co_await error_of("slow", "7");
            CHECK(error == errc::canceled);
        };
        plait::task_group group;
        for (std::size_t i = 0; i < 200; ++i) group.spawn(ask);
        co_await until_asked(plait::detail::most_lookups);
        group.request_stop();
        co_await group.join();
        // Those that were under way end; nobody asks for the others any more.
        slow_server().open();
        auto next = co_await plait::resolve("slow", "7");
        CHECK(next.has_value());
        CHECK(slow_server().arrived() == plait::detail::most_lookups + 1);
    });
    let_all_pass();
}

TEST_CASE("cancellations that race with answers: each lookup ends once, as one or as the other",
          "[resolve]") {
    const instead_of_the_system quick(answer_at_once);
    in_a_context([]() -> task<> {
        const std::size_t count = scaled(1000);
        std::size_t answered = 0, canceled = 0;
        auto ask = [&]() -> task<> {
            auto found = co_await plait::resolve("name", "7");
            if (found)
                ++answered;
            else if (found.error() == errc::canceled)
                ++canceled;
        };
        const std::size_t open_before = support::open_descriptors();
        plait::task_group group;
        for (std::size_t i = 0; i < count; ++i) {
            group.spawn(ask);
            // At another moment of the lookup each time.
            for (std::size_t turn = 0; turn < i % 8; ++turn) {
                co_await plait::yield();
                if (turn % 3 == 2) std::this_thread::yield();
            }
            group.request_stop();
            co_await group.join();
        }
        CHECK(answered + canceled == count);
        CHECK(canceled > 0);
        // All threads are free again.
        auto last = co_await plait::resolve("name", "7");
        CHECK(last.has_value());
        CHECK(support::open_descriptors() <=
              open_before); // an answer to a former context held that one's until now
    });
}

// --- what it may outlive -------------------------------------------------------------------------------------------

TEST_CASE("a task may be destroyed while its lookup is under way, or waits for a thread", "[resolve]") {
    const instead_of_the_system slow(answer_late);
    slow_server().close();
    in_a_context([]() -> task<> {
        auto& here = co_await plait::detail::this_environment();
        auto ask = []() -> task<> { static_cast<void>(co_await plait::resolve("slow", "7")); };
        std::vector<support::foreign> owners;
        for (std::size_t i = 0; i < 8; ++i) {
            owners.push_back(support::carry(ask()));
            owners.back().start(here);
        }
        co_await until_asked(plait::detail::most_lookups);
        owners.clear();
        slow_server().open();
        auto next = co_await plait::resolve("slow", "7");
        CHECK(next.has_value());
        CHECK(slow_server().arrived() == plait::detail::most_lookups + 1);
    });
    let_all_pass();
}

TEST_CASE("a context may be destroyed while lookups are under way", "[resolve]") {
    const instead_of_the_system slow(answer_late);
    slow_server().close();
    std::size_t canceled = 0;
    auto ask = [&]() -> task<> {
        const std::error_code error = co_await error_of("slow", "7");
        if (error == errc::canceled) ++canceled;
    };
    std::vector<support::foreign> owners;
    {
        plait::io_context context;
        auto body = [&]() -> task<> {
            auto here = co_await plait::detail::this_environment();
            here.cancel = &here.context->root_scope; // outlives this task, as that of on(context, …) does
            for (std::size_t i = 0; i < 8; ++i) {
                owners.push_back(support::carry(ask()));
                owners.back().start(here);
            }
            co_await until_asked(plait::detail::most_lookups);
        };
        context.run(body());
        CHECK(canceled == 0);
    }
    CHECK(canceled == 8);
    let_all_pass(); // to a context that is no more
}

TEST_CASE("a program ends while a lookup hangs for ever", "[resolve]") {
    // The last test of this program: that it ends is the proof. Nobody opens this gate.
    const instead_of_the_system hang(
        [](const std::string&, const std::string&, std::vector<endpoint>&) -> plait::detail::status {
            static gate& closed = *new gate;
            slow_server().pass(); // open: it counts
            closed.pass();
            return {};
        });
    slow_server().close();
    slow_server().open();
    in_a_context([]() -> task<> {
        auto limited = [](std::chrono::milliseconds limit) -> task<> {
            auto found = co_await plait::with_timeout(plait::resolve("nobody answers", "7"), limit);
            CHECK(found.error() == errc::timed_out);
        };
        auto one = limited(20ms);
        auto waits = []() -> task<> { co_await until_asked(1); };
        co_await plait::when_all(std::move(one), waits());
    });
}
