"""Daemon and web process killed under load: what was answered with success is there, what was refused is not."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from pathlib import Path

import httpx2
import pytest
from attrs import define, field

from tests.surfaces.api import Api, User, serving
from tests.surfaces.daemon import GRID

WORKERS = 3
KILLS = 3
BETWEEN_S = (0.05, 0.4)
# Nobody can tell whether these were carried out; everything else is a promise.
UNKNOWN = frozenset({0, 502})
# What is answered while the other side is away, or to what was signed before it came back.
REFUSED = frozenset({401, 503})


@define
class Attempt:
    """One strategy that somebody wanted, and all that was answered."""

    name: str
    key: str
    statuses: list[int] = field(factory=list[int])
    ids: set[str] = field(factory=set[str])


@define
class Worker:
    """Somebody who creates strategies one after another, and repeats what was not answered under the same key."""

    api: Api
    user: User
    number: int
    over: threading.Event
    attempts: list[Attempt] = field(factory=list[Attempt])

    def run(self) -> None:
        while not self.over.is_set():
            made = len(self.attempts)
            attempt = Attempt(f"worker {self.number} number {made}", f"{self.number}-{made}")
            self.attempts.append(attempt)
            self.create(attempt)
            if attempt.statuses[-1] in UNKNOWN:
                self.create(attempt)

    def create(self, attempt: Attempt) -> None:
        self.user.url = self.api.url
        try:
            asked = {"name": attempt.name, **GRID}
            answer = self.user.send("POST", "/v1/strategies", asked, headers={"Idempotency-Key": attempt.key})
        except httpx2.HTTPError:
            attempt.statuses.append(0)
            time.sleep(0.02)
            return
        attempt.statuses.append(answer.status_code)
        if answer.status_code == 201:
            attempt.ids.add(answer.json()["id"])


def the_daemon(api: Api) -> None:
    api.daemon.kill()
    api.daemon.start()


def the_web_process(api: Api) -> None:
    api.end_all()
    api.start()


@pytest.mark.parametrize("kill", [the_daemon, the_web_process])
def test_no_promise_is_broken_by_killing(tmp_path: Path, kill: Callable[[Api], None]) -> None:
    plenty = {"PIPAID__RATELIMIT__KEY_WEIGHT_MAX": "1000000", "PIPAID__RATELIMIT__KEY_WEIGHT_PER_S": "1000000"}
    chance = random.Random(7)
    with serving(tmp_path, variables=plenty) as api:
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
        for thread in threads:
            thread.join()
        there = names_of(api)

    attempts = [attempt for worker in workers for attempt in worker.attempts]
    assert len(there) == len(set(there))
    for attempt in attempts:
        statuses = set(attempt.statuses)
        assert statuses <= {201, 409} | REFUSED | UNKNOWN, attempt
        assert len(attempt.ids) <= 1, attempt
        if 201 in statuses:
            assert attempt.name in there, attempt
        elif statuses <= REFUSED:
            assert attempt.name not in there, attempt
    assert sum(201 in attempt.statuses for attempt in attempts) > KILLS
    assert any(UNKNOWN & set(attempt.statuses) or REFUSED & set(attempt.statuses) for attempt in attempts)


def names_of(api: Api) -> list[str]:
    """Return the names of all strategies, page by page."""
    found: list[str] = []
    cursor = None
    while True:
        page = api.daemon.ask("strategy.list", limit=100, **({} if cursor is None else {"cursor": cursor}))
        found += [each["name"] for each in page["data"]]
        cursor = page["next_cursor"]
        if cursor is None:
            return found
