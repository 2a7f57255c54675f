"""The feed asks those whose prices have come: in order, once, whoever crashes and wherever it is cut off."""

from __future__ import annotations

import gc
import random
from collections.abc import Callable, Generator, Iterable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from attrs import frozen

from actors.actor import OrderNews
from actors.strategy import StrategyActor
from pipaid.engine.template import Alarm, Enter, Exit, Intent, Template, View, Wakes
from pipaid.model.position import CloseReason, Direction
from pipaid.model.strategy import Status, Strategy
from pipaid.sdk import decimal_param
from templates.dca import Dca
from tests.actors.lives import Cut, Life, Minute, kept, minute, recording
from tests.builders import OTHER, SYMBOL, make_definition, make_strategy

Hearing = Callable[[int, Decimal], Iterable[Intent]]


@frozen(kw_only=True)
class LevelParams:
    """The level at which a strategy wants to be asked, which is also its name."""

    below: Decimal = decimal_param("Level", above="0")


def waiting(hear: Hearing) -> type[Template]:
    """Make a template that waits for its level from the start, and has a test hear of it: when, and at which level."""

    class Waiting(Template):
        """Waits."""

        id = "tpl_waiting"
        description = "Waits for a price."
        params_type = LevelParams
        params: LevelParams

        def wakes(self) -> Wakes:
            return Wakes()

        def on_start(self, view: View) -> Iterable[Intent]:
            return [Alarm(symbol=view.symbol, below=self.params.below)]

        def on_price(self, view: View, level: Decimal) -> Iterable[Intent]:
            return hear(view.now_ms, level)

    return Waiting


def strategies(levels: Sequence[Decimal]) -> list[Strategy]:
    """Make a strategy for each level, numbered in this order."""
    return [
        numbered(number, template_id="tpl_waiting", params={"below": str(level)})
        for number, level in enumerate(levels, start=1)
    ]


def numbered(number: int, **fields: Any) -> Strategy:
    definition = make_definition(**{"name": f"strategy {number}", "capital": Decimal(100_000), **fields})
    return make_strategy(definition, id=f"strat_{number:08x}", number=number)


