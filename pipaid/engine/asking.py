"""Asking a template: a callback is called and its wishes looked through in one place, where a budget can stand."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping
from itertools import chain, islice
from types import GeneratorType, MethodType
from typing import Any, Final, cast

from pipaid.engine.holdings import Holdings
from pipaid.engine.intents import intent_objection
from pipaid.engine.template import Alarm, Enter, Exit, Intent, Protect, Template
from pipaid.engine.view import SymbolView
from pipaid.engine.wishes import Nonsense

INTENTS_MAX: Final = 512
REASONS_MAX: Final = 64
REASON_CHARS_MAX: Final = 200
NOTHING: Final = object()
_NOBODYS: Final = frozenset({Template.on_opened, Template.on_closed, Template.on_entry_lost, Template.reasons})


def asked(callback: Callable[..., Any], view: SymbolView, facts: tuple[Any, ...], asker: Holdings) -> list[Intent]:
    """Return what a template's callback wishes, without what the same decision takes back again.

    All of the template's code runs in here, that of its generators too; what comes out is of our own types alone, so
    that nothing of a stranger's is called any more by whoever reads it.
    """
    try:
        wishes = callback(view, *facts)
    except StopIteration as trouble:
        # It would end whatever coroutine it passes through without a word.
        raise RuntimeError(f"{named(callback)} raised StopIteration") from trouble
    if wishes is None:
        raise Nonsense(f"{named(callback)} returned None; return intents, or () for none")
    intents = _listed(callback, wishes)
    if len(intents) > INTENTS_MAX:
        raise Nonsense(f"{named(callback)} returned more than {INTENTS_MAX} intents at once")
    for intent in intents:
        objection = intent_objection(intent, asker.capital)
        if objection is not None:
            raise Nonsense(f"{named(callback)} returned {intent!r:.300}: {objection}")
    state = asker.template.state
    if type(state) is not dict:
        raise Nonsense(f"{named(callback)} made its state a {type(state).__name__}; it has to stay a dict")
    return _standing(intents)


def _listed(callback: Callable[..., Any], wishes: Any) -> list[Any]:
    """Return the first of what was wished, one more than may be."""
    if type(wishes) in (tuple, list):
        return list(wishes[: INTENTS_MAX + 1])
    try:
        each: Iterable[Any] = iter(wishes)
    except TypeError:
        raise Nonsense(f"{named(callback)} returned {wishes!r:.80}; return intents, or () for none") from None
    try:
        return list(islice(each, INTENTS_MAX + 1))
    finally:
        # What a generator does when it is left has to happen here as well, and not whenever its memory is freed.
        if isinstance(each, Generator):
            cast("Generator[Any]", each).close()


def _standing(intents: list[Intent]) -> list[Intent]:
    """Leave out what a later wish of the same kind for the same lot or symbol replaces."""
    if len(intents) < 2:
        return intents
    last: dict[tuple[type[Intent], str], Intent] = {}
    for intent in intents:
        kind = type(intent)
        if kind is Enter:
            continue
        if isinstance(intent, Protect | Exit):
            last[kind, intent.position_id] = intent
        elif isinstance(intent, Alarm):
            last[kind, intent.symbol] = intent
    if not last:
        return intents
    kept = {id(intent) for intent in last.values()}
    return [intent for intent in intents if not isinstance(intent, Protect | Exit | Alarm) or id(intent) in kept]


def reasons(callback: Callable[..., Any], view: SymbolView) -> dict[str, bool]:
    """Return which of a template's rules hold, as our own types."""
    held = callback(view)
    if not isinstance(held, Mapping):
        raise Nonsense(f"{named(callback)} returned {held!r:.80}; return a mapping of names to whether they hold")
    rules = cast("Mapping[object, object]", held)
    return {str(name)[:REASON_CHARS_MAX]: bool(holds) for name, holds in islice(rules.items(), REASONS_MAX)}


def answered(callback: Callable[..., Any], wishes: Iterable[Intent]) -> Callable[..., Iterable[Intent]]:
    """Return a callback that was asked already: it answers with those wishes, under the same name."""

    def answer(_: object) -> Iterable[Intent]:
        return wishes

    answer.__qualname__ = named(callback)
    return answer


def nothing_wished(_: object) -> Iterable[Intent]:
    """Be the callback of a template that is not to be asked."""
    return ()


def begun(wishes: Any) -> Any:
    """Return what a callback wishes, or NOTHING if that is known to be nothing: a generator is asked for its first."""
    if isinstance(wishes, GeneratorType):
        generator = cast("GeneratorType[Any, None, None]", wishes)
        first = next(generator, NOTHING)
        return NOTHING if first is NOTHING else chain((first,), generator)
    # Anything else that is empty is nonsense, and the session says so.
    return NOTHING if type(wishes) in (tuple, list) and not wishes else wishes


def is_left_out(callback: Callable[..., Any]) -> bool:
    """Tell whether a template has no such callback of its own, so that it wishes nothing."""
    return isinstance(callback, MethodType) and callback.__func__ in _NOBODYS


def at_once(function: Callable[..., Any], *args: Any) -> Any:
    """Call a function without any budget: where nobody else waits."""
    return function(*args)


def named(callback: Callable[..., object]) -> str:
    """Return the name under which an author knows a callback."""
    return getattr(callback, "__qualname__", repr(callback))
