"""A model is asked once, over a bounded time, and whatever an endpoint does ends as an answer with a verdict."""

from __future__ import annotations

import json
import ssl
from collections.abc import Generator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from pipaid.config.secret import Secret
from pipaid.logs import forget_secrets, register_secret
from pipaid.model.consult import ANSWER_MAX, Answer, Verdict
from pipaid.wire.completions import Completions
from pipaid.wire.messages import Messages
from pipaid.wire.models import ANSWER_BYTES_MAX, RECEIVED_BYTES_MAX, HttpProvider
from pipaid.wire.said import TOKENS_COUNTED_MAX, USAGE_BYTES_MAX, Manner, Speech
from tests.actors.homes import TrioClock
from tests.certificates import make_pair
from tests.endpoints import (
    DECISION,
    HOST,
    KEY,
    PUBLIC,
    SCHEMA,
    Behaviour,
    Wired,
    breaking_off,
    completion,
    dripping,
    endless,
    late,
    make_question,
    message,
    never,
    plain,
    saying,
    wired,
)

# Behind the address of this machine there is no encryption to set up.
LOCAL = "http://127.0.0.1:8080/v1"
CHAT = Completions()
TEXT = json.dumps(DECISION)


def provider(
    net: Wired, speech: Speech = CHAT, url: str = LOCAL, *, key: str = KEY, private: bool = True
) -> HttpProvider:
    return HttpProvider(
        speech=speech, base_url=url, net=net, clock=TrioClock(), key=Secret(key.encode()), private=private
    )


async def asked(behave: Behaviour, speech: Speech = CHAT, **fields: Any) -> Answer:
    async with wired(behave) as net:
        return await provider(net, speech).ask(make_question(**fields))


@pytest.fixture
def known_key() -> Generator[None]:
    register_secret(KEY)
    yield
    forget_secrets()


@pytest.mark.parametrize(
    ("speech", "said"),
    [
        (Messages(), message()),
        (Messages("schema"), message(content=[{"type": "text", "text": TEXT}], stop="end_turn")),
        (Messages("text"), message(content=[{"type": "text", "text": TEXT}], stop="end_turn")),
        (Completions(), completion()),
        (Completions("object"), completion()),
        (Completions("text"), completion()),
        (
            Completions("tool"),
            completion(
                None, tool_calls=[{"type": "function", "function": {"name": "answer", "arguments": TEXT}}],
                stop="tool_calls",
            ),
        ),
    ],
)  # fmt: skip
async def test_a_good_answer_is_its_text_and_its_tokens(speech: Speech, said: Any, autojump_clock: MockClock) -> None:
    answer = await asked(late(said, 1.5), speech)

    assert answer == Answer(
        question_id="q_1", verdict=Verdict.ANSWERED, text=TEXT, tokens_in=120, tokens_out=30, took_ms=1_500
    )


async def test_the_messages_api_is_asked_as_it_wants_to_be() -> None:
    async with wired(saying(message())) as net:
        await provider(net, Messages(), "http://127.0.0.1:8080").ask(make_question())
        (found,) = net.server.asked

    assert (found.path, found.headers["x-api-key"]) == ("/v1/messages", KEY)
    assert found.headers["anthropic-version"] == "2023-06-01"
    assert found.body == {
        "model": "small",
        "max_tokens": 400,
        "system": "You judge candles.",
        "messages": [{"role": "user", "content": "BTCUSDT closed at 100."}],
        "tools": [{"name": "answer", "description": "Give the answer in this form.", "input_schema": SCHEMA}],
        "tool_choice": {"type": "tool", "name": "answer", "disable_parallel_tool_use": True},
    }


