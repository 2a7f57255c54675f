"""Vigilant: ask for every candle, and break down over the first one that is missing."""

from __future__ import annotations

from collections.abc import Iterable

from attrs import frozen

from pipaid.sdk import Intent, Template, View


@frozen(kw_only=True)
class NoParams:
    """A template without knobs."""


class Vigilant(Template):
    """Hold each candle to be the one after the last, within one life of the session."""

    id = "tpl_vigilant"
    description = "Trades nothing and misses nothing."
    params_type = NoParams

    def on_start(self, view: View) -> Iterable[Intent]:
        """Note where to begin."""
        return self.on_candle(view)

    def on_candle(self, view: View) -> Iterable[Intent]:
        """Compare with the last candle."""
        seen: dict[str, int] = self.__dict__.setdefault("seen", {})
        candle = view.candle
        if candle is not None:
            expected_ms = seen.get(view.symbol, candle.open_time_ms - candle.timeframe.ms) + candle.timeframe.ms
            if candle.open_time_ms != expected_ms:
                raise RuntimeError(f"{view.symbol} went from {expected_ms} to {candle.open_time_ms}")
            seen[view.symbol] = candle.open_time_ms
        return ()
