#include <plait/per_core.hpp>

#include "src/per_core.hpp"

#include <algorithm>
#include <limits>
#include <thread>

namespace plait::inline v1 {
namespace detail {

// --- the contexts and their threads --------------------------------------------------------------------------

void core_team::request_drain() noexcept {
    for (const auto& box : boxes) box->request(box->drain_requested);
}

void core_team::request_stop() noexcept {
    for (const auto& box : boxes) box->request(box->stop_requested);
}

void core_team::ended(std::size_t contexts) noexcept {
    std::lock_guard lock(mutex);
    ended_ += contexts;
    if (ended_ == size_) all_ended_.notify_all();
}

void core_team::wait_until_all_ended() noexcept {
    std::unique_lock lock(mutex);
    all_ended_.wait(lock, [this] { return ended_ == size_; });
}

core_runner::core_runner(std::size_t contexts, const context_options& options) {
    if (contexts == 0) contexts = std::max(1u, std::thread::hardware_concurrency());
    team_ = std::make_shared<core_team>(contexts);
    for (std::size_t i = 0; i < contexts; ++i) {
        contexts_.push_back(std::make_unique<io_context>(options));
        loop& made = loop_of(*contexts_.back());
        made.team = team_;
        made.core = i;
        team_->boxes.push_back(made.box);
    }
}

core_runner::~core_runner() = default;

void core_runner::run_one(const work_on& work, std::size_t index) noexcept {
#if PLAIT_HAS_EXCEPTIONS
    try {
        work(*contexts_[index], index);
    } catch (...) {
        {
            std::lock_guard lock(team_->mutex);
            if (!exception_) exception_ = std::current_exception();
        }
        team_->request_stop();
    }
#else
    work(*contexts_[index], index);
#endif
    team_->ended(1);
    team_->wait_until_all_ended(); // the others may still post here
    contexts_[index].reset();      // on this thread: sockets that are still open belong to it
}

void core_runner::run(const std::function<void(io_context&, std::size_t)>& work) {
    std::vector<std::thread> threads;
    struct join_all {
        std::vector<std::thread>& threads;
        ~join_all() {
            for (std::thread& each : threads) each.join();
        }
    };
    {
        join_all joined{threads};
#if PLAIT_HAS_EXCEPTIONS
        try {
#endif
            for (std::size_t i = 1; i < contexts_.size(); ++i)
                threads.emplace_back([this, &work, i] { run_one(work, i); });
#if PLAIT_HAS_EXCEPTIONS
        } catch (...) { // no further thread can be had
            team_->request_stop();
            team_->ended(contexts_.size() - threads.size());
            throw;
        }
#endif
        run_one(work, 0);
    }
#if PLAIT_HAS_EXCEPTIONS
    if (exception_) std::rethrow_exception(std::exchange(exception_, nullptr));
#endif
}

// --- what the contexts that serve one place share ------------------------------------------------------------

void loose_socket::reset() noexcept {
    if (is_open()) close_handle(take());
}

/// How others reach one context's server. They hold it, so that who comes late finds no server rather than memory that
/// is gone.
struct core_inbox {
    core_inbox(core_server& server, loop& here) : box(here.box), core(here.core), owner(&server) {}

    const std::shared_ptr<mailbox> box;
    const std::size_t core;
    core_server* owner;                   ///< touched by its own thread alone
    std::atomic<std::size_t> sessions{0}; ///< with those that are on their way
    std::atomic<bool> wants_slot{false};
    bool closed = false; ///< behind the group's mutex: its context has ended
};

class serving_group {
  public:
    serving_group(const serving_place& where, std::size_t contexts, const serve_options& options)
        : place(where), contexts_(contexts), most_(options.max_connections()) {}

    const serving_place place;

    bool has(std::size_t core) noexcept {
        std::lock_guard lock(mutex_);
        return std::find(joined_.begin(), joined_.end(), core) != joined_.end();
    }
    bool is_over() noexcept {
        std::lock_guard lock(mutex_);
        return over_ && joined_.size() == contexts_;
    }

    /// Opens what `member` listens at, which may be nothing.
    status join(core_server& member, loose_socket& listener, bool& all_joined);
    void announce(const serve_options& options) const;

