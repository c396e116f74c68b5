"""Keeps what the documents show true: their code, their links, and what the tutorial's terminal says.

    docs_test.py --examples-dir DIR [NAME...]         the options of examples_test.py

- A C++ block below `<!-- from FILE -->` stands in that file; a line with … alone leaves something out.
- In docs/tutorial/ every C++ block is such a one. A Python block below `<!-- file NAME -->` is saved as NAME.
- A block `console` of the tutorial is typed in, where the examples and the Python files of that chapter are. Lines that
  begin with `$ ` are commands, the others what the terminal shows. Port 8000 becomes a free one, and so does @echo.
"""

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest
from pathlib import Path

import examples_test
from examples_test import HANG, TOP, has_ipv6, main, run, wait_until

DOCUMENTS = sorted([*TOP.glob("*.md"), *TOP.glob("docs/**/*.md"), *TOP.glob("*/README.md")])
CHAPTERS = sorted(TOP.glob("docs/tutorial/[0-9]*.md"))
PORT = "8000"  # what the tutorial calls it


def blocks(document: Path, language: str) -> list[tuple[str, str]]:
    """The blocks of that language: what the comment above says, and the text."""
    found = re.findall(rf"(?:^<!-- ([^\n]+) -->\n+)?^```{language}\n(.*?)^```", document.read_text(encoding="utf-8"),
                       re.DOTALL | re.MULTILINE)
    return [(above.strip(), text) for above, text in found]


def name_of(document: Path) -> str:
    return document.relative_to(TOP).as_posix()


class Code(unittest.TestCase):
    def test_stands_in_the_file_that_it_is_from(self):
        shown = set()
        for document in DOCUMENTS:
            for above, block in blocks(document, "cpp"):
                source = re.fullmatch(r"from (\S+)", above)
                if source is None:
                    self.assertNotIn(document, CHAPTERS, f"say where this is from:\n{block}")
                    continue
                shown.add(document)
                code = (TOP / source[1]).read_text(encoding="utf-8")
                for part in re.split(r"\n *…\n", block.strip("\n")):
                    self.assertIn(part.strip("\n") + "\n", code, f"{name_of(document)} shows what is not in {source[1]}")
        self.assertEqual(sorted(shown & set(CHAPTERS)), CHAPTERS)
        self.assertIn(TOP / "README.md", shown)

    def test_links_lead_to_files(self):
        for document in DOCUMENTS:
            text = re.sub(r"^```.*?^```", "", document.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
            for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text):
                if "://" not in target:
                    self.assertTrue((document.parent / target).exists(), f"{name_of(document)} links {target}")

    def test_the_table_of_contents_names_every_chapter_in_order(self):
        contents = (TOP / "docs/tutorial/README.md").read_text(encoding="utf-8")
        links = re.findall(r"\]\((\d\d-[\w-]+\.md)\)", contents)
        self.assertEqual(links, [chapter.name for chapter in CHAPTERS])


def free_port() -> int:
    with socket.socket() as tcp, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        tcp.bind(("127.0.0.1", 0))
        udp.bind(tcp.getsockname())
        return tcp.getsockname()[1]


def nobody_has(port: int) -> bool:
    try:
        with socket.socket() as tcp, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
            tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tcp.bind(("127.0.0.1", port))
            tcp.listen()
            udp.bind(("127.0.0.1", port))
        return True
    except OSError:
        return False


def connections_to(port: int) -> int:
    """How many clients are connected, accepted or not."""
    sockets = [line.split() for line in Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]]
    return sum(peer.endswith(f":{port:04X}") and state == "01" for _, _, peer, state, *_ in sockets)


class Job:
    """A command with & behind it."""

    def __init__(self, command: str, **how):
        self.command = command
        self.process = subprocess.Popen(["bash", "-c", f"exec {command}" if "|" not in command else command],
                                        start_new_session=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                        stderr=subprocess.STDOUT, **how)
        self.lines: list[str] = []
        self.seen = 0  # so many of them were expected
        self.reader = threading.Thread(target=self._collect, daemon=True)
        self.reader.start()

    def _collect(self) -> None:
        for line in self.process.stdout:
            said = line.decode().rstrip("\n")
            if not said.startswith(("io_uring_setup: ", "io_uring_register: ")):  # why it is epoll, if nobody asked for that
                self.lines.append(said)

    def end(self) -> None:
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()
        self.reader.join(HANG)
        self.process.stdout.close()


