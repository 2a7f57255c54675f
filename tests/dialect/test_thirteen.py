"""A client of the thirteen endpoints of the second form before one daemon, and what each says when it refuses."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import ExitStack
from typing import Any

import httpx2
import pytest
from attrs import define

from pipaid.model.operation import OPERATIONS, Operation
from tests.endpoints import ModelServer, saying
from tests.endpoints import serving as serving_models
from tests.surfaces.api import SEPARATE, Api, serving
from tests.surfaces.test_daemon_analyst import config_of, decision

PREFIX = "/api/v1/strategies"
SPOKEN = tuple(operation for operation in OPERATIONS.values() if operation.dialect)
# As they are published, but for the symbol, the model and its provider.
CREATED: dict[str, Any] = {
    "name": "Harmonic Bitcoin",
    "strategy_type": "prompt",
    "execution_mode": "llm_only",
    "primary_tf": "H1",
    "symbols": ["BTCUSDT"],
    "maintenance_enabled": True,
    "llm_provider": "main",
    "llm_model": "good",
    "custom_prompt": "Look for harmonic patterns.",
    "context_tfs": ["H4", "D1"],
    "trigger_type": "candle_close",
    "skip_hours": [22, 23],
    "skip_hours_timezone": "Europe/Rome",
}
LISTED = ("name", "strategy_type", "execution_mode", "symbols", "maintenance_enabled", "llm_provider", "llm_model")


@define
class Client:
    """Somebody with a bearer token."""

    api: Api
    token: str

    def send(self, method: str, path: str = "", body: Any = None) -> tuple[int, Any]:
        """Ask for something below the prefix and return status and body."""
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        with httpx2.Client(timeout=60, trust_env=False, headers=headers) as client:
            answer = client.request(method, f"{self.api.url}{PREFIX}{path}", json=body)
            return answer.status_code, answer.json()

    def good(self, method: str, path: str = "", body: Any = None, *, status: int = 200) -> Any:
        """Return the body of an answer that has to be one of success."""
        found, told = self.send(method, path, body)
        assert (found, told["success"]) == (status, True), told
        return told


def token(api: Api, *scopes: str) -> str:
    made = api.daemon.ask("token.create", user="alice", organisation="acme", scopes=scopes or ["trade"])
    return str(made["token"])


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Generator[Api]:
    server, folder = ModelServer(), tmp_path_factory.mktemp("thirteen")
    server.behave = saying(decision("HOLD"))
    with ExitStack() as stack:
        port = stack.enter_context(serving_models(server))
        api = stack.enter_context(serving(folder, config_of(folder, port, market=SEPARATE)))
        api.account("desk", "acme")
        yield api


@pytest.fixture(scope="module")
def client(api: Api) -> Client:
    return Client(api, token(api))


def ended(client: Client, one: str, wanted: set[str]) -> list[Any]:
    """Wait until the runs that are wanted have ended, and return them."""
    found: list[Any] = []

    def look() -> bool:
        found[:] = [run for run in client.good("GET", f"/{one}/runs?limit=50")["data"] if run["id"] in wanted]
        return len(found) == len(wanted) and all(run["status"] != "running" for run in found)

    client.api.daemon.wait_for(look)
    return found


def test_a_client_of_all_thirteen_is_served_from_the_first_to_the_last(client: Client) -> None:
    own, second = client.api.account("desk", "acme"), client.api.account("second", "acme")

    registry = client.good("GET", "/registry")
    made = client.good("POST", body=CREATED, status=201)["strategy"]
    one = made["id"]
    (row,) = client.good("GET")["strategies"]
    shown = client.good("GET", f"/{one}")["strategy"]
    changed = client.good("PATCH", f"/{one}", {"name": "Harmonic", "interval_minutes": 90, "trigger_type": "interval"})
    bound = [client.good("PATCH", f"/{one}/bind/{account}", {"enabled": True}) for account in (own, second)]
    bindings = client.good("GET", f"/{one}/bindings")["data"]
    activated = client.good("POST", f"/{one}/activate-all", {"dry_run": True})["strategy"]
    triggered = client.good("POST", f"/{one}/trigger", status=202)["run_ids"]
    runs = ended(client, one, set(triggered))
    stats = client.good("GET", f"/{one}/stats")
    deactivated = client.good("POST", f"/{one}/deactivate-all")["strategy"]
    parted = client.good("DELETE", f"/{one}/bind/{second}")
    deleted = client.good("DELETE", f"/{one}")

    assert "tpl_analyst" in [each["template_id"] for each in registry["data"]]
    assert {name: shown[name] for name in LISTED} == {name: CREATED[name] for name in LISTED}
    assert (shown["is_active"], shown["primary_tf"], shown["trigger_type"]) == (False, "1h", "candle_close")
    assert (shown["skip_hours"], shown["skip_hours_timezone"]) == ([22, 23], "Europe/Rome")
    assert (row["id"], row["name"], row["asset"], row["status"]) == (one, CREATED["name"], "BTC", "inactive")
    changed = changed["strategy"]
    assert (changed["name"], changed["interval_minutes"], changed["skip_hours"]) == ("Harmonic", 90, [22, 23])
    assert [each["account_id"] for each in bound] == [each["account_id"] for each in bindings] == [own, second]
    assert (activated["is_active"], activated["status"], activated["maintenance_enabled"]) == (True, "paper", True)
    assert {run["account_id"] for run in runs} == {own, second}
    assert {(run["cause"], run["status"], run["final_action"]) for run in runs} == {("trigger", "hold", "HOLD")}
    assert (stats["id"], stats["total_trades"]) == (one, 0)
    assert (deactivated["is_active"], deactivated["status"]) == (False, "inactive")
    assert (parted["account_id"], deleted["deleted"]) == (second, True)
    assert client.send("GET", f"/{one}")[1]["code"] == "RESOURCE_NOT_FOUND"


def path_of(operation: Operation, one: str) -> str:
    path = operation.path.removeprefix(PREFIX)
    return path.replace("{id}", one).replace("{account_id}", "acct_nobody")


def assert_refused(answer: tuple[int, Any], status: int, code: str) -> None:
    found, told = answer
    assert (found, told["success"], told["code"]) == (status, False, code), told
    assert told.keys() <= {"success", "code", "message", "details", "request_id"}
    assert told["message"]


@pytest.mark.parametrize("operation", SPOKEN, ids=lambda operation: operation.name)
def test_whoever_does_not_say_who_they_are_is_told_so_everywhere(api: Api, operation: Operation) -> None:
    answer = Client(api, "").send(operation.method, path_of(operation, "strat_00000000"))

    assert_refused(answer, 401, "AUTH_REQUIRED")


@pytest.mark.parametrize(
    "operation", [each for each in SPOKEN if each.method != "GET"], ids=lambda operation: operation.name
)
def test_whoever_may_only_look_may_do_nothing_anywhere(api: Api, operation: Operation) -> None:
    answer = Client(api, token(api, "read-only")).send(operation.method, path_of(operation, "strat_00000000"), {})

    assert_refused(answer, 403, "PERMISSION_DENIED")


@pytest.mark.parametrize(
    "operation", [each for each in SPOKEN if "{id}" in each.path], ids=lambda operation: operation.name
)
def test_what_is_not_there_is_not_found_anywhere(client: Client, operation: Operation) -> None:
    body = {"status": "paper"} if operation.name == "dialect.status" else None

    assert_refused(client.send(operation.method, path_of(operation, "strat_00000000"), body), 404, "RESOURCE_NOT_FOUND")


@pytest.mark.parametrize("operation", SPOKEN, ids=lambda operation: operation.name)
def test_what_nobody_knows_is_refused_by_its_name_everywhere(client: Client, operation: Operation) -> None:
    path = path_of(operation, "strat_00000000")
    if operation.method == "GET":
        answer = client.send("GET", f"{path}?nonsense=1")
    else:
        answer = client.send(operation.method, path, {"nonsense": 1, "status": "paper"})

    assert_refused(answer, 400, "VALIDATION_ERROR")
    assert "nonsense" in str(answer[1])
