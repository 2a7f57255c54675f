"""A thousand strategies on one market: more than twenty kinds of them do their worst, and 999 miss nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from pipaid.model.moment import iso_millis
from tests.scenarios.recordings import MINUTE_MS, START_MS, replay_config, write_recording
from tests.surfaces.daemon import Daemon, running
from tests.surfaces.plugins import install

NEIGHBOURS = 999
MINUTES = 80
CRASH, OVERRUN, HOARDED = "ENGINE_CRASH", "CALLBACK_OVERRUN", "MEMORY_OVERRUN"
# What each kind comes to; nothing for those who go on and do no harm.
KINDS = {
    "value_error": CRASH,
    "system_exit": CRASH,
    "keyboard_interrupt": CRASH,
    "generator_exit": CRASH,
    "base_group": CRASH,
    "recursion": CRASH,
    "unprintable": CRASH,
    "verbose": OVERRUN,
    "loop": OVERRUN,
    "shrug": OVERRUN,
    "cling": OVERRUN,
    "litter": OVERRUN,
    "nap": OVERRUN,
    "linger": OVERRUN,
    "pour": CRASH,
    "flood": CRASH,
    "shower": None,
    "objects": CRASH,
    "not_a_number": CRASH,
    "huge": CRASH,
    "spoil": CRASH,
    "bloat": CRASH,
    "hoard": HOARDED,
    "chatter": OVERRUN,
    "meddle": None,
    "spawn": CRASH,
    "spin": CRASH,
    "fork": CRASH,
    "coarsen": None,
    "forbid": None,
    "supplant": None,
    "adjourn": None,
}
GUARD = "\n[guard]\nmemory_mib_max = 200\nstrategy_memory_mib_max = 32\n"
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
    for number, misdeed in enumerate(KINDS):
        params = f'{{ misdeed = "{misdeed}", place = "on_candle" }}'
        row = DECLARED.format(name=f"hostile {misdeed}", template="tpl_hostile", symbol="BTCUSDT", params=params)
        rows.insert(number * 40, row)
    declared.write_text("".join(rows), encoding="utf-8")
    config = replay_config(recording, declared) + GUARD

    with running(tmp_path / "daemon", config, variables=install("plugin_hostile", tmp_path)) as daemon:
        daemon.wait_for(lambda: daemon.ask("status")["market"]["ended"])
        strategies = every(daemon)

        hostile = {one["name"].removeprefix("hostile "): one for one in strategies if one["name"].startswith("hostile")}
        neighbours = [one["id"] for one in strategies if one["template_id"] == "tpl_vigilant"]
        assert {name: one["error"] and one["error"]["code"] for name, one in hostile.items()} == KINDS
        assert {name for name, one in hostile.items() if one["status"] == "deployed"} == {
            name for name, code in KINDS.items() if code is None
        }
        assert len(neighbours) == NEIGHBOURS
        assert missing(daemon, neighbours) == []
        candles = daemon.ask("status")["market"]["candles"]
        asked = daemon.ask("metrics")["data"]["pipaid_evaluations_total"]
        assert candles == MINUTES * len(symbols)
        # Each was asked about every candle of its symbol but the first, on whose close they were all deployed.
        assert asked >= NEIGHBOURS * (MINUTES - 1)


def every(daemon: Daemon) -> list[dict[str, Any]]:
    """Return all strategies, page by page."""
    found: list[dict[str, Any]] = []
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
