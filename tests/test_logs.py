"""The log is one bounded JSON line an event; no secret passes it, and nobody waits for a reader that does not read."""

from __future__ import annotations

import json
import logging
import os
import pty
import warnings
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, TextIO

import pytest
import structlog
import trio
from attrs import define

from pipaid import logs
from pipaid.config import Secret

NOW_US = 1_767_349_800_123_456
CANARY = "CANARY-7f3a9b2c"


@define
class StoppedClock:
    """A clock that always tells the same time."""

    def now_us(self) -> int:
        return NOW_US

    def monotonic_s(self) -> float:
        return 0.0

    def cpu_s(self) -> float:
        return 0.0

    async def sleep(self, seconds: float) -> None:
        await trio.lowlevel.checkpoint()


@define
class Written:
    """A file that stands in for standard error, and what was logged to it."""

    path: Path
    stream: TextIO

    def text(self) -> str:
        return self.path.read_text(encoding="utf-8")

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.text().splitlines()]

    def line(self) -> dict[str, Any]:
        (only,) = self.lines()
        return only


@pytest.fixture(autouse=True)
def clean_pipeline() -> Iterator[None]:
    """Leave no pipeline, level, secret or adopted logger behind."""
    root = logging.getLogger()
    handlers, root_level = list(root.handlers), root.level
    yield
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()
    root.handlers[:] = handlers
    root.setLevel(root_level)
    logging.captureWarnings(False)
    logs.set_level("info")
    logs.forget_secrets()


@pytest.fixture
def written(tmp_path: Path) -> Iterator[Written]:
    path = tmp_path / "stderr"
    with path.open("w", encoding="utf-8") as stream:
        yield Written(path, stream)


def configure(written: Written, **changes: Any) -> logs.Outlet:
    arguments: dict[str, Any] = {"variables": {}, "stream": written.stream}
    return logs.configure(clock=StoppedClock(), **(arguments | changes))


def test_an_event_is_one_json_line_with_time_and_level_first(written: Written) -> None:
    configure(written)

    logs.get_log(strategy_id="strat_1a2b3c").info("intent.refused", cap="exposure", wanted=Decimal("1.20"), n=3)

    assert written.text() == (
        '{"ts":"2026-01-02T10:30:00.123Z","level":"info","event":"intent.refused","strategy_id":"strat_1a2b3c",'
        '"cap":"exposure","wanted":"1.20","n":3}\n'
    )


def test_a_line_break_in_a_field_starts_no_line(written: Written) -> None:
    configure(written)

    logs.get_log().info("client.said", text='a\n{"event":"forged"}')

    assert written.line()["event"] == "client.said"


async def test_fields_bound_to_a_task_stay_in_it(written: Written) -> None:
    configure(written)

    async def work(strategy_id: str) -> None:
        structlog.contextvars.bind_contextvars(strategy_id=strategy_id)
        await trio.lowlevel.checkpoint()
        logs.get_log().info("work.done", told=strategy_id)

    async with trio.open_nursery() as nursery:
        for number in range(5):
            nursery.start_soon(work, f"strat_{number}")
    logs.get_log().info("all.done")

    *inner, last = written.lines()
    assert all(line["strategy_id"] == line["told"] for line in inner)
    assert "strategy_id" not in last


def test_the_level_changes_at_once_for_loggers_that_exist(written: Written) -> None:
    configure(written, level="warning")
    bound = logs.get_log().bind(a=1)

    bound.info("not.seen")
    logs.set_level("debug")
    bound.debug("now.seen")
    logs.set_level("error")
    bound.warning("not.seen")

    assert [line["event"] for line in written.lines()] == ["now.seen"]
    assert logs.level() == "error"


class Careless(Exception):
    """An error that tells everything."""


def log_the_canary_everywhere() -> None:
    log = logs.get_log(api_secret=CANARY)
    log.info("a.a", password=CANARY, nested={"token": CANARY, "deep": [{"Signature": CANARY}]})
    log.info("a.b", secret=Secret(CANARY.encode()), listed=[Secret(CANARY.encode())])
    log.info("a.c", url=f"wss://host/v1/ws?api_key=k&timestamp=1&signature={CANARY}&x=1")
    log.info("a.d", header=f"Authorization: Bearer {CANARY}", text=f"the words {CANARY} and {CANARY}")
    log.info("a.e", body=f'{{"api_secret": "{CANARY}", "password":"{CANARY}"}}', **{f"key {CANARY}": 1})
    log.info(f"a.{CANARY}", master_key=CANARY.encode(), raw=CANARY.encode(), group={CANARY}, pair=(CANARY, 1))
    log.info("a.f", cut="x" * (logs.FIELD_CHARS_MAX - 5) + CANARY)
    try:
        raise Careless(f"failed with {CANARY}")
    except Careless:
        log.error("a.g", exc_info=True)
    logging.getLogger("library").warning("said %s", CANARY)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn(f"warned of {CANARY}", UserWarning, stacklevel=1)


@pytest.mark.parametrize("format_", ["json", "console"])
def test_no_secret_passes_in_any_place(written: Written, format_: str) -> None:
    configure(written, format=format_)
    logs.register_secret(CANARY)

    log_the_canary_everywhere()

    assert len(written.text().splitlines()) >= 10
    assert CANARY not in written.text()
    # What was cut off must not have left half a secret either.
    assert CANARY[:8] not in written.text()


