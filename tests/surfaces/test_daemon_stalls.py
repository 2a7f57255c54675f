"""A strategy that holds the whole daemon up in C code is named, taken out and kept out, and the daemon lives on."""

from __future__ import annotations

import signal
import socket
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from actors.process import EXIT_INVARIANT
from actors.watchdog import read_black_box
from pipaid.seams import SystemDisk
from pipaid.wire.client import ConnectionEnded
from tests.surfaces.daemon import BRISK, Daemon, names_of, running
from tests.surfaces.plugins import install

CONFIG = f"{BRISK}\n[guard]\nstall_s = 2.0\n"
SHAPE: dict[str, Any] = {
    "template_id": "tpl_hostile",
    "symbols": ["BTCUSDT"],
    "timeframe": "1m",
    "capital": "5000.00",
}


@pytest.fixture(scope="module")
def variables(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return install("plugin_hostile", tmp_path_factory.mktemp("plugin"))


def stalling(place: str) -> dict[str, Any]:
    return {**SHAPE, "params": {"misdeed": "stall", "place": place}}


def trades_on(daemon: Daemon) -> None:
    """Wait for a few candles."""
    begun = daemon.ask("status")["market"]["candles"]
    daemon.wait_for(lambda: daemon.ask("status")["market"]["candles"] > begun + 3)


@pytest.mark.parametrize("place", ["on_candle", "features"])
def test_a_call_that_never_returns_ends_in_quarantine(tmp_path: Path, variables: dict[str, str], place: str) -> None:
    with running(tmp_path / "daemon", CONFIG, variables=variables) as daemon:
        neighbour = daemon.create("neighbour", {**SHAPE, "template_id": "tpl_vigilant", "params": {}})
        daemon.ask("strategy.deploy", id=neighbour, dry_run=True)
        stuck = daemon.create("stuck", stalling(place))
        try:
            daemon.ask("strategy.deploy", id=stuck, dry_run=True)
        except ConnectionEnded:
            # It holds the daemon up before there is an answer.
            assert place == "features"
        assert daemon.exit_code() == -signal.SIGABRT
        assert [line["phase"] for line in daemon.said("daemon.aborted")] == [
            {"on_candle": "callback", "features": "loading"}[place]
        ]
        # What every thread was doing stands in the log, down to the template's line.
        assert "hostile.py" in daemon.log.read_text(encoding="utf-8")

        for life in range(2):
            daemon.start()
            told = daemon.get(stuck)
            assert (told["status"], told["error"]["code"]) == ("error", "QUARANTINED")
            assert "pipaid strategy reset" in told["error"]["message"]
            assert "quarantine: stuck" in daemon.ask("status")["degraded"]
            assert names_of(daemon.events(stuck)).count("error") == 1
            assert len(daemon.said("strategy.quarantined")) == 1
            assert daemon.get(neighbour)["status"] == "deployed"
            assert daemon.refusal("strategy.why", id=stuck) == "INVALID_STATE"
            trades_on(daemon)
            assert daemon.ask("strategy.state", id=neighbour)["restarts"] == 0
            assert (life, daemon.end()) == (life, 0)
        daemon.verify()


def test_what_is_in_quarantine_is_released_by_a_person(tmp_path: Path, variables: dict[str, str]) -> None:
    with running(tmp_path / "daemon", CONFIG, variables=variables) as daemon:
        stuck = daemon.create("stuck", stalling("on_candle"))
        daemon.ask("strategy.deploy", id=stuck, dry_run=True)
        assert daemon.exit_code() == -signal.SIGABRT
        daemon.start()

        daemon.ask("strategy.reset", id=stuck)
        daemon.ask("strategy.update", id=stuck, params={"misdeed": "nothing", "place": "on_closed"})
        assert daemon.ask("strategy.deploy", id=stuck, dry_run=True)["status"] == "deployed"
        assert daemon.ask("status")["degraded"] == []


def test_a_check_that_never_returns_is_not_asked_again(tmp_path: Path, variables: dict[str, str]) -> None:
    declared = tmp_path / "declared.toml"
    declared.write_text(
        '[[strategy]]\nname = "stuck"\ntemplate_id = "tpl_hostile"\nsymbols = ["BTCUSDT"]\ntimeframe = "1m"\n'
        'capital = "5000.00"\ndeploy = true\nparams = { misdeed = "stall", place = "check" }\n',
        encoding="utf-8",
    )
    config = f'[daemon]\nstrategies = ["{declared}"]\n{CONFIG}'
    daemon = Daemon(tmp_path / "daemon", config, variables)
    try:
        daemon.spawn()
        assert daemon.exit_code() == -signal.SIGABRT

        for _ in range(2):
            daemon.start()
            daemon.wait_for(lambda: daemon.ask("status")["degraded"])
            (complaint,) = daemon.ask("status")["degraded"]
            assert complaint.startswith("declaration stuck: the check of just this definition by tpl_hostile held")
            assert daemon.end() == 0
    finally:
        if daemon.process is not None and daemon.process.poll() is None:
            daemon.kill()


def test_a_plug_in_whose_import_never_returns_is_left_out(tmp_path: Path, variables: dict[str, str]) -> None:
    with running(tmp_path / "daemon", CONFIG, variables=variables) as daemon:
        shape = {**SHAPE, "params": {"misdeed": "nothing", "place": "on_closed"}}
        hostile = daemon.create("its user", shape)
        daemon.ask("strategy.deploy", id=hostile, dry_run=True)
        assert daemon.end() == 0
        daemon.variables = {**variables, "HOSTILE_IMPORT": "stall"}
        daemon.spawn()
        assert daemon.exit_code() == -signal.SIGABRT

        for _ in range(2):
            daemon.start()
            (refused,) = daemon.ask("template.list")["refused"]
            assert refused["template_id"] == "tpl_hostile"
            assert "its import held the whole daemon up before" in refused["reason"]
            assert daemon.get(hostile)["error"]["code"] == "INVALID_PARAMETER"
            assert daemon.end() == 0


def test_a_killed_daemon_blames_nobody(tmp_path: Path, variables: dict[str, str]) -> None:
    with running(tmp_path / "daemon", CONFIG, variables=variables) as daemon:
        stuck = daemon.create("stuck", stalling("on_candle"))
        daemon.ask("strategy.deploy", id=stuck, dry_run=True)
        # At once, in the middle of the call: no watchdog has seen anything amiss yet.
        daemon.wait_for(lambda: b"\x01" in (daemon.state / "blackbox").read_bytes()[32:40])
        daemon.kill()
        daemon.variables = {}
        daemon.start()

        assert daemon.said("strategy.quarantined") == []
        assert daemon.get(stuck)["error"]["code"] == "INVALID_PARAMETER"


def test_a_daemon_that_is_stopped_from_outside_is_let_be(tmp_path: Path) -> None:
    with running(tmp_path / "daemon", CONFIG) as daemon:
        assert daemon.process is not None
        daemon.process.send_signal(signal.SIGSTOP)
        # Longer than the watchdog allows; what is to be seen is that nothing happens.
        with pytest.raises(subprocess.TimeoutExpired):
            daemon.process.wait(3)
        daemon.process.send_signal(signal.SIGCONT)

        daemon.wait_for(lambda: daemon.ask("ping")["pong"])
        assert daemon.said("daemon.aborted") == []
        assert daemon.end() == 0


def test_under_a_service_manager_the_culprit_is_marked_before_the_manager_loses_patience(
    tmp_path: Path, variables: dict[str, str]
) -> None:
    heard: list[bytes] = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.setblocking(False)
        watched = {**variables, "NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "4000000"}
        # The manager's time is the shorter one, and counts.
        with running(
            tmp_path / "daemon", CONFIG.replace("stall_s = 2.0", "stall_s = 60.0"), variables=watched
        ) as daemon:
            daemon.wait_for(lambda: b"WATCHDOG=1" in take(manager, heard))
            stuck = daemon.create("stuck", stalling("on_candle"))
            daemon.ask("strategy.deploy", id=stuck, dry_run=True)
            daemon.wait_for(lambda: marked(daemon))
            take(manager, heard)
            heard.clear()

            assert daemon.end(signal.SIGABRT) == -signal.SIGABRT
            assert b"WATCHDOG=1" not in take(manager, heard)
            daemon.variables = variables
            daemon.start()

            assert daemon.get(stuck)["error"]["code"] == "QUARANTINED"


def take(manager: socket.socket, heard: list[bytes]) -> list[bytes]:
    """Add what a manager was told since to what it has heard."""
    with suppress(BlockingIOError):
        while True:
            heard.append(manager.recv(4_096))
    return heard


def marked(daemon: Daemon) -> bool:
    """Tell whether the black box holds a mark."""
    record = read_black_box(daemon.state / "blackbox", SystemDisk())
    return record is not None and record.stalled


def test_a_process_that_a_plug_in_forks_keeps_no_restart_from_happening(
    tmp_path: Path, variables: dict[str, str]
) -> None:
    with running(tmp_path / "daemon", CONFIG, variables={**variables, "HOSTILE_IMPORT": "fork"}) as daemon:
        daemon.kill()
        daemon.start()
        assert daemon.end() == 0
        daemon.start()
        assert daemon.ask("ping")["pong"] is True


def test_a_daemon_whose_loop_is_broken_says_so_and_is_not_started_again(
    tmp_path: Path, variables: dict[str, str]
) -> None:
    with running(tmp_path / "daemon", CONFIG, variables=variables) as daemon:
        breaker = daemon.create("breaker", {**SHAPE, "params": {"misdeed": "unplug", "place": "on_candle"}})
        daemon.ask("strategy.deploy", id=breaker, dry_run=True)

        assert daemon.exit_code() == EXIT_INVARIANT
        (line,) = daemon.said("daemon.broken")
        assert line["reason"].startswith("OSError: [Errno 9] Bad file descriptor")
        daemon.verify()
