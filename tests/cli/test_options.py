"""Options: every field of every request can be typed, and what was typed arrives as the JSON it means."""

from __future__ import annotations

import re
from typing import Any

import pytest
import typer

from pipaid.cli.options import _arguments, args_of, asked_of, param_value, with_params
from pipaid.cli.verbs import GROUP_OF, WITHOUT_VERB
from pipaid.errors import InvalidParameter
from pipaid.model.operation import OPERATIONS, decode_request
from tests.cli.answering import pipaid

VERBS = [operation for operation in OPERATIONS.values() if operation.name not in WITHOUT_VERB and not operation.dialect]


@pytest.mark.parametrize("operation", VERBS, ids=lambda operation: operation.name)
def test_every_operation_is_a_verb_that_explains_itself(operation: Any) -> None:
    group, _, verb = operation.name.rpartition(".")
    ended = pipaid(*filter(None, (GROUP_OF.get(group, group), verb.replace("_", "-"))), "--help")

    assert ended.code == 0
    assert operation.summary.split(";", maxsplit=1)[0] in ended.out.replace("\n  ", " ")
    for name in operation.request.__struct_encode_fields__:
        typed = name.upper() if name in _arguments(operation) else name
        dashed = re.sub("[A-Z]", lambda capital: f"-{capital[0].lower()}", name.replace("_", "-"))
        assert typed in ended.out or f"--{dashed}" in ended.out


@pytest.mark.parametrize("operation", VERBS, ids=lambda operation: operation.name)
def test_every_field_can_be_typed(operation: Any) -> None:
    assert sorted(asked.field for asked in asked_of(operation)) == sorted(operation.request.__struct_fields__)


def test_what_was_left_out_is_left_out() -> None:
    typed: dict[str, Any] = {"id": "strat_5e07c1d9", "capital": None, "leverage": None, "dry_run": None}

    assert args_of(OPERATIONS["strategy.deploy"], typed) == {"id": "strat_5e07c1d9"}


def test_what_was_typed_becomes_the_json_that_it_means() -> None:
    args = args_of(
        OPERATIONS["strategy.create"],
        {
            "name": "x",
            "template_id": "tpl_grid",
            "params": '{"grid_levels": 6}',
            "param": ["upper_price=190.5", "risk.cooldown_bars=3"],
            "symbols": ["BTCUSDT,ETHUSDT", "SOLUSDT"],
            "timeframe": "15m",
            "capital": "2500.00",
            "leverage": 2,
        },
    )

    assert args["params"] == {"grid_levels": 6, "upper_price": "190.5", "risk": {"cooldown_bars": 3}}
    assert args["symbols"] == ["BTCUSDT", "ETHUSDT", "SOLUSDT"]
    assert (args["capital"], args["leverage"]) == ("2500.00", 2)
    decode_request(OPERATIONS["strategy.create"], args)


def test_a_strategy_without_params_is_created_with_none() -> None:
    assert args_of(OPERATIONS["strategy.create"], {"name": "x"})["params"] == {}
    assert "params" not in args_of(OPERATIONS["strategy.update"], {"id": "x", "name": "y"})


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ({"exposure_max": "off"}, {"exposure_max": None}),
        ({"exposure_max": "1000.50"}, {"exposure_max": "1000.50"}),
        ({"open_orders_max": "off"}, {"open_orders_max": None}),
        ({"open_orders_max": "20"}, {"open_orders_max": 20}),
        ({"max_open_positions": 3}, {"max_open_positions": 3}),
        ({"hedging_allowed": False}, {"hedging_allowed": False}),
    ],
)
def test_a_cap_can_be_set_and_lifted(typed: dict[str, Any], meant: dict[str, Any]) -> None:
    args = args_of(OPERATIONS["risk.set"], typed)

    assert args == meant
    decode_request(OPERATIONS["risk.set"], args)


@pytest.mark.parametrize(
    ("written", "meant"),
    [("0", 0), ("41", 41), ('{"strat_5e07c1d9":7}', {"strat_5e07c1d9": 7})],
)
def test_a_tail_starts_where_it_is_told(written: str, meant: Any) -> None:
    args = args_of(OPERATIONS["events.tail"], {"id": "*", "since_seq": written})

    assert args["since_seq"] == meant
    decode_request(OPERATIONS["events.tail"], args)


@pytest.mark.parametrize(("written", "meant"), [("1767225600000", 1767225600000), ("2026-01-01T00:00:00Z",) * 2])
def test_a_moment_is_typed_as_people_or_programs_write_it(written: str, meant: Any) -> None:
    args = args_of(OPERATIONS["strategy.why"], {"id": "strat_5e07c1d9", "at": written})

    assert args["at"] == meant
    assert decode_request(OPERATIONS["strategy.why"], args).at == 1_767_225_600_000  # type: ignore[attr-defined]  # It is StrategyWhy.


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("6", 6), ("-3", -3), ("0.02", "0.02"), ("true", True), ("false", False), ("geometric", "geometric"),
        ('"6"', "6"), ("[1, 2]", [1, 2]), ("", ""), ("1e5", "1e5"), ("٣", "٣"), ("9" * 19, "9" * 19),
    ],
)  # fmt: skip
def test_a_param_is_a_whole_number_a_flag_or_text(text: str, value: Any) -> None:
    assert param_value(text) == value


@pytest.mark.parametrize("written", ["grid_levels", "=6", "grid_levels.x=6", "risk.=1", "x={"])
def test_a_param_that_cannot_be_placed_is_a_mistake_of_usage(written: str) -> None:
    with pytest.raises(typer.BadParameter):
        with_params({"grid_levels": 6}, [written])


def test_params_that_are_no_json_are_a_mistake_of_usage() -> None:
    ended = pipaid("strategy", "update", "strat_5e07c1d9", "--params", "{grid_levels: 6}")

    assert ended.code == 2
    assert "--params" in ended.err
    assert "not JSON" in ended.err


def test_the_daemon_judges_what_is_typed_and_names_every_field() -> None:
    args = args_of(OPERATIONS["strategy.deploy"], {"id": "strat_5e07c1d9", "capital": "NaN", "leverage": 99})

    with pytest.raises(InvalidParameter) as refusal:
        decode_request(OPERATIONS["strategy.deploy"], args)
    assert [name for name, _ in refusal.value.details] == ["capital", "leverage"]
