"""Strategy-candles per second of CPU: a day of candles through feed, sessions, risk, journal, gateway and desk."""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import msgspec
import trio

from pipaid.seams import World
from pipaid.venues.venue import Closed
from pipaid.wire.activity import Activity
from tests.bench.child import answer, in_child
from tests.bench.figure import Figure, Goal, Size
from tests.bench.house import House, candle_steps, play, synthetic
from tests.bench.population import declared, ruled, symbols_of

GOAL = Goal(5e6)
# The goal is for so many strategies and candles; how other sizes do says nothing about it.
GOAL_STRATEGIES, GOAL_CANDLES = 1_000, 1_440


class Day(msgspec.Struct, frozen=True, kw_only=True):
    """What one child plays; `every` has each strategy asked at each candle, whatever it would wake for.

    With `rules` they are rule strategies that share their signals.
    """

    strategies: int
    symbols: int
    candles: int
    every: bool = False
    rules: bool = False


def measure(size: Size) -> list[Figure]:
    """Play the day as templates wish to be woken, and a quarter of it with plain callbacks."""
    figures: list[Figure] = []
    plans = (
        (False, False, size.candles, "strategy-candles"),
        (True, False, size.candles // 4, "strategy-candles, plain callbacks"),
        (False, True, size.candles, "strategy-candles, rules that share signals"),
    )
    for every, rules, candles, name in plans:
        day = Day(strategies=size.strategies, symbols=size.symbols, candles=candles, every=every, rules=rules)
        runs = [in_child("sweep", day) for _ in range(size.runs)]
        last = runs[-1]
        note = (
            f"{size.strategies} strategies, {candles} candles, {size.symbols} symbols: {last['calls']:.0f} calls, "
            f"{last['orders']:.0f} orders, {last['fills']:.0f} fills, {last['commits']:.0f} commits, "
            f"{last['records']:.0f} records, {last['computed']:.0f} features computed"
        )
        values = tuple(run["strategy_candles"] / run["cpu_s"] for run in runs)
        whole = not every and not rules and (size.strategies, candles) == (GOAL_STRATEGIES, GOAL_CANDLES)
        figures.append(Figure(name=name, unit="/s CPU", values=values, goal=GOAL if whole else None, note=note))
        if not every and not rules:
            costs = tuple(1e6 * run["cpu_s"] / max(1.0, run["fills"]) for run in runs)
            figures.append(
                Figure(name="all CPU of that day per fill", unit="µs", values=costs, note="sweep, orders, journal")
            )
    return figures


def main(arguments: str) -> None:
    """Play one day and answer with its numbers."""
    day = msgspec.json.decode(arguments, type=Day)
    with tempfile.TemporaryDirectory(prefix="pipaid-bench-") as folder:
        answer(trio.run(_played, day, Path(folder)))


async def _played(day: Day, state: Path) -> dict[str, float]:
    symbols = symbols_of(day.symbols)
    world = World()
    steps = await candle_steps(symbols, world, day.candles)
    prices = await synthetic(symbols, world, Activity()).prices()
    numbers: dict[str, float] = {}

    def began() -> None:
        numbers["cpu_s"] = -time.process_time()

    def over(house: House) -> None:
        numbers["cpu_s"] += time.process_time()
        numbers.update(_counted(house, len([step for step in steps if isinstance(step, Closed)])))

    if day.every:
        _ask_always()
    population = ruled(day.strategies, prices) if day.rules else declared(day.strategies, prices)
    await play(state, population, steps, symbols=symbols, began=began, over=over)
    return numbers


def _ask_always() -> None:
    """Have every template asked at each candle, as an engine without conditions would."""
    from pipaid.engine.template import Wakes
    from templates.breakout import Breakout
    from templates.dca import Dca
    from templates.grid import Grid
    from templates.meanrev import MeanReversion
    from templates.momentum import Momentum

    for template in (Breakout, Dca, Grid, MeanReversion, Momentum):
        template.wakes = lambda _: Wakes(every=True)  # type: ignore[method-assign]


def _counted(house: House, candles: int) -> dict[str, float]:
    sessions = [actor.session for actor in house.roster.employed()]
    assert sessions, "no strategy was deployed"
    return {
        "strategy_candles": len(sessions) * candles,
        "calls": house.feed.swept,
        "orders": sum(session.brain.orders_made for session in sessions),
        "fills": sum(session.brain.tally.fills for session in sessions),
        "positions": sum(len(session.positions) for session in sessions),
        "commits": house.recorder.commits,
        "records": house.recorder.records,
        "computed": house.feed.computed,
    }


if __name__ == "__main__":
    main(sys.argv[1])
