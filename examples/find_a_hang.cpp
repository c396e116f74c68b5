// A server that hangs, and what it says when it is asked what it waits for: docs/debugging.md tells the story.
//
//     find_a_hang                         hangs; a second later it prints io_context::dump(), and ends
//     find_a_hang --patience 60           a minute later
//     find_a_hang --repaired              the same server without the mistake
//
// Its client sends 20 lines, half-closes, and reads the answers: the same lines in upper case.

#include "arguments.hpp"
#include "program.hpp"

namespace {

using text_channel = plait::channel<std::string>;
using line_stream = plait::framed<plait::tcp_stream, plait::lines>;

// Makes the answers, in a task of its own, so that the session can read on.
plait::task<> work(text_channel& jobs, text_channel& answers) {
    while (auto job = co_await jobs.receive()) {
        example::make_upper(std::as_writable_bytes(std::span(*job)));
        auto sent = co_await answers.send(std::move(*job));
        if (!sent) break;
    }
    answers.close();
}

plait::task<> reply(line_stream& client, text_channel& answers) {
    while (auto answer = co_await answers.receive()) {
        auto written = co_await client.write(*answer);
        if (!written) break;
    }
}

plait::task<> session(plait::tcp_stream stream, bool repaired) {
    line_stream client{std::move(stream), plait::lines{}};
    text_channel jobs(4), answers(4);
    plait::task_group beside;
    beside.spawn(work, std::ref(jobs), std::ref(answers));
    if (repaired) beside.spawn(reply, std::ref(client), std::ref(answers));
    while (auto line = co_await client.next()) {
        auto sent = co_await jobs.send(std::string(plait::as_text(*line)));
        if (!sent) break;
    }
    jobs.close();
    if (!repaired) co_await reply(client, answers); // too late: nobody takes an answer while lines come
    co_await beside.join();
}

plait::task<> ask(plait::endpoint where, plait::task_group& everything) {
    auto stream = co_await plait::tcp_stream::connect(where);
    if (!stream) co_return;
    line_stream server{std::move(*stream), plait::lines{}};
    for (int i = 1; i <= 20; ++i) {
        auto written = co_await server.write("line " + std::to_string(i));
        if (!written) co_return;
    }
    static_cast<void>(co_await server.stream().shutdown_send());
    std::string last;
    while (auto answer = co_await server.next()) last = plait::as_text(*answer);
    if (last.empty()) co_return; // stopped, and not answered
    example::print_line("the last answer: " + last);
    everything.request_stop();
}

plait::task<> watch(std::chrono::seconds patience, plait::task_group& everything) {
    plait::io_context& context = co_await plait::this_context();
    if (!co_await plait::sleep_for(patience)) co_return;
    context.dump(stdout);
    everything.request_stop();
}

plait::task<> listen(plait::tcp_listener listener, bool repaired) {
    auto start = [repaired](plait::tcp_stream stream) { return session(std::move(stream), repaired); };
    static_cast<void>(co_await plait::serve(std::move(listener), start));
}

plait::task<int> hang(bool repaired, std::chrono::seconds patience) {
    auto listener = co_await plait::tcp_listener::bind({"127.0.0.1", 0});
    if (!listener) co_return example::failed("cannot listen", listener.error());
    const plait::endpoint where = listener->local_endpoint().value();
    plait::task_group everything;
    everything.spawn(listen, std::move(*listener), repaired);
    everything.spawn(ask, where, std::ref(everything));
    everything.spawn(watch, patience, std::ref(everything));
    co_await everything.join();
    co_return 0;
}

} // namespace

int main(int count, char** words) {
    example::arguments line(count, words,
                            "find_a_hang [--repaired] [--patience SECONDS]\n"
                            "                   [--backend automatic|io_uring|epoll|iocp]");
    const plait::backend backend = line.backend();
    const bool repaired = line.flag("--repaired");
    const std::chrono::seconds patience(line.number("--patience", repaired ? 60 : 1, 1, 3600));
    line.end();
    return example::run(hang(repaired, patience), backend);
}
