"""The dialect over HTTP before a real daemon: the published curl lines with a bearer, and each code it can answer."""

from __future__ import annotations

from collections.abc import Generator
from itertools import count
from typing import Any

import msgspec
import pytest
from attrs import define

from pipaid.model.operation import OPERATIONS
from tests.surfaces.api import Api, User, curl, serving
from tests.surfaces.daemon import GRID

ENTRY = [
    {"name": "rsi_oversold", "signal_type": "TRIGGER", "timeframe": "1h", "params": {"window": 14, "threshold": 30}},
    {"name": "is_above_sma", "signal_type": "FILTER", "timeframe": "1h", "params": {"window": 50}},
]
TOLD = {
    "id", "name", "asset", "status", "rules", "execution_config", "execution_state", "created_at", "strategy_type",
    "execution_mode", "primary_tf", "symbols", "is_active", "maintenance_enabled", "llm_provider", "llm_model",
}  # fmt: skip

NUMBERS = count(1)


@define
class Place:
    """The API, somebody with a key of an account, and a user of its organisation."""

    api: Api
    user: User
    token: str
    account: str

    @property
    def url(self) -> str:
        return f"{self.api.url}/api/v1/strategies"

    def create(self) -> str:
        """Return a strategy of the account, made with its key."""
        made = self.user.send("POST", "/v1/strategies", {"name": f"number {next(NUMBERS)}", **GRID})
        return str(made.json()["id"])

    def get(self, id: str) -> Any:
        status, body = curl(f"{self.url}/{id}", "-H", f"Authorization: Bearer {self.token}")
        assert status == 200, body
        return body["strategy"]

    def set_status(self, id: str, status: str, bearer: str | None = None) -> tuple[int, Any]:
        return curl(
            "-X", "PATCH", f"{self.url}/{id}/status", "-H", f"Authorization: Bearer {bearer or self.token}",
            "-H", "Content-Type: application/json", "-d", msgspec.json.encode({"status": status}).decode(),
        )  # fmt: skip


def token(api: Api, user: str = "alice", organisation: str = "acme", *scopes: str, ttl_seconds: int = 600) -> str:
    made = api.daemon.ask(
        "token.create", user=user, organisation=organisation, scopes=scopes or ["trade"], ttl_seconds=ttl_seconds
    )
    return str(made["token"])


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Generator[Api, None, None]:
    with serving(tmp_path_factory.mktemp("dialect")) as api:
        yield api


@pytest.fixture(scope="module")
def place(api: Api) -> Place:
    account = api.account("desk", "acme")
    return Place(api, api.user(account="desk"), token(api), account)


def test_the_published_listing_line_answers_the_published_shape(place: Place) -> None:
    place.api.account("counted", "counting")
    user = place.api.user(account="counted")
    made = [user.send("POST", "/v1/strategies", {"name": f"n {n}", **GRID}).json() for n in range(3)]
    bearer = f"Authorization: Bearer {token(place.api, 'bob', 'counting')}"

    status, body = curl("-H", bearer, f"{place.url}?skip=0&limit=10")
    _, second = curl("-H", bearer, f"{place.url}?skip=1&limit=1")
    _, bare = curl("-H", bearer, place.url)

    assert status == 200
    assert body == {
        "success": True,
        "strategies": [
            {
                "id": each["id"],
                "name": each["name"],
                "asset": "BTC",
                "status": "inactive",
                "created_at": each["created_at"],
            }
            for each in reversed(made)
        ],
        "total": 3,
        "skip": 0,
        "limit": 10,
    }
    assert ([each["id"] for each in second["strategies"]], second["total"]) == ([made[1]["id"]], 3)
    assert bare["limit"] == 100


