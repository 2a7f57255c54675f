"""The loading of recorded data: which files, whose, whether every row can be true, and the instruments they imply."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Final

import numpy as np
from attrs import define, field

from pipaid.errors import InvalidParameter
from pipaid.model.candle import Candle
from pipaid.model.instrument import MINUTE_MS, Instrument, Timeframe
from pipaid.model.money import ONE, ZERO, plain
from pipaid.seams import Disk
from pipaid.venues.files import (
    FAULTS_SHOWN_MAX,
    HOW_TO_GET,
    SYMBOL_IN_NAME,
    Kind,
    Recording,
    Row,
    decimal,
    found,
    recording,
    refuse,
    table,
)
from pipaid.venues.symbols import NOTIONAL_MIN, base_and_quote
from pipaid.venues.tape import Tape, candles_of

# More decimals in recorded quantities are noise of the recorder's floating point, not a step of the venue.
LOT_DECIMALS_MAX: Final = 8


@define(eq=False)
class Recorded:
    """Everything a replay plays: candles by symbol; the market trades they were made of, if those were recorded."""

    candles: dict[str, Tape] = field(factory=dict[str, Tape])
    trades: dict[str, Tape] = field(factory=dict[str, Tape])
    funding: dict[str, list[tuple[int, Decimal]]] = field(factory=dict[str, list[tuple[int, Decimal]]])
    instruments: dict[str, Instrument] = field(factory=dict[str, Instrument])


@define(eq=False)
class _Steps:
    """The finest steps seen in a symbol's prices and quantities, as numbers of decimals."""

    price: int = 0
    quantity: int = 0

    def see(self, prices: Sequence[str], quantity: str) -> None:
        self.price = max(self.price, *map(_decimals, prices))
        self.quantity = max(self.quantity, _decimals(quantity))


def load(
    disk: Disk,
    files: Sequence[str],
    *,
    symbols: Sequence[str] = (),
    instruments_file: Path | None = None,
    symbol_in_name: str = SYMBOL_IN_NAME,
) -> Recorded:
    """Read the files that the patterns match: candles or market trades, and funding.

    With `symbols`, only those are taken. `instruments_file` is a table of ticks and lots; whatever is not in it gets
    the finest steps seen in its data.
    """
    kinds: dict[Kind, dict[str, list[Recording]]] = {"candles": {}, "trades": {}, "funding": {}}
    for path in found(disk, files):
        opened = recording(disk, path, symbol_in_name)
        if not symbols or opened.symbol in symbols:
            kinds[opened.kind].setdefault(opened.symbol, []).append(opened)
    if kinds["candles"] and kinds["trades"]:
        raise InvalidParameter("a replay plays candles or market trades, not both: name files of one kind")
    recorded = Recorded()
    for symbol, recordings in sorted((kinds["candles"] or kinds["trades"]).items()):
        steps = _Steps()
        if kinds["candles"]:
            recorded.candles[symbol] = _candle_tape(symbol, _in_order(recordings), steps)
        else:
            recorded.trades[symbol] = _trade_tape(symbol, _in_order(recordings), steps)
            recorded.candles[symbol] = candles_of(recorded.trades[symbol])
        recorded.instruments[symbol] = _inferred(symbol, steps)
        recorded.funding[symbol] = _rates(_in_order(kinds["funding"].get(symbol, [])))
    if not recorded.candles:
        wanted = f" of {', '.join(symbols)}" if symbols else ""
        raise InvalidParameter(f"the files hold no candles and no market trades{wanted}; {HOW_TO_GET}")
    if instruments_file is not None:
        recorded.instruments.update(_listed(disk, instruments_file, recorded.instruments))
    return recorded


def load_funding(disk: Disk, files: Mapping[Path, str], symbols: Sequence[str]) -> dict[str, list[tuple[int, Decimal]]]:
    """Read files of funding rates, each with its symbol or with none, where its name tells; keep those of symbols."""
    found_of: dict[str, list[Recording]] = {}
    for path, symbol in files.items():
        opened = recording(disk, path, "(?P<symbol>)" if symbol else SYMBOL_IN_NAME)
        if opened.kind != "funding":
            raise InvalidParameter(f"{path}: these are {opened.kind}, not funding rates")
        found_of.setdefault(symbol or opened.symbol, []).append(opened)
    if files and not set(symbols) & found_of.keys():
        raise InvalidParameter(
            f"funding: the files are of {', '.join(sorted(found_of))}, none of {', '.join(symbols)}; "
            "one whose name does not begin with its symbol is given as SYMBOL=FILE"
        )
    return {symbol: _rates(_in_order(found_of[symbol])) for symbol in symbols if symbol in found_of}


def _in_order(recordings: list[Recording]) -> list[Recording]:
    def begins(recording: Recording) -> tuple[int, str]:
        first = next(iter(recording.rows()), None)
        return (first.time_ms if first is not None else 0, str(recording.path))

    return sorted(recordings, key=begins)


