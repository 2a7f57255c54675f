"""An endless callback is interrupted, and nobody else is."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Context, Decimal, Inexact, getcontext, setcontext
from importlib import import_module
from itertools import repeat
from multiprocessing import get_context
from pathlib import Path

import pytest
import trio

from actors.actor import Crashed
from actors.watchdog import Guard, Overrun
from pipaid.errors import InvalidParameter
from pipaid.seams import SystemClock

LOOPS = 1_000


@pytest.fixture
def guard() -> Iterator[Guard]:
    made = Guard(SystemClock())
    made.open()
    yield made
    made.close()


def ignore(unraisable: object) -> None:
    """Do nothing about it."""


def busy(seconds: float) -> None:
    """Spend CPU time of this thread."""
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        pass


def endless() -> None:
    while True:
        pass


def endless_and_careful() -> None:
    while True:
        try:
            sum(range(50))
        except Exception:  # noqa: BLE001 - what a careless author writes
            continue


def endless_and_deep(depth: int = 150) -> None:
    if depth:
        endless_and_deep(depth - 1)
    endless()


def endless_with_farewell() -> None:
    try:
        endless()
    finally:
        sum(range(1_000))


def endless_with_neighbour() -> None:
    def numbers() -> Iterator[int]:
        number = 0
        while True:
            yield number

    for _ in numbers():
        pass


def endless_and_stubborn() -> None:
    attempts = 0
    while attempts < 3:
        try:
            endless()
        except BaseException:  # noqa: BLE001 - what a stubborn author writes
            attempts += 1
    endless()


ENDLESS: tuple[Callable[[], None], ...] = (
    endless,
    endless_and_careful,
    endless_and_deep,
    endless_with_farewell,
    endless_with_neighbour,
)


def test_a_thousand_endless_loops_are_all_interrupted_and_their_neighbours_are_not(guard: Guard) -> None:
    # A short budget keeps the test short; the mechanism is the same.
    quick = Guard(SystemClock(), budget_ms=2, tick_s=0.001)
    guard.close()
    quick.open()
    interrupted: list[int] = []
    answers: list[int] = []
    # A whole test run's garbage takes longer than so short a budget, and whoever is called then pays for it.
    gc.disable()
    try:
        for number in range(LOOPS):
            try:
                quick.run(number, ENDLESS[number % len(ENDLESS)])
            except Overrun as overrun:
                interrupted.append(overrun.number)
            answers.append(quick.run(number, abs, -number))
    finally:
        gc.enable()
        quick.close()

    assert interrupted == list(range(LOOPS))
    assert answers == list(range(LOOPS))
    # A farewell that takes its time is interrupted as well, which makes more interruptions than calls.
    assert quick.overruns >= LOOPS


def test_what_nobody_trades_on_may_take_several_budgets_and_whoever_comes_next_may_not(guard: Guard) -> None:
    with pytest.raises(Overrun) as patiently:
        guard.run_patiently(1, endless)
    with pytest.raises(Overrun) as afterwards:
        guard.run(2, endless)

    assert afterwards.value.spent_ms < 200 <= patiently.value.spent_ms < 400


def test_code_that_swallows_the_first_interruption_meets_the_next(guard: Guard) -> None:
    with pytest.raises(Overrun):
        guard.run(1, endless_and_stubborn)

    # A tick on the way out of the last one counts as well.
    assert guard.overruns >= 4


def test_the_budget_is_cpu_time_of_one_call(guard: Guard) -> None:
    before = time.thread_time()
    with pytest.raises(Overrun, match="strategy number 9 ran for") as caught:
        guard.run(9, endless)
    spent_s = time.thread_time() - before

    assert 20 <= caught.value.spent_ms < 100
    assert 0.02 <= spent_s < 0.1
    assert not caught.value.blocked


def test_a_callback_that_blocks_is_interrupted_too(guard: Guard) -> None:
    with pytest.raises(Overrun, match="blocked for 60 ms") as caught:
        guard.run(1, time.sleep, 60)

    assert caught.value.blocked


def test_a_single_call_into_c_is_held_against_whoever_made_it(guard: Guard) -> None:
    def linger() -> None:
        deque(repeat(None, 200_000_000), maxlen=0)

    guard.run(1, busy, 0.002)
    with pytest.raises(Overrun, match="number 2 ran for") as caught:
        guard.run(2, linger)
    assert caught.value.spent_ms >= 25
    # The same outside of any call is nobody's.
    for _ in range(3):
        linger()
        guard.run(1, busy, 0.002)
    assert guard.overruns == 1


def test_many_calls_within_the_budget_may_together_exceed_it(guard: Guard) -> None:
    for number in range(40):
        guard.run(number, busy, 0.008)

    assert guard.overruns == 0


def test_code_outside_a_guarded_call_is_never_interrupted(guard: Guard) -> None:
    for _ in range(50):
        guard.run(1, busy, 0.002)
        busy(0.03)

    assert guard.overruns == 0


def test_a_storm_of_ticks_at_every_boundary_interrupts_nobody(guard: Guard) -> None:
    stop = threading.Event()
    main = threading.main_thread().ident
    assert main is not None

    def storm() -> None:
        while not stop.wait(0.0002):
            signal.pthread_kill(main, signal.SIGALRM)

    thread = threading.Thread(target=storm)
    thread.start()
    try:
        until = time.monotonic() + 1.5
        calls = 0
        while time.monotonic() < until:
            assert guard.run(1, abs, -1) == 1
            calls += 1
    finally:
        stop.set()
        thread.join()

    assert guard.overruns == 0
    assert calls > 1_000


def test_what_the_callback_raises_comes_out_told_and_holds_nothing_of_its_frames(guard: Guard) -> None:
    def fail() -> None:
        raise SystemExit(3)

    with pytest.raises(Crashed, match=r"^SystemExit: 3 \(in fail, test_watchdog.py line \d+\)$") as caught:
        guard.run(1, fail)
    assert caught.value.__context__ is None
    assert guard.run(1, max, 1, 2) == 2


def test_an_error_of_ours_comes_out_as_it_is(guard: Guard) -> None:
    refusal = InvalidParameter("no")

    def refuse() -> None:
        raise refusal

    with pytest.raises(InvalidParameter) as caught:
        guard.run(1, refuse)
    assert caught.value is refusal


class Endless(Exception):
    """An error that never comes to the point."""

    def __str__(self) -> str:
        endless()
        return ""


class Coarse(Exception):
    """An error whose text changes how everybody counts."""

    def __str__(self) -> str:
        getcontext().prec = 4
        return f"one third is {Decimal(1) / 3}"


def fail_with(trouble: Exception) -> None:
    raise trouble


class Leaving(Exception):
    """An error whose text ends the interpreter."""

    def __str__(self) -> str:
        raise SystemExit(5)


def test_an_error_may_not_take_its_time_to_be_told(guard: Guard) -> None:
    with pytest.raises(Overrun):
        guard.run(1, fail_with, Endless())
    with pytest.raises(Crashed, match=r"^Leaving: its message cannot be read"):
        guard.run(1, fail_with, Leaving())


def test_an_interruption_that_is_swallowed_comes_out_at_the_end(guard: Guard, monkeypatch: pytest.MonkeyPatch) -> None:
    # What is raised in a finalizer goes nowhere; to tell of it at length would be interrupted, too.
    monkeypatch.setattr(sys, "unraisablehook", ignore)

    def swallow() -> int:
        try:
            endless()
        except BaseException:  # noqa: BLE001 - what a stubborn author writes
            return 7
        return 8

    class Unwilling:
        def __del__(self) -> None:
            endless()

    def drop() -> int:
        thing: Unwilling | None = Unwilling()
        thing = None
        return 9 if thing is None else 10

    for number, callback in enumerate((swallow, drop), 1):
        with pytest.raises(Overrun, match=f"number {number} "):
            guard.run(number, callback)
        assert guard.run(3, abs, -1) == 1, "and nobody else pays for it"


def test_an_overrun_passes_through_except_exception() -> None:
    assert not issubclass(Overrun, Exception)


def test_the_timer_stops_by_itself_and_starts_anew(guard: Guard) -> None:
    guard.run(1, abs, -1)
    assert signal.getitimer(signal.ITIMER_REAL)[1] > 0
    busy(0.05)
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    with pytest.raises(Overrun):
        guard.run(2, endless)


def test_a_closed_guard_leaves_no_timer_and_gives_the_signal_back() -> None:
    before = signal.getsignal(signal.SIGALRM)
    guard = Guard(SystemClock())
    guard.open()
    guard.run(1, abs, -1)

    guard.close()

    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    assert signal.getsignal(signal.SIGALRM) == before
    assert guard.run(1, abs, -1) == 1
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_a_child_inherits_no_timer(guard: Guard) -> None:
    guard.run(1, abs, -1)
    code = "import signal, time; time.sleep(0.1); print(signal.getitimer(signal.ITIMER_REAL))"

    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert told.stdout == "(0.0, 0.0)\n"


def test_in_another_thread_it_says_that_it_does_not_guard() -> None:
    told: list[object] = []

    def elsewhere() -> None:
        guard = Guard(SystemClock())
        guard.open()
        told.extend([guard.limitation, guard.run(1, abs, -3)])
        guard.close()

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()

    assert told == ["callbacks are not guarded: signals reach the main thread, and this is another one", 3]


async def test_it_works_below_a_running_loop(guard: Guard) -> None:
    beaten = trio.Event()

    async def beat() -> None:
        nonlocal beaten
        while True:
            beaten.set()
            beaten = trio.Event()
            await trio.sleep(0.001)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(beat)
        for number in range(10):
            with pytest.raises(Overrun):
                guard.run(number, endless)
            with trio.fail_after(60):
                await beaten.wait()
        nursery.cancel_scope.cancel()

    assert guard.overruns == 10


def test_a_guarded_call_costs_next_to_nothing(guard: Guard) -> None:
    def nothing() -> None:
        pass

    def cost_s(rounds: int) -> float:
        run, start = guard.run, time.thread_time()
        for _ in range(rounds):
            nothing()
        bare, start = time.thread_time() - start, time.thread_time()
        for _ in range(rounds):
            run(1, nothing)
        return (time.thread_time() - start - bare) / rounds

    # Measured: 0.6 µs. The bound is ten times that, for a machine that is busy with something else.
    assert min(cost_s(50_000) for _ in range(5)) < 6e-6


def test_what_a_callback_does_to_the_arithmetic_of_decimals_ends_with_it(guard: Guard) -> None:
    ours = getcontext()
    third = Decimal(1) / 3

    def coarsen() -> Decimal:
        getcontext().prec = 4
        return Decimal(1) / 3

    def replace_and_fail() -> None:
        setcontext(Context(prec=6, traps=[Inexact]))
        raise ValueError

    def replace_and_never_end() -> None:
        setcontext(Context(prec=6))
        endless()

    assert guard.run(1, coarsen) == Decimal("0.3333")
    with pytest.raises(Crashed, match="ValueError"):
        guard.run(2, replace_and_fail)
    with pytest.raises(Overrun):
        guard.run(3, replace_and_never_end)
    with pytest.raises(Crashed, match=r"Coarse: one third is 0\.3333"):
        guard.run(4, fail_with, Coarse())
    assert getcontext() is ours
    assert Decimal(1) / 3 == third == guard.run(6, Decimal(1).__truediv__, 3)


@pytest.mark.parametrize(
    ("begin", "what"),
    [
        (lambda: threading.Thread(target=endless, daemon=True).start(), "threads"),
        (lambda: ThreadPoolExecutor().submit(endless), "threads"),
        (lambda: get_context("fork").Process(target=time.sleep, args=(60,)).start(), "processes"),
        (lambda: subprocess.Popen(["sleep", "60"]), "processes"),
        (lambda: os.posix_spawn("/bin/sleep", ["sleep", "60"], {}), "processes"),
    ],
)
def test_a_callback_begins_neither_thread_nor_process(guard: Guard, begin: Callable[[], object], what: str) -> None:
    threads = threading.active_count()

    with pytest.raises(Crashed, match=f"^RuntimeError: a template may not start {what}: .* \\(in "):
        guard.run(1, begin)

    assert threading.active_count() == threads


def test_a_library_that_is_imported_in_a_callback_may_begin_a_thread(
    guard: Guard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = "import threading\nthread = threading.Thread(target=abs, args=(1,))\nthread.start()\nthread.join()\n"
    (tmp_path / "begins_a_thread.py").write_text(code, encoding="utf-8")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])

    assert guard.run(1, import_module, "begins_a_thread").thread.ident


def test_a_callback_is_forgiven_what_was_not_its_own_doing(guard: Guard) -> None:
    def collects_garbage() -> str:
        for _ in range(30):
            busy(0.006)
            guard.forgive()
        return "done"

    assert guard.run(7, collects_garbage) == "done"
    assert guard.overruns == 0
