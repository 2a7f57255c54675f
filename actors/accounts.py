"""The accounts of a daemon: who may own objects, to which organisation they belong, and how each may trade."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec
import trio
from attrs import define, field

from actors.actor import Asker, Writer
from pipaid.errors import DuplicateName, InsufficientPermission, InvalidParameter, InvalidState
from pipaid.model import paging
from pipaid.model.account import (
    ORGANISATION,
    OWNER,
    PREFIX,
    VENUE,
    Account,
    AccountCreate,
    AccountObject,
    AccountPage,
    Mode,
    account_object,
)
from pipaid.model.ident import random_id
from pipaid.model.record import Batch, Kind, Record
from pipaid.model.request import Page
from pipaid.seams import Clock, Ids
from pipaid.storage.store import Reader

ENTITY: Final = "account"
ACCOUNTS_MAX: Final = 10_000
# What there is to trade at, and in which modes.
SIMULATED: Final[Mapping[str, tuple[Mode, ...]]] = {VENUE: (Mode.SIM, Mode.PAPER)}
# Rows of these name accounts, also of the time before accounts had rows of their own.
_NAMING: Final = ("apikey", "strategy")


@define(eq=False)
class Accounts:
    """Make and list accounts; `venues` says which there are and in which modes they serve."""

    writer: Writer
    clock: Clock
    ids: Ids
    venues: Mapping[str, tuple[Mode, ...]] = field(factory=lambda: SIMULATED)
    _accounts: dict[str, Account] = field(factory=dict[str, Account], init=False)
    _of: dict[str, list[str]] = field(factory=dict[str, list[str]], init=False)
    # One change at a time: each starts from what the one before it has made durable.
    _changing: trio.Lock = field(factory=trio.Lock, init=False)

    async def load(self) -> None:
        """Read the accounts from the journal."""
        self._accounts, self._of = {}, {}
        for account in sorted(await self.writer.read(_stored), key=lambda each: (each.created_at_us, each.id)):
            self._enter(account)

    def knows(self, account: str) -> bool:
        """Tell whether there is such an account."""
        return account in self._accounts

    def organisation_of(self, account: str) -> str:
        """Return the organisation of an account that there is."""
        return self._accounts[account].organisation

    def of(self, organisation: str) -> Sequence[str]:
        """Return the accounts of an organisation, oldest first."""
        return self._of.get(organisation, ())

    def neighbours_of(self, account: str) -> Sequence[str]:
        """Return the accounts of an account's organisation, its own among them."""
        return self.of(self.organisation_of(account)) if self.knows(account) else (account,)

    def mode_of(self, account: str) -> Mode:
        """Return how an account trades."""
        return self._accounts[account].mode

    def permit(self, account: str, *, dry_run: bool) -> None:
        """Refuse a run that the mode of its account rules out."""
        known = self._accounts.get(account)
        if known is not None and known.mode is Mode.PAPER and not dry_run:
            raise InsufficientPermission(f"the account {account} is in mode {known.mode}: deploy with dry_run true")

    # What the control socket asks; each is named after its operation.

    async def account_create(self, caller: Asker, asked: AccountCreate) -> AccountObject:
        """Make an account."""
        self._check(asked)
        async with self._changing:
            if len(self._accounts) >= ACCOUNTS_MAX:
                raise InvalidState(f"there are {ACCOUNTS_MAX} accounts already")
            if any((each.organisation, each.name) == (asked.organisation, asked.name) for each in self._all()):
                raise DuplicateName(f"another account of {asked.organisation} is already called {asked.name!r}")
            fresh = random_id(PREFIX, self.ids.entropy(6))
            while fresh in self._accounts:
                fresh = random_id(PREFIX, self.ids.entropy(6))
            account = Account(
                id=fresh,
                name=asked.name,
                organisation=asked.organisation,
                venue=asked.venue,
                mode=asked.mode,
                created_at_us=self.clock.now_us(),
            )
            # Even if whoever asked is cut off: memory must not fall behind.
            with trio.CancelScope(shield=True):
                await self.writer.commit(Batch(records=[_record(account)]))
            self._enter(account)
        return account_object(account)

    async def account_list(self, caller: Asker, asked: Page) -> AccountPage:
        """List accounts, newest first."""
        filters = paging.filters_hash("account.list", asked)
        before = paging.decode_cursor(asked.cursor, filters=filters)
        found = [each for each in self._all() if caller.account in (None, each.id)]
        found = [each for each in found if before is None or (each.created_at_us, each.id) < before]
        found.sort(key=lambda each: (each.created_at_us, each.id), reverse=True)
        page, cursor = found[: asked.limit], None
        if len(found) > asked.limit:
            cursor = paging.encode_cursor(page[-1].created_at_us, page[-1].id, filters=filters)
        return AccountPage(data=tuple(map(account_object, page)), next_cursor=cursor)

    def _enter(self, account: Account) -> None:
        self._accounts[account.id] = account
        self._of.setdefault(account.organisation, []).append(account.id)

    def _all(self) -> list[Account]:
        return list(self._accounts.values())

    def _check(self, asked: AccountCreate) -> None:
        """Refuse a venue that there is none of, and a mode in which it does not serve, with the line to change."""
        modes = self.venues.get(asked.venue)
        if modes is None:
            reason = f"must be one of {', '.join(self.venues)}: this daemon trades nowhere else"
            raise InvalidParameter(f"venue {reason}", details=(("venue", reason),))
        if asked.mode not in modes:
            allowed = " or ".join(f"--mode {mode}" for mode in modes)
            reason = f"{asked.mode} is nothing that the venue {asked.venue} can serve; say {allowed}"
            raise InvalidParameter(f"mode {reason}", details=(("mode", reason),))


def _record(account: Account) -> Record:
    return Record(
        ENTITY,
        account.id,
        Kind.ADD,
        msgspec.json.encode(account),
        account.organisation,
        account.mode.value,
        account.created_at_us,
    )


def _stored(reader: Reader) -> list[Account]:
    """Return what is recorded, the owner, and whom keys and strategies name: each of those belongs to itself alone."""
    named = dict.fromkeys(row.owner for entity in _NAMING for row in reader.rows(entity))
    implied = [Account(id=name, name=name, organisation=name) for name in named if name not in ("", OWNER)]
    recorded = [msgspec.json.decode(row.data, type=Account) for row in reader.rows(ENTITY)]
    return list({each.id: each for each in (Account(id=OWNER, name=ORGANISATION), *implied, *recorded)}.values())
