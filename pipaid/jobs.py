"""A backtest job in its worker process: candles from the store or the market, a result as it goes over the wire.

Nothing that a template does in here reaches the daemon: the process is the job's own, is bounded, and ends with it.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import resource
import signal
import struct
import threading
from contextlib import suppress
from multiprocessing import connection
from pathlib import Path
from typing import Final

import attrs
import msgspec
import trio
from attrs import frozen

from pipaid.backtesting import Backtest, inferred
from pipaid.config.sections import Market
from pipaid.engine.assembly import first_read_ms, larger_timeframes
from pipaid.engine.backtest import run
from pipaid.engine.fees import Fees
from pipaid.errors import BacktestFailed, InvalidParameter, NotFound, PipaidError
from pipaid.home import house
from pipaid.model.backtest import MetricsObject, result_object
from pipaid.model.columns import Candles
from pipaid.model.consult import RecordedAnswer
from pipaid.model.instrument import Instrument, Timeframe
from pipaid.model.job import JobConfig, JobError
from pipaid.model.moment import iso_seconds
from pipaid.model.strategy import StrategyDefinition
from pipaid.plugins import load_templates
from pipaid.seams import World
from pipaid.storage.candles import CandleStore
from pipaid.venues.opening import open_market
from pipaid.venues.venue import Market as Watched
from pipaid.wire.activity import Activity

# Above these, a result keeps the last ones and says how many it leaves out: an answer has bounds.
TRADES_MAX: Final = 10_000
# Trading comes first.
NICENESS: Final = 10
OOM_SCORE: Final = "/proc/self/oom_score_adj"
CANDLES_AT_ONCE: Final = 20_000
# What a worker notes: whose, and how much of it is played.
NOTE: Final = struct.Struct("<16sd")


@frozen(kw_only=True)
class Task:
    """All that a worker needs: what to play, where candles are, and where to note how much of it is played.

    `now_ms` is the market's time, beyond which it tells nothing; `fees` are those of the job, `answers` what models
    once answered its strategy.
    """

    id: str
    config: JobConfig
    fees: Fees
    store: Path
    market: Market
    now_ms: int
    listed_ms: int
    note: Path
    memory_bytes_max: int
    run_s_max: float
    answers: tuple[RecordedAnswer, ...] = ()


class Played(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a task: a result in JSON and its metrics, or an error."""

    result: bytes = b""
    metrics: MetricsObject | None = None
    error: JobError | None = None


def settle() -> None:
    """Prepare a worker: whoever employs it ends it, it gives way to trading, and does not outlive the daemon."""
    house()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with suppress(OSError):
        os.nice(NICENESS)
    # Should memory run out all the same, the kernel is to take this process and not the one that trades.
    with suppress(OSError):
        first = os.open(OOM_SCORE, os.O_WRONLY | os.O_CLOEXEC)
        os.write(first, b"1000")
        os.close(first)
    # A process that a template leaves behind would hold the pipes open by which the end of this one is seen.
    os.register_at_fork(after_in_child=_leave)
    parent = multiprocessing.parent_process()
    assert parent is not None, "a worker is started by a daemon"
    threading.Thread(target=_end_with, args=(parent.sentinel,), name="parent", daemon=True).start()


def retire() -> None:
    """End a worker that has answered: it plays one job, and what a template left behind in it is not waited for."""
    _leave()


def _leave() -> None:
    World().env.leave(0)


def _end_with(sentinel: int) -> None:
    connection.wait([sentinel])
    _leave()


def play(task: Task) -> Played:
    """Play a job; whatever goes wrong is told in the answer."""
    _bound(resource.RLIMIT_DATA, task.memory_bytes_max)
    # Even if the daemon dies and what is played never lets anybody look.
    _bound(resource.RLIMIT_CPU, math.ceil(task.run_s_max) + 1)
    try:
        return _played(task)
    except PipaidError as trouble:
        if isinstance(trouble.__cause__, MemoryError):
            return _too_large(task)
        return Played(error=JobError(code=trouble.code, message=trouble.message))
    except MemoryError:
        return _too_large(task)
    except BaseException as trouble:  # noqa: BLE001 - a template's SystemExit would end the worker without a word
        return failed(f"{type(trouble).__name__}: {trouble}")


def _too_large(task: Task) -> Played:
    limit = task.memory_bytes_max // 1_048_576
    return failed(f"it needs more than the {limit} MiB of backtest.memory_mib_max; play less of it at once")


def failed(message: str) -> Played:
    """Return what became of a task that nobody could play to its end."""
    return Played(error=JobError(code=BacktestFailed.code, message=message[:1_000]))


def _bound(kind: int, limit: int) -> None:
    # Not every sandbox lets a process bound itself.
    with suppress(OSError, ValueError):
        _, hard = resource.getrlimit(kind)
        most = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        resource.setrlimit(kind, (most, most))


