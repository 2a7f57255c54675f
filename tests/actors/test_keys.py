"""Keys are durable before they count, keep no secret, and open exactly what and as long as they should."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TypeVar

import msgspec
import pytest
import trio
from attrs import define

from actors.actor import Writer
from actors.keys import GRACE_S, ApiKey, KeyObject, KeyRing
from actors.recorder import Recorder
from pipaid.errors import InvalidParameter, InvalidSignature, InvalidState, KeyExpired, NotFound
from pipaid.model.record import Batch
from pipaid.model.request import KeyCreate, KeyRotate
from pipaid.seams import SystemClock, SystemDisk, SystemIds
from pipaid.storage.derived import API_KEY as ENTITY
from pipaid.storage.sqlite import SqliteJournal
from pipaid.storage.store import Committed, JournalRefused, Reader
from pipaid.wire.signing import Scope, SignedRequest, canonical, sign

MASTER_KEY = b"a master key of thirty-two bytes"
DAY_US = 86_400_000_000

T = TypeVar("T")


@define
class HandClock(SystemClock):
    """A wall clock that stands still until it is moved."""

    at_us: int = 1_767_225_600_000_000

    def now_us(self) -> int:
        return self.at_us


@define
class CancellingWriter:
    """A writer whose caller is cancelled as soon as it has handed something over."""

    writer: Writer
    scope: trio.CancelScope

    def submit(
        self, batch: Batch, then: Callable[[Committed | JournalRefused | BaseException], None] | None = None
    ) -> None:
        self.writer.submit(batch, then)
        self.scope.cancel()

    async def commit(self, batch: Batch) -> Committed:
        return await self.writer.commit(batch)

    async def read(self, function: Callable[[Reader], T]) -> T:
        return await self.writer.read(function)


@asynccontextmanager
async def open_ring(folder: Path, clock: HandClock, *, master_key: bytes = MASTER_KEY) -> AsyncGenerator[KeyRing]:
    journal = SqliteJournal.open(folder / "journal.db", disk=SystemDisk(), clock=clock, pid=os.getpid())
    recorder = Recorder(journal, publish=lambda _: None, clock=clock)
    try:
        async with trio.open_nursery() as nursery:
            await nursery.start(recorder.run)
            ring = KeyRing(recorder, clock, SystemIds(), master_key)
            await ring.load()
            yield ring
            nursery.cancel_scope.cancel()
    finally:
        journal.close()


def signed(key: KeyObject, clock: HandClock, *, secret: str | None = None, target: str = "/v1/ws") -> SignedRequest:
    made = secret or key.secret
    assert isinstance(made, str)
    timestamp = str(clock.now_us() // 1000)
    return SignedRequest(
        api_key=key.api_key,
        timestamp=timestamp,
        signature=sign(made.encode(), canonical(timestamp, "GET", target)),
        method="GET",
        target=target,
    )


def new_key(*, scopes: tuple[str, ...] = ("trade",), expires_at: int | None = None) -> KeyCreate:
    return msgspec.convert({"name": "desk", "scopes": scopes, "expires_at": expires_at}, KeyCreate)


async def test_a_new_key_authenticates_as_its_account_with_its_scopes(tmp_path: Path) -> None:
    clock = HandClock()
    async with open_ring(tmp_path, clock) as ring:
        key = await ring.create(new_key(scopes=("read-only",)), account="acct_1")
        caller = ring.authenticate(signed(key, clock))

    assert caller.api_key == key.api_key
    assert caller.account == "acct_1"
    assert caller.scopes == {Scope.STRATEGIES_READ, Scope.BACKTEST_READ, Scope.WEBHOOKS_READ}


async def test_the_request_may_name_another_account(tmp_path: Path) -> None:
    clock = HandClock()
    async with open_ring(tmp_path, clock) as ring:
        key = await ring.create(KeyCreate(name="x", scopes=("admin",), account_id="acct_2"), account="acct_1")

        assert ring.authenticate(signed(key, clock)).account == "acct_2"


async def test_keys_survive_a_restart_and_no_secret_is_on_the_disk(tmp_path: Path) -> None:
    clock = HandClock()
    async with open_ring(tmp_path, clock) as ring:
        key = await ring.create(new_key(), account="acct_1")
        rotated = await ring.rotate(KeyRotate(id=key.api_key))
    async with open_ring(tmp_path, clock) as ring:
        assert ring.authenticate(signed(rotated, clock)).account == "acct_1"
        assert ring.authenticate(signed(key, clock)).account == "acct_1"

    stored = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert key.api_key.encode() in stored
    for secret in (key.secret, rotated.secret, MASTER_KEY.decode()):
        assert isinstance(secret, str)
        assert secret.encode() not in stored


async def test_another_master_key_makes_every_secret_worthless(tmp_path: Path) -> None:
    clock = HandClock()
    async with open_ring(tmp_path, clock) as ring:
        key = await ring.create(new_key(), account="acct_1")
    async with open_ring(tmp_path, clock, master_key=b"another" * 8) as ring:
        with pytest.raises(InvalidSignature):
            ring.authenticate(signed(key, clock))


async def test_an_unknown_key_and_a_bad_signature_are_told_apart_by_nobody(tmp_path: Path) -> None:
    clock = HandClock()
    async with open_ring(tmp_path, clock) as ring:
        key = await ring.create(new_key(), account="acct_1")
        unknown = msgspec.structs.replace(signed(key, clock), api_key="pk_unknown")

        with pytest.raises(InvalidSignature) as bad:
            ring.authenticate(signed(key, clock, secret="wrong"))
        with pytest.raises(InvalidSignature) as nobody:
            ring.authenticate(unknown)

    assert bad.value.message == nobody.value.message


async def test_a_signature_is_computed_as_often_for_an_unknown_key_as_for_a_known_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = HandClock()
    counts: list[int] = []
    async with open_ring(tmp_path, clock) as ring:
        key = await ring.create(new_key(), account="acct_1")
        for request in (
            signed(key, clock),
            signed(key, clock, secret="wrong"),
            msgspec.structs.replace(signed(key, clock), api_key="pk_unknown"),
        ):
            counts.append(0)

            def counted(secret: bytes, message: bytes) -> str:
                counts[-1] += 1
                return sign(secret, message)

            monkeypatch.setattr("pipaid.wire.signing.sign", counted)
            with suppress(InvalidSignature):
                ring.authenticate(request)

    assert counts == [2, 2, 2]


async def test_a_rotated_secret_stays_good_for_the_grace_and_then_reads_expired(tmp_path: Path) -> None:
    clock = HandClock()
    async with open_ring(tmp_path, clock) as ring:
        key = await ring.create(new_key(), account="acct_1")
        rotated = await ring.rotate(KeyRotate(id=key.api_key))
        assert rotated.secret != key.secret
        assert rotated.version == 2

        clock.at_us += GRACE_S * 1_000_000 - 1_000
        ring.authenticate(signed(key, clock))
        ring.authenticate(signed(rotated, clock))
        clock.at_us += 1_000
        ring.authenticate(signed(rotated, clock))
        with pytest.raises(KeyExpired, match="rotated"):
            ring.authenticate(signed(key, clock))


async def test_who_was_authenticated_with_a_rotated_secret_is_so_no_longer_than_it_is_good(tmp_path: Path) -> None:
    clock = HandClock()
    async with open_ring(tmp_path, clock) as ring:
        key = await ring.create(new_key(), account="acct_1")
        before = ring.authenticate(signed(key, clock))
        rotated = await ring.rotate(KeyRotate(id=key.api_key, grace_s=10))
        after = ring.authenticate(signed(rotated, clock))

        clock.at_us += 9_999_000
        assert (ring.is_live(before), ring.is_live(after)) == (True, True)
        clock.at_us += 1_000
        assert (ring.is_live(before), ring.is_live(after)) == (False, True)


async def test_without_grace_the_old_secret_ends_at_once(tmp_path: Path) -> None:
    clock = HandClock()
    async with open_ring(tmp_path, clock) as ring:
        key = await ring.create(new_key(), account="acct_1")
        await ring.rotate(KeyRotate(id=key.api_key, grace_s=0))

        with pytest.raises(KeyExpired):
            ring.authenticate(signed(key, clock))


async def test_two_rotations_leave_the_first_secret_behind_at_once(tmp_path: Path) -> None:
    clock = HandClock()
    async with open_ring(tmp_path, clock) as ring:
        key = await ring.create(new_key(), account="acct_1")
        second = await ring.rotate(KeyRotate(id=key.api_key))
        third = await ring.rotate(KeyRotate(id=key.api_key))

        ring.authenticate(signed(second, clock))
        ring.authenticate(signed(third, clock))
        with pytest.raises(InvalidSignature):
            ring.authenticate(signed(key, clock))


async def test_concurrent_rotations_each_make_a_version_of_their_own(tmp_path: Path) -> None:
    clock = HandClock()
    made: list[KeyObject] = []
    async with open_ring(tmp_path, clock) as ring:
        key = await ring.create(new_key(), account="acct_1")

        async def rotate() -> None:
            made.append(await ring.rotate(KeyRotate(id=key.api_key)))

        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(rotate)

    assert sorted(key.version for key in made) == list(range(2, 12))


async def test_a_revoked_key_reads_expired_to_its_holder_and_is_announced(tmp_path: Path) -> None:
    clock = HandClock()
    told: list[str] = []
    async with open_ring(tmp_path, clock) as ring:
        ring.on_revoked = told.append
        key = await ring.create(new_key(), account="acct_1")
        caller = ring.authenticate(signed(key, clock))
        shown = await ring.revoke(key.api_key)

        assert shown.status == "revoked"
        assert told == [key.api_key]
        assert not ring.is_live(caller)
        with pytest.raises(KeyExpired):
            ring.authenticate(signed(key, clock))
        with pytest.raises(InvalidSignature):
            ring.authenticate(signed(key, clock, secret="guessed"))
        with pytest.raises(InvalidState):
            await ring.rotate(KeyRotate(id=key.api_key))
        with pytest.raises(InvalidState):
            await ring.revoke(key.api_key)
    async with open_ring(tmp_path, clock) as ring:
        with pytest.raises(KeyExpired):
            ring.authenticate(signed(key, clock))


async def test_a_key_ends_at_its_expiry(tmp_path: Path) -> None:
    clock = HandClock()
    async with open_ring(tmp_path, clock) as ring:
        with pytest.raises(InvalidParameter, match="expires_at"):
            await ring.create(new_key(expires_at=clock.now_us() // 1000), account="acct_1")
        key = await ring.create(new_key(expires_at=clock.now_us() // 1000 + 60_000), account="acct_1")

        clock.at_us += 59_999_000
        caller = ring.authenticate(signed(key, clock))
        assert ring.is_live(caller)
        clock.at_us += 1_000
        assert not ring.is_live(caller)
        assert ring.list().data[0].status == "expired"
        with pytest.raises(KeyExpired, match="expired"):
            ring.authenticate(signed(key, clock))


async def test_an_unknown_key_is_not_found(tmp_path: Path) -> None:
    async with open_ring(tmp_path, HandClock()) as ring:
        with pytest.raises(NotFound):
            await ring.revoke("pk_none")
        with pytest.raises(NotFound):
            await ring.rotate(KeyRotate(id="pk_none"))


async def test_the_list_shows_all_keys_newest_first_without_secrets(tmp_path: Path) -> None:
    clock = HandClock()
    async with open_ring(tmp_path, clock) as ring:
        first = await ring.create(new_key(), account="acct_1")
        clock.at_us += DAY_US
        second = await ring.create(new_key(), account="acct_1")
        listed = ring.list()

    assert [key.api_key for key in listed.data] == [second.api_key, first.api_key]
    assert b'"secret"' not in msgspec.json.encode(listed)


async def test_a_mutation_is_accepted_once_and_a_read_as_often_as_it_comes(tmp_path: Path) -> None:
    clock = HandClock()
    async with open_ring(tmp_path, clock) as ring:
        key = await ring.create(new_key(), account="acct_1")
        request = signed(key, clock)
        ring.authenticate(request)
        ring.authenticate(request)

        ring.authenticate(request, mutating=True)
        with pytest.raises(InvalidSignature, match="before"):
            ring.authenticate(request, mutating=True)


async def test_a_change_counts_although_its_asker_was_cancelled_while_it_waited(tmp_path: Path) -> None:
    async with open_ring(tmp_path, HandClock()) as ring:
        writer = ring.writer
        with trio.CancelScope() as scope:
            ring.writer = CancellingWriter(writer, scope)
            await ring.create(new_key(), account="acct_1")
        (key,) = ring.list().data
        row = await writer.read(lambda reader: reader.get(ENTITY, key.api_key))

    assert row is not None
    assert msgspec.json.decode(row.data, type=ApiKey).account == "acct_1"


async def test_the_master_key_is_shown_nowhere(tmp_path: Path) -> None:
    async with open_ring(tmp_path, HandClock()) as ring:
        assert MASTER_KEY.decode() not in repr(ring)


async def test_a_mutation_that_the_process_before_may_have_heard_is_refused(tmp_path: Path) -> None:
    clock = HandClock()
    async with open_ring(tmp_path, clock) as ring:
        key = await ring.create(KeyCreate(name="one", scopes=("trade",)), account="acct_main")
        command = signed(key, clock)
        ring.authenticate(command, mutating=True)

    clock.at_us += 5_000_000
    async with open_ring(tmp_path, clock) as ring:
        with pytest.raises(InvalidSignature, match="before this daemon started"):
            ring.authenticate(command, mutating=True)
        assert ring.authenticate(command).api_key == key.api_key
        assert ring.authenticate(signed(key, clock), mutating=True).api_key == key.api_key


async def test_a_rotation_is_told_to_the_account_with_no_more_than_the_beginning_of_the_key(tmp_path: Path) -> None:
    clock = HandClock()
    async with open_ring(tmp_path, clock) as ring:
        key = await ring.create(new_key(), account="acct_1")
        await ring.rotate(KeyRotate(id=key.api_key, grace_s=60))
        (event,) = await ring.writer.read(lambda reader: reader.events("account/acct_1", after_seq=0, limit=9))

    frame = msgspec.json.decode(event.frame)
    assert (frame["channel"], frame["event"]) == ("account.status", "api_key_rotated")
    assert frame["data"] == {
        "key_prefix": key.api_key[:11],
        "rotated_at": "2026-01-01T00:00:00Z",
        "grace_until": "2026-01-01T00:01:00Z",
    }
    assert key.api_key.encode() not in event.frame
