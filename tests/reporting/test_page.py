"""A report is one file that asks nothing of anybody, runs its own scripts only, and holds every result there is."""

from __future__ import annotations

import re
from base64 import b64encode
from decimal import Decimal
from hashlib import sha256
from pathlib import Path
from pkgutil import get_data
from typing import Any

import msgspec
import numpy as np
import pytest

from pipaid.errors import InvalidParameter
from pipaid.model.backtest import BacktestResult
from pipaid.model.columns import Candles
from pipaid.model.order import Side
from pipaid.reporting import page
from pipaid.reporting.page import report_page, write_report
from tests.builders import DAY_MS, OTHER, START_MS, SYMBOL
from tests.reporting.test_markup import Reading
from tests.results import make_columns, make_fill, make_level, make_result, make_trade

HOSTILE = '<img src=x onerror=alert(1)></script><script>alert(2)</script><!--"\'&<a href="javascript:alert(3)">'
BYTES_MAX = 15_000_000
# Attributes by which an element reaches for something.
REACHING = frozenset(
    {"action", "background", "data", "formaction", "href", "ping", "poster", "src", "srcset", "xlink:href"}
)
STYLE = (get_data("pipaid.reporting", "report.css") or b"").decode()


def blocks_of(reading: Reading) -> dict[str, Any]:
    """Return the data that the scripts of a page read."""
    found: dict[str, Any] = {}
    for (name, attributes), text in zip(reading.elements, reading.texts, strict=True):
        if name == "script" and attributes.get("type") == "application/json":
            found[attributes["id"] or ""] = msgspec.json.decode(text)
    return found


def scripts_of(reading: Reading) -> list[str]:
    pairs = zip(reading.elements, reading.texts, strict=True)
    return [text for (name, attributes), text in pairs if name == "script" and "type" not in attributes]


def eventful(**fields: Any) -> BacktestResult:
    trades = (make_trade(1, "5"), make_trade(2, "-3", side=Side.SELL, reason="stop_loss"))
    fills = (make_fill(Side.BUY, 60_000), make_fill(Side.SELL, 120_000))
    given = {"trades": trades, "fills": fills, "levels": (make_level(),), "refusals": {"cooldown": 4}}
    return make_result(**{**given, **fields})


@pytest.fixture(scope="module")
def reading() -> Reading:
    return Reading(report_page(eventful(), {SYMBOL: make_columns()}))


def test_the_page_asks_nothing_of_any_network(reading: Reading) -> None:
    reaching = [(name, key) for name, attributes in reading.elements for key in attributes if key in REACHING]

    assert reaching == []
    assert {name for name, _ in reading.elements}.isdisjoint({"base", "embed", "form", "iframe", "link", "object"})
    assert not re.search(r"url\(|@import|http", STYLE)
    assert not re.search(r"https?:|//\w|fetch\(|XMLHttp|import\(|WebSocket|sendBeacon", scripts_of(reading)[1])


