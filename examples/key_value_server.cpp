// A key-value server that redis-cli and redis-benchmark can talk to: RESP2, by a codec of its own (resp_commands.hpp).
// It knows PING, GET, SET, DEL, EXISTS and INCR; CONFIG GET and COMMAND are answered so that these programs go on.
//
//     key_value_server                    until Ctrl-C; it keeps everything in memory and stores nothing
//     key_value_server --threads 4        on so many cores, which take turns at the one store; 0: on all of them
//     printf 'SET name Ann\r\nGET name\r\n' | nc -q 1 127.0.0.1 8000
//
// It prints "listening on 127.0.0.1:8000 (io_uring)", and who broke the protocol. Talk to it with: redis-cli -p 8000

#include "arguments.hpp"
#include "program.hpp"
#include "resp_commands.hpp"

#include <csignal>
#include <functional>
#include <limits>
#include <mutex>
#include <unordered_map>

namespace {

using words = std::vector<std::string_view>;

struct text_hash : std::hash<std::string_view> { // a key is found without a string being made of it
    using is_transparent = void;
};
using values = std::unordered_map<std::string, std::string, text_hash, std::equal_to<>>;
struct store {
    std::mutex mutex; // for one command at a time, and never while a session waits
    values stored;
};

constexpr std::size_t any = static_cast<std::size_t>(-1);
constexpr struct {
    std::string_view name;
    std::size_t least, most; // words behind it
} counts[] = {{"PING", 0, 1},  {"GET", 1, 1},      {"SET", 2, 2},
              {"DEL", 1, any}, {"EXISTS", 1, any}, {"INCR", 1, 1}};

std::string upper_case(std::string_view word) {
    std::string made(word);
    for (char& c : made)
        if (c >= 'a' && c <= 'z') c = static_cast<char>(c - 'a' + 'A');
    return made;
}

// Puts into `answer` what a command is answered.
void obey(const words& said, values& stored, std::string& answer) {
    const auto line = [&answer](std::string_view text) { answer.append(text).append("\r\n"); };
    const auto number = [line](char kind, std::int64_t n) { line(kind + std::to_string(n)); };
    const auto string = [line, number](std::string_view text) {
        number('$', static_cast<std::int64_t>(text.size()));
        line(text);
    };
    std::string name(said[0].substr(0, 64)); // goes into an answer, so nothing in it may end that
    for (char& c : name)
        if (c < ' ' || c > '~') c = '?';
    const std::string command = upper_case(name);
    for (const auto& count : counts)
        if (command == count.name && (said.size() - 1 < count.least || said.size() - 1 > count.most))
            return line("-ERR wrong number of arguments for '" + name + "' command");

    if (command == "PING") return said.size() == 1 ? line("+PONG") : string(said[1]);
    if (command == "COMMAND") return line("*0");
    if (command == "CONFIG" && said.size() == 3 && upper_case(said[1]) == "GET") {
        line("*2");
        string(said[2]);
        return string(said[2] == "appendonly" ? "no" : "");
    }
    if (command == "SET") {
        stored.insert_or_assign(std::string(said[1]), said[2]);
        return line("+OK");
    }
    if (command == "DEL" || command == "EXISTS") {
        std::int64_t found = 0;
        for (std::string_view key : std::span(said).subspan(1)) {
            const auto at = stored.find(key);
            if (at == stored.end()) continue;
            ++found;
            if (command == "DEL") stored.erase(at);
        }
        return number(':', found);
    }
    const auto at = command == "GET" || command == "INCR" ? stored.find(said[1]) : stored.end();
    if (command == "GET") return at == stored.end() ? line("$-1") : string(at->second);
    if (command == "INCR") {
        const std::string now = at == stored.end() ? "0" : at->second;
        std::int64_t n = 0;
        std::from_chars(now.data(), now.data() + now.size(), n);
        if (std::to_string(n) != now) return line("-ERR value is not an integer or out of range");
        if (n == std::numeric_limits<std::int64_t>::max())
            return line("-ERR increment or decrement would overflow");
        stored.insert_or_assign(std::string(said[1]), std::to_string(n + 1));
        return number(':', n + 1);
    }
    line("-ERR unknown command '" + name + "'");
}

using given_listener = std::optional<plait::activated_listener>; // by a supervisor

plait::task<plait::io_result<void>> session(plait::framed<plait::tcp_stream, example::resp_commands> client,
                                            store& all) {
    words said;
    std::string answer;
    for (;;) {
        auto command = co_await client.next(); // valid until the following next()
        if (!command) {
            const std::error_code why = command.error();
            if (why != plait::errc::malformed_frame && why != plait::errc::frame_too_large) co_return why;
            answer = "-ERR Protocol error: " + why.message() + "\r\n";
            static_cast<void>(co_await client.write(answer));
            co_return why;
        }
        example::resp_commands::split(plait::as_text(*command), said);
        if (said.empty()) continue; // a blank line
        answer.clear();
        {
            const std::lock_guard turn(all.mutex);
            obey(said, all.stored, answer);
        }
        auto written = co_await client.write(answer); // leaves together with the others of this turn
        if (!written) co_return written;
    }
}

// On each thread.
plait::task<plait::io_result<void>> serve_values(plait::endpoint local, store& all, plait::backend backend,
                                                 const given_listener& given) {
    auto start = [&all](plait::tcp_stream stream) {
        return session(plait::framed{std::move(stream), example::resp_commands()}, all);
    };
    plait::serve_options options;
    options.stop_on({SIGINT, SIGTERM}).on_error([](std::error_code error, const plait::endpoint& peer) {
        example::failed(peer.to_string(), error);
    });
    options.on_listening(example::announcement(co_await plait::this_context(), backend));
    if (given) co_return co_await plait::serve_per_core(*given, start, options);
    co_return co_await plait::serve_per_core(local, start, options);
}

} // namespace

int main(int count, char** words) {
    example::arguments line(count, words,
                            "key_value_server [--host ADDRESS] [--port N] [--threads N]\n"
                            "                        [--backend automatic|io_uring|epoll|iocp]");
    const plait::backend backend = line.backend();
    const plait::endpoint local = line.local();
    const std::size_t threads = line.threads();
    const given_listener given = example::given_listener();
    line.end();
    store all;
    return example::run_per_core(threads, backend, local.to_string(),
                                 [&] { return serve_values(local, all, backend, given); });
}
