"""What a seed draws: how a simulated world is, and which of its troubles are left out."""

from __future__ import annotations

from decimal import Decimal
from random import Random
from typing import Any

import msgspec
from attrs import define, field

from pipaid.config import sections as section
from pipaid.model.fault import Fault
from pipaid.venues.venue import Capabilities
from tests.simulation.venue import capabilities_of

FAULTY_S = 160
CALM_S = 100
# What can be left out besides kinds of faults.
DEATHS, PERSON, OPERATOR, DISTURBANCES = "deaths", "person", "operator", "disturbances"
HANGS, STUMBLES = "hangs", "stumbles"


class Scene(msgspec.Struct, frozen=True):
    """Which world to run: a seed, and what of its troubles to leave out.

    With `crash_at` the first daemon dies at that crossing and no other one dies; at 0 none dies at all. With `bound`
    somebody binds strategies to accounts.
    """

    seed: int
    without: frozenset[str] = frozenset()
    crash_at: int | None = None
    faulty_s: int = FAULTY_S
    bound: bool = False


@define
class Plan:
    """What a seed draws: how the world is, and when its daemons die."""

    scene: Scene
    chance: Random = field(init=False)
    tick_s: float = field(init=False)
    rates: dict[Fault, float] = field(init=False)
    capabilities: Capabilities = field(init=False)
    traders: int = field(init=False)
    caps: section.RiskCaps = field(init=False)
    weight_mean: float = field(init=False)
    disturbed: bool = field(init=False)
    hang_rate: float = field(init=False)
    clumsy: list[bool] = field(init=False)
    depth: Decimal = field(init=False)
    long_line: bool = field(init=False)

    def __attrs_post_init__(self) -> None:
        chance = self.chance = Random(self.scene.seed)
        self.tick_s = chance.choice((5.0, 10.0, 20.0))
        intensity = chance.choice((0.0, 0.02, 0.05, 0.15))
        rates = {kind: chance.random() * intensity for kind in Fault if chance.random() < 0.6}
        self.rates = {kind: rate for kind, rate in rates.items() if kind.value not in self.scene.without}
        self.capabilities = capabilities_of(chance)
        self.traders = chance.randrange(1, 5)
        self.weight_mean = chance.choice((30.0, 100.0, 400.0))
        self.disturbed = chance.random() < 0.5 and DISTURBANCES not in self.scene.without
        self.caps = section.RiskCaps(
            exposure_max=Decimal(chance.choice((2_000, 5_000, 20_000))),
            open_positions_max=chance.choice((2, 4, 12)),
            drawdown_pct_max=None,
            **self._more_caps(Random(f"{self.scene.seed} caps")),
        )
        self.hang_rate = Random(f"{self.scene.seed} hang rate").choice((0.0, 0.01, 0.04))
        self.clumsy = [Random(f"{self.scene.seed} clumsy {number}").random() < 0.4 for number in range(self.traders)]

        self.depth = Decimal(Random(f"{self.scene.seed} depth").choice(("0", "0.3", "1")))
        # Where requests expire, none is ever so late.
        self.long_line = not self.capabilities.request_expiry and Random(f"{self.scene.seed} line").random() < 0.5
        if self.long_line and Fault.LATE.value not in self.scene.without:
            self.rates[Fault.LATE] = max(self.rates.get(Fault.LATE, 0.0), 0.1)

    def _more_caps(self, chance: Random) -> dict[str, Any]:
        """Draw caps on what is done in a time, each in some of the worlds."""
        drawn: dict[str, Any] = {
            "open_orders_max": chance.choice((3, 6, 20_000)),
            "orders_per_minute_max": chance.choice((2, 5, None)),
            "rate_limit_max_trades": chance.choice((2, 4, None)),
            "rate_limit_window_hours": chance.choice((Decimal("0.02"), Decimal("0.05"), Decimal(4))),
        }
        return {name: value if chance.random() < 0.4 else None for name, value in drawn.items()} | {
            "rate_limit_window_hours": drawn["rate_limit_window_hours"]
        }
