"""Quarantine: what held the whole daemon up until it was aborted is not asked again before a person has looked."""

from __future__ import annotations

from typing import Final

import msgspec

from actors.actor import Phase
from pipaid.engine.effects import Brain, encode, order_record, strategy_record
from pipaid.logs import get_log
from pipaid.model.event import EventDraft, Halted
from pipaid.model.order import Order
from pipaid.model.record import Batch, Kind, Record
from pipaid.model.strategy import QUARANTINED, TRANSITIONS, Action, Fault, Status, Strategy, advance
from pipaid.storage.store import Journal, JournalLost, JournalRefused, Reader

ENTITIES: Final = {Phase.CHECKING: "stalled_check", Phase.IMPORTING: "stalled_import"}
_DOING: Final = {Phase.CALLBACK: "in a callback", Phase.LOADING: "while it was loaded"}


def quarantine(journal: Journal, phase: Phase, number: int, *, now_us: int) -> None:
    """Make durable that a strategy, a definition under check or a plug-in held the daemon up, before any of it runs.

    The strategy is in `error` from the first moment of the new life: it is not loaded any more, its working entries are
    to be withdrawn, and what protects its positions stays. Whoever is halted or gone already stays as it is. When the
    same version of a template does it a second time, all strategies of it go with that one: each would cost another
    abort, and a service manager gives a daemon up after a few.
    """
    entity = ENTITIES.get(phase)
    if entity is not None:
        _commit(journal, Batch(records=[Record(entity, f"{number:016x}", Kind.PUT, encode({"at_us": now_us}))]))
        get_log().error("template.quarantined", phase=phase.name.lower(), number=f"{number:016x}")
        return
    known = _known(journal)
    suspect = known.get(number)
    if suspect is None or not _runs(suspect):
        get_log().warning("strategy.held_up", strategy_number=number, phase=phase.name.lower())
        return
    alike = [each for each in known.values() if _make(each) == _make(suspect)]
    again = any(each.fault is not None and each.fault.code == QUARANTINED for each in alike)
    for strategy in [each for each in alike if _runs(each)] if again else [suspect]:
        _commit(journal, _halting(journal, strategy, _fault(journal, strategy, suspect, phase), now_us))
        get_log().error(
            "strategy.quarantined", strategy_id=strategy.id, strategy=strategy.definition.name, phase=phase.name.lower()
        )


def stalled(reader: Reader, phase: Phase) -> frozenset[int]:
    """Return the numbers of what held the daemon up in a phase that is not of a strategy."""
    return frozenset(int(row.key, 16) for row in reader.rows(ENTITIES[phase]))


def _fault(journal: Journal, strategy: Strategy, suspect: Strategy, phase: Phase) -> Fault:
    doing = _DOING.get(phase, phase.name.lower())
    template_id = strategy.in_effect.template_id
    if strategy is suspect:
        what = f"it held the whole daemon up {doing} and never came back, until the watchdog ended the daemon"
    else:
        what = f"another strategy of {template_id} held the whole daemon up {doing}, and it was not the first"
    remedy = (
        f"`pipaid strategy reset {strategy.id}` releases it, once {template_id} is mended; change its params "
        f"after that if they were the cause, then `pipaid deploy {strategy.id}`"
    )
    return Fault(
        code=QUARANTINED, message=f"{what}; it is in quarantine: {remedy}", at_ms=_venue_ms(journal, strategy.id)
    )


def _runs(strategy: Strategy) -> bool:
    return (strategy.status, Action.HALT) in TRANSITIONS


def _make(strategy: Strategy) -> tuple[str, int]:
    return strategy.in_effect.template_id, strategy.template_version


def _halting(journal: Journal, strategy: Strategy, fault: Fault, now_us: int) -> Batch:
    halted = msgspec.structs.replace(
        strategy, status=advance(strategy.status, Action.HALT), fault=fault, updated_at_us=now_us
    )
    orders = [
        msgspec.json.decode(row.data, type=Order) for row in journal.rows("order", owner=strategy.id, state="working")
    ]
    withdrawn = [
        msgspec.structs.replace(order, cancelling=True, detail="engine")
        for order in orders
        if not order.reduce_only and not order.cancelling
    ]
    held = sum(1 for _ in journal.rows("position", owner=strategy.id, state="open"))
    run = halted.run
    event = EventDraft(
        strategy_id=halted.id,
        data=Halted(status=Status.ERROR.value, code=fault.code, message=fault.message, open_positions=held),
        at_ms=fault.at_ms,
        run_id=run.id if run is not None else None,
        dry_run=run.dry_run if run is not None else None,
    )
    return Batch(records=[strategy_record(halted), *map(order_record, withdrawn)], events=[event])


def _known(journal: Journal) -> dict[int, Strategy]:
    """Return every strategy that is not deleted, by its number."""
    strategies = (msgspec.json.decode(row.data, type=Strategy) for row in journal.rows("strategy"))
    return {strategy.number: strategy for strategy in strategies if not strategy.deleted_at_ms}


def _venue_ms(journal: Journal, strategy_id: str) -> int:
    """Return the last moment of venue time that the strategy is known to have lived in."""
    row = journal.get("brain", strategy_id)
    return msgspec.json.decode(row.data, type=Brain).at_ms if row is not None else 0


def _commit(journal: Journal, batch: Batch) -> None:
    (outcome,) = journal.commit([batch])
    if isinstance(outcome, JournalRefused):
        raise JournalLost(f"the quarantine could not be written: {outcome}")
