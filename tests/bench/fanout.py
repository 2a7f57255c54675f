"""Events delivered per CPU second of the daemon's side, to one, a hundred and a thousand WebSocket clients."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import msgspec
import trio

from actors.stream import StreamLimits
from tests.bench.child import CHILD_S_MAX, ROOT, answer, environment, in_child
from tests.bench.figure import Figure, Size
from tests.surfaces.streams import Desk, open_desk, strategy_ids

# So many events become durable together, as they do when a candle closes.
EVENTS_AT_ONCE = 20
EVENTS_MAX = 20_000
# Nothing more is published while a client has so much before it, as nobody is to be told of losses here.
PENDING_MAX = 1_024
LIMITS = StreamLimits(connections_per_key_max=4_096)


class Audience(msgspec.Struct, frozen=True, kw_only=True):
    """How many listen, to how many events."""

    clients: int
    events: int


def measure(size: Size) -> list[Figure]:
    """Publish in fresh processes."""
    figures: list[Figure] = []
    for clients in size.clients:
        events = min(EVENTS_MAX, size.deliveries // clients) // EVENTS_AT_ONCE * EVENTS_AT_ONCE
        audience = Audience(clients=clients, events=events)
        runs = [in_child("fanout", audience) for _ in range(size.runs)]
        figures.append(
            Figure(
                name=f"events delivered to {clients:,} client{'s' if clients > 1 else ''}",
                unit="/s CPU",
                values=tuple(clients * events / run["cpu_s"] for run in runs),
                note=f"{events} events, journal included; {runs[-1]['event_bytes']:.0f} bytes each",
            )
        )
    return figures


def main(arguments: str) -> None:
    """Publish, and answer with what it took."""
    audience = msgspec.json.decode(arguments, type=Audience)
    with tempfile.TemporaryDirectory(prefix="pipaid-bench-") as folder:
        answer(trio.run(_published, audience, Path(folder)))


async def _published(audience: Audience, folder: Path) -> dict[str, float]:
    strategies = strategy_ids(EVENTS_AT_ONCE)
    async with open_desk(folder, strategies=strategies, limits=LIMITS) as desk:
        target = desk.url().partition(f":{desk.port}")[2]
        words = [str(desk.port), target, str(audience.clients), str(audience.events)]
        process = await trio.lowlevel.open_process(
            [sys.executable, "-m", "tests.bench.listeners", *words],
            stdout=subprocess.PIPE,
            cwd=ROOT,
            env=environment(),
        )
        assert process.stdout is not None
        with trio.fail_after(CHILD_S_MAX / 2):
            assert await process.stdout.receive_some() == b"listening\n", "the clients could not subscribe"
            begun_s = time.process_time()
            for _ in range(audience.events // EVENTS_AT_ONCE):
                await desk.emit(*strategies)
                await _until_taken(desk)
            heard = await process.stdout.receive_some()
            spent_s = time.process_time() - begun_s
            await process.wait()
        frames, size = map(int, heard.split())
        assert frames == audience.clients * audience.events, f"{frames} events arrived"
        return {"cpu_s": spent_s, "event_bytes": size / frames}


async def _until_taken(desk: Desk) -> None:
    while any(tap.pending_frames > PENDING_MAX for tap in desk.hub._taps):  # noqa: ASYNC110 - a tap tells nobody that it was emptied
        await trio.sleep(0.001)


if __name__ == "__main__":
    main(sys.argv[1])
