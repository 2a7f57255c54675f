"""The colours of a report can be read on both grounds, and gain and loss told apart by all kinds of colour vision."""

from __future__ import annotations

import re
from pkgutil import get_data

import numpy as np
import pytest

from pipaid.model.columns import Floats

STYLE = (get_data("pipaid.reporting", "report.css") or b"").decode()
COLOURS = {name: pair for name, *pair in re.findall(r"--(\w+): light-dark\((#\w{6}), (#\w{6})\);", STYLE)}
THEMES = ("light", "dark")
# WCAG 2.1: 4.5 for text, 3 for the lines and marks of a chart.
TEXT_CONTRAST_MIN = 4.5
MARK_CONTRAST_MIN = 3.0
TEXTS = [
    *(("text", ground) for ground in ("ground", "card", "grid")),
    *(("quiet", ground) for ground in ("ground", "card")),
    *((name, ground) for name in ("gain", "loss") for ground in ("card", "grid")),
    *(("text", f"{way}{shade}") for way in ("up", "down") for shade in (1, 2, 3)),
    *((ink, f"{way}{shade}") for way in ("up", "down") for shade, ink in ((4, "deep4"), (5, "deep"))),
]
MARKS = [(name, "card") for name in ("accent", "target", "entry", "liquidation", "fall", "exposure")]
# How linear light is seen without one kind of cone (Machado and others, 2009, severity 1).
KINDS = {
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}


def light_of(name: str, theme: str) -> Floats:
    """Return a colour as linear light."""
    text = COLOURS[name][THEMES.index(theme)]
    signal = np.array([int(text[at : at + 2], 16) for at in (1, 3, 5)]) / 255
    return np.where(signal <= 0.04045, signal / 12.92, ((signal + 0.055) / 1.055) ** 2.4)


def contrast(one: str, other: str, theme: str) -> float:
    """Return the contrast of two colours as WCAG defines it."""
    weights = np.array([0.2126, 0.7152, 0.0722])
    dark, bright = sorted(float(light_of(name, theme) @ weights) for name in (one, other))
    return (bright + 0.05) / (dark + 0.05)


def lab(light: Floats) -> Floats:
    """Return linear light in CIE Lab, where distances are about those that people see."""
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    x, y, z = np.cbrt(np.clip(to_xyz @ np.clip(light, 0, 1), 0.009, None) / np.array([0.9505, 1.0, 1.089]))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize(("ink", "ground"), TEXTS)
def test_text_can_be_read(ink: str, ground: str, theme: str) -> None:
    assert contrast(ink, ground, theme) >= TEXT_CONTRAST_MIN


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize(("ink", "ground"), MARKS)
def test_lines_and_marks_can_be_seen(ink: str, ground: str, theme: str) -> None:
    assert contrast(ink, ground, theme) >= MARK_CONTRAST_MIN


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("one", "other"), [("gain", "loss"), ("up3", "down3"), ("up5", "down5")])
def test_gain_and_loss_are_told_apart(one: str, other: str, kind: str, theme: str) -> None:
    seen = [lab(np.array(KINDS[kind]) @ light_of(name, theme)) for name in (one, other)]

    # A difference of 20 is plain at a glance; red and green of the usual charts are less than that apart.
    assert float(np.linalg.norm(seen[0] - seen[1])) > 20


def test_the_usual_red_and_green_would_not_pass() -> None:
    red, green = np.array([0.53, 0.05, 0.03]), np.array([0.16, 0.24, 0.02])
    matrix = np.array(KINDS["deuteranopia"])

    assert float(np.linalg.norm(lab(matrix @ red) - lab(matrix @ green))) < 20
