"""Drives examples/chat_server from outside: see examples_test.py, whose options it takes."""

import re
import signal
import socket
import sys
import unittest

from examples_test import Server, main, name_of, run, scaled, until_end


class Client:
    """Somebody in a room; `welcome` is what it heard first."""

    def __init__(self, server: Server, room: str, name: str):
        self.stream = server.connect()
        self.lines = self.stream.makefile("rb")
        self.name = name
        self.say(f"{room} {name}")
        self.welcome = self.hears()

    def say(self, line: str) -> None:
        self.stream.sendall(line.encode() + b"\n")

    def hears(self) -> str:
        return self.lines.readline().decode().rstrip("\n")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.lines.close()
        self.stream.close()


class ChatServer(unittest.TestCase):
    def test_what_one_says_goes_to_the_others_in_the_room(self):
        with Server("chat_server") as server, Client(server, "tea", "ann") as ann:
            self.assertEqual(ann.welcome, "* you are in, with:")
            with Client(server, "tea", "bob") as bob, Client(server, "beer", "cid") as cid:
                self.assertEqual(bob.welcome, "* you are in, with: ann")
                self.assertEqual(cid.welcome, "* you are in, with:")
                self.assertEqual(ann.hears(), "* bob has come")
                cid.say("is anybody here?")
                for word in ("hello", "Grüße", "", "x" * 1000):
                    ann.say(word)
                    self.assertEqual(bob.hears(), f"ann: {word}")
                bob.say("bye")
                self.assertEqual(ann.hears(), "bob: bye")
            self.assertEqual(ann.hears(), "* bob has left")

    def test_many_lines_arrive_in_order_and_whole(self):
        count = scaled(2000, 50)
        with Server("chat_server", "--queue", 1_000_000) as server, Client(server, "r", "ann") as ann, \
                Client(server, "r", "bob") as bob, Client(server, "r", "cid") as cid:
            self.assertEqual(bob.hears(), "* cid has come")
            ann.stream.sendall(b"".join(b"%d\n" % i for i in range(count)))
            for who in (bob, cid):
                self.assertEqual([who.hears() for _ in range(count)], [f"ann: {i}" for i in range(count)])

    def test_a_first_line_that_is_none_is_answered_and_ends(self):
        with Server("chat_server") as server:
            for line in (b"hello\n", b" ann\n", b"room \n", b"a room ann\n", b"\n"):
                with server.connect() as client:
                    client.sendall(line)
                    self.assertEqual(until_end(client), b"* begin with: ROOM NAME\n")
            self.assertEqual(server.log, [])

    def test_a_line_that_is_too_long_ends_its_client_alone(self):
        with Server("chat_server") as server, Client(server, "r", "ann") as ann, Client(server, "r", "bob") as bob:
            self.assertEqual(ann.hears(), "* bob has come")
            bob.say("y" * 1025)
            self.assertEqual(ann.hears(), "* bob has left")

    def test_who_does_not_read_is_dropped_with_the_reason_and_the_others_go_on(self):
        with Server("chat_server", "--queue", 200, "--patience", 3600) as server, \
                Client(server, "r", "ann") as ann, Client(server, "r", "bob") as bob:
            self.assertEqual(ann.hears(), "* bob has come")
            with Client(server, "r", "idle") as idle:
                self.assertEqual(ann.hears(), "* idle has come")
                self.assertEqual(bob.hears(), "* idle has come")
                said, batch = 0, 100  # half a queue
                reason = re.compile(f"{name_of(idle.stream)}: dropped idle: too many lines wait for it")
                # Until the kernel's buffers, the writer's and the queue are full.
                while not any(reason.fullmatch(line) for line in server.log):
                    ann.say("\n".join(["z" * 1000] * batch))
                    for _ in range(batch):
                        self.assertEqual(bob.hears(), "ann: " + "z" * 1000)
                    said += batch
                # Who reads again finds what was said before, and why there is no more.
                heard = idle.lines.read().decode().splitlines()
                self.assertEqual(set(heard[:-1]), {"ann: " + "z" * 1000})
                self.assertLess(len(heard) - 1, said)
                self.assertEqual(heard[-1], "* you were dropped: too many lines wait for it")
            for who in (ann, bob):
                self.assertEqual(who.hears(), "* idle has left: too many lines wait for it")
            bob.say("still here")
            self.assertEqual(ann.hears(), "bob: still here")

    def test_who_takes_nothing_within_the_patience_is_dropped(self):
        with Server("chat_server", "--queue", 100_000, "--patience", 1) as server, Client(server, "r", "ann") as ann:
            with Client(server, "r", "idle") as idle:
                self.assertEqual(ann.hears(), "* idle has come")
                for _ in range(10_000):  # more than any buffer takes, and less than the queue
                    ann.say("z" * 1000)
                server.says(f"{name_of(idle.stream)}: dropped idle: it does not read")
                self.assertEqual(ann.hears(), "* idle has left: it does not read")

    def test_a_signal_delivers_what_was_said_and_ends_everybody(self):
        with Server("chat_server") as server, Client(server, "r", "ann") as ann, Client(server, "r", "bob") as bob:
            self.assertEqual(ann.hears(), "* bob has come")
            bob.say("last words")
            self.assertEqual(ann.hears(), "bob: last words")
            server.signal(signal.SIGTERM)
            ann.stream.shutdown(socket.SHUT_WR)
            bob.stream.shutdown(socket.SHUT_WR)
            self.assertEqual(server.exit_code(), 0)
            for who in (ann, bob):
                self.assertRegex(who.lines.read().decode(), r"\A([*] (ann|bob) has left\n)?\Z")

    def test_a_bad_argument_prints_the_usage(self):
        for wrong in (("--queue", "0"), ("--patience", "x"), ("--rooms",)):
            code, out, err = run("chat_server", *wrong)
            self.assertEqual((code, out), (2, ""))
            self.assertIn("usage: chat_server ", err)


if __name__ == "__main__":
    sys.exit(main())