def _played(task: Task) -> Played:
    config = task.config
    candles, instruments = gathered(task)
    plan = Backtest(
        template=config.template_id,
        params=config.params,
        candles=candles,
        timeframe=config.timeframe,
        capital=config.capital,
        leverage=config.leverage,
        start=config.start_ms,
        instruments=instruments,
        answers=task.answers,
    ).plan()
    noted = os.open(task.note, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def note(share: float) -> None:
        # A full disk hides how far it has come, and no more.
        with suppress(OSError):
            os.pwrite(noted, NOTE.pack(task.id.encode(), share), 0)

    try:
        result = run(attrs.evolve(plan, fees=task.fees), on_progress=note)
    finally:
        os.close(noted)
    told = result_object(result)
    left_out = max(0, len(told.trades) - TRADES_MAX)
    notes = tuple(filter(None, (_shortfall(config, each) for each in candles.values())))
    told = msgspec.structs.replace(told, trades=told.trades[left_out:], trades_left_out=left_out, notes=notes)
    return Played(result=msgspec.json.encode(told), metrics=told.metrics)


def _shortfall(config: JobConfig, candles: Candles) -> str:
    """Say how far candles reach if that is less than what was asked for."""
    first_ms, last_ms = int(candles.time_ms[0]), int(candles.time_ms[-1])
    if first_ms < config.start_ms + config.timeframe.ms and last_ms > config.end_ms - config.timeframe.ms:
        return ""
    return f"{candles.symbol}: its candles reach from {iso_seconds(first_ms)} to {iso_seconds(last_ms)} only"


def progress_of(noted: bytes, job_id: str) -> float:
    """Return the share that a worker has noted of a job; 0 if what stands there is another job's, or cut off."""
    if len(noted) != NOTE.size:
        return 0.0
    whose, share = NOTE.unpack(noted)
    return float(share) if whose.rstrip(b"\0") == job_id.encode() else 0.0


def definition_for(config: JobConfig) -> StrategyDefinition:
    """Return the definition that a job plays."""
    return StrategyDefinition(
        name="backtest",
        template_id=config.template_id,
        params=config.params,
        symbols=config.symbols,
        timeframe=config.timeframe,
        capital=config.capital,
        leverage=config.leverage,
    )


def stored_instruments(store: CandleStore, config: JobConfig) -> dict[str, Instrument]:
    """Return how those symbols of a job trade of which the store has candles, as far as candles tell."""
    found = {symbol: _stored(store, symbol, config) for symbol in config.symbols}
    return {symbol: inferred(candles) for symbol, candles in found.items() if candles is not None}


def _stored(store: CandleStore, symbol: str, config: JobConfig) -> Candles | None:
    header = store.finest(symbol, config.timeframe)
    return None if header is None else store.held(header.venue, symbol, header.timeframe)


def gathered(task: Task) -> tuple[dict[str, Candles], dict[str, Instrument]]:
    """Return the candles of each symbol with the history that its indicators need, and what is known of how it trades.

    Candles from the store come first; a symbol without any there comes from the market, up to its present.
    """
    config, store = task.config, CandleStore(task.store)
    template = load_templates().get(config.template_id)
    timeframes = (config.timeframe, *larger_timeframes(definition_for(config), template))
    history_ms = first_read_ms(timeframes, config.start_ms)
    candles: dict[str, Candles] = {}
    missing: list[str] = []
    for symbol in config.symbols:
        stored = _stored(store, symbol, config)
        if stored is None or not len(stored.between(config.start_ms, config.end_ms + 1)):
            missing.append(symbol)
        else:
            candles[symbol] = stored.between(history_ms, config.end_ms + 1)
    instruments: dict[str, Instrument] = {}
    if missing:
        instruments = trio.run(_from_market, task, missing, history_ms, candles)
    return {symbol: candles[symbol] for symbol in config.symbols}, instruments


async def _from_market(
    task: Task, symbols: list[str], history_ms: int, candles: dict[str, Candles]
) -> dict[str, Instrument]:
    config = task.config
    market: Watched = open_market(
        task.market, World(), Activity(), resume_ms=task.now_ms, listed_ms=task.listed_ms or None
    )
    listed = await market.instruments()
    for symbol in symbols:
        if symbol not in listed:
            raise NotFound(
                f"there are no candles of {symbol} from {iso_seconds(config.start_ms)} to {iso_seconds(config.end_ms)} "
                f"in {task.store}, and the market does not list it; `pipaid data download {symbol}` fetches some"
            )
        end_ms = min(config.end_ms - config.end_ms % Timeframe.M1.ms + Timeframe.M1.ms, task.now_ms)
        # Whole minutes: of parts that began within one, each would lack its first candle.
        begin_ms = -(-max(history_ms, market.listed_ms) // Timeframe.M1.ms) * Timeframe.M1.ms
        found = await _history(market, symbol, begin_ms, end_ms)
        if found is None or found.time_ms[-1] < config.start_ms:
            raise InvalidParameter(
                f"{symbol}: there are no candles from {iso_seconds(config.start_ms)} to {iso_seconds(config.end_ms)}: "
                f"none in {task.store}, and those of the market reach from {iso_seconds(market.listed_ms)} to "
                f"{iso_seconds(task.now_ms)}; `pipaid data import FILE` brings some in"
            )
        candles[symbol] = found
    return {symbol: listed[symbol] for symbol in symbols}


async def _history(market: Watched, symbol: str, begin_ms: int, end_ms: int) -> Candles | None:
    """Return the candles of a span, if there are any; asked for in parts, as columns take a tenth of the room."""
    found: Candles | None = None
    while begin_ms < end_ms:
        until_ms = min(begin_ms + CANDLES_AT_ONCE * Timeframe.M1.ms, end_ms)
        count = (until_ms - begin_ms) // Timeframe.M1.ms
        part = await market.history(symbol, Timeframe.M1, end_ms=until_ms, count=count) if count else []
        fresh = [candle for candle in part if candle.open_time_ms >= begin_ms]
        if fresh:
            columns = Candles.from_candles(fresh)
            found = columns if found is None else found.joined(columns)
        begin_ms = until_ms
    return found
