#pragma once
// What else the examples share: the line that says that a server is ready, the keyboard, and exit codes.
// 0: all went well. 1: something failed, and a sentence on stderr says what. 2: see arguments.hpp.

#include <plait/plait.hpp>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

namespace example {

/// Says what failed; 1 is the program's exit code then.
inline int failed(const std::string& what, std::error_code why) {
    std::fprintf(stderr, "%s: %s\n", what.c_str(), why.message().c_str());
    return 1;
}

/// A line of text, at once: stdout may be a pipe.
inline void print_line(std::string_view text) { std::cout << text << std::endl; }

/// "listening on 127.0.0.1:8000 (io_uring)". The loop prints it once serve() waits for clients and has taken over its
/// signals: whoever reads the line may connect, and may send a signal.
inline void announce(std::string where, plait::io_context& context, plait::backend asked_for) {
    context.post([where = std::move(where), &context, asked_for] {
        print_line("listening on " + where + " (" + std::string(to_string(context.backend())) + ")");
        // Nobody wanted epoll, so io_uring was refused; the reason says what would help.
        const bool unasked = asked_for == plait::backend::automatic && !std::getenv("PLAIT_BACKEND");
        if (unasked && context.backend() == plait::backend::epoll)
            std::fprintf(stderr, "%s\n", std::string(context.backend_reason()).c_str());
    });
}
template <class S>
void announce(const S& socket, plait::io_context& context, plait::backend asked_for) {
    announce(socket.local_endpoint().value_or(plait::endpoint()).to_string(), context, asked_for);
}
inline void announce(const plait::unix_listener& listener, plait::io_context& context,
                     plait::backend asked_for) {
    announce(listener.local_path().value_or(plait::unix_path()).to_string(), context, asked_for);
}

/// The same for serve_options::on_listening, which calls it once all threads serve.
class announcement {
  public:
    announcement(plait::io_context& context, plait::backend asked_for)
        : context_(&context), asked_for_(asked_for) {}
    void operator()(const plait::endpoint& where) const { say(where.to_string()); }
    void operator()(const plait::unix_path& where) const { say(where.to_string()); }

  private:
    void say(std::string where) const { announce(std::move(where), *context_, asked_for_); }
    plait::io_context* context_;
    plait::backend asked_for_;
};

/// The listener that the program was started with, by systemd for instance. Ask before there are threads.
inline std::optional<plait::activated_listener> given_listener() {
    const auto all = plait::activated_listeners();
    if (all.empty()) return std::nullopt;
    return all.front();
}

/// In place; ASCII alone.
inline void make_upper(std::span<std::byte> text) {
    for (std::byte& letter : text)
        if (letter >= std::byte{'a'} && letter <= std::byte{'z'}) letter ^= std::byte{0x20};
}

/// What serve() ended with, as an exit code. A server that was told to stop has done its work, also when it had to cut
/// sessions off, at the deadline or at a second signal.
inline int exit_code(const plait::io_result<void>& served) {
    if (served || served.error() == plait::errc::timed_out || served.error() == plait::errc::canceled)
        return 0;
    return failed("cannot go on accepting", served.error());
}

/// The same for all threads of a server that was to listen there. What is wrong for one of them is so for all, and is
/// told once.
inline int exit_code(const std::vector<plait::io_result<void>>& served, const std::string& where) {
    for (const auto& each : served)
        if (!each && each.error() != plait::errc::timed_out && each.error() != plait::errc::canceled)
            return failed("cannot listen on " + where, each.error());
    return 0;
}

/// A line from the keyboard, or nothing at the end of input. It blocks: see plait::offload.
inline std::optional<std::string> read_line() {
    std::string line;
    if (std::getline(std::cin, line)) return line;
    return std::nullopt;
}

/// What the context does, to stderr, whenever somebody asks: kill -USR1, or Ctrl-Break on Windows. Several contexts of
/// one program answer one after the other.
inline plait::task<> answer_dump_requests() {
    static std::mutex one_at_a_time;
    plait::io_context& context = co_await plait::this_context();
    while (co_await plait::wait_for_dump_request()) {
        const std::lock_guard held(one_at_a_time);
        context.dump(stderr);
        const plait::metrics now = context.metrics();
        const std::chrono::duration<double, std::milli> longest = now.longest_turn;
        std::cerr << now.connections << " connections; " << now.accepts << " accepts, " << now.connects
                  << " connects, " << now.receives << " receives, " << now.sends << " sends; "
                  << now.bytes_received << " bytes in, " << now.bytes_sent << " out; " << now.turns
                  << " turns, the longest " << longest.count() << " ms; " << now.system_calls
                  << " system calls, " << now.allocations << " allocations" << std::endl;
    }
}

/// `work`, and beside it the answers to those who ask for a dump.
template <class T>
plait::task<T> with_dumps(plait::task<T> work) {
    plait::task_group beside;
    beside.spawn(answer_dump_requests);
    co_await plait::yield(); // from here on a request does not end the program
    T result = co_await std::move(work);
    beside.request_stop();
    co_await beside.join();
    co_return std::move(result);
}

/// Calls `work`, which runs contexts and gives an exit code.
template <class F>
int guarded(F work) {
#if PLAIT_HAS_EXCEPTIONS
    try {
#endif
        return work();
#if PLAIT_HAS_EXCEPTIONS
    } catch (const std::system_error& refused) { // this machine has no such backend, for one
        std::fprintf(stderr, "%s\n", refused.what());
        return 1;
    }
#endif
}

/// Runs `work` on a context of its own.
inline int run(plait::task<int> work, plait::backend which) {
    work = with_dumps(std::move(work));
    return guarded([&] { return plait::run(std::move(work), plait::context_options().backend(which)); });
}

/// Runs `serve()`, which listens at `where`, on a context of its own on each of several threads.
template <class F>
int run_per_core(std::size_t threads, plait::backend which, const std::string& where, F serve) {
    return guarded([&] {
        const auto served = plait::run_per_core(
            threads, [&] { return with_dumps(serve()); }, plait::context_options().backend(which));
        return exit_code(served, where);
    });
}

} // namespace example
