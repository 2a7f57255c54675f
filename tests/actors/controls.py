"""A control socket with everything behind it, and clients that are honest or that send raw bytes."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import trio
from attrs import define, field

from actors.control import ControlServer, Door, Perform
from actors.hub import Hub
from actors.keys import KeyRing
from actors.recorder import Recorder
from actors.remembered import JournalMemory, Repeats
from pipaid.model.event import EventDraft, OrderCancelled, Resumed
from pipaid.model.record import Batch
from pipaid.model.reply import Deleted, Reply
from pipaid.model.report import Pong
from pipaid.model.request import Nothing
from pipaid.seams import SystemDisk, SystemIds, SystemNet
from pipaid.storage.sqlite import SqliteJournal
from pipaid.wire.budget import Budgets
from pipaid.wire.caller import Caller, Limits, Role
from pipaid.wire.gate import Gate
from pipaid.wire.lines import LineReader

MASTER_KEY = b"a master key of thirty-two bytes"


@define
class SetClock:
    """A clock that stands where it was set."""

    us: int = 1_767_225_600_000_000

    def now_us(self) -> int:
        return self.us

    def monotonic_s(self) -> float:
        return self.us / 1e6

    def cpu_s(self) -> float:
        return 0.0

    async def sleep(self, seconds: float) -> None:
        await trio.sleep(seconds)


@define
class Owners:
    """Whose strategy is whose."""

    ids: Sequence[str]

    def owner_of(self, strategy_id: str) -> str | None:
        return "acct_main" if strategy_id in self.ids else None

    def strategies_of(self, account: str | None) -> Sequence[str]:
        return self.ids


@define
class RawClient:
    """A client that sends whatever it likes and reads lines."""

    stream: trio.SocketStream
    reader: LineReader = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.reader = LineReader(self.stream, 16 * 1024 * 1024)

    async def send(self, *lines: bytes) -> None:
        await self.stream.send_all(b"".join(line + b"\n" for line in lines))

    async def ask(self, id: int | str, op: str, args: Mapping[str, Any] | None = None, **more: Any) -> None:
        await self.send(msgspec.json.encode({"id": id, "op": op, "args": args or {}, **more}))

    async def hear(self) -> dict[str, Any] | None:
        """Return the next answer, or nothing once the server has closed."""
        try:
            line = await self.reader.next_line()
        except trio.BrokenResourceError:
            return None
        return None if line is None else msgspec.json.decode(line)

    async def told(self) -> dict[str, Any]:
        answer = await self.hear()
        assert answer is not None, "the server closed the connection"
        return answer

    async def code(self) -> str:
        """Return the code of the next answer, which must be a refusal."""
        answer = await self.told()
        assert answer["ok"] is False
        return str(answer["error"]["code"])


@define
class Control:
    """The server and what stands behind it."""

    folder: Path
    server: ControlServer
    recorder: Recorder
    hub: Hub
    clock: SetClock
    keys: KeyRing

    @asynccontextmanager
    async def client(self, role: Role = Role.OPERATE) -> AsyncGenerator[RawClient, None]:
        stream = await SystemNet().connect_unix(self.folder / f"{role}.sock")
        async with stream:
            yield RawClient(stream)

    async def emit(self, *strategy_ids: str, opt_in: bool = False) -> None:
        """Make one event of each strategy durable."""
        await self.recorder.commit(Batch(events=[event_of(key, opt_in=opt_in) for key in strategy_ids]))


def event_of(strategy_id: str, *, opt_in: bool = False) -> EventDraft:
    data = OrderCancelled(
        order_id="ord_1",
        client_order_id="pp1",
        symbol="BTCUSDT",
        reason="engine",
        filled_qty=Decimal(0),
        cancelled_at="2026-01-01T00:00:00Z",
    )
    at_ms = 1_767_225_600_000
    return EventDraft(
        strategy_id=strategy_id,
        data=Resumed(status="deployed") if opt_in else data,
        at_ms=at_ms,
        run_id=None,
        dry_run=None,
    )


@define
class Steps:
    """Operations that a test lets go on one step at a time; `begun` lists what was begun, `done` what was done."""

    begun: list[str] = field(factory=list[str])
    done: list[str] = field(factory=list[str])
    gates: dict[str, trio.Event] = field(factory=dict[str, trio.Event])

    async def perform(self, caller: Caller, request: Any) -> Reply:
        self.begun.append(request.id)
        if request.id in self.gates:
            await self.gates[request.id].wait()
        self.done.append(request.id)
        return Deleted(id=request.id)


async def pong(caller: Caller, request: Nothing) -> Reply:
    return Pong(ts="2026-01-01T00:00:00Z")


@asynccontextmanager
async def open_control(
    folder: Path,
    operations: Mapping[str, Perform] | None = None,
    *,
    strategies: Sequence[str] = ("strat_00000001", "strat_00000002"),
    limits: Limits | None = None,
    clock: SetClock | None = None,
) -> AsyncGenerator[Control, None]:
    """Serve both sockets in a folder, with the journal that lies there."""
    clock = clock or SetClock()
    journal = SqliteJournal.open(folder / "journal.db", disk=SystemDisk(), clock=clock, pid=os.getpid())
    publish: list[Callable[[Any], None]] = []
    recorder = Recorder(journal, publish=lambda events: publish[0](events), clock=clock, threaded=False)
    owners = Owners(strategies)
    hub = Hub(recorder, owners)
    publish.append(hub.publish)
    net = SystemNet()
    try:
        async with trio.open_nursery() as nursery:
            await nursery.start(recorder.run)
            repeats = Repeats(JournalMemory(recorder), clock)
            await repeats.load()
            keys = KeyRing(recorder, clock, SystemIds(), MASTER_KEY)
            await keys.load()
            server = ControlServer(
                operations={"ping": pong, **(operations or {})},
                events=hub,
                owner_of=owners.owner_of,
                repeats=repeats,
                gate=Gate(keys, clock, keys=Budgets(1_200, 20.0), addresses=Budgets(300, 5.0)),
                clock=clock,
                ids=SystemIds(),
                limits=limits or Limits(),
            )
            doors = [
                Door(listener=await net.listen_unix(folder / f"{role}.sock", mode=0o600), role=role) for role in Role
            ]
            async with trio.open_nursery() as front:
                await front.start(server.run, doors)
                yield Control(folder, server, recorder, hub, clock, keys)
                front.cancel_scope.cancel()
            nursery.cancel_scope.cancel()
    finally:
        journal.close()
