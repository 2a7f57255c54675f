"""Verbs: what they ask of the daemon, what they print for people and for programs, and how they end."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pipaid import errors
from pipaid.cli.terminal import Terminal
from pipaid.cli.verbs import ended
from pipaid.model.account import Account, AccountPage, Mode, TokenObject, TokensRotated, account_object
from pipaid.model.reply import StrategyObject
from pipaid.model.report import GateVerdict, KeyWithSecret, KillSwitch, Pong, Reloaded, StrategyState, Why
from pipaid.model.request import Request
from tests.cli.answering import Answering, control, listed, pipaid, strategy

PONG = Pong(ts="2026-01-01T00:00:00.000Z")


def refusing(refusal: errors.PipaidError) -> Any:
    """Answer with a refusal, whatever is asked."""

    def answer(asked: Request) -> bytes:
        raise refusal

    return answer


def test_programs_get_the_reply_byte_for_byte(tmp_path: Path) -> None:
    reply = b'{"pong" : true,  "ts":"now", "more":[1.50, 1e3]}'

    with control(tmp_path, {"ping": lambda asked: reply}) as served:
        ended = pipaid("ping", "--json", socket_path=served.path)

    assert (ended.code, ended.out, ended.err) == (0, reply.decode() + "\n", "")


@pytest.mark.parametrize("words", [("--json", "ping"), ("ping", "--json")])
def test_shared_options_stand_before_or_after_the_verb(tmp_path: Path, words: tuple[str, ...]) -> None:
    with control(tmp_path, {"ping": lambda asked: PONG}) as served:
        before = pipaid("--socket", str(served.path), *words)
        after = pipaid(*words, "--socket", str(served.path))

    assert before.out == after.out == msgspec.json.encode(PONG).decode() + "\n"


def test_people_get_words(tmp_path: Path) -> None:
    with control(tmp_path, {"ping": lambda asked: PONG}) as served:
        ended = pipaid("ping", socket_path=served.path)

    assert ended.out == "pong at 2026-01-01T00:00:00.000Z\n"


REFUSALS = [
    (errors.InvalidState("cannot pause a strategy that is paused"), 1),
    (errors.NotFound("there is no strategy"), 4),
    (errors.InsufficientPermission("for looking only"), 5),
    (errors.Unavailable("starting"), 6),
    (errors.PipaidError("failed inside the daemon"), 7),
]


@pytest.mark.parametrize(("refusal", "code"), REFUSALS, ids=lambda each: getattr(each, "code", ""))
def test_a_refusal_is_told_with_its_code(tmp_path: Path, refusal: errors.PipaidError, code: int) -> None:
    with control(tmp_path, {"strategy.pause": refusing(refusal)}) as served:
        ended = pipaid("pause", "strat_5e07c1d9", socket_path=served.path)

    assert (ended.code, ended.out) == (code, "")
    assert ended.err == f"error: {refusal.code}: {refusal.message}\n"


def test_programs_get_a_refusal_as_json_with_every_field(tmp_path: Path) -> None:
    with control(tmp_path, {"strategy.get": lambda asked: strategy()}) as served:
        ended = pipaid(
            "strategy", "deploy", "strat_5e07c1d9", "--capital", "NaN", "--leverage", "99", "--json",
            socket_path=served.path,
        )  # fmt: skip

    refusal = msgspec.json.decode(ended.err)
    assert (ended.code, ended.out, refusal["code"]) == (1, "", "INVALID_PARAMETER")
    assert [detail["field"] for detail in refusal["details"]] == ["capital", "leverage"]


def test_an_interrupted_verb_ends_as_shells_expect(tmp_path: Path) -> None:
    def interrupted(asked: Terminal) -> int:
        raise KeyboardInterrupt

    terminal = Terminal(variables={}, out=io.StringIO(), err=io.StringIO(), socket=tmp_path / "none")

    assert ended(interrupted, terminal, {}) == 130


def test_what_would_steer_a_terminal_is_not_printed(tmp_path: Path) -> None:
    with control(tmp_path, {"strategy.list": listed(strategy(name="a\x9b2J[red]b"))}) as served:
        ended = pipaid("list", socket_path=served.path)

    assert "\x9b" not in ended.out
    assert "2J[red]b" in ended.out


def test_nobody_who_answers_is_told_with_the_socket_and_the_way_out(tmp_path: Path) -> None:
    ended = pipaid("ping", socket_path=tmp_path / "nowhere.sock")

    assert (ended.code, ended.out) == (3, "")
    assert str(tmp_path / "nowhere.sock") in ended.err
    assert "pipaidd --config" in ended.err


@pytest.mark.parametrize(
    "words", [("no-such-verb",), ("strategy", "create", "--name", "x"), ("pause",), ("list", "--limit", "many")]
)
def test_a_command_line_without_sense_is_told_so(words: tuple[str, ...]) -> None:
    assert pipaid(*words).code == 2


def test_the_environment_says_where_the_socket_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with control(tmp_path, {"ping": lambda asked: PONG}) as served:
        monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
        in_the_runtime_directory = pipaid("ping")
        monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path / "elsewhere"))
        monkeypatch.setenv("PIPAID_SOCKET", str(served.path))
        named = pipaid("ping")

    assert (in_the_runtime_directory.code, named.code) == (0, 0)


def test_the_socket_of_the_working_directory_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PIPAID_SOCKET", "RUNTIME_DIRECTORY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "var").mkdir()

    with control(tmp_path / "var", {"ping": lambda asked: PONG}):
        assert pipaid("ping").code == 0


@pytest.mark.parametrize("typed", ["sol range", "SOL Range", "strat_5e07c1d9"])
def test_a_strategy_answers_to_its_id_and_to_its_name(tmp_path: Path, typed: str) -> None:
    answers: dict[str, Answering] = {"strategy.list": listed(strategy()), "strategy.get": lambda asked: strategy()}
    with control(tmp_path, answers) as served:
        ended = pipaid("strategy", "get", typed, socket_path=served.path)

    assert ended.code == 0
    assert served.asked[-1][1].id == "strat_5e07c1d9"  # type: ignore[attr-defined]  # It is Addressed.


def test_a_name_far_down_the_listing_is_found(tmp_path: Path) -> None:
    many = [strategy(id=f"strat_{number:08x}", name=f"number {number}") for number in range(250)]
    answers: dict[str, Answering] = {"strategy.list": listed(*many), "strategy.get": lambda asked: strategy()}

    with control(tmp_path, answers) as served:
        assert pipaid("get", "number 249", socket_path=served.path).code == 0
        assert served.asked[-1][1].id == "strat_000000f9"  # type: ignore[attr-defined]  # It is Addressed.


def test_a_name_that_nobody_bears_is_not_found_and_the_nearest_is_offered(tmp_path: Path) -> None:
    with control(tmp_path, {"strategy.list": listed(strategy())}) as served:
        ended = pipaid("pause", "sol rnage", socket_path=served.path)

    assert ended.code == 4
    assert "did you mean 'sol range'?" in ended.err


def test_a_name_that_two_bear_is_refused_with_both_ids(tmp_path: Path) -> None:
    two = [strategy(id="strat_00000001", name="Sol"), strategy(id="strat_00000002", name="sOl")]
    with control(tmp_path, {"strategy.list": listed(*two)}) as served:
        ended = pipaid("stop", "sol", socket_path=served.path)

    assert ended.code == 1
    assert "strat_00000001" in ended.err
    assert "strat_00000002" in ended.err
    assert [op for op, _ in served.asked] == ["strategy.list"]


def test_a_listing_names_the_next_page_and_follows_all(tmp_path: Path) -> None:
    many = [strategy(id=f"strat_{number:08x}", name=f"number {number}") for number in range(45)]
    with control(tmp_path, {"strategy.list": listed(*many)}) as served:
        page = pipaid("list", socket_path=served.path)
        everything = pipaid("list", "--all", socket_path=served.path)
        lines = pipaid("list", "--all", "--json", socket_path=served.path).out.splitlines()

    assert "--cursor 20" in page.out
    assert [name in everything.out for name in ("number 0 ", "number 44 ")] == [True, True]
    assert [len(msgspec.json.decode(line)["data"]) for line in lines] == [20, 20, 5]


def test_an_empty_listing_says_so(tmp_path: Path) -> None:
    with control(tmp_path, {"strategy.list": listed()}) as served:
        assert pipaid("list", socket_path=served.path).out == "nothing to list\n"


def test_a_secret_is_shown_with_a_warning_that_it_is_the_only_time(tmp_path: Path) -> None:
    key = KeyWithSecret(
        api_key="pk_1", name="desk", account_id="acct_main", scopes=("trade",), state="active",
        created_at="2026-01-01T00:00:00Z", expires_at=None, rotated_at=None, grace_until=None, secret="s3cret",
    )  # fmt: skip
    with control(tmp_path, {"key.create": lambda asked: key}) as served:
        ended = pipaid("key", "create", "--name", "desk", "--scope", "trade", socket_path=served.path)

    assert "s3cret" in ended.out
    assert "this once" in ended.out


def test_a_token_stands_alone_on_its_line_and_a_repeated_answer_says_that_it_is_gone(tmp_path: Path) -> None:
    token = TokenObject(
        token="one.two.three", token_id="tok_1", user="alice", organisation="acme", account_id="acct_1",
        scopes=("strategies:read",), expires_at="2026-01-01T00:00:00Z",
    )  # fmt: skip
    told = iter([token, msgspec.structs.replace(token, token=None), TokensRotated(version=2)])
    with control(tmp_path, {"token.create": lambda _: next(told), "token.rotate": lambda _: next(told)}) as served:
        words = ("token", "create", "--user", "alice", "--organisation", "acme", "--scope", "read-only")
        shown, again = (pipaid(*words, socket_path=served.path) for _ in range(2))
        rotated = pipaid("token", "rotate", socket_path=served.path)

    assert shown.out.splitlines()[0] == "one.two.three"
    assert "of alice in acme, good until 2026-01-01T00:00:00Z; it is shown this once" in shown.out
    assert "three" not in again.out
    assert "tok_1" in again.out
    assert "every token made so far is void" in rotated.out


def test_accounts_are_listed_with_what_they_may(tmp_path: Path) -> None:
    page = AccountPage(
        data=(account_object(Account(id="acct_1", name="desk", organisation="acme", mode=Mode.PAPER)),),
        next_cursor=None,
    )
    with control(tmp_path, {"account.list": lambda _: page}) as served:
        ended = pipaid("account", "list", socket_path=served.path)

    assert ended.out.splitlines()[0].split() == ["ACCOUNT", "NAME", "ORGANISATION", "VENUE", "MODE"]
    assert ended.out.splitlines()[2].split() == ["acct_1", "desk", "acme", "simulated", "paper"]


def test_events_are_printed_one_a_line(tmp_path: Path) -> None:
    frames = (
        (
            b'{"channel":"strategy.status","event":"order_filled","id":"strat_5e07c1d9","seq":7,'
            b'"ts":"2026-01-02T10:15:00.412Z","data":{"side":"buy","qty":"4.2","fill_qty":"1.2","fill_price":"158.4",'
            b'"symbol":"SOLUSDT","fee":"0.09","fee_asset":"USDT","liquidity":"maker"}}'
        ),
        (
            b'{"channel":"strategy.status","event":"from_the_future","id":"strat_5e07c1d9","after_seq":7,'
            b'"ts":"2026-01-02T10:15:01.000Z","data":{"what":"this"}}'
        ),
    )
    with control(tmp_path, events=frames) as served:
        told = pipaid("events", "tail", "strat_5e07c1d9", "--since-seq", "6", "--ext", socket_path=served.path)
        raw = pipaid("events", "tail", "--json", socket_path=served.path)

    assert told.out.splitlines() == [
        (
            "2026-01-02 10:15:00      7 strat_5e07c1d9 order_filled    "
            "buy 1.2 of 4.2 SOLUSDT at 158.4 fee 0.09 USDT (maker)"
        ),
        "2026-01-02 10:15:01     +7 strat_5e07c1d9 from_the_future what=this",
    ]
    assert raw.out.encode() == b"".join(frame + b"\n" for frame in frames)
    first, second = [asked for name, asked in served.asked if name == "events.tail"]
    assert first == msgspec.structs.replace(second, id="strat_5e07c1d9", since_seq=6, ext=True)


def event(seq: int, whose: str = "strat_5e07c1d9") -> bytes:
    told: dict[str, Any] = {"event": "resumed", "id": whose, "seq": seq, "ts": "2026-01-02T10:15:00.412Z", "data": {}}
    return msgspec.json.encode(told)


def test_a_daemon_that_ends_under_a_tail_is_told_and_how_to_go_on(tmp_path: Path) -> None:
    with control(tmp_path) as served:
        silent = pipaid("events", "tail", socket_path=served.path)
        raw = pipaid("events", "tail", "--json", socket_path=served.path)
    (tmp_path / "another").mkdir()
    with control(tmp_path / "another", events=(event(6), event(7))) as served:
        one = pipaid("events", "tail", "strat_5e07c1d9", socket_path=served.path)
        all_of_them = pipaid("events", "tail", socket_path=served.path)

    assert (silent.code, silent.out, silent.err) == (6, "", "error: UNAVAILABLE: the daemon ended\n")
    assert (raw.code, msgspec.json.decode(raw.err)["message"]) == (6, "the daemon ended")
    ended = "error: UNAVAILABLE: the daemon ended; go on with: pipaid events tail"
    assert one.err == f"{ended} strat_5e07c1d9 --since-seq 7\n"
    assert all_of_them.err == f'{ended} --since-seq \'{{"strat_5e07c1d9":7,"*":0}}\'\n'


def test_a_tail_that_was_ended_by_a_daemon_that_runs_on_was_read_too_slowly(tmp_path: Path) -> None:
    with control(tmp_path, {"ping": lambda asked: PONG}, events=(event(7),)) as served:
        told = pipaid("events", "tail", "strat_5e07c1d9", socket_path=served.path)

    assert told.code == 6
    assert "read too slowly" in told.err
    assert told.err.endswith("go on with: pipaid events tail strat_5e07c1d9 --since-seq 7\n")


def deployable(known: StrategyObject) -> dict[str, Answering]:
    """Answer what a deployment of this strategy asks."""
    return {
        "strategy.get": lambda asked: known,
        "strategy.deploy": lambda asked: strategy(dry_run=asked.dry_run),
    }


def test_a_run_is_told_by_where_its_orders_go(tmp_path: Path) -> None:
    with control(tmp_path, deployable(strategy(run=None, dry_run=None))) as served:
        simulated = pipaid("deploy", "strat_5e07c1d9", "--dry-run", socket_path=served.path)
        real = pipaid("deploy", "strat_5e07c1d9", socket_path=served.path)

    assert simulated.out.endswith("is deployed (dry run)\n")
    assert real.out.endswith("is deployed (on its account)\n")


@pytest.mark.parametrize("verb", ["deploy", "resume"])
def test_a_dry_run_goes_on_as_one_until_its_account_is_named(tmp_path: Path, verb: str) -> None:
    with control(tmp_path, deployable(strategy(status="paused"))) as served:
        again = pipaid(verb, "strat_5e07c1d9", socket_path=served.path)
        changed = pipaid("deploy", "strat_5e07c1d9", "--no-dry-run", socket_path=served.path)

    assert again.out.endswith("is deployed (dry run)\n")
    assert changed.out.endswith("is deployed (on its account)\n")


def test_what_never_ran_is_not_resumed(tmp_path: Path) -> None:
    with control(tmp_path, deployable(strategy(status="draft", run=None, dry_run=None))) as served:
        ended = pipaid("resume", "strat_5e07c1d9", socket_path=served.path)

    assert (ended.code, ended.out) == (1, "")
    assert "never deployed" in ended.err
    assert [name for name, _ in served.asked] == ["strategy.get"]


def test_a_decision_is_explained_in_words(tmp_path: Path) -> None:
    why = {
        "id": "strat_5e07c1d9", "symbol": "SOLUSDT", "at": "2026-01-02T10:15:00.000Z", "status": "deployed",
        "candle": {"open_time": "2026-01-02T10:00:00.000Z", "open": "158", "high": "159", "low": "157.5",
                   "close": "158.25", "volume": "1200"},
        "features": {"rsi[14]": 61.5, "atr[14]": None}, "rules": {"enter: is_above_sma": True},
        "gates": [{"gate": "exposure_max", "verdict": "refused", "limit": "2500", "value": "2750"},
                  {"gate": "kill_switch", "verdict": "passed", "limit": "off", "value": "off"}],
        "decision": "enter long", "intents": [{"intent": "enter", "direction": "long", "price": "158.25"}],
        "run_id": "run_1",
    }  # fmt: skip
    reply = msgspec.convert(why, Why)

    with control(tmp_path, {"strategy.why": lambda asked: reply}) as served:
        ended = pipaid("why", "strat_5e07c1d9", "--at", "2026-01-02T10:16:00Z", socket_path=served.path)

    assert ended.code == 0
    for words in (
        "strat_5e07c1d9, deployed, on SOLUSDT at 2026-01-02 10:15:00", "warming up", "61.5",
        "enter: is_above_sma  held", "enter: direction long, price 158.25",
        "enter long; refused by exposure_max (value 2750, limit 2500)", "pipaid run get run_1",
    ):  # fmt: skip
        assert words in ended.out


def test_a_change_that_needs_confirming_is_refused_with_the_command_that_confirms_it(tmp_path: Path) -> None:
    refusal = 'this loosens exposure_max; to confirm, send it again within 60 s with "confirm": "cfm_00c0ffee"'
    with control(tmp_path, {"risk.set": refusing(errors.InvalidState(refusal))}) as served:
        told = pipaid("risk", "set", "--exposure-max", "500", socket_path=served.path)
        raw = pipaid("risk", "set", "--exposure-max", "500", "--json", socket_path=served.path)

    assert told.code == raw.code == 1
    assert told.err.splitlines()[-1] == "pipaid risk set --exposure-max 500 --confirm cfm_00c0ffee"
    assert msgspec.json.decode(raw.err)["message"] == refusal


def test_a_deployment_under_the_kill_switch_says_that_nothing_is_entered(tmp_path: Path) -> None:
    thrown = KillSwitch(is_active=True, reason="not today", activated_at=None, activated_by=None)
    with control(tmp_path, {**deployable(strategy()), "kill.get": lambda asked: thrown}) as served:
        ended = pipaid("deploy", "strat_5e07c1d9", socket_path=served.path)

    assert ended.code == 0
    assert "the kill switch is thrown: nothing is entered" in ended.err


def test_a_tail_from_a_number_that_has_not_come_yet_says_so(tmp_path: Path) -> None:
    state = StrategyState(
        id="strat_5e07c1d9", status="deployed", may_not_enter="", next_occasion=None, limits={}, exposure="0.00",
        evaluations=0, held=0, holds=(), restarts=0,
        last_seq=24, symbols=(),
    )  # fmt: skip
    with control(tmp_path, {"strategy.state": lambda asked: state}) as served:
        ended = pipaid("events", "tail", "strat_5e07c1d9", "--since-seq", "99999", socket_path=served.path)

    assert "the newest event of strat_5e07c1d9 is 24" in ended.err


def test_a_reload_says_of_what_it_left_how_it_comes_into_force(tmp_path: Path) -> None:
    reloaded = Reloaded(changed=("log.level",), needs_restart=("risk.account.exposure_max", "stream.port"))
    with control(tmp_path, {"reload": lambda asked: reloaded}) as served:
        ended = pipaid("reload", socket_path=served.path)

    assert ended.out.splitlines() == [
        "log.level: in force",
        "risk.account.exposure_max: looser: in force after a restart, or by `pipaid risk set`",
        "stream.port: in force after a restart",
    ]


def test_the_end_of_a_cooldown_is_told_as_a_moment(tmp_path: Path) -> None:
    gate = GateVerdict(gate="cooldown", verdict="refused", limit="1767348960000", value="1767348900000")
    why = Why(
        id="strat_5e07c1d9", symbol="SOLUSDT", at="2026-01-02T10:15:00.000Z", status="paused", candle=None,
        features={}, rules={}, gates=(gate,), decision="hold", intents=(),
    )  # fmt: skip
    with control(tmp_path, {"strategy.why": lambda asked: why}) as served:
        ended = pipaid("why", "strat_5e07c1d9", socket_path=served.path)

    assert "17673" not in ended.out
    assert "2026-01-02 10:16:00" in ended.out


def test_a_strategy_that_crashes_again_and_again_does_not_look_healthy(tmp_path: Path) -> None:
    crashed = strategy(restarting="3 of 5: AttributeError: no such knob")
    with control(tmp_path, {"strategy.list": listed(crashed)}) as served:
        ended = pipaid("list", socket_path=served.path)

    assert "restarting 3 of 5: AttributeError: no such knob" in ended.out
