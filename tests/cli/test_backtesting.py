"""`pipaid backtest`: a declared strategy over candles in the store, and what is wrong with what was asked."""

from __future__ import annotations

import gzip
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest

from pipaid.backtesting import Backtest
from pipaid.cli.backtesting import Asked, Charges, backtest_of, definition_of, play
from pipaid.cli.exits import Exit
from pipaid.cli.optimising import Sweep, sweep
from pipaid.config import load_declarations
from pipaid.errors import InvalidParameter, NotFound
from pipaid.model.columns import Candles
from pipaid.model.instrument import Timeframe
from pipaid.model.moment import parse_iso
from pipaid.seams import SystemDisk
from pipaid.storage.candles import CandleStore
from tests.builders import START_MS
from tests.cli.test_downloading import Streams, streams

MINUTES = 3_000
DECLARED = """
[[strategy]]
name = "one"
template_id = "tpl_momentum"
symbols = ["BTCUSDT"]
timeframe = "5m"
capital = "10000"
params = { fast = 3, slow = 8, rsi_min = "0" }
"""


def stored(folder: Path, venue: str = "local") -> CandleStore:
    store = CandleStore(folder)
    steps = np.random.default_rng(7).integers(-40, 41, MINUTES + 1).cumsum() / 10 + 1_000
    first, last = steps[:-1], steps[1:]
    columns = {
        "open": first,
        "high": np.maximum(first, last) + 0.3,
        "low": np.minimum(first, last) - 0.3,
        "close": last,
    }
    rounded = {name: np.round(column, 1) for name, column in columns.items()}
    times = START_MS + 60_000 * np.arange(MINUTES)
    store.add(venue, Candles.from_rows("BTCUSDT", Timeframe.M1, time_ms=times, volume=np.ones(MINUTES), **rounded))
    return store


def asked(store: CandleStore, **given: Any) -> Asked:
    charged = {name: given.pop(name) for name in attrs.fields_dict(Charges) if name in given}
    fields: dict[str, Any] = {"since": "", "until": "", "venue": "", "store": store}
    return Asked(**{**fields, **given}, charges=Charges(**charged))


RULES = """
[[strategy]]
name = "ruled"
template_id = "tpl_rules"
symbols = ["BTCUSDT"]
timeframe = "5m"
capital = "10000.00"
[[strategy.params.entry]]
name = "price_above_ema"
signal_type = "TRIGGER"
timeframe = "5m"
params = { window = 3 }
[[strategy.params.entry]]
name = "is_above_sma"
signal_type = "FILTER"
timeframe = "5m"
params = { window = 10 }
[strategy.params.execution_config]
cooldown_bars = 0
"""


def declared(folder: Path, text: str = DECLARED) -> str:
    path = folder / "strategies.toml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def played(folder: Path, *, as_json: bool = False, name: str = "", text: str = DECLARED, **given: Any) -> Streams:
    seen = streams(as_json=as_json)
    store = CandleStore(folder / "candles")
    play(seen.terminal, declared(folder, text), name, asked(store if store.names() else stored(store.folder), **given))
    return seen


def test_a_declared_strategy_is_played_and_told_in_a_table(tmp_path: Path) -> None:
    lines = played(tmp_path).out.getvalue().strip().splitlines()

    assert lines[0] == "one: tpl_momentum on BTCUSDT 5m"
    facts = dict(line.split(maxsplit=1) for line in lines[1:6])
    assert facts["candles"].strip() == str(MINUTES)
    assert any(line.startswith("total trades") for line in lines)
    assert "last trades" in lines


def test_every_driver_tells_the_same(tmp_path: Path) -> None:
    told = [
        json.loads(played(tmp_path, as_json=True, driver=driver).out.getvalue())
        for driver in ("auto", "callback", "skipping")
    ]

    assert told[0] == told[1] == told[2]
    assert len(told[0]["trades"]) > 5


def test_the_report_is_written_and_named(tmp_path: Path) -> None:
    path = tmp_path / "out.html"

    out = played(tmp_path, report=path).out.getvalue()

    assert out.endswith(f"report: {path}\n")
    assert path.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


@pytest.mark.parametrize(
    ("path", "complaint"),
    [(".", "--report: . is a folder"), ("/nonexistent/x.html", "--report: there is no folder /nonexistent")],
)
def test_a_report_that_cannot_be_written_is_refused_before_anything_is_played(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, complaint: str
) -> None:
    monkeypatch.delattr(Backtest, "run")

    with pytest.raises(InvalidParameter, match=complaint):
        played(tmp_path, report=Path(path))


