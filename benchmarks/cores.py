#!/usr/bin/env python3
"""Two contexts in one process, beside two processes with one context each, on the same two CPUs.

    cores.py [--server build/release/benchmarks/plait_echo] [--turns N] [--backend io_uring|epoll]

What contexts share would make the first dearer. The load is the same for both: rounds of one 64-byte message on each of
100 connections, from this one process, which runs wherever the system puts it; the two take turns. That is why two CPUs
are enough, where the case `cores` of run.py wants a third for its client. CPU time is the scheduler's (schedstat), in
nanoseconds. `two processes, again` is a second pair, and shows the noise.
"""

import argparse
import random
import re
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path

CONNECTIONS = 100
MESSAGE = b"x" * 64
TURN_S = 0.25


class Servers:
    """Processes that share the connections evenly."""

    def __init__(self, name: str, command: list[str], *arguments: list[str]):
        self.name = name
        self.costs: list[float] = []
        self.processes = [subprocess.Popen([*command, *each], stdout=subprocess.PIPE) for each in arguments]
        ports = [int(re.search(rb":(\d+) ", process.stdout.readline())[1]) for process in self.processes]
        self.clients = [socket.create_connection(("127.0.0.1", ports[i % len(ports)])) for i in range(CONNECTIONS)]
        for client in self.clients:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def cpu_ns(self) -> int:
        return sum(int(path.read_text(encoding="ascii").split()[0])
                   for process in self.processes for path in Path(f"/proc/{process.pid}/task").glob("*/schedstat"))

    def turn(self) -> None:
        messages, before, end = 0, self.cpu_ns(), time.monotonic() + TURN_S
        while time.monotonic() < end:
            for client in self.clients:
                client.sendall(MESSAGE)
            for client in self.clients:
                if client.recv(len(MESSAGE), socket.MSG_WAITALL) != MESSAGE:
                    sys.exit(f"{self.name}: not what was sent")
            messages += len(self.clients)
        self.costs.append((self.cpu_ns() - before) / messages)

    def end(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", default="build/release/benchmarks/plait_echo")
    parser.add_argument("--turns", type=int, default=60)
    parser.add_argument("--backend", default="io_uring")
    options = parser.parse_args()
    command = [options.server, "--backend", options.backend]
    pair = (["--cpus", "0"], ["--cpus", "1"])
    servers = [Servers("two processes", command, *pair),
               Servers("two processes, again", command, *pair),
               Servers("two contexts", command, ["--cpus", "0,1", "--threads", "2"])]
    try:
        for server in servers:
            server.turn()
            server.costs.clear()
        for _ in range(options.turns):
            for server in random.sample(servers, len(servers)):
                server.turn()
    finally:
        for server in servers:
            server.end()
    base = statistics.median(servers[0].costs)
    for server in servers:
        median = statistics.median(server.costs)
        print(f"{server.name:22} {median / 1000:6.2f} us of CPU for a message, {median / base:.3f}")


if __name__ == "__main__":
    main()
