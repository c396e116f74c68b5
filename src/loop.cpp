#include "src/loop.hpp"
#include "src/stop_hook.hpp"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <system_error>
#include <thread>

namespace plait::inline v1 {
namespace detail {
namespace {

constinit thread_local loop* running = nullptr;

/// Operations that may complete at once before the loop looks at everybody else again.
constexpr int inline_completions_per_turn = 256;

/// Room for the first frames of a turn; with less, sixteen small ones are moved once already.
constexpr std::size_t first_output = 2048;

/// A writer that waits for room goes on when less than this is collected.
constexpr std::size_t room_again = 32 * 1024;

void cancel_operation(pending& wait) noexcept {
    auto& op = static_cast<operation&>(wait);
    op.waiting->context->cancel(op);
}

constexpr pending_type receive_type{"recv", cancel_operation, describe_operation};
constexpr pending_type send_type{"send", cancel_operation, describe_operation};
constexpr pending_type accept_type{"accept", cancel_operation, describe_operation};
constexpr pending_type flush_type{"flush", cancel_operation};

/// No driver can be had, and this is why. An error code alone would not tell what helps.
[[noreturn]] void refuse(const std::string& reason) {
#if PLAIT_HAS_EXCEPTIONS
    throw std::system_error(std::make_error_code(std::errc::function_not_supported), reason);
#else
    std::fprintf(stderr, "plait: no backend for an io_context: %s\n", reason.c_str());
    std::abort();
#endif
}

struct posted_end final : posted {
    void call() override {}
};
posted_end end_of_posts; // stands in the mailbox once the loop has ended

/// Counts the depth of frames that the loop is in, and names it as this thread's.
class running_loop {
  public:
    explicit running_loop(loop* now) noexcept : before_(std::exchange(running, now)) {}
    running_loop(const running_loop&) = delete;
    running_loop& operator=(const running_loop&) = delete;
    ~running_loop() { running = before_; }

