// The load of every benchmark: one process that keeps connections to several servers, visits the servers in
// random order, a few milliseconds a turn, and reads how much CPU time each used for the messages of its
// turn.
//
// run.py starts the servers and calls this program; it prints one line of JSON. See README.md for the method.
#include <algorithm>
#include <arpa/inet.h>
#include <array>
#include <cerrno>
#include <chrono>
#include <cinttypes>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <fstream>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <random>
#include <sched.h>
#include <string>
#include <string_view>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <unistd.h>
#include <vector>

namespace {

using nanoseconds = std::int64_t;

constexpr std::size_t frame_header_size = 4;
constexpr int answer_timeout_ms = 10'000;

[[noreturn]] void fail(const std::string& what) {
    std::fprintf(stderr, "client: %s\n", what.c_str());
    std::exit(1);
}

[[noreturn]] void fail_with_errno(const std::string& what) { fail(what + ": " + std::strerror(errno)); }

nanoseconds to_nanoseconds(const timespec& time) {
    return static_cast<nanoseconds>(time.tv_sec) * 1'000'000'000 + time.tv_nsec;
}

nanoseconds now() {
    timespec time{};
    ::clock_gettime(CLOCK_MONOTONIC, &time);
    return to_nanoseconds(time);
}

struct options {
    int connections = 50;
    int in_flight = 1;
    std::size_t message_size = 64;
    bool framed = false;
    bool churn = false; // a message is a connection: connect, one exchange, close
    int idle = 0;       // instead of turns: memory for each of this many idle connections
    double turn_ms = 10;
    int turns = 80;
    int warm_up_turns = 2;
    int patience = 3; // at most this many times the turns, when the machine is disturbed
    unsigned seed = 1;
    int cpu = -1;
};

// ---------------------------------------------------------------------------------------------------
// What is sent. A batch is all the messages that are in flight on one connection; batches differ in their
// bytes, so that an answer that belongs to another connection or another message is noticed.

class batches {
  public:
    explicit batches(const options& o) {
        const std::size_t header = o.framed ? frame_header_size : 0;
        size_ = (header + o.message_size) * static_cast<std::size_t>(o.in_flight);
        const std::size_t count = std::clamp<std::size_t>(256 * 1024 / size_, 5, 61);
        std::mt19937 random(4711);
        for (std::size_t i = 0; i < count; ++i) {
            std::vector<unsigned char> bytes(size_);
            for (auto& byte : bytes) byte = static_cast<unsigned char>(random());
            if (o.framed) {
                for (std::size_t at = 0; at < size_; at += header + o.message_size)
                    for (std::size_t j = 0; j < header; ++j)
                        bytes[at + j] = static_cast<unsigned char>(o.message_size >> (8 * j));
            }
            variants_.push_back(std::move(bytes));
        }
    }

    std::size_t size() const { return size_; }
    const unsigned char* bytes(std::size_t sequence) const {
        return variants_[sequence % variants_.size()].data();
    }

  private:
    std::size_t size_ = 0;
    std::vector<std::vector<unsigned char>> variants_;
};

// ---------------------------------------------------------------------------------------------------
// Servers and connections

struct connection {
    int descriptor = -1;
    std::size_t sequence = 0; // which batch is under way
    std::size_t sent = 0;
    std::size_t received = 0;
    nanoseconds started = 0;
    bool waits_to_write = false;
};

struct turn_result {
    std::size_t round = 0;
    std::uint64_t messages = 0;
    nanoseconds cpu = 0;
    nanoseconds wall = 0;
    // Share of the time in which the server, or this client, was ready to run but another process ran.
    double waited_share = 0;
    double cpu_per_message = 0;
    double wall_per_message = 0;
    std::vector<float> latencies; // microseconds, one for each batch

    bool disturbed() const { return waited_share > 0.05; }
};

struct server {
    std::string name;
    pid_t pid = 0;
    clockid_t cpu_clock{};
    sockaddr_in address{};
    int poller = -1;
    std::vector<connection> connections;

    std::vector<turn_result> results;
    std::uint64_t messages = 0; // warm-up included
    double bytes_per_connection = 0;

    nanoseconds cpu_time() const {
        timespec time{};
        if (::clock_gettime(cpu_clock, &time) != 0) fail("the server " + name + " has ended");
        return to_nanoseconds(time);
    }

