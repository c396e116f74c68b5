"""Drives the examples from outside, with Python's own socket and struct modules.

    examples_test.py --examples-dir DIR [--prefix PROGRAM] [--with-console PROGRAM] [--print-lacks PROGRAM] [NAME...]

DIR holds the built examples. Where they are Windows programs, they are started through the prefix if there is one
(Wine), and the servers through tests/support/windows/with_console.cpp, because a signal is a console's Ctrl-C or
Ctrl-Break there; print_lacks.cpp tells what the system cannot do. NAMEs choose test classes or methods, as unittest
takes them. PLAIT_BACKEND is passed on to the examples, PLAIT_TEST_SCALE multiplies counts. Exit code 77: skipped,
because DIR holds no examples.
"""

import argparse
import contextlib
import functools
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import unittest
from pathlib import Path

try:
    import fcntl
    import resource
    import termios
except ImportError:  # Python on Windows
    fcntl = resource = termios = None

TOP = Path(__file__).resolve().parent.parent
SCALE = float(os.environ.get("PLAIT_TEST_SCALE", "1"))
HANG = 60  # seconds; protection only, nothing here depends on how long it takes
# In seconds, within the five minutes that ctest gives, unless the environment knows better.
WHOLE_RUN = int(os.environ.get("PLAIT_TEST_PATIENCE", "280"))

examples = Path()
suffix = ""  # ".exe" where the examples are Windows programs
prefix: list[str] = []  # what the examples are started by, if not directly
with_console: list[str] = []
print_lacks: list[str] = []
DUMP_REQUEST = signal.SIGUSR1 if hasattr(signal, "SIGUSR1") else signal.SIGBREAK  # Python on Windows
started: list[subprocess.Popen] = []


def scaled(count: int, least: int = 1) -> int:
    return max(least, int(count * SCALE))


def start(name: str, *arguments, **how) -> subprocess.Popen:
    process = subprocess.Popen([*prefix, *how.pop("through", ()), str(examples / (name + suffix)), *map(str, arguments)],
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, **how)
    started.append(process)
    return process


def end_what_was_started() -> None:
    for process in started:
        if process.poll() is None:
            process.kill()


def give_up() -> None:
    print(f"examples_test: not done after {WHOLE_RUN} s", file=sys.stderr, flush=True)
    end_what_was_started()
    os._exit(1)


def run(name: str, *arguments, keyboard: str | None = None) -> tuple[int, str, str]:
    """Exit code, stdout and stderr."""
    process = start(name, *arguments, stdin=subprocess.PIPE)
    out, err = process.communicate(keyboard.encode() if keyboard is not None else None, timeout=HANG)
    return process.returncode, text(out), text(err)


def text(output: bytes) -> str:
    return output.decode().replace("\r\n", "\n")


def told(what: str) -> str:
    """How a program words that error of the system."""
    on_windows = {"Connection refused": "connection refused", "Connection reset by peer": "connection reset by the peer",
                  "Address already in use": "address already in use",
                  "Operation not supported": "operation not supported"}
    return on_windows[what] if suffix else what


def on_linux_only(what: str):
    def decorate(test):
        def run_or_skip(self):
            if suffix:
                self.skipTest(f"about Linux: {what}")
            test(self)

        return run_or_skip

    return decorate


@functools.cache
def lacks(what: str) -> str:
    """Why this system cannot do that (tests/support/lacks.hpp), with the error that a call gave; "" where it can."""
    if not suffix:
        return ""
    if what == "unix_streams" and not hasattr(socket, "AF_UNIX"):
        return "Python has no Unix sockets here: no socket.AF_UNIX"
    answer = subprocess.run([*prefix, *print_lacks, what], stdout=subprocess.PIPE, timeout=HANG, check=True)
    return text(answer.stdout).strip()


def needs(what: str):
    def decorate(test):
        @functools.wraps(test)
        def run_or_skip(self):
            if why := lacks(what):
                self.skipTest(why)
            test(self)

        return run_or_skip

    return decorate


def wait_until(condition, what: str):
    limit = time.monotonic() + HANG
    while time.monotonic() < limit:
        if found := condition():
            return found
        time.sleep(0.002)
    raise AssertionError(f"in vain waited for: {what}")


