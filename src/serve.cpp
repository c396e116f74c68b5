#include <plait/serve.hpp>

#include "src/loop.hpp"
#include "src/per_core.hpp"

namespace plait::inline v1 {
namespace detail {
namespace {

constexpr auto first_backoff = std::chrono::milliseconds(20);
constexpr auto longest_backoff = std::chrono::milliseconds(500);

/// Out of descriptors or memory: trying again at once would spin, giving up would end the service.
bool exhausted(std::error_code error) noexcept {
    return error == std::errc::too_many_files_open || error == std::errc::too_many_files_open_in_system ||
           error == std::errc::no_buffer_space || error == std::errc::not_enough_memory;
}

/// The connection ended before it was accepted; accept(2) lists these as errors of the connection, not ours.
bool of_one_connection(std::error_code error) noexcept {
    return error == std::errc::connection_aborted || error == std::errc::connection_reset ||
           error == std::errc::protocol_error || error == std::errc::operation_not_permitted ||
           error == std::errc::network_down || error == std::errc::network_unreachable ||
           error == std::errc::host_unreachable || error == std::errc::no_protocol_option ||
           error == std::errc::operation_not_supported || error == std::errc::timed_out ||
           error == std::errc::interrupted || error == std::errc::operation_would_block;
}

} // namespace

server::server(environment& env, const serve_options& options)
    : env_(env), loop_(*env.context), outer_(env.cancel), options_(options),
      signals_(options.stop_on(), [](loop_hook& hook) noexcept {
          auto& self = static_cast<signal_hook&>(static_cast<signal_watch&>(hook));
          while (self.arrived() != 0) {
              // Not loop_.draining: another server may have begun that, with this very signal.
              if (std::exchange(self.owner->signaled_, true))
                  self.owner->stop_now();
              else
                  self.owner->loop_.begin_drain();
          }
      }) {
    sessions.belongs_to(&env);
    on_drain_.owner = deadline_.owner = signals_.owner = this;
    on_drain_.call = [](loop_hook& hook) noexcept { static_cast<drain_hook&>(hook).owner->drain_began(); };
    deadline_.fire = [](timer& due) noexcept {
        server& self = *static_cast<deadline_timer&>(due).owner;
        self.late_ = true;
        self.scope_.cancel();
        self.sessions.request_stop();
    };
    scope_.enter(loop_, outer_);
    env.cancel = &scope_;
    if (loop_.draining)
        drain_began();
    else
        loop_.drain_hooks.push_back(on_drain_);
}

status server::begin() noexcept {
    if (options_.max_connections() == 0) return std::make_error_code(std::errc::invalid_argument);
    return signals_.start(loop_);
}

server::~server() {
    env_.cancel = outer_;
    loop_.stop_closing_on(options_.stop_on());
}

void server::listen_at(socket_state& listener) noexcept { listener_ = &listener; }

void server::announce() const {
    if (endpoint local;
        options_.on_listening() && loop_.system->local_endpoint(listener_->handle, local).ok())
        return options_.on_listening()(local);
    if (unix_path local;
        options_.on_listening_path() && loop_.system->unix_name(listener_->handle, false, local).ok())
        options_.on_listening_path()(local);
}

void server::drain_began() noexcept {
    deadline_.arm(loop_, saturated_add(loop_.system->now(), options_.drain_timeout()));
    if (loop_.team) loop_.team->request_drain();
}

/// A second signal: nobody wants to wait any longer, not for goodbyes either.
void server::stop_now() noexcept {
    loop_.begin_stop();
    if (loop_.team) loop_.team->request_stop();
}

task<bool> server::accept_failed(std::error_code error) {
    if (exhausted(error)) {
        backoff_ = backoff_.count() == 0 ? steady_duration(first_backoff)
                                         : std::min<steady_duration>(backoff_ * 2, longest_backoff);
        loop_.event(event_info::kind::accept_backoff, error,
                    "out of descriptors or memory: accepting pauses");
        co_return !co_await sleep_for(backoff_);
    }
    co_return !of_one_connection(error);
}

task<> server::wait_for_slot() {
    loop_.system->pause_accept(*listener_);
    while (sessions.size() >= options_.max_connections()) {
        wake_up slot(*this, wake_up::for_slot);
        co_await slot;
        if (scope_.cancelled) break;
    }
}

task<io_result<void>> server::finish(std::error_code error) {
    if (error != errc::draining) sessions.request_stop();
    co_await sessions.join();
    const bool stopped = loop_.stopping || outer_->cancelled;
    if (late_ && !stopped) co_return errc::timed_out;
    if (stopped) co_return errc::canceled;
    if (error == errc::draining) co_return io_result<void>();
    co_return error;
}

void server::accepted(socket_state& stream) noexcept {
    backoff_ = {};
    stream.drainable = true;
    stream.polite = true;
}

void server::report(std::error_code error, const endpoint& peer) const {
    if (!options_.on_error()) return;
    if (error == errc::end_of_stream || error == errc::draining || error == errc::canceled) return;
    options_.on_error()(error, peer);
}

void server::session_ended() noexcept {
    if (shared_) shared_->session_ended();
    wake();
}

void server::wake() noexcept {
    if (wake_up* waiting = std::exchange(waiting_, nullptr)) make_ready(*waiting);
}

/// The scope of a session with an idle time-out, and the timer that cancels it.
struct session_base::idle_watch : timer, traffic_watch, recycled_frame {
    idle_watch(server& owning, socket_state& of)
        : timer([](timer& due) noexcept { static_cast<idle_watch&>(due).look(); }), server_(owning) {
        stream = &of;
        of.watch = this;
        active = owning.loop_.system->now();
    }
    ~idle_watch() {
        if (stream) stream->watch = nullptr;
    }

