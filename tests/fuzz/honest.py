"""Honest clients beside the hostile ones: an operator and a listener who have to get all that they were promised."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Any

import msgspec
import trio
from attrs import define, field
from trio_websocket import open_websocket_url

from pipaid.errors import InvalidParameter, InvalidState, NotFound
from pipaid.seams import SystemNet
from pipaid.wire.lines import ControlClient, connected
from pipaid.wire.signing import canonical, sign
from tests.surfaces.daemon import DCA, GRID, Daemon

PAUSE_S = 0.02
ROUNDS_PER_CHORE = 25
# Of what the hostile clients made so much is left standing; the rest is cleared away, as an operator would.
STRANGERS_MAX = 24


@define
class Key:
    """An API key with its secret."""

    api_key: str
    secret: str

    def credentials(self) -> dict[str, Any]:
        """Sign for the stream at this moment."""
        timestamp = int(time.time() * 1_000)
        return {
            "api_key": self.api_key,
            "timestamp": timestamp,
            "signature": sign(self.secret.encode(), canonical(str(timestamp), "GET", "/v1/ws")),
        }

    @property
    def query(self) -> str:
        """Return what signs a URL."""
        return "&".join(f"{name}={value}" for name, value in self.credentials().items())


@define
class Operator:
    """Someone who runs strategies of their own over one connection and clears away what strangers leave."""

    daemon: Daemon
    ids: list[str]
    own: list[str] = field(factory=list[str])
    keys: list[Key] = field(factory=list[Key])
    asked: int = 0
    waits_s: list[float] = field(factory=list[float])
    over: bool = False
    deployed: bool = True

    async def work(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Ask one thing after the other until told that it is over; every answer has to be the right one."""
        async with connected(SystemNet(), self.daemon.socket) as client:
            await self._settle_in(client)
            task_status.started()
            while not self.over:
                await self._round(client)
                if self.asked % ROUNDS_PER_CHORE == 0:
                    await self._chores(client)
                await trio.sleep(PAUSE_S)

    async def _ask(self, client: ControlClient, op: str, **args: Any) -> Any:
        began = time.monotonic()
        result = msgspec.json.decode(await client.call(op, args))
        self.waits_s.append(time.monotonic() - began)
        self.asked += 1
        return result

    async def _try(self, client: ControlClient, op: str, **args: Any) -> None:
        """Ask for something that a hostile client may have done, undone or spoilt in the meantime."""
        with suppress(InvalidState, NotFound, InvalidParameter):
            await self._ask(client, op, **args)

    async def _settle_in(self, client: ControlClient) -> None:
        for number, shape in enumerate((DCA, GRID)):
            made = await self._ask(client, "strategy.create", name=f"honest {number}", **shape)
            await self._ask(client, "strategy.deploy", id=made["id"], dry_run=True)
            self.own.append(made["id"])
        for number in range(4):
            made = await self._ask(client, "key.create", name=f"key {number}", scopes=["read-only"])
            self.keys.append(Key(made["api_key"], made["secret"]))
        for number in range(6):
            made = await self._ask(client, "strategy.create", name=f"victim {number}", **(DCA, GRID)[number % 2])
            await self._ask(client, "strategy.deploy", id=made["id"], dry_run=True)
            self.ids.append(made["id"])

    async def _round(self, client: ControlClient) -> None:
        """Look at both strategies and turn one of them off or on."""
        for one in self.own:
            shown = await self._ask(client, "strategy.get", id=one)
            assert shown["id"] == one
        self.deployed = not self.deployed
        op, more = ("strategy.deploy", {"dry_run": True}) if self.deployed else ("strategy.pause", {})
        answered = await self._ask(client, op, id=self.own[0], **more)
        assert answered["status"] == ("deployed" if self.deployed else "paused")

    async def _chores(self, client: ControlClient) -> None:
        listed = await self._ask(client, "strategy.list", limit=100)
        strangers = [row["id"] for row in listed["data"] if row["id"] not in self.own]
        for surplus in strangers[STRANGERS_MAX:]:
            await self._try(client, "strategy.stop", id=surplus)
            await self._try(client, "strategy.delete", id=surplus)
        self.ids[:] = strangers[:STRANGERS_MAX] or self.own[1:]
        for stranger in strangers[:6]:
            await self._try(client, "strategy.deploy", id=stranger, dry_run=True)
        if (await self._ask(client, "kill.get"))["is_active"]:
            await self._try(client, "kill.deactivate")


@define
class Listener:
    """A strict subscriber to everything from the beginning: each strategy's numbers come one after the other."""

    port: int
    key: Key
    seqs: dict[str, int] = field(factory=dict[str, int])
    heard: int = 0

    async def listen(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Listen until cancelled."""
        async with open_websocket_url(f"ws://127.0.0.1:{self.port}/v1/ws?{self.key.query}") as socket:
            await socket.send_message('{"op":"subscribe","channel":"strategy.status","id":"*","since_seq":0}')
            answer = msgspec.json.decode(await socket.get_message())
            assert answer["ok"] is True, answer
            task_status.started()
            while True:
                event = msgspec.json.decode(await socket.get_message())
                last = self.seqs.get(event["id"], 0)
                assert event["seq"] == last + 1, f"{event['seq']} of {event['id']} after {last}"
                self.seqs[event["id"]] = event["seq"]
                self.heard += 1
