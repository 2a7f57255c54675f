"""A webhook: how it is asked for and shown, what it hears of, and the tables of its life and of a delivery's."""

from __future__ import annotations

from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Any, Final, Literal, get_args

import msgspec
from msgspec import UNSET, Meta, UnsetType

from pipaid.errors import InvalidState
from pipaid.model.moment import iso_millis, iso_seconds
from pipaid.model.money import plain
from pipaid.model.reply import Reply
from pipaid.model.request import Amount, Id, Limit, Page, Request

PREFIX: Final = "wh"
WEBHOOKS_PER_ACCOUNT_MAX: Final = 50
LIMIT_DEFAULT: Final = 25
URL_MAX: Final = 2_048
DESCRIPTION_MAX: Final = 200
BALANCE_LOW: Final = "account.balance_low"
TEST: Final = "webhook.test"
SECRET_WARNING: Final = "Keep this secret: it is shown this once and cannot be read again."  # noqa: S105 - no secret

# Attempt 2 comes so long after the first has failed, and so on; the last one comes a day after the event.
RETRY_DELAYS_S: Final = (1, 5, 30, 120, 600, 1_800, 7_200, 21_600)
ATTEMPTS_MAX: Final = len(RETRY_DELAYS_S) + 2
GIVEN_UP_AFTER_MS: Final = 24 * 3_600_000
EXHAUSTED_IN_A_ROW_MAX: Final = 3
FAILURES_IN_A_ROW_MAX: Final = 50
# A receiver that starts anew is away for minutes, and on a busy account fails that often within seconds.
FAILING_MS_MIN: Final = 3_600_000

EventType = Literal[
    "strategy.created", "strategy.updated", "strategy.deleted", "strategy.deployed", "strategy.paused",
    "strategy.stopped", "strategy.error", "strategy.position_opened", "strategy.position_closed",
    "strategy.order_placed", "strategy.order_filled", "strategy.order_cancelled", "backtest.job_done",
    "backtest.job_failed", "backtest.job_cancelled", "account.balance_low", "account.api_key_rotated",
    "account.kill_switch", "webhook.test",
]  # fmt: skip
Wildcard = Literal["*", "strategy.*", "backtest.*", "account.*"]
EVENT_TYPES: Final[tuple[str, ...]] = get_args(EventType)
WILDCARDS: Final[tuple[str, ...]] = get_args(Wildcard)


class WebhookStatus(StrEnum):
    """Where a webhook stands."""

    ACTIVE = "active"
    PAUSED = "paused"
    BROKEN = "broken"


class WebhookAction(StrEnum):
    """What happens to a webhook: `activate` and `pause` are asked for, `break` and `prove` follow from deliveries."""

    ACTIVATE = "activate"
    PAUSE = "pause"
    BREAK = "break"
    PROVE = "prove"


# A test that is answered well proves that a receiver works again.
WEBHOOK_TRANSITIONS: Final[dict[tuple[WebhookStatus, WebhookAction], WebhookStatus]] = {
    (WebhookStatus.ACTIVE, WebhookAction.ACTIVATE): WebhookStatus.ACTIVE,
    (WebhookStatus.ACTIVE, WebhookAction.PAUSE): WebhookStatus.PAUSED,
    (WebhookStatus.ACTIVE, WebhookAction.BREAK): WebhookStatus.BROKEN,
    (WebhookStatus.ACTIVE, WebhookAction.PROVE): WebhookStatus.ACTIVE,
    (WebhookStatus.PAUSED, WebhookAction.ACTIVATE): WebhookStatus.ACTIVE,
    (WebhookStatus.PAUSED, WebhookAction.PAUSE): WebhookStatus.PAUSED,
    (WebhookStatus.PAUSED, WebhookAction.PROVE): WebhookStatus.PAUSED,
    (WebhookStatus.BROKEN, WebhookAction.ACTIVATE): WebhookStatus.ACTIVE,
    (WebhookStatus.BROKEN, WebhookAction.PAUSE): WebhookStatus.PAUSED,
    (WebhookStatus.BROKEN, WebhookAction.PROVE): WebhookStatus.ACTIVE,
}


