"""How much history a condition wants: as many candles as it takes until what came before them no longer shows."""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil
from types import MappingProxyType
from typing import Final

from pipaid.model.instrument import Timeframe
from pipaid.signals.features import LINES, line_of, reach_of
from pipaid.signals.line import WINDOWED, Line
from pipaid.signals.series import Condition, Feature

# A smoothing has less than a billionth of its seed left after so many of its time constants.
FORGETTING: Final = 22.0
# After so many candles, state machines that began in different states are in the same one.
SETTLED: Final[Mapping[str, int]] = MappingProxyType(
    {
        "held": 0,
        "bulge": 300,
        "psar": 300,
        "supertrend": 300,
        "trailing": 300,
        "mama": 1_000,
        "mama_lead": 1_000,
        "swings": 500,
    }
)
# The same of an average whose pace depends on prices.
PACED: Final = 1_000


def history(condition: Condition, timeframe: Timeframe) -> int:
    """Return how many candles of a timeframe a condition wants before it is asked."""
    # One more, as some look at the candle before.
    return 1 + max(_of_feature(feature, timeframe) for feature in condition.features)


def _of_feature(feature: Feature, timeframe: Timeframe) -> int:
    if feature.name in LINES:
        return _of_line(line_of(feature.name, feature.params), timeframe)
    reach = reach_of(feature.name, feature.params)
    if reach is not None:
        return reach
    window = int(feature.params[0]) if feature.params else 1
    pace = 2.0 / (window + 1) if feature.name == "ema" else 1.0 / window
    return window + ceil(FORGETTING / pace)


def _of_line(line: Line, timeframe: Timeframe) -> int:
    before = max((_of_line(each, timeframe) for each in line.inputs), default=1)
    numbers = [each for each in line.params if not isinstance(each, str)]
    match line.operation:
        case "shift":
            return before + int(numbers[0])
        case "weighted":
            return before + len(numbers) - 1
        case "smooth":
            return before + ceil(FORGETTING / numbers[0])
        case "wilder":
            return before + ceil((FORGETTING + 1.0) * numbers[0])
        case "follow":
            share = line.inputs[1]
            constant = share.operation == "number" and isinstance(share.params[0], float)
            return before + (ceil(FORGETTING / float(share.params[0])) if constant else PACED)
        case "fold" if line.params[0] == "period_trend":
            period_ms, _, window = numbers
            return before + ceil((FORGETTING / 2.0 + 1.0) * (window + 1.0) * period_ms / timeframe.ms)
        case "fold":
            return before + SETTLED[str(line.params[0])]
        case operation if operation in WINDOWED or operation in ("highest_yet", "total_yet"):
            return before + int(numbers[0]) - 1
        case _:
            return before
