"""WebSocket clients that subscribe to everything and count what they hear; a process of their own."""

from __future__ import annotations

import selectors
import socket
import sys

from tests.surfaces.streams import masked

SILENCE_S_MAX = 60.0
READ_BYTES = 1 << 18
_ASK = b'{"op":"subscribe","channel":"strategy.status","id":"*"}'


class Listener:
    """One client; `heard` counts whole text frames, `received` their bytes."""

    def __init__(self, port: int, target: str) -> None:
        self.heard = 0
        self.received = 0
        self._buffer = b""
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=SILENCE_S_MAX)
        self.socket.sendall(
            f"GET {target} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        while b"\r\n\r\n" not in self._buffer:
            self._buffer += self._more()
        self._buffer = self._buffer.partition(b"\r\n\r\n")[2]
        self.socket.sendall(masked(_ASK))
        while not self.heard:
            self.take()
        self.heard = self.received = 0

    def take(self) -> None:
        """Read what is there, and count the frames."""
        self._buffer += self._more()
        buffer, start, end = self._buffer, 0, len(self._buffer)
        while end - start >= 2:
            length, head = buffer[start + 1], 2
            if length == 126:
                length, head = int.from_bytes(buffer[start + 2 : start + 4]), 4
            if end - start < head + length:
                break
            if buffer[start] & 15 == 1:
                self.heard += 1
                self.received += length
            start += head + length
        self._buffer = buffer[start:]

    def _more(self) -> bytes:
        received = self.socket.recv(READ_BYTES)
        assert received, "the server closed the connection"
        return received


def main(port: int, target: str, count: int, events: int) -> None:
    """Listen until every client has heard every event."""
    listeners = [Listener(port, target) for _ in range(count)]
    sys.stdout.write("listening\n")
    sys.stdout.flush()
    with selectors.DefaultSelector() as selector:
        for listener in listeners:
            selector.register(listener.socket, selectors.EVENT_READ, listener)
        while selector.get_map():
            ready = selector.select(SILENCE_S_MAX)
            assert ready, "nothing was heard for too long"
            for key, _ in ready:
                key.data.take()
                if key.data.heard >= events:
                    selector.unregister(key.fileobj)
    sys.stdout.write(f"{sum(each.heard for each in listeners)} {sum(each.received for each in listeners)}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