def test_a_secret_that_lasts_is_hidden_however_many_come_after_it(written: Written) -> None:
    logs.register_secret(CANARY, lasting=True)
    for number in range(logs.SECRETS_MAX + 1):
        logs.register_secret(f"another secret {number:06d}")

    assert logs.holds_secret(f"my {CANARY}!")
    assert logs.holds_secret("is it another secret 000500?")
    assert not logs.holds_secret("another secret 000000")
    assert logs.without_secrets(f"my {CANARY}!") == "my [secret]!"
    logs.forget_secrets()
    assert not logs.holds_secret(CANARY)


def test_a_secret_nobody_registered_is_known_by_its_name(written: Written) -> None:
    configure(written)

    logs.get_log().info("key.made", api_secret=CANARY, url=f"/x?signature={CANARY}&y=1", h=f"Bearer {CANARY}", tokens=7)

    assert CANARY not in written.text()
    assert written.line()["url"] == "/x?signature=[secret]&y=1"
    assert written.line()["tokens"] == 7


def test_a_text_too_short_to_hide_is_refused() -> None:
    with pytest.raises(ValueError, match="a secret of 3 characters"):
        logs.register_secret("abc")


def test_lines_and_fields_are_bounded(written: Written) -> None:
    configure(written)
    log = logs.get_log()

    log.info("much.text", text="x" * 100_000)
    log.info("many.fields", **{f"f{number}": "y" * 1_000 for number in range(100)})
    log.info("many.escapes", **{f"f{number}": "\x01" * 1_000 for number in range(40)})
    log.info("many.items", items=list(range(10_000)), deep=[[[[[[[[1]]]]]]]])
    log.info("e" * 10_000)

    lines = written.text().splitlines()
    assert [len(line.encode()) <= logs.LINE_BYTES_MAX for line in lines] == [True] * 5
    assert len(json.loads(lines[0])["text"]) == logs.FIELD_CHARS_MAX
    assert json.loads(lines[1])["cut"] is True
    assert json.loads(lines[2])["event"] == "many.escapes"
    assert len(json.loads(lines[3])["items"]) == logs.ITEMS_MAX


def test_an_exception_brings_its_last_frames(written: Written) -> None:
    configure(written)

    def fail(depth: int) -> None:
        if depth:
            fail(depth - 1)
        raise Careless("no reason")

    try:
        fail(100)
    except Careless as trouble:
        logs.get_log().error("work.failed", exc_info=trouble)

    line = written.line()
    assert line["error"] == "Careless: no reason"
    assert line["traceback"].endswith("Careless: no reason\n")
    assert len(line["traceback"]) <= logs.TRACEBACK_CHARS_MAX


def test_libraries_speak_through_the_same_pipeline(written: Written) -> None:
    configure(written)

    logging.getLogger("trio-websocket").warning("lost %s", "it")
    logging.getLogger("trio-websocket").info("not heard")

    line = written.line()
    assert (line["event"], line["logger"], line["message"]) == ("library.said", "trio-websocket", "lost it")


def test_journald_gets_priorities(written: Written) -> None:
    figures = os.fstat(written.stream.fileno())
    configure(written, variables={"JOURNAL_STREAM": f"{figures.st_dev}:{figures.st_ino}"})

    logs.get_log().error("a.b")
    logs.get_log().info("c.d")

    assert [line[:3] for line in written.text().splitlines()] == ["<3>", "<6>"]


def terminal_output(**variables: str) -> str:
    leader, follower = pty.openpty()
    with os.fdopen(follower, "w", encoding="utf-8") as stream:
        logs.configure(clock=StoppedClock(), variables=variables, stream=stream)
        logs.get_log().warning("feed.stale", symbol="BTC USDT", text="\x1b[2Jgone\nx")
        shown = os.read(leader, 10_000).decode()
    os.close(leader)
    return shown


def test_a_terminal_gets_lines_for_people() -> None:
    plain = terminal_output(NO_COLOR="1")

    assert plain.startswith("10:30:00.123 warning  feed.stale")
    assert plain.rstrip().endswith("symbol='BTC USDT' text=?[2Jgone?x")
    assert "\x1b[33m" in terminal_output(TERM="xterm")
    assert "\x1b" not in terminal_output(TERM="dumb")


def test_a_reader_that_does_not_read_costs_lines_and_no_time(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    with os.fdopen(writing, "w", encoding="utf-8") as stream:
        outlet = logs.configure(clock=StoppedClock(), variables={}, stream=stream)
        log = logs.get_log()
        # A pipe holds 64 KiB; writing more into one that nobody reads would block for ever.
        for number in range(2_000):
            log.info("work.done", number=number, text="x" * 200)
        dropped = outlet.dropped
        assert 1_500 < dropped < 2_000
        received = os.read(reading, 1_000_000)
        log.info("work.resumed")
        rest = os.read(reading, 1_000_000).splitlines()
    os.close(reading)

    assert len(received.splitlines()) == 2_000 - dropped
    assert json.loads(rest[0]) == {"level": "warning", "event": "log.dropped", "lines": dropped}
    assert json.loads(rest[1])["event"] == "work.resumed"


def test_a_reader_that_is_gone_costs_nothing_either(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    with os.fdopen(writing, "w", encoding="utf-8") as stream:
        outlet = logs.configure(clock=StoppedClock(), variables={}, stream=stream)
        os.close(reading)
        logs.get_log().info("work.done")
        assert outlet.dropped == 1
