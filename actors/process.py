"""The process around the daemon: arguments, exit codes, signals, and the journal it opens and closes."""

from __future__ import annotations

import argparse
import errno
import faulthandler
import gc
import signal
import sqlite3
import sys
import traceback
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Final, cast

import trio
from attrs import define

from actors.actor import Phase, said_by, told_cause
from actors.daemon import JOURNAL, Daemon
from actors.front import Front, command_of_front
from actors.quarantine import quarantine, stalled
from actors.scales import bound_memory, memory_limit
from actors.supervisor import GivenUp
from actors.vitals import Sentinel, Watchdog, beat_forever
from actors.watchdog import MIB, BlackBox, Guard, read_black_box
from pipaid.config import Config, Mistaken, load_config
from pipaid.engine.params import prepare
from pipaid.errors import PipaidError
from pipaid.logs import configure, get_log
from pipaid.model.money import plain_arithmetic
from pipaid.plugins import load_templates
from pipaid.seams import World
from pipaid.storage.sqlite import SqliteJournal
from pipaid.storage.store import JournalHeld, JournalLost, JournalUnusable
from pipaid.wire.systemd import watchdog_s

BOX: Final = "blackbox"
YOUNG_MAX: Final = 20_000
OLDEST: Final = 2
SWITCH_S: Final = 0.0005
EXIT_OK: Final = 0
EXIT_INVARIANT: Final = 70
EXIT_TEMPORARY: Final = 75
EXIT_CONFIGURATION: Final = 78
# What passes, or is mended where the daemon runs: a full or failing disk, too few descriptors, too little memory.
PASSING: Final = frozenset(
    {
        errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN,
        errno.EADDRINUSE,
    }
)  # fmt: skip
# What would end a process that does not heed it yet, or any more.
HELD_SIGNALS: Final = (signal.SIGHUP, signal.SIGUSR2)
PASSING_AT_SQLITE: Final = ("SQLITE_FULL", "SQLITE_IOERR", "SQLITE_NOMEM", "SQLITE_BUSY", "SQLITE_LOCKED")


def run() -> None:
    """Run `pipaidd`: read the configuration, trade until told to stop, and leave with an exit code systemd knows."""
    parser = argparse.ArgumentParser(prog="pipaidd", description="The pipaid daemon: hosts all your strategies.")
    parser.add_argument("--config", type=Path, required=True, help="the configuration, such as config/pipaid.toml")
    parser.add_argument("--state", type=Path, default=None, help="where the journal lives (default: daemon.state_dir)")
    asked = parser.parse_args()
    faulthandler.enable()
    for number in HELD_SIGNALS:
        signal.signal(number, Held())
    world = World()
    try:
        overrides = {} if asked.state is None else {"daemon.state_dir": str(asked.state)}
        config = load_config(asked.config, world, overrides=overrides)
    except Mistaken as mistakes:
        sys.stderr.write(f"{mistakes}\n")
        raise SystemExit(EXIT_CONFIGURATION) from None
    outlet = configure(
        clock=world.clock, variables=world.env.variables(), level=config.log.level, format=config.log.format
    )
    plain_arithmetic()
    try:
        code = trio.run(live, config, world, outlet.style)
    except Exception as broken:  # noqa: BLE001 - the loop itself broke, or what surrounds the supervised
        get_log().error("daemon.broken", reason=told_cause(broken))
        traceback.print_exception(broken)
        code = EXIT_TEMPORARY if _passes(broken) else EXIT_INVARIANT
    finally:
        # Where the loop itself broke, nothing in it came to its end, and a late tick would end the process its own way.
        signal.setitimer(signal.ITIMER_REAL, 0.0)
    # What templates left behind, threads and finalizers, is not waited for.
    sys.stderr.flush()
    world.env.leave(code)


