"""Signed requests over HTTP: what each costs the processes it passes, and what many do to the trading beside them."""

from __future__ import annotations

import subprocess
import tempfile
import time
from array import array
from bisect import bisect_left
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import median

import msgspec
import trio
from attrs import frozen

from pipaid.seams import SystemClock, SystemNet
from pipaid.wire.client import BlockingClient
from pipaid.wire.lines import connected
from tests.bench.caller import Called, Calls
from tests.bench.child import ROOT, environment, in_child
from tests.bench.daemons import Running, command, daemon
from tests.bench.figure import Figure, Size, percentile
from tests.bench.population import symbols_of

CONNECTIONS = 8
WARM = 200
PER_S = 1_000
TRADERS = 5
SYMBOLS = 5
# Ten candles of a minute a second.
SPEED = "600"
READY_S_MAX = 60.0
LOOK_S = 0.01
# Nobody runs out of budget here.
PLENTY = {"PIPAID__RATELIMIT__KEY_WEIGHT_MAX": "1000000", "PIPAID__RATELIMIT__KEY_WEIGHT_PER_S": "1000000"}


class _Key(msgspec.Struct):
    """What is asked of a key that was made."""

    api_key: str
    secret: str


class _Made(msgspec.Struct):
    """What is asked of a strategy that was created."""

    id: str


@frozen
class Served:
    """A daemon, the web process before it, and what is asked of them."""

    running: Running
    web_pid: int
    port: int
    key: _Key
    strategy_id: str

    def call(self, count: int, per_s: float = 0.0, *, seen: bool = True) -> Called:
        """Ask so often for one strategy, or for what the web process knows to be nowhere; return how that went."""
        calls = Calls(
            port=self.port,
            api_key=self.key.api_key,
            secret=self.key.secret,
            target=f"/v1/strategies/{self.strategy_id}" if seen else "/v1/nothing",
            status=200 if seen else 404,
            connections=CONNECTIONS,
            count=count,
            daemon=self.running.process.pid,
            web=self.web_pid,
            per_s=per_s,
        )
        return msgspec.convert(in_child("caller", calls), Called)


def measure(size: Size) -> list[Figure]:
    """Measure requests alone, then trading without and beside them."""
    return [*_requests(size), *_trading(size)]


def _requests(size: Size) -> list[Figure]:
    with tempfile.TemporaryDirectory(prefix="pipaid-bench-") as folder, _served(Path(folder)) as served:
        served.call(min(WARM, size.requests))
        runs = [served.call(size.requests) for _ in range(size.runs)]
    count = size.requests

    def figure(name: str, unit: str, values: Sequence[float], note: str = "") -> Figure:
        return Figure(name=name, unit=unit, values=tuple(values), note=note)

    both = [count / (run.daemon_s + run.web_s) for run in runs]
    return [
        figure(f"signed GETs, {CONNECTIONS} connections", "/s CPU", both, "of the daemon and the web process"),
        figure("the same by the wall", "/s wall", [count / run.wall_s for run in runs]),
        figure("a signed GET, the daemon", "µs CPU", [1e6 * run.daemon_s / count for run in runs]),
        figure("a signed GET, the web process", "µs CPU", [1e6 * run.web_s / count for run in runs]),
        figure("a signed GET, who asks", "µs CPU", [1e6 * run.caller_s / count for run in runs]),
        figure("a signed GET, p50", "ms", [run.p50_ms for run in runs]),
        figure("a signed GET, p99", "ms", [run.p99_ms for run in runs]),
    ]


@frozen
class Window:
    """A stretch of time."""

    begun_s: float
    ended_s: float


@frozen
class Round:
    """A quiet window, one with requests that the daemon answers, one with as many that the web process answers by
    itself, in either order, and a quiet one again."""

    before: Window
    daemons: Window
    webs: Window
    after: Window


def _trading(size: Size) -> list[Figure]:
    """Trade through quiet and loaded windows by turns, so that whatever else the machine does meets all of them."""
    calls: list[Called] = []
    with tempfile.TemporaryDirectory(prefix="pipaid-bench-") as folder:
        orders, turns = Path(folder) / "orders", Path(folder) / "turns"
        before = f"from tests.bench.stopwatch import put_on; put_on({str(orders)!r}, {str(turns)!r})"
        with _served(Path(folder), before=before, PIPAID__MARKET__SPEED=SPEED) as served:
            _deploy(served.running)
            served.call(min(WARM, size.requests))
            count = size.runs * size.windows
            rounds = [_round(served, size.window_s, calls, daemon_first=number % 2 == 0) for number in range(count)]
        waited, computed = _read(orders), _read(turns)
    figures: list[Figure] = []
    for share in (0.5, 0.99):
        told = partial(percentile, share=share)
        figures += _compared(f"candle to order, p{share * 100:.0f}", rounds, size.runs, partial(_within, waited, told))
    figures += _compared("wait for a turn of the loop", rounds, size.runs, partial(_until_turn, computed))
    return [*figures, *_shares(calls)]


def _round(served: Served, window_s: float, calls: list[Called], *, daemon_first: bool) -> Round:
    def quiet() -> Window:
        begun_s = _now_s()
        time.sleep(window_s)
        return Window(begun_s, _now_s())

    def loaded(*, seen: bool) -> Window:
        called = served.call(round(PER_S * window_s), PER_S, seen=seen)
        if seen:
            calls.append(called)
        return Window(called.begun_s, called.ended_s)

    before = quiet()
    first, second = loaded(seen=daemon_first), loaded(seen=not daemon_first)
    daemons, webs = (first, second) if daemon_first else (second, first)
    return Round(before, daemons, webs, quiet())


