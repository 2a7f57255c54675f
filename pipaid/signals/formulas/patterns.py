"""Shapes of one to three candles; none of them asks for a trend before it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import reduce
from types import MappingProxyType
from typing import Final

from pipaid.signals.formulas.shared import RANGE
from pipaid.signals.line import CLOSE, HIGH, LOW, OPEN, Line, highest_yet, larger, lowest, mean_yet, smaller

BODY: Final = abs(CLOSE - OPEN)
TOP: Final = larger(OPEN, CLOSE)
BOTTOM: Final = smaller(OPEN, CLOSE)
UPPER_WICK: Final = HIGH - TOP
LOWER_WICK: Final = BOTTOM - LOW
WHITE: Final = CLOSE > OPEN
BLACK: Final = CLOSE < OPEN
SOME_BODY: Final = BODY > 0.0
SOME_RANGE: Final = RANGE > 0.0
# Tweezers are as even as the usual range of so many candles says.
USUAL_CANDLES: Final = 20
NARROWEST_OF: Final = 7


def was(truth: Line, candles: int = 1) -> Line:
    """Tell whether something was true some candles ago."""
    return truth[-candles] > 0.0


def doji(body_threshold: float) -> Line:
    """Tell a candle that closed about where it opened."""
    return SOME_RANGE & (body_threshold * RANGE >= BODY)


def long_legged_doji(body_threshold: float, wick_threshold: float) -> Line:
    """Tell a doji with long wicks on both sides."""
    least = wick_threshold * RANGE
    return doji(body_threshold) & (least <= UPPER_WICK) & (least <= LOWER_WICK)


def dragonfly_doji(body_threshold: float, upper_wick_max: float) -> Line:
    """Tell a doji at the top of its range."""
    return doji(body_threshold) & (upper_wick_max * RANGE >= UPPER_WICK) & (LOWER_WICK > BODY)


def gravestone_doji(body_threshold: float, lower_wick_max: float) -> Line:
    """Tell a doji at the bottom of its range."""
    return doji(body_threshold) & (lower_wick_max * RANGE >= LOWER_WICK) & (UPPER_WICK > BODY)


def hammer(wick_ratio: float, upper_wick_max: float) -> Line:
    """Tell a small body over a long lower wick."""
    return SOME_BODY & (wick_ratio * BODY <= LOWER_WICK) & (upper_wick_max * BODY >= UPPER_WICK)


def shooting_star(wick_ratio: float, lower_wick_max: float) -> Line:
    """Tell a small body under a long upper wick."""
    return SOME_BODY & (wick_ratio * BODY <= UPPER_WICK) & (lower_wick_max * BODY >= LOWER_WICK)


def _marubozu(colour: Line, wick_tolerance: float) -> Line:
    most = wick_tolerance * RANGE
    return colour & SOME_RANGE & (most >= UPPER_WICK) & (most >= LOWER_WICK)


def marubozu_bullish(wick_tolerance: float) -> Line:
    """Tell a white candle that is all body."""
    return _marubozu(WHITE, wick_tolerance)


def marubozu_bearish(wick_tolerance: float) -> Line:
    """Tell a black candle that is all body."""
    return _marubozu(BLACK, wick_tolerance)


def spinning_top(body_max: float, wick_min: float) -> Line:
    """Tell a small body between two long wicks."""
    least = wick_min * RANGE
    return SOME_RANGE & (body_max * RANGE >= BODY) & (least <= UPPER_WICK) & (least <= LOWER_WICK)


def bullish_engulfing() -> Line:
    """Tell a white body around the black one before."""
    return was(BLACK) & WHITE & (CLOSE[-1] > OPEN) & (OPEN[-1] < CLOSE)


def bearish_engulfing() -> Line:
    """Tell a black body around the white one before."""
    return was(WHITE) & BLACK & (CLOSE[-1] < OPEN) & (OPEN[-1] > CLOSE)


def bullish_harami() -> Line:
    """Tell a white body within the black one before."""
    return was(BLACK) & WHITE & (CLOSE[-1] < OPEN) & (OPEN[-1] > CLOSE)


def bearish_harami() -> Line:
    """Tell a black body within the white one before."""
    return was(WHITE) & BLACK & (CLOSE[-1] > OPEN) & (OPEN[-1] < CLOSE)


def piercing_line(min_penetration: float, require_gap: bool) -> Line:
    """Tell a white candle that opens below a black one and closes deep within its body."""
    gap = (LOW[-1] if require_gap else CLOSE[-1]) > OPEN
    return was(BLACK) & WHITE & gap & (CLOSE[-1] + min_penetration * (OPEN[-1] - CLOSE[-1]) < CLOSE)


def dark_cloud_cover(min_penetration: float, require_gap: bool) -> Line:
    """Tell a black candle that opens above a white one and closes deep within its body."""
    gap = (HIGH[-1] if require_gap else CLOSE[-1]) < OPEN
    return was(WHITE) & BLACK & gap & (CLOSE[-1] - min_penetration * (CLOSE[-1] - OPEN[-1]) > CLOSE)


def tweezer_tops(tolerance: float) -> Line:
    """Tell a black candle as high as the white one before."""
    return was(WHITE) & BLACK & (abs(HIGH - HIGH[-1]) <= tolerance * mean_yet(RANGE, USUAL_CANDLES))


def tweezer_bottoms(tolerance: float) -> Line:
    """Tell a white candle as low as the black one before."""
    return was(BLACK) & WHITE & (abs(LOW - LOW[-1]) <= tolerance * mean_yet(RANGE, USUAL_CANDLES))


def morning_star(body_threshold: float) -> Line:
    """Tell a black candle, a small body and a white candle that closes above the middle of the first."""
    small = BODY[-1] <= body_threshold * RANGE[-1]
    return was(BLACK, 2) & small & WHITE & ((OPEN[-2] + CLOSE[-2]) / 2.0 < CLOSE)


def evening_star(body_threshold: float) -> Line:
    """Tell a white candle, a small body and a black candle that closes below the middle of the first."""
    small = BODY[-1] <= body_threshold * RANGE[-1]
    return was(WHITE, 2) & small & BLACK & ((OPEN[-2] + CLOSE[-2]) / 2.0 > CLOSE)


def _three(truth: Line) -> Line:
    return was(truth, 2) & was(truth, 1) & truth


def three_white_soldiers(min_body_ratio: float) -> Line:
    """Tell three solid white candles, each opening within the body before and closing higher."""
    risen = (CLOSE[-1] < CLOSE) & (CLOSE[-1] > CLOSE[-2])
    within = (OPEN[-1] <= OPEN) & (CLOSE[-1] >= OPEN)
    return _three(WHITE & (min_body_ratio * RANGE <= BODY)) & risen & within & was(within)


def three_black_crows(min_body_ratio: float) -> Line:
    """Tell three solid black candles, each opening within the body before and closing lower."""
    fallen = (CLOSE[-1] > CLOSE) & (CLOSE[-1] < CLOSE[-2])
    within = (OPEN[-1] >= OPEN) & (CLOSE[-1] <= OPEN)
    return _three(BLACK & (min_body_ratio * RANGE <= BODY)) & fallen & within & was(within)


def three_inside_up() -> Line:
    """Tell a bullish harami and a white candle that closes above it."""
    return was(bullish_harami()) & WHITE & (OPEN[-2] < CLOSE)


def three_inside_down() -> Line:
    """Tell a bearish harami and a black candle that closes below it."""
    return was(bearish_harami()) & BLACK & (OPEN[-2] > CLOSE)


def inside() -> Line:
    """Tell a candle within the range of the one before."""
    return (HIGH[-1] > HIGH) & (LOW[-1] < LOW)


def outside() -> Line:
    """Tell a candle around the range of the one before."""
    return (HIGH[-1] < HIGH) & (LOW[-1] > LOW)


def bullish_pin(wick_ratio: float, body_position: float) -> Line:
    """Tell a body at the top of the range over a long wick."""
    high_up = LOW + (1.0 - body_position) * RANGE < BOTTOM
    return SOME_BODY & (wick_ratio * BODY <= LOWER_WICK) & high_up


def bearish_pin(wick_ratio: float, body_position: float) -> Line:
    """Tell a body at the bottom of the range under a long wick."""
    low_down = HIGH - (1.0 - body_position) * RANGE > TOP
    return SOME_BODY & (wick_ratio * BODY <= UPPER_WICK) & low_down


def two_candle_reversal_bullish(close_proximity: float) -> Line:
    """Tell a black candle that closes at its low and a white one, as low, that closes at its high."""
    near_low, near_high = close_proximity * RANGE >= CLOSE - LOW, close_proximity * RANGE >= HIGH - CLOSE
    return was(BLACK & near_low) & WHITE & near_high & (LOW[-1] >= LOW) & (OPEN[-1] < CLOSE)


def two_candle_reversal_bearish(close_proximity: float) -> Line:
    """Tell a white candle that closes at its high and a black one, as high, that closes at its low."""
    near_low, near_high = close_proximity * RANGE >= CLOSE - LOW, close_proximity * RANGE >= HIGH - CLOSE
    return was(WHITE & near_high) & BLACK & near_low & (HIGH[-1] <= HIGH) & (OPEN[-1] > CLOSE)


def narrowest(window: int) -> Line:
    """Tell a range that is narrower than each of those before in a window."""
    return lowest(RANGE, window - 1)[-1] > RANGE


_HAMMER: Final = hammer(2.0, 0.1)
_STAR: Final = shooting_star(2.0, 0.1)
_UP: Final = (
    _HAMMER,
    _STAR,
    bullish_engulfing(),
    piercing_line(0.5, False),
    dragonfly_doji(0.1, 0.1),
    morning_star(0.3),
)
_DOWN: Final = (_HAMMER, _STAR, bearish_engulfing(), dark_cloud_cover(0.5, False), gravestone_doji(0.1, 0.1))
_GOING_UP: Final = (three_white_soldiers(0.5), three_inside_up())
_GOING_DOWN: Final = (three_black_crows(0.5), three_inside_down())
_BULLISH: Final = (*_UP, *_GOING_UP, bullish_harami(), tweezer_bottoms(0.01), bullish_pin(2.0, 0.33))
_BEARISH: Final = (
    *_DOWN,
    *_GOING_DOWN,
    evening_star(0.3),
    bearish_harami(),
    tweezer_tops(0.01),
    bearish_pin(2.0, 0.33),
)
_UNDECIDED: Final = (doji(0.1), spinning_top(0.3, 0.2), inside(), narrowest(NARROWEST_OF))
_STRONG: Final = (marubozu_bullish(0.05), marubozu_bearish(0.05))


def _recent(shapes: tuple[Line, ...], window: int) -> Line:
    return highest_yet(reduce(Line.__or__, shapes), window)


def bullish_recent(window: int) -> Line:
    """Tell where a bullish shape was completed within a window."""
    return _recent(_BULLISH, window)


def bearish_recent(window: int) -> Line:
    """Tell where a bearish shape was completed within a window."""
    return _recent(_BEARISH, window)


def reversal_up_recent(window: int) -> Line:
    """Tell where a shape of a turn upwards was completed within a window."""
    return _recent(_UP, window)


def reversal_down_recent(window: int) -> Line:
    """Tell where a shape of a turn downwards was completed within a window."""
    return _recent((*_DOWN, evening_star(0.3)), window)


def going_up_recent(window: int) -> Line:
    """Tell where a shape of a rise that goes on was completed within a window."""
    return _recent(_GOING_UP, window)


def going_down_recent(window: int) -> Line:
    """Tell where a shape of a fall that goes on was completed within a window."""
    return _recent(_GOING_DOWN, window)


def undecided_recent(window: int) -> Line:
    """Tell where a shape of indecision was completed within a window."""
    return _recent(_UNDECIDED, window)


def strong_recent(window: int) -> Line:
    """Tell where a candle was all body within a window."""
    return _recent(_STRONG, window)


LINES: Final[Mapping[str, Callable[..., Line]]] = MappingProxyType(
    {
        each.__name__: each
        for each in (
            doji,
            long_legged_doji,
            dragonfly_doji,
            gravestone_doji,
            hammer,
            shooting_star,
            marubozu_bullish,
            marubozu_bearish,
            spinning_top,
            bullish_engulfing,
            bearish_engulfing,
            bullish_harami,
            bearish_harami,
            piercing_line,
            dark_cloud_cover,
            tweezer_tops,
            tweezer_bottoms,
            morning_star,
            evening_star,
            three_white_soldiers,
            three_black_crows,
            three_inside_up,
            three_inside_down,
            inside,
            outside,
            bullish_pin,
            bearish_pin,
            two_candle_reversal_bullish,
            two_candle_reversal_bearish,
            narrowest,
            bullish_recent,
            bearish_recent,
            reversal_up_recent,
            reversal_down_recent,
            going_up_recent,
            going_down_recent,
            undecided_recent,
            strong_recent,
        )
    }
)
