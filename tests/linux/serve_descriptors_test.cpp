// Serving when descriptors run out: Linux can make that happen by RLIMIT_NOFILE.

#include <plait/framing.hpp>
#include <plait/io_context.hpp>
#include <plait/serve.hpp>
#include <plait/time.hpp>

#include "support/plain_client.hpp"
#include "support/serving.hpp"
#include "support/streams.hpp"
#include "support/watchdog.hpp"

#include <catch2/catch_test_macros.hpp>

#include <sys/resource.h>
#include <unistd.h>

#include <optional>
#include <vector>

using namespace std::chrono_literals;
using plait::endpoint;
using plait::serve_options;
using plait::task;
using plait::tcp_stream;
using namespace support;

namespace {

/// Lowers the number of descriptors to those that are open now.
class no_more_descriptors {
  public:
    no_more_descriptors() {
        ::getrlimit(RLIMIT_NOFILE, &before_);
        rlimit lowered = before_;
        const int next = ::dup(0); // the lowest that is free
        ::close(next);
        lowered.rlim_cur = static_cast<rlim_t>(next);
        ::setrlimit(RLIMIT_NOFILE, &lowered);
    }
    no_more_descriptors(const no_more_descriptors&) = delete;
    no_more_descriptors& operator=(const no_more_descriptors&) = delete;
    ~no_more_descriptors() { ::setrlimit(RLIMIT_NOFILE, &before_); }

  private:
    rlimit before_{};
};

} // namespace

TEST_CASE("when descriptors run out accepting backs off, says so, and comes back", "[serve]") {
    for (const bool drain_meanwhile : {false, true}) {
        sessions_seen seen;
        std::size_t pauses = 0;
        std::vector<std::error_code> errors;
        auto session = [&](tcp_stream stream) { return echo_frames(std::move(stream), seen); };
        auto on_event = [&](const plait::event_info& event) {
            if (event.what != plait::event_info::kind::accept_backoff) return;
            ++pauses;
            errors.push_back(event.error);
        };
        std::vector<plain_client> clients;
        auto body = [&]() -> task<> {
            auto listener = co_await listen();
            for (int i = 0; i < 5; ++i) clients.emplace_back(listener.local_endpoint().value().port());
            const auto start = std::chrono::steady_clock::now();
            // Before the first accept: the kernel takes the limit as it is when an accept is asked for.
            std::optional<no_more_descriptors> none(std::in_place);
            auto client = [&](endpoint) -> task<> {
                co_await until([&] { return pauses >= 3; });
                const auto elapsed = std::chrono::steady_clock::now() - start;
                const std::size_t pauses_until_now = pauses;
                const int started = seen.started;
                if (drain_meanwhile) co_await request_drain();
                co_await turns(5);
                none.reset(); // the checks come after it: UBSan needs descriptors, too
                CHECK(pauses_until_now <= 2 + static_cast<std::size_t>(elapsed / 20ms)); // it does not spin
                CHECK(started == 0);
                for (auto& each : clients) {
                    CHECK(each.send(length_framed("hello")));
                    each.finish();
                }
                co_await until([&] { return seen.started == 5 && seen.live == 0; });
                co_await request_drain();
            };
            auto result = co_await serve_beside(std::move(listener), session, serve_options(), client);
            CHECK(result);
        };
        plait::context_options options;
        options.on_event(on_event);
        plait::run(body(), options);
        for (const auto& each : errors) CHECK(each == std::errc::too_many_files_open);
        for (auto& each : clients) CHECK(each.receive(9) == length_framed("hello"));
    }
}
