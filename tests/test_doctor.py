"""The doctor finds what is wrong, says how to mend it, and changes nothing."""

from __future__ import annotations

import os
import resource
import socket
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import attrs
import pytest

from pipaid import doctor
from pipaid.config import examine
from pipaid.doctor import Finding, Verdict, diagnose
from pipaid.seams import SystemClock, World
from pipaid.storage.sqlite import SqliteJournal
from pipaid.storage.store import Batch, JournalCorrupt, Kind, Record
from tests.certificates import make_pair
from tests.worlds import make_world


def findings(folder: Path, text: str = "", world: World | None = None) -> list[Finding]:
    """Diagnose a daemon that keeps its state in `folder / "state"`."""
    path = folder / "pipaid.toml"
    path.write_text(text, encoding="utf-8")
    world = world or make_world()
    return diagnose(examine(path, world, overrides={"daemon.state_dir": str(folder / "state")}), world)


def finding(found: list[Finding], name: str) -> Finding:
    (only,) = [each for each in found if each.name == name]
    return only


def written_journal(folder: Path) -> SqliteJournal:
    """Open a new journal below a folder and commit something to it."""
    (folder / "state").mkdir()
    world = make_world()
    opened = SqliteJournal.open(folder / "state/journal.db", disk=world.disk, clock=world.clock, pid=os.getpid())
    opened.commit([Batch(records=[Record("setting", f"k{number}", Kind.ADD, b"{}" * 500) for number in range(200)])])
    return opened


@pytest.fixture
def held_journal(tmp_path: Path) -> Iterator[SqliteJournal]:
    """Keep a journal open, as a daemon does."""
    opened = written_journal(tmp_path)
    yield opened
    opened.close()


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    """Leave a journal behind, as a daemon that has ended."""
    written_journal(tmp_path).close()
    return tmp_path / "state/journal.db"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


def test_a_fresh_installation_has_nothing_bad(tmp_path: Path) -> None:
    found = findings(tmp_path, f"[stream]\nport = {free_port()}\n[http]\nport = {free_port()}")

    assert [each for each in found if each.verdict is Verdict.BAD] == []
    assert [each.name for each in found] == [
        "python", "sqlite", "configuration", "templates", "state directory", "disk", "journal", "lock",
        "control socket", "stream", "http", "clock", "master key", "open files", "market",
    ]  # fmt: skip
    assert not (tmp_path / "state").exists(), "the doctor makes nothing"


def test_whatever_is_not_good_has_a_remedy(tmp_path: Path) -> None:
    for each in findings(tmp_path, '[log]\nlevel = 3\n[daemon]\nshutdown_s = "x"'):
        assert each.found
        assert (each.verdict is Verdict.GOOD) == (each.remedy == "")


def test_each_mistake_of_the_configuration_is_a_finding(tmp_path: Path) -> None:
    found = [each for each in findings(tmp_path, '[log]\nlevel = "Info"\nx = 1') if each.name == "configuration"]

    assert [each.remedy for each in found] == ["remove the line", 'write: level = "info"']


def test_a_declared_strategy_is_held_against_its_template(tmp_path: Path) -> None:
    (tmp_path / "s.toml").write_text(
        '[[strategy]]\nname = "a"\ntemplate_id = "tpl_grid"\nsymbols = ["BTCUSDT"]\ntimeframe = "1m"\ncapital = "500"\n'
        'params = { grid_levels = 1, upper_price = "5" }\n'
        '[[strategy]]\nname = "b"\ntemplate_id = "tpl_none"\nsymbols = ["BTCUSDT"]\ntimeframe = "1m"\ncapital = "500"\n'
        "params = { }\n",
        encoding="utf-8",
    )

    told = [each.found for each in findings(tmp_path, '[daemon]\nstrategies = ["s.toml"]') if each.name == "strategies"]

    assert len([line for line in told if f'{tmp_path}/s.toml:1: "a": grid_levels' in line]) == 1
    assert len([line for line in told if f'{tmp_path}/s.toml:1: "a": lower_price' in line]) == 1
    assert len([line for line in told if f'{tmp_path}/s.toml:8: "b": template_id: no template' in line]) == 1


