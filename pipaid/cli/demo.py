"""The demo: a daemon of its own on a made-up market, watched until somebody has seen enough, and nothing left over."""

from __future__ import annotations

import sysconfig
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from pipaid.cli.child import Child, directory, running
from pipaid.cli.drawing import drawn
from pipaid.cli.exits import Exit
from pipaid.cli.sheet import Column, Kind, listing
from pipaid.cli.terminal import Terminal, leaving_cleanly
from pipaid.cli.top import progress_line, show_live
from pipaid.cli.watching import Watch
from pipaid.errors import NotFound
from pipaid.model.report import StrategyStatistics
from pipaid.seams import SystemClock

CONFIG: Final = Path("config") / "demo.toml"
TRADING_MIN: Final = 4
REFRESH_S: Final = 0.5
PROGRESS_S: Final = 2.0


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """What one strategy did in the demo."""

    name: str
    status: str
    fills: int
    trades: int
    pnl: str
    open_positions: int


def show_demo(terminal: Terminal, *, seconds: float | None, state: Path | None) -> int:
    """Run the demo; with `seconds` it ends by itself, and with 1 if fewer than four strategies traded."""
    config = shipped_config()
    try:
        with leaving_cleanly(), directory(state, "pipaid-demo-") as folder, running(terminal, config, folder) as child:
            child.wait_until_ready()
            interrupted = _watched(child, seconds)
            child.require_alive()
            results = _results(child.terminal)
    except KeyboardInterrupt:
        return Exit.OK
    _summarise(terminal, results)
    trading = sum(result.fills > 0 for result in results)
    if interrupted or trading >= TRADING_MIN:
        return Exit.OK
    terminal.warn(f"error: only {trading} strategies traded, {TRADING_MIN} should have; try more --seconds")
    return Exit.REFUSED


def shipped_config() -> Path:
    """Return the configuration of the demo: that of the checkout, else what the wheel installed."""
    import pipaid

    user = sysconfig.get_path("data", sysconfig.get_preferred_scheme("user"))
    homes = [Path(pipaid.__file__).resolve().parents[1]]
    homes.extend(Path(data) / "share" / "pipaid" for data in (sysconfig.get_path("data"), user))
    for home in homes:
        if (home / CONFIG).is_file():
            return home / CONFIG
    looked = ", ".join(str(home / CONFIG) for home in homes)
    raise NotFound(f"the configuration of the demo is not installed; looked for {looked}")


def _watched(child: Child, seconds: float | None) -> bool:
    """Show the strategies trade, for so long or until Ctrl-C; tell whether it was Ctrl-C."""
    terminal = child.terminal
    timer = threading.Timer(seconds if seconds is not None else threading.TIMEOUT_MAX, child.ended.set)
    timer.daemon = True
    timer.start()
    try:
        with Watch(terminal, SystemClock()) as looking:
            if terminal.out.isatty() and not terminal.as_json:
                ends = f"ends after {seconds:g} s" if seconds is not None else "Ctrl-C ends it"
                # The daemon of the demo is not where other verbs look, so nobody is sent to them.
                about = f"pipaid demo: {ends}"
                show_live(terminal, looking, child.ended, every_s=REFRESH_S, heading=about, hint="")
            else:
                _tell_progress(terminal, looking, child.ended)
    except KeyboardInterrupt:
        return True
    finally:
        timer.cancel()
    return not child.ended.is_set()


def _tell_progress(terminal: Terminal, looking: Watch, ended: threading.Event) -> None:
    while True:
        if not terminal.as_json:
            terminal.say(progress_line(looking.look()))
        if ended.wait(PROGRESS_S):
            return


def _results(terminal: Terminal) -> list[Result]:
    found: list[Result] = []
    for strategy in sorted(terminal.strategies(), key=lambda each: each.name):
        figures = terminal.ask("strategy.stats", StrategyStatistics, id=strategy.id)
        found.append(
            Result(
                name=strategy.name,
                status=strategy.status,
                fills=figures.fills,
                trades=figures.total_trades,
                pnl=figures.total_pnl,
                open_positions=figures.open_positions,
            )
        )
    return found


def _summarise(terminal: Terminal, results: Sequence[Result]) -> None:
    if terminal.as_json:
        terminal.say_json(msgspec.json.encode({"data": results}))
        return
    columns = (
        Column("STRATEGY", lambda each: each.name, Kind.LABEL, 0),
        Column("STATE", lambda each: each.status, Kind.STATUS),
        Column("FILLS", lambda each: each.fills, Kind.NUMBER),
        Column("TRADES", lambda each: each.trades, Kind.NUMBER),
        Column("PNL", lambda each: each.pnl, Kind.SIGNED, 0),
        Column("OPEN", lambda each: each.open_positions, Kind.NUMBER),
    )
    trading = sum(result.fills > 0 for result in results)
    note = f"{sum(result.fills for result in results)} fills; {trading} of {len(results)} strategies traded"
    terminal.show(drawn([listing("what the strategies did", results, columns, note)]))
