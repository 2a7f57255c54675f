"""One state directory on which daemon after daemon lives and ends, each in another way, while clients stay with it."""

from __future__ import annotations

import multiprocessing
import random
import signal
import sqlite3
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import asynccontextmanager, closing, suppress
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Any, Final

import trio
from attrs import define, field

from pipaid.storage.connection import connect_to_read
from tests.soak.asking import apart
from tests.soak.books import JOURNAL, Ledger, Told, Verdict, copy_journal, judge
from tests.soak.commander import Commander
from tests.soak.listeners import SocketListener, TailListener
from tests.surfaces.daemon import Daemon

READY_S_MAX: Final = 60.0
ORDERLY_S_MAX: Final = 10.0
GLANCE_S: Final = 0.0003
# How long a kill waits for the moment it is meant for; then it comes anyway.
AWAITED_S_MAX: Final = 1.5
# What may lie between a life and its judgement.
JUDGED_MAX: Final = 4
KILLED: Final = -signal.SIGKILL
EXPECTED_ERRORS: Final = frozenset({"daemon.aborted"})


class Ending(StrEnum):
    """How a life ends; all but the last three by SIGKILL, at the moment that the name says."""

    TRADING = "trading"
    STARTING = "starting"
    CHECKPOINTING = "checkpointing"
    PRUNING = "pruning"
    STOPPING = "stopping"
    ORDERLY = "orderly"
    TWICE = "told twice"
    SUSPENDED = "suspended"


# How often each comes among a hundred kills.
KILLS: Final = {
    Ending.TRADING: 42,
    Ending.STARTING: 20,
    Ending.CHECKPOINTING: 12,
    Ending.PRUNING: 12,
    Ending.STOPPING: 14,
}