def test_a_journal_in_use_is_whole_and_its_holder_is_named(tmp_path: Path, held_journal: SqliteJournal) -> None:
    found = findings(tmp_path)

    assert finding(found, "journal").verdict is Verdict.GOOD
    lock = finding(found, "lock")
    assert (lock.verdict, lock.found) == (
        Verdict.WARNING,
        f"process {os.getpid()} holds it, and nothing answers on the control socket",
    )


def test_the_lock_is_free_once_the_daemon_has_gone(tmp_path: Path, journal: Path) -> None:
    assert finding(findings(tmp_path), "lock").found == "free: no daemon runs on this state"


def test_a_journal_that_is_gone_is_told_as_the_daemon_tells_it(tmp_path: Path, journal: Path) -> None:
    journal.unlink()
    found = finding(findings(tmp_path), "journal")

    world = make_world()
    with pytest.raises(JournalCorrupt) as refused:
        SqliteJournal.open(journal, disk=world.disk, clock=world.clock, pid=1)
    assert found.verdict is Verdict.BAD
    assert f"{found.found}. {found.remedy}" == refused.value.message


def test_the_configuration_that_was_looked_at_is_named(tmp_path: Path) -> None:
    assert str(tmp_path / "pipaid.toml") in finding(findings(tmp_path), "configuration").found


def test_a_damaged_journal_is_bad(tmp_path: Path, journal: Path) -> None:
    data = journal.read_bytes()
    journal.write_bytes(data[:4096] + b"\xa5" * (len(data) - 4096))

    found = finding(findings(tmp_path), "journal")
    assert found.verdict is Verdict.BAD
    assert "To go back to a backup: stop the daemon" in found.remedy


