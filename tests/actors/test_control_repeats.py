"""Idempotency keys: once means once, while it is under way, afterwards, and after a restart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
from attrs import define, field
from trio.testing import wait_all_tasks_blocked

from actors.remembered import ENTITY, KEPT_US, Entry, JournalMemory, Repeats
from pipaid.errors import ExchangeError, InvalidState, RateLimited
from pipaid.model.reply import Reply
from pipaid.model.report import KeyWithSecret, Pong
from pipaid.storage.store import JournalLost
from pipaid.wire.caller import Caller
from pipaid.wire.envelope import Outcome
from tests.actors.controls import RawClient, SetClock, Steps, open_control

ID = "strat_00000001"
DELETE: dict[str, Any] = {"id": ID}


@define
class Counting:
    """An operation that counts how often it acts, and may refuse."""

    acted: int = 0
    trouble: Exception | None = None

    async def perform(self, caller: Caller, request: Any) -> Reply:
        self.acted += 1
        if self.trouble is not None:
            raise self.trouble
        return Pong(ts=str(self.acted))


async def asked(client: RawClient, key: str, args: dict[str, Any] = DELETE, op: str = "strategy.delete") -> Any:
    await client.ask(1, op, args, idempotency_key=key)
    return await client.told()


async def test_the_same_request_is_answered_again_and_not_done_again(tmp_path: Path) -> None:
    counting = Counting()

    async with open_control(tmp_path, {"strategy.delete": counting.perform}) as control:
        async with control.client() as client, control.client() as other:
            answers = [await asked(client, "k"), await asked(other, "k"), await asked(client, "another")]

    assert [answer["result"]["ts"] for answer in answers] == ["1", "1", "2"]
    assert counting.acted == 2


async def test_a_key_of_another_request_is_refused(tmp_path: Path) -> None:
    counting = Counting()
    operations = {"strategy.delete": counting.perform, "strategy.reset": counting.perform}

    async with open_control(tmp_path, operations) as control, control.client() as client:
        await asked(client, "k")
        refused = [await asked(client, "k", {"id": "strat_2"}), await asked(client, "k", op="strategy.reset")]

    assert [answer["error"]["code"] for answer in refused] == ["INVALID_STATE"] * 2
    assert counting.acted == 1


async def test_the_same_request_in_other_words_is_the_same(tmp_path: Path) -> None:
    counting = Counting()

    async with open_control(tmp_path, {"strategy.deploy": counting.perform}) as control, control.client() as client:
        for args in (b'{"id":"x","capital":"100"}', b'{ "dry_run": false, "capital": 100, "id": "x" }'):
            await client.send(b'{"id":1,"op":"strategy.deploy","args":%b,"idempotency_key":"k"}' % args)
            assert (await client.told())["ok"] is True

    assert counting.acted == 1


async def test_a_request_under_way_is_joined(tmp_path: Path) -> None:
    steps = Steps(gates={ID: trio.Event()})

    async with open_control(tmp_path, {"strategy.delete": steps.perform}) as control:
        async with control.client() as client, control.client() as other, control.client() as third:
            await client.ask("a", "strategy.delete", DELETE, idempotency_key="k")
            await other.ask("b", "strategy.delete", DELETE, idempotency_key="k")
            await third.ask("c", "strategy.delete", {"id": "strat_2"}, idempotency_key="k")
            assert await third.code() == "INVALID_STATE"
            await wait_all_tasks_blocked()
            steps.gates[ID].set()
            answers = [await client.told(), await other.told()]

    assert [answer["id"] for answer in answers] == ["a", "b"]
    assert answers[0]["result"] == answers[1]["result"]
    assert steps.begun == [ID]


async def test_an_answer_outlives_the_daemon(tmp_path: Path) -> None:
    counting = Counting()
    for _ in range(2):
        async with open_control(tmp_path, {"strategy.delete": counting.perform}) as control:
            async with control.client() as client:
                assert (await asked(client, "k"))["result"]["ts"] == "1"
                assert (await asked(client, "k", {"id": "strat_2"}))["error"]["code"] == "INVALID_STATE"

    assert counting.acted == 1


async def test_a_request_that_the_daemon_did_not_survive_is_not_repeated(tmp_path: Path) -> None:
    steps = Steps(gates={ID: trio.Event()})
    async with open_control(tmp_path, {"strategy.delete": steps.perform}) as control, control.client() as client:
        await client.ask(1, "strategy.delete", DELETE, idempotency_key="k")
        await wait_all_tasks_blocked(0.05)

    async with open_control(tmp_path, {"strategy.delete": steps.perform}) as control, control.client() as client:
        answer = await asked(client, "k")

    assert answer["error"]["code"] == "INVALID_STATE"
    assert "while it carried this request out" in answer["error"]["message"]
    assert steps.begun == [ID]


async def test_what_was_refused_without_effect_may_be_tried_again(tmp_path: Path) -> None:
    counting = Counting(trouble=InvalidState("not now"))

    async with open_control(tmp_path, {"strategy.delete": counting.perform}) as control, control.client() as client:
        assert (await asked(client, "k"))["ok"] is False
        counting.trouble = None

        assert (await asked(client, "k", {"id": "strat_2"}))["result"]["ts"] == "2"


async def test_a_refusal_by_the_venue_is_remembered_because_effects_may_exist(tmp_path: Path) -> None:
    counting = Counting(trouble=ExchangeError("no confirmation"))

    async with open_control(tmp_path, {"strategy.delete": counting.perform}) as control, control.client() as client:
        first = await asked(client, "k")
        counting.trouble = None
        second = await asked(client, "k")

    assert first == second
    assert first["error"]["code"] == "EXCHANGE_ERROR"
    assert counting.acted == 1


async def test_a_day_later_a_key_is_new(tmp_path: Path) -> None:
    counting, clock = Counting(), SetClock()

    async with open_control(tmp_path, {"strategy.delete": counting.perform}, clock=clock) as control:
        async with control.client() as client:
            await asked(client, "k")
            clock.us += KEPT_US - 1
            await asked(client, "k")
            acted_within_the_day = counting.acted
            clock.us += 1
            await asked(client, "k", {"id": "strat_2"})
        entries = await control.recorder.read(lambda reader: list(reader.rows(ENTITY)))

    assert (acted_within_the_day, counting.acted) == (1, 2)
    assert len(entries) == 1


async def test_a_secret_is_shown_once_and_never_stored(tmp_path: Path) -> None:
    async def create(caller: Caller, request: Any) -> Reply:
        return KeyWithSecret(
            api_key="pk_1", name="bot", account_id="acct_main", scopes=("trade",), state="active",
            created_at="2026-01-01T00:00:00Z", expires_at=None, rotated_at=None, grace_until=None,
            secret="s3cr3t-canary",
        )  # fmt: skip

    args = {"name": "bot", "scopes": ["trade"]}
    async with open_control(tmp_path, {"key.create": create}) as control, control.client() as client:
        first = await asked(client, "k", args, "key.create")
        again = await asked(client, "k", args, "key.create")

    assert first["result"]["secret"] == "s3cr3t-canary"
    assert again["result"] == {**first["result"], "secret": None}
    stored = b"".join(path.read_bytes() for path in tmp_path.iterdir() if path.is_file())
    assert b"pk_1" in stored
    assert b"s3cr3t-canary" not in stored


@define
class Shelf:
    """Entries in a dictionary, beside a list of what was written."""

    entries: dict[str, Entry] = field(factory=dict[str, Entry])
    written: list[str] = field(factory=list[str])
    lost: bool = False

    def check(self) -> None:
        if self.lost:
            raise JournalLost("there is no disk any more")

    async def load(self) -> list[tuple[str, int]]:
        return [(key, entry.at_us) for key, entry in self.entries.items()]

    async def get(self, key: str) -> Entry | None:
        return self.entries.get(key)

    async def put(self, key: str, entry: Entry) -> None:
        await trio.lowlevel.checkpoint()
        self.check()
        self.written.append("answer" if entry.answer is not None else "begin")
        self.entries[key] = entry

    async def drop(self, keys: Any) -> None:
        self.check()
        self.written.append("drop")
        for key in keys:
            self.entries.pop(key, None)


async def test_a_request_is_noted_before_it_begins() -> None:
    shelf = Shelf()

    async def act() -> Outcome:
        shelf.written.append("act")
        return Outcome(ok=True, body=b"1", lasting=True)

    await Repeats(shelf, SetClock()).once("k", b"body", act)

    assert shelf.written == ["begin", "act", "answer"]


@pytest.mark.parametrize("lasting", [True, False])
async def test_what_became_of_a_request_is_told_even_if_it_cannot_be_remembered(lasting: bool) -> None:
    shelf = Shelf()

    async def act() -> Outcome:
        shelf.lost = True
        return Outcome(ok=lasting, body=b"1", lasting=lasting)

    outcome = await Repeats(shelf, SetClock()).once("k", b"body", act)

    assert (outcome.ok, outcome.body) == (lasting, b"1")
    # Whoever asks again is not served by doing it twice.
    assert shelf.written == ["begin"]
    assert list(shelf.entries) == ["k"]


async def test_the_memory_is_bounded_and_forgets_nothing_early() -> None:
    clock = SetClock()
    repeats = Repeats(Shelf(), clock, keys_max=3)

    async def act() -> Outcome:
        return Outcome(ok=True, body=b"1", lasting=True)

    for number in range(3):
        await repeats.once(f"k{number}", b"", act)
    with pytest.raises(RateLimited, match="send this without one"):
        await repeats.once("k3", b"", act)
    assert (await repeats.once("k0", b"", act)).ok
    clock.us += KEPT_US
    assert (await repeats.once("k3", b"", act)).ok


async def test_entries_survive_in_the_journal_as_they_were(tmp_path: Path) -> None:
    entry = Entry(body=b"\x00\xff", at_us=5, ok=True, answer='{"a":1}')

    async with open_control(tmp_path) as control:
        memory = JournalMemory(control.recorder)
        await memory.put("k", entry)
        assert await memory.get("k") == entry
        assert await memory.load() == [("k", 5)]
        await memory.drop(["k", "never there"])
        assert await memory.get("k") is None

    assert msgspec.json.decode(msgspec.json.encode(entry), type=Entry) == entry
