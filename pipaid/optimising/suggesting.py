"""The chooser that learns: optuna's sampler suggests the next set of params from what the earlier ones came to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from importlib import import_module
from itertools import pairwise
from math import prod
from typing import Any, Final

import msgspec
from attrs import define, field

from pipaid.errors import InvalidParameter
from pipaid.optimising.scoring import Candidate
from pipaid.optimising.space import CANDIDATES_MAX, SPACE_MAX, Space, candidates
from pipaid.optimising.sweeping import Params

# After so many sets that were tried already, one that was not is drawn.
REPEATS_MAX: Final = 20


@define
class Suggested:
    """So many different sets, each suggested by what came of the ones before; equal seeds are equal for a crew of one.

    Numbers that rise are places on a scale, and what lies between two good ones is likely to be tried; all other values
    are choices that have nothing to do with one another. What is held out is never told to the sampler.
    """

    space: Space
    tries: int
    seed: int
    _optuna: Any = field(init=False)
    _study: Any = field(init=False)
    _given: int = field(default=0, init=False)
    _drawn: Iterator[Params] = field(init=False)
    _playing: dict[bytes, list[Any]] = field(factory=dict[bytes, list[Any]], init=False)
    _known: dict[bytes, Candidate] = field(factory=dict[bytes, Candidate], init=False)

    def __attrs_post_init__(self) -> None:
        if not self.space or prod(map(len, self.space.values())) > SPACE_MAX:
            raise InvalidParameter("param: name one or more to choose from, with fewer than 2**53 sets in all")
        if self.tries > CANDIDATES_MAX:
            raise InvalidParameter(f"tries: {self.tries} are more than {CANDIDATES_MAX}")
        try:
            self._optuna = import_module("optuna")
        except ImportError:
            raise InvalidParameter("method: tpe needs optuna: pip install 'pipaid[optimise]'") from None
        self._optuna.logging.set_verbosity(self._optuna.logging.WARNING)
        self._drawn = iter(candidates(self.space, "random", tries=self.tries, seed=self.seed))
        sampler = self._optuna.samplers.TPESampler(seed=self.seed)
        self._study = self._optuna.create_study(direction="maximize", sampler=sampler)

    @property
    def count(self) -> int:
        """Return how many sets are tried."""
        return min(self.tries, prod(map(len, self.space.values())))

    def ask(self) -> Params | None:
        """Return the next set that was not tried yet."""
        if self._given == self.count:
            return None
        for _ in range(REPEATS_MAX):
            trial = self._study.ask()
            params = {name: self._value(trial, name, values) for name, values in self.space.items()}
            key = _key(params)
            if key in self._known:
                self._tell(trial, self._known[key])
            elif key in self._playing:
                self._playing[key].append(trial)
            else:
                return self._begun(trial, params)
        # As many as are tried were drawn, so that one of them is left.
        params = next(each for each in self._drawn if not self._met(_key(each)))
        places = {name: values.index(params[name]) for name, values in self.space.items() if is_scale(values)}
        self._study.enqueue_trial({**params, **places})
        trial = self._study.ask()
        assert params == {name: self._value(trial, name, values) for name, values in self.space.items()}
        return self._begun(trial, params)

    def _met(self, key: bytes) -> bool:
        return key in self._known or key in self._playing

    def _begun(self, trial: Any, params: Params) -> Params:
        self._playing[_key(params)] = [trial]
        self._given += 1
        return params

    def tell(self, found: Candidate) -> None:
        """Let the sampler know what a set came to where it may be chosen."""
        key = _key(found.params)
        self._known[key] = found
        for trial in self._playing.pop(key):
            self._tell(trial, found)

    def _tell(self, trial: Any, found: Candidate) -> None:
        if found.chosen_on is None:
            self._study.tell(trial, state=self._optuna.trial.TrialState.FAIL)
        else:
            self._study.tell(trial, float(found.chosen_on))

    @staticmethod
    def _value(trial: Any, name: str, values: Sequence[Any]) -> Any:
        if is_scale(values):
            return values[trial.suggest_int(name, 0, len(values) - 1)]
        return trial.suggest_categorical(name, values)


def is_scale(values: Sequence[Any]) -> bool:
    """Tell whether values are numbers that rise."""
    try:
        numbers = [Decimal(each) for each in values if not isinstance(each, bool)]
    except (InvalidOperation, TypeError, ValueError):
        return False
    return len(numbers) == len(values) and all(low < high for low, high in pairwise(numbers))


def _key(params: Mapping[str, Any]) -> bytes:
    return msgspec.json.encode(params, order="sorted")