def test_a_foreign_database_is_bad(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    connection = sqlite3.connect(tmp_path / "state/journal.db")
    connection.execute("CREATE TABLE other (x)")
    connection.close()

    assert "another program" in finding(findings(tmp_path), "journal").found


def test_a_daemon_that_answers_explains_lock_and_port(tmp_path: Path, held_journal: SqliteJournal) -> None:
    control = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    control.bind(str(tmp_path / "state/control.sock"))
    control.listen()
    with control, socket.create_server(("127.0.0.1", 0)) as stream:
        found = findings(tmp_path, f"[stream]\nport = {stream.getsockname()[1]}")

    for name in ("control socket", "lock", "stream"):
        assert finding(found, name).verdict is Verdict.GOOD
    assert finding(found, "stream").found.endswith("is taken, by the daemon that answers")


@pytest.mark.parametrize("section", ["stream", "http"])
def test_a_port_that_somebody_else_has_is_bad(tmp_path: Path, section: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        found = finding(findings(tmp_path, f"[{section}]\nport = {port}"), section)

    assert found.verdict is Verdict.BAD
    assert f"sport = :{port}" in found.remedy


def test_an_address_that_is_refused_is_not_listened_on(tmp_path: Path) -> None:
    assert [each for each in findings(tmp_path, '[stream]\nhost = "0.0.0.0"') if each.name == "stream"] == []


def test_a_stale_socket_is_told_from_none(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as dead:
        dead.bind(str(tmp_path / "state/control.sock"))

    assert "is there and nobody answers" in finding(findings(tmp_path), "control socket").found


def test_a_state_directory_others_may_write_to_is_a_warning(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state").chmod(0o777)

    assert finding(findings(tmp_path), "state directory").remedy == f"chmod go-w {tmp_path}/state"


def test_a_state_directory_that_is_a_file_is_bad(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("", encoding="utf-8")

    assert finding(findings(tmp_path), "state directory").verdict is Verdict.BAD


@attrs.define
class _Clock(SystemClock):
    at_us: int

    def now_us(self) -> int:
        return self.at_us


@pytest.mark.parametrize("at_us", [0, 10**18])
def test_a_clock_that_cannot_be_right_is_bad(tmp_path: Path, at_us: int) -> None:
    world = attrs.evolve(make_world(), clock=_Clock(at_us))

    assert finding(findings(tmp_path, world=world), "clock").verdict is Verdict.BAD


@pytest.mark.parametrize(
    ("days", "verdict", "told"),
    [(0, Verdict.GOOD, "is good until"), (387, Verdict.WARNING, "in 12 days"), (401, Verdict.BAD, "clients refuse it")],
)
def test_a_certificate_is_told_before_it_runs_out(tmp_path: Path, days: int, verdict: Verdict, told: str) -> None:
    pair = make_pair(tmp_path, days=400)
    text = f"""
[stream]
port = 0
tls_certificate = "{pair.certificate}"
tls_key = "{pair.key}"
[http]
mode = "off"
"""
    later = attrs.evolve(make_world(), clock=_Clock(SystemClock().now_us() + days * 86_400_000_000))
    certificate = finding(findings(tmp_path, text, later), "certificate")

    assert certificate.verdict is verdict
    assert certificate.found.startswith(f"stream: {pair.certificate} ")
    assert told in certificate.found
    assert (certificate.remedy == "") == (verdict is Verdict.GOOD)


def test_a_certificate_that_cannot_be_read_is_a_warning(tmp_path: Path) -> None:
    text = f'[http]\nmode = "separate"\nport = 0\ntls_certificate = "{tmp_path}/x.crt"\ntls_key = "{tmp_path}/x.key"'

    certificate = finding(findings(tmp_path, text), "certificate")

    assert (certificate.verdict, certificate.found.partition(": ")[0]) == (Verdict.WARNING, "http")


def test_a_clock_that_was_set_back_is_a_warning(tmp_path: Path, journal: Path) -> None:
    written_us = int(journal.stat().st_mtime * 1_000_000)
    world = attrs.evolve(make_world(), clock=_Clock(written_us - 3_600_000_000))

    assert finding(findings(tmp_path, world=world), "clock").verdict is Verdict.WARNING


def test_a_key_that_others_may_read_is_bad(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    key = tmp_path / "state/master.key"
    key.write_bytes(b"k" * 32)
    key.chmod(0o600)
    assert finding(findings(tmp_path), "master key").verdict is Verdict.GOOD

    key.chmod(0o644)

    assert finding(findings(tmp_path), "master key").verdict is Verdict.BAD


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ([("apikey", "live")], "1 API key"),
        ([("apikey", "live"), ("apikey", "revoked"), ("apikey", "live"), ("webhook", "paused")],
         "2 API keys and 1 webhook"),
    ],
)  # fmt: skip
def test_a_lost_master_key_is_bad_while_secrets_derive_from_it(
    tmp_path: Path, rows: list[tuple[str, str]], told: str
) -> None:
    with closing(written_journal(tmp_path)) as opened:
        records = [Record(entity, f"k{n}", Kind.ADD, b"{}", state=state) for n, (entity, state) in enumerate(rows)]
        opened.commit([Batch(records=records)])

    found = finding(findings(tmp_path), "master key")

    assert found.verdict is Verdict.BAD
    assert f"the secrets of {told} derive" in found.found
    assert str(tmp_path / "state/master.key") in found.found
    assert found.remedy.startswith("Put it back from the backup")


def test_a_master_key_that_nothing_derives_from_is_made_anew(tmp_path: Path) -> None:
    with closing(written_journal(tmp_path)) as opened:
        opened.commit([Batch(records=[Record("apikey", "k", Kind.ADD, b"{}", state="revoked")])])

    assert finding(findings(tmp_path), "master key").verdict is Verdict.GOOD


def test_too_few_open_files_are_a_warning(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 1_000), hard))
        found = finding(findings(tmp_path, "[stream]\nclients_max = 5000"), "open files")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    assert found.verdict is Verdict.WARNING
    assert "LimitNOFILE=5128" in found.remedy


def test_a_replay_tells_how_much_there_is_to_replay(tmp_path: Path) -> None:
    (tmp_path / "BTCUSDT-1m-x.csv").write_text("open_time_ms,open,high,low,close,volume\n", encoding="utf-8")

    found = findings(tmp_path, '[market]\nkind = "replay"\nfiles = ["*.csv"]')

    assert finding(found, "market").found.startswith("a replay of 1 files")


@pytest.mark.parametrize(("version", "verdict"), [((3, 10), "bad"), ((3, 11), "good"), ((3, 14), "bad")])
def test_the_python_is_one_that_is_supported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: tuple[int, int], verdict: str
) -> None:
    monkeypatch.setattr(sys, "version_info", (*version, 0, "final", 0))

    assert finding(findings(tmp_path), "python").verdict == verdict


def test_an_old_sqlite_is_bad(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "SQLITE_MIN", (99, 0, 0))

    assert "SQLite 99.0.0 or later" in finding(findings(tmp_path), "sqlite").remedy
