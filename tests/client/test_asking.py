"""What becomes of an operation on its way: what is sent again and when, what is raised, and under which signature."""

from __future__ import annotations

from typing import Any

import httpx2
import msgspec
import pytest
from attrs import define

from pipaid.client.asking import AGAIN_S, Asking, Listing, Way, form_of, trouble_in
from pipaid.errors import (
    AnswerLost,
    ExchangeError,
    InvalidSignature,
    InvalidState,
    PipaidError,
    RateLimited,
    SignedTooEarly,
    Unavailable,
)
from pipaid.model.operation import operation_named
from pipaid.seams import SystemIds, World
from pipaid.wire.envelope import error_body
from pipaid.wire.signing import SignedRequest, matches


@define
class StillClock:
    """A clock that a test sets."""

    us: int = 1_767_225_600_000_000

    def now_us(self) -> int:
        return self.us

    def monotonic_s(self) -> float:
        return self.us / 1e6

    def cpu_s(self) -> float:
        return 0.0

    async def sleep(self, seconds: float) -> None:
        raise AssertionError("nothing here waits")


def way(clock: StillClock | None = None) -> Way:
    return Way("pk_1", b"secret", "http://here", 30.0, World(clock=clock or StillClock(), ids=SystemIds()))


def asking(operation: str = "strategy.pause", clock: StillClock | None = None) -> Asking:
    return way(clock).asking(operation, {"id": "strat_00000001"}, None)


def refused(trouble: PipaidError) -> httpx2.Response:
    return httpx2.Response(trouble.http_status, content=error_body(trouble, "req_00000000000a"))


AGAIN = [
    (Unavailable("starting"), AGAIN_S),
    (RateLimited("spent", retry_after_ms=1_750), 1.75),
    (RateLimited("spent"), AGAIN_S),
    (AnswerLost("ended", repeat=True), AGAIN_S),
    (SignedTooEarly("sign it anew"), AGAIN_S),
]
NEVER_AGAIN = [
    AnswerLost("nobody gave it a key", repeat=False),
    ExchangeError("the venue did not confirm every close within 30 s"),
    InvalidSignature("the signature does not fit"),
    InvalidState("the daemon ended while it carried this request out"),
]


@pytest.mark.parametrize(("trouble", "pause_s"), AGAIN, ids=lambda each: getattr(each, "message", None))
def test_what_ends_by_itself_is_sent_again_after_a_pause(trouble: PipaidError, pause_s: float) -> None:
    assert asking().hear(refused(trouble)) == pause_s


@pytest.mark.parametrize("trouble", NEVER_AGAIN, ids=lambda trouble: trouble.message)
def test_what_will_not_end_by_itself_is_raised_at_once(trouble: PipaidError) -> None:
    with pytest.raises(PipaidError) as raised:
        asking().hear(refused(trouble))

    assert (raised.value.code, raised.value.repeat) == (trouble.code, False)


def test_nobody_and_somebody_in_between_are_tried_again() -> None:
    assert asking().hear(httpx2.ConnectError("refused")) == AGAIN_S
    assert asking().hear(httpx2.Response(502, content=b"<html>")) == AGAIN_S
    with pytest.raises(PipaidError, match="the answer is 418 without a reason"):
        asking().hear(httpx2.Response(418, content=b"<html>"))


def test_the_reason_why_nobody_answers_is_told_however_it_is_wrapped() -> None:
    said_nothing = httpx2.ConnectError("")
    said_nothing.__cause__ = OSError("certificate verify failed")

    assert trouble_in(said_nothing, "http://here").message.endswith("here: certificate verify failed")
    assert trouble_in(httpx2.ReadTimeout(""), "http://here").message.endswith("here: ReadTimeout")


def test_patience_ends() -> None:
    clock = StillClock()
    sent = asking(clock=clock)

    assert sent.hear(refused(Unavailable("starting"))) == AGAIN_S
    clock.us += 29_800_000
    with pytest.raises(Unavailable, match="starting"):
        sent.hear(refused(Unavailable("starting")))


def test_what_is_sent_again_is_signed_anew_under_the_same_key() -> None:
    sent = asking()
    first, second = sent.headers(), sent.headers()

    assert first["Idempotency-Key"] == second["Idempotency-Key"]
    assert int(first["X-PipAI-Timestamp"]) < int(second["X-PipAI-Timestamp"])
    for headers in (first, second):
        request = SignedRequest(
            api_key=headers["X-PipAI-API-Key"],
            timestamp=headers["X-PipAI-Timestamp"],
            signature=headers["X-PipAI-Signature"],
            method="POST",
            target="/v1/strategies/strat_00000001/pause",
        )
        assert matches(b"secret", request, strict_query=True)


def test_a_question_has_no_idempotency_key() -> None:
    assert "Idempotency-Key" not in asking("strategy.get").headers()


def test_an_answer_is_told_as_it_is() -> None:
    sent = asking()

    assert sent.hear(httpx2.Response(200, content=msgspec.json.encode({"id": "x"}))) is None
    assert sent.told == {"id": "x"}


def test_a_secret_is_not_shown() -> None:
    assert "secret'" not in repr(way())


def test_a_body_is_there_where_there_is_something_to_say() -> None:
    assert form_of(operation_named("strategy.stop"), {"id": "strat_1"}) == ("/v1/strategies/strat_1/stop", b"")


@pytest.mark.parametrize("answer", [{"id": "strat_1"}, [{"symbol": "BTCUSDT"}]])
def test_what_is_no_listing_has_no_rows(answer: Any) -> None:
    with pytest.raises(TypeError, match="each is for listings"):
        Listing({}).rows_of(answer)
