"""The crew of many machines, with a real scheduler and real workers on loopback: it comes to what one process does."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, cast

import pytest

from pipaid.backtesting import Backtest
from pipaid.errors import InvalidParameter, Unavailable
from pipaid.optimising import cluster
from pipaid.optimising.cluster import Cluster
from pipaid.optimising.scoring import Candidate, ranked
from pipaid.optimising.sweeping import Alone, CrewLost, Listed, swept
from tests.house.tree import ROOT
from tests.optimising.sweeps import SETS, alone, exam, made
from tests.oracles.crossover import synthetic

INSTALLED = [{"fast": fast, "slow": 20} for fast in (3, 5, 8)]
Start = Callable[..., subprocess.Popen[str]]


def installed() -> Backtest:
    """Return a backtest of a template that every worker finds by itself."""
    return Backtest(template="tpl_momentum", candles={"BTCUSDT": synthetic(4_000)}, params={"rsi_min": "0"})


def begun(process: subprocess.Popen[str], line: str) -> str:
    """Return what a process says after these words."""
    assert process.stderr is not None
    for said in process.stderr:
        if line in said:
            return said.partition(line)[2].strip()
    raise AssertionError(f"it ended without saying {line!r}")


@pytest.fixture
def start() -> Iterator[Start]:
    """Start Dask's own programs, all of which end with the test."""
    with ExitStack() as stack:

        def starting(*words: str, **variables: str) -> subprocess.Popen[str]:
            command = [sys.executable, "-m", "dask", *words, "--host", "127.0.0.1", "--no-dashboard"]
            environment = {**os.environ, "PYTHONPATH": str(ROOT), **variables}
            process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment, cwd="/")
            stack.enter_context(process)
            stack.callback(process.kill)
            return process

        yield starting


@pytest.fixture
def address(start: Start) -> str:
    return begun(start("scheduler", "--port", "0"), "Scheduler at:")


@pytest.fixture
def add(start: Start, address: str) -> Callable[..., subprocess.Popen[str]]:
    def adding(**variables: str) -> subprocess.Popen[str]:
        process = start("worker", address, "--nthreads", "1", "--no-nanny", **variables)
        begun(process, "Registered to:")
        return process

    return adding


def played(address: str, make: Callable[[], Backtest] = made, sets: list[dict[str, Any]] = SETS) -> list[Candidate]:
    return ranked(list(swept(Listed(sets), Cluster(address, make, exam(make())))))


def left_at(address: str) -> int:
    """Return how many pieces of work a scheduler still knows of."""

    def count(dask_scheduler: Any) -> int:
        return len(dask_scheduler.tasks)

    dask: Any = import_module("distributed")
    with dask.Client(address, set_as_default=False) as client:
        return cast(int, client.run_on_scheduler(count))


def test_workers_come_to_what_one_process_comes_to_and_nothing_is_left(address: str, add: Start) -> None:
    add()
    add()

    assert played(address) == alone()
    assert played(address, installed, INSTALLED) == ranked(
        list(swept(Listed(INSTALLED), Alone(installed, exam(installed()))))
    )
    assert left_at(address) == 0


def test_leaving_releases_what_is_still_to_be_played(address: str, add: Start) -> None:
    add()
    sweep = swept(Listed([{"fast": fast, "slow": 200} for fast in range(2, 150)]), Cluster(address, made, exam()))
    next(sweep)

    with pytest.raises(KeyboardInterrupt):
        sweep.throw(KeyboardInterrupt)

    assert left_at(address) == 0


def test_a_worker_that_is_killed_harms_nothing_while_another_has_the_candles(address: str, add: Start) -> None:
    victim = add()
    add()
    sets = [{"fast": fast, "slow": slow} for fast in range(3, 9) for slow in (20, 25, 30)]
    sweep = swept(Listed(sets), Cluster(address, made, exam()))
    first = next(sweep)

    victim.kill()

    assert ranked([first, *sweep]) == alone(sets)


