"""A small siege of a real daemon: it answers everybody, ends in order and leaves a whole journal."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz.__main__ import Asked, besiege


def test_a_daemon_holds_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    advanced = {"lines": 0, "frames": 0}

    def advance(what: str, by: int) -> None:
        advanced[what] += by

    found = besiege(Asked(seed="1", count=1_500, seconds_max=60.0, jobs=1), advance)

    assert found.problems == ()
    assert found.siege is not None
    assert advanced == {"lines": found.siege.lines, "frames": found.siege.frames}
    assert min(advanced.values()) >= 1_500
    assert found.siege.honest_requests > 20
    assert found.siege.honest_events > 10