def test_a_part_is_played_with_what_was_before_as_history(tmp_path: Path) -> None:
    since, until = "2023-11-15T12:00:00Z", "2023-11-15T18:00:00Z"

    told = json.loads(played(tmp_path, as_json=True, since=since, until=until).out.getvalue())

    assert (told["equity_curve"][0][0], told["equity_curve"][-1][0]) == (since, "2023-11-15T18:01:00Z")


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"since": "yesterday"}, "--from 'yesterday': a date such as"),
        ({"since": "2024-01-01", "until": "2024-02-01"}, "no candle of BTCUSDT lies between"),
        (
            {"since": "2024-01-01"},
            "--from: 2024-01-01 is after the last candle of BTCUSDT at local, which is of 2023-11",
        ),
        ({"until": "2999-01-01"}, "--to: 2999-01-01 is in the future"),
        ({"until": "2023-11-01"}, "--to: 2023-11-01 is before the first candle of BTCUSDT at local, which is of 2023"),
        ({"since": "2023-11-16", "until": "2023-11-15"}, "--from: 2023-11-16 is not before --to 2023-11-15"),
        ({"fee_model": "free"}, "--fee-model 'free': one of none, fixed_bps"),
        (
            {"fee_model": "match_exchange"},
            "match_exchange needs a venue whose fees are known (binance-usdm, binance-spot)",
        ),
        ({"fee_bps": "NaN"}, "fee_bps: 'NaN' is no exact number"),
        ({"fee_bps": "-1"}, "must be 0 to 1000 basis points"),
        ({"driver": "warp"}, "--driver 'warp': one of auto, callback, skipping"),
        ({"capital": "1"}, "must be at least 100 for tpl_momentum"),
        ({"venue": "moon"}, "no candles of BTCUSDT of the venue moon"),
        ({"name": "two"}, "declares no strategy 'two'; it declares 'one'"),
        ({"text": DECLARED + DECLARED.replace('"one"', '"two"')}, "choose one with --name: 'one', 'two'"),
        ({"text": DECLARED.replace("BTCUSDT", "ETHUSDT")}, "no candles of ETHUSDT of the venue local"),
        ({"text": DECLARED.replace("tpl_momentum", "tpl_moon")}, "no template is called 'tpl_moon'"),
    ],
)
def test_what_makes_no_sense_is_refused_with_what_would(tmp_path: Path, given: dict[str, Any], complaint: str) -> None:
    with pytest.raises((InvalidParameter, NotFound)) as refused:
        played(tmp_path, **given)

    assert complaint in refused.value.message


def test_only_the_candles_that_there_are_count_towards_the_longest_span(tmp_path: Path) -> None:
    assert fact(played(tmp_path, since="2015-01-01"), "candles") == str(MINUTES)

    times = np.array([START_MS - 6 * 366 * 86_400_000])
    prices = {name: np.array([1_000.0]) for name in ("open", "high", "low", "close", "volume")}
    CandleStore(tmp_path / "candles").add("local", Candles.from_rows("BTCUSDT", Timeframe.M1, time_ms=times, **prices))
    with pytest.raises(InvalidParameter, match="more than 5 years; play them in parts"):
        played(tmp_path, since="2015-01-01")


def rates(folder: Path, name: str, text: str) -> str:
    path = folder / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return str(path)


def fact(seen: Streams, name: str) -> str:
    """Return what the table says of something."""
    (line,) = [each for each in seen.out.getvalue().splitlines() if each.startswith(f"{name} ")]
    return line.removeprefix(name).strip()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("BTCUSDT-funding-2023.csv.gz", "funding_time_ms,funding_rate\n{ms},0.001\n"),
        ("BTCUSDT-fundingRate-2023-11.csv", "calc_time,funding_interval_hours,last_funding_rate\n{ms},8,0.001\n"),
        ("mine.csv", "time,rate\n2023-11-15T16:00:00Z,0.001\n"),
    ],
)
def test_funding_is_paid_from_every_layout_of_a_file(tmp_path: Path, name: str, text: str) -> None:
    # A few milliseconds behind the hour, as the venue records it.
    at_ms = parse_iso("2023-11-15T16:00:00Z") + 3
    path = rates(tmp_path, name, text.format(ms=at_ms))

    seen = played(tmp_path, funding=(f"BTCUSDT={path}" if name == "mine.csv" else path,))

    assert fact(seen, "funding") == fact(paid_by_hand(tmp_path), "funding")


