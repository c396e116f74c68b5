#!/usr/bin/env python3
"""Starts plait's servers and their peers side by side, loads them, and prints how they compare.

The method, and what the columns mean, is in README.md. Only the standard library is used.
"""

import argparse
import itertools
import json
import os
import platform
import re
import resource
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
BUILD_FOLDERS = ("build/release/benchmarks", "build/benchmarks", "build/peers")
EPOLL_SHOULD_BE = (1.04, 1.12)  # times the limit, at N=50: outside of this the method is off
NOISE = 0.04  # differences below this mean nothing
START_TIMEOUT = 10  # seconds
PATIENT_FOR = 240  # seconds, in which disturbed rounds are made up for; then a run takes eight minutes at most
GOAL = 1.05  # of the limit, and of plain epoll for the epoll driver, is what plait aims at in these cases:
GOAL_CASES = ("n50", "p16", "16k", "n1000", "churn", "framed1", "framed16")
POLLING_GOAL = 0.5  # of asio's median round trip over one connection


@dataclass(frozen=True)
class Server:
    """A program to measure; echo and framed are its arguments for that, None where it cannot do it."""

    name: str
    program: str
    echo: tuple | None = ()
    framed: tuple | None = None
    only: tuple = ()  # the cases it makes sense in; empty: all
    example: str | None = None  # what users get, started with the same arguments: its memory is measured


SERVERS = (
    Server("limit", "uring_echo", (), ("--framed",)),
    Server("limit again", "uring_echo", (), ("--framed",)),
    Server("plait", "plait_echo", ("--backend", "io_uring"), None,
           example="tcp_echo_server"),
    Server("plait", "plait_framed", None, ("--backend", "io_uring"),
           example="framed_echo_server"),
    Server("plait, one context", "plait_echo", ("--backend", "io_uring", "--cpus", "{first}"), None, ("cores",)),
    Server("plait, one context again", "plait_echo", ("--backend", "io_uring", "--cpus", "{second}"), None, ("cores",)),
    Server("plait, two contexts", "plait_echo", ("--backend", "io_uring", "--threads", "2", "--cpus", "{first},{second}"),
           None, ("cores",)),
    Server("plait, polling", "plait_echo", ("--backend", "io_uring", "--poll-us", "50"), None, ("one",)),
    Server("plait, epoll", "plait_echo", ("--backend", "epoll"), None,
           example="tcp_echo_server"),
    Server("plait, epoll", "plait_framed", None, ("--backend", "epoll"),
           example="framed_echo_server"),
    Server("epoll, C", "epoll_echo", (), ("--framed",)),
    Server("libuv", "libuv_echo", (), None),
    Server("asio", "asio_echo", (), ("--framed",)),
    Server("asio, io_uring", "asio_uring_echo", (), ("--framed",)),
    Server("asio, own buffer", "asio_echo", None, ("--framed-buffered",)),
)


@dataclass(frozen=True)
class Case:
    """A load; the options are the client's."""

    key: str
    title: str
    options: tuple = ()
    framed: bool = False
    quick_options: tuple = ()
    latency: bool = False  # worth a line in the table of latencies
    two_cpus: bool = False  # for the servers; only those that are for this case and the limit take part then


CASES = (
    Case("n50", "N=50", ("--connections", 50)),
    Case("p16", "P=16", ("--connections", 50, "--in-flight", 16)),
    Case("16k", "16 KiB", ("--connections", 50, "--size", 16384)),
    # Long enough that the first touch of what other servers have pushed out of the caches is a small part of it.
    Case("n1000", "N=1000", ("--connections", 1000, "--turn-ms", 60, "--turns", 40, "--warm-up", 1)),
    Case("churn", "churn", ("--connections", 16, "--churn")),
    Case("framed1", "framed P=1", ("--connections", 50, "--framed"), framed=True),
    Case("framed16", "framed P=16", ("--connections", 50, "--in-flight", 16, "--framed"), framed=True),
    Case("one", "N=1", ("--connections", 1), latency=True),
    Case("tail", "N=1000, long", ("--connections", 1000, "--turn-ms", 200, "--turns", 10, "--warm-up", 1),
         quick_options=("--turns", 3), latency=True),
    Case("cores", "two CPUs", ("--connections", 100), two_cpus=True),
)
IDLE = "idle"
IDLE_CONNECTIONS = (1000, 10_000)
IDLE_BYTES = 1024  # at most so many for each, is what plait promises
SYSCALLS, INSTRUCTIONS = "syscalls", "instructions"
SYSCALL_CASES = ("n50", "p16", "16k", "churn", "framed1", "framed16")
INSTRUCTION_CASES = ("n50", "p16", "16k", "n1000", "churn", "framed1", "framed16")
DEFAULT_CASES = tuple(case.key for case in CASES if not case.two_cpus) + (IDLE, SYSCALLS)
ALL_CASES = DEFAULT_CASES + (INSTRUCTIONS, "cores")


