"""A client that keeps changing strategies through all lives of a daemon, and knows what has to be true of each."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping
from contextlib import aclosing
from pathlib import Path
from typing import Any, Final

import msgspec
import trio
from attrs import define, evolve, field, frozen

from pipaid.errors import InvalidState, NotFound, PipaidError, Unavailable
from pipaid.model.strategy import Status
from pipaid.seams import SystemNet
from pipaid.wire.lines import ControlClient, connected

PREFIX: Final = "commanded"
ALIVE_MAX: Final = 12
TRIES_EVERY_S: Final = 0.03
# What a strategy may be asked in each status, and what it is afterwards; nothing is what is refused.
ASKED: Final[dict[Status, tuple[tuple[str, Status | None], ...]]] = {
    Status.DRAFT: (
        ("strategy.deploy", Status.DEPLOYED),
        ("strategy.deploy", Status.DEPLOYED),
        ("strategy.update", Status.DRAFT),
        ("strategy.pause", None),
        ("strategy.create", None),
    ),
    Status.DEPLOYED: (
        ("strategy.pause", Status.PAUSED),
        ("strategy.stop", Status.STOPPED),
        ("strategy.deploy", None),
        ("strategy.delete", None),
    ),
    Status.PAUSED: (
        ("strategy.deploy", Status.DEPLOYED),
        ("strategy.update", Status.PAUSED),
        ("strategy.stop", Status.STOPPED),
        ("strategy.reset", None),
    ),
    Status.STOPPED: (("strategy.delete", None), ("strategy.deploy", None)),
}
# Orders that rest far from any price: they are there to be lost.
SHAPE: Final[Mapping[str, Any]] = {
    "template_id": "tpl_grid",
    "params": {"grid_levels": 4, "lower_price": "60000", "upper_price": "160000"},
    "symbols": ["BTCUSDT"],
    "timeframe": "1m",
    "capital": "5000.00",
}


@frozen
class State:
    """What is true of one strategy; nobody is there without an id."""

    id: str = ""
    status: Status | None = None
    capital: str = ""


@frozen
class Wish:
    """One command under way: the key it is sent with, and what is true if it was carried out."""

    key: str
    op: str
    name: str
    args: dict[str, Any]
    before: State
    after: State
    possible: bool = True


@define(eq=False)
class Commander:
    """Send commands one after the other, each with its own key, and again with the same key until it is answered.

    `truth` says what is true by all answers so far; of the strategy that `wish` is about, either what was or what is
    wished. `contradictions` is what the daemon answered against that.
    """

    path: Path
    chance: random.Random
    patience_s: float = 30.0
    pause_s_max: float = 0.03
    tell_id: Callable[[str], object] = lambda _: None
    truth: dict[str, State] = field(factory=dict[str, State])
    wish: Wish | None = None
    made: int = 0
    sent: int = 0
    outcomes: Counter[str] = field(factory=Counter[str])
    contradictions: list[str] = field(factory=list[str])
    stopping: bool = False

    async def command(self) -> None:
        """Go on until told to stop, in whatever life of the daemon there is."""
        while not (self.stopping and self.wish is None):
            try:
                async with connected(SystemNet(), self.path) as client:
                    while not (self.stopping and self.wish is None):
                        self.wish = self.wish or self._choose()
                        with trio.fail_after(self.patience_s):
                            await self._carry_out(client, self.wish)
                        self.wish = None
                        await trio.sleep(self.chance.uniform(0, self.pause_s_max))
            except* (Unavailable, trio.TooSlowError):
                self.outcomes["unanswered"] += 1
            await trio.sleep(TRIES_EVERY_S)

    def possible(self) -> dict[str, list[State]]:
        """Return what may be true of each strategy at this moment."""
        found = {name: [state] for name, state in self.truth.items()}
        if self.wish is not None:
            found[self.wish.name] = [self.wish.before, self.wish.after]
        return found

    def _choose(self) -> Wish:
        self.sent += 1
        alive = [name for name, state in self.truth.items() if state.id]
        if not alive or (len(alive) < ALIVE_MAX and self.chance.random() < 0.3):
            self.made += 1
            name = f"{PREFIX} {self.made}"
            draft = State(status=Status.DRAFT, capital=SHAPE["capital"])
            return self._wish("strategy.create", name, {**SHAPE, "name": name}, State(), draft)
        name = self.chance.choice(alive)
        state = self.truth[name]
        assert state.status is not None
        op, status = self.chance.choice(ASKED[state.status])
        if op == "strategy.create":
            return self._wish(op, name, {**SHAPE, "name": name}, state, None)
        args: dict[str, Any] = {"id": state.id}
        after: State | None = None if status is None else evolve(state, status=status)
        if op == "strategy.delete" and state.status is Status.STOPPED:
            after = State()
        elif op == "strategy.deploy":
            args["dry_run"] = True
        elif op == "strategy.update":
            args["capital"] = f"{self.chance.randrange(5_000, 6_000)}.00"
            after = evolve(state, capital=args["capital"])
        return self._wish(op, name, args, state, after)

    def _wish(self, op: str, name: str, args: dict[str, Any], before: State, after: State | None) -> Wish:
        """Return a wish; one without an afterwards has to be refused."""
        key = f"wish-{self.sent}"
        return Wish(key, op, name, args, before, after or before, possible=after is not None)

    async def _carry_out(self, client: ControlClient, wish: Wish) -> None:
        try:
            answer = await client.call(wish.op, wish.args, idempotency_key=wish.key)
        except Unavailable:
            raise
        except PipaidError as refused:
            if isinstance(refused, InvalidState) and "while it carried this request out" in refused.message:
                self.outcomes["looked"] += 1
                await self._settle(wish, await self._look(client, wish))
                return
            self.outcomes["refused"] += 1
            if wish.possible:
                self.contradictions.append(f"{wish} was refused: {refused.message}")
            await self._settle(wish, await self._look(client, wish), told=wish.before)
            return
        self.outcomes["done"] += 1
        after = wish.after
        if wish.op == "strategy.create":
            after = evolve(after, id=msgspec.json.decode(answer)["id"])
        if not wish.possible:
            self.contradictions.append(f"{wish} was carried out, but cannot be")
        await self._settle(wish, after)

    async def _settle(self, wish: Wish, found: State, *, told: State | None = None) -> None:
        """Hold what was found to what was wished or told, and take it for true."""
        allowed = (wish.before, evolve(wish.after, id=wish.after.id or found.id)) if told is None else (told,)
        if found not in allowed:
            self.contradictions.append(f"{wish}: found {found}")
        if found.id:
            self.tell_id(found.id)
        self.truth[wish.name] = found

    async def _look(self, client: ControlClient, wish: Wish) -> State:
        """Ask what became of a strategy: by its id, or by its name while nobody has told its id."""
        if wish.before.id:
            try:
                return _state(await _asked(client.call("strategy.get", {"id": wish.before.id})))
            except NotFound:
                return State()
        # Whoever stops listening, or is cut off, leaves nothing half open for the collector to complain of.
        async with aclosing(_listed(client)) as listed:
            async for strategy in listed:
                if strategy["name"] == wish.name:
                    return _state(strategy)
        return State()


async def _asked(answer: Awaitable[bytes]) -> Any:
    return msgspec.json.decode(await answer)


async def _listed(client: ControlClient) -> AsyncGenerator[Any]:
    cursor: dict[str, str] = {}
    while True:
        page = await _asked(client.call("strategy.list", {"limit": 100, **cursor}))
        for strategy in page["data"]:
            yield strategy
        if page["next_cursor"] is None:
            return
        cursor = {"cursor": page["next_cursor"]}


def _state(strategy: Mapping[str, Any]) -> State:
    return State(id=strategy["id"], status=Status(strategy["status"]), capital=strategy["capital"])


def disagreements(possible: Mapping[str, list[State]], found: Mapping[str, State]) -> Iterator[str]:
    """Say where what a journal holds is none of what may be true; `found` holds every commanded strategy by name."""
    for name, states in possible.items():
        state = found.get(name, State())
        if not any(
            state == each or (not each.id and each.status and evolve(each, id=state.id) == state) for each in states
        ):
            yield f"{name} is {state}, but has to be one of {states}"
    for name in found:
        if name not in possible:
            yield f"{name} is there, but nobody asked for it"
