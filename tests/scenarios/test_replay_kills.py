"""A replay that is killed at random moments ends like one that was never disturbed, and its stream has no hole."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from tests.scenarios.kills import campaign
from tests.scenarios.recordings import MINUTE_MS, START_MS, replay_config, write_recording, write_strategies
from tests.surfaces.daemon import Daemon

MINUTES = 5 * 1440
KILLS = 12


@pytest.mark.parametrize("seed", [1])
async def test_no_kill_changes_what_a_replay_ends_with(tmp_path: Path, seed: int) -> None:
    recording, declared = tmp_path / "recording", tmp_path / "strategies.toml"
    write_recording(recording, minutes=MINUTES, seed=seed)
    write_strategies(declared)

    undisturbed = Daemon(tmp_path / "undisturbed", replay_config(recording, exit_at_end=True, declared=declared))
    undisturbed.spawn()
    code = await trio.to_thread.run_sync(undisturbed.exit_code)
    assert code == 0, undisturbed.tail()
    wanted = undisturbed.digest()
    assert all(each["fills"] for each in wanted["strategies"])

    config = replay_config(recording, exit_at_end=False, declared=declared)
    async with campaign(tmp_path / "killed", config, seed=seed) as killed:
        await killed.kill_often(KILLS, begin_ms=START_MS, end_ms=START_MS + MINUTES * MINUTE_MS // 2)
        await killed.finish()
        assert killed.daemon.end() == 0
    subscriber = killed.subscriber

    assert killed.daemon.digest() == wanted
    assert subscriber.holes == []
    assert subscriber.connections >= KILLS // 2
    assert all(subscriber.last.values())
    undisturbed.verify()
    killed.daemon.verify()
