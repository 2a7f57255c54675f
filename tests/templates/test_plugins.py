"""Templates of other packages are found by entry point, and a broken one is refused alone, by name."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from pipaid.errors import InvalidParameter
from pipaid.plugins import GROUP, Catalogue, installed_points, load_templates
from pipaid.sdk import Timeframe
from templates.grid import Grid
from tests.house.tree import ROOT
from tests.plugin_example.example_template.overnight import Overnight
from tests.signals.candles import candles_of
from tests.templates.driver import Driver
from tests.templates.test_wakes import make_template

LIST = """
import json, sys
from pipaid.plugins import load_templates
catalogue = load_templates()
found = {name: sys.modules[kind.__module__].__file__ for name, kind in catalogue.templates.items()}
print(json.dumps([found, dict(catalogue.broken)]))
"""

DECLARATION = """
from decimal import Decimal
from attrs import frozen
from pipaid.sdk import Template, decimal_param, integer_param

@frozen
class Params:
    size: int = integer_param("Size", low=1, high=9, default=3)

class Mine(Template):
    id = "tpl_mine"
    description = "Does nothing."
    params_type = Params
"""


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder on the path, named after the test, so that no other test has imported its modules."""
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    return tmp_path


def point(folder: Path, text: str, *, name: str = "tpl_mine") -> EntryPoint:
    """Write a module and return the entry point of its class `Mine`."""
    module = f"plugged_{folder.name}_{len(list(folder.iterdir()))}"
    (folder / f"{module}.py").write_text(text, encoding="utf-8")
    importlib.invalidate_caches()
    return EntryPoint(name=name, value=f"{module}:Mine", group=GROUP)


def test_the_built_in_templates_are_found() -> None:
    catalogue = load_templates()

    assert set(catalogue.templates) == {
        "tpl_grid",
        "tpl_dca",
        "tpl_momentum",
        "tpl_meanrev",
        "tpl_breakout",
        "tpl_rules",
        "tpl_analyst",
    }
    assert catalogue.broken == {}
    assert catalogue.get("tpl_grid") is Grid


def test_an_unknown_template_is_refused_with_those_there_are() -> None:
    with pytest.raises(InvalidParameter, match=r"known: tpl_analyst, tpl_breakout, tpl_dca, tpl_grid") as refused:
        load_templates().get("tpl_nonsense")

    assert [field for field, _ in refused.value.details] == ["template_id"]


def test_a_broken_template_is_refused_with_the_reason() -> None:
    with pytest.raises(InvalidParameter, match="tpl_mine is installed but broken: no attribute Mine"):
        Catalogue({}, {"tpl_mine": "no attribute Mine"}).get("tpl_mine")


def test_an_installed_package_is_found_and_its_broken_template_refused_alone(tmp_path: Path) -> None:
    source, site = tmp_path / "source", tmp_path / "site"
    shutil.copytree(ROOT / "tests" / "plugin_example", source)
    run(sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "install", "--no-deps",
        "--no-build-isolation", "--no-index", "--target", str(site), str(source))  # fmt: skip

    found, broken = json.loads(run(sys.executable, "-c", LIST, PYTHONPATH=str(site)))

    assert set(found) == {*load_templates().templates, "tpl_example"}
    assert Path(found["tpl_example"]).is_relative_to(site)
    assert broken == {"tpl_example_broken": "SystemExit: this template leaves when it is looked at"}