def test_the_published_creating_line_answers_the_published_shape(place: Place) -> None:
    published = {"name": "BTC RSI Strategy", "asset": "BTC", "entry": ENTRY, "exit": [], "reward_factor": 2.0}
    bearer = f"Authorization: Bearer {place.token}"

    status, body = curl(
        "-X", "POST", place.url, "-H", bearer, "-H", "Content-Type: application/json",
        "-d", msgspec.json.encode(published).decode(),
    )  # fmt: skip
    told = body["strategy"]
    again = curl("-X", "POST", place.url, "-H", bearer, "-d", msgspec.json.encode(published).decode())
    shown = place.get(told["id"])
    core = place.user.send("GET", f"/v1/strategies/{told['id']}").json()
    gone = curl("-X", "DELETE", f"{place.url}/{told['id']}", "-H", bearer)

    assert (status, body["success"]) == (201, True)
    assert (told["name"], told["asset"], told["status"], told["owner"]) == (
        "BTC RSI Strategy",
        "BTC",
        "inactive",
        "alice",
    )
    assert told["rules"] == {
        "name": "btc_rsi_strategy", "asset": "BTC", "entry": ENTRY, "exit": [], "reward_factor": 2.0,
    }  # fmt: skip
    assert told["execution_config"].items() >= {
        "max_risk_per_trade": 0.01, "reward_factor": 2, "stop_loss_calculation": "dynamic_atr", "atr_period": 14,
        "atr_volatility_factor": 2.0,
    }.items()  # fmt: skip
    assert told["execution_config"]["max_open_positions"] == 10
    assert told["execution_config"]["cooldown_config"]["1h"]["long_window_bars"] == 144
    assert told["execution_state"] == {
        "cash_balance": 10000.0, "account_value": 10000.0, "total_trades": 0, "num_open_positions": 0,
    }  # fmt: skip
    assert (again[0], again[1]["code"]) == (409, "DUPLICATE_NAME")
    # Who makes it is told that its rules contradict each other.
    (note,) = told.pop("notes")
    assert "never held together" in note
    assert shown == told
    assert (core["template_id"], core["symbols"], core["timeframe"], core["capital"]) == (
        "tpl_rules", ["BTCUSDT"], "1h", "10000.00",
    )  # fmt: skip
    # Who made it may delete it.
    assert gone == (200, {"success": True, "id": told["id"], "deleted": True})


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"entry": [ENTRY[0]]}, "entry"),
        ({"entry": [ENTRY[0], {**ENTRY[1], "name": "no_such_signal"}]}, "entry[1].name"),
        ({"entry": [{**ENTRY[0], "params": {"window": 1_000}}, ENTRY[1]]}, "entry[0].params"),
        ({"execution_config": {"atr_period": 0}}, "execution_config.atr_period"),
        ({"execution_config": {"no_such_field": 1}}, "execution_config"),
    ],
)
def test_what_the_template_has_against_rules_is_told_by_its_place(place: Place, changes: Any, field: str) -> None:
    body = {"name": "refused", "asset": "BTC", "entry": ENTRY, **changes}

    status, answer = curl(
        "-X", "POST", place.url, "-H", f"Authorization: Bearer {place.token}", "-d", msgspec.json.encode(body).decode()
    )

    assert (status, answer["code"]) == (400, "VALIDATION_ERROR"), answer
    assert any(each["field"].startswith(field) for each in answer["details"]), answer


def test_one_is_shown_with_the_fields_of_both_forms(place: Place) -> None:
    shown = place.get(place.create())

    assert shown.keys() >= TOLD
    assert (shown["asset"], shown["symbols"], shown["primary_tf"]) == ("BTC", ["BTCUSDT"], "1m")
    assert (shown["status"], shown["is_active"], shown["rules"]) == ("inactive", False, None)
    assert shown["execution_state"] == {
        "cash_balance": 5000.0, "account_value": 5000.0, "total_trades": 0, "num_open_positions": 0,
    }  # fmt: skip
    assert (shown["account_id"], shown["owner"]) == (place.account, None)


def test_a_status_is_reached_by_what_it_takes_and_the_two_roads_agree(place: Place) -> None:
    one = place.create()
    seen: list[tuple[int, str, str]] = []
    for wanted in ("paper", "paper", "inactive", "live", "draft", "paper", "live", "archived"):
        status, body = place.set_status(one, wanted)
        core = place.user.send("GET", f"/v1/strategies/{one}").json()
        seen.append((status, body["strategy"]["status"], f"{core['status']} {core['dry_run']}"))
    refused = place.set_status(one, "paper")

    assert seen == [
        (200, "paper", "deployed True"),
        (200, "paper", "deployed True"),
        (200, "inactive", "paused True"),
        (200, "live", "deployed False"),
        (200, "inactive", "paused False"),
        (200, "paper", "deployed True"),
        (200, "live", "deployed False"),
        (200, "archived", "stopped False"),
    ]
    assert (refused[0], refused[1]["code"], refused[1]["success"]) == (409, "INVALID_STATE", False)


