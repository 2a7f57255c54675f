"""Clients behind a proxy that spoils their connections, beside honest ones: each gets every event once, or is told."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import psutil
import trio
from attrs import define, frozen

from pipaid.seams import SystemNet
from tests.bench.figure import percentile
from tests.soak.asking import apart, counted, deployed, has, last_seqs, strategies, until
from tests.soak.commander import Commander
from tests.soak.listeners import Listener, SocketListener, TailListener
from tests.soak.population import write_strategies
from tests.soak.proxy import Proxy
from tests.surfaces.daemon import Daemon, running

PINGS_EVERY_S: Final = 0.02
PATIENCE_S: Final = 2.0
RSS_GROWTH_MIB_MAX: Final = 64.0
CONFIG: Final = """
[daemon]
strategies = ["{declared}"]
[market]
seed = 7
symbols = ["BTCUSDT", "ETHUSDT", "SOLUSDT"]
start = "2025-06-01T00:00:00Z"
speed = {speed:g}
[stream]
ping_s = 1.0
stuck_s = 1.0
[control]
clients_max = 64
# Trading this much costs more than it earns, and is to go on all the same.
[risk.account]
drawdown_pct_max = "off"
[risk.daemon]
drawdown_pct_max = "off"
"""


@frozen(kw_only=True)
class Size:
    """How much is spoiled, and for how long."""

    strategies: int = 300
    speed: float = 600.0
    sockets: int = 12
    tails: int = 6
    seconds: float = 60.0
    seed: int = 1


@define
class Outcome:
    """What the clients lived through, and everything that is wrong."""

    faults: Counter[str]
    honest: list[Listener]
    spoiled: list[Listener]
    commander: Commander
    pings_s: list[float]
    rss_mib: tuple[float, float]
    wrong: list[str]

    def figures(self) -> list[tuple[str, str]]:
        """Return them in words."""
        p50, p99, longest = (1_000 * percentile(self.pings_s, share) for share in (0.5, 0.99, 1.0))
        rows = [
            ("connections spoiled", counted(self.faults)),
            ("commands behind the proxy", counted(self.commander.outcomes)),
            ("honest pings", f"{len(self.pings_s)}, p50 {p50:.1f} ms, p99 {p99:.1f} ms, longest {longest:.0f} ms"),
            ("memory before and after", f"{self.rss_mib[0]:.0f} and {self.rss_mib[1]:.0f} MiB"),
        ]
        rows += [("honest listener", each.told()) for each in self.honest]
        return rows + [("listener behind the proxy", each.told()) for each in self.spoiled]


async def run(folder: Path, size: Size, advance: Callable[[float], object] = lambda _: None) -> Outcome:
    """Spoil connections for a while, then none, and compare what everybody heard."""
    folder.mkdir(parents=True, exist_ok=True)
    declared = folder / "strategies.toml"
    write_strategies(declared, size.strategies)
    with running(folder / "daemon", CONFIG.format(declared=declared, speed=size.speed)) as daemon:
        key = daemon.ask("key.create", name="listeners", scopes=["read-only"])
        async with trio.open_nursery() as nursery:
            streams, controls = await _proxies(nursery, folder, daemon, random.Random(size.seed))
            honest, spoiled = _listeners(daemon, key, size, streams[1], folder)
            commander = Commander(folder / "spoiled.sock", random.Random(size.seed), patience_s=PATIENCE_S)
            await until(lambda: deployed(daemon) == size.strategies)
            process = psutil.Process(daemon.pid)
            before = _rss_mib(process)
            pings: list[float] = []
            ids = [strategy["id"] for strategy in strategies(daemon)]
            for listener in (*honest, *spoiled):
                listener.expect(ids)
                nursery.start_soon(listener.follow)
            nursery.start_soon(commander.command)
            nursery.start_soon(_ping, daemon, pings)
            for _ in range(10):
                await trio.sleep(size.seconds / 10)
                advance(size.seconds / 10)
            commander.stopping = True
            for proxy in (streams[0], controls):
                proxy.calm_down()
            wrong = await _settle(daemon, honest, spoiled, commander)
            after = _rss_mib(process)
            nursery.cancel_scope.cancel()
        if after - before > RSS_GROWTH_MIB_MAX:
            wrong.append(f"memory grew from {before:.0f} to {after:.0f} MiB")
        wrong += [str(record) for record in daemon.said() if record["level"] in ("error", "critical")]
        assert daemon.end() == 0
        daemon.verify()
    return Outcome(
        faults=streams[0].drawn + controls.drawn,
        honest=honest,
        spoiled=spoiled,
        commander=commander,
        pings_s=pings,
        rss_mib=(before, after),
        wrong=wrong,
    )


async def _proxies(
    nursery: trio.Nursery, folder: Path, daemon: Daemon, chance: random.Random
) -> tuple[tuple[Proxy, int], Proxy]:
    """Put one proxy before the stream and one before the control socket."""
    stream = Proxy(partial(trio.open_tcp_stream, "127.0.0.1", daemon.stream_port), chance)
    control = Proxy(partial(SystemNet().connect_unix, daemon.socket), chance)
    tcp = await SystemNet().listen_tcp("127.0.0.1", 0)
    unix = await SystemNet().listen_unix(folder / "spoiled.sock", mode=0o600)
    await nursery.start(stream.run, list(tcp))
    await nursery.start(control.run, [unix])
    return (stream, int(tcp[0].socket.getsockname()[1])), control


def _listeners(
    daemon: Daemon, key: dict[str, Any], size: Size, port: int, folder: Path
) -> tuple[list[Listener], list[Listener]]:
    def socket(at: int, *, ext: bool, patience_s: float) -> SocketListener:
        return SocketListener(
            port=lambda: at, api_key=key["api_key"], secret=key["secret"], ext=ext, patience_s=patience_s
        )

    honest: list[Listener] = [socket(daemon.stream_port, ext=False, patience_s=30.0), TailListener(path=daemon.socket)]
    spoiled: list[Listener] = [
        socket(port, ext=number % 2 == 1, patience_s=PATIENCE_S) for number in range(size.sockets)
    ]
    spoiled += [
        TailListener(path=folder / "spoiled.sock", ext=number % 2 == 1, patience_s=PATIENCE_S)
        for number in range(size.tails)
    ]
    return honest, spoiled


async def _ping(daemon: Daemon, took_s: list[float]) -> None:
    """Ask again and again, as an honest client beside all this, and keep how long each answer took."""
    with daemon.client() as client:
        while True:
            began = time.monotonic()
            await apart(partial(client.call, "ping"))
            took_s.append(time.monotonic() - began)
            await trio.sleep(PINGS_EVERY_S)


async def _settle(
    daemon: Daemon, honest: Sequence[Listener], spoiled: Sequence[Listener], commander: Commander
) -> list[str]:
    """Let everybody come to the last event of a market at rest, and say who heard what they should not have."""
    await until(lambda: commander.wish is None)
    wrong = list(commander.contradictions)
    everybody = [*honest, *spoiled]
    await apart(partial(_stop_all, daemon))
    goal = await apart(partial(last_seqs, daemon))
    for listener in everybody:
        # What was created while somebody was away: the next connection asks for it from the first event on.
        listener.expect(list(goal))
    await until(lambda: all(has(each.last, goal) or each.holes for each in everybody), within_s=60.0)
    first = honest[0]
    for listener in everybody:
        wrong += listener.holes
        if listener.gaps:
            continue
        wrong += [
            f"somebody heard other events of {each} than the first honest listener"
            for each in goal
            if not {each} & (listener.late.keys() | first.late.keys())
            and listener.content.get(each) != first.content.get(each)
        ]
    wrong += [f"an honest listener was told of {each.gaps} gaps" for each in honest if each.gaps]
    return wrong


def _stop_all(daemon: Daemon) -> None:
    for strategy in strategies(daemon):
        if strategy["status"] in ("deployed", "paused"):
            daemon.ask("strategy.stop", id=strategy["id"])


def _rss_mib(process: psutil.Process) -> float:
    return process.memory_info().rss / 2**20
