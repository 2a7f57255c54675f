"""Many clients that want different things of the same strategies at once: one wins, the others are told so."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest

from pipaid.errors import PipaidError
from tests.surfaces.daemon import BRISK, DCA, GRID, Daemon, assert_gapless, names_of, running

CLIENTS = 20
ASKED_EACH = 60
# Weighted, so that strategies go round the table for a while before they end.
WISHES: tuple[tuple[str, dict[str, Any], int], ...] = (
    ("strategy.deploy", {"dry_run": True}, 24),
    ("strategy.pause", {}, 12),
    ("strategy.pause", {"close_positions": True}, 6),
    ("strategy.update", {"capital": "6000.00"}, 9),
    ("strategy.update", {"name": "the name that all want"}, 3),
    ("strategy.trigger", {}, 9),
    ("sim.halt", {}, 6),
    ("strategy.reset", {}, 12),
    ("strategy.stop", {}, 1),
    ("strategy.delete", {}, 1),
)
# Which event each wish leaves behind when it is granted.
LEAVES = {"strategy.deploy": "deployed", "strategy.pause": "paused", "strategy.reset": "paused",
          "strategy.stop": "stopped", "sim.halt": "error"}  # fmt: skip
STATUS_EVENTS = frozenset(LEAVES.values())


def storm(daemon: Daemon, ids: list[str], seed: int) -> Counter[tuple[str, str, str]]:
    """Let all clients ask at once, and return how often each wish on each strategy had which outcome."""
    together = Barrier(CLIENTS)

    def ask_away(number: int) -> Counter[tuple[str, str, str]]:
        chance = random.Random(f"{seed} {number}")
        heard = Counter[tuple[str, str, str]]()
        with daemon.client() as client:
            together.wait()
            for _ in range(ASKED_EACH):
                op, args, _ = chance.choices(WISHES, [weight for _, _, weight in WISHES])[0]
                wanted = chance.choice(ids)
                try:
                    client.call(op, {"id": wanted, **args})
                    heard[wanted, op, "ok"] += 1
                except PipaidError as refused:
                    heard[wanted, op, refused.code] += 1
        return heard

    return gathered(ask_away)


def gathered(work: Callable[[int], Counter[Any]]) -> Counter[Any]:
    """Have every client do its work at the same time, and add up what they heard."""
    with ThreadPoolExecutor(CLIENTS) as pool:
        return sum(pool.map(work, range(CLIENTS)), start=Counter[Any]())


@pytest.mark.parametrize("seed", range(3))
def test_losers_of_a_race_are_refused_and_events_tell_who_won(tmp_path: Path, seed: int) -> None:
    with running(tmp_path, BRISK) as daemon:
        ids = [daemon.create(f"contested {number}", shape) for number, shape in enumerate((GRID, DCA, GRID, DCA))]

        heard = storm(daemon, ids, seed)

        assert {code for _, _, code in heard} <= {"ok", "INVALID_STATE", "NOT_FOUND", "DUPLICATE_NAME"}
        assert sum(heard.values()) == CLIENTS * ASKED_EACH
        assert sum(count for (_, _, code), count in heard.items() if code == "INVALID_STATE") > 50
        for one in ids:
            deleted = heard[one, "strategy.delete", "ok"]
            assert deleted <= 1
            if deleted:
                assert daemon.refusal("strategy.get", id=one) == "NOT_FOUND"
                continue
            assert not any(code == "NOT_FOUND" for each, _, code in heard if each == one)
            assert_told(daemon, one, heard)
        held = [one for one in ids if not heard[one, "strategy.delete", "ok"]]
        before = {one: daemon.get(one) for one in held}
        daemon.kill()
        daemon.verify()
        daemon.start()
        assert {one: daemon.get(one)["status"] for one in held} == {
            one: shown["status"] for one, shown in before.items()
        }
        assert daemon.said("control.failed") == []


def assert_told(daemon: Daemon, one: str, heard: Counter[tuple[str, str, str]]) -> None:
    """Hold the stream of a strategy to what its commands were answered, and its status to the stream."""
    events = daemon.events(one)
    assert_gapless(events)
    told = Counter(names_of(events))
    granted = Counter[str]()
    for (each, op, code), count in heard.items():
        if each == one and code == "ok" and op in LEAVES:
            granted[LEAVES[op]] += count
    assert {name: told[name] for name in STATUS_EVENTS} == {name: granted[name] for name in STATUS_EVENTS}
    status = [name for name in names_of(events) if name in STATUS_EVENTS]
    assert daemon.get(one)["status"] == (status[-1] if status else "draft")


def test_one_of_many_deploys_wins(tmp_path: Path) -> None:
    with running(tmp_path, BRISK) as daemon:
        one = daemon.create("wanted by all")

        def deploy(_: int) -> Counter[str]:
            try:
                daemon.ask("strategy.deploy", id=one)
            except PipaidError as refused:
                return Counter([refused.code])
            return Counter(["ok"])

        assert gathered(deploy) == Counter({"ok": 1, "INVALID_STATE": CLIENTS - 1})
        assert names_of(daemon.events(one)).count("deployed") == 1


def test_one_of_many_gets_a_name(tmp_path: Path) -> None:
    with running(tmp_path, BRISK) as daemon:

        def create(_: int) -> Counter[str]:
            try:
                daemon.create("wanted by all")
            except PipaidError as refused:
                return Counter([refused.code])
            return Counter(["ok"])

        assert gathered(create) == Counter({"ok": 1, "DUPLICATE_NAME": CLIENTS - 1})
        assert len(daemon.ask("strategy.list")["data"]) == 1