def webhook_after(status: WebhookStatus, action: WebhookAction) -> WebhookStatus:
    """Return the status after an action; refuse what the table does not hold, naming what is allowed."""
    try:
        return WEBHOOK_TRANSITIONS[status, action]
    except KeyError:
        allowed = ", ".join(sorted(before.value for before, act in WEBHOOK_TRANSITIONS if act is action))
        raise InvalidState(f"cannot {action} a webhook that is {status}; allowed from: {allowed}") from None


class DeliveryState(StrEnum):
    """Where a delivery stands: it waits for its next attempt, was taken, or will not be tried again."""

    WAITING = "waiting"
    DELIVERED = "delivered"
    EXHAUSTED = "exhausted"


class Verdict(StrEnum):
    """What an attempt came to, or what its time did: `late` is one whose day has passed while nothing was sent."""

    TAKEN = "taken"
    FAILED = "failed"
    FAILED_AT_LAST = "failed at last"
    LATE = "late"


DELIVERY_TRANSITIONS: Final[dict[tuple[DeliveryState, Verdict], DeliveryState]] = {
    (DeliveryState.WAITING, Verdict.TAKEN): DeliveryState.DELIVERED,
    (DeliveryState.WAITING, Verdict.FAILED): DeliveryState.WAITING,
    (DeliveryState.WAITING, Verdict.FAILED_AT_LAST): DeliveryState.EXHAUSTED,
    (DeliveryState.WAITING, Verdict.LATE): DeliveryState.EXHAUSTED,
}


