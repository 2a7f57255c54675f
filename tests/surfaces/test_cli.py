"""`pipaid` against a real daemon: the life of a strategy typed out, and the screens that a person watches."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pipaid.model.operation import OPERATIONS
from tests.surfaces.daemons import ROOT, Daemon, command, daemon, environment, in_terminal, pipaid

DEMO = ROOT / "config" / "demo" / "strategies.toml"
HELP_MODULES_MAX = 300
HEAVY = {"trio", "numpy", "rich", "cattrs", "structlog", "sqlite3", "asyncio", "http"}
LEAVES_SCREEN = "\x1b[?1049l"
SHOWS_CURSOR = "\x1b[?25h"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Generator[Daemon, None, None]:
    with daemon(tmp_path_factory.mktemp("cli"), [DEMO]) as found:
        yield found


def created(running: Daemon, name: str, *more: str) -> str:
    ended = running.pipaid(
        "strategy", "create", "--name", name, "--template-id", "tpl_breakout", "--symbol", "BTCUSDT",
        "--timeframe", "1m", "--capital", "1000.00", "--param", "lookback=10", "--json", *more,
    )  # fmt: skip
    assert ended.code == 0, ended.err
    strategy_id: str = msgspec.json.decode(ended.out)["id"]
    return strategy_id


def test_a_strategy_lives_its_life_by_name_and_by_id(running: Daemon) -> None:
    strategy_id = created(running, "one life")

    steps: list[tuple[list[str], str]] = [
        (["deploy", "one life", "--dry-run"], "deployed (dry run)"),
        (["pause", strategy_id, "--close-positions"], "paused"),
        (["strategy", "update", "one life", "--leverage", "3"], "paused"),
        (["deploy", "ONE LIFE"], "deployed (dry run)"),
        (["pause", "one life"], "paused"),
        (["resume", "one life"], "deployed (dry run)"),
        (["pause", "one life", "--close-positions"], "paused"),
        (["deploy", "one life", "--no-dry-run"], "deployed (on its account)"),
        (["stop", "one life", "--close-positions"], "stopped"),
    ]
    for words, state in steps:
        assert running.pipaid(*words).out == f"{strategy_id} 'one life' is {state}\n"
    assert running.pipaid("strategy", "delete", "one life").out == f"{strategy_id} is deleted\n"
    assert running.pipaid("get", "one life").code == 4


def test_a_refusal_of_the_lifecycle_ends_with_one(running: Daemon) -> None:
    strategy_id = created(running, "never deployed")

    ended = running.pipaid("pause", strategy_id)

    assert (ended.code, ended.out) == (1, "")
    assert ended.err.startswith("error: INVALID_STATE: ")


@pytest.mark.parametrize(
    ("option", "value"), [("--capital", "NaN"), ("--capital", "1e3"), ("--capital", "-5"), ("--leverage", "99")]
)
def test_a_bad_value_is_refused_by_the_daemon_with_what_is_allowed(running: Daemon, option: str, value: str) -> None:
    ended = running.pipaid("deploy", "regular ether", option, value)

    assert ended.code == 1
    assert ended.err.startswith(f"error: INVALID_PARAMETER: {option.removeprefix('--')} must be ")


def test_what_programs_get_is_the_reply_of_the_table(running: Daemon) -> None:
    questions = ("status", "health", "actors", "metrics", "template.list", "strategy.list", "kill.get", "risk.get")

    for name in questions:
        ended = running.pipaid(*name.split("."), "--json")
        assert ended.code == 0, ended.err
        msgspec.json.decode(ended.out, type=OPERATIONS[name].reply)


@pytest.mark.parametrize(
    "verb", ["get", "positions", "orders", "trades", "strategy runs", "strategy stats", "strategy state"]
)
def test_every_question_about_a_strategy_is_answered_for_people(running: Daemon, verb: str) -> None:
    ended = running.pipaid(*verb.split(), "grid on bitcoin")

    assert (ended.code, ended.err) == (0, "")
    assert ended.out.strip()


def test_the_observing_socket_looks_and_does_not_touch(running: Daemon) -> None:
    observe = str(running.state / "observe.sock")

    assert pipaid("--socket", observe, "list").code == 0
    assert pipaid("--socket", observe, "kill", "activate", "--reason", "x").code == 5


def test_declarations_that_the_daemon_took_itself_are_unchanged(running: Daemon) -> None:
    ended = running.pipaid("apply", str(DEMO), "--json")

    assert {each["outcome"] for each in msgspec.json.decode(ended.out)["data"]} == {"unchanged"}
    assert ended.code == 0


def test_a_declaration_is_created_changed_and_left_alone(running: Daemon, tmp_path: Path) -> None:
    path = tmp_path / "declared.toml"
    text = (
        '[[strategy]]\nname = "declared"\ntemplate_id = "tpl_breakout"\nsymbols = ["SOLUSDT"]\ntimeframe = "5m"\n'
        'capital = "1000"\ndeploy = true\nparams = { lookback = 24 }\n'
    )
    outcomes: list[str] = []
    for lookback in (24, 24, 48, 48):
        path.write_text(text.replace("24", str(lookback)), encoding="utf-8")
        ended = running.pipaid("apply", str(path), "--json")
        assert ended.code == 0, ended.out
        outcomes.append(msgspec.json.decode(ended.out)["data"][0]["outcome"])

    assert outcomes == ["created", "unchanged", "changed", "unchanged"]
    found = msgspec.json.decode(running.pipaid("get", "declared", "--json").out)
    assert (found["status"], found["params"]["lookback"]) == ("deployed", 48)


def test_a_declaration_that_the_template_refuses_leaves_the_strategy_running(running: Daemon, tmp_path: Path) -> None:
    path = tmp_path / "declared.toml"
    text = (
        '[[strategy]]\nname = "refused"\ntemplate_id = "tpl_breakout"\nsymbols = ["SOLUSDT"]\ntimeframe = "5m"\n'
        'capital = "1000"\ndeploy = true\nparams = { lookback = 24 }\n'
    )
    path.write_text(text, encoding="utf-8")
    assert running.pipaid("apply", str(path)).code == 0
    path.write_text(text.replace("24", "1"), encoding="utf-8")

    ended = running.pipaid("apply", str(path))

    assert ended.code == 1
    assert "lookback" in ended.out
    found = msgspec.json.decode(running.pipaid("get", "refused", "--json").out)
    assert (found["status"], found["params"]["lookback"]) == ("deployed", 24)


def test_a_tail_prints_whole_events_until_ctrl_c(running: Daemon) -> None:
    process = subprocess.Popen(
        command("admin", "events", "tail", "--json"), stdout=subprocess.PIPE, text=True,
        env=environment(PIPAID_SOCKET=str(running.socket)),
    )  # fmt: skip
    assert process.stdout is not None
    frames: list[dict[str, Any]] = [msgspec.json.decode(process.stdout.readline()) for _ in range(5)]
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=10)

    assert process.returncode == 0
    assert all(frame["channel"] == "strategy.status" and frame["seq"] > 0 for frame in frames)


def test_a_reader_that_leaves_ends_the_tail(running: Daemon) -> None:
    process = subprocess.Popen(
        command("admin", "events", "tail"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=environment(PIPAID_SOCKET=str(running.socket)),
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()

    assert process.wait(20) == 141
    assert process.stderr.read() == ""
    process.stderr.close()


def test_the_live_view_leaves_the_terminal_as_it_was(running: Daemon) -> None:
    ended = in_terminal(command("admin", "top", "--every", "0.2"), until="commits/s", PIPAID_SOCKET=str(running.socket))

    assert ended.code == 0
    assert "grid on bitcoin" in ended.out
    assert ended.out.rstrip().endswith(LEAVES_SCREEN)
    assert ended.out.rfind(SHOWS_CURSOR) > ended.out.rfind("\x1b[?25l")
    assert "Traceback" not in ended.out


def test_no_color_leaves_the_live_view_without_colours(running: Daemon) -> None:
    words = command("admin", "top", "--every", "0.2")
    plain = in_terminal(words, until="commits/s", PIPAID_SOCKET=str(running.socket), NO_COLOR="1")
    coloured = in_terminal(words, until="commits/s", PIPAID_SOCKET=str(running.socket))

    assert "\x1b[32m" in coloured.out
    assert "\x1b[32m" not in plain.out


def test_the_shell_is_offered_verbs_values_and_the_names_of_strategies(running: Daemon) -> None:
    def offered(line: str) -> list[str]:
        words = line.split(" ")
        ended = running.pipaid(_PIPAID_COMPLETE="complete_bash", COMP_WORDS=line, COMP_CWORD=str(len(words) - 1))
        return ended.out.split("\n")

    assert "deploy" in offered("pipaid strategy de")
    assert "deployed" in offered("pipaid list --status de")
    assert r"regular\ ether" in offered("pipaid pause regu")
    assert "warning" in offered("pipaid log level w")


def test_help_imports_little_and_nothing_heavy() -> None:
    ask = (
        "import sys; sys.argv = ['pipaid', '--help']\n"
        "from pipaid.launch import admin\n"
        "try: admin()\n"
        "except SystemExit: pass\n"
        f"print('imported', len(sys.modules), sorted({HEAVY!r} & set(sys.modules)))"
    )
    done = subprocess.run([*command("admin")[:2], ask], capture_output=True, text=True, check=True, env=environment())
    _, modules, imported = done.stdout.splitlines()[-1].split(" ", maxsplit=2)

    assert imported == "[]"
    # What it costs is measured by `make bench ARGS=daemons`; this is what it costs by.
    assert int(modules) < HELP_MODULES_MAX


def test_a_daemon_that_was_told_to_end_is_not_reachable_any_more(tmp_path: Path) -> None:
    with daemon(tmp_path) as alone:
        told = alone.pipaid("shutdown")
        alone.process.wait(20)
        ended = alone.pipaid("ping")

    assert (told.code, alone.process.returncode) == (0, 0)
    assert ended.code == 3
    assert str(alone.socket) in ended.err


def test_a_journal_can_be_judged_and_copied_while_the_daemon_writes_it(running: Daemon, tmp_path: Path) -> None:
    state = ["--state", str(running.state)]

    assert pipaid("journal", "verify", *state).code == 0
    assert pipaid("journal", "backup", str(tmp_path / "journal.db"), *state).code == 0
    assert pipaid("journal", "verify", "--state", str(tmp_path)).code == 0
    assert len(pipaid("journal", "digest", *state).out.strip()) == 32


def test_the_doctor_finds_a_running_daemon(running: Daemon) -> None:
    config = running.state.parent / "pipaid.toml"

    ended = pipaid("doctor", "--config", str(config), "--state", str(running.state), "--json")

    findings = {each["name"]: each for each in msgspec.json.decode(ended.out)["data"]}
    assert ended.code == 0
    assert findings["control socket"]["verdict"] == "good"


def test_an_explanation_names_candle_features_and_decision(running: Daemon) -> None:
    until = time.monotonic() + 20
    while "candle" not in (told := running.pipaid("why", "momentum on solana")).out and time.monotonic() < until:
        time.sleep(0.2)

    assert told.code == 0, told.err
    for words in ("on SOLUSDT at 2025-06-", "candle", "what it saw", "decision"):
        assert words in told.out
