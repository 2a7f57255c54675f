"""Rehearsals: an operator lets things go wrong at the simulated venue, sees what did, and ends it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from attrs import define, field

from actors.actor import Asker
from pipaid.errors import InvalidState
from pipaid.logs import get_log
from pipaid.model import report, request
from pipaid.model.fault import MEANING, Fault
from pipaid.venues.faults import Faults, UnreliableDesk
from pipaid.venues.venue import Desk


@define(eq=False)
class Rehearsal:
    """Answer the operations on faults; each method is named after its operation. Only simulated desks know faults."""

    desks: Mapping[str, Desk]
    _faults: dict[str, Faults] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._faults = {name: desk.faults for name, desk in self.desks.items() if isinstance(desk, UnreliableDesk)}
        for line in self.told():
            get_log().warning("faults.set", detail=line)

    def told(self) -> list[str]:
        """Say for each desk what may go wrong there, so that nobody takes a rehearsal for the real thing."""
        found = {name: ", ".join(_expected(faults)) for name, faults in self._faults.items()}
        return [f"rehearsal: {name} is set to faults: {expected}" for name, expected in found.items() if expected]

    async def sim_fault(self, caller: Asker, asked: request.SimFault) -> report.FaultList:
        """Let something go wrong."""
        chosen = [asked.desk] if asked.desk is not None else list(self._faults)
        if not self._faults or not self._faults.keys() >= set(chosen):
            where = asked.desk or "this daemon's venue"
            raise InvalidState(
                f"{where} is not simulated, and only at a simulated venue can things be made to go wrong"
            )
        for name in chosen:
            self._faults[name].order(asked.kind, asked.times)
        get_log().warning("fault.ordered", kind=asked.kind.value, times=asked.times, desks=chosen, by=caller.who)
        return _listed(row for row in self._rows() if row.desk in chosen and row.kind == asked.kind)

    async def sim_faults(self, caller: Asker, asked: request.Nothing) -> report.FaultList:
        """List what can go wrong, and what did."""
        return _listed(self._rows())

    async def sim_calm(self, caller: Asker, asked: request.Nothing) -> report.FaultList:
        """Let nothing go wrong any more."""
        for faults in self._faults.values():
            faults.calm()
        get_log().warning("faults.calmed", by=caller.who)
        return _listed(row for row in self._rows() if row.happened)

    def _rows(self) -> Iterator[report.FaultObject]:
        for name, faults in self._faults.items():
            for kind in Fault:
                yield report.FaultObject(
                    desk=name,
                    kind=kind.value,
                    share=f"{faults.rates.get(kind, 0.0):g}",
                    ordered=faults.ordered.get(kind, 0),
                    happened=faults.happened.get(kind, 0),
                    means=MEANING[kind],
                )


def _listed(rows: Iterable[report.FaultObject]) -> report.FaultList:
    return report.FaultList(data=tuple(rows))


def _expected(faults: Faults) -> Iterator[str]:
    for kind in filter(faults.may, Fault):
        if share := faults.rates.get(kind):
            yield f"{kind} {share:.4g} of the time"
        if times := faults.ordered.get(kind):
            yield f"{kind} next {times} times"