def test_a_change_that_would_fail_half_way_is_refused_before_it_begins(place: Place) -> None:
    account = place.api.daemon.ask("account.create", name="dry only", organisation="acme", mode="paper")["id"]
    made = place.api.daemon.ask("key.create", name="x", scopes=["trade"], account_id=account)
    owner = User(place.api.url, made["api_key"], made["secret"])
    one = owner.send("POST", "/v1/strategies", {"name": "half way", **GRID}).json()["id"]
    assert place.set_status(one, "paper")[0] == 200

    status, body = place.set_status(one, "live")

    assert (status, body["code"]) == (403, "PERMISSION_DENIED")
    assert "deploy with dry_run true" in body["message"]
    assert place.get(one)["status"] == "paper"


def test_what_a_strategy_did_is_asked_for_at_the_same_path(place: Place) -> None:
    one = place.create()
    bearer = ("-H", f"Authorization: Bearer {place.token}")

    activated = curl("-X", "POST", f"{place.url}/{one}/activate-all", *bearer, "-d", '{"dry_run": true}')
    triggered = curl("-X", "POST", f"{place.url}/{one}/trigger", *bearer)
    runs = curl(f"{place.url}/{one}/runs", *bearer)
    stats = curl(f"{place.url}/{one}/stats?mode=paper", *bearer)
    registry = curl(f"{place.url}/registry", *bearer)
    deactivated = curl("-X", "POST", f"{place.url}/{one}/deactivate-all", *bearer)
    again = curl("-X", "POST", f"{place.url}/{one}/activate-all", *bearer)

    assert (activated[0], activated[1]["strategy"]["status"]) == (200, "paper")
    assert triggered[0] == 202
    assert set(triggered[1]["run_ids"]) <= {each["id"] for each in runs[1]["data"]}
    assert len(triggered[1]["run_ids"]) == 1
    assert (stats[0], stats[1]["id"], stats[1]["mode"]) == (200, one, "paper")
    assert "tpl_grid" in [each["template_id"] for each in registry[1]["data"]]
    assert (deactivated[0], deactivated[1]["strategy"]["status"]) == (200, "inactive")
    # Without a word it goes on as it was.
    assert again[1]["strategy"]["status"] == "paper"
    assert all(answer["success"] is True for _, answer in (activated, triggered, runs, stats, registry, deactivated))


def test_a_strategy_is_changed_and_deleted_by_who_may(place: Place) -> None:
    one = place.create()
    key = f"Authorization: Bearer {place.user.api_key}:{place.user.secret}"
    bearer = f"Authorization: Bearer {place.token}"

    renamed = curl("-X", "PATCH", f"{place.url}/{one}", "-H", bearer, "-d", '{"name": "renamed", "asset": "ETH"}')
    denied = curl("-X", "DELETE", f"{place.url}/{one}", "-H", bearer)
    deleted = curl("-X", "DELETE", f"{place.url}/{one}", "-H", key)
    gone = curl(f"{place.url}/{one}", "-H", key)

    assert (renamed[1]["strategy"]["name"], renamed[1]["strategy"]["symbols"]) == ("renamed", ["ETHUSDT"])
    assert (denied[0], denied[1]["code"]) == (403, "PERMISSION_DENIED")
    assert deleted == (200, {"success": True, "id": one, "deleted": True})
    assert (gone[0], gone[1]["code"]) == (404, "RESOURCE_NOT_FOUND")


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("GET", "/strat_00000000", None, 404, "RESOURCE_NOT_FOUND"),
        ("GET", "/strat_%ff", None, 404, "RESOURCE_NOT_FOUND"),
        ("GET", "/a/b/c", None, 404, "RESOURCE_NOT_FOUND"),
        ("PUT", "", None, 405, "METHOD_NOT_ALLOWED"),
        ("GET", "?skip=-1", None, 400, "VALIDATION_ERROR"),
        ("GET", "?limit=0", None, 400, "VALIDATION_ERROR"),
        ("GET", "?page=2", None, 400, "VALIDATION_ERROR"),
        ("POST", "", {}, 400, "MISSING_FIELD"),
        ("POST", "", {"name": "x", "entry": ENTRY}, 400, "MISSING_FIELD"),
        ("POST", "", {"name": "x", "asset": "BTC"}, 400, "MISSING_FIELD"),
        (
            "POST",
            "",
            {"name": "x", "asset": "BTC", "entry": [ENTRY[0], {**ENTRY[1], "params": {}}]},
            400,
            "MISSING_FIELD",
        ),
        ("POST", "", {"name": "x", "asset": "GOLD", "entry": ENTRY}, 400, "VALIDATION_ERROR"),
        ("POST", "", {"name": "x", "asset": "BTC", "entry": []}, 400, "VALIDATION_ERROR"),
        ("POST", "", b"{", 400, "VALIDATION_ERROR"),
        ("PATCH", "/ID/status", {}, 400, "MISSING_FIELD"),
        ("PATCH", "/ID/status", {"status": "running"}, 400, "VALIDATION_ERROR"),
        ("PATCH", "/ID/status", {"status": "archived"}, 409, "INVALID_STATE"),
        ("PATCH", "/strat_00000000/status", {"status": "live"}, 404, "RESOURCE_NOT_FOUND"),
        ("DELETE", "/strat_00000000", None, 404, "RESOURCE_NOT_FOUND"),
        ("POST", "/ID/trigger", None, 409, "INVALID_STATE"),
        ("POST", "/ID/bind/acct_main", None, 405, "METHOD_NOT_ALLOWED"),
        ("PATCH", "/ID/bind/acct_nobody", {}, 404, "RESOURCE_NOT_FOUND"),
        ("PATCH", "/ID/bind/acct_main", {}, 404, "RESOURCE_NOT_FOUND"),
        ("PATCH", "/ID/bind/ACCOUNT", {"capital_share": "1.01"}, 400, "VALIDATION_ERROR"),
        ("PATCH", "/ID/bind/ACCOUNT", {"capital_share": "0"}, 400, "VALIDATION_ERROR"),
        ("PATCH", "/ID/bind/ACCOUNT", {"enabled": 1}, 400, "VALIDATION_ERROR"),
        ("DELETE", "/ID/bind/acct_main", None, 404, "RESOURCE_NOT_FOUND"),
        ("GET", "/strat_00000000/bindings", None, 404, "RESOURCE_NOT_FOUND"),
    ],
)
def test_each_refusal_has_the_dialects_form_and_code(
    place: Place, method: str, path: str, body: Any, status: int, code: str
) -> None:
    path = path.replace("ID", place.create()).replace("ACCOUNT", place.account)
    sent = body if isinstance(body, bytes) else b"" if body is None else msgspec.json.encode(body)
    data = ("-d", sent.decode()) if sent else ()

    answer = curl("-X", method, f"{place.url}{path}", "-H", f"Authorization: Bearer {place.token}", *data)

    assert (answer[0], answer[1]["code"]) == (status, code), answer
    assert answer[1]["success"] is False
    assert answer[1].keys() <= {"success", "code", "message", "details", "request_id"}
    assert answer[1]["message"]


