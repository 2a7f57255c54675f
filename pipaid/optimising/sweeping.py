"""The course of a sweep: whoever chooses says which set of params comes next, and a crew plays as many as it can."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Final, Protocol

from attrs import define, field, frozen

from pipaid.backtesting import Backtest
from pipaid.errors import InvalidParameter, Unavailable
from pipaid.optimising.scoring import METRICS, Candidate, Window, judged

JOBS_MAX: Final = 512

Params = dict[str, Any]


class CrewLost(Unavailable):
    """Whoever played a set of params ended before it was done; the message names the set."""


@frozen
class Exam:
    """What each set of params is put to: the windows it is played on, and the metric that it is judged by."""

    parts: tuple[Window, ...]
    metric: str

    def __attrs_post_init__(self) -> None:
        if self.metric not in METRICS:
            raise InvalidParameter(f"metric: must be one of {', '.join(METRICS)}, got {self.metric!r:.40}")

    def judge(self, backtest: Backtest, params: Mapping[str, Any]) -> Candidate:
        """Play one set of params and say what it came to."""
        return judged(backtest, params, self.parts, self.metric)


class Chooser(Protocol):
    """Who says which sets of params are tried; `count` of them at most."""

    @property
    def count(self) -> int:
        """Return how many are to be tried."""
        ...

    def ask(self) -> Params | None:
        """Return the next set, or nothing when there is none any more."""
        ...

    def tell(self, found: Candidate) -> None:
        """Take note of what a set came to."""
        ...


class Crew(Protocol):
    """Who plays sets of params; inside of `with` alone. Leaving ends what is still played, at once."""

    @property
    def width(self) -> int:
        """Return how many sets it takes at once."""
        ...

    def begin(self, params: Params) -> None:
        """Take one more set."""
        ...

    def done(self) -> Sequence[Candidate]:
        """Wait until at least one set is done, and return those that are; raise CrewLost when none can be."""
        ...


def swept(chooser: Chooser, crew: AbstractContextManager[Crew]) -> Generator[Candidate]:
    """Yield each candidate as it is done, in any order; closing it ends the crew at once."""
    with crew as players:
        under_way = 0
        while True:
            while under_way < players.width and (params := chooser.ask()) is not None:
                players.begin(params)
                under_way += 1
            if not under_way:
                return
            for found in players.done():
                under_way -= 1
                chooser.tell(found)
                yield found


@define
class Listed:
    """The chooser of sets that are known from the beginning."""

    sets: Sequence[Params]
    _begun: int = field(default=0, init=False)

    @property
    def count(self) -> int:
        """Return how many there are."""
        return len(self.sets)

    def ask(self) -> Params | None:
        """Return the next one."""
        if self._begun == len(self.sets):
            return None
        self._begun += 1
        return self.sets[self._begun - 1]

    def tell(self, found: Candidate) -> None:
        """Learn nothing: the list stays as it is."""


@define
class Alone:
    """The crew that is this very process, one set after the other."""

    make: Callable[[], Backtest]
    exam: Exam
    width: int = field(default=1, init=False)
    _backtest: Backtest | None = field(default=None, init=False)
    _given: list[Params] = field(factory=list[Params], init=False)

    def __enter__(self) -> Crew:
        self._backtest = self.make()
        return self

    def __exit__(self, *_: object) -> None:
        self._backtest = None

    def begin(self, params: Params) -> None:
        """Take a set, which is played when it is asked for."""
        self._given.append(params)

    def done(self) -> Sequence[Candidate]:
        """Play what was taken."""
        assert self._backtest is not None
        return [self.exam.judge(self._backtest, self._given.pop())]


def told(params: Mapping[str, Any]) -> str:
    """Return a set of params as a person would type it."""
    return " ".join(f"{name}={value}" for name, value in params.items())