@define(eq=False)
class Campaign:
    """The lives so far, the clients that accompany them, and everything that was found wrong."""

    daemon: Daemon
    chance: random.Random
    life_s_max: float
    at_once_s_max: float
    socket: SocketListener
    tail: TailListener
    commander: Commander
    judges: ProcessPoolExecutor
    ends: Counter[Ending] = field(factory=Counter[Ending])
    kills: int = 0
    lives: int = 0
    wrong: list[str] = field(factory=list[str])
    ready_s: list[float] = field(factory=list[float])
    ending_s: dict[Ending, list[float]] = field(factory=dict[Ending, list[float]])
    verdicts: list[Verdict] = field(factory=list[Verdict])
    # Judgements come one after the other, since each compares with the one before.
    _turn: trio.Lock = field(factory=trio.Lock)
    _waiting: trio.CapacityLimiter = field(factory=partial(trio.CapacityLimiter, JUDGED_MAX))
    _nursery: trio.Nursery | None = None
    _port: int = 0

    @property
    def port(self) -> int:
        """Return where the stream is in the present life, or was in the last one."""
        return self._port

    async def live(self, ending: Ending) -> None:
        """Let one daemon live until its end, and have judged what it leaves."""
        began = time.monotonic()
        self.begin()
        if ending is Ending.STARTING:
            await trio.sleep(self.chance.uniform(0, 0.7 * (self.ready_s[-1] if self.ready_s else 1.0)))
        else:
            await self.ready()
            self.ready_s.append(time.monotonic() - began)
            await _AWAIT[ending](self)
        await self.end(ending)

    def begin(self) -> None:
        """Begin the next life, with a log of its own."""
        self.lives += 1
        self.daemon.log.unlink(missing_ok=True)
        self.daemon.spawn()

    async def ready(self) -> None:
        """Wait until the present life trades, and tell the clients where the stream is."""
        await apart(partial(self.daemon.wait_for, lambda: self.daemon.said("daemon.ready"), within_s=READY_S_MAX))
        self._port = self.daemon.stream_port

    async def end(self, ending: Ending) -> None:
        """End the present life, and have judged what it leaves."""
        process = self.daemon.process
        assert process is not None
        began = time.monotonic()
        if ending in (Ending.ORDERLY, Ending.SUSPENDED):
            process.terminate()
        elif ending is Ending.TWICE:
            process.terminate()
            await trio.sleep(self.chance.uniform(0, 0.05))
            began = time.monotonic()
            process.terminate()
        elif process.poll() is None:
            process.kill()
        code = await apart(partial(process.wait, READY_S_MAX))
        self.ends[ending] += 1
        self.ending_s.setdefault(ending, []).append(time.monotonic() - began)
        self.kills += code == KILLED
        self._hold_to(ending, code, time.monotonic() - began)
        await self._have_judged(closed=code == 0)

    def _hold_to(self, ending: Ending, code: int, took_s: float) -> None:
        """Hold an end to what is promised of its kind, and a life to having had no errors."""
        allowed = _CODES.get(ending, (KILLED,))
        limit_s = self.at_once_s_max if ending is Ending.TWICE else ORDERLY_S_MAX
        if code not in allowed:
            self.wrong.append(f"life {self.lives} ({ending}) ended with {code}: {self.daemon.tail()}")
        if took_s > limit_s:
            self.wrong.append(f"life {self.lives} ({ending}) took {took_s:.1f} s to end, at most {limit_s:g}")
        for record in self.daemon.said():
            if record["level"] in ("error", "critical") and record["event"] not in EXPECTED_ERRORS:
                self.wrong.append(f"life {self.lives} ({ending}) says: {record}")

    async def _have_judged(self, *, closed: bool) -> None:
        """Copy what a life left, and judge the copy while the next one begins."""
        told = Told({**self.socket.last, **_later(self.socket.last, self.tail.last)}, self.commander.possible())
        copy = self.daemon.folder / f"life-{self.lives}"
        await apart(partial(copy_journal, self.daemon.state, copy))
        token = object()
        await self._waiting.acquire_on_behalf_of(token)
        assert self._nursery is not None
        self._nursery.start_soon(self._judge, token, copy, told, closed, self.lives)

    async def _judge(self, token: object, copy: Path, told: Told, closed: bool, life: int) -> None:
        try:
            async with self._turn:
                before = self.verdicts[-1].ledger if self.verdicts else Ledger()
                verdict = await apart(self.judges.submit(judge, copy, before, told, closed=closed).result)
                self.verdicts.append(verdict)
                self.wrong += [f"after life {life}: {problem}" for problem in verdict.problems]
        finally:
            self._waiting.release_on_behalf_of(token)

    # Moments to end at.

    async def trade(self) -> None:
        """Wait for a moment like any other."""
        await trio.sleep(self.chance.uniform(0, self.life_s_max))

    async def see_checkpoint(self) -> None:
        """Wait until the write-ahead log is being carried over: only then the database itself is written to."""
        path = self.daemon.state / JOURNAL
        before = path.stat().st_mtime_ns
        if not await apart(partial(_seen, lambda: path.stat().st_mtime_ns != before)):
            # Its end does so for certain.
            self._terminate()
            await apart(partial(_seen, lambda: path.stat().st_mtime_ns != before))
        await trio.sleep(self.chance.uniform(0, 0.004))

    async def see_pruning(self) -> None:
        """Wait until a portion of what is past its retention has gone; more of them may follow."""

        def watch() -> None:
            with suppress(sqlite3.Error), closing(connect_to_read(self.daemon.state / JOURNAL)) as connection:
                (before,) = connection.execute("SELECT pruned FROM fence").fetchone()
                _seen(lambda: connection.execute("SELECT pruned FROM fence").fetchone()[0] != before)

        await apart(watch)
        await trio.sleep(self.chance.uniform(0, 0.004))

    async def begin_to_stop(self) -> None:
        """Wait until the end has begun."""
        await self.trade()
        self._terminate()
        await trio.sleep(self.chance.uniform(0, 0.25))

    async def suspend(self) -> None:
        """Stop the process for a while; its watchers are other people's, and it has to go on as if nothing had been."""
        process = self.daemon.process
        assert process is not None
        await self.trade()
        epoch = self.daemon.ask("status")["epoch"]
        process.send_signal(signal.SIGSTOP)
        await trio.sleep(self.chance.uniform(0.2, 2.5))
        process.send_signal(signal.SIGCONT)
        await self.trade()
        status = await apart(partial(self.daemon.ask, "status"))
        # It may say for a while what happened to it.
        if status["epoch"] != epoch or status["state"] not in ("running", "degraded"):
            self.wrong.append(f"after having been suspended, life {self.lives} says {status}")

    def _terminate(self) -> None:
        assert self.daemon.process is not None
        self.daemon.process.terminate()


