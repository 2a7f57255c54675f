"""What an intent must be before it is carried: of the right types, in figures above zero, without contradiction."""

from __future__ import annotations

import math
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final, cast

from pipaid.engine.template import Alarm, CancelEntries, Conclude, Consult, Enter, Exit, ExitAll, Protect, required
from pipaid.model.consult import PROMPT_MAX
from pipaid.model.money import ONE, ZERO
from pipaid.model.order import OrderType
from pipaid.model.position import CloseReason, Direction

TAG_MAX: Final = 64
REASON_MAX: Final = 200
TAGS_MAX: Final = 10_000
FIGURE_DIGITS_MAX: Final = 18
TOKENS_ASKED_MAX: Final = 32_000
PATIENCE_MS_MIN: Final = 1_000
PATIENCE_MS_MAX: Final = 600_000
SCHEMA_DEPTH_MAX: Final = 8
SCHEMA_PARTS_MAX: Final = 512
TEXT_IN_SCHEMA_MAX: Final = 1_000
WHOLE_MAX: Final = 2**53
NAME_MAX: Final = 128
_KINDS: Final = frozenset({Enter, Exit, ExitAll, CancelEntries, Protect, Alarm, Consult, Conclude})


def intent_objection(intent: object, capital: Mapping[str, Decimal]) -> str | None:
    """Return why an intent cannot be meant, or nothing; `capital` holds the strategy's symbols.

    Templates may come from anybody and nothing checks what they put into an intent when it is made. Types have to be
    just ours, because a subclass of a number or a text may run any code when it is looked at.
    """
    if type(intent) not in _KINDS:
        return "is no intent"
    match intent:
        case Enter():
            return _symbol(intent.symbol, capital) or _entry(intent)
        case Exit():
            return _exit(intent)
        case ExitAll():
            return _symbol(intent.symbol, capital) or _close_reason(intent.reason)
        case CancelEntries():
            return _symbol(intent.symbol, capital) or _tags(intent.tags)
        case Protect():
            figures = _figures(stop_price=intent.stop_price, take_profit_price=intent.take_profit_price)
            return _text("position_id", intent.position_id, TAG_MAX) or figures
        case Alarm():
            return _symbol(intent.symbol, capital) or _alarm(intent)
        case Consult():
            return _symbol(intent.symbol, capital) or _consult(intent)
        case Conclude():
            return _symbol(intent.symbol, capital) or _conclusion(intent)
        case _:
            return "is no intent"


def levels_objection(direction: Direction, stop: Decimal | None, target: Decimal | None) -> str | None:
    """Return why a stop and a target contradict each other, or nothing."""
    if stop is None or target is None or direction.sign * (target - stop) > ZERO:
        return None
    return f"the stop {stop} and the target {target} of a {direction} position are on each other's side"


def _entry(intent: Enter) -> str | None:
    # A plug-in is not type-checked by us.
    if type(intent.direction) is not Direction:
        return f"direction is not one of Direction: {intent.direction!r:.80}"
    if type(intent.type) is not OrderType:
        return f"type is not one of OrderType: {intent.type!r:.80}"
    trouble = (
        _text("tag", intent.tag, TAG_MAX)
        or _text("reason", intent.reason, REASON_MAX)
        or _figures(
            price=intent.price,
            quantity=intent.quantity,
            notional=intent.notional,
            risk=intent.risk,
            stop_price=intent.stop_price,
            take_profit_price=intent.take_profit_price,
            quantity_max=intent.quantity_max,
            notional_max=intent.notional_max,
            notional_min=intent.notional_min,
        )
        or required(intent)
    )
    if trouble is not None:
        return trouble
    if intent.risk is not None and intent.risk > ONE:
        return f"risk is a share of the equity and cannot be {intent.risk}"
    if intent.type is OrderType.MARKET and intent.price is not None:
        return "a market entry takes no price"
    return levels_objection(intent.direction, intent.stop_price, intent.take_profit_price)


def _exit(intent: Exit) -> str | None:
    trouble = _close_reason(intent.reason) or _text("position_id", intent.position_id, TAG_MAX)
    return trouble or _figures(price=intent.price)


def _alarm(intent: Alarm) -> str | None:
    trouble = _figures(below=intent.below, above=intent.above)
    if trouble is None and intent.below is not None and intent.above is not None and intent.below >= intent.above:
        return f"every price is at or below {intent.below}, or at or above {intent.above}"
    return trouble