@pytest.fixture
def uncollected() -> Generator[None]:
    """Keep the collector, which has all of pytest to walk here, off the budgets."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("uncollected")
async def test_of_a_thousand_only_the_touched_are_asked_once_and_by_number(tmp_path: Path) -> None:
    levels = [Decimal(9_995 - 5 * each) / 100 for each in range(1_000)]
    random.Random(5).shuffle(levels)
    heard: list[tuple[int, Decimal]] = []

    def hear(now_ms: int, level: Decimal) -> tuple[()]:
        heard.append((now_ms, level))
        return ()

    candles = [minute("100"), minute("100", "100", "99", "99.5"), minute("99.5"), minute("95", "96", "95", "96")]
    recorded = recording({SYMBOL: [*candles, minute("95", "97", "94.8", "97"), minute("97")]})
    life = Life(tmp_path, recorded, {"tpl_waiting": waiting(hear)})
    await life.run(strategies(levels))

    ranged = [level for level in levels if level >= 99]
    gapped = [level for level in levels if 95 <= level < 99]
    further = [level for level in levels if Decimal("94.8") <= level < 95]
    assert [level for _, level in heard] == ranged + gapped + further
    assert len({now_ms for now_ms, _ in heard}) == 3
    assert life.feed.swept == len(heard) == 104


async def test_who_is_busy_is_asked_as_soon_as_it_is_free(tmp_path: Path) -> None:
    heard: list[Decimal] = []

    def hear(_: int, level: Decimal) -> tuple[()]:
        heard.append(level)
        other = life.roster.members["strat_00000002"].actor
        if level == 90:
            assert isinstance(other, StrategyActor)
            other.tell(OrderNews(()))
        return ()

    life = Life(
        tmp_path, recording({SYMBOL: [minute("100"), minute("80"), minute("95")]}), {"tpl_waiting": waiting(hear)}
    )
    await life.run(strategies([Decimal(90), Decimal(89), Decimal(88)]))

    assert heard == [Decimal(90), Decimal(88), Decimal(89)]


async def test_the_crash_of_one_is_nobody_elses_and_loses_no_alarm(tmp_path: Path) -> None:
    heard: list[Decimal] = []

    def hear(_: int, level: Decimal) -> tuple[()]:
        heard.append(level)
        if level == 89 and heard.count(level) == 1:
            raise ZeroDivisionError
        return ()

    life = Life(
        tmp_path, recording({SYMBOL: [minute("100"), minute("80"), minute("95")]}), {"tpl_waiting": waiting(hear)}
    )
    await life.run(strategies([Decimal(90), Decimal(89), Decimal(88)]))

    assert heard == [Decimal(90), Decimal(89), Decimal(88), Decimal(89)]
    assert life.roster.members["strat_00000002"].restarts == 1


async def test_who_crashes_at_its_price_again_and_again_is_given_up(tmp_path: Path) -> None:
    heard: list[Decimal] = []

    def hear(_: int, level: Decimal) -> tuple[()]:
        heard.append(level)
        if level == 89:
            raise ZeroDivisionError
        return ()

    minutes = [minute("100"), minute("80"), *[minute("80")] * 20]
    life = Life(tmp_path, recording({SYMBOL: minutes}), {"tpl_waiting": waiting(hear)})
    await life.run(strategies([Decimal(90), Decimal(89), Decimal(88)]))

    assert life.roster.members["strat_00000002"].strategy.status is Status.ERROR
    assert heard.count(Decimal(90)) == heard.count(Decimal(88)) == 1


# Cuts.


class Ladder(Template):
    """Buys a lot each time the price has fallen by two, and leaves the oldest each time it has risen by two."""

    id = "tpl_ladder"
    description = "Trades on alarms alone."
    params_type = LevelParams
    params: LevelParams

    def wakes(self) -> Wakes:
        """Sleep through all candles."""
        return Wakes()

    def on_start(self, view: View) -> Iterable[Intent]:
        """Wait on both sides of where it begins."""
        return [self._next(view, self.params.below + 2)]

    def on_price(self, view: View, level: Decimal) -> Iterable[Intent]:
        """Trade, and wait on both sides of what was touched."""
        yield self._next(view, level)
        if level < view.price or not view.positions:
            yield Enter(symbol=view.symbol, direction=Direction.LONG, quantity=Decimal(1), tag=f"at {level}")
        else:
            yield Exit(position_id=view.positions[0].id, reason=CloseReason.TAKE_PROFIT)

    def _next(self, view: View, level: Decimal) -> Alarm:
        return Alarm(symbol=view.symbol, below=level - 2, above=level + 2)


def walk(seed: int, count: int) -> list[Minute]:
    """Make candles that wander around a hundred, with gaps between them."""
    chance = random.Random(seed)
    minutes: list[Minute] = []
    close = 100.0
    for _ in range(count):
        opened = close + chance.choice((0, 0, 0, -3, 3)) + (100 - close) / 10
        close = opened + chance.uniform(-2, 2)
        low, high = min(opened, close) - chance.uniform(0, 2), max(opened, close) + chance.uniform(0, 2)
        minutes.append(minute(*(f"{price:.1f}" for price in (opened, high, low, close))))
    return minutes


def traders() -> list[Strategy]:
    averaging = {"interval": "5m", "buy_amount": "500", "take_profit_pct": "0.02", "stop_loss_pct": "0.03"}
    return [
        numbered(1, template_id="tpl_dca", params=averaging, symbols=(SYMBOL, OTHER)),
        numbered(2, template_id="tpl_ladder", params={"below": "98"}),
    ]


@pytest.mark.parametrize("seed", [1, 4])
async def test_no_cut_before_or_after_a_commit_changes_what_alarms_lead_to(tmp_path: Path, seed: int) -> None:
    recorded = recording({SYMBOL: walk(seed, 14), OTHER: walk(seed + 1, 14)})
    templates: dict[str, type[Template]] = {"tpl_dca": Dca, "tpl_ladder": Ladder}
    counting = Cut(at=0, after=False)
    assert await Life(tmp_path / "whole", recorded, templates, counting).run(traders())
    wanted = durable(tmp_path / "whole")
    reasons = [row["reason"] for (entity, _), row in wanted.items() if entity == "position" and row.get("reason")]
    assert {"take_profit", "stop_loss"} == set(reasons)

    for at in range(1, counting.commits + 1):
        cut = Cut(at=at, after=bool(at % 2))
        folder = tmp_path / f"cut {at}"
        ended = await Life(folder, recorded, templates, cut).run(traders())
        while not ended:
            ended = await Life(folder, recorded, templates).run()

        assert durable(folder) == wanted, cut


def durable(folder: Path) -> dict[tuple[str, str], Any]:
    """Return what strategies left in a journal, but for how long they took to think."""
    rows = kept(folder)
    for (entity, _), row in rows.items():
        if entity == "run":
            for timed in (row, *row["steps"]):
                timed.pop("duration_us", None)
    return rows
