"""A template that remembers what it was told, on a bench of its own."""

from __future__ import annotations

from typing import Any

import msgspec

from pipaid.engine.template import View
from pipaid.model.strategy import Status
from tests.builders import Bench, make_bench, plan, scripted


class Heard:
    """Remember what a template was told, and wish nothing."""

    def __init__(self) -> None:
        self.said: list[tuple[str, Any]] = []

    def __call__(self, name: str, *wishes: Any) -> Any:
        def callback(view: View, fact: Any = None) -> tuple[Any, ...]:
            self.said.append((name, fact))
            return wishes

        return callback

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.said]


def listening(*wishes: Any, **more: Any) -> tuple[Bench, Heard]:
    """Make a bench whose template wishes once and then hears of everything."""
    heard = Heard()
    template = scripted(
        on_candle=plan(wishes),
        on_opened=heard("opened"),
        on_closed=heard("closed"),
        on_entry_lost=heard("lost"),
    )
    bench = make_bench(template, **more)
    bench.close()
    return bench, heard


def become(bench: Bench, status: Status, **more: Any) -> None:
    changed = msgspec.structs.replace(bench.session.strategy, status=status)
    bench.strategy = changed
    bench.settle(bench.session.become(changed, **more))
