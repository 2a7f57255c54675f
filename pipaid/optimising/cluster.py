"""The crew of many machines: workers of a Dask scheduler, which get the candles once and one set after the other."""

from __future__ import annotations

import hashlib
import platform
import re
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError
from functools import cache
from importlib import import_module
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Final

import msgspec
from attrs import define, field

import pipaid
from pipaid.backtesting import Backtest
from pipaid.errors import InvalidParameter, PipaidError, Unavailable
from pipaid.home import house
from pipaid.optimising.scoring import Candidate
from pipaid.optimising.sweeping import Crew, CrewLost, Exam, Params, told
from pipaid.plugins import load_templates
from pipaid.seams import SystemDisk

CONNECT_S: Final = 10.0
# How often a sweep looks whether the scheduler and its workers are still there.
LOOK_S: Final = 5.0
# So that a worker that is done has the next set at hand.
AHEAD: Final = 2
ADDRESS: Final = re.compile(r"(?:(?:tcp|tls)://)?(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]):([0-9]{1,5})", re.ASCII)


class Code(msgspec.Struct, frozen=True):
    """The code that plays: equal code comes to equal results."""

    pipaid: str
    python: str
    digest: str


@define
class Cluster:
    """A crew of Dask workers; each has the same code as we, or nothing is played there."""

    address: str
    make: Callable[[], Backtest]
    exam: Exam
    width: int = field(default=1, init=False)
    _dask: Any = field(init=False)
    _client: Any = field(default=None, init=False)
    _work: Any = field(default=None, init=False)
    _ended: SimpleQueue[Any] = field(factory=SimpleQueue[Any], init=False)
    _playing: dict[Any, Params] = field(factory=dict[Any, Params], init=False)

    def __attrs_post_init__(self) -> None:
        match = ADDRESS.fullmatch(self.address)
        if match is None or not 1 <= int(match[1]) <= 65_535:
            raise InvalidParameter(f"scheduler: {self.address!r:.80} is no address such as tcp://10.0.0.5:8786")
        try:
            self._dask = import_module("distributed")
        except ImportError:
            raise InvalidParameter("scheduler: Dask is not installed: pip install 'pipaid[dask]'") from None

    def __enter__(self) -> Crew:
        try:
            self._client = self._dask.Client(self.address, timeout=CONNECT_S, set_as_default=False, name="pipaid")
        except (OSError, ValueError) as trouble:
            raise Unavailable(
                f"no Dask scheduler answers at {self.address} within {CONNECT_S:g} s: {trouble!s:.200}"
            ) from None
        try:
            self._enlist()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        client, self._client = self._client, None
        try:
            if client.status == "running":
                client.cancel([*self._playing, *([self._work] if self._work is not None else [])], force=True)
        finally:
            self._playing.clear()
            self._work = None
            client.close(timeout=CONNECT_S)

    def begin(self, params: Params) -> None:
        """Give a set to whichever worker is free first."""
        future = self._client.submit(_played, self._work, self.exam, params, pure=False)
        self._playing[future] = params
        future.add_done_callback(self._ended.put)

    def done(self) -> Sequence[Candidate]:
        """Wait for a worker to answer; raise CrewLost when there are none any more."""
        while self._manned():
            try:
                return [self._answer(self._ended.get(timeout=LOOK_S))]
            except Empty:
                continue
        # The candles have gone with them, and a sweep has them sent once.
        raise CrewLost(f"the Dask scheduler at {self.address} has no worker any more")

    def _answer(self, future: Any) -> Candidate:
        params = self._playing.pop(future)
        try:
            found: Candidate = future.result()
        except PipaidError:
            raise
        except CancelledError:
            raise CrewLost(f"{told(params)} was lost: the Dask scheduler or whoever had the candles has gone") from None
        except Exception as trouble:
            raise CrewLost(f"the Dask worker that played {told(params)} failed: {trouble!r:.300}") from trouble
        return found

    def _enlist(self) -> None:
        """Hold the code of every worker against ours, and send the candles once to each."""
        if not self._manned():
            raise Unavailable(f"the Dask scheduler at {self.address} has no workers yet; start some with `dask worker`")
        backtest = self.make()
        template = _template(backtest)
        own = code(template)
        for worker, theirs in self._client.run(code, template, on_error="return").items():
            if isinstance(theirs, BaseException):
                raise Unavailable(f"the Dask worker {worker} cannot play this: {theirs!s:.300}")
            if theirs != own:
                raise Unavailable(f"the Dask worker {worker} has other code: {_told_apart(own, theirs)}")
        self._work = self._client.scatter((backtest, own), broadcast=True, hash=False)

    def _manned(self) -> bool:
        """Tell whether there are workers, and let as many sets be played as they have threads."""
        try:
            threads: int = sum(self._client.nthreads().values())
        except OSError as trouble:
            raise CrewLost(f"the Dask scheduler at {self.address} has gone: {trouble!s:.200}") from None
        self.width = max(1, threads * AHEAD)
        return threads > 0


def code(template: str) -> Code:
    """Return what code this process would play a template with."""
    house()
    home = Path(pipaid.__file__).parent
    files = [path for path in home.rglob("*.py") if "_house" not in path.relative_to(home).parts]
    if template:
        module = sys.modules[load_templates().get(template).__module__.partition(".")[0]]
        place = Path(str(module.__file__))
        files += place.parent.rglob("*.py") if place.name == "__init__.py" else [place]
    digest, disk = hashlib.sha256(), SystemDisk()
    for name, data in sorted(("/".join(path.parts[-2:]), disk.read(path)) for path in files):
        digest.update(f"{name} {len(data)}\n".encode() + data)
    return Code(pipaid.__version__, ".".join(platform.python_version_tuple()[:2]), digest.hexdigest()[:16])


def _told_apart(own: Code, theirs: Code) -> str:
    for what in ("pipaid", "python"):
        if getattr(own, what) != getattr(theirs, what):
            return f"{what} {getattr(theirs, what)} there, {getattr(own, what)} here"
    return f"the sources of pipaid or of the template differ ({theirs.digest} there, {own.digest} here)"


# On a worker.

_code_here: Final = cache(code)


def _played(work: tuple[Backtest, Code], exam: Exam, params: Params) -> Candidate:
    backtest, theirs = work
    # One that came later was not asked at the beginning.
    here = _code_here(_template(backtest))
    if here != theirs:
        raise Unavailable(f"a Dask worker that came later has other code: {_told_apart(theirs, here)}")
    return exam.judge(backtest, params)


def _template(backtest: Backtest) -> str:
    """Return the id of an installed template; a class that was given goes to the workers as it is."""
    return backtest.template if isinstance(backtest.template, str) else ""
