"""A control socket that answers as a test tells it, after the check that the daemon makes, and `pipaid` asking it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
from attrs import define, field
from typer.testing import CliRunner

from pipaid.cli.main import application
from pipaid.errors import NotFound, PipaidError
from pipaid.model.operation import decode_request, operation_named
from pipaid.model.reply import Reply, RunSummary, StrategyObject, StrategyPage, StrategySums
from pipaid.model.request import Request, StrategyList
from pipaid.wire.envelope import Outcome, error_line, event_prefix, read_ask

Answering = Callable[[Any], Reply | bytes]


@define
class Control:
    """What was asked, and what is answered: a reply, raw bytes, or a refusal that is raised."""

    path: Path
    answers: Mapping[str, Answering]
    events: tuple[bytes, ...] = ()
    asked: list[tuple[str, Request]] = field(factory=list[tuple[str, Request]])

    def serve(self, listener: socket.socket) -> None:
        """Answer each connection in a thread of its own, until the listener is closed."""
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self._converse, args=(connection,), daemon=True).start()

    def _converse(self, connection: socket.socket) -> None:
        with suppress(OSError), connection, connection.makefile("rb") as lines:
            for line in lines:
                connection.sendall(self._answer(line))
                if b'"events.tail"' in line:
                    return

    def _answer(self, line: bytes) -> bytes:
        ask = read_ask(line)
        try:
            operation = operation_named(ask.op)
            request = decode_request(operation, ask.args)
            self.asked.append((ask.op, request))
            if operation.streaming:
                return b"".join(event_prefix(ask.id) + event + b"}\n" for event in self.events)
            if ask.op not in self.answers:
                raise NotFound(f"{ask.op} is not answered here")
            reply = self.answers[ask.op](request)
            body = reply if isinstance(reply, bytes) else msgspec.json.encode(reply)
            return Outcome(ok=True, body=body).line(ask.id)
        except PipaidError as trouble:
            return error_line(ask.id, trouble)


@define
class Ended:
    """How a call of `pipaid` ended."""

    code: int
    out: str
    err: str


@contextmanager
def control(
    folder: Path, answers: Mapping[str, Answering] | None = None, *, events: tuple[bytes, ...] = ()
) -> Generator[Control, None, None]:
    """Serve a control socket in a folder."""
    path = folder / "control.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
        listener.listen(8)
        served = Control(path, answers or {}, events)
        thread = threading.Thread(target=served.serve, args=(listener,), daemon=True)
        thread.start()
        try:
            yield served
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(5)


def pipaid(*words: str, socket_path: Path | None = None) -> Ended:
    """Call `pipaid` in this process."""
    where = [] if socket_path is None else ["--socket", str(socket_path)]
    result = CliRunner().invoke(application(), [*where, *words])
    return Ended(result.exit_code, result.stdout, result.stderr)


def strategy(**changes: Any) -> StrategyObject:
    """Return a deployed grid, or what the changes make of it."""
    fields: dict[str, Any] = {
        "id": "strat_5e07c1d9",
        "name": "sol range",
        "template_id": "tpl_grid",
        "params": {"grid_levels": 6, "upper_price": "190", "lower_price": "150"},
        "symbols": ("SOLUSDT",),
        "timeframe": "15m",
        "capital": "2500.00",
        "leverage": 2,
        "status": "deployed",
        "deployed_at": "2026-01-02T09:30:00Z",
        "created_at": "2026-01-01T18:00:00Z",
        "updated_at": "2026-01-02T09:30:00Z",
        "stats": StrategySums(open_positions=1, total_pnl="-3.18", total_trades=9, win_rate="0.556"),
        "template_version": 1,
        "dry_run": True,
        "run": RunSummary(
            id="run_7d1e5b0c2a44",
            dry_run=True,
            capital="2500.00",
            leverage=2,
            started_at="2026-01-02T09:30:00Z",
            ended_at=None,
        ),
        "error": None,
    }
    return StrategyObject(**(fields | changes))


def listed(*strategies: StrategyObject) -> Answering:
    """Answer `strategy.list` with these, in pages as long as was asked for; the cursor is the place to go on."""

    def answer(asked: StrategyList) -> StrategyPage:
        start = int(asked.cursor or 0)
        end = start + asked.limit
        return StrategyPage(data=strategies[start:end], next_cursor=str(end) if end < len(strategies) else None)

    return answer
