"""How long strategies wait for their candles while every kind of misdeed goes on beside them, and without any."""

from __future__ import annotations

import sys
import tempfile
import time
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator
from decimal import Decimal
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar, Final

import msgspec
import trio
from attrs import frozen

from pipaid.config import Declaration
from pipaid.config import sections as section
from pipaid.model.instrument import Timeframe
from pipaid.plugins import Catalogue
from pipaid.sdk import Intent, Template, View
from pipaid.seams import World
from pipaid.venues.venue import Closed, MarketUpdate
from tests.bench.child import ROOT, answer, in_child
from tests.bench.figure import Figure, Goal, Size, percentile
from tests.bench.house import House, candle_steps, play
from tests.bench.population import symbols_of

GROWTH_MS_MAX: Final = 20.0
CAPITAL: Final = Decimal(5_000)
# What holds the daemon up or breaks its loop ends it, and one huge allocation is met outside of this process.
LETHAL: Final = frozenset({"stall", "unplug", "gorge"})
# Enough for all the others, so that whoever hoards is noticed soon.
MEMORY: Final = section.Guard(memory_mib_max=300, strategy_memory_mib_max=32)
# Two medians may come out the wrong way round.
LEAST_MS: Final = 0.001


class Street(msgspec.Struct, frozen=True, kw_only=True):
    """What one child plays."""

    neighbours: int
    symbols: int
    candles: int
    hostile: bool


@frozen(kw_only=True)
class NoParams:
    """A template without knobs."""


class Listener(Template):
    """Note how long after the close of a candle it is asked."""

    id = "tpl_listener"
    description = "Trades nothing and looks at its watch."
    params_type = NoParams
    closed_s: ClassVar[float] = 0.0
    closed_cpu_s: ClassVar[float] = 0.0
    waited_s: ClassVar[array[float]] = array("d")
    waited_cpu_s: ClassVar[array[float]] = array("d")
    heard: ClassVar[Counter[int]] = Counter()

    def on_start(self, view: View) -> Iterable[Intent]:
        """Begin with the next candle."""
        return ()

    def on_candle(self, view: View) -> Iterable[Intent]:
        """Look at the watch."""
        Listener.waited_s.append(time.monotonic() - Listener.closed_s)
        Listener.waited_cpu_s.append(time.thread_time() - Listener.closed_cpu_s)
        Listener.heard[id(self)] += 1
        return ()


def measure(size: Size) -> list[Figure]:
    """Play the same candles with and without the hostile, by turns."""
    runs: list[tuple[dict[str, float], dict[str, float]]] = []
    for _ in range(size.runs):
        alone, beside = (
            in_child(
                "neighbours",
                Street(
                    neighbours=max(1, size.strategies - 1),
                    symbols=size.symbols,
                    candles=max(2, size.candles // 4),
                    hostile=hostile,
                ),
            )
            for hostile in (False, True)
        )
        runs.append((alone, beside))
    figures: list[Figure] = []
    for unit, name in (("ms", "wall"), ("ms CPU", "cpu")):
        for index, where in enumerate(("among themselves", "beside the hostile")):
            for share in ("p50", "p99"):
                values = tuple(run[index][f"{name}_{share}"] for run in runs)
                figures.append(Figure(name=f"delay of neighbours {where}, {share}", unit=unit, values=values))
        growth = tuple(max(LEAST_MS, beside[f"{name}_p99"] - alone[f"{name}_p99"]) for alone, beside in runs)
        note = f"{runs[-1][1]['kinds']:.0f} kinds beside {max(1, size.strategies - 1)} neighbours, no candle missed"
        goal = Goal(GROWTH_MS_MAX, at_most=True)
        figures.append(Figure(name="by how much p99 grows", unit=unit, values=growth, goal=goal, note=note))
    worst = tuple(beside["wall_max"] for _, beside in runs)
    figures.append(
        Figure(name="longest delay beside the hostile", unit="ms", values=worst, note="at their first misdeed")
    )
    return figures


def main(arguments: str) -> None:
    """Play one street and answer with its delays."""
    street = msgspec.json.decode(arguments, type=Street)
    with tempfile.TemporaryDirectory(prefix="pipaid-bench-") as folder:
        answer(trio.run(_played, street, Path(folder)))


async def _played(street: Street, state: Path) -> dict[str, float]:
    symbols = symbols_of(street.symbols)
    hostile, kinds = _hostile()
    kinds = kinds if street.hostile else ()
    steps = await candle_steps(symbols, World(), street.candles)

    await play(
        state,
        _declared(street, symbols, kinds),
        _watched(steps),
        symbols=symbols,
        began=_nothing,
        over=lambda house: _check(house, street),
        catalogue=Catalogue(templates={Listener.id: Listener, hostile.id: hostile}),
        guard=MEMORY,
    )
    numbers: dict[str, float] = {"kinds": len(kinds)}
    for name, waited in (("wall", Listener.waited_s), ("cpu", Listener.waited_cpu_s)):
        in_ms = [1_000 * each for each in waited]
        numbers |= {f"{name}_p50": percentile(in_ms, 0.5), f"{name}_p99": percentile(in_ms, 0.99)}
        numbers[f"{name}_max"] = max(in_ms)
    return numbers


def _hostile() -> tuple[type[Template], tuple[str, ...]]:
    """Return the template of the tests that does its worst, and the ways in which it does."""
    sys.path.insert(0, str(ROOT / "tests" / "plugin_hostile"))
    module: Any = import_module("hostile_template.hostile")
    return module.Hostile, tuple(kind for kind in (*module.MISDEEDS, *module.OWN) if kind not in LETHAL)


def _declared(street: Street, symbols: tuple[str, ...], kinds: tuple[str, ...]) -> Iterator[Declaration]:
    """Declare the hostile among the neighbours, at equal distances."""
    apart = max(1, street.neighbours // max(1, len(kinds)))
    for number in range(street.neighbours):
        if number % apart == 0 and number // apart < len(kinds):
            kind = kinds[number // apart]
            yield _one(f"hostile {kind}", "tpl_hostile", symbols[0], {"misdeed": kind, "place": "on_candle"})
        yield _one(f"neighbour {number}", Listener.id, symbols[number % len(symbols)], {})


def _one(name: str, template: str, symbol: str, params: dict[str, Any]) -> Declaration:
    return Declaration(
        name=name,
        template_id=template,
        symbols=(symbol,),
        timeframe=Timeframe.M1,
        capital=CAPITAL,
        params=params,
        deploy=True,
        source=f"neighbours:{name}",
    )


def _watched(steps: Iterable[MarketUpdate]) -> Iterator[MarketUpdate]:
    """Start the watch at each close."""
    for step in steps:
        if isinstance(step, Closed):
            Listener.closed_s, Listener.closed_cpu_s = time.monotonic(), time.thread_time()
        yield step


def _check(house: House, street: Street) -> None:
    """Hold the neighbours to have heard of every candle but the first, on which they were deployed."""
    missing = [count for count in Listener.heard.values() if count < street.candles - 1]
    assert len(Listener.heard) == street.neighbours, "not every neighbour was ever asked"
    assert not missing, f"{len(missing)} neighbours missed candles"


def _nothing() -> None:
    """Note no beginning."""


if __name__ == "__main__":
    main(sys.argv[1])
