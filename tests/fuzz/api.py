"""The HTTP API against its own document: schemathesis makes requests out of what is served, with all checks on."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from tests.fuzz.foreseen import API_KEY, SECRET
from tests.fuzz.siege import FAILURES
from tests.surfaces.api import SEPARATE, Api, User, serving
from tests.surfaces.daemons import environment

# The symbols and the spans of the examples in the document are there.
CONFIG: Final = SEPARATE.replace('["BTCUSDT", "ETHUSDT"]', '["BTCUSDT", "SOLUSDT"]').replace("2025-06-01", "2026-01-10")
PLENTY: Final[Mapping[str, str]] = {
    f"PIPAID__RATELIMIT__{whose}_WEIGHT_{what}": "1000000" for whose in ("KEY", "ADDRESS") for what in ("MAX", "PER_S")
}
HOOKS: Final = "tests.fuzz.api_hooks"
# What the library does: the document's own examples, every bound of every field, chance, and sequences of operations.
PHASES: Final = "examples,coverage,fuzzing,stateful"
# No request may take so long.
ANSWER_S_MAX: Final = 30


class Examined(msgspec.Struct, frozen=True, kw_only=True):
    """What a run came to; `answers` counts them by status."""

    cases: int
    operations: int
    answers: dict[int, int]
    problems: tuple[str, ...]


def examine(folder: Path, *, seed: int, examples: int, seconds_max: float, phases: str = PHASES) -> Examined:
    """Try every operation of a real daemon as its document describes it, so often, and sequences of operations."""
    with serving(folder / "daemon", CONFIG, variables=PLENTY) as api:
        bounds = _Bounds(seed, examples, seconds_max, phases)
        found = _examined(api, api.user(), folder, bounds)
        problems = [f"the daemon said {each}" for each in api.daemon.said() if each["event"] in FAILURES]
        problems += [f"the web process said {each}" for each in api.said("http.failed")]
        code = api.daemon.end()
        if code:
            problems.append(f"the daemon ended with {code} when it was asked to")
        api.daemon.verify()
    return msgspec.structs.replace(found, problems=(*found.problems, *problems))


class _Bounds(NamedTuple):
    seed: int
    examples: int
    seconds_max: float
    phases: str


def _examined(api: Api, user: User, folder: Path, bounds: _Bounds) -> Examined:
    report, told = folder / "report.json", folder / "events.ndjson"
    command = [
        str(Path(sys.executable).with_name("st")), "run", f"{api.url}/openapi.json", "--seed", str(bounds.seed),
        "--max-examples", str(bounds.examples), "--phases", bounds.phases, "--checks", "all",
        "--max-response-time", str(ANSWER_S_MAX), "--request-timeout", str(ANSWER_S_MAX), "--continue-on-failure",
        "--output-truncate", "false",
        "--report", "json,ndjson", "--report-json-path", str(report), "--report-ndjson-path", str(told),
    ]  # fmt: skip
    variables = {
        "SCHEMATHESIS_HOOKS": HOOKS,
        API_KEY: user.api_key,
        SECRET: user.secret,
        "no_proxy": "127.0.0.1",
    }
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment(**variables),
        capture_output=True,
        text=True,
        timeout=bounds.seconds_max,
        check=False,
    )
    if not report.exists():
        return Examined(cases=0, operations=0, answers={}, problems=(done.stdout + done.stderr,))
    found: dict[str, Any] = msgspec.json.decode(report.read_bytes())
    problems = [*map(str, found["errors"])]
    if done.returncode or not found["complete"]:
        problems.append(done.stdout)
    return Examined(
        cases=found["test_cases"]["generated"],
        operations=found["operations"]["tested"],
        answers=_answers(told),
        problems=tuple(problems),
    )


def _answers(told: Path) -> dict[int, int]:
    """Count the answers that the run got by their status."""
    counted: dict[int, int] = {}
    for line in told.read_bytes().splitlines():
        recorder = msgspec.json.decode(line).get("ScenarioFinished", {}).get("recorder", {})
        for interaction in recorder.get("interactions", {}).values():
            if interaction.get("response"):
                status = interaction["response"]["status_code"]
                counted[status] = counted.get(status, 0) + 1
    return dict(sorted(counted.items()))
