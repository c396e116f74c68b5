"""Runs examples/bad_network: see examples_test.py, whose options it takes."""

import re
import unittest

from examples_test import main, run

SUMMARY = re.compile(r"(\d+) answers were right and 0 wrong; (\d+) of (\d+) connections failed\n"
                     r"(\d+) seconds were simulated; seed (\d+), trace ([0-9a-f]{16})\n$")


class BadNetwork(unittest.TestCase):
    def simulate(self, *arguments) -> tuple[str, re.Match]:
        code, out, err = run("bad_network", *arguments)
        self.assertEqual((code, err), (0, ""))
        return out, self.found(out)

    def found(self, out: str) -> re.Match:
        summary = SUMMARY.search(out)
        self.assertIsNotNone(summary, out)
        self.assertEqual(len(re.findall(r"(?m)^client \d+: ", out)), int(summary[2]), out)
        return summary

    def test_one_seed_gives_the_same_run_as_often_as_one_likes(self):
        first, summary = self.simulate("--seed", 7)
        self.assertEqual((summary[3], summary[5]), ("20", "7"))
        for _ in range(3):
            self.assertEqual(self.simulate("--seed", 7)[0], first)

    def test_other_seeds_give_other_runs(self):
        traces = {self.simulate("--seed", seed)[1][6] for seed in range(20)}
        self.assertEqual(len(traces), 20)

    def test_some_connections_fail_and_most_do_not(self):
        _, summary = self.simulate("--seed", 3, "--clients", 300)
        self.assertTrue(0 < int(summary[2]) < 150, summary[0])
        self.assertGreater(int(summary[1]), 300 * 50 / 2)

    def test_tells_every_event_in_order(self):
        quiet, summary = self.simulate("--seed", 5, "--clients", 3)
        out, same = self.simulate("--seed", 5, "--clients", 3, "--events")
        self.assertEqual(same[6], summary[6])
        times = [float(time) for time in re.findall(r"(?m)^(\d+\.\d{3}) ms #\d+ \w", out)]
        self.assertGreater(len(times), 300)
        self.assertEqual(times, sorted(times))
        self.assertEqual([line for line in out.splitlines() if " ms #" not in line], quiet.splitlines())


if __name__ == "__main__":
    main()
