"""The verbs about signals: what there is, what one takes, and what came of it on recorded candles."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from pipaid.cli.exits import Exit
from pipaid.cli.firing import Trial
from pipaid.model.signal import SignalList, SignalObject
from tests.cli.answering import pipaid


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    """Return a file of hours that rise for ten days and then fall for ten, with a whole day of no change in between."""
    rows = ["open_time_ms,open,high,low,close,volume"]
    closes = [100 + hour for hour in range(240)] + [339] * 24 + [338 - hour for hour in range(240)]
    rows += [f"{hour * 3_600_000},{close},{close},{close},{close},1" for hour, close in enumerate(closes)]
    path = tmp_path / "TEST-1h.csv"
    path.write_text("\n".join(rows) + "\n")
    return path


def test_the_list_names_every_signal_once() -> None:
    told = msgspec.json.decode(pipaid("signals", "list", "--json").out, type=SignalList)

    assert len(told.data) == len({each.name for each in told.data}) == 223


def test_the_list_can_be_searched() -> None:
    out = pipaid("signals", "list", "squeeze", "--group", "volatility").out

    assert "bb_squeeze" in out
    assert "ttm_squeeze_active" not in out
    assert "1 signals" in out
    refused = pipaid("signals", "list", "--group", "magic")
    assert refused.code == Exit.REFUSED
    assert "momentum, patterns, trend, volatility, volume" in refused.err


def test_a_signal_is_explained_with_its_params() -> None:
    out = pipaid("signals", "show", "sma_cross_up").out
    told = msgspec.json.decode(pipaid("signals", "show", "sma_cross_up", "--json").out, type=SignalObject)

    assert "sma(window_fast) cross_above sma(window_slow)" in out
    assert "required" in out
    assert "a whole number from 1 to 200" in out
    assert [(each.name, each.required, each.minimum) for each in told.params] == [
        ("window_fast", True, 1.0),
        ("window_slow", True, 1.0),
    ]


def test_an_unknown_signal_is_refused_with_a_near_one() -> None:
    refused = pipaid("signals", "show", "rsi_oversol")

    assert refused.code == Exit.REFUSED
    assert "did you mean rsi_oversold" in refused.err


def test_a_signal_is_tried_on_recorded_candles(recorded: Path) -> None:
    line = pipaid("signals", "test", "is_above_sma", "--data", str(recorded), "--param", "window=5", "--json").out
    trial = msgspec.json.decode(line, type=Trial)

    # From the fifth candle on while prices rise, and on three more until the average has come up to them.
    assert (trial.candles, trial.true_candles, trial.began) == (504, 239, 1)
    assert trial.by_month == {"1970-01": 1}
    assert trial.latest == ("1970-01-01T04:00:00Z",)
    assert trial.return_after_pct == pytest.approx(100 * (128 / 104 - 1))

    drawn = pipaid("signals", "test", "is_above_sma", "--data", str(recorded), "--param", "window=5").out
    assert "at 239 candles (47.42 %), in 1 stretches" in drawn
    assert "1970-01-01T04:00:00Z" in drawn
    assert "▁" in drawn


def test_it_can_be_tried_as_a_trigger_and_on_larger_candles(recorded: Path) -> None:
    asked = ("signals", "test", "is_above_sma", "--data", str(recorded), "--param", "window=2", "--json")
    edge = msgspec.json.decode(pipaid(*asked, "--as-trigger").out, type=Trial)
    days = msgspec.json.decode(pipaid(*asked, "--timeframe", "1d").out, type=Trial)

    assert (edge.true_candles, edge.began) == (1, 1)
    assert (days.timeframe, days.candles, days.true_candles) == ("1d", 21, 9)


def test_lists_and_choices_are_typed_as_they_are_written(recorded: Path) -> None:
    asked = ("signals", "test", "ma_ribbon_bullish", "--data", str(recorded), "--json")
    trial = msgspec.json.decode(pipaid(*asked, "--param", "windows=2,4,8").out, type=Trial)
    flagged = pipaid(
        "signals", "test", "kc_upper_breakout", "--data", str(recorded), "--param", "original_version=true"
    )

    assert trial.true_candles > 200
    assert flagged.code == Exit.OK


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        (("--param", "window"), "--param takes NAME=VALUE"),
        (("--param", "window=1000"), "window must be a whole number from 1 to 200"),
        (("--param", "windw=10"), "windw is no param of is_above_sma"),
        (("--timeframe", "7m"), "one of 1m, 5m"),
        (("--timeframe", "1m"), "1m candles cannot be made of 1h ones"),
    ],
)
def test_what_cannot_be_tried_is_refused(typed: tuple[str, ...], told: str, recorded: Path) -> None:
    given = () if typed[1].startswith("win") else ("--param", "window=5")
    refused = pipaid("signals", "test", "is_above_sma", "--data", str(recorded), *given, *typed)

    assert refused.code == Exit.REFUSED
    assert told in refused.err


def test_a_signal_that_never_was_true_says_so(recorded: Path) -> None:
    out = pipaid("signals", "test", "bb_lower_breakout", "--data", str(recorded), "--param", "window_dev=5").out

    assert "It was never true" in out
