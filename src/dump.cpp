#include "src/loop.hpp"

#include <algorithm>
#include <array>
#include <cstdio>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace plait::inline v1 {
namespace detail {

std::string print_span(steady_duration span) {
    using namespace std::chrono;
    struct unit {
        const char* name;
        long long seconds;
    };
    constexpr std::array<unit, 4> units{{{" d", 86400}, {" h", 3600}, {" min", 60}, {" s", 1}}};
    const long long tenths =
        duration_cast<duration<long long, std::deci>>(std::max(span, span.zero())).count();
    if (tenths < 600) return std::to_string(tenths / 10) + '.' + std::to_string(tenths % 10) + " s";
    long long left = tenths / 10;
    const auto* largest = std::find_if(units.begin(), units.end(), [&](unit u) { return left >= u.seconds; });
    const unit& next = *(largest + 1);
    std::string text = std::to_string(left / largest->seconds) + largest->name + ' ';
    left %= largest->seconds;
    return text + std::to_string(left / next.seconds) + next.name;
}

namespace {

// --- operations ----------------------------------------------------------------------------------------------

std::string_view name_of(const operation& op) noexcept {
    switch (op.kind) {
    case op_kind::accept: return "accept";
    case op_kind::connect: return "connect";
    case op_kind::receive: return op.whole ? "recv_exactly" : "recv";
    case op_kind::lease: return op.socket->taker ? "next" : "recv";
    case op_kind::send:
        if (op.socket->sends_frame) return "write";
        if (!op.data && op.size == 0 && op.piece_count == 0 && op.whole)
            return op.boundary ? "write" : "flush";
        return op.whole ? "send_all" : "send";
    case op_kind::receive_from: return op.cover->address || op.cover->path ? "recv_from" : "recv";
    case op_kind::send_to: return op.cover->address || op.cover->path ? "send_to" : "send";
    }
    return "operation";
}

/// What is left of a send_all.
std::size_t bytes_left(const operation& op) noexcept {
    if (op.data || op.piece_count == 0) return op.size;
    std::size_t all = 0;
    for (std::uint32_t i = 0; i < op.piece_count; ++i) all += op.pieces[i].size();
    return all - op.size; // so many of the first piece have left
}

std::string progress_of(const operation& op) {
    const auto bytes = [](std::size_t count) {
        return std::to_string(count) + (count == 1 ? " byte" : " bytes");
    };
    if (op.kind == op_kind::receive && op.whole)
        return ", " + std::to_string(op.transferred) + " of " + bytes(op.transferred + op.size);
    if (op.kind == op_kind::send && op.whole && (op.size > 0 || op.piece_count > 0))
        return ", " + bytes(bytes_left(op)) + " left";
    return {};
}

/// The socket's own name, or its peer's; "" where it has none.
std::string endpoint_of(const socket_state& socket, bool remote) {
    const driver& system = *socket.context->system;
    endpoint where;
    if ((remote ? system.remote_endpoint(socket.handle, where) : system.local_endpoint(socket.handle, where))
            .ok())
        return where.to_string();
    unix_path path;
    if (!system.unix_name(socket.handle, remote, path).ok()) return {};
    const std::string text = path.to_string();
    return text.empty() ? "(unnamed)" : text;
}

std::string peer_of(const operation& op) {
    if (op.kind == op_kind::accept) return {};
    if (op.kind == op_kind::connect && op.peer) return op.peer->to_string();
    if (op.kind == op_kind::receive_from && (op.cover->address || op.cover->path)) return {};
    if (op.kind == op_kind::send_to && op.cover->address) return op.cover->address->to_string();
    if (op.kind == op_kind::send_to && op.cover->path) return op.cover->path->to_string();
    return endpoint_of(*op.socket, true);
}

// --- where -----------------------------------------------------------------------------------------------------

std::string_view folder_of(std::string_view path) noexcept {
    return path.substr(0, path.find_last_of("/\\") + 1);
}

/// The path from the last folder on: where the build stood tells a reader nothing.
std::string_view short_path(std::string_view path) noexcept {
    const std::string_view folder = folder_of(path);
    if (folder.size() <= 1) return path;
    return path.substr(folder_of(folder.substr(0, folder.size() - 1)).size());
}

/// In a coroutine of the library's.
bool is_ours(const location& where) noexcept {
    const std::string_view file = where.file;
    return folder_of(file) == folder_of(__FILE__) || short_path(file).starts_with("plait/");
}

/// What a user calls the library's own coroutines. Those without a name say nothing that a user wants to know.
std::string_view public_name(std::string_view function) noexcept {
    struct entry {
        std::string_view internal;
        std::string_view name;
    };
    static constexpr std::array entries{
        entry{"run_child", {}},
        entry{"run_child_task", {}},
        entry{"run_into", {}},
        entry{"store_result", {}},
        entry{"store_first", {}},
        entry{"visit", {}},
        entry{"receive_into", {}},
        entry{"wait_for", "next"},
        entry{"limited", "with_timeout"},
        entry{"shielded_from_stop", "shielded"},
        entry{"stopped_by", "with_stop"},
        entry{"all_of", "when_all"},
        entry{"all_of_range", "when_all"},
        entry{"any_of", "when_any"},
        entry{"offload_call", "offload"},
        entry{"close_at_once", "close"},
    };
    for (const entry& each : entries)
        if (each.internal == function) return each.name;
    return function;
}

/// The function's name as one says it. (g++ adds the arguments of a template.)
std::string_view plain_name(const location& where) {
    std::string_view name = where.function;
    if (name == "operator()") return "a lambda";
    if (const std::size_t arguments = name.find('<'); arguments > 0) name = name.substr(0, arguments);
    return is_ours(where) ? public_name(name) : name;
}

/// "session at examples/x.cpp:12"; "" for a coroutine that is not shown.
std::string frame_text(const location& where) {
    if (where.line == 0) return {};
    const std::string_view name = plain_name(where);
    if (name.empty()) return {};
    return std::string(name) + " at " + std::string(short_path(where.file)) + ':' +
           std::to_string(where.line);
}

/// The nearest coroutine from `env` upwards that is the user's, and the library's function that it called.
std::string caller_text(const environment* env) {
    std::string called;
    for (; env; env = env->parent) {
        const std::string text = frame_text(env->awaits);
        if (text.empty()) continue;
        if (!is_ours(env->awaits)) return (called.empty() ? "" : called + " of ") + text;
        called = plain_name(env->awaits);
    }
    return called.empty() ? "somebody" : called;
}

/// What started the coroutine of `env`, which nobody awaits.
std::string owner_text(const environment& env, const loop& context) {
    const task_group* group = nullptr;
    for (const scope* each = env.cancel; each && !group; each = each->parent) group = each->group;
    if (!group) return "on(), for a coroutine of another kind";
    if (group == context.root_group()) return "run()";
    if (group == context.closers) return "closing in the background";
    if (const environment* owner = group->owner()) return "child of " + caller_text(owner);
    const std::string made = frame_text(group->made());
    return "child of a task_group that nobody joins yet, made by " + (made.empty() ? "somebody" : made);
}

// --- the list ----------------------------------------------------------------------------------------------------

struct entry {
    const pending* wait;
    bool ready;
    std::uint32_t waited; ///< in steps of loop::stamp
    std::size_t found;    ///< how many were found before
};

class dumper {
  public:
    dumper(loop& of, std::FILE* out) : loop_(of), out_(out), now_(of.stamp_of(of.system->now())) {
        add(loop_.root_scope);
        loop_.loose.for_each([this](scope& each) { add(each); });
        loop_.unscoped.for_each([this](pending& each) { add(each, false); });
        loop_.elsewhere.for_each([this](pending& each) { add(each, false); });
        // Not stable_sort: libstdc++'s uses what C++17 deprecates, and clang 19 says so.
        std::sort(found_.begin(), found_.end(), [](const entry& a, const entry& b) {
            return a.waited != b.waited ? a.waited > b.waited : a.found < b.found;
        });
        waiting_ = found_.size();
        loop_.system->completed().for_each([this](operation& each) { add(each, true); });
        loop_.resuming.for_each([this](pending& each) { add(each, true); });
        loop_.ready.for_each([this](pending& each) { add(each, true); });
    }

