"""Drives examples/key_value_server from outside: see examples_test.py, whose options it takes."""

import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import unittest

from examples_test import (HANG, Server, exactly, main, name_of, reset, run, scaled, told, until_end,
                           wait_for_delivery, wait_until)

MOST = 1 << 20  # bytes of a command


def command(*words) -> bytes:
    """As a client library sends it."""
    made = [b"*%d\r\n" % len(words)]
    for word in words:
        word = word if isinstance(word, bytes) else str(word).encode()
        made.append(b"$%d\r\n%s\r\n" % (len(word), word))
    return b"".join(made)


def string(value: bytes) -> bytes:
    return b"$%d\r\n%s\r\n" % (len(value), value)


def wrong_number(name: str) -> bytes:
    return f"-ERR wrong number of arguments for '{name}' command\r\n".encode()


NO_NUMBER = b"-ERR value is not an integer or out of range\r\n"

# One after the other, on an empty server.
CONVERSATION = [
    (command("PING"), b"+PONG\r\n"),
    (command("PING", "you"), string(b"you")),
    (command("GET", "name"), b"$-1\r\n"),
    (command("SET", "name", "Ann"), b"+OK\r\n"),
    (command("GET", "name"), string(b"Ann")),
    (command("SET", "name", ""), b"+OK\r\n"),
    (command("GET", "name"), string(b"")),
    (command("INCR", "name"), NO_NUMBER),
    (command("SET", "", "no key"), b"+OK\r\n"),
    (command("GET", ""), string(b"no key")),
    (command("EXISTS", "name", "name", "nobody", ""), b":3\r\n"),
    (command("DEL", "name", "name", "nobody"), b":1\r\n"),
    (command("EXISTS", "name"), b":0\r\n"),
    (command("INCR", "n"), b":1\r\n"),
    (command("incr", "n"), b":2\r\n"),
    (command("GET", "n"), string(b"2")),
    (command("SET", "n", -2), b"+OK\r\n"),
    (command("INCR", "n"), b":-1\r\n"),
    (command("INCR", "n"), b":0\r\n"),
    (command("SET", "n", (1 << 63) - 2), b"+OK\r\n"),
    (command("INCR", "n"), b":9223372036854775807\r\n"),
    (command("INCR", "n"), b"-ERR increment or decrement would overflow\r\n"),
    (command("GET", "n"), string(b"9223372036854775807")),
    (command("CONFIG", "GET", "save"), b"*2\r\n$4\r\nsave\r\n$0\r\n\r\n"),
    (command("CONFIG", "get", "appendonly"), b"*2\r\n$10\r\nappendonly\r\n$2\r\nno\r\n"),
    (command("COMMAND", "DOCS"), b"*0\r\n"),
    (command("COMMAND"), b"*0\r\n"),
    (command("FLUSHALL"), b"-ERR unknown command 'FLUSHALL'\r\n"),
    (command("CONFIG", "SET", "save", ""), b"-ERR unknown command 'CONFIG'\r\n"),
    (command(b"a\r\n+b\0\xff"), b"-ERR unknown command 'a??+b??'\r\n"),
    (command("x" * 1000), b"-ERR unknown command '" + b"x" * 64 + b"'\r\n"),
    (command(""), b"-ERR unknown command ''\r\n"),
    (command("GET"), wrong_number("GET")),
    (command("get", "a", "b"), wrong_number("get")),
    (command("SET", "a"), wrong_number("SET")),
    (command("SET", "a", "b", "c"), wrong_number("SET")),
    (command("DEL"), wrong_number("DEL")),
    (command("PING", "a", "b"), wrong_number("PING")),
    # What somebody types.
    (b"PING\r\n", b"+PONG\r\n"),
    (b"ping\n", b"+PONG\r\n"),
    (b" set \t line   5 \r\n", b"+OK\r\n"),
    (b"INCR line\r\n", b":6\r\n"),
    (b"nonsense\n", b"-ERR unknown command 'nonsense'\r\n"),
    # What asks for nothing.
    (b"\r\n", b""),
    (b" \t\n", b""),
    (b"*0\r\n", b""),
    (b"*-1\r\n", b""),
    (b"*0001\r\n$04\r\nPING\r\n", b"+PONG\r\n"),
]
ASKED = b"".join(asked for asked, _ in CONVERSATION)
ANSWERED = b"".join(answer for _, answer in CONVERSATION)

