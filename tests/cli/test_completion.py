"""Completion: names and ids of what the daemon knows, in the form in which the shell can insert them."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipaid.cli.completion import complete_strategy, complete_template, quoted
from pipaid.model.report import TemplateList, TemplateObject
from tests.cli.answering import Answering, control, listed, strategy

GRID = TemplateObject(
    template_id="tpl_grid", version=1, description="a grid", min_capital="100", multi_symbol=False, params_schema={}
)
ANSWERS: dict[str, Answering] = {
    "strategy.list": listed(strategy()),
    "template.list": lambda asked: TemplateList(data=(GRID,), refused=()),
}


def test_names_and_ids_are_offered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with control(tmp_path, ANSWERS) as served:
        monkeypatch.setenv("PIPAID_SOCKET", str(served.path))

        assert complete_strategy("s") == ["sol range", "strat_5e07c1d9"]
        assert complete_strategy("so") == ["sol range"]
        assert complete_template("tpl") == ["tpl_grid"]
        assert complete_template("x") == []


def test_nothing_is_offered_when_nobody_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIPAID_SOCKET", str(tmp_path / "none.sock"))

    assert complete_strategy("") == complete_template("") == []


@pytest.mark.parametrize(
    ("words", "text"),
    [("pipaid\nget\nsol", r"sol\ range\$"), ("pipaid\nget\n'sol", "sol range$"), ("", r"sol\ range\$")],
)
def test_bash_gets_blanks_with_a_backslash_unless_a_quote_is_open(words: str, text: str) -> None:
    asked = {"_PIPAID_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": "2"}

    assert quoted("sol range$", asked) == text


def test_other_shells_quote_by_themselves() -> None:
    assert quoted("sol range", {"_PIPAID_COMPLETE": "complete_zsh"}) == "sol range"
