"""Candle patterns, candle by candle, as their definitions say them."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial
from types import SimpleNamespace
from typing import Any

import numpy as np

from tests.signals.oracle.says import SAYS
from tests.signals.oracle.tape import Judge, Row, Tape

# Numpy's or Python's own.
Truth = Any
Shape = Callable[[Judge, Tape, int, Any], Any]
# A shape, and how many candles it is made of.
SHAPES: dict[str, tuple[Shape, int]] = {}


def shape(*names: str, candles: int = 1) -> Callable[[Shape], Shape]:
    """Let a function speak for some patterns."""

    def kept(function: Shape) -> Shape:
        for name in names:
            SHAPES[name] = function, candles
        return function

    return kept


def body(t: Tape, i: int) -> float:
    return float(abs(t.c[i] - t.o[i]))


def rng(t: Tape, i: int) -> float:
    return float(t.h[i] - t.l[i])


def upper(t: Tape, i: int) -> float:
    return float(t.h[i] - max(t.o[i], t.c[i]))


def lower(t: Tape, i: int) -> float:
    return float(min(t.o[i], t.c[i]) - t.l[i])


def white(t: Tape, i: int) -> bool:
    return bool(t.c[i] > t.o[i])


def black(t: Tape, i: int) -> bool:
    return bool(t.c[i] < t.o[i])


@shape("doji_trigger")
def doji(j: Judge, t: Tape, i: int, p: Any) -> Truth:
    return rng(t, i) > 0 and j.le(body(t, i), p.body_threshold * rng(t, i), t.c[i])


@shape("long_legged_doji_trigger")
def long_legged(j: Judge, t: Tape, i: int, p: Any) -> Truth:
    wick = p.wick_threshold * rng(t, i)
    return doji(j, t, i, p) and j.ge(upper(t, i), wick, t.c[i]) and j.ge(lower(t, i), wick, t.c[i])


@shape("dragonfly_doji_trigger")
def dragonfly(j: Judge, t: Tape, i: int, p: Any) -> Truth:
    small = j.le(upper(t, i), p.upper_wick_max * rng(t, i), t.c[i])
    return doji(j, t, i, p) and small and j.gt(lower(t, i), body(t, i), t.c[i])


@shape("gravestone_doji_trigger")
def gravestone(j: Judge, t: Tape, i: int, p: Any) -> Truth:
    small = j.le(lower(t, i), p.lower_wick_max * rng(t, i), t.c[i])
    return doji(j, t, i, p) and small and j.gt(upper(t, i), body(t, i), t.c[i])


@shape("hammer_trigger", "hanging_man_trigger")
def hammer(j: Judge, t: Tape, i: int, p: Any) -> Truth:
    b = body(t, i)
    return b > 0 and j.ge(lower(t, i), p.wick_ratio * b, t.c[i]) and j.le(upper(t, i), p.upper_wick_max * b, t.c[i])


@shape("shooting_star_trigger", "inverted_hammer_trigger")
def star(j: Judge, t: Tape, i: int, p: Any) -> Truth:
    b = body(t, i)
    return b > 0 and j.ge(upper(t, i), p.wick_ratio * b, t.c[i]) and j.le(lower(t, i), p.lower_wick_max * b, t.c[i])


def bare(j: Judge, t: Tape, i: int, p: Any) -> Truth:
    most = p.wick_tolerance * rng(t, i)
    return rng(t, i) > 0 and j.le(upper(t, i), most, t.c[i]) and j.le(lower(t, i), most, t.c[i])


@shape("marubozu_bullish_trigger")
def marubozu_up(j: Judge, t: Tape, i: int, p: Any) -> Truth:
    return white(t, i) and bare(j, t, i, p)


@shape("marubozu_bearish_trigger")
def marubozu_down(j: Judge, t: Tape, i: int, p: Any) -> Truth:
    return black(t, i) and bare(j, t, i, p)


@shape("spinning_top_trigger")
def spinning(j: Judge, t: Tape, i: int, p: Any) -> Truth:
    wick = p.wick_min * rng(t, i)
    small = j.le(body(t, i), p.body_max * rng(t, i), t.c[i])
    return rng(t, i) > 0 and small and j.ge(upper(t, i), wick, t.c[i]) and j.ge(lower(t, i), wick, t.c[i])


@shape("bullish_engulfing_trigger", candles=2)
def engulfing_up(j: Judge, t: Tape, i: int, p: Any) -> Truth:
    return black(t, i - 1) and white(t, i) and t.o[i] < t.c[i - 1] and t.c[i] > t.o[i - 1]


@shape("bearish_engulfing_trigger", candles=2)
def engulfing_down(j: Judge, t: Tape, i: int, p: Any) -> Truth:
    return white(t, i - 1) and black(t, i) and t.o[i] > t.c[i - 1] and t.c[i] < t.o[i - 1]


@shape("bullish_harami_trigger", candles=2)
def harami_up(j: Judge, t: Tape, i: int, p: Any) -> Truth:
    return black(t, i - 1) and white(t, i) and t.o[i] > t.c[i - 1] and t.c[i] < t.o[i - 1]


@shape("bearish_harami_trigger", candles=2)
def harami_down(j: Judge, t: Tape, i: int, p: Any) -> Truth:
    return white(t, i - 1) and black(t, i) and t.o[i] < t.c[i - 1] and t.c[i] > t.o[i - 1]


@shape("piercing_line_trigger", candles=2)
def piercing(j: Judge, t: Tape, i: int, p: Any) -> Truth:
    gap = t.o[i] < (t.l[i - 1] if p.require_gap else t.c[i - 1])
    deep = t.c[i - 1] + p.min_penetration * (t.o[i - 1] - t.c[i - 1])
    return black(t, i - 1) and white(t, i) and gap and j.gt(t.c[i], deep)


@shape("dark_cloud_cover_trigger", candles=2)
def dark_cloud(j: Judge, t: Tape, i: int, p: Any) -> Truth:
    gap = t.o[i] > (t.h[i - 1] if p.require_gap else t.c[i - 1])
    deep = t.c[i - 1] - p.min_penetration * (t.c[i - 1] - t.o[i - 1])
    return white(t, i - 1) and black(t, i) and gap and j.lt(t.c[i], deep)


def usual(t: Tape, i: int) -> float:
    return float(np.mean([rng(t, k) for k in range(max(0, i - 19), i + 1)]))


@shape("tweezer_tops_trigger", candles=2)
def tops(j: Judge, t: Tape, i: int, p: Any) -> Truth:
    even = j.le(abs(t.h[i] - t.h[i - 1]), p.tolerance * usual(t, i), t.c[i])
    return white(t, i - 1) and black(t, i) and even


@shape("tweezer_bottoms_trigger", candles=2)
def bottoms(j: Judge, t: Tape, i: int, p: Any) -> Truth:
    even = j.le(abs(t.l[i] - t.l[i - 1]), p.tolerance * usual(t, i), t.c[i])
    return black(t, i - 1) and white(t, i) and even


@shape("morning_star_trigger", candles=3)
def morning(j: Judge, t: Tape, i: int, p: Any) -> Truth:
    small = j.le(body(t, i - 1), p.body_threshold * rng(t, i - 1), t.c[i])
    return black(t, i - 2) and small and white(t, i) and j.gt(t.c[i], (t.o[i - 2] + t.c[i - 2]) / 2)


@shape("evening_star_trigger", candles=3)
def evening(j: Judge, t: Tape, i: int, p: Any) -> Truth:
    small = j.le(body(t, i - 1), p.body_threshold * rng(t, i - 1), t.c[i])
    return white(t, i - 2) and small and black(t, i) and j.lt(t.c[i], (t.o[i - 2] + t.c[i - 2]) / 2)


def solid(j: Judge, t: Tape, i: int, p: Any) -> Truth:
    return all(j.ge(body(t, k), p.min_body_ratio * rng(t, k), t.c[i]) for k in (i, i - 1, i - 2))


@shape("three_white_soldiers_trigger", candles=3)
def soldiers(j: Judge, t: Tape, i: int, p: Any) -> Truth:
    c, o = t.c, t.o
    return (
        all(white(t, k) for k in (i, i - 1, i - 2))
        and c[i] > c[i - 1] > c[i - 2]
        and o[i - 2] <= o[i - 1] <= c[i - 2]
        and o[i - 1] <= o[i] <= c[i - 1]
        and solid(j, t, i, p)
    )


@shape("three_black_crows_trigger", candles=3)
def crows(j: Judge, t: Tape, i: int, p: Any) -> Truth:
    c, o = t.c, t.o
    return (
        all(black(t, k) for k in (i, i - 1, i - 2))
        and c[i] < c[i - 1] < c[i - 2]
        and c[i - 2] <= o[i - 1] <= o[i - 2]
        and c[i - 1] <= o[i] <= o[i - 1]
        and solid(j, t, i, p)
    )


@shape("three_inside_up_trigger", candles=3)
def inside_up(j: Judge, t: Tape, i: int, p: Any) -> Truth:
    return harami_up(j, t, i - 1, p) and white(t, i) and t.c[i] > t.o[i - 2]


@shape("three_inside_down_trigger", candles=3)
def inside_down(j: Judge, t: Tape, i: int, p: Any) -> Truth:
    return harami_down(j, t, i - 1, p) and black(t, i) and t.c[i] < t.o[i - 2]


@shape("inside_bar_trigger", candles=2)
def inside(j: Judge, t: Tape, i: int, p: Any) -> Truth:
    return t.h[i] < t.h[i - 1] and t.l[i] > t.l[i - 1]


@shape("outside_bar_trigger", candles=2)
def outside(j: Judge, t: Tape, i: int, p: Any) -> Truth:
    return t.h[i] > t.h[i - 1] and t.l[i] < t.l[i - 1]


@shape("bullish_pin_bar_trigger")
def pin_up(j: Judge, t: Tape, i: int, p: Any) -> Truth:
    high_up = j.gt(min(t.o[i], t.c[i]), t.l[i] + (1 - p.body_position) * rng(t, i))
    return body(t, i) > 0 and j.ge(lower(t, i), p.wick_ratio * body(t, i), t.c[i]) and high_up


@shape("bearish_pin_bar_trigger")
def pin_down(j: Judge, t: Tape, i: int, p: Any) -> Truth:
    low_down = j.lt(max(t.o[i], t.c[i]), t.h[i] - (1 - p.body_position) * rng(t, i))
    return body(t, i) > 0 and j.ge(upper(t, i), p.wick_ratio * body(t, i), t.c[i]) and low_down


def near(j: Judge, t: Tape, i: int, p: Any, distance: float) -> Truth:
    return bool(j.le(distance, p.close_proximity * rng(t, i), t.c[i]))


@shape("two_bar_reversal_bullish_trigger", candles=2)
def reversal_up(j: Judge, t: Tape, i: int, p: Any) -> Truth:
    ends = near(j, t, i - 1, p, t.c[i - 1] - t.l[i - 1]) and near(j, t, i, p, t.h[i] - t.c[i])
    return black(t, i - 1) and white(t, i) and ends and t.l[i] <= t.l[i - 1] and t.c[i] > t.o[i - 1]


@shape("two_bar_reversal_bearish_trigger", candles=2)
def reversal_down(j: Judge, t: Tape, i: int, p: Any) -> Truth:
    ends = near(j, t, i - 1, p, t.h[i - 1] - t.c[i - 1]) and near(j, t, i, p, t.c[i] - t.l[i])
    return white(t, i - 1) and black(t, i) and ends and t.h[i] >= t.h[i - 1] and t.c[i] < t.o[i - 1]


def narrowest(j: Judge, t: Tape, i: int, p: Any) -> Truth:
    if i < p.window - 1:
        return False
    return bool(j.lt(rng(t, i), min(rng(t, k) for k in range(i - p.window + 1, i)), t.c[i]))


SHAPES["nr7_trigger"] = narrowest, 1
DEFAULTS = SimpleNamespace(
    body_threshold=0.1,
    upper_wick_max=0.1,
    lower_wick_max=0.1,
    wick_ratio=2.0,
    wick_tolerance=0.05,
    body_max=0.3,
    wick_min=0.2,
    min_penetration=0.5,
    require_gap=False,
    tolerance=0.01,
    min_body_ratio=0.5,
    body_position=0.33,
    window=7,
)
STARS = SimpleNamespace(body_threshold=0.3)
TURNS_UP = ("hammer", "inverted_hammer", "bullish_engulfing", "piercing_line", "dragonfly_doji", "morning_star")
TURNS_DOWN = (
    "hanging_man",
    "shooting_star",
    "bearish_engulfing",
    "dark_cloud_cover",
    "gravestone_doji",
    "evening_star",
)
GOES_UP = ("three_white_soldiers", "three_inside_up")
GOES_DOWN = ("three_black_crows", "three_inside_down")
RECENT = {
    "bullish_pattern_recent": (*TURNS_UP, *GOES_UP, "bullish_harami", "tweezer_bottoms", "bullish_pin_bar"),
    "bearish_pattern_recent": (*TURNS_DOWN, *GOES_DOWN, "bearish_harami", "tweezer_tops", "bearish_pin_bar"),
    "reversal_pattern_bullish": TURNS_UP,
    "reversal_pattern_bearish": TURNS_DOWN,
    "continuation_pattern_bullish": GOES_UP,
    "continuation_pattern_bearish": GOES_DOWN,
    "indecision_pattern_recent": ("doji", "spinning_top", "inside_bar", "nr7"),
    "strong_body_recent": ("marubozu_bullish", "marubozu_bearish"),
}


def shown(name: str, j: Judge, t: Tape, p: Any) -> Row:
    """Return at which candles a pattern is completed."""
    says, candles = SHAPES[name]
    return np.array([i >= candles - 1 and bool(says(j, t, i, p)) for i in range(len(t))])


@lru_cache(maxsize=64)
def completed(members: tuple[str, ...], j: Judge, t: Tape) -> Row:
    """Return at which candles one of some patterns is completed, all with their defaults."""
    stars = ("morning_star", "evening_star")
    each = [shown(f"{name}_trigger", j, t, STARS if name in stars else DEFAULTS) for name in members]
    return np.logical_or.reduce(each)


def recent(members: tuple[str, ...], j: Judge, t: Tape, p: Any) -> Row:
    """Return at which candles one of some patterns was completed within the window."""
    some = completed(members, j, t)
    return np.array([some[max(0, i - p.window + 1) : i + 1].any() for i in range(len(t))])


for _name in SHAPES:
    SAYS[_name] = partial(shown, _name)
for _name, _members in RECENT.items():
    SAYS[_name] = partial(recent, _members)
