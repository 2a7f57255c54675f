"""A backtest as a person sees it: what the daemon plays, how far it has come, and what came of any."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import msgspec

from pipaid.cli.sheet import NOTHING, Column, Heading, Kind, Sheet, listing, moment, percent
from pipaid.model.backtest import ResultObject
from pipaid.model.job import JobObject

TRADES_SHOWN: Final = 10
TRADE_COLUMNS: Final = (
    Column("TRADE", lambda one: one.id, Kind.NUMBER, 0),
    Column("SYMBOL", lambda one: one.symbol),
    Column("SIDE", lambda one: one.side),
    Column("QTY", lambda one: one.qty, Kind.NUMBER),
    Column("ENTERED", lambda one: moment(one.entry_time)),
    Column("AT", lambda one: one.entry_price, Kind.NUMBER),
    Column("LEFT", lambda one: moment(one.exit_time)),
    Column("AT", lambda one: one.exit_price, Kind.NUMBER),
    Column("PNL", lambda one: one.pnl, Kind.SIGNED, 0),
    Column("REASON", lambda one: one.reason),
)


def job_sheets(job: JobObject) -> Iterator[Sheet]:
    """Yield a job as facts, and its last trades."""
    config = job.config
    fees = f"{config.fee_bps} bps of each fill" if config.fee_model == "fixed_bps" else config.fee_model
    facts = [
        ("status", job.status),
        ("progress", percent(str(job.progress))),
        ("plays", f"{config.template_id} on {', '.join(config.symbols)} {config.timeframe}"),
        ("params", msgspec.json.encode(config.params).decode()),
        ("capital", f"{config.capital}, leverage {config.leverage}"),
        ("from", moment(config.start)),
        ("to", moment(config.end)),
        ("fees", f"{fees}; slippage {config.slippage_bps} bps"),
        ("submitted", moment(job.submitted_at)),
        ("started", moment(job.started_at)),
        ("finished", moment(job.finished_at)),
    ]
    if job.error is not None:
        facts.append(("error", f"{job.error.code}: {job.error.message}"))
    if job.result is not None:
        facts += metric_facts(job.result)
        refused = ", ".join(f"{count} by {rule}" for rule, count in job.result.refusals.items())
        facts.append(("refused entries", refused or NOTHING))
        facts += [("note", note) for note in job.result.notes]
    headings = (Heading("FIELD", Kind.FAINT, 0), Heading("VALUE", Kind.PROSE, 0))
    yield Sheet(job.id, headings, tuple(facts), headed=False)
    if job.result is not None:
        yield from last_trades(job.result, "--json has them all")


def metric_facts(result: ResultObject) -> list[tuple[str, str]]:
    """Return the metrics of a result with their names."""
    figures: dict[str, Any] = msgspec.structs.asdict(result.metrics)
    return [(name.replace("_", " "), "infinite" if each is None else str(each)) for name, each in figures.items()]


def last_trades(result: ResultObject, more: str) -> list[Sheet]:
    """Return the last trades of a result, if there are any; `more` says where those before them are."""
    if not result.trades:
        return []
    last = result.trades[-TRADES_SHOWN:]
    before = len(result.trades) - len(last) + result.trades_left_out
    return [listing("last trades", last, TRADE_COLUMNS, f"and {before} before; {more}" if before else "")]
