"""Events, one line each: as they come from the daemon for programs, in words for people."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, Final

import msgspec

from pipaid.cli.exits import Exit
from pipaid.cli.naming import EVERYTHING
from pipaid.cli.sheet import cell, moment, printable
from pipaid.cli.terminal import Terminal
from pipaid.errors import PipaidError, RateLimited, Unavailable
from pipaid.model.job import TERMINAL, is_job
from pipaid.model.report import StrategyState

ID_CHARS: Final = 14
EVENT_CHARS: Final = 15
TOO_SLOW: Final = "the events were read too slowly, so the daemon ended this tail"


class EventFrame(msgspec.Struct, frozen=True, kw_only=True):
    """An event as it stands in its frame."""

    event: str
    id: str
    ts: str
    data: dict[str, Any]
    seq: int | None = None
    after_seq: int | None = None
    dry_run: bool | None = None


_decode: Final = msgspec.json.Decoder(EventFrame).decode


def follow(terminal: Terminal, args: dict[str, Any]) -> int:
    """Print events as they happen, until somebody has seen enough.

    Raise Unavailable when the daemon ends before, or cannot wait for whoever reads; it says how to go on.
    """
    from pipaid.wire.client import ConnectionEnded

    last: dict[str, int] = {}
    _warn_of_future(terminal, args)
    with terminal.connect() as client:
        try:
            for frame in client.tail(args["id"], since_seq=args.get("since_seq"), ext=args.get("ext", False)):
                event = event_of(frame)
                if event.seq is not None:
                    last[event.id] = event.seq
                if terminal.as_json:
                    terminal.say_json(frame)
                else:
                    terminal.say(event_line(event))
                # Nothing follows the end of a backtest.
                if is_job(event.id) and event.event in ENDED:
                    break
        except RateLimited:
            raise Unavailable(f"{TOO_SLOW}{_way_on(args['id'], last)}") from None
        except ConnectionEnded:
            why = TOO_SLOW if _answers(terminal) else "the daemon ended"
            raise Unavailable(f"{why}{_way_on(args['id'], last)}") from None
        except KeyboardInterrupt:
            pass
    return Exit.OK


def _warn_of_future(terminal: Terminal, args: dict[str, Any]) -> None:
    """Say that nothing is there yet after the number that somebody wants to go on from."""
    since = args.get("since_seq")
    if not isinstance(since, int) or args["id"] == EVERYTHING:
        return
    with suppress(PipaidError):
        newest = terminal.ask("strategy.state", StrategyState, id=args["id"]).last_seq
        if since > newest:
            terminal.warn(f"the newest event of {args['id']} is {newest}: nothing comes before it has {since + 1}")


def _answers(terminal: Terminal) -> bool:
    """Tell whether the daemon that closed a connection runs on."""
    try:
        with terminal.connect() as client:
            client.call("ping")
    except PipaidError:
        return False
    return True


def _way_on(asked: str, last: dict[str, int]) -> str:
    """Say how to go on after the last event that came."""
    if not last:
        return ""
    since = f"'{msgspec.json.encode({**last, '*': 0}).decode()}'" if asked == EVERYTHING else str(last[asked])
    named = "" if asked == EVERYTHING else f" {asked}"
    return f"; go on with: pipaid events tail{named} --since-seq {since}"


def event_of(frame: bytes) -> EventFrame:
    """Return the event in a frame."""
    return _decode(frame)


def event_line(event: EventFrame, name: str = "") -> str:
    """Return an event as one line: when, which number, whose, what."""
    number = f"{event.seq}" if event.seq is not None else f"+{event.after_seq}"
    whose = printable(name) or event.id
    return f"{moment(event.ts)} {number:>6} {whose:<{ID_CHARS}} {event.event:<{EVENT_CHARS}} {in_words(event)}".rstrip()


def in_words(event: EventFrame) -> str:
    """Return what happened, without when and to whom."""
    told = _TOLD.get(event.event)
    if told is None:
        return " ".join(f"{name}={cell(value)}" for name, value in event.data.items())
    known = {name: cell(value) for name, value in event.data.items() if value is not None}
    return " ".join(filter(None, (_filled(part, known) for part in told)))


def _filled(part: str, known: dict[str, str]) -> str:
    """Return a part of a sentence, or nothing when the event does not say what belongs there."""
    try:
        return part.format_map(known)
    except KeyError:
        return ""


ENDED: Final = frozenset(TERMINAL)
_ORDER: Final = ("{side} {qty} {symbol} {type}", "at {price}", "stop {stop_price}")
_TOLD: Final[dict[str, tuple[str, ...]]] = {
    "deployed": ("capital {capital}", "leverage {leverage}", "template version {template_version}"),
    "paused": ("{open_positions} positions open",),
    "stopped": (),
    "error": ("{code}: {message}",),
    "position_opened": ("{side} {qty} {symbol} at {entry_price}", "stop {stop_price}", "target {take_profit_price}"),
    "position_closed": ("{side} {qty} {symbol} {entry_price} → {exit_price}", "pnl {pnl}", "({reason})"),
    "order_placed": _ORDER,
    "order_filled": ("{side} {fill_qty} of {qty} {symbol} at {fill_price}", "fee {fee} {fee_asset}", "({liquidity})"),
    "order_cancelled": ("{symbol} after {filled_qty} filled", "({reason})"),
    "risk_blocked": ("{symbol} by {rule}: {value}", "limit {limit}"),
    "resumed": ("as {status}",),
    "lagged": ("lost events {from_seq} to {to_seq}",),
}
