"""Two published pages, the one that shows a strategy and the one that changes it: their lines, shapes and refusals."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Generator, Mapping
from typing import Any, Final

import pytest

from tests.surfaces.api import Api, User, curl, serving
from tests.surfaces.daemon import GRID

PARAMS: Final = {"grid_levels": 8, "upper_price": "72000", "lower_price": "60000", "rebalance_threshold": "0.02"}
CREATED: Final = {
    "name": "BTC grid 1h", "template_id": "tpl_grid", "params": PARAMS, "symbols": ["BTCUSDT"], "timeframe": "1h",
    "capital": "10000.00", "leverage": 3,
}  # fmt: skip
# As it stands on the page, line breaks and all: what is signed is what is sent.
CHANGES: Final = """{
"name": "BTC grid 1h v2",
"params": {
"grid_levels": 12,
"upper_price": "74000",
"lower_price": "58000",
"rebalance_threshold": "0.015"
},
"capital": "12000.00"
}"""
CHANGED: Final = {
    "name": "BTC grid 1h v2",
    "params": {"grid_levels": 12, "upper_price": "74000", "lower_price": "58000", "rebalance_threshold": "0.015"},
    "capital": "12000.00",
}


def text(pattern: str) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, str) and re.fullmatch(pattern, value) is not None


def whole(low: int, high: int) -> Callable[[Any], bool]:
    return lambda value: type(value) is int and low <= value <= high


MOMENT: Final = text(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")
STATUSES: Final = ("draft", "deployed", "paused", "stopped", "error")
# The table of the page, field by field.
FIELDS: Final[Mapping[str, Callable[[Any], bool]]] = {
    "id": text(r"strat_[0-9a-f]{6,8}"),
    "name": text(r".{1,64}"),
    "template_id": text(r"tpl_[a-z]+"),
    "params": lambda value: isinstance(value, dict),
    "symbols": lambda value: all(map(text(r"[A-Z0-9]+"), value)) and 1 <= len(value) <= 10,
    "timeframe": lambda value: value in ("1m", "5m", "15m", "1h", "4h", "1d"),
    "capital": text(r"[0-9]+\.[0-9]{2}"),
    "leverage": whole(1, 20),
    "status": lambda value: value in STATUSES,
    "deployed_at": lambda value: value is None or MOMENT(value),
    "created_at": MOMENT,
    "updated_at": MOMENT,
}
STATS: Final[Mapping[str, Callable[[Any], bool]]] = {
    "open_positions": whole(0, 10**6),
    "total_pnl": text(r"-?[0-9]+\.[0-9]{2}"),
    "total_trades": whole(0, 10**6),
    "win_rate": text(r"[01]\.[0-9]{3}"),
}


def assert_documented(strategy: Mapping[str, Any]) -> None:
    """Hold a strategy to the page: each field is there, and as it is described."""
    assert [name for name, fits in FIELDS.items() if not fits(strategy[name])] == []
    assert strategy["stats"].keys() == STATS.keys()
    assert [name for name, fits in STATS.items() if not fits(strategy["stats"][name])] == []


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Generator[Api, None, None]:
    with serving(tmp_path_factory.mktemp("pages")) as api:
        yield api


NUMBERS: Final = itertools.count()


@pytest.fixture
def user(api: Api) -> User:
    """Return somebody whose account nobody else has."""
    return api.user(account=f"acct_{next(NUMBERS)}")


def line(user: User, method: str, target: str, body: str = "") -> list[str]:
    """Return the words of the page's own line, with a signature."""
    signed = user.signed(method, target, body.encode()).headers
    words = [f"{user.url}{target}"]
    for name in ("X-PipAI-API-Key", "X-PipAI-Timestamp", "X-PipAI-Signature"):
        words += ["-H", f"{name}: {signed[name]}"]
    if method != "GET":
        words = ["-X", method, *words, "-H", "Content-Type: application/json", "-d", body]
    return words


def test_the_line_that_shows_a_strategy_runs_and_answers_every_field(user: User) -> None:
    one = user.send("POST", "/v1/strategies", CREATED).json()["id"]
    draft = curl(*line(user, "GET", f"/v1/strategies/{one}"))
    user.send("POST", f"/v1/strategies/{one}/deploy", {"dry_run": True})
    deployed = curl(*line(user, "GET", f"/v1/strategies/{one}"))

    assert (draft[0], deployed[0]) == (200, 200)
    for _, body in (draft, deployed):
        assert_documented(body)
        assert {name: body[name] for name in CREATED} == CREATED
    assert (draft[1]["status"], draft[1]["deployed_at"]) == ("draft", None)
    assert deployed[1]["status"] == "deployed"
    assert MOMENT(deployed[1]["deployed_at"])


def test_the_line_that_changes_a_strategy_runs_and_changes_nothing_else(user: User) -> None:
    before = user.send("POST", "/v1/strategies", CREATED).json()

    status, after = curl(*line(user, "PATCH", f"/v1/strategies/{before['id']}", CHANGES))

    assert status == 200
    assert_documented(after)
    assert after == {**before, **CHANGED, "updated_at": after["updated_at"]}
    assert after["updated_at"] >= before["updated_at"]


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ('{"leverage": 21}', 400, "INVALID_PARAMETER"),
        ('{"leverage": 0}', 400, "INVALID_PARAMETER"),
        ('{"params": {"grid_levels": 12}}', 400, "INVALID_PARAMETER"),
        ('{"timeframe": "2h"}', 400, "INVALID_PARAMETER"),
        ('{"symbols": []}', 400, "INVALID_PARAMETER"),
        ('{"name": ""}', 400, "INVALID_PARAMETER"),
        ('{"name": "taken"}', 409, "DUPLICATE_NAME"),
        ('{"capital": 12000.5}', 400, "INVALID_PARAMETER"),
    ],
)
def test_what_the_page_refuses_is_refused_with_its_code(user: User, body: str, status: int, code: str) -> None:
    user.send("POST", "/v1/strategies", {**GRID, "name": "taken"})
    one = user.send("POST", "/v1/strategies", CREATED).json()

    refused, told = curl(*line(user, "PATCH", f"/v1/strategies/{one['id']}", body))

    assert (refused, told["code"]) == (status, code)
    assert user.send("GET", f"/v1/strategies/{one['id']}").json() == one


def test_a_strategy_that_trades_or_is_not_there_is_not_changed(user: User, api: Api) -> None:
    one = user.send("POST", "/v1/strategies", CREATED).json()["id"]
    user.send("POST", f"/v1/strategies/{one}/deploy", {"dry_run": True})

    trading = curl(*line(user, "PATCH", f"/v1/strategies/{one}", CHANGES))
    missing = curl(*line(user, "PATCH", "/v1/strategies/strat_8f2a1b", CHANGES))
    unseen = curl(*line(user, "GET", "/v1/strategies/strat_8f2a1b"))
    foreign = curl(*line(api.user(account="acct_foreign"), "GET", f"/v1/strategies/{one}"))

    assert (trading[0], trading[1]["code"]) == (409, "INVALID_STATE")
    for status, body in (missing, unseen, foreign):
        assert (status, body["code"]) == (404, "NOT_FOUND")
