"""Imports go down the floors and never up; each module stands on a floor, and a few neighbours stay strangers."""

from __future__ import annotations

import pytest

from tests.house.tree import CODE, Source, at, imports_of, planted, sources

# The longest prefix of a dotted name decides. What is listed nowhere has no floor, and that is an offence as well.
FLOORS = {
    "pipaid.__version__": 0,
    "pipaid.dialect": 0,
    "pipaid.errors": 0,
    "pipaid.home": 0,
    "pipaid.model": 0,
    "pipaid.signals": 1,
    "pipaid.engine": 2,
    "pipaid.config": 3,
    "pipaid.logs": 3,
    "pipaid.plugins": 3,
    "pipaid.reporting": 3,
    "pipaid.seams": 3,
    "pipaid.sentry": 3,
    "pipaid.unixname": 3,
    "pipaid.wire": 3,
    "pipaid.storage": 4,
    "pipaid.venues": 4,
    "pipaid.backtesting": 4,
    "pipaid.jobs": 4,
    "pipaid.client": 4,
    "pipaid.foretelling": 4,
    "pipaid.optimising": 4,
    "pipaid.sdk": 4,
    "templates": 4,
    "actors": 5,
    "pipaid.api": 5,
    "pipaid.cli": 5,
    "pipaid.doctor": 5,
    "actors.daemon": 6,
    "actors.callers": 6,
    "actors.consulting": 6,
    "actors.hooks": 6,
    "actors.jobs": 6,
    "actors.posts": 6,
    "actors.process": 6,
    "actors.surfaces": 6,
    "pipaid.launch": 6,
}
ROOM_ITSELF = {"pipaid": 0}  # The package alone is its version; nothing below it inherits that floor.
WORLDLY = frozenset({"asyncio", "os", "random", "socket", "time", "trio"})
PURE_FLOOR_MAX = 2

# (who, whom): the one never imports the other, though the floors would allow it.
STRANGERS = (
    ("pipaid.venues", "pipaid.storage"),
    ("pipaid.storage", "pipaid.venues"),
    ("pipaid.cli", "actors"),
    ("pipaid.api", "actors"),
    ("actors", "pipaid.cli"),
    ("actors", "pipaid.api"),
    ("pipaid.cli", "templates"),
    ("pipaid.api", "templates"),
)
# Actors meet through mailboxes that the composition root wires, so each knows what a mailbox is, what may be asked of
# whoever reads it, and no other actor.
SHARED_BY_ACTORS = ("actors.actor", "actors.errands")
COMPOSITION_ROOTS = (
    "actors.daemon",
    "actors.callers",
    "actors.consulting",
    "actors.hooks",
    "actors.jobs",
    "actors.posts",
    "actors.process",
    "actors.surfaces",
)


def test_every_import_goes_down_the_floors() -> None:
    offences = [offence for source in sources(*CODE) for offence in floor_offences(source)]

    assert offences == []


@pytest.mark.parametrize(
    ("place", "text"),
    [
        ("pipaid/model/order.py", "from pipaid.engine.risk import review"),
        ("pipaid/model/order.py", "from pipaid import seams"),
        ("pipaid/model/order.py", "import pipaid.signals.rules as rules"),
        ("pipaid/model/order.py", "from ..engine import risk"),
        ("pipaid/model/order.py", "from time import monotonic"),
        ("pipaid/signals/rules.py", "import os.path"),
        ("pipaid/engine/session.py", "def late():\n    import trio"),
        ("pipaid/sdk.py", "import random"),
        ("pipaid/errors.py", "import asyncio"),
        ("pipaid/errors.py", "from pipaid.signals import rules"),
        ("pipaid/wire/lines.py", "from pipaid.venues.venue import Venue"),
        ("pipaid/config.py", "from pipaid.storage.store import Store"),
        ("pipaid/venues/simulated.py", "from pipaid.storage.sqlite import Journal"),
        ("pipaid/storage/sqlite.py", "import pipaid.venues.venue"),
        ("pipaid/storage/sqlite.py", "import actors.recorder"),
        ("pipaid/cli/main.py", "from actors.control import serve"),
        ("pipaid/cli/main.py", "import templates.grid"),
        ("pipaid/api/app.py", "import actors"),
        ("templates/grid.py", "from pipaid.engine.template import Template"),
        ("templates/grid.py", "from pipaid import engine"),
        ("templates/grid.py", "import socket"),
        ("actors/feed.py", "from actors.recorder import Recorder"),
        ("actors/feed.py", "from actors import hub"),
        ("actors/feed.py", "from .hub import Hub"),
        ("actors/feed.py", "from actors.daemon import run"),
        ("actors/feed.py", "from pipaid.cli import main"),
        ("actors/feed.py", "from pipaid.launch import house"),
        ("pipaid/helpers.py", "import json"),
    ],
)
def test_an_import_that_goes_up_is_found(place: str, text: str) -> None:
    assert len(list(floor_offences(planted(place, text)))) == 1


