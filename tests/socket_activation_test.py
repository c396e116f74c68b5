"""Servers that are given their listener, as systemd does it: see examples_test.py, whose options it takes."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import unittest

import examples_test
from examples_test import HANG, Server, exactly, frame, main, next_frame, on_linux_only, text


class Activated(Server):
    """A server with `listener` as its descriptor 3."""

    def __init__(self, listener: socket.socket, name: str, *arguments, pid: str = "$$"):
        # The shell becomes the server by exec and so has its number, which systemd would know from its fork.
        script = f'LISTEN_PID={pid} LISTEN_FDS=1 LISTEN_FDNAMES=web exec "$@" 3<&{listener.fileno()}'
        command = ["sh", "-c", script, "sh", examples_test.examples / name, *map(str, arguments)]
        self.process = subprocess.Popen(command, pass_fds=[listener.fileno()], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        examples_test.started.append(self.process)
        self._listen_to_log()
        self.ready = text(self.process.stdout.readline())


class Activation(unittest.TestCase):
    def serves(self, listener: socket.socket, where: str, name: str, *arguments) -> None:
        said = {"framed_echo_server": (frame(b"hello"), frame(b"hello")),
                "key_value_server": (b"PING\r\n", b"+PONG\r\n"),
                "chat_server": (b"tea ann\n", b"* you are in, with:")}.get(name, (b"hello", b"hello"))
        with Activated(listener, name, *arguments) as server:
            self.assertRegex(server.ready, rf"^listening on {where} \(\w+\)\n$")
            for _ in range(5):
                with socket.socket(listener.family) as client:
                    client.settimeout(HANG)
                    client.connect(listener.getsockname())
                    client.sendall(said[0])
                    self.assertEqual(exactly(client, len(said[1])), said[1])
            server.signal(signal.SIGTERM)
            self.assertEqual(server.exit_code(), 0)

    @on_linux_only("systemd passes sockets")
    def test_tcp(self):
        for name in ("tcp_echo_server", "framed_echo_server", "key_value_server", "chat_server"):
            for threads in (1, 2):
                with self.subTest(name=name, threads=threads), socket.create_server(("127.0.0.1", 0)) as listener:
                    port = listener.getsockname()[1]
                    self.serves(listener, f"127.0.0.1:{port}", name, "--threads", threads)

    @on_linux_only("systemd passes sockets")
    def test_unix_sockets_whose_file_is_left_alone(self):
        with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as listener:
            path = f"{folder}/socket"
            listener.bind(path)
            listener.listen()
            self.serves(listener, path, "unix_echo_server")
            self.serves(listener, path, "unix_echo_server", "--threads", 2)
            self.assertTrue(os.path.exists(path))

    @on_linux_only("systemd passes sockets")
    def test_what_is_meant_for_another_process_is_not_taken(self):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
            with Activated(listener, "tcp_echo_server", "--port", 0, pid="1") as server:
                self.assertRegex(server.ready, r"^listening on 127\.0\.0\.1:\d+ \(\w+\)\n$")
                self.assertNotIn(f":{port} ", server.ready)
                server.signal(signal.SIGTERM)
                self.assertEqual(server.exit_code(), 0)

    @on_linux_only("systemd passes sockets")
    def test_what_is_no_listener_is_told(self):
        with socket.socket() as idle:
            server = Activated(idle, "tcp_echo_server")
            self.assertEqual(server.ready, "")
            self.assertEqual(server.exit_code(), 1)
            self.assertRegex("".join(server.log), "^cannot listen on .*: Invalid argument$")


if __name__ == "__main__":
    sys.exit(main())
