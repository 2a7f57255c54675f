"""Hostile: behave until a certain callback, and there do one of the worst things."""

from __future__ import annotations

import ctypes
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from decimal import Context, Decimal, FloatOperation, Inexact, getcontext, setcontext
from itertools import repeat
from multiprocessing import get_context
from typing import Any

import msgspec
from attrs import frozen

from pipaid.sdk import (
    Alarm,
    CancelEntries,
    Direction,
    Enter,
    Exit,
    Feature,
    Intent,
    OrderType,
    Position,
    Template,
    View,
    Wakes,
    choice_param,
)

if os.environ.get("HOSTILE_IMPORT") == "stall":
    deque(repeat(None), maxlen=0)
if os.environ.get("HOSTILE_IMPORT") == "round":
    getcontext().prec = 4
if os.environ.get("HOSTILE_IMPORT") == "fork":
    get_context("fork").Process(target=time.sleep, args=(30,), daemon=True).start()


class Unprintable(Exception):
    """An error that cannot even be shown."""

    def __str__(self) -> str:
        raise ValueError("and this neither")


def raising(trouble: BaseException) -> Callable[[View], Any]:
    """Return a misdeed that raises."""

    def raise_it(view: View) -> Any:
        raise trouble

    return raise_it


def recurse(view: View) -> Any:
    """Call oneself until there is no stack left."""
    return recurse(view)


def loop(view: View) -> Any:
    """Never come back."""
    while True:
        pass


def pour(view: View) -> Iterator[Intent]:
    """Wish without end."""
    while True:
        yield Enter(symbol=view.symbol, direction=Direction.LONG, notional=Decimal(100))


def entering(**wrong: Any) -> Callable[[View], Any]:
    """Return a misdeed that wishes a nonsensical entry."""

    def enter(view: View) -> Any:
        fields: dict[str, Any] = {"symbol": view.symbol, "direction": Direction.LONG, "quantity": Decimal(1), **wrong}
        return (Enter(**fields),)

    return enter


def shrug(view: View) -> Any:
    """Never come back unless thrown out, and take no notice of that."""
    try:
        loop(view)
    except BaseException:  # noqa: BLE001 - what a stubborn author writes
        return ()


def cling(view: View) -> Iterator[Intent]:
    """Wish without end, and never let go."""
    try:
        yield from pour(view)
    finally:
        loop(view)


class Verbose(Exception):
    """An error that never comes to the point."""

    def __str__(self) -> str:
        return str(loop(None))  # type: ignore[arg-type]


class Lasting:
    """A thing that will not be thrown away."""

    def __del__(self) -> None:
        loop(None)  # type: ignore[arg-type]


def litter(view: View) -> Any:
    """Throw away what resists it."""
    Lasting()
    return ()


def nap(view: View) -> Any:
    """Sleep for less than anybody would call a stall."""
    time.sleep(0.2)
    return ()


def chatter(view: View) -> Any:
    """Say far more than anybody wants to read."""
    for _ in range(1_000):
        logging.getLogger("hostile").error("x" * 100_000)
    return ()


def meddle(view: View) -> Any:
    """Change whatever can be reached."""
    for reached in (view.positions, view.entries):
        each: Any = reached
        each.clear()
    for name in ("price", "capital", "symbol"):
        try:
            setattr(view, name, None)
        except AttributeError:
            continue
    return ()


def shower(view: View) -> Any:
    """Wish for hundreds of entries that are never filled, at every candle anew."""
    price = view.price / 2
    tags = (f"{view.now_ms}-{number}" for number in range(500))
    fields: dict[str, Any] = {"direction": Direction.LONG, "type": OrderType.LIMIT, "price": price}
    withdraw = CancelEntries(symbol=view.symbol)
    return [withdraw, *(Enter(symbol=view.symbol, tag=tag, notional=Decimal(5), **fields) for tag in tags)]


