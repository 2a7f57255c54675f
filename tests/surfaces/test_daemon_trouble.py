"""What goes wrong around the daemon: it says so with a remedy, leaves with the right code and loses nothing."""

from __future__ import annotations

import os
import random
import resource
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from pipaid.errors import PipaidError
from pipaid.unixname import unix_name
from tests.surfaces.daemon import BRISK, CALM, DCA, GRID, Daemon, assert_gapless, running
from tests.surfaces.plugins import install

EX_TEMPORARY = 75
EX_CONFIG = 78

MISTAKES = """
[daemon]
shutdown_s = 0
stategies = []
[market]
kind = "imaginary"
symbols = ["btcusdt"]
speed = "fast"
start = "yesterday"
[desk]
maker_bps = 2.5
[control]
mode = "rw-rw----"
[stream]
port = 70000
[risk]
data_age_max_s = "NaN"
"""


def refused(folder: Path, config: str = CALM, **variables: str) -> tuple[int, str]:
    """Start a daemon that will not come up, and return its exit code and what it said."""
    daemon = Daemon(folder, config, variables)
    daemon.spawn()
    return daemon.exit_code(), daemon.log.read_text(encoding="utf-8")


def reason(said: str) -> str:
    """Return why the daemon refused to start, out of its log."""
    lines = [msgspec.json.decode(line) for line in said.splitlines() if line.startswith("{")]
    (only,) = [line["reason"] for line in lines if line["event"] == "daemon.refused"]
    return str(only)


# Before it runs.


def test_a_second_daemon_on_the_same_state_names_the_first_and_leaves(tmp_path: Path) -> None:
    with running(tmp_path) as first:
        code, said = refused(tmp_path)

        assert code == EX_TEMPORARY
        assert f"process {first.pid} holds the journal" in said.splitlines()[-1]
        assert "one daemon per state directory" in said.splitlines()[-1]
        assert first.ask("ping")["pong"] is True


def test_ten_mistakes_in_a_config_are_all_told_with_place_and_remedy(tmp_path: Path) -> None:
    code, said = refused(tmp_path, MISTAKES)

    assert code == EX_CONFIG
    for key in ("shutdown_s", "stategies", "kind", "symbols", "speed", "start", "maker_bps", "mode", "port",
                "data_age_max_s"):  # fmt: skip
        line = 1 + next(number for number, text in enumerate(MISTAKES.splitlines()) if text.startswith(key))
        assert f"pipaid.toml:{line}" in said, key
    assert said.count("remedy") >= 10 or said.count("->") >= 10, said
    assert not (tmp_path / "state").exists()


