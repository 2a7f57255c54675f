"""The backtest of a declared or running strategy, as a person sees it: what to play, how far it is, what came of it."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Final

import msgspec
from attrs import field, frozen
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from pipaid.backtesting import Backtest, Result, answers_from_file
from pipaid.cli.checking import chosen
from pipaid.cli.drawing import drawn
from pipaid.cli.jobs import last_trades, metric_facts
from pipaid.cli.naming import strategy_id
from pipaid.cli.replaying import replay
from pipaid.cli.sheet import Heading, Kind, Sheet, moment
from pipaid.cli.terminal import Terminal, leaving_cleanly
from pipaid.config import load_config, load_declarations
from pipaid.engine.assembly import first_read_ms, larger_timeframes
from pipaid.engine.backtest import DRIVERS, SPAN_MS_MAX, Driver
from pipaid.engine.fees import FEE_MODELS, TIERS, Tier
from pipaid.errors import InvalidParameter, NotFound
from pipaid.model.backtest import result_object
from pipaid.model.columns import Candles
from pipaid.model.instrument import Timeframe
from pipaid.model.moment import iso_seconds, parse_iso
from pipaid.model.reply import StrategyObject
from pipaid.model.strategy import StrategyDefinition
from pipaid.plugins import load_templates
from pipaid.seams import SystemDisk, World
from pipaid.storage.candles import CandleStore, Header
from pipaid.venues.recorded import load_funding

SUFFIX: Final = ".toml"
REPLAY: Final = "replay"
TIERED: Final = "tiered_maker_taker"
NAMED_FILE: Final = re.compile("(?P<symbol>[A-Z0-9]{2,20})=(?P<path>.+)", re.ASCII)


@frozen
class Charges:
    """What was typed about what trading costs."""

    fee_model: str = "fixed_bps"
    fee_bps: str = "5"
    slippage_bps: str = "0"
    funding: tuple[str, ...] = field(default=(), kw_only=True)
    config: Path | None = field(default=None, kw_only=True)

    def tiers(self) -> tuple[Tier, ...]:
        """Return the tiers of the configuration, if they are asked for."""
        return load_config(chosen(self.config), World()).backtest.tiers if self.fee_model == TIERED else TIERS

    def rates(self, symbols: Sequence[str]) -> dict[str, list[tuple[int, Decimal]]]:
        """Return the funding rates of symbols that the files hold."""
        files: dict[Path, str] = {}
        disk = SystemDisk()
        for text in self.funding:
            match = NAMED_FILE.fullmatch(text)
            found = disk.find(match["path"] if match else text)
            if not found:
                raise NotFound(f"--funding: there is no file {text}")
            files.update(dict.fromkeys(found, match["symbol"] if match else ""))
        return load_funding(disk, files, symbols)


@frozen(kw_only=True)
class Asked:
    """What was typed about how to play."""

    since: str
    until: str
    venue: str
    store: CandleStore
    charges: Charges = field(factory=Charges)
    driver: str = "auto"
    capital: str = ""
    report: Path | None = None
    answers: Path | None = None


def play(terminal: Terminal, what: str, name: str, asked: Asked) -> None:
    """Play a strategy over the candles that are at hand, and show what came of it."""
    if asked.report is not None:
        _check_report(asked.report)
    definition = definition_of(terminal, what, name)
    driver = None if asked.driver == REPLAY else _driver(asked.driver)
    backtest = backtest_of(definition, asked)
    with leaving_cleanly(), _shown_progress(terminal, definition.name) as told:
        result = replay(terminal, backtest, told) if driver is None else backtest.run(driver=driver, on_progress=told)
    if asked.report is not None:
        result.report(asked.report)
    if terminal.as_json:
        terminal.say_json(msgspec.json.encode(result_object(result.raw)))
    else:
        _show(terminal, definition, result)
        if asked.report is not None:
            terminal.say(f"report: {asked.report}")


def backtest_of(definition: StrategyDefinition, asked: Asked) -> Backtest:
    """Return the backtest of a strategy over the candles that are at hand."""
    charges = asked.charges
    if charges.fee_model not in FEE_MODELS:
        raise InvalidParameter(f"--fee-model {charges.fee_model!r:.40}: one of {', '.join(FEE_MODELS)} expected")
    headers = {symbol: _header(definition, symbol, asked) for symbol in definition.symbols}
    template = load_templates().get(definition.template_id)
    timeframes = (definition.timeframe, *larger_timeframes(definition, template))
    return Backtest(
        template=definition.template_id,
        params=definition.params,
        candles={symbol: _candles(header, timeframes, asked) for symbol, header in headers.items()},
        timeframe=definition.timeframe,
        capital=asked.capital or definition.capital,
        leverage=definition.leverage,
        fee_model=charges.fee_model,
        fee_bps=charges.fee_bps,
        slippage_bps=charges.slippage_bps,
        tiers=charges.tiers(),
        venue=" and ".join(sorted({header.venue for header in headers.values()})),
        funding=charges.rates(definition.symbols),
        start=_moment("--from", asked.since) if asked.since else None,
        end=_moment("--to", asked.until) if asked.until else None,
        answers=() if asked.answers is None else answers_from_file(asked.answers),
        name=definition.name,
    )


def definition_of(terminal: Terminal, what: str, name: str) -> StrategyDefinition:
    """Return what a file declares, or what a daemon's strategy is."""
    if what.endswith(SUFFIX) or Path(what).is_file():
        if not Path(what).exists():
            raise NotFound(f"there is no file {what}")
        declared = load_declarations([Path(what)], SystemDisk())
        found = [each for each in declared if not name or each.name == name]
        names = ", ".join(repr(each.name) for each in declared[:20])
        if not found:
            raise NotFound(f"{what} declares no strategy {name!r}; it declares {names or 'none'}")
        if len(found) > 1:
            raise InvalidParameter(f"{what} declares {len(found)} strategies; choose one with --name: {names}")
        return found[0].definition
    one = terminal.ask("strategy.get", StrategyObject, id=strategy_id(terminal, what))
    return StrategyDefinition(
        name=one.name,
        template_id=one.template_id,
        params=one.params,
        symbols=one.symbols,
        timeframe=Timeframe(one.timeframe),
        capital=Decimal(one.capital),
        leverage=one.leverage,
    )