def test_the_policy_lets_these_scripts_run_and_nothing_else(reading: Reading) -> None:
    (policy,) = [
        told.get("content") or "" for name, told in reading.elements if name == "meta" and "http-equiv" in told
    ]

    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    hashes = [f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'" for text in scripts_of(reading)]
    assert rules["default-src"] == "'none'"
    assert rules["script-src"].split() == hashes
    assert len(hashes) == 2
    assert (rules["base-uri"], rules["form-action"], rules["img-src"]) == ("'none'", "'none'", "data: blob:")
    assert not [key for _, attributes in reading.elements for key in attributes if key.startswith("on")]


def test_the_policy_comes_before_whatever_it_is_to_hold(reading: Reading) -> None:
    names = [name for name, _ in reading.elements]
    policy = next(index for index, (_, told) in enumerate(reading.elements) if "http-equiv" in told)

    assert policy < min(names.index("script"), names.index("style"), names.index("title"))


def test_the_script_finds_all_that_it_looks_for(reading: Reading) -> None:
    script = scripts_of(reading)[1]
    several = Reading(report_page(eventful(), {SYMBOL: make_columns(), OTHER: make_columns(symbol=OTHER)}))

    wanted = set(re.findall(r'getElementById\("(\w+)"\)|read\("(\w+)"\)', script))
    ids = {attributes.get("id") for _, attributes in several.elements}
    assert {one or other for one, other in wanted} <= ids
    assert set(re.findall(r'colour\("(\w+)"\)', script)) <= set(re.findall(r"--(\w+):", STYLE))


def test_the_page_holds_what_the_charts_draw(reading: Reading) -> None:
    blocks = blocks_of(reading)

    assert blocks["curve"]["equity"] == [1000.0, 1000.0]
    assert [chart["symbol"] for chart in blocks["charts"]] == [SYMBOL]
    assert len(blocks["charts"][0]["candles"]["steps"]) == 1440
    assert [row[10] for row in blocks["trades"]["rows"]] == ["exit_rule", "stop_loss"]
    assert blocks["trades"]["rows"][0][12] == [["stop", 100.0, START_MS, START_MS + 60_000]]


def test_hostile_names_are_words() -> None:
    plain = Reading(report_page(eventful(config={"name": "x", "y": {"z": ["w"]}}), {SYMBOL: make_columns()}))
    candles = make_columns(symbol=HOSTILE)
    result = eventful(
        config={"name": HOSTILE, HOSTILE: {HOSTILE: [HOSTILE]}},
        refusals={HOSTILE: 4},
        trades=(
            make_trade(1, "5", symbol=HOSTILE, reason=HOSTILE),
            make_trade(2, "-3", symbol=HOSTILE, side=Side.SELL),
        ),
        levels=(make_level(symbol=HOSTILE, position_id=HOSTILE),),
    )

    hostile = Reading(report_page(result, {HOSTILE: candles}))

    assert [name for name, _ in hostile.elements].count("script") == 5
    assert {name for name, _ in hostile.elements} == {name for name, _ in plain.elements}
    assert scripts_of(hostile) == scripts_of(plain)
    assert blocks_of(hostile)["trades"]["rows"][0][10] == HOSTILE
    assert HOSTILE in hostile.texts


def test_words_from_outside_are_never_markup_in_the_script(reading: Reading) -> None:
    script = scripts_of(reading)[1]

    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function", script)


def test_a_result_without_trades_has_a_page() -> None:
    bare = Reading(report_page(make_result(refusals={"exposure_max": 9}), {SYMBOL: make_columns()}))

    told = " ".join(bare.texts)
    assert "No trade was closed." in told
    assert "exposure_max" in told
    assert blocks_of(bare)["trades"]["rows"] == []
    assert "list" not in {attributes.get("id") for _, attributes in bare.elements}


def test_a_result_of_nothing_at_all_has_a_page() -> None:
    empty = Reading(report_page(make_result(equity_curve=(), config={}, candles=0), {}))

    told = " ".join(empty.texts)
    assert "No candle was seen" in told
    assert "There are no candles to draw." in told


def test_a_single_candle_has_a_page() -> None:
    ends = (START_MS, START_MS + 60_000)
    result = make_result(equity_curve=tuple((at_ms, Decimal(1000)) for at_ms in ends), candles=1)

    blocks = blocks_of(Reading(report_page(result, {SYMBOL: make_columns(1)})))

    assert (blocks["curve"]["day_ms"], blocks["curve"]["exposure"]) == ([START_MS], [0.0])
    assert len(blocks["charts"][0]["candles"]["steps"]) == 1


def test_candles_from_before_and_after_the_test_are_not_drawn() -> None:
    hour_ms = 3_600_000
    curve = ((START_MS + hour_ms, Decimal(1000)), (START_MS + 3 * hour_ms, Decimal(1000)))

    blocks = blocks_of(Reading(report_page(make_result(equity_curve=curve), {SYMBOL: make_columns()})))

    drawn = blocks["charts"][0]["candles"]
    assert (drawn["start_ms"], len(drawn["steps"])) == (START_MS + hour_ms, 120)


def restless(count: int, symbol: str) -> Candles:
    """Return candles whose prices need many digits and never repeat."""
    rng = np.random.default_rng(7)
    close = np.round(60_000 + np.cumsum(rng.normal(0, 40, count)) % 20_000, 2)
    first = np.concatenate(([60_000.0], close[:-1]))
    high, low = np.maximum(first, close) + 31.27, np.minimum(first, close) - 28.41
    given = {"open": first, "high": np.round(high, 2), "low": np.round(low, 2)}
    times = START_MS + np.arange(count) * 60_000
    return Candles.from_rows(symbol, None, time_ms=times, close=close, **given)


def test_a_year_of_minutes_with_a_trade_in_each_makes_a_page_of_bounded_size() -> None:
    count = 525_600
    candles = restless(count, SYMBOL)
    lengths = range(0, count, 20)
    trades = tuple(
        make_trade(
            number,
            Decimal(number % 977 - 488) / 100,
            entry_time_ms=START_MS + at * 60_000,
            exit_time_ms=START_MS + (at + 90) * 60_000,
            reason="a reason of some length",
        )
        for number, at in enumerate(lengths)
    )
    levels = tuple(
        make_level(str(100 + number), number, number + 60_000, position_id=f"pos_{number}") for number in lengths
    )
    curve = tuple((START_MS + day * DAY_MS, Decimal(1000 + day)) for day in range(366))

    result = eventful(trades=trades, levels=levels, equity_curve=curve, refusals={f"cap_{n}": n for n in range(1000)})
    made = report_page(result, {SYMBOL: candles})

    assert len(made.encode()) < BYTES_MAX
    assert "21,280 of 26,280 trades are left out here" in made
    assert "525,600 candles of 1m are drawn as 2,190 of 4h." in made


def test_equal_results_make_equal_files(tmp_path: Path) -> None:
    for name in ("one.html", "other.html"):
        write_report(eventful(), {SYMBOL: make_columns()}, tmp_path / name)

    written = (tmp_path / "one.html").read_bytes()
    assert written == (tmp_path / "other.html").read_bytes()
    assert written.decode() == report_page(eventful(), {SYMBOL: make_columns()})


def test_without_plotly_the_reader_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "PLOTLY", ("plotly_that_is_not_there", "package_data/plotly.min.js"))
    with pytest.raises(InvalidParameter, match=r"pip install 'pipaid\[report\]'"):
        report_page(make_result(), {})

    monkeypatch.setattr(page, "PLOTLY", ("plotly", "package_data/not_there.js"))
    with pytest.raises(InvalidParameter, match=r"pip install 'pipaid\[report\]'"):
        report_page(make_result(), {})