async def test_chat_completions_are_asked_as_they_want_to_be() -> None:
    async with wired(saying(completion())) as net:
        await provider(net, Completions(tokens_key="max_tokens")).ask(make_question())
        (found,) = net.server.asked

    assert (found.path, found.headers["authorization"]) == ("/v1/chat/completions", f"Bearer {KEY}")
    assert found.body == {
        "model": "small",
        "max_tokens": 400,
        "messages": [
            {"role": "system", "content": "You judge candles."},
            {"role": "user", "content": "BTCUSDT closed at 100."},
        ],
        "response_format": {"type": "json_schema", "json_schema": {"name": "answer", "schema": SCHEMA}},
    }


@pytest.mark.parametrize("manner", ["object", "text"])
async def test_where_no_schema_is_known_the_form_is_told_in_words(manner: Manner) -> None:
    async with wired(saying(completion())) as net:
        await provider(net, Completions(manner)).ask(make_question())
        (found,) = net.server.asked

    assert found.body["messages"][0]["content"].endswith(json.dumps(SCHEMA, separators=(",", ":")))


@pytest.mark.parametrize("behave", [never, late(completion(), 6.0), dripping(completion(), 0.1)])
async def test_all_of_an_answer_has_to_be_there_in_time(behave: Behaviour, autojump_clock: MockClock) -> None:
    began_s = trio.current_time()
    answer = await asked(behave)

    assert (answer.verdict, answer.error) == (Verdict.LATE, "no whole answer within 5 s")
    assert (answer.tokens_in, answer.tokens_out, answer.took_ms) == (None, None, 5_000)
    assert trio.current_time() - began_s == pytest.approx(5.0)


async def test_nobody_waits_longer_than_the_provider_may_take(autojump_clock: MockClock) -> None:
    answer = await asked(never, patience_ms=3_600_000)

    assert (answer.verdict, answer.took_ms) == (Verdict.LATE, 60_000)


async def test_an_answer_that_drips_is_whole_in_the_end(autojump_clock: MockClock) -> None:
    answer = await asked(dripping(completion(), 0.001))

    assert (answer.verdict, answer.text) == (Verdict.ANSWERED, TEXT)


