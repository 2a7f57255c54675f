"""Commands on their way to a session: who asked waits until what they led to is durable."""

from __future__ import annotations

from collections.abc import Callable

import trio
from attrs import define, field

from pipaid.engine.effects import Effects
from pipaid.engine.session import Session


@define(eq=False)
class Command:
    """Something asked of the session by a person or by the roster; `answered` is set once it is durable."""

    act: Callable[[Session], Effects | None]
    answered: trio.Event = field(factory=trio.Event)
    trouble: BaseException | None = None

    async def obeyed(self) -> None:
        """Return once it is durable; raise why it never will be."""
        await self.answered.wait()
        if self.trouble is not None:
            raise self.trouble
