"""What came of a signal on recorded candles, drawn: when it was true, how often by month, and what prices did after."""

from __future__ import annotations

from typing import Any, Final

import msgspec
import numpy as np

from pipaid.cli.drawing import drawn
from pipaid.cli.sheet import Column, Heading, Kind, Sheet, listing
from pipaid.cli.terminal import Terminal
from pipaid.model.columns import Candles
from pipaid.model.moment import iso_seconds
from pipaid.signals.columns import Truths

WIDTH: Final = 72
LENGTH: Final = 40
LATEST: Final = 5
HEIGHTS: Final = "▁▂▃▄▅▆▇█"
_MONTH_CHARS: Final = len("2026-01")


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """How often a signal was true on some candles, and the mean return after it beside that after any candle."""

    signal: str
    symbol: str
    timeframe: str
    candles: int
    first: str
    last: str
    true_candles: int
    began: int
    by_month: dict[str, int]
    ahead_candles: int
    return_after_pct: float | None
    return_any_pct: float | None
    rose_after_share: float | None
    latest: tuple[str, ...]


def show_trial(terminal: Terminal, name: str, candles: Candles, truths: Truths, *, ahead: int) -> None:
    """Show what came of it."""
    trial = _trial(name, candles, truths, ahead)
    if terminal.as_json:
        terminal.say_json(msgspec.json.encode(trial))
        return
    terminal.show(drawn([_facts(trial), _plotted(candles, truths), *_months(trial)]))


def _trial(name: str, candles: Candles, truths: Truths, ahead: int) -> Trial:
    began = truths & ~np.append(False, truths[:-1])
    closes = candles.floats("close")
    later = 100.0 * (closes[ahead:] / closes[:-ahead] - 1.0)
    after = later[began[:-ahead]]
    months = [iso_seconds(at)[:_MONTH_CHARS] for at in candles.time_ms.tolist()]
    by_month = dict.fromkeys(months, 0)
    for place in np.flatnonzero(began).tolist():
        by_month[months[place]] += 1
    return Trial(
        signal=name,
        symbol=candles.symbol,
        timeframe=candles.timeframe,
        candles=len(candles),
        first=iso_seconds(candles.time_ms.item(0)),
        last=iso_seconds(candles.time_ms.item(-1)),
        true_candles=int(truths.sum()),
        began=int(began.sum()),
        by_month=by_month,
        ahead_candles=ahead,
        return_after_pct=float(after.mean()) if len(after) else None,
        return_any_pct=float(later.mean()) if len(later) else None,
        rose_after_share=float((after > 0.0).mean()) if len(after) else None,
        latest=tuple(iso_seconds(at) for at in candles.time_ms[began][-LATEST:].tolist()),
    )


def _facts(trial: Trial) -> Sheet:
    share = 100.0 * trial.true_candles / trial.candles
    rows = [
        ("candles", f"{trial.candles} of {trial.symbol} {trial.timeframe}, {trial.first} to {trial.last}"),
        ("true", f"at {trial.true_candles} candles ({share:.2f} %), in {trial.began} stretches"),
    ]
    if trial.latest:
        rows.append(("last began", ", ".join(reversed(trial.latest))))
    if trial.return_after_pct is not None and trial.return_any_pct is not None and trial.rose_after_share is not None:
        after = f"{trial.return_after_pct:+.3f} % on average after it began ({trial.rose_after_share:.0%} rose)"
        rows.append((f"{trial.ahead_candles} candles on", f"{after}, {trial.return_any_pct:+.3f} % after any candle"))
    note = "" if trial.true_candles else "It was never true: are there enough candles, and are the params right?"
    return Sheet(trial.signal, (Heading(""), Heading("", Kind.PROSE)), tuple(rows), note, headed=False)


def _plotted(candles: Candles, truths: Truths) -> Sheet:
    """Return the closes as a line of blocks, and below it how much of each block the signal was true for."""
    parts = [part for part in np.array_split(np.arange(len(candles)), WIDTH) if len(part)]
    closes = candles.floats("close")
    lows, highs = float(closes.min()), float(closes.max())
    steps = [_step(float(closes[part[-1]]), lows, highs) for part in parts]
    shares = [float(truths[part].mean()) for part in parts]
    top = max(max(shares), 1e-9)
    marks = [_step(share, 0.0, top) if share else " " for share in shares]
    rows = (("close", "".join(steps)), ("true", "".join(marks)))
    return Sheet("", (Heading(""), Heading("")), rows, headed=False)


def _step(value: float, low: float, high: float) -> str:
    place = (value - low) / (high - low) if high > low else 0.0
    return HEIGHTS[min(int(place * len(HEIGHTS)), len(HEIGHTS) - 1)]


def _months(trial: Trial) -> list[Sheet]:
    most = max(trial.by_month.values())
    if not most:
        return []
    columns = (
        Column("MONTH", _month, rank=0),
        Column("BEGAN", _count, Kind.NUMBER, 0),
        Column("", lambda each: "█" * round(LENGTH * _count(each) / most)),
    )
    return [listing("", list(trial.by_month.items()), columns)]


def _month(pair: Any) -> str:
    return str(pair[0])


def _count(pair: Any) -> int:
    return int(pair[1])
