"""Every event of the stream: its name, its data, and the frame in which it leaves the process."""

from __future__ import annotations

from decimal import Decimal
from typing import Final

import msgspec

from pipaid.model.ident import derived_id
from pipaid.model.moment import iso_millis
from pipaid.model.reply import StrategyObject

STATUS_CHANNEL: Final = "strategy.status"
BACKTEST_CHANNEL: Final = "backtest.status"
ACCOUNT_CHANNEL: Final = "account.status"
# Whose events are numbered together that are an account's, and those that are everybody's; no strategy is called so.
_ACCOUNT: Final = "account/"
EVERYBODY: Final = "accounts/"


class EventData(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=False):
    """The data of one kind of event; the subclass is the kind, its `EVENT_NAMES` entry the name."""


class PositionSummary(msgspec.Struct, frozen=True, kw_only=True):
    """An open position as the closing events report it."""

    position_id: str
    symbol: str
    side: str
    qty: Decimal
    entry_price: Decimal


class Deployed(EventData, frozen=True, kw_only=True):
    """The strategy became deployed."""

    status: str
    deployed_at: str
    dry_run: bool
    capital: Decimal
    leverage: int
    template_version: int


class Paused(EventData, frozen=True, kw_only=True):
    """The strategy became paused."""

    status: str
    close_positions: bool
    open_positions: int


class Stopped(EventData, frozen=True, kw_only=True):
    """The strategy became stopped; what it still holds is listed and no longer managed."""

    status: str
    open_positions: tuple[PositionSummary, ...]


class Halted(EventData, frozen=True, kw_only=True):
    """The engine gave the strategy up; its status is `error`."""

    status: str
    code: str
    message: str
    open_positions: int


class PositionOpened(EventData, frozen=True, kw_only=True, omit_defaults=True):
    """The first fill of an entry opened a lot."""

    position_id: str
    symbol: str
    side: str
    qty: Decimal
    entry_price: Decimal
    notional: Decimal
    leverage: int
    opened_at: str
    stop_price: Decimal | None = None
    take_profit_price: Decimal | None = None


class PositionClosed(EventData, frozen=True, kw_only=True):
    """The last fill of an exit closed a lot; `pnl` is net of fees."""

    position_id: str
    symbol: str
    side: str
    qty: Decimal
    entry_price: Decimal
    exit_price: Decimal
    pnl: Decimal
    fee: Decimal
    reason: str
    opened_at: str
    closed_at: str


class OrderPlaced(EventData, frozen=True, kw_only=True, omit_defaults=True):
    """An order was handed to the venue."""

    order_id: str
    client_order_id: str
    symbol: str
    side: str
    type: str
    qty: Decimal
    time_in_force: str
    reduce_only: bool
    placed_at: str
    position_id: str | None = None
    price: Decimal | None = None
    stop_price: Decimal | None = None


class OrderFilled(EventData, frozen=True, kw_only=True, omit_defaults=True):
    """An order was filled, wholly or in part; `price` is absent for market orders."""

    order_id: str
    client_order_id: str
    position_id: str
    symbol: str
    side: str
    type: str
    qty: Decimal
    fill_qty: Decimal
    fill_price: Decimal
    cum_qty: Decimal
    avg_price: Decimal
    fee: Decimal
    fee_asset: str
    liquidity: str
    trade_id: str
    is_complete: bool
    price: Decimal | None = None


class OrderCancelled(EventData, frozen=True, kw_only=True):
    """An order ended unfilled or partly filled; `reason` is engine, exchange, pause, expired or rejected."""

    order_id: str
    client_order_id: str
    symbol: str
    reason: str
    filled_qty: Decimal
    cancelled_at: str


class RiskBlocked(EventData, frozen=True, kw_only=True):
    """An entry was refused by a cap; opt-in, at most one per rule and candle."""

    rule: str
    symbol: str
    limit: str
    value: str


class Resumed(EventData, frozen=True, kw_only=True):
    """The daemon restarted and carries the strategy on; opt-in."""

    status: str


class Lagged(EventData, frozen=True, kw_only=True):
    """A subscriber lost the events of this range, both ends included; never journalled, opt-in."""

    from_seq: int
    to_seq: int


class BacktestMoved(EventData, frozen=True, kw_only=True, omit_defaults=True):
    """A backtest job went on: its status, and the share of it that is played."""

    status: str
    progress: float
    code: str = ""
    message: str = ""


class BacktestQueued(BacktestMoved, frozen=True, kw_only=True, omit_defaults=True):
    """It waits for a slot: it is new, or the daemon ended while it ran."""


class BacktestStarted(BacktestMoved, frozen=True, kw_only=True, omit_defaults=True):
    """It is being played."""


class BacktestProgressed(BacktestMoved, frozen=True, kw_only=True, omit_defaults=True):
    """More of it is played."""


class BacktestDone(BacktestMoved, frozen=True, kw_only=True, omit_defaults=True):
    """Its result is there."""


class BacktestFailed(BacktestMoved, frozen=True, kw_only=True, omit_defaults=True):
    """It has no result, and `code` and `message` say why."""


class BacktestCancelled(BacktestMoved, frozen=True, kw_only=True, omit_defaults=True):
    """Somebody ended it."""


