"""Daemon and web process killed under load, and disks that fail: what was answered with success is so, and no more."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

import httpx2
import pytest
from attrs import define, field

from tests.surfaces.api import Api, User, serving
from tests.surfaces.daemon import GRID
from tests.surfaces.faults import breakable, strike

WORKERS: Final = 3
KILLS: Final = 2
BETWEEN_S: Final = (0.05, 0.4)
# How long whoever is not served waits before the next request.
PAUSE_S: Final = 0.05
EX_TEMPORARY: Final = 75
PLENTY: Final = {"PIPAID__RATELIMIT__KEY_WEIGHT_MAX": "1000000", "PIPAID__RATELIMIT__KEY_WEIGHT_PER_S": "1000000"}
# Nobody can tell whether these were carried out; everything else is a promise.
UNKNOWN: Final = frozenset({0, 502})
# What is answered while the other side is away, or to what was signed before it came back.
REFUSED: Final = frozenset({401, 503})
# What is asked of each strategy once it is there, with the state that it leads to.
LIFE: Final[tuple[tuple[str, Any, str], ...]] = (
    ("deploy", {"dry_run": True}, "deployed"),
    ("pause", {"close_positions": True}, "paused"),
    ("stop", None, "stopped"),
)


@define
class Attempt:
    """One strategy that somebody wanted, all that was answered to its creation, and in which states it may be."""

    name: str
    statuses: list[int] = field(factory=list[int])
    ids: set[str] = field(factory=set[str])
    possible: set[str] = field(factory=set[str])


@define
class Worker:
    """Somebody who lets strategies live one after another, and repeats what was not answered under the same key."""

    api: Api
    user: User
    number: int
    over: threading.Event
    client: httpx2.Client = field(factory=partial(httpx2.Client, timeout=60, trust_env=False))
    asked: int = 0
    attempts: list[Attempt] = field(factory=list[Attempt])

    def run(self) -> None:
        while not self.over.is_set():
            attempt = Attempt(f"worker {self.number} number {len(self.attempts)}")
            self.attempts.append(attempt)
            for status, body in self.ask("/v1/strategies", {"name": attempt.name, **GRID}):
                attempt.statuses.append(status)
                if status == 201:
                    attempt.ids.add(body["id"])
                    attempt.possible = {"draft"}
            for action, body, after in LIFE if 201 in attempt.statuses else ():
                (one,) = attempt.ids
                for status, _ in self.ask(f"/v1/strategies/{one}/{action}", body):
                    assert status in {200, 409} | REFUSED | UNKNOWN, (action, status)
                    if status == 200:
                        attempt.possible = {after}
                    elif status in UNKNOWN:
                        attempt.possible.add(after)
                if attempt.possible != {after}:
                    # Whether what comes after it is allowed, nobody knows.
                    break

    def ask(self, target: str, body: Any) -> list[tuple[int, Mapping[str, Any]]]:
        """Ask once, and once more if nobody knows what became of it; return what was answered."""
        self.asked += 1
        key = {"Idempotency-Key": f"{self.number}-{self.asked}"}
        told: list[tuple[int, Mapping[str, Any]]] = []
        while not told or (len(told) < 2 and told[-1][0] in UNKNOWN):
            self.user.url = self.api.url
            try:
                answer = self.client.send(self.user.signed("POST", target, body, headers=key))
                told.append((answer.status_code, answer.json()))
            except httpx2.HTTPError:
                told.append((0, {}))
            if told[-1][0] in UNKNOWN | REFUSED:
                time.sleep(PAUSE_S)
        return told


def the_daemon(api: Api) -> None:
    api.daemon.kill()
    api.daemon.start()


def the_web_process(api: Api) -> None:
    api.end_all()
    api.start()


def both(api: Api) -> None:
    api.end_all()
    api.daemon.kill()
    api.daemon.start()
    api.start()


def the_disk(api: Api) -> None:
    """Let the disk fail from now on, which ends the daemon, and start it on a whole one."""
    strike(api.daemon)
    assert api.daemon.exit_code() == EX_TEMPORARY
    api.daemon.start()


@pytest.mark.parametrize(
    ("kill", "fault"),
    [
        (the_daemon, ""),
        (the_web_process, ""),
        (both, ""),
        (the_disk, "full"),
        (the_disk, "sync error"),
    ],
    ids=["daemon", "web process", "both", "full disk", "failing disk"],
)
def test_no_promise_is_broken(tmp_path: Path, kill: Callable[[Api], None], fault: str) -> None:
    chance = random.Random(7)
    with serving(tmp_path, variables=PLENTY, prepare=lambda daemon: fault and breakable(daemon, fault)) as api:
        over = threading.Event()
        workers = [Worker(api, api.user(), number, over) for number in range(WORKERS)]
        threads = [threading.Thread(target=worker.run) for worker in workers]
        for thread in threads:
            thread.start()
        for _ in range(KILLS):
            time.sleep(chance.uniform(*BETWEEN_S))
            kill(api)
        time.sleep(BETWEEN_S[1])
        over.set()
        for thread, worker in zip(threads, workers, strict=True):
            thread.join()
            worker.client.close()
        there = strategies_of(api)

    attempts = [attempt for worker in workers for attempt in worker.attempts]
    states = {each["name"]: each["status"] for each in there}
    assert len(there) == len(states)
    for attempt in attempts:
        statuses = set(attempt.statuses)
        assert statuses <= {201, 409} | REFUSED | UNKNOWN, attempt
        assert len(attempt.ids) <= 1, attempt
        if 201 in statuses:
            assert states.get(attempt.name) in attempt.possible, attempt
        elif statuses <= REFUSED:
            assert attempt.name not in states, attempt
    assert sum(201 in attempt.statuses for attempt in attempts) > KILLS
    assert any((UNKNOWN | REFUSED) & set(attempt.statuses) or len(attempt.possible) > 1 for attempt in attempts)


def strategies_of(api: Api) -> list[Any]:
    """Return all strategies, page by page."""
    found: list[Any] = []
    cursor = None
    while True:
        page = api.daemon.ask("strategy.list", limit=100, **({} if cursor is None else {"cursor": cursor}))
        found += page["data"]
        cursor = page["next_cursor"]
        if cursor is None:
            return found