MALFORMED: list[tuple[str, Behaviour, str]] = [
    ("no json", saying(b"<html>"), "no completion"),
    ("nothing", saying(b""), "no completion"),
    ("deep", saying(b'{"choices":' + b"[" * 50_000), "no completion"),
    ("not utf-8", saying(b'{"choices":"\xff"}'), "no completion"),
    ("half a pair", saying(b'{"choices":[{"message":{"content":"\\ud800"},"finish_reason":"stop"}]}'), "no completion"),
    ("no choice", saying({"choices": []}), "no completion"),
    ("other types", saying({"choices": [{"message": {"content": 5}}]}), "no completion"),
    ("an error with 200", saying({"error": {"message": "overloaded"}}), "overloaded"),
    ("empty", saying(completion("")), "it said nothing in the form"),
    ("blank", saying(completion(" \n")), "it said nothing in the form"),
    ("null", saying(completion(None)), "it said nothing in the form"),
    ("cut off", saying(completion(TEXT[:5], stop="length")), "it was cut off"),
    ("no reason", saying(completion(stop=None)), "it did not come to an end"),
    ("a list as reason", saying(completion(stop=["stop"])), "it did not come to an end"),
    ("long", saying(completion("x" * (ANSWER_MAX + 1))), f"more than {ANSWER_MAX} characters"),
    ("a tool nobody offered", saying(completion(tool_calls=[{"function": {"name": "sell_all", "arguments": "{}"}}])),
     "a tool that nobody offered: 'sell_all'"),
    ("packed", saying(completion(), 200, "Content-Encoding: gzip"), "packed as 'gzip'"),
    ("more than it said", endless(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", b"0123456789"), ""),
    ("no http", endless(b"SSH-2.0-OpenSSH_9.6\r\n\r\n", b"x" * 512), ""),
    ("huge", endless(b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 4_096), f"more than {ANSWER_BYTES_MAX} bytes"),
    ("huge in crumbs", endless(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n" * 64),
     f"more than {RECEIVED_BYTES_MAX} bytes"),
    ("a head without end", endless(b"HTTP/1.1 200 OK\r\n", b"X-Y: z\r\n" * 64), ""),
    ("interim answers", endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n"), "more than 8 answers"),
]  # fmt: skip


@pytest.mark.parametrize(("behave", "error"), [each[1:] for each in MALFORMED], ids=[each[0] for each in MALFORMED])
async def test_what_is_no_answer_is_named_and_never_read(
    behave: Behaviour, error: str, autojump_clock: MockClock
) -> None:
    answer = await asked(behave)

    assert answer.verdict is Verdict.MALFORMED
    assert error in answer.error
    assert len(answer.text) <= ANSWER_MAX


@pytest.mark.parametrize(
    ("said", "error"),
    [
        (message(stop="max_tokens"), "it was cut off"),
        (message(stop="model_context_window_exceeded"), "it was cut off"),
        (message(stop="pause_turn"), "it did not come to an end: 'pause_turn'"),
        (message(content=[]), "it said nothing in the form"),
        (message(content=[{"type": "text", "text": TEXT}]), "it said nothing in the form"),
        (message(content=[{"type": "tool_use", "name": "sell_all", "input": {}}]), "nobody offered: 'sell_all'"),
        (message(content=message()["content"] * 2), "it answered 2 times at once"),
        (message(content="text"), "it is no message"),
        ({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}, "Overloaded"),
    ],
)
async def test_what_is_no_message_is_named_and_never_read(said: Any, error: str, autojump_clock: MockClock) -> None:
    answer = await asked(saying(said), Messages())

    assert answer.verdict is Verdict.MALFORMED
    assert error in answer.error


@pytest.mark.parametrize(
    ("speech", "said"),
    [
        (Messages(), message(stop="refusal", content=[])),
        (CHAT, completion(None, refusal="I will not.")),
        (CHAT, completion("", stop="content_filter")),
    ],
)
async def test_a_model_that_refuses_is_said_to_refuse(speech: Speech, said: Any, autojump_clock: MockClock) -> None:
    answer = await asked(saying(said), speech)

    assert answer.verdict is Verdict.REFUSED
    assert answer.error.startswith("the model refused to answer")
    assert (answer.tokens_in, answer.tokens_out) == (120, 30)


@pytest.mark.parametrize(
    ("status", "verdict", "tokens"),
    [
        (400, Verdict.REFUSED, 0), (401, Verdict.REFUSED, 0), (403, Verdict.REFUSED, 0), (404, Verdict.REFUSED, 0),
        (429, Verdict.REFUSED, 0), (408, Verdict.REFUSED, None), (500, Verdict.UNREACHABLE, None),
        (503, Verdict.UNREACHABLE, None), (529, Verdict.UNREACHABLE, None),
    ],
)  # fmt: skip
async def test_an_error_is_told_and_what_was_not_taken_costs_nothing(
    status: int, verdict: Verdict, tokens: int | None, autojump_clock: MockClock
) -> None:
    answer = await asked(saying({"error": {"message": "no\x1b[31m luck\n today" * 50}}, status))

    assert (answer.verdict, answer.tokens_in, answer.tokens_out) == (verdict, tokens, tokens)
    assert answer.error.startswith(f"it answered {status}: no?[31m luck today")
    assert len(answer.error) < 240


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_leads_nowhere(status: int, autojump_clock: MockClock) -> None:
    async with wired(saying(b"", status, "Location: http://127.0.0.1:9/")) as net:
        answer = await provider(net).ask(make_question())

    assert answer.verdict is Verdict.UNREACHABLE
    assert "redirects are not followed" in answer.error
    assert len(net.connected) == 1


@pytest.mark.parametrize(
    "usage",
    [
        {}, [], "many", {"prompt_tokens": -1, "completion_tokens": 5}, {"prompt_tokens": 1.5, "completion_tokens": 5},
        {"prompt_tokens": True, "completion_tokens": 5}, {"prompt_tokens": 10**30, "completion_tokens": 5},
        {"prompt_tokens": 120}, {"prompt_tokens": 0, "completion_tokens": 0}, {"prompt_tokens": "1"},
        {"prompt_tokens": 10, "completion_tokens": 0}, {"prompt_tokens": None, "completion_tokens": None},
        {"prompt_tokens": 10, "completion_tokens": 5, "told": "x" * USAGE_BYTES_MAX},
    ],
    ids=lambda usage: str(usage)[:80],
)  # fmt: skip
async def test_a_count_that_cannot_be_believed_is_none(usage: Any, autojump_clock: MockClock) -> None:
    answer = await asked(saying(completion(usage=usage)))

    assert (answer.verdict, answer.tokens_in, answer.tokens_out) == (Verdict.ANSWERED, None, None)


async def test_what_was_read_from_a_cache_was_read(autojump_clock: MockClock) -> None:
    usage = {"input_tokens": 5, "cache_creation_input_tokens": 7, "cache_read_input_tokens": 11, "output_tokens": 3}

    answer = await asked(saying(message(usage=usage)), Messages())

    assert (answer.tokens_in, answer.tokens_out) == (23, 3)


async def test_what_nobody_asked_for_is_passed_over(autojump_clock: MockClock) -> None:
    said = completion(reasoning_content="…", annotations=[{"url": "http://evil"}])
    answer = await asked(saying({**said, "system_fingerprint": "x", "service_tier": None}))

    assert (answer.verdict, answer.text) == (Verdict.ANSWERED, TEXT)


async def test_a_model_may_talk_of_the_protocol(autojump_clock: MockClock) -> None:
    answer = await asked(saying(completion("HTTP/1.1 " * 1_000)))

    assert (answer.verdict, len(answer.text)) == (Verdict.ANSWERED, 9_000)


@pytest.mark.parametrize("start", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{"])
async def test_a_question_that_was_taken_is_not_asked_again(start: bytes, autojump_clock: MockClock) -> None:
    async with wired(breaking_off(start)) as net:
        answer = await provider(net).ask(make_question())

    assert (answer.verdict, answer.tokens_in) == (Verdict.UNREACHABLE, None)
    assert answer.error == "the connection ended before the answer did"
    assert (len(net.connected), len(net.server.asked)) == (1, 1)


async def test_where_no_connection_can_be_made_nothing_was_sent(autojump_clock: MockClock) -> None:
    async with wired(saying(completion())) as net:
        net.dead = frozenset({"127.0.0.1"})
        answer = await provider(net).ask(make_question())

    assert answer == Answer(
        question_id="q_1",
        verdict=Verdict.UNREACHABLE,
        error="[Errno 111] Connection refused; nothing was sent",
        tokens_in=0,
        tokens_out=0,
    )


async def test_a_host_without_an_address_is_not_asked(autojump_clock: MockClock) -> None:
    async with wired(saying(completion())) as net:
        net.found = []
        answer = await provider(net, url=f"https://{HOST}").ask(make_question())

    assert (answer.verdict, answer.tokens_in) == (Verdict.UNREACHABLE, 0)
    assert "has no address" in answer.error


@pytest.mark.parametrize("addresses", [["127.0.0.1"], ["10.0.0.7"], [PUBLIC, "169.254.169.254"]])
async def test_a_public_name_that_leads_inside_is_not_asked(addresses: list[str], autojump_clock: MockClock) -> None:
    async with wired(saying(completion())) as net:
        net.found = addresses
        answer = await provider(net, url=f"https://{HOST}", private=False).ask(make_question())

    assert (answer.verdict, net.connected) == (Verdict.UNREACHABLE, [])
    assert answer.error.endswith("nothing was sent")


async def test_a_key_does_not_go_over_a_public_network_in_the_clear(autojump_clock: MockClock) -> None:
    async with wired(saying(completion())) as net:
        answer = await provider(net, url=f"http://{HOST}").ask(make_question())

    assert (answer.verdict, net.connected) == (Verdict.UNREACHABLE, [])
    assert "plain http is for private networks alone" in answer.error


async def test_who_cannot_prove_who_they_are_hear_nothing(tmp_path: Path, autojump_clock: MockClock) -> None:
    pair = make_pair(tmp_path)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(pair.certificate, pair.key)
    async with wired(saying(completion())) as net:
        net.server.secured = server
        doubted = await provider(net, url="https://127.0.0.1/v1").ask(make_question())
        net.trusted = ssl.create_default_context(cafile=pair.certificate)
        trusted = await provider(net, url="https://127.0.0.1/v1").ask(make_question())

    assert (doubted.verdict, doubted.tokens_in) == (Verdict.UNREACHABLE, 0)
    assert "certificate verify failed" in doubted.error
    assert trusted.verdict is Verdict.ANSWERED
    assert len(net.server.asked) == 1


async def test_a_key_that_comes_back_is_hidden(known_key: None, autojump_clock: MockClock) -> None:
    told = await asked(saying(completion(f'{{"action": "{KEY}"}}')))
    refused = await asked(saying({"error": {"message": f"bad key {KEY}"}}, 401))

    assert told.text == '{"action": "[secret]"}'
    assert refused.error == "it answered 401: bad key [secret]"


async def test_no_connection_is_left_open(autojump_clock: MockClock) -> None:
    async with wired(endless(plain(b"")[:-2], b"X: y\r\n")) as net:
        await provider(net).ask(make_question())
        await trio.testing.wait_all_tasks_blocked()

        assert net.server.open == 0


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20)),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=8), inner, max_size=4)),
    max_leaves=8,
)