def test_the_example_trades_overnight() -> None:
    driver = Driver(make_template(Overnight, {"share": "0.25"}), timeframe=Timeframe.H1)
    driver.deploy()

    driver.run(candles_of([100 + hour for hour in range(24 * 5)]))

    assert len(driver.trades) == 4
    assert {
        (trade.opened_at_ms // 3_600_000 % 24, trade.closed_at_ms // 3_600_000 % 24) for trade in driver.trades
    } == {(20, 8)}
    assert driver.calls == 9


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("raise GeneratorExit", "GeneratorExit: "),
        ("raise BaseExceptionGroup('two', [SystemExit(), ValueError()])", "BaseExceptionGroup: two"),
        ("def f(): f()\nf()", "RecursionError: "),
        ("this is no Python", "SyntaxError: "),
        ("import nothing_of_this_name", "ModuleNotFoundError: "),
        ("class E(Exception):\n    def __str__(self): raise self\nraise E", "E: which cannot be shown"),
        ("Other = 1", "AttributeError: "),
        ("Mine = 1", "is no subclass of pipaid.sdk.Template"),
        (DECLARATION.replace('"tpl_mine"', '"mine"'), "id must be tpl_"),
        (DECLARATION.replace('"tpl_mine"', '"tpl_other"'), "its id is tpl_other, but its entry point"),
        (DECLARATION.replace('    id = "tpl_mine"\n', ""), "id must be tpl_"),
        (DECLARATION.replace('"Does nothing."', '" "'), "description is missing"),
        (DECLARATION.replace("    params_type = Params\n", ""), "params_type is missing"),
        (DECLARATION.replace("params_type = Params", "params_type = int"), "int is no attrs class"),
        (DECLARATION.replace("default=3", "default=30"), "the default of size must be from 1 to 9"),
        (DECLARATION.replace("size: int", "risk: int"), "must not have a field risk"),
        (DECLARATION.replace("high=9,", "high=9, less_than='more',"), "to be below more, which is no param"),
        (DECLARATION.replace("size: int = integer", "size: int = 3\n    other: int = integer"), "is not declared with"),
        (DECLARATION + "    version = 0\n", "version must be"),
        (DECLARATION + "    capital_min = 100.0\n", "capital_min must be"),
        (DECLARATION + "    multi_symbol = 1\n", "multi_symbol must be"),
        (DECLARATION + "    risk_defaults = {}\n", "risk_defaults must be"),
        (DECLARATION + "    state_type = dict\n", "state_type must be"),
        (DECLARATION + "    async def on_candle(self, view): return ()\n", "on_candle must not be async"),
        (DECLARATION + "    async def on_start(self, view): yield 1\n", "on_start must not be async"),
    ],
)  # fmt: skip
def test_whatever_is_wrong_with_one_the_others_are_loaded(written: Path, text: str, reason: str) -> None:
    good = DECLARATION.replace("tpl_mine", "tpl_good")

    catalogue = load_templates([point(written, text), point(written, good, name="tpl_good")])

    assert set(catalogue.templates) == {"tpl_good"}
    assert set(catalogue.broken) == {"tpl_mine"}
    assert reason in catalogue.broken["tpl_mine"]


def test_the_user_may_interrupt(written: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        load_templates([point(written, "raise KeyboardInterrupt")])


def test_an_id_is_given_once(written: Path) -> None:
    first, second, third = (point(written, DECLARATION) for _ in range(3))

    catalogue = load_templates([first, second, third])

    assert set(catalogue.templates) == {"tpl_mine"}
    assert len(catalogue.broken) == 2
    assert all("tpl_mine is taken by plugged_" in reason for reason in catalogue.broken.values())


def test_ours_come_first(written: Path) -> None:
    usurper = point(written, DECLARATION.replace("tpl_mine", "tpl_breakout"), name="tpl_breakout")

    catalogue = load_templates([usurper, *installed_points()])

    assert catalogue.templates["tpl_breakout"].__module__ == "templates.breakout"
    assert "taken by templates.breakout" in catalogue.broken[f"tpl_breakout of {usurper.value}"]


def test_a_reason_is_short_and_in_one_line(written: Path) -> None:
    catalogue = load_templates([point(written, "raise ValueError('a\\n' * 10_000)")])

    assert len(catalogue.broken["tpl_mine"]) <= 300
    assert "\n" not in catalogue.broken["tpl_mine"]


def run(*command: str, **variables: str) -> str:
    """Run a command that has to succeed, and return what it printed."""
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, **variables}, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
    return done.stdout
