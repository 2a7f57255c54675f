"""The breaker of an account: what was lost is a share of the capital that it was lost with, over restarts too."""

from __future__ import annotations

from decimal import Decimal

from pipaid.engine.book import Book, BookMemory, Caps, Deeds

DAY = 20_000


def test_the_breaker_trips_above_its_share_of_the_capital_and_stays_so() -> None:
    book = Book(caps=Caps(drawdown_pct_max=Decimal("0.1")), capital=Decimal(1000))
    for pnl in ("0", "50", "-50"):
        book.note_deeds("strat_1", Deeds(run_id="r", day=DAY, pnl=Decimal(pnl)))
        assert book.tripped == ""

    book.note_deeds("strat_1", Deeds(run_id="r", day=DAY, pnl=Decimal("-50.01")))
    assert book.tripped == (
        "portfolio drawdown 100.01 is over 0.1 of 1000; the profit was 50.00 at its peak and is -50.01"
    )
    book.note_deeds("strat_1", Deeds(run_id="r", day=DAY, pnl=Decimal(500)))
    assert book.tripped

    book.release()
    assert (book.tripped, book.peak, book.fall) == ("", book.pnl, Decimal(0))


def earn(book: Book, strategy_id: str, *profits: str) -> None:
    """Tell a book the profits of a strategy's whole life, one after the other; it comes with none."""
    known = strategy_id in book.deeds
    for pnl in profits if known else ("0", *profits):
        book.note_deeds(strategy_id, Deeds(run_id="r", day=DAY, pnl=Decimal(pnl)))


def test_what_was_lost_of_much_capital_is_not_held_against_the_little_that_is_deployed_later() -> None:
    book = Book(caps=Caps(drawdown_pct_max=Decimal("0.3")), capital=Decimal(40_000))
    earn(book, "large", "-1000")

    book.capital = Decimal(500)
    book.watch_fall()
    earn(book, "small", "-137.50")
    assert book.tripped == ""

    earn(book, "small", "-137.51")
    assert book.tripped == (
        "portfolio drawdown 150.01 is over 0.3 of 500; the profit was 0.00 at its peak and is -1137.51"
    )


def test_what_was_lost_of_little_capital_is_not_forgotten_when_much_is_deployed() -> None:
    book = Book(caps=Caps(drawdown_pct_max=Decimal("0.1")), capital=Decimal(1000))
    earn(book, "small", "-90")

    book.capital = Decimal(11_000)
    earn(book, "large", "-110")
    assert book.tripped == ""
    earn(book, "large", "-110.01")
    assert book.tripped


def test_what_is_lost_while_nothing_is_deployed_counts_against_what_was() -> None:
    book = Book(caps=Caps(drawdown_pct_max=Decimal("0.1")), capital=Decimal(1000))
    earn(book, "leaves", "-60")

    book.capital = Decimal(0)
    earn(book, "leaves", "-100")
    assert book.tripped == ""
    earn(book, "leaves", "-101")
    assert book.tripped


def test_a_new_peak_is_where_all_that_was_lost_has_been_won_back() -> None:
    book = Book(caps=Caps(drawdown_pct_max=Decimal("0.1")), capital=Decimal(1000))
    earn(book, "one", "50", "-40", "50", "70", "-29")
    assert (book.peak, book.fall, book.tripped) == (Decimal(70), Decimal(99), "")


def test_the_fall_survives_a_restart_in_which_the_capital_is_counted_piece_by_piece() -> None:
    caps = Caps(drawdown_pct_max=Decimal("0.1"))
    before, after = Book(caps=caps, capital=Decimal(3_000)), Book(caps=caps)
    earn(before, "one", "-299")

    after.recall(before.memory())
    for _ in range(3):
        after.capital += 1_000
        after.watch_fall()
        earn(after, "one")
    assert (after.fall, after.base, after.tripped) == (Decimal(299), Decimal(3_000), "")
    earn(after, "one", "-2")
    assert after.tripped


def test_a_restarted_book_goes_on_from_its_memory() -> None:
    before, after = Book(), Book(caps=Caps(drawdown_pct_max=Decimal("0.1")), capital=Decimal(1000))
    before.recall(BookMemory(pnl=Decimal(10), peak=Decimal(100), tripped=""))

    after.recall(before.memory())
    after.note_deeds("strat_1", Deeds(run_id="r", day=DAY, pnl=Decimal(-500)))  # What it was before the restart.
    assert after.tripped == ""
    after.note_deeds("strat_1", Deeds(run_id="r", day=DAY, pnl=Decimal(-511)))
    assert after.tripped