class Trouble(Exception):
    """Something the user has to know, in a sentence."""


def note(text):
    print(text, file=sys.stderr, flush=True)


# ---------------------------------------------------------------------------------------------------
# Processes. All that is started is kept here and ended by its own id.

class Running:
    """A started server: its name, process and port."""

    def __init__(self, name, process, port):
        self.name, self.process, self.port = name, process, port

    def address(self):
        return f"{self.name}:{self.process.pid}:{self.port}"


def base_name(names):
    """What the ratios refer to: the limit, or plain epoll where io_uring cannot be used."""
    return "limit" if "limit" in names else "epoll, C"


class Bench:
    def __init__(self, folder, server_cpu, client_cpu):
        self.folder, self.server_cpu, self.client_cpu = folder, server_cpu, client_cpu
        self.started = []
        self.left_out = set()
        self.begun = time.monotonic()

    def start(self, server, framed, prefix=()):
        arguments = server.framed if framed else server.echo
        # A second CPU for servers is the client's only where there is no third.
        second = next(iter(sorted(os.sched_getaffinity(0) - {self.server_cpu, self.client_cpu})), self.client_cpu)
        arguments = [each.format(first=self.server_cpu, second=second) for each in arguments]
        command = [*prefix, str(self.folder / server.program), "--port", "0", *arguments]
        log = tempfile.TemporaryFile()
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log,
                                   preexec_fn=lambda: os.sched_setaffinity(0, {self.server_cpu}))
        process.log = log
        self.started.append(process)
        line = read_line(process, START_TIMEOUT)
        match = re.search(r"listening on [\d.]+:(\d+)", line)
        if not match:
            self.end(process)
            log.seek(0)
            said = log.read().decode(errors="replace").strip() or line.strip() or "nothing"
            raise Trouble(f"{server.name} did not start ({' '.join(command)}); it said: {said}")
        return Running(server.name, process, int(match.group(1)))

    def start_if_possible(self, server, framed):
        try:
            return self.start(server, framed)
        except Trouble as trouble:
            if (server, framed) not in self.left_out:  # said once is enough
                note(f"left out: {trouble}")
            self.left_out.add((server, framed))
            return None

    def start_all(self, servers, framed):
        """Those that can be started; the one that all are compared with is the first."""
        running = [self.start_if_possible(server, framed) for server in servers]
        running = [server for server in running if server is not None]
        base = base_name({server.name for server in running})
        return sorted(running, key=lambda server: server.name != base)

    def end(self, process, hurry=False):
        if process in self.started:
            self.started.remove(process)
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(0.2 if hurry else 5)  # under valgrind, io_uring_enter does not notice the signal
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        process.stdout.close()

    def end_all(self, hurry=False):
        for process in list(self.started):
            self.end(process, hurry)

    def client_command(self, servers, options):
        return [str(self.folder / "client"), "--cpu", str(self.client_cpu), *map(str, options),
                *(server.address() for server in servers)]

    def load(self, servers, options, prefix=()):
        """Runs the client, under a prefix such as perf; its results by the server's name."""
        command = [*prefix, *self.client_command(servers, options)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            raise Trouble(done.stderr.strip() or f"the client ended with {done.returncode}")
        return {entry.pop("name"): entry for entry in json.loads(done.stdout)["servers"]}


def read_line(process, timeout):
    """The first line that the process prints, or what there is of it when the time is over."""
    end, text = time.monotonic() + timeout, b""
    while b"\n" not in text:
        ready, _, _ = select.select([process.stdout], [], [], max(0, end - time.monotonic()))
        piece = os.read(process.stdout.fileno(), 4096) if ready else b""
        if not piece:
            break
        text += piece
    return text.decode(errors="replace")


# ---------------------------------------------------------------------------------------------------
# What is measured. Every function returns {server's name: figures}.

def takes_part(server, key, framed, wanted):
    if wanted and server.name not in wanted:
        return False
    if server.only and key not in server.only:
        return False
    return (server.framed if framed else server.echo) is not None


def measure_turns(bench, case, servers, quick):
    """The method proper: all servers at once, one client visiting them in random order."""
    if case.two_cpus:
        servers = [server for server in servers if server.name == "limit" or case.key in server.only]
    try:
        running = bench.start_all(servers, case.framed)
        options = case.options + (("--turns", 20, "--patience", 2, *case.quick_options) if quick else ())
        if time.monotonic() - bench.begun > PATIENT_FOR:
            options += ("--patience", 1)
        results = bench.load(running, options)
    finally:
        bench.end_all()
    return results


def measure_idle(bench, servers, framed, connections):
    """Each server on its own and fresh, so that nothing it allocated before is reused."""
    results = {}
    for server in servers:
        if server.example:
            server = replace(server, program=f"../examples/{server.example}")
        running = bench.start_if_possible(server, framed)
        if running is None:
            continue
        try:
            options = ("--idle", connections, *(("--framed",) if framed else ()))
            results.update(bench.load([running], options))
        finally:
            bench.end_all()
    return {name: entry["bytes_per_connection"] for name, entry in results.items()}


def difference_per_message(bench, running, options, counted):
    """A count per message from a short and a longer run, so that setting up is not counted."""
    options = (*options, "--warm-up", 0, "--patience", 1)
    short, long = (counted(bench, running, (*options, "--turns", turns)) for turns in (5, 50))
    return (long[0] - short[0]) / (long[1] - short[1])


def count_with_perf(bench, running, options):
    """(system calls, messages) of one run, counted by a tracepoint, which hardly disturbs."""
    with tempfile.NamedTemporaryFile("r") as output:
        prefix = ("perf", "stat", "-x", ";", "-o", output.name, "-e", "raw_syscalls:sys_enter",
                  "-p", str(running.process.pid), "--")
        results = bench.load([running], options, prefix)
        match = re.search(r"^(\d+);", output.read(), re.MULTILINE)
        if not match:
            raise Trouble("perf counted nothing")
        return int(match.group(1)), results[running.name]["messages"]


def count_with_strace(bench, running, options):
    """The same with strace, which slows the server down, so that it batches more than it would."""
    with tempfile.NamedTemporaryFile("r") as output:
        tracer = subprocess.Popen(["strace", "-c", "-f", "-o", output.name, "-p", str(running.process.pid)],
                                  stderr=subprocess.DEVNULL)
        time.sleep(0.3)
        try:
            results = bench.load([running], options)
        finally:
            tracer.send_signal(signal.SIGINT)
            tracer.wait()
        rows = re.findall(r"^ *[\d.]+ +[\d.]+ +\d+ +(\d+)(?: +\d+)? +(\w+)$", output.read(), re.MULTILINE)
        return sum(int(calls) for calls, name in rows if name != "total"), results[running.name]["messages"]


def syscall_counter():
    """(function, how) or (None, why not)."""
    if shutil.which("perf"):
        probe = subprocess.run(["perf", "stat", "-e", "raw_syscalls:sys_enter", "true"],
                               capture_output=True, text=True)
        if probe.returncode == 0 and "not supported" not in probe.stderr:
            return count_with_perf, "counted by a tracepoint (perf)"
    if shutil.which("strace"):
        probe = subprocess.run(["strace", "-c", "true"], capture_output=True)
        if probe.returncode == 0:
            return count_with_strace, "counted by strace, which slows the server down and makes it batch more"
    return None, "neither perf with tracepoints nor strace can be used here"


def measure_syscalls(bench, case, servers, counter):
    results = {}
    for server in servers:
        running = bench.start_if_possible(server, case.framed)
        if running is None:
            continue
        try:
            results[server.name] = difference_per_message(bench, running, case.options, counter)
        finally:
            bench.end_all()
    return results


def instruction_counter():
    if shutil.which("perf"):
        probe = subprocess.run(["perf", "stat", "-x", ";", "-e", "instructions:u", "true"],
                               capture_output=True, text=True)
        if probe.returncode == 0 and re.search(r"^\d+;", probe.stderr, re.MULTILINE):
            return "perf", "counted by the processor (perf)"
    if shutil.which("valgrind") and shutil.which("vgdb"):
        return "callgrind", "counted by callgrind"
    return None, "there is neither perf with hardware counters nor valgrind here"


def instructions_with_perf(bench, server, case):
    def counted(bench, running, options):
        with tempfile.NamedTemporaryFile("r") as output:
            prefix = ("perf", "stat", "-x", ";", "-o", output.name, "-e", "instructions:u",
                      "-p", str(running.process.pid), "--")
            results = bench.load([running], options, prefix)
            count = re.search(r"^(\d+);", output.read(), re.MULTILINE).group(1)
            return int(count), results[running.name]["messages"]

    running = bench.start(server, case.framed)
    try:
        return difference_per_message(bench, running, case.options, counted)
    finally:
        bench.end_all()


def instructions_with_callgrind(bench, server, case):
    """User space only, which is what a library can be blamed for."""
    with tempfile.TemporaryDirectory() as folder:
        dumps = Path(folder) / "callgrind"

        def counted(bench, running, options):
            results = bench.load([running], (*options, "--turn-ms", 50))
            before = set(Path(folder).iterdir())
            # A dump has what was executed since the last one. vgdb can make it while the server sleeps.
            subprocess.run(["vgdb", f"--pid={running.process.pid}", "dump"], capture_output=True, timeout=30)
            for dump in set(Path(folder).iterdir()) - before:
                match = re.search(r"^totals: (\d+)", dump.read_text(), re.MULTILINE)
                if match:
                    return int(match.group(1)), results[running.name]["messages"]
            raise Trouble(f"callgrind counted nothing for {server.name}")

        prefix = ("valgrind", "--tool=callgrind", f"--callgrind-out-file={dumps}", f"--log-file={dumps}.log")
        running = bench.start(server, case.framed, prefix)
        try:
            bench.load([running], (*case.options, "--turns", 2))  # so that later loads find everything set up
            counted(bench, running, (*case.options, "--warm-up", 0, "--turns", 1))
            return difference_per_message(bench, running, case.options, counted)
        finally:
            bench.end_all(hurry=True)


# ---------------------------------------------------------------------------------------------------
# Tables

def print_table(title, columns, rows):
    print(f"\n{title}\n")
    table = [["server", *columns], *rows]
    widths = [max(len(str(row[i])) for row in table) for i in range(len(table[0]))]
    for number, row in enumerate(table):
        first, others = str(row[0]).ljust(widths[0]), zip(row[1:], widths[1:])
        print("| " + " | ".join([first, *(str(cell).rjust(width) for cell, width in others)]) + " |")
        if number == 0:
            rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
            print("| " + " | ".join(rule) + " |")


def names_in_order(*results):
    present = {name for result in results for name in result}
    return list(dict.fromkeys(server.name for server in SERVERS if server.name in present))


def print_cpu_table(by_case):
    cases = [case for case in CASES if case.key in by_case]
    base = base_name({name for case in cases for name in by_case[case.key]})
    cases = [case for case in cases if base in by_case[case.key]]
    if not cases:
        return
    rows = []
    for name in names_in_order(*(by_case[case.key] for case in cases)):
        row = [name]
        for case in cases:
            figures = by_case[case.key]
            row.append(f"{figures[name]['ratio']:.2f}" if name in figures else "-")
        rows.append(row)
    rows.append([f"{base}, us"] + [f"{by_case[case.key][base]['cpu_us']:.3g}" for case in cases])
    print_table(f"Server CPU time for a message, as a multiple of: {base}",
                [case.title for case in cases], rows)


def print_latency_table(by_case):
    cases = [case for case in CASES if case.key in by_case and case.latency]
    if not cases:
        return
    columns = [f"{case.title}: {quantile}" for case in cases for quantile in ("p50", "p99")]
    rows = []
    for name in names_in_order(*(by_case[case.key] for case in cases)):
        row = [name]
        for case in cases:
            figures = by_case[case.key].get(name)
            row += [f"{figures[key]:.0f}" if figures else "-" for key in ("p50_us", "p99_us")]
        rows.append(row)
    print_table("Round trip, us", columns, rows)


def print_plain_table(title, results, columns, form):
    """results: {column's key: {server: number}}"""
    present = [(key, heading) for key, heading in columns if key in results]
    rows = [[name] + [form(results[key][name]) if name in results[key] else "-" for key, _ in present]
            for name in names_in_order(*results.values())]
    print_table(title, [heading for _, heading in present], rows)


def check_plausibility(by_case):
    """What the figures themselves say about the measurement."""
    remarks = []
    figures = by_case.get("n50", {})
    if "limit" in figures and "epoll, C" in figures:
        ratio = figures["epoll, C"]["ratio"]
        low, high = EPOLL_SHOULD_BE
        if low <= ratio <= high:
            remarks.append(f"Self-check passed: plain epoll is {ratio:.3f} of the limit at N=50 "
                           f"({low} to {high} expected).")
        else:
            remarks.append(f"WARNING: plain epoll is {ratio:.3f} of the limit at N=50, expected {low} to "
                           f"{high}: the method is off, do not trust this run.")
    for case in CASES:
        figures = by_case.get(case.key, {})
        if "limit" in figures and "limit again" in figures:
            off = figures["limit again"]["ratio"] - 1
            if abs(off) > NOISE:
                remarks.append(f"WARNING: {case.title}: two copies of the limit differ by {abs(off):.1%}; "
                               "smaller differences than that mean nothing in this column.")
        waited = max((entry["waited_share"] for entry in figures.values()), default=0)
        if waited > 0.05 and case.key != "one":
            remarks.append(f"WARNING: {case.title}: other processes held the CPUs for up to {waited:.0%} of "
                           "the time; measure on a quiet machine.")
    return remarks


def check_cores(by_case):
    """Two contexts do half of their work on each of two CPUs, which may cost differently: the client may be on one."""
    figures = by_case.get("cores", {})
    one, again, two = (figures.get(f"plait, {name}") for name in ("one context", "one context again", "two contexts"))
    if not (one and again and two):
        return []
    ratio = 2 * two["ratio"] / (one["ratio"] + again["ratio"])
    said = [f"Two contexts on two CPUs take {ratio:.2f} of what one context takes for a message, on the average of these CPUs."]
    if len(os.sched_getaffinity(0)) < 3:
        said.append("WARNING: there are two CPUs, so the client shares one with a context, and that figure means little.")
    return said


def check_goals(by_case):
    """What plait aims at, and misses by more than the noise of a figure shows."""
    missed, met = [], 0
    for case in CASES:
        figures = by_case.get(case.key, {})
        for name, other in (("plait", "limit"), ("plait, epoll", "epoll, C")):
            if case.key not in GOAL_CASES or name not in figures or other not in figures:
                continue
            ratio = figures[name]["ratio"] / figures[other]["ratio"]
            met += ratio < GOAL + 0.005
            if ratio >= GOAL + 0.005:
                missed.append(f"{name}: {case.title} is {ratio:.2f} of {other}")
    one = by_case.get("one", {})
    if "plait, polling" in one and "asio" in one:
        ratio = one["plait, polling"]["p50_us"] / one["asio"]["p50_us"]
        met += ratio <= POLLING_GOAL
        if ratio > POLLING_GOAL:
            missed.append(f"plait, polling: the median round trip is {ratio:.2f} of asio's, {POLLING_GOAL} are aimed at")
    if not missed and not met:
        return []
    said = [f"Goals: {met} of {met + len(missed)} are met ({GOAL} of the limit; of plain epoll for the epoll driver)."]
    return said + [f"Missed: {text}." for text in missed]


def check_idle(idle):
    """Whether plait keeps to the bytes that it promises."""
    figures = [(bytes, name, title) for title, results in idle.items()
               for name, bytes in results.items() if name.startswith("plait")]
    if not figures:
        return []
    most, name, title = max(figures)
    verdict = "Self-check passed" if most <= IDLE_BYTES else "WARNING"
    return [f"{verdict}: an idle connection of plait is at most {most:.0f} bytes ({name}: {title}); "
            f"{IDLE_BYTES} are promised."]


# ---------------------------------------------------------------------------------------------------

def find_folder(given):
    if given:
        folder = Path(given).resolve()
        if not (folder / "client").exists():
            raise Trouble(f"there is no client in {folder}: build the benchmarks first, ./dev bench does")
        return folder
    for name in BUILD_FOLDERS:
        if (REPOSITORY / name / "client").exists():
            return REPOSITORY / name
    raise Trouble(f"the benchmarks are not built (looked in {', '.join(BUILD_FOLDERS)}): "
                  "./dev bench builds them")


def choose_cpus():
    cpus = sorted(os.sched_getaffinity(0))
    if len(cpus) == 1:
        note("WARNING: only one CPU can be used: client and servers share it, and the figures mean little.")
    return cpus[0], cpus[min(1, len(cpus) - 1)]


def raise_file_limit():
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def go_first():
    """Servers and client inherit it; they do not compete with each other, as they run on different CPUs."""
    try:
        os.setpriority(os.PRIO_PROCESS, 0, -20)
        autogroup = Path("/proc/self/autogroup")
        if autogroup.exists():
            autogroup.write_text("-20")
    except OSError as error:
        note(f"WARNING: no higher priority: {error.strerror}")


def describe_system(folder):
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    cache = next((parent / "CMakeCache.txt" for parent in (folder, *folder.parents)
                  if (parent / "CMakeCache.txt").exists()), None)
    build_type = re.search(r"CMAKE_BUILD_TYPE:\w+=(.*)", cache.read_text()) if cache else None
    return {"kernel": platform.release(), "cpu": model.group(1) if model else platform.machine(),
            "cpus": os.cpu_count(), "build_type": build_type.group(1) if build_type else "unknown",
            "folder": str(folder), "date": time.strftime("%Y-%m-%d %H:%M")}


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", metavar="DIR",
                        help="where the programs are (default: the first build found)")
    parser.add_argument("--quick", action="store_true",
                        help="20 turns instead of 80: for a look, not for a claim")
    parser.add_argument("--cases", metavar="A,B",
                        help=f"of: {', '.join(ALL_CASES)} (default: all but the last)")
    parser.add_argument("--servers", metavar="A;B",
                        help="names as in the tables, separated by semicolons; the limit always takes part")
    parser.add_argument("--priority", action="store_true",
                        help="go before other processes where there are any (root only; slows those down)")
    parser.add_argument("--json", metavar="FILE", help="write all figures there, too")
    arguments = parser.parse_args()
    arguments.cases = arguments.cases.split(",") if arguments.cases else list(DEFAULT_CASES)
    for key in arguments.cases:
        if key not in ALL_CASES:
            parser.error(f"no case {key}; there are: {', '.join(ALL_CASES)}")
    names = {server.name for server in SERVERS}
    wanted = {name.strip() for name in arguments.servers.split(";")} if arguments.servers else set()
    for name in wanted - names:
        parser.error(f"no server {name}; there are: {'; '.join(sorted(names))}")
    arguments.servers = wanted | {"limit"} if wanted else set()
    return arguments