    void print() {
        print_title();
        std::size_t number = 0;
        for (const entry& each : found_) {
            const pending_type& type = *each.wait->type;
            const std::string what = type.describe ? type.describe(*each.wait) : std::string(type.name);
            const std::string state =
                each.ready ? "ready" : "for " + print_span(std::chrono::milliseconds(10) * each.waited);
            std::fprintf(out_, "#%zu %s, %s\n", ++number, what.c_str(), state.c_str());
            print_chain(*each.wait->waiting);
        }
    }

  private:
    void add(scope& each) {
        each.waits.for_each([this](pending& wait) { add(wait, false); });
        each.inner.for_each([this](scope& inner) { add(inner); });
    }
    void add(const pending& wait, bool ready) {
        if (wait.waiter)
            found_.push_back({&wait, ready, now_ - wait.since, found_.size()}); // else it is the loop's own
    }

    void print_title() {
        const std::size_t ready = found_.size() - waiting_;
        std::string text = waiting_ == 0   ? "no task waits"
                           : waiting_ == 1 ? "1 task waits"
                                           : std::to_string(waiting_) + " tasks wait";
        if (ready > 0)
            text += ", " + std::to_string(ready) + (ready == 1 ? " is" : " are") + " ready to go on";
        std::fprintf(out_, "plait: %s (%s)\n", text.c_str(),
                     std::string(to_string(loop_.system->backend())).c_str());
    }

    void print_chain(const environment& first) {
        const environment* env = &first;
        for (;; env = env->parent) {
            const std::string text = frame_text(env->awaits);
            if (!text.empty()) std::fprintf(out_, "     %s\n", text.c_str());
            if (!env->parent) break;
        }
        std::fprintf(out_, "     %s\n", owner_text(*env, loop_).c_str());
    }

    loop& loop_;
    std::FILE* out_;
    std::uint32_t now_;
    std::vector<entry>
        found_; ///< those that wait, the longest first, then those that are ready, in their order
    std::size_t waiting_ = 0;
};

} // namespace

std::string describe_operation(const pending& wait) {
    const auto& op = static_cast<const operation&>(wait);
    std::string text(name_of(op));
    if (op.socket->context && op.socket->handle != no_socket) {
        const std::string local = endpoint_of(*op.socket, false);
        const std::string peer = peer_of(op);
        const bool receives =
            op.kind == op_kind::receive || op.kind == op_kind::lease || op.kind == op_kind::receive_from;
        text += ' ' + (local.empty() ? "(unbound)" : local);
        if (!peer.empty()) text += (receives ? " <- " : " -> ") + peer;
    } else {
        text += " on a closed socket";
    }
    return text + progress_of(op);
}

} // namespace detail

void io_context::dump(std::FILE* out) const {
    PLAIT_ASSERT(!loop_->runs() || detail::current_loop() == loop_.get(),
                 "a context that runs is dumped on its own thread; post() a call of dump() to it");
    detail::dumper(*loop_, out).print();
}

} // namespace plait::inline v1
