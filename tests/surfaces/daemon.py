"""A real daemon in a process of its own, on a state and a configuration of the test's choosing."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
from attrs import define, field

from pipaid.errors import PipaidError
from pipaid.wire.client import BlockingClient
from tests.surfaces.daemons import command, environment

READY_S_MAX = 60.0
ENDS_S_MAX = 60.0
LOOK_S = 0.01

# A market that moves only as fast as the wall clock, so that nothing trades unless a test sees to it.
CALM = """
[market]
symbols = ["BTCUSDT", "ETHUSDT"]
seed = 7
start = "2025-06-01T00:00:00Z"
speed = 1.0
"""
# The same at ten minutes a second: what waits for a candle does not wait for long.
BRISK = CALM.replace("speed = 1.0", "speed = 600")

GRID: Mapping[str, Any] = {
    "template_id": "tpl_grid",
    "params": {"grid_levels": 6, "upper_price": "190000", "lower_price": "50000"},
    "symbols": ["BTCUSDT"],
    "timeframe": "1m",
    "capital": "5000.00",
    "leverage": 2,
}
# It buys at once and then every five minutes, so it soon has several positions that nothing closes by itself.
DCA: Mapping[str, Any] = {
    "template_id": "tpl_dca",
    "params": {"interval": "5m", "buy_amount": "200"},
    "symbols": ["BTCUSDT"],
    "timeframe": "1m",
    "capital": "5000.00",
}


@define(eq=False)
class Daemon:
    """One state directory with its configuration, and the process that lives on it, if one does."""

    folder: Path
    config: str = CALM
    variables: dict[str, str] = field(factory=dict[str, str])
    before: str = "pass"
    process: subprocess.Popen[bytes] | None = None

    @property
    def state(self) -> Path:
        return self.folder / "state"

    @property
    def log(self) -> Path:
        return self.folder / "log"

    @property
    def socket(self) -> Path:
        return self.state / "control.sock"

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    # Its lives.

    def spawn(self, **process: Any) -> None:
        """Start a process and wait for nothing."""
        self.folder.mkdir(parents=True, exist_ok=True)
        config = self.folder / "pipaid.toml"
        config.write_text(self.config, encoding="utf-8")
        variables = environment(**{"PIPAID__STREAM__PORT": "0", **self.variables})
        words = command("daemon", "--config", str(config), "--state", str(self.state), before=self.before)
        with self.log.open("ab") as log:
            started: Any = subprocess.Popen(words, stderr=log, env=variables, **process)
            self.process = started

    def start(self, **process: Any) -> None:
        """Start a process and wait until it says that it runs."""
        began = len(self.said())
        self.spawn(**process)
        self.wait_for(lambda: any(each["event"] == "daemon.ready" for each in self.said()[began:]))

    def kill(self) -> None:
        """End the process as a power failure would."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def end_all(self) -> None:
        """Leave no process behind."""
        if self.process is not None and self.process.poll() is None:
            self.kill()

    def end(self, number: int = signal.SIGTERM) -> int:
        """Tell the process to end and return its exit code."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.exit_code()

    def exit_code(self) -> int:
        """Wait for the process to end by itself and return its exit code."""
        assert self.process is not None
        return self.process.wait(ENDS_S_MAX)

    def wait_for(self, condition: Callable[[], object], *, within_s: float = READY_S_MAX) -> None:
        """Wait for something that comes about inside the process; fail with its log when it ends or takes too long."""
        assert self.process is not None
        until = time.monotonic() + within_s
        while not condition():
            assert self.process.poll() is None, f"it ended with {self.process.returncode}: {self.tail()}"
            assert time.monotonic() < until, f"not within {within_s:g} s: {self.tail()}"
            time.sleep(LOOK_S)

    # What it is asked, and what it says.

    def client(self) -> BlockingClient:
        return BlockingClient(self.socket)

    def ask(self, op: str, /, **args: Any) -> Any:
        """Return the result of an operation; raise its refusal."""
        with self.client() as client:
            return msgspec.json.decode(client.call(op, args))

    def refusal(self, op: str, /, **args: Any) -> str:
        """Return the code with which an operation is refused."""
        try:
            result = self.ask(op, **args)
        except PipaidError as refused:
            return refused.code
        raise AssertionError(f"{op} was not refused but answered {result}")

    def create(self, name: str, shape: Mapping[str, Any] = GRID, **changed: Any) -> str:
        """Create a strategy and return its id."""
        return str(self.ask("strategy.create", name=name, **{**shape, **changed})["id"])

    def get(self, id: str) -> Any:
        return self.ask("strategy.get", id=id)

    def events(self, id: str) -> list[Any]:
        """Return all events of a strategy that are retained, strict ones only."""
        count = self.ask("strategy.state", id=id)["last_seq"]
        found: list[Any] = []
        with self.client() as client:
            for frame in client.tail(id, since_seq=0) if count else ():
                found.append(msgspec.json.decode(frame))
                if found[-1]["seq"] >= count:
                    break
        return found

    def said(self, event: str = "") -> list[dict[str, Any]]:
        """Return what stands in the log: everything, or the lines of one kind."""
        if not self.log.exists():
            return []
        lines = self.log.read_bytes().rpartition(b"\n")[0].splitlines()
        records = [msgspec.json.decode(line) for line in lines if line.startswith(b"{")]
        return [record for record in records if event in ("", record["event"])]

    def tail(self) -> str:
        """Return the end of the log."""
        return self.log.read_text(encoding="utf-8")[-2_000:] if self.log.exists() else "it logged nothing"

    @property
    def stream_port(self) -> int:
        """Return where the process that lives now listens for the event stream."""
        return int(self.said("stream.listening")[-1]["port"])

    def pipaid(self, *words: str) -> str:
        """Run a verb of the command line to its end and return what it printed; it must succeed."""
        done = subprocess.run(
            command("admin", *words), capture_output=True, text=True, timeout=ENDS_S_MAX, check=False,
            env=environment(PIPAID_SOCKET=str(self.socket)),
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def digest(self) -> Any:
        return msgspec.json.decode(self.pipaid("journal", "digest", "--each", "--state", str(self.state), "--json"))

    def verify(self) -> None:
        self.pipaid("journal", "verify", "--state", str(self.state))


@contextmanager
def running(
    folder: Path, config: str = CALM, *, variables: Mapping[str, str] | None = None
) -> Generator[Daemon, None, None]:
    """Run a daemon until the block is left, and leave no process behind."""
    daemon = Daemon(folder, config, dict(variables or {}))
    try:
        daemon.start()
        yield daemon
    finally:
        daemon.end_all()


def names_of(events: Sequence[Any]) -> list[str]:
    return [event["event"] for event in events]


def assert_gapless(events: Sequence[Any]) -> None:
    """Hold events to numbers from 1 on without a hole or a repeat."""
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
