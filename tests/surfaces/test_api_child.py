"""The web process as the daemon's child: it comes back by itself, goes with the daemon, and never takes it along."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import psutil

from tests.surfaces.api import SEPARATE, User
from tests.surfaces.daemon import GRID, READY_S_MAX, Daemon


@contextmanager
def parenting(folder: Path, **variables: str) -> Generator[Daemon, None, None]:
    """Run a daemon that has the web process as its child, and leave none of both behind."""
    daemon = Daemon(folder, SEPARATE, {"PIPAID__HTTP__MODE": "child", **variables})
    children: list[psutil.Process] = []
    try:
        daemon.start()
        children = psutil.Process(daemon.pid).children(recursive=True)
        yield daemon
    finally:
        daemon.end_all()
        for each in children:
            if each.is_running() and each.status() != psutil.STATUS_ZOMBIE:
                each.kill()


def listening(daemon: Daemon, times: int = 1) -> str:
    """Wait until the child has come up so often, and return where it listens."""
    daemon.wait_for(lambda: len(daemon.said("http.listening")) >= times)
    return f"http://127.0.0.1:{daemon.said('http.listening')[-1]['port']}"


def child_of(daemon: Daemon) -> psutil.Process:
    """Return the web process."""
    (child,) = (each for each in psutil.Process(daemon.pid).children() if "--child" in each.cmdline())
    return child


def gone(process: psutil.Process) -> bool:
    """Wait for the end of a process that is nobody's child here; tell whether it came."""
    return psutil.wait_procs([process], timeout=READY_S_MAX)[1] == []


def test_a_daemon_serves_http_without_anything_said(tmp_path: Path) -> None:
    with parenting(tmp_path) as daemon:
        url = listening(daemon)
        key = daemon.ask("key.create", name="one", scopes=["trade"])
        user = User(url, key["api_key"], key["secret"])

        created = user.send("POST", "/v1/strategies", {"name": "from afar", **GRID})

        assert created.status_code == 201
        assert "http" in {each["name"] for each in daemon.ask("actors")["data"]}
        assert daemon.end() == 0


def test_a_child_that_ends_is_started_again_and_trading_does_not_notice(tmp_path: Path) -> None:
    with parenting(tmp_path) as daemon:
        listening(daemon)

        child_of(daemon).kill()
        url = listening(daemon, times=2)

        assert httpx2.get(f"{url}/health", trust_env=False).json()["status"] == "degraded"
        assert daemon.said("http.ended")[0]["reason"] == "exit code -9"
        assert daemon.said("child.failed") == []


def test_a_daemon_that_is_told_to_end_takes_its_child_along(tmp_path: Path) -> None:
    with parenting(tmp_path) as daemon:
        listening(daemon)
        child = child_of(daemon)

        assert daemon.end() == 0

        assert not child.is_running()
        assert daemon.said("http.stopped")


def test_a_daemon_that_is_killed_leaves_no_child_behind(tmp_path: Path) -> None:
    with parenting(tmp_path) as daemon:
        listening(daemon)
        child = child_of(daemon)

        daemon.kill()

        assert gone(child)


def test_a_child_that_hangs_does_not_hold_up_the_end(tmp_path: Path) -> None:
    with parenting(tmp_path) as daemon:
        listening(daemon)
        child = child_of(daemon)
        os.kill(child.pid, signal.SIGSTOP)

        assert daemon.end() == 0

        assert not child.is_running()


def test_a_port_that_somebody_else_has_stops_nothing_but_the_child(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with parenting(tmp_path, PIPAID__HTTP__PORT=str(taken.getsockname()[1])) as daemon:
            daemon.wait_for(lambda: daemon.said("http.ended"))

            (held,) = daemon.ask("status")["conditions"]

            assert daemon.said("http.ended")[0]["reason"].startswith("exit code 75: it cannot serve on 127.0.0.1:")
            assert held["condition"] == "http"
            assert "change host or port in [http]" in held["detail"]
            assert 'mode = "off"' in held["remedy"]
            assert daemon.ask("health")["status"] == "degraded"
            assert "change host or port in [http]" in daemon.pipaid("status")
            assert daemon.end() == 0
