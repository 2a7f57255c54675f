"""Who is who to one daemon: its accounts, the keys of each, and the tokens of users. Part of the composition root."""

from __future__ import annotations

from collections.abc import Callable

from attrs import define

from actors.accounts import Accounts
from actors.actor import Writer
from actors.keys import KeyRing
from actors.tokens import Tokens
from pipaid.seams import World


@define(eq=False)
class Callers:
    """The parts that know whom a request speaks for."""

    accounts: Accounts
    keys: KeyRing
    tokens: Tokens

    @property
    def all(self) -> tuple[Accounts, KeyRing, Tokens]:
        """Return those who answer operations."""
        return self.accounts, self.keys, self.tokens

    async def load(self) -> None:
        """Read from the journal what each of them knows."""
        await self.accounts.load()
        await self.keys.load()
        await self.tokens.load()


def callers_of(writer: Writer, world: World, master_key: bytes, on_revoked: Callable[[str], None]) -> Callers:
    """Return the parts of a daemon with this master key."""
    accounts = Accounts(writer, world.clock, world.ids)
    keys = KeyRing(
        writer=writer,
        clock=world.clock,
        ids=world.ids,
        master_key=master_key,
        on_revoked=on_revoked,
        is_account=accounts.knows,
    )
    return Callers(accounts, keys, Tokens(writer, world.clock, world.ids, master_key, keys, accounts))
