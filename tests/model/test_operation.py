"""The operation table, and the requests it takes: every bad field is named, nothing undeclared gets through."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipaid.errors import InvalidParameter, NotFound
from pipaid.model.instrument import Timeframe
from pipaid.model.operation import OPERATIONS, PUBLIC, Operation, decode_request, objection_to, operation_named
from pipaid.model.parsing import allowed_values
from pipaid.model.request import EventsTail, KeyCreate, RiskSet, StrategyCreate, StrategyUpdate, StrategyWhy
from pipaid.model.strategy import Status

CREATE: dict[str, Any] = {
    "name": "sol range",
    "template_id": "tpl_grid",
    "params": {"grid_levels": 6, "upper_price": "190"},
    "symbols": ["SOLUSDT"],
    "timeframe": "15m",
    "capital": "2500.00",
    "leverage": 2,
}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def mistakes_in(op: str, args: object) -> dict[str, str]:
    """Return what is wrong with a request, by field."""
    with pytest.raises(InvalidParameter) as refused:
        decode_request(OPERATIONS[op], args)
    return dict(refused.value.details)


def test_every_operation_of_the_surface_is_declared() -> None:
    webhook = "create list get update delete test rotate_secret deliveries"
    strategy = (
        "create list get update delete deploy pause stop reset trigger orders positions trades runs why stats state "
        "bind unbind bindings"
    )
    dialect = "list create registry get update delete status activate_all deactivate_all trigger runs stats "
    dialect += "bind unbind bindings"
    expected = {f"strategy.{verb}" for verb in strategy.split()} | {f"dialect.{verb}" for verb in dialect.split()} | {
        "template.list", "template.get", "kill.get", "kill.activate", "kill.deactivate", "kill.logs", "risk.get",
        "risk.set", "run.get", "events.tail", "events.stop", "key.create", "key.list", "key.revoke", "key.rotate",
        "ping", "status", "health", "actors", "metrics", "reload", "drain", "shutdown", "log.level", "sim.halt",
        "condition.logs", "sim.fault", "sim.faults", "sim.calm", "backtest.create", "backtest.list", "backtest.get",
        "backtest.cancel", "account.create", "account.list", "token.create", "token.rotate",
        "signal.list", "signal.get", "market.exchange_info", "market.klines", "market.depth", "market.ticker",
        "market.trades",
    }  # fmt: skip
    expected |= {f"webhook.{verb}" for verb in webhook.split()}

    assert set(OPERATIONS) == expected


@pytest.mark.parametrize(
    ("op", "weight"),
    [
        ("strategy.get", 1),
        ("strategy.list", 2),
        ("strategy.create", 5),
        ("strategy.update", 5),
        ("strategy.pause", 5),
        ("strategy.stop", 5),
        ("strategy.delete", 5),
        ("strategy.deploy", 10),
        ("strategy.trigger", 5),
        ("strategy.runs", 2),
        ("strategy.bind", 5),
        ("strategy.unbind", 5),
        ("strategy.bindings", 2),
        ("health", 0),
        ("webhook.create", 5),
        ("webhook.list", 2),
        ("webhook.get", 1),
        ("webhook.update", 5),
        ("webhook.delete", 5),
        ("webhook.test", 10),
        ("webhook.rotate_secret", 5),
        ("webhook.deliveries", 2),
    ],
)
def test_weights_are_those_of_the_contract(op: str, weight: int) -> None:
    assert OPERATIONS[op].weight == weight


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=lambda operation: operation.name)
def test_a_row_is_consistent(operation: Operation) -> None:
    addressed = re.findall(r"\{(\w+)\}", operation.path)

    assert operation.summary
    assert "." not in operation.summary
    assert addressed[:1] == ([operation.id_field] if addressed else [])
    assert set(addressed) <= set(operation.request.__struct_fields__)
    assert (operation.method in ("", "GET")) or operation.mutating
    assert operation.mutating == (operation.name != "events.stop" and operation.method not in ("", "GET")) or (
        operation.admin_only
    )
    assert bool(operation.method) == bool(operation.path)
    assert not operation.mutating or not operation.scope.endswith(":read")
    assert (
        operation.admin_only
        or operation.scope.startswith(("strategies:", "backtest:", "webhooks:"))
        or (operation.scope == PUBLIC and operation.name.startswith("market.") and not operation.mutating)
    )
    assert all(allowed_values(operation.request).values())


def test_no_two_operations_share_a_route() -> None:
    routes = [(operation.method, operation.path) for operation in OPERATIONS.values() if operation.path]

    assert len(routes) == len(set(routes))


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=lambda operation: operation.name)
def test_both_sides_of_an_operation_can_be_published_as_json_schema(operation: Operation) -> None:
    (asked, answered), _ = msgspec.json.schema_components([operation.request, operation.reply])

    assert asked["$ref"]
    assert answered["$ref"]


def test_an_unknown_operation_is_not_found() -> None:
    with pytest.raises(NotFound, match=r"strategy\.explode"):
        operation_named("strategy.explode")


def test_a_good_request_comes_out_typed() -> None:
    request = decode_request(OPERATIONS["strategy.create"], msgspec.json.encode(CREATE))

    assert request == StrategyCreate(
        name="sol range",
        template_id="tpl_grid",
        params=CREATE["params"],
        symbols=("SOLUSDT",),
        timeframe=Timeframe.M15,
        capital=Decimal("2500.00"),
        leverage=2,
    )


def test_what_is_optional_has_its_default() -> None:
    request = decode_request(OPERATIONS["strategy.deploy"], {"id": "strat_00000001"})

    assert msgspec.to_builtins(request) == {
        "id": "strat_00000001", "capital": None, "leverage": None, "dry_run": False,
    }  # fmt: skip


def test_all_bad_fields_are_named_at_once() -> None:
    bad = {
        "name": "",
        "params": [],
        "symbols": ["btcusdt"],
        "timeframe": "2m",
        "capital": 1.5,
        "leverage": 21,
        "dry_run": True,
    }

    mistakes = mistakes_in("strategy.create", bad)

    assert set(mistakes) == {*bad, "template_id"}
    assert mistakes["template_id"].startswith("is required")
    assert mistakes["dry_run"].startswith("is unknown; known are name, template_id")
    assert mistakes["leverage"] == "must be a whole number from 1 to 20, got 21"
    assert "capital letters" in mistakes["symbols"]


def test_where_nothing_is_asked_for_no_field_is_known() -> None:
    assert mistakes_in("kill.get", {"symbol": "BTCUSDT"}) == {"symbol": "is unknown; nothing is asked for here"}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("capital", 100.0),
        ("capital", "1e3"),
        ("capital", "NaN"),
        ("capital", "Infinity"),
        ("capital", "-5"),
        ("capital", "0"),
        ("capital", 0),
        ("capital", True),
        ("capital", None),
        ("capital", "１００"),
        ("capital", " 100"),
        ("capital", "1" * 19),
        ("leverage", 0),
        ("leverage", "2"),
        ("leverage", 1.0),
        ("leverage", True),
        ("leverage", None),
        ("name", "x" * 65),
        ("name", "a\nb"),
        ("name", "ab\n"),
        ("name", 5),
        ("symbols", []),
        ("symbols", "BTCUSDT"),
        ("symbols", ["BTCUSDT"] * 2),
        ("symbols", ["BTCUSDT\n"]),
        ("symbols", ["BTC-USDT"]),
        ("symbols", [f"A{n}" for n in range(11)]),
        ("symbols", [None]),
        ("timeframe", "1M"),
        ("timeframe", "30m"),
        ("timeframe", 60),
        ("params", None),
        ("params", "{}"),
        ("template_id", ""),
    ],
)
def test_a_bad_value_is_refused_by_name(field: str, value: object) -> None:
    assert list(mistakes_in("strategy.create", {**CREATE, field: value})) == [field]


@pytest.mark.parametrize("amount", ["100", "100.00", 100, "0.000000000000000001"])
def test_decimals_come_as_strings_or_whole_numbers(amount: object) -> None:
    request = decode_request(OPERATIONS["strategy.create"], {**CREATE, "capital": amount})

    assert isinstance(request, StrategyCreate)
    assert request.capital == Decimal(str(amount))


def test_an_update_tells_absent_from_given() -> None:
    request = decode_request(OPERATIONS["strategy.update"], {"id": "x", "capital": "300", "symbols": ["A1", "B2"]})

    assert isinstance(request, StrategyUpdate)
    assert request.changes() == {"capital": Decimal(300), "symbols": ("A1", "B2")}
    assert list(mistakes_in("strategy.update", {"id": "x", "name": None})) == ["name"]


def test_a_cap_is_lifted_with_null_and_left_alone_when_absent() -> None:
    request = decode_request(OPERATIONS["risk.set"], {"exposure_max": None, "portfolio_drawdown_max": "0.2"})

    assert isinstance(request, RiskSet)
    assert request.changes() == {"exposure_max": None, "portfolio_drawdown_max": Decimal("0.2")}
    assert list(mistakes_in("risk.set", {"portfolio_drawdown_max": "1.01"})) == ["portfolio_drawdown_max"]


@pytest.mark.parametrize("limit", [0, 101, -1, "20", 20.0, True])
def test_a_limit_out_of_bounds_is_refused(limit: object) -> None:
    assert list(mistakes_in("strategy.list", {"limit": limit})) == ["limit"]


def test_a_listing_takes_its_filters() -> None:
    request = decode_request(OPERATIONS["strategy.list"], {"status": "paused", "limit": 100, "cursor": None})

    assert msgspec.structs.asdict(request) == {
        "limit": 100, "cursor": None, "status": Status.PAUSED, "template_id": None,
    }  # fmt: skip
    assert list(mistakes_in("strategy.list", {"status": "running"})) == ["status"]


def test_a_bad_value_is_refused_by_the_name_that_was_sent() -> None:
    assert list(mistakes_in("strategy.runs", {"id": "s", "from": "x", "end": "y"})) == ["from", "end"]
    assert list(mistakes_in("strategy.runs", {"id": "s", "from": "x", "start": "x"})) == ["start"]


@pytest.mark.parametrize("since", [0, 17, {"strat_00000001": 4}])
def test_a_tail_starts_at_a_number_or_at_one_for_each_strategy(since: object) -> None:
    request = decode_request(OPERATIONS["events.tail"], {"since_seq": since})

    assert request == EventsTail(id="*", since_seq=since)  # type: ignore[arg-type]  # Both forms are declared.


@pytest.mark.parametrize("since", [-1, "5", 1.0, {"x": -1}, {"x": "1"}, [1], True])
def test_a_tail_from_nonsense_is_refused(since: object) -> None:
    assert list(mistakes_in("events.tail", {"since_seq": since})) == ["since_seq"]


@pytest.mark.parametrize("moment", ["2026-02-03T04:05:06Z", "2026-02-03T04:05:06", 1_770_091_506_000])
def test_a_moment_is_held_in_milliseconds(moment: object) -> None:
    request = decode_request(OPERATIONS["key.create"], {"name": "k", "scopes": ["trade"], "expires_at": moment})

    assert isinstance(request, KeyCreate)
    assert request.expires_at == 1_770_091_506_000


@pytest.mark.parametrize("moment", ["yesterday", "", -1, 10**18, 1.5, "0000-01-01"])
def test_a_moment_that_is_none_is_refused(moment: object) -> None:
    mistakes = mistakes_in("key.create", {"name": "k", "scopes": ["trade"], "expires_at": moment})

    assert list(mistakes) == ["expires_at"]


@pytest.mark.parametrize(
    ("moment", "held"),
    [
        ("0001-01-01T00:00:00+23:59", 0),
        ("1969-12-31T23:59:59.999Z", 0),
        ("9999-12-31T23:59:59-23:59", 253_402_300_799_999),
    ],
)
def test_every_moment_of_the_calendar_is_taken_and_nothing_was_before_1970(moment: str, held: int) -> None:
    request = decode_request(OPERATIONS["strategy.why"], {"id": "strat_1", "at": moment})

    assert isinstance(request, StrategyWhy)
    assert request.at == held


@pytest.mark.parametrize("args", [[], None, "x", 5, b"[1]", b"{", b"\xff", b'{"a":' * 90_000, b'{"id":1e999}'])
def test_args_that_are_no_object_are_refused(args: object) -> None:
    with pytest.raises(InvalidParameter):
        decode_request(OPERATIONS["strategy.get"], args)


def test_what_a_refusal_quotes_is_bounded() -> None:
    huge = {f"field{n}" * 20: "x" * 10_000 for n in range(500)}

    mistakes = mistakes_in("strategy.create", {**CREATE, **huge, "capital": "x" * 100_000})

    assert len(mistakes) <= 100
    assert max(len(name) + len(reason) for name, reason in mistakes.items()) < 300


@given(st.sampled_from(sorted(OPERATIONS)), st.dictionaries(st.text() | st.sampled_from(["id", "limit", "name"]), JSON))
def test_whatever_is_sent_is_taken_or_refused(op: str, args: dict[str, Any]) -> None:
    operation = OPERATIONS[op]
    try:
        request = decode_request(operation, msgspec.json.encode(args))
    except InvalidParameter:
        return
    assert isinstance(request, operation.request)
    assert set(args) <= set(operation.request.__struct_fields__)


@given(
    st.dictionaries(
        st.sampled_from(["name", "template_id", "params", "symbols", "timeframe", "capital", "leverage"]), JSON
    )
)
def test_each_field_is_judged_by_itself(args: dict[str, Any]) -> None:
    def wrong(sent: dict[str, Any]) -> set[str]:
        try:
            decode_request(OPERATIONS["strategy.create"], sent)
        except InvalidParameter as refused:
            return {name for name, _ in refused.details}
        return set()

    assert wrong({**CREATE, **args}) == {name for name in args if wrong({**CREATE, name: args[name]})}


def test_an_operation_that_is_not_there_is_refused_with_the_one_that_was_meant() -> None:
    with pytest.raises(NotFound, match=r"there is no operation 'statu'; did you mean status\?"):
        operation_named("statu")
    with pytest.raises(NotFound, match="`pipaid --help` lists them"):
        operation_named("xyzzy")


@pytest.mark.parametrize("op", ["kill.activate", "kill.deactivate", "risk.set"])
@pytest.mark.parametrize(
    ("account", "scopes", "may"),
    [
        ("acct_main", {"strategies:write"}, True),
        ("acct_main", {"strategies:read"}, False),
        ("acct_two", {"strategies:read", "strategies:write", "backtest:write"}, False),
        ("acct_two", {"admin"}, True),
        ("acct_main", {"admin"}, True),
        ("acct_two", set[str](), False),
    ],
)
def test_what_acts_on_the_whole_daemon_is_the_owners_or_takes_the_scope_admin(
    op: str, account: str, scopes: set[str], may: bool
) -> None:
    objection = objection_to(OPERATIONS[op], speaks_for=account, scopes=scopes)

    assert (objection == "") is may
    assert may or ("whole daemon" in objection and "the scope admin" in objection)


def test_nothing_else_acts_on_the_whole_daemon_and_every_other_scope_is_asked_for_whoever_it_is() -> None:
    daemon_wide = {name for name, operation in OPERATIONS.items() if operation.daemon_wide}

    assert daemon_wide == {"kill.activate", "kill.deactivate", "risk.set"}
    assert objection_to(OPERATIONS["strategy.pause"], speaks_for="acct_main", scopes={"admin"}) != ""
    assert objection_to(OPERATIONS["strategy.pause"], speaks_for="acct_two", scopes={"strategies:write"}) == ""
    assert objection_to(OPERATIONS["health"], speaks_for="", scopes=set()) == ""
