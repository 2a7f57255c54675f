"""Market data over real sockets: for everybody, in the documented shapes, charged to whoever asked."""

from __future__ import annotations

from collections.abc import Generator
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.surfaces.api import Api, curl, serving

SYMBOLS = ["BTCUSDT", "ETHUSDT", "SOLUSDT", "BNBUSDT", "XRPUSDT"]
DAY_MS = 86_400_000


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Generator[Api, None, None]:
    """Serve what the configuration serves that everybody starts with."""
    default = Path(__file__).parents[2] / "config" / "pipaid.toml"
    variables = {"PIPAID__HTTP__PORT": "0", "PIPAID__STREAM__PORT": "0"}
    with serving(tmp_path_factory.mktemp("market"), default.read_text(), variables=variables) as served:
        yield served


def get(api: Api, what: str, **query: Any) -> httpx2.Response:
    """Ask without a signature."""
    with httpx2.Client(trust_env=False, timeout=60) as client:
        return client.get(f"{api.url}/v1/market/{what}", params=query)


def test_whoever_signs_nothing_is_told_all_and_pays_with_its_address(api: Api) -> None:
    left = 300
    for what, query, weight in (
        ("exchange-info", {}, 10),
        ("klines", {"symbol": "BTCUSDT", "interval": "1h"}, 2),
        ("depth", {"symbol": "BTCUSDT", "limit": 1000}, 10),
        ("ticker", {}, 40),
        ("trades", {"symbol": "BTCUSDT"}, 5),
    ):
        answer = get(api, what, **query)

        assert (answer.status_code, answer.headers["X-RateLimit-Limit"]) == (200, "300")
        after = int(answer.headers["X-RateLimit-Remaining"])
        # What came back meanwhile is little.
        assert left - weight <= after <= min(300, left + 20), what
        left = after


def test_a_signature_is_judged_and_its_key_pays(api: Api) -> None:
    user = api.user()
    answer = user.send("GET", "/v1/market/klines?symbol=BTCUSDT&interval=1d&limit=1500")
    user.secret = "another"
    forged = user.send("GET", "/v1/market/klines?symbol=BTCUSDT&interval=1d")

    assert (answer.status_code, answer.headers["X-RateLimit-Limit"]) == (200, "1200")
    assert answer.headers["X-RateLimit-Remaining"] == "1190"
    assert (forged.status_code, forged.json()["code"]) == (401, "INVALID_SIGNATURE")


@pytest.mark.parametrize(
    ("what", "query", "code"),
    [
        ("klines", {"symbol": "BTCEUR", "interval": "1h"}, "UNKNOWN_SYMBOL"),
        ("klines", {"symbol": "btcusdt", "interval": "1h"}, "INVALID_PARAMETER"),
        ("klines", {"symbol": "BTCUSDT", "interval": "2d"}, "INVALID_PARAMETER"),
        ("klines", {"symbol": "BTCUSDT"}, "INVALID_PARAMETER"),
        ("depth", {"symbol": "BTCUSDT", "limit": 11}, "INVALID_PARAMETER"),
        ("ticker", {"symbol": "BTCUSDT", "symbols": '["ETHUSDT"]'}, "INVALID_PARAMETER"),
        ("ticker", {"symbols": '["BTCEUR"]'}, "UNKNOWN_SYMBOL"),
        ("trades", {"symbol": "BTCEUR"}, "UNKNOWN_SYMBOL"),
    ],
)
def test_what_cannot_be_told_is_refused_with_its_code(what: str, query: dict[str, Any], code: str, api: Api) -> None:
    answer = get(api, what, **query)

    assert (answer.status_code, answer.json()["code"]) == (400, code)
    assert answer.json()["request_id"] == answer.headers["X-Request-Id"]


def test_the_lines_of_the_page_run_and_answer_arrays_where_arrays_are_documented(api: Api) -> None:
    status, rows = curl(f"{api.url}/v1/market/klines?symbol=BTCUSDT&interval=1h&limit=2")
    several_status, several = curl(
        "-G", f"{api.url}/v1/market/ticker", "--data-urlencode", 'symbols=["BTCUSDT","XRPUSDT"]'
    )

    assert (status, several_status) == (200, 200)
    assert [len(row) for row in rows] == [11, 11]
    assert [each["symbol"] for each in several] == ["BTCUSDT", "XRPUSDT"]
    assert get(api, "ticker", symbol="BTCUSDT").json()["symbol"] == "BTCUSDT"
    assert [each["symbol"] for each in get(api, "ticker").json()] == SYMBOLS


def test_the_default_market_remembers_a_month(api: Api) -> None:
    days = get(api, "klines", symbol="SOLUSDT", interval="1d", limit=1500).json()

    assert len(days) >= 31
    assert all(other[0] - one[0] == DAY_MS for one, other in pairwise(days))


def test_the_control_socket_tells_the_same_and_charges_nobody(api: Api) -> None:
    span = {"startTime": 1_750_000_000_000, "endTime": 4_000_000_000_000, "limit": 50}
    over_http = get(api, "klines", symbol="ETHUSDT", interval="12h", **span).json()

    assert api.daemon.ask("market.klines", symbol="ETHUSDT", interval="12h", **span) == over_http
    assert len(over_http) == 50