def spawn(view: View) -> Any:
    """Leave somebody behind who does not go home."""
    threading.Thread(target=time.sleep, args=(600,)).start()
    return ()


def spin(view: View) -> Any:
    """Leave somebody behind who never rests."""
    threading.Thread(target=loop, args=(view,), daemon=True).start()
    return ()


def fork(view: View) -> Any:
    """Leave a whole process behind."""
    get_context("fork").Process(target=time.sleep, args=(30,)).start()
    return ()


def split(view: View) -> Any:
    """Leave a copy of oneself behind, which holds all that is open."""
    if os.fork() == 0:
        time.sleep(30)
        os._exit(0)
    return ()


def vanish(view: View) -> Any:
    """Leave without a word."""
    os._exit(7)


def crash(view: View) -> Any:
    """Read what is nobody's."""
    return (ctypes.string_at(0),)


def gorge(view: View) -> Any:
    """Take more at once than there is."""
    return (bytearray(2**31),)


def unplug(view: View) -> Any:
    """Close what the loop waits on."""
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            if os.readlink(f"/proc/self/fd/{name}") == "anon_inode:[eventpoll]":
                os.close(int(name))
    return ()


class Kept(msgspec.Struct, frozen=True):
    """A state far larger than anybody needs."""

    text: str


def bloat(template: Template, view: View) -> Any:
    """Remember more than can be kept."""
    template.state[view.symbol] = Kept("x" * 2_000_000)
    return ()


def hoard(template: Template, view: View) -> Any:
    """Take some memory and keep it."""
    template.__dict__.setdefault("hoard", []).append(bytearray(4 * 1024 * 1024))
    return ()


class Wrong(msgspec.Struct, frozen=True):
    """A state of a type that nobody declared."""

    number: object = object()


def spoil(template: Template, view: View) -> Any:
    """Leave a state behind that cannot be stored."""
    template.state[view.symbol] = Wrong()
    return ()


def coarsen(view: View) -> Any:
    """Make everybody count in four digits."""
    getcontext().prec = 4
    return ()


def forbid(view: View) -> Any:
    """Make every quotient that does not come out even an error."""
    getcontext().traps[Inexact] = True
    getcontext().traps[FloatOperation] = True
    return ()


def supplant(view: View) -> Any:
    """Put other rules of arithmetic in the place of everybody's."""
    setcontext(Context(prec=6))
    return ()


def adjourn(view: View) -> Iterator[Intent]:
    """Do so only when the wishes are looked through."""
    supplant(view)
    yield from ()


def stall(view: View) -> Any:
    """Count for ever, in the interpreter's own code, which nothing interrupts."""
    return deque(repeat(None), maxlen=0)


def linger(view: View) -> Any:
    """Do so for some tenths of a second."""
    return tuple(deque(repeat(None, 200_000_000), maxlen=0))


