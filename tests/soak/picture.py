"""Line charts as SVG, by hand: few bytes, no library, legible in the light and in the dark."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from attrs import frozen

WIDTH: Final = 420
HEIGHT: Final = 190
LEFT: Final = 52
RIGHT: Final = 12
TOP: Final = 34
BOTTOM: Final = 26
POINTS_MAX: Final = 160
LETTER: Final = 5.6
_STYLE: Final = """
svg{background:#fff;font:11px system-ui,sans-serif;fill:#333}
.t{font-weight:600;font-size:12px}.m{fill:#777}.g{stroke:#ddd}.w{fill:#f2f2f2}
.a{stroke:#2463b5}.b{stroke:#c2571a}.c{stroke:#2e8540}.l{fill:none;stroke-width:1.6}
.fa{fill:#2463b5}.fb{fill:#c2571a}.fc{fill:#2e8540}
@media(prefers-color-scheme:dark){
svg{background:#15181c;fill:#ddd}.m{fill:#999}.g{stroke:#333}.w{fill:#1f242a}
.a{stroke:#74a9f0}.b{stroke:#f0975a}.c{stroke:#6cc480}.fa{fill:#74a9f0}.fb{fill:#f0975a}.fc{fill:#6cc480}}
"""


@frozen
class Line:
    """One quantity over time; `note` says in words what became of it."""

    name: str
    values: Sequence[float]


@frozen
class Chart:
    """Quantities of one unit over the same times, from zero up; `note` is what the reader is to see in it."""

    title: str
    note: str
    lines: Sequence[Line]


def draw(charts: Sequence[Chart], hours: Sequence[float], *, title: str, warm_up: float) -> str:
    """Draw charts two in a row; the time before the end of the warm-up, in hours, is shaded."""
    rows = -(-len(charts) // 2)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {2 * WIDTH} {rows * HEIGHT + 24}" role="img">',
        f"<title>{title}</title><style>{_STYLE.strip()}</style>",
        f'<text class="t" x="{LEFT}" y="17">{title}</text>',
    ]
    for number, chart in enumerate(charts):
        x, y = number % 2 * WIDTH, number // 2 * HEIGHT + 24
        parts.append(f'<g transform="translate({x},{y})">{_chart(chart, hours, warm_up)}</g>')
    return "\n".join([*parts, "</svg>", ""])


def _chart(chart: Chart, hours: Sequence[float], warm_up: float) -> str:
    last = hours[-1]
    top = _ceiling(max(max(line.values) for line in chart.lines))
    inner, tall = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def across(hour: float) -> float:
        return LEFT + inner * hour / last

    def down(value: float) -> float:
        return TOP + tall * (1 - value / top)

    parts = [
        f'<rect class="w" x="{LEFT}" y="{TOP}" width="{across(warm_up) - LEFT:.0f}" height="{tall}"/>',
        f'<text class="t" x="{LEFT}" y="13">{chart.title}</text><text class="m" x="{LEFT}" y="27">{chart.note}</text>',
    ]
    for share in (0, 0.5, 1):
        y = down(top * share)
        parts.append(f'<path class="g" d="M{LEFT} {y:.0f}h{inner}"/>')
        parts.append(f'<text class="m" x="{LEFT - 6}" y="{y + 4:.0f}" text-anchor="end">{top * share:g}</text>')
    for share in (0, 0.25, 0.5, 0.75, 1):
        text = f"{last * share:.3g}{' h' if share == 1 else ''}"
        parts.append(
            f'<text class="m" x="{across(last * share):.0f}" y="{HEIGHT - 10}" text-anchor="middle">{text}</text>'
        )
    step = max(1, len(hours) // POINTS_MAX)
    beside = WIDTH - RIGHT
    for mark, line in zip("abc", chart.lines, strict=False):
        points = [(across(hours[i]), down(line.values[i])) for i in range(0, len(hours), step)]
        path = "L".join(f"{x:.0f} {y:.1f}" for x, y in points)
        parts.append(f'<path class="l {mark}" d="M{path}"/>')
        if len(chart.lines) > 1:
            beside -= 10 + round(LETTER * len(line.name))
            parts.append(f'<text class="f{mark}" x="{beside}" y="13">{line.name}</text>')
    return "".join(parts)


def _ceiling(value: float) -> float:
    """Return a round number that is not much more."""
    size = 1.0
    while size < value:
        size *= 10
    return next(size * share for share in (0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0) if size * share >= value)
