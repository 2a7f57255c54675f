"""Run many worlds on all cores: some thousand with drawn troubles, or each crossing of a few crashed once.

python -m tests.simulation --worlds 10000
python -m tests.simulation --crossings 50
python -m tests.simulation --teeth
python -m tests.simulation 4711               one world, with its log on standard error
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import secrets
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from pipaid.logs import configure
from pipaid.seams import World
from tests.simulation.judging import Verdict, judged, silence, told
from tests.simulation.plan import Scene
from tests.simulation.planted import PLANTED, first_found, told_by

BAR_CHARS = 30
SHOWN_MAX = 5
ENUMERATED_S = 75
SEEDS_MAX = 1_000


def main() -> int:
    """Run the campaign that the command line asks for; return how it ended as an exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.simulation", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--worlds", type=int, default=1_000, help="how many worlds (default: 1000)")
    parser.add_argument("--crossings", type=int, default=0, help="of how many worlds to crash every crossing once")
    parser.add_argument(
        "--teeth", action="store_true", help="plant each known bug and find the first seed that sees it"
    )
    parser.add_argument("--first", type=int, default=None, help="the first seed (default: a fresh one)")
    parser.add_argument("--crash-at", type=int, default=None, help="with a seed: the one crossing to crash at")
    parser.add_argument("seeds", type=int, nargs="*", help="seeds to run instead")
    asked = parser.parse_args()
    if asked.seeds:
        configure(clock=World().clock, variables={}, level="debug", format="console")
        return _report([judged(Scene(seed, crash_at=asked.crash_at)) for seed in asked.seeds])
    silence()
    if asked.teeth:
        return _show_teeth()
    first = asked.first if asked.first is not None else secrets.randbelow(2**40)
    if asked.crossings:
        return _report(_followed(_crossings(range(first, first + asked.crossings))))
    sys.stdout.write(f"worlds {first} to {first + asked.worlds - 1} on {os.cpu_count()} cores\n")
    return _report(_followed([Scene(seed) for seed in range(first, first + asked.worlds)]))


def _crossings(seeds: Iterable[int]) -> list[Scene]:
    """Count what a whole life of each world does, and return one world for each of these moments."""
    whole = _followed([Scene(seed, crash_at=0, faulty_s=ENUMERATED_S) for seed in seeds])
    scenes = [
        Scene(verdict.scene.seed, crash_at=number, faulty_s=ENUMERATED_S)
        for verdict in sorted(whole, key=lambda verdict: verdict.scene.seed)
        for number in range(1, verdict.crossings + 1)
    ]
    sys.stdout.write(f"{len(scenes)} crossings to crash at\n")
    return scenes


def _followed(scenes: Sequence[Scene]) -> list[Verdict]:
    """Run worlds on every core and show how far it is."""
    with multiprocessing.get_context("spawn").Pool(initializer=silence) as pool:
        return list(_watched(pool.imap_unordered(judged, scenes, chunksize=4), len(scenes)))


def _watched(verdicts: Iterable[Verdict], count: int) -> Iterator[Verdict]:
    begun_s, failed, shown_s = time.monotonic(), 0, 0.0
    for done, verdict in enumerate(verdicts, 1):
        if verdict.violations:
            failed += 1
            sys.stdout.write(f"\rseed {verdict.scene.seed}: {verdict.violations[0]}\n")
        now_s = time.monotonic()
        if now_s - shown_s > 1 or done == count:
            shown_s = now_s
            filled = BAR_CHARS * done // count
            left_s = (now_s - begun_s) / done * (count - done)
            bar = "#" * filled + "." * (BAR_CHARS - filled)
            sys.stdout.write(f"\r[{bar}] {done}/{count} worlds, {failed} violated, {left_s:.0f} s left  ")
            sys.stdout.flush()
        yield verdict
    sys.stdout.write("\n")


def _report(verdicts: Sequence[Verdict]) -> int:
    bad = sorted((verdict for verdict in verdicts if verdict.violations), key=lambda verdict: verdict.scene.seed)
    for verdict in bad[:SHOWN_MAX]:
        sys.stdout.write(told(verdict) + "\n")
    marks = Counter[str]()
    for verdict in verdicts:
        marks.update(verdict.marks)
    sys.stdout.write("".join(f"  {times:8}  {name}\n" for name, times in marks.most_common()))
    cpu_s = sum(verdict.cpu_s for verdict in verdicts)
    sys.stdout.write(
        f"{len(verdicts)} worlds, {sum(each.lives for each in verdicts)} lives, "
        f"{sum(each.crossings for each in verdicts)} crossings, {sum(each.orders for each in verdicts)} orders, "
        f"{sum(each.fills for each in verdicts)} fills, {cpu_s:.0f} s of CPU: {len(bad)} violated\n"
    )
    if not (sum(each.orders for each in verdicts) and sum(each.fills for each in verdicts)):
        sys.stdout.write("nothing was traded: these worlds prove nothing\n")
        return 1
    return 1 if bad else 0


def _show_teeth() -> int:
    missed = 0
    for name in PLANTED:
        verdict = first_found(name, range(1, SEEDS_MAX + 1))
        missed += verdict is None
        found = "not found" if verdict is None else f"seed {verdict.scene.seed:4}  {told_by(name, verdict)}"
        sys.stdout.write(f"{name:34} {found}\n")
        sys.stdout.flush()
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
