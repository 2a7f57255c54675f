"""A definition with every mistake named at once, and the caps that follow from it."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from attrs import frozen

from pipaid.engine.definition import check_definition, limits_of
from pipaid.engine.guards import RiskParams
from pipaid.engine.knobs import integer_param
from pipaid.engine.template import Template
from pipaid.errors import InvalidParameter
from pipaid.model.instrument import Timeframe
from tests.builders import OTHER, SYMBOL, make_definition, make_instrument, scripted

INSTRUMENTS = {symbol: make_instrument(symbol) for symbol in (SYMBOL, OTHER)}


@frozen(kw_only=True)
class Knobs:
    """The params of a template with one knob."""

    levels: int = integer_param("Levels", low=2, high=9)


TEMPLATE = scripted(
    params_type=Knobs,
    capital_min=Decimal(250),
    multi_symbol=False,
    risk_defaults=RiskParams(max_open_positions=3, max_drawdown_pct=Decimal("0.2")),
)


def mistakes(template: type[Template] = TEMPLATE, deployment: dict[str, Any] | None = None, **fields: Any) -> set[str]:
    given = {"params": {"levels": 5}, **fields}
    try:
        check_definition(make_definition(**given), template, INSTRUMENTS, **(deployment or {}))
    except InvalidParameter as refused:
        return {name for name, _ in refused.details}
    return set()


def test_a_good_definition_yields_its_params() -> None:
    params = check_definition(make_definition(params={"levels": 5}), TEMPLATE, INSTRUMENTS)

    assert params == Knobs(levels=5)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", ""),
        ("name", "x" * 65),
        ("name", "two\nlines"),
        ("symbols", ()),
        ("symbols", (SYMBOL, SYMBOL)),
        ("symbols", (SYMBOL, OTHER)),
        ("symbols", ("XRPUSDT",)),
        ("symbols", (SYMBOL.lower(),)),
        ("capital", Decimal("249.99")),
        ("leverage", 0),
        ("leverage", 21),
    ],
)
def test_each_mistake_is_named(field: str, value: Any) -> None:
    assert mistakes(**{field: value}) == {field}


@pytest.mark.parametrize(
    ("field", "value"),
    [("name", "x" * 64), ("name", "グリッド 15m"), ("capital", Decimal(250)), ("leverage", 1), ("leverage", 20)],
)
def test_what_is_just_allowed_is_allowed(field: str, value: Any) -> None:
    assert mistakes(**{field: value}) == set()


def test_more_symbols_than_the_daemon_takes_are_refused() -> None:
    many = tuple(f"S{number}USDT" for number in range(11))

    assert "symbols" in mistakes(scripted(params_type=Knobs), symbols=many)


def test_all_mistakes_are_named_at_once() -> None:
    wrong = mistakes(name="", symbols=("XRPUSDT",), capital=Decimal(1), leverage=99, params={"levels": 1, "x": 2})

    assert wrong == {"name", "symbols", "capital", "leverage", "levels", "x"}


def test_a_deployment_is_judged_by_its_own_capital_and_leverage() -> None:
    assert mistakes(deployment={"capital": Decimal(10), "leverage": 50}) == {"capital", "leverage"}
    assert mistakes(capital=Decimal(1), deployment={"capital": Decimal(300)}) == set()


def test_the_template_judges_the_params_with_the_capital_of_the_deployment() -> None:
    def check(cls: Any, /, params: Any, *, capital: Decimal, **_: Any) -> dict[str, str]:
        return {"levels": "too many"} if capital < params.levels * 100 else {}

    template = scripted(params_type=Knobs, check=classmethod(check))

    assert mistakes(template, capital=Decimal(499)) == {"levels"}
    assert mistakes(template, capital=Decimal(500)) == set()
    assert mistakes(template, capital=Decimal(499), deployment={"capital": Decimal(500)}) == set()


def test_what_the_leverage_makes_of_the_capital_is_still_an_amount() -> None:
    most = Decimal(10**18) - 1

    assert mistakes(capital=most, leverage=1) == set()
    assert mistakes(capital=most, leverage=2) == {"capital"}
    assert mistakes(capital=Decimal(1000), deployment={"capital": most, "leverage": 3}) == {"capital"}


def test_a_refusal_names_what_is_listed() -> None:
    with pytest.raises(InvalidParameter, match="'XRPUSDT' is not listed; listed are BTCUSDT, ETHUSDT"):
        check_definition(make_definition(symbols=("XRPUSDT",), params={"levels": 2}), TEMPLATE, INSTRUMENTS)


def test_the_caps_are_the_template_s_where_the_params_are_silent() -> None:
    definition = make_definition(
        params={"levels": 5, "risk": {"max_open_positions": 7, "cooldown_bars": 4, "max_daily_loss": "50"}},
        timeframe=Timeframe.M5,
    )

    caps = limits_of(definition, TEMPLATE, None, capital=Decimal(300), leverage=4)

    assert caps.ceiling == 1200
    assert (caps.open_positions_max, caps.drawdown_pct_max, caps.daily_loss_max) == (7, Decimal("0.2"), Decimal(50))
    assert caps.cooldown_ms == 4 * 300_000
    assert (caps.trades_per_day_max, caps.position_notional_max, caps.orders_per_minute_max) == (None, None, None)


def test_null_switches_a_cap_off() -> None:
    definition = make_definition(params={"levels": 5, "risk": {"max_open_positions": None}})

    assert limits_of(definition, TEMPLATE, None, capital=Decimal(300), leverage=1).open_positions_max is None


def test_a_template_that_hears_of_market_trades_is_refused_where_nobody_tells_of_them() -> None:
    def hears_nothing(*_: object) -> tuple[()]:
        return ()

    kind = type("Hearing", (TEMPLATE,), {"on_trades": hears_nothing})

    with pytest.raises(InvalidParameter, match="has on_trades, which is asked in backtests over the market trades"):
        check_definition(make_definition(params={"levels": 5}), kind, INSTRUMENTS)
    assert check_definition(make_definition(params={"levels": 5}), kind, INSTRUMENTS, with_trades=True).levels == 5


def test_half_an_hour_is_a_timeframe_of_candles_and_of_no_strategy() -> None:
    with pytest.raises(InvalidParameter, match="one of 1m, 5m, 15m, 1h, 4h, 1d, got 30m") as refused:
        check_definition(make_definition(timeframe=Timeframe.M30, params={"levels": 5}), TEMPLATE, INSTRUMENTS)

    assert [name for name, _ in refused.value.details] == ["timeframe"]
