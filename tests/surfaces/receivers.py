"""A receiver of webhooks in this process, on a socket of its own: it checks signatures and answers as a test says."""

from __future__ import annotations

import hashlib
import hmac
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import msgspec
from attrs import define, field


@define(eq=False)
class Receiver:
    """What came, and how each is answered: `answer` returns a status for an attempt's number and its body."""

    secret: str = ""
    answer: Callable[[int, Any], int] = field(default=lambda attempt, letter: 200)
    port: int = 0
    forged: int = 0
    taken: dict[str, Any] = field(factory=dict[str, Any])
    heard: list[tuple[str, int]] = field(factory=list[tuple[str, int]])
    _lock: threading.Lock = field(factory=threading.Lock)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hooks"

    def take(self, headers: Any, body: bytes) -> int:
        """Take one letter and return the status to answer with."""
        expected = hmac.new(
            self.secret.encode(), headers["X-PipAI-Timestamp"].encode() + b"." + body, hashlib.sha256
        ).hexdigest()
        attempt, letter = int(headers["X-PipAI-Delivery-Attempt"]), msgspec.json.decode(body)
        with self._lock:
            self.heard.append((letter["id"], attempt))
            if not hmac.compare_digest(expected, headers["X-PipAI-Signature"]):
                self.forged += 1
                return 401
            status = self.answer(attempt, letter)
            if 200 <= status < 300:
                self.taken[letter["id"]] = letter
            return status

    def types(self) -> list[str]:
        return [letter["type"] for letter in self.taken.values()]


@contextmanager
def receiving() -> Generator[Receiver]:
    """Receive until the block is left."""
    receiver = Receiver()

    class Answering(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(receiver.take(self.headers, body))
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    class Quiet(ThreadingHTTPServer):
        def handle_error(self, request: Any, client_address: Any) -> None:
            """Say nothing about daemons that were killed in the middle of a word."""

    server = Quiet(("127.0.0.1", 0), Answering)
    receiver.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