def _consult(intent: Consult) -> str | None:
    trouble = (
        _name("role", intent.role)
        or _name("provider", intent.provider)
        or _name("model", intent.model)
        or _storable("prompt", intent.prompt, PROMPT_MAX)
        or _storable("system", intent.system, PROMPT_MAX)
        or _whole("tokens_max", intent.tokens_max, 1, TOKENS_ASKED_MAX)
        or _whole("patience_ms", intent.patience_ms, PATIENCE_MS_MIN, PATIENCE_MS_MAX)
    )
    if trouble is not None:
        return trouble
    if len(intent.prompt) + len(intent.system) > PROMPT_MAX:
        return f"prompt and system are longer than {PROMPT_MAX} characters together"
    if type(intent.answer_schema) is not dict or not _is_json(intent.answer_schema):
        return f"answer_schema is no plain JSON object of at most {SCHEMA_PARTS_MAX} parts"
    return None


def _is_json(value: Any) -> bool:
    """Tell whether a value is made of plain JSON, neither deep nor large; only our own types are looked at."""
    parts: list[tuple[Any, int]] = [(value, 0)]
    for each, depth in parts:
        inner = _inner(each)
        if inner is None and not _is_json_leaf(each):
            return False
        found = inner or []
        if depth > SCHEMA_DEPTH_MAX or len(parts) + len(found) > SCHEMA_PARTS_MAX:
            return False
        # The loop goes on over what is added here.
        parts += ((part, depth + 1) for part in found)
    return True


def _inner(value: Any) -> list[Any] | None:
    """Return what a JSON object or list holds, nothing if it is neither."""
    kind = _kind(value)
    if kind is not dict:
        return value if kind is list else None
    named = all(type(name) is str and _storable("name", name, NAME_MAX) is None for name in value)
    return list(value.values()) if named else None


def _kind(value: object) -> object:
    return type(value)


def _is_json_leaf(value: Any) -> bool:
    if type(value) is str:
        return _storable("text", value, TEXT_IN_SCHEMA_MAX) is None
    if type(value) is float:
        return math.isfinite(value)
    return value is None or type(value) is bool or (type(value) is int and abs(value) < WHOLE_MAX)


def _conclusion(intent: Conclude) -> str | None:
    status: Any = intent.status
    if type(status) is not str or status not in ("hold", "skipped", "failed"):
        return f"status is not one of hold, skipped and failed: {status!r:.80}"
    return _storable("reason", intent.reason, REASON_MAX)


def _name(name: str, value: Any) -> str | None:
    return _storable(name, value, NAME_MAX) or (None if value else f"{name} is empty")


def _storable(name: str, value: Any, length_max: int) -> str | None:
    trouble = _text(name, value, length_max)
    if trouble is None:
        try:
            value.encode()
        except UnicodeEncodeError:
            return f"{name} holds half a character"
    return trouble


def _whole(name: str, value: Any, low: int, high: int) -> str | None:
    if type(value) is int and low <= value <= high:
        return None
    return f"{name} is not a whole number from {low} to {high}: {value!r:.80}"


def _close_reason(reason: Any) -> str | None:
    if isinstance(reason, CloseReason):
        return None
    return f"reason is not one of CloseReason: {reason!r:.80}"


def _symbol(symbol: Any, capital: Mapping[str, Decimal]) -> str | None:
    if type(symbol) is str and symbol in capital:
        return None
    return f"{symbol!r:.80} is not one of the strategy's symbols {', '.join(capital)}"


def _tags(tags: Any) -> str | None:
    if tags is None:
        return None
    given = cast("frozenset[object]", tags)
    if type(tags) is not frozenset or len(given) > TAGS_MAX or not all(type(tag) is str for tag in given):
        return f"tags is not a frozenset of at most {TAGS_MAX} texts: {tags!r:.80}"
    return None


def _text(name: str, value: Any, length_max: int) -> str | None:
    if type(value) is str and len(value) <= length_max:
        return None
    return f"{name} is not a text of at most {length_max} characters: {value!r:.80}"


def _figures(**figures: Any) -> str | None:
    for name, figure in figures.items():
        if figure is None:
            continue
        if type(figure) is not Decimal:
            return f"{name} is not a Decimal: {figure!r:.80}"
        if not (figure.is_finite() and figure > ZERO):
            return f"{name} is not a number above zero: {str(figure)[:60]}"
        if figure.adjusted() >= FIGURE_DIGITS_MAX:
            return f"{name} has more than {FIGURE_DIGITS_MAX} digits before the point: {str(figure)[:60]}"
    return None