_AWAIT: Final[dict[Ending, Callable[[Campaign], Any]]] = {
    Ending.TRADING: Campaign.trade,
    Ending.CHECKPOINTING: Campaign.see_checkpoint,
    Ending.PRUNING: Campaign.see_pruning,
    Ending.STOPPING: Campaign.begin_to_stop,
    Ending.ORDERLY: Campaign.trade,
    Ending.TWICE: Campaign.trade,
    Ending.SUSPENDED: Campaign.suspend,
}

# A life whose end has begun may be over before the signal comes.
_CODES: Final = {
    Ending.CHECKPOINTING: (0, KILLED),
    Ending.STOPPING: (0, KILLED),
    Ending.ORDERLY: (0,),
    Ending.SUSPENDED: (0,),
    # The second signal may also come when all is done but the closing, which the kernel then ends.
    Ending.TWICE: (0, 75, -signal.SIGTERM),
}


def drawn(chance: random.Random, kills: int) -> list[Ending]:
    """Return so many ways of being killed, in their proportions and in any order."""
    endings = [ending for ending, share in KILLS.items() for _ in range(max(1, share * kills // 100))]
    endings += [Ending.TRADING] * (kills - len(endings))
    chance.shuffle(endings)
    return endings


@asynccontextmanager
async def campaign(
    folder: Path, config: str, *, seed: int, life_s_max: float, at_once_s_max: float
) -> AsyncGenerator[Campaign]:
    """Begin the first life with clients that want every event from the first on, and leave no process behind."""
    chance = random.Random(seed)
    daemon = Daemon(folder, config)
    socket = SocketListener(port=lambda: begun.port)
    tail = TailListener(path=daemon.socket)
    commander = Commander(daemon.socket, random.Random(seed + 1))
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as judges:
        begun = Campaign(daemon, chance, life_s_max, at_once_s_max, socket, tail, commander, judges)
        try:
            begun.begin()
            await begun.ready()
            key = daemon.ask("key.create", name="follower", scopes=["read-only"])
            socket.api_key, socket.secret = key["api_key"], key["secret"]
            async with trio.open_nursery() as nursery:
                begun._nursery = nursery
                yield begun
        finally:
            if daemon.process is not None and daemon.process.poll() is None:
                daemon.kill()


@asynccontextmanager
async def accompanied(begun: Campaign) -> AsyncGenerator[None]:
    """Let the clients do their part while the block runs; the commander ends with an answer to everything."""
    begun.commander.tell_id = lambda strategy_id: [each.expect([strategy_id]) for each in (begun.socket, begun.tail)]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(begun.socket.follow)
        nursery.start_soon(begun.tail.follow)
        nursery.start_soon(begun.commander.command)
        yield
        nursery.cancel_scope.cancel()


def _seen(condition: Callable[[], bool]) -> bool:
    """Look very often for something that soon passes; tell whether it came."""
    until_s = time.monotonic() + AWAITED_S_MAX
    while not condition():
        if time.monotonic() > until_s:
            return False
        time.sleep(GLANCE_S)
    return True


def _later(one: dict[str, int], other: dict[str, int]) -> dict[str, int]:
    return {key: max(seq, one.get(key, 0)) for key, seq in other.items()}
