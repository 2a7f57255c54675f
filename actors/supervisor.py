"""Supervision as data: children started in order, stopped in reverse, restarted within an intensity or given up."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from enum import StrEnum
from typing import Final, Literal

import structlog
import trio
from attrs import define, field, frozen

from actors.actor import Failures, Intensity, without_cancelled
from pipaid.seams import World

log = structlog.get_logger()
STOP_DEADLINE_S: Final = 10.0


class ChildState(StrEnum):
    """Where a child stands."""

    WAITING = "waiting"
    RUNNING = "running"
    FAILED = "failed"
    ENDED = "ended"


class GivenUp(Exception):
    """A child failed more often than its intensity allows, or may not be restarted at all."""

    def __init__(self, name: str, cause: BaseException) -> None:
        super().__init__(f"{name} cannot go on: {type(cause).__name__}: {cause}")
        self.name = name
        self.cause = cause


@frozen(kw_only=True)
class ChildSpec:
    """One row of the tree: a permanent child must not end, a transient one may, a vital one takes the daemon along."""

    name: str
    start: Callable[[trio.TaskStatus[None]], Awaitable[None]]
    restart: Literal["permanent", "transient", "vital"] = "permanent"


@define(eq=False)
class Child:
    """One child at work."""

    spec: ChildSpec
    failures: Failures
    state: ChildState = ChildState.WAITING
    cause: BaseException | None = None
    scope: trio.CancelScope | None = None
    ended: trio.Event = field(factory=trio.Event)

    @property
    def name(self) -> str:
        """Return its name."""
        return self.spec.name

    @property
    def told_state(self) -> str:
        """Return where it stands, in a word."""
        return self.state.value


@frozen
class _End:
    """The end of one life of a child; it is no news any more once the child lives anew."""

    child: Child
    life: trio.Event
    cause: BaseException | None


@define(eq=False)
class Supervisor:
    """Run a chain of children: when one fails, it and all that were started after it start anew, in order."""

    specs: Sequence[ChildSpec]
    world: World
    intensity: Intensity = field(factory=Intensity)
    stop_s: float = STOP_DEADLINE_S
    children: list[Child] = field(init=False)
    _stopping: trio.Event = field(factory=trio.Event, init=False)

    def __attrs_post_init__(self) -> None:
        self.children = [Child(spec, Failures(self.intensity)) for spec in self.specs]

    def stop(self) -> None:
        """Let `run` end: every child is stopped, in reverse order of their start."""
        self._stopping.set()

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Start everything, say so, and keep it running until `stop`; raise GivenUp when that is hopeless.

        A cancellation from outside stops the children in order as well, within the same deadline.
        """
        hopeless: GivenUp | None = None
        async with trio.open_nursery() as outside:
            outside.start_soon(self._heed_cancellation)
            try:
                await self._run(task_status)
            except GivenUp as given_up:
                # Raised from in here, it would come out as a group, which nobody looks for.
                hopeless = given_up
            finally:
                outside.cancel_scope.cancel()
        if hopeless is not None:
            raise hopeless

    async def _run(self, task_status: trio.TaskStatus[None]) -> None:
        # One end of each child before a restart and one after it may wait at a time.
        send, receive = trio.open_memory_channel[_End](2 * len(self.children))
        hopeless: GivenUp | None = None
        async with trio.open_nursery() as nursery:
            nursery.cancel_scope.shield = True
            try:
                with trio.CancelScope() as working:
                    nursery.start_soon(self._heed_stop, working)
                    for child in self.children:
                        await self._start(nursery, child, send)
                        if child.state is ChildState.FAILED:
                            # What fails at its very start is no passing trouble: say so instead of trying on.
                            raise GivenUp(child.name, child.cause or RuntimeError("ended at once"))
                    task_status.started()
                    async for end in receive:
                        if end.life is end.child.ended:
                            await self._mend(nursery, end.child, end.cause, send)
            except GivenUp as given_up:
                hopeless = given_up
            finally:
                with trio.move_on_after(self.stop_s, shield=True):
                    await self._stop(self.children)
                nursery.cancel_scope.cancel()
        if hopeless is not None:
            raise hopeless

    async def _heed_cancellation(self) -> None:
        try:
            await trio.sleep_forever()
        finally:
            self.stop()

    async def _heed_stop(self, working: trio.CancelScope) -> None:
        await self._stopping.wait()
        working.cancel()

    async def _start(
        self,
        nursery: trio.Nursery,
        child: Child,
        ended: trio.MemorySendChannel[_End],
    ) -> None:
        child.ended = trio.Event()
        await nursery.start(self._host, child, ended, name=child.spec.name)
        log.debug("child.started", child=child.spec.name)

    async def _host(
        self,
        child: Child,
        ended: trio.MemorySendChannel[_End],
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        cause: BaseException | None = None
        started = _Told(task_status)
        try:
            with trio.CancelScope() as scope:
                child.scope, child.state = scope, ChildState.RUNNING
                try:
                    await child.spec.start(started)
                except trio.Cancelled:
                    raise
                except BaseException as trouble:  # the supervisor's broad catch
                    cause = without_cancelled(trouble)
                    if cause is None:
                        raise
        finally:
            child.state = ChildState.ENDED if cause is None else ChildState.FAILED
            child.cause = cause
            child.ended.set()
        started.started()
        if not scope.cancel_called:
            ended.send_nowait(_End(child, child.ended, cause))

    async def _mend(
        self,
        nursery: trio.Nursery,
        child: Child,
        cause: BaseException | None,
        ended: trio.MemorySendChannel[_End],
    ) -> None:
        if cause is None and child.spec.restart != "permanent":
            return
        cause = cause or RuntimeError("ended although it must not")
        log.error("child.failed", child=child.spec.name, cause=repr(cause), exc_info=cause)
        if child.spec.restart == "vital" or not child.failures.note(cause, self.world.clock.monotonic_s()):
            raise GivenUp(child.spec.name, cause)
        after = self.children[self.children.index(child) :]
        await self._stop(after[1:])
        await self.world.clock.sleep(child.failures.backoff_s(self.world.random.uniform(0, 1)))
        for each in after:
            await self._start(nursery, each, ended)
            if each.state is ChildState.FAILED:
                # Its end is the next to be mended, and those after it start then.
                return

    async def _stop(self, children: Sequence[Child]) -> None:
        for child in reversed(children):
            if child.scope is not None and child.state is ChildState.RUNNING:
                child.scope.cancel()
                await child.ended.wait()
                log.debug("child.stopped", child=child.spec.name)


class _Told(trio.TaskStatus[None]):
    """Pass a child's `started` on, once."""

    def __init__(self, task_status: trio.TaskStatus[None]) -> None:
        self._task_status = task_status
        self._told = False

    def started(self, value: None = None) -> None:
        if not self._told:
            self._told = True
            self._task_status.started()
