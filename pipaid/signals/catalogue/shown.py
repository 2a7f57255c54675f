"""A signal as listings show it."""

from __future__ import annotations

from typing import Any, cast

from pipaid.model.signal import SignalObject, SignalParam
from pipaid.signals.catalogue.declare import Signal


def signal_object(signal: Signal) -> SignalObject:
    """Return what a client is told of a signal."""
    params = tuple(
        SignalParam(
            name=knob.name,
            kind=knob.kind,
            required=knob.required,
            default=knob.default,
            minimum=knob.low,
            maximum=knob.high,
        )
        for knob in signal.knobs
    )
    return SignalObject(
        name=signal.name,
        group=signal.group,
        signal_type=cast("Any", signal.type.value),
        description=signal.words,
        condition=signal.says,
        params=params,
    )
