"""Strategies declared in files become real at start, once: what a person did to them since then stays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Protocol

import trio
from attrs import define, field

from pipaid.errors import PipaidError
from pipaid.logs import get_log
from pipaid.model.strategy import Status, Strategy, StrategyDefinition


class Declared(Protocol):
    """One strategy as a file declares it."""

    @property
    def definition(self) -> StrategyDefinition:
        """Return what it is."""
        ...

    @property
    def deploy(self) -> bool:
        """Tell whether it is to run."""
        ...

    @property
    def dry_run(self) -> bool:
        """Tell whether it runs on paper."""
        ...

    @property
    def source(self) -> str:
        """Return the file and the line."""
        ...


class Commands(Protocol):
    """The lifecycle as the declarer sees it."""

    async def create(self, account: str, definition: StrategyDefinition, *, source: str = "") -> Strategy: ...

    async def deploy(
        self, account: str, id: str, *, capital: Decimal | None, leverage: int | None, dry_run: bool
    ) -> Strategy: ...


@define(eq=False)
class Declarer:
    """Create what is missing and deploy what is still a draft, in the order of the files; then let the market go on.

    A declaration that is refused is logged with its place and leaves the others alone. One that differs from the
    strategy of its name is logged too: `pipaid apply` is how a running strategy is changed.
    """

    account: str
    declarations: Sequence[Declared]
    commands: Commands
    found: Callable[[str, str], Strategy | None]
    wait_for: trio.Event | None
    gate: trio.Event
    refused: dict[str, str] = field(factory=dict[str, str])

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Go through the declarations once."""
        if self.wait_for is not None:
            task_status.started()
            await self.wait_for.wait()
        for declared in self.declarations:
            try:
                await self._declare(declared)
            except PipaidError as refusal:
                self.refused[declared.definition.name] = refusal.message
                get_log().error(
                    "declaration.refused", strategy=declared.definition.name, place=declared.source,
                    code=refusal.code, reason=refusal.message,
                )  # fmt: skip
        self.gate.set()
        if self.wait_for is None:
            task_status.started()

    async def _declare(self, declared: Declared) -> None:
        strategy = self.found(self.account, declared.definition.name)
        if strategy is None:
            strategy = await self.commands.create(self.account, declared.definition, source=declared.source)
        elif strategy.definition != declared.definition:
            get_log().warning("declaration.differs", strategy=declared.definition.name, place=declared.source)
        if declared.deploy and strategy.status is Status.DRAFT:
            await self.commands.deploy(self.account, strategy.id, capital=None, leverage=None, dry_run=declared.dry_run)
