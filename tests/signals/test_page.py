"""The page about signals is what the catalogue says."""

from __future__ import annotations

from tests.signals.page import PAGE, page


def test_the_page_is_true() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "write it anew with `.venv/bin/python -m tests.signals.page`"
