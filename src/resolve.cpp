#include <plait/resolve.hpp>

#include "src/helper_pool.hpp"
#include "src/loop.hpp"
#include "src/resolve.hpp"

#include <algorithm>
#include <atomic>
#include <charconv>
#include <new>

namespace plait::inline v1 {
namespace detail {
namespace {

/// RFC 1035: a name has 255 bytes on the wire, which are 253 characters.
constexpr std::size_t longest_name = 253;

std::atomic<lookup_function> look_up_now{look_up};

/// Never destroyed; see helper_pool. A few threads for all: a resolver that hangs must not fill the process with them.
helper_pool& lookups() {
    static helper_pool& pool = *new helper_pool(most_lookups);
    return pool;
}

struct lookup_wait;

/// A question and its answer. Shared by the task that waits and the thread that asks, and owned by whoever is last.
struct lookup {
    lookup(std::string name, std::string port) : host(std::move(name)), service(std::move(port)) {}

    const std::string host;
    const std::string service;
    lookup_function function = look_up_now.load();

    // The pool's thread writes these before it posts, the loop's thread reads them after that.
    status outcome;
    std::vector<endpoint> found;

    // The loop's thread alone.
    lookup_wait* waits = nullptr; ///< nullptr: cancelled or destroyed, nobody wants the answer
    helper_pool::ticket job = 0;
};

struct lookup_wait : pending {
    explicit lookup_wait(std::shared_ptr<lookup> what) noexcept;

    std::shared_ptr<lookup> asked;
    bool canceled = false;
};

/// The task goes on without the answer.
void give_up(lookup& what) noexcept {
    what.waits = nullptr;
    lookups().forget(what.job);
}

void cancel_lookup(pending& wait) noexcept {
    auto& self = static_cast<lookup_wait&>(wait);
    self.canceled = true;
    give_up(*self.asked);
    self.waiting->cancel->notice();
    make_ready(self);
}

constexpr pending_type lookup_type{"resolve", cancel_lookup};

lookup_wait::lookup_wait(std::shared_ptr<lookup> what) noexcept
    : pending(lookup_type), asked(std::move(what)) {}

status call(lookup& what) {
#if PLAIT_HAS_EXCEPTIONS
    try {
#endif
        return what.function(what.host, what.service, what.found);
#if PLAIT_HAS_EXCEPTIONS
    } catch (const std::bad_alloc&) {
        return std::make_error_code(std::errc::not_enough_memory);
    }
#endif
}

/// Completes when the pool has answered, or at once when it is cancelled.
class lookup_awaitable {
  public:
    using plait_awaitable_tag = void;

    explicit lookup_awaitable(std::shared_ptr<lookup> what) noexcept : wait_(std::move(what)) {}
    lookup_awaitable(const lookup_awaitable&) = delete;
    lookup_awaitable& operator=(const lookup_awaitable&) = delete;
    ~lookup_awaitable() {
        if (wait_.asked->waits) give_up(*wait_.asked);
    }

    bool await_ready() const noexcept { return false; }
    template <environment_promise P>
    bool await_suspend(std::coroutine_handle<P> waiter) {
        return start(waiter, waiter.promise().plait_environment());
    }
    status await_resume() noexcept {
        wait_.asked->waits = nullptr;
        return wait_.canceled ? status(errc::canceled) : wait_.asked->outcome;
    }

  private:
    bool start(std::coroutine_handle<> waiter, environment& env) {
        wait_.canceled = !begin_wait(wait_, waiter, env);
        if (wait_.canceled) return false;
        auto ask = [what = wait_.asked, box = env.context->box] {
            what->outcome = call(*what);
            auto answer = [what] {
                if (what->waits) make_ready(*what->waits);
            };
            deliver(*box, std::make_unique<posted_function<decltype(answer)>>(std::move(answer)));
        };
        auto job = std::make_unique<posted_function<decltype(ask)>>(std::move(ask));
        wait_.asked->waits = &wait_;
        wait_.asked->job = lookups().run(std::move(job));
        if (wait_.asked->job != 0) return true;
        wait_.unlink();
        wait_.asked->waits = nullptr;
        wait_.asked->outcome = std::make_error_code(std::errc::resource_unavailable_try_again);
        return false;
    }

    lookup_wait wait_;
};

enum class service_kind : std::uint8_t { name, number, neither };

service_kind kind_of(const std::string& service, std::uint16_t& port) noexcept {
    if (service.empty() || service.size() > longest_name || service.find('\0') != std::string::npos)
        return service_kind::neither;
    if (service.find_first_not_of("0123456789") != std::string::npos) return service_kind::name;
    const char* const end = service.data() + service.size();
    const auto [behind, failure] = std::from_chars(service.data(), end, port);
    return failure == std::errc() && behind == end ? service_kind::number : service_kind::neither;
}

bool is_possible(std::string_view host) noexcept {
    const std::size_t longest = longest_name + (host.ends_with('.') ? 1 : 0);
    return !host.empty() && host.size() <= longest && host.find('\0') == std::string_view::npos;
}

task<io_result<std::vector<endpoint>>> resolve_owned(std::string host, std::string service) {
    using result = io_result<std::vector<endpoint>>;
    environment& env = co_await this_environment();
    if (env.cancel->cancelled) {
        env.cancel->notice();
        co_return errc::canceled;
    }
    if (!is_possible(host)) co_return errc::invalid_name;
    std::uint16_t port = 0;
    const service_kind kind = kind_of(service, port);
    if (kind == service_kind::neither) co_return errc::service_not_found;
    if (kind == service_kind::number) {
        if (const auto literal = parse_address(host))
            co_return std::vector<endpoint>(1, endpoint(*literal, port));
    }
    auto asked = std::make_shared<lookup>(std::move(host), std::move(service));
    status outcome;
    if (!env.context->system->look_up(asked->host, asked->service, outcome, asked->found)) {
        lookup_awaitable answer(asked);
        outcome = co_await answer;
    }
    if (!outcome.ok()) co_return result(outcome, 0);
    // The system may name an endpoint once for each line of /etc/hosts.
    std::vector<endpoint> found;
    for (const endpoint& each : asked->found)
        if (std::find(found.begin(), found.end(), each) == found.end()) found.push_back(each);
    if (found.empty()) co_return errc::host_not_found;
    co_return std::move(found);
}

} // namespace

lookup_function exchange_lookup(lookup_function replacement) noexcept {
    return look_up_now.exchange(replacement);
}

} // namespace detail

task<io_result<std::vector<endpoint>>> resolve(std::string_view host, std::string_view service) {
    return detail::resolve_owned(std::string(host), std::string(service));
}

} // namespace plait::inline v1
