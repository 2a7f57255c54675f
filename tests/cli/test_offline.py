"""The verbs that need no daemon: journal, configuration, doctor and versions."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from pipaid import __version__
from pipaid.model.record import Batch
from tests.cli.answering import pipaid
from tests.storage.journals import add, open_journal

UNFIT = """
[[strategy]]
name = "bad grid"
template_id = "tpl_grid"
symbols = ["BTCUSDT"]
timeframe = "15m"
capital = "5"
params = { grid_levels = 1, upper_price = "20", lower_price = "10", nonsense = 1 }

[[strategy]]
name = "nameless"
template_id = "tpl_gird"
symbols = ["BTCUSDT"]
timeframe = "15m"
capital = "500"
params = { }
"""
BROKEN = """
[daemon]
stat_dir = "var"
shutdown_s = "soon"
[market]
kind = "guess"
speed = -1
symbols = ["btcusdt"]
[stream]
port = 70000
[log]
level = "loud"
[what]
"""


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """Return a state directory with a journal of one record."""
    journal = open_journal(tmp_path)
    journal.commit([Batch(records=[add("setting", "x")])])
    journal.close()
    return tmp_path


def test_a_whole_journal_is_verified(state: Path) -> None:
    told = pipaid("journal", "verify", "--state", str(state))
    report = msgspec.json.decode(pipaid("journal", "verify", "--state", str(state), "--json").out)

    assert (told.code, told.err) == (0, "")
    assert "the journal is whole" in told.out
    assert (report["problems"], report["records"] > 0) == ([], True)


def test_a_broken_journal_is_told_with_its_problems(state: Path) -> None:
    path = state / "journal.db"
    path.write_bytes(path.read_bytes()[:4096] + b"\xff" * 4096)

    ended = pipaid("journal", "verify", "--state", str(state))

    assert ended.code == 1
    assert ended.err.count("problem: ") == 1
    assert ended.out.endswith("the journal is broken: 1 problem\n")
    assert "problems" not in ended.out


def test_a_journal_that_is_gone_is_told_by_what_vouches_for_it(state: Path) -> None:
    (state / "journal.db").unlink()

    ended = pipaid("journal", "verify", "--state", str(state))

    assert ended.code == 1
    assert "it is missing or empty, but record" in ended.err
    assert "To go back to a backup" in ended.err


def test_a_configuration_is_named_either_way(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text("", encoding="utf-8")
    told = [
        pipaid(*verb, *named, "--json").out
        for verb in (("config", "check"), ("doctor",))
        for named in ((str(file),), ("--config", str(file)))
    ]

    assert all(str(file) in each for each in told)


def test_a_digest_is_one_line(state: Path) -> None:
    ended = pipaid("journal", "digest", "--state", str(state))

    assert ended.code == 0
    assert len(ended.out.split()) == 1
    assert (
        ended.out.strip()
        == msgspec.json.decode(pipaid("--json", "journal", "digest", "--state", str(state)).out)["digest"]
    )


def test_a_backup_is_a_journal_and_is_never_written_over(state: Path, tmp_path: Path) -> None:
    target = tmp_path / "copy" / "journal.db"
    target.parent.mkdir()

    first = pipaid("journal", "backup", str(target), "--state", str(state))
    second = pipaid("journal", "backup", str(target), "--state", str(state))

    assert (first.code, second.code) == (0, 1)
    assert "INVALID_PARAMETER" in second.err
    assert pipaid("journal", "verify", "--state", str(target.parent)).code == 0


@pytest.mark.parametrize("verb", ["verify", "digest"])
def test_a_journal_that_is_not_there_is_not_found(tmp_path: Path, verb: str) -> None:
    ended = pipaid("journal", verb, "--state", str(tmp_path / "none"))

    assert ended.code == 4
    assert str(tmp_path / "none" / "journal.db") in ended.err


def test_every_value_is_shown_with_its_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "pipaid.toml"
    path.write_text("[market]\nseed = 7\n", encoding="utf-8")
    monkeypatch.setenv("PIPAID__STREAM__PORT", "6002")

    ended = pipaid("config", "check", str(path))
    checked = msgspec.json.decode(pipaid("config", "check", str(path), "--json").out)

    sources = {each["key"]: (each["value"], each["source"]) for each in checked["values"]}
    assert (ended.code, checked["mistakes"]) == (0, [])
    assert sources["market.seed"] == ("7", f"{path}:2")
    assert sources["stream.port"] == ("6002", "environment PIPAID__STREAM__PORT")
    assert sources["log.level"][1] == "default"
    assert f"{path}:2" in ended.out


def test_all_mistakes_are_told_at_once_with_place_and_remedy(tmp_path: Path) -> None:
    path = tmp_path / "pipaid.toml"
    path.write_text(BROKEN, encoding="utf-8")

    ended = pipaid("config", "check", str(path))
    checked = msgspec.json.decode(pipaid("config", "check", str(path), "--json").out)

    keys = ("stat_dir", "shutdown_s", "kind", "speed", "symbols", "port", "level", "what")
    assert ended.code == 1
    assert all(key in ended.err for key in keys)
    assert ended.err.count("remedy:") == len(checked["mistakes"]) == len(keys)
    assert all(mistake["place"].startswith(f"{path}:") and mistake["remedy"] for mistake in checked["mistakes"])


def test_declared_strategies_are_held_against_their_templates(tmp_path: Path) -> None:
    strategies = tmp_path / "strategies.toml"
    strategies.write_text(UNFIT, encoding="utf-8")
    path = tmp_path / "pipaid.toml"
    path.write_text('[daemon]\nstrategies = ["strategies.toml"]\n', encoding="utf-8")

    ended = pipaid("config", "check", str(path))
    checked = msgspec.json.decode(pipaid("config", "check", str(path), "--json").out)

    found = {(mistake["place"], mistake["key"]) for mistake in checked["mistakes"]}
    grid = {"capital", "params.grid_levels", "params.nonsense"}
    assert ended.code == 1
    assert found == {(f"{strategies}:2", f'strategy "bad grid": {key}') for key in grid} | {
        (f"{strategies}:10", 'strategy "nameless": template_id')
    }
    assert all(f"{place}: {key}" in ended.err for place, key in found)


def test_a_configuration_that_is_not_there_is_a_mistake(tmp_path: Path) -> None:
    ended = pipaid("config", "check", str(tmp_path / "none.toml"))

    assert ended.code == 1
    assert str(tmp_path / "none.toml") in ended.err


def test_the_doctor_finds_what_is_wrong_and_says_how_to_mend_it(tmp_path: Path) -> None:
    sound = tmp_path / "sound.toml"
    sound.write_text("[stream]\nport = 0\n[http]\nport = 0\n", encoding="utf-8")
    broken = tmp_path / "broken.toml"
    broken.write_text('[stream]\nport = 0\n[http]\nport = 0\n[log]\nlevel = "loud"\n', encoding="utf-8")

    good = pipaid("doctor", "--config", str(sound), "--state", str(tmp_path / "state"))
    bad = pipaid("doctor", "--config", str(broken), "--state", str(tmp_path / "state"))
    findings = msgspec.json.decode(pipaid("doctor", "--config", str(broken), "--json").out)

    assert (good.code, bad.code) == (0, 1)
    warnings = good.out.count("warning  ")
    assert good.out.splitlines()[-1] == ("1 warning" if warnings == 1 else f"{warnings} warnings")
    assert bad.out.splitlines()[-1].startswith("1 to mend, ")
    assert all(each["remedy"] for each in findings["data"] if each["verdict"] != "good")
    assert not (tmp_path / "state").exists()


def test_the_version_is_told_with_what_it_stands_on() -> None:
    assert pipaid("version").out.splitlines()[0] == f"pipaid {__version__}"
    assert msgspec.json.decode(pipaid("version", "--json").out).keys() >= {"pipaid", "python", "sqlite", "trio"}
