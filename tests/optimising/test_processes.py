"""The crew of this machine: it comes to what one process comes to, and nothing of it outlives the sweep."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Generator
from contextlib import suppress
from functools import partial
from pathlib import Path

import psutil
import pytest

from pipaid.backtesting import Backtest
from pipaid.errors import InvalidParameter
from pipaid.optimising.processes import Processes
from pipaid.optimising.scoring import Candidate, ranked
from pipaid.optimising.sweeping import Alone, CrewLost, Exam, Listed, swept
from tests.cli.test_backtesting import declared, stored
from tests.optimising.sweeps import SETS, alone, exam, made

LONG = [{"fast": fast, "slow": 200} for fast in range(2, 150)]


def processes() -> list[psutil.Process]:
    return [psutil.Process(each.pid) for each in multiprocessing.active_children()]


def killed_by(code: int) -> Backtest:
    os.kill(os.getpid(), code)
    raise AssertionError


def running(jobs: int = 2) -> Generator[Candidate]:
    return swept(Listed(LONG), Processes(made, exam(count=1), jobs))


def test_processes_come_to_what_one_comes_to_and_a_bad_set_harms_no_other() -> None:
    together = ranked(list(swept(Listed(SETS), Processes(partial(made), exam(), 2))))

    assert together == alone()
    assert [one.params["fast"] for one in together if one.failed] == [1]
    assert "fast: must be" in next(one.failed for one in together if one.failed)


def test_leaving_a_sweep_ends_its_processes_at_once() -> None:
    sweep = running()
    next(sweep)
    begun = processes()
    assert len(begun) == 2

    sweep.close()

    assert multiprocessing.active_children() == []
    assert not any(each.is_running() for each in begun)


def test_ctrl_c_is_heard_by_the_sweep_alone_and_ends_its_processes() -> None:
    sweep = running()
    next(sweep)
    begun = processes()
    for each in begun:
        each.send_signal(signal.SIGINT)
    next(sweep)
    assert all(each.is_running() for each in begun)

    with pytest.raises(KeyboardInterrupt):
        sweep.throw(KeyboardInterrupt)

    assert multiprocessing.active_children() == []
    assert not any(each.is_running() for each in begun)


def players_of(command: subprocess.Popen[str]) -> list[psutil.Process]:
    """Return the processes below a command when both of its crew are there; they play for minutes."""
    while command.poll() is None:
        begun = psutil.Process(command.pid).children(recursive=True)
        # Libraries start programs for a moment as well.
        with suppress(psutil.NoSuchProcess):
            if sum("spawn_main" in " ".join(each.cmdline()) for each in begun) == 2:
                return begun
    raise AssertionError(f"it ended with {command.returncode}")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_ctrl_c_at_a_terminal_ends_the_command_and_all_its_processes(tmp_path: Path, number: signal.Signals) -> None:
    strategy, store = declared(tmp_path), stored(tmp_path / "candles")
    program = Path(sys.executable).with_name("pipaid")
    words = ["optimise", strategy, "--param", "fast=2:99:1", "--param", "slow=100:500:1", "--data", str(store.folder)]
    with subprocess.Popen([program, *words], start_new_session=True, stderr=subprocess.PIPE, text=True) as command:
        try:
            begun = players_of(command)
            if number is signal.SIGINT:
                os.killpg(command.pid, number)
            else:
                command.send_signal(number)

            assert command.wait() == 130
            assert command.stderr is not None
            assert command.stderr.read() == ""
        finally:
            command.kill()
    # What Python itself keeps beside them goes when it sees that all of them have.
    assert psutil.wait_procs(begun, timeout=10)[1] == []


def test_a_process_that_is_killed_ends_the_sweep_with_what_it_played() -> None:
    sweep = running(jobs=3)
    next(sweep)
    victim, *others = processes()

    victim.kill()
    with pytest.raises(CrewLost) as lost:
        list(sweep)

    assert "the process that played fast=" in lost.value.message
    assert "slow=200 was killed by SIGKILL, as a machine that runs out of memory does" in lost.value.message
    assert multiprocessing.active_children() == []
    assert not any(each.is_running() for each in others)


@pytest.mark.parametrize("code", [signal.SIGKILL, signal.SIGSEGV])
def test_a_process_that_dies_before_it_plays_is_told_of_as_well(code: signal.Signals) -> None:
    crew = Processes(partial(killed_by, code), Exam(exam().parts, "sharpe"), 2)

    with pytest.raises(CrewLost, match=f"played fast=3 slow=20 was killed by {code.name}"):
        list(swept(Listed(SETS[:1]), crew))

    assert multiprocessing.active_children() == []


def test_a_process_that_fails_says_so_itself(capfd: pytest.CaptureFixture[str]) -> None:
    crew = Processes(partial(int, "no backtest"), exam(), 1)  # type: ignore[arg-type]  # it is to fail

    with pytest.raises(CrewLost, match="ended with exit code 1; what it said of it stands above"):
        list(swept(Listed(SETS[:1]), crew))

    assert "invalid literal for int() with base 10: 'no backtest'" in capfd.readouterr().err


def test_a_metric_that_is_none_is_refused() -> None:
    with pytest.raises(InvalidParameter, match="metric: must be one of sharpe"):
        list(swept(Listed([{}]), Alone(made, exam(metric="luck"))))
