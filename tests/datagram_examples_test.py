"""Drives the examples of UDP and of Unix sockets from outside: see examples_test.py, whose options it takes.

Python's socket module is on the other side, and socat where it is installed.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import unittest

from examples_test import (HANG, Server, exactly, has_ipv6, lacks, main, needs, run, scaled, told, until_end,
                           wait_until)

NO_SOCAT = "socat is not installed"


def udp_socket(host: str = "127.0.0.1") -> socket.socket:
    made = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
    made.settimeout(HANG)
    made.bind((host, 0))
    return made


def socat(address: str, text: bytes) -> bytes:
    """What socat gets back for it, from a peer that does not end by itself."""
    with subprocess.Popen(["socat", "-", address], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdin.write(text)
        process.stdin.flush()
        answer = os.read(process.stdout.fileno(), 1024)
        process.stdin.close()
        process.wait(HANG)
        return answer


class UdpEchoServer(unittest.TestCase):
    def test_answers_each_datagram_to_whom_it_came_from(self):
        with Server("udp_echo_server") as server, udp_socket() as one, udp_socket() as two:
            for client, message in ((one, b"one"), (two, b"two"), (one, b"three")):
                client.sendto(message, (server.host, server.port))
            self.assertEqual(one.recvfrom(1024), (b"one", (server.host, server.port)))
            self.assertEqual(two.recv(1024), b"two")
            self.assertEqual(one.recv(1024), b"three")

    def test_answers_in_upper_case(self):
        with Server("udp_echo_server", "--upper") as server, udp_socket() as client:
            for message in (b"hello", "Grüße, 123 {~}".encode(), bytes(range(256)), b""):
                client.sendto(message, (server.host, server.port))
                self.assertEqual(client.recv(1024), message.upper())

    def test_large_and_empty_datagrams(self):
        with Server("udp_echo_server") as server, udp_socket() as client:
            for size in (0, 1, 1472, 1473, 9000, 65507):
                message = os.urandom(size)
                client.sendto(message, (server.host, server.port))
                self.assertTrue(client.recv(70000) == message, f"other bytes for {size}")

    def test_clients_that_are_gone_do_not_stop_the_server(self):
        with Server("udp_echo_server") as server, udp_socket() as client:
            for _ in range(scaled(100, 10)):
                with udp_socket() as dead:
                    dead.sendto(b"no answer, please", (server.host, server.port))
                client.sendto(b"hello", (server.host, server.port))
                self.assertEqual(client.recv(1024), b"hello")
            self.assertEqual(server.log, [])

    def test_ends_at_a_signal(self):
        for number in (signal.SIGINT, signal.SIGTERM):
            with Server("udp_echo_server") as server:
                server.signal(number)
                self.assertEqual(server.exit_code(), 0)

    @unittest.skipUnless(has_ipv6(), "this machine has no IPv6 loopback")
    def test_ipv6(self):
        with Server("udp_echo_server", "--host", "::1") as server, udp_socket("::1") as client:
            client.sendto(b"hello", (server.host, server.port))
            self.assertEqual(client.recv(1024), b"hello")
            self.assertEqual(run("udp_echo_client", server.host, server.port, "--send", "six"), (0, "six\n", ""))

    @unittest.skipUnless(shutil.which("socat"), NO_SOCAT)
    def test_answers_socat(self):
        with Server("udp_echo_server", "--upper") as server:
            self.assertEqual(socat(f"UDP4:{server.host}:{server.port}", b"hello"), b"HELLO")

    def test_a_port_in_use_says_so(self):
        with udp_socket() as holder:
            port = holder.getsockname()[1]
            code, out, err = run("udp_echo_server", "--port", port)
            self.assertEqual((code, out), (1, ""))
            self.assertEqual(err, f"cannot listen on 127.0.0.1:{port}: {told('Address already in use')}\n")


class UdpEchoClient(unittest.TestCase):
    def answered_by_python(self, count: int, *arguments, keyboard: str | None = None) -> tuple[int, str, str]:
        """The tutorial's server, for that many datagrams."""
        with udp_socket() as server:
            def answer():
                for _ in range(count):
                    data, peer = server.recvfrom(1024)
                    server.sendto(data.upper(), peer)

            answering = threading.Thread(target=answer, daemon=True)
            answering.start()
            outcome = run("udp_echo_client", "127.0.0.1", server.getsockname()[1], *arguments, keyboard=keyboard)
            answering.join(HANG)
            return outcome

    def test_one_exchange(self):
        self.assertEqual(self.answered_by_python(1, "--send", "hello"), (0, "HELLO\n", ""))
        self.assertEqual(self.answered_by_python(1, "--send", ""), (0, "\n", ""))

    def test_a_line_at_a_time_until_the_end_of_input(self):
        self.assertEqual(self.answered_by_python(3, keyboard="one\n\nthree"), (0, "ONE\n\nTHREE\n", ""))

    def test_talks_to_the_server_of_the_examples(self):
        with Server("udp_echo_server", "--upper") as server:
            outcome = run("udp_echo_client", server.host, server.port, keyboard="a\nb\nc\n")
            self.assertEqual(outcome, (0, "A\nB\nC\n", ""))

    def test_the_server_has_a_name(self):
        # The client takes the system's first choice, so the server listens there.
        host = socket.getaddrinfo("localhost", None, type=socket.SOCK_DGRAM)[0][4][0]
        with Server("udp_echo_server", "--host", host, "--upper") as server:
            outcome = run("udp_echo_client", "localhost", server.port, "--send", "hello")
            self.assertEqual(outcome, (0, "HELLO\n", ""))

    def test_nobody_there_is_told(self):
        with udp_socket() as gone:
            port = gone.getsockname()[1]
        code, out, err = run("udp_echo_client", "127.0.0.1", port, "--send", "hello", "--wait", 2)
        self.assertEqual((code, out), (1, ""))
        if why := lacks("refusals"):
            self.assertEqual(err, "no answer: timed out\n")
            self.skipTest(why)
        self.assertEqual(err, f"no answer: {told('Connection refused')}\n")

    def test_an_answer_that_does_not_come_is_given_up(self):
        with udp_socket() as silent:
            port = silent.getsockname()[1]
            code, out, err = run("udp_echo_client", "127.0.0.1", port, "--send", "hello", "--wait", 1)
            self.assertEqual((code, out), (1, ""))
            self.assertIn("no answer: ", err)
            self.assertEqual(silent.recv(1024), b"hello")

    @unittest.skipUnless(shutil.which("socat"), NO_SOCAT)
    def test_is_answered_by_socat(self):
        with udp_socket() as free:
            port = free.getsockname()[1]
        echo = subprocess.Popen(["socat", f"UDP4-RECVFROM:{port},bind=127.0.0.1,fork", "EXEC:cat"])
        try:
            for _ in range(200):  # until it has bound the port
                code, out, err = run("udp_echo_client", "127.0.0.1", port, "--send", "hello", "--wait", 20)
                if code == 0:
                    break
            self.assertEqual((code, out, err), (0, "hello\n", ""))
        finally:
            echo.terminate()
            echo.wait(HANG)