MISDEEDS: dict[str, Callable[[View], Any]] = {
    "value_error": raising(ValueError("the sky is falling")),
    "no_message": raising(AssertionError()),
    "unprintable": raising(Unprintable()),
    "system_exit": raising(SystemExit("I am leaving")),
    "keyboard_interrupt": raising(KeyboardInterrupt()),
    "generator_exit": raising(GeneratorExit("enough")),
    "stop_iteration": raising(StopIteration(7)),
    "group": raising(ExceptionGroup("two at once", [ValueError("the first"), TypeError("the second")])),
    "base_group": raising(BaseExceptionGroup("worse", [SystemExit(3), ExceptionGroup("in", [KeyError("deep")])])),
    "recursion": recurse,
    "loop": loop,
    "pour": pour,
    "flood": lambda view: [Enter(symbol=view.symbol, direction=Direction.LONG, notional=Decimal(100))] * 100_000,
    "nothing": lambda view: None,
    "number": lambda view: 42,
    "objects": lambda view: (object(), "buy"),
    "not_a_number": entering(quantity=Decimal("NaN")),
    "infinite": entering(quantity=Decimal("Infinity")),
    "negative": entering(quantity=Decimal(-1)),
    "float": entering(quantity=1.5),
    "text": entering(quantity="1"),
    "foreign_symbol": entering(symbol="DOGEUSDT"),
    "no_amount": entering(quantity=None),
    "huge": entering(quantity=Decimal("1e999999")),
    "stall": stall,
    "linger": linger,
    "shrug": shrug,
    "cling": cling,
    "verbose": raising(Verbose()),
    "litter": litter,
    "nap": nap,
    "chatter": chatter,
    "meddle": meddle,
    "shower": shower,
    "spawn": spawn,
    "spin": spin,
    "fork": fork,
    "gorge": gorge,
    "unplug": unplug,
    "coarsen": coarsen,
    "forbid": forbid,
    "supplant": supplant,
    "adjourn": adjourn,
}
# What nothing survives that shares a process with it.
ALONE: dict[str, Callable[[View], Any]] = {"split": split, "vanish": vanish, "crash": crash}
OWN = {"spoil": spoil, "bloat": bloat, "hoard": hoard}
PLACES = (
    "init", "features", "wakes", "allocation", "on_start", "on_candle", "on_opened", "on_closed", "on_price", "check",
)  # fmt: skip


@frozen(kw_only=True)
class HostileParams:
    """What to do, and where."""

    misdeed: str = choice_param("What to do", choices=(*MISDEEDS, *ALONE, *OWN))
    place: str = choice_param("Where to do it", choices=PLACES)


class Hostile(Template):
    """Buy at the start and sell at the next candle, so that every callback has its turn."""

    id = "tpl_hostile"
    description = "Does the worst it can."
    params_type = HostileParams
    params: HostileParams

    def __init__(self, params: HostileParams, state: Mapping[str, msgspec.Struct] | None = None) -> None:
        super().__init__(params, state)
        self._act("init")

    @classmethod
    def check(cls, params: HostileParams, **around: Any) -> dict[str, str]:
        """Misbehave while the params are looked at."""
        return MISDEEDS[params.misdeed](None) if params.place == "check" else {}  # type: ignore[arg-type]

    def features(self) -> tuple[Feature, ...]:
        """Need no feature."""
        return self._act("features") or ()

    def wakes(self) -> Wakes:
        """Ask for every candle."""
        return self._act("wakes") or Wakes(every=True)

    def allocation(self, symbols: Sequence[str]) -> Mapping[str, Decimal]:
        """Share equally."""
        return self._act("allocation") or super().allocation(symbols)

    def on_start(self, view: View) -> Any:
        """Buy, and leave an alarm that the next price sets off."""
        if self.params.place == "on_start":
            return self._misbehave(view)
        bought = Enter(symbol=view.symbol, direction=Direction.LONG, tag="bait", notional=Decimal(1_000))
        return (bought, Alarm(symbol=view.symbol, below=view.price * 2))

    def on_candle(self, view: View) -> Any:
        """Sell."""
        if self.params.place == "on_candle":
            return self._misbehave(view)
        return [Exit(position_id=position.id) for position in view.positions]

    def on_opened(self, view: View, position: Position) -> Any:
        """Do nothing, or the worst."""
        return self._misbehave(view) if self.params.place == "on_opened" else ()

    def on_closed(self, view: View, position: Position) -> Any:
        """Do nothing, or the worst."""
        return self._misbehave(view) if self.params.place == "on_closed" else ()

    def on_price(self, view: View, level: Decimal) -> Any:
        """Do nothing, or the worst."""
        return self._misbehave(view) if self.params.place == "on_price" else ()

    def _act(self, place: str) -> Any:
        return MISDEEDS[self.params.misdeed](None) if self.params.place == place else None  # type: ignore[arg-type]

    def _misbehave(self, view: View) -> Any:
        if self.params.misdeed in OWN:
            return OWN[self.params.misdeed](self, view)
        return (MISDEEDS | ALONE)[self.params.misdeed](view)
