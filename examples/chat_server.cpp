// A chat server. A client's first line is "ROOM NAME"; from then on each of its lines goes to the others in that room.
//
//     chat_server                         until Ctrl-C; then everybody gets what was said, and the end
//     chat_server --queue 100             lines that may wait for a client that reads slowly
//     chat_server --patience 10           seconds that such a client has to take a line
//
// It prints "listening on 127.0.0.1:8000 (io_uring)", and who was dropped, and why. Talk to it with: nc 127.0.0.1 8000

#include "arguments.hpp"
#include "program.hpp"

#include <csignal>
#include <map>
#include <memory>

namespace {

using client_lines = plait::framed<plait::tcp_stream, plait::lines>;
using text = std::shared_ptr<const std::string>; // said once, and queued for everybody

struct settings {
    plait::endpoint local;
    std::size_t queue;
    std::chrono::seconds patience;
    plait::backend backend;
};

// One client in a room. Nobody ever waits for a client: what is said goes into its queue, and if that is full, the
// client has to leave.
class member {
  public:
    member(client_lines& lines, std::string_view called, std::size_t room_for)
        : client(lines), name(called), queue(room_for) {}

    void tell(const text& line) {
        if (queue.is_closed() || queue.try_send(line)) return;
        drop("too many lines wait for it");
    }
    void drop(const std::string& why) {
        if (!dropped.empty()) return;
        dropped = why;
        const auto peer = client.stream().remote_endpoint().value_or(plait::endpoint());
        std::fprintf(stderr, "%s: dropped %s: %s\n", peer.to_string().c_str(), name.c_str(), why.c_str());
        queue.close();
    }

    client_lines& client;
    const std::string name;
    plait::channel<text> queue;
    std::string dropped; // why
};

class room {
  public:
    void enter(member& who) {
        std::string all = "* you are in, with:";
        for (const member* each : members_) all += ' ' + each->name;
        who.tell(std::make_shared<std::string>(all));
        members_.push_back(&who);
        say(who, "* " + who.name + " has come");
    }
    void leave(member& who) {
        std::erase(members_, &who);
        say(who, "* " + who.name + " has left" + (who.dropped.empty() ? "" : ": " + who.dropped));
    }
    void say(const member& who, std::string line) {
        const text shared = std::make_shared<std::string>(std::move(line));
        for (member* each : members_)
            if (each != &who) each->tell(shared);
    }
    bool empty() const { return members_.empty(); }

  private:
    std::vector<member*> members_;
};

using house = std::map<std::string, room, std::less<>>;

// From the client to the room.
plait::task<> listen(member& who, room& here) {
    while (auto line = co_await who.client.next())
        here.say(who, who.name + ": " + std::string(plait::as_text(*line)));
    who.queue.close(); // what is in it is still delivered
}

// From the room to the client. Each line has some time, and the last one is the reason for being dropped.
plait::task<> deliver(member& who, std::chrono::seconds patience, plait::task_group& both) {
    std::error_code failure;
    while (auto line = co_await who.queue.receive()) {
        auto written = co_await plait::with_timeout(who.client.write(**line), patience);
        failure = written.error();
        if (failure) break;
    }
    if (!failure && !who.dropped.empty()) {
        const std::string last = "* you were dropped: " + who.dropped;
        auto written = co_await plait::with_timeout(who.client.write(last), patience);
        failure = written.error();
    }
    if (!failure) {
        auto flushed = co_await plait::with_timeout(who.client.flush(), patience);
        failure = flushed.error();
    }
    if (failure == plait::errc::timed_out) who.drop("it does not read");
    both.request_stop(); // nobody would hear what it says now
}

plait::task<> session(plait::tcp_stream stream, house& rooms, settings how) {
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
    const std::string where(words.substr(0, space));
    member who(client, words.substr(space + 1), how.queue);
    room& here = rooms[where];
    here.enter(who);
    plait::task_group both;
    both.spawn(listen, std::ref(who), std::ref(here));
    both.spawn(deliver, std::ref(who), how.patience, std::ref(both));
    co_await both.join();
    here.leave(who);
    if (here.empty()) rooms.erase(where);
}

plait::task<int> serve_chat(settings how) {
    auto listener = co_await plait::tcp_listener::bind(how.local);
    if (!listener) co_return example::failed("cannot listen on " + how.local.to_string(), listener.error());
    example::announce(*listener, co_await plait::this_context(), how.backend);

    house rooms;
    auto start = [&rooms, how](plait::tcp_stream stream) { return session(std::move(stream), rooms, how); };
    plait::serve_options options;
    options.stop_on({SIGINT, SIGTERM});
    auto served = co_await plait::serve(std::move(*listener), start, options);
    co_return example::exit_code(served);
}

} // namespace

int main(int count, char** words) {
    example::arguments line(count, words,
                            "chat_server [--host ADDRESS] [--port N] [--queue LINES] [--patience SECONDS]\n"
                            "                   [--backend automatic|io_uring|epoll|iocp]");
    settings how{};
    how.backend = line.backend();
    how.local = line.local();
    how.queue = static_cast<std::size_t>(line.number("--queue", 100, 1, 1'000'000));
    how.patience = std::chrono::seconds(line.number("--patience", 10, 1, 3600));
    line.one_thread("all who are in a room share one thread");
    line.end();
    return example::run(serve_chat(how), how.backend);
}
