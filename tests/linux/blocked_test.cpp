/// Where io_uring is forbidden, as in most containers: children under a real seccomp filter.
#include <plait/framing.hpp>
#include <plait/plait.hpp>

#include "support/connections.hpp"
#include "support/scale.hpp"
#include "support/sockets.hpp"
#include "support/watchdog.hpp"

#include <catch2/catch_test_macros.hpp>

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>
#include <system_error>

using plait::context_options;
using plait::event_info;
using plait::task;
using support::scaled;
using support::sequence;

namespace {

// --- the filter ------------------------------------------------------------------------------------------------

/// From here on this process gets `error` for every system call of io_uring. False: no filter can be had.
bool forbid_io_uring(int error) {
    // Same numbers on every architecture, so that the architecture need not be asked for.
    static_assert(__NR_io_uring_register == __NR_io_uring_setup + 2);
    std::array<sock_filter, 5> program = {{
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, __NR_io_uring_setup, 0, 1),
        BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, __NR_io_uring_register, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | static_cast<unsigned>(error)),
    }};
    sock_fprog filter{};
    filter.len = program.size();
    filter.filter = program.data();
    return ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
           ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) == 0;
}

// --- children --------------------------------------------------------------------------------------------------

constexpr int no_filter = 77;

/// What a child found: each failed expectation is a line of its report.
class findings {
  public:
    void expect(bool condition, const std::string& what) {
        if (!condition) text_ += what + "\n";
    }
    const std::string& text() const noexcept { return text_; }

  private:
    std::string text_;
};

struct child_result {
    int code = -1; ///< of its exit; -1 when it died
    std::string report;
};

/// Runs `work(findings)` in a child under the filter.
template <class F>
child_result in_blocked_child(int error, F work) {
    std::array<int, 2> pipe{};
    support::must(::pipe(pipe.data()) == 0, "pipe");
    const pid_t child = ::fork();
    support::must(child >= 0, "fork");
    if (child == 0) {
        ::close(pipe[0]);
        ::unsetenv("PLAIT_BACKEND");
        if (!forbid_io_uring(error)) ::_exit(no_filter);
        findings found;
        work(found);
        for (std::string_view rest = found.text(); !rest.empty();) {
            const auto written = ::write(pipe[1], rest.data(), rest.size());
            if (written <= 0) break;
            rest.remove_prefix(static_cast<std::size_t>(written));
        }
        ::_exit(found.text().empty() ? 0 : 1);
    }
    ::close(pipe[1]);
    child_result result;
    std::array<char, 4096> piece;
    for (;;) {
        const auto got = ::read(pipe[0], piece.data(), piece.size());
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) break;
        result.report.append(piece.data(), static_cast<std::size_t>(got));
    }
    ::close(pipe[0]);
    int status = 0;
    while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
    if (WIFEXITED(status)) result.code = WEXITSTATUS(status);
    return result;
}

template <class F>
void check_in_blocked_child(int error, F work) {
    INFO("io_uring answers: " << std::strerror(error));
    const child_result result = in_blocked_child(error, work);
    if (result.code == no_filter) SKIP("this system allows no seccomp filter");
    INFO(result.report);
    CHECK(result.code == 0);
}

constexpr std::array both_errors = {EPERM, ENOSYS};

// --- what the children do --------------------------------------------------------------------------------------

bool contains(std::string_view text, std::string_view part) { return text.find(part) != text.npos; }

/// The text names the call, what it answered and what would help.
void expect_explanation(std::string_view text, int error, findings& found) {
    const std::string shown = "; the text is: " + std::string(text);
    found.expect(contains(text, "io_uring_setup"), "it does not name the call" + shown);
    found.expect(contains(text, std::generic_category().message(error)),
                 "it does not name the error" + shown);
    found.expect(contains(text, "seccomp"), "it does not name who may have forbidden it" + shown);
    if (error == EPERM)
        for (const std::string_view each :
             {"io_uring_enter", "io_uring_register", "kernel.io_uring_disabled", "to 0"})
            found.expect(contains(text, each), "no cure: " + std::string(each) + shown);
    else
        found.expect(contains(text, "older than"), "no cure" + shown);
}

