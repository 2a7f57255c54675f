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

ENTITY: Final = "stalled_check"
_DOING: Final = {Phase.CALLBACK: "in a callback", Phase.LOADING: "while it was loaded"}


def quarantine(journal: Journal, phase: Phase, number: int, *, now_us: int) -> None:
    """Make durable that a strategy, or a definition under check, held the daemon up; nothing of it has run yet.

    The strategy is in `error` from the first moment of the new life: it is not loaded any more, its working entries are
    to be withdrawn, and what protects its positions stays. Whoever is halted or gone already stays as it is.
    """
    if phase is Phase.CHECKING:
        _commit(journal, Batch(records=[Record(ENTITY, f"{number:016x}", Kind.PUT, encode({"at_us": now_us}))]))
        get_log().error("check.quarantined", definition=f"{number:016x}")
        return
    strategy = _numbered(journal, number)
    if strategy is None or (strategy.status, Action.HALT) not in TRANSITIONS:
        get_log().warning("strategy.held_up", strategy_number=number, phase=phase.name.lower())
        return
    fault = Fault(
        code=QUARANTINED,
        message=(
            f"it held the whole daemon up {_DOING.get(phase, phase.name.lower())} and never came back, until the "
            f"watchdog ended the daemon; it is in quarantine: mend {strategy.in_effect.template_id} or its params, "
            "then `pipaid reset` and `pipaid deploy` release it"
        ),
        at_ms=_venue_ms(journal, strategy.id),
    )
    _commit(journal, _halting(journal, strategy, fault, now_us))
    get_log().error(
        "strategy.quarantined", strategy_id=strategy.id, strategy=strategy.definition.name, phase=phase.name.lower()
    )


def quarantined_checks(reader: Reader) -> frozenset[int]:
    """Return the numbers of the definitions whose check held the daemon up."""
    return frozenset(int(row.key, 16) for row in reader.rows(ENTITY))


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


def _numbered(journal: Journal, number: int) -> Strategy | None:
    for row in journal.rows("strategy"):
        strategy = msgspec.json.decode(row.data, type=Strategy)
        if strategy.number == number and not strategy.deleted_at_ms:
            return strategy
    return None


def _venue_ms(journal: Journal, strategy_id: str) -> int:
    """Return the last moment of venue time that the strategy is known to have lived in."""
    row = journal.get("brain", strategy_id)
    return msgspec.json.decode(row.data, type=Brain).at_ms if row is not None else 0


def _commit(journal: Journal, batch: Batch) -> None:
    (outcome,) = journal.commit([batch])
    if isinstance(outcome, JournalRefused):
        raise JournalLost(f"the quarantine could not be written: {outcome}")