    // Slots.
    bool full() const noexcept { return live_.load() >= most_; }
    bool take_slot() noexcept {
        std::size_t now = live_.load();
        while (now < most_)
            if (live_.compare_exchange_weak(now, now + 1)) return true;
        return false;
    }
    void give_slot_back() noexcept;
    std::atomic<int> waiting_for_slot{0};

    /// Gives `accepted` to the member with the fewest sessions. False: that is `giver`, who keeps it.
    bool hand_out(core_server& giver, loose_socket& accepted);

    /// `member` has drained: who joins now is too late. The one that accepts for all has closed the listener before.
    void drained(core_server& member) noexcept;
    /// `member` has ended otherwise: the others follow.
    void end(core_server& member, std::error_code why) noexcept;
    std::error_code ended_with() noexcept {
        std::lock_guard lock(mutex_);
        return why_;
    }

  private:
    status open(core_server& member, loose_socket& listener);
    template <class Message>
    void tell_others(core_server& member) noexcept;

    const std::size_t contexts_;
    const std::size_t most_;
    std::atomic<std::size_t> live_{0}; ///< sessions, and sockets on their way to one

    std::mutex mutex_; // for all that follows
    std::vector<std::size_t> joined_;
    std::vector<std::shared_ptr<core_inbox>> members_;
    std::size_t turn_ = 0;
    bool opened_ = false;
    bool shares_port_ = false;
    bool over_ = false;
    endpoint bound_; ///< not changed once it was opened
    unix_path bound_path_;
    std::error_code why_;
};

// --- messages between contexts: each is called on the thread of its receiver ----------------------------------

struct message_to_core : posted {
    explicit message_to_core(std::shared_ptr<core_inbox> receiver) noexcept : to(std::move(receiver)) {}
    std::shared_ptr<core_inbox> to;
};

struct handed_socket final : message_to_core {
    handed_socket(std::shared_ptr<core_inbox> receiver, std::shared_ptr<serving_group> of,
                  loose_socket&& accepted, plait::backend by)
        : message_to_core(std::move(receiver)), group(std::move(of)), socket(std::move(accepted)),
          made_by(by) {}
    ~handed_socket() override {
        if (!socket.is_open()) return;
        socket.reset(); // nobody was there any more
        to->sessions.fetch_sub(1);
        group->give_slot_back();
    }
    void call() override {
        core_server* const server = to->owner;
        if (!server || server->left_) return;
        driver& system = *server->env_.context->system;
        if (made_by != system.backend() && !system.prepare(socket.get()).ok()) return;
        server->handed_.push_back(std::move(socket));
        server->sessions.wake();
    }

