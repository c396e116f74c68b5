#!/usr/bin/env python3
"""Prints, from the logs of ctest, how many cases each test ran and skipped on each driver, and why it skipped them.

Tests that need no driver count for their system.

usage: case_table.py LOG...   each a copy of build/<preset>/Testing/Temporary/LastTest.log
"""

import re
import sys
from collections import Counter
from pathlib import Path

COLUMNS = ("io_uring", "epoll", "iocp", "simulated", "Linux", "Windows")


def count(output):
    """(run, skipped), of what Catch2 or Python's unittest printed; None of anything else."""
    if line := re.search(r"^test cases: .*$", output, re.MULTILINE):
        words = {word: int(number) for number, word in re.findall(r"(\d+) (passed|failed|skipped)", line[0])}
        return words.get("passed", 0) + words.get("failed", 0), words.get("skipped", 0)
    if all_passed := re.search(r"^All tests passed \(.* in (\d+) test cases?\)", output, re.MULTILINE):
        return int(all_passed[1]), 0
    if python := re.search(r"^Ran (\d+) tests? in ", output, re.MULTILINE):
        skipped = re.search(r"^(?:OK|FAILED) \(.*?skipped=(\d+)", output, re.MULTILINE)
        skips = int(skipped[1]) if skipped else 0
        return int(python[1]) - skips, skips
    return None


def reasons(output):
    """Why cases were skipped, each as often as it was."""
    yield from (" ".join(text.split())
                for text in re.findall(r": SKIPPED:\s*\nexplicitly with message:\n(.+?)\n\n", output, re.DOTALL))
    yield from (text for _, text in re.findall(r"\.\.\. skipped (['\"])(.*)\1$", output, re.MULTILINE))


def read(log):
    """(test, column, output) of each test."""
    parts = re.split(r"(?m)^\d+/\d+ Testing: ", log)[1:]
    system = "Windows" if any(part.split("\n", 1)[0].endswith(".iocp") for part in parts) else "Linux"
    for part in parts:
        test, _, driver = part.split("\n", 1)[0].partition(".")
        if test.endswith("_test"):
            yield test, driver or system, part


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    cells, why = {}, Counter()
    for path in sys.argv[1:]:
        for test, column, output in read(Path(path).read_text(errors="replace")):
            if counted := count(output):
                cells.setdefault(test, {})[column] = counted
                why.update((test, column, reason) for reason in reasons(output))
    columns = [column for column in COLUMNS if any(column in row for row in cells.values())]
    if not columns:
        return

    def show(name, row):
        words = [f"{row[c][0]} ({row[c][1]})" if c in row and row[c][1] else str(row[c][0]) if c in row else "-"
                 for c in columns]
        print(f"{name:<26}" + "".join(f"{word:>12}" for word in words))

    print(f"{'cases run (skipped)':<26}" + "".join(f"{column:>12}" for column in columns))
    for test in sorted(cells):
        show(test, cells[test])
    show("total", {c: tuple(sum(row[c][i] for row in cells.values() if c in row) for i in (0, 1)) for c in columns})
    for (test, column, reason), times in sorted(why.items()):
        print(f"skipped: {test}.{column}, {times}: {reason}")


if __name__ == "__main__":
    main()
