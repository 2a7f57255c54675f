"""Backtest jobs of a real daemon: real worker processes, real deaths, and nothing that a job does reaches trading."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest

from pipaid.backtesting import Backtest, Candles
from pipaid.errors import PipaidError
from pipaid.model.instrument import Timeframe
from pipaid.storage.candles import CandleStore
from tests.surfaces.daemon import BRISK, DCA, Daemon, assert_gapless, names_of, running
from tests.surfaces.plugins import install

WITHIN_S = 60.0
MINUTES = 6 * 1440
ASKED: Mapping[str, Any] = {
    "template_id": "tpl_dca", "params": {"interval": "1h", "buy_amount": "50"}, "symbols": ["ETHUSDT"],
    "timeframe": "15m", "capital": "5000.00", "start": "2025-05-20T00:00:00Z", "end": "2025-05-25T00:00:00Z",
}  # fmt: skip
# It sleeps a little at every candle, so that it is under way for a while however fast candles are played.
LONG: Mapping[str, Any] = {
    **ASKED, "template_id": "tpl_hostile", "timeframe": "1m", "params": {"misdeed": "nap", "place": "on_candle"},
}  # fmt: skip
CONFIG = f"{BRISK}[backtest]\nmemory_mib_max = 400\n"


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Generator[Daemon, None, None]:
    """Run one daemon for those tests that leave it alive."""
    folder = tmp_path_factory.mktemp("jobs")
    with running(folder / "daemon", CONFIG, variables=install("plugin_hostile", folder)) as started:
        yield started


def created(daemon: Daemon, asked: Mapping[str, Any] = ASKED, **changed: Any) -> str:
    return str(daemon.ask("backtest.create", **{**asked, **changed})["id"])


def ended(daemon: Daemon, job: str) -> Any:
    """Wait until a job has ended and return it."""
    found: list[Any] = []

    def has_ended() -> bool:
        found.append(daemon.ask("backtest.get", id=job))
        return found[-1]["status"] in ("done", "failed", "cancelled")

    daemon.wait_for(has_ended, within_s=WITHIN_S)
    return found[-1]


def workers(daemon: Daemon) -> list[psutil.Process]:
    """Return the processes that play something, of this daemon."""
    children = psutil.Process(daemon.pid).children(recursive=True)
    return [child for child in children if "spawn_main" in " ".join(child.cmdline())]


def begun(daemon: Daemon, job: str) -> psutil.Process:
    """Wait until a job has come somewhere, and return the process that plays it."""
    daemon.wait_for(lambda: daemon.ask("backtest.get", id=job)["progress"] > 0, within_s=WITHIN_S)
    (worker,) = workers(daemon)
    return worker


def told(daemon: Daemon, job: str) -> list[Any]:
    """Return all events of a job that has ended."""
    found: list[Any] = []
    with daemon.client() as client:
        for frame in client.tail(job, since_seq=0):
            found.append(msgspec.json.decode(frame))
            if found[-1]["event"] in ("done", "failed", "cancelled"):
                return found
    raise AssertionError("the stream ended before the job")


def test_a_job_is_played_and_told_and_comes_to_what_a_script_comes_to(daemon: Daemon, tmp_path: Path) -> None:
    store = CandleStore(daemon.state / "candles")
    made = Candles(made_up(MINUTES), symbol="SOLUSDT", timeframe=Timeframe.M1)
    store.add("local", made)
    asked: dict[str, Any] = {
        **ASKED,
        "symbols": ["SOLUSDT"],
        "start": "2025-05-21T00:00:00Z",
        "end": "2025-05-23T12:00:00Z",
    }
    job = ended(daemon, created(daemon, asked))
    script = Backtest(
        template="tpl_dca", params=asked["params"], candles={"SOLUSDT": made}, timeframe="15m", capital="5000.00",
        start=asked["start"], end=asked["end"],
    ).run()  # fmt: skip

    assert job["status"] == "done", job["error"]
    assert (job["progress"], job["error"]) == (1, None)
    assert script.raw.fills
    assert job["result"]["digest"] == script.raw.digest
    curve = [[moment, equity] for moment, equity in script.to_dict()["equity_curve"]]
    assert job["result"]["equity_curve"] == curve
    events = told(daemon, job["id"])
    assert_gapless(events)
    assert (names_of(events)[:2], names_of(events)[-1]) == (["queued", "running"], "done")
    shares = [event["data"]["progress"] for event in events]
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0, 1)


def test_the_market_itself_is_the_past_where_no_candles_were_brought_in(daemon: Daemon) -> None:
    first, second = (ended(daemon, created(daemon)) for _ in range(2))

    assert first["status"] == "done", first["error"]
    assert first["result"]["metrics"] == second["result"]["metrics"]
    assert first["result"]["digest"] == second["result"]["digest"]


def test_a_strategy_is_played_as_it_stands(daemon: Daemon) -> None:
    strategy = daemon.create("played", DCA)
    job = ended(daemon, created(daemon, {"strategy_id": strategy, "from": "2025-05-20", "to": "2025-05-21"}))

    assert job["status"] == "done", job["error"]
    assert (job["config"]["template_id"], job["config"]["strategy_id"]) == ("tpl_dca", strategy)


def test_cancelling_ends_the_process_at_once_and_leaves_nothing_behind(daemon: Daemon) -> None:
    job = created(daemon, LONG)
    worker = begun(daemon, job)
    asked_s = time.monotonic()
    answer = daemon.ask("backtest.cancel", id=job, reason="enough")
    took_s = time.monotonic() - asked_s

    assert (answer["status"], answer["result"], answer["error"]) == ("cancelled", None, None)
    assert 0 < answer["progress"] < 1
    assert not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE
    assert took_s < 5.0
    assert workers(daemon) == []
    assert names_of(told(daemon, job))[-1] == "cancelled"
    assert daemon.refusal("backtest.cancel", id=job) == "INVALID_STATE"


def test_a_worker_that_is_killed_fails_its_job_and_the_next_is_played(daemon: Daemon) -> None:
    job, following = created(daemon, LONG), created(daemon)
    begun(daemon, job).kill()

    failed = ended(daemon, job)
    assert (failed["status"], failed["error"]["code"]) == ("failed", "BACKTEST_FAILED")
    assert "ended by SIGKILL" in failed["error"]["message"]
    assert ended(daemon, following)["status"] == "done"


@pytest.mark.parametrize(
    ("misdeed", "said"),
    [
        ("value_error", "the sky is falling"),
        ("system_exit", "SystemExit: I am leaving"),
        ("keyboard_interrupt", "KeyboardInterrupt"),
        ("recursion", "RecursionError"),
        ("gorge", "memory_mib_max"),
        ("vanish", "ended by itself with exit code 7"),
        ("crash", "ended by SIGSEGV"),
    ],
)
def test_what_a_template_does_costs_its_own_job_alone(daemon: Daemon, misdeed: str, said: str) -> None:
    hostile = {**ASKED, "template_id": "tpl_hostile", "params": {"misdeed": misdeed, "place": "on_candle"}}
    failed = ended(daemon, created(daemon, hostile))

    assert failed["status"] == "failed"
    assert said in failed["error"]["message"]
    assert daemon.ask("health")["status"] == "healthy"


def test_what_never_comes_back_is_ended(tmp_path: Path) -> None:
    with running(
        tmp_path / "daemon", f"{CONFIG}run_s_max = 3\n", variables=install("plugin_hostile", tmp_path)
    ) as daemon:
        for misdeed in ("loop", "stall"):
            hostile = {**ASKED, "template_id": "tpl_hostile", "params": {"misdeed": misdeed, "place": "on_candle"}}
            failed = ended(daemon, created(daemon, hostile))
            assert "longer than the 3 s of backtest.run_s_max" in failed["error"]["message"]
            assert workers(daemon) == []


@pytest.mark.parametrize("misdeed", ["spawn", "spin", "split"])
def test_whoever_a_template_leaves_behind_ends_with_its_job(daemon: Daemon, misdeed: str) -> None:
    hostile = {**ASKED, "template_id": "tpl_hostile", "params": {"misdeed": misdeed, "place": "on_start"}}
    job = ended(daemon, created(daemon, hostile))

    assert job["status"] == "done", job["error"]
    daemon.wait_for(lambda: workers(daemon) == [])


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"symbols": ["NOPEUSDT"]}, "not listed"),
        ({"end": "2030-01-01"}, "in the future"),
        ({"start": "2019-01-01"}, "at most 5 years"),
        ({"params": {"interval": "1h"}}, "buy_amount"),
        ({"template_id": "tpl_nope"}, "no template is called"),
    ],
)
def test_what_cannot_be_played_is_refused_at_once(daemon: Daemon, changed: dict[str, Any], said: str) -> None:
    with pytest.raises(PipaidError, match=said) as refused:
        created(daemon, **changed)

    assert refused.value.code == "INVALID_PARAMETER"


def test_candles_that_do_not_reach_as_far_as_was_asked_for_are_noted(daemon: Daemon) -> None:
    short = ended(daemon, created(daemon, start="2025-01-01", end="2025-03-01"))
    whole = ended(daemon, created(daemon))

    assert short["status"] == "done", short["error"]
    (note,) = short["result"]["notes"]
    assert note.startswith("ETHUSDT: its candles reach from 2025-02-01T00:00:00Z to ")
    assert whole["result"]["notes"] == []


def test_a_follower_of_a_backtest_is_done_when_it_is(daemon: Daemon) -> None:
    job = created(daemon)
    shown = daemon.pipaid("events", "tail", job, "--since-seq", "0").splitlines()

    assert [line.split()[4] for line in (shown[0], shown[1], shown[-1])] == ["queued", "running", "done"]


def test_a_range_without_candles_fails_the_job_with_what_there_is(daemon: Daemon) -> None:
    failed = ended(daemon, created(daemon, start="2023-01-01", end="2023-02-01"))

    assert (failed["status"], failed["error"]["code"]) == ("failed", "INVALID_PARAMETER")
    assert "there are no candles from 2023-01-01T00:00:00Z to 2023-02-01T00:00:00Z" in failed["error"]["message"]


def test_jobs_outlive_the_daemon_and_one_that_was_played_is_begun_once_more(tmp_path: Path) -> None:
    with running(tmp_path / "daemon", CONFIG, variables=install("plugin_hostile", tmp_path)) as daemon:
        finished = ended(daemon, created(daemon))
        job, waiting = created(daemon, LONG), created(daemon)
        orphan = begun(daemon, job)
        daemon.kill()
        gone, alive = psutil.wait_procs([orphan], timeout=10)
        assert (gone, alive) == ([orphan], [])

        daemon.start()
        begun(daemon, job)
        assert daemon.ask("backtest.get", id=finished["id"]) == finished
        assert daemon.ask("backtest.get", id=waiting)["status"] == "queued"
        daemon.kill()

        daemon.start()
        interrupted = ended(daemon, job)
        assert (interrupted["status"], interrupted["error"]["code"]) == ("failed", "INTERRUPTED")
        assert ended(daemon, waiting)["status"] == "done"
        assert_gapless(told(daemon, job))
        assert names_of(told(daemon, job)).count("running") == 2
        assert daemon.end() == 0
        daemon.verify()


def test_an_orderly_end_takes_the_workers_along_and_loses_no_job(tmp_path: Path) -> None:
    with running(tmp_path / "daemon", CONFIG, variables=install("plugin_hostile", tmp_path)) as daemon:
        job = created(daemon, LONG)
        worker = begun(daemon, job)
        assert daemon.end() == 0
        assert not psutil.pid_exists(worker.pid)
        daemon.start()
        begun(daemon, job)
        os.kill(daemon.pid, signal.SIGTERM)
        assert daemon.exit_code() == 0


def made_up(minutes: int) -> dict[str, Any]:
    """Return columns of candles whose prices go up and down, from 2025-05-20 on."""
    time_ms = [1_747_699_200_000 + number * 60_000 for number in range(minutes)]
    close = [round(150 + (number * 7919 % 400) / 100, 2) for number in range(minutes)]
    first = [close[max(0, number - 1)] for number in range(minutes)]
    return {
        "time_ms": time_ms,
        "open": first,
        "high": [round(max(pair) + 0.1, 2) for pair in zip(first, close, strict=True)],
        "low": [round(min(pair) - 0.1, 2) for pair in zip(first, close, strict=True)],
        "close": close,
        "volume": [10.5] * minutes,
    }