async def live(config: Config, world: World, style: str) -> int:
    """Live one life of the daemon and return its exit code; `style` is how its log looks."""
    log = get_log()
    state = config.daemon.state_dir
    try:
        state.mkdir(parents=True, exist_ok=True)
    except OSError as trouble:
        why = f"the state directory {state} cannot be made: {trouble.strerror}; name another with --state"
        log.error("daemon.refused", reason=why)
        return EXIT_TEMPORARY if _passes(trouble) else EXIT_CONFIGURATION
    try:
        journal = SqliteJournal.open(
            state / JOURNAL,
            disk=world.disk,
            clock=world.clock,
            pid=world.env.pid(),
            kept_us=config.journal.events_kept_us,
        )
    except (JournalUnusable, OSError, sqlite3.Error) as unusable:
        log.error("daemon.refused", reason=said_by(unusable))
        return EXIT_TEMPORARY if _passes(unusable) else EXIT_CONFIGURATION
    for warning in journal.warnings:
        log.warning("journal.warning", warning=warning)
    try:
        exit_code = await _live_with(journal, config, world, style)
    finally:
        try:
            journal.close()
        except JournalLost as lost:
            log.error("journal.lost", reason=lost.message)
            exit_code = EXIT_TEMPORARY
    log.info("daemon.stopped", exit_code=exit_code)
    return exit_code


async def _live_with(journal: SqliteJournal, config: Config, world: World, style: str) -> int:
    """Live on an open journal, with the guard armed and the watchdog looking on from the first moment to the last."""
    log = get_log()
    box_path = config.daemon.state_dir / BOX
    suspect = read_black_box(box_path, world.disk)
    try:
        if suspect is not None and suspect.stalled:
            # Durable before the box forgets, and before anything of the suspect's runs again.
            quarantine(journal, suspect.phase, suspect.number, now_us=world.clock.now_us())
        elif suspect is not None:
            log.info("blackbox.read", strategy_number=suspect.number, phase=suspect.phase.name.lower())
        box = BlackBox(box_path)
    except (PipaidError, OSError, sqlite3.Error) as trouble:
        log.error("daemon.refused", reason=f"{box_path}: {said_by(trouble)}")
        return EXIT_TEMPORARY if _passes(trouble) else EXIT_CONFIGURATION
    bound_memory(memory_limit(config.guard.memory_mib_max, world.disk))
    guard = Guard(
        world.clock,
        budget_ms=config.guard.budget_ms,
        blocked_ms=config.guard.blocked_ms,
        box=box,
        hoard_max=config.guard.strategy_memory_mib_max * MIB,
    )
    pid = world.env.pid()
    managed_s = watchdog_s(world.env.variables(), pid=pid)
    limit_s = float(config.guard.stall_s)
    limit_s = limit_s if managed_s is None else min(limit_s, managed_s)
    watchdog = Watchdog(box, limit_s, {"callbacks": box}, Sentinel(box_path, limit_s, pid, style))
    guard.open()
    tune_interpreter(guard)
    watchdog.start()
    try:
        barred = stalled(journal, Phase.IMPORTING)
        catalogue = load_templates(
            barred=barred, entering=lambda number: box.note(number, Phase.IMPORTING if number else 0)
        )
        prepare(catalogue.templates.values())
        front = _front(config, world)
        daemon = Daemon(config, world, journal, guard, box, catalogue=catalogue, front=front)
        await daemon.build()
        if front is not None:
            front.conditions = daemon.conditions
        watchdog.attend(daemon.notifier, daemon.vitals())
        return await live_on(daemon, watchdog)
    except (PipaidError, OSError, sqlite3.Error) as refused:
        log.error("daemon.refused", reason=said_by(refused))
        return EXIT_TEMPORARY if _passes(refused) else EXIT_CONFIGURATION
    finally:
        guard.close()
        watchdog.stop()
        box.close()


def _front(config: Config, world: World) -> Front | None:
    """Return what keeps the process of the HTTP API going, unless somebody else starts it."""
    if config.http.mode != "child" or config.path is None:
        return None
    command = command_of_front(config.path, config.daemon.state_dir)
    where = f"{config.http.host}:{config.http.port}"
    return Front(command, world.env.variables(), world.clock, world.random, where=where)


