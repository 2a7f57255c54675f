"""The master key is read from a place nobody else can read, made once, and never shown."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path

import pytest

from pipaid.config import Secret, examine, master_key
from pipaid.errors import InvalidParameter
from tests.worlds import make_world

KEY = b"0123456789abcdef0123456789abcdef"


def kept(path: Path, data: bytes = KEY, mode: int = 0o600) -> Path:
    path.write_bytes(data)
    path.chmod(mode)
    return path


def test_a_secret_shows_nothing_of_itself() -> None:
    secret = Secret(KEY)

    for shown in (repr(secret), str(secret), f"{secret}", f"{secret:>40}", f"{secret!r}", f"{[secret]}"):
        assert KEY.decode() not in shown
    assert secret.reveal() == KEY
    assert Secret(KEY) != secret
    with pytest.raises(TypeError, match="does not leave the process"):
        pickle.dumps(secret)
    with pytest.raises(TypeError, match="does not leave the process"):
        copy.copy(secret)


def test_the_master_key_is_made_once_and_kept(tmp_path: Path) -> None:
    first = master_key(tmp_path, make_world())
    second = master_key(tmp_path, make_world())

    assert first.reveal() == second.reveal()
    assert len(first.reveal()) == 64
    assert (tmp_path / "master.key").stat().st_mode & 0o777 == 0o600


def test_no_master_key_is_made_in_place_of_one_that_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "master.key"

    with pytest.raises(InvalidParameter, match="secrets of 2 webhooks derive from it") as refused:
        master_key(tmp_path, make_world(), holders="2 webhooks")

    assert str(path) in refused.value.message
    assert "credential pipaid.master" in refused.value.message
    assert not path.exists()
    kept(path)
    assert master_key(tmp_path, make_world(), holders="2 webhooks").reveal() == KEY


def test_the_credential_wins_over_the_file(tmp_path: Path) -> None:
    kept(tmp_path / "master.key", b"f" * 32)
    credentials = tmp_path / "credentials"
    credentials.mkdir(mode=0o700)
    kept(credentials / "pipaid.master", KEY + b"\n", 0o400)
    world = make_world(CREDENTIALS_DIRECTORY=str(credentials))

    assert master_key(tmp_path, world).reveal() == KEY
    assert "credential pipaid.master" in [effective.source for effective in examine(None, world).values]
    assert KEY.decode() not in str(examine(None, world))


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o620, 0o666, 0o610])
def test_a_key_that_others_may_touch_is_refused(tmp_path: Path, mode: int) -> None:
    kept(tmp_path / "master.key", mode=mode)

    with pytest.raises(InvalidParameter, match=f"its mode is {mode:04o}.*chmod 600"):
        master_key(tmp_path, make_world())


@pytest.mark.parametrize("data", [b"", b"  \n", b"short", b"x" * 70_000])
def test_a_key_of_no_use_is_refused(tmp_path: Path, data: bytes) -> None:
    kept(tmp_path / "master.key", data)

    with pytest.raises(InvalidParameter, match="bytes"):
        master_key(tmp_path, make_world())


def test_a_key_that_is_no_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "master.key").mkdir()

    with pytest.raises(InvalidParameter, match="not a regular file"):
        master_key(tmp_path, make_world())
