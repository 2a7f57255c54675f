"""The two ends of a call: the socket where the daemon answers, and the streams where a person or a program reads."""

from __future__ import annotations

import signal
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any, Final, TextIO, TypeVar

import msgspec
from attrs import define, field

from pipaid.cli.sheet import UNFOLDED_COLUMNS
from pipaid.errors import PipaidError
from pipaid.model.reply import Reply, StrategyObject, StrategyPage
from pipaid.model.request import LIMIT_MAX

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from pipaid.wire.client import BlockingClient

T = TypeVar("T", bound=Reply)

SOCKET_VARIABLE: Final = "PIPAID_SOCKET"
SOCKET_NAME: Final = "control.sock"
LOCAL_SOCKET: Final = Path("var") / SOCKET_NAME
SYSTEM_SOCKET: Final = Path("/run/pipaid") / SOCKET_NAME
STRATEGIES_MAX: Final = 100_000
HOW_TO_REACH: Final = (
    "Start one with `pipaidd --config config/pipaid.toml` or `systemctl start pipaid`, or name another socket with "
    f"--socket PATH or {SOCKET_VARIABLE}=PATH. `pipaid doctor` looks into it."
)


class NotReachable(PipaidError):
    """No daemon answers where it was looked for."""

    code = "NOT_REACHABLE"


def socket_path(given: Path | None, variables: Mapping[str, str]) -> Path:
    """Return where the daemon is looked for: as told, as the environment says, else where there is a socket."""
    if given is not None:
        return given
    if variables.get(SOCKET_VARIABLE):
        return Path(variables[SOCKET_VARIABLE])
    if variables.get("RUNTIME_DIRECTORY"):
        return Path(variables["RUNTIME_DIRECTORY"].partition(":")[0]) / SOCKET_NAME
    if not LOCAL_SOCKET.exists() and SYSTEM_SOCKET.exists():
        return SYSTEM_SOCKET
    return LOCAL_SOCKET


@define
class Terminal:
    """What a verb works with: it asks the daemon, and says what came of it.

    The connection is made by the first question and kept for the next ones.
    """

    variables: Mapping[str, str]
    out: TextIO
    err: TextIO
    socket: Path
    as_json: bool = False
    plain: bool = False
    _client: BlockingClient | None = field(default=None, init=False)
    _console: Console | None = field(default=None, init=False)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, trouble: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the connection, if there is one; the next question makes a new one."""
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def connect(self) -> BlockingClient:
        """Make a connection of its own; raise NotReachable when nobody answers."""
        from pipaid.errors import Unavailable
        from pipaid.wire.client import BlockingClient

        try:
            return BlockingClient(self.socket)
        except Unavailable as trouble:
            raise NotReachable(f"{trouble.message}\n{HOW_TO_REACH}") from None

    def call(self, op: str, args: Mapping[str, Any] | None = None) -> bytes:
        """Return the daemon's answer, as the bytes it sent."""
        if self._client is None:
            self._client = self.connect()
        return self._client.call(op, args)

    def ask(self, op: str, kind: type[T], **args: Any) -> T:
        """Return the daemon's answer, decoded."""
        return msgspec.json.decode(self.call(op, args), type=kind)

    def strategies(self) -> Iterator[StrategyObject]:
        """Yield all strategies, newest first."""
        cursor: str | None = None
        for _ in range(STRATEGIES_MAX // LIMIT_MAX):
            page = self.ask("strategy.list", StrategyPage, limit=LIMIT_MAX, cursor=cursor)
            yield from page.data
            cursor = page.next_cursor
            if cursor is None:
                return

    def say(self, text: str) -> None:
        """Write a line of plain text."""
        self.out.write(f"{text}\n")
        self.out.flush()

    def warn(self, text: str) -> None:
        """Write a line to where errors go."""
        self.out.flush()
        self.err.write(f"{text}\n")
        self.err.flush()

    def say_json(self, data: bytes) -> None:
        """Write one JSON document as a line, byte for byte."""
        self.say(data.decode("utf-8", "replace"))

    def show(self, what: RenderableType) -> None:
        """Write something that rich draws."""
        self.console.print(what)

    @property
    def console(self) -> Console:
        """Return the rich console, which is made by the first look at it."""
        if self._console is None:
            self._console = self._made_console()
        return self._console

    def _made_console(self) -> Console:
        from rich.console import Console

        on_terminal = self.out.isatty()
        bare = self.plain or not on_terminal or bool(self.variables.get("NO_COLOR"))
        return Console(
            file=self.out,
            color_system=None if bare else "auto",
            no_color=bare,
            width=None if on_terminal else UNFOLDED_COLUMNS,
            # Names and messages are shown as they are, whatever brackets and colons stand in them.
            markup=False,
            emoji=False,
            highlight=False,
        )


@contextmanager
def leaving_cleanly() -> Generator[None]:
    """Let a request to end, or a terminal that goes away, be as good as Ctrl-C, so that what is drawn is taken back."""

    def interrupt(number: int, where: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