def measure(arguments, bench, servers, file_limit):
    by_case, idle, syscalls, instructions = {}, {}, {}, {}
    remarks = []

    def chosen(key, framed):
        return [server for server in servers if takes_part(server, key, framed, arguments.servers)]

    def one_of_each(key, framed):
        return [server for server in chosen(key, framed) if server.name != "limit again"]

    for case in CASES:
        if case.key in arguments.cases:
            note(f"measuring {case.title} ...")
            by_case[case.key] = measure_turns(bench, case, chosen(case.key, case.framed), arguments.quick)
    if IDLE in arguments.cases:
        for framed, count in itertools.product((False, True), IDLE_CONNECTIONS):
            title = f"{'framed' if framed else 'echo'}, {count:,}"
            if count + 100 > file_limit:
                remarks.append(f"Idle connections: {title} is left out, as only {file_limit:,} files may be open.")
                continue
            note(f"measuring idle connections, {title} ...")
            idle[title] = measure_idle(bench, one_of_each(IDLE, framed), framed, count)
        remarks += check_idle(idle)
    if SYSCALLS in arguments.cases:
        counter, how = syscall_counter()
        if counter is None:
            remarks.append(f"System calls were not counted: {how}.")
        for case in CASES:
            if counter and case.key in SYSCALL_CASES:
                note(f"counting system calls, {case.title} ...")
                everyone = one_of_each(SYSCALLS, case.framed)
                syscalls[case.key] = measure_syscalls(bench, case, everyone, counter)
        if counter:
            remarks.append(f"System calls: {how}.")
    if INSTRUCTIONS in arguments.cases:
        counter, how = instruction_counter()
        remarks.append(f"Instructions: {how}." if counter else f"Instructions were not counted: {how}.")
        count = {"perf": instructions_with_perf, "callgrind": instructions_with_callgrind}.get(counter)
        for case in CASES:
            if count and case.key in INSTRUCTION_CASES:
                note(f"counting instructions, {case.title} ...")
                instructions[case.key] = {server.name: count(bench, server, case)
                                          for server in one_of_each(INSTRUCTIONS, case.framed)}
    return by_case, idle, syscalls, instructions, remarks


