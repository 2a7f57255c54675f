"""Every example of a configuration loads and shows its keys, and every declared strategy can be read."""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest

from pipaid.config import Config, examine, load_config, load_declarations
from pipaid.config.sections import Sections
from pipaid.config.toml import parse
from pipaid.engine.params import structure_params
from pipaid.plugins import load_templates
from tests.house.tree import ROOT
from tests.worlds import make_world

FOLDER = ROOT / "config"
EXAMPLES = sorted(path.name for path in FOLDER.glob("*.toml"))
CANDLES = ROOT.parent / "shared/data/candles/binance-usdm"


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_example_loads(name: str) -> None:
    found = examine(FOLDER / name, make_world())

    # The recorded candles lie beside the checkout and not in it; without them the example says how to get some.
    expected = {"market.files", "market.funding_files", "market.instruments_file"}
    if name == "replay.toml" and not CANDLES.is_dir():
        assert {mistake.key for mistake in found.mistakes} == expected
        assert "open_time_ms,open,high,low,close,volume" in found.mistakes[0].remedy
    else:
        assert found.mistakes == ()


def test_the_full_example_holds_every_key_with_its_default() -> None:
    path = FOLDER / "pipaid.toml"

    document = parse(path, path.read_bytes())
    found = examine(path, make_world())

    assert load_config(path, make_world()) == Config(path=path)
    assert [each.key for each in found.values if not each.source.startswith(str(path))] == ["master key"]
    assert [key for key in document.table if key not in attrs.fields_dict(Sections)] == []


def test_the_minimal_example_differs_from_the_defaults_in_what_it_says_only() -> None:
    config = load_config(FOLDER / "paper.toml", make_world())

    assert attrs.evolve(config, market=Config().market, path=None) == Config()


def test_fifty_strategies_stand_ready_for_the_replay() -> None:
    declarations = load_declarations(sorted(FOLDER.glob("strategies/*.toml")), make_world().disk)

    assert len(declarations) == 50
    assert all(declaration.deploy for declaration in declarations)
    assert sum(declaration.dry_run for declaration in declarations) == 25
    assert len({declaration.template_id for declaration in declarations}) == 5
    assert {str(declaration.timeframe) for declaration in declarations} == {"1m", "5m", "15m", "1h"}
    assert len({symbol for declaration in declarations for symbol in declaration.symbols}) == 5


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*/*.toml")), ids=lambda path: f"{path.parent.name}/{path.name}")
def test_every_declared_strategy_suits_its_template(path: Path) -> None:
    catalogue = load_templates()

    for declaration in load_declarations([path], make_world().disk):
        template = catalogue.get(declaration.template_id)
        assert declaration.capital >= template.capital_min
        structure_params(
            template,
            declaration.params,
            symbols=declaration.symbols,
            timeframe=declaration.timeframe,
            capital=declaration.capital,
        )
