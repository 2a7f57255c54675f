"""What is answered: the shapes of strategies and of what they did, built from the model; money as decimal strings."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any, TypeVar, get_type_hints

import msgspec
from msgspec import UNSET, UnsetType

from pipaid.model.moment import iso_millis, iso_seconds
from pipaid.model.money import average, exact_text, plain, quote_text, ratio_text
from pipaid.model.order import Order, OrderType
from pipaid.model.position import Position
from pipaid.model.run import Evaluation, RunStep
from pipaid.model.strategy import Binding, Fault, Run, Strategy, Tally

R = TypeVar("R", bound="Reply")


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of an operation."""


class Bare(Reply, frozen=True, kw_only=True):
    """An answer of which nothing but the one field goes over the wire, since it is no object or one of several."""

    content: Any


def wire_form(reply: Reply) -> Any:
    """Return what goes over the wire of an answer."""
    return reply.content if isinstance(reply, Bare) else reply


def read_reply(kind: type[R], data: bytes) -> R:
    """Return the answer of a kind that came over the wire."""
    if not issubclass(kind, Bare):
        return msgspec.json.decode(data, type=kind)
    return kind(content=msgspec.json.decode(data, type=get_type_hints(kind)["content"]))


class StrategySums(msgspec.Struct, frozen=True, kw_only=True):
    """A strategy's lifetime in four figures; `total_pnl` is realised and unrealised, in quote currency."""

    open_positions: int
    total_pnl: str
    total_trades: int
    win_rate: str


class RunSummary(msgspec.Struct, frozen=True, kw_only=True):
    """One deployment, with the values in effect."""

    id: str
    dry_run: bool
    capital: str
    leverage: int
    started_at: str
    ended_at: str | None


class FaultSummary(msgspec.Struct, frozen=True, kw_only=True):
    """Why a strategy is in `error`."""

    code: str
    message: str
    at: str


class BindingSummary(msgspec.Struct, frozen=True, kw_only=True):
    """An account that a strategy is bound to, and the strategy that trades there for it."""

    account_id: str
    strategy_id: str
    enabled: bool
    capital_share: str
    bound_at: str


class StrategyObject(Reply, frozen=True, kw_only=True):
    """A strategy, in the same shape from every operation that answers with one.

    `restarting` says what it crashed with while it waits for its next start, and how many of those it has; `notes`,
    where it is made or changed, what to know of it, such as how often its rules would enter; `bindings`, where it is
    bound to accounts, which ones; `follows` the strategy that trades here because it is bound to this one's account.
    """

    id: str
    name: str
    template_id: str
    params: dict[str, Any]
    symbols: tuple[str, ...]
    timeframe: str
    capital: str
    leverage: int
    status: str
    deployed_at: str | None
    created_at: str
    updated_at: str
    stats: StrategySums
    template_version: int | None
    dry_run: bool | None
    run: RunSummary | None
    error: FaultSummary | None
    restarting: str | UnsetType = UNSET
    notes: tuple[str, ...] | UnsetType = UNSET
    follows: str | UnsetType = UNSET
    bindings: tuple[BindingSummary, ...] | UnsetType = UNSET


class StrategyPage(Reply, frozen=True, kw_only=True):
    """Strategies, newest first."""

    data: tuple[StrategyObject, ...]
    next_cursor: str | None


class Deleted(Reply, frozen=True, kw_only=True):
    """The object is gone."""

    id: str
    deleted: bool = True


class Triggered(Reply, frozen=True, kw_only=True):
    """The evaluations that were asked for; `strategy.runs` shows them."""

    run_ids: tuple[str, ...]


class OrderObject(Reply, frozen=True, kw_only=True):
    """An order; `price` is the limit, `stop_price` the trigger of a stop or a take-profit."""

    id: str
    client_order_id: str
    strategy_id: str
    account: str
    run_id: str
    dry_run: bool
    position_id: str
    symbol: str
    side: str
    type: str
    status: str
    qty: str
    filled_qty: str
    price: str | None
    stop_price: str | None
    avg_price: str | None
    fee: str
    leverage: int
    time_in_force: str
    reduce_only: bool
    tag: str
    reason: str
    detail: str
    placed_at: str
    ended_at: str | None


class OrderPage(Reply, frozen=True, kw_only=True):
    """Orders, newest first."""

    data: tuple[OrderObject, ...]
    next_cursor: str | None


class PositionObject(Reply, frozen=True, kw_only=True):
    """A position; `qty` is what is still open, `pnl` net of fees and funding, `unrealised_pnl` at the last price."""

    id: str
    strategy_id: str
    account: str
    run_id: str
    dry_run: bool
    symbol: str
    side: str
    state: str
    qty: str
    entry_qty: str
    entry_price: str
    exit_price: str | None
    leverage: int
    stop_price: str | None
    take_profit_price: str | None
    pnl: str
    unrealised_pnl: str | None
    fee: str
    funding: str
    tag: str
    reason: str | None
    opened_at: str
    closed_at: str | None


