"""The gate: every cap at its limit, below it and above it; what is not a number never passes."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from pipaid.engine.book import Book, Caps, Deeds
from pipaid.engine.risk import (
    Approved,
    Refused,
    Situation,
    StrategyLimits,
    review,
    within,
)
from pipaid.engine.stakes import counted, exposure_of
from pipaid.model.order import Order, OrderType, Side
from pipaid.model.position import Direction
from tests.builders import DAY_MS, OTHER, START_MS, SYMBOL, make_instrument, make_order, make_position

NAN = Decimal("NaN")
DAY = START_MS // DAY_MS
ENTRY = make_order(9)  # A buy of one at a hundred.
EXIT = make_order(8, reduce_only=True, side=Side.SELL)


def make_situation(**fields: Any) -> Situation:
    given: dict[str, Any] = {
        "now_ms": START_MS,
        "day": DAY,
        "may_enter": "",
        "stale": False,
        "last_price": Decimal(100),
        "limits": StrategyLimits(ceiling=Decimal(1000)),
        "room": Decimal(1000),
        "equity_drawdown_pct": Decimal(0),
        "trades_today": 0,
        "pnl_today": Decimal(0),
        "cooldown_until_ms": 0,
        "orders_last_minute": 0,
    }
    return Situation(**{**given, **fields})


def judged(order: Order = ENTRY, book: Book | None = None, **situation: Any) -> Approved | Refused:
    return review(
        order,
        reserve=order.price,
        instrument=make_instrument(notional_min=Decimal(5)),
        situation=make_situation(**situation),
        book=book or Book(),
    )


def verdict(*arguments: Any, **situation: Any) -> Refused | None:
    """Return the refusal, or nothing if the order passed."""
    outcome = judged(*arguments, **situation)
    return outcome if isinstance(outcome, Refused) else None


def limits(**caps: Any) -> StrategyLimits:
    given: dict[str, Any] = {"ceiling": Decimal(10_000), **caps}
    return StrategyLimits(**given)


def capped(**caps: Any) -> Book:
    """Make a book with caps, in which another strategy holds two lots of a hundred and works one entry of fifty."""
    book = Book(caps=Caps(**caps))
    neighbour = make_order(3, strategy_id="strat_2", quantity=Decimal("0.5"))
    lots = [make_position(1, strategy_id="strat_2"), make_position(2, strategy_id="strat_2")]
    book.set_exposure("strat_2", exposure_of(lots, [(neighbour, Decimal(100))], orders=4))
    return book


# A strategy's own caps: the limit's name, the rule, and what makes a value of five there.
OWN_CAPS = [
    ("trades_per_day_max", "daily_limit", {"trades_today": 4}),
    ("orders_per_minute_max", "order_rate", {"orders_last_minute": 4}),
    ("daily_loss_max", "daily_loss", {"pnl_today": Decimal(-5)}),
    ("drawdown_pct_max", "max_drawdown", {"equity_drawdown_pct": Decimal(5)}),
]


@pytest.mark.parametrize(("name", "rule", "situation"), OWN_CAPS)
@pytest.mark.parametrize(("limit", "passes"), [(4, False), (5, True), (6, True)])
def test_each_cap_of_a_strategy_holds_at_its_limit(
    name: str, rule: str, situation: dict[str, Any], limit: int, passes: bool
) -> None:
    refused = verdict(limits=limits(**{name: limit}), **situation)

    assert refused == (None if passes else Refused(rule, "4", "5"))


@pytest.mark.parametrize(("limit", "passes"), [("99.9", False), ("100", True), ("100.1", True)])
@pytest.mark.parametrize(
    ("rule", "field"), [("allocation", "room"), ("exposure", "ceiling"), ("max_position_notional", "notional")]
)
def test_each_amount_of_a_strategy_holds_at_its_limit(rule: str, field: str, limit: str, passes: bool) -> None:
    amount = Decimal(limit)
    situations: dict[str, dict[str, Any]] = {
        "room": {"room": amount},
        "ceiling": {"limits": StrategyLimits(ceiling=amount)},
        "notional": {"limits": limits(position_notional_max=amount)},
    }

    assert verdict(**situations[field]) == (None if passes else Refused(rule, limit, "100"))


@pytest.mark.parametrize(("limit", "passes"), [(3, False), (4, True), (5, True)])
@pytest.mark.parametrize("rule", ["max_positions", "daily_limit"])
def test_lots_and_working_entries_count_against_the_number_caps(rule: str, limit: int, passes: bool) -> None:
    book = Book()
    partly = make_order(2, position_id="pos_1")  # Its lot is open already, so it counts once.
    own = exposure_of(
        [make_position(1), make_position(4)], [(make_order(3), Decimal(100)), (partly, Decimal(100))], orders=2
    )
    book.set_exposure(ENTRY.strategy_id, own)
    caps = {"max_positions": {"open_positions_max": limit}, "daily_limit": {"trades_per_day_max": limit}}[rule]

    assert verdict(ENTRY, book, limits=limits(**caps)) == (None if passes else Refused(rule, str(limit), "4"))


def test_the_ceiling_counts_lots_and_entries_at_their_worst() -> None:
    book = Book()
    entry = make_order(3, quantity=Decimal(5), filled=Decimal(2))
    book.set_exposure(ENTRY.strategy_id, exposure_of([make_position(1)], [(entry, Decimal(101))], orders=1))

    assert verdict(ENTRY, book, limits=StrategyLimits(ceiling=Decimal(503))) is None
    assert verdict(ENTRY, book, limits=StrategyLimits(ceiling=Decimal("502.9"))) == Refused("exposure", "502.9", "503")


# The account's caps: the cap, the rule and the value that the entry brings it to in the book of `capped`.
ACCOUNT_CAPS = [
    ("order_notional_max", "account_order_notional", "100"),
    ("exposure_max", "account_exposure", "350"),
    ("open_positions_max", "account_positions", "4"),
    ("open_orders_max", "account_orders", "5"),
    ("leverage_max", "account_leverage", "3"),
]


@pytest.mark.parametrize(("name", "rule", "value"), ACCOUNT_CAPS)
@pytest.mark.parametrize("off", [-1, 0, 1])
def test_each_cap_of_an_account_holds_at_its_limit(name: str, rule: str, value: str, off: int) -> None:
    limit = int(value) + off
    order = make_order(9, leverage=3)

    refused = verdict(order, capped(**{name: limit}))

    assert refused == (None if off >= 0 else Refused(rule, str(limit), value))


@pytest.mark.parametrize(("limit", "passes"), [("11.9", False), ("12", True), ("12.1", True)])
def test_the_account_stops_entering_after_its_loss_of_the_day(limit: str, passes: bool) -> None:
    book = Book(caps=Caps(daily_loss_max=Decimal(limit)))
    book.note_deeds("strat_2", Deeds(run_id="r", day=DAY, day_pnl=Decimal(-20)))
    book.note_deeds("strat_3", Deeds(run_id="r", day=DAY, day_pnl=Decimal(8)))

    assert verdict(ENTRY, book) == (None if passes else Refused("account_daily_loss", limit, "12"))
    assert verdict(ENTRY, book, day=DAY + 1) is None


@pytest.mark.parametrize(("limit", "passes"), [(3, False), (4, True), (5, True)])
def test_the_account_places_so_many_entries_a_day(limit: int, passes: bool) -> None:
    book = Book(caps=Caps(orders_per_day_max=limit))
    book.note_deeds("strat_2", Deeds(run_id="r", day=DAY, day_orders=2))
    book.note_deeds("strat_3", Deeds(run_id="r", day=DAY, day_orders=1))
    book.note_deeds("strat_4", Deeds(run_id="r", day=DAY - 1, day_orders=9))

    assert verdict(ENTRY, book) == (None if passes else Refused("orders_per_day", str(limit), "4"))
    assert verdict(ENTRY, book, day=DAY + 1) is None


@pytest.mark.parametrize(("limit", "passes"), [("0.0999", False), ("0.1", True), ("0.11", True)])
@pytest.mark.parametrize("last", ["125", "75"])
def test_prices_far_from_the_market_are_refused(limit: str, passes: bool, last: str) -> None:
    far = make_order(9, price=Decimal(last) * (Decimal("1.1") if last == "75" else Decimal("0.9")))
    book = Book(caps=Caps(price_collar_pct=Decimal(limit)))

    refused = verdict(far, book, last_price=Decimal(last))

    assert refused == (None if passes else Refused("price_collar", limit, "0.1"))


@pytest.mark.parametrize(
    ("name", "rule", "limit", "seen", "passes"),
    [
        ("orders_per_second_max", "orders_per_second", 2, "3", False),
        ("orders_per_second_max", "orders_per_second", 3, "3", True),
        ("orders_per_second_max", "orders_per_second", 4, "3", True),
        ("orders_per_minute_max", "orders_per_minute", 3, "4", False),
        ("orders_per_minute_max", "orders_per_minute", 4, "4", True),
        ("orders_per_minute_max", "orders_per_minute", 5, "4", True),
        ("notional_per_minute_max", "notional_per_minute", Decimal(129), "130", False),
        ("notional_per_minute_max", "notional_per_minute", Decimal(130), "130", True),
        ("notional_per_minute_max", "notional_per_minute", Decimal(131), "130", True),
    ],
)
def test_each_rate_of_an_account_holds_at_its_limit(name: str, rule: str, limit: Any, seen: str, passes: bool) -> None:
    book = Book(caps=Caps(**{name: limit}))
    for number, age_ms in enumerate((60_000, 59_999, 999, 0)):  # The first has just left the minute.
        book.rates.add(f"pp{number}", START_MS - age_ms, Decimal(10))

    assert verdict(ENTRY, book) == (None if passes else Refused(rule, str(limit), seen))


@pytest.mark.parametrize(("limit", "passes"), [(3, False), (4, True), (5, True)])
def test_the_trade_rate_counts_openings_in_the_window_and_entries_that_may_open(limit: int, passes: bool) -> None:
    book = capped(rate_limit_max_trades=limit, rate_limit_window_hours=Decimal("0.5"))
    half_an_hour_ms = 1_800_000
    for number, age_ms in enumerate((half_an_hour_ms, half_an_hour_ms - 1, 0)):
        book.note_opening(SYMBOL, f"pos_{number}", START_MS - age_ms)
    book.note_opening(OTHER, "pos_9", START_MS)

    # Two in the window, one entry of the neighbour's still waiting, and this one.
    assert verdict(ENTRY, book) == (None if passes else Refused("trade_rate", str(limit), "4"))


def test_a_trade_rate_beyond_what_is_remembered_is_held_there() -> None:
    book = Book(caps=Caps(rate_limit_max_trades=1_000_000))
    for number in range(1_200):
        book.note_opening(SYMBOL, f"pos_{number}", START_MS - number)

    assert len(book.openings[SYMBOL]) == 1_000
    assert min(book.openings[SYMBOL].values()) == START_MS - 999
    assert verdict(ENTRY, book) == Refused("trade_rate", "1000", "1001")


@pytest.mark.parametrize("working", [False, True])
@pytest.mark.parametrize("direction", Direction)
def test_without_hedging_nothing_goes_against_what_is_open_or_working(direction: Direction, working: bool) -> None:
    book = Book(caps=Caps(hedging_allowed=False))
    lots = [] if working else [make_position(1, direction=direction)]
    entries = [(make_order(1, side=direction.entry_side), Decimal(100))] if working else []
    book.set_exposure("strat_2", exposure_of(lots, entries, orders=0))
    same = make_order(9, side=direction.entry_side)
    against = make_order(9, side=direction.exit_side)

    refused = verdict(against, book)

    assert verdict(same, book) is None
    assert refused is not None
    assert refused.rule == "hedging"
    assert refused.value.endswith("against 1 the other way")
    assert verdict(make_order(9, symbol=OTHER, side=direction.exit_side), book) is None
    book.caps = Caps()
    assert verdict(against, book) is None


@pytest.mark.parametrize("status", ["paused", "stopped", "error", "pausing"])
def test_who_may_not_enter_may_still_leave(status: str) -> None:
    assert verdict(may_enter=status) == Refused("status", "deployed", status)
    assert isinstance(judged(EXIT, may_enter=status), Approved)


@pytest.mark.parametrize("latch", ["blocked", "tripped"])
def test_a_latch_stops_entries_and_lets_exits_through(latch: str) -> None:
    book = Book()
    setattr(book, latch, "somebody said so")

    assert verdict(ENTRY, book) == Refused("kill_switch", "off", "somebody said so")
    assert isinstance(judged(EXIT, book), Approved)


def test_nothing_is_entered_on_stale_prices_or_without_any() -> None:
    refused = Refused("stale_data", "fresh prices", SYMBOL)

    assert verdict(stale=True) == refused
    assert verdict(last_price=Decimal(0)) == refused
    assert verdict(last_price=NAN) == refused
    assert isinstance(judged(EXIT, stale=True, last_price=Decimal(0)), Approved)


@pytest.mark.parametrize(("until_ms", "passes"), [(START_MS - 1, True), (START_MS, True), (START_MS + 1, False)])
def test_the_cooldown_ends_on_time(until_ms: int, passes: bool) -> None:
    refused = verdict(cooldown_until_ms=until_ms)

    assert refused == (None if passes else Refused("cooldown", str(until_ms), str(START_MS)))


def test_the_venue_s_filters_come_first_and_bind_exits_too() -> None:
    refused = verdict(make_order(9, quantity=Decimal("0.04")), may_enter="paused")
    dust = judged(make_order(8, reduce_only=True, quantity=Decimal("0.0001")))

    assert refused == Refused("venue_filter", "MIN_NOTIONAL", "MIN_NOTIONAL: 4 is below 5")
    assert isinstance(dust, Refused)


def test_a_lot_that_no_single_market_order_could_close_is_not_opened() -> None:
    instrument = make_instrument(market_quantity_max=Decimal(2))
    situation = make_situation(room=Decimal(10_000), limits=limits())

    for quantity, passes in ((Decimal(2), True), (Decimal("2.001"), False)):
        outcome = review(
            make_order(9, quantity=quantity),
            reserve=Decimal(100),
            instrument=instrument,
            situation=situation,
            book=Book(),
        )
        assert isinstance(outcome, Approved) is passes


@pytest.mark.parametrize("bad", [NAN, Decimal("sNaN"), Decimal("Infinity"), Decimal("-Infinity")])
def test_what_is_not_a_number_never_passes(bad: Decimal) -> None:
    assert verdict(make_order(9, quantity=bad)) is not None
    assert verdict(make_order(9, price=bad)) is not None
    assert isinstance(judged(make_order(8, reduce_only=True, quantity=bad)), Refused)


@pytest.mark.parametrize(
    "situation",
    [
        {"room": NAN},
        {"limits": StrategyLimits(ceiling=NAN)},
        {"limits": limits(position_notional_max=NAN)},
        {"limits": limits(daily_loss_max=NAN)},
        {"limits": limits(daily_loss_max=Decimal(1)), "pnl_today": NAN},
        {"limits": limits(drawdown_pct_max=NAN)},
        {"limits": limits(drawdown_pct_max=Decimal(1)), "equity_drawdown_pct": NAN},
    ],
)
def test_a_limit_or_value_that_is_not_a_number_refuses(situation: dict[str, Any]) -> None:
    assert verdict(**situation) is not None


@pytest.mark.parametrize(
    "name",
    ["order_notional_max", "exposure_max", "notional_per_minute_max", "daily_loss_max", "price_collar_pct"],
)
def test_an_account_cap_that_is_not_a_number_refuses(name: str) -> None:
    caps: dict[str, Any] = {name: NAN}

    assert verdict(ENTRY, Book(caps=Caps(**caps))) is not None


def test_within_denies_what_it_cannot_compare() -> None:
    assert within(Decimal(1), Decimal(1))
    assert within(1, Decimal(1))
    assert not within(NAN, Decimal(1))
    assert not within(Decimal(1), NAN)


def test_nobody_else_approves_orders() -> None:
    with pytest.raises(TypeError, match=r"only risk\.review"):
        Approved(ENTRY, object())


def test_an_approval_carries_the_order_as_it_was_judged() -> None:
    outcome = judged()

    assert isinstance(outcome, Approved)
    assert outcome.order is ENTRY


def test_market_entries_are_not_held_to_the_tick() -> None:
    assert verdict(make_order(9, type=OrderType.MARKET, price=Decimal("99.95"))) is None


# The book.


def test_shares_replace_each_other_and_leave_nothing_behind() -> None:
    book = capped()
    third = Decimal(100) / 3
    odd = make_position(5, strategy_id="strat_3", entry_quantity=Decimal(3), entry_value=third, symbol=OTHER)

    book.set_exposure("strat_3", exposure_of([odd], [], orders=2))
    book.set_exposure("strat_3", exposure_of([odd], [(make_order(6), third)], orders=1))
    assert book.value == Decimal(250) + counted(third) * 2
    assert (book.positions, book.orders) == (5, 5)
    assert (book.symbol(OTHER).longs, book.symbol(SYMBOL).longs, book.symbol(SYMBOL).waiting) == (1, 4, 2)

    book.forget("strat_3")
    book.forget("strat_2")
    book.forget("strat_2")
    assert book.value == 0
    assert (book.positions, book.orders) == (0, 0)
    assert not book.symbols
    assert not book.exposures


def test_asking_for_a_share_makes_none() -> None:
    book = Book()

    assert book.exposure("strat_9").total == 0
    assert not book.exposures


def test_deeds_are_replaced_and_not_added_up() -> None:
    book = Book()

    for pnl in (0, -10, -10):  # The last one is told again by a session that was rebuilt.
        book.note_deeds("strat_1", Deeds(run_id="r1", day=DAY, day_pnl=Decimal(pnl), day_orders=1, pnl=Decimal(pnl)))

    assert book.day_pnl == book.pnl == -10
    assert book.day_orders == 1


def test_what_was_decided_in_vain_is_taken_back_with_the_rebuilt_session() -> None:
    book = Book()
    durable = Deeds(run_id="r1", day=DAY, day_pnl=Decimal(5), pnl=Decimal(5))

    book.note_deeds("strat_1", durable)
    book.note_deeds("strat_1", Deeds(run_id="r1", day=DAY, day_pnl=Decimal(9), pnl=Decimal(9)))
    book.note_deeds("strat_1", durable)

    assert book.day_pnl == 5
    assert book.pnl == 0


def test_the_profit_of_earlier_runs_is_no_news() -> None:
    book = Book()

    book.note_deeds("strat_1", Deeds(run_id="r1", day=DAY, pnl=Decimal(50)))
    book.note_deeds("strat_1", Deeds(run_id="r2", day=DAY, pnl=Decimal(80)))  # Run 2 began elsewhere, at eighty.
    book.note_deeds("strat_1", Deeds(run_id="r2", day=DAY, pnl=Decimal(70)))

    assert book.pnl == -10


def test_a_new_day_begins_at_zero() -> None:
    book = Book()
    book.note_deeds("strat_1", Deeds(run_id="r", day=DAY, day_pnl=Decimal(-5), day_orders=3))

    book.note_deeds("strat_2", Deeds(run_id="r", day=DAY + 1, day_pnl=Decimal(-1), day_orders=1))
    book.note_deeds("strat_1", Deeds(run_id="r", day=DAY, day_pnl=Decimal(-6), day_orders=3))

    assert book.day_pnl == -1
    assert (book.day, book.day_orders) == (DAY + 1, 1)


def test_rates_forget_what_is_older_than_a_minute_and_know_each_order_once() -> None:
    book = Book()
    for number in range(10_000):
        book.rates.add(f"pp{number}", START_MS + number * 10, Decimal(1))
    book.rates.add("pp9999", START_MS, Decimal(1))

    now_ms = START_MS + 99_990
    assert book.rates.within(now_ms, 60_000) == (6_000, Decimal(6_000))
    assert book.rates.within(now_ms, 1_000) == (100, Decimal(100))
