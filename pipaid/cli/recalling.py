"""What models answered a strategy, out of the evaluations that its daemon keeps."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from pipaid.cli.naming import strategy_id
from pipaid.cli.terminal import Terminal
from pipaid.engine.recorded import is_replayed, recorded_in
from pipaid.model.reply import RunObject, RunPage
from pipaid.model.request import LIMIT_MAX


def recalled(terminal: Terminal, typed: str) -> Iterator[bytes]:
    """Yield each answer as JSON, the oldest first; those on other accounts are of the strategies that follow it."""
    own = strategy_id(terminal, typed)
    for run in reversed([run for run in _runs(terminal, own) if run.strategy_id == own]):
        steps = terminal.ask("run.get", RunObject, id=run.id).steps
        if steps is not msgspec.UNSET and is_replayed(run.cause):
            yield from map(msgspec.json.encode, recorded_in(run.symbol, steps))


def _runs(terminal: Terminal, id: str) -> Iterator[RunObject]:
    cursor: str | None = None
    while True:
        page = terminal.ask("strategy.runs", RunPage, id=id, limit=LIMIT_MAX, cursor=cursor)
        yield from page.data
        cursor = page.next_cursor
        if cursor is None:
            return
