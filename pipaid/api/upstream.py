"""The way to the daemon: one connection to its forwarding socket, opened when needed and again when it was lost."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final

from attrs import define, field

from pipaid.errors import AnswerLost, PipaidError, Unavailable
from pipaid.model.operation import Operation
from pipaid.unixname import unix_name
from pipaid.wire.envelope import ANSWER_BYTES_MAX, Answer, Forwarded, forwarded_line, read_answer, refusal

# The daemon takes a few more at a time; whoever comes while so many wait for it is told to come again.
UNDER_WAY_MAX: Final = 256
# A pause that closes positions may take half a minute.
ANSWER_S: Final = 60.0
# Who only looks whether the daemon is well has its answer when it takes longer.
LOOK_S: Final = 5.0
CONNECT_S: Final = 2.0
GONE: Final = "the daemon does not answer: it is starting, ending or down; try again"


@define(eq=False)
class _Connection:
    """One life of the connection; once it is `over`, nobody waits on it any more."""

    writer: asyncio.StreamWriter
    waiting: dict[int, asyncio.Future[Answer]] = field(factory=dict[int, "asyncio.Future[Answer]"])
    over: bool = False

    async def listen(self, reader: asyncio.StreamReader) -> None:
        """Hand out answers until the connection ends, and tell whoever still waits that none will come."""
        trouble: PipaidError = Unavailable(GONE)
        try:
            while line := await reader.readline():
                answer = read_answer(line)
                if answer.id is None:
                    trouble = refusal(answer.error)
                    break
                future = self.waiting.pop(int(answer.id), None)
                if future is not None and not future.done():
                    future.set_result(answer)
        except (OSError, ValueError, PipaidError) as broken:
            trouble = Unavailable(f"{GONE} ({broken})"[:200])
        finally:
            self.over = True
            self.writer.close()
            waiting, self.waiting = self.waiting, {}
            for future in waiting.values():
                if not future.done():
                    future.set_exception(trouble)


@define(eq=False)
class Upstream:
    """Pass requests on, many at a time, each with the answer that carries its number."""

    path: Path
    answer_s: float = ANSWER_S
    look_s: float = LOOK_S
    under_way_max: int = UNDER_WAY_MAX
    under_way: int = 0
    _asked: int = 0
    _connection: _Connection | None = None
    _listening: asyncio.Task[None] | None = None
    _connecting: asyncio.Lock = field(factory=asyncio.Lock)

    async def ask(self, operation: Operation, forwarded: Forwarded, idempotency_key: str | None = None) -> Answer:
        """Return the daemon's answer.

        Raise Unavailable if nothing was done, and AnswerLost if nobody can tell: a command is on its way to a daemon
        that ended, and is not sent again.
        """
        if self.under_way >= self.under_way_max:
            raise Unavailable(f"{self.under_way_max} requests are under way; try again")
        self._asked += 1
        line = forwarded_line(self._asked, operation.name, forwarded, idempotency_key)
        return await self._answer_to(self._asked, line, operation, keyed=idempotency_key is not None)

    async def _answer_to(self, asked: int, line: bytes, operation: Operation, *, keyed: bool) -> Answer:
        self.under_way += 1
        try:
            connection = await self._connected()
            future = connection.waiting[asked] = asyncio.get_running_loop().create_future()
            try:
                connection.writer.write(line)
                return await asyncio.wait_for(future, self.answer_s if operation.weight else self.look_s)
            # A task is cancelled when this process ends and has waited for long enough.
            except (Unavailable, TimeoutError, OSError, asyncio.CancelledError) as trouble:
                if operation.mutating:
                    raise AnswerLost(
                        "the daemon ended or fell silent before it answered, so this may have been done: look, or send "
                        "it again with the Idempotency-Key that it had",
                        repeat=keyed,
                    ) from trouble
                raise Unavailable(GONE) from trouble
            finally:
                connection.waiting.pop(asked, None)
        finally:
            self.under_way -= 1

    async def _connected(self) -> _Connection:
        async with self._connecting:
            if self._connection is None or self._connection.over:
                try:
                    async with asyncio.timeout(CONNECT_S):
                        with unix_name(self.path) as name:
                            reader, writer = await asyncio.open_unix_connection(name, limit=ANSWER_BYTES_MAX)
                except (OSError, TimeoutError):
                    raise Unavailable(GONE) from None
                self._connection = _Connection(writer)
                self._listening = asyncio.create_task(self._connection.listen(reader))
            return self._connection

    async def close(self) -> None:
        """End the connection."""
        if self._listening is not None:
            self._listening.cancel()
