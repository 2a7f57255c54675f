"""A sweep over params, as a person sees it: what to try, how far it is, what holds and what was made for the past."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from functools import partial
from typing import Final

import msgspec
from attrs import frozen
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from pipaid.cli.backtesting import Asked, backtest_of, definition_of
from pipaid.cli.drawing import drawn
from pipaid.cli.sheet import Column, Kind, listing, moment
from pipaid.cli.terminal import Terminal
from pipaid.errors import InvalidParameter
from pipaid.model.moment import iso_seconds
from pipaid.optimising import (
    METHODS,
    METRICS,
    Candidate,
    Score,
    Window,
    candidates,
    ranked,
    swept,
    values_of,
    walked,
    windows,
)

SHOWN: Final = 15


@frozen(kw_only=True)
class Sweep:
    """What was typed about what to try."""

    params: Sequence[str]
    method: str
    tries: int
    seed: int
    windows: int
    held_out: str
    metric: str
    jobs: int


class Swept(msgspec.Struct, frozen=True, kw_only=True):
    """What a sweep came to: all candidates, the best first, and what would have been chosen in each window."""

    metric: str
    windows: tuple[Window, ...]
    candidates: tuple[Candidate, ...]
    walk_forward: tuple[tuple[Candidate, Score], ...]


def sweep(terminal: Terminal, what: str, asked: Asked, wanted: Sweep, *, name: str) -> None:
    """Try sets of params in processes of their own, and show which hold on what they were not chosen on."""
    definition = definition_of(terminal, what, name)
    if wanted.method not in METHODS:
        raise InvalidParameter(f"--method {wanted.method!r:.40}: one of {', '.join(METHODS)} expected")
    if wanted.metric not in METRICS:
        raise InvalidParameter(f"--metric {wanted.metric!r:.40}: one of {', '.join(METRICS)} expected")
    if wanted.jobs < 1 or wanted.tries < 1:
        raise InvalidParameter("--jobs and --tries: 1 or more expected")
    space = dict(map(values_of, wanted.params))
    sets = candidates(space, wanted.method, tries=wanted.tries, seed=wanted.seed)
    make = partial(backtest_of, definition, asked)
    plan = make().plan()
    parts = windows(plan.begin_ms, plan.end_ms, count=wanted.windows, held_out=_share(wanted.held_out))
    quiet = terminal.as_json or not terminal.console.is_terminal
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    found: list[Candidate] = []
    with Progress(*columns, console=terminal.console, transient=True, disable=quiet) as progress:
        task = progress.add_task(f"{len(sets)} sets of params", total=len(sets))
        for one in swept(make, sets, parts, metric=wanted.metric, jobs=wanted.jobs):
            found.append(one)
            progress.advance(task)
    told = Swept(
        metric=wanted.metric,
        windows=tuple(parts),
        candidates=tuple(ranked(found)),
        walk_forward=tuple(walked(found, len(parts))),
    )
    if terminal.as_json:
        terminal.say_json(msgspec.json.encode(told))
    else:
        _show(terminal, told)


def _show(terminal: Terminal, told: Swept) -> None:
    def part_of(each: tuple[Candidate, Score]) -> Window:
        return told.windows[each[1].window]

    metric = told.metric.upper().replace("_", " ")
    columns = (
        Column("PARAMS", lambda one: _params(one), Kind.LABEL, 0),
        Column(f"{metric} CHOSEN ON", lambda one: _rounded(one.chosen_on), Kind.SIGNED, 0),
        Column("HELD OUT", lambda one: _rounded(one.held_out), Kind.SIGNED, 0),
        Column("TRADES", lambda one: sum(each.trades for each in one.scores), Kind.NUMBER),
        Column("VERDICT", lambda one: one.failed or one.verdict, Kind.PROSE, 0),
    )
    best = told.candidates[:SHOWN]
    left_out = len(told.candidates) - len(best)
    note = f"and {left_out} more; --json has them all" if left_out else ""
    sheets = [listing(f"{len(told.candidates)} sets of params, the best first", best, columns, note)]
    if told.walk_forward:
        walk = (
            Column("WINDOW", lambda each: _moment(part_of(each).begin_ms)),
            Column("HELD OUT FROM", lambda each: _moment(part_of(each).until_ms)),
            Column("CHOSEN", lambda each: _params(each[0]), Kind.LABEL, 0),
            Column(f"{metric} CHOSEN ON", lambda each: _rounded(each[1].chosen_on), Kind.SIGNED, 0),
            Column("HELD OUT", lambda each: _rounded(each[1].held_out), Kind.SIGNED, 0),
            Column("TRADES", lambda each: each[1].held_out_trades, Kind.NUMBER),
        )
        sheets.append(
            listing("walking forward: the best of each window, on what came after it", told.walk_forward, walk)
        )
    terminal.show(drawn(sheets))


def _moment(at_ms: int) -> str:
    return moment(iso_seconds(at_ms))


def _params(one: Candidate) -> str:
    return " ".join(f"{name}={value}" for name, value in one.params.items())


def _rounded(figure: Decimal | None) -> str | None:
    return None if figure is None else f"{figure:.3f}"


def _share(text: str) -> Decimal:
    try:
        share = Decimal(text)
    except ArithmeticError:
        raise InvalidParameter(f"--held-out {text!r:.40}: a share such as 0.3 expected") from None
    return share if share.is_finite() else Decimal(0)
