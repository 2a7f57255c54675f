"""Write docs/signals.md anew from the catalogue: `.venv/bin/python -m tests.signals.page`."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from pipaid.signals.catalogue.declare import Knob, Signal, SignalType
from pipaid.signals.catalogue.lookup import OLD_NAMES, SIGNALS, SOURCES

PAGE: Final = Path(__file__).parents[2] / "docs" / "signals.md"
GROUPS: Final = {
    "momentum": "How fast and how far prices move.",
    "trend": "Where prices are heading, and where that turns.",
    "volatility": "How far prices move, and where they leave their channels.",
    "volume": "What the volume says about prices.",
    "patterns": "Shapes of one to three candles. None asks for a trend before it: combine one with a FILTER that does.",
}
HEAD: Final = """\
# Signals

A signal is a question about candles with the answer yes or no, asked each time a candle closes. There are two kinds:

- A **TRIGGER** tells a moment: yes on the one candle where something happens, such as a line crossing another.
- A **FILTER** tells something that lasts: yes on every candle while it is so, such as a close above its average.

An entry of a rule strategy (`tpl_rules`) is a TRIGGER that says when, and a FILTER that says whether. A FILTER may
be used as a TRIGGER: then it is yes only on the candle where it begins. A TRIGGER is no FILTER.

## How they are worked out

- Only closed candles count. What a signal said once never changes.
- Before there are enough candles, and where a formula would divide by zero, the answer is no.
- A line *crosses above* another where it was not above it one candle ago and is now. *Above* and *below* never mean
  equal.
- A strategy gets the same answers live, after a restart and in a backtest: see [ADR 22]({adr}) for how.
- An average that never forgets (EMA, RSI, ATR and what is made of them) is that of the 4,096 to 8,191 candles
  before.

## Trying one

```console
$ pipaid signals list squeeze
$ pipaid signals show bb_squeeze
$ pipaid signals test rsi_oversold --data EURUSD-1h.csv
rsi_oversold
candles        5000 of EURUSD 1h, 2017-04-19T09:00:00Z to 2018-02-07T15:00:00Z
true           at 191 candles (3.82 %), in 58 stretches
last began     2018-02-07T15:00:00Z, 2018-02-05T21:00:00Z, 2018-01-09T16:00:00Z, …
24 candles on  +0.038 % on average after it began (60% rose), +0.070 % after any candle
close  ▁▁▁▂▁▂▃▃▃▃▃▃▃▃▃▃▃▄▃▄▄▄▄▅▅▅▆▅▅▅▅▅▆▆▆▆▆▆▆▆▆▅▅▅▅▅▅▅▅▅▅▄▅▅▅▆▆▆▅▅▅▅▆▆▆▆▆▇▇▇████
true      ▁▁    ▃  ▂ ▃▂  ▂       ▃▁▂   ▆  ▁▄▂▇▇▁▄ ▁▁▁▂█ ▃  ▁  ▁▁▃▂     ▇      ▁
MONTH    BEGAN
────────────────────────────────────────────────────────
2017-04      0  –
2017-05      5  ██████████████████████
…
```

`test` says how often it was true, draws when, counts by month, and shows the returns after it beside those after any
candle. Over HTTP the catalogue is `GET /v1/signals` and `GET /v1/signals/{{name}}`. A script asks for a column of
truths:

```python
from pipaid.sdk import Candles, signal

held = signal("rsi_oversold", candles, window=7, threshold=25)
began = signal("rsi_oversold", candles, window=7, as_trigger=True)
```

## Params

A param has a default unless it is *required*; bounds are inclusive. Where there is a fast and a slow window, the
fast one must be the smaller. {old} are understood too. `direction` is bullish or bearish. What a param cannot be is
refused by name.
"""
NOTES: Final = """\
## Notes

- Returns that add up (`cumulative_return_*`) begin where the strategy was deployed, and keep that over restarts; in
  a backtest they begin at the first candle of its range, and in `test` and scripts at the first candle of all.
- `multi_tf_trend_*` look at a longer period (`higher_tf`), which counts from the close of its last candle on. Weeks
  begin on Monday, 00:00 UTC.
- Divergences compare two confirmed swings of the close, and are known only `swing_window` candles after the second.
- `piercing_line_trigger` and `dark_cloud_cover_trigger` ask for a gap by default; markets that never close have next
  to none.
- Names say what other systems call things. Where such a name says something else than the signal does, its row
  tells.

## Not here

These are made of data that candles do not tell, and are refused with the name of what is missing:

{external}
"""


def page() -> str:
    """Return the page."""
    old = ", ".join(f"`{name}` (for `{now}`)" for name, now in OLD_NAMES.items())
    adr = "adr/0022-signals-are-conditions-over-formulas.md"
    parts = [HEAD.format(adr=adr, old=f"The older names {old}"), f"There are {len(SIGNALS)} signals.\n"]
    for group, words in GROUPS.items():
        parts.append(f"## {group.capitalize()}\n\n{words}\n")
        for kind in SignalType:
            rows = [signal for signal in SIGNALS.values() if (signal.group, signal.type) == (group, kind)]
            table = "\n".join(map(_row, rows))
            parts.append(f"### {kind}\n\n| signal | yes where | params |\n|---|---|---|\n{table}\n")
    external = "\n".join(f"- {source}: {', '.join(f'`{each}`' for each in names)}" for source, names in SOURCES.items())
    parts.append(NOTES.format(external=external))
    return "\n".join(parts)


def _row(signal: Signal) -> str:
    told = f"{signal.words}<br>`{signal.says}`"
    return f"| `{signal.name}` | {told} | {'<br>'.join(map(_knob, signal.knobs)) or '–'} |"


def _knob(knob: Knob) -> str:
    default = f"*{knob.written()}*" if knob.required else knob.written()
    bounds = "" if knob.low is None or knob.high is None else f" ({knob.low:g} to {knob.high:g})"
    return f"`{knob.name}` {default}{bounds}"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
