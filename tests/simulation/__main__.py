"""Run many worlds on all cores: `python -m tests.simulation --worlds 10000`, or the ones whose seeds are named."""

from __future__ import annotations

import argparse
import multiprocessing
import os
import secrets
import sys
import time
from collections.abc import Iterator

from tests.simulation.judging import Verdict, judged, silence

BAR_CHARS = 30
SHOWN_MAX = 10


def main() -> int:
    """Run the campaign that the command line asks for; return how it ended as an exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--worlds", type=int, default=1_000, help="how many worlds (default: 1000)")
    parser.add_argument("--first", type=int, default=None, help="the first seed (default: a fresh one)")
    parser.add_argument("seeds", type=int, nargs="*", help="seeds to run instead, with their log on standard error")
    asked = parser.parse_args()
    if asked.seeds:
        return _report([judged(seed) for seed in asked.seeds])
    first = asked.first if asked.first is not None else secrets.randbelow(2**40)
    silence()
    sys.stdout.write(f"worlds {first} to {first + asked.worlds - 1} on {os.cpu_count()} cores\n")
    return _report(list(_followed(range(first, first + asked.worlds))))


def _followed(seeds: range) -> Iterator[Verdict]:
    """Run worlds on every core and show how far it is."""
    begun_s, failed = time.monotonic(), 0
    with multiprocessing.get_context("spawn").Pool(initializer=silence) as pool:
        for done, verdict in enumerate(pool.imap_unordered(judged, seeds), 1):
            failed += bool(verdict.violations)
            if done % 20 == 0 or done == len(seeds):
                filled = BAR_CHARS * done // len(seeds)
                left_s = (time.monotonic() - begun_s) / done * (len(seeds) - done)
                bar = "#" * filled + "." * (BAR_CHARS - filled)
                sys.stdout.write(f"\r[{bar}] {done}/{len(seeds)} worlds, {failed} violated, {left_s:.0f} s left  ")
                sys.stdout.flush()
            yield verdict
    sys.stdout.write("\n")


def _report(verdicts: list[Verdict]) -> int:
    bad = sorted((verdict for verdict in verdicts if verdict.violations), key=lambda verdict: verdict.seed)
    for verdict in bad[:SHOWN_MAX]:
        sys.stdout.write(f"seed {verdict.seed}\n")
        for violation in verdict.violations:
            sys.stdout.write(f"    {violation}\n")
    cpu_s = sum(verdict.cpu_s for verdict in verdicts)
    sys.stdout.write(
        f"{len(verdicts)} worlds, {sum(each.lives for each in verdicts)} lives, "
        f"{sum(each.crossings for each in verdicts)} crossings, {sum(each.orders for each in verdicts)} orders, "
        f"{sum(each.fills for each in verdicts)} fills, {cpu_s:.0f} s of CPU: {len(bad)} violated\n"
    )
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
