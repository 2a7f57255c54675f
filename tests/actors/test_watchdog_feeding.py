"""A killed daemon leaves word of what it did, and the service manager is fed only while everything moves."""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio
from attrs import define

from actors.actor import Phase
from actors.vitals import Carrying, Heartbeat, Watchdog, beat_forever
from actors.watchdog import BlackBox, BoxRecord, Guard, read_black_box
from pipaid.seams import SystemClock, SystemDisk
from pipaid.wire.systemd import Notifier
from tests.house.tree import ROOT


def test_the_box_tells_what_was_going_on(tmp_path: Path) -> None:
    path = tmp_path / "blackbox"
    box = BlackBox(path)
    assert read_black_box(path, SystemDisk()) is None

    box.note(17, Phase.CALLBACK)
    assert read_black_box(path, SystemDisk()) == BoxRecord(number=17, event=2, phase=Phase.CALLBACK)
    box.note(2**40, Phase.LOADING)
    assert read_black_box(path, SystemDisk()) == BoxRecord(number=2**40, event=3, phase=Phase.LOADING)

    box.close()
    assert read_black_box(path, SystemDisk()) is None
    assert path.stat().st_size == 4_096
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_callback_that_is_over_leaves_the_box_at_rest(tmp_path: Path) -> None:
    path = tmp_path / "blackbox"
    box = BlackBox(path)
    guard = Guard(SystemClock(), box=box)
    guard.open()
    try:
        guard.run(5, abs, -1)
        assert read_black_box(path, SystemDisk()) == BoxRecord(number=5, event=2, phase=Phase.CALLBACK)
        guard.rest()
        assert read_black_box(path, SystemDisk()) is None

        guard.run(6, abs, -1)
        until = time.thread_time() + 0.05
        while time.thread_time() < until:
            pass
        assert read_black_box(path, SystemDisk()) is None, "the tick after the last callback does it too"

        guard.run_as(Phase.LOADING, 7, abs, -1)
        loading = BoxRecord(number=7, event=7, phase=Phase.LOADING)
        assert read_black_box(path, SystemDisk()) == loading
    finally:
        guard.close()
        box.close()


