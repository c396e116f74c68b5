#!/usr/bin/env python3
"""Prints, from ctest's log, how many test cases each test ran and skipped on each driver.

usage: case_table.py build/<preset>/Testing/Temporary/LastTest.log
"""

import re
import sys
from pathlib import Path


def counts(log):
    """{test: {driver: (run, skipped)}}, of the tests that run on drivers and count their cases."""
    found = {}
    for part in re.split(r"(?m)^\d+/\d+ Testing: ", log)[1:]:
        name = part.split("\n", 1)[0]
        test, dot, driver = name.partition(".")
        if not dot or not test.endswith("_test"):
            continue
        line = re.search(r"^test cases: .*$", part, re.MULTILINE)
        all_passed = re.search(r"^All tests passed \(.* in (\d+) test cases?\)", part, re.MULTILINE)
        if line:
            words = dict((word, int(number)) for number, word in re.findall(r"(\d+) (passed|failed|skipped)", line[0]))
            result = (words.get("passed", 0) + words.get("failed", 0), words.get("skipped", 0))
        elif all_passed:
            result = (int(all_passed[1]), 0)
        else:
            continue
        found.setdefault(test, {})[driver] = result
    return found


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    tests = counts(Path(sys.argv[1]).read_text(errors="replace"))
    if not tests:
        return
    drivers = sorted({driver for of_test in tests.values() for driver in of_test})
    print(f"{'cases run (skipped)':<24}" + "".join(f"{driver:>16}" for driver in drivers))
    totals = dict.fromkeys(drivers, (0, 0))
    rows = [(test, tests[test]) for test in sorted(tests)] + [("total", totals)]
    for test, of_test in rows:
        cells = []
        for driver in drivers:
            if driver not in of_test:
                cells.append("-")
                continue
            run, skipped = of_test[driver]
            cells.append(f"{run} ({skipped})" if skipped else str(run))
            if of_test is not totals:
                totals[driver] = (totals[driver][0] + run, totals[driver][1] + skipped)
        print(f"{test:<24}" + "".join(f"{cell:>16}" for cell in cells))


if __name__ == "__main__":
    main()
