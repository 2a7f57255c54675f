"""What a webhook is sent: the type of a stored event and the body of its letter, and how that is signed for."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any, Final

import msgspec

from pipaid.model.event import ACCOUNT_CHANNEL, BACKTEST_CHANNEL, STATUS_CHANNEL
from pipaid.model.job import Job
from pipaid.model.webhook import EVENT_TYPES, TEST

_ENCODER: Final = msgspec.json.Encoder()


def _types() -> dict[tuple[str, str], str]:
    found: dict[tuple[str, str], str] = {}
    for each in EVENT_TYPES:
        about, _, name = each.partition(".")
        if about == "backtest":
            found[BACKTEST_CHANNEL, name.removeprefix("job_")] = each
        elif about == "account" or name in ("created", "updated", "deleted"):
            found[ACCOUNT_CHANNEL, name] = each
        elif each != TEST:
            found[STATUS_CHANNEL, name] = each
    return found


# By channel and event. What is not here is told to no webhook.
TYPE_OF: Final = MappingProxyType(_types())


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """An event as it is stored; opt-in ones have no `seq`."""

    channel: str
    event: str
    id: str
    ts: str
    event_id: str
    data: dict[str, msgspec.Raw]
    seq: int = 0
    run_id: str | None = None
    dry_run: bool | None = None

    @property
    def type(self) -> str | None:
        """Return what webhooks know it as, or nothing if they hear nothing of it."""
        return TYPE_OF.get((self.channel, self.event))


_DECODER: Final = msgspec.json.Decoder(Told)


def told_in(frame: bytes) -> Told:
    """Return what a stored frame tells."""
    return _DECODER.decode(frame)


def letter(told: Told, *, name: str = "", job: Job | None = None) -> bytes:
    """Return the body that is sent of an event: of a strategy by this name, or of this job."""
    data: dict[str, Any]
    if told.channel == STATUS_CHANNEL:
        own = {"strategy_id": told.id, "name": name, "run_id": told.run_id, "dry_run": told.dry_run, "seq": told.seq}
        data = {**own, **told.data}
    elif told.channel == BACKTEST_CHANNEL:
        data = {"job_id": told.id, "status": told.data["status"]}
        if job is not None:
            data |= {"strategy_id": job.config.strategy_id} if job.config.strategy_id else {}
            data |= {"metrics": job.metrics} if job.metrics is not None else {}
            data |= {"error": job.error} if job.error is not None else {}
    else:
        data = {key: value for key, value in told.data.items() if key != "webhook_id"}
    assert told.type is not None, "only what webhooks hear of is made into letters"
    return sealed(told.event_id, told.type, told.ts, data)


def sealed(event_id: str, type: str, created_at: str, data: Any) -> bytes:
    """Return a body with its four members in their order."""
    return _ENCODER.encode({"id": event_id, "type": type, "created_at": created_at, "data": data})


def signed_text(timestamp: str, body: bytes) -> bytes:
    """Return what a delivery's signature is made over."""
    return b"%b.%b" % (timestamp.encode(), body)