class Server:
    """An example that listens on a free port. Its stderr is collected line by line."""

    def __init__(self, name: str, *arguments):
        match = self._start(name, ["--port", 0, *arguments], r"(?:\[(.+)\]|([\d.]+)):(\d+) \((\w+)\)")
        self.host = match[1] or match[2]
        self.port = int(match[3])
        self.backend = match[4]

    def _start(self, name: str, arguments: list, where: str) -> re.Match:
        self.process = start(name, *arguments, through=with_console, stdin=subprocess.PIPE)
        self._listen_to_log()
        first = text(self.process.stdout.readline())
        match = re.fullmatch(f"listening on {where}\n", first)
        if match is None:
            self.process.kill()
            raise AssertionError(f"not what a server says when it is ready: {first!r}, {self.log}")
        return match

    def _listen_to_log(self) -> None:
        self.log: list[str] = []
        self.refusal = ""  # why it is epoll, if nobody asked for that
        self.reader = threading.Thread(target=self._collect_log, daemon=True)
        self.reader.start()

    def _collect_log(self) -> None:
        for line in self.process.stderr:
            said = line.decode().rstrip("\r\n")
            if not self.log and said.startswith(("io_uring_setup: ", "io_uring_register: ")):
                self.refusal = said
            else:
                self.log.append(said)

    def connect(self, host: str | None = None) -> socket.socket:
        return socket.create_connection((host or self.host, self.port), timeout=HANG)

    def refuses(self) -> bool:
        try:
            self.connect().close()
            return False
        except ConnectionResetError:  # it closed while this connection was made
            return False
        except ConnectionRefusedError:
            return True

    def signal(self, number: int) -> None:
        if not suffix:
            self.process.send_signal(number)
            return
        self.tell_console(b"b" if number == DUMP_REQUEST else b"c")

    def tell_console(self, event: bytes) -> None:
        """See with_console.cpp."""
        self.process.stdin.write(event)
        self.process.stdin.flush()

    def exit_code(self) -> int:
        code = self.process.wait(HANG)
        self.reader.join(HANG)  # what it said last may still be in the pipe
        return code

    def says(self, line: str) -> None:
        wait_until(lambda: line in self.log, f"the line {line!r} on stderr; there is {self.log}")

    def memory(self) -> int:
        status = Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii")
        return int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) * 1024

    def __enter__(self):
        return self

    def __exit__(self, trouble, *_):
        ended = self.process.poll()
        if ended is None:
            self.process.kill()
        self.exit_code()
        if trouble is not None:
            print(f"the server had {'not ended' if ended is None else f'ended with {ended}'}; it said:", *self.log,
                  sep="\n  ", file=sys.stderr, flush=True)


def exactly(stream: socket.socket, count: int) -> bytes:
    parts = []
    while count > 0:
        part = stream.recv(min(count, 1 << 16))
        if not part:
            raise AssertionError(f"the stream ended {count} bytes too early")
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


def until_end(stream: socket.socket) -> bytes:
    return b"".join(iter(lambda: stream.recv(1 << 16), b""))


def has_ended(stream: socket.socket) -> bool:
    try:
        return stream.recv(1) == b""
    except ConnectionResetError:
        return True


def frame(payload: bytes, width: int = 4, endian: str = "little") -> bytes:
    return len(payload).to_bytes(width, endian, signed=True) + payload


def next_frame(stream: socket.socket, width: int = 4, endian: str = "little") -> bytes:
    return exactly(stream, int.from_bytes(exactly(stream, width), endian, signed=True))


def wait_for_delivery(stream: socket.socket) -> None:
    """Until the peer's kernel has acknowledged every byte (SIOCOUTQ)."""
    if fcntl is None:
        return  # Windows does not tell; the bytes may then arrive together, which is right as well

    def unacknowledged() -> int:
        return struct.unpack("i", fcntl.ioctl(stream, termios.TIOCOUTQ, b"\0" * 4))[0]

    wait_until(lambda: unacknowledged() == 0, "the acknowledgement of what was sent")


def reset(stream: socket.socket) -> None:
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    stream.close()


def name_of(stream: socket.socket) -> str:
    return "{}:{}".format(*stream.getsockname()[:2])


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
        return True
    except OSError:
        return False


