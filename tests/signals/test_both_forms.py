"""Every signal says the same live and by column, at every candle, whatever its params and whatever the candles."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from pipaid.model.candle import Candle
from pipaid.model.columns import Candles
from pipaid.model.instrument import Timeframe
from pipaid.signals import sheets as sheets_module
from pipaid.signals.catalogue.declare import Signal
from pipaid.signals.catalogue.lookup import SIGNALS, rule
from pipaid.signals.columns import Columns
from pipaid.signals.features import LINES, params_of_indicator
from pipaid.signals.series import BLOCK, Condition, Feature, Series
from tests.signals.candles import eurusd_hours, restless, storms, walks
from tests.signals.drawn import default_rules, params_of, said_by_column, said_live

GROUPS = sorted({(signal.group, signal.type) for signal in SIGNALS.values()})


def asked_of(signals: list[Signal], data: st.DataObject) -> list[Condition]:
    return [
        rule(
            signal.name,
            data.draw(params_of(signal), label=signal.name),
            timeframe=Timeframe.H1,
            type=data.draw(st.sampled_from(["TRIGGER", str(signal.type)])),
            anchor=100.0 if signal.anchored else None,
        ).condition
        for signal in signals
    ]


def assert_same(candles: list[Candle], conditions: list[Condition], block: int) -> None:
    live, columns = said_live(candles, conditions, block), said_by_column(candles, conditions, block)
    for condition in conditions:
        differ = np.flatnonzero(live[condition] != columns[condition])
        assert not len(differ), (condition, differ[:5])


@pytest.mark.parametrize(("group", "kind"), GROUPS)
@given(data=st.data(), block=st.sampled_from([16, 64, BLOCK]), few=st.sampled_from([1, 12]))
@settings(deadline=None, max_examples=12)
def test_any_params_say_the_same_in_both_forms(
    group: str, kind: str, data: st.DataObject, block: int, few: int
) -> None:
    signals = [signal for signal in SIGNALS.values() if (signal.group, signal.type) == (group, kind)]
    drawn = data.draw(st.one_of(walks(count=120, gap_max=3), walks(count=120), storms()))
    # Columns keep volumes of eight decimals; none at all is one of them.
    volumes = data.draw(st.lists(st.integers(0, 4), min_size=len(drawn), max_size=len(drawn)))
    candles = [replace(candle, volume=Decimal(volume)) for candle, volume in zip(drawn, volumes, strict=True)]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(sheets_module, "LANES_FEW", few)
        assert_same(candles, asked_of(signals, data), block)


@given(data=st.data(), first=st.integers(0, 4_000))
@settings(deadline=None, max_examples=3)
def test_any_params_say_the_same_of_real_hours(data: st.DataObject, first: int, eurusd_hours_csv: Path) -> None:
    candles = eurusd_hours(eurusd_hours_csv)[first : first + 300]

    assert_same(candles, asked_of(list(SIGNALS.values()), data), BLOCK)


def test_every_formula_is_the_same_to_the_last_bit_over_several_blocks(eurusd_hours_csv: Path) -> None:
    candles = eurusd_hours(eurusd_hours_csv)[:500]
    rules = default_rules(Timeframe.H1, anchor=1.1).values()
    features = list({feature: None for each in rules for feature in each.condition.features})
    assert {feature.name for feature in features} >= LINES.keys() - {"psar"}

    for block in (80, BLOCK):
        columns = Columns(Candles.from_candles(candles), block=block)
        series = Series("EURUSD", Timeframe.H1, block=block)
        for feature in features:
            series.retain(feature)
        shown: dict[Feature, list[tuple[float | None, float | None]]] = {feature: [] for feature in features}
        for candle in candles:
            series.append(candle)
            for feature, values in shown.items():
                live = series.feature(feature)
                values.append((live.value, live.previous))
        late = Series("EURUSD", Timeframe.H1, block=block)
        for candle in candles:
            late.append(candle)
        for feature, values in shown.items():
            # One made late knows only what it needs.
            asked = late.feature(feature)
            assert (asked.value, asked.previous) == values[-1], feature
            made = columns.feature(feature)
            both = zip(made.value.tolist(), made.previous.tolist(), strict=True)
            assert values == [(_or_none(now), _or_none(before)) for now, before in both], feature


def _or_none(value: float) -> float | None:
    return value if value == value else None


@pytest.mark.parametrize("size", [0.0, 2.0, 7.0])
def test_a_formula_takes_params_that_no_signal_has(size: float) -> None:
    candles = restless(100)
    columns, series = Columns(Candles.from_candles(candles), block=32), Series("EURUSD", Timeframe.H1, block=32)
    features: list[Feature] = []
    for name in LINES:
        params = params_of_indicator(name, 3)
        values = [each.low if each.low > size else min(each.high, size) for each in params]
        features.append(Feature(name, tuple(values)))
    for feature in features:
        series.retain(feature)
    for place, candle in enumerate(candles):
        series.append(candle)
        for feature in features:
            live, made = series.feature(feature), columns.feature(feature)
            assert (live.value, live.previous) == (_or_none(made.value[place]), _or_none(made.previous[place])), feature