def test_who_may_only_look_changes_nothing(place: Place) -> None:
    reader = token(place.api, "alice", "acme", "read-only")

    refused = place.set_status(place.create(), "paper", reader)

    assert (refused[0], refused[1]["code"]) == (403, "PERMISSION_DENIED")
    assert "strategies:write" in refused[1]["message"]


def test_whoever_does_not_prove_who_they_are_is_told_so_and_their_address_pays(place: Place) -> None:
    user = place.user
    before = curl(f"{place.url}", "-H", "Authorization: Bearer nonsense")
    bearers = [
        None, "", "Bearer", f"Basic {user.api_key}:{user.secret}", f"Bearer {user.api_key}",
        f"Bearer {user.api_key}:{user.secret[::-1]}", f"Bearer {place.token[:-2]}", f"Bearer {place.token}x",
        "Bearer eyJhbGciOiJub25lIn0.e30.", "Bearer " + "x" * 20_000, "Bearer ïïï",
    ]  # fmt: skip
    answers = [curl(place.url, *(() if each is None else ("-H", f"Authorization: {each}"))) for each in bearers]

    assert [(status, body["code"]) for status, body in (before, *answers)] == [(401, "AUTH_REQUIRED")] * 12
    assert place.get(place.create())


def test_a_bearer_opens_nothing_where_requests_are_signed(place: Place) -> None:
    for path in ("/v1/strategies", "/v1/risk", "/v1/backtest/jobs"):
        for shown in (place.token, f"{place.user.api_key}:{place.user.secret}"):
            status, body = curl(f"{place.api.url}{path}", "-H", f"Authorization: Bearer {shown}")
            assert (status, body["code"]) == (401, "INVALID_SIGNATURE")


def test_a_signature_is_as_good_as_a_bearer(place: Place) -> None:
    one = place.create()

    signed = place.user.send("GET", f"/api/v1/strategies/{one}")
    forged = place.user.send(
        "GET", f"/api/v1/strategies/{one}",
        headers={"X-PipAI-Signature": "0" * 64, "Authorization": f"Bearer {place.token}"},
    )  # fmt: skip

    assert (signed.status_code, signed.json()["strategy"]["id"]) == (200, one)
    assert (forged.status_code, forged.json()["code"]) == (401, "AUTH_REQUIRED")
    assert forged.headers["WWW-Authenticate"] == "Bearer"


