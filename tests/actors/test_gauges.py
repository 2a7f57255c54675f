"""The gauges say what is unassigned, frozen, waiting and lost, by the desk where it is so."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest
from trio.testing import MockClock

from actors.gauges import Gauges
from pipaid.model.report import FrozenSymbol, WebhookFigures
from pipaid.model.stray import stray_fill
from tests.actors.homes import Home, at_home
from tests.builders import SYMBOL, make_fill, make_order, scripted

pytestmark = pytest.mark.usefixtures("logged")


def gauges_of(home: Home) -> Gauges:
    return Gauges(
        kind="hand",
        speed="1",
        market_name="hand",
        feed=home.feed,
        quotes=home.quotes,
        recorder=home.recorder,
        journal_path=home.folder,
        last_record=lambda: 0,
        gateways=[home.gateway],
        resolvers=[home.resolver],
        auditors=[home.auditor],
        books=list(home.books.values()),
        activity=home.activity,
        children=list,
        control_clients=lambda: 0,
        control_clients_max=0,
        stream_clients=lambda: 0,
        stream_clients_max=0,
        complaints=list,
        conditions=lambda: (),
    )


async def test_what_is_frozen_and_unassigned_is_told_with_amounts(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with at_home(tmp_path, scripted()) as home:
        gauges = gauges_of(home)
        assert (gauges.degraded(), gauges.frozen()) == ((), ())

        alien = make_order(7, client_order_id="web_1")
        await home.venue.place(alien, expires_at_ms=0)
        await home.trade()
        await home.auditor.compare_positions()
        await home.auditor.compare_positions()
        fill = make_fill(alien, id="again")
        home.bucket.take(stray_fill(fill, fill.quantity, "paper", "nobody's"))
        home.resolver.doubt(make_order(1), 0)
        home.gateway.delivery.dropped = 3
        await home.settle()

        assert gauges.frozen() == (FrozenSymbol(desk="paper", symbol=SYMBOL, unassigned="1"),)
        assert gauges.degraded() == (
            "paper: entries frozen on BTCUSDT (unassigned 1)",
            "paper: 2 unassigned at the venue",
        )
        figures = gauges.counters()
        assert {name: figures[f'pipaid_{name}{{desk="paper"}}'] for name in FIGURES} == FIGURES
        assert home.auditor.amounts == {SYMBOL: Decimal(1)}


FIGURES = {
    "unassigned": 2,
    "unassigned_total": 2,
    "symbols_frozen": 1,
    "orders_in_doubt": 1,
    "facts_waiting": 0,
    "facts_dropped_total": 3,
}


async def test_how_webhooks_fare_is_among_the_figures_and_no_trouble_of_the_daemon(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    told = WebhookFigures(webhooks=3, broken=1, waiting=40, oldest_waiting_s=7, attempts=100, delivered=50, exhausted=2)
    async with at_home(tmp_path, scripted()) as home:
        gauges = gauges_of(home)
        gauges.webhooks = lambda: told
        figures = gauges.counters()

        assert gauges.degraded() == ()
    assert {name: figure for name, figure in figures.items() if "webhook" in name} == {
        "pipaid_webhooks_broken": 1,
        "pipaid_webhook_deliveries_waiting": 40,
        "pipaid_webhook_oldest_waiting_seconds": 7,
        "pipaid_webhook_attempts_total": 100,
        "pipaid_webhook_delivered_total": 50,
        "pipaid_webhook_exhausted_total": 2,
    }