def test_a_port_that_is_taken_is_told_and_may_be_tried_again(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        daemon = Daemon(tmp_path, f"{CALM}\n[stream]\nport = {port}\n")
        daemon.variables["PIPAID__STREAM__PORT"] = str(port)
        daemon.spawn()
        code = daemon.exit_code()

        assert code == EX_TEMPORARY
        told = [line for line in daemon.said() if line["level"] == "error"]
        assert str(port) in str(told)
        assert "in use" in str(told)
        assert "Traceback" not in daemon.log.read_text()


DECLARED = """
[[strategy]]
name = "buys"
template_id = "tpl_dca"
symbols = ["BTCUSDT"]
timeframe = "1m"
capital = "5000.00"
deploy = true
params = { interval = "5m", buy_amount = "200" }
"""


def test_a_start_that_cannot_listen_has_not_traded(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        (tmp_path / "buys.toml").write_text(DECLARED, encoding="utf-8")
        config = f'[daemon]\nstrategies = ["buys.toml"]\n{BRISK}'
        daemon = Daemon(tmp_path, config, {"PIPAID__STREAM__PORT": str(port)})
        daemon.spawn()
        assert daemon.exit_code() == EX_TEMPORARY
        assert daemon.digest()["strategies"] == []
        assert not daemon.said("daemon.ready")

    daemon.variables["PIPAID__STREAM__PORT"] = "0"
    try:
        daemon.start()
        daemon.wait_for(lambda: daemon.ask("strategy.list")["data"][0]["stats"]["open_positions"])
    finally:
        daemon.end_all()


def test_a_state_directory_that_cannot_be_made_is_told_as_such(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file", encoding="utf-8")
    code, said = refused(tmp_path)

    assert code == EX_CONFIG
    assert f"the state directory {tmp_path / 'state'} cannot be made: File exists" in reason(said)


def test_a_lost_master_key_is_refused_until_it_is_back_or_another_is_put_there(tmp_path: Path) -> None:
    with running(tmp_path) as daemon:
        kept, revoked = (daemon.ask("key.create", name=name, scopes=["trade"]) for name in ("desk", "gone"))
        daemon.ask("key.revoke", id=revoked["api_key"])
        assert daemon.end() == 0
        key = daemon.state / "master.key"
        saved = key.rename(tmp_path / "backup")
        daemon.log.unlink()

        daemon.spawn()
        assert daemon.exit_code() == EX_CONFIG
        told = reason(daemon.log.read_text(encoding="utf-8"))
        assert told.startswith("the master key is lost, and the secrets of 1 API key derive from it")
        assert "credential pipaid.master" in told
        assert f"the file {key}. Put it back from the backup" in told
        assert f"head -c 32 /dev/urandom | base64 > {key}" in told
        assert not key.exists()

        saved.rename(key)
        daemon.start()
        assert daemon.ask("key.rotate", id=kept["api_key"])["secret"] != kept["secret"]
        daemon.ask("key.revoke", id=kept["api_key"])
        assert daemon.end() == 0
        key.unlink()
        daemon.start()
        assert key.exists()


# The journal.


def traded(folder: Path) -> Daemon:
    """Let a daemon trade for a while, and end it in order."""
    with running(folder, BRISK) as daemon:
        one = daemon.create("buys", DCA)
        daemon.ask("strategy.deploy", id=one)
        daemon.wait_for(lambda: daemon.get(one)["stats"]["open_positions"] >= 3)
        assert daemon.end() == 0
    return daemon


def flip_middle(path: Path) -> None:
    data = bytearray(path.read_bytes())
    chance = random.Random(1)
    for _ in range(200):
        data[chance.randrange(4096, len(data))] ^= 0xFF
    path.write_bytes(data)


def cut_in_half(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def empty(path: Path) -> None:
    os.truncate(path, 0)


def overwrite(path: Path) -> None:
    path.write_bytes(b"this is no database\n" * 500)


@pytest.mark.parametrize(
    "damage", [flip_middle, cut_in_half, empty, overwrite, Path.unlink], ids=lambda one: one.__name__
)
def test_a_damaged_journal_is_refused_with_a_remedy_and_left_as_it_is(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    daemon = traded(tmp_path)
    journal = daemon.state / "journal.db"
    damage(journal)
    before = journal.read_bytes() if journal.exists() else None

    daemon.spawn()
    code = daemon.exit_code()

    told = daemon.said("daemon.refused")[-1]["reason"]
    assert code == EX_CONFIG
    assert str(journal) in told
    assert "restore" in told or "backup" in told, told
    assert (journal.read_bytes() if journal.exists() else None) == before


def test_a_half_written_end_of_the_log_is_dropped_and_all_that_was_told_is_there(tmp_path: Path) -> None:
    with running(tmp_path, BRISK) as daemon:
        one = daemon.create("buys", DCA)
        daemon.ask("strategy.deploy", id=one)
        daemon.wait_for(lambda: daemon.get(one)["stats"]["open_positions"] >= 3)
        told = daemon.events(one)
        daemon.kill()
        log = daemon.state / "journal.db-wal"
        assert log.stat().st_size > 0
        with log.open("ab") as torn:
            torn.write(log.read_bytes()[-2_000:-500])

        daemon.start()

        events = daemon.events(one)
        assert events[: len(told)] == told
        assert_gapless(events)
        daemon.kill()
        daemon.verify()


def test_a_log_that_lost_what_was_durable_is_refused(tmp_path: Path) -> None:
    with running(tmp_path, BRISK) as daemon:
        one = daemon.create("buys", DCA)
        daemon.ask("strategy.deploy", id=one)
        daemon.wait_for(lambda: daemon.get(one)["stats"]["open_positions"] >= 3)
        daemon.kill()
        os.truncate(daemon.state / "journal.db-wal", 0)

        daemon.spawn()

        assert daemon.exit_code() == EX_CONFIG
        assert "was durable" in daemon.said("daemon.refused")[-1]["reason"]


def test_a_full_disk_ends_trading_and_loses_nothing_that_was_told(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path, BRISK)

    def shrink() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (600_000, 600_000))

    try:
        daemon.start(preexec_fn=shrink)
        heard = create_until_refused(daemon)
        code = daemon.exit_code()
        assert code == EX_TEMPORARY
        assert "journal" in str([line for line in daemon.said() if line["level"] == "error"])
        daemon.verify()
        daemon.start()
        assert all(daemon.get(one)["status"] == "draft" for one in heard)
        assert len(heard) > 10
    finally:
        daemon.end_all()


def create_until_refused(daemon: Daemon) -> list[str]:
    """Create strategies until the daemon cannot go on, and return those that it answered for."""
    heard: list[str] = []
    with daemon.client() as client:
        while True:
            try:
                created = client.call("strategy.create", {"name": f"one {len(heard)}", **GRID})
            except PipaidError:
                return heard
            heard.append(str(msgspec.json.decode(created)["id"]))


# The end.


def test_it_ends_in_order_with_clients_connected_and_work_under_way(tmp_path: Path) -> None:
    with running(tmp_path, BRISK) as daemon:
        for number in range(5):
            daemon.ask("strategy.deploy", id=daemon.create(f"buys {number}", DCA))
        idle, tailing = daemon.client(), daemon.client()
        tail = tailing.tail("*", since_seq=0)
        next(tail)

        assert daemon.end() == 0

        assert daemon.said()[-1]["event"] == "daemon.stopped"
        assert daemon.said("child.failed") == []
        idle.close()
        tailing.close()
        daemon.verify()


def test_it_ends_in_order_with_a_strategy_that_never_comes_back(tmp_path: Path) -> None:
    config = f"{BRISK}\n[guard]\nbudget_ms = 1000\nblocked_ms = 5000\noverruns_max = 100\n"
    with running(tmp_path / "daemon", config, variables=install("plugin_hostile", tmp_path)) as daemon:
        shape = {"template_id": "tpl_hostile", "params": {"misdeed": "loop", "place": "on_candle"},
                 "symbols": ["BTCUSDT"], "timeframe": "1m", "capital": "5000.00"}  # fmt: skip
        daemon.ask("strategy.deploy", id=daemon.create("loops", shape))
        daemon.wait_for(lambda: daemon.said("strategy.crashed"))

        assert daemon.end() == 0
        assert daemon.said()[-1]["event"] == "daemon.stopped"


def test_told_twice_it_ends_at_once(tmp_path: Path) -> None:
    with running(tmp_path, BRISK) as daemon:
        one = daemon.create("buys", DCA)
        daemon.ask("strategy.deploy", id=one)
        os.kill(daemon.pid, signal.SIGTERM)
        code = daemon.end()

        # Either it was through by itself, or the second time cut short whatever there was left to do.
        assert (code, daemon.said()[-1]["event"]) in ((0, "daemon.stopped"), (EX_TEMPORARY, "daemon.aborted"))
        daemon.verify()


# Those who speak to it.


def test_an_honest_client_is_served_while_others_do_their_worst(tmp_path: Path) -> None:
    with running(tmp_path) as daemon, daemon.client() as honest:
        one = daemon.create("asked about")
        hostile = [attack(daemon, payload) for payload in ATTACKS]
        for number in range(100):
            assert msgspec.json.decode(honest.call("strategy.get", {"id": one}))["id"] == one, number
        for each in hostile:
            each.close()
        assert daemon.ask("health")["status"] == "healthy"
        daemon.wait_for(lambda: daemon.ask("status")["clients"]["control"] <= 2)


ATTACKS = (
    b"x" * 1_000_000,
    b'{"id":1,"op":"ping"',
    b"[" * 60_000 + b"\n",
    b'{"id":1,"op":"strategy.get","args":{"id":' + b'{"a":' * 5_000 + b"\n",
    b"\xff\xfe\x00\n" * 1_000,
    b"\n" * 10_000,
    b'{"id":1,"op":"strategy.create","args":{"name":"n","capital":"NaN"}}\n' * 500,
    b'{"id":1,"op":"strategy.create","args":{"name":"n","capital":"1e999999","leverage":1e308}}\n' * 500,
    b'{"id":1,"op":"status"}\n' * 5_000,
)


def attack(daemon: Daemon, payload: bytes) -> socket.socket:
    """Send as much of it as the daemon takes at once, read nothing, and stay."""
    client = socket.socket(socket.AF_UNIX)
    with unix_name(daemon.socket) as name:
        client.connect(name)
    client.setblocking(False)
    try:
        while payload:
            payload = payload[client.send(payload) :]
    except (BlockingIOError, BrokenPipeError, ConnectionResetError):
        pass
    return client
