"""The conditions that keep the daemon from doing all it should, while they hold, and when they came and went."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec
from attrs import define, field

from actors.actor import Writer
from pipaid.errors import Unavailable
from pipaid.logs import get_log
from pipaid.model.condition import MEANINGS, Condition
from pipaid.model.moment import iso_millis, parse_iso
from pipaid.model.record import Batch, Kind, Record
from pipaid.model.report import ConditionObject, ConditionTurn
from pipaid.seams import World
from pipaid.storage.store import Committed, JournalLost, JournalTaken

# A condition that comes and goes holds on: it has left once it was gone for so long.
CALM_S: Final = 10.0
# The journal keeps so many turns; the next one replaces the oldest.
TURNS_KEPT: Final = 256
DETAIL_MAX: Final = 300
ENTITY: Final = "condition"
# Where a life that lost its journal leaves word for the next one.
WORD: Final = "lost"
ENDED: Final = "the daemon ended before it was over"


@define
class _Holding:
    """A condition that holds; `calm_s` is since when it would not, if that is so."""

    since_us: int
    since_s: float
    detail: str
    calm_s: float | None = None


@define(eq=False)
class Conditions:
    """Keep which conditions hold, and tell each turn in the log and in the journal as long as that takes it.

    Whoever watches something calls `enter` and `leave` as often as it looks, from the loop; only changes are told. A
    condition leaves some time after it was last seen, by `look`. `on_change` hears of each turn.
    """

    world: World
    writer: Writer
    word: Path | None = None
    on_change: Callable[[], object] = field(default=lambda: None)
    _holding: dict[Condition, _Holding] = field(factory=dict[Condition, _Holding])
    _turns: int = 0

    async def load(self) -> None:
        """Go on counting turns where the life before ended; what held then has left with it, and has to show again."""
        rows = await self.writer.read(lambda reader: list(reader.rows(ENTITY)))
        turns = sorted(
            (msgspec.json.decode(row.data, type=ConditionTurn) for row in rows), key=lambda turn: turn.number
        )
        self._turns = turns[-1].number if turns else 0
        for last in {turn.condition: turn for turn in turns}.values():
            if last.turn == "entered":
                lasted_s = self.world.clock.now_us() / 1e6 - parse_iso(last.timestamp) / 1e3
                self._record(Condition(last.condition), "left", ENDED, lasted_s=round(max(0.0, lasted_s), 3))
        lost = self._word()
        if lost:
            self._record(Condition.JOURNAL, "entered", lost, lasted_s=0.0)
            self._record(Condition.JOURNAL, "left", ENDED, lasted_s=0.0, then=self._forget_word)

    def leave_word(self, lost: JournalLost) -> None:
        """Tell the next life that this one lost its journal and why, where no other daemon has taken it over."""
        if self.word is None or isinstance(lost, JournalTaken):
            return
        try:
            # Where nothing can be forced to the disk any more, what was written is there for the next start.
            self.world.disk.append(self.word, lost.message[:DETAIL_MAX].encode())
        except OSError as trouble:
            get_log().error("condition.unwritten", path=str(self.word), reason=str(trouble))

    def _word(self) -> str:
        with suppress(OSError):
            return "" if self.word is None else self.world.disk.read(self.word).decode(errors="replace")[:DETAIL_MAX]
        return ""

    def _forget_word(self, outcome: object) -> None:
        if self.word is not None and isinstance(outcome, Committed):
            with suppress(OSError):
                self.world.disk.write_atomically(self.word, b"")

    def enter(self, condition: Condition, detail: str) -> None:
        """Note that a condition holds, with what there is to say of it now."""
        detail = detail[:DETAIL_MAX]
        holding = self._holding.get(condition)
        if holding is not None:
            holding.detail, holding.calm_s = detail, None
            return
        self._holding[condition] = _Holding(self.world.clock.now_us(), self.world.clock.monotonic_s(), detail)
        get_log().warning("condition.entered", condition=condition.value, detail=detail)
        self._record(condition, "entered", detail, lasted_s=0.0)
        self.on_change()

    def leave(self, condition: Condition) -> None:
        """Note that a condition does not hold; it leaves once that stays so."""
        holding = self._holding.get(condition)
        if holding is not None and holding.calm_s is None:
            holding.calm_s = self.world.clock.monotonic_s()

    def lift(self, condition: Condition) -> None:
        """Note that a condition is over because a person ended it: it leaves at once."""
        self.leave(condition)
        if condition in self._holding:
            self._end(condition)

    def note(self, condition: Condition, detail: str) -> None:
        """Note a condition that was over when it was seen; it shows for as long as any other does after its end."""
        self.enter(condition, detail)
        self.leave(condition)

    def look(self) -> None:
        """Let conditions leave that have not held for long enough; to be called again and again."""
        now_s = self.world.clock.monotonic_s()
        for condition, holding in list(self._holding.items()):
            if holding.calm_s is not None and now_s - holding.calm_s >= CALM_S:
                self._end(condition)

    def _end(self, condition: Condition) -> None:
        holding = self._holding.pop(condition)
        assert holding.calm_s is not None, "it ends when it does not hold"
        lasted_s = round(holding.calm_s - holding.since_s, 3)
        get_log().info("condition.left", condition=condition.value, lasted_s=lasted_s)
        self._record(condition, "left", holding.detail, lasted_s=lasted_s)
        self.on_change()

    def holds(self, condition: Condition) -> bool:
        """Tell whether a condition holds."""
        return condition in self._holding

    @property
    def blocking(self) -> str:
        """Return why nothing may be entered, or nothing."""
        found = [
            f"{condition}: {holding.detail}"
            for condition, holding in self._holding.items()
            if MEANINGS[condition].blocks_entries
        ]
        return "; ".join(found)

    def current(self) -> tuple[ConditionObject, ...]:
        """Return the conditions that hold, longest first."""
        return tuple(
            ConditionObject(
                condition=condition.value,
                since=iso_millis(holding.since_us // 1000),
                detail=holding.detail,
                means=MEANINGS[condition].means,
                remedy=MEANINGS[condition].remedy,
                blocks_entries=MEANINGS[condition].blocks_entries,
            )
            for condition, holding in self._holding.items()
        )

    async def turns(self, limit: int, before: tuple[int, str] | None = None) -> list[ConditionTurn]:
        """Return the last turns that the journal keeps, newest first."""
        rows = await self.writer.read(
            lambda reader: reader.page(ENTITY, owner=None, state=None, before=before, limit=limit)
        )
        return [msgspec.json.decode(row.data, type=ConditionTurn) for row in rows]

    def _record(
        self,
        condition: Condition,
        turn: str,
        detail: str,
        *,
        lasted_s: float,
        then: Callable[[object], None] | None = None,
    ) -> None:
        self._turns = number = self._turns + 1
        told = ConditionTurn(
            number=number,
            timestamp=iso_millis(self.world.clock.now_us() // 1000),
            condition=condition.value,
            turn=turn,
            detail=detail,
            lasted_s=lasted_s,
        )
        record = Record(ENTITY, turn_key(number), Kind.PUT, msgspec.json.encode(told), sort=number)
        # Where the journal is what is wrong, the log line and the status have to do.
        with suppress(Unavailable):
            self.writer.submit(Batch(records=[record]), then)


def turn_key(number: int) -> str:
    """Return where a turn is kept: a ring, so that the journal does not grow with them."""
    return f"{number % TURNS_KEPT:03d}"
