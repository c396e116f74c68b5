"""Runs a program that must abort: expect_abort.py SOURCE [PREFIX...] PROGRAM

The first line of SOURCE says what the program must print on stderr before it does:

    // expect: <regular expression>
"""

import re
import signal
import subprocess
import sys

try:
    import resource
except ImportError:  # Python on Windows
    resource = None


def ended_by_abort(program: str, code: int) -> bool:
    if program.endswith(".exe"):
        return code in (3, 0xC0000409)  # the exit code of msvcrt's abort, and of the Universal CRT's
    return code == -signal.SIGABRT


def main() -> int:
    source, *command = sys.argv[1:]
    program = command[-1]
    with open(source, encoding="utf-8") as text:
        first_line = text.readline()
    marker = re.match(r"//\s*expect:\s*(\S.*)", first_line)
    if marker is None:
        print(f"{source}: the first line must be `// expect: <regular expression>`")
        return 1
    expected = marker.group(1).strip()

    if resource:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    run = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace")
    problems = []
    if not ended_by_abort(program, run.returncode):
        problems.append(f"it ended with {run.returncode}, not by abort")
    if not re.search(expected, run.stderr):
        problems.append(f"its stderr does not match: {expected}")
    for problem in problems:
        print(f"{program}: {problem}")
    if problems:
        print(f"--- stdout\n{run.stdout}--- stderr\n{run.stderr}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
