"""Asks the servers of examples/ what they wait for, while they work: see examples_test.py, whose options it takes."""

import re
import signal
import socket
import sys
import threading
import unittest

from examples_test import DUMP_REQUEST, TOP, Server, exactly, frame, main, run, wait_until


def line_of(example: str, code: str, which: int = 0) -> str:
    """Where that stands, as a dump writes it."""
    lines = (TOP / "examples" / f"{example}.cpp").read_text(encoding="utf-8").splitlines()
    numbers = [number for number, line in enumerate(lines, 1) if code in line]
    return f"at examples/{example}.cpp:{numbers[which]}"


class Dump:
    """One dump: its entries, each a list of lines without what changes from run to run."""

    def __init__(self, lines: list[str]):
        self.title = lines[0]
        self.entries: list[list[str]] = []
        for line in lines[1:]:
            if line.startswith("#"):
                self.entries.append([re.sub(r"^#\d+ ", "", line)])
            else:
                self.entries[-1].append(line.strip())

    def those_at(self, place: str) -> list[list[str]]:
        """The entries whose own co_await stands there."""
        return [entry for entry in self.entries if any(line.endswith(place) for line in entry[1:])]


def ask(server: Server) -> Dump:
    """Sends the signal and waits for the whole answer."""
    before = len(server.log)
    server.signal(DUMP_REQUEST)
    wait_until(lambda: any(" system calls, " in line for line in server.log[before:]), "the line of the metrics")
    return Dump([line for line in server.log[before:] if " system calls, " not in line])


def ask_until(server: Server, place: str, count: int) -> Dump:
    """Asks until that many wait there: a client may have its answer before the server has heard that it was sent."""
    def asked() -> Dump | None:
        dump = ask(server)
        return dump if len(dump.those_at(place)) == count else None
    return wait_until(asked, f"{count} tasks {place}")


def name_of_peer(client: socket.socket) -> str:
    """Of a session's stream, as a dump shows both ends."""
    return "{1[0]}:{1[1]} <- {0[0]}:{0[1]}".format(client.getsockname(), client.getpeername())


def steady(dump: str) -> list[list[str]]:
    """The entries without what changes from run to run, in an order of their own: several began in the same moment."""
    for what, instead in ((r"127\.0\.0\.1:\d+", "127.0.0.1:PORT"), (r", for [\d.]+ s$", ", for TIME"),
                          (r"\.hpp:\d+", ".hpp:LINE")):
        dump = re.sub(what, instead, dump, flags=re.MULTILINE)
    return sorted(Dump(dump.splitlines()).entries)