def main():
    arguments = parse_arguments()
    folder = find_folder(arguments.build)
    system = describe_system(folder)
    if system["build_type"] not in ("Release", "RelWithDebInfo"):
        note(f"WARNING: the build type is {system['build_type'] or 'not set'}: plait is not optimised.")
    file_limit = raise_file_limit()
    servers = []
    for server in SERVERS:
        if (folder / server.program).exists():
            servers.append(server)
        else:
            note(f"left out: {server.name} ({server.program} was not built)")
    connections = 1000 * len({server.name for server in servers})
    if file_limit < connections + 100:
        note(f"WARNING: open files are limited to {file_limit}; the client wants {connections + 100}.")

    if arguments.priority:
        go_first()
    bench = Bench(folder, *choose_cpus())
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    try:
        by_case, idle, syscalls, instructions, remarks = measure(arguments, bench, servers, file_limit)
    finally:
        bench.end_all()

    print(f"{system['cpu']}, Linux {system['kernel']}, {system['build_type']} build, {system['date']}; "
          f"servers on CPU {bench.server_cpu}, client on CPU {bench.client_cpu}")
    titles = [(case.key, case.title) for case in CASES]
    print_cpu_table(by_case)
    print_latency_table(by_case)
    if idle:
        print_plain_table("Memory for an idle connection after one exchange, bytes", idle,
                          [(title, title) for title in idle], lambda value: f"{value:.0f}")
    if syscalls:
        print_plain_table("System calls for a message", syscalls, titles,
                          lambda value: f"{value:.2f}" if value > 0.1 else f"{value:.3f}")
    if instructions:
        print_plain_table("User-space instructions for a message", instructions, titles,
                          lambda value: f"{value:.0f}")
    remarks = check_plausibility(by_case) + check_goals(by_case) + check_cores(by_case) + remarks
    took = time.monotonic() - bench.begun
    remarks.append(f"The run took {took / 60:.1f} minutes.")
    print()
    for remark in remarks:
        print(remark)
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(
            {"system": system, "turns": by_case, "idle": idle, "syscalls": syscalls,
             "instructions": instructions, "remarks": remarks}, indent=2) + "\n")


if __name__ == "__main__":
    try:
        main()
    except Trouble as trouble:
        sys.exit(f"run.py: {trouble}")
    except KeyboardInterrupt:
        sys.exit(1)
