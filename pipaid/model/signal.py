"""Signals as they are asked for and listed."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from pipaid.model.reply import Reply
from pipaid.model.request import Request

SignalName = Annotated[str, Meta(min_length=1, max_length=60, description="a signal, such as rsi_oversold")]


class SignalGet(Request, frozen=True, kw_only=True):
    """Show one signal."""

    id: SignalName


class SignalParam(msgspec.Struct, frozen=True, kw_only=True):
    """A param of a signal: what it takes, from which number to which, and its default unless it must be given."""

    name: str
    kind: Literal["whole", "number", "flag", "direction", "windows", "timeframe"]
    required: bool
    default: int | float | bool | str | tuple[int, ...] | None
    minimum: float | None
    maximum: float | None


class SignalObject(Reply, frozen=True, kw_only=True):
    """A signal: a condition on candles by name. A TRIGGER tells a moment, a FILTER something that lasts."""

    name: str
    group: str
    signal_type: Literal["TRIGGER", "FILTER"]
    description: str
    condition: str
    params: tuple[SignalParam, ...]


class SignalList(Reply, frozen=True, kw_only=True):
    """All signals, in the order in which they are published."""

    data: tuple[SignalObject, ...]
