"""The verbs that try a strategy on the past: play it once, or with many params."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipaid.cli.data import FOLDER, Folder
from pipaid.cli.terminal import Terminal

What = Annotated[
    str, typer.Argument(help="a file that declares strategies, or a strategy of the daemon", metavar="FILE|ID")
]
Name = Annotated[str, typer.Option("--name", help="which strategy of the file", metavar="NAME")]
Since = Annotated[str, typer.Option("--from", help="the first candle opens then (UTC)", metavar="DATE")]
Until = Annotated[str, typer.Option("--to", help="the last candle opens then (UTC)", metavar="DATE")]
Whose = Annotated[str, typer.Option("--venue", help="whose candles, if there are several", metavar="NAME")]
Model = Annotated[
    str,
    typer.Option(
        "--fee-model", help="none, fixed_bps, tiered_maker_taker, or match_exchange: as the candles' venue charges",
        metavar="MODEL",
    ),
]  # fmt: skip
Fee = Annotated[str, typer.Option("--fee-bps", help="for fixed_bps: of each fill", metavar="BPS")]
Slippage = Annotated[
    str, typer.Option("--slippage-bps", help="what a market order loses against the open", metavar="BPS")
]
Funding = Annotated[
    list[str] | None,
    typer.Option("--funding", help="CSV files of funding rates; may be repeated", metavar="[SYMBOL=]FILE"),
]
Config = Annotated[
    Path | None, typer.Option("--config", help="whose [backtest] has the tiers (default: that of the system)")
]


def add_to(app: typer.Typer) -> None:
    """Add these verbs to the command."""
    from pipaid.cli.verbs import add_verb

    add_verb(app, "backtest", backtest)
    add_verb(app, "optimise", optimise)
    add_verb(app, "answers", answers)


def backtest(
    terminal: Terminal,
    what: What,
    *,
    name: Name = "",
    since: Since = "",
    until: Until = "",
    venue: Whose = "",
    capital: Annotated[str, typer.Option("--capital", help="instead of the strategy's own", metavar="AMOUNT")] = "",
    fee_model: Model = "fixed_bps",
    fee_bps: Fee = "5",
    slippage_bps: Slippage = "0",
    funding: Funding = None,
    config: Config = None,
    driver: Annotated[
        str,
        typer.Option(
            "--driver", help="force a way of playing; none changes the result", metavar="auto|callback|skipping|replay"
        ),
    ] = "auto",
    report: Annotated[
        Path | None, typer.Option("--report", help="write a report to look at (needs plotly)", metavar="out.html")
    ] = None,
    answers: Annotated[
        Path | None,
        typer.Option("--answers", help="what models said, as `pipaid answers` writes it; nobody is asked anew"),
    ] = None,
    data: Folder = FOLDER,
) -> None:
    """Play a strategy over recorded candles, by the code that trades, and show what it would have come to.

    Signals are taken at a close and filled at the next open; stops go before targets that the same candle touches.
    Nothing is sent anywhere.
    """
    from pipaid.cli.backtesting import Asked, Charges, play
    from pipaid.storage.candles import CandleStore

    charges = Charges(fee_model, fee_bps, slippage_bps, funding=tuple(funding or ()), config=config)
    asked = Asked(
        since=since, until=until, venue=venue, store=CandleStore(data), charges=charges, driver=driver, capital=capital,
        report=report, answers=answers,
    )  # fmt: skip
    play(terminal, what, name, asked)


def optimise(
    terminal: Terminal,
    what: What,
    *,
    param: Annotated[
        list[str],
        typer.Option("--param", help="what to try: name=5,10,20, entry[0].params.window=10:20:2", metavar="NAME=…"),
    ],
    name: Name = "",
    since: Since = "",
    until: Until = "",
    venue: Whose = "",
    method: Annotated[
        str,
        typer.Option(
            "--method", help="all sets, some at random, or those that optuna suggests", metavar="grid|random|tpe"
        ),
    ] = "grid",
    tries: Annotated[int, typer.Option("--tries", help="how many sets, drawn or suggested", metavar="N")] = 100,
    seed: Annotated[int, typer.Option("--seed", help="what they are drawn with", metavar="N")] = 0,
    parts: Annotated[int, typer.Option("--windows", help="how many windows walk forward", metavar="N")] = 3,
    held_out: Annotated[
        str, typer.Option("--held-out", help="which share of a window is not chosen on", metavar="SHARE")
    ] = "0.3",
    metric: Annotated[str, typer.Option("--metric", help="what the best is best by", metavar="METRIC")] = "sharpe",
    jobs: Annotated[int, typer.Option("--jobs", help="how many processes", metavar="N")] = 2,
    scheduler: Annotated[
        str, typer.Option("--scheduler", help="play on the workers of a Dask scheduler", metavar="ADDRESS")
    ] = "",
    fee_model: Model = "fixed_bps",
    fee_bps: Fee = "5",
    slippage_bps: Slippage = "0",
    funding: Funding = None,
    config: Config = None,
    data: Folder = FOLDER,
) -> int:
    """Try many params over recorded candles, and show which hold on what they were not chosen on.

    The past is cut into windows that walk forward, each with a part to choose on and a part right after it that is held
    out. What is good on the first and not half as good on the second is likely overfitted.
    """
    from pipaid.cli.backtesting import Asked, Charges
    from pipaid.cli.optimising import Sweep, sweep
    from pipaid.storage.candles import CandleStore

    charges = Charges(fee_model, fee_bps, slippage_bps, funding=tuple(funding or ()), config=config)
    asked = Asked(since=since, until=until, venue=venue, store=CandleStore(data), charges=charges)
    wanted = Sweep(
        params=param, method=method, tries=tries, seed=seed, windows=parts, held_out=held_out, metric=metric, jobs=jobs,
        scheduler=scheduler,
    )  # fmt: skip
    return sweep(terminal, what, asked, wanted, name=name)


def answers(
    terminal: Terminal,
    id: Annotated[str, typer.Argument(help="a strategy of the daemon", metavar="ID")],
) -> None:
    """Write what models answered a strategy, a JSON object a line: `backtest --answers` gives it again.

    Of the evaluations that are still kept, the oldest first.
    """
    from pipaid.cli.recalling import recalled

    for line in recalled(terminal, id):
        terminal.say_json(line)
