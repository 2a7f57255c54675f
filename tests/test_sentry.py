"""The sentry ends a daemon that stands still, names what holds it, and is never in doubt about anybody else."""

from __future__ import annotations

import mmap
import os
import signal
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path

import pytest

from actors.actor import Phase
from actors.vitals import Sentinel
from actors.watchdog import BlackBox, read_black_box
from pipaid.seams import SystemDisk
from pipaid.sentry import BOX_BYTES, LOOKS_PER_LIMIT, PHASES, Watch, is_stopped
from tests.house.tree import ROOT

HALF = LOOKS_PER_LIMIT // 2


@pytest.fixture
def box(tmp_path: Path) -> Generator[BlackBox, None, None]:
    made = BlackBox(tmp_path / "blackbox")
    yield made
    made.close()


def watch_of(box: BlackBox) -> Watch:
    with box.path.open("r+b") as file:
        return Watch(mmap.mmap(file.fileno(), BOX_BYTES))


def stalled(box: BlackBox) -> bool:
    record = read_black_box(box.path, SystemDisk())
    return record is not None and record.stalled


def test_phases_have_the_same_names_on_both_sides() -> None:
    assert tuple(phase.name.lower() for phase in Phase) == PHASES


def test_a_daemon_that_is_fed_is_never_still(box: BlackBox) -> None:
    watch = watch_of(box)
    box.note(7, Phase.CALLBACK)

    for _ in range(3 * LOOKS_PER_LIMIT):
        box.feed()
        assert watch.look() == 0
        assert watch.look() == 1
    assert not stalled(box)


def test_what_stands_for_half_the_time_is_marked(box: BlackBox) -> None:
    watch = watch_of(box)
    watch.look()
    box.note(7, Phase.CALLBACK)

    assert [watch.look() for _ in range(HALF - 1)] == list(range(1, HALF))
    assert not stalled(box)
    assert watch.look() == HALF
    assert stalled(box)
    assert watch.subject() == (7, "callback")


def test_what_comes_back_after_all_is_marked_no_longer(box: BlackBox) -> None:
    watch = watch_of(box)
    watch.look()
    box.note(7, Phase.CALLBACK)
    for _ in range(HALF):
        watch.look()

    box.note(8, Phase.CALLBACK)

    assert not stalled(box)


def test_nobody_is_marked_when_something_else_stands_still(box: BlackBox) -> None:
    watch = watch_of(box)
    watch.look()

    for _ in range(HALF):
        # The callbacks go on: it is the journal, say, that does not.
        box.note(7, Phase.CALLBACK)
        watch.look()
        box.rest()
    for _ in range(LOOKS_PER_LIMIT):
        watch.look()

    assert watch.still > LOOKS_PER_LIMIT
    assert not stalled(box)


def test_a_process_that_is_stopped_is_let_be(box: BlackBox) -> None:
    watch = watch_of(box)
    box.note(7, Phase.CALLBACK)

    assert [watch.look(stopped=True) for _ in range(2 * LOOKS_PER_LIMIT)] == [0] * 2 * LOOKS_PER_LIMIT
    assert not stalled(box)


def test_it_can_tell_who_is_stopped() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        assert not is_stopped(process.pid)
        process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED)
        assert is_stopped(process.pid)
        process.kill()
    assert not is_stopped(process.pid)


# The signal is blocked before anything is imported that starts threads: those would take it otherwise.
STANDING = """
import os, signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, eval(sys.argv[2]))
from pathlib import Path
from actors.vitals import Sentinel
from actors.watchdog import BlackBox
box = BlackBox(Path(sys.argv[1]))
box.note(42, 1)
sentinel = Sentinel(box.path, 0.4, os.getpid(), "json")
sentinel.stand()
signal.pause()
"""


@pytest.mark.parametrize(("blocked", "code"), [("set()", -signal.SIGABRT), ("{6}", -signal.SIGKILL)])
def test_it_aborts_who_stands_still_and_kills_who_cannot_be_aborted(tmp_path: Path, blocked: str, code: int) -> None:
    path = tmp_path / "blackbox"

    done = subprocess.run(
        [sys.executable, "-c", STANDING, str(path), blocked], cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert done.returncode == code
    said = [line for line in done.stderr.splitlines() if '"strategy_number":42,"phase":"callback"' in line]
    assert [line.split('"event":"')[1].split('"')[0] for line in said] == ["daemon.stalled", "daemon.aborted"]
    record = read_black_box(path, SystemDisk())
    assert record is not None
    assert (record.number, record.stalled) == (42, True)


def test_a_sentry_that_was_lost_is_replaced_and_leaves_when_it_is_let_go(box: BlackBox) -> None:
    sentinel = Sentinel(box.path, 60, os.getpid(), "console")
    sentinel.stand()
    first = sentinel._process
    assert first is not None
    sentinel.stand()
    assert sentinel._process is first

    first.kill()
    first.wait()
    sentinel.stand()
    second = sentinel._process

    assert second is not None
    assert second.pid != first.pid
    sentinel.dismiss()
    assert second.returncode == 0
    if first.stdin is not None:
        first.stdin.close()
