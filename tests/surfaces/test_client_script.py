"""The scripts of the pages against a whole daemon, and one that follows it through its death."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Generator
from pathlib import Path
from typing import Any

import anyio
import httpx2
import jsonschema_rs
import pytest

from pipaid.client.following import Event
from pipaid.errors import UnknownSymbol
from pipaid.sdk import Client
from tests.surfaces.api import Api, User, serving
from tests.surfaces.daemon import DCA, assert_gapless
from tests.surfaces.daemons import ROOT

# A minute is a tenth of a second, and otherwise all is as on the first day of whoever tries it.
DEFAULT = "[market]\nsymbols = ['BTCUSDT']\nspeed = 600\n[http]\nport = 0\n[backtest]\nmemory_mib_max = 400\n"


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Generator[Api, None, None]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with serving(tmp_path_factory.mktemp("api"), DEFAULT, variables={"PIPAID__STREAM__PORT": str(port)}) as api:
        yield api


def run(api: Api, user: User, page: str, number: int) -> dict[str, Any]:
    """Run a script of a page as it stands there, but for where the daemon is; return its names."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    script = re.findall(r"```python\n(.*?)```", text, re.DOTALL)[number]
    names: dict[str, Any] = {
        "api_key": user.api_key, "secret": user.secret, "url": api.url, "stream": api.stream,
    }  # fmt: skip
    exec(script.replace("(api_key, secret)", "(api_key, secret, url, stream=stream)"), names)
    return names


def test_the_script_of_the_first_page_runs(api: Api, capsys: pytest.CaptureFixture[str]) -> None:
    user = api.user(account="acct_page")
    names = run(api, user, "http.md", 0)
    said = capsys.readouterr().out.splitlines()
    anyio.run(run(api, user, "http.md", 1)["stop_all"], backend="trio")

    assert re.fullmatch(r"done with \d+\.\d\d", said[0])
    assert [line.split()[:2] for line in (said[1], said[-2])] == [
        ["1", "deployed"],
        [f"{len(said) - 2}", "position_opened"],
    ]
    assert re.fullmatch(r"paused with -?\d+\.\d\d after \d trade", said[-1])
    assert names["paused"]["stats"]["open_positions"] == 0


def test_the_script_that_goes_on_where_it_stopped_leaves_out_nothing(
    api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    user = api.user(account="acct_place")
    with Client(user.api_key, user.secret, api.url) as client:
        for number in range(2):
            made = client.ask("strategy.create", name=f"number {number}", **DCA)
            client.ask("strategy.deploy", id=made["id"], dry_run=True)
            client.ask("strategy.stop", id=made["id"], close_positions=True)
            run(api, user, "stream.md", 0)

    said = [line.split() for line in capsys.readouterr().out.splitlines()]
    for key in sorted({line[0] for line in said}):
        numbers = [int(number) for told, number, _ in said if told == key]
        assert numbers == list(range(1, len(numbers) + 1))
    assert [name for *_, name in said].count("stopped") == 2


def test_a_script_watches_the_market(api: Api) -> None:
    user = api.user("read-only")
    with Client(user.api_key, user.secret, api.url, stream=api.stream) as client:
        with client.watch("market.ticker", symbol="BTCUSDT") as tickers:
            told = [next(tickers) for _ in range(2)]
        with client.watch("market.klines", symbol="BTCUSDT", interval="1m") as candles:
            candle = next(candles)
        with pytest.raises(UnknownSymbol), client.watch("market.depth", symbol="DOGEUSDT", depth=5) as nowhere:
            next(nowhere)

    assert [(each["event"], each["symbol"]) for each in told] == [("ticker", "BTCUSDT")] * 2
    assert told[0]["ts"] < told[1]["ts"]
    assert candle["kline"]["open_time"] % 60_000 == 0


def test_a_script_that_follows_a_daemon_through_its_death_hears_everything_once(api: Api) -> None:
    user = api.user(account="acct_death")
    heard: list[Event] = []
    with Client(user.api_key, user.secret, api.url, stream=api.stream, patience_s=60.0) as client:
        made = client.ask("strategy.create", name="follow me", **DCA)
        reader = threading.Thread(target=follow, args=(client, heard))
        reader.start()
        client.ask("strategy.deploy", id=made["id"], dry_run=True)
        api.daemon.kill()
        api.daemon.start()
        client.ask("strategy.stop", id=made["id"], close_positions=True)
        reader.join(60)

    assert not reader.is_alive()
    assert_gapless([event for event in heard if "seq" in event])
    assert "resumed" in [event["event"] for event in heard]
    for event in heard:
        assert_described(api, event)


def follow(client: Client, heard: list[Event]) -> None:
    with client.events("*", after=0, ext=True) as events:
        for event in events:
            heard.append(event)
            if event["event"] == "stopped":
                return


def assert_described(api: Api, event: Event) -> None:
    """Hold an event to what the served document says of it."""
    document = httpx2.get(f"{api.url}/asyncapi.json", trust_env=False).json()
    message = document["components"]["messages"][f"{event['channel']}.{event['event']}"]
    jsonschema_rs.validate({**message["payload"], "components": document["components"]}, event)
