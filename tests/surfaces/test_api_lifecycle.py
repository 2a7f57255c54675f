"""Lifecycle calls over HTTP in any order: every cell of the state table, and each refusal with its code."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from itertools import product
from typing import Any, ClassVar, Final, cast

import httpx2
import pytest
from attrs import define
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from pipaid.errors import PipaidError
from tests.surfaces.api import Api, User, serving
from tests.surfaces.daemon import GRID

DELETED: Final = "deleted"
# The contract's table, written down once more: what an operation makes of a strategy. Anything else is refused.
TABLE: Final[Mapping[str, Mapping[str, str]]] = {
    "draft": {"update": "draft", "deploy": "deployed", "delete": DELETED},
    "deployed": {"pause": "paused", "stop": "stopped", "trigger": "deployed", "halt": "error"},
    "paused": {"update": "paused", "deploy": "deployed", "stop": "stopped", "delete": DELETED, "halt": "error"},
    "stopped": {"delete": DELETED},
    "error": {"stop": "stopped", "delete": DELETED, "reset": "paused"},
    DELETED: {},
}
# How a strategy comes into a state.
WAYS: Final[Mapping[str, tuple[str, ...]]] = {
    "draft": (),
    "deployed": ("deploy",),
    "paused": ("deploy", "pause"),
    "stopped": ("deploy", "stop"),
    "error": ("deploy", "halt"),
    DELETED: ("delete",),
}
ACTIONS: Final = ("update", "deploy", "pause", "stop", "delete", "reset", "trigger", "halt")
NAMES: Final = ("one", "two", "three")


@define(eq=False)
class Desk:
    """Somebody who asks for whatever there is, with the answers as status and body."""

    api: Api
    user: User
    client: httpx2.Client
    made: int = 0
    sent: int = 0

    def create(self, name: str = "") -> tuple[int, dict[str, Any]]:
        self.made += 1
        return self.send("POST", "/v1/strategies", {**GRID, "name": name or f"lives {self.made}"})

    def do(self, action: str, id: str, body: Any = None) -> tuple[int, dict[str, Any]]:
        """Ask for an action; only who may open the socket can ask for a halt."""
        path = f"/v1/strategies/{id}"
        if action == "halt":
            return self.halt(id)
        if action == "update":
            return self.send("PATCH", path, body)
        if action == "delete":
            return self.send("DELETE", path)
        return self.send("POST", f"{path}/{action}", {"dry_run": True} if action == "deploy" else body)

    def halt(self, id: str) -> tuple[int, dict[str, Any]]:
        try:
            return 200, self.api.daemon.ask("sim.halt", id=id)
        except PipaidError as refused:
            return refused.http_status, {"code": refused.code}

    def send(self, method: str, target: str, body: Any = None) -> tuple[int, dict[str, Any]]:
        """Send a request; a command is sent twice under one key, which must make no difference."""
        if method == "GET":
            answer = self.client.send(self.user.signed(method, target, body))
            return answer.status_code, answer.json()
        self.sent += 1
        key = {"Idempotency-Key": f"sent-{self.sent}"}
        first, again = (self.client.send(self.user.signed(method, target, body, headers=key)) for _ in range(2))
        told = [(each.status_code, each.json() | {"request_id": ""}) for each in (first, again)]
        assert told[0] == told[1]
        return first.status_code, first.json()


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Generator[Desk, None, None]:
    plenty = {"PIPAID__RATELIMIT__KEY_WEIGHT_MAX": "1000000", "PIPAID__RATELIMIT__KEY_WEIGHT_PER_S": "1000000"}
    with serving(tmp_path_factory.mktemp("lives"), variables=plenty) as api:
        with httpx2.Client(timeout=60, trust_env=False) as client:
            yield Desk(api, api.user(), client)


@pytest.mark.parametrize(("status", "action"), list(product(TABLE, ACTIONS)))
def test_a_cell_of_the_table_is_as_the_contract_has_it(desk: Desk, status: str, action: str) -> None:
    one = desk.create()[1]["id"]
    for step in WAYS[status]:
        assert desk.do(step, one)[0] == 200

    answered, body = desk.do(action, one)
    left, now = desk.send("GET", f"/v1/strategies/{one}")

    after = TABLE[status].get(action)
    if after is not None:
        assert answered == (202 if action == "trigger" else 200), body
    elif status == DELETED:
        assert (answered, body["code"]) == (404, "NOT_FOUND")
    else:
        assert (answered, body["code"]) == (409, "INVALID_STATE")
    assert left == (404 if (after or status) == DELETED else 200)
    assert now.get("status", DELETED) == (after or status)


@define
class Modelled:
    """What must be so of a strategy."""

    id: str
    name: str
    capital: str
    status: str = "draft"
    runs: int = 0


class Lives(RuleBasedStateMachine):
    """A handful of strategies, and calls for them in any order."""

    desk: ClassVar[Desk]
    strategies = Bundle("strategies")

    def __init__(self) -> None:
        super().__init__()
        self.known: dict[str, Modelled] = {}

    @rule(target=strategies, name=st.sampled_from(NAMES))
    def create(self, name: str) -> Any:
        answered, body = self.desk.create(name)
        if self.is_taken(name):
            assert (answered, body["code"]) == (409, "DUPLICATE_NAME")
            return cast(Any, multiple())
        assert (answered, body["status"]) == (201, "draft")
        made = Modelled(body["id"], name, body["capital"])
        assert made.id not in self.known
        self.known[made.id] = made
        return made

    @rule(
        one=strategies, name=st.sampled_from(NAMES) | st.none(), capital=st.sampled_from(["4000", "6000.5", "50", None])
    )
    def update(self, one: Modelled, name: str | None, capital: str | None) -> None:
        changes = {key: value for key, value in {"name": name, "capital": capital}.items() if value is not None}
        answered, body = self.desk.do("update", one.id, changes)
        if not self.holds("update", one, answered, body):
            return
        if capital == "50":
            assert (answered, body["code"]) == (400, "INVALID_PARAMETER")
        elif name is not None and name != one.name and self.is_taken(name):
            assert (answered, body["code"]) == (409, "DUPLICATE_NAME")
        else:
            one.name = name or one.name
            one.capital = one.capital if capital is None else f"{float(capital):.2f}"
            self.compare(one, answered, body)

    @rule(
        one=strategies,
        action=st.sampled_from(["deploy", "pause", "stop", "reset", "trigger", "halt"]),
        close=st.booleans(),
    )
    def ask(self, one: Modelled, action: str, close: bool) -> None:
        answered, body = self.desk.do(
            action, one.id, {"close_positions": close} if action in ("pause", "stop") else None
        )
        if self.holds(action, one, answered, body):
            one.status = TABLE[one.status][action]
            one.runs += action == "deploy"
            if action == "trigger":
                assert answered == 202
            else:
                self.compare(one, answered, body)

    @rule(one=strategies)
    def delete(self, one: Modelled) -> None:
        answered, body = self.desk.do("delete", one.id)
        if self.holds("delete", one, answered, body):
            assert (answered, body) == (200, {"id": one.id, "deleted": True})
            one.status = DELETED

    @rule(one=consumes(strategies))
    def forget(self, one: Modelled) -> None:
        """Ask no more for one of them, so that others come to be asked for."""

    def holds(self, action: str, one: Modelled, answered: int, body: Mapping[str, Any]) -> bool:
        """Tell whether the table allows an action; where it does not, hold the answer to the refusal."""
        if action in TABLE[one.status]:
            return True
        expected = (404, "NOT_FOUND") if one.status == DELETED else (409, "INVALID_STATE")
        assert (answered, body["code"]) == expected, (action, one)
        return False

    def is_taken(self, name: str) -> bool:
        return any(each.name == name and each.status != DELETED for each in self.known.values())

    def compare(self, one: Modelled, answered: int, body: Mapping[str, Any]) -> None:
        assert answered == 200, body
        assert (body["id"], body["name"], body["capital"]) == (one.id, one.name, one.capital)
        assert body["status"] == one.status
        assert (body["deployed_at"] is None) == (body["run"] is None) == (body["dry_run"] is None) == (one.runs == 0)
        assert (body["error"] is not None) == (one.status == "error")
        if body["run"] is not None:
            assert (body["run"]["ended_at"] is None) == (one.status in ("deployed", "paused", "error"))

    @invariant()
    def agree(self) -> None:
        """Compare what is listed, newest first, with what must be there."""
        if not self.known:
            return
        answered, page = self.desk.send("GET", "/v1/strategies?limit=100")
        there = {each["id"]: each for each in page["data"] if each["id"] in self.known}
        assert set(there) == {each.id for each in self.known.values() if each.status != DELETED}
        for one, body in there.items():
            self.compare(self.known[one], answered, body)

    def teardown(self) -> None:
        for one in self.known.values():
            if one.status == "deployed":
                assert self.desk.do("stop", one.id)[0] == 200
            if one.status != DELETED:
                assert self.desk.do("delete", one.id)[0] == 200


def test_calls_in_any_order_leave_what_the_table_says(desk: Desk) -> None:
    Lives.desk = desk
    run_state_machine_as_test(Lives, settings=settings(max_examples=20, stateful_step_count=25, deadline=None))
