"""Clients that sign GET requests over connections that stay open, as fast as they are answered or at a pace; a process
of its own, which is to take as little of the machine as it can."""

from __future__ import annotations

import selectors
import socket
import sys
import time
from array import array
from collections import deque

import msgspec

from pipaid.wire.signing import canonical, sign
from tests.bench.child import answer
from tests.bench.figure import percentile

SILENCE_S_MAX = 60.0
READ_BYTES = 1 << 16


class Calls(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked, by how many at once, how often, and how many of it a second; 0 for as fast as it goes.

    Of the processes `daemon` and `web` is told what CPU time they took meanwhile.
    """

    port: int
    api_key: str
    secret: str
    target: str
    connections: int
    count: int
    daemon: int
    web: int
    status: int = 200
    per_s: float = 0.0


class Called(msgspec.Struct, frozen=True, kw_only=True):
    """When the first was asked and the last answered, CPU time of everybody, and percentiles of the single ones."""

    count: float
    begun_s: float
    ended_s: float
    caller_s: float
    daemon_s: float
    web_s: float
    p50_ms: float
    p99_ms: float

    @property
    def wall_s(self) -> float:
        """Return how long it took."""
        return self.ended_s - self.begun_s


def main(arguments: str) -> None:
    """Call, and answer with the numbers."""
    calls = msgspec.json.decode(arguments, type=Calls)
    connections = [
        socket.create_connection(("127.0.0.1", calls.port), timeout=SILENCE_S_MAX) for _ in range(calls.connections)
    ]
    waited_s = array("d")
    begun_s, before_s = _now_s(), (time.process_time(), _cpu_s(calls.daemon), _cpu_s(calls.web))
    _call(calls, connections, waited_s, begun_s)
    ended_s, after_s = _now_s(), (time.process_time(), _cpu_s(calls.daemon), _cpu_s(calls.web))
    caller_s, daemon_s, web_s = (after - before for before, after in zip(before_s, after_s, strict=True))
    in_ms = [1_000 * each for each in waited_s]
    called = Called(
        count=calls.count,
        begun_s=begun_s,
        ended_s=ended_s,
        caller_s=caller_s,
        daemon_s=daemon_s,
        web_s=web_s,
        p50_ms=percentile(in_ms, 0.5),
        p99_ms=percentile(in_ms, 0.99),
    )
    answer(msgspec.structs.asdict(called))


def _call(calls: Calls, connections: list[socket.socket], waited_s: array[float], begun_s: float) -> None:
    """Keep every connection busy, or only as busy as the pace wants it."""
    idle = deque(connections)
    asked_s: dict[socket.socket, float] = {}
    asked = 0
    with selectors.DefaultSelector() as selector:
        for each in connections:
            selector.register(each, selectors.EVENT_READ)
        while len(waited_s) < calls.count:
            pause_s = SILENCE_S_MAX
            while idle and asked < calls.count:
                due_s = begun_s + asked / calls.per_s if calls.per_s else 0.0
                now_s = _now_s()
                if due_s > now_s:
                    pause_s = due_s - now_s
                    break
                connection = idle.popleft()
                connection.sendall(_request(calls))
                # At a pace, who could not be asked in time has waited already.
                asked_s[connection] = due_s or now_s
                asked += 1
            for key, _ in selector.select(pause_s):
                answered = key.fileobj
                assert isinstance(answered, socket.socket)
                _take(answered, calls.status)
                waited_s.append(_now_s() - asked_s.pop(answered))
                idle.append(answered)
            assert _now_s() - begun_s < SILENCE_S_MAX + calls.count / (calls.per_s or 100.0), "it takes too long"


def _cpu_s(pid: int) -> float:
    """Return what CPU time a process has taken, as its own clock of that tells; the C library makes its number so."""
    return time.clock_gettime(~pid << 3 | 2)


def _now_s() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _request(calls: Calls) -> bytes:
    timestamp = str(time.time_ns() // 1_000_000)
    signature = sign(calls.secret.encode(), canonical(timestamp, "GET", calls.target, b""))
    return (
        f"GET {calls.target} HTTP/1.1\r\nHost: 127.0.0.1\r\nX-PipAI-API-Key: {calls.api_key}\r\n"
        f"X-PipAI-Timestamp: {timestamp}\r\nX-PipAI-Signature: {signature}\r\n\r\n"
    ).encode()


def _take(connection: socket.socket, status: int) -> None:
    """Read one whole answer."""
    read = connection.recv(READ_BYTES)
    while (end := read.find(b"\r\n\r\n")) < 0:
        read += _more(connection)
    assert read.startswith(b"HTTP/1.1 %d " % status), read[:400]
    head = read[:end].lower()
    length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
    while len(read) < end + 4 + length:
        read += _more(connection)


def _more(connection: socket.socket) -> bytes:
    received = connection.recv(READ_BYTES)
    assert received, "the server closed the connection"
    return received


if __name__ == "__main__":
    main(sys.argv[1])
