"""The real daemon in a process of its own: how long it takes to be ready, and how much memory it holds."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import psutil
import trio
from attrs import frozen

from pipaid.model.moment import iso_seconds
from pipaid.seams import World
from pipaid.wire.activity import Activity
from pipaid.wire.client import BlockingClient
from tests.bench.child import ROOT, environment
from tests.bench.figure import Figure, Goal, Size
from tests.bench.house import SEED, START_MS, synthetic
from tests.bench.population import declared, symbols_of, written

MEMORY_MIB_MAX = 64.0
MEMORY_MANY_MIB_MAX = 150.0
READY_S_MAX = 2.0
HELP_CPU_S_MAX = 0.2
WAIT_S_MAX = 150.0
# What was needed for the start alone has been given back by then.
SETTLED_S = 1.5

_CONFIG = """
[daemon]
strategies = {strategies}
[market]
seed = {seed}
symbols = {symbols}
start = "{start}"
[stream]
port = 0
[log]
level = "warning"
[supervision]
restarts_max = 50
"""


class _Status(msgspec.Struct):
    """What is asked of the daemon's status: strategies by their own."""

    strategies: dict[str, int]


@frozen
class Running:
    """A daemon that is ready, and what that took."""

    process: psutil.Process
    socket: Path
    ready_s: float
    ready_cpu_s: float

    @property
    def pss_mib(self) -> float:
        """Return its share of the memory, with what it shares with others counted in parts."""
        return self.process.memory_full_info().pss / 2**20


def measure(size: Size) -> list[Figure]:
    """Measure an empty daemon, one with a thousand strategies, one with ten thousand, and the help of the CLI."""
    figures = [_help(size)]
    goals = ((0, None), (size.strategies, MEMORY_MIB_MAX), (size.strategies_many, MEMORY_MANY_MIB_MAX))
    for count, mib_max in goals:
        runs = 1 if count == size.strategies_many else size.runs
        with tempfile.TemporaryDirectory(prefix="pipaid-bench-") as folder:
            figures += _started(Path(folder), count, runs, mib_max)
    return figures


def _started(folder: Path, count: int, runs: int, mib_max: float | None) -> list[Figure]:
    if count:
        _deploy(folder, count)
    memory: list[float] = []
    ready: list[float] = []
    cpu: list[float] = []
    for _ in range(runs):
        with daemon(folder) as running:
            ready.append(running.ready_s)
            cpu.append(running.ready_cpu_s)
            assert _deployed(running) == count, "the daemon does not run what was deployed"
            time.sleep(SETTLED_S)
            memory.append(running.pss_mib)
    who = f"{count:,} strategies" if count else "an empty daemon"
    goal = Goal(READY_S_MAX, at_most=True) if mib_max == MEMORY_MIB_MAX else None
    return [
        Figure(
            name=f"memory of {who}",
            unit="MiB PSS",
            values=tuple(memory),
            goal=Goal(mib_max, at_most=True) if mib_max is not None else None,
        ),
        Figure(name=f"start of {who} to READY", unit="s", values=tuple(ready), goal=goal, note="wall, after a stop"),
        Figure(name=f"start of {who}, CPU", unit="s CPU", values=tuple(cpu)),
    ]


def _deploy(folder: Path, count: int) -> None:
    """Have a first daemon deploy what a file declares; those after it know it from the journal."""
    symbols = symbols_of(20)
    prices = trio.run(synthetic(symbols, World(), Activity()).prices)
    (folder / "population.toml").write_text(written(declared(count, prices)), encoding="utf-8")
    with daemon(folder, strategies=("population.toml",)):
        pass


@contextmanager
def daemon(folder: Path, strategies: tuple[str, ...] = ()) -> Generator[Running]:
    """Run a daemon until the block is left; it is ready when the block begins."""
    config = folder / "pipaid.toml"
    config.write_text(
        _CONFIG.format(
            strategies=list(strategies), seed=SEED, symbols=list(symbols_of(20)), start=iso_seconds(START_MS)
        ),
        encoding="utf-8",
    )
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager, (folder / "log").open("ab") as log:
        address = folder / "notify"
        address.unlink(missing_ok=True)
        manager.bind(str(address))
        manager.settimeout(WAIT_S_MAX)
        begun_s = time.monotonic()
        process = subprocess.Popen(
            command("daemon", "--config", str(config), "--state", str(folder / "state")),
            stderr=log,
            env={**environment(), "NOTIFY_SOCKET": str(address)},
            cwd=ROOT,
        )
        try:
            while not manager.recv(4_096).startswith(b"READY=1"):
                pass
            ready_s = time.monotonic() - begun_s
            known = psutil.Process(process.pid)
            spent = known.cpu_times()
            yield Running(known, folder / "state" / "control.sock", ready_s, spent.user + spent.system)
        finally:
            process.terminate()
            process.wait(WAIT_S_MAX)


def command(program: str, *words: str) -> list[str]:
    """Return the command line of a program as its console script would run it."""
    start = f"import sys; sys.argv[0] = 'pipaid'; from pipaid.launch import {program}; {program}()"
    return [sys.executable, "-c", start, *words]


def _deployed(running: Running) -> int:
    with BlockingClient(running.socket) as client:
        return msgspec.json.decode(client.call("status"), type=_Status).strategies.get("deployed", 0)


def _help(size: Size) -> Figure:
    values: list[float] = []
    for _ in range(max(3, size.runs)):
        before = os.times()
        subprocess.run(command("admin", "--help"), stdout=subprocess.DEVNULL, check=True, env=environment(), cwd=ROOT)
        after = os.times()
        values.append(after.children_user + after.children_system - before.children_user - before.children_system)
    return Figure(name="pipaid --help", unit="s CPU", values=tuple(values), goal=Goal(HELP_CPU_S_MAX, at_most=True))