  private:
    loop* before_;
};

} // namespace

// --- mailbox -----------------------------------------------------------------------------------------------

bool mailbox::push(std::unique_ptr<posted>&& item) noexcept {
    posted* head = head_.load(std::memory_order_relaxed);
    do {
        if (head == &end_of_posts) return false;
        item->next = head;
    } while (
        !head_.compare_exchange_weak(head, item.get(), std::memory_order_seq_cst, std::memory_order_relaxed));
    static_cast<void>(item.release());
    // The loop sets `sleeping_`, then looks at `head_`; here it is the other way round. Both orders are
    // sequentially consistent, so that one of the two sees the other and no wake-up is lost.
    if (sleeping_.load(std::memory_order_seq_cst) && sleeping_.exchange(false)) waker_->wake();
    return true;
}

void mailbox::request(std::atomic<bool>& what) noexcept {
    what.store(true, std::memory_order_seq_cst);
    if (sleeping_.load(std::memory_order_seq_cst) && sleeping_.exchange(false)) waker_->wake();
}

void mailbox::open() noexcept {
    posted* expected = &end_of_posts;
    head_.compare_exchange_strong(expected, nullptr);
}

void mailbox::run_all(bool close) noexcept {
    if (!close && !head_.load(std::memory_order_relaxed)) return;
    posted* items = head_.exchange(close ? &end_of_posts : nullptr, std::memory_order_acquire);
    if (items == &end_of_posts) return;
    posted* in_order = nullptr;
    while (items) {
        posted* following = std::exchange(items->next, in_order);
        in_order = std::exchange(items, following);
    }
    while (in_order) {
        std::unique_ptr<posted> item(std::exchange(in_order, in_order->next));
        item->call();
    }
}

bool mailbox::prepare_sleep() noexcept {
    sleeping_.store(true, std::memory_order_seq_cst);
    if (!has_news()) return true;
    woke();
    return false;
}

bool mailbox::has_news() const noexcept {
    return head_.load(std::memory_order_seq_cst) || drain_requested.load(std::memory_order_seq_cst) ||
           stop_requested.load(std::memory_order_seq_cst);
}

void mailbox::discard(posted* items) noexcept {
    if (items == &end_of_posts) return;
    while (items) delete std::exchange(items, items->next);
}

std::shared_ptr<mailbox> mailbox_of(loop& loop) noexcept { return loop.box; }

bool deliver(mailbox& box, std::unique_ptr<posted> item) noexcept { return box.push(std::move(item)); }

loop* current_loop() noexcept { return running; }

// --- outbox ------------------------------------------------------------------------------------------------

outbox::outbox(socket_state& socket) noexcept : flush(flush_type) {
    flush.socket = &socket;
    flush.kind = op_kind::send;
}

socket_state::socket_state(loop& owner, socket_kind what, native_socket native, std::size_t extra) noexcept
    : context(&owner), handle(native), extra_bytes(static_cast<std::uint16_t>(extra)), kind(what),
      receive(what == socket_kind::listener ? accept_type : receive_type), send(send_type) {
    receive.socket = send.socket = this;
    receive.kind = what == socket_kind::listener ? op_kind::accept : op_kind::receive;
    send.kind = op_kind::send;
}

// --- the loop ----------------------------------------------------------------------------------------------

loop::loop(io_context& owner, context_options&& chosen) : facade(owner), options(std::move(chosen)) {
    system = make_driver(options, reason);
    if (!system) refuse(reason);
    made_ = turn_time = system->now();
    system->thread_is_awaited = [this] { return !elsewhere.empty(); };
    system->dump = [this](std::FILE* out) { facade.dump(out); };
    if (reason.starts_with("io_uring_")) event(event_info::kind::fallback, {}, reason);
    box = std::make_shared<mailbox>(system->get_waker());
    root_scope.enter(*this, nullptr);
    closers = new task_group;
}

loop::~loop() {
    // On some systems what is in flight belongs to the thread that started it; so it does on all.
    bool open = false;
    sockets.for_each([&](socket_state& socket) { open = open || socket.handle != no_socket; });
    PLAIT_ASSERT(!open || thread_ == std::this_thread::get_id(),
                 "a context with open sockets is destroyed by another thread than the one that ran it");
    running_loop here(this);
    resumed_at(system->now());
    begin_stop();
    // Whoever still waits is resumed, as cancelled; plait's own tasks have ended with run().
    for (int turns = 0; turns < 1000 && !done(); ++turns) turn();
    box->run_all(true);
    close_everything();
    delete closers;
    if (dump_requests_watched_) unwatch_signal(dump_signal, box->get_waker());
}

/// Whether there is nothing left to turn for: run()'s task has ended, or, in the destructor, every coroutine has
/// heard of its cancellation.
bool loop::done() noexcept {
    if (root_) return root_->size() == 0 && closers->size() == 0;
    bool found = !ready.empty() || closers->size() > 0;
    sockets.for_each(
        [&](socket_state& socket) { found = found || socket.receive.waiter || socket.send.waiter; });
    return !found;
}

loop* loop::current() noexcept { return running; }

void loop::run(task<> root) {
    PLAIT_ASSERT(!running, "run() inside a running context; co_await the task instead");
    // A ring serves the thread that enabled it and no other; what is so on one system is so on all.
    PLAIT_ASSERT(thread_ == std::thread::id() || thread_ == std::this_thread::get_id(),
                 "a context is run by another thread than before; make one for each thread");
    running_loop here(this);
    thread_ = std::this_thread::get_id();
    system->enter_thread();
    box->open();
    resumed_at(system->now());
    heap_blocks_at_start_ = heap_blocks();
    std::optional<stop_hook> on_stop;
    if (options.stop().stop_possible())
        on_stop.emplace(options.stop(), [to = box] { to->request(to->stop_requested); });

    task_group group;
    group.scope_.enter(*this, &root_scope);
    group.spawn(std::move(root));
    root_ = &group;
    // Closing politely may outlast the sessions; it is bounded by its own grace.
    while (!done()) turn();
    root_ = nullptr;
    closing_signals_.reset();
    box->run_all(true);
    system->metrics().allocations += heap_blocks() - heap_blocks_at_start_;
    group.end_join();
}

struct metrics loop::metrics() const noexcept {
    struct metrics counted = system->metrics();
    if (running == this && runs()) counted.allocations += heap_blocks() - heap_blocks_at_start_;
    return counted;
}

void loop::turn() {
    ++system->metrics().turns;
    inline_budget_ = inline_completions_per_turn;
    run_ready();
    box->run_all(false);
    if (box->drain_requested.load(std::memory_order_relaxed)) begin_drain();
    if (box->stop_requested.load(std::memory_order_relaxed)) begin_stop();
    if (!timers_.empty()) fire_timers();
    flush_outputs();

    bool block = !std::exchange(look_again_, false) && idle();
    if (block) turn_ended(system->now()); // to sleep is no part of it
    const bool ended = block;
    if (block && options.poll_before_sleep().count() > 0) {
        const steady_time until =
            std::min(saturated_add(system->now(), options.poll_before_sleep()), next_deadline());
        do {
            system->wait(steady_time::min());
            call_signal_hooks(); // this wait has taken a signal's wake-up: the next one would sleep through it
            block = idle();
        } while (block && !box->has_news() && system->now() < until);
    }
    if (block && box->prepare_sleep()) {
        system->wait(next_deadline());
        box->woke();
    } else {
        system->wait(steady_time::min());
    }
    const steady_time now = system->now();
    if (!ended) turn_ended(now);
    resumed_at(now);
    call_signal_hooks();
    if (closing_signals_ && closers->size() == 0) closing_signals_.reset();
    settle_completions();
}

void loop::resumed_at(steady_time now) noexcept {
    turn_time = now;
    stamp = stamp_of(now);
}

void loop::turn_ended(steady_time now) {
    const std::chrono::nanoseconds took = now - turn_time;
    if (took > system->metrics().longest_turn) system->metrics().longest_turn = took;
    if (took < options.slow_turn()) return;
    const auto milliseconds = std::chrono::duration_cast<std::chrono::milliseconds>(took).count();
    event(event_info::kind::slow_turn, {},
          "a turn of the loop took " + std::to_string(milliseconds) +
              " ms, and kept all other tasks waiting");
}

/// Nobody can go on before the system, a timer or another thread has something new.
bool loop::idle() noexcept {
    return ready.empty() && system->completed().empty() && system->closed().empty() && !done();
}

/// One hook may unlink others: a signal that stops everything ends the waits for all signals.
void loop::call_signal_hooks() {
    const std::uint64_t arrivals = signal_arrivals();
    if (arrivals == signals_seen_) return;
    signals_seen_ = arrivals;
    list<loop_hook> asked;
    asked.append(signal_hooks);
    while (!asked.empty()) {
        loop_hook& hook = asked.pop_front();
        signal_hooks.push_back(hook);
        hook.call(hook);
    }
}

void loop::run_ready() {
    resuming.append(ready);
    while (!resuming.empty()) {
        pending& wait = resuming.pop_front();
        resume(wait.waiter);
    }
}

void loop::resume(std::coroutine_handle<> handle) {
    do {
        next = nullptr;
        handle.resume();
        if (finished_child) {
            auto& child = static_cast<child_base&>(*std::exchange(finished_child, nullptr));
            child.group->child_ended(child);
        }
        handle = next;
    } while (handle);
}

steady_time loop::next_deadline() const noexcept {
    return timers_.empty() ? steady_time::max() : timers_.front().deadline;
}

void loop::event(event_info::kind what, std::error_code error, std::string_view detail) const {
    if (options.on_event()) options.on_event()(event_info{what, error, detail});
}

// --- timers: a binary heap, the earliest in front ------------------------------------------------------------

void loop::place(std::size_t position, heap_entry entry) noexcept {
    timers_[position] = entry;
    entry.what->position = position;
}

void loop::sift_up(std::size_t position, heap_entry entry) noexcept {
    while (position > 0) {
        const std::size_t above = (position - 1) / 2;
        if (timers_[above].deadline <= entry.deadline) break;
        place(position, timers_[above]);
        position = above;
    }
    place(position, entry);
}

void loop::sift_down(std::size_t position, heap_entry entry) noexcept {
    for (;;) {
        std::size_t below = 2 * position + 1;
        if (below >= timers_.size()) break;
        if (below + 1 < timers_.size() && timers_[below + 1].deadline < timers_[below].deadline) ++below;
        if (entry.deadline <= timers_[below].deadline) break;
        place(position, timers_[below]);
        position = below;
    }
    place(position, entry);
}

void loop::arm(timer& what, steady_time at) {
    PLAIT_ASSERT(what.position == timer::unarmed, "a timer is armed once");
    what.owner = this;
    what.deadline = at;
    timers_.push_back({at, &what});
    sift_up(timers_.size() - 1, {at, &what});
}

void loop::disarm(timer& what) noexcept {
    const std::size_t hole = std::exchange(what.position, timer::unarmed);
    const heap_entry last = timers_.back();
    timers_.pop_back();
    if (hole == timers_.size()) return;
    if (hole > 0 && last.deadline < timers_[(hole - 1) / 2].deadline)
        sift_up(hole, last);
    else
        sift_down(hole, last);
}

void loop::fire_timers() {
    while (!timers_.empty() && timers_.front().deadline <= turn_time) {
        timer& due = *timers_.front().what;
        disarm(due);
        due.fire(due);
    }
}

// --- operations --------------------------------------------------------------------------------------------

bool loop::start(operation& op, std::coroutine_handle<> waiter, environment& env) {
    PLAIT_ASSERT(!op.waiter,
                 "two operations of one direction on a socket at once; one task may receive while "
                 "another sends, but each direction has one task at a time");
    socket_state& socket = *op.socket;
    op.transferred = 0;
    op.canceling = op.drain_ended = op.dont_wait = op.deferred = false;
    if (socket.handle == no_socket || socket.closing) {
        op.result = std::make_error_code(std::errc::bad_file_descriptor);
        return false;
    }
    PLAIT_ASSERT(socket.context == this, "a socket is used on the context that opened it");
    if (!begin_wait(op, waiter, env)) {
        op.result = errc::canceled;
        return false;
    }
    if (op.kind == op_kind::send) {
        const bool nothing_to_send = op.piece_count == 0 && op.size == 0; // a flush, for one
        if (!socket.send_failure.ok() || (nothing_to_send && !socket.output)) {
            op.result = socket.send_failure;
            op.unlink();
            op.waiter = nullptr;
            return false;
        }
        if (socket.output) { // what was collected before leaves before
            op.deferred = true;
            return true;
        }
    } else if (draining && op.boundary && socket.drainable) {
        op.dont_wait = true;
    }
    if (drive(op)) return true;
    if (inline_budget_-- > 0) {
        op.unlink();
        op.waiter = nullptr;
        return false;
    }
    detail::make_ready(op);
    return true;
}

bool loop::pass(operation& op, std::coroutine_handle<> waiter, environment& env) {
    PLAIT_ASSERT(!op.waiter, "two receives on a socket at once; each direction has one task at a time");
    if (env.cancel->cancelled) return false;
    op.kind = op_kind::lease;
    op.transferred = 0;
    op.canceling = op.drain_ended = op.dont_wait = op.deferred = false;
    op.block = nullptr;
    op.result = status();
    static_cast<void>(begin_wait(op, waiter, env));
    detail::make_ready(op);
    return true;
}

/// Whether `op`, a part of which has succeeded, has work left.
bool loop::goes_on(operation& op) noexcept {
    if (op.kind != op_kind::lease) return op.whole && (op.piece_count > 0 || op.size > 0);
    lease_taker* const taker = op.socket->taker;
    if (!taker) return false;
    ++system->metrics().receives;
    system->metrics().bytes_received += op.size;
    const bool done = taker->take(*taker, op);
    op.block = nullptr;
    if (done) return false;
    if (op.boundary) {
        op.transferred = 0; // between messages again
        op.dont_wait = draining && op.socket->drainable;
    }
    return true;
}

bool loop::drive(operation& op) {
    for (;;) {
        if (op.transferred > 0)
            op.dont_wait = false; // a message has begun: draining waits for the rest of it
        op.in_flight = true;
        if (!system->start(op)) return true;
        op.in_flight = false;
        if (!op.result.ok() || !goes_on(op)) break;
    }
    if (op.dont_wait && op.result.code() == std::errc::operation_would_block) op.result = errc::draining;
    if (op.socket->watch) op.socket->watch->active = turn_time;
    return false;
}

void loop::cancel(operation& op) noexcept {
    op.drain_ended = false; // this is more than draining asks for
    if (op.deferred) {
        op.deferred = false;
        op.result = errc::canceled;
        detail::make_ready(op);
        return;
    }
    // Also when it has completed and waits to be settled: a part of the buffer must not be started again then.
    const bool asked = std::exchange(op.canceling, true);
    if (op.in_flight && !asked) system->cancel(op);
}

void loop::abandon(operation& op) noexcept {
    if (op.in_flight) {
        if (!op.canceling) {
            op.canceling = true;
            system->cancel(op);
        }
        while (op.in_flight) system->wait(steady_time::max());
        look_again_ = true;
    }
    op.unlink();
    if (socket_state& socket = *op.socket; socket.sends_frame && &op == &socket.send) {
        const bool all_left = !op.deferred && op.result.ok() && op.piece_count == 0 && op.size == 0;
        if (!all_left && socket.send_failure.ok()) socket.send_failure = errc::closed;
    }
    op.deferred = false;
    if (op.result.ok() && op.waiter) {
        if (op.kind == op_kind::accept) system->close(op.accepted);
        if (op.kind == op_kind::lease && op.block) op.block->release(*op.block);
    }
    finished(op);
}

void loop::finished(operation& op) noexcept {
    op.waiter = nullptr;
    if (op.kind == op_kind::send) op.socket->sends_frame = false;
    if (op.socket->closing) free_if_unused(*op.socket);
}

void loop::settle_completions() {
    while (!system->completed().empty()) settle(system->completed().pop_front());
    while (!system->closed().empty()) {
        socket_state& socket = system->closed().pop_front();
        sockets.push_back(socket); // its owner may outlive this loop, which then has to tell the block
        socket.handle = no_socket;
        if (socket.closed_flag) *socket.closed_flag = true;
        free_if_unused(socket);
    }
}

void loop::settle(operation& op) {
    socket_state& socket = *op.socket;
    if (socket.watch) socket.watch->active = turn_time;
    if (socket.output && &op == &socket.output->flush) return output_left(*socket.output);
    if (op.result.ok() && goes_on(op)) {
        // The scope may have been cancelled while this completion waited here, out of its reach.
        if ((op.canceling && !op.drain_ended) || op.waiting->cancel->cancelled) {
            op.result = errc::canceled; // a part of it had won the race; bytes() tells how much
        } else {
            op.canceling = op.drain_ended = false;
            if (drive(op)) {
                op.waiting->cancel->waits.push_back(op);
                return;
            }
        }
    } else if (op.drain_ended && op.transferred == 0 && op.result.is(errc::canceled) &&
               !op.waiting->cancel->cancelled) {
        // What the kernel holds by now is still taken; only then has draining the last word.
        op.dont_wait = true;
        op.canceling = op.drain_ended = false;
        if (drive(op)) {
            op.waiting->cancel->waits.push_back(op);
            return;
        }
    } else if (op.dont_wait && op.result.code() == std::errc::operation_would_block) {
        op.result = errc::draining;
    }
    detail::make_ready(op);
}

// --- collected output --------------------------------------------------------------------------------------

std::byte* loop::collect(socket_state& socket, std::size_t bytes) {
    if (!socket.output) socket.output = ::new (allocate(sizeof(outbox))) outbox(socket);
    queue_flush(*socket.output);
    byte_buffer& collecting = socket.output->collecting;
    std::byte* room = collecting.prepare(collecting.empty() ? std::max(bytes, first_output) : bytes).data();
    collecting.commit(bytes);
    return room;
}

byte_buffer loop::take_collected(socket_state& socket) {
    if (!socket.output) return {};
    byte_buffer taken = std::move(socket.output->collecting);
    if (!socket.output->leaving()) free_output(socket);
    return taken;
}

void loop::give_back_collected(socket_state& socket, byte_buffer bytes) {
    if (bytes.empty()) return;
    if (!socket.output) socket.output = ::new (allocate(sizeof(outbox))) outbox(socket);
    socket.output->collecting = std::move(bytes);
    queue_flush(*socket.output);
}

void loop::queue_flush(outbox& output) noexcept {
    if (output.queued || output.leaving()) return;
    output.queued = true;
    output.next_queued = std::exchange(queued_outputs_, &output);
}

void loop::flush_outputs() {
    while (outbox* output = queued_outputs_) {
        queued_outputs_ = output->next_queued;
        output->queued = false;
        output->collecting.swap(output->sending);
        operation& op = output->flush;
        op.whole = true;
        op.transferred = 0;
        op.piece_count = 0;
        op.data = output->sending.bytes().data();
        op.size = output->sending.size();
        if (!drive(op)) output_left(*output);
    }
}

/// A flush has ended, or moved a part of what it was given.
void loop::output_left(outbox& output) {
    operation& op = output.flush;
    socket_state& socket = *op.socket;
    if (!socket.closing && op.result.ok() && op.size > 0) {
        if (drive(op)) return;
    }
    ++system->metrics().sends;
    system->metrics().bytes_sent += op.transferred;
    if (socket.closing) return free_if_unused(socket); // dropped: what is left goes with it
    if (!op.result.ok()) socket.send_failure = op.result;
    output.sending.reset();
    if (socket.send_failure.ok() && !output.collecting.empty()) {
        queue_flush(output);
        if (socket.send.deferred && socket.send.boundary && output.collecting.size() < room_again)
            start_deferred(socket);
        return;
    }
    free_output(socket);
    if (socket.send.deferred) start_deferred(socket);
}

void loop::free_output(socket_state& socket) noexcept {
    outbox* output = std::exchange(socket.output, nullptr);
    if (!output) return;
    for (outbox** link = &queued_outputs_; output->queued; link = &(*link)->next_queued) {
        if (*link != output) continue;
        *link = output->next_queued;
        break;
    }
    output->~outbox();
    deallocate(output, sizeof(outbox));
}

/// The user's send waited for collected output, which has left now.
void loop::start_deferred(socket_state& socket) {
    operation& op = socket.send;
    op.deferred = false;
    if (!socket.send_failure.ok()) {
        op.result = socket.send_failure;
        return detail::make_ready(op);
    }
    if (op.piece_count == 0 && op.size == 0) { // a flush, or a write that waited for room
        op.result = status();
        return detail::make_ready(op);
    }
    if (!drive(op)) detail::make_ready(op);
}

// --- sockets -----------------------------------------------------------------------------------------------

namespace {

void free_block(socket_state& socket) noexcept {
    const std::size_t bytes = sizeof(socket_state) + socket.extra_bytes;
    socket.~socket_state();
    deallocate(&socket, bytes);
}

} // namespace

void release_socket(socket_state& socket) noexcept {
    socket.owned = false;
    if (!socket.context) return free_block(socket);
    loop& owner = *socket.context;
    const bool unsent = socket.output && socket.send_failure.ok();
    if (!socket.closing && running == &owner && !owner.stopping &&
        (unsent || (socket.polite && !socket.ended)))
        return owner.close_politely(socket);
    owner.drop(socket);
}

socket_state* loop::adopt(native_socket handle, socket_kind kind) {
    const std::size_t extra = system->socket_bytes();
    auto* socket = ::new (allocate(sizeof(socket_state) + extra)) socket_state(*this, kind, handle, extra);
    sockets.push_back(*socket);
    socket->drainable = kind == socket_kind::listener;
    system->attach(*socket);
    if (kind == socket_kind::stream) ++system->metrics().connections;
    return socket;
}

void loop::drop(socket_state& socket) noexcept {
    if (socket.closing) return free_if_unused(socket);
    socket.closing = true;
    if (socket.kind == socket_kind::stream) --system->metrics().connections;
    for (operation* op : {&socket.receive, &socket.send})
        if (op->waiter) cancel(*op);
    if (socket.output && !socket.output->leaving()) free_output(socket);
    if (socket.output) cancel(socket.output->flush);
    free_if_unused(socket);
}

native_socket loop::give_away(socket_state& socket) noexcept {
    system->forget(socket);
    if (socket.kind == socket_kind::stream) --system->metrics().connections;
    const native_socket handle = std::exchange(socket.handle, no_socket);
    socket.closing = true;
    socket.owned = false;
    free_if_unused(socket);
    return handle;
}

/// Closes the socket once nothing is in flight on it, and frees the block once nobody waits on it.
void loop::free_if_unused(socket_state& socket) noexcept {
    if (!socket.closing) return;
    if (socket.receive.in_flight || socket.send.in_flight) return;
    if (socket.output && socket.output->leaving()) return;
    free_output(socket);
    if (socket.handle != no_socket) {
        if (socket.close_started) return;
        socket.close_started = true;
        if (!system->close(socket)) return;
        socket.handle = no_socket;
        if (socket.closed_flag) *socket.closed_flag = true;
    }
    if (socket.owned || socket.receive.waiter || socket.send.waiter) return;
    free_block(socket);
}

void loop::close_everything() noexcept {
    auto each_open = [this](auto f) {
        bool found = false;
        sockets.for_each([&](socket_state& socket) {
            if (socket.handle == no_socket) return;
            found = true;
            f(socket);
        });
        return found;
    };
    each_open([this](socket_state& socket) { drop(socket); });
    while (each_open([](socket_state&) {})) {
        system->wait(steady_time::max());
        settle_completions();
    }
    // A stream object that outlives its context keeps a block that nothing can be started on.
    sockets.for_each([](socket_state& socket) {
        socket.unlink();
        socket.context = nullptr;
    });
}

// --- draining and stopping -----------------------------------------------------------------------------------

void loop::begin_drain() {
    box->drain_requested.store(false, std::memory_order_relaxed);
    if (draining) return;
    draining = true;
    sockets.for_each([this](socket_state& socket) {
        operation& op = socket.receive;
        if (op.in_flight && op.boundary && socket.drainable && op.transferred == 0 && !op.canceling) {
            op.drain_ended = op.canceling = true;
            system->cancel(op);
        }
    });
    while (!drain_hooks.empty()) {
        loop_hook& hook = drain_hooks.pop_front();
        hook.call(hook);
    }
}

void loop::begin_stop() {
    box->stop_requested.store(false, std::memory_order_relaxed);
    if (stopping) return;
    stopping = true;
    root_scope.cancel();
    closers->request_stop();
}

void loop::stop_closing_on(const signal_list& signals) noexcept {
    if (closers->size() == 0 || signals.empty()) return;
    closing_signals_.emplace(signals, [](loop_hook& hook) noexcept {
        auto& watch = static_cast<closing_watch&>(static_cast<signal_watch&>(hook));
        if (watch.arrived() != 0) watch.owner->begin_stop();
    });
    closing_signals_->owner = this;
    if (!closing_signals_->start(*this).ok()) closing_signals_.reset();
}

} // namespace detail
} // namespace plait::inline v1