class Webhook(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A webhook as the journal holds it; it hears of events whose record comes after `since_n`.

    `until_n` is the last record of which it heard before it was paused or broke, 0 while it is active. `version` is
    that of its secret, which is derived when it is needed and kept nowhere.
    """

    id: str
    account: str
    url: str
    events: tuple[str, ...]
    created_at_us: int
    description: str | None = None
    balance_low_threshold: Decimal | None = None
    status: WebhookStatus = WebhookStatus.ACTIVE
    version: int = 1
    since_n: int = 0
    until_n: int = 0

    def hears(self, type: str, n: int) -> bool:
        """Tell whether an event of this type with this record is delivered."""
        in_time = n > self.since_n and (self.status is WebhookStatus.ACTIVE or n <= self.until_n)
        return in_time and covers(self.events, type)


class Standing(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How the deliveries of a webhook went; `ended` counts those that have come to an end.

    `failing_since_ms` is the first failure of those in a row.
    """

    failures: int = 0
    failing_since_ms: int = 0
    exhausted: int = 0
    last_delivery_at_ms: int = 0
    last_success_at_ms: int = 0
    ended: int = 0

    @property
    def is_hopeless(self) -> bool:
        """Tell whether so much has failed in a row, and for so long, that nothing more is sent."""
        failing_ms = self.last_delivery_at_ms - self.failing_since_ms
        is_gone = self.failures >= FAILURES_IN_A_ROW_MAX and failing_ms >= FAILING_MS_MIN
        return is_gone or self.exhausted >= EXHAUSTED_IN_A_ROW_MAX


class Delivery(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One event on its way to one webhook; `taken_at_ms` is when the daemon began with it, on the wall clock."""

    id: str
    webhook_id: str
    event_id: str
    type: str
    taken_at_ms: int
    state: DeliveryState = DeliveryState.WAITING
    attempts: int = 0
    due_ms: int = 0
    last_attempt_at_ms: int = 0
    response_status: int | None = None
    response_time_ms: int | None = None
    error: str | None = None


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What one attempt came to: the answer's status and how long it took, or why there was none."""

    status: int | None = None
    time_ms: int | None = None
    error: str | None = None

    @property
    def is_taken(self) -> bool:
        """Tell whether the receiver took it."""
        return self.error is None and self.status is not None and 200 <= self.status < 300


def covers(patterns: tuple[str, ...], type: str) -> bool:
    """Tell whether a subscription to these types and wildcards covers a type."""
    return type in patterns or "*" in patterns or f"{type.partition('.')[0]}.*" in patterns


def verdict_on(delivery: Delivery, outcome: Outcome, now_ms: int) -> Verdict:
    """Say what an attempt means for a delivery: the last one is the tenth, or the first a day after the event."""
    if outcome.is_taken:
        return Verdict.TAKEN
    is_last = delivery.attempts + 1 >= ATTEMPTS_MAX or now_ms >= delivery.taken_at_ms + GIVEN_UP_AFTER_MS
    return Verdict.FAILED_AT_LAST if is_last else Verdict.FAILED


def next_attempt_ms(delivery: Delivery, now_ms: int) -> int:
    """Return when a delivery is tried again after a failure, at the latest a day after its event."""
    # Taken in the time to come it was only if the clock has been set back since.
    last_ms = min(delivery.taken_at_ms, now_ms) + GIVEN_UP_AFTER_MS
    if delivery.attempts > len(RETRY_DELAYS_S):
        return last_ms
    return min(last_ms, now_ms + RETRY_DELAYS_S[delivery.attempts - 1] * 1_000)


def after_attempt(delivery: Delivery, outcome: Outcome, now_ms: int) -> Delivery:
    """Return a delivery after one more attempt."""
    verdict = verdict_on(delivery, outcome, now_ms)
    tried = msgspec.structs.replace(
        delivery,
        state=DELIVERY_TRANSITIONS[delivery.state, verdict],
        attempts=delivery.attempts + 1,
        last_attempt_at_ms=now_ms,
        response_status=outcome.status,
        response_time_ms=outcome.time_ms,
        error=outcome.error,
    )
    due_ms = next_attempt_ms(tried, now_ms) if verdict is Verdict.FAILED else 0
    return msgspec.structs.replace(tried, due_ms=due_ms)


def standing_after(standing: Standing, delivery: Delivery) -> Standing:
    """Return how a webhook stands after an attempt that left a delivery like this."""
    at_ms = delivery.last_attempt_at_ms
    if delivery.state is DeliveryState.DELIVERED:
        return Standing(last_delivery_at_ms=at_ms, last_success_at_ms=at_ms, ended=standing.ended + 1)
    ended = delivery.state is DeliveryState.EXHAUSTED
    return msgspec.structs.replace(
        standing,
        failures=standing.failures + 1,
        failing_since_ms=standing.failing_since_ms if standing.failures else at_ms,
        exhausted=standing.exhausted + ended,
        last_delivery_at_ms=at_ms,
        ended=standing.ended + ended,
    )


# What is asked.

_URL_ABOUT: Final = (
    f"an address of at most {URL_MAX} characters that begins with https://, such as https://example.com/hooks"
)
Url = Annotated[str, Meta(min_length=1, max_length=URL_MAX, description=_URL_ABOUT)]
Patterns = Annotated[
    tuple[EventType | Wildcard, ...],
    Meta(
        min_length=1,
        max_length=len(EVENT_TYPES) + len(WILDCARDS),
        description=f"different ones of {', '.join((*WILDCARDS, *EVENT_TYPES))}",
        extra={"distinct": True},
        extra_json_schema={"uniqueItems": True},
    ),
]
Description = Annotated[
    str, Meta(max_length=DESCRIPTION_MAX, description=f"text of at most {DESCRIPTION_MAX} characters")
]


class WebhookCreate(Request, frozen=True, kw_only=True):
    """A new webhook; `balance_low_threshold` is required by the event `account.balance_low` and ignored without it."""

    url: Url
    events: Patterns
    description: Description | None = None
    balance_low_threshold: Amount | None = None


class WebhookList(Page, frozen=True, kw_only=True):
    """Webhooks, newest first; `event` finds those that hear of it, by a wildcard too."""

    limit: Limit = LIMIT_DEFAULT
    status: Literal["active", "paused", "broken"] | None = None
    event: EventType | None = None


class WebhookUpdate(Request, frozen=True, kw_only=True):
    """Changes to a webhook; what is absent stays, `events` is replaced as a whole."""

    id: Id
    url: Url | UnsetType = UNSET
    events: Patterns | UnsetType = UNSET
    description: Description | UnsetType | None = UNSET
    balance_low_threshold: Amount | UnsetType | None = UNSET
    status: Literal["active", "paused"] | UnsetType = UNSET

    def changes(self) -> dict[str, Any]:
        """Return the fields of the definition that were given."""
        given = msgspec.structs.asdict(self)
        return {name: value for name, value in given.items() if name not in ("id", "status") and value is not UNSET}


class WebhookTest(Request, frozen=True, kw_only=True):
    """One attempt with made-up data."""

    id: Id
    event_type: EventType = "webhook.test"


class WebhookDeliveries(Page, frozen=True, kw_only=True):
    """Deliveries of a webhook, newest first: those that wait, and the last ones that have ended."""

    id: Id
    limit: Limit = LIMIT_DEFAULT
    state: Literal["waiting", "delivered", "exhausted"] | None = None


# What is answered.


class WebhookObject(Reply, frozen=True, kw_only=True):
    """A webhook; `consecutive_failures` counts failed attempts since the last one that was taken."""

    id: str
    url: str
    events: tuple[str, ...]
    description: str | None
    balance_low_threshold: str | None
    status: str
    consecutive_failures: int
    last_delivery_at: str | None
    last_success_at: str | None
    created_at: str


class WebhookWithSecret(WebhookObject, frozen=True, kw_only=True):
    """A webhook with the secret that signs its deliveries, which is shown this once; repeated answers have none."""

    secret: str | None
    secret_warning: str = msgspec.field(name="_secret_warning", default=SECRET_WARNING)


class WebhookPage(Reply, frozen=True, kw_only=True):
    """Webhooks, newest first."""

    data: tuple[WebhookObject, ...]
    next_cursor: str | None


class WebhookTested(Reply, frozen=True, kw_only=True):
    """What the one attempt came to; `response_status` and `response_time_ms` are null without an answer."""

    test_event_id: str
    delivered: bool
    response_status: int | None
    response_time_ms: int | None
    error: str | None


class DeliveryObject(msgspec.Struct, frozen=True, kw_only=True):
    """One event for one webhook; `next_attempt_at` is null once it has ended, and while the webhook is not active."""

    id: str
    event_id: str
    event_type: str
    state: str
    attempts: int
    created_at: str
    next_attempt_at: str | None
    last_attempt_at: str | None
    response_status: int | None
    response_time_ms: int | None
    error: str | None


class DeliveryPage(Reply, frozen=True, kw_only=True):
    """Deliveries, newest first."""

    data: tuple[DeliveryObject, ...]
    next_cursor: str | None


def webhook_object(webhook: Webhook, standing: Standing) -> WebhookObject:
    """Return a webhook as it goes over the wire."""
    return WebhookObject(**_shown(webhook, standing))


def webhook_with_secret(webhook: Webhook, standing: Standing, secret: str) -> WebhookWithSecret:
    """Return a webhook with its secret."""
    return WebhookWithSecret(**_shown(webhook, standing), secret=secret)


def _shown(webhook: Webhook, standing: Standing) -> dict[str, Any]:
    threshold = webhook.balance_low_threshold
    return {
        "id": webhook.id,
        "url": webhook.url,
        "events": webhook.events,
        "description": webhook.description,
        "balance_low_threshold": None if threshold is None else plain(threshold),
        "status": webhook.status.value,
        "consecutive_failures": standing.failures,
        "last_delivery_at": _iso(standing.last_delivery_at_ms),
        "last_success_at": _iso(standing.last_success_at_ms),
        "created_at": iso_millis(webhook.created_at_us // 1_000),
    }


def delivery_object(delivery: Delivery, *, is_sent: bool) -> DeliveryObject:
    """Return a delivery as it goes over the wire; `is_sent` tells whether its webhook is sent anything at present."""
    waits = delivery.state is DeliveryState.WAITING and is_sent
    return DeliveryObject(
        id=delivery.id,
        event_id=delivery.event_id,
        event_type=delivery.type,
        state=delivery.state.value,
        attempts=delivery.attempts,
        created_at=iso_millis(delivery.taken_at_ms),
        next_attempt_at=iso_seconds(delivery.due_ms or delivery.taken_at_ms) if waits else None,
        last_attempt_at=_iso(delivery.last_attempt_at_ms),
        response_status=delivery.response_status,
        response_time_ms=delivery.response_time_ms,
        error=delivery.error,
    )


def _iso(at_ms: int) -> str | None:
    return iso_millis(at_ms) if at_ms else None