    // Waits until the server has gone to sleep, so that all the work of a turn is counted in that turn.
    nanoseconds settled_cpu_time() const {
        nanoseconds last = cpu_time();
        for (int tries = 0; tries < 50; ++tries) {
            ::usleep(100);
            const nanoseconds time = cpu_time();
            if (time == last) break;
            last = time;
        }
        return last;
    }
};

// Time that a process spent ready to run but not running: the second field of its schedstat.
nanoseconds run_queue_time(const std::string& process) {
    std::FILE* file = std::fopen(("/proc/" + process + "/schedstat").c_str(), "r");
    if (file == nullptr) return 0; // a kernel without it
    nanoseconds ran = 0;
    nanoseconds waited = 0;
    const int fields = std::fscanf(file, "%" SCNd64 " %" SCNd64, &ran, &waited);
    std::fclose(file);
    return fields == 2 ? waited : 0;
}

// name:pid:port
server parse_server(const std::string& text) {
    const auto second = text.rfind(':');
    const auto first = second == std::string::npos ? second : text.rfind(':', second - 1);
    if (first == std::string::npos) fail("a server is given as name:pid:port, not as " + text);
    server s;
    s.name = text.substr(0, first);
    s.pid = std::stoi(text.substr(first + 1, second - first - 1));
    s.address.sin_family = AF_INET;
    s.address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    s.address.sin_port = htons(static_cast<std::uint16_t>(std::stoi(text.substr(second + 1))));
    if (::clock_getcpuclockid(s.pid, &s.cpu_clock) != 0)
        fail("no process " + std::to_string(s.pid) + " for the server " + s.name);
    s.poller = ::epoll_create1(EPOLL_CLOEXEC);
    return s;
}

// Connecting to the loopback address completes at once, so it need not be asynchronous.
void open_connection(server& s, connection& c) {
    c.descriptor = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (c.descriptor < 0) fail_with_errno("socket (is the limit on open files high enough?)");
    const int on = 1;
    ::setsockopt(c.descriptor, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (::connect(c.descriptor, reinterpret_cast<const sockaddr*>(&s.address), sizeof s.address) != 0)
        fail_with_errno("connecting to " + s.name);
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.u64 = static_cast<std::uint64_t>(&c - s.connections.data());
    ::epoll_ctl(s.poller, EPOLL_CTL_ADD, c.descriptor, &event);
}

void close_connection(connection& c) {
    ::close(c.descriptor);
    c.descriptor = -1;
}

void watch_writing(server& s, connection& c, bool writing) {
    c.waits_to_write = writing;
    epoll_event event{};
    event.events = EPOLLIN | (writing ? std::uint32_t{EPOLLOUT} : 0u);
    event.data.u64 = static_cast<std::uint64_t>(&c - s.connections.data());
    ::epoll_ctl(s.poller, EPOLL_CTL_MOD, c.descriptor, &event);
}

void send_rest(server& s, connection& c, const batches& load) {
    while (c.sent < load.size()) {
        const ssize_t n = ::send(c.descriptor, load.bytes(c.sequence) + c.sent, load.size() - c.sent,
                                 MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0 && errno == EAGAIN) {
            if (!c.waits_to_write) watch_writing(s, c, true);
            return;
        }
        if (n < 0) fail_with_errno("sending to " + s.name);
        c.sent += static_cast<std::size_t>(n);
    }
    if (c.waits_to_write) watch_writing(s, c, false);
}

void start_batch(server& s, connection& c, const batches& load) {
    ++c.sequence;
    c.sent = 0;
    c.received = 0;
    c.started = now();
    send_rest(s, c, load);
}

// True when the whole batch has come back. Every byte is compared.
bool receive_answers(server& s, connection& c, const batches& load) {
    static std::array<unsigned char, 256 * 1024> buffer;
    const ssize_t n = ::recv(c.descriptor, buffer.data(), buffer.size(), MSG_DONTWAIT);
    if (n < 0 && errno == EAGAIN) return false;
    if (n < 0) fail_with_errno("receiving from " + s.name);
    if (n == 0) fail(s.name + " closed a connection in the middle of an exchange");
    const auto size = static_cast<std::size_t>(n);
    if (c.received + size > c.sent ||
        std::memcmp(buffer.data(), load.bytes(c.sequence) + c.received, size) != 0)
        fail(s.name + " answered with other bytes than it was sent");
    c.received += size;
    return c.received == load.size();
}

// ---------------------------------------------------------------------------------------------------
// One turn: keep every connection busy until the time is over, then wait for the answers that are under way.

turn_result take_turn(server& s, const options& o, const batches& load) {
    turn_result result;
    const std::string server_process = std::to_string(s.pid);
    const nanoseconds cpu_before = s.settled_cpu_time();
    const nanoseconds server_waited = run_queue_time(server_process);
    const nanoseconds client_waited = run_queue_time("self");
    const nanoseconds begin = now();
    const nanoseconds deadline = begin + static_cast<nanoseconds>(o.turn_ms * 1e6);

    for (auto& c : s.connections) {
        if (o.churn) open_connection(s, c);
        start_batch(s, c, load);
    }
    std::size_t under_way = s.connections.size();
    std::array<epoll_event, 256> events;
    while (under_way > 0) {
        const int count =
            ::epoll_wait(s.poller, events.data(), static_cast<int>(events.size()), answer_timeout_ms);
        if (count == 0)
            fail(s.name + " did not answer for " + std::to_string(answer_timeout_ms / 1000) + " s");
        for (int i = 0; i < count; ++i) {
            connection& c = s.connections[events[static_cast<std::size_t>(i)].data.u64];
            const std::uint32_t what = events[static_cast<std::size_t>(i)].events;
            if ((what & EPOLLOUT) != 0) send_rest(s, c, load);
            if ((what & ~std::uint32_t{EPOLLOUT}) == 0 || !receive_answers(s, c, load)) continue;
            const nanoseconds time = now();
            result.latencies.push_back(static_cast<float>(time - c.started) / 1000.0F);
            if (o.churn) close_connection(c);
            if (time >= deadline) {
                --under_way;
                continue;
            }
            if (o.churn) open_connection(s, c);
            start_batch(s, c, load);
        }
    }
    result.wall = now() - begin;
    result.waited_share = static_cast<double>(std::max(run_queue_time(server_process) - server_waited,
                                                       run_queue_time("self") - client_waited)) /
                          static_cast<double>(result.wall);
    result.cpu = s.settled_cpu_time() - cpu_before;
    result.messages = result.latencies.size() * static_cast<std::uint64_t>(o.in_flight);
    result.cpu_per_message = static_cast<double>(result.cpu) / static_cast<double>(result.messages);
    result.wall_per_message = static_cast<double>(result.wall) / static_cast<double>(result.messages);
    return result;
}

template <typename Number>
double quantile(std::vector<Number>& values, double fraction) {
    if (values.empty()) return 0;
    const auto at = static_cast<std::ptrdiff_t>(fraction * static_cast<double>(values.size() - 1) + 0.5);
    std::nth_element(values.begin(), values.begin() + at, values.end());
    return static_cast<double>(values[static_cast<std::size_t>(at)]);
}

double quantile_of(const std::vector<turn_result>& results, double turn_result::*figure, double fraction) {
    std::vector<double> values;
    for (const auto& result : results) values.push_back(result.*figure);
    return quantile(values, fraction);
}

// Virtual machines may run at half their speed for seconds, which blurs differences and shifts a median. A
// round's slowness is what its servers typically took, each compared with its own fast turns (their 10th
// percentile).
std::vector<double> slowness_of_rounds(const std::vector<server>& servers) {
    std::vector<double> fast;
    for (const auto& s : servers) fast.push_back(quantile_of(s.results, &turn_result::cpu_per_message, 0.1));
    std::vector<double> slowness;
    for (std::size_t round = 0; round < servers.front().results.size(); ++round) {
        std::vector<double> ratios;
        for (std::size_t i = 0; i < servers.size(); ++i)
            ratios.push_back(servers[i].results[round].cpu_per_message / fast[i]);
        slowness.push_back(quantile(ratios, 0.5));
    }
    return slowness;
}

// The turns to judge by, of one server: undisturbed ones in rounds at full speed.
std::vector<turn_result> good_turns(const server& s, const std::vector<double>& slowness) {
    std::vector<turn_result> good;
    for (std::size_t round = 0; round < slowness.size(); ++round)
        if (slowness[round] <= 1.25 && !s.results[round].disturbed()) good.push_back(s.results[round]);
    return good;
}

std::size_t fewest_good_turns(const std::vector<server>& servers) {
    const auto slowness = slowness_of_rounds(servers);
    std::size_t fewest = slowness.size();
    for (const auto& s : servers) fewest = std::min(fewest, good_turns(s, slowness).size());
    return fewest;
}

void take_all_turns(std::vector<server>& servers, const options& o, const batches& load) {
    std::mt19937 random(o.seed);
    std::vector<server*> order;
    for (auto& s : servers) {
        order.push_back(&s);
        s.connections.resize(static_cast<std::size_t>(o.connections));
        for (std::size_t i = 0; i < s.connections.size(); ++i) {
            s.connections[i].sequence = i * 7; // neighbours send different bytes
            if (!o.churn) open_connection(s, s.connections[i]);
        }
    }
    const auto take_round = [&](bool counts) {
        std::shuffle(order.begin(), order.end(), random);
        for (server* s : order) {
            auto result = take_turn(*s, o, load);
            s->messages += result.messages;
            result.round = s->results.size();
            if (counts) s->results.push_back(std::move(result));
        }
    };
    for (int round = 0; round < o.warm_up_turns; ++round) take_round(false);

    // Rounds that turn out bad are made up for, but not for ever.
    const auto wanted = static_cast<std::size_t>(o.turns);
    for (std::size_t round = 0; round < wanted * static_cast<std::size_t>(o.patience); ++round) {
        if (round >= wanted && fewest_good_turns(servers) >= wanted * 9 / 10) break;
        take_round(true);
    }
    if (fewest_good_turns(servers) * 4 >= wanted) { // otherwise all count, of all servers alike
        const auto slowness = slowness_of_rounds(servers);
        for (auto& s : servers) s.results = good_turns(s, slowness);
    }
}

// ---------------------------------------------------------------------------------------------------
// Memory: how much the resident set grows while many connections make one exchange each and then stay open.

double resident_kib(const server& s) {
    std::ifstream file("/proc/" + std::to_string(s.pid) + "/smaps_rollup"); // exact, which statm is not
    for (std::string line; std::getline(file, line);)
        if (line.starts_with("Rss:")) return std::atof(line.c_str() + 4);
    fail("the memory of " + s.name + " cannot be read");
}

void exchange(server& s, connection& c, const batches& load) {
    start_batch(s, c, load);
    for (;;) {
        epoll_event event{};
        if (::epoll_wait(s.poller, &event, 1, answer_timeout_ms) != 1) fail(s.name + " did not answer");
        const std::uint32_t what = event.events;
        if ((what & EPOLLOUT) != 0) send_rest(s, c, load);
        if ((what & ~std::uint32_t{EPOLLOUT}) != 0 && receive_answers(s, c, load)) return;
    }
}

void measure_idle(server& s, const options& o, const batches& load) {
    constexpr std::size_t first_ones = 32;       // what a server sets up once is not counted
    constexpr std::size_t first_bytes = 4 << 20; // nor is the memory of buffers that all connections share
    s.connections.resize(first_ones + static_cast<std::size_t>(o.idle));
    const auto first_exchange = [&](std::size_t i) {
        open_connection(s, s.connections[i]);
        exchange(s, s.connections[i], load);
    };
    for (std::size_t i = 0; i < first_ones; ++i) first_exchange(i);
    options many = o;
    many.in_flight = 64;
    const batches much(many);
    for (std::size_t sent = 0; sent < first_bytes; sent += much.size())
        exchange(s, s.connections.front(), much);
    s.settled_cpu_time();
    const double before = resident_kib(s);
    for (std::size_t i = first_ones; i < s.connections.size(); ++i) first_exchange(i);
    s.settled_cpu_time();
    s.bytes_per_connection = (resident_kib(s) - before) * 1024 / o.idle;
    for (auto& c : s.connections) close_connection(c);
}

// ---------------------------------------------------------------------------------------------------
// Results and options

// The median over rounds of what a server took, divided by what the first server took in the same round: a
// machine whose speed changes from one round to the next does not disturb that.
double ratio_to_first(const server& s, const server& first) {
    std::vector<double> ratios;
    auto other = first.results.begin();
    for (const auto& result : s.results) {
        while (other != first.results.end() && other->round < result.round) ++other;
        if (other != first.results.end() && other->round == result.round)
            ratios.push_back(result.cpu_per_message / other->cpu_per_message);
    }
    return quantile(ratios, 0.5);
}

void print_results(std::vector<server>& servers, const options& o) {
    std::printf("{\"servers\": [");
    const char* separator = "";
    for (auto& s : servers) {
        std::printf("%s{\"name\": \"%s\"", separator, s.name.c_str());
        separator = ", ";
        if (o.idle > 0) {
            std::printf(", \"bytes_per_connection\": %.1f}", s.bytes_per_connection);
            continue;
        }
        std::vector<float> latencies;
        for (const auto& result : s.results)
            latencies.insert(latencies.end(), result.latencies.begin(), result.latencies.end());
        std::printf(", \"cpu_us\": %.4f, \"cpu_us_low\": %.4f, \"cpu_us_high\": %.4f, \"wall_us\": %.4f",
                    quantile_of(s.results, &turn_result::cpu_per_message, 0.5) / 1000,
                    quantile_of(s.results, &turn_result::cpu_per_message, 0.25) / 1000,
                    quantile_of(s.results, &turn_result::cpu_per_message, 0.75) / 1000,
                    quantile_of(s.results, &turn_result::wall_per_message, 0.5) / 1000);
        std::printf(", \"ratio\": %.4f", ratio_to_first(s, servers.front()));
        std::printf(", \"p50_us\": %.2f, \"p99_us\": %.2f", quantile(latencies, 0.5),
                    quantile(latencies, 0.99));
        std::printf(", \"turns\": %zu, \"waited_share\": %.4f, \"messages\": %" PRIu64 "}", s.results.size(),
                    quantile_of(s.results, &turn_result::waited_share, 0.5), s.messages);
    }
    std::printf("]}\n");
}

[[noreturn]] void explain_usage() {
    std::fputs("usage: client [options] name:pid:port...\n"
               "  --connections N   kept to each server, or made at a time with --churn (50)\n"
               "  --in-flight P     messages sent together on a connection, then awaited together (1)\n"
               "  --size BYTES      payload of a message (64)\n"
               "  --framed          a 4-byte little-endian length before each message\n"
               "  --churn           a message is a connection: connect, one exchange, close\n"
               "  --turn-ms T       length of a visit to a server (10)\n"
               "  --turns K         visits to each server that count (80)\n"
               "  --warm-up K       visits before those (2)\n"
               "  --patience F      up to F times as many visits, to make up for disturbed ones (3)\n"
               "  --idle N          no turns: memory for each of N idle connections\n"
               "  --seed S          order of the visits (1)\n"
               "  --cpu C           run on this CPU\n",
               stderr);
    std::exit(2);
}

} // namespace

int main(int argument_count, char** arguments) {
    options o;
    std::vector<server> servers;
    for (int i = 1; i < argument_count; ++i) {
        const std::string_view argument = arguments[i];
        const auto value = [&] {
            if (i + 1 >= argument_count) explain_usage();
            return std::atof(arguments[++i]);
        };
        if (argument == "--connections")
            o.connections = static_cast<int>(value());
        else if (argument == "--in-flight")
            o.in_flight = static_cast<int>(value());
        else if (argument == "--size")
            o.message_size = static_cast<std::size_t>(value());
        else if (argument == "--framed")
            o.framed = true;
        else if (argument == "--churn")
            o.churn = true;
        else if (argument == "--turn-ms")
            o.turn_ms = value();
        else if (argument == "--turns")
            o.turns = static_cast<int>(value());
        else if (argument == "--warm-up")
            o.warm_up_turns = static_cast<int>(value());
        else if (argument == "--patience")
            o.patience = static_cast<int>(value());
        else if (argument == "--idle")
            o.idle = static_cast<int>(value());
        else if (argument == "--seed")
            o.seed = static_cast<unsigned>(value());
        else if (argument == "--cpu")
            o.cpu = static_cast<int>(value());
        else if (argument.starts_with("--"))
            explain_usage();
        else
            servers.push_back(parse_server(arguments[i]));
    }
    if (servers.empty() || o.connections < 1 || o.in_flight < 1 || o.message_size < 1) explain_usage();
    if (o.cpu >= 0) {
        cpu_set_t set;
        CPU_ZERO(&set);
        CPU_SET(static_cast<unsigned>(o.cpu), &set);
        ::sched_setaffinity(0, sizeof set, &set);
    }

    const batches load(o);
    if (o.idle > 0) {
        for (auto& s : servers) measure_idle(s, o, load);
    } else {
        take_all_turns(servers, o, load);
    }
    print_results(servers, o);
}
