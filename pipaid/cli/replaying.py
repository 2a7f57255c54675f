"""A backtest by a whole daemon: it replays the candles in a temporary directory, and its journal tells the rest."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Final, TypeVar

import msgspec
from attrs import evolve

from pipaid.backtesting import Backtest, Result
from pipaid.cli.child import Child, directory, running
from pipaid.cli.offline import JOURNAL_NAME
from pipaid.cli.terminal import Terminal
from pipaid.config.fields import shown
from pipaid.config.layers import PREFIX
from pipaid.engine.definition import check_definition
from pipaid.engine.plan import Plan
from pipaid.engine.recollecting import Journaled, recollected
from pipaid.errors import BacktestFailed, InvalidParameter
from pipaid.model.instrument import Instrument, Timeframe
from pipaid.model.moment import iso_seconds, parse_iso
from pipaid.model.money import ZERO, plain
from pipaid.model.order import BookedFill, Order
from pipaid.model.position import Position
from pipaid.model.reply import StrategyObject
from pipaid.model.report import DaemonStatus, Metrics
from pipaid.seams import Disk, SystemDisk
from pipaid.storage.reading import SqliteReader
from pipaid.venues.exporting import csv_rows

T = TypeVar("T")

REFUSED: Final = "pipaid_entries_refused_total{"
RULE: Final = re.compile('rule="(?P<rule>[^"]*)"')
# A backtest knows the caps of its strategy alone, and nobody who would be kept waiting by it.
CAPS_OFF: Final = (
    "order_notional_max", "open_orders_max", "identical_orders_per_minute_max", "drawdown_pct_max", "price_collar_pct",
    "leverage_max",
)  # fmt: skip


def replay(terminal: Terminal, backtest: Backtest, on_progress: Callable[[float], object]) -> Result:
    """Play a backtest through a daemon that is started for it, and is gone afterwards with all that it kept."""
    plan = backtest.plan()
    _check(plan)
    # What is set for somebody's daemon is not meant for this one.
    own = {name: text for name, text in terminal.variables.items() if not name.startswith(PREFIX)}
    with directory(None, "pipaid-replay-") as folder:
        config = _laid_out(plan, folder)
        with running(evolve(terminal, variables=own), config, folder / "state") as child:
            child.wait_until_ready()
            strategy = _played(child, plan, on_progress)
            refusals = _refusals(child)
        return Result(recollected(plan, _journaled(folder / "state", strategy, refusals)), plan.candles)


def _check(plan: Plan) -> None:
    check_definition(plan.definition, plan.template, plan.instruments)
    for symbol in plan.definition.symbols:
        timeframe = plan.candles[symbol].timeframe
        if timeframe is not Timeframe.M1:
            raise InvalidParameter(f"driver: a replay plays 1m candles, and those of {symbol} are {timeframe}")
    if plan.trades:
        raise InvalidParameter("driver: a replay plays candles, and these are market trades; choose another driver")
    if plan.answers:
        raise InvalidParameter("driver: a replay asks models, and these have answered; choose another driver")
    if plan.fees.moves:
        raise InvalidParameter(f"driver: the desk of a replay charges no {plan.fees.model}; choose another fee model")


def _played(child: Child, plan: Plan, on_progress: Callable[[float], object]) -> StrategyObject:
    """Wait until the daemon has played everything; raise BacktestFailed where its strategy ended in error."""
    while True:
        status = child.terminal.ask("status", DaemonStatus)
        # A daemon that is ready may still have to read its declarations; its market waits for that.
        strategy = next(iter(child.terminal.strategies()), None)
        if strategy is not None and strategy.error is not None:
            raise BacktestFailed(f"{strategy.template_id} failed at {strategy.error.at}: {strategy.error.message}")
        if status.market.ended:
            if strategy is None:
                raise BacktestFailed(f"the daemon did not take {plan.template.id}; without --driver, you may learn why")
            on_progress(1.0)
            return strategy
        if status.venue_time is not None:
            gone_ms = parse_iso(status.venue_time) - plan.begin_ms
            on_progress(max(0.0, min(1.0, gone_ms / (plan.end_ms - plan.begin_ms))))
        child.rest()


def _refusals(child: Child) -> dict[str, int]:
    """Return how many entries which rule refused."""
    counts: dict[str, int] = {}
    for name, count in child.terminal.ask("metrics", Metrics).data.items():
        match = RULE.search(name) if name.startswith(REFUSED) else None
        if match is not None and count:
            counts[match["rule"]] = counts.get(match["rule"], 0) + int(count)
    return counts


def _journaled(state: Path, strategy: StrategyObject, refusals: dict[str, int]) -> Journaled:
    reader = SqliteReader(state / JOURNAL_NAME)
    with closing(reader):

        def rows(entity: str, kind: type[T]) -> list[T]:
            return [msgspec.json.decode(row.data, type=kind) for row in reader.rows(entity, owner=strategy.id)]

        return Journaled(
            fills=[booked.fill for booked in rows("fill", BookedFill)],
            positions=rows("position", Position),
            orders=rows("order", Order),
            refusals=refusals,
        )


# What the daemon is given.


def _laid_out(plan: Plan, folder: Path) -> Path:
    """Write candles, rates, instruments, the strategy and the configuration; return the last."""
    disk = SystemDisk()
    for symbol in plan.definition.symbols:
        candles, rates = plan.candles[symbol], plan.funding.get(symbol, ())
        _write(disk, folder / f"{symbol}-1m-played.csv", csv_rows(candles.between(0, plan.end_ms)))
        funding = [f"{time_ms},{plain(rate)}" for time_ms, rate in rates]
        _write(disk, folder / f"{symbol}-funding-played.csv", ["funding_time_ms,funding_rate", *funding])
    _write(
        disk, folder / "instruments.csv", _instrument_rows(plan.instruments[each] for each in plan.definition.symbols)
    )
    _write(disk, folder / "strategy.toml", _declared(plan))
    config = folder / "pipaid.toml"
    _write(disk, config, _configured(plan))
    return config


def _write(disk: Disk, path: Path, lines: Iterable[str]) -> None:
    disk.write_atomically(path, "".join(f"{line}\n" for line in lines).encode())


def _instrument_rows(instruments: Iterable[Instrument]) -> Iterator[str]:
    yield "symbol,type,minimum_price_variation,lot_size,minimum_order_size"
    for each in instruments:
        yield ",".join((each.symbol, "played", *map(plain, (each.tick_size, each.lot_size, each.notional_min))))


def _declared(plan: Plan) -> list[str]:
    definition = plan.definition
    keys = {
        "name": definition.name,
        "template_id": plan.template.id,
        "symbols": definition.symbols,
        "timeframe": definition.timeframe.value,
        "capital": definition.capital,
        "leverage": definition.leverage,
        "deploy": True,
        "dry_run": True,
        "params": dict(definition.params),
    }
    return ["[[strategy]]", *(f"{key} = {shown(value)}" for key, value in keys.items())]


def _configured(plan: Plan) -> list[str]:
    terms = plan.fees.terms(ZERO)
    off = [f'{name} = "off"' for name in CAPS_OFF]
    return [
        "[daemon]", 'strategies = ["strategy.toml"]',
        "[market]", 'kind = "replay"', 'speed = "max"', "symbols = []", 'files = ["*-1m-played.csv"]',
        'funding_files = ["*-funding-played.csv"]', 'instruments_file = "instruments.csv"',
        f'start = "{iso_seconds(plan.begin_ms)}"',
        "[desk]", f"maker_bps = {shown(terms.maker_bps)}", f"taker_bps = {shown(terms.taker_bps)}",
        f"slippage_bps = {shown(terms.slippage_bps)}", 'fill_ratio_max = "off"',
        "[stream]", "enabled = false",
        "[http]", 'mode = "off"',
        "[supervision]", "restarts_max = 0",
        "[guard]", "budget_ms = 1000", "blocked_ms = 5000",
        "[risk.account]", *off, "[risk.daemon]", *off,
    ]  # fmt: skip