def _candle_tape(symbol: str, recordings: list[Recording], steps: _Steps) -> Tape:
    tape = Tape(symbol)
    last: Candle | None = None
    for opened in recordings:
        faults: list[str] = []
        earlier = len(tape)
        for row in opened.rows():
            try:
                candle = Candle(symbol, Timeframe.M1, row.time_ms, *map(decimal, row.fields))
                objection = candle.objection() or _disorder(candle, last, tape, earlier)
            except ValueError as trouble:
                candle, objection = None, str(trouble)
            if objection is not None:
                faults.append(f"row {row.number}: {objection}")
                if len(faults) >= FAULTS_SHOWN_MAX:
                    break
            elif candle is not None and (last is None or candle.open_time_ms > last.open_time_ms):
                steps.see(row.fields[:4], row.fields[4])
                tape.add(row.time_ms, ",".join((*row.fields, *row.more)))
                last = candle
        refuse(opened.path, faults)
    _demand_minutes(tape)
    return tape


def _disorder(candle: Candle, last: Candle | None, tape: Tape, earlier: int) -> str | None:
    """Say what is wrong with a candle's place: files may overlap where they agree, a file may not go back."""
    if last is None or candle.open_time_ms > last.open_time_ms:
        return None
    index = tape.after(candle.open_time_ms)
    if index < earlier and tape.time_ms(index) == candle.open_time_ms:
        return None if tape.candle(index) == candle else "an earlier file has another candle of the same minute"
    return "the time does not go up"


def _demand_minutes(tape: Tape) -> None:
    if len(tape) > 1:
        gap_ms = int(np.diff(tape.times).min())
        if gap_ms > MINUTE_MS:
            raise InvalidParameter(
                f"{tape.symbol}: the candles are {gap_ms // MINUTE_MS} minutes apart; a replay plays 1m candles"
            )


def _trade_tape(symbol: str, recordings: list[Recording], steps: _Steps) -> Tape:
    tape = Tape(symbol)
    for opened in recordings:
        faults: list[str] = []
        for row in opened.rows():
            objection = _trade_objection(row, tape)
            if objection is None:
                steps.see(row.fields[:1], row.fields[1])
                tape.add(row.time_ms, ",".join((*row.fields[:2], *map(_flag, row.fields[2:]))))
            else:
                faults.append(f"row {row.number}: {objection}")
                if len(faults) >= FAULTS_SHOWN_MAX:
                    break
        refuse(opened.path, faults)
    return tape


def _trade_objection(row: Row, tape: Tape) -> str | None:
    try:
        price, quantity = map(decimal, row.fields[:2])
    except ValueError as trouble:
        return str(trouble)
    if price <= ZERO or quantity <= ZERO:
        return "price and quantity must be above zero"
    if len(tape) and row.time_ms < tape.time_ms(len(tape) - 1):
        return "the time goes back"
    return None


def _rates(recordings: list[Recording]) -> list[tuple[int, Decimal]]:
    rates: dict[int, Decimal] = {}
    for opened in recordings:
        faults: list[str] = []
        for row in opened.rows():
            try:
                # Recorded times lie a few milliseconds behind the whole minute at which funding falls due.
                rates[row.time_ms - row.time_ms % MINUTE_MS] = _share(row.fields[0])
            except ValueError as trouble:
                faults.append(f"row {row.number}: {trouble}")
        refuse(opened.path, faults[:FAULTS_SHOWN_MAX])
    return sorted(rates.items())


def _share(text: str) -> Decimal:
    rate = decimal(text)
    if abs(rate) >= 1:
        raise ValueError(f"a rate of {text[:40]} would be the whole position; 0.0001 is a hundredth of a per cent")
    return rate


def _inferred(symbol: str, steps: _Steps) -> Instrument:
    lot = ONE.scaleb(-min(steps.quantity, LOT_DECIMALS_MAX))
    return _instrument(symbol, ONE.scaleb(-steps.price), lot, NOTIONAL_MIN)


def _listed(disk: Disk, path: Path, wanted: Mapping[str, Instrument]) -> dict[str, Instrument]:
    """Take tick and lot from a table of instruments; rows of perpetuals go before rows of spot pairs."""
    listed: dict[str, Instrument] = {}
    for number, row in enumerate(table(disk, path), 2):
        symbol = row.get("symbol", "")
        if symbol in wanted and (symbol not in listed or row.get("type") == "cryptofuture"):
            try:
                tick, lot = decimal(row["minimum_price_variation"]), decimal(row["lot_size"])
                notional = decimal(row["minimum_order_size"]) if row.get("minimum_order_size") else NOTIONAL_MIN
            except (KeyError, ValueError) as trouble:
                raise InvalidParameter(f"{path}: row {number}: {trouble}") from None
            listed[symbol] = _instrument(symbol, tick, lot, notional)
    return listed


def _instrument(symbol: str, tick: Decimal, lot: Decimal, notional_min: Decimal) -> Instrument:
    base, quote = base_and_quote(symbol)
    return Instrument(
        symbol=symbol,
        base=base,
        quote=quote,
        tick_size=tick,
        lot_size=lot,
        quantity_min=lot,
        notional_min=notional_min,
    )


def _decimals(text: str) -> int:
    if "e" in text.lower():
        text = plain(Decimal(text))
    return len(text.partition(".")[2].rstrip("0"))


def _flag(text: str) -> str:
    return "1" if text.strip().lower() in ("1", "true") else "0"
