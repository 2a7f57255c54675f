"""How far a download is, where no terminal shows a bar: a line now and then, on standard error."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

from attrs import define

from pipaid.cli.downloading import LINE_S, Downloaded, Gap, _display
from pipaid.cli.terminal import Terminal
from pipaid.model.instrument import Timeframe
from tests.venues.asking import JumpingClock


@define
class Streams:
    """A terminal that nobody sees, and what was written."""

    terminal: Terminal
    out: StringIO
    err: StringIO


def streams(*, as_json: bool = False) -> Streams:
    out, err = StringIO(), StringIO()
    return Streams(Terminal(variables={}, out=out, err=err, socket=Path("none"), as_json=as_json), out, err)


def done(gaps: int) -> Downloaded:
    return Downloaded(
        venue="binance-usdm",
        symbol="BTCUSDT",
        timeframe=Timeframe.M1,
        from_ms=0,
        to_ms=60_000,
        clipped=False,
        fetched=5,
        rows=9,
        gaps=tuple(Gap(place, "gap", f"gap {place}") for place in range(gaps)),
    )


async def test_a_line_comes_now_and_then_and_not_for_each_page() -> None:
    seen, clock = streams(), JumpingClock()
    with _display(seen.terminal, clock) as display:
        display.begin("BTCUSDT 1m", done=500, total=3_000)
        for _ in range(20):
            await clock.sleep(LINE_S / 10)
            display.moved(100)

    assert seen.err.getvalue().splitlines() == [
        "BTCUSDT 1m: 1500 of 3000 candles",
        "BTCUSDT 1m: 2500 of 3000 candles",
    ]
    assert seen.out.getvalue() == ""


def test_many_gaps_are_counted_and_the_command_that_names_them_is_told() -> None:
    seen = streams()
    with _display(seen.terminal, JumpingClock()) as display:
        display.result(done(25))

    lines = seen.out.getvalue().splitlines()
    assert (lines[0], lines[1], len(lines)) == ("BTCUSDT 1m: 5 candles fetched, 9 in all", "  gap 0", 22)
    assert lines[-1] == "  and 5 more; `pipaid data check BTCUSDT` names them all"


def test_for_programs_the_result_is_one_line_of_json_with_every_gap() -> None:
    seen = streams(as_json=True)
    with _display(seen.terminal, JumpingClock()) as display:
        display.result(done(1))

    assert seen.out.getvalue() == (
        '{"venue":"binance-usdm","symbol":"BTCUSDT","timeframe":"1m","from_ms":0,"to_ms":60000,"clipped":false,"fetched":5,'
        '"rows":9,"gaps":[{"time_ms":0,"kind":"gap","what":"gap 0"}]}\n'
    )


def test_words_of_the_venue_do_not_steer_the_terminal() -> None:
    seen = streams()
    with _display(seen.terminal, JumpingClock()) as display:
        display.told("the venue answers 500: \x1b[2Jgone\nand more")

    assert seen.err.getvalue() == "the venue answers 500:  [2Jgone and more\n"
