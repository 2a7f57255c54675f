"""The demo: a daemon of its own on a made-up market, watched until somebody has seen enough, and nothing left over."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
import tempfile
import threading
from collections import deque
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec
from attrs import define, field

from pipaid.cli.drawing import drawn
from pipaid.cli.exits import Exit
from pipaid.cli.sheet import Column, Kind, listing
from pipaid.cli.terminal import SOCKET_NAME, Terminal, leaving_cleanly
from pipaid.cli.top import progress_line, show_live
from pipaid.cli.watching import Watch
from pipaid.errors import NotFound, PipaidError, Unavailable
from pipaid.model.report import Health, ShuttingDown, StrategyStatistics
from pipaid.seams import SystemClock

CONFIG: Final = Path("config") / "demo.toml"
TRADING_MIN: Final = 4
START_S_MAX: Final = 30.0
STOP_S_MAX: Final = 15.0
LOOK_S: Final = 0.1
REFRESH_S: Final = 0.5
PROGRESS_S: Final = 2.0
WORDS_KEPT: Final = 20
# What would move the sockets or speak for somebody else's service; a demo keeps to itself.
FOREIGN_VARIABLES: Final = frozenset(
    {"RUNTIME_DIRECTORY", "STATE_DIRECTORY", "CREDENTIALS_DIRECTORY", "NOTIFY_SOCKET", "LISTEN_PID", "LISTEN_FDS",
     "WATCHDOG_USEC", "PIPAID__DAEMON__RUNTIME_DIR", "PIPAID__DAEMON__STATE_DIR"}
)  # fmt: skip


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """What one strategy did in the demo."""

    name: str
    status: str
    fills: int
    trades: int
    pnl: str
    open_positions: int


@define(eq=False)
class _Child:
    """The daemon of the demo; `ended` is set when it has, whatever the reason."""

    process: subprocess.Popen[bytes]
    terminal: Terminal
    ended: threading.Event = field(factory=threading.Event)
    _words: deque[str] = field(factory=lambda: deque[str](maxlen=WORDS_KEPT))

    def listen(self) -> None:
        """Keep the last lines that the daemon logs, until it ends."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self._words.append(line.decode("utf-8", "replace").rstrip())
        self.ended.set()

    def wait_until_ready(self) -> None:
        """Wait until the daemon trades."""
        for _ in range(int(START_S_MAX / LOOK_S)):
            self.require_alive()
            if self.terminal.socket.exists() and self._is_ready():
                return
            self.ended.wait(LOOK_S)
        raise Unavailable(f"the daemon was not ready after {START_S_MAX:g} s\n{self._last_words()}")

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


def show_demo(terminal: Terminal, *, seconds: float | None, state: Path | None) -> int:
    """Run the demo; with `seconds` it ends by itself, and with 1 if fewer than four strategies traded."""
    config = shipped_config()
    try:
        with leaving_cleanly(), _directory(state) as folder, _running(terminal, config, folder) as child:
            child.wait_until_ready()
            interrupted = _watched(child, seconds)
            child.require_alive()
            results = _results(child.terminal)
    except KeyboardInterrupt:
        return Exit.OK
    _summarise(terminal, results)
    trading = sum(result.fills > 0 for result in results)
    if interrupted or trading >= TRADING_MIN:
        return Exit.OK
    terminal.warn(f"error: only {trading} strategies traded, {TRADING_MIN} should have; try more --seconds")
    return Exit.REFUSED


def shipped_config() -> Path:
    """Return the configuration of the demo: that of the checkout, else what the wheel installed."""
    import pipaid

    user = sysconfig.get_path("data", sysconfig.get_preferred_scheme("user"))
    homes = [Path(pipaid.__file__).resolve().parents[1]]
    homes.extend(Path(data) / "share" / "pipaid" for data in (sysconfig.get_path("data"), user))
    for home in homes:
        if (home / CONFIG).is_file():
            return home / CONFIG
    looked = ", ".join(str(home / CONFIG) for home in homes)
    raise NotFound(f"the configuration of the demo is not installed; looked for {looked}")


@contextmanager
def _directory(given: Path | None) -> Generator[Path, None, None]:
    """Yield the state directory; one that nobody asked for is removed."""
    if given is not None:
        yield given.absolute()
        return
    made = Path(tempfile.mkdtemp(prefix="pipaid-demo-"))
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


@contextmanager
def _running(terminal: Terminal, config: Path, state: Path) -> Generator[_Child, None, None]:
    """Start the daemon as a child that Ctrl-C does not reach, and end it in order."""
    process = subprocess.Popen(  # noqa: S603 - our own program with our own arguments
        # With -P the folder somebody happens to stand in is not searched for our modules.
        [sys.executable, "-P", "-c", "from pipaid.launch import daemon; daemon()",
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
    child = _Child(process, its_own)
    threading.Thread(target=child.listen, name="log", daemon=True).start()
    try:
        yield child
    finally:
        child.end()


def _watched(child: _Child, seconds: float | None) -> bool:
    """Show the strategies trade, for so long or until Ctrl-C; tell whether it was Ctrl-C."""
    terminal = child.terminal
    timer = threading.Timer(seconds if seconds is not None else threading.TIMEOUT_MAX, child.ended.set)
    timer.daemon = True
    timer.start()
    try:
        with Watch(terminal, SystemClock()) as looking:
            if terminal.out.isatty() and not terminal.as_json:
                ends = f"ends after {seconds:g} s" if seconds is not None else "Ctrl-C ends it"
                # The daemon of the demo is not where other verbs look, so nobody is sent to them.
                about = f"pipaid demo: {ends}"
                show_live(terminal, looking, child.ended, every_s=REFRESH_S, heading=about, hint="")
            else:
                _tell_progress(terminal, looking, child.ended)
    except KeyboardInterrupt:
        return True
    finally:
        timer.cancel()
    return not child.ended.is_set()


def _tell_progress(terminal: Terminal, looking: Watch, ended: threading.Event) -> None:
    while True:
        if not terminal.as_json:
            terminal.say(progress_line(looking.look()))
        if ended.wait(PROGRESS_S):
            return


def _results(terminal: Terminal) -> list[Result]:
    found: list[Result] = []
    for strategy in sorted(terminal.strategies(), key=lambda each: each.name):
        figures = terminal.ask("strategy.stats", StrategyStatistics, id=strategy.id)
        found.append(
            Result(
                name=strategy.name,
                status=strategy.status,
                fills=figures.fills,
                trades=figures.total_trades,
                pnl=figures.total_pnl,
                open_positions=figures.open_positions,
            )
        )
    return found


def _summarise(terminal: Terminal, results: Sequence[Result]) -> None:
    if terminal.as_json:
        terminal.say_json(msgspec.json.encode({"data": results}))
        return
    columns = (
        Column("STRATEGY", lambda each: each.name, Kind.LABEL, 0),
        Column("STATE", lambda each: each.status, Kind.STATUS),
        Column("FILLS", lambda each: each.fills, Kind.NUMBER),
        Column("TRADES", lambda each: each.trades, Kind.NUMBER),
        Column("PNL", lambda each: each.pnl, Kind.SIGNED, 0),
        Column("OPEN", lambda each: each.open_positions, Kind.NUMBER),
    )
    trading = sum(result.fills > 0 for result in results)
    note = f"{sum(result.fills for result in results)} fills; {trading} of {len(results)} strategies traded"
    terminal.show(drawn([listing("what the strategies did", results, columns, note)]))
