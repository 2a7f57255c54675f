"""WebSocket without a socket: the handshake, and the bytes of one connection as messages."""

from __future__ import annotations

from http import HTTPStatus

import httpx2
from attrs import define, field
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Ping, Pong, TextMessage
from wsproto.utilities import ProtocolError, generate_accept_token, generate_nonce

from pipaid.client.asking import trouble_in
from pipaid.errors import PipaidError, Unavailable
from pipaid.wire.envelope import ANSWER_BYTES_MAX

# An acknowledgement names the place of every strategy of the account.
MESSAGE_BYTES_MAX = ANSWER_BYTES_MAX


@define(eq=False)
class Framing:
    """One connection: what it asks for, and what its bytes mean."""

    _nonce: bytes = field(factory=generate_nonce)
    # What has to be sent: answers to pings.
    due: bytes = b""
    # Why the other side ended the connection, once it has.
    ended: PipaidError | None = None
    _connection: Connection = field(factory=lambda: Connection(ConnectionType.CLIENT), init=False)
    _parts: list[str] = field(factory=list[str], init=False)
    _size: int = field(default=0, init=False)

    def headers(self) -> dict[str, str]:
        """Return what a request for a connection says."""
        return {
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec-WebSocket-Key": self._nonce.decode(),
            "Sec-WebSocket-Version": "13",
        }

    def judge(self, answer: httpx2.Response) -> None:
        """Return if the answer is a connection, raise the refusal that it is otherwise."""
        if answer.status_code != HTTPStatus.SWITCHING_PROTOCOLS:
            raise trouble_in(answer, str(answer.request.url))
        if answer.headers.get("Sec-WebSocket-Accept", "").encode() != generate_accept_token(self._nonce):
            raise Unavailable(f"what answers at {answer.request.url} is no WebSocket")

    def said(self, text: bytes) -> bytes:
        """Return a message as its bytes."""
        return self._connection.send(TextMessage(data=text.decode()))

    def heard(self, data: bytes) -> list[str]:
        """Return the messages that are complete with these bytes; none and no bytes are the end."""
        if not data:
            self.ended = Unavailable("the stream ended")
            return []
        texts: list[str] = []
        try:
            self._connection.receive_data(data)
            for event in self._connection.events():
                match event:
                    case TextMessage():
                        texts += self._message(event)
                    case Ping():
                        self.due += self._connection.send(event.response())
                    case CloseConnection():
                        self.ended = Unavailable(f"the stream was closed: {event.reason or 'no reason'} ({event.code})")
                    case BytesMessage():
                        raise ProtocolError("messages are text")
                    case _:
                        assert isinstance(event, Pong)
        except ProtocolError as broken:
            self.ended = Unavailable(f"what was received makes no sense: {broken}"[:200])
        return texts

    def _message(self, part: TextMessage) -> list[str]:
        self._parts.append(part.data)
        self._size += len(part.data)
        if self._size > MESSAGE_BYTES_MAX:
            raise ProtocolError(f"a message has more than {MESSAGE_BYTES_MAX} bytes")
        if not part.message_finished:
            return []
        whole, self._parts, self._size = "".join(self._parts), [], 0
        return [whole]
