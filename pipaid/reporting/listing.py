"""The trades that a report lists, with the true candles around each as far as one page can carry them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec
from attrs import define, field

from pipaid.model.backtest import BacktestResult, BacktestTrade, LevelSpan
from pipaid.model.columns import Candles
from pipaid.model.money import exact_text, quote_text
from pipaid.reporting.charting import Block, Level, block_of, fitted, level_of, thinned

LISTED_TRADES_MAX: Final = 5_000
# Around each trade, before and after.
MARGIN_CANDLES: Final = 60
WINDOW_CANDLES_MAX: Final = 400
# Of all windows together: about six megabytes.
CARRIED_CANDLES_MAX: Final = 300_000
LEVELS_OF_TRADE_MAX: Final = 60
CARRIED_LEVELS_MAX: Final = 20_000


class TradeRow(msgspec.Struct, frozen=True, array_like=True):
    """A trade as the page lists it: numbers to sort by as text, which is exact; `window` is -1 where there is none."""

    id: int
    side: str
    symbol: str
    entry_ms: int
    entry_price: str
    exit_ms: int
    exit_price: str
    qty: str
    pnl: str
    fee: str
    reason: str
    window: int
    levels: tuple[Level, ...]


class Listing(msgspec.Struct, frozen=True, kw_only=True):
    """Trades and the windows of candles that they name."""

    rows: list[TradeRow]
    windows: list[Block]
    note: str


def listing_of(result: BacktestResult, candles: Mapping[str, Candles]) -> Listing:
    """List the trades in their order; of too many, those with the largest profits and losses."""
    by_weight = sorted(result.trades, key=lambda trade: (-abs(trade.pnl), trade.id))[:LISTED_TRADES_MAX]
    windows, levels = _Windows(candles), _Levels(result.levels)
    rows = [_row(trade, windows.around(trade), levels.of(trade)) for trade in by_weight]
    left_out = len(result.trades) - len(rows)
    return Listing(
        rows=sorted(rows, key=lambda row: row.id),
        windows=windows.blocks,
        note=f"{left_out:,} of {len(result.trades):,} trades are left out here: those with the smallest profits and "
        "losses. All figures on this page count them."
        if left_out
        else "",
    )


@define
class _Windows:
    """The stretches of true candles; trades close to each other share one."""

    candles: Mapping[str, Candles]
    blocks: list[Block] = field(factory=list[Block])
    _known: dict[tuple[str, int, int], int] = field(factory=dict[tuple[str, int, int], int])
    _carried: int = 0

    def around(self, trade: BacktestTrade) -> int:
        """Return the number of the window around a trade, or -1 where there are no candles or no room for them."""
        candles = self.candles.get(trade.symbol)
        if candles is None:
            return -1
        first, last = self._reach(candles, trade)
        key = (trade.symbol, first, last)
        if key not in self._known:
            stretch = candles.between(first, last)
            if not len(stretch):
                return -1
            shown = fitted(stretch, WINDOW_CANDLES_MAX)
            if self._carried + len(shown) > CARRIED_CANDLES_MAX:
                return -1
            self._carried += len(shown)
            self._known[key] = len(self.blocks)
            self.blocks.append(block_of(shown))
        return self._known[key]

    def _reach(self, candles: Candles, trade: BacktestTrade) -> tuple[int, int]:
        """Return from when until when, in whole half margins, so that neighbours have the same."""
        grain_ms = candles.timeframe.ms * MARGIN_CANDLES // 2
        first = trade.entry_time_ms // grain_ms - 2
        last = trade.exit_time_ms // grain_ms + 3
        return int(first * grain_ms), int(last * grain_ms)


class _Levels:
    """The levels of each lot, as long as there is room for them."""

    def __init__(self, spans: Sequence[LevelSpan]) -> None:
        self._by_lot: defaultdict[tuple[str, str], list[LevelSpan]] = defaultdict(list)
        for span in spans:
            self._by_lot[span.symbol, span.position_id].append(span)
        self._room = CARRIED_LEVELS_MAX

    def of(self, trade: BacktestTrade) -> tuple[Level, ...]:
        """Return the levels of a trade's lot."""
        found = thinned(self._by_lot.get((trade.symbol, trade.position_id), []), LEVELS_OF_TRADE_MAX)
        if len(found) > self._room:
            return ()
        self._room -= len(found)
        return tuple(level_of(span) for span in found)


def _row(trade: BacktestTrade, window: int, levels: tuple[Level, ...]) -> TradeRow:
    return TradeRow(
        trade.id,
        trade.side.value,
        trade.symbol,
        trade.entry_time_ms,
        exact_text(trade.entry_price),
        trade.exit_time_ms,
        exact_text(trade.exit_price),
        exact_text(trade.qty),
        quote_text(trade.pnl),
        quote_text(trade.fee),
        trade.reason,
        window,
        levels,
    )