    std::shared_ptr<serving_group> group;
    loose_socket socket;
    plait::backend made_by;
};

struct accepting_over final : message_to_core {
    using message_to_core::message_to_core;
    void call() override {
        if (!to->owner) return;
        to->owner->no_more_ = true;
        to->owner->sessions.wake();
    }
};

struct group_ended final : message_to_core {
    using message_to_core::message_to_core;
    void call() override {
        if (to->owner) to->owner->sessions.stop_accepting();
    }
};

struct slot_free final : message_to_core {
    using message_to_core::message_to_core;
    void call() override {
        if (to->owner) to->owner->sessions.wake();
    }
};

// --- the group -----------------------------------------------------------------------------------------------

std::shared_ptr<serving_group> core_team::group_for(const serving_place& place, std::size_t core,
                                                    const serve_options& options) {
    std::lock_guard lock(mutex);
    std::erase_if(groups_, [](const auto& each) { return each->is_over(); });
    for (const auto& each : groups_)
        if (each->place.same_as(place) && !each->has(core)) return each;
    return groups_.emplace_back(std::make_shared<serving_group>(place, size_, options));
}

status serving_group::join(core_server& member, loose_socket& listener, bool& all_joined) {
    std::lock_guard lock(mutex_);
    joined_.push_back(member.inbox_->core);
    if (over_) {
        member.no_more_ = true;
        return why_;
    }
    const bool first = !opened_;
    if (first || shares_port_) {
        if (const status failure = open(member, listener); !failure.ok()) {
            over_ = true;
            why_ = failure.code();
            tell_others<group_ended>(member);
            return failure;
        }
    }
    member.hands_out_ = first && !shares_port_;
    members_.push_back(member.inbox_);
    all_joined = members_.size() == contexts_;
    return {};
}

/// With the mutex held: opening waits for nothing.
status serving_group::open(core_server& member, loose_socket& listener) {
    driver& system = *member.env_.context->system;
    const bool first = !std::exchange(opened_, true);
    native_socket handle = no_socket;
    status failure;
    if (place.adopted_ != no_socket) {
        failure = system.inspect(place.adopted_, socket_kind::listener, place.is_path_);
        if (!failure.ok()) return failure;
        listener = loose_socket(place.adopted_);
        return place.is_path_ ? system.unix_name(place.adopted_, false, bound_path_)
                              : system.local_endpoint(place.adopted_, bound_);
    }
    if (place.is_path_) {
        bound_path_ = place.path_;
        failure = system.open_unix(socket_kind::listener, place.path_, place.options_.backlog(), handle,
                                   member.file_);
        listener = loose_socket(handle);
        return failure;
    }
    listen_options options = place.options_;
    if (!first) options.reuse_port();
    failure = system.open_listener(first ? place.local_ : bound_, options, handle);
    listener = loose_socket(handle);
    if (!first || !failure.ok()) return failure;
    shares_port_ = system.shares_ports() && contexts_ > 1 && !member.options_.one_acceptor();
    // It was bound as if it were the only one, and failed if somebody listened there. The others come by this.
    if (shares_port_) failure = system.set_option(handle, socket_option::reuse_port, 1);
    if (failure.ok()) failure = system.local_endpoint(handle, bound_);
    return failure;
}

void serving_group::announce(const serve_options& options) const {
    if (place.is_path_ && options.on_listening_path()) options.on_listening_path()(bound_path_);
    if (!place.is_path_ && options.on_listening()) options.on_listening()(bound_);
}

void serving_group::give_slot_back() noexcept {
    live_.fetch_sub(1);
    if (waiting_for_slot.load() == 0) return; // who begins to wait looks once more afterwards
    std::lock_guard lock(mutex_);
    for (const auto& each : members_)
        if (each->wants_slot.load()) deliver(*each->box, std::make_unique<slot_free>(each));
}

bool serving_group::hand_out(core_server& giver, loose_socket& accepted) {
    std::lock_guard lock(mutex_);
    ++turn_; // among equals
    for (;;) {
        std::shared_ptr<core_inbox> least = giver.inbox_;
        for (std::size_t i = 0; i < members_.size(); ++i) {
            const auto& each = members_[(turn_ + i) % members_.size()];
            const bool better = i == 0 || each->sessions.load() < least->sessions.load();
            if (better && !each->closed) least = each;
        }
        least->sessions.fetch_add(1);
        if (least == giver.inbox_) return false;
        auto message = std::make_unique<handed_socket>(least, giver.group_, std::move(accepted),
                                                       giver.env_.context->system->backend());
        handed_socket& kept = *message;
        std::unique_ptr<posted> item = std::move(message);
        if (least->box->push(std::move(item))) return true;
        accepted = std::move(kept.socket); // still ours
        least->sessions.fetch_sub(1);
        least->closed = true;
    }
}

template <class Message>
void serving_group::tell_others(core_server& member) noexcept {
    for (const auto& each : members_)
        if (each != member.inbox_) deliver(*each->box, std::make_unique<Message>(each));
}

void serving_group::drained(core_server& member) noexcept {
    std::lock_guard lock(mutex_);
    over_ = true;
    if (member.hands_out_) tell_others<accepting_over>(member);
}

void serving_group::end(core_server& member, std::error_code why) noexcept {
    std::lock_guard lock(mutex_);
    over_ = true;
    if (!why_) why_ = why;
    tell_others<group_ended>(member);
}

// --- one context's part ---------------------------------------------------------------------------------------

const pending_type server::wake_up::for_slot{"session slot", &server::wake_up::cancel};
const pending_type server::wake_up::for_connection{"accept", &server::wake_up::cancel};

namespace {

/// Completes when a connection has arrived; no driver knows it yet.
class accept_handle : public accept_operation {
  public:
    explicit accept_handle(socket_state& listener) noexcept : accept_operation(&listener.receive) {}
    io_result<native_socket> await_resume() noexcept { return take_handle(); }
};

} // namespace

core_server::core_server(environment& env, const serve_options& options)
    : env_(env), options_(options), sessions(env, options) {
    sessions.shared_ = this;
}

core_server::~core_server() {
    if (inbox_) inbox_->owner = nullptr;
    if (group_ && !left_)
        group_->end(*this, make_error_code(errc::canceled)); // the frame around is destroyed
    if (listener_) release_socket(*listener_);
}

status core_server::join(const serving_place& place) {
    const bool given = place.adopted_ != no_socket;
    if (!given && (place.is_path_ ? !place.path_.valid() || place.path_.is_unnamed() : !place.local_.valid()))
        return place.path_.valid() ? std::make_error_code(std::errc::invalid_argument) : place.path_.error();
    if (const status failure = sessions.begin(); !failure.ok()) return failure;
    loop& here = *env_.context;
    const auto group = here.team ? here.team->group_for(place, here.core, options_)
                                 : std::make_shared<serving_group>(place, 1, options_);
    inbox_ = std::make_shared<core_inbox>(*this, here);
    loose_socket listener;
    bool all_joined = false;
    if (const status failure = group->join(*this, listener, all_joined); !failure.ok()) return failure;
    group_ = group;
    if (listener.is_open()) {
        listener_ = here.adopt(listener.take(), socket_kind::listener);
        sessions.listen_at(*listener_);
    }
    if (all_joined) group_->announce(options_);
    return {};
}

/// Counts as one who waits for a slot.
struct core_server::slot_request {
    explicit slot_request(core_server& server) noexcept : server_(server) {
        server_.inbox_->wants_slot.store(true);
        server_.group_->waiting_for_slot.fetch_add(1);
    }
    slot_request(const slot_request&) = delete;
    slot_request& operator=(const slot_request&) = delete;
    ~slot_request() {
        server_.inbox_->wants_slot.store(false);
        server_.group_->waiting_for_slot.fetch_sub(1);
    }