def completed(parts: tuple[Any, Any, Any, Any]) -> Any:
    return completion(parts[0], stop=parts[1], usage=parts[2], tool_calls=parts[3])


def messaged(parts: tuple[Any, Any, Any]) -> Any:
    return message(json.dumps(parts[0]), stop=parts[1], usage=parts[2])


def blocks(parts: tuple[Any, Any]) -> Any:
    return message(content=parts[0], stop=parts[1])


STOPS = st.one_of(JSON, st.sampled_from(["stop", "length", "end_turn", "tool_use", "refusal"]))
SHAPED = st.one_of(
    st.tuples(JSON, STOPS, JSON, JSON).map(completed),
    st.tuples(JSON, STOPS, JSON).map(messaged),
    st.tuples(JSON, STOPS).map(blocks),
)


@pytest.mark.parametrize("speech", [Messages(), Messages("text"), Completions(), Completions("tool")])
def test_bytes_that_are_no_text_make_no_answer_wherever_they_stand(speech: Speech) -> None:
    for said in (message(content=[{"type": "tool_use", "name": "answer", "input": {"x": "?"}}]), completion("?")):
        read = speech.read(msgspec.json.encode(said).replace(b'"?"', b'"\xff"'))

        assert (read.verdict, read.text) == (Verdict.MALFORMED, "")


@given(
    st.one_of(
        st.binary(max_size=200), JSON.map(lambda value: json.dumps(value).encode()), SHAPED.map(msgspec.json.encode)
    ),
    st.sampled_from([Messages(), Messages("schema"), Completions(), Completions("tool")]),
)
def test_whatever_comes_back_is_read_without_a_stumble(body: bytes, speech: Speech) -> None:
    said = speech.read(body)

    assert said.verdict in (Verdict.ANSWERED, Verdict.MALFORMED, Verdict.REFUSED)
    assert (said.verdict is Verdict.ANSWERED) is (not said.error)
    assert said.verdict is not Verdict.ANSWERED or said.text.strip()
    assert len(said.text) <= ANSWER_MAX
    assert len(said.error) <= 300
    assert said.error.isprintable()
    assert said.tokens_in is None or 0 < said.tokens_in <= 3 * TOKENS_COUNTED_MAX
