"""Figures of the daemon's parts, read where they are kept and nowhere copied."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, Protocol

import trio
from attrs import define

from actors.actor import Failures
from pipaid.engine.book import Book
from pipaid.engine.quotes import Quotes
from pipaid.model.money import plain
from pipaid.model.report import (
    ActorObject,
    ClientFigures,
    ConditionObject,
    FrozenSymbol,
    JournalFigures,
    LlmFigures,
    MarketFigures,
    WebhookFigures,
)
from pipaid.wire.activity import Activity


class Fed(Protocol):
    """The feed as the gauges see it."""

    instruments: Mapping[str, Any]
    candles: int
    swept: int

    @property
    def over(self) -> bool:
        """Tell whether the market has ended."""
        ...


class Written(Protocol):
    """The recorder as the gauges see it."""

    commits: int
    batches: int
    records: int
    refusals: int
    group_last: int
    group_largest: int
    latency_last_s: float

    @property
    def pending(self) -> int:
        """Return how many batches wait."""
        ...


class Delivered(Protocol):
    """A gateway's delivery as the gauges see it."""

    dropped: int

    @property
    def late(self) -> int:
        """Return how many facts wait for room with their strategy."""
        ...


class Sent(Protocol):
    """A gateway as the gauges see it."""

    name: str
    stopped: str
    sent: int

    @property
    def delivery(self) -> Delivered:
        """Return what brings its facts to the strategies."""
        ...

    @property
    def waiting(self) -> int:
        """Return how many orders wait."""
        ...


class Doubted(Protocol):
    """A resolver as the gauges see it."""

    name: str
    doubts: dict[str, Any]


class Found(Protocol):
    """A bucket of what nobody accounts for as the gauges see it."""

    total: int
    found: dict[str, Any]


class Audited(Protocol):
    """An auditor as the gauges see it; `amounts` is what the venue holds beyond our lots where nothing is entered."""

    name: str
    amounts: dict[str, Decimal]

    @property
    def bucket(self) -> Found:
        """Return what nobody accounts for."""
        ...


class Supervised(Protocol):
    """A child of the root as the gauges see it."""

    failures: Failures

    @property
    def name(self) -> str:
        """Return its name."""
        ...

    @property
    def told_state(self) -> str:
        """Return where it stands, in a word."""
        ...