class PositionPage(Reply, frozen=True, kw_only=True):
    """Positions, newest first."""

    data: tuple[PositionObject, ...]
    next_cursor: str | None


class TradeObject(Reply, frozen=True, kw_only=True):
    """A closed round trip; `id` is the position's."""

    id: str
    strategy_id: str
    account: str
    run_id: str
    dry_run: bool
    symbol: str
    side: str
    qty: str
    entry_price: str
    exit_price: str
    leverage: int
    pnl: str
    fee: str
    funding: str
    tag: str
    reason: str
    opened_at: str
    closed_at: str


class TradePage(Reply, frozen=True, kw_only=True):
    """Trades, newest first."""

    data: tuple[TradeObject, ...]
    next_cursor: str | None


class StepObject(msgspec.Struct, frozen=True, kw_only=True):
    """One step of an evaluation; `error` says what went wrong in it."""

    seq: int
    step_name: str
    status: str
    duration_ms: int
    duration_us: int
    output: dict[str, Any]
    error: str | None


class RunObject(Reply, frozen=True, kw_only=True, omit_defaults=True):
    """An evaluation; the steps stand in `run.get` only.

    `detail` says why it was skipped or failed. `order_ids` are the first orders that it led to, `trade_id` is the
    position that the first of them opens or leaves.
    """

    id: str
    strategy_id: str
    account_id: str
    symbol: str
    timeframe: str
    task_type: str
    cause: str
    status: str
    final_action: str
    total_duration_ms: int
    duration_us: int
    created_at: str
    detail: str
    dry_run: bool | None
    trade_id: str | None
    order_ids: tuple[str, ...]
    steps: tuple[StepObject, ...] | msgspec.UnsetType = msgspec.UNSET


class RunPage(Reply, frozen=True, kw_only=True):
    """Evaluations, newest first."""

    data: tuple[RunObject, ...]
    next_cursor: str | None


