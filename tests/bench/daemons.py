"""The real daemon in a process of its own: how long it takes to be ready, and how much memory it holds."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import psutil
import trio
from attrs import frozen

from pipaid.config import Declaration
from pipaid.model.moment import iso_seconds
from pipaid.seams import SystemNet, World
from pipaid.wire.activity import Activity
from pipaid.wire.client import BlockingClient
from pipaid.wire.lines import connected
from tests.bench.child import ROOT, environment
from tests.bench.figure import Figure, Goal, Size
from tests.bench.house import SEED, START_MS, synthetic
from tests.bench.population import declared, symbols_of

# Goals hold for these numbers of strategies and say nothing about others.
MEMORY_MIB_MAX = {1_000: 64.0, 10_000: 150.0}
READY_S_MAX = {1_000: 2.0}
HELP_CPU_S_MAX = 0.2
WAIT_S_MAX = 150.0
SYMBOLS = 20
CLIENTS = 24
# What was needed for the start alone has been given back by then.
SETTLED_S = 1.5

_CONFIG = """
[market]
seed = {seed}
symbols = {symbols}
start = "{start}"
[stream]
port = 0
[http]
mode = "off"
[log]
level = "warning"
"""


class _Made(msgspec.Struct):
    """What is asked of a strategy that was created."""

    id: str


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
    for count in (0, size.strategies, size.strategies_many):
        runs = 1 if count == size.strategies_many else size.runs
        with tempfile.TemporaryDirectory(prefix="pipaid-bench-") as folder:
            figures += _started(Path(folder), count, runs)
    return figures


def _started(folder: Path, count: int, runs: int) -> list[Figure]:
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
    return [
        Figure(name=f"memory of {who}", unit="MiB PSS", values=tuple(memory), goal=_at_most(MEMORY_MIB_MAX.get(count))),
        Figure(
            name=f"start of {who} to READY",
            unit="s",
            values=tuple(ready),
            goal=_at_most(READY_S_MAX.get(count)),
            note="wall, after a stop",
        ),
        Figure(name=f"start of {who}, CPU", unit="s CPU", values=tuple(cpu)),
    ]


def _at_most(value: float | None) -> Goal | None:
    return None if value is None else Goal(value, at_most=True)


def _deploy(folder: Path, count: int) -> None:
    """Deploy strategies on a first daemon; those after it know them from the journal."""
    prices = trio.run(synthetic(symbols_of(SYMBOLS), World(), Activity()).prices)
    declarations = list(declared(count, prices))
    with daemon(folder) as running:
        trio.run(_deployed_by_many, running.socket, declarations)


async def _deployed_by_many(path: Path, declarations: Sequence[Declaration]) -> None:
    """Share the work among clients, so that many commands become durable together."""
    left = iter(declarations)
    with trio.fail_after(WAIT_S_MAX):
        async with trio.open_nursery() as nursery:
            for _ in range(CLIENTS):
                nursery.start_soon(_deployed_by_one, path, left)


async def _deployed_by_one(path: Path, left: Iterator[Declaration]) -> None:
    async with connected(SystemNet(), path) as client:
        for declaration in left:
            made = await client.call("strategy.create", _asked(declaration))
            made_id = msgspec.json.decode(made, type=_Made).id
            await client.call("strategy.deploy", {"id": made_id, "dry_run": True})


def _asked(declaration: Declaration) -> dict[str, Any]:
    return {
        "name": declaration.name,
        "template_id": declaration.template_id,
        "params": declaration.params,
        "symbols": declaration.symbols,
        "timeframe": declaration.timeframe.value,
        "capital": str(declaration.capital),
    }


@contextmanager
def daemon(folder: Path, *, before: str = "pass", **variables: str) -> Generator[Running]:
    """Run a daemon, after some Python of the bench's own, until the block is left; it is ready when that begins."""
    config = folder / "pipaid.toml"
    config.write_text(
        _CONFIG.format(seed=SEED, symbols=list(symbols_of(SYMBOLS)), start=iso_seconds(START_MS)),
        encoding="utf-8",
    )
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager, (folder / "log").open("ab") as log:
        address = folder / "notify"
        address.unlink(missing_ok=True)
        manager.bind(str(address))
        manager.settimeout(WAIT_S_MAX)
        begun_s = time.monotonic()
        process = subprocess.Popen(
            command("daemon", "--config", str(config), "--state", str(folder / "state"), before=before),
            stderr=log,
            env={**environment(), "NOTIFY_SOCKET": str(address), **variables},
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


def command(program: str, *words: str, before: str = "pass") -> list[str]:
    """Return the command line of a program as its console script would run it, after some Python of the bench's own."""
    start = f"import sys; sys.argv[0] = 'pipaid'; {before}; from pipaid.launch import {program}; {program}()"
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
