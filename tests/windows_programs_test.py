"""What only Windows programs have to show: see examples_test.py, whose options it takes."""

import sys
import unittest

import examples_test
from examples_test import Server, exactly, frame, main, needs, until_end


class WindowsPrograms(unittest.TestCase):
    def test_they_need_no_dll_of_the_compilers(self):
        if not examples_test.suffix:
            self.skipTest("about Windows: what its programs need")
        programs = list(examples_test.examples.glob("*.exe"))
        self.assertGreater(len(programs), 5)
        for program in programs:
            content = program.read_bytes()
            for library in (b"libstdc++-6.dll", b"libgcc_s_seh-1.dll", b"libwinpthread-1.dll"):
                self.assertFalse(library in content, f"{program.name} wants {library.decode()}")

    @needs("close_event")
    def test_closing_the_console_ends_a_server_in_order(self):
        if not examples_test.suffix:
            self.skipTest("about Windows: a console that closes")
        for threads in (1, 2):
            with Server("framed_echo_server", "--threads", threads) as server, server.connect() as client:
                client.sendall(frame(b"first") + frame(b"second")[:3])
                self.assertEqual(exactly(client, 9), frame(b"first"))
                server.tell_console(b"q")
                client.sendall(frame(b"second")[3:])
                self.assertEqual(until_end(client), frame(b"second"))
                client.close()
                self.assertEqual(server.exit_code(), 0)
                self.assertEqual(server.log, [])


if __name__ == "__main__":
    sys.exit(main())
