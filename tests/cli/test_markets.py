"""Market data in a terminal: typed by symbol and interval, and printed as tables."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from pipaid.model.interval import Interval
from pipaid.model.market import (
    CandleRow,
    CandleRows,
    DepthObject,
    ExchangeInfo,
    MarketCandles,
    MarketDepth,
    MarketTicker,
    MarketTradeList,
    MarketTradeObject,
    PriceLevel,
    TickerObject,
    Tickers,
    listed_symbol,
)
from pipaid.model.reply import Reply, wire_form
from tests.builders import make_instrument
from tests.cli.answering import Answering, control, pipaid

OPENED_MS = 1_795_276_800_000
TICKER = TickerObject(
    symbol="BTCUSDT", price="106053.6", bid="106053.6", ask="106053.7", volume_24h="32609.125",
    quote_volume_24h="3388945537.5199", change_24h_pct="-4.704", high_24h="106387.6", low_24h="101183.8",
    count_24h=86_348, close_time=OPENED_MS,
)  # fmt: skip
CANDLE = CandleRow(
    OPENED_MS, "105944.9", "106185.0", "105576.3", "105706.4", "1661.870", OPENED_MS + 3_599_999, "175908935.9591",
    3600, "827.730", "87617569.6838",
)  # fmt: skip
TRADE = MarketTradeObject(
    id=7, price="190.51", qty="48.91", quote_qty="9317.8441", time=OPENED_MS + 412, is_buyer_maker=True
)
BOOK = DepthObject(
    last_update_id=5,
    bids=(PriceLevel("190.50", "23.43"), PriceLevel("190.49", "24.54")),
    asks=(PriceLevel("190.51", "57.02"),),
)


def answered(reply: Reply) -> bytes:
    """Return an answer as the daemon encodes it."""
    return msgspec.json.encode(wire_form(reply))


@pytest.mark.parametrize(
    ("words", "op", "reply", "shown"),
    [
        (
            ("klines", "BTCUSDT", "1h"), "market.klines", CandleRows(content=(CANDLE,)),
            ["OPENED", "2026-11-21 16:00:00  105944.9  106185.0  105576.3  105706.4", "50%"],
        ),
        (("ticker",), "market.ticker", Tickers(content=(TICKER,)), ["BTCUSDT", "106053.6", "-4.704", "101183.8"]),
        (("ticker", "BTCUSDT"), "market.ticker", Tickers(content=TICKER), ["high_24h", "106387.6"]),
        (("depth", "SOLUSDT", "--limit", "5"), "market.depth", BOOK, ["23.43  190.50  190.51    57.02", "190.49"]),
        (
            ("trades", "SOLUSDT"), "market.trades", MarketTradeList(content=(TRADE,)),
            ["2026-11-21 16:00:00.412", "sold", "9317.8441"],
        ),
        (
            ("exchange-info",), "market.exchange_info",
            ExchangeInfo(server_time=1, symbols=(listed_symbol(make_instrument(), "trading"),)),
            ["BTCUSDT  trading", "0.001", "200"],
        ),
        (("trades", "SOLUSDT"), "market.trades", MarketTradeList(content=()), ["nothing to list"]),
    ],
)  # fmt: skip
def test_what_the_market_says_is_printed_as_a_table(
    words: tuple[str, ...], op: str, reply: Reply, shown: list[str], tmp_path: Path
) -> None:
    answers: dict[str, Answering] = {op: lambda _: answered(reply)}
    with control(tmp_path, answers) as served:
        ended = pipaid("market", *words, socket_path=served.path)
        as_json = pipaid("market", *words, "--json", socket_path=served.path)

    assert ended.code == 0, ended.err
    for text in shown:
        assert text in ended.out
    assert as_json.out.strip() == answered(reply).decode()


def test_symbol_and_interval_are_typed_in_their_order_and_the_rest_by_name(tmp_path: Path) -> None:
    answers: dict[str, Answering] = {
        "market.klines": lambda _: answered(CandleRows(content=())),
        "market.depth": lambda _: answered(BOOK),
        "market.ticker": lambda _: answered(Tickers(content=())),
    }
    with control(tmp_path, answers) as served:
        for words in (
            ("klines", "BTCUSDT", "1M", "--start-time", "2026-11-01", "--end-time", "1795276800000", "--limit", "7"),
            ("depth", "BTCUSDT", "--limit", "1000"),
            ("ticker", "--symbols", "BTCUSDT,ETHUSDT"),
        ):
            assert pipaid("market", *words, socket_path=served.path).code == 0

    assert [asked for _, asked in served.asked] == [
        MarketCandles(symbol="BTCUSDT", interval=Interval.MONTH, start_ms=1_793_491_200_000, end_ms=OPENED_MS, limit=7),
        MarketDepth(symbol="BTCUSDT", limit=1000),
        MarketTicker(symbols=("BTCUSDT", "ETHUSDT")),
    ]
