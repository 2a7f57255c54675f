"""The client that comes with the package: what it makes of names and arguments, and what it waits for by itself."""

from __future__ import annotations

import threading
from collections.abc import Generator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from pipaid.client.asking import form_of
from pipaid.errors import (
    DuplicateName,
    InsufficientPermission,
    InvalidParameter,
    InvalidSignature,
    NotFound,
    RateLimited,
    Unavailable,
)
from pipaid.model.operation import OPERATIONS, operation_named
from pipaid.model.route import is_addressed
from tests.surfaces.api import Api, serving
from tests.surfaces.daemon import GRID
from tests.surfaces.scripts import WAYS, Asks, client_in, script


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Generator[Api, None, None]:
    with serving(tmp_path_factory.mktemp("api")) as api:
        yield api


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_a_script_of_a_few_lines_runs_a_strategy(api: Api, way: str) -> None:
    with script(api, way) as client:
        shape: dict[str, Any] = {**GRID, "capital": Decimal("1234.5")}
        made = client.ask("strategy.create", name=f"by script {way}", **shape)
        running = client.ask("strategy.deploy", id=made["id"], dry_run=True)
        client.ask("strategy.stop", id=made["id"])

        assert made["capital"] == "1234.50"
        assert (running["status"], running["dry_run"]) == ("deployed", True)
        assert client.ask("strategy.get", id=made["id"])["status"] == "stopped"


def test_every_row_of_a_listing_comes_once_in_its_order(api: Api, way: str) -> None:
    with script(api, way, account=f"acct_{way}") as client:
        made = [client.ask("strategy.create", name=f"row {number}", **GRID)["id"] for number in range(12)]

        assert [row["id"] for row in client.each("strategy.list", limit=5)] == made[::-1]
        assert list(client.each("strategy.list", status="paused")) == []


def test_a_refusal_is_raised_as_what_it_is(api: Api, way: str) -> None:
    with script(api, way) as client, script(api, way, "read-only") as reader:
        client.ask("strategy.create", name=f"taken {way}", **GRID)
        with pytest.raises(DuplicateName):
            client.ask("strategy.create", name=f"taken {way}", **GRID)
        with pytest.raises(InvalidParameter) as refused:
            client.ask("strategy.list", limit=0)
        with pytest.raises(NotFound):
            client.ask("strategy.get", id="strat_00000000")
        with pytest.raises(InsufficientPermission):
            reader.ask("strategy.create", name="x", **GRID)
    assert [field for field, _ in refused.value.details] == ["limit"]


def test_a_wrong_secret_opens_nothing(api: Api, way: str) -> None:
    with client_in(way, api.user().api_key, "wrong", api.url) as client:
        with pytest.raises(InvalidSignature):
            client.ask("strategy.list")


@pytest.mark.parametrize("name", ["shutdown", "strategy.explode"])
def test_what_is_not_served_over_http_is_said_at_once(name: str, way: str) -> None:
    with client_in(way, "pk_x", "x", "http://127.0.0.1:1") as client:
        with pytest.raises(NotFound):
            client.ask(name)


def test_the_same_command_twice_is_two_commands_and_under_one_key_one(api: Api, way: str) -> None:
    with script(api, way) as client:
        once = {"name": f"only once {way}", **GRID}
        first = client.ask("strategy.create", idempotency_key=f"k-{way}", **once)
        again = client.ask("strategy.create", idempotency_key=f"k-{way}", **once)

        assert first["id"] == again["id"]
        with pytest.raises(DuplicateName):
            client.ask("strategy.create", **once)


def test_a_daemon_that_is_away_is_waited_for(api: Api, way: str) -> None:
    with script(api, way) as client:
        made = client.ask("strategy.create", name=f"patient {way}", **GRID)
        api.daemon.kill()
        back = threading.Thread(target=api.daemon.start)
        back.start()
        try:
            deployed = client.ask("strategy.deploy", id=made["id"], dry_run=True)
        finally:
            back.join()

        assert deployed["status"] == "deployed"


def test_nobody_is_waited_for_beyond_the_patience_that_was_given(way: str) -> None:
    with client_in(way, "pk_x", "x", "http://127.0.0.1:1", patience_s=0.3) as client:
        with pytest.raises(Unavailable, match="nobody answers"):
            client.ask("strategy.list")


def spend(client: Asks, lists: int) -> None:
    for _ in range(lists):
        client.ask("strategy.list")


def test_a_spent_budget_is_waited_for_as_long_as_the_refusal_says(tmp_path: Path) -> None:
    tight = {"PIPAID__RATELIMIT__KEY_WEIGHT_MAX": "100", "PIPAID__RATELIMIT__KEY_WEIGHT_PER_S": "4"}
    with serving(tmp_path, variables=tight) as api:
        with script(api, "trio") as patient, script(api, "blocking", patience_s=0.0) as hasty:
            spend(patient, 52)
            with pytest.raises(RateLimited) as refused:
                spend(hasty, 100)
    assert refused.value.retry_after_ms > 0


def test_each_operation_has_a_form_that_leads_to_it() -> None:
    for operation in OPERATIONS.values():
        if operation.path:
            target, _ = form_of(operation, {"id": "strat 1/2", "account_id": "acct 1"})
            assert is_addressed(operation, operation.method, target.partition("?")[0]), operation.name


def test_arguments_stand_where_the_server_reads_them() -> None:
    listed = form_of(operation_named("strategy.list"), {"limit": 5, "status": "paused", "cursor": None})
    deployed = form_of(
        operation_named("strategy.deploy"), {"id": "strat_1", "capital": Decimal("2.50"), "leverage": None}
    )

    assert listed == ("/v1/strategies?limit=5&status=paused", b"")
    assert deployed == ("/v1/strategies/strat_1/deploy", b'{"capital":"2.50","leverage":null}')
    assert form_of(operation_named("backtest.list"), {"from_": "2026-01-01T00:00:00Z"})[0] == (
        "/v1/backtest/jobs?from=2026-01-01T00%3A00%3A00Z"
    )
    assert form_of(operation_named("market.ticker"), {"symbols": ["BTCUSDT"]})[0] == (
        "/v1/market/ticker?symbols=%5B%22BTCUSDT%22%5D"
    )
    with pytest.raises(TypeError, match="needs id"):
        form_of(operation_named("strategy.get"), {})