@pytest.mark.parametrize("data", [b"", b"x" * 4_096, b"pipaid-blackbox2" + b"\xff" * 4_080, b"pipaid-blackbox2"])
def test_a_file_that_is_no_box_tells_nothing(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "blackbox"
    path.write_bytes(data)

    assert read_black_box(path, SystemDisk()) is None
    assert read_black_box(tmp_path / "absent", SystemDisk()) is None


def test_a_record_cut_in_half_tells_nothing(tmp_path: Path) -> None:
    path = tmp_path / "blackbox"
    box = BlackBox(path)
    box.note(5, Phase.CALLBACK)
    box.note(6, Phase.CALLBACK)
    data = bytearray(path.read_bytes())
    data[16] += 1

    path.write_bytes(data)

    assert read_black_box(path, SystemDisk()) is None


HANGING = """
import sys, time
from pathlib import Path
from actors.watchdog import BlackBox, Guard
from pipaid.seams import SystemClock
guard = Guard(SystemClock(), box=BlackBox(Path(sys.argv[1])))
guard.run(3, abs, -1)
print("begun", flush=True)
guard.run(42, time.sleep, 600)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGABRT])
def test_the_box_survives_the_death_of_the_process(tmp_path: Path, number: signal.Signals) -> None:
    path = tmp_path / "blackbox"
    with subprocess.Popen([sys.executable, "-c", HANGING, str(path)], cwd=ROOT, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"begun\n"
        disk, deadline = SystemDisk(), time.monotonic() + 10
        while (found := read_black_box(path, disk)) is None or found.number != 42:
            assert time.monotonic() < deadline
        process.send_signal(number)

    record = read_black_box(path, SystemDisk())
    assert record is not None
    assert (record.number, record.phase) == (42, Phase.CALLBACK)


def test_there_is_room_for_the_box_before_anything_is_written_to_it(tmp_path: Path) -> None:
    # A map without room behind it ends the process at the first write, on a disk that is full.
    with pytest.MonkeyPatch.context() as patched:

        def full(descriptor: int, offset: int, size: int) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        patched.setattr(os, "posix_fallocate", full)
        with pytest.raises(OSError, match="No space"):
            BlackBox(tmp_path / "blackbox")

    BlackBox(tmp_path / "blackbox").close()
    assert (tmp_path / "blackbox").stat().st_blocks > 0


def test_a_write_to_the_box_costs_next_to_nothing(tmp_path: Path) -> None:
    box = BlackBox(tmp_path / "blackbox")

    def cost_s(rounds: int) -> float:
        note, start = box.note, time.thread_time()
        for number in range(rounds):
            note(number, 1)
        return (time.thread_time() - start) / rounds

    # Measured: 0.15 µs.
    assert min(cost_s(50_000) for _ in range(5)) < 1.5e-6
    box.close()


def test_a_heart_must_beat_and_work_must_end() -> None:
    heart = Heartbeat()

    assert heart.moved()
    assert heart.moved(), "one that has not begun is not stuck"
    heart.beat()
    assert heart.moved()
    assert not heart.moved()
    heart.beat()
    assert heart.moved()


@define
class Books:
    """A recorder with so much to do, and so much done."""

    commits: int = 0
    pending: int = 0


def test_a_journal_must_go_on_while_anything_waits() -> None:
    books = Books()
    writer = Carrying(books)

    assert writer.moved()
    assert writer.moved(), "idle is no stall"
    books.pending = 1
    assert not writer.moved()
    books.commits = 1
    assert writer.moved()
    assert not writer.moved(), "the same commit at two looks"


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "notify"))
        sock.settimeout(10)
        yield sock


@pytest.fixture
def notifier(manager: socket.socket) -> Iterator[Notifier]:
    made = Notifier.from_environment({"NOTIFY_SOCKET": manager.getsockname()})
    yield made
    made.close()


def test_the_manager_is_fed_only_while_everything_moves(
    manager: socket.socket, notifier: Notifier, tmp_path: Path
) -> None:
    books, heart, box = Books(), Heartbeat(), BlackBox(tmp_path / "blackbox")
    writer = Carrying(books)
    watchdog = Watchdog(box, 10, {"loop": heart, "writer": writer, "box": box}, notifier=notifier)

    def look() -> bool:
        heart.beat()
        return watchdog.look()

    def stalled() -> list[str]:
        return list(watchdog.stalled)

    assert look()
    assert manager.recv(100) == b"WATCHDOG=1"
    assert not watchdog.look()
    assert stalled() == ["loop"]
    assert look()
    books.pending = 1
    assert not look()
    assert stalled() == ["writer"]
    books.pending = 0
    box.note(4, Phase.CALLBACK)
    assert look()
    assert not look()
    assert stalled() == ["box"]
    box.note(0, Phase.IDLE)
    assert look()
    assert look(), "a box at rest is no stall"
    assert stalled() == []
    box.close()


async def test_a_loop_that_stands_still_is_not_fed(manager: socket.socket, notifier: Notifier, tmp_path: Path) -> None:
    heart = Heartbeat()
    # A heart that never beat is no stall, and which of two tasks is first is drawn by lot.
    heart.beat()
    with watching(Watchdog(BlackBox(tmp_path / "blackbox"), 0.4, {"loop": heart}, notifier=notifier)):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: beat_forever(heart, SystemClock(), every_s=0.01))
            await until_fed(manager)
            # The whole loop stands still, as in a callback that C code holds for good.
            stand_still(0.3)
            drained(manager)
            stand_still(0.3)
            assert drained(manager) == 0
            await until_fed(manager)
            nursery.cancel_scope.cancel()


@contextmanager
def watching(watchdog: Watchdog) -> Generator[threading.Thread]:
    """Start it, show its thread, and leave none behind, however the test ends."""
    before = set(threading.enumerate())
    watchdog.start()
    try:
        (thread,) = set(threading.enumerate()) - before
        yield thread
    finally:
        watchdog.stop()


def stand_still(seconds: float) -> None:
    """Hold the loop up."""
    time.sleep(seconds)


async def until_fed(manager: socket.socket) -> None:
    """Let the loop turn until the watchdog was fed."""
    with trio.fail_after(20):
        await trio.lowlevel.wait_readable(manager)
    drained(manager)


def drained(manager: socket.socket) -> int:
    """Count what has arrived."""
    count = 0
    manager.setblocking(False)
    try:
        while manager.recv(100):
            count += 1
    except BlockingIOError:
        return count
    finally:
        manager.settimeout(10)
    return count


def test_the_thread_takes_no_signal_of_the_main_thread(notifier: Notifier, tmp_path: Path) -> None:
    with watching(Watchdog(BlackBox(tmp_path / "blackbox"), 1, {}, notifier=notifier)) as thread:
        deadline = time.monotonic() + 5
        # The kernel's own account of the thread: bit n - 1 stands for signal n.
        while not (blocked := blocked_signals(thread)) and time.monotonic() < deadline:
            time.sleep(0.01)

    for number in (signal.SIGALRM, signal.SIGTERM, signal.SIGINT):
        assert blocked >> (number - 1) & 1


def blocked_signals(thread: threading.Thread) -> int:
    """Return the mask of a thread's blocked signals."""
    status = Path(f"/proc/{os.getpid()}/task/{thread.native_id}/status").read_text(encoding="ascii")
    (line,) = [line for line in status.splitlines() if line.startswith("SigBlk:")]
    return int(line.split()[1], 16)