def _read(path: Path) -> tuple[array[float], array[float]]:
    """Return when something was measured, and what, in milliseconds."""
    read = array("d")
    read.frombytes(path.read_bytes())
    return read[::2], array("d", [1_000 * each for each in read[1::2]])


def _cut(measured: tuple[array[float], array[float]], window: Window) -> array[float]:
    at_s, found = measured
    cut = found[bisect_left(at_s, window.begun_s) : bisect_left(at_s, window.ended_s)]
    assert cut, "there was a window in which nothing was measured"
    return cut


def _within(
    measured: tuple[array[float], array[float]], told: Callable[[Sequence[float]], float], window: Window
) -> float:
    return told(_cut(measured, window))


def _until_turn(measured: tuple[array[float], array[float]], window: Window) -> float:
    """Return how long who comes at any moment waits for the end of the turn that is going on, on average."""
    return sum(each * each for each in _cut(measured, window)) / (2_000 * (window.ended_s - window.begun_s))


def _compared(name: str, rounds: Sequence[Round], runs: int, value: Callable[[Window], float]) -> list[Figure]:
    """Hold the loaded windows against the quiet ones around them and against each other."""
    points = [[value(each) for each in (one.before, one.daemons, one.webs, one.after)] for one in rounds]

    def figure(what: str, unit: str, of: Callable[[float, float, float, float], float], note: str = "") -> Figure:
        values = tuple(median(of(*each) for each in points[place::runs]) for place in range(runs))
        return Figure(name=f"{name}, {what}", unit=unit, values=values, note=note)

    return [
        figure("quiet", "ms", lambda before, daemons, webs, after: (before + after) / 2),
        figure(f"beside {PER_S:,} requests/s", "ms", lambda before, daemons, webs, after: daemons),
        figure("the same to the web alone", "ms", lambda before, daemons, webs, after: webs),
        figure("requests to quiet", "times", lambda before, daemons, webs, after: 2 * daemons / (before + after)),
        figure("requests to those", "times", lambda before, daemons, webs, after: daemons / webs, "the daemon's part"),
        figure(
            "quiet to quiet", "times", lambda before, daemons, webs, after: max(before, after) / min(before, after),
            "the noise",
        ),
    ]  # fmt: skip


def _shares(calls: Sequence[Called]) -> list[Figure]:
    """Return how much of a core each process took while requests were made, and how long these took."""
    pace = f"at {PER_S:,} requests/s"

    def share(name: str, spent_s: Sequence[float]) -> Figure:
        values = tuple(spent / call.wall_s for spent, call in zip(spent_s, calls, strict=True))
        return Figure(name=f"{pace}, {name}", unit="of a core", values=values)

    return [
        share("the daemon with its trading", [call.daemon_s for call in calls]),
        share("the web process", [call.web_s for call in calls]),
        share("who asks", [call.caller_s for call in calls]),
        Figure(
            name=f"{pace}, reached",
            unit="/s",
            values=tuple(call.count / call.wall_s for call in calls),
            note="below the pace the machine was too busy to tell",
        ),
        Figure(name=f"a signed GET {pace}, p99", unit="ms", values=tuple(call.p99_ms for call in calls)),
    ]


@contextmanager
def _served(folder: Path, *, before: str = "pass", **variables: str) -> Generator[Served]:
    """Run a daemon and a web process before it until the block is left."""
    with daemon(folder, before=before, **PLENTY, **variables) as running:
        with BlockingClient(running.socket) as client:
            key = msgspec.json.decode(client.call("key.create", {"name": "bench", "scopes": ["trade"]}), type=_Key)
            asked = _trader(0) | {
                "name": "asked for",
                "template_id": "tpl_dca",
                "params": {"interval": "1d", "buy_amount": "100"},
            }
            made = msgspec.json.decode(client.call("strategy.create", asked), type=_Made)
        with (folder / "web.log").open("ab") as log:
            process = subprocess.Popen(
                command("api", "--config", str(folder / "pipaid.toml"), "--state", str(folder / "state")),
                stderr=log,
                env={
                    **environment(),
                    "PIPAID__HTTP__MODE": "separate",
                    "PIPAID__HTTP__PORT": "0",
                    "PIPAID__LOG__LEVEL": "info",
                },
                cwd=ROOT,
            )
        try:
            port = _port(folder / "web.log", process)
            yield Served(running, process.pid, port, key, made.id)
        finally:
            process.terminate()
            process.wait(READY_S_MAX)


def _port(log: Path, process: subprocess.Popen[bytes]) -> int:
    """Wait until the web process listens, and return where."""
    until_s = time.monotonic() + READY_S_MAX
    while time.monotonic() < until_s and process.poll() is None:
        for line in log.read_bytes().splitlines():
            if line.startswith(b"{") and b"http.listening" in line:
                return int(msgspec.json.decode(line)["port"])
        time.sleep(LOOK_S)
    raise RuntimeError(f"the web process does not listen: {log.read_text(encoding='utf-8')[-2_000:]}")


def _deploy(running: Running) -> None:
    """Deploy traders that have an order with every candle."""
    trio.run(_deployed, running.socket)


async def _deployed(path: Path) -> None:
    async with connected(SystemNet(), path) as client:
        for number in range(TRADERS):
            made = msgspec.json.decode(await client.call("strategy.create", _trader(number)), type=_Made)
            await client.call("strategy.deploy", {"id": made.id, "dry_run": True})


def _trader(number: int) -> dict[str, object]:
    return {
        "name": f"trader {number}",
        "template_id": "tpl_alternator",
        "params": {},
        "symbols": [symbols_of(SYMBOLS)[number % SYMBOLS]],
        "timeframe": "1m",
        "capital": "5000",
    }


def _now_s() -> float:
    return SystemClock().monotonic_s()
