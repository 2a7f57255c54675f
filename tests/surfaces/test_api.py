"""The HTTP API over real sockets before a real daemon: shapes, codes, headers, pages, and what happens without one."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
from collections.abc import Generator
from pathlib import Path
from ssl import create_default_context
from typing import Any

import httpx2
import msgspec
import pytest

from pipaid.api.openapi import document
from pipaid.errors import Unavailable
from pipaid.model.operation import OPERATIONS
from pipaid.sdk import Client
from pipaid.wire.envelope import BODY_BYTES_MAX
from tests.certificates import make_pair
from tests.surfaces.api import Api, User, send, serving
from tests.surfaces.daemon import GRID
from tests.surfaces.daemons import ROOT

STRATEGY_FIELDS = {
    "id", "name", "template_id", "params", "symbols", "timeframe", "capital", "leverage", "status", "deployed_at",
    "created_at", "updated_at", "stats",
}  # fmt: skip


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Generator[Api, None, None]:
    with serving(tmp_path_factory.mktemp("api")) as api:
        yield api


def test_a_strategy_lives_its_whole_life_over_http(api: Api) -> None:
    user = api.user()

    created = user.send("POST", "/v1/strategies", {"name": "whole life", **GRID})
    one = created.json()["id"]
    path = f"/v1/strategies/{one}"
    changed = user.send("PATCH", path, {"name": "whole life 2", "capital": "6000"})
    deployed = user.send("POST", f"{path}/deploy", {"dry_run": True})
    triggered = user.send("POST", f"{path}/trigger")
    paused = user.send("POST", f"{path}/pause", {"close_positions": True})
    stopped = user.send("POST", f"{path}/stop")
    deleted = user.send("DELETE", path)
    gone = user.send("GET", path)

    assert [each.status_code for each in (created, changed, deployed, paused, stopped, deleted)] == [
        201, 200, 200, 200, 200, 200,
    ]  # fmt: skip
    assert triggered.status_code == 202
    assert created.json().keys() >= STRATEGY_FIELDS
    assert created.json()["status"] == "draft"
    assert (changed.json()["name"], changed.json()["capital"]) == ("whole life 2", "6000.00")
    assert (deployed.json()["status"], deployed.json()["dry_run"]) == ("deployed", True)
    assert paused.json()["status"] == "paused"
    assert stopped.json()["status"] == "stopped"
    assert deleted.json() == {"deleted": True, "id": one}
    assert (gone.status_code, gone.json()["code"]) == (404, "NOT_FOUND")


def test_every_answer_bears_a_number_that_the_log_of_the_daemon_knows(api: Api) -> None:
    user = api.user()

    created = user.send("POST", "/v1/strategies", {"name": "with a number", **GRID})
    refused = user.send("POST", f"/v1/strategies/{created.json()['id']}/pause")

    assert refused.status_code == 409
    assert refused.json()["request_id"] == refused.headers["X-Request-Id"]
    told = {each["request_id"]: each for each in api.daemon.said("command.answered") if "request_id" in each}
    assert told[created.headers["X-Request-Id"]]["operation"] == "strategy.create"
    assert told[refused.headers["X-Request-Id"]]["ok"] is False
    assert told[refused.headers["X-Request-Id"]]["address"] == "127.0.0.1"


def test_an_answer_says_what_is_left_of_the_budget(api: Api) -> None:
    user = api.user()

    first = user.send("GET", "/v1/strategies")
    second = user.send("GET", "/v1/strategies")

    assert first.headers["X-RateLimit-Limit"] == "1200"
    assert first.headers["X-RateLimit-Remaining"] == "1198"
    assert int(second.headers["X-RateLimit-Remaining"]) in (1_196, 1_197, 1_198)
    assert int(first.headers["X-RateLimit-Reset"]) >= user.last_ms // 1_000


def test_a_spent_budget_is_told_with_when_to_come_again(tmp_path: Path) -> None:
    tight = {
        "PIPAID__RATELIMIT__KEY_WEIGHT_MAX": "100",
        "PIPAID__RATELIMIT__KEY_WEIGHT_PER_S": "0.1",
    }
    with serving(tmp_path, variables=tight) as api:
        user = api.user()
        answers = [user.send("GET", "/v1/strategies") for _ in range(51)]

    refused = answers[-1]
    assert {each.status_code for each in answers[:-1]} == {200}
    assert (refused.status_code, refused.json()["code"]) == (429, "RATE_LIMITED")
    assert 1 <= int(refused.headers["Retry-After"]) <= 20
    assert 0 < refused.json()["retry_after_ms"] <= 20_000
    assert refused.headers["X-RateLimit-Remaining"] == "0"


def test_what_is_not_signed_or_not_rightly_is_refused(api: Api) -> None:
    user = api.user()
    unsigned = httpx2.get(f"{api.url}/v1/strategies", trust_env=False)
    forged = user.send("GET", "/v1/strategies", headers={"X-PipAI-Signature": "0" * 64})
    reader = api.user("read-only").send("POST", "/v1/strategies", {"name": "x", **GRID})
    api.daemon.ask("key.revoke", id=user.api_key)
    revoked = user.send("GET", "/v1/strategies")

    assert [(each.status_code, each.json()["code"]) for each in (unsigned, forged, reader, revoked)] == [
        (401, "INVALID_SIGNATURE"),
        (401, "INVALID_SIGNATURE"),
        (403, "INSUFFICIENT_PERMISSION"),
        (401, "KEY_EXPIRED"),
    ]
    assert forged.headers["X-RateLimit-Limit"] == "300"


def test_nobody_sees_what_belongs_to_another_account(api: Api) -> None:
    owner, other = api.user(), api.user(account="acct_other")
    one = owner.send("POST", "/v1/strategies", {"name": "mine alone", **GRID}).json()["id"]

    assert other.send("GET", f"/v1/strategies/{one}").status_code == 404
    assert other.send("DELETE", f"/v1/strategies/{one}").status_code == 404
    assert other.send("GET", "/v1/strategies").json() == {"data": [], "next_cursor": None}
    assert other.send("POST", "/v1/strategies", {"name": "mine alone", **GRID}).status_code == 201
    assert owner.send("GET", f"/v1/strategies/{one}").status_code == 200


def test_an_account_on_paper_deploys_dry_runs_only(api: Api) -> None:
    account = api.daemon.ask("account.create", name="paper desk", mode="paper")["id"]
    made = api.daemon.ask("key.create", name="x", scopes=["trade"], account_id=account)
    user = User(api.url, made["api_key"], made["secret"])
    path = f"/v1/strategies/{user.send('POST', '/v1/strategies', {'name': 'on paper', **GRID}).json()['id']}/deploy"

    refused, deployed = user.send("POST", path), user.send("POST", path, {"dry_run": True})

    assert (refused.status_code, refused.json()["code"]) == (403, "INSUFFICIENT_PERMISSION")
    assert "dry_run" in refused.json()["message"]
    assert (deployed.status_code, deployed.json()["status"]) == (200, "deployed")
    assert api.daemon.refusal("key.create", name="x", scopes=["trade"], account_id="acct_nobody") == "INVALID_PARAMETER"


def test_a_command_that_is_sent_twice_is_a_replay_and_with_an_idempotency_key_the_same_answer(api: Api) -> None:
    user = api.user()
    once = {"Idempotency-Key": "create-7"}

    first = user.send("POST", "/v1/strategies", {"name": "made once", **GRID}, headers=once)
    again = user.send("POST", "/v1/strategies", {"name": "made once", **GRID}, headers=once)
    other = user.send("POST", "/v1/strategies", {"name": "another", **GRID}, headers=once)
    replayed = send(first.request)

    assert first.status_code == again.status_code == 201
    assert first.json()["id"] == again.json()["id"]
    assert (other.status_code, other.json()["code"]) == (409, "INVALID_STATE")
    assert (replayed.status_code, replayed.json()["code"]) == (401, "INVALID_SIGNATURE")
    assert user.send("GET", "/v1/strategies", headers={"Idempotency-Key": "x" * 65}).status_code == 200
    for unusable in ("x" * 65, "", "two words"):
        assert user.send("POST", "/v1/strategies", headers={"Idempotency-Key": unusable}).status_code == 400


def test_pages_hold_each_strategy_once_whoever_comes_and_goes_meanwhile(api: Api) -> None:
    user = api.user(account="acct_pages")
    made = [user.send("POST", "/v1/strategies", {"name": f"page {n}", **GRID}).json()["id"] for n in range(12)]

    seen: list[str] = []
    target = "/v1/strategies?limit=3"
    while True:
        page = user.send("GET", target).json()
        seen += [each["id"] for each in page["data"]]
        if page["next_cursor"] is None:
            break
        # The one that the cursor names goes, and a newer one comes.
        assert user.send("DELETE", f"/v1/strategies/{seen[-1]}").status_code == 200
        assert user.send("POST", "/v1/strategies", {"name": f"newer {seen[-1]}", **GRID}).status_code == 201
        target = f"/v1/strategies?limit=3&cursor={page['next_cursor']}"

    assert seen == made[::-1]


@pytest.mark.parametrize(
    ("method", "target", "status", "code"),
    [
        ("GET", "/", 404, "NOT_FOUND"),
        ("GET", "/v1", 404, "NOT_FOUND"),
        ("GET", "/v1/strategies/", 404, "NOT_FOUND"),
        ("GET", "/v2/strategies", 404, "NOT_FOUND"),
        ("PUT", "/v1/strategies", 405, "METHOD_NOT_ALLOWED"),
        ("GET", "/v1/strategies/strat_1/deploy", 405, "METHOD_NOT_ALLOWED"),
        ("GET", "/v1/strategies?limit=0", 400, "INVALID_PARAMETER"),
        ("GET", "/v1/strategies?limit=1&limit=2", 400, "INVALID_PARAMETER"),
        ("GET", "/v1/strategies?cursor=nonsense", 400, "INVALID_PARAMETER"),
        ("POST", "/v1/strategies?x=1", 400, "INVALID_PARAMETER"),
        ("GET", "/v1/strategies/strat_%ff", 404, "NOT_FOUND"),
        ("GET", "/v1/strategies%2Fstrat_1", 404, "NOT_FOUND"),
        ("GET", "/v1/strategies/strat_00000000", 404, "NOT_FOUND"),
    ],
)
def test_what_cannot_be_answered_is_refused_in_one_shape(
    api: Api, method: str, target: str, status: int, code: str
) -> None:
    answer = api.user().send(method, target)

    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.json().keys() <= {"code", "message", "request_id", "details"}
    assert re.fullmatch(r"req_[0-9a-f]{12}", answer.headers["X-Request-Id"])
    assert answer.headers["Content-Type"] == "application/json"


def test_a_method_that_is_not_there_is_told_which_are(api: Api) -> None:
    answer = httpx2.request("OPTIONS", f"{api.url}/v1/strategies/strat_1", trust_env=False)

    assert answer.status_code == 405
    assert set(answer.headers["Allow"].split(", ")) == {"GET", "HEAD", "PATCH", "DELETE"}


@pytest.mark.parametrize("body", [b"{", b"[]", b"\xff", b"null", b'{"name": NaN}', b"[" * 1_000, b'{"x": 1}'])
def test_a_body_that_is_none_is_refused(api: Api, body: bytes) -> None:
    answer = api.user().send("POST", "/v1/strategies", body)

    assert (answer.status_code, answer.json()["code"]) == (400, "INVALID_PARAMETER")


def test_a_body_above_the_bound_is_refused_whether_it_says_so_or_not(api: Api) -> None:
    def pieces() -> Generator[bytes, None, None]:
        for _ in range(BODY_BYTES_MAX // 1_024 + 1):
            yield b" " * 1_024

    announced = api.user().send("POST", "/v1/strategies", b" " * (BODY_BYTES_MAX + 1))
    streamed = httpx2.post(f"{api.url}/v1/strategies", content=pieces(), trust_env=False)
    largest = api.user().send("POST", "/v1/strategies", b" " * BODY_BYTES_MAX)

    assert (announced.status_code, announced.json()["code"]) == (413, "PAYLOAD_TOO_LARGE")
    assert (streamed.status_code, streamed.json()["code"]) == (413, "PAYLOAD_TOO_LARGE")
    assert largest.status_code == 400


def test_every_operation_with_a_path_is_there_and_asks_for_a_signature(api: Api) -> None:
    for operation in OPERATIONS.values():
        if operation.path:
            target = operation.path.replace("{id}", "x")
            answer = httpx2.request(operation.method, f"{api.url}{target}", trust_env=False)
            assert answer.status_code in ((401,) if operation.scope else (200, 400)), operation.name


def test_a_header_that_stands_there_twice_is_read_by_nobody(api: Api) -> None:
    user = api.user()
    asked = httpx2.Request(
        "GET", f"{api.url}/v1/strategies", headers=[("X-PipAI-API-Key", user.api_key), ("X-PipAI-API-Key", "other")]
    )

    assert send(asked).status_code == 400


@pytest.mark.parametrize(
    ("line", "status"),
    [
        ("signed GET '/v1/strategies?limit=5'", 200),
        ('signed POST /v1/strategies \'{"name": "by shell"}\'', 400),
        ("signed POST /v1/strategies/strat_00000000/deploy", 404),
    ],
)
def test_the_shell_function_of_the_page_signs(api: Api, line: str, status: int) -> None:
    page = (ROOT / "README.md").read_text(encoding="utf-8")
    body = page.partition("\nsigned() {")[2].partition("\n}\n")[0].replace("curl ", "curl -w '\\n%{http_code}' ")
    function = f"signed() {{{body}\n}}\n"
    user = api.user()
    done = subprocess.run(
        ["bash", "-c", function + line], capture_output=True, text=True, check=True, timeout=60,
        env={"PATH": os.environ["PATH"], "API_KEY": user.api_key, "SECRET": user.secret, "API_URL": api.url},
    )  # fmt: skip

    assert int(done.stdout.rpartition("\n")[2]) == status, done.stdout


def test_a_head_is_what_a_get_would_be_without_its_body(api: Api) -> None:
    user = api.user()
    path = f"/v1/strategies/{user.send('POST', '/v1/strategies', {'name': 'head alone', **GRID}).json()['id']}"

    whole, head = user.send("GET", path), user.send("HEAD", path)
    unsigned = httpx2.head(f"{api.url}{path}", trust_env=False)
    command = user.send("HEAD", f"{path}/deploy")

    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["Content-Length"] == whole.headers["Content-Length"] == str(len(whole.content))
    assert (unsigned.status_code, unsigned.content) == (401, b"")
    assert (command.status_code, command.headers["Allow"], command.content) == (405, "POST", b"")


def test_health_and_figures_are_for_everybody(api: Api) -> None:
    health = httpx2.get(f"{api.url}/health", trust_env=False)
    head = httpx2.head(f"{api.url}/health", trust_env=False)
    figures = httpx2.get(f"{api.url}/metrics", trust_env=False)

    assert (health.status_code, health.json()["status"]) == (200, "healthy")
    assert (head.status_code, head.content) == (200, b"")
    assert figures.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    assert "# TYPE pipaid_candles_total counter\n" in figures.text
    assert re.search(r"^pipaid_up 1$", figures.text, re.MULTILINE)
    assert re.search(r'^pipaid_http_answers_total\{status="200"\} \d+$', figures.text, re.MULTILINE)


def test_what_is_served_describes_itself_without_a_signature(api: Api) -> None:
    told = httpx2.get(f"{api.url}/openapi.json", trust_env=False)
    page = httpx2.get(f"{api.url}/docs", trust_env=False)

    assert told.content == msgspec.json.encode(document())
    assert (page.status_code, page.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]
    assert page.headers["X-Request-Id"] != told.headers["X-Request-Id"]


def test_without_a_daemon_it_says_so_and_serves_again_when_there_is_one(tmp_path: Path) -> None:
    with serving(tmp_path) as api:
        user = api.user()
        one = user.send("POST", "/v1/strategies", {"name": "survivor", **GRID}).json()["id"]
        api.daemon.kill()

        health = httpx2.get(f"{api.url}/health", trust_env=False)
        refused = user.send("GET", f"/v1/strategies/{one}")
        command = user.send("POST", f"/v1/strategies/{one}/deploy", {"dry_run": True})
        figures = httpx2.get(f"{api.url}/metrics", trust_env=False)

        assert (health.status_code, health.json()["status"]) == (503, "unavailable")
        for each in (refused, command):
            assert (each.status_code, each.json()["code"], each.headers["Retry-After"]) == (503, "UNAVAILABLE", "1")
        assert "pipaid_up 0\n" in figures.text

        api.daemon.start()

        assert user.send("GET", f"/v1/strategies/{one}").json()["status"] == "draft"
        assert httpx2.get(f"{api.url}/health", trust_env=False).status_code == 200


def test_with_a_certificate_it_speaks_tls_and_nothing_else(tmp_path: Path) -> None:
    pair = make_pair(tmp_path)
    variables = {"PIPAID__HTTP__TLS_CERTIFICATE": str(pair.certificate), "PIPAID__HTTP__TLS_KEY": str(pair.key)}
    with serving(tmp_path / "daemon", variables=variables) as api:
        user = api.user()
        url = api.url.replace("http://", "https://")
        with Client(user.api_key, user.secret, url, tls=create_default_context(cafile=pair.certificate)) as client:
            assert client.ask("strategy.list") == {"data": [], "next_cursor": None}
        with Client(user.api_key, user.secret, url, patience_s=0) as stranger:
            with pytest.raises(Unavailable):
                stranger.ask("strategy.list")
        with pytest.raises(httpx2.TransportError):
            httpx2.get(f"{api.url}/health", trust_env=False)


def test_it_ends_in_order_when_told_to(tmp_path: Path) -> None:
    with serving(tmp_path) as api:
        assert api.user().send("GET", "/v1/strategies").status_code == 200
        assert api.end(signal.SIGTERM) == 0
        assert api.said("http.stopped")


def test_it_does_not_start_where_somebody_else_listens(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        variables: dict[str, Any] = {"PIPAID__HTTP__PORT": str(taken.getsockname()[1])}
        with pytest.raises(AssertionError, match="it ended with 75"), serving(tmp_path, variables=variables):
            pass