def _passes(trouble: BaseException) -> bool:
    """Tell whether a later start may go better without anybody touching the configuration: a disk can be emptied."""
    if isinstance(trouble, BaseExceptionGroup):
        return all(_passes(each) for each in cast("BaseExceptionGroup[BaseException]", trouble).exceptions)
    if isinstance(trouble, JournalLost | JournalHeld):
        return True
    if isinstance(trouble, PipaidError):
        return trouble.__cause__ is not None and _passes(trouble.__cause__)
    if isinstance(trouble, sqlite3.Error):
        return getattr(trouble, "sqlite_errorname", "").startswith(PASSING_AT_SQLITE)
    return isinstance(trouble, OSError) and trouble.errno in PASSING


def tune_interpreter(guard: Guard) -> None:
    """Keep the garbage collector from walking all strategies again and again, and its pauses off their budgets."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_MAX, 20, 50)

    def forgive(phase: str, figures: dict[str, int]) -> None:
        if phase == "stop" and figures["generation"] == OLDEST:
            guard.forgive()

    gc.callbacks.append(forgive)
    sys.unraisablehook = _note_unraisable
    # The journal's thread hands the interpreter back and forth with the loop; at the default of 5 ms each commit waits.
    sys.setswitchinterval(SWITCH_S)


def _note_unraisable(unraisable: sys.UnraisableHookArgs) -> None:
    """Log what a finalizer raised, without asking a stranger's object for its text."""
    get_log().warning("finalizer.failed", trouble=unraisable.exc_type.__name__)


async def live_on(daemon: Daemon, watchdog: Watchdog) -> int:
    """Run the tree until told to end, and stop it in reverse."""
    log = get_log()
    exit_code = EXIT_OK
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(beat_forever, daemon.heartbeat, daemon.world.clock, every_s=watchdog.beat_s))
        await nursery.start(_heed_signals, daemon)
        nursery.start_soon(_end, daemon)
        try:
            await daemon.supervisor.run()
        except GivenUp as given_up:
            outage = isinstance(given_up.cause, OSError) or _passes(given_up.cause)
            exit_code = EXIT_TEMPORARY if outage else EXIT_INVARIANT
            log.error("daemon.given_up", child=given_up.name, cause=told_cause(given_up.cause))
        if daemon.recorder.lost:
            # Even at the very end: what it was to write last is not there, and a new start has to look.
            exit_code = EXIT_TEMPORARY
        nursery.cancel_scope.cancel()
    return exit_code


async def _end(daemon: Daemon) -> None:
    await daemon.wind_down()
    daemon.supervisor.stop()


@define(eq=False)
class Held:
    """Stands where a signal is not heeded yet, and remembers that it came; or any more, and cuts nothing short."""

    came: bool = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Take the signal."""
        self.came = True


async def _heed_signals(daemon: Daemon, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
    """SIGTERM and SIGINT end in order, a second one at once; SIGHUP reloads; SIGUSR2 is the kill switch."""
    before = {number: signal.getsignal(number) for number in HELD_SIGNALS}
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, *HELD_SIGNALS) as arriving:
        for early, held in before.items():
            if isinstance(held, Held) and held.came:
                signal.raise_signal(early)
        async with trio.open_nursery() as nursery:
            task_status.started()
            async for number in arriving:
                if number == signal.SIGHUP:
                    try:
                        await daemon.reread()
                    except PipaidError as mistaken:
                        get_log().error("daemon.reload_refused", reason=mistaken.message)
                elif number == signal.SIGUSR2:
                    # Beside the others: what it withdraws takes a while, and the end must not wait for that.
                    nursery.start_soon(_kill, daemon)
                elif daemon.ending.is_set():
                    get_log().error("daemon.aborted", reason="told to stop twice")
                    daemon.world.env.leave(EXIT_TEMPORARY)
                else:
                    daemon.end()


async def _kill(daemon: Daemon) -> None:
    try:
        await daemon.portfolio.activate("SIGUSR2", by="signal", close_positions=False)
    except PipaidError as trouble:
        get_log().error("kill.incomplete", reason=trouble.message)