@define(eq=False)
class Gauges:
    """Read the daemon's figures for reports."""

    kind: str
    speed: str
    market_name: str
    feed: Fed
    quotes: Quotes
    recorder: Written
    journal_path: Path
    last_record: Callable[[], int]
    books: Collection[Book]
    gateways: Sequence[Sent]
    resolvers: Sequence[Doubted]
    auditors: Sequence[Audited]
    activity: Activity
    children: Callable[[], Iterable[Supervised]]
    control_clients: Callable[[], int]
    control_clients_max: int
    stream_clients: Callable[[], int]
    stream_clients_max: int
    complaints: Callable[[], Iterable[str]]
    conditions: Callable[[], Iterable[ConditionObject]]
    webhooks: Callable[[], WebhookFigures] = WebhookFigures
    llm: Callable[[], LlmFigures] = LlmFigures

    def market(self) -> MarketFigures:
        """Return what the market does."""
        return MarketFigures(
            name=self.market_name,
            kind=self.kind,
            speed=self.speed,
            symbols=tuple(sorted(self.feed.instruments)),
            candles=self.feed.candles,
            stale_symbols=tuple(sorted(self.quotes.stale)),
            ended=self.feed.over,
        )

    def journal(self) -> JournalFigures:
        """Return what the journal does."""
        recorder = self.recorder
        return JournalFigures(
            n=self.last_record(),
            commits=recorder.commits,
            batches=recorder.batches,
            records=recorder.records,
            refusals=recorder.refusals,
            pending=recorder.pending,
            group_last=recorder.group_last,
            group_largest=recorder.group_largest,
            latency_last_ms=round(recorder.latency_last_s * 1000, 3),
            size_bytes=self.journal_path.stat().st_size,
        )

    def clients(self) -> ClientFigures:
        """Return who is connected."""
        return ClientFigures(
            control=self.control_clients(),
            control_max=self.control_clients_max,
            stream=self.stream_clients(),
            stream_max=self.stream_clients_max,
        )

    def infrastructure(self) -> list[ActorObject]:
        """Return the children of the root, in start order."""
        return [
            ActorObject(
                name=child.name,
                kind="infrastructure",
                state=child.told_state,
                restarts=child.failures.recent,
                last_failure=child.failures.last or None,
                mailbox=0,
                mailbox_max=None,
            )
            for child in self.children()
        ]

    def degraded(self) -> tuple[str, ...]:
        """Return why the daemon does not do all it should."""
        found = [f"{each.condition}: {each.detail}" for each in self.conditions()]
        found += [f"{gate.name}: {gate.stopped}" for gate in self.gateways if gate.stopped]
        for each in self.auditors:
            amounts = ", ".join(f"{symbol} (unassigned {plain(each.amounts[symbol])})" for symbol in each.amounts)
            found += [f"{each.name}: entries frozen on {amounts}"] if amounts else []
            strays = len(each.bucket.found)
            found += [f"{each.name}: {strays} unassigned at the venue"] if strays else []
        if self.quotes.stale:
            found.append(f"stale prices: {', '.join(sorted(self.quotes.stale))}")
        found.extend(self.complaints())
        return tuple(found)

    def frozen(self) -> tuple[FrozenSymbol, ...]:
        """Return the symbols on which nothing is entered, and by how much their positions differ."""
        return tuple(
            FrozenSymbol(desk=each.name, symbol=symbol, unassigned=plain(amount))
            for each in self.auditors
            for symbol, amount in each.amounts.items()
        )

    def counters(self) -> dict[str, int | float]:
        """Return counters and gauges by name; labels stand in braces."""
        figures: dict[str, int | float] = {
            "pipaid_candles_total": self.feed.candles,
            "pipaid_evaluations_total": self.feed.swept,
            "pipaid_journal_commits_total": self.recorder.commits,
            "pipaid_journal_batches_total": self.recorder.batches,
            "pipaid_journal_records_total": self.recorder.records,
            "pipaid_journal_refusals_total": self.recorder.refusals,
            "pipaid_journal_pending": self.recorder.pending,
            "pipaid_journal_latency_seconds": self.recorder.latency_last_s,
            "pipaid_activity": self.activity.count,
            "pipaid_tasks": trio.lowlevel.current_statistics().tasks_living,
            "pipaid_control_clients": self.control_clients(),
            "pipaid_stream_clients": self.stream_clients(),
            "pipaid_conditions": sum(1 for _ in self.conditions()),
        }
        hooks = self.webhooks()
        for name in ("attempts", "delivered", "exhausted"):
            figures[f"pipaid_webhook_{name}_total"] = getattr(hooks, name)
        figures["pipaid_webhooks_broken"] = hooks.broken
        figures["pipaid_webhook_deliveries_waiting"] = hooks.waiting
        figures["pipaid_webhook_oldest_waiting_seconds"] = hooks.oldest_waiting_s
        figures |= asked_figures(self.llm())
        for kept in self.books:
            for rule, count in sorted(kept.refusals.items()):
                figures[f'pipaid_entries_refused_total{{book="{kept.name}",rule="{rule}"}}'] = count
        for gate in self.gateways:
            figures[f'pipaid_orders_sent_total{{desk="{gate.name}"}}'] = gate.sent
            figures[f'pipaid_orders_waiting{{desk="{gate.name}"}}'] = gate.waiting
            figures[f'pipaid_facts_waiting{{desk="{gate.name}"}}'] = gate.delivery.late
            figures[f'pipaid_facts_dropped_total{{desk="{gate.name}"}}'] = gate.delivery.dropped
        for each in self.resolvers:
            figures[f'pipaid_orders_in_doubt{{desk="{each.name}"}}'] = len(each.doubts)
        for book in self.auditors:
            figures[f'pipaid_unassigned_total{{desk="{book.name}"}}'] = book.bucket.total
            figures[f'pipaid_unassigned{{desk="{book.name}"}}'] = len(book.bucket.found)
            figures[f'pipaid_symbols_frozen{{desk="{book.name}"}}'] = len(book.amounts)
        return figures


def asked_figures(llm: LlmFigures) -> dict[str, int | float]:
    """Return the figures of the questions to models."""
    figures: dict[str, int | float] = {
        "pipaid_llm_questions_waiting": llm.waiting,
        "pipaid_llm_questions_open": llm.open,
        "pipaid_llm_money_today": float(llm.money_today),
        "pipaid_llm_money_per_day_max": float(llm.money_per_day_max),
    }
    for verdict, count in llm.verdicts.items():
        figures[f'pipaid_llm_questions_total{{verdict="{verdict}"}}'] = count
    for each in llm.models:
        labels = f'provider="{each.provider}",model="{each.model}"'
        figures[f'pipaid_llm_tokens_total{{{labels},direction="read"}}'] = each.tokens_in
        figures[f'pipaid_llm_tokens_total{{{labels},direction="written"}}'] = each.tokens_out
    return figures
