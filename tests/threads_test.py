"""The servers on several threads, from outside: see examples_test.py, whose options it takes."""

import contextlib
import signal
import socket
import sys
import tempfile
import threading
import unittest

import examples_test
from chat_test import Client
from examples_test import (HANG, Server, exactly, frame, main, needs, next_frame, run, scaled, told,
                           until_end)


class Threads(unittest.TestCase):
    def test_many_clients_are_answered(self):
        with Server("tcp_echo_server", "--upper", "--threads", 2) as server, contextlib.ExitStack() as stack:
            clients = [stack.enter_context(server.connect()) for _ in range(scaled(200, 20))]
            for client in clients:
                client.sendall(b"hello")
            for client in clients:
                self.assertEqual(exactly(client, 5), b"HELLO")
        self.assertEqual(server.log, [])

    def test_as_many_as_there_are_cores(self):
        with Server("framed_echo_server", "--threads", 0) as server, server.connect() as client:
            client.sendall(frame(b"hello"))
            self.assertEqual(next_frame(client), b"hello")

    def test_once_ends_all_threads(self):
        with Server("tcp_echo_server", "--once", "--threads", 3) as server, server.connect() as client:
            client.sendall(b"hello")
            self.assertEqual(exactly(client, 5), b"hello")
            client.close()
            self.assertEqual(server.exit_code(), 0)

    def test_errors_are_told_by_whichever_thread(self):
        with Server("framed_echo_server", "--threads", 2, "--max-frame", 10) as server:
            for _ in range(10):
                with server.connect() as client:
                    client.sendall(frame(b"x" * 11))
                    self.assertEqual(until_end(client), b"")
            server.signal(signal.SIGTERM)
            self.assertEqual(server.exit_code(), 0)
        self.assertEqual(len(server.log), 10)

    def test_a_port_in_use_is_told_once(self):
        with socket.create_server(("127.0.0.1", 0)) as holder:
            port = holder.getsockname()[1]
            for name in ("tcp_echo_server", "framed_echo_server", "key_value_server"):
                code, out, err = run(name, "--port", port, "--threads", 2)
                self.assertEqual((code, out), (1, ""))
                self.assertEqual(err, f"cannot listen on 127.0.0.1:{port}: {told('Address already in use')}\n")

    def test_the_threads_of_a_key_value_server_have_one_store(self):
        each, talkers = scaled(500, 50), 8
        with Server("key_value_server", "--threads", 2) as server:
            trouble: list[str] = []

            def count() -> None:
                try:
                    with server.connect() as client:
                        client.sendall(b"INCR number\r\n" * each)
                        answers = b""
                        while answers.count(b"\n") < each:
                            answers += client.recv(65536)
                except Exception as error:  # told below, on the thread that can fail the test
                    trouble.append(repr(error))

            clients = [threading.Thread(target=count, daemon=True) for _ in range(talkers)]
            for client in clients:
                client.start()
            for client in clients:
                client.join(HANG)
            self.assertEqual(trouble, [])
            with server.connect() as client:
                client.sendall(b"INCR number\r\n")
                answer = b":%d\r\n" % (each * talkers + 1)
                self.assertEqual(exactly(client, len(answer)), answer)

    def test_all_threads_receive_datagrams_at_one_port(self):
        with Server("udp_echo_server", "--upper", "--threads", 3) as server, contextlib.ExitStack() as stack:
            clients = [stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) for _ in range(100)]
            where = (server.host, server.port)
            for client in clients:
                client.settimeout(HANG)
                client.sendto(b"hello", where)
                self.assertEqual(client.recvfrom(100), (b"HELLO", where))
            code, out, err = run("udp_echo_server", "--port", server.port, "--threads", 2)
            self.assertEqual((code, out), (1, ""))
            self.assertEqual(err, f"cannot listen on 127.0.0.1:{server.port}: {told('Address already in use')}\n")
            server.signal(signal.SIGTERM)
            self.assertEqual(server.exit_code(), 0)
        # Where ports cannot be shared, one thread receives, and says so.
        alone = [f"only one thread receives: {told('Operation not supported')}"] if examples_test.suffix else []
        self.assertEqual(server.log, alone)

    def test_a_room_has_members_on_all_threads_and_one_order(self):
        each, talkers = scaled(100, 10), 8
        with Server("chat_server", "--threads", 3, "--queue", 1_000_000) as server, contextlib.ExitStack() as stack:
            members = [stack.enter_context(Client(server, "room", f"m{i}")) for i in range(talkers)]
            for i, member in enumerate(members):
                self.assertEqual(member.welcome, "* you are in, with:" + "".join(f" m{k}" for k in range(i)))
                for k in range(i + 1, talkers):
                    self.assertEqual(member.hears(), f"* m{k} has come")
            for i in range(each):
                for member in members:
                    member.say(str(i))
            heard = [[member.hears() for _ in range(each * (talkers - 1))] for member in members]
            # What two others said is in one order for everybody else, and each one's lines in its own.
            for i in range(talkers):
                for k in range(talkers):
                    self.assertEqual([line for line in heard[k] if line.startswith(f"m{i}: ")],
                                     [] if i == k else [f"m{i}: {number}" for number in range(each)])
                    of_others = [[line for line in heard[m] if not line.startswith((f"m{i}: ", f"m{k}: "))]
                                 for m in (i, k)]
                    self.assertEqual(of_others[0], of_others[1])
            for _ in members[1:]:
                gone = members.pop()
                gone.stream.shutdown(socket.SHUT_WR)
                self.assertEqual(until_end(gone.stream), b"")
                for member in members:
                    self.assertEqual(member.hears(), f"* {gone.name} has left")
            server.signal(signal.SIGTERM)
            self.assertEqual(members[0].lines.read(), b"")
            self.assertEqual(server.exit_code(), 0)
        self.assertEqual(server.log, [])

    @needs("unix_streams")
    def test_a_unix_socket_is_served_by_all_threads(self):
        with tempfile.TemporaryDirectory() as folder:
            path = f"{folder}/socket"
            with UnixServer(path) as server, contextlib.ExitStack() as stack:
                clients = [stack.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(20)]
                for client in clients:
                    client.settimeout(HANG)
                    client.connect(path)
                    client.sendall(b"hello")
                for client in clients:
                    self.assertEqual(exactly(client, 5), b"hello")
                server.signal(signal.SIGTERM)
                for client in clients:
                    self.assertEqual(until_end(client), b"")
                    client.close()
                self.assertEqual(server.exit_code(), 0)


class UnixServer(Server):
    def __init__(self, path: str):
        self.backend = self._start("unix_echo_server", [path, "--threads", 3], r"(.+) \((\w+)\)")[2]


if __name__ == "__main__":
    sys.exit(main())
