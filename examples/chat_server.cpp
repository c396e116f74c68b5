// A chat server. A client's first line is "ROOM NAME"; from then on each of its lines goes to the others in that room.
//
//     chat_server                         until Ctrl-C; then everybody gets what was said, and the end
//     chat_server --queue 100             lines that may wait for a client that reads slowly
//     chat_server --patience 10           seconds that such a client has to take a line
//     chat_server --threads 4             on so many cores; 0: on all of them
//
// It prints "listening on 127.0.0.1:8000 (io_uring)", and who was dropped, and why. Talk to it with: nc 127.0.0.1 8000

#include "arguments.hpp"
#include "program.hpp"

#include <csignal>
#include <map>
#include <memory>
#include <mutex>

namespace {

using client_lines = plait::framed<plait::tcp_stream, plait::lines>;
using text = std::shared_ptr<const std::string>; // said once, and queued for everybody

struct settings {
    plait::endpoint local;
    std::size_t queue;
    std::chrono::seconds patience;
    std::size_t threads;
    plait::backend backend;
    std::optional<plait::activated_listener> given; // by a supervisor, in place of what we would open
};

// One client in a room. Nobody ever waits for a client: what is said goes into its queue, and if that is full, the
// client has to leave. It belongs to the thread of its session; others send it there.
class member : public std::enable_shared_from_this<member> {
  public:
    member(plait::io_context& where, std::string peer, std::string_view called, std::size_t room_for)
        : name(called), queue(room_for), context_(where), peer_(std::move(peer)) {}

    // From any thread. Lines arrive in the order of the calls.
    void tell(text line) {
        context_.post([self = shared_from_this(), line = std::move(line)] { self->hear(line); });
    }
    // What it was told before is still delivered.
    void bid_farewell() {
        context_.post([self = shared_from_this()] { self->queue.close(); });
    }
    void drop(const std::string& why) {
        if (!dropped.empty()) return;
        dropped = why;
        std::fprintf(stderr, "%s: dropped %s: %s\n", peer_.c_str(), name.c_str(), why.c_str());
        queue.close();
    }

    const std::string name;
    plait::channel<text> queue;
    std::string dropped; // why

  private:
    void hear(const text& line) {
        if (!queue.is_closed() && !queue.try_send(line)) drop("too many lines wait for it");
    }
    plait::io_context& context_;
    std::string peer_;
};

// Sessions of all threads meet here. One at a time speaks, so that everybody in a room hears the same order.
class house {
  public:
    void enter(const std::string& room, member& who) {
        const std::lock_guard held(mutex_);
        std::string all = "* you are in, with:";
        for (const member* each : rooms_[room]) all += ' ' + each->name;
        who.tell(std::make_shared<std::string>(all));
        rooms_[room].push_back(&who);
        tell_others(room, who, "* " + who.name + " has come");
    }
    void leave(const std::string& room, member& who) {
        const std::lock_guard held(mutex_);
        tell_others(room, who,
                    "* " + who.name + " has left" + (who.dropped.empty() ? "" : ": " + who.dropped));
        std::erase(rooms_[room], &who);
        if (rooms_[room].empty()) rooms_.erase(room);
    }
    void say(const std::string& room, const member& who, std::string_view line) {
        const std::lock_guard held(mutex_);
        tell_others(room, who, who.name + ": " + std::string(line));
    }

  private:
    void tell_others(const std::string& room, const member& who, std::string line) {
        const text shared = std::make_shared<std::string>(std::move(line));
        for (member* each : rooms_[room])
            if (each != &who) each->tell(shared);
    }
    std::mutex mutex_;
    std::map<std::string, std::vector<member*>> rooms_;
};

// From the client to the room.
plait::task<> listen(client_lines& client, member& who, house& rooms, const std::string& room) {
    while (auto line = co_await client.next()) rooms.say(room, who, plait::as_text(*line));
    who.bid_farewell();
}

// From the room to the client. Each line has some time, and the last one is the reason for being dropped.
plait::task<> deliver(client_lines& client, member& who, std::chrono::seconds patience,
                      plait::task_group& both) {
    std::error_code failure;
    while (auto line = co_await who.queue.receive()) {
        auto written = co_await plait::with_timeout(client.write(**line), patience);
        failure = written.error();
        if (failure) break;
    }
    if (!failure && !who.dropped.empty()) {
        const std::string last = "* you were dropped: " + who.dropped;
        auto written = co_await plait::with_timeout(client.write(last), patience);
        failure = written.error();
    }
    if (!failure) {
        auto flushed = co_await plait::with_timeout(client.flush(), patience);
        failure = flushed.error();
    }
    if (failure == plait::errc::timed_out) who.drop("it does not read");
    both.request_stop(); // nobody would hear what it says now
}

plait::task<> session(plait::tcp_stream stream, house& rooms, settings how) {
    const auto peer = stream.remote_endpoint().value_or(plait::endpoint());
    client_lines client{std::move(stream), plait::lines{}.max_frame(1024)};
    auto hello = co_await client.next();
    if (!hello) co_return;
    const std::string_view words = plait::as_text(*hello);
    const std::size_t space = words.find(' ');
    if (space == 0 || space == std::string_view::npos ||
        words.find(' ', space + 1) != std::string_view::npos || space + 1 == words.size()) {
        auto answered = co_await client.write("* begin with: ROOM NAME");
        if (answered) static_cast<void>(co_await client.flush());
        co_return;
    }
    const std::string room(words.substr(0, space));
    const auto who = std::make_shared<member>(co_await plait::this_context(), peer.to_string(),
                                              words.substr(space + 1), how.queue);
    rooms.enter(room, *who);
    plait::task_group both;
    both.spawn(listen, std::ref(client), std::ref(*who), std::ref(rooms), std::cref(room));
    both.spawn(deliver, std::ref(client), std::ref(*who), how.patience, std::ref(both));
    co_await both.join();
    who->queue.close(); // what others still say is for nobody
    rooms.leave(room, *who);
}

// On each thread.
plait::task<plait::io_result<void>> serve_chat(house& rooms, settings how) {
    auto start = [&rooms, how](plait::tcp_stream stream) { return session(std::move(stream), rooms, how); };
    plait::serve_options options;
    options.stop_on({SIGINT, SIGTERM});
    options.on_listening(example::announcement(co_await plait::this_context(), how.backend));
    if (how.given) co_return co_await plait::serve_per_core(*how.given, start, options);
    co_return co_await plait::serve_per_core(how.local, start, options);
}

} // namespace

int main(int count, char** words) {
    example::arguments line(count, words,
                            "chat_server [--host ADDRESS] [--port N] [--queue LINES] [--patience SECONDS]\n"
                            "                   [--threads N] [--backend automatic|io_uring|epoll|iocp]");
    settings how{};
    how.backend = line.backend();
    how.local = line.local();
    how.queue = static_cast<std::size_t>(line.number("--queue", 100, 1, 1'000'000));
    how.patience = std::chrono::seconds(line.number("--patience", 10, 1, 3600));
    how.threads = line.threads();
    how.given = example::given_listener();
    line.end();
    house rooms;
    return example::run_per_core(how.threads, how.backend, how.local.to_string(),
                                 [&] { return serve_chat(rooms, how); });
}
