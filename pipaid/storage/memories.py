"""What the journal holds of strategies besides their events, as sessions are put together from it."""

from __future__ import annotations

import msgspec

from pipaid.engine.assembly import Memory
from pipaid.engine.effects import Brain, run_id
from pipaid.engine.following import ENTITY, with_binding
from pipaid.engine.recorded import is_replayed, recorded_in
from pipaid.model.consult import RecordedAnswer
from pipaid.model.order import Order
from pipaid.model.position import Position
from pipaid.model.run import Evaluation
from pipaid.model.strategy import EMPLOYED, Binding, Strategy, Tally
from pipaid.storage.store import Reader


def memory_of(reader: Reader, strategy_id: str) -> Memory:
    """Return the memory of one strategy."""
    row = reader.get("brain", strategy_id)
    brain = msgspec.json.decode(row.data, type=Brain) if row is not None else Brain()
    return Memory(
        brain=brain,
        orders=tuple(
            msgspec.json.decode(row.data, type=Order)
            for row in reader.rows("order", owner=strategy_id, state="working")
        ),
        positions=tuple(
            msgspec.json.decode(row.data, type=Position)
            for row in reader.rows("position", owner=strategy_id, state="open")
        ),
        asking=_asking(reader, strategy_id, brain),
    )


def bindings_of(reader: Reader) -> dict[str, tuple[Binding, ...]]:
    """Return the accounts that strategies are bound to, by the strategy that leads there."""
    bindings: dict[str, tuple[Binding, ...]] = {}
    for row in reader.rows(ENTITY):
        bindings[row.owner] = with_binding(bindings.get(row.owner, ()), msgspec.json.decode(row.data, type=Binding))
    return bindings


def everything(reader: Reader) -> tuple[list[tuple[Strategy, Tally, int]], dict[str, Memory]]:
    """Return every strategy with its tally and number of open lots, and the memories of those that run.

    It takes a few queries: asking strategy by strategy would make a thousand restarts slow.
    """
    orders: dict[str, list[Order]] = {}
    positions: dict[str, list[Position]] = {}
    for row in reader.rows("order", state="working"):
        orders.setdefault(row.owner, []).append(msgspec.json.decode(row.data, type=Order))
    for row in reader.rows("position", state="open"):
        positions.setdefault(row.owner, []).append(msgspec.json.decode(row.data, type=Position))
    brains = {row.key: msgspec.json.decode(row.data, type=Brain) for row in reader.rows("brain")}
    strategies: list[tuple[Strategy, Tally, int]] = []
    memories: dict[str, Memory] = {}
    for row in reader.rows("strategy"):
        strategy = msgspec.json.decode(row.data, type=Strategy)
        if strategy.running == strategy.definition:
            # One object instead of two equal ones: it is the largest thing that a strategy which does nothing holds.
            strategy = msgspec.structs.replace(strategy, running=strategy.definition)
        brain = brains.get(strategy.id, Brain())
        held = positions.get(strategy.id, [])
        strategies.append((strategy, brain.tally, len(held)))
        if strategy.status in EMPLOYED and not strategy.deleted_at_ms:
            memories[strategy.id] = Memory(
                brain=brain,
                orders=tuple(orders.get(strategy.id, [])),
                positions=tuple(held),
                asking=_asking(reader, strategy.id, brain),
            )
    return strategies, memories


def _asking(reader: Reader, strategy_id: str, brain: Brain) -> tuple[Evaluation, ...]:
    """Return the evaluations in which a model was asked that has not answered."""
    rows = [reader.get("run", run_id(strategy_id, waiting.evaluation)) for waiting in brain.questions.values()]
    return tuple(msgspec.json.decode(row.data, type=Evaluation) for row in rows if row is not None)


def answers_of(reader: Reader, strategy_id: str) -> tuple[RecordedAnswer, ...]:
    """Return what models answered a strategy, as far as its evaluations are kept; of two to one question the first."""
    runs = [msgspec.json.decode(row.data, type=Evaluation) for row in reader.rows("run", owner=strategy_id)]
    again = sorted((run for run in runs if is_replayed(run.cause)), key=lambda run: run.at_ms)
    found: dict[tuple[str, int, str], RecordedAnswer] = {}
    for run in again:
        for each in recorded_in(run.symbol, run.steps):
            found.setdefault((each.symbol, each.asked_at_ms, each.role), each)
    return tuple(found.values())
