"""A round trip over the control socket of a real daemon, with the blocking client and with the one on trio."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import trio

from pipaid.seams import SystemNet
from pipaid.wire.client import BlockingClient
from pipaid.wire.lines import connected
from tests.bench.daemons import Running, daemon
from tests.bench.figure import Figure, Goal, Size, percentile

GOAL = Goal(100.0, at_most=True)
WARM = 200


def measure(size: Size) -> list[Figure]:
    """Ask a daemon over and over whether it is there."""
    blocking: list[list[float]] = []
    awaiting: list[list[float]] = []
    cpu_us: list[float] = []
    with tempfile.TemporaryDirectory(prefix="pipaid-bench-") as folder, daemon(Path(folder)) as running:
        for _ in range(size.runs):
            before_s = _cpu_s(running)
            blocking.append(_pinged(running.socket, size.pings))
            cpu_us.append(1e6 * (_cpu_s(running) - before_s) / (size.pings + WARM))
            awaiting.append(trio.run(_pinged_on_trio, running.socket, size.pings))
    figures = [
        Figure(
            name=f"ping by the {name}, p{share * 100:.0f}",
            unit="µs",
            values=tuple(percentile(run, share) * 1e6 for run in runs),
            goal=GOAL if share == 0.5 else None,
        )
        for name, runs in (("blocking client", blocking), ("trio client", awaiting))
        for share in (0.5, 0.99)
    ]
    return [*figures, Figure(name="ping, the daemon's share", unit="µs CPU", values=tuple(cpu_us))]


def _cpu_s(running: Running) -> float:
    spent = running.process.cpu_times()
    return spent.user + spent.system


def _pinged(path: Path, count: int) -> list[float]:
    spent_s: list[float] = []
    with BlockingClient(path) as client:
        for _ in range(WARM):
            client.call("ping")
        for _ in range(count):
            begun_s = time.perf_counter()
            client.call("ping")
            spent_s.append(time.perf_counter() - begun_s)
    return spent_s


async def _pinged_on_trio(path: Path, count: int) -> list[float]:
    spent_s: list[float] = []
    async with connected(SystemNet(), path) as client:
        for _ in range(WARM):
            await client.call("ping")
        for _ in range(count):
            begun_s = time.perf_counter()
            await client.call("ping")
            spent_s.append(time.perf_counter() - begun_s)
    return spent_s
