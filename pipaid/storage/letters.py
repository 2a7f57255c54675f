"""Letters out of the log: which events concern whose webhooks, and what each of those is sent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec
from attrs import define, field

from pipaid.model.event import ACCOUNT_CHANNEL, BACKTEST_CHANNEL, EVERYBODY, account_told
from pipaid.model.job import Job
from pipaid.model.letter import Told, letter, told_in
from pipaid.model.webhook import BALANCE_LOW, Webhook
from pipaid.storage.store import Reader

# So many events are looked at in one go.
READ_MAX: Final = 256


class Found(msgspec.Struct, frozen=True):
    """A letter for one webhook; `n` is the record of its event."""

    n: int
    webhook_id: str
    event_id: str
    type: str
    body: bytes


def found_letters(
    reader: Reader, *, after_n: int, until_n: int, accounts: Mapping[str, list[Webhook]]
) -> tuple[int, list[Found]]:
    """Return the letters that follow from the next events, and the record up to which that is all."""
    events = reader.told(after_n=after_n, until_n=until_n, limit=READ_MAX)
    looks = _Looks(reader)
    found: list[Found] = []
    for event in events:
        told = told_in(event.frame)
        kind = told.type
        if kind is None:
            continue
        hooks = looks.hooks_of(told, accounts)
        hearing = [hook for hook in hooks if hook.hears(kind, event.n) and _is_meant(told, kind, hook)]
        if hearing:
            body = looks.letter(told)
            found += [Found(event.n, hook.id, told.event_id, kind, body) for hook in hearing]
    return (events[-1].n if len(events) == READ_MAX else until_n), found


def _is_meant(told: Told, type: str, hook: Webhook) -> bool:
    """Tell whether a webhook is the one that asked for a notice, if it is of that kind."""
    return type != BALANCE_LOW or msgspec.json.decode(told.data["webhook_id"]) == hook.id


class _Named(msgspec.Struct, frozen=True):
    name: str


class _Strategy(msgspec.Struct, frozen=True):
    """As much of a strategy as a letter tells."""

    account: str
    definition: _Named


@define(eq=False)
class _Looks:
    """What letters need of the strategies and jobs that they are about, looked up once."""

    reader: Reader
    _strategies: dict[str, _Strategy | None] = field(factory=dict[str, _Strategy | None])
    _jobs: dict[str, Job | None] = field(factory=dict[str, Job | None])

    def hooks_of(self, told: Told, accounts: Mapping[str, list[Webhook]]) -> list[Webhook]:
        """Return the webhooks of those whom an event concerns."""
        if told.id == EVERYBODY:
            return [hook for hooks in accounts.values() for hook in hooks]
        account: str | None
        if told.channel == ACCOUNT_CHANNEL:
            account = account_told(told.id)
        elif told.channel == BACKTEST_CHANNEL:
            job = self._job(told.id)
            account = None if job is None else job.account
        else:
            strategy = self._strategy(told.id)
            account = None if strategy is None else strategy.account
        return [] if account is None else accounts.get(account, [])

    def letter(self, told: Told) -> bytes:
        """Return the letter about an event."""
        if told.channel == BACKTEST_CHANNEL:
            return letter(told, job=self._job(told.id))
        strategy = None if told.channel == ACCOUNT_CHANNEL else self._strategy(told.id)
        return letter(told, name=strategy.definition.name if strategy is not None else "")

    def _strategy(self, id: str) -> _Strategy | None:
        if id not in self._strategies:
            row = self.reader.get("strategy", id)
            self._strategies[id] = None if row is None else msgspec.json.decode(row.data, type=_Strategy)
        return self._strategies[id]

    def _job(self, id: str) -> Job | None:
        if id not in self._jobs:
            row = self.reader.get("backtest", id)
            self._jobs[id] = None if row is None else msgspec.json.decode(row.data, type=Job)
        return self._jobs[id]
