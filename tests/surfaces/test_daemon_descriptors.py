"""A real daemon that may open nothing more: it trades on, serves those it knows, and lets the others wait."""

from __future__ import annotations

import os
import resource
import signal
import socket
from collections.abc import Generator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import msgspec

from pipaid.unixname import unix_name
from tests.surfaces.daemon import BRISK, DCA, GRID, Daemon, assert_gapless, running


@contextmanager
def no_descriptor_left(daemon: Daemon) -> Generator[None]:
    """Let the process open nothing more while the block lasts."""
    taken = {int(path.name) for path in Path(f"/proc/{daemon.pid}/fd").iterdir()}
    lowest = next(number for number in count() if number not in taken)
    before = resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (lowest, before[1]))
    try:
        yield
    finally:
        resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, before)


@contextmanager
def crowd_at(daemon: Daemon) -> Generator[list[socket.socket]]:
    """Connect until somebody has to wait: what was let go of just now is taken, and nothing is left for certain."""
    crowd = [socket.socket(socket.AF_UNIX) for _ in range(5)]
    try:
        for each in crowd:
            with unix_name(daemon.socket) as name:
                each.connect(name)
        daemon.wait_for(lambda: daemon.said("condition.entered"))
        yield crowd
    finally:
        for each in crowd:
            each.close()


def test_new_clients_wait_and_everything_else_goes_on(tmp_path: Path) -> None:
    with running(tmp_path, BRISK) as daemon, daemon.client() as known:
        one = daemon.create("buys", DCA)
        daemon.ask("strategy.deploy", id=one)

        def positions() -> int:
            return int(msgspec.json.decode(known.call("strategy.get", {"id": one}))["stats"]["open_positions"])

        daemon.wait_for(lambda: positions() >= 2)
        with no_descriptor_left(daemon), crowd_at(daemon) as waiting:
            for each in waiting:
                each.sendall(b'{"id":1,"op":"ping"}\n')
            held = positions()
            daemon.wait_for(lambda: positions() > held)
            status = msgspec.json.decode(known.call("status", {}))
            assert (status["state"], [each["condition"] for each in status["conditions"]]) == (
                "degraded", ["descriptors"],
            )  # fmt: skip
            assert msgspec.json.decode(known.call("strategy.orders", {"id": one}))["data"]

            resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, resource.getrlimit(resource.RLIMIT_NOFILE))
            for each in waiting:
                assert b"pong" in each.recv(4_096)
        assert len(daemon.said("condition.entered")) == 1
        assert [line for line in daemon.said() if line["level"] == "error"] == []
        assert_gapless(daemon.events(one))
        assert daemon.end() == 0


def test_it_can_be_stopped_and_told_to_reload_although_it_can_open_nothing(tmp_path: Path) -> None:
    with running(tmp_path, BRISK) as daemon, daemon.client() as known:

        def refused() -> bool:
            # A connection of before may end just now, and a reload may be quicker than who waits for its descriptor.
            os.kill(daemon.pid, signal.SIGHUP)
            return bool(daemon.said("daemon.reload_refused"))

        one = daemon.create("rests", GRID)
        daemon.ask("strategy.deploy", id=one)
        daemon.wait_for(lambda: daemon.ask("status")["working_orders"] >= 1)
        with no_descriptor_left(daemon), crowd_at(daemon):
            daemon.wait_for(refused)
            assert "Too many open files" in daemon.said("daemon.reload_refused")[-1]["reason"]

            known.call("kill.activate", {"reason": "nothing can be opened"})
            daemon.wait_for(lambda: msgspec.json.decode(known.call("status", {}))["working_orders"] == 0)

        assert daemon.ask("kill.get")["is_active"] is True
        assert daemon.end() == 0
        daemon.verify()