/// Frames there and back on some connections at once.
task<std::size_t> exchange(std::size_t connections, std::size_t frames) {
    auto pairs = co_await support::connected_pairs(connections);
    std::size_t right = 0;
    auto echoes = [](plait::tcp_stream& on) -> task<> {
        plait::framed<plait::tcp_stream&, plait::length_prefix> messages(on, plait::length_prefix());
        while (auto message = co_await messages.next()) {
            auto written = co_await messages.write(*message);
            if (!written) break;
        }
        static_cast<void>(co_await messages.close());
    };
    auto asks = [&](plait::tcp_stream& on, std::size_t who) -> task<> {
        plait::framed<plait::tcp_stream&, plait::length_prefix> messages(on, plait::length_prefix());
        for (std::size_t number = 0; number < frames; ++number) {
            const auto question = sequence::at(who * 1'000 + number, 1 + number % 500);
            auto written = co_await messages.write(question);
            auto answer = co_await messages.next();
            if (!written || !answer) break;
            right += std::equal(answer->begin(), answer->end(), question.begin(), question.end());
        }
        static_cast<void>(co_await messages.close());
    };
    plait::task_group group;
    for (std::size_t who = 0; who < connections; ++who) {
        group.spawn(echoes, std::ref(pairs[who].far));
        group.spawn(asks, std::ref(pairs[who].near), who);
    }
    co_await group.join();
    co_return right;
}

} // namespace

TEST_CASE("the filter forbids io_uring and nothing else", "[blocked]") {
    for (const int error : both_errors)
        check_in_blocked_child(error, [&](findings& found) {
            for (const long number : {__NR_io_uring_setup, __NR_io_uring_enter, __NR_io_uring_register}) {
                errno = 0;
                const long outcome = ::syscall(number, 0, 0, 0, 0, 0, 0);
                found.expect(outcome == -1 && errno == error, "call " + std::to_string(number) + " passes");
            }
            found.expect(::getpid() > 0, "getpid fails");
        });
}

TEST_CASE("a blocked io_uring leaves a context on epoll, which says why", "[blocked]") {
    for (const int error : both_errors)
        check_in_blocked_child(error, [&](findings& found) {
            std::size_t fallbacks = 0;
            std::string detail;
            auto noted = [&](const event_info& event) {
                if (event.what != event_info::kind::fallback) return;
                ++fallbacks;
                detail = event.detail;
            };
            plait::io_context context{context_options().on_event(noted)};
            found.expect(context.backend() == plait::backend::epoll, "the backend is not epoll");
            expect_explanation(context.backend_reason(), error, found);
            found.expect(fallbacks == 1, std::to_string(fallbacks) + " events of a fallback");
            found.expect(detail == context.backend_reason(), "the event says: " + detail);

            const std::size_t frames = scaled(200);
            const std::size_t right = context.run(exchange(10, frames));
            found.expect(right == 10 * frames, std::to_string(right) + " frames came back");
        });
}

TEST_CASE("a blocked io_uring that is asked for in the environment's automatic way falls back too",
          "[blocked]") {
    for (const int error : both_errors)
        check_in_blocked_child(error, [&](findings& found) {
            ::setenv("PLAIT_BACKEND", "automatic", 1);
            plait::io_context context;
            found.expect(context.backend() == plait::backend::epoll, "the backend is not epoll");
            expect_explanation(context.backend_reason(), error, found);
        });
}

TEST_CASE("epoll that is asked for mentions no fallback", "[blocked]") {
    for (const int error : both_errors)
        check_in_blocked_child(error, [&](findings& found) {
            std::size_t events = 0;
            auto options = context_options().backend(plait::backend::epoll).on_event([&](const event_info&) {
                ++events;
            });
            plait::io_context context(options);
            found.expect(context.backend() == plait::backend::epoll, "the backend is not epoll");
            found.expect(context.backend_reason() == "asked for", "it says something else");
            found.expect(events == 0, "it reports an event");
            found.expect(context.run(exchange(1, 10)) == 10, "the exchange fails");
        });
}

#if PLAIT_HAS_EXCEPTIONS

TEST_CASE("a blocked io_uring that is asked for is an error that says why", "[blocked]") {
    for (const int error : both_errors)
        for (const bool by_environment : {false, true})
            check_in_blocked_child(error, [&](findings& found) {
                context_options options;
                if (by_environment)
                    ::setenv("PLAIT_BACKEND", "io_uring", 1);
                else
                    options.backend(plait::backend::io_uring);
                const std::size_t before = support::open_descriptors();
                bool refused = false;
                try {
                    plait::io_context context(options);
                } catch (const std::system_error& failure) {
                    refused = true;
                    found.expect(failure.code() == std::errc::function_not_supported,
                                 "its code is " + failure.code().message());
                    expect_explanation(failure.what(), error, found);
                }
                found.expect(refused, "the context was made");
                found.expect(support::open_descriptors() == before, "it lost a descriptor");
                // A later one, that is content with less, is not impaired.
                ::unsetenv("PLAIT_BACKEND");
                found.expect(plait::run(exchange(1, 10)) == 10, "the exchange fails");
            });
}

#endif
