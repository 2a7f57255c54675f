"""A market that is played fast leaves a daemon as it was, what grows is found, and both can be looked at."""

from __future__ import annotations

import random
from pathlib import Path
from xml.etree import ElementTree

import pytest
from attrs import evolve

from tests.soak.commander import Commander
from tests.soak.hours import FLAT, Outcome, Sample, Size, run

SVG = "{http://www.w3.org/2000/svg}"
STILL = Sample(
    hours=0.0,
    rss_mib=100.0,
    descriptors=25,
    threads=5,
    tasks=250,
    children=210,
    file_mib=60.0,
    data_mib=50.0,
    traded_mib=10.0,
    explained_mib=1.0,
    records=0,
    trades=0,
)
# What grows by such an amount in eight hours is not flat.
GROWING = {"rss_mib": 20.0, "descriptors": 12, "threads": 4, "tasks": 30, "children": 25, "data_mib": 12.0}


async def test_a_while_of_trading_can_be_sampled_and_drawn(tmp_path: Path) -> None:
    outcome = await run(tmp_path, Size(hours=0.5, minutes=0.05, strategies=10, samples=6))

    assert outcome.trouble == []
    assert len(outcome.samples) == 6
    assert outcome.samples[-1].hours > outcome.samples[0].hours > 0
    assert outcome.samples[-1].records > outcome.samples[0].records
    assert all(listener.frames for listener in outcome.listeners)
    picture = ElementTree.fromstring(outcome.picture())
    assert len(picture.findall(f".//{SVG}path[@class='l a']")) == 4


@pytest.mark.parametrize("of", GROWING)
def test_what_grows_after_the_warm_up_is_not_flat(of: str) -> None:
    samples = [
        evolve(STILL, hours=number / 10, **{of: getattr(STILL, of) + GROWING[of] * number / 80}) for number in range(81)
    ]
    broken = [promise.of for promise in FLAT if not promise.kept(samples)]

    assert broken == ["rest_mib" if of == "data_mib" else of]


def test_what_grows_while_it_warms_up_only_is_flat() -> None:
    samples = [evolve(STILL, hours=number / 10, rss_mib=60 + min(number, 25)) for number in range(81)]

    assert all(promise.kept(samples) for promise in FLAT)


def test_history_may_grow() -> None:
    samples = [evolve(STILL, hours=number / 10, data_mib=50 + number, traded_mib=10 + number) for number in range(81)]

    assert all(promise.kept(samples) for promise in FLAT)


def test_a_picture_is_small_and_says_what_it_shows(tmp_path: Path) -> None:
    samples = [evolve(STILL, hours=number / 20, rss_mib=100 + number / 1e6) for number in range(161)]

    drawn = Outcome(Size(), samples, [], Commander(tmp_path, random.Random(1))).picture()

    texts = [element.text or "" for element in ElementTree.fromstring(drawn).iter(f"{SVG}text")]
    assert len(drawn.encode()) < 60_000
    assert "prefers-color-scheme:dark" in drawn
    assert any("8 hours of a market in 10 minutes" in text for text in texts)
    assert any("100 to 100; once warm" in text for text in texts)
