"""What models answered a daemon, given again, leads to the same fills: at every candle, and only where it matters."""

from __future__ import annotations

import json
from collections.abc import Sequence
from decimal import Decimal
from hashlib import blake2b
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
from attrs import define

from pipaid.engine.backtest import run
from pipaid.engine.fees import Fees
from pipaid.engine.plan import Plan
from pipaid.engine.recorded import UNRECORDED, by_question, recorded_in
from pipaid.model.consult import RecordedAnswer
from pipaid.model.instrument import Timeframe
from pipaid.model.moment import iso_seconds
from pipaid.model.order import BookedFill, Fill
from pipaid.model.run import Evaluation
from pipaid.model.strategy import StrategyDefinition
from pipaid.plugins import load_templates
from pipaid.seams import SystemDisk
from pipaid.storage.reading import SqliteReader
from pipaid.venues.importing import read_candles
from pipaid.venues.recorded import load
from templates.deciding import FORMS, Form
from tests.endpoints import Asked, ModelServer, completion, saying, serving
from tests.scenarios.recordings import MINUTE_MS, START_MS, replay_config, write_recording
from tests.scenarios.test_three_drivers import (
    ABOVE,
    CROSSED,
    MAKER_BPS,
    SLIPPAGE_BPS,
    TAKER_BPS,
    inline,
    told,
    with_gaps,
)
from tests.surfaces.daemon import Daemon, running

MINUTES = 1_200
SYMBOLS = ("BTCUSDT", "ETHUSDT")
BUDGET = {"budget_money_per_day": "1000", "budget_tokens_per_day": 100_000_000}
QUICK = {"stop_loss_calculation": "fixed", "stop_loss_pct": "0.003", "cooldown_bars": 0}
CASES: dict[str, dict[str, Any]] = {
    "alone": {
        "symbols": SYMBOLS[:1],
        "timeframe": "15m",
        "params": {"context_tfs": ["1h"], "maintenance_enabled": True, "maintenance_interval_minutes": 60},
    },
    "arguing": {"symbols": SYMBOLS, "timeframe": "1h", "params": {"execution_mode": "multi_agent"}},
    "checking": {
        "symbols": SYMBOLS[1:],
        "timeframe": "5m",
        "params": {
            "execution_mode": "hybrid_validator",
            "entry": [{**CROSSED, "timeframe": "5m"}, {**ABOVE, "timeframe": "15m"}],
        },
    },
    "after rules": {
        "symbols": SYMBOLS[:1],
        "timeframe": "5m",
        "params": {
            "execution_mode": "rule_then_llm",
            "entry": [{**CROSSED, "timeframe": "5m"}, {**ABOVE, "timeframe": "5m"}],
        },
    },
}


async def behave(stream: trio.abc.Stream, asked: Asked) -> None:
    """Answer by nothing but what was asked: mostly in form, sometimes not, and never the same for long."""
    await saying(completion(said(json.dumps(asked.body["messages"]))))(stream, asked)


def said(messages: str) -> str:
    chance = blake2b(messages.encode(), digest_size=4).digest()
    if chance[0] < 20:
        return "I cannot say."
    marks = {"APPROVE": "validation", "argument": "technical", "TIGHTEN": "maintenance"}
    role = next((role for mark, role in marks.items() if f'\\"{mark}\\"' in messages), "decision")
    form: Form = FORMS[role]
    # Holding is said more seldom than the rest, so that something happens.
    actions = [action for action in form.actions if action != "HOLD" or chance[1] < 40]
    given = {"action": actions[chance[2] % len(actions)], "confidence": 0.6 + chance[3] / 600, form.text: "so"}
    return json.dumps({**given, **dict.fromkeys(form.numbers)})


def definition_of(name: str) -> StrategyDefinition:
    case = CASES[name]
    params = {"llm_provider": "main", "llm_model": "m", "execution_config": QUICK, **BUDGET, **case["params"]}
    return StrategyDefinition(
        name=name,
        template_id="tpl_analyst",
        params=params,
        symbols=case["symbols"],
        timeframe=Timeframe(case["timeframe"]),
        capital=Decimal(10_000),
    )


def declared(name: str) -> str:
    definition = definition_of(name)
    return f"""
[[strategy]]
name = "{name}"
template_id = "tpl_analyst"
symbols = {list(definition.symbols)}
timeframe = "{definition.timeframe}"
capital = "{definition.capital}"
deploy = true
params = {inline(definition.params)}
"""


