"""The webhooks of one daemon: the parts that they are made of, put together."""

from __future__ import annotations

from typing import Protocol

from attrs import define

from actors.balances import Balances
from actors.courier import Courier
from actors.recorder import Recorder
from actors.roster import Roster
from actors.supervisor import ChildSpec
from actors.webhooks import Webhooks
from pipaid.config import Config
from pipaid.model.account import OWNER
from pipaid.seams import World
from pipaid.wire.posting import Post


class Parts(Protocol):
    """The parts of a daemon that its webhooks depend on."""

    config: Config
    world: World
    recorder: Recorder
    roster: Roster


@define(eq=False)
class Hooks:
    """What answers for webhooks, and what delivers."""

    webhooks: Webhooks
    courier: Courier
    balances: Balances

    async def load(self) -> None:
        """Read what the journal knows."""
        await self.webhooks.load()

    def notice(self) -> None:
        """Take note that events are durable; whatever is done about them is done later."""
        if self.webhooks.hooks:
            self.courier.notice()

    def held_n(self) -> int | None:
        """Return the last record that was read here, nothing if nobody reads."""
        return self.courier.held_n

    def children(self) -> list[ChildSpec]:
        """Return what runs."""
        return [
            ChildSpec(name="courier", start=self.courier.run),
            ChildSpec(name="balances", start=self.balances.run),
        ]


def hooks_of(parts: Parts, master_key: bytes) -> Hooks:
    """Return the webhooks of a daemon that has a journal."""
    wanted, world, recorder = parts.config.webhooks, parts.world, parts.recorder
    webhooks = Webhooks(
        writer=recorder,
        clock=world.clock,
        ids=world.ids,
        master_key=master_key,
        owner=OWNER,
        last_n=lambda: recorder.last_n,
        private=wanted.allow_private_targets,
    )
    courier = Courier(
        webhooks=webhooks,
        writer=recorder,
        clock=world.clock,
        last_n=lambda: recorder.last_n,
        send=Post(world.net, world.clock, private=wanted.allow_private_targets).send,
        per_s_max=float(wanted.attempts_per_second_max),
    )
    balances = Balances(
        webhooks=webhooks, members=lambda: parts.roster.members.values(), writer=recorder, clock=world.clock
    )
    webhooks.courier, webhooks.attempt, webhooks.on_change = courier, courier.post, balances.notice
    return Hooks(webhooks, courier, balances)