class Notice(EventData, frozen=True, kw_only=True):
    """Something that befell an account and is no part of a strategy's course; only webhooks hear of it."""


class StrategyNotice(Notice, frozen=True, kw_only=True):
    """A strategy's definition came, changed or went; `strategy` is the object that was answered."""

    strategy_id: str
    name: str
    strategy: StrategyObject


class StrategyCreated(StrategyNotice, frozen=True, kw_only=True):
    """There is a new draft."""


class StrategyUpdated(StrategyNotice, frozen=True, kw_only=True):
    """Its definition was changed."""


class StrategyDeleted(StrategyNotice, frozen=True, kw_only=True):
    """It is gone; this is how it was."""


class BalanceLow(Notice, frozen=True, kw_only=True):
    """What an account has available fell below what one of its webhooks asked to be told of."""

    webhook_id: str
    asset: str
    available: Decimal
    threshold: Decimal


class KeyRotated(Notice, frozen=True, kw_only=True):
    """An API key has a new secret; the one before is good until `grace_until`."""

    key_prefix: str
    rotated_at: str
    grace_until: str


class KillSwitched(Notice, frozen=True, kw_only=True):
    """The kill switch was thrown, or released."""

    is_active: bool
    reason: str
    activated_at: str | None


EVENT_NAMES: Final[dict[type[EventData], str]] = {
    Deployed: "deployed",
    Paused: "paused",
    Stopped: "stopped",
    Halted: "error",
    PositionOpened: "position_opened",
    PositionClosed: "position_closed",
    OrderPlaced: "order_placed",
    OrderFilled: "order_filled",
    OrderCancelled: "order_cancelled",
    RiskBlocked: "risk_blocked",
    Resumed: "resumed",
    Lagged: "lagged",
    BacktestQueued: "queued",
    BacktestStarted: "running",
    BacktestProgressed: "progress",
    BacktestDone: "done",
    BacktestFailed: "failed",
    BacktestCancelled: "cancelled",
    StrategyCreated: "created",
    StrategyUpdated: "updated",
    StrategyDeleted: "deleted",
    BalanceLow: "balance_low",
    KeyRotated: "api_key_rotated",
    KillSwitched: "kill_switch",
}
# Opt-in events carry no `seq` of their own but `after_seq`, so that strict subscribers see no hole.
OPT_IN_EVENTS: Final = frozenset({"risk_blocked", "resumed", "lagged"})


class EventDraft(msgspec.Struct, frozen=True, kw_only=True):
    """An event on its way into the journal, which gives it its number.

    A backtest's bears the job's id where others bear the strategy's, and a notice who is told of it.
    """

    strategy_id: str
    data: EventData
    at_ms: int
    run_id: str | None
    dry_run: bool | None

    @property
    def name(self) -> str:
        """Return the event's name on the stream."""
        return EVENT_NAMES[type(self.data)]

    @property
    def channel(self) -> str:
        """Return the channel of the stream that it is told on."""
        if isinstance(self.data, Notice):
            return ACCOUNT_CHANNEL
        return BACKTEST_CHANNEL if isinstance(self.data, BacktestMoved) else STATUS_CHANNEL

    @property
    def opt_in(self) -> bool:
        """Tell whether only extended subscribers get it."""
        return self.name in OPT_IN_EVENTS


def notice(account: str | None, data: Notice, at_ms: int) -> EventDraft:
    """Return a notice to an account, or to everybody, on its way into the journal; `at_ms` is of the wall clock."""
    told = EVERYBODY if account is None else f"{_ACCOUNT}{account}"
    return EventDraft(strategy_id=told, data=data, at_ms=at_ms, run_id=None, dry_run=None)


def is_notice(id: str) -> bool:
    """Tell whether events under this id are notices."""
    return id == EVERYBODY or id.startswith(_ACCOUNT)


def account_told(id: str) -> str | None:
    """Return the account that notices under this id are for, or nothing for everybody's."""
    return None if id == EVERYBODY else id.removeprefix(_ACCOUNT)


class EventFrame(msgspec.Struct, frozen=True, kw_only=True):
    """An event as it leaves the process."""

    channel: str
    event: str
    id: str
    seq: int | msgspec.UnsetType
    after_seq: int | msgspec.UnsetType
    ts: str
    event_id: str
    run_id: str | None
    dry_run: bool | None
    data: EventData


_ENCODER: Final = msgspec.json.Encoder()


def event_frame(draft: EventDraft, *, seq: int, ordinal: int) -> bytes:
    """Encode the frame of an event once for every reader.

    `seq` is the strategy's last number: the event's own, or the one it comes after if it is opt-in; `ordinal` tells
    apart opt-in events that come after the same number.
    """
    opt_in = draft.opt_in
    event_id = derived_id("evt", draft.strategy_id, seq, ordinal if opt_in else 0)
    return _ENCODER.encode(
        EventFrame(
            channel=draft.channel,
            event=draft.name,
            id=draft.strategy_id,
            seq=msgspec.UNSET if opt_in else seq,
            after_seq=seq if opt_in else msgspec.UNSET,
            ts=iso_millis(draft.at_ms),
            event_id=event_id,
            run_id=draft.run_id,
            dry_run=draft.dry_run,
            data=draft.data,
        )
    )
