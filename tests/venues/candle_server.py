"""A venue's public REST on loopback: it shows candles as the venue does, notes what it is asked, and errs on cue."""

from __future__ import annotations

import sys
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import msgspec
from attrs import evolve, field, frozen

START_MS = 1_700_006_400_000
MINUTE_MS = 60_000
NOW_MS = START_MS + 400 * 86_400_000 + 17_000
Row = list[Any]


@frozen
class Reply:
    """What is sent back; a reply that is cut ends in the midst of its body."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(factory=dict[str, str])
    cut: bool = False


Fault = Callable[[Reply], Reply]


class CandleServer:
    """Candles by symbol, as whole rows; `cues` are the faults of the next pages, `asked` the questions so far."""

    def __init__(self, base: str = "") -> None:
        self.base = base
        self.rows: dict[str, list[Row]] = {}
        self.cues: deque[Fault | None] = deque()
        self.asked: list[dict[str, str]] = []
        self.now_ms = NOW_MS
        self.used_weight: Callable[[int], str] | None = None
        self.page_max = 1_000

    def pages(self) -> list[dict[str, str]]:
        """Return the questions for candles."""
        return [each for each in self.asked if each["path"].endswith("/klines")]

    def reply(self, path: str, query: dict[str, str]) -> Reply:
        """Answer as the venue would, then err."""
        self.asked.append({"path": path, **query})
        headers = {} if self.used_weight is None else {"X-MBX-USED-WEIGHT-1M": self.used_weight(len(self.asked))}
        if path.endswith("/time"):
            return Reply(body=msgspec.json.encode({"serverTime": self.now_ms}), headers=headers)
        if path.endswith("/ticker/price"):
            names = [{"symbol": name, "price": "1.0", "time": self.now_ms} for name in self.rows]
            return Reply(body=msgspec.json.encode(names), headers=headers)
        if not path.endswith("/klines"):
            return Reply(404, b"<html>not here</html>", headers)
        answer = evolve(self._page(query), headers=headers)
        cue = self.cues.popleft() if self.cues else None
        return answer if cue is None else cue(answer)

    def _page(self, query: dict[str, str]) -> Reply:
        rows = self.rows.get(query["symbol"])
        if rows is None:
            return Reply(400, b'{"code":-1121,"msg":"Invalid symbol."}')
        start, end, limit = (int(query[name]) for name in ("startTime", "endTime", "limit"))
        found = [row for row in rows if start <= row[0] <= end][: min(limit, self.page_max)]
        return Reply(body=msgspec.json.encode(found))


class _Server(ThreadingHTTPServer):
    """A server for clients that may be killed."""

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


@contextmanager
def candle_server() -> Generator[CandleServer]:
    """Serve until the block is left."""
    shown = CandleServer()

    class Asked(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            reply = shown.reply(parts.path, dict(parse_qsl(parts.query)))
            self.send_response(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(reply.body)))
            self.end_headers()
            self.wfile.write(reply.body[: len(reply.body) // 2] if reply.cut else reply.body)
            self.close_connection = reply.cut

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = _Server(("127.0.0.1", 0), Asked)
    server.daemon_threads = True
    shown.base = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield shown
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def row(open_ms: int, step_ms: int = MINUTE_MS) -> Row:
    """Return a candle in the venue's shape; what it says follows from its time alone."""
    number = open_ms // step_ms
    first, last = 1000 + number % 977, 1000 + (number + 1) % 977
    prices = [f"{units // 10}.{units % 10}0000000" for units in (first, max(first, last), min(first, last), last)]
    return [
        open_ms, *prices, f"{number % 5_000}.{number % 1_000:03d}", open_ms + step_ms - 1, "2434.19055334", 308,
        "1756.87402397", "28.46694368", "17928899.62484339",
    ]  # fmt: skip


def minutes(places: Iterable[int]) -> list[Row]:
    """Return rows so many minutes after the start."""
    return [row(START_MS + place * MINUTE_MS) for place in places]
