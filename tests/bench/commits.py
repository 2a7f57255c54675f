"""Durable commits a second when a hundred actors wait, how long a lone one takes, and what a bare disk does."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from decimal import Decimal
from pathlib import Path

import msgspec
import trio

from actors.recorder import Recorder
from pipaid.model.event import EventDraft, OrderCancelled
from pipaid.model.record import Batch, Kind, Record
from pipaid.seams import World
from pipaid.storage.sqlite import SqliteJournal
from tests.bench.child import answer, in_child
from tests.bench.figure import Figure, Size, percentile

# What a decision with one order writes: order, memory, evaluation, and the event that tells of it.
DATA_BYTES = 600
ENTITIES = ("order", "brain", "run")


class Work(msgspec.Struct, frozen=True, kw_only=True):
    """How much one child commits."""

    waiting: int
    commits: int


def measure(size: Size) -> list[Figure]:
    """Commit in fresh processes."""
    work = Work(waiting=size.waiting, commits=size.commits)
    runs = [in_child("commits", work) for _ in range(size.runs)]

    def figure(name: str, unit: str, key: str, note: str = "") -> Figure:
        return Figure(name=name, unit=unit, values=tuple(run[key] for run in runs), note=note)

    share = [run["alone_p50_ms"] / run["bare_p50_ms"] for run in runs]
    return [
        figure(f"durable commits, {size.waiting} actors waiting", "/s wall", "together_per_s", "each its own batch"),
        figure("the same in CPU time", "/s CPU", "together_per_cpu_s"),
        figure("a lone commit, p50", "ms", "alone_p50_ms", f"{sorted(share)[len(share) // 2]:.2f} of a bare fdatasync"),
        figure("a lone commit, p99", "ms", "alone_p99_ms"),
        figure("write and fdatasync of as many bytes, p50", "ms", "bare_p50_ms", "a preallocated file, nothing else"),
        figure("write and fdatasync of as many bytes, p99", "ms", "bare_p99_ms"),
    ]


def main(arguments: str) -> None:
    """Commit, and answer with the numbers."""
    work = msgspec.json.decode(arguments, type=Work)
    with tempfile.TemporaryDirectory(prefix="pipaid-bench-") as folder:
        numbers = trio.run(_committed, work, Path(folder))
        bare = _bare(Path(folder) / "bare", work.commits, int(numbers["bytes"]))
        answer({**numbers, **bare})


async def _committed(work: Work, folder: Path) -> dict[str, float]:
    world = World()
    path = folder / "journal.db"
    journal = SqliteJournal.open(path, disk=world.disk, clock=world.clock, pid=world.env.pid())
    recorder = Recorder(journal, lambda _: None, world.clock)
    alone_s: list[float] = []
    async with trio.open_nursery() as nursery:
        await nursery.start(recorder.run)
        for number in range(work.commits):
            begun_s = time.perf_counter()
            await recorder.commit(decision(0, number))
            alone_s.append(time.perf_counter() - begun_s)
        log_bytes = path.with_name(path.name + "-wal").stat().st_size
        begun_s, begun_cpu_s = time.perf_counter(), time.process_time()
        async with trio.open_nursery() as actors:
            for actor in range(work.waiting):
                actors.start_soon(_commit_on, recorder, actor + 1, work.commits // 4)
        spent_s, spent_cpu_s = time.perf_counter() - begun_s, time.process_time() - begun_cpu_s
        nursery.cancel_scope.cancel()
    journal.close()
    count = work.waiting * (work.commits // 4)
    return {
        "alone_p50_ms": percentile(alone_s, 0.5) * 1e3,
        "alone_p99_ms": percentile(alone_s, 0.99) * 1e3,
        "together_per_s": count / spent_s,
        "together_per_cpu_s": count / spent_cpu_s,
        "bytes": max(4_096, log_bytes // work.commits),
    }


async def _commit_on(recorder: Recorder, actor: int, count: int) -> None:
    for number in range(count):
        await recorder.commit(decision(actor, number))


def decision(actor: int, number: int) -> Batch:
    """Return what a decision with one order makes durable."""
    strategy_id = f"strat_{actor:08x}"
    told = OrderCancelled(
        order_id=f"ord_{number}",
        client_order_id=f"pp{number}",
        symbol="BTCUSDT",
        reason="engine",
        filled_qty=Decimal(0),
        cancelled_at="2026-01-01T00:00:00Z",
    )
    event = EventDraft(strategy_id=strategy_id, data=told, at_ms=number, run_id="run_1", dry_run=True)
    data = b'"' + b"x" * (DATA_BYTES - 2) + b'"'
    records = [Record(entity, f"{strategy_id}-{number % 8}", Kind.PUT, data, strategy_id) for entity in ENTITIES]
    return Batch(records=records, events=[event])


def _bare(path: Path, count: int, size: int) -> dict[str, float]:
    """Write as many bytes as the log grew by at a lone commit to a file that is there already, and force them out."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, bytes(size * count))
        os.fsync(descriptor)
        os.lseek(descriptor, 0, os.SEEK_SET)
        spent_s: list[float] = []
        for _ in range(count):
            begun_s = time.perf_counter()
            os.write(descriptor, bytes(size))
            os.fdatasync(descriptor)
            spent_s.append(time.perf_counter() - begun_s)
    finally:
        os.close(descriptor)
    return {"bare_p50_ms": percentile(spent_s, 0.5) * 1e3, "bare_p99_ms": percentile(spent_s, 0.99) * 1e3}


if __name__ == "__main__":
    main(sys.argv[1])
