"""Asking a template: a callback is called and its wishes collected in one place, where a budget can stand."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any, Final

from pipaid.engine.template import Intent
from pipaid.engine.view import SymbolView
from pipaid.engine.wishes import Nonsense

INTENTS_MAX: Final = 512


def asked(callback: Callable[..., Any], view: SymbolView, facts: tuple[Any, ...]) -> list[Intent]:
    """Return what a template's callback wishes; all of its code runs in here, that of generators too."""
    try:
        wishes = callback(view, *facts)
    except StopIteration as trouble:
        # It would end whatever coroutine it passes through without a word.
        raise RuntimeError(f"{named(callback)} raised StopIteration") from trouble
    if wishes is None:
        raise Nonsense(f"{named(callback)} returned None; return intents, or () for none")
    try:
        each: Iterable[Any] = iter(wishes)
    except TypeError:
        raise Nonsense(f"{named(callback)} returned {wishes!r:.80}; return intents, or () for none") from None
    intents: list[Any] = list(islice(each, INTENTS_MAX + 1))
    if len(intents) > INTENTS_MAX:
        raise Nonsense(f"{named(callback)} returned more than {INTENTS_MAX} intents at once")
    return intents


def at_once(function: Callable[..., Any], *args: Any) -> Any:
    """Call a function without any budget: where nobody else waits."""
    return function(*args)


def named(callback: Callable[..., object]) -> str:
    """Return the name under which an author knows a callback."""
    return getattr(callback, "__qualname__", repr(callback))
