"""Declared strategies are read whole, and refused whole with every mistake at its line."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from pipaid.config import Declaration, Mistaken, load_declarations
from pipaid.model.instrument import Timeframe
from tests.worlds import make_world

GOOD = """\
[[strategy]]
name = "btc grid"
template_id = "tpl_grid"
symbols = ["BTCUSDT"]
timeframe = "15m"
capital = "2500.00"
leverage = 2
deploy = true
dry_run = false
params = { grid_levels = 6, upper_price = "111000", lower_price = "98000" }

[[strategy]]
name = "eth dca"
template_id = "tpl_dca"
symbols = ["ETHUSDT", "SOLUSDT"]
timeframe = "1h"
capital = 500
[strategy.params]
interval = "1d"
buy_amount = "100"
"""


def declared(folder: Path, *texts: str) -> list[Declaration]:
    paths: list[Path] = []
    for index, text in enumerate(texts):
        paths.append(folder / f"{index}.toml")
        paths[-1].write_text(text, encoding="utf-8")
    return load_declarations(paths, make_world().disk)


def mistakes_in(folder: Path, *texts: str) -> dict[str, tuple[str, str]]:
    with pytest.raises(Mistaken) as caught:
        declared(folder, *texts)
    return {
        mistake.key: (mistake.place.removeprefix(f"{folder}/"), mistake.remedy) for mistake in caught.value.mistakes
    }


def test_declarations_are_read_in_order(tmp_path: Path) -> None:
    grid, dca = declared(tmp_path, GOOD)

    assert grid.definition.name == "btc grid"
    assert grid.definition.params == {"grid_levels": 6, "upper_price": "111000", "lower_price": "98000"}
    assert (grid.leverage, grid.deploy, grid.dry_run) == (2, True, False)
    assert (dca.leverage, dca.deploy, dca.dry_run) == (1, False, True)
    assert (dca.timeframe, dca.capital, dca.symbols) == (Timeframe.H1, Decimal(500), ("ETHUSDT", "SOLUSDT"))
    assert dca.source == f"{tmp_path}/0.toml:12"


def test_a_strategy_never_trades_for_real_by_omission(tmp_path: Path) -> None:
    text = GOOD.replace("deploy = true\n", "").replace("dry_run = false\n", "")

    assert all(each.dry_run and not each.deploy for each in declared(tmp_path, text))


def test_every_mistake_of_every_file_is_reported(tmp_path: Path) -> None:
    first = (
        GOOD.replace('capital = "2500.00"', "capital = 2500.50")
        .replace('"15m"', '"15min"')
        .replace('"111000"', "111000.5")
        .replace("leverage = 2", "levrage = 2")
    )
    second = '[[strategy]]\nname = ""\n[strategi]\n'

    found = mistakes_in(tmp_path, first, second, "x = = 1")

    assert found == {
        'strategy "btc grid": levrage': ("0.toml:7", "did you mean `leverage`?"),
        'strategy "btc grid": timeframe': ("0.toml:5", 'write: timeframe = "15m"'),
        'strategy "btc grid": capital': ("0.toml:6", 'write: capital = "2500.50"'),
        'strategy "btc grid": params.upper_price': ("0.toml:10", 'write: upper_price = "111000.5"'),
        "strategi": ("1.toml:3", "did you mean `[[strategy]]`?"),
        'strategy "": name': ("1.toml:2", "write an allowed value"),
        'strategy "": template_id': ("1.toml:1", 'write: template_id = "tpl_grid"'),
        'strategy "": symbols': ("1.toml:1", 'write: symbols = ["BTCUSDT"]'),
        'strategy "": timeframe': ("1.toml:1", 'write: timeframe = "15m"'),
        'strategy "": capital': ("1.toml:1", 'write: capital = "1000.00"'),
        'strategy "": params': ("1.toml:1", "write: params = { }"),
        "": ("2.toml:1", "mend this line; the keys of this file are checked after that"),
    }


@pytest.mark.parametrize(
    ("old", "new", "key", "remedy"),
    [
        ('["BTCUSDT"]', '["btcusdt"]', "symbols", 'write: symbols = ["BTCUSDT"]'),
        ('["BTCUSDT"]', "[]", "symbols", "write an allowed value"),
        ('["BTCUSDT"]', str([f"S{n}" for n in range(11)]).replace("'", '"'), "symbols", "write an allowed value"),
        ('"2500.00"', '"-1"', "capital", 'write: capital = "0.01"'),
        ('"2500.00"', '"NaN"', "capital", "write an allowed value"),
        ("leverage = 2", "leverage = 21", "leverage", "write: leverage = 20"),
        ("deploy = true", 'deploy = "true"', "deploy", "write: deploy = true"),
        ('"btc grid"', f'"{"x" * 65}"', "name", "write an allowed value"),
        ("grid_levels = 6", "since = 2025-06-01", "params.since", 'write: since = "2025-06-01"'),
        ("grid_levels = 6", "risk = { max = [1, 0.5] }", "params.risk.max.1", 'write: 1 = "0.5"'),
    ],
)
def test_a_wrong_field_is_refused(tmp_path: Path, old: str, new: str, key: str, remedy: str) -> None:
    ((found, (_, told)),) = mistakes_in(tmp_path, GOOD.replace(old, new)).items()

    assert found.endswith(f": {key}")
    assert told == remedy


def test_a_name_is_declared_once(tmp_path: Path) -> None:
    found = mistakes_in(tmp_path, GOOD, GOOD)

    assert found['strategy "btc grid"'] == ("1.toml:1", "give one of the two another name")


def test_a_single_table_is_told_from_several(tmp_path: Path) -> None:
    assert mistakes_in(tmp_path, '[strategy]\nname = "a"') == {"strategy": ("0.toml:1", "write [[strategy]]")}


def test_a_file_that_is_not_there_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(Mistaken, match="cannot be read"):
        load_declarations([tmp_path / "absent.toml"], make_world().disk)
