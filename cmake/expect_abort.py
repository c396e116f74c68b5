"""Runs a program that must abort: expect_abort.py SOURCE PROGRAM

The first line of SOURCE says what the program must print on stderr before it does:

    // expect: <regular expression>
"""

import re
import resource
import signal
import subprocess
import sys


def main() -> int:
    source, program = sys.argv[1:]
    with open(source, encoding="utf-8") as text:
        first_line = text.readline()
    marker = re.match(r"//\s*expect:\s*(\S.*)", first_line)
    if marker is None:
        print(f"{source}: the first line must be `// expect: <regular expression>`")
        return 1
    expected = marker.group(1).strip()

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    run = subprocess.run([program], stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace")
    problems = []
    if run.returncode != -signal.SIGABRT:
        problems.append(f"it ended with {run.returncode}, not by abort ({-signal.SIGABRT})")
    if not re.search(expected, run.stderr):
        problems.append(f"its stderr does not match: {expected}")
    for problem in problems:
        print(f"{program}: {problem}")
    if problems:
        print(f"--- stdout\n{run.stdout}--- stderr\n{run.stderr}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