@pytest.mark.parametrize(
    ("place", "text"),
    [
        ("pipaid/model/order.py", "from pipaid.model.money import rounded"),
        ("pipaid/engine/session.py", "import pipaid.model.order\nfrom decimal import Decimal"),
        ("pipaid/seams.py", "import time\nimport random\nimport os"),
        ("pipaid/launch.py", "from pipaid import __version__\nfrom actors.daemon import run"),
        ("templates/grid.py", "from pipaid.sdk import Template\nfrom templates.levels import ladder"),
        ("actors/feed.py", "import trio\nfrom actors.actor import Mailbox\nfrom pipaid.venues.venue import Venue"),
        ("actors/daemon.py", "from actors.feed import Feed\nfrom actors import hub"),
    ],
)
def test_an_import_that_goes_down_is_left_alone(place: str, text: str) -> None:
    assert list(floor_offences(planted(place, text))) == []


def floor_offences(source: Source) -> list[str]:
    """List what the imports of one file break."""
    own = floor_of(source.module)
    if own is None:
        return [f"{source.place}: {source.module} stands on no floor"]
    offences: list[str] = []
    for node, target in imports_of(source):
        reason = _reason_against(source.module, target, own)
        if reason:
            offences.append(f"{at(source, node)}: {target}: {reason}")
    return offences


def floor_of(name: str) -> int | None:
    """Look up the floor of a dotted name; None when it is not ours or has no place."""
    if name in ROOM_ITSELF:
        return ROOM_ITSELF[name]
    homes = [home for home in FLOORS if within(name, home)]
    return FLOORS[max(homes, key=len)] if homes else None


def within(name: str, home: str) -> bool:
    """Whether a dotted name is `home` or stands below it."""
    return name == home or name.startswith(home + ".")


def _reason_against(module: str, target: str, own: int) -> str:
    """Say why this module may not reach that name; empty when it may."""
    top = target.partition(".")[0]
    is_template = within(module, "templates")
    is_pure = own <= PURE_FLOOR_MAX or is_template or within(module, "pipaid.sdk")
    if top in WORLDLY and is_pure:
        return "reads the world, which floors 0 to 2 and templates never do"
    if top not in CODE:
        return ""
    if is_template and not (within(target, "pipaid.sdk") or within(target, "templates")):
        return "a template knows pipaid.sdk only"
    for who, whom in STRANGERS:
        if within(module, who) and within(target, whom):
            return f"{who} does not know {whom}"
    if _is_foreign_actor(module, target):
        return "actors meet through mailboxes and never import one another"
    floor = floor_of(target)
    if floor is None:
        return "stands on no floor"
    return f"floor {floor} is above floor {own}" if floor > own else ""


def _is_foreign_actor(module: str, target: str) -> bool:
    """Whether one actor reaches for another one."""
    if not within(module, "actors") or not within(target, "actors") or module in COMPOSITION_ROOTS:
        return False
    return not any(within(target, shared) for shared in SHARED_BY_ACTORS) and target != "actors"
