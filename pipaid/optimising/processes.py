"""The crew of this machine: processes that play one set of params each, and end with the sweep whatever happens."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Final, cast

from attrs import define, field

from pipaid.backtesting import Backtest
from pipaid.optimising.scoring import Candidate
from pipaid.optimising.sweeping import Crew, CrewLost, Exam, Params, told

# The end of a pipe is seen a moment before the process that held it is gone.
END_S: Final = 5.0


@define
class _Player:
    """One process, our end of the pipe to it, and what it plays."""

    process: BaseProcess
    pipe: Connection
    params: Params | None = None


@define
class Processes:
    """A crew of processes, each with a backtest of its own: `make` has to be a function that can be sent there."""

    make: Callable[[], Backtest]
    exam: Exam
    width: int
    _players: list[_Player] = field(factory=list[_Player], init=False)
    # An interruption reaches the main thread alone, so that none is born by half there.
    _births: ThreadPoolExecutor = field(factory=partial(ThreadPoolExecutor, 1), init=False)

    def __enter__(self) -> Crew:
        # Python's own helper would let interruptions through when it is started, in the midst of a birth.
        resource_tracker.ensure_running()
        return self

    def __exit__(self, *_: object) -> None:
        self._births.shutdown()
        for player in self._players:
            player.process.kill()
        for player in self._players:
            player.process.join()
            player.process.close()
            player.pipe.close()
        self._players.clear()

    def begin(self, params: Params) -> None:
        """Give a set to one that is free; as many processes are started as there are sets to play."""
        player = (
            next((each for each in self._players if each.params is None), None)
            or self._births.submit(self._born).result()
        )
        player.params = params
        try:
            player.pipe.send(params)
        except OSError:
            raise self._lost(player) from None

    def done(self) -> Sequence[Candidate]:
        """Wait for a process to answer, or to end without an answer."""
        busy = {player.pipe: player for player in self._players if player.params is not None}
        return [self._answer(busy[cast(Connection, pipe)]) for pipe in wait(list(busy))]

    def _answer(self, player: _Player) -> Candidate:
        try:
            found: Candidate = player.pipe.recv()
        except (EOFError, OSError):
            raise self._lost(player) from None
        player.params = None
        return found

    def _born(self) -> _Player:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(self.make, self.exam, theirs), daemon=True)
        # It is deaf to Ctrl-C from the beginning: whoever asked ends it.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        process.start()
        player = _Player(process, ours)
        self._players.append(player)
        theirs.close()
        return player

    @staticmethod
    def _lost(player: _Player) -> CrewLost:
        player.process.join(END_S)
        code = player.process.exitcode
        if code is None:
            how = "closed its pipe and lives on"
        elif code >= 0:
            how = f"ended with exit code {code}; what it said of it stands above"
        else:
            how = f"was killed by {signal.Signals(-code).name}"
        if code == -signal.SIGKILL:
            how += ", as a machine that runs out of memory does; sweep with fewer processes (--jobs)"
        return CrewLost(f"the process that played {told(player.params or {})} {how}")


def _serve(make: Callable[[], Backtest], exam: Exam, pipe: Connection) -> None:
    """Play what comes through the pipe, until its other end is gone."""
    backtest = make()
    while True:
        try:
            pipe.send(exam.judge(backtest, pipe.recv()))
        except (EOFError, BrokenPipeError):
            return
