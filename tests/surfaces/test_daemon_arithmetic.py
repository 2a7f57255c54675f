"""Whatever a template does to the arithmetic of decimals, everybody else's money comes out to the last digit."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.scenarios.recordings import replay_config, write_recording
from tests.surfaces.daemon import running
from tests.surfaces.plugins import install

MINUTES = 240
HARMLESS = """
[[strategy]]
name = "grid"
template_id = "tpl_grid"
symbols = ["BTCUSDT"]
timeframe = "1m"
capital = "123456.78"
deploy = true
params = { grid_levels = 40, upper_price = "105500", lower_price = "102500" }
[[strategy]]
name = "savings"
template_id = "tpl_dca"
symbols = ["BTCUSDT"]
timeframe = "1m"
capital = "98765.43"
deploy = true
params = { interval = "5m", buy_amount = "333.33" }
"""
HOSTILE = """
[[strategy]]
name = "{misdeed} in {place}"
template_id = "tpl_hostile"
symbols = ["BTCUSDT"]
timeframe = "1m"
capital = "5000.00"
deploy = true
params = {{ misdeed = "{misdeed}", place = "{place}" }}
"""
PLACES = ("init", "features", "wakes", "allocation", "on_start", "on_candle", "on_opened", "on_closed", "on_price")
MISDEEDS = (
    *((misdeed, place) for misdeed in ("coarsen", "forbid", "supplant") for place in PLACES),
    ("adjourn", "on_start"),
    ("adjourn", "on_candle"),
)
SHOWN = ("symbol", "side", "type", "price", "qty", "fill_qty", "fill_price", "avg_price", "fee", "notional", "pnl")


def test_what_templates_do_to_decimals_changes_no_digit_of_their_neighbours_fills(tmp_path: Path) -> None:
    variables = install("plugin_hostile", tmp_path)
    write_recording(tmp_path / "recording", minutes=MINUTES, seed=11, symbols=["BTCUSDT"])
    hostile = "".join(HOSTILE.format(misdeed=misdeed, place=place) for misdeed, place in MISDEEDS)

    undisturbed = booked(tmp_path / "alone", "", variables)
    beside_them = booked(tmp_path / "beside", hostile, variables)
    after_their_import = booked(tmp_path / "imported", "", {**variables, "HOSTILE_IMPORT": "round"})

    fills = [fields["fee"] for name, _, fields in undisturbed["grid"] if name == "order_filled"]
    assert len(fills) > 100
    assert max(map(len, fills)) > 6
    assert beside_them == undisturbed
    assert after_their_import == undisturbed


def booked(folder: Path, hostile: str, variables: Mapping[str, str]) -> dict[str, list[Any]]:
    """Replay the recording and return what the harmless were told: names, moments and amounts, as they were told."""
    folder.mkdir()
    declared = folder / "strategies.toml"
    declared.write_text(hostile + HARMLESS, encoding="utf-8")
    config = replay_config(folder.parent / "recording", declared)
    with running(folder / "daemon", config, variables=variables) as daemon:
        daemon.wait_for(lambda: daemon.ask("status")["market"]["ended"])
        strategies = daemon.ask("strategy.list", limit=100)["data"]
        assert [one["error"] for one in strategies if one["template_id"] != "tpl_hostile"] == [None, None]
        return {
            one["name"]: [
                (event["event"], event["ts"], {name: event["data"].get(name) for name in SHOWN})
                for event in daemon.events(one["id"])
            ]
            for one in strategies
            if one["template_id"] != "tpl_hostile"
        }
