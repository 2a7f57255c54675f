"""The verbs about signals, which need no daemon: list and explain them, and try one on recorded candles."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

from pipaid.cli.terminal import Terminal
from pipaid.errors import InvalidParameter

AHEAD: Final = 24
Name = Annotated[str, typer.Argument(help="which, such as rsi_oversold", metavar="NAME")]


def add_to(app: typer.Typer) -> None:
    """Add these verbs to the command."""
    from pipaid.cli.verbs import add_verb

    signals = typer.Typer(rich_markup_mode=None, no_args_is_help=True, help="Look at signals and try them on candles")
    for name, verb in (("list", show_all), ("show", show), ("test", try_out)):
        add_verb(signals, name, verb)
    app.add_typer(signals, name="signals")


def show_all(
    terminal: Terminal,
    words: Annotated[list[str] | None, typer.Argument(help="only those that have all these in their row")] = None,
    *,
    group: Annotated[str, typer.Option("--group", help="only those of a group", metavar="momentum|trend|…")] = "",
) -> None:
    """List signals: what they tell, and whether that is a moment (TRIGGER) or lasts (FILTER)."""
    import msgspec

    from pipaid.cli.drawing import drawn
    from pipaid.cli.sheet import Column, Kind, listing
    from pipaid.model.signal import SignalList
    from pipaid.signals.catalogue.lookup import SIGNALS
    from pipaid.signals.catalogue.shown import signal_object

    groups = {each.group for each in SIGNALS.values()}
    if group and group not in groups:
        raise InvalidParameter(f"there is no group {group!r:.60}; there are {', '.join(sorted(groups))}")
    wanted = [word.lower() for word in words or ()]
    found = [
        each
        for each in map(signal_object, SIGNALS.values())
        if group in ("", each.group)
        and all(word in f"{each.name} {each.group} {each.signal_type} {each.description}".lower() for word in wanted)
    ]
    if terminal.as_json:
        terminal.say_json(msgspec.json.encode(SignalList(data=tuple(found))))
        return
    columns = (
        Column("NAME", lambda each: each.name, rank=0),
        Column("GROUP", lambda each: each.group, Kind.FAINT, 3),
        Column("TYPE", lambda each: each.signal_type, rank=2),
        Column("TELLS", lambda each: each.description, Kind.PROSE, 0),
    )
    note = f"{len(found)} signals; `pipaid signals show NAME` tells the params of one"
    terminal.show(drawn([listing("", found, columns, note)]))


def show(terminal: Terminal, name: Name) -> None:
    """Explain a signal: what it tells, its condition, its params and the history that it needs."""
    import msgspec

    from pipaid.cli.drawing import drawn
    from pipaid.cli.sheet import Column, Kind, Sheet, listing
    from pipaid.signals.catalogue.lookup import find
    from pipaid.signals.catalogue.shown import signal_object

    signal = find(name)
    if terminal.as_json:
        terminal.say_json(msgspec.json.encode(signal_object(signal)))
        return
    facts = Sheet(
        f"{signal.name} ({signal.group}, {signal.type})", (), (), f"{signal.words}\nHolds where: {signal.says}"
    )
    columns = (
        Column("PARAM", lambda each: each.name, rank=0),
        Column("DEFAULT", lambda each: each.written(), Kind.FAINT, 2),
        Column("TAKES", lambda each: each.allowed(), Kind.LABEL, 0),
    )
    terminal.show(drawn([facts, listing("", list(signal.knobs), columns)] if signal.knobs else [facts]))


def try_out(
    terminal: Terminal,
    name: Name,
    *,
    data: Annotated[Path, typer.Option("--data", help="a file of candles, as `data import` takes it", metavar="FILE")],
    param: Annotated[
        list[str] | None, typer.Option("--param", help="a param, as often as needed", metavar="NAME=VALUE")
    ] = None,
    as_trigger: Annotated[bool, typer.Option("--as-trigger", help="count only where it begins to hold")] = False,
    timeframe: Annotated[
        str, typer.Option("--timeframe", help="make larger candles of the file's first", metavar="5m|1h|…")
    ] = "",
    ahead: Annotated[int, typer.Option("--ahead", help="candles after which returns are looked at", min=1)] = AHEAD,
) -> None:
    """Try a signal on recorded candles: how often it was true, when, and what prices did after that.

    Returns after it are no promise: they are shown beside those after any candle, and how many there were.
    """
    from pipaid.cli.firing import show_trial
    from pipaid.model.instrument import Timeframe
    from pipaid.seams import SystemDisk
    from pipaid.signals.catalogue.asking import signal
    from pipaid.venues.importing import read_candles

    if timeframe and timeframe not in list(Timeframe):
        raise InvalidParameter(f"timeframe {timeframe!r:.20}: one of {', '.join(Timeframe)} expected")
    candles = read_candles(SystemDisk(), data)
    if timeframe:
        candles = candles.larger(Timeframe(timeframe))
    truths = signal(name, candles, as_trigger=as_trigger, **given(param or []))
    show_trial(terminal, name, candles, truths, ahead=ahead)


def given(texts: list[str]) -> dict[str, object]:
    """Return params as typed: whole lists with commas, yes and no as true and false, all else as text or number."""
    params: dict[str, object] = {}
    for text in texts:
        name, mark, value = text.partition("=")
        if not mark:
            raise InvalidParameter(f"--param takes NAME=VALUE, got {text!r:.60}")
        if value.lower() in ("true", "false"):
            params[name] = value.lower() == "true"
        elif "," in value:
            params[name] = [int(each) if each.strip().isdigit() else each for each in value.split(",")]
        else:
            params[name] = value
    return params