def _driver(text: str) -> Driver:
    for driver in DRIVERS:
        if driver == text:
            return driver
    raise InvalidParameter(f"--driver {text!r:.40}: one of {', '.join((*DRIVERS, REPLAY))} expected")


def _check_report(path: Path) -> None:
    """Raise InvalidParameter, before anything is played, where no report could be written."""
    if path.is_dir() or not path.name:
        raise InvalidParameter(f"--report: {path} is a folder; name a file in it, such as {path / 'out.html'}")
    if not path.parent.is_dir():
        raise InvalidParameter(f"--report: there is no folder {path.parent}")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise InvalidParameter(f"--report: nothing can be written in {path.parent}")


def _header(definition: StrategyDefinition, symbol: str, asked: Asked) -> Header:
    """Return which candles of a symbol are played: the smallest there are."""
    found = asked.store.finest(symbol, definition.timeframe, venue=asked.venue)
    if found is None:
        # It says what there is instead.
        asked.store.read(asked.venue or "local", symbol, definition.timeframe)
        raise NotFound(f"there are no candles of {symbol}")
    return found


def _candles(header: Header, timeframes: Sequence[Timeframe], asked: Asked) -> Candles:
    """Read candles, from where the indicators of the first one that is played begin."""
    candles = asked.store.read(header.venue, header.symbol, header.timeframe)
    first_ms, last_ms = int(candles.time_ms[0]), int(candles.time_ms[-1])
    begin_ms = _moment("--from", asked.since) if asked.since else first_ms
    end_ms = _moment("--to", asked.until) + 1 if asked.until else last_ms + 1
    first, last = iso_seconds(first_ms), iso_seconds(last_ms)
    whose = f"candle of {header.symbol} at {header.venue}"
    if end_ms <= begin_ms and not asked.until:
        raise InvalidParameter(f"--from: {asked.since} is after the last {whose}, which is of {last}")
    if end_ms <= begin_ms and not asked.since:
        raise InvalidParameter(f"--to: {asked.until} is before the first {whose}, which is of {first}")
    if end_ms <= begin_ms:
        raise InvalidParameter(f"--from: {asked.since} is not before --to {asked.until}")
    if asked.until and end_ms > World().clock.now_us() // 1_000:
        raise InvalidParameter(f"--to: {asked.until} is in the future; nobody knows what happens until then")
    if not len(candles.between(begin_ms, end_ms)):
        raise NotFound(
            f"no candle of {header.symbol} lies between {iso_seconds(begin_ms)} and {iso_seconds(end_ms)}: those of "
            f"{header.venue} reach from {first} to {last}"
        )
    # More than there is of them is not played.
    begin_ms, end_ms = max(begin_ms, first_ms), min(end_ms, last_ms + 1)
    if end_ms - begin_ms > SPAN_MS_MAX:
        begin, end = iso_seconds(begin_ms), iso_seconds(end_ms)
        raise InvalidParameter(f"--from: {begin} to {end} are more than 5 years; play them in parts")
    return candles.between(first_read_ms(timeframes, begin_ms), end_ms)


@contextmanager
def _shown_progress(terminal: Terminal, name: str) -> Generator[Callable[[float], object]]:
    quiet = terminal.as_json or not terminal.console.is_terminal
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:3.0f} %"))
    with Progress(*columns, TimeRemainingColumn(), console=terminal.console, transient=True, disable=quiet) as progress:
        task = progress.add_task(name, total=1.0)
        yield lambda share: progress.update(task, completed=share)


def _show(terminal: Terminal, definition: StrategyDefinition, result: Result) -> None:
    raw, told = result.raw, result_object(result.raw)
    config = raw.config
    title = f"{definition.name}: {config['template_id']} on {', '.join(definition.symbols)} {definition.timeframe}"
    final, capital = raw.equity_curve[-1][1], raw.equity_curve[0][1]
    facts: list[tuple[str, str]] = [
        ("from", moment(config["start"])),
        ("to", moment(config["end"])),
        ("candles", str(raw.candles)),
        ("capital", config["capital"]),
        ("equity at the end", f"{final:.2f}"),
        ("return", f"{(final - capital) / capital:.2%}"),
        *metric_facts(told),
        ("fills", str(len(raw.fills))),
    ]
    if raw.funding:
        facts.append(("funding", f"{raw.funding:+.2f}"))
    if raw.refusals:
        facts.append(("refused entries", ", ".join(f"{count} by {rule}" for rule, count in raw.refusals.items())))
    headings = (Heading("FIELD", Kind.FAINT, 0), Heading("VALUE", Kind.PROSE, 0))
    terminal.show(
        drawn(
            [
                Sheet(title, headings, tuple(facts), headed=False),
                *last_trades(told, "--json and --report have them all"),
            ]
        )
    )


def _moment(option: str, text: str) -> int:
    try:
        return parse_iso(text)
    except ValueError:
        raise InvalidParameter(
            f"{option} {text!r:.40}: a date such as 2026-01-31 or 2026-01-31T12:00 expected"
        ) from None