def test_a_worker_with_other_code_is_refused_by_name(address: str, add: Start, tmp_path: Path) -> None:
    add(PYTHONPATH=str(other_code(tmp_path)))

    with pytest.raises(Unavailable, match=r"the Dask worker tcp://127.0.0.1:\d+ has other code: the sources of pipaid"):
        played(address, installed)


def other_code(folder: Path) -> Path:
    """Lay the same code out once more, with one comment more."""
    for name in ("pipaid", "templates"):
        for path in (ROOT / name).rglob("*.py"):
            target = folder / path.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    with (folder / "templates" / "momentum.py").open("a") as file:
        file.write("# changed\n")
    return folder


def test_a_worker_without_pipaid_is_refused_by_name(address: str, add: Start, tmp_path: Path) -> None:
    (tmp_path / "pipaid").mkdir()
    (tmp_path / "pipaid" / "__init__.py").write_text("")
    add(PYTHONPATH=str(tmp_path))

    with pytest.raises(Unavailable, match="cannot play this: ModuleNotFoundError"):
        played(address)


def test_a_worker_that_came_later_with_other_code_plays_nothing(address: str, add: Start, tmp_path: Path) -> None:
    add()
    sets = [{"fast": fast, "slow": 20} for fast in range(2, 19)] * 20
    sweep = swept(Listed(sets), Cluster(address, installed, exam(installed())))
    next(sweep)

    add(PYTHONPATH=str(other_code(tmp_path)))
    with pytest.raises(Unavailable, match="came later has other code: the sources of pipaid or of the template differ"):
        list(sweep)


def test_without_workers_it_says_so_and_when_the_last_has_gone_it_gives_up(address: str, add: Start) -> None:
    with pytest.raises(Unavailable, match="has no workers yet"):
        played(address)

    only = add()
    sweep = swept(Listed([{"fast": fast, "slow": 200} for fast in range(2, 150)]), Cluster(address, made, exam()))
    next(sweep)
    only.kill()
    with pytest.raises(
        CrewLost, match=r"has no worker any more|was lost: the Dask scheduler or whoever had the candles"
    ):
        list(sweep)


def test_a_scheduler_that_goes_is_told_of(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "CONNECT_S", 1.0)
    monkeypatch.setattr(cluster, "LOOK_S", 0.2)
    scheduler = start("scheduler", "--port", "0")
    address = begun(scheduler, "Scheduler at:")
    begun(start("worker", address, "--nthreads", "1", "--no-nanny"), "Registered to:")
    sweep = swept(Listed([{"fast": fast, "slow": 200} for fast in range(2, 150)]), Cluster(address, made, exam()))
    next(sweep)

    scheduler.kill()
    with pytest.raises(CrewLost, match=f"the Dask scheduler at {address} has gone|was lost: the Dask scheduler or"):
        list(sweep)


def test_nobody_at_an_address_is_told_of_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "CONNECT_S", 0.5)

    with pytest.raises(Unavailable, match=r"no Dask scheduler answers at tcp://127.0.0.1:1 within 0.5 s"):
        played("tcp://127.0.0.1:1")


@pytest.mark.parametrize("address", ["", "nowhere", "http://a:1", "tcp://a:0", "tcp://a:65536", "a b:1", "tcp://:8786"])
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(InvalidParameter, match="is no address such as tcp://"):
        Cluster(address, made, exam())


def test_without_dask_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)

    with pytest.raises(InvalidParameter, match=r"pip install 'pipaid\[dask\]'"):
        Cluster("tcp://127.0.0.1:8786", made, exam())


def test_the_code_is_that_of_pipaid_and_of_the_template_alone() -> None:
    momentum, grid = cluster.code("tpl_momentum"), cluster.code("tpl_grid")

    assert momentum == grid != cluster.code("")
    assert partial(cluster.code, "tpl_momentum")() == momentum