def test_an_idempotency_key_is_its_users_own(place: Place) -> None:
    def created(bearer: str, name: str) -> tuple[int, Any]:
        body = msgspec.json.encode({"name": name, "asset": "BTC", "entry": ENTRY}).decode()
        return curl(
            "-X", "POST", place.url, "-H", f"Authorization: Bearer {bearer}", "-H", "Idempotency-Key: k1", "-d", body
        )

    bob = token(place.api, "bob")
    first, again, other = created(place.token, "once"), created(place.token, "once"), created(bob, "bobs own")
    key = created(f"{place.user.api_key}:{place.user.secret}", "of the key")

    assert first == again
    assert [status for status, _ in (first, other, key)] == [201, 201, 201]
    assert [each["strategy"]["owner"] for _, each in (first, other, key)] == ["alice", "bob", None]
    assert created(bob, "another body")[1]["code"] == "INVALID_STATE"


def test_organisations_and_accounts_see_nothing_of_each_other(place: Place) -> None:
    api = place.api
    api.account("sister", "acme")
    api.account("elsewhere", "other")
    sister, stranger = api.user(account="sister"), api.user(account="elsewhere")
    one = place.create()
    hers = sister.send("POST", "/v1/strategies", {"name": "hers", **GRID}).json()["id"]
    outsider = token(api, "alice", "other")

    def seen(bearer: str) -> set[str]:
        _, body = curl(f"{place.url}?limit=1000", "-H", f"Authorization: Bearer {bearer}")
        assert body["total"] == len(body["strategies"])
        return {each["id"] for each in body["strategies"]}

    # A user sees their organisation, a key its account.
    assert {one, hers} <= seen(place.token)
    assert seen(f"{sister.api_key}:{sister.secret}") == {hers}
    assert seen(f"{stranger.api_key}:{stranger.secret}") == seen(outsider) == set()
    for bearer in (outsider, f"{stranger.api_key}:{stranger.secret}", f"{sister.api_key}:{sister.secret}"):
        for method, path in (("GET", ""), ("DELETE", ""), ("GET", "/runs"), ("GET", "/stats"), ("POST", "/trigger")):
            status, body = curl("-X", method, f"{place.url}/{one}{path}", "-H", f"Authorization: Bearer {bearer}")
            assert (status, body["code"]) == (404, "RESOURCE_NOT_FOUND"), (method, path)
        assert place.set_status(one, "paper", bearer)[0] == 404
    assert place.set_status(hers, "paper")[0] == 200


def test_a_rotation_voids_every_token_and_no_key(api: Api) -> None:
    place = Place(api, api.user(), token(api, "carol", "main"), "acct_main")
    one = place.create()
    assert place.get(one)["id"] == one

    api.daemon.ask("token.rotate")

    assert curl(f"{place.url}/{one}", "-H", f"Authorization: Bearer {place.token}")[1]["code"] == "AUTH_REQUIRED"
    assert curl(f"{place.url}/{one}", "-H", f"Authorization: Bearer {place.user.api_key}:{place.user.secret}")[0] == 200


def test_no_log_has_a_bearer_and_the_daemons_has_the_user(api: Api) -> None:
    place = Place(api, api.user(), token(api, "dave@example.com", "main"), "acct_main")
    one = place.create()
    shown = f"{place.user.api_key}:{place.user.secret}"
    for bearer in (place.token, shown, f"{place.token}x", f"{shown}x"):
        place.set_status(one, "paper", bearer)
        curl(f"{place.url}/{one}", "-H", f"Authorization: Bearer {bearer}")

    told = [each for each in api.daemon.said("command.answered") if each.get("target") == one]
    assert [each.get("user") for each in told][-2:] == ["dave@example.com", None]
    assert told[-2]["account"] == "acct_main"
    logged = api.daemon.log.read_text() + api.log.read_text()
    for secret in (place.token, place.token.rpartition(".")[2], place.token.split(".")[1], place.user.secret):
        assert secret not in logged


def test_every_path_of_the_dialect_is_there_and_asks_who_it_is(api: Api) -> None:
    for operation in OPERATIONS.values():
        if operation.dialect:
            target = operation.path.replace("{id}", "x")
            status, body = curl("-X", operation.method, f"{api.url}{target}")
            assert (status, body["code"], body["success"]) == (401, "AUTH_REQUIRED", False), operation.name
