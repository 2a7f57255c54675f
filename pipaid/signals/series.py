"""The closed candles of one symbol and timeframe, with the indicators and conditions shared by all who trade it."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Callable, Hashable, Mapping, Sequence
from decimal import Decimal
from itertools import chain
from typing import Final, Literal, Protocol, get_args

import msgspec

from pipaid.model.candle import Candle
from pipaid.model.instrument import Timeframe
from pipaid.signals.comparing import COMPARISONS, RULES, Reading, held_before
from pipaid.signals.features import first_needed, make_indicator, reach_of
from pipaid.signals.indicator import Constant, Indicator, Sample

BLOCK: Final = 4096
FEATURES_MAX: Final = 16_384
# So many candles are kept at least, once there have been as many.
RECENT_MAX: Final = BLOCK


class Feature(msgspec.Struct, frozen=True, cache_hash=True):
    """An indicator by name and params, such as `Feature("ema", (12,))`.

    One of a larger timeframe than the series it is asked of is that of the larger candle that was closed last.
    """

    name: str
    params: tuple[int | float, ...] = ()
    timeframe: Timeframe | None = None

    @property
    def title(self) -> str:
        """Return what people read: name, params, and the timeframe if it is one of its own."""
        whose = "" if self.timeframe is None else f" {self.timeframe}"
        return f"{self.name}{list(self.params)}{whose}"

    @property
    def bare(self) -> Feature:
        """Return it as the series of its own timeframe knows it."""
        return self if self.timeframe is None else self.of(None)

    def of(self, timeframe: Timeframe | None) -> Feature:
        """Return it as asked of the candles of a timeframe."""
        return Feature(self.name, self.params, timeframe)


ConditionKind = Literal["above", "below", "at_least", "at_most", "cross_above", "cross_below", "changes", "every"]


class Condition(msgspec.Struct, frozen=True, cache_hash=True):
    """A question to a series that is answered once a candle for everybody who asks it.

    `above` and `below` are strict, `at_least` and `at_most` are not; `cross_above` is above now and not above one
    candle before (`cross_below` mirrored); `changes` compares the left side with itself one candle before; `every`
    holds at each candle. All but the last are false while an operand they need is undefined. A comparison with `edge`
    holds only where it did not one candle before. Both sides are of one timeframe: where that is a larger one, it holds
    for as long as the larger candle is the last that was closed.
    """

    kind: ConditionKind
    left: Feature = Feature("close")
    right: Feature | float = 0.0
    edge: bool = False

    def __post_init__(self) -> None:
        """Refuse an edge of what is none of the comparisons."""
        if self.edge and self.kind not in COMPARISONS:
            raise ValueError(f"only {', '.join(COMPARISONS)} have an edge, not {self.kind}")

    @property
    def features(self) -> tuple[Feature, ...]:
        """Return the features it is about."""
        return tuple(side for side in (self.left, self.right) if isinstance(side, Feature))

    @property
    def timeframe(self) -> Timeframe | None:
        """Return the timeframe of its sides, nothing if that is the one of whoever asks."""
        return self.left.timeframe

    @property
    def bare(self) -> Condition:
        """Return it as the series of its own timeframe knows it."""
        return self if self.timeframe is None else self.of(None)

    def of(self, timeframe: Timeframe | None) -> Condition:
        """Return it as asked of the candles of a timeframe."""
        right = self.right.of(timeframe) if isinstance(self.right, Feature) else self.right
        return msgspec.structs.replace(self, left=self.left.of(timeframe), right=right)


EVERY: Final = Condition("every")


def closed_from(time_ms: int) -> Condition:
    """Return the condition that holds at each candle that closes at a moment or later."""
    return Condition("at_least", Feature("period", (1, 0)), float(time_ms))


class History(Protocol):
    """What a session reads of a series: the last closed candle, and features as of it."""

    @property
    def last(self) -> Candle | None:
        """Return the last closed candle, or nothing if none is known yet."""
        ...

    @property
    def closed_ms(self) -> int:
        """Return when the last closed candle ended, zero if none is known yet."""
        ...

    def feature(self, feature: Feature) -> Reading:
        """Return a feature as of the last closed candle."""
        ...

    def recent(self, count: int, timeframe: Timeframe | None = None) -> Sequence[Candle]:
        """Return the last closed candles, oldest first."""
        ...


class Live:
    """One feature at work, with the successor that takes over at the next block once it has been warmed."""

    __slots__ = ("feature", "indicator", "successor", "users")

    def __init__(self, feature: Feature | None, indicator: Indicator) -> None:
        self.feature = feature
        self.indicator = indicator
        self.successor: Indicator | None = None
        self.users = 0

    @property
    def never_forgets(self) -> bool:
        """Tell whether every candle since the anchor shows in the value."""
        return self.feature is not None and reach_of(self.feature.name, self.feature.params) is None


class Watch:
    """A condition together with who is to be told when it holds, in order of subscription."""

    __slots__ = ("_left", "_right", "_rule", "condition", "sessions")

    def __init__(self, condition: Condition, left: Live, right: Live) -> None:
        self.condition = condition
        self.sessions: dict[Hashable, None] = {}
        self._left = left
        self._right = right
        self._rule = RULES[condition.kind]

    def holds(self) -> bool:
        """Tell whether the condition holds at the last candle."""
        left, right = self._left.indicator, self._right.indicator
        return self._rule(left, right) and not (self.condition.edge and held_before(self.condition.kind, left, right))


class Series:
    """Columns of closed candles, bounded to two blocks, and what is computed from them once for all strategies.

    An indicator's value at a candle is a pure function of the candles since its anchor, and the anchor is a pure
    function of time: it is the start of the block before the candle's own, or the first candle known. So a feature made
    early, made late or made after a restart that loaded history from `anchor_ms` on has the same value to the last bit.
    When a block begins, every feature moves to its new anchor. What is made of a window alone stays as it is if there
    are enough candles since that anchor. Those that never forget have successors, which are warmed one by one in the
    second half of a block, so that no single candle pays for all of them. `larger` holds the symbol's other series,
    whose features can be asked for here as well: all that a candle closes are appended before anybody is told.
    """

    __slots__ = (
        "_block",
        "_lives",
        "_next_block",
        "_numbers",
        "_step_ms",
        "_subscriptions",
        "_unprepared",
        "_updates",
        "_watches",
        "close",
        "high",
        "index",
        "larger",
        "last",
        "low",
        "open",
        "symbol",
        "time_ms",
        "timeframe",
        "volume",
    )

    def __init__(
        self,
        symbol: str,
        timeframe: Timeframe,
        *,
        block: int = BLOCK,
        larger: Mapping[Timeframe, Series] | None = None,
    ) -> None:
        self.symbol = symbol
        self.timeframe = timeframe
        self.larger: Mapping[Timeframe, Series] = larger if larger is not None else {}
        self.last: Candle | None = None
        self.index = -1
        self.time_ms = array("q")
        self.open = array("d")
        self.high = array("d")
        self.low = array("d")
        self.close = array("d")
        self.volume = array("d")
        self._step_ms = timeframe.ms
        self._block = block
        self._next_block = 0
        self._lives: dict[Feature, Live] = {}
        self._updates: list[Callable[[Sample], None]] | None = None
        self._unprepared: list[Live] | None = None
        self._watches: dict[Condition, Watch] = {}
        self._subscriptions: dict[Hashable, int] = {}
        self._numbers: dict[Hashable, int] = {}

    @staticmethod
    def anchor_ms(time_ms: int, timeframe: Timeframe, *, block: int = BLOCK) -> int:
        """Return from which open time on candles are needed to reproduce every value as of `time_ms`."""
        last = time_ms // timeframe.ms - 1
        return max(0, last // block - 1) * block * timeframe.ms

    @property
    def closed_ms(self) -> int:
        """Return when the last closed candle ended, zero if none is known yet."""
        return 0 if self.last is None else self.last.close_time_ms

    @property
    def length(self) -> int:
        """Return how many candles are kept."""
        return len(self.close)

    @property
    def computed(self) -> int:
        """Return how many features are brought up to date at each candle, whoever uses them."""
        return len(self._lives)

    def append(self, candle: Candle) -> None:
        """Take the next closed candle and bring every feature up to it; raise ValueError unless it is newer."""
        index = candle.open_time_ms // self._step_ms
        if index <= self.index or candle.timeframe is not self.timeframe or candle.symbol != self.symbol:
            raise ValueError(f"{candle} does not follow {self.last} on {self.symbol} {self.timeframe}")
        if index >= self._next_block:
            self._turn(index)
        elif self._next_block - index <= self._block >> 1:
            self._prepare(index)
        sample = Sample.of(candle)
        self.time_ms.append(candle.open_time_ms)
        self.open.append(sample.open)
        self.high.append(sample.high)
        self.low.append(sample.low)
        self.close.append(sample.close)
        self.volume.append(sample.volume)
        self.last = candle
        self.index = index
        updates = self._updates
        if updates is None:
            updates = self._updates = self._listed()
        for update in updates:
            update(sample)

    def feature(self, feature: Feature) -> Indicator:
        """Return the indicator as of the last candle; one that nobody retains is forgotten when a block begins.

        The object is good until the next candle: at a block's beginning another one takes its place.
        """
        live = self._lives.get(feature)
        if live is not None:
            return live.indicator
        if feature.timeframe is not None:
            return self._of(feature.timeframe).feature(feature.bare)
        return self._started(feature).indicator

    def recent(self, count: int, timeframe: Timeframe | None = None) -> Sequence[Candle]:
        """Return the last closed candles, oldest first; those before the last as the shortest text of their floats."""
        if timeframe is not None and timeframe is not self.timeframe:
            return self.larger[timeframe].recent(count)
        if self.last is None or count < 1:
            return ()
        columns = (self.open, self.high, self.low, self.close, self.volume)
        rows = zip(self.time_ms[-count:-1], *(column[-count:-1] for column in columns), strict=True)
        return [*(Candle(self.symbol, self.timeframe, at, *map(_exact, values)) for at, *values in rows), self.last]

    def retain(self, feature: Feature) -> Indicator:
        """Keep a feature up to date until it is released as often as it was retained; return its indicator."""
        return self._retained(feature).indicator

    def release(self, feature: Feature) -> None:
        """Undo one `retain`."""
        if feature.timeframe is not None:
            self._of(feature.timeframe).release(feature.bare)
            return
        live = self._lives[feature]
        assert live.users > 0, f"{feature} is released more often than retained"
        live.users -= 1
        if not live.users:
            del self._lives[feature]
            self._updates = None

    def watch(self, condition: Condition, subscriber: Hashable) -> None:
        """Have a subscriber told when a condition holds; to say so twice changes nothing."""
        watch = self._watches.get(condition)
        if watch is None:
            watch = self._watches[condition] = Watch(condition, self._side(condition.left), self._side(condition.right))
        if subscriber in watch.sessions:
            return
        watch.sessions[subscriber] = None
        count = self._subscriptions.get(subscriber, 0)
        if not count:
            self._numbers[subscriber] = 1 + next(reversed(self._numbers.values()), 0)
        self._subscriptions[subscriber] = count + 1

    def unwatch(self, condition: Condition, subscriber: Hashable) -> None:
        """Undo `watch`; it does no harm where there was none."""
        watch = self._watches.get(condition)
        if watch is None or subscriber not in watch.sessions:
            return
        del watch.sessions[subscriber]
        self._subscriptions[subscriber] -= 1
        if not self._subscriptions[subscriber]:
            del self._subscriptions[subscriber], self._numbers[subscriber]
        if not watch.sessions:
            del self._watches[condition]
            for side in (condition.left, condition.right):
                if isinstance(side, Feature):
                    self.release(side)

    def due(self) -> Sequence[Hashable]:
        """Return who watches a condition that holds now, each once.

        They come in the order in which they began to watch this series; one that always watches something keeps its
        place while it changes what it watches.
        """
        told = [watch.sessions for watch in self._watches.values() if watch.holds()]
        if not told:
            return ()
        once = told[0] if len(told) == 1 else dict.fromkeys(chain.from_iterable(told))
        return sorted(once, key=self._numbers.__getitem__)

    def _side(self, side: Feature | float) -> Live:
        return self._retained(side) if isinstance(side, Feature) else Live(None, Constant(float(side)))

    def _retained(self, feature: Feature) -> Live:
        if feature.timeframe is not None:
            return self._of(feature.timeframe)._retained(feature.bare)
        live = self._lives.get(feature) or self._started(feature)
        live.users += 1
        return live

    def _of(self, timeframe: Timeframe) -> Series:
        return self if timeframe is self.timeframe else self.larger[timeframe]

    def _started(self, feature: Feature) -> Live:
        if len(self._lives) >= FEATURES_MAX:
            raise ValueError(f"{self.symbol} {self.timeframe} already computes {FEATURES_MAX} features")
        indicator = make_indicator(feature.name, feature.params)
        self._replay([(feature, indicator)])
        live = self._lives[feature] = Live(feature, indicator)
        self._updates = None
        if self._unprepared is not None and live.never_forgets:
            self._unprepared.append(live)
        return live

    def _turn(self, index: int) -> None:
        """Begin the block of a candle: move every feature to its new anchor and drop the candles before it."""
        start = index - index % self._block
        follows = start == self._next_block
        self._next_block = start + self._block
        self._unprepared = None
        self._updates = None
        self._drop(start - self._block)
        self._lives = {feature: live for feature, live in self._lives.items() if live.users}
        late: list[tuple[Feature, Indicator]] = []
        for feature, live in self._lives.items():
            if live.successor is not None and follows:
                live.indicator = live.successor
            elif not first_needed(feature.name, feature.params, self.length):
                live.indicator = make_indicator(feature.name, feature.params)
                late.append((feature, live.indicator))
            live.successor = None
        self._replay(late)

    def _prepare(self, index: int) -> None:
        """Warm the successors of a few features, as many as it takes to be done before the next block."""
        if self._unprepared is None:
            self._unprepared = [live for live in self._lives.values() if live.never_forgets]
        if not self._unprepared:
            return
        left = self._next_block - index
        chosen = [self._unprepared.pop() for _ in range(-(-len(self._unprepared) // left))]
        fresh: list[tuple[Feature, Indicator]] = []
        for live in chosen:
            feature = live.feature
            if feature is not None and live.users and self._lives.get(feature) is live:
                live.successor = make_indicator(feature.name, feature.params)
                fresh.append((feature, live.successor))
        self._replay(fresh, self._next_block - self._block)
        self._updates = None

    def _replay(self, indicators: Sequence[tuple[Feature, Indicator]], from_index: int = 0) -> None:
        """Feed the kept candles from an index on to fresh indicators; all of them are the current anchor's.

        Those made of a window are fed no more than it takes.
        """
        if not indicators:
            return
        anchor = bisect_left(self.time_ms, from_index * self._step_ms)
        count = self.length - anchor
        firsts = [first_needed(feature.name, feature.params, count) for feature, _ in indicators]
        earliest = min(firsts)
        samples = self._samples(anchor + earliest)
        for (_, indicator), first in zip(indicators, firsts, strict=True):
            update = indicator.update
            for sample in samples[first - earliest :]:
                update(sample)

    def _samples(self, first: int) -> list[Sample]:
        step = self._step_ms
        columns = (self.open, self.high, self.low, self.close, self.volume, self.time_ms)
        return [
            Sample(open_, high, low, close, volume, int(time_ms) + step)
            for open_, high, low, close, volume, time_ms in zip(*(column[first:] for column in columns), strict=True)
        ]

    def _drop(self, before_index: int) -> None:
        count = bisect_left(self.time_ms, before_index * self._step_ms)
        if count:
            for column in (self.time_ms, self.open, self.high, self.low, self.close, self.volume):
                del column[:count]

    def _listed(self) -> list[Callable[[Sample], None]]:
        updates: list[Callable[[Sample], None]] = [live.indicator.update for live in self._lives.values()]
        updates += [live.successor.update for live in self._lives.values() if live.successor is not None]
        return updates


def _exact(number: float) -> Decimal:
    return Decimal(repr(number))


def met(condition: Condition, reading: Callable[[Feature], Reading]) -> bool:
    """Tell whether a condition holds as of the last candle, by features that are kept up to date."""
    left = reading(condition.left)
    right = reading(condition.right) if isinstance(condition.right, Feature) else Constant(float(condition.right))
    held = condition.edge and held_before(condition.kind, left, right)
    return RULES[condition.kind](left, right) and not held


CONDITIONS: Final = frozenset(get_args(ConditionKind))