  private:
    core_server& server_;
};

/// Until a session may begin; with `take` that slot is ours then. False: cancelled.
task<bool> core_server::wait_for_room(bool take) {
    slot_request request(*this);
    for (;;) {
        if (take ? group_->take_slot() : !group_->full()) co_return true;
        server::wake_up freed(sessions, server::wake_up::for_slot);
        co_await freed;
        if (sessions.cancelled()) co_return false;
    }
}

task<io_result<loose_socket>> core_server::next_accepted() {
    for (;;) {
        if (group_->full()) {
            env_.context->system->pause_accept(*listener_);
            const bool room = co_await wait_for_room(false);
            if (!room) co_return errc::canceled;
        }
        auto arrived = co_await accept_handle(*listener_);
        if (!arrived) {
            const bool over = co_await sessions.accept_failed(arrived.error());
            if (over) co_return arrived.error();
            continue;
        }
        sessions.accepting_works();
        loose_socket accepted(*arrived);
        if (!group_->take_slot()) { // another context was faster
            const bool room = co_await wait_for_room(true);
            if (!room) co_return errc::canceled;
        }
        if (hands_out_) {
            if (group_->hand_out(*this, accepted)) continue;
        } else {
            inbox_->sessions.fetch_add(1);
        }
        co_return std::move(accepted);
    }
}

task<io_result<loose_socket>> core_server::next_handed() {
    while (!sessions.cancelled()) {
        if (!handed_.empty()) {
            loose_socket first = std::move(handed_.front());
            handed_.erase(handed_.begin());
            co_return std::move(first);
        }
        if (no_more_) co_return errc::draining;
        server::wake_up arrived(sessions, server::wake_up::for_connection);
        co_await arrived;
    }
    co_return errc::canceled;
}

socket_state* core_server::take_in(loose_socket& accepted) {
    socket_state* const stream = env_.context->adopt(accepted.take(), socket_kind::stream);
    sessions.accepted(*stream);
    return stream;
}

void core_server::session_ended() noexcept {
    inbox_->sessions.fetch_sub(1);
    group_->give_slot_back();
}

task<io_result<void>> core_server::finish(std::error_code error) {
    left_ = true;
    for (auto& unused : std::exchange(handed_, {})) {
        unused.reset();
        session_ended();
    }
    file_.remove(); // before anybody else can listen there
    static_cast<void>(co_await close_at_once(listener_));
    if (error == errc::draining)
        group_->drained(*this);
    else
        group_->end(*this, error);
    auto result = co_await sessions.finish(error);
    const std::error_code why = group_->ended_with();
    if (why && result.error() == errc::canceled) co_return why; // another context's error
    co_return result;
}

} // namespace detail
} // namespace plait::inline v1