def strategy_object(
    strategy: Strategy,
    tally: Tally,
    *,
    open_positions: int,
    unrealised: Decimal,
    restarting: str | UnsetType = UNSET,
    bindings: Sequence[Binding] = (),
) -> StrategyObject:
    """Return a strategy as every surface shows it."""
    definition, run = strategy.definition, strategy.run
    return StrategyObject(
        id=strategy.id,
        name=definition.name,
        template_id=definition.template_id,
        params=definition.params,
        symbols=definition.symbols,
        timeframe=definition.timeframe.value,
        capital=quote_text(definition.capital),
        leverage=definition.leverage,
        status=strategy.status.value,
        deployed_at=_seconds(strategy.deployed_at_ms),
        created_at=iso_seconds(strategy.created_at_us // 1_000),
        updated_at=iso_seconds(strategy.updated_at_us // 1_000),
        stats=StrategySums(
            open_positions=open_positions,
            total_pnl=quote_text(tally.pnl + unrealised),
            total_trades=tally.trades,
            win_rate=ratio_text(tally.win_rate),
        ),
        template_version=strategy.template_version or None,
        dry_run=run.dry_run if run is not None else None,
        run=None if run is None else run_summary(run),
        error=None if strategy.fault is None else fault_summary(strategy.fault),
        restarting=restarting,
        follows=strategy.follows or UNSET,
        bindings=tuple(map(binding_summary, bindings)) or UNSET,
    )


def binding_summary(binding: Binding) -> BindingSummary:
    """Return a binding as strategies show it."""
    return BindingSummary(
        account_id=binding.account,
        strategy_id=binding.strategy_id,
        enabled=binding.enabled,
        capital_share=plain(binding.capital_share),
        bound_at=iso_seconds(binding.bound_at_us // 1_000),
    )


def run_summary(run: Run) -> RunSummary:
    """Return a deployment as strategies show it."""
    return RunSummary(
        id=run.id,
        dry_run=run.dry_run,
        capital=quote_text(run.capital),
        leverage=run.leverage,
        started_at=iso_seconds(run.started_at_ms),
        ended_at=_seconds(run.ended_at_ms),
    )


def fault_summary(fault: Fault) -> FaultSummary:
    """Return the cause of an `error` as strategies show it."""
    return FaultSummary(code=fault.code, message=fault.message, at=iso_seconds(fault.at_ms))


def order_object(order: Order) -> OrderObject:
    """Return an order as listings show it."""
    triggered = order.type in (OrderType.STOP, OrderType.TAKE_PROFIT)
    return OrderObject(
        id=order.id,
        client_order_id=order.client_order_id,
        strategy_id=order.strategy_id,
        account=order.account,
        run_id=order.run_id,
        dry_run=order.dry_run,
        position_id=order.position_id,
        symbol=order.symbol,
        side=order.side.value,
        type=order.type.value,
        status=order.status.value,
        qty=exact_text(order.quantity),
        filled_qty=exact_text(order.filled),
        price=exact_text(order.price) if order.type is OrderType.LIMIT else None,
        stop_price=exact_text(order.price) if triggered else None,
        avg_price=_average(order.filled_value, order.filled),
        fee=plain(order.fee),
        leverage=order.leverage,
        time_in_force=order.time_in_force.value,
        reduce_only=order.reduce_only,
        tag=order.tag,
        reason=order.reason,
        detail=order.detail,
        placed_at=iso_millis(order.placed_at_ms),
        ended_at=_millis(order.ended_at_ms),
    )


def position_object(position: Position, mark: Decimal | None = None) -> PositionObject:
    """Return a position as listings show it; `mark` is the last known price of its symbol."""
    valued = position.is_open and mark is not None
    return PositionObject(
        id=position.id,
        strategy_id=position.strategy_id,
        account=position.account,
        run_id=position.run_id,
        dry_run=position.dry_run,
        symbol=position.symbol,
        side=position.direction.value,
        state="open" if position.is_open else "closed",
        qty=exact_text(position.quantity),
        entry_qty=exact_text(position.entry_quantity),
        entry_price=_average(position.entry_value, position.entry_quantity) or "0",
        exit_price=_average(position.exit_value, position.exit_quantity),
        leverage=position.leverage,
        stop_price=_exact(position.stop_price),
        take_profit_price=_exact(position.take_profit_price),
        pnl=quote_text(position.pnl),
        unrealised_pnl=quote_text(position.unrealised(mark)) if valued and mark is not None else None,
        fee=quote_text(position.fees),
        funding=quote_text(position.funding),
        tag=position.tag,
        reason=position.reason.value if position.reason is not None else None,
        opened_at=iso_millis(position.opened_at_ms),
        closed_at=_millis(position.closed_at_ms),
    )


def trade_object(position: Position) -> TradeObject:
    """Return a closed position as the trade that it is."""
    assert not position.is_open, f"position {position.id} is still open"
    return TradeObject(
        id=position.id,
        strategy_id=position.strategy_id,
        account=position.account,
        run_id=position.run_id,
        dry_run=position.dry_run,
        symbol=position.symbol,
        side=position.direction.value,
        qty=exact_text(position.entry_quantity),
        entry_price=_average(position.entry_value, position.entry_quantity) or "0",
        exit_price=_average(position.exit_value, position.exit_quantity) or "0",
        leverage=position.leverage,
        pnl=quote_text(position.pnl),
        fee=quote_text(position.fees),
        funding=quote_text(position.funding),
        tag=position.tag,
        reason=position.reason.value if position.reason is not None else "exit_rule",
        opened_at=iso_millis(position.opened_at_ms),
        closed_at=iso_millis(position.closed_at_ms),
    )


def run_object(run: Evaluation, *, steps: bool = False) -> RunObject:
    """Return an evaluation as listings show it, or with its steps."""
    return RunObject(
        id=run.id,
        strategy_id=run.strategy_id,
        account_id=run.account,
        symbol=run.symbol,
        timeframe=run.timeframe,
        task_type=run.task_type.value,
        cause=run.cause.value,
        status=run.status.value,
        final_action=run.final_action,
        total_duration_ms=run.duration_us // 1_000,
        duration_us=run.duration_us,
        created_at=iso_millis(run.at_ms),
        detail=run.detail,
        dry_run=run.dry_run,
        trade_id=run.trade_id or None,
        order_ids=run.order_ids,
        steps=tuple(map(step_object, run.steps)) if steps else msgspec.UNSET,
    )


def step_object(step: RunStep) -> StepObject:
    """Return a step as an evaluation shows it."""
    return StepObject(
        seq=step.seq,
        step_name=step.step_name.value,
        status=step.status.value,
        duration_ms=step.duration_us // 1_000,
        duration_us=step.duration_us,
        output=step.output,
        error=step.error,
    )


def _seconds(at_ms: int) -> str | None:
    return iso_seconds(at_ms) if at_ms else None


def _millis(at_ms: int) -> str | None:
    return iso_millis(at_ms) if at_ms else None


def _exact(value: Decimal | None) -> str | None:
    return None if value is None else exact_text(value)


def _average(value: Decimal, quantity: Decimal) -> str | None:
    return exact_text(average(value, quantity)) if quantity else None