class TcpEchoServer(unittest.TestCase):
    def test_answers_the_same_bytes(self):
        with Server("tcp_echo_server") as server, server.connect() as client:
            everything = bytes(range(256)) * 16
            client.sendall(everything)
            self.assertEqual(exactly(client, len(everything)), everything)

    def test_answers_in_upper_case(self):
        with Server("tcp_echo_server", "--upper") as server, server.connect() as client:
            for message in (b"hello", "Grüße, 123 {~}".encode(), bytes(range(256))):
                client.sendall(message)
                self.assertEqual(exactly(client, len(message)), message.upper())

    def test_the_ready_line_names_the_backend(self):
        wanted = os.environ.get("PLAIT_BACKEND", "")
        with Server("tcp_echo_server") as server:
            self.assertIn(server.backend, [wanted] if wanted not in ("", "automatic") else ["io_uring", "epoll", "iocp"])
            with Server("tcp_echo_server", "--backend", server.backend) as chosen:
                self.assertEqual(chosen.backend, server.backend)

    def test_once_ends_after_one_exchange_with_one_client(self):
        with Server("tcp_echo_server", "--upper", "--once") as server:
            with server.connect() as client:
                client.sendall(b"hello")
                self.assertEqual(until_end(client), b"HELLO")
            self.assertEqual(server.exit_code(), 0)

    def test_once_ends_when_the_client_says_nothing(self):
        with Server("tcp_echo_server", "--once") as server:
            server.connect().close()
            self.assertEqual(server.exit_code(), 0)

    def test_once_ends_at_a_signal(self):
        with Server("tcp_echo_server", "--once") as server:
            server.signal(signal.SIGINT)
            self.assertEqual(server.exit_code(), 0)

    def test_a_silent_client_does_not_hold_up_the_others(self):
        with Server("tcp_echo_server", "--backlog", 5) as server, server.connect(), server.connect() as second:
            second.sendall(b"hello")
            self.assertEqual(exactly(second, 5), b"hello")

    def test_five_hundred_clients_at_once(self):
        with contextlib.ExitStack() as stack:
            server = stack.enter_context(Server("tcp_echo_server", "--upper"))
            clients = [stack.enter_context(server.connect()) for _ in range(scaled(500, 20))]
            for turn in range(3):
                for number, client in enumerate(clients):
                    client.sendall(b"client %d turn %d" % (number, turn))
                for number, client in enumerate(clients):
                    answer = b"CLIENT %d TURN %d" % (number, turn)
                    self.assertEqual(exactly(client, len(answer)), answer)

    def test_many_megabytes_come_back_unchanged(self):
        with Server("tcp_echo_server") as server, server.connect() as client:
            sent = os.urandom(1 << 20) * scaled(16, 2)
            sender = threading.Thread(target=client.sendall, args=(sent,), daemon=True)
            sender.start()
            self.assertTrue(exactly(client, len(sent)) == sent, "other bytes came back")
            sender.join()

    def test_a_client_that_half_closes_still_gets_its_answer(self):
        with Server("tcp_echo_server") as server, server.connect() as client:
            client.sendall(b"last words")
            client.shutdown(socket.SHUT_WR)
            self.assertEqual(until_end(client), b"last words")

    def test_clients_that_reset_do_not_stop_the_server(self):
        with Server("tcp_echo_server") as server:
            for number in range(scaled(200, 20)):
                client = server.connect()
                if number % 2:
                    client.sendall(b"never read")
                reset(client)
            with server.connect() as client:
                client.sendall(b"hello")
                self.assertEqual(exactly(client, 5), b"hello")
            self.assertIsNone(server.process.poll())

    @unittest.skipUnless(has_ipv6(), "this machine has no IPv6 loopback")
    def test_ipv6(self):
        with Server("tcp_echo_server", "--host", "::1") as server, server.connect() as client:
            self.assertEqual(server.host, "::1")
            client.sendall(b"hello")
            self.assertEqual(exactly(client, 5), b"hello")

    @unittest.skipUnless(has_ipv6(), "this machine has no IPv6 loopback")
    def test_an_ipv4_client_of_an_ipv6_listener(self):
        with Server("tcp_echo_server", "--host", "::") as server, server.connect("127.0.0.1") as client:
            client.sendall(b"hello")
            self.assertEqual(exactly(client, 5), b"hello")