class UnixServer(Server):
    """An example that listens at a path."""

    def __init__(self, name: str, path: str, *arguments):
        match = self._start(name, [path, *arguments], r"(.+) \((\w+)\)")
        self.path = match[1]
        self.backend = match[2]

    def connect(self, _=None) -> socket.socket:
        client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        client.settimeout(HANG)
        client.connect("\0" + self.path[1:] if self.path[0] == "@" else self.path)
        return client


class UnixExamples(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = os.path.join(folder.name, "echo.sock")

    @needs("unix_streams")
    def test_the_server_answers_python(self):
        with UnixServer("unix_echo_server", self.path, "--upper") as server:
            self.assertEqual(server.path, self.path)
            with server.connect() as one, server.connect() as two:
                for client, message in ((one, b"hello"), (two, b"other"), (one, b"again")):
                    client.sendall(message)
                    self.assertEqual(exactly(client, len(message)), message.upper())
                one.sendall(b"last words")
                one.shutdown(socket.SHUT_WR)
                self.assertEqual(until_end(one), b"LAST WORDS")

    @needs("unix_streams")
    def test_many_megabytes_come_back_unchanged(self):
        with UnixServer("unix_echo_server", self.path) as server, server.connect() as client:
            sent = os.urandom(1 << 20) * scaled(8, 2)
            sender = threading.Thread(target=client.sendall, args=(sent,), daemon=True)
            sender.start()
            self.assertTrue(exactly(client, len(sent)) == sent, "other bytes came back")
            sender.join()

    @needs("unix_streams")
    def test_the_file_is_removed_at_the_end_and_replaced_if_it_is_stale(self):
        with UnixServer("unix_echo_server", self.path) as server:
            server.process.kill()
            server.process.wait(HANG)
            # The kernel takes down a killed program's io_uring a little later, and its sockets with that.
            wait_until(server.refuses, "the end of the killed server's socket")
        self.assertTrue(os.path.exists(self.path))
        with UnixServer("unix_echo_server", self.path) as server:
            with server.connect() as client:
                client.sendall(b"hello")
                self.assertEqual(exactly(client, 5), b"hello")
                server.signal(signal.SIGTERM)
                self.assertEqual(until_end(client), b"")
            self.assertEqual(server.exit_code(), 0)
        self.assertFalse(os.path.exists(self.path))

    @needs("unix_streams")
    def test_a_path_in_use_says_so_and_the_one_who_uses_it_does_not_notice(self):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as holder:
            holder.bind(self.path)
            holder.listen()
            code, out, err = run("unix_echo_server", self.path)
            self.assertEqual((code, out), (1, ""))
            self.assertEqual(err, f"cannot listen on {self.path}: Address already in use\n")
            holder.setblocking(False)
            self.assertRaises(BlockingIOError, holder.accept)

    @needs("unix_streams")
    @needs("unix_abstract_names")
    def test_an_abstract_name(self):
        name = f"@plait-{os.getpid()}-{id(self)}"
        with UnixServer("unix_echo_server", name, "--upper") as server, server.connect() as client:
            client.sendall(b"hello")
            self.assertEqual(exactly(client, 5), b"HELLO")
            self.assertEqual(run("unix_echo_client", name, "--send", "hi"), (0, "HI\n", ""))

    @needs("unix_streams")
    def test_the_client_is_answered_by_python(self):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
            listener.bind(self.path)
            listener.listen()
            listener.settimeout(HANG)

            def answer():
                stream, _ = listener.accept()
                with stream:
                    while data := stream.recv(1024):
                        stream.sendall(data.upper())

            for arguments, keyboard, expected in ((("--send", "hello"), None, "HELLO\n"),
                                                  ((), "one\ntwo\n", "ONE\nTWO\n")):
                answering = threading.Thread(target=answer, daemon=True)
                answering.start()
                self.assertEqual(run("unix_echo_client", self.path, *arguments, keyboard=keyboard), (0, expected, ""))
                answering.join(HANG)

    @needs("unix_streams")
    def test_nobody_there_is_told(self):
        code, out, err = run("unix_echo_client", self.path, "--send", "hello")
        self.assertEqual((code, out), (1, ""))
        self.assertEqual(err, f"cannot connect to {self.path}: No such file or directory\n")

    @needs("unix_streams")
    @unittest.skipUnless(shutil.which("socat"), NO_SOCAT)
    def test_the_server_answers_socat(self):
        with UnixServer("unix_echo_server", self.path, "--upper"):
            self.assertEqual(socat(f"UNIX-CONNECT:{self.path}", b"hello"), b"HELLO")

    @needs("unix_streams")
    @unittest.skipUnless(shutil.which("socat"), NO_SOCAT)
    def test_the_client_is_answered_by_socat(self):
        echo = subprocess.Popen(["socat", f"UNIX-LISTEN:{self.path},fork", "EXEC:cat"])
        try:
            while not os.path.exists(self.path) and echo.poll() is None:
                pass
            for _ in range(200):  # until it listens
                code, out, err = run("unix_echo_client", self.path, "--send", "hello")
                if code == 0:
                    break
            self.assertEqual((code, out, err), (0, "hello\n", ""))
        finally:
            echo.terminate()
            echo.wait(HANG)

    def test_a_server_that_cannot_listen_says_so(self):
        code, out, err = run("unix_echo_server", os.path.join("no", "such", "folder"))
        self.assertEqual((code, out), (1, ""))
        self.assertIn("cannot listen on ", err)


class CommandLines(unittest.TestCase):
    def test_a_bad_argument_prints_the_usage(self):
        for command in (("udp_echo_server", "--nonsense"), ("udp_echo_server", "--port", "65536"),
                        ("udp_echo_server", "--host", "nowhere"), ("udp_echo_client",),
                        ("udp_echo_client", "127.0.0.1", "0"), ("udp_echo_client", "127.0.0.1", "80", "--wait", "0"),
                        ("unix_echo_server",), ("unix_echo_server", ""), ("unix_echo_server", "x" * 108),
                        ("unix_echo_server", "a", "b"), ("unix_echo_client",),
                        ("unix_echo_client", "a", "--send"), ("unix_echo_client", "@" + "x" * 108)):
            with self.subTest(command=command):
                code, out, err = run(*command)
                self.assertEqual((code, out), (2, ""))
                self.assertIn(f"usage: {command[0]} ", err)

    def test_help_is_no_error(self):
        for name in ("udp_echo_server", "udp_echo_client", "unix_echo_server", "unix_echo_client"):
            code, out, err = run(name, "--help")
            self.assertEqual((code, err), (0, ""))
            self.assertIn(f"usage: {name} ", out)


class StickyPackets(unittest.TestCase):
    EXPECTED = """\
1. Three sends arrive as three reads
   send_to          "one"
   send_to          "two"
   send_to          "three"
   recv_from(1024)  "one"
   recv_from(1024)  "two"
   recv_from(1024)  "three"

2. A read takes what it has room for, and the rest of that datagram is lost
   send_to          "hello world"
   send_to          "next"
   recv_from(5)     "hello", truncated
   recv_from(1024)  "next"
"""

    def test_datagrams_keep_their_boundaries(self):
        for _ in range(scaled(5, 2)):
            self.assertEqual(run("sticky_packets", "--udp"), (0, self.EXPECTED, ""))


if __name__ == "__main__":
    sys.exit(main())
