#pragma once
// What plait's benchmark servers share: their command line and the line that run.py waits for.

#include <plait/plait.hpp>

#include <sched.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string_view>

struct server_options {
    std::uint16_t port = 0; // 0: the system picks one
    std::size_t threads = 1;
    std::string_view cpus; // "0,1": where the threads run
    plait::context_options context;
};

inline plait::backend parse_backend(std::string_view name) {
    for (auto known : {plait::backend::automatic, plait::backend::io_uring, plait::backend::epoll})
        if (name == plait::to_string(known)) return known;
    std::fprintf(stderr, "--backend is automatic, io_uring or epoll\n");
    std::exit(2);
}

inline server_options parse_options(int argument_count, char** arguments) {
    server_options options;
    for (int i = 1; i < argument_count; i += 2) {
        const std::string_view name = arguments[i];
        const char* value = i + 1 < argument_count ? arguments[i + 1] : nullptr;
        if (name == "--port" && value != nullptr) {
            options.port = static_cast<std::uint16_t>(std::atoi(value));
        } else if (name == "--backend" && value != nullptr) {
            options.context.backend(parse_backend(value));
        } else if (name == "--threads" && value != nullptr) {
            options.threads = static_cast<std::size_t>(std::atoi(value));
        } else if (name == "--cpus" && value != nullptr) {
            options.cpus = value;
        } else if (name == "--poll-us" && value != nullptr) {
            options.context.poll_before_sleep(std::chrono::microseconds(std::atoi(value)));
        } else {
            std::fprintf(stderr,
                         "usage: %s [--port PORT] [--threads N] [--cpus A,B] [--backend NAME] [--poll-us "
                         "MICROSECONDS]\n",
                         arguments[0]);
            std::exit(2);
        }
    }
    return options;
}

/// Pins the calling thread to the CPU that the list has for it.
inline void run_on(std::string_view cpus, std::size_t index) {
    for (; index > 0 && !cpus.empty(); --index) cpus.remove_prefix(std::min(cpus.find(',') + 1, cpus.size()));
    if (cpus.empty()) return;
    cpu_set_t only;
    CPU_ZERO(&only);
    CPU_SET(static_cast<std::size_t>(std::atoi(cpus.data())), &only);
    if (::sched_setaffinity(0, sizeof only, &only) != 0) std::perror("sched_setaffinity");
}

inline void announce(std::uint16_t port, plait::io_context& context) {
    const std::string_view backend = plait::to_string(context.backend());
    std::printf("listening on 127.0.0.1:%u (plait, %.*s)\n", unsigned{port}, static_cast<int>(backend.size()),
                backend.data());
    std::fflush(stdout);
}
