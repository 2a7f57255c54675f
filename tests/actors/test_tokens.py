"""Tokens and borne keys: who they stand for, until when, and that nothing else stands for anybody."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import get_args

import msgspec
import pytest
import trio
from attrs import define
from hypothesis import given
from hypothesis import strategies as st

from actors.callers import Callers, callers_of
from actors.recorder import Recorder
from pipaid.errors import InvalidParameter, InvalidSignature, KeyExpired
from pipaid.model.account import AccountCreate, TokenCreate, TokenObject
from pipaid.model.request import KeyCreate, KeyRotate, Nothing, ScopeName
from pipaid.seams import SystemClock, SystemDisk, World
from pipaid.storage.sqlite import SqliteJournal
from pipaid.wire.signing import Scope
from pipaid.wire.token import TOKEN_CHARS_MAX, Claims, made_token

MASTER_KEY = b"a master key of thirty-two bytes"


@define
class HandClock(SystemClock):
    """A wall clock that stands still until it is moved."""

    at_us: int = 1_767_225_600_000_000

    def now_us(self) -> int:
        return self.at_us


@define
class Operator:
    """Whoever may open the control socket."""

    account: str | None = None
    who: str = "uid 0"


@define
class Office:
    """The parts that know who is who, with the clock they go by."""

    callers: Callers
    clock: HandClock
    recorder: Recorder

    async def token(
        self, user: str = "alice", *scopes: ScopeName, organisation: str = "main", ttl_s: int = 600
    ) -> TokenObject:
        asked = TokenCreate(
            user=user, organisation=organisation, scopes=scopes or ("strategies:read",), ttl_seconds=ttl_s
        )
        return await self.callers.tokens.token_create(Operator(), asked)

    async def account(self, name: str, organisation: str) -> str:
        self.clock.at_us += 1
        asked = AccountCreate(name=name, organisation=organisation)
        return (await self.callers.accounts.account_create(Operator(), asked)).id

    async def key(self, *, account: str = "acct_main", expires_at: int | None = None) -> tuple[str, str]:
        asked = KeyCreate(name="desk", scopes=("read-only",), expires_at=expires_at)
        made = await self.callers.keys.create(asked, account=account)
        assert isinstance(made.secret, str)
        return made.api_key, made.secret

    def refusal(self, authorization: str) -> str:
        with pytest.raises((InvalidSignature, KeyExpired)) as refused:
            self.callers.tokens.bear(authorization)
        return refused.value.code


@asynccontextmanager
async def open_office(folder: Path, *, master_key: bytes = MASTER_KEY) -> AsyncGenerator[Office, None]:
    clock = HandClock()
    folder.mkdir(exist_ok=True)
    journal = SqliteJournal.open(folder / "journal.db", disk=SystemDisk(), clock=clock, pid=os.getpid())
    recorder = Recorder(journal, publish=lambda _: None, clock=clock, threaded=False)
    try:
        async with trio.open_nursery() as nursery:
            await nursery.start(recorder.run)
            callers = callers_of(recorder, World(clock=clock), master_key, lambda _: None)
            await callers.load()
            yield Office(callers, clock, recorder)
            nursery.cancel_scope.cancel()
    finally:
        journal.close()


async def test_a_token_stands_for_its_user_with_the_scopes_it_was_made_with(tmp_path: Path) -> None:
    async with open_office(tmp_path) as office:
        made = await office.token("alice@example.com", "read-only", "strategies:write")
        caller = office.callers.tokens.bear(f"Bearer {made.token}")
        # A scheme is the same in small letters and in capitals.
        assert office.callers.tokens.bear(f"bEARER {made.token}") == caller

    assert (caller.user, caller.organisation, caller.account) == ("alice@example.com", "main", "acct_main")
    assert caller.api_key == ""
    assert caller.scopes == {
        Scope.STRATEGIES_READ, Scope.BACKTEST_READ, Scope.WEBHOOKS_READ, Scope.STRATEGIES_WRITE,
    }  # fmt: skip
    assert made.scopes == tuple(sorted(caller.scopes))
    assert made.expires_at == "2026-01-01T00:10:00Z"


async def test_what_a_user_makes_belongs_to_the_oldest_account_of_their_organisation(tmp_path: Path) -> None:
    async with open_office(tmp_path) as office:
        first = await office.account("first", "acme")
        await office.account("second", "acme")
        made = await office.token("bob", organisation="acme")

        assert made.account_id == first
        assert office.callers.tokens.bear(f"Bearer {made.token}").account == first


async def test_an_organisation_without_an_account_has_no_tokens(tmp_path: Path) -> None:
    async with open_office(tmp_path) as office:
        with pytest.raises(InvalidParameter, match="no account belongs to 'acme'"):
            await office.token("bob", organisation="acme")
        # One that was made where there was such an account is no way in where there is none.
        await office.account("desk", "acme")
        made = await office.token("bob", organisation="acme")
    async with open_office(tmp_path / "other", master_key=MASTER_KEY) as office:
        assert office.refusal(f"Bearer {made.token}") == "INVALID_SIGNATURE"


async def test_a_token_outlives_a_restart_and_neither_its_end_nor_a_rotation(tmp_path: Path) -> None:
    async with open_office(tmp_path) as office:
        made = await office.token(ttl_s=60)
    async with open_office(tmp_path) as office:
        assert office.callers.tokens.bear(f"Bearer {made.token}").user == "alice"
        office.clock.at_us += 60_000_000
        assert office.refusal(f"Bearer {made.token}") == "KEY_EXPIRED"
        office.clock.at_us -= 60_000_000
        assert (await office.callers.tokens.token_rotate(Operator(), Nothing())).version == 2
        assert office.refusal(f"Bearer {made.token}") == "INVALID_SIGNATURE"
        after = await office.token()
    async with open_office(tmp_path) as office:
        assert office.refusal(f"Bearer {made.token}") == "INVALID_SIGNATURE"
        assert office.callers.tokens.bear(f"Bearer {after.token}").user == "alice"


async def test_the_tokens_of_another_daemon_open_nothing(tmp_path: Path) -> None:
    async with open_office(tmp_path) as office:
        made = await office.token()
    async with open_office(tmp_path, master_key=b"another master key of 32 bytes..") as office:
        assert office.refusal(f"Bearer {made.token}") == "INVALID_SIGNATURE"


async def test_nothing_of_a_token_is_kept(tmp_path: Path) -> None:
    async with open_office(tmp_path) as office:
        made = await office.token()
        await office.callers.tokens.token_rotate(Operator(), Nothing())

    kept = b"".join(each.read_bytes() for each in tmp_path.rglob("*") if each.is_file())
    assert made.token is not None
    assert made.token.rpartition(".")[2].encode() not in kept
    assert made.token_id.encode() not in kept


async def test_a_key_is_borne_with_its_secret_and_never_alone(tmp_path: Path) -> None:
    async with open_office(tmp_path) as office:
        api_key, secret = await office.key(account="acct_two")
        caller = office.callers.tokens.bear(f"Bearer {api_key}:{secret}")

        for shown in (
            api_key,
            f"{api_key}:",
            f":{secret}",
            f"{api_key}:{secret} ",
            f" {api_key}:{secret}",
            f"{api_key}:{secret[:-1]}",
            f"{api_key}:{secret}x",
            f"{api_key}:{secret.swapcase()}",
            f"{api_key}:{'é' * len(secret)}",
            f"pk_000000000000000000000000:{secret}",
            f"{api_key}:{api_key}:{secret}",
            secret,
        ):
            assert office.refusal(f"Bearer {shown}") == "INVALID_SIGNATURE", shown

    assert (caller.api_key, caller.account, caller.user, caller.organisation) == (api_key, "acct_two", "", "")
    assert Scope.STRATEGIES_READ in caller.scopes


async def test_a_borne_key_ends_as_a_signing_one_does(tmp_path: Path) -> None:
    async with open_office(tmp_path) as office:
        now_ms = office.clock.now_us() // 1_000
        api_key, secret = await office.key()
        short, short_secret = await office.key(expires_at=now_ms + 60_000)
        rotated = await office.callers.keys.rotate(KeyRotate(id=api_key, grace_s=60))
        bear = office.callers.tokens.bear

        assert bear(f"Bearer {api_key}:{secret}").api_key == bear(f"Bearer {api_key}:{rotated.secret}").api_key
        office.clock.at_us += 60_000_000
        assert office.refusal(f"Bearer {api_key}:{secret}") == "KEY_EXPIRED"
        assert office.refusal(f"Bearer {short}:{short_secret}") == "KEY_EXPIRED"
        assert bear(f"Bearer {api_key}:{rotated.secret}").api_key == api_key
        await office.callers.keys.revoke(api_key)
        assert office.refusal(f"Bearer {api_key}:{rotated.secret}") == "KEY_EXPIRED"


async def test_an_unknown_key_costs_the_work_of_a_known_one_and_reads_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    derived: list[str] = []
    told: list[str] = []

    def count(master_key: bytes, api_key: str, version: int) -> str:
        derived.append(api_key)
        return "s" * 40

    async with open_office(tmp_path) as office:
        api_key, _ = await office.key()
        monkeypatch.setattr("actors.keys.derive_secret", count)
        for each in (api_key, "pk_unknown"):
            with pytest.raises(InvalidSignature) as refused:
                office.callers.tokens.bear(f"Bearer {each}:{'x' * 40}")
            told.append(refused.value.message)

    assert derived == [api_key] * 2 + ["pk_unknown"] * 2
    assert told[0] == told[1]


async def test_no_secret_of_a_key_signs_a_token(tmp_path: Path) -> None:
    async with open_office(tmp_path) as office:
        _, secret = await office.key()
        at_s = office.clock.now_us() // 1_000_000
        claims = Claims(sub="eve", org="main", scope="admin", iat=at_s, exp=at_s + 60, jti="tok_1")
        for key in (secret.encode(), MASTER_KEY, b""):
            assert office.refusal(f"Bearer {made_token(claims, key, 1)}") == "INVALID_SIGNATURE"


NONSENSE: Sequence[str] = (
    "", "Bearer", "Bearer ", "Basic YWxpY2U6c2VjcmV0", "Digest x", "Bearer Bearer a.b.c", "Bearer\ta.b.c", "Bearer ..",
    "Bearer .", "Bearer :", "Bearer x", "Bearer " + "x" * 60_000, "Bearer " + "x." * 30_000, "Bearer " + ":" * 60_000,
    "Bearer " + "x" * TOKEN_CHARS_MAX + ":y", "Bearer é.é.é", "Bearer \x00.\x00.\x00",
)  # fmt: skip


async def test_a_header_that_is_none_is_refused_as_nobodys(tmp_path: Path) -> None:
    async with open_office(tmp_path) as office:
        assert [office.refusal(each) for each in NONSENSE] == ["INVALID_SIGNATURE"] * len(NONSENSE)


@given(st.text(max_size=300))
def test_whatever_is_shown_is_refused_and_breaks_nothing(shown: str) -> None:
    clock = HandClock()
    callers = callers_of(None, World(clock=clock), MASTER_KEY, lambda _: None)  # type: ignore[arg-type]  # It is not written to.

    for authorization in (shown, f"Bearer {shown}"):
        with pytest.raises(InvalidSignature):
            callers.tokens.bear(authorization)


@pytest.mark.parametrize(
    "wrong",
    [
        {"user": ""}, {"user": "a b"}, {"user": "a/b"}, {"user": "é"}, {"user": "a\n"}, {"user": "x" * 65},
        {"organisation": "Acme"}, {"organisation": ""}, {"organisation": "a/b"}, {"scopes": []},
        {"scopes": ["everything"]}, {"ttl_seconds": 59}, {"ttl_seconds": 2_592_001}, {"ttl_seconds": "60"},
    ],
)  # fmt: skip
def test_a_token_for_nobody_or_for_ever_cannot_be_asked_for(wrong: dict[str, object]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"user": "alice", "scopes": ["trade"], **wrong}, TokenCreate)


async def test_the_longest_token_there_can_be_is_within_the_bound(tmp_path: Path) -> None:
    async with open_office(tmp_path) as office:
        await office.account("desk", "o" * 64)
        made = await office.token("u" * 64, *get_args(ScopeName), organisation="o" * 64)

        assert made.token is not None
        assert len(made.token) <= TOKEN_CHARS_MAX
        assert len(office.callers.tokens.bear(f"Bearer {made.token}").scopes) == len(Scope)