def paid_by_hand(folder: Path) -> Streams:
    """Play with the rate given through the API, which pays what a long lot owes."""
    definition = load_declarations([Path(declared(folder))], SystemDisk())[0].definition
    backtest = backtest_of(definition, asked(CandleStore(folder / "candles")))
    due = {"BTCUSDT": [(parse_iso("2023-11-15T16:00:00Z"), Decimal("0.001"))]}
    raw = attrs.evolve(backtest, funding=due).run().raw
    assert raw.funding != 0
    seen = streams()
    seen.terminal.say(f"funding  {raw.funding:+.2f}")
    return seen


def test_several_files_of_funding_are_joined_and_those_of_other_symbols_left(tmp_path: Path) -> None:
    head = "funding_time_ms,funding_rate\n"
    one = rates(tmp_path, "BTCUSDT-a.csv", f"{head}{parse_iso('2023-11-15T16:00:00Z')},0.001\n")
    two = rates(tmp_path, "BTCUSDT-b.csv", f"{head}{parse_iso('2023-11-16T00:00:00Z')},0.001\n")
    other = rates(tmp_path, "ETHUSDT-a.csv", f"{head}{parse_iso('2023-11-15T16:00:00Z')},0.9\n")

    told = [
        fact(played(tmp_path, funding=funding), "funding")
        for funding in ((two, one, other), (str(tmp_path / "*-[ab].csv"),), (one,))
    ]

    assert told[0] == told[1] != told[2]


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("ETHUSDT-a.csv", "time,rate\n0,0.1\n", "the files are of ETHUSDT, none of BTCUSDT"),
        ("BTCUSDT-a.csv", "time,rate\n0,1.5\n", "row 2: a rate of 1.5 would be the whole position"),
        ("BTCUSDT-a.csv", "time,rate\n0,NaN\n", "row 2: 'NaN' is no number"),
        ("BTCUSDT-a.csv", "time,rate\nnoon,0.1\n", "row 2: 2 columns with a time in milliseconds or ISO 8601"),
        ("BTCUSDT-a.csv", "time,open,high,low,close,volume\n", "these are candles, not funding rates"),
        ("BTCUSDT-a.csv", "when,what\n", "nor of funding (funding_time_ms,funding_rate or time,rate)"),
    ],
)
def test_funding_that_makes_no_sense_is_refused(tmp_path: Path, name: str, text: str, complaint: str) -> None:
    with pytest.raises(InvalidParameter) as refused:
        played(tmp_path, funding=(rates(tmp_path, name, text),))

    assert complaint in refused.value.message


def test_a_file_of_funding_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"--funding: there is no file .*nowhere\.csv"):
        played(tmp_path, funding=(str(tmp_path / "nowhere.csv"),))


@pytest.mark.parametrize(("venue", "maker", "taker"), [("binance-usdm", 2, 5), ("binance-spot", 10, 10)])
def test_the_venue_of_the_candles_is_matched_in_what_it_charges(
    tmp_path: Path, venue: str, maker: int, taker: int
) -> None:
    stored(tmp_path / "candles", venue)
    matched = json.loads(played(tmp_path, as_json=True, fee_model="match_exchange").out.getvalue())

    # This template takes with market orders alone.
    fixed = json.loads(played(tmp_path, as_json=True, fee_bps=str(taker)).out.getvalue())

    assert matched["trades"] == fixed["trades"]
    assert len(matched["trades"]) > 5
    assert maker <= taker


def test_the_tiers_of_a_configuration_are_charged(tmp_path: Path) -> None:
    config = tmp_path / "pipaid.toml"
    config.write_text('[backtest]\ntiers = [{ volume = "0", maker_bps = "7", taker_bps = "7" }]', encoding="utf-8")

    tiered = json.loads(played(tmp_path, as_json=True, fee_model="tiered_maker_taker", config=config).out.getvalue())
    fixed = json.loads(played(tmp_path, as_json=True, fee_bps="7").out.getvalue())
    usual = json.loads(played(tmp_path, as_json=True, fee_model="tiered_maker_taker").out.getvalue())

    assert tiered["trades"] == fixed["trades"] != usual["trades"]


def test_a_configuration_that_is_wrong_is_refused_with_its_line(tmp_path: Path) -> None:
    config = tmp_path / "pipaid.toml"
    config.write_text("[backtest]\ntiers = []", encoding="utf-8")

    with pytest.raises(InvalidParameter, match=r"pipaid\.toml:2: backtest\.tiers: no tier begins at a volume of 0"):
        played(tmp_path, fee_model="tiered_maker_taker", config=config)


