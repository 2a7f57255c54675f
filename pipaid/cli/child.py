"""A daemon that a verb starts for itself: it touches nobody else's sockets, and ends even with a killed verb."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from attrs import define, field

from pipaid.cli.terminal import SOCKET_NAME, Terminal
from pipaid.errors import PipaidError, Unavailable
from pipaid.model.report import Health, ShuttingDown

START_S_MAX: Final = 30.0
STOP_S_MAX: Final = 15.0
LOOK_S: Final = 0.1
WORDS_KEPT: Final = 20
# What would move the sockets or speak for somebody else's service; such a daemon keeps to itself.
FOREIGN_VARIABLES: Final = frozenset(
    {"RUNTIME_DIRECTORY", "STATE_DIRECTORY", "CREDENTIALS_DIRECTORY", "NOTIFY_SOCKET", "LISTEN_PID", "LISTEN_FDS",
     "WATCHDOG_USEC", "PIPAID__DAEMON__RUNTIME_DIR", "PIPAID__DAEMON__STATE_DIR"}
)  # fmt: skip


@define(eq=False)
class Child:
    """The daemon; `ended` is set when it has, whatever the reason."""

    process: subprocess.Popen[bytes]
    terminal: Terminal
    ended: threading.Event = field(factory=threading.Event)
    _words: deque[str] = field(factory=lambda: deque[str](maxlen=WORDS_KEPT))

    def listen(self) -> None:
        """Keep the last lines that the daemon logs, until it ends."""
        assert self.process.stderr is not None
        with self.process.stderr as said:
            for line in said:
                self._words.append(line.decode("utf-8", "replace").rstrip())
        self.ended.set()

    def wait_until_ready(self) -> None:
        """Wait until the daemon trades."""
        for _ in range(int(START_S_MAX / LOOK_S)):
            if self.terminal.socket.exists() and self._is_ready():
                return
            self.rest()
        raise Unavailable(f"the daemon was not ready after {START_S_MAX:g} s\n{self._last_words()}")

    def rest(self) -> None:
        """Let a moment pass in which the daemon goes on; raise Unavailable with its own words if it does not."""
        if self.ended.wait(LOOK_S):
            # It has nothing to say any more, and is about to end.
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(STOP_S_MAX)
        self.require_alive()

    def require_alive(self) -> None:
        """Raise Unavailable with the daemon's own words if it has ended."""
        if self.process.poll() is not None:
            raise Unavailable(f"the daemon ended with exit code {self.process.returncode}\n{self._last_words()}")

    def end(self) -> None:
        """End the daemon: in order if it listens, else by force."""
        try:
            if self.process.poll() is None:
                self.terminal.ask("shutdown", ShuttingDown)
            self.process.wait(STOP_S_MAX)
        except (PipaidError, subprocess.TimeoutExpired, KeyboardInterrupt):
            self.process.kill()
            self.process.wait()
        finally:
            self.terminal.close()

    def _is_ready(self) -> bool:
        try:
            return self.terminal.ask("health", Health).status in ("healthy", "degraded")
        except PipaidError:
            self.terminal.close()
            return False

    def _last_words(self) -> str:
        self.ended.wait(LOOK_S)
        return "\n".join(self._words) or "it said nothing"


@contextmanager
def directory(given: Path | None, prefix: str) -> Generator[Path]:
    """Yield the state directory; one that nobody asked for is removed."""
    if given is not None:
        yield given.absolute()
        return
    made = Path(tempfile.mkdtemp(prefix=prefix))
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


@contextmanager
def running(terminal: Terminal, config: Path, state: Path) -> Generator[Child]:
    """Start the daemon as a child that Ctrl-C does not reach, and end it in order; only the main thread may.

    The kernel tells a child of the end of the thread that started it.
    """
    process = subprocess.Popen(  # noqa: S603 - our own program with our own arguments
        # With -P the folder somebody happens to stand in is not searched for our modules.
        [sys.executable, "-P", "-c", f"from pipaid.launch import daemon_of; daemon_of({os.getpid()})",
         "--config", str(config), "--state", str(state)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={name: text for name, text in terminal.variables.items() if name not in FOREIGN_VARIABLES},
        start_new_session=True,
    )  # fmt: skip
    its_own = Terminal(
        variables=terminal.variables, out=terminal.out, err=terminal.err, socket=state / SOCKET_NAME,
        as_json=terminal.as_json, plain=terminal.plain,
    )  # fmt: skip
    child = Child(process, its_own)
    listening = threading.Thread(target=child.listen, name="log", daemon=True)
    listening.start()
    try:
        yield child
    finally:
        child.end()
        listening.join(STOP_S_MAX)
