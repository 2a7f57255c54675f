"""A whole daemon on a made-up market, and the programs as a person starts them."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from attrs import define

ROOT = Path(__file__).resolve().parents[2]
READY_S_MAX = 30.0
ENDS_S_MAX = 60.0
LOOK_S = 0.05

CONFIG = """
[daemon]
strategies = {declared}
[market]
seed = 7
start = "2025-06-01T00:00:00Z"
speed = 600
[stream]
port = 0
"""


@define
class Ended:
    """How a program ended."""

    code: int
    out: str
    err: str


@define
class Daemon:
    """A daemon that runs, and where."""

    process: subprocess.Popen[bytes]
    state: Path

    @property
    def socket(self) -> Path:
        return self.state / "control.sock"

    def pipaid(self, *words: str, **variables: str) -> Ended:
        """Ask this daemon something."""
        return pipaid(*words, cwd=self.state, PIPAID_SOCKET=str(self.socket), **variables)


def command(program: str, *words: str, before: str = "pass") -> list[str]:
    """Return the command line of a program as the console script would run it, after some Python of the test's own."""
    start = f"import sys; sys.argv[0] = 'pipaid'; {before}; from pipaid.launch import {program}; {program}()"
    return [sys.executable, "-c", start, *words]


def environment(**variables: str) -> Mapping[str, str]:
    """Return an environment in which nothing but the arguments says where anything is."""
    clean = {
        name: value for name, value in os.environ.items() if not name.startswith(("PIPAID", "NO_COLOR", "COLUMNS"))
    }
    alone = {"PYTHONPATH": str(ROOT), "TERM": "xterm-256color", "PIPAID__HTTP__MODE": "off"}
    return {**clean, **alone, **variables}


def pipaid(*words: str, cwd: Path | None = None, **variables: str) -> Ended:
    """Run `pipaid` to its end."""
    done = subprocess.run(
        command("admin", *words), capture_output=True, text=True, timeout=ENDS_S_MAX, check=False, cwd=cwd,
        env=environment(**variables),
    )  # fmt: skip
    return Ended(done.returncode, done.stdout, done.stderr)


@contextmanager
def daemon(folder: Path, declared: Sequence[Path] = ()) -> Generator[Daemon, None, None]:
    """Run a daemon until the block is left."""
    config = folder / "pipaid.toml"
    config.write_text(CONFIG.format(declared=[str(path) for path in declared]), encoding="utf-8")
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            command("daemon", "--config", str(config), "--state", str(folder / "state")), stderr=log, env=environment()
        )
    running = Daemon(process, folder / "state")
    try:
        wait_until_healthy(running, folder / "log")
        yield running
    finally:
        process.terminate()
        process.wait(ENDS_S_MAX)


def wait_until_healthy(running: Daemon, log: Path) -> None:
    """Wait until the daemon answers that it is well."""
    until = time.monotonic() + READY_S_MAX
    while time.monotonic() < until:
        assert running.process.poll() is None, log.read_text(encoding="utf-8")
        if running.socket.exists() and '"healthy"' in running.pipaid("health", "--json").out:
            return
        time.sleep(LOOK_S)
    raise AssertionError(f"the daemon is not healthy: {log.read_text(encoding='utf-8')}")


def in_terminal(
    arguments: Sequence[str],
    *,
    until: str,
    size: tuple[int, int] = (24, 80),
    ending: signal.Signals = signal.SIGINT,
    **variables: str,
) -> Ended:
    """Run a program in a terminal, press Ctrl-C once it has shown some words, and return all that it showed."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", *size, 0, 0))
    process = subprocess.Popen(
        arguments, stdin=theirs, stdout=theirs, stderr=theirs, env=environment(**variables), start_new_session=True
    )
    os.close(theirs)
    shown, interrupted = bytearray(), False
    deadline = time.monotonic() + ENDS_S_MAX
    try:
        while time.monotonic() < deadline:
            readable, _, _ = select.select([ours], [], [], LOOK_S)
            try:
                shown += os.read(ours, 65_536) if readable else b""
            except OSError:
                break
            if not interrupted and until in shown.decode("utf-8", "replace"):
                process.send_signal(ending)
                interrupted = True
        return Ended(process.wait(ENDS_S_MAX), shown.decode("utf-8", "replace"), "")
    finally:
        process.kill()
        process.wait()
        os.close(ours)
