"""Accounts are durable before they count, belong to one organisation each, and trade in no mode that is not theirs."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
import trio
from attrs import define

from actors.accounts import ACCOUNTS_MAX, Accounts
from actors.keys import KeyRing
from actors.recorder import Recorder
from pipaid.errors import DuplicateName, InsufficientPermission, InvalidParameter, InvalidState
from pipaid.model.account import Account, AccountCreate, Mode
from pipaid.model.record import Batch
from pipaid.model.request import KeyCreate, Page
from pipaid.seams import SystemClock, SystemDisk, SystemIds
from pipaid.storage.sqlite import SqliteJournal
from pipaid.storage.store import Committed

MASTER_KEY = b"a master key of thirty-two bytes"


@define
class Operator:
    """Whoever may open the control socket."""

    account: str | None = None
    who: str = "uid 0"


@define
class Office:
    """Accounts, the keys beside them, and the recorder of both."""

    accounts: Accounts
    keys: KeyRing
    recorder: Recorder

    async def create(self, name: str, organisation: str = "main", **more: str) -> str:
        asked = msgspec.convert({"name": name, "organisation": organisation, **more}, AccountCreate)
        return (await self.accounts.account_create(Operator(), asked)).id


@asynccontextmanager
async def open_office(folder: Path) -> AsyncGenerator[Office, None]:
    clock = SystemClock()
    journal = SqliteJournal.open(folder / "journal.db", disk=SystemDisk(), clock=clock, pid=os.getpid())
    recorder = Recorder(journal, publish=lambda _: None, clock=clock, threaded=False)
    try:
        async with trio.open_nursery() as nursery:
            await nursery.start(recorder.run)
            accounts = Accounts(recorder, clock, SystemIds())
            await accounts.load()
            keys = KeyRing(recorder, clock, SystemIds(), MASTER_KEY, is_account=accounts.knows)
            await keys.load()
            yield Office(accounts, keys, recorder)
            nursery.cancel_scope.cancel()
    finally:
        journal.close()


async def test_the_owner_is_there_from_the_start_and_others_survive_a_restart(tmp_path: Path) -> None:
    async with open_office(tmp_path) as office:
        desk = await office.create("desk", "acme", mode="paper")
    async with open_office(tmp_path) as office:
        listed = (await office.accounts.account_list(Operator(), Page())).data

    assert [(each.id, each.name, each.organisation, each.venue, each.mode) for each in listed] == [
        (desk, "desk", "acme", "simulated", "paper"),
        ("acct_main", "main", "main", "simulated", "sim"),
    ]
    assert listed[0].created_at is not None
    assert listed[1].created_at is None


async def test_accounts_of_an_organisation_come_oldest_first(tmp_path: Path) -> None:
    async with open_office(tmp_path) as office:
        made = [await office.create("one", "acme"), await office.create("two", "acme")]
        other = await office.create("one", "other")

        assert office.accounts.of("acme") == made
        assert office.accounts.of("other") == [other]
        assert office.accounts.of("main") == ["acct_main"]
        assert list(office.accounts.of("nobody")) == []
        assert office.accounts.organisation_of(other) == "other"


async def test_a_name_is_given_once_in_an_organisation_however_many_ask_at_a_time(tmp_path: Path) -> None:
    refused: list[str] = []

    async def attempt(office: Office) -> None:
        try:
            await office.create("desk")
        except DuplicateName as trouble:
            refused.append(trouble.message)

    async with open_office(tmp_path) as office:
        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(attempt, office)
        with pytest.raises(DuplicateName):
            await office.create("main")
        await office.create("desk", "acme")

    assert len(refused) == 4


@pytest.mark.parametrize(
    ("more", "field", "told"),
    [
        ({"venue": "binance"}, "venue", "must be one of simulated"),
        ({"mode": "live"}, "mode", "say --mode sim or --mode paper"),
    ],
)
async def test_what_this_daemon_does_not_have_is_refused_with_what_to_say_instead(
    tmp_path: Path, more: dict[str, str], field: str, told: str
) -> None:
    async with open_office(tmp_path) as office:
        with pytest.raises(InvalidParameter, match=told) as refused:
            await office.create("desk", **more)

        assert [name for name, _ in refused.value.details] == [field]
        assert len((await office.accounts.account_list(Operator(), Page())).data) == 1


async def test_an_account_on_paper_deploys_nothing_but_dry_runs(tmp_path: Path) -> None:
    async with open_office(tmp_path) as office:
        paper, sim = await office.create("paper", mode="paper"), await office.create("sim")

        office.accounts.permit(paper, dry_run=True)
        office.accounts.permit(sim, dry_run=False)
        office.accounts.permit("acct_main", dry_run=False)
        with pytest.raises(InsufficientPermission, match="dry_run true"):
            office.accounts.permit(paper, dry_run=False)


async def test_a_key_is_made_for_no_account_but_one_that_there_is(tmp_path: Path) -> None:
    async with open_office(tmp_path) as office:
        desk = await office.create("desk")
        made = await office.keys.create(KeyCreate(name="x", scopes=("trade",), account_id=desk), account="acct_main")
        with pytest.raises(InvalidParameter, match=r"there is no account 'acct_nobody'.*account create") as refused:
            await office.keys.create(
                KeyCreate(name="x", scopes=("trade",), account_id="acct_nobody"), account="acct_main"
            )

    assert made.account_id == desk
    assert [name for name, _ in refused.value.details] == ["account_id"]


async def test_an_account_that_only_a_key_names_is_one_of_its_own(tmp_path: Path) -> None:
    async with open_office(tmp_path) as office:
        # As a daemon did it before accounts had rows.
        await office.keys.create(KeyCreate(name="old", scopes=("trade",)), account="acct_old")
    async with open_office(tmp_path) as office:
        await office.keys.create(KeyCreate(name="x", scopes=("trade",), account_id="acct_old"), account="acct_main")

        assert office.accounts.of("main") == ["acct_main"]
        assert office.accounts.of("acct_old") == ["acct_old"]
        assert len((await office.accounts.account_list(Operator(), Page())).data) == 2


async def test_an_account_with_keys_is_one_account_after_a_restart(tmp_path: Path) -> None:
    async with open_office(tmp_path) as office:
        first, second = await office.create("first", "acme"), await office.create("second", "acme")
        for each in (second, first):
            await office.keys.create(KeyCreate(name="x", scopes=("trade",), account_id=each), account="acct_main")
    async with open_office(tmp_path) as office:
        assert office.accounts.of("acme") == [first, second]
        assert len((await office.accounts.account_list(Operator(), Page())).data) == 3


async def test_pages_hold_each_account_once(tmp_path: Path) -> None:
    async with open_office(tmp_path) as office:
        made = [await office.create(f"desk {n}") for n in range(5)]
        seen: list[str] = []
        cursor: str | None = None
        while True:
            page = await office.accounts.account_list(Operator(), Page(limit=2, cursor=cursor))
            seen += [each.id for each in page.data]
            cursor = page.next_cursor
            if cursor is None:
                break
        own = await office.accounts.account_list(Operator(account=made[0]), Page())

    assert sorted(seen) == sorted([*made, "acct_main"])
    assert [each.id for each in own.data] == [made[0]]


async def test_accounts_have_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("actors.accounts.ACCOUNTS_MAX", 2)
    assert ACCOUNTS_MAX == 10_000

    async with open_office(tmp_path) as office:
        await office.create("desk")
        with pytest.raises(InvalidState):
            await office.create("one too many")


async def test_what_cannot_be_made_durable_is_not_there(tmp_path: Path) -> None:
    class Broken(Recorder):
        async def commit(self, batch: Batch) -> Committed:
            raise OSError("the disk is gone")

    async with open_office(tmp_path) as office:
        recorder = office.recorder
        office.accounts.writer = Broken(recorder.journal, publish=lambda _: None, clock=recorder.clock)
        with pytest.raises(OSError, match="the disk is gone"):
            await office.create("desk")

        assert (await office.accounts.account_list(Operator(), Page())).data[0].id == "acct_main"


def test_an_account_says_in_its_record_what_it_is() -> None:
    assert Account(id="acct_1", name="x") == Account(
        id="acct_1", name="x", organisation="main", venue="simulated", mode=Mode.SIM, created_at_us=0
    )
