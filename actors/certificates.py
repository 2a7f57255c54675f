"""The certificates of the daemon's listeners: looked at again and again, replaced when new, told of in time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from ssl import SSLContext
from typing import Protocol

import trio
from attrs import define

from pipaid.config.certificate import end_told_of_file
from pipaid.errors import InvalidParameter
from pipaid.model.condition import Condition
from pipaid.seams import World
from pipaid.wire.identity import LOOK_EVERY_S, Identity


class Watched(Protocol):
    """The conditions as they are seen from here."""

    def enter(self, condition: Condition, detail: str) -> None:
        """Note that a condition holds."""
        ...

    def leave(self, condition: Condition) -> None:
        """Note that it does not."""
        ...


@define(eq=False)
class Certificates:
    """Keep the identities of the listeners in step with their files.

    `foreign` are certificates of a process that judges for itself, by files of which the daemon may see none: of those
    it tells what it can. `beside` has the process that is the daemon's child look at its own.
    """

    identities: Sequence[Identity]
    foreign: Sequence[tuple[str, Path]]
    world: World
    conditions: Watched
    beside: Callable[[], None]

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Look until cancelled."""
        self.look()
        task_status.started()
        while True:
            await self.world.clock.sleep(LOOK_EVERY_S)
            self.look()

    def __bool__(self) -> bool:
        return bool(self.identities or self.foreign)

    def context_of(self, name: str) -> SSLContext | None:
        """Return what a listener of that name presents, if it has an identity."""
        return next((identity.context for identity in self.identities if identity.name == name), None)

    def reload(self) -> list[str]:
        """Look at once; return the keys of what was taken, and raise InvalidParameter for what was not."""
        self.beside()
        taken = self.look()
        refused = [identity.told() for identity in self.identities if identity.refused]
        if refused:
            raise InvalidParameter("; ".join(refused))
        return taken

    def look(self) -> list[str]:
        """Take what is new and good, and tell what a person should know; return the keys of what was taken."""
        taken = [f"{identity.name}.tls_certificate" for identity in self.identities if identity.look()]
        told = [identity.told() for identity in self.identities]
        told += [f"{name}: {end}" for name, path in self.foreign if (end := end_told_of_file(path, self.world))]
        if detail := "; ".join(filter(None, told)):
            self.conditions.enter(Condition.CERTIFICATE, detail)
        else:
            self.conditions.leave(Condition.CERTIFICATE)
        return taken
