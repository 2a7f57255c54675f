"""Params within params: where a name such as `entry[0].params.window` leads, and what is put there."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, cast

from pipaid.errors import InvalidParameter

PARAMS: Final = "params"
_NAME: Final = r"[^.\[\]]+(?:\[[0-9]{1,4}\])*"
_PATH: Final = re.compile(rf"{_NAME}(?:\.{_NAME})*")
_STEP: Final = re.compile(r"\[([0-9]+)\]|([^.\[\]]+)")

Step = str | int


def path_of(name: str) -> tuple[Step, ...]:
    """Return the steps that a name stands for; it may begin with `params`, as it does in a file of strategies."""
    if not _PATH.fullmatch(name):
        raise InvalidParameter(f"param {name!r:.60}: write a name, or a path such as entry[0].params.window")
    steps = tuple(int(index) if index else word for index, word in _STEP.findall(name))
    return steps[1:] if len(steps) > 1 and steps[0] == PARAMS else steps


def placed(params: Mapping[str, Any], chosen: Mapping[str, Any]) -> dict[str, Any]:
    """Return params with each chosen value where its name leads; raise InvalidParameter where that is nowhere."""
    result: Any = dict(params)
    for name, value in chosen.items():
        result = _put(result, path_of(name), value, name)
    return dict(result)


def _put(inside: Any, path: Sequence[Step], value: Any, name: str) -> Any:
    if not path:
        return _alike(inside, value)
    step, rest = path[0], path[1:]
    if isinstance(step, str) and (inside is None or isinstance(inside, Mapping)):
        # What is not there has its default, and may be said all the same.
        within: dict[str, Any] = dict(cast("Mapping[str, Any]", inside or {}))
        return {**within, step: _put(within.get(step), rest, value, name)}
    if isinstance(step, int) and isinstance(inside, list | tuple):
        items = list(cast("Sequence[Any]", inside))
        if step < len(items):
            items[step] = _put(items[step], rest, value, name)
            return items
    raise InvalidParameter(f"param {name:.60}: the strategy has nothing at {step!r:.40}")


def _alike(before: Any, value: Any) -> Any:
    """Return a value as the one is written that it takes the place of: a number where that is a number."""
    if isinstance(before, int | float) and not isinstance(before, bool) and isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value
