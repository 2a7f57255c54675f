"""Rehearsals: an operator lets things go wrong at the simulated venue, sees what did, and ends it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from attrs import define, field

from actors.actor import Asker
from pipaid.errors import InvalidParameter, InvalidState
from pipaid.logs import get_log
from pipaid.model import report, request
from pipaid.model.fault import MEANING, QUESTION_FAULTS, REPORT_FAULTS, Fault
from pipaid.venues.faults import Faults, UnreliableDesk
from pipaid.venues.interrupted import UnreliableMarket
from pipaid.venues.venue import Desk, Market

DESKS: Final = "desks"
MARKET: Final = "market"


@define(eq=False)
class Rehearsal:
    """Answer the operations on faults; each method is named after its operation.

    Only simulated desks and markets know faults, and market data those of reports and questions alone.
    """

    desks: Mapping[str, Desk]
    market: Market | None = None
    _faults: dict[str, Faults] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._faults = {name: desk.faults for name, desk in self.desks.items() if isinstance(desk, UnreliableDesk)}
        if isinstance(self.market, UnreliableMarket):
            self._faults[MARKET] = self.market.faults
        for line in self.told():
            get_log().warning("faults.set", detail=line)

    def told(self) -> list[str]:
        """Say for each place what may go wrong there, so that nobody takes a rehearsal for the real thing."""
        found = {name: ", ".join(_expected(faults)) for name, faults in self._faults.items()}
        return [f"rehearsal: {name} is set to faults: {expected}" for name, expected in found.items() if expected]

    async def sim_fault(self, caller: Asker, asked: request.SimFault) -> report.FaultList:
        """Let something go wrong."""
        chosen = [name for name in self._faults if name == asked.at or (asked.at == DESKS and name != MARKET)]
        if not chosen:
            raise InvalidState(f"the venue of this daemon is not simulated, so nothing goes wrong at its {asked.at}")
        if asked.kind not in _kinds(chosen[0]):
            reason = f"must be one of {', '.join(_kinds(chosen[0]))} at the market, got {asked.kind}"
            raise InvalidParameter(f"kind {reason}", details=(("kind", reason),))
        for name in chosen:
            self._faults[name].order(asked.kind, asked.times)
        get_log().warning("fault.ordered", kind=asked.kind.value, times=asked.times, at=chosen, by=caller.who)
        return _listed(row for row in self._rows() if row.at in chosen and row.kind == asked.kind)

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
            for kind in _kinds(name):
                yield report.FaultObject(
                    at=name,
                    kind=kind.value,
                    share=f"{faults.rates.get(kind, 0.0):g}",
                    ordered=faults.ordered.get(kind, 0),
                    happened=faults.happened.get(kind, 0),
                    means=MEANING[kind],
                )


def _kinds(name: str) -> Sequence[Fault]:
    return (*REPORT_FAULTS, *QUESTION_FAULTS) if name == MARKET else tuple(Fault)


def _listed(rows: Iterable[report.FaultObject]) -> report.FaultList:
    return report.FaultList(data=tuple(rows))


def _expected(faults: Faults) -> Iterator[str]:
    for kind in filter(faults.may, Fault):
        if share := faults.rates.get(kind):
            yield f"{kind} {share:.4g} of the time"
        if times := faults.ordered.get(kind):
            yield f"{kind} next {times} times"