class Terminal:
    """Types the commands of one chapter, and compares what comes."""

    def __init__(self, test: unittest.TestCase, folder: Path):
        self.test = test
        self.port = free_port()
        self.jobs: list[Job] = []
        self.how = {"cwd": folder, "env": {**os.environ, "PYTHONUNBUFFERED": "1", "LC_ALL": "C.UTF-8"}}

    def as_here(self, text: str) -> str:
        return re.sub(rf"\b{PORT}\b", str(self.port), text).replace("@echo", f"@echo-{self.port}")

    def pattern(self, line: str) -> re.Pattern:
        """The backend depends on the machine, and ports that the system chose on the day."""
        shown = re.escape(line)
        shown = re.sub(r"\\\((io_uring|epoll|iocp)\\\)$", r"\\((io_uring|epoll|iocp)\\)", shown)
        return re.compile(self.as_here(re.sub(r"(?<=:)[3-6]\d{4}\b", r"\\d+", shown)))

    def job(self, name: str) -> Job:
        return next(job for job in reversed(self.jobs) if job.command.startswith(name))

    def type(self, block: str) -> None:
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, *expected = part.rstrip("\n").split("\n")
            command = re.sub(r"\s+# .*", "", command)
            expected = [self.pattern(line) for line in expected]
            if re.match(r"\./(?!unix_)\w+_server\b", command):  # whose default is 8000
                command = re.sub(r"( &)?$", rf" --port {PORT}\1", command, count=1)
            said = self.run(self.as_here(command))
            while expected:
                if said and expected[0].fullmatch(said[0]):
                    said.pop(0)
                else:
                    self.job_says(expected[0], command, said)
                expected.pop(0)
            self.test.assertEqual(said, [], f"`{command}` said more")

    def run(self, command: str) -> list[str]:
        if command.endswith(" &"):
            command = command.removesuffix(" &")
            # A reader is slow enough; we are not.
            if "client" not in command:
                wait_until(lambda: nobody_has(self.port), "the end of who had the port before")
            before = connections_to(self.port)
            self.jobs.append(Job(command, **self.how))
            if "client" in command:
                wait_until(lambda: connections_to(self.port) > before, f"the connection of {command}")
            return []
        if kill := re.fullmatch(r"kill (?:-(\w+) )?%(\S+)", command):
            self.job(kill[2]).process.send_signal(getattr(signal, f"SIG{kill[1] or 'TERM'}"))
            return []
        if wait := re.fullmatch(r"wait %(\S+); echo \$\?", command):
            ended = self.job(wait[1]).process.wait(HANG)
            return [str(ended if ended >= 0 else 128 - ended)]  # as shells tell that it was a signal
        if "$!" in command:
            command = command.replace("$!", str(self.jobs[-1].process.pid))
        done = subprocess.run(["bash", "-c", command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, timeout=HANG, check=False, **self.how)
        return [line for line in done.stdout.decode().splitlines() if not line.startswith(("io_uring_setup: ", "io_uring_register: "))]

    def job_says(self, line: re.Pattern, command: str, said: list[str]) -> None:
        limit = time.monotonic() + HANG
        while time.monotonic() < limit:
            for job in self.jobs:
                if len(job.lines) > job.seen and line.fullmatch(job.lines[job.seen]):
                    job.seen += 1
                    return
            time.sleep(0.002)
        jobs = [f"{job.command}: {job.lines[job.seen:]}" for job in self.jobs]
        self.test.fail(f"`{command}` said {said}, and nobody said {line.pattern}; the others said {jobs}")

    def close(self) -> None:
        for job in self.jobs:
            job.end()
        unexpected = [f"{job.command}: {job.lines[job.seen:]}" for job in self.jobs if len(job.lines) > job.seen]
        self.test.assertEqual(unexpected, [])


class Tutorial(unittest.TestCase):
    """What the terminal shows."""

    def test_a_program_that_needs_no_other_shows_the_same_on_every_system(self):
        session = blocks(TOP / "docs/tutorial/09-timeouts-and-cancellation.md", "console")
        shown = next(text for _, text in session if text.startswith("$ ./timeouts\n"))
        self.assertEqual(run("timeouts"), (0, shown.split("\n", 1)[1], ""))

    def follow(self, chapter: Path) -> None:
        sessions = [text for _, text in blocks(chapter, "console")]
        files = {}
        for above, text in blocks(chapter, "python"):
            file = re.fullmatch(r"file (\w+\.py)", above)
            self.assertTrue(file, f"name this file:\n{text}")
            files[file[1]] = text
        self.assertTrue(sessions)
        for file in files:
            self.assertTrue(any(f"python3 {file}" in session for session in sessions), f"{file} is never run")
        with tempfile.TemporaryDirectory() as folder:
            for program in examples_test.examples.iterdir():
                if program.is_file() and os.access(program, os.X_OK):
                    (Path(folder) / program.name).symlink_to(program)
            terminal = Terminal(self, Path(folder))
            for file, text in files.items():
                (Path(folder) / file).write_text(terminal.as_here(text), encoding="utf-8")
            try:
                for session in sessions:
                    terminal.type(session)
            finally:
                terminal.close()


def add_chapters() -> None:
    for chapter in CHAPTERS:
        def follow(self, chapter=chapter):
            if examples_test.suffix:
                self.skipTest("about Linux: the terminal of the tutorial")
            if "::1" in chapter.read_text(encoding="utf-8") and not has_ipv6():
                self.skipTest("this machine has no IPv6 loopback")
            self.follow(chapter)

        setattr(Tutorial, "test_" + re.sub(r"\W", "_", chapter.stem), follow)


add_chapters()

if __name__ == "__main__":
    sys.exit(main())