class DumpRequests(unittest.TestCase):
    def ended_well(self, server: Server) -> None:
        server.signal(signal.SIGTERM)
        self.assertEqual(server.exit_code(), 0)

    def sessions_wait(self, server: Server, what: str, place: str, clients: list[socket.socket]) -> Dump:
        """Each of these clients has a session that waits there, and no other has."""
        dump = ask_until(server, place, len(clients))
        waiting = dump.those_at(place)
        for client in clients:
            ends = f"{what} {name_of_peer(client)}, "
            self.assertTrue(any(entry[0].startswith(ends) for entry in waiting), (ends, dump.entries))
        for entry in waiting:
            self.assertRegex(entry[0], r", (for [\d.]+ \w+( \d+ \w+)?|ready)$")
        return dump

    def test_tcp_echo_server_names_its_sessions_and_goes_on(self):
        here = line_of("tcp_echo_server", "co_await stream.recv()")
        with Server("tcp_echo_server") as server, server.connect() as ann, server.connect() as bob:
            for client in (ann, bob):
                client.sendall(b"hello")
                self.assertEqual(exactly(client, 5), b"hello")
            for _ in range(3):
                dump = self.sessions_wait(server, "recv", here, [ann, bob])
                self.assertIn(f"({server.backend})", dump.title)
                accepting = dump.those_at(line_of("tcp_echo_server", "co_await plait::serve_per_core(how.local"))
                self.assertEqual([entry[0].split(",")[0] for entry in accepting if entry[0].startswith("accept")],
                                 [f"accept {server.host}:{server.port}"])
            ann.sendall(b"again")
            self.assertEqual(exactly(ann, 5), b"again")
            self.ended_well(server)

    def test_every_thread_of_a_server_answers_one_request(self):
        with Server("tcp_echo_server", "--threads", 3) as server:
            for round in range(1, 4):
                server.signal(DUMP_REQUEST)
                for ends in (f" ({server.backend})", " allocations"):
                    wait_until(lambda: sum(line.endswith(ends) for line in server.log) == 3 * round, f"3 lines{ends}")
            titles = [line for line in server.log if line.startswith("plait: ")]
            self.assertEqual(len(titles), 9)
            self.ended_well(server)

    def test_a_busy_server_answers_too(self):
        with Server("tcp_echo_server") as server:
            failures = []
            over = threading.Event()

            def talk():
                with server.connect() as client:
                    while not over.is_set():
                        client.sendall(b"x" * 1000)
                        if exactly(client, 1000) != b"x" * 1000:
                            failures.append("not what was sent")
            talkers = [threading.Thread(target=talk) for _ in range(4)]
            for talker in talkers:
                talker.start()
            source = (TOP / "examples" / "tcp_echo_server.cpp").read_text(encoding="utf-8").splitlines()
            for _ in range(20):
                for entry in ask(server).entries:
                    for number in re.findall(r" at examples/tcp_echo_server\.cpp:(\d+)$", "\n".join(entry), re.MULTILINE):
                        self.assertIn("co_await", source[int(number) - 1])
            over.set()
            for talker in talkers:
                talker.join()
            self.assertEqual(failures, [])
            self.ended_well(server)

    def test_framed_echo_server_waits_for_the_next_message(self):
        with Server("framed_echo_server", "--width", 4, "--endian", "little") as server, server.connect() as client:
            client.sendall(frame(b"hello"))
            self.assertEqual(exactly(client, 9), frame(b"hello"))
            self.sessions_wait(server, "next", line_of("framed_echo_server", "co_await messages.next()"), [client])
            client.sendall(frame(b"again"))
            self.assertEqual(exactly(client, 9), frame(b"again"))
            self.ended_well(server)

    def test_key_value_server_waits_for_the_next_command(self):
        with Server("key_value_server") as server, server.connect() as client:
            client.sendall(b"PING\r\n")
            self.assertEqual(exactly(client, 7), b"+PONG\r\n")
            self.sessions_wait(server, "next", line_of("key_value_server", "co_await client.next()"), [client])
            client.sendall(b"PING\r\n")
            self.assertEqual(exactly(client, 7), b"+PONG\r\n")
            self.ended_well(server)

    def test_chat_server_names_both_directions_and_who_joins_them(self):
        with Server("chat_server") as server, server.connect() as ann, server.connect() as silent:
            ann.sendall(b"tea ann\n")
            welcome = b"* you are in, with:\n"
            self.assertEqual(exactly(ann, len(welcome)), welcome)
            self.sessions_wait(server, "next", line_of("chat_server", "auto hello = co_await client.next()"), [silent])
            dump = self.sessions_wait(server, "next", line_of("chat_server", "auto line = co_await client.next()"), [ann])
            queue = dump.those_at(line_of("chat_server", "co_await who.queue.receive()"))
            self.assertEqual([entry[0].split(",")[0] for entry in queue], ["receive from a channel"])
            joins = line_of("chat_server", "co_await both.join()")
            self.assertEqual([entry[0].split(",")[0] for entry in dump.those_at(joins) if entry[0].startswith("join")],
                             ["join of 2 tasks"])
            self.assertTrue(queue[0][-1].endswith(joins), queue)
            self.ended_well(server)

    def test_tcp_proxy_names_both_of_its_connections(self):
        with socket.create_server(("127.0.0.1", 0)) as target, \
                Server("tcp_proxy", *target.getsockname()) as server, server.connect() as client:
            behind, _ = target.accept()
            with behind:
                client.sendall(b"hello")
                self.assertEqual(exactly(behind, 5), b"hello")
                here = line_of("tcp_proxy", "co_await from.recv()")
                waiting = ask_until(server, here, 2).those_at(here)
                to_target = "{1[0]}:{1[1]} <- {0[0]}:{0[1]}".format(behind.getsockname(), behind.getpeername())
                self.assertEqual(sorted(entry[0].split(",")[0] for entry in waiting),
                                 sorted([f"recv {name_of_peer(client)}", f"recv {to_target}"]))
                behind.sendall(b"again")
                self.assertEqual(exactly(client, 5), b"again")
            self.ended_well(server)


class FindAHang(unittest.TestCase):
    def test_says_what_the_document_shows(self):
        code, out, err = run("find_a_hang")
        self.assertEqual((code, err), (0, ""))
        document = (TOP / "docs" / "debugging.md").read_text(encoding="utf-8")
        shown = re.search(r"^```text\n(plait: .*?)^```", document, re.DOTALL | re.MULTILINE)[1]
        self.assertEqual(steady(out), steady(shown))
        self.assertEqual(out.splitlines()[0].split(" (")[0], shown.splitlines()[0].split(" (")[0])

    def test_repaired_answers_everything(self):
        self.assertEqual(run("find_a_hang", "--repaired"), (0, "the last answer: LINE 20\n", ""))


if __name__ == "__main__":
    sys.exit(main())