def test_a_file_of_strategies_that_is_not_there_is_not_found() -> None:
    with pytest.raises(NotFound, match=r"^there is no file nowhere\.toml$"):
        definition_of(streams().terminal, "nowhere.toml", "")


def test_candles_of_two_venues_are_not_mixed_up(tmp_path: Path) -> None:
    stored(tmp_path / "candles")
    stored(tmp_path / "candles", "binance-usdm")

    with pytest.raises(InvalidParameter, match="name one venue"):
        played(tmp_path)


def sweep_of(params: list[str], **given: Any) -> Sweep:
    wanted: dict[str, Any] = {
        "method": "grid",
        "tries": 10,
        "seed": 0,
        "windows": 2,
        "held_out": "0.3",
        "metric": "sharpe",
        "jobs": 1,
        "scheduler": "",
    }
    return Sweep(params=params, **{**wanted, **given})


def swept(folder: Path, *, as_json: bool = False, **given: Any) -> Streams:
    seen = streams(as_json=as_json)
    wanted = sweep_of(**{"params": ["fast=2,3", "slow=8,12"], **given})
    assert sweep(seen.terminal, declared(folder), asked(stored(folder / "candles")), wanted, name="") == Exit.OK
    return seen


def test_a_sweep_shows_every_set_and_what_would_have_been_chosen(tmp_path: Path) -> None:
    lines = swept(tmp_path).out.getvalue().strip().splitlines()

    assert lines[0] == "4 sets of params, the best first"
    assert sum(line.startswith("fast=") for line in lines) == 4
    assert "walking forward: the best of each window, on what came after it" in lines


def test_a_sweep_reaches_params_within_params(tmp_path: Path) -> None:
    seen = streams(as_json=True)
    wanted = sweep_of(["params.entry[1].params.window=5,20", "execution_config.atr_period=3:21:18"])

    code = sweep(seen.terminal, declared(tmp_path, RULES), asked(stored(tmp_path / "candles")), wanted, name="")

    told = json.loads(seen.out.getvalue())["candidates"]
    assert (code, len(told), {one["failed"] for one in told}) == (Exit.OK, 4, {""})
    # Each of them changes what is traded.
    assert len({json.dumps(one["scores"]) for one in told}) == 4


def test_a_sweep_tells_programs_all_of_it(tmp_path: Path) -> None:
    told = json.loads(swept(tmp_path, as_json=True, method="random", tries=3).out.getvalue())

    assert (told["metric"], len(told["windows"]), len(told["candidates"])) == ("sharpe", 2, 3)
    assert all(len(one["scores"]) == 2 for one in told["candidates"])


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"params": ["fast"]}, "write name=5,10,20"),
        ({"windows": 0}, "windows: must be 1 to 100"),
        ({"method": "luck"}, "--method 'luck': one of grid, random, tpe"),
        ({"scheduler": "moon"}, "scheduler: 'moon' is no address such as tcp://"),
        ({"params": ["fast=2", "speed=1,2"]}, "--param speed: tpl_momentum has no such param; it has fast, "),
        ({"params": ["fast.window=1,2"]}, "param fast.window: the strategy has nothing at 'window'"),
        ({"params": ["fast..x=1,2"]}, "param 'fast..x': write a name, or a path such as"),
        ({"metric": "luck"}, "--metric 'luck': one of sharpe"),
        ({"jobs": 0}, "--jobs and --tries: 1 or more"),
        ({"jobs": 513}, "at most 512 jobs"),
        ({"held_out": "most"}, "--held-out 'most': a share"),
        ({"held_out": "1"}, "held_out: must be 0.05 to 0.95"),
    ],
)
def test_a_sweep_that_makes_no_sense_is_refused(tmp_path: Path, given: dict[str, Any], complaint: str) -> None:
    with pytest.raises(InvalidParameter) as refused:
        swept(tmp_path, **given)

    assert complaint in refused.value.message


def test_a_sweep_may_be_suggested_and_tried_in_processes(tmp_path: Path) -> None:
    told = json.loads(swept(tmp_path, as_json=True, method="tpe", tries=3, jobs=2).out.getvalue())

    assert len({json.dumps(one["params"]) for one in told["candidates"]}) == 3


def test_a_sweep_of_which_no_set_can_be_played_is_refused_with_every_reason(tmp_path: Path) -> None:
    seen = streams()

    code = sweep(
        seen.terminal, declared(tmp_path), asked(stored(tmp_path / "candles")), sweep_of(["fast=900,x"]), name=""
    )

    assert code == Exit.REFUSED
    assert sum(line.startswith("fast=") for line in seen.out.getvalue().splitlines()) == 2