class FramedEchoServer(unittest.TestCase):
    def test_answers_a_tutorial_client(self):
        with Server("framed_echo_server") as server, server.connect() as client:
            client.sendall(struct.pack("i", 5))
            client.sendall(b"hello")
            (length,) = struct.unpack("i", exactly(client, 4))
            self.assertEqual(exactly(client, length), b"hello")

    def test_how_the_bytes_are_cut_does_not_matter(self):
        payloads = [b"", b"a", b"hello", os.urandom(4095), os.urandom(4096), os.urandom(100_000), b"", b"end"]
        stream = b"".join(map(frame, payloads))
        with Server("framed_echo_server") as server:
            for cut in (len(stream), 4096, 1448, 7):
                with server.connect() as client:
                    pieces = [stream[i:i + cut] for i in range(0, len(stream), cut)]
                    sender = threading.Thread(target=lambda: [client.sendall(piece) for piece in pieces], daemon=True)
                    sender.start()
                    for payload in payloads:
                        self.assertEqual(next_frame(client), payload)
                    sender.join()

    def test_frames_byte_by_byte(self):
        with Server("framed_echo_server") as server, server.connect() as client:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for payload in (b"hello", b"", b"world"):
                for byte in frame(payload):
                    client.sendall(bytes([byte]))
                    wait_for_delivery(client)
                self.assertEqual(next_frame(client), payload)

    def test_a_thousand_frames_in_one_write(self):
        payloads = [b"message %d" % number for number in range(1000)]
        with Server("framed_echo_server") as server, server.connect() as client:
            client.sendall(b"".join(map(frame, payloads)))
            self.assertEqual([next_frame(client) for _ in payloads], payloads)

    def test_widths_and_endians(self):
        for width in (1, 2, 3, 4, 8):
            for endian in ("big", "little"):
                with self.subTest(width=width, endian=endian):
                    with Server("framed_echo_server", "--width", width, "--endian", endian) as server:
                        with server.connect() as client:
                            for payload in (b"", b"hello", bytes(127), bytes(127 if width == 1 else 30_000)):
                                client.sendall(frame(payload, width, endian))
                                self.assertEqual(next_frame(client, width, endian), payload)

    def refused(self, bytes_sent: bytes, reason: str, *arguments):
        """The connection is closed and logged; another one lives on."""
        with Server("framed_echo_server", *arguments) as server, server.connect() as honest, server.connect() as bad:
            honest.sendall(frame(b"before"))
            self.assertEqual(next_frame(honest), b"before")
            bad.sendall(frame(b"good") + bytes_sent)
            self.assertEqual(next_frame(bad), b"good")
            self.assertTrue(has_ended(bad))
            server.says(f"{name_of(bad)}: {reason}")
            honest.sendall(frame(b"after"))
            self.assertEqual(next_frame(honest), b"after")
            self.assertEqual(len(server.log), 1)

    def test_an_oversize_claim_ends_that_connection_alone(self):
        self.refused(struct.pack("<i", 1001) + b"x", "frame too large", "--max-frame", 1000)

    def test_the_default_limit_is_eight_mebibytes(self):
        self.refused(struct.pack("<i", (8 << 20) + 1), "frame too large")

    def test_a_frame_of_just_the_limit_is_answered(self):
        with Server("framed_echo_server", "--max-frame", 1000) as server, server.connect() as client:
            client.sendall(frame(bytes(1000)))
            self.assertEqual(next_frame(client), bytes(1000))

    def test_a_negative_length_ends_that_connection_alone(self):
        self.refused(struct.pack("<i", -1), "malformed frame")

    def test_the_end_of_the_stream_inside_a_frame_is_logged(self):
        for cut in (frame(b"hello")[:2], frame(b"hello")[:4], frame(b"hello")[:-1]):
            with Server("framed_echo_server") as server, server.connect() as client:
                client.sendall(cut)
                client.shutdown(socket.SHUT_WR)
                self.assertEqual(until_end(client), b"")
                server.says(f"{name_of(client)}: the stream ended inside a frame")

    def test_a_reset_inside_a_frame_costs_that_session_only(self):
        with Server("framed_echo_server") as server, server.connect() as honest:
            bad = server.connect()
            bad.sendall(frame(b"good") + frame(b"hello")[:6])
            self.assertEqual(next_frame(bad), b"good")
            name = name_of(bad)
            reset(bad)
            server.says(f"{name}: {told('Connection reset by peer')}")
            honest.sendall(frame(b"still here"))
            self.assertEqual(next_frame(honest), b"still here")

    def test_a_clean_end_is_not_logged(self):
        with Server("framed_echo_server") as server:
            with server.connect() as client:
                client.sendall(frame(b"hello"))
                client.shutdown(socket.SHUT_WR)
                self.assertEqual(until_end(client), frame(b"hello"))
            server.signal(signal.SIGTERM)
            self.assertEqual(server.exit_code(), 0)
            self.assertEqual(server.log, [])

    @on_linux_only("its memory is read in /proc")
    def test_memory_does_not_follow_the_lengths_that_are_claimed(self):
        with contextlib.ExitStack() as stack:
            server = stack.enter_context(Server("framed_echo_server"))

            def claim(count: int) -> None:
                for _ in range(count):
                    client = stack.enter_context(server.connect())
                    # With the answer to the first frame, the header behind it has been read, too.
                    client.sendall(frame(b"x") + struct.pack("<i", 8 << 20) + b"y")
                    self.assertEqual(next_frame(client), b"x")

            claim(10)
            before = server.memory()
            count = scaled(200, 50)
            claim(count)
            claimed = count * (8 << 20)
            # Sanitizers keep shadows of what is used, hence the width of this bound.
            self.assertLess(server.memory() - before, claimed // 16)
            self.assertEqual(server.log, [])


class Stopping(unittest.TestCase):
    threads: tuple = ()

    def test_an_idle_client_is_told_the_end(self):
        for number in (signal.SIGINT, signal.SIGTERM):
            with Server("tcp_echo_server", *self.threads) as server, server.connect() as client:
                client.sendall(b"hello")
                self.assertEqual(exactly(client, 5), b"hello")
                server.signal(number)
                self.assertEqual(until_end(client), b"")
                client.close()
                self.assertEqual(server.exit_code(), 0)

    def test_without_clients_it_ends_at_once(self):
        with Server("framed_echo_server", *self.threads) as server:
            server.signal(signal.SIGTERM)
            self.assertEqual(server.exit_code(), 0)

    @on_linux_only("a process is stopped for a while, by SIGSTOP")
    def test_what_had_arrived_before_the_signal_is_answered(self):
        # The server is stopped while everything is put into its kernel, so that it finds the signal and the frames, on
        # connections that it knows and on such that it has not accepted yet, when it wakes up.
        for round_number in range(scaled(10, 2)):
            with contextlib.ExitStack() as stack:
                server = stack.enter_context(Server("framed_echo_server", *self.threads))
                clients = [stack.enter_context(server.connect()) for _ in range(20)]
                for client in clients:
                    client.sendall(frame(b"hello"))
                    self.assertEqual(next_frame(client), b"hello")
                server.signal(signal.SIGSTOP)
                clients += [stack.enter_context(server.connect()) for _ in range(20)]
                payloads = [os.urandom(size) for size in (0, 1, 100, 5000, 0, 7)] * (1 + round_number)
                for client in clients:
                    client.sendall(b"".join(map(frame, payloads)))
                for client in clients:
                    wait_for_delivery(client)
                server.signal(signal.SIGTERM)
                server.signal(signal.SIGCONT)
                for client in clients:
                    self.assertEqual(until_end(client), b"".join(map(frame, payloads)))
                for client in clients:
                    client.close()
                self.assertEqual(server.exit_code(), 0)
                self.assertEqual(server.log, [])

    def test_a_frame_that_has_begun_may_be_finished(self):
        with Server("framed_echo_server", *self.threads) as server, server.connect() as client:
            client.sendall(frame(b"first") + frame(b"second")[:3])
            self.assertEqual(next_frame(client), b"first")
            server.signal(signal.SIGTERM)
            wait_until(server.refuses, "the listener to close")
            client.sendall(frame(b"second")[3:])
            self.assertEqual(until_end(client), frame(b"second"))
            client.close()
            self.assertEqual(server.exit_code(), 0)

    def test_under_traffic(self):
        # Each client keeps 16 frames on their way and never stops by itself.
        with Server("framed_echo_server", *self.threads) as server:
            trouble: list[str] = []
            under_way = threading.Barrier(5)

            def talk() -> None:
                try:
                    with server.connect() as client:
                        sent = received = 0
                        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                            while True:
                                while sent < received + 16:
                                    client.sendall(frame(b"message %d" % sent))
                                    sent += 1
                                header = client.recv(4, socket.MSG_WAITALL)
                                if not header:
                                    break
                                answer = exactly(client, struct.unpack("<i", header)[0])
                                if answer != b"message %d" % received:
                                    trouble.append(f"{answer!r} is not the answer to message {received}")
                                received += 1
                                if received == 100:
                                    under_way.wait(HANG)
                        if received < 100:
                            trouble.append("cut off before the signal")
                except Exception as error:  # told below, on the thread that can fail the test
                    trouble.append(repr(error))

            clients = [threading.Thread(target=talk, daemon=True) for _ in range(4)]
            for client in clients:
                client.start()
            under_way.wait(HANG)
            server.signal(signal.SIGTERM)
            for client in clients:
                client.join(HANG)
            self.assertEqual(trouble, [])
            self.assertEqual(server.exit_code(), 0)

    def test_a_session_that_does_not_end_is_cut_off_at_the_deadline(self):
        with Server("framed_echo_server", *self.threads) as server, server.connect() as client:
            client.sendall(frame(b"first") + frame(b"second")[:3])
            self.assertEqual(next_frame(client), b"first")
            server.signal(signal.SIGTERM)
            self.assertEqual(server.exit_code(), 0)
            self.assertTrue(has_ended(client))

    def test_a_second_signal_ends_at_once(self):
        with Server("framed_echo_server", *self.threads) as server, server.connect() as client:
            client.sendall(frame(b"first") + frame(b"second")[:3])
            self.assertEqual(next_frame(client), b"first")
            began = time.monotonic()
            server.signal(signal.SIGTERM)
            wait_until(server.refuses, "the listener to close")
            server.signal(signal.SIGTERM)
            self.assertEqual(server.exit_code(), 0)
            # Otherwise the session would have had its five seconds.
            self.assertLess(time.monotonic() - began, 4.5)

    def test_a_second_signal_is_no_death_while_sockets_are_closed_politely(self):
        with Server("tcp_echo_server", *self.threads) as server, server.connect() as client:
            client.sendall(b"hello")
            self.assertEqual(exactly(client, 5), b"hello")
            server.signal(signal.SIGTERM)
            self.assertEqual(until_end(client), b"")  # half-closed; now it waits for our end
            server.signal(signal.SIGTERM)
            self.assertEqual(server.exit_code(), 0)


class StoppingTwoThreads(Stopping):
    threads = ("--threads", 2)


class IoUringRefused:
    """To mix in: the examples run where io_uring is refused."""

    def setUp(self):
        if suffix:
            self.skipTest("about Linux: io_uring is refused")
        helper = TOP / "tests/support/linux/without_io_uring.py"
        blocked = [sys.executable, str(helper), "EPERM"]  # as containers' filters and the sysctl answer
        probe = subprocess.run([*blocked, sys.executable, "-c", ""], check=False)
        if probe.returncode == 77:
            self.skipTest("no seccomp filter can be had here")
        prefix[:] = blocked
        self.addCleanup(prefix.clear)
        asked_for = os.environ.pop("PLAIT_BACKEND", None)
        if asked_for is not None:
            self.addCleanup(os.environ.__setitem__, "PLAIT_BACKEND", asked_for)


class WithoutIoUring(IoUringRefused, unittest.TestCase):
    def test_it_says_epoll_and_why(self):
        for refused_with, sentence in (
                ("EPERM", "io_uring_setup: Operation not permitted; forbidden by a seccomp filter "),
                ("ENOSYS", "io_uring_setup: Function not implemented; ")):
            prefix[-1] = refused_with
            for name in ("tcp_echo_server", "framed_echo_server"):
                with Server(name) as server:
                    self.assertEqual(server.backend, "epoll")
                    wait_until(lambda: server.refusal, "the reason on stderr")
                    self.assertTrue(server.refusal.startswith(sentence), server.refusal)

    def test_io_uring_alone_is_refused(self):
        code, out, err = run("tcp_echo_server", "--port", 0, "--backend", "io_uring")
        self.assertEqual((code, out), (1, ""))
        self.assertIn("Operation not permitted", err)


class TcpEchoServerWithoutIoUring(IoUringRefused, TcpEchoServer):
    pass


class FramedEchoServerWithoutIoUring(IoUringRefused, FramedEchoServer):
    pass


class StoppingWithoutIoUring(IoUringRefused, Stopping):
    pass


class Clients(unittest.TestCase):
    """The clients against servers written in Python."""

    @contextlib.contextmanager
    def server(self, session):
        listener = socket.create_server(("127.0.0.1", 0))
        listener.settimeout(HANG)

        def accept_one() -> None:
            with contextlib.suppress(OSError), listener.accept()[0] as stream:
                stream.settimeout(HANG)
                session(stream)

        thread = threading.Thread(target=accept_one, daemon=True)
        thread.start()
        with listener:
            yield listener.getsockname()
            thread.join(HANG)

    @staticmethod
    def shout(stream: socket.socket) -> None:
        while data := stream.recv(1024):
            stream.sendall(data.upper())

    def test_one_exchange(self):
        with self.server(lambda stream: stream.sendall(stream.recv(1024).upper())) as where:
            self.assertEqual(run("tcp_echo_client", *where, "--send", "hello"), (0, "HELLO\n", ""))

    def test_lines_from_the_keyboard(self):
        with self.server(self.shout) as where:
            outcome = run("tcp_echo_client", *where, keyboard="hello\n\nthe last line lacks its end")
            self.assertEqual(outcome, (0, "HELLO\n\nTHE LAST LINE LACKS ITS END\n", ""))

    def test_an_answer_in_pieces_is_one_answer(self):
        def slowly(stream: socket.socket) -> None:
            stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for byte in exactly(stream, 5):
                stream.sendall(bytes([byte]))
                wait_for_delivery(stream)

        with self.server(slowly) as where:
            self.assertEqual(run("tcp_echo_client", *where, "--send", "hello"), (0, "hello\n", ""))

    def test_a_server_that_leaves_without_an_answer(self):
        for client in ("tcp_echo_client", "framed_echo_client"):
            with self.server(lambda stream: stream.recv(1024)) as where:
                code, out, err = run(client, *where, "--send", "hello")
                self.assertEqual((code, out), (1, ""))
                self.assertRegex(err, r"^no answer: .+\n$")

    def test_framed_messages(self):
        for width in (1, 2, 3, 4, 8):
            for endian in ("big", "little"):
                def shout(stream: socket.socket) -> None:
                    for _ in range(3):
                        stream.sendall(frame(next_frame(stream, width, endian).upper() + b"!", width, endian))

                with self.subTest(width=width, endian=endian), self.server(shout) as where:
                    outcome = run("framed_echo_client", *where, "--width", width, "--endian", endian,
                                  keyboard="hello\n\nworld\n")
                    self.assertEqual(outcome, (0, "HELLO!\n!\nWORLD!\n", ""))

    def test_a_framed_client_sends_what_struct_packs(self):
        seen = []

        def look(stream: socket.socket) -> None:
            seen.append(exactly(stream, 15))
            stream.sendall(frame(b""))

        with self.server(look) as where:
            self.assertEqual(run("framed_echo_client", *where, "--send", "hello world"), (0, "\n", ""))
        self.assertEqual(seen, [struct.pack("<i", 11) + b"hello world"])

    def test_with_our_own_servers(self):
        with Server("tcp_echo_server", "--upper") as server:
            outcome = run("tcp_echo_client", server.host, server.port, keyboard="one\ntwo\n")
            self.assertEqual(outcome, (0, "ONE\nTWO\n", ""))
        with Server("framed_echo_server") as server:
            outcome = run("framed_echo_client", server.host, server.port, keyboard="one\ntwo\n")
            self.assertEqual(outcome, (0, "one\ntwo\n", ""))

    def test_the_server_has_a_name(self):
        with Server("tcp_echo_server", "--upper") as server:
            outcome = run("tcp_echo_client", "localhost", server.port, "--send", "hello")
            self.assertEqual(outcome, (0, "HELLO\n", ""))
        with Server("framed_echo_server") as server:
            outcome = run("framed_echo_client", "localhost", server.port, "--send", "hello")
            self.assertEqual(outcome, (0, "hello\n", ""))

    def test_a_name_that_nobody_can_have(self):
        for client in ("tcp_echo_client", "framed_echo_client"):
            name = "x" * 300  # no name server is asked
            code, out, err = run(client, name, "80", "--send", "hello")
            self.assertEqual((code, out), (1, ""))
            self.assertRegex(err, f"^cannot connect to {name}:80: not a host's name: .*\n$")

    def test_nobody_listens(self):
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            host, port = unused.getsockname()
            for client in ("tcp_echo_client", "framed_echo_client"):
                code, out, err = run(client, host, port, "--send", "hello")
                self.assertEqual((code, out), (1, ""))
                self.assertEqual(err, f"cannot connect to {host}:{port}: {told('Connection refused')}\n")


class CommandLines(unittest.TestCase):
    SERVERS = ("tcp_echo_server", "framed_echo_server")
    CLIENTS = ("tcp_echo_client", "framed_echo_client")

    def test_a_bad_argument_prints_the_usage(self):
        wrong = [(server, *words) for server in self.SERVERS for words in (
            ["--nonsense"], ["--port"], ["--port", "eighty"], ["--port", "65536"], ["--port", "-1"], ["--port", ""],
            ["--host", "nonsense"], ["--host", "300.1.1.1"], ["--backend", "nonsense"], ["--port", "1", "--port", "2"],
            ["left over"])]
        wrong += [(client, *words) for client in self.CLIENTS for words in (
            [], ["127.0.0.1"], ["127.0.0.1", "eighty"], ["127.0.0.1", "0"],
            ["127.0.0.1", "80", "81"], ["127.0.0.1", "80", "--send"], ["127.0.0.1", "80", "--backend", "nonsense"])]
        wrong += [("tcp_echo_server", "--backlog", "0"), ("tcp_echo_server", "--backlog", "many"),
                  ("framed_echo_server", "--width", "5"), ("framed_echo_server", "--width", "16"),
                  ("framed_echo_server", "--endian", "middle"), ("framed_echo_server", "--max-frame", "-1"),
                  ("framed_echo_client", "127.0.0.1", "80", "--width", "0"), ("sticky_packets", "--nonsense"),
                  ("timeouts", "--nonsense"), ("socket_kinds", "--nonsense")]
        for command in wrong:
            with self.subTest(command=command):
                code, out, err = run(*command)
                self.assertEqual((code, out), (2, ""))
                self.assertIn(f"usage: {command[0]} ", err)

    def test_help_is_no_error(self):
        for name in (*self.SERVERS, *self.CLIENTS, "sticky_packets", "timeouts", "socket_kinds"):
            code, out, err = run(name, "--help")
            self.assertEqual((code, err), (0, ""))
            self.assertIn(f"usage: {name} ", out)

    def test_a_port_in_use_says_so(self):
        with socket.create_server(("127.0.0.1", 0)) as holder:
            port = holder.getsockname()[1]
            for server in self.SERVERS:
                code, out, err = run(server, "--port", port)
                self.assertEqual((code, out), (1, ""))
                self.assertEqual(err, f"cannot listen on 127.0.0.1:{port}: {told('Address already in use')}\n")

    def test_a_backend_that_this_system_does_not_have_says_why(self):
        absent = "epoll" if suffix else "iocp"
        code, _, err = run("tcp_echo_server", "--port", 0, "--backend", absent)
        # A build without exceptions can only abort where a constructor fails.
        self.assertIn(code, (1, -signal.SIGABRT))
        self.assertRegex(err, rf"\b{absent}\b")


class StickyPackets(unittest.TestCase):
    EXPECTED = """\
1. Three sends arrive as one read
   send        "one"
   send        "two"
   send        "three"
   recv(1024)  "onetwothree"

2. A read takes what it has room for, and leaves the rest to the next one
   send        "hello world"
   recv(5)     "hello"
   recv(1024)  " world"

3. The cure: its length in front of each message, as struct.pack('i', 11) writes it
   header      0b 00 00 00, which means 11
   send        header and body in one write, 15 bytes
   recv(1024)  0b 00 00 00: the first 4 of 15 bytes say that 11 belong to the message "hello world"

4. plait::framed does that: three messages stay three, however they travel
   write       "one"
   write       "two"
   write       "three"
   next()      "one"
   next()      "two"
   next()      "three"
"""

    def test_the_trouble_and_the_cure(self):
        for _ in range(scaled(10, 2)):
            self.assertEqual(run("sticky_packets"), (0, self.EXPECTED, ""))


def main() -> int:
    global examples, suffix
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples-dir", type=Path, required=True)
    parser.add_argument("--prefix", action="append", default=[])
    parser.add_argument("--with-console")
    parser.add_argument("--print-lacks")
    parser.add_argument("names", nargs="*")
    arguments = parser.parse_args()
    examples = arguments.examples_dir.resolve()
    if (examples / "tcp_echo_server.exe").exists():
        suffix = ".exe"
        prefix.extend(arguments.prefix)
        if not arguments.with_console or not arguments.print_lacks:
            parser.error("Windows programs need --with-console and --print-lacks")
        with_console.append(arguments.with_console)
        print_lacks.append(arguments.print_lacks)
    elif not (examples / "tcp_echo_server").exists():
        print(f"no examples in {examples}")
        return 77

    if resource:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(4096, hard)), hard))
    watchdog = threading.Timer(WHOLE_RUN, give_up)
    watchdog.daemon = True
    watchdog.start()
    try:
        outcome = unittest.main(argv=[sys.argv[0], *arguments.names], exit=False, verbosity=2).result
    finally:
        end_what_was_started()
    return 0 if outcome.wasSuccessful() else 1


if __name__ == "__main__":
    sys.exit(main())