    void begin(environment& session) {
        scope_.enter(server_.loop_, session.cancel);
        session.cancel = &scope_;
        look();
    }
    /// Cancels the session if nothing has moved for too long; otherwise looks again when that may be so.
    void look() noexcept {
        if (!stream) return; // closed by the session, which may have other things to do
        const steady_time due = saturated_add(active, server_.options_.idle_timeout());
        if (due > server_.loop_.system->now())
            arm(server_.loop_, due);
        else
            scope_.cancel();
    }

    server& server_;
    scope scope_;
};

namespace {
constexpr pending_type session_start{"session", [](pending&) noexcept {}};
} // namespace

session_base::session_base(server& owner, socket_state& stream) : child_base(session_start), owner_(owner) {
    if (owner.options_.idle_timeout() != steady_duration::max()) idle_ = new idle_watch(owner, stream);
    endpoint peer;
    if (!owner.reports() || !owner.loop_.system->remote_endpoint(stream.handle, peer).ok()) return;
    peer_ = peer.address();
    port_ = peer.port();
}

session_base::~session_base() {
    delete idle_;
    owner_.session_ended();
}

void session_base::begin(pending*& child, std::coroutine_handle<> coroutine, environment& env) {
    child = this;
    owner_.sessions.adopt(*this, coroutine, env);
    if (idle_) idle_->begin(env);
}

/// With on_error it is one more error; without, it ends the server.
std::error_code session_base::thrown() noexcept {
#if PLAIT_HAS_EXCEPTIONS
    if (!owner_.reports()) {
        owner_.stop_accepting();
        exception = std::current_exception();
        return {};
    }
    try {
        throw;
    } catch (const std::system_error& error) {
        return error.code();
    } catch (...) { // its code says no more
    }
#endif
    return std::make_error_code(std::errc::state_not_recoverable);
}

void session_base::finish(std::error_code error) noexcept {
    if (!error) return;
#if PLAIT_HAS_EXCEPTIONS
    try {
#endif
        owner_.report(error, endpoint(peer_, port_));
#if PLAIT_HAS_EXCEPTIONS
    } catch (...) {
        owner_.stop_accepting();
        exception = std::current_exception();
    }
#endif
}

} // namespace detail
} // namespace plait::inline v1