def models(port: int) -> str:
    return f"""
[llm]
money_per_day_max = "100000"
[llm.providers.main]
kind = "openai"
base_url = "http://127.0.0.1:{port}/v1"
key_file = "off"
allow_private_targets = true
answers = "text"
concurrent_max = 32
requests_per_minute_max = 10000
[llm.providers.main.models."m"]
read = "3"
written = "15"
"""


@define
class Lived:
    """What a daemon's journal holds of one strategy."""

    fills: Sequence[Fill]
    answers: Sequence[RecordedAnswer]
    job: dict[str, Any] | None


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recording")
    write_recording(folder, minutes=MINUTES, seed=4, symbols=SYMBOLS)
    with_gaps(folder / f"{SYMBOLS[1]}-1m-made.csv")
    return folder


@pytest.fixture(scope="module")
def lived(recording: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Lived]:
    """Play the recording through a real daemon that asks a real server."""
    folder = tmp_path_factory.mktemp("daemon")
    strategies = folder / "strategies.toml"
    strategies.write_text("".join(map(declared, CASES)), encoding="utf-8")
    with serving(ModelServer(behave)) as port:
        config = replay_config(recording, strategies) + models(port)
        with running(folder / "life", config) as daemon:
            daemon.wait_for(lambda: daemon.ask("status")["market"]["ended"], within_s=180)
            ids = {one["name"]: one["id"] for one in daemon.ask("strategy.list", limit=100)["data"]}
            reader = SqliteReader(daemon.state / "journal.db")
            try:
                return {
                    name: life_of(reader, ids[name], played(daemon, ids[name]) if name == "alone" else None)
                    for name in CASES
                }
            finally:
                reader.close()


def played(daemon: Daemon, id: str) -> dict[str, Any]:
    """Have the daemon backtest a strategy of its own, and return the result."""
    span = {"start": iso_seconds(START_MS), "end": iso_seconds(START_MS + (MINUTES - 1) * MINUTE_MS)}
    charged = {"fee_model": "match_exchange", "slippage_bps": str(SLIPPAGE_BPS)}
    job = daemon.ask("backtest.create", strategy_id=id, **span, **charged)["id"]
    daemon.wait_for(lambda: daemon.ask("backtest.get", id=job)["finished_at"])
    told: dict[str, Any] = daemon.ask("backtest.get", id=job)
    return told


def life_of(reader: SqliteReader, id: str, job: dict[str, Any] | None) -> Lived:
    fills = [msgspec.json.decode(row.data, type=BookedFill).fill for row in reader.rows("fill", owner=id)]
    runs = [msgspec.json.decode(row.data, type=Evaluation) for row in reader.rows("run", owner=id)]
    assert "running" not in {each.status for each in runs}
    return Lived(fills, [answer for each in runs for answer in recorded_in(each.symbol, each.steps)], job)


@pytest.mark.parametrize("name", sorted(CASES))
def test_recorded_answers_lead_to_the_same_fills(name: str, recording: Path, lived: dict[str, Lived]) -> None:
    definition, life = definition_of(name), lived[name]
    recorded = load(SystemDisk(), [f"{recording}/*-1m-*.csv", f"{recording}/*-funding-*.csv"])
    plan = Plan(
        definition=definition,
        template=load_templates().templates[definition.template_id],
        candles={
            symbol: read_candles(SystemDisk(), recording / f"{symbol}-1m-made.csv") for symbol in definition.symbols
        },
        instruments=recorded.instruments,
        begin_ms=START_MS,
        end_ms=START_MS + MINUTES * MINUTE_MS,
        fees=Fees(model="match_exchange", slippage_bps=SLIPPAGE_BPS, venue=(MAKER_BPS, TAKER_BPS)),
        funding={symbol: recorded.funding[symbol] for symbol in definition.symbols},
        answers=by_question(life.answers),
    )
    every, skipped = run(plan, driver="callback"), run(plan, driver="skipping")

    assert len(every.fills) >= 4
    assert len(life.answers) > 4
    assert every.digest == skipped.digest
    assert UNRECORDED not in every.refusals
    tends = definition.params.get("maintenance_enabled", False)
    assert any(answer.role == "maintenance" for answer in life.answers) == tends
    # Fills of one moment have no order among them in a journal.
    assert sorted(told(life.fills)) == sorted(told(every.fills))
    if life.job is not None:
        # The daemon's own backtest of its strategy goes by the same answers.
        assert life.job["error"] is None
        assert UNRECORDED not in life.job["result"]["refusals"]
        assert len(life.job["result"]["trades"]) == len(every.trades)
