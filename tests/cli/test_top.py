"""The live view: one frame never exceeds the screen, whatever the daemon holds, and says what cannot be shown."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import msgspec
import pytest
from rich.cells import cell_len
from rich.console import Console

from pipaid.cli.tail import EventFrame
from pipaid.cli.terminal import Terminal
from pipaid.cli.top import frame, ordered, progress_line
from pipaid.cli.watching import EVENTS_MAX, View, Watch
from pipaid.model.report import (
    ClientFigures,
    DaemonStatus,
    JournalFigures,
    KillSwitch,
    MarketFigures,
)
from pipaid.seams import SystemClock
from tests.cli.answering import Answering, control, listed, pipaid, strategy


def status(**changes: Any) -> DaemonStatus:
    fields: dict[str, Any] = {
        "version": "0.1.0",
        "epoch": 3,
        "pid": 4242,
        "state": "running",
        "uptime_s": 60,
        "venue_time": "2026-01-02T10:15:00.412Z",
        "market": MarketFigures(
            name="synthetic", kind="synthetic", speed="600.0", symbols=("SOLUSDT",), candles=9, stale_symbols=(),
            ended=False,
        ),
        "strategies": {"deployed": 3, "paused": 1},
        "journal": JournalFigures(
            n=100, commits=50, batches=60, records=100, refusals=0, pending=0, group_last=1, group_largest=3,
            latency_last_ms=1.5, size_bytes=4096,
        ),
        "clients": ClientFigures(control=1, control_max=32, stream=0, stream_max=1000),
        "kill_switch": KillSwitch(is_active=False, reason=None, activated_at=None, activated_by=None),
        "degraded": (),
        "log_level": "info",
        "open_positions": 4,
        "working_orders": 7,
        "total_pnl": "-12.34",
    }  # fmt: skip
    return DaemonStatus(**(fields | changes))


def event(seq: int = 7, **data: Any) -> EventFrame:
    shown = {"side": "buy", "qty": "4.2", "symbol": "SOLUSDT", "type": "limit", "price": "158.4"} | data
    return EventFrame(event="order_placed", id="strat_5e07c1d9", ts="2026-01-02T10:15:00.412Z", seq=seq, data=shown)


def screen(view: View, width: int, height: int, heading: str = "") -> list[str]:
    out = io.StringIO()
    console = Console(file=out, width=width, height=height, color_system=None, markup=False, highlight=False)
    console.print(frame(view, width, height, heading=heading))
    return [line.rstrip() for line in out.getvalue().splitlines()]


def many(count: int) -> list[Any]:
    return [strategy(id=f"strat_{number:08x}", name=f"strategy with a name {number:04d}") for number in range(count)]


@pytest.mark.parametrize(("width", "height"), [(80, 24), (80, 10), (80, 7), (80, 4), (40, 12), (120, 40), (200, 60)])
@pytest.mark.parametrize("count", [0, 1, 5, 9, 300])
@pytest.mark.parametrize("heading", ["", "pipaid demo"])
def test_a_frame_fits_the_screen(width: int, height: int, count: int, heading: str) -> None:
    view = View(status(), many(count), [event(number) for number in range(EVENTS_MAX)], {}, 12.5)

    lines = screen(view, width, height, heading)

    assert len(lines) <= height
    assert max(map(cell_len, lines)) <= width


def test_a_frame_shows_the_daemon_its_strategies_and_its_events() -> None:
    held = strategy()
    shown = "\n".join(screen(View(status(), [held], [event()], {held.id: event()}, 12.5), 100, 24))

    for words in (
        "2026-01-02 10:15:00", "600×", "3 deployed", "1 paused", "4 positions", "7 orders", "-12.34", "12 commits/s",
        "sol range", "dry run", "-3.18", "56%", "order_placed    buy 4.2 SOLUSDT limit at 158.4",
    ):  # fmt: skip
        assert words in shown


def test_what_does_not_fit_is_counted() -> None:
    lines = screen(View(status(), many(300)), 80, 24)
    shown = sum("strategy with a name" in line or "strategy with a n" in line for line in lines)

    assert f"… and {300 - shown} more" in "\n".join(lines)


@pytest.mark.parametrize("height", [4, 5, 6, 7, 8, 9, 10, 24])
@pytest.mark.parametrize("heading", ["", "pipaid demo"])
def test_a_tiny_screen_shows_one_strategy_at_least(height: int, heading: str) -> None:
    lines = screen(View(status(), many(300), [event()]), 80, height, heading)

    assert len(lines) <= height
    assert any(line.startswith("strategy with a n") for line in lines)


@pytest.mark.parametrize("width", [40, 64, 80, 100])
def test_the_columns_are_the_same_in_every_frame(width: int) -> None:
    long = strategy(name="n" * 60)
    sums = msgspec.structs.replace(long.stats, total_pnl="-12345.67", total_trades=98_765)
    rich = strategy(name="r" * 60, status="paused", stats=sums, symbols=("BTCUSDT", "ETHUSDT"))
    quiet = screen(View(status(), [strategy()]), width, 24)
    busy = screen(View(status(), [long, rich], [event()], {long.id: event()}), width, 24)

    assert quiet[2].split() == busy[2].split()
    assert "LAST EVENT" in quiet[2] or width < 64
    assert "…" not in quiet[2] + busy[2]


def test_the_demo_sends_nobody_to_a_verb_that_looks_elsewhere() -> None:
    out = io.StringIO()
    Console(file=out, width=80, height=24, color_system=None).print(frame(View(status(), many(300)), 80, 24, hint=""))

    assert "more\n" in out.getvalue().replace(" \n", "\n")
    assert "pipaid list" not in out.getvalue()


def test_the_newest_event_stands_first() -> None:
    view = View(status(), [strategy()], [event(1, qty="1.1"), event(2, qty="2.2")])
    lines = screen(view, 80, 24)

    places = [index for qty in ("2.2", "1.1") for index, line in enumerate(lines) if f"buy {qty}" in line]
    assert places == sorted(places)


def test_failed_strategies_come_first() -> None:
    states = ("stopped", "draft", "paused", "deployed", "error")

    assert [each.status for each in ordered([strategy(status=state) for state in states])] == [
        "error", "deployed", "paused", "draft", "stopped",
    ]  # fmt: skip


def test_a_kill_switch_and_a_degraded_daemon_are_not_overlooked() -> None:
    killed = KillSwitch(is_active=True, reason="mad market", activated_at=None, activated_by=None)
    shown = "\n".join(screen(View(status(kill_switch=killed, degraded=("journal slow",))), 120, 24))

    assert "KILL SWITCH: mad market" in shown
    assert "journal slow" in shown


def test_a_daemon_that_is_gone_is_told() -> None:
    shown = "\n".join(screen(View(trouble="no daemon answers on var/control.sock"), 80, 24))

    assert "no daemon answers on var/control.sock" in shown


def test_progress_is_one_line() -> None:
    line = progress_line(View(status(), [strategy()], [event()], {}, 12.5))

    assert line.count("\n") == 0
    assert "last: sol range order_placed buy 4.2 SOLUSDT" in line


def test_a_single_frame_is_printed_and_that_is_all(tmp_path: Path) -> None:
    answers: dict[str, Answering] = {"status": lambda asked: status(), "strategy.list": listed(*many(30))}
    with control(tmp_path, answers) as served:
        ended = pipaid("top", "--once", socket_path=served.path)

    assert ended.code == 0
    assert "strategy with a name 0029"[:18] in ended.out
    assert "\x1b[" not in ended.out


def test_a_single_frame_of_nobody_is_a_failure(tmp_path: Path) -> None:
    assert pipaid("top", "--once", socket_path=tmp_path / "none.sock").code == 3


def test_a_daemon_that_goes_and_comes_back_is_found_again(tmp_path: Path) -> None:
    answers: dict[str, Answering] = {"status": lambda asked: status(), "strategy.list": listed()}
    terminal = Terminal(variables={}, out=io.StringIO(), err=io.StringIO(), socket=tmp_path / "control.sock")
    looking = Watch(terminal, SystemClock())

    with control(tmp_path, answers):
        there = looking.look()
    (tmp_path / "control.sock").unlink()
    terminal.close()
    gone = looking.look()
    with control(tmp_path, answers), terminal:
        back = looking.look()

    assert [view.status is not None for view in (there, gone, back)] == [True, False, True]
    assert str(tmp_path / "control.sock") in gone.trouble
    assert (there.commits_per_s, back.commits_per_s) == (None, None)
