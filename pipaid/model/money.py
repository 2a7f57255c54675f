"""Decimal arithmetic for money, prices and quantities: parsing, rounding to tick and lot, rendering."""

from __future__ import annotations

import re
from contextvars import Context as Surroundings
from decimal import (
    ROUND_CEILING,
    ROUND_FLOOR,
    ROUND_HALF_EVEN,
    ROUND_HALF_UP,
    Context,
    Decimal,
    DivisionByZero,
    InvalidOperation,
    Overflow,
    setcontext,
)
from typing import Final

from pipaid.errors import InvalidParameter

ZERO: Final = Decimal(0)
ONE: Final = Decimal(1)
CENT: Final = Decimal("0.01")
MILLI: Final = Decimal("0.001")
BPS: Final = Decimal("0.0001")
# Every amount is below this: it has at most 18 digits before the point.
AMOUNT_MAX: Final = Decimal(10**18)
PLACES_MAX: Final = 18

# Wide enough for the largest amount in the smallest steps: 18 digits before the point over 18 digits after it, and a
# quotient that no rounding carries over a step.
_WIDE: Final = Context(prec=80)
# What plain operators on decimals go by. Whoever shows it to a stranger lets him round everybody's money.
_PLAIN: Final = Context(prec=28, rounding=ROUND_HALF_EVEN, traps=[InvalidOperation, DivisionByZero, Overflow])
_DECIMAL_TEXT: Final = re.compile(r"-?[0-9]{1,18}(?:\.[0-9]{1,18})?", re.ASCII)


# Two amounts to the last digit, where `+`, `-` and `*` would round to 28 of them.
exact_sum: Final = _WIDE.add
exact_difference: Final = _WIDE.subtract
exact_product: Final = _WIDE.multiply


def plain_arithmetic() -> None:
    """Let this thread, and the tasks that begin in it, go by a context that nobody else has."""
    setcontext(_PLAIN.copy())


def apart() -> Surroundings:
    """Return surroundings in which to run a stranger's code: what it does to precision and traps ends with the call.

    To leave them is one step of the interpreter's own, which no interruption can come in between.
    """
    surroundings = Surroundings()
    surroundings.run(setcontext, _PLAIN.copy())
    return surroundings


def parse_decimal(value: object, *, field: str) -> Decimal:
    """Return the decimal a client sent as a string or an integer; floats, exponents and NaN are refused by name.

    Accepted text: `-?[0-9]{1,18}(\\.[0-9]{1,18})?`, ASCII digits only.
    """
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < AMOUNT_MAX:
        return Decimal(value)
    if isinstance(value, str) and _DECIMAL_TEXT.fullmatch(value):
        return Decimal(value)
    if isinstance(value, Decimal) and value.is_finite() and abs(value) < AMOUNT_MAX:
        return value
    reason = f'must be a decimal string such as "12.50" (up to 18 digits before and after the point), got {value!r:.60}'
    raise InvalidParameter(f"{field} {reason}", details=((field, reason),))


def plain(value: Decimal) -> str:
    """Render without exponent and without trailing zeros: `Decimal('1E+2')` is `100`, `1.50` is `1.5`."""
    text = format(value, "f")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text in ("-0", "") else text


def quote_text(value: Decimal) -> str:
    """Render a quote-currency amount with two decimals, half away from zero."""
    text = format(value.quantize(CENT, ROUND_HALF_UP, _WIDE), "f")
    return "0.00" if text == "-0.00" else text


def ratio_text(value: Decimal) -> str:
    """Render a ratio with three decimals, half to even."""
    return format(value.quantize(MILLI, ROUND_HALF_EVEN, _WIDE), "f")


def is_bookable(value: Decimal) -> bool:
    """Tell whether an amount is a number with at most 18 digits before the point and 18 after it."""
    return value.is_finite() and abs(value) < AMOUNT_MAX and _places(value) <= PLACES_MAX


def floor_to_step(value: Decimal, step: Decimal) -> Decimal:
    """Round towards zero to a multiple of `step` (a lot size); a zero step leaves the value."""
    if step == ZERO:
        return value
    return _WIDE.multiply(_WIDE.divide_int(value, step), step)


def price_on_tick(price: Decimal, tick: Decimal, *, up: bool) -> Decimal:
    """Round a price to the tick, upwards or downwards; a zero tick leaves it."""
    if tick == ZERO:
        return price
    return _steps(price, tick, ROUND_CEILING if up else ROUND_FLOOR)


def nearest_tick(price: Decimal, tick: Decimal) -> Decimal:
    """Round a price to the nearest tick, half to even."""
    if tick == ZERO:
        return price
    return _steps(price, tick, ROUND_HALF_EVEN)


def _steps(price: Decimal, tick: Decimal, rounding: str) -> Decimal:
    return _WIDE.multiply(_WIDE.divide(price, tick).quantize(ONE, rounding, _WIDE), tick)


def average(value: Decimal, quantity: Decimal) -> Decimal:
    """Return value / quantity in the decimals of the prices that made up the value; two more where it is no such price.

    A value that is a sum of price x quantity has as many decimals as both together. Zero without a quantity.
    """
    if not quantity:
        return ZERO
    places = max(0, _places(value) - _places(quantity))
    mean = _WIDE.divide(value, quantity)
    rounded = mean.quantize(ONE.scaleb(-places), ROUND_HALF_UP, _WIDE)
    if exact_product(rounded, quantity) == value:
        return rounded
    return mean.quantize(ONE.scaleb(-places - 2), ROUND_HALF_UP, _WIDE)


def exact_text(value: Decimal) -> str:
    """Render without exponent, with the decimals the value came with: a price on its tick, a quantity on its lot."""
    return format(value, "f")


def _places(value: Decimal) -> int:
    exponent = value.as_tuple().exponent
    return -exponent if isinstance(exponent, int) and exponent < 0 else 0
