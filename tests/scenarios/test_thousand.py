"""A thousand strategies on one market: one of them does its worst, and 999 miss nothing."""

from __future__ import annotations

from pathlib import Path

import msgspec

from pipaid.model.moment import iso_millis
from tests.scenarios.recordings import MINUTE_MS, START_MS, replay_config, write_recording
from tests.surfaces.daemon import Daemon, running
from tests.surfaces.plugins import install

NEIGHBOURS = 999
MINUTES = 240
MISDEEDS = ("loop", "system_exit", "recursion", "pour", "base_group")
DECLARED = """
[[strategy]]
name = "{name}"
template_id = "{template}"
symbols = ["{symbol}"]
timeframe = "1m"
capital = "5000.00"
deploy = true
params = {params}
"""


def test_999_neighbours_miss_no_candle(tmp_path: Path) -> None:
    recording, declared = tmp_path / "recording", tmp_path / "strategies.toml"
    symbols = ("BTCUSDT", "ETHUSDT")
    write_recording(recording, minutes=MINUTES, seed=9, symbols=symbols)
    rows = [
        DECLARED.format(name=f"neighbour {number}", template="tpl_vigilant", symbol=symbols[number % 2], params="{}")
        for number in range(NEIGHBOURS)
    ]
    for number, misdeed in enumerate(MISDEEDS):
        params = f'{{ misdeed = "{misdeed}", place = "on_candle" }}'
        row = DECLARED.format(name=f"hostile {misdeed}", template="tpl_hostile", symbol="BTCUSDT", params=params)
        rows.insert(number * 200, row)
    declared.write_text("".join(rows), encoding="utf-8")
    config = replay_config(recording, declared)

    with running(tmp_path / "daemon", config, variables=install("plugin_hostile", tmp_path)) as daemon:
        daemon.wait_for(lambda: daemon.ask("status")["market"]["ended"])
        strategies = every(daemon)

        hostile = {one["name"]: one for one in strategies if one["template_id"] == "tpl_hostile"}
        neighbours = [one["id"] for one in strategies if one["template_id"] == "tpl_vigilant"]
        assert {name: one["status"] for name, one in hostile.items()} == dict.fromkeys(hostile, "error")
        assert len(hostile) == len(MISDEEDS)
        assert len(neighbours) == NEIGHBOURS
        assert missing(daemon, neighbours) == []
        candles = daemon.ask("status")["market"]["candles"]
        asked = daemon.ask("metrics")["data"]["pipaid_evaluations_total"]
        assert candles == MINUTES * len(symbols)
        # Each was asked about every candle of its symbol but the first, on whose close they were all deployed.
        assert asked >= NEIGHBOURS * (MINUTES - 1)


def every(daemon: Daemon) -> list[dict[str, str]]:
    """Return all strategies, page by page."""
    found: list[dict[str, str]] = []
    cursor: dict[str, str] = {}
    while True:
        page = daemon.ask("strategy.list", limit=100, **cursor)
        found += page["data"]
        if page["next_cursor"] is None:
            return found
        cursor = {"cursor": page["next_cursor"]}


def missing(daemon: Daemon, neighbours: list[str]) -> list[str]:
    """Return what is not as it has to be: vigilant strategies crash over a candle that they are not shown."""
    last = iso_millis(START_MS + MINUTES * MINUTE_MS)
    found: list[str] = []
    with daemon.client() as client:
        for one in neighbours:
            state = msgspec.json.decode(client.call("strategy.state", {"id": one}))
            evaluated = [each["evaluated_at"] for each in state["symbols"]]
            if (state["status"], state["restarts"], evaluated) != ("deployed", 0, [last]):
                found.append(f"{one}: {state['status']}, {state['restarts']} restarts, {evaluated}")
    return found