MALFORMED = [b"*x\r\n", b"*\r\n", b"*1\n", b"*1 \r\n", b"* 1\r\n", b"*+1\r\n", b"*1\r\n:1\r\n", b"*1\r\nPING\r\n", b"*1\r\n$-1\r\n",
             b"*1\r\n$\r\n", b"*1\r\n$4x\r\nPING\r\n", b"*1\r\n$4\r\nPINGxx", b"*1\r\n$4\r\nPING\n\r", b"*1\r\n$3\r\nPING\r\n",
             b"*" + b"0" * 40, b"*1\r\n$" + b"0" * 40, b"*9223372036854775808\r\n", b"*1\r\n$18446744073709551616\r\n"]
TOO_LARGE = [b"*1\r\n$%d\r\n" % (1 << 20), b"*2\r\n$3\r\nGET\r\n$9223372036854775807\r\n", b"*200000\r\n",
             b"*9223372036854775807\r\n", b"*2\r\n$%d\r\n" % (MOST - 20)]


class KeyValueServer(unittest.TestCase):
    def test_each_command_is_answered(self):
        with Server("key_value_server") as server, server.connect() as client:
            for asked, answer in CONVERSATION:
                with self.subTest(asked=asked):
                    client.sendall(asked)
                    self.assertEqual(exactly(client, len(answer)), answer)
            client.shutdown(socket.SHUT_WR)
            self.assertEqual(until_end(client), b"")
            self.assertEqual(server.log, [])

    def test_how_the_bytes_are_cut_does_not_matter(self):
        with Server("key_value_server") as server:
            for cut in (len(ASKED), 1000, 17, 7, 3, 2, 1):
                with self.subTest(cut=cut), server.connect() as client:
                    client.sendall(command("DEL", "", "name", "n", "line"))
                    exactly(client, 4)
                    for i in range(0, len(ASKED), cut):
                        client.sendall(ASKED[i:i + cut])
                        wait_for_delivery(client)
                    client.shutdown(socket.SHUT_WR)
                    self.assertEqual(until_end(client), ANSWERED)
            self.assertEqual(server.log, [])

    def test_ten_thousand_commands_in_odd_pieces(self):
        chance = random.Random(1)
        stored: dict[bytes, bytes] = {}
        asked, answered = [], []
        for _ in range(scaled(10_000, 200)):
            key = b"key %d" % chance.randrange(50)
            what = chance.choice(("SET", "GET", "DEL", "PING"))
            if what == "SET":
                stored[key] = chance.randbytes(int(chance.paretovariate(0.7)) % 20_000)
                asked.append(command("SET", key, stored[key]))
                answered.append(b"+OK\r\n")
            elif what == "GET":
                asked.append(command("GET", key))
                answered.append(string(stored[key]) if key in stored else b"$-1\r\n")
            elif what == "DEL":
                asked.append(command("DEL", key))
                answered.append(b":%d\r\n" % (stored.pop(key, None) is not None))
            else:
                asked.append(b"PING " + key[4:] + b"\r\n")
                answered.append(string(key[4:]))
        stream = b"".join(asked)

        def send(client: socket.socket) -> None:
            sent = 0
            while sent < len(stream):
                piece = stream[sent:sent + chance.choice((1, 2, 3, 100, 1447, 1448, 5000, 65_537))]
                client.sendall(piece)
                sent += len(piece)
            client.shutdown(socket.SHUT_WR)

        with Server("key_value_server") as server, server.connect() as client:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sender = threading.Thread(target=send, args=(client,), daemon=True)
            sender.start()
            self.assertTrue(until_end(client) == b"".join(answered), "other answers came back")
            sender.join()
            self.assertEqual(server.log, [])

    def test_keys_and_values_may_hold_any_bytes(self):
        values = [bytes(range(256)), b"\r\n", b"", command("PING"), b"\0", random.Random(2).randbytes(100_000),
                  bytes(1_000_000)]
        with Server("key_value_server") as server, server.connect() as client:
            for value in values:
                key = value[:1000]
                for asked, answer in ((command("SET", key, value), b"+OK\r\n"), (command("GET", key), string(value)),
                                      (command("PING", value), string(value))):
                    client.sendall(asked)
                    self.assertTrue(exactly(client, len(answer)) == answer, f"other bytes came back: {value[:20]!r}")

    def test_what_one_client_stores_the_others_find(self):
        count, each = scaled(20, 4), 100
        with Server("key_value_server") as server:
            clients = [server.connect() for _ in range(count)]
            for client in clients:
                client.sendall(command("INCR", "all") * each)
            heard = []
            for client in clients:
                client.shutdown(socket.SHUT_WR)
                heard.append([int(line[1:]) for line in until_end(client).split()])
                client.close()
            for numbers in heard:
                self.assertEqual(numbers, sorted(numbers))
            self.assertEqual(sorted(sum(heard, [])), list(range(1, count * each + 1)))

    def refused(self, server: Server, asked: bytes, reason: str) -> None:
        """It is told, after the answers to what came before, and disconnected."""
        with self.subTest(asked=asked[:60]), server.connect() as bad:
            bad.sendall(command("PING") + asked)
            self.assertEqual(until_end(bad), f"+PONG\r\n-ERR Protocol error: {reason}\r\n".encode())
            server.says(f"{name_of(bad)}: {reason}")

    def test_what_is_no_command_is_told_and_ends_that_client_alone(self):
        with Server("key_value_server") as server, server.connect() as honest:
            for asked in MALFORMED:
                self.refused(server, asked, "malformed frame")
            honest.sendall(command("PING"))
            self.assertEqual(exactly(honest, 7), b"+PONG\r\n")
            self.assertEqual(len(server.log), len(MALFORMED))

    def test_a_claim_above_a_mebibyte_is_told_before_the_bytes_come(self):
        with Server("key_value_server") as server, server.connect() as honest:
            for asked in TOO_LARGE:
                self.refused(server, asked, "frame too large")
            honest.sendall(command("PING"))
            self.assertEqual(exactly(honest, 7), b"+PONG\r\n")

    def test_a_line_above_a_mebibyte_is_refused(self):
        with Server("key_value_server") as server:
            self.refused(server, b"x" * (MOST + 1), "frame too large")

    def test_a_command_of_just_a_mebibyte_is_answered(self):
        value = b"v" * (MOST - len(command("SET", "k", "")) - 6)  # its size has seven digits
        exact = command("SET", "k", value)
        self.assertEqual(len(exact), MOST)
        line = b"PING " + b"x" * (MOST - 5)
        most = (MOST - 30) // 7  # keys
        with Server("key_value_server") as server, server.connect() as client:
            client.sendall(exact + command("EXISTS", *["k"] * most) + line + b"\n")
            answer = b"+OK\r\n:%d\r\n" % most + string(line[5:])
            self.assertTrue(exactly(client, len(answer)) == answer)
            self.refused(server, command("SET", "k", value + b"v")[:40], "frame too large")
            self.refused(server, line + b"x\n", "frame too large")

    def test_who_leaves_inside_a_command_has_asked_for_nothing(self):
        whole = command("SET", "k", "v")
        with Server("key_value_server") as server, server.connect() as honest:
            for cut in range(1, len(whole)):
                with server.connect() as client:
                    client.sendall(command("PING") + whole[:cut])
                    client.shutdown(socket.SHUT_WR)
                    self.assertEqual(until_end(client), b"+PONG\r\n")
                    server.says(f"{name_of(client)}: the stream ended inside a frame")
                client = server.connect()
                client.sendall(command("PING") + whole[:cut])
                self.assertEqual(exactly(client, 7), b"+PONG\r\n")
                name = name_of(client)
                reset(client)
                server.says(f"{name}: {told('Connection reset by peer')}")
            honest.sendall(command("EXISTS", "k"))
            self.assertEqual(exactly(honest, 4), b":0\r\n")

    def test_a_signal_under_load_loses_no_answer(self):
        # Each client keeps 16 commands on their way and never stops by itself.
        counts: dict[int, int] = {}
        trouble: list[str] = []
        under_way = threading.Barrier(5)

        def talk(client: socket.socket, number: int) -> None:
            try:
                heard = b""
                try:
                    client.sendall(command("INCR", number) * 16)
                    while piece := client.recv(1 << 16):
                        before, heard = heard.count(b"\n"), heard + piece
                        if before < 100 <= heard.count(b"\n"):
                            under_way.wait(HANG)
                        client.sendall(command("INCR", number) * piece.count(b"\n"))
                except (BrokenPipeError, ConnectionResetError):
                    pass
                counts[number] = heard.count(b"\n")
                if heard != b"".join(b":%d\r\n" % (i + 1) for i in range(counts[number])):
                    trouble.append(f"client {number} heard other answers, or half of one: {heard[-40:]!r}")
            except Exception as error:  # told below, on the thread that can fail the test
                trouble.append(repr(error))

        with Server("key_value_server") as server:
            streams = [server.connect() for _ in range(4)]
            threads = [threading.Thread(target=talk, args=(stream, number), daemon=True)
                       for number, stream in enumerate(streams)]
            for thread in threads:
                thread.start()
            under_way.wait(HANG)
            server.signal(signal.SIGTERM)
            for thread, stream in zip(threads, streams):
                thread.join(HANG)
                stream.close()
            self.assertEqual(trouble, [])
            self.assertEqual(len(counts), 4)
            self.assertEqual(server.exit_code(), 0)

    def test_a_command_that_has_begun_may_be_finished_after_the_signal(self):
        with Server("key_value_server") as server, server.connect() as client:
            client.sendall(command("PING") + command("INCR", "n")[:11])
            self.assertEqual(exactly(client, 7), b"+PONG\r\n")
            server.signal(signal.SIGINT)
            wait_until(server.refuses, "the listener to close")
            client.sendall(command("INCR", "n")[11:])
            self.assertEqual(until_end(client), b":1\r\n")
            client.close()
            self.assertEqual(server.exit_code(), 0)

    def test_a_bad_argument_prints_the_usage(self):
        for wrong in (("--port", "x"), ("--host", "nowhere"), ("--backend", "none"), ("more",)):
            code, out, err = run("key_value_server", *wrong)
            self.assertEqual((code, out), (2, ""))
            self.assertIn("usage: key_value_server ", err)

    def test_a_port_in_use_is_said(self):
        with Server("key_value_server") as server:
            code, out, err = run("key_value_server", "--port", server.port)
            self.assertEqual((code, out), (1, ""))
            self.assertEqual(err, f"cannot listen on 127.0.0.1:{server.port}: {told('Address already in use')}\n")


