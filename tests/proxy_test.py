"""Drives examples/tcp_proxy from outside: see examples_test.py, whose options it takes."""

import select
import signal
import socket
import sys
import threading
import unittest

from examples_test import (HANG, Server, exactly, has_ended, main, name_of, on_linux_only, reset, run, scaled, told,
                           until_end)


class Target:
    """The server behind the proxy; accept() gives its side of the next connection."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.settimeout(HANG)
        self.port = self.listener.getsockname()[1]

    def accept(self) -> socket.socket:
        stream, _ = self.listener.accept()
        stream.settimeout(HANG)
        return stream

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.listener.close()


class TcpProxy(unittest.TestCase):
    def test_bytes_travel_in_both_directions(self):
        with Target() as target, Server("tcp_proxy", "localhost", target.port) as proxy:
            with proxy.connect() as client, target.accept() as server:
                for sender, receiver in ((client, server), (server, client), (client, server)):
                    everything = bytes(range(256)) * 100
                    sender.sendall(everything)
                    self.assertEqual(exactly(receiver, len(everything)), everything)

    def test_a_half_close_is_passed_on_and_the_other_direction_goes_on(self):
        with Target() as target, Server("tcp_proxy", "127.0.0.1", target.port) as proxy:
            with proxy.connect() as client, target.accept() as server:
                client.sendall(b"question")
                client.shutdown(socket.SHUT_WR)
                self.assertEqual(until_end(server), b"question")
                server.sendall(b"answer")
                self.assertEqual(exactly(client, 6), b"answer")
                server.shutdown(socket.SHUT_WR)
                self.assertEqual(until_end(client), b"")
            with proxy.connect() as client, target.accept() as server:  # the server's end first
                server.sendall(b"greeting")
                server.shutdown(socket.SHUT_WR)
                self.assertEqual(until_end(client), b"greeting")
                client.sendall(b"reply")
                client.shutdown(socket.SHUT_WR)
                self.assertEqual(until_end(server), b"reply")
            self.assertEqual(proxy.log, [])

    def test_megabytes_in_both_directions_at_once_arrive_whole(self):
        size = scaled(16 << 20, 1 << 20)
        up, down = bytes(range(251)) * (size // 251), bytes(range(241)) * (size // 241)
        with Target() as target, Server("tcp_proxy", "127.0.0.1", target.port) as proxy:
            with proxy.connect() as client, target.accept() as server:
                def send(stream: socket.socket, data: bytes) -> None:
                    stream.sendall(data)
                    stream.shutdown(socket.SHUT_WR)

                got: dict[str, bytes] = {}
                threads = [threading.Thread(target=send, args=(client, up)),
                           threading.Thread(target=send, args=(server, down)),
                           threading.Thread(target=lambda: got.update(down=until_end(client)))]
                for thread in threads:
                    thread.start()
                got["up"] = until_end(server)
                for thread in threads:
                    thread.join()
                self.assertTrue(got["up"] == up and got["down"] == down)

    @on_linux_only("its memory is read in /proc")
    def test_who_does_not_read_holds_up_the_sender_and_not_the_proxys_memory(self):
        with Target() as target, Server("tcp_proxy", "127.0.0.1", target.port) as proxy:
            with proxy.connect() as client, target.accept():
                before = proxy.memory()
                client.setblocking(False)
                sent = 0
                while sent < 1 << 30 and select.select([], [client], [], 0.2)[1]:
                    sent += client.send(bytes(1 << 16))
                self.assertLess(sent, 1 << 30)
                self.assertLess(proxy.memory() - before, 16 << 20)

    def test_a_reset_ends_both_sides(self):
        with Target() as target, Server("tcp_proxy", "127.0.0.1", target.port) as proxy:
            client, server = proxy.connect(), target.accept()
            name = name_of(client)
            client.sendall(b"x")
            self.assertEqual(exactly(server, 1), b"x")
            reset(client)
            self.assertTrue(has_ended(server))
            proxy.says(f"{name}: {told('Connection reset by peer')}")
            server.close()
            client, server = proxy.connect(), target.accept()
            with client:
                server.sendall(b"y")
                self.assertEqual(exactly(client, 1), b"y")
                reset(server)
                self.assertTrue(has_ended(client))

    def test_a_server_that_is_not_there_ends_the_client_and_is_told(self):
        with Target() as target:
            port = target.port
        with Server("tcp_proxy", "127.0.0.1", port) as proxy, proxy.connect() as client:
            self.assertTrue(has_ended(client))
            proxy.says(f"{name_of(client)}: {told('Connection refused')}")

    def test_a_signal_lets_the_answers_through(self):
        with Target() as target, Server("tcp_proxy", "127.0.0.1", target.port) as proxy:
            with proxy.connect() as client, target.accept() as server:
                client.sendall(b"question")
                self.assertEqual(exactly(server, 8), b"question")
                proxy.signal(signal.SIGTERM)
                self.assertEqual(until_end(server), b"")  # the client said nothing more
                server.sendall(b"answer")
                server.close()
                self.assertEqual(until_end(client), b"answer")
            self.assertEqual(proxy.exit_code(), 0)

    def test_a_chain_of_proxies_reaches_an_echo_server(self):
        with Server("tcp_echo_server", "--upper") as server, \
                Server("tcp_proxy", server.host, server.port) as near, \
                Server("tcp_proxy", near.host, near.port) as far, far.connect() as client:
            client.sendall(b"hello")
            client.shutdown(socket.SHUT_WR)
            self.assertEqual(until_end(client), b"HELLO")

    def test_a_bad_argument_prints_the_usage(self):
        for wrong in ((), ("127.0.0.1",), ("127.0.0.1", "0"), ("127.0.0.1", "80", "more")):
            code, out, err = run("tcp_proxy", *wrong)
            self.assertEqual((code, out), (2, ""))
            self.assertIn("usage: tcp_proxy ", err)


if __name__ == "__main__":
    sys.exit(main())
