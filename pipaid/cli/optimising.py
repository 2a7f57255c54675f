"""A sweep over params, as a person sees it: what to try, how far it is, what holds and what was made for the past."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, closing
from decimal import Decimal
from functools import partial
from typing import Any, Final

import msgspec
from attrs import frozen
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from pipaid.backtesting import Backtest
from pipaid.cli.backtesting import Asked, backtest_of, definition_of
from pipaid.cli.drawing import drawn
from pipaid.cli.exits import Exit
from pipaid.cli.sheet import Column, Kind, listing, moment
from pipaid.cli.terminal import Terminal, leaving_cleanly
from pipaid.engine.params import param_specs
from pipaid.engine.plan import Plan
from pipaid.errors import InvalidParameter
from pipaid.model.moment import iso_seconds
from pipaid.optimising.cluster import Cluster
from pipaid.optimising.placing import path_of, placed
from pipaid.optimising.processes import Processes
from pipaid.optimising.scoring import METRICS, Candidate, Score, Window, ranked, walked, windows
from pipaid.optimising.space import METHODS, Space, candidates, values_of
from pipaid.optimising.suggesting import Suggested
from pipaid.optimising.sweeping import JOBS_MAX, Alone, Chooser, Crew, Exam, Listed, swept, told

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
    scheduler: str


class Swept(msgspec.Struct, frozen=True, kw_only=True):
    """What a sweep came to: all candidates, the best first, and what would have been chosen in each window."""

    metric: str
    windows: tuple[Window, ...]
    candidates: tuple[Candidate, ...]
    walk_forward: tuple[tuple[Candidate, Score], ...]


def sweep(terminal: Terminal, what: str, asked: Asked, wanted: Sweep, *, name: str) -> int:
    """Try sets of params in processes of their own, and show which hold on what they were not chosen on.

    Return the exit code: a sweep of which no set could be played is refused.
    """
    definition = definition_of(terminal, what, name)
    if wanted.method not in METHODS:
        raise InvalidParameter(f"--method {wanted.method!r:.40}: one of {', '.join(METHODS)} expected")
    if wanted.metric not in METRICS:
        raise InvalidParameter(f"--metric {wanted.metric!r:.40}: one of {', '.join(METRICS)} expected")
    if not 1 <= wanted.jobs <= JOBS_MAX or wanted.tries < 1:
        raise InvalidParameter(f"--jobs and --tries: 1 or more expected, and at most {JOBS_MAX} jobs")
    space = dict(map(values_of, wanted.params))
    chooser = _chooser(space, wanted)
    make = partial(backtest_of, definition, asked)
    first = make()
    plan = first.plan()
    _check_names(space, plan, first.params)
    parts = windows(plan.begin_ms, plan.end_ms, count=wanted.windows, held_out=_share(wanted.held_out))
    crew = _crew(make, Exam(tuple(parts), wanted.metric), wanted, chooser.count)
    quiet = terminal.as_json or not terminal.console.is_terminal
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    found: list[Candidate] = []
    shown = Progress(*columns, console=terminal.console, transient=True, disable=quiet)
    with leaving_cleanly(), shown as progress, closing(swept(chooser, crew)) as sweeping:
        task = progress.add_task(f"{chooser.count} sets of params", total=chooser.count)
        for one in sweeping:
            found.append(one)
            progress.advance(task)
    result = Swept(
        metric=wanted.metric,
        windows=tuple(parts),
        candidates=tuple(ranked(found)),
        walk_forward=tuple(walked(found, len(parts))),
    )
    if terminal.as_json:
        terminal.say_json(msgspec.json.encode(result))
    else:
        _show(terminal, result)
    return Exit.REFUSED if all(one.failed for one in found) else Exit.OK


def _check_names(space: Space, plan: Plan, params: Mapping[str, Any]) -> None:
    known = param_specs(plan.template.params_type)
    for name, values in space.items():
        if path_of(name)[0] not in known:
            raise InvalidParameter(
                f"--param {name:.40}: {plan.template.id} has no such param; it has {', '.join(known)}"
            )
        placed(params, {name: values[0]})


def _chooser(space: Space, wanted: Sweep) -> Chooser:
    if wanted.method == "tpe":
        return Suggested(space, wanted.tries, wanted.seed)
    return Listed(candidates(space, wanted.method, tries=wanted.tries, seed=wanted.seed))


def _crew(make: Callable[[], Backtest], exam: Exam, wanted: Sweep, count: int) -> AbstractContextManager[Crew]:
    if wanted.scheduler:
        return Cluster(wanted.scheduler, make, exam)
    return Alone(make, exam) if wanted.jobs == 1 else Processes(make, exam, min(wanted.jobs, count))


def _show(terminal: Terminal, result: Swept) -> None:
    def part_of(each: tuple[Candidate, Score]) -> Window:
        return result.windows[each[1].window]

    metric = result.metric.upper().replace("_", " ")
    columns = (
        Column("PARAMS", lambda one: told(one.params), Kind.LABEL, 0),
        Column(f"{metric} CHOSEN ON", lambda one: _rounded(one.chosen_on), Kind.SIGNED, 0),
        Column("HELD OUT", lambda one: _rounded(one.held_out), Kind.SIGNED, 0),
        Column("TRADES", lambda one: sum(each.trades for each in one.scores), Kind.NUMBER),
        Column("VERDICT", lambda one: one.failed or one.verdict, Kind.PROSE, 0),
    )
    best = result.candidates[:SHOWN]
    left_out = len(result.candidates) - len(best)
    note = f"and {left_out} more; --json has them all" if left_out else ""
    sheets = [listing(f"{len(result.candidates)} sets of params, the best first", best, columns, note)]
    if result.walk_forward:
        walk = (
            Column("WINDOW", lambda each: _moment(part_of(each).begin_ms)),
            Column("HELD OUT FROM", lambda each: _moment(part_of(each).until_ms)),
            Column("CHOSEN", lambda each: told(each[0].params), Kind.LABEL, 0),
            Column(f"{metric} CHOSEN ON", lambda each: _rounded(each[1].chosen_on), Kind.SIGNED, 0),
            Column("HELD OUT", lambda each: _rounded(each[1].held_out), Kind.SIGNED, 0),
            Column("TRADES", lambda each: each[1].held_out_trades, Kind.NUMBER),
        )
        sheets.append(
            listing("walking forward: the best of each window, on what came after it", result.walk_forward, walk)
        )
    terminal.show(drawn(sheets))


def _moment(at_ms: int) -> str:
    return moment(iso_seconds(at_ms))


def _rounded(figure: Decimal | None) -> str | None:
    return None if figure is None else f"{figure:.3f}"


def _share(text: str) -> Decimal:
    try:
        share = Decimal(text)
    except ArithmeticError:
        raise InvalidParameter(f"--held-out {text!r:.40}: a share such as 0.3 expected") from None
    return share if share.is_finite() else Decimal(0)
