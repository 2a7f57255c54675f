"""Accounts that strategies are bound to, as they are asked for and answered."""

from __future__ import annotations

from typing import Annotated, ClassVar

from msgspec import UNSET, Meta, UnsetType

from pipaid.model.reply import BindingSummary, Reply
from pipaid.model.request import ID_MAX, Id, Request, Share

AccountId = Annotated[str, Meta(min_length=1, max_length=ID_MAX, description="an account, such as acct_7d1e5b0c2a44")]


class StrategyBind(Request, frozen=True, kw_only=True):
    """An account that a strategy is to trade on, with a share of its capital; what is left out stays as it is."""

    id: Id
    account_id: AccountId
    enabled: bool | UnsetType = UNSET
    capital_share: Share | UnsetType = UNSET
    example: ClassVar[dict[str, object]] = {"enabled": True, "capital_share": "0.5"}


class StrategyUnbind(Request, frozen=True, kw_only=True):
    """An account that a strategy is to trade on no more."""

    id: Id
    account_id: AccountId


class BindingObject(BindingSummary, Reply, frozen=True, kw_only=True):
    """An account that a strategy is bound to, and how the strategy stands that trades there for it.

    `notes`, where it is bound, say what that changes elsewhere.
    """

    status: str
    dry_run: bool | None
    capital: str
    open_positions: int
    total_pnl: str
    total_trades: int
    error: str | None
    notes: tuple[str, ...] | UnsetType = UNSET


class BindingList(Reply, frozen=True, kw_only=True):
    """The accounts that a strategy is bound to, in the order in which they were."""

    data: tuple[BindingObject, ...]


class Unbound(Reply, frozen=True, kw_only=True):
    """The binding is gone; the trades of the strategy that followed there stay readable under its id."""

    id: str
    account_id: str
    strategy_id: str
    unbound: bool = True
