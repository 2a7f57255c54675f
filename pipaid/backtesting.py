"""Backtests for scripts and notebooks: candles in, a result out that can be read, tabulated and looked at."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from importlib import import_module
from os import PathLike
from pathlib import Path
from typing import Any, Final, Self

import msgspec
import numpy as np
from attrs import evolve, field, frozen
from numpy.typing import ArrayLike

from pipaid.engine.backtest import DRIVERS, SPAN_MS_MAX, Driver, run
from pipaid.engine.fees import FEE_BPS_DEFAULT, TIERS, FeeModel, Fees, Tier
from pipaid.engine.plan import Plan
from pipaid.engine.recorded import by_question
from pipaid.engine.template import Template
from pipaid.errors import InvalidParameter
from pipaid.model import columns
from pipaid.model.backtest import BacktestResult, BacktestTrade, Metrics, result_object
from pipaid.model.consult import RecordedAnswer
from pipaid.model.instrument import Instrument, Timeframe
from pipaid.model.moment import iso_seconds, parse_iso
from pipaid.model.money import ONE, ZERO
from pipaid.model.strategy import StrategyDefinition
from pipaid.model.trades import Trades
from pipaid.plugins import load_templates, template_objections
from pipaid.seams import SystemDisk, World
from pipaid.venues.importing import read_candles, read_trades
from pipaid.venues.schedules import published_fees
from pipaid.venues.symbols import NOTIONAL_MIN, base_and_quote

# Where nothing tells how finely a symbol is traded.
LOT_DECIMALS: Final = 8
NAMES: Final = ("time_ms", "open", "high", "low", "close", "volume")

Amount = Decimal | int | str
Moment = datetime | str | int


@frozen(eq=False, init=False)
class Candles(columns.Candles):
    """Candles of one symbol: `Candles(columns)` or `Candles.from_csv(path)`.

    `columns` maps `time_ms` (UTC milliseconds or datetime64), `open`, `high`, `low`, `close` and, if there is any,
    `volume` to sequences of equal length; a DataFrame does as well.
    """

    def __init__(self, columns_: Any, *, symbol: str = "", timeframe: Timeframe | str | None = None) -> None:
        missing = [name for name in NAMES[:-1] if name not in columns_]
        if missing:
            raise InvalidParameter(f"columns: {', '.join(missing)} missing; needed are {', '.join(NAMES)}")
        given: dict[str, ArrayLike] = {name: np.asarray(columns_[name]) for name in NAMES if name in columns_}
        self._take(columns.Candles.from_rows(symbol or "candles", _timeframe(timeframe), **given))

    @classmethod
    def from_csv(cls, path: str | PathLike[str], *, symbol: str = "", timeframe: Timeframe | str | None = None) -> Self:
        """Read a file of candles or market trades, as `pipaid data import` does; without a symbol its name tells it."""
        made = cls.__new__(cls)
        made._take(read_candles(SystemDisk(), Path(path), symbol=symbol, timeframe=_timeframe(timeframe)))
        return made

    def _take(self, made: columns.Candles) -> None:
        super().__init__(
            made.symbol,
            made.timeframe,
            made.time_ms,
            made.open,
            made.high,
            made.low,
            made.close,
            made.volume,
            made.price_decimals,
            made.volume_decimals,
        )


def trades_from_csv(path: str | PathLike[str], *, symbol: str = "") -> Trades:
    """Read a file of market trades; without a symbol its name tells it."""
    return read_trades(SystemDisk(), Path(path), symbol=symbol)


def answers_from_file(path: str | PathLike[str]) -> tuple[RecordedAnswer, ...]:
    """Read what `pipaid answers` wrote: what models said, a JSON object a line."""
    try:
        lines = SystemDisk().read(Path(path)).splitlines()
    except OSError as trouble:
        raise InvalidParameter(f"answers: {path} cannot be read: {trouble.strerror}") from None
    found: list[RecordedAnswer] = []
    for number, line in enumerate(lines, 1):
        try:
            found.append(msgspec.json.decode(line, type=RecordedAnswer))
        except (msgspec.MsgspecError, UnicodeError, RecursionError) as trouble:
            raise InvalidParameter(f"{path}, line {number}: no recorded answer: {trouble}") from None
    return tuple(found)


@frozen(eq=False)
class Result:
    """What a backtest came to; amounts in quote currency."""

    raw: BacktestResult
    candles: Mapping[str, columns.Candles]

    @property
    def metrics(self) -> Metrics:
        """Return the published figures; one that is infinite is nothing."""
        return self.raw.metrics

    @property
    def trades(self) -> tuple[BacktestTrade, ...]:
        """Return the closed trades, in order."""
        return self.raw.trades

    @property
    def equity_curve(self) -> list[tuple[datetime, Decimal]]:
        """Return the equity at the beginning, at each UTC midnight and at the end."""
        return [(datetime.fromtimestamp(time_ms / 1000, UTC), equity) for time_ms, equity in self.raw.equity_curve]

    def to_dict(self) -> dict[str, Any]:
        """Return the result as the API answers it: decimals as strings, times in ISO 8601."""
        told: dict[str, Any] = msgspec.to_builtins(result_object(self.raw))
        return told

    def to_frame(self) -> Any:
        """Return the trades as a pandas DataFrame, a row each."""
        try:
            pandas: Any = import_module("pandas")
        except ImportError:
            raise InvalidParameter("a frame needs pandas: pip install pandas") from None
        rows = [msgspec.structs.asdict(trade) for trade in self.trades]
        frame = pandas.DataFrame(rows, columns=BacktestTrade.__struct_fields__)
        for name in ("entry_time", "exit_time"):
            frame[name] = pandas.to_datetime(frame.pop(f"{name}_ms"), unit="ms", utc=True)
        for name in ("entry_price", "exit_price", "qty", "pnl", "fee"):
            frame[name] = frame[name].astype(float)
        return frame

    def report(self, path: str | PathLike[str]) -> Path:
        """Write the report, one HTML file that needs no network; needs plotly."""
        pages: Any = import_module("pipaid.reporting.page")
        pages.write_report(self.raw, self.candles, Path(path))
        return Path(path)


@frozen(kw_only=True, eq=False)
class Backtest:
    """One strategy to be played over recorded candles.

    `template` is a class, or the id of an installed one; `candles` are of its timeframe or of a smaller one, by symbol,
    and all played in the longest that any symbol has. With market `trades` of each symbol these are what orders meet,
    and the candles are the minutes they make, unless others are given. Without `start` and `end` all candles are
    played; candles before `start` are history. `funding` maps a symbol to
    the moments (UTC ms) and rates at which it fell due; `instruments` say how finely a symbol is traded (default: as
    finely as its candles are told, in steps of 1e-8 without volumes). `tiers` are for `tiered_maker_taker` alone,
    `venue` is the one that `match_exchange` charges like. `answers` are what models said once: nobody is asked anew,
    and where none was recorded nothing is done, which the result counts as refused by `llm_unrecorded`.
    """

    template: type[Template] | str
    candles: Mapping[str, columns.Candles] = field(factory=dict[str, columns.Candles])
    trades: Mapping[str, Trades] = field(factory=dict[str, Trades])
    params: Mapping[str, Any] = field(factory=dict[str, Any])
    timeframe: Timeframe | str | None = None
    capital: Amount = Decimal(10_000)
    leverage: int = 1
    fee_model: FeeModel = "fixed_bps"
    fee_bps: Amount = FEE_BPS_DEFAULT
    slippage_bps: Amount = ZERO
    tiers: Sequence[Tier] = TIERS
    venue: str = ""
    start: Moment | None = None
    end: Moment | None = None
    funding: Mapping[str, Sequence[tuple[int, Decimal]]] = field(factory=dict[str, Any])
    instruments: Mapping[str, Instrument] = field(factory=dict[str, Instrument])
    answers: Sequence[RecordedAnswer] = ()
    name: str = "backtest"

    def run(self, *, driver: Driver = "auto", on_progress: Callable[[float], object] = lambda _: None) -> Result:
        """Play it; `driver` forces a way of playing, which never changes the result."""
        if driver not in DRIVERS:
            raise InvalidParameter(f"driver: must be one of {', '.join(DRIVERS)}, got {driver!r:.40}")
        plan = self.plan()
        return Result(run(plan, driver=driver, on_progress=on_progress), plan.candles)

    def plan(self) -> Plan:
        """Return what is to be played, checked."""
        for name, given in (("candles", self.candles), ("trades", self.trades)):
            if not isinstance(given, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance] - a script's mistake
                raise InvalidParameter(f'{name}: map each symbol to its own, such as {{"BTCUSDT": {name}}}')
        trades = {symbol: _trades_of(each, symbol) for symbol, each in self.trades.items()}
        candles = {symbol: _of(each, symbol) for symbol, each in self.candles.items()}
        candles |= {symbol: each.candles() for symbol, each in trades.items() if symbol not in candles}
        if not candles:
            raise InvalidParameter("candles: none were given; map each symbol to its candles, or to its market trades")
        smallest = min((each.timeframe for each in candles.values()), key=lambda each: each.ms)
        timeframe = _timeframe(self.timeframe) or smallest
        begin_ms = max(min(int(each.time_ms[0]) for each in candles.values()), _moment("start", self.start, 0))
        last_ms = max(int(each.time_ms[-1]) + each.timeframe.ms for each in candles.values())
        # Both ends are played: a candle that opens at `end` is the last one.
        wanted_ms = last_ms - 1 if self.end is None else _moment("end", self.end, 0)
        # Candles that are given may be made up, and of any time.
        if self.end is not None and wanted_ms > World().clock.now_us() // 1000:
            raise InvalidParameter(
                f"end: {iso_seconds(wanted_ms)} is in the future; nobody knows what happens until then"
            )
        end_ms = min(last_ms, wanted_ms + 1)
        _check_span(self.start, begin_ms, end_ms)
        template = self.template_class()
        return Plan(
            definition=StrategyDefinition(
                name=self.name,
                template_id=template.id,
                params=dict(self.params),
                symbols=tuple(candles),
                timeframe=timeframe,
                capital=_amount("capital", self.capital),
                leverage=self.leverage,
            ),
            template=template,
            candles=candles,
            instruments={symbol: self.instruments.get(symbol) or inferred(each) for symbol, each in candles.items()},
            begin_ms=begin_ms,
            end_ms=end_ms,
            fees=Fees(
                model=self.fee_model,
                fee_bps=_amount("fee_bps", self.fee_bps),
                slippage_bps=_amount("slippage_bps", self.slippage_bps),
                tiers=tuple(self.tiers),
                venue=published_fees(self.venue) if self.fee_model == "match_exchange" else None,
            ),
            funding=self.funding,
            trades=trades,
            answers=by_question(self.answers),
        )

    def template_class(self) -> type[Template]:
        """Return the template, looked up if it was named; raise InvalidParameter if there is none or it is none."""
        if isinstance(self.template, str):
            return load_templates().get(self.template)
        trouble = next(template_objections(self.template), None)
        if trouble is not None:
            raise InvalidParameter(f"template: {trouble}")
        return self.template


def inferred(candles: columns.Candles) -> Instrument:
    """Return an instrument that is traded as finely as its candles are told."""
    base, quote = base_and_quote(candles.symbol)
    lot = ONE.scaleb(-candles.volume_decimals if np.any(candles.volume) else -LOT_DECIMALS)
    return Instrument(
        symbol=candles.symbol,
        base=base,
        quote=quote,
        tick_size=ONE.scaleb(-candles.price_decimals),
        lot_size=lot,
        quantity_min=lot,
        notional_min=NOTIONAL_MIN,
    )


def _of(candles: columns.Candles, symbol: str) -> columns.Candles:
    if not isinstance(candles, columns.Candles):  # pyright: ignore[reportUnnecessaryIsInstance] - a script's mistake
        raise InvalidParameter(f"candles of {symbol}: give Candles(columns) or Candles.from_csv(path)")
    if not len(candles):
        raise InvalidParameter(f"candles of {symbol}: there are none")
    picked = [getattr(candles, name) for name in columns.COLUMNS]
    return columns.Candles.of(
        symbol,
        candles.timeframe,
        picked,
        price_decimals=candles.price_decimals,
        volume_decimals=candles.volume_decimals,
    )


def _trades_of(trades: Trades, symbol: str) -> Trades:
    if not isinstance(trades, Trades):  # pyright: ignore[reportUnnecessaryIsInstance] - a script's mistake
        raise InvalidParameter(f"trades of {symbol}: give Trades.from_rows(…) or trades_from_csv(path)")
    if not len(trades):
        raise InvalidParameter(f"trades of {symbol}: there are none")
    return evolve(trades, symbol=symbol)


def _check_span(start: Moment | None, begin_ms: int, end_ms: int) -> None:
    if end_ms <= begin_ms:
        raise InvalidParameter(
            f"start: {iso_seconds(begin_ms) if start is None else start} is not before the end, {iso_seconds(end_ms)}"
        )
    if end_ms - begin_ms > SPAN_MS_MAX:
        raise InvalidParameter(
            f"start: from {iso_seconds(begin_ms)} to {iso_seconds(end_ms)} are more than 5 years; play them in parts"
        )


def _timeframe(given: Timeframe | str | None) -> Timeframe | None:
    if given is None:
        return None
    if given not in list(Timeframe):
        raise InvalidParameter(f"timeframe: must be one of {', '.join(Timeframe)}, got {given!r:.40}")
    return Timeframe(given)


def _moment(name: str, given: Moment | None, otherwise: int) -> int:
    if given is None:
        return otherwise
    if isinstance(given, int):
        return given
    if isinstance(given, datetime):
        if given.tzinfo is None:
            raise InvalidParameter(f"{name}: {given} has no time zone; give datetime(…, tzinfo=UTC)")
        return round(given.timestamp() * 1000)
    try:
        return parse_iso(given)
    except (TypeError, ValueError):
        raise InvalidParameter(f"{name}: {given!r:.40} is no moment; give 2026-01-31 or 2026-01-31T12:00:00Z") from None


def _amount(name: str, given: Amount) -> Decimal:
    try:
        amount = Decimal(given)
    except (InvalidOperation, TypeError, ValueError):
        raise InvalidParameter(f"{name}: {given!r:.40} is no number") from None
    if not amount.is_finite() or isinstance(given, float):
        raise InvalidParameter(f"{name}: {given!r:.40} is no exact number; give a Decimal, an int or a string")
    return amount
