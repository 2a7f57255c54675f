"""Signals of patterns: shapes of one to three candles."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from pipaid.signals.catalogue.declare import Signal, SignalType, signals

TRIGGERS: Final[Mapping[str, Signal]] = signals(
    "patterns",
    SignalType.TRIGGER,
    (
        "doji_trigger(body_threshold=0.1[0.01..0.3])",
        "doji(body_threshold) above 0",
        "A doji: a candle that closed about where it opened.",
    ),
    (
        "long_legged_doji_trigger(body_threshold=0.1[0.01..0.3], wick_threshold=0.25[0.1..0.5])",
        "long_legged_doji(body_threshold, wick_threshold) above 0",
        "A doji with long wicks on both sides.",
    ),
    (
        "dragonfly_doji_trigger(body_threshold=0.1[0.01..0.3], upper_wick_max=0.1[0.01..0.2])",
        "dragonfly_doji(body_threshold, upper_wick_max) above 0",
        "A doji at the top of its range: sellers were bought up.",
    ),
    (
        "gravestone_doji_trigger(body_threshold=0.1[0.01..0.3], lower_wick_max=0.1[0.01..0.2])",
        "gravestone_doji(body_threshold, lower_wick_max) above 0",
        "A doji at the bottom of its range: buyers were sold down.",
    ),
    (
        "hammer_trigger(wick_ratio=2[1.5..5], upper_wick_max=0.1[0.01..0.5])",
        "hammer(wick_ratio, upper_wick_max) above 0",
        "A small body over a long lower wick.",
    ),
    (
        "shooting_star_trigger(wick_ratio=2[1.5..5], lower_wick_max=0.1[0.01..0.5])",
        "shooting_star(wick_ratio, lower_wick_max) above 0",
        "A small body under a long upper wick.",
    ),
    (
        "hanging_man_trigger(wick_ratio=2[1.5..5], upper_wick_max=0.1[0.01..0.5])",
        "hammer(wick_ratio, upper_wick_max) above 0",
        "The shape of the hammer; it is called so after a rise, which is not asked for here.",
    ),
    (
        "inverted_hammer_trigger(wick_ratio=2[1.5..5], lower_wick_max=0.1[0.01..0.5])",
        "shooting_star(wick_ratio, lower_wick_max) above 0",
        "The shape of the shooting star; it is called so after a fall, which is not asked for here.",
    ),
    (
        "marubozu_bullish_trigger(wick_tolerance=0.05[0..0.1])",
        "marubozu_bullish(wick_tolerance) above 0",
        "A white candle (one that rose) that is nearly all body.",
    ),
    (
        "marubozu_bearish_trigger(wick_tolerance=0.05[0..0.1])",
        "marubozu_bearish(wick_tolerance) above 0",
        "A black candle (one that fell) that is nearly all body.",
    ),
    (
        "spinning_top_trigger(body_max=0.3[0.1..0.5], wick_min=0.2[0.1..0.5])",
        "spinning_top(body_max, wick_min) above 0",
        "A small body between two long wicks: nobody won.",
    ),
    (
        "bullish_engulfing_trigger()",
        "bullish_engulfing() above 0",
        "A white body around the black one before.",
    ),
    (
        "bearish_engulfing_trigger()",
        "bearish_engulfing() above 0",
        "A black body around the white one before.",
    ),
    (
        "bullish_harami_trigger()",
        "bullish_harami() above 0",
        "A white body within the black one before.",
    ),
    (
        "bearish_harami_trigger()",
        "bearish_harami() above 0",
        "A black body within the white one before.",
    ),
    (
        "piercing_line_trigger(min_penetration=0.5[0.3..0.8], require_gap=True)",
        "piercing_line(min_penetration, require_gap) above 0",
        (
            "A white candle that opens below a black one and closes deep within its body. `require_gap` asks for "
            "an open below its low; few markets that never close have that."
        ),
    ),
    (
        "dark_cloud_cover_trigger(min_penetration=0.5[0.3..0.8], require_gap=True)",
        "dark_cloud_cover(min_penetration, require_gap) above 0",
        (
            "A black candle that opens above a white one and closes deep within its body. `require_gap` asks for "
            "an open above its high; few markets that never close have that."
        ),
    ),
    (
        "tweezer_tops_trigger(tolerance=0.01[0.001..0.05])",
        "tweezer_tops(tolerance) above 0",
        "A black candle about as high as the white one before.",
    ),
    (
        "tweezer_bottoms_trigger(tolerance=0.01[0.001..0.05])",
        "tweezer_bottoms(tolerance) above 0",
        "A white candle about as low as the black one before.",
    ),
    (
        "morning_star_trigger(body_threshold=0.3[0.1..0.5])",
        "morning_star(body_threshold) above 0",
        "A black candle, a small body, and a white candle that closes above the middle of the first.",
    ),
    (
        "evening_star_trigger(body_threshold=0.3[0.1..0.5])",
        "evening_star(body_threshold) above 0",
        "A white candle, a small body, and a black candle that closes below the middle of the first.",
    ),
    (
        "three_white_soldiers_trigger(min_body_ratio=0.5[0.3..0.8])",
        "three_white_soldiers(min_body_ratio) above 0",
        "Three solid white candles, each opening within the body before and closing higher.",
    ),
    (
        "three_black_crows_trigger(min_body_ratio=0.5[0.3..0.8])",
        "three_black_crows(min_body_ratio) above 0",
        "Three solid black candles, each opening within the body before and closing lower.",
    ),
    (
        "three_inside_up_trigger()",
        "three_inside_up() above 0",
        "A bullish harami, and a white candle that closes above it.",
    ),
    (
        "three_inside_down_trigger()",
        "three_inside_down() above 0",
        "A bearish harami, and a black candle that closes below it.",
    ),
    (
        "inside_bar_trigger()",
        "inside() above 0",
        "A candle within the range of the one before.",
    ),
    (
        "outside_bar_trigger()",
        "outside() above 0",
        "A candle around the range of the one before.",
    ),
    (
        "bullish_pin_bar_trigger(wick_ratio=2[1.5..5], body_position=0.33[0.1..0.5])",
        "bullish_pin(wick_ratio, body_position) above 0",
        "A body at the top of the range over a long wick.",
    ),
    (
        "bearish_pin_bar_trigger(wick_ratio=2[1.5..5], body_position=0.33[0.1..0.5])",
        "bearish_pin(wick_ratio, body_position) above 0",
        "A body at the bottom of the range under a long wick.",
    ),
    (
        "two_bar_reversal_bullish_trigger(close_proximity=0.25[0.1..0.5])",
        "two_candle_reversal_bullish(close_proximity) above 0",
        (
            "A black candle that closes near its low, and a white one, as low, that closes near its high and "
            "above the black one's open."
        ),
    ),
    (
        "two_bar_reversal_bearish_trigger(close_proximity=0.25[0.1..0.5])",
        "two_candle_reversal_bearish(close_proximity) above 0",
        (
            "A white candle that closes near its high, and a black one, as high, that closes near its low and "
            "below the white one's open."
        ),
    ),
    (
        "nr7_trigger(window=7[4..20])",
        "narrowest(window) above 0",
        "A range narrower than each of those of the `window` - 1 candles before.",
    ),
)
FILTERS: Final[Mapping[str, Signal]] = signals(
    "patterns",
    SignalType.FILTER,
    (
        "bullish_pattern_recent(window=5[1..20])",
        "bullish_recent(window) above 0",
        "One of the bullish patterns was completed within the window.",
    ),
    (
        "bearish_pattern_recent(window=5[1..20])",
        "bearish_recent(window) above 0",
        "One of the bearish patterns was completed within the window.",
    ),
    (
        "reversal_pattern_bullish(window=5[1..20])",
        "reversal_up_recent(window) above 0",
        "A pattern of a turn upwards was completed within the window.",
    ),
    (
        "reversal_pattern_bearish(window=5[1..20])",
        "reversal_down_recent(window) above 0",
        "A pattern of a turn downwards was completed within the window.",
    ),
    (
        "continuation_pattern_bullish(window=5[1..20])",
        "going_up_recent(window) above 0",
        "Three white soldiers or three inside up were completed within the window.",
    ),
    (
        "continuation_pattern_bearish(window=5[1..20])",
        "going_down_recent(window) above 0",
        "Three black crows or three inside down were completed within the window.",
    ),
    (
        "indecision_pattern_recent(window=5[1..20])",
        "undecided_recent(window) above 0",
        "A doji, spinning top, inside candle or narrowest range of seven was completed within the window.",
    ),
    (
        "strong_body_recent(window=5[1..20])",
        "strong_recent(window) above 0",
        "A marubozu of either colour was completed within the window.",
    ),
)
