"""Whose things are: accounts, which own objects, their organisations, and the users who speak for these."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from pipaid.model.moment import iso_seconds
from pipaid.model.reply import Reply
from pipaid.model.request import Id, Name, Request, Scopes

PREFIX: Final = "acct"
# The account of the daemon's owner: it is there from the start, and what no account asked for is its own.
OWNER: Final = "acct_main"
ORGANISATION: Final = "main"
VENUE: Final = "simulated"
# For how many seconds a token is good.
TTL_S: Final = 3_600
TTL_S_MIN: Final = 60
TTL_S_MAX: Final = 30 * 86_400

Organisation = Annotated[
    str,
    Meta(
        pattern=r"^[a-z0-9][a-z0-9_.-]{0,63}$(?!\n)",
        description="an organisation: 1 to 64 small letters, digits, dots, dashes and underscores",
    ),
]
User = Annotated[
    str,
    Meta(
        pattern=r"^[!-.0-~]{1,64}$(?!\n)",
        description="a user: 1 to 64 printable characters of ASCII without blanks and slashes",
    ),
]


class Mode(StrEnum):
    """How an account trades: at the simulated venue, in dry runs alone, or for real."""

    SIM = "sim"
    PAPER = "paper"
    LIVE = "live"


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """An account as the journal keeps it: objects, keys and bindings point to it by id.

    One of which nobody knows when it was made has 0 there.
    """

    id: str
    name: str
    organisation: str = ORGANISATION
    venue: str = VENUE
    mode: Mode = Mode.SIM
    created_at_us: int = 0


class AccountCreate(Request, frozen=True, kw_only=True):
    """A new account, which owns nothing yet."""

    name: Name
    organisation: Organisation = ORGANISATION
    venue: Id = VENUE
    mode: Annotated[Mode, Meta(description=f"one of {', '.join(Mode)}")] = Mode.SIM


class AccountObject(Reply, frozen=True, kw_only=True):
    """An account; who asks with one of its keys sees what belongs to it, and nothing of any other."""

    id: str
    name: str
    organisation: str
    venue: str
    mode: str
    created_at: str | None


class AccountPage(Reply, frozen=True, kw_only=True):
    """Accounts, newest first."""

    data: tuple[AccountObject, ...]
    next_cursor: str | None


def account_object(account: Account) -> AccountObject:
    """Return an account as listings show it."""
    return AccountObject(
        id=account.id,
        name=account.name,
        organisation=account.organisation,
        venue=account.venue,
        mode=account.mode.value,
        created_at=iso_seconds(account.created_at_us // 1_000) if account.created_at_us else None,
    )


class TokenCreate(Request, frozen=True, kw_only=True):
    """A bearer token with which a user of an organisation asks for a while; it is taken at `/api/v1` alone."""

    user: User
    organisation: Organisation = ORGANISATION
    scopes: Scopes
    ttl_seconds: Annotated[
        int, Meta(ge=TTL_S_MIN, le=TTL_S_MAX, description=f"a whole number from {TTL_S_MIN} to {TTL_S_MAX}")
    ] = TTL_S


class TokenObject(Reply, frozen=True, kw_only=True):
    """A bearer token, which is shown this once; what is made with it belongs to `account_id`."""

    token: str | None
    token_id: str
    user: str
    organisation: str
    account_id: str
    scopes: tuple[str, ...]
    expires_at: str


class TokensRotated(Reply, frozen=True, kw_only=True):
    """No token that was made before is good any more; the next ones are signed with this version of the key."""

    version: int
