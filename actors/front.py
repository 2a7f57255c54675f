"""The web process: started with the daemon, started again whenever it ends, and gone with it, however that ends."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, Protocol, cast

import structlog
import trio
from attrs import define, field

from pipaid.model.condition import Condition
from pipaid.seams import Clock, Random, unshared

log = structlog.get_logger()

BACKOFF_MIN_S: Final = 0.5
BACKOFF_MAX_S: Final = 30.0
# Whoever lived so long did not fail at its start, so the next one is waited for as little as the first.
LASTED_S: Final = 60.0
# Whoever lives so long has come up.
UP_S: Final = 5.0
ENDS_S: Final = 4.0
# What it is told on its standard input; anything will do.
RELOAD: Final = b"\n"
# What its exit codes mean, for whoever has to do something about it.
REASONS: Final[Mapping[int, str]] = {
    75: "it cannot serve on {where}; if another process listens there, change host or port in [http]",
    78: "it refuses its configuration; `pipaid config check` names the lines",
}
# What the service manager gave to the daemon, and to nobody else.
OWN_VARIABLES: Final = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES")


def command_of_front(config: Path, state: Path) -> list[str]:
    """Return the command line of the web process of a daemon."""
    start = "from pipaid.launch import api; api()"
    return [sys.executable, "-P", "-c", start, "--child", "--config", str(config), "--state", str(state)]


class Told(Protocol):
    """Who is told whether anybody is served."""

    def enter(self, condition: Condition, detail: str) -> None:
        """Note that a condition holds."""
        ...

    def leave(self, condition: Condition) -> None:
        """Note that a condition does not hold."""
        ...


@define(eq=False)
class Front:
    """Keep one process going: its end is no failure of the daemon's, and its standard input is what ties it to us.

    Each end enters the condition `http`, and a process that has come up leaves it.
    """

    command: Sequence[str]
    variables: Mapping[str, str]
    clock: Clock
    random: Random
    where: str = "its port"
    conditions: Told | None = None
    starts: int = field(default=0, init=False)
    _process: trio.Process | None = field(default=None, init=False)

    async def run(self, task_status: trio.TaskStatus[None]) -> None:
        """Start it, and again after each end, later each time."""
        task_status.started()
        backoff_s = BACKOFF_MIN_S
        while True:
            began_s = self.clock.monotonic_s()
            ended = await self._live()
            if self.clock.monotonic_s() - began_s >= LASTED_S:
                backoff_s = BACKOFF_MIN_S
            pause_s = backoff_s * self.random.uniform(0.75, 1.25)
            log.warning("http.ended", reason=ended, again_in_s=round(pause_s, 3))
            if self.conditions is not None:
                self.conditions.enter(Condition.HTTP, ended)
            await self.clock.sleep(pause_s)
            backoff_s = min(2 * backoff_s, BACKOFF_MAX_S)

    def reload(self) -> None:
        """Have it look at its certificate; one that only starts finds the word when it listens."""
        if self._process is not None and self._process.stdin is not None:
            # One that does not read has been told often enough, and one that has ended reads the files when it starts.
            with suppress(OSError):
                os.write(cast("trio.lowlevel.FdStream", self._process.stdin).fileno(), RELOAD)

    async def _live(self) -> str:
        """Run it to its end, and return how it ended."""
        self.starts += 1
        variables = {name: value for name, value in self.variables.items() if name not in OWN_VARIABLES}
        try:
            # A session of its own: what is typed at a terminal is meant for the daemon.
            process = await trio.lowlevel.open_process(
                list(self.command), stdin=subprocess.PIPE, env=variables, start_new_session=True
            )
        except OSError as trouble:
            return f"it cannot be started: {trouble}"
        assert isinstance(process.stdin, trio.lowlevel.FdStream)
        # Nobody else may hold the end whose closing tells it that we are gone.
        unshared(process.stdin)
        self._process = process
        try:
            with trio.move_on_after(UP_S):
                await process.wait()
            if process.returncode is None and self.conditions is not None:
                self.conditions.leave(Condition.HTTP)
            code = await process.wait()
        finally:
            self._process = None
            await self._end(process)
        reason = REASONS.get(code, "").format(where=self.where)
        return f"exit code {code}: {reason}" if reason else f"exit code {code}"

    async def _end(self, process: trio.Process) -> None:
        """Let it end in order, or at once if it does not."""
        assert process.stdin is not None
        with trio.CancelScope(shield=True):
            await process.stdin.aclose()
            with trio.move_on_after(ENDS_S):
                await process.wait()
            if process.returncode is None:
                process.kill()
                await process.wait()