class RedisTools(unittest.TestCase):
    """Redis' own programs; Debian's package redis-tools has them."""

    def setUp(self):
        for program in ("redis-cli", "redis-benchmark"):
            if shutil.which(program) is None:
                self.skipTest(f"{program} is not installed (Debian: redis-tools)")

    def call(self, program: str, server: Server, *arguments) -> str:
        done = subprocess.run([program, "-h", server.host, "-p", str(server.port), *map(str, arguments)], timeout=HANG * 3,
                              stdin=subprocess.DEVNULL, capture_output=True, text=True)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        return done.stdout

    def test_redis_cli(self):
        with Server("key_value_server") as server:
            for words, answer in ((("SET", "a", "a word"), "OK"), (("GET", "a"), "a word"), (("EXISTS", "a", "b"), "1"),
                                  (("INCR", "n"), "1"), (("DEL", "a", "n"), "2"), (("GET", "a"), ""), (("PING",), "PONG"),
                                  (("INCR",), "ERR wrong number of arguments for 'INCR' command\n")):
                self.assertEqual(self.call("redis-cli", server, *words), answer + "\n")
            self.assertEqual(server.log, [])

    def test_redis_benchmark(self):
        with Server("key_value_server") as server:
            for pipeline in (1, 16):
                said = self.call("redis-benchmark", server, "-t", "ping,set,get,incr", "-P", pipeline,
                                 "-n", scaled(20_000 if pipeline > 1 else 2000, 500), "-q")
                ended = re.findall(r"(\w+): [\d.]+ requests per second", said)
                self.assertEqual(ended, ["PING_INLINE", "PING_MBULK", "SET", "GET", "INCR"], said)
                self.assertNotRegex(said, "(?i)error|warning")
            self.assertEqual(server.log, [])


if __name__ == "__main__":
    sys.exit(main())
