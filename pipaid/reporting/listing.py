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
# True candles come in pieces of so many, which trades share: at least one before and one after each.
PIECE_CANDLES: Final = 60
# A trade that takes more pieces than this is shown in larger candles.
PIECES_MAX: Final = 8
# In all, in about six megabytes.
CARRIED_CANDLES_MAX: Final = 300_000
LEVELS_OF_TRADE_MAX: Final = 60
CARRIED_LEVELS_MAX: Final = 20_000


class TradeRow(msgspec.Struct, frozen=True, array_like=True):
    """A trade as the page lists it: numbers as text, which is exact; `pieces` are the blocks of candles around it."""

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
    pieces: list[int]
    levels: tuple[Level, ...]


class Listing(msgspec.Struct, frozen=True, kw_only=True):
    """Trades and the blocks of candles that they name."""

    rows: list[TradeRow]
    blocks: list[Block]
    note: str


def listing_of(result: BacktestResult, candles: Mapping[str, Candles]) -> Listing:
    """List the trades in their order; of too many, those with the largest profits and losses."""
    by_weight = sorted(result.trades, key=lambda trade: (-abs(trade.pnl), trade.id))[:LISTED_TRADES_MAX]
    pieces, levels = _Pieces(candles), _Levels(result.levels)
    rows = [_row(trade, pieces.around(trade), levels.of(trade)) for trade in by_weight]
    left_out = len(result.trades) - len(rows)
    return Listing(
        rows=sorted(rows, key=lambda row: row.id),
        blocks=pieces.blocks,
        note=f"{left_out:,} of {len(result.trades):,} trades are left out here: those with the smallest profits and "
        "losses. All figures on this page count them."
        if left_out
        else "",
    )


@define
class _Pieces:
    """Stretches of candles: the true ones in aligned pieces that trades share, larger ones for each long trade."""

    candles: Mapping[str, Candles]
    blocks: list[Block] = field(factory=list[Block])
    _known: dict[tuple[str, int, int], int] = field(factory=dict[tuple[str, int, int], int])
    _carried: int = 0

    def around(self, trade: BacktestTrade) -> list[int]:
        """Return the numbers of the blocks around a trade; none where there are no candles or no room for them."""
        candles = self.candles.get(trade.symbol)
        if candles is None:
            return []
        piece_ms = candles.timeframe.ms * PIECE_CANDLES
        first, last = trade.entry_time_ms // piece_ms - 1, trade.exit_time_ms // piece_ms + 2
        step = 1 if last - first <= PIECES_MAX else last - first
        spans = [(trade.symbol, at * piece_ms, (at + step) * piece_ms) for at in range(first, last, step)]
        made = {span: candles.between(*span[1:]) for span in spans if span not in self._known}
        shown = {span: fitted(each, PIECE_CANDLES * PIECES_MAX) for span, each in made.items() if len(each)}
        wanted = sum(map(len, shown.values()))
        if self._carried + wanted > CARRIED_CANDLES_MAX:
            return []
        self._carried += wanted
        for span, each in shown.items():
            self._known[span] = len(self.blocks)
            self.blocks.append(block_of(each))
        return [self._known[span] for span in spans if span in self._known]


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


def _row(trade: BacktestTrade, pieces: list[int], levels: tuple[Level, ...]) -> TradeRow:
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
        pieces,
        levels,
    )
