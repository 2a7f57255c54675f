"""Rate budgets: how much weight a key or an address may spend at once, and how fast what it spent comes back."""

from __future__ import annotations

import math
from ipaddress import IPv6Address, ip_address
from itertools import islice
from typing import Final

from attrs import define, field

from pipaid.errors import RateLimited
from pipaid.wire.envelope import Standing

HOLDERS_MAX: Final = 100_000
# So many of those who were charged longest ago are looked at with each charge: they are forgotten once they are whole.
FORGOTTEN_AT_ONCE: Final = 2
# Whoever has one address of a network like this has all of them.
NETWORK_BITS: Final = 64


class Spent(RateLimited):
    """A budget does not hold what is asked of it; `standing` is what it does hold."""

    def __init__(self, message: str, *, standing: Standing, retry_after_ms: int) -> None:
        super().__init__(message, retry_after_ms=retry_after_ms)
        self.standing = standing


@define(eq=False)
class Budgets:
    """A budget for each holder: a refused charge costs nothing, and who has not been heard of has all of it.

    Of a holder only the moment is kept at which its budget is whole again. Beyond `holders_max` of them, whoever was
    charged longest ago is forgotten, which gives that one a whole budget and takes nothing from anybody.
    """

    capacity: int
    refill_per_s: float
    holders_max: int = HOLDERS_MAX
    # Whole microseconds, so that many small charges add up to what one large one comes to.
    _whole_at_us: dict[str, int] = field(factory=dict[str, int], init=False)

    def __len__(self) -> int:
        return len(self._whole_at_us)

    def charge(self, holder: str, weight: int, *, now_s: float) -> Standing:
        """Take a weight out of a holder's budget and return what is left; raise Spent if it is not in there."""
        now_us = round(now_s * 1_000_000)
        whole_in_us = self._whole_in_us(holder, now_us)
        if not weight:
            return self._standing(whole_in_us)
        after_us = whole_in_us + self._price_us(weight)
        missing_us = after_us - self._price_us(self.capacity)
        if missing_us > 0:
            raise Spent(
                f"this takes {weight} of a budget of {self.capacity} that regains {self.refill_per_s:g} a second; "
                f"try again in {missing_us / 1_000_000:.3f} s",
                standing=self._standing(whole_in_us),
                retry_after_ms=-(-missing_us // 1_000),
            )
        self._whole_at_us.pop(holder, None)
        self._forget(now_us)
        self._whole_at_us[holder] = now_us + after_us
        return self._standing(after_us)

    def standing(self, holder: str, *, now_s: float) -> Standing:
        """Return what is left of a holder's budget."""
        return self._standing(self._whole_in_us(holder, round(now_s * 1_000_000)))

    def _whole_in_us(self, holder: str, now_us: int) -> int:
        return max(0, self._whole_at_us.get(holder, 0) - now_us)

    def _price_us(self, weight: int) -> int:
        """Return how long a weight takes to come back."""
        return int(weight * 1_000_000 / self.refill_per_s)

    def _standing(self, whole_in_us: int) -> Standing:
        missing = math.ceil(whole_in_us * self.refill_per_s / 1_000_000)
        return Standing(self.capacity, max(0, self.capacity - missing), -(-whole_in_us // 1_000))

    def _forget(self, now_us: int) -> None:
        for holder in list(islice(self._whole_at_us, FORGOTTEN_AT_ONCE)):
            if self._whole_at_us[holder] <= now_us or len(self._whole_at_us) >= self.holders_max:
                del self._whole_at_us[holder]


def holder_of(address: str) -> str:
    """Return who holds the budget of an address: its network where addresses are handed out by the network."""
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if not isinstance(found, IPv6Address):
        return str(found)
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(IPv6Address(int(found) >> NETWORK_BITS << NETWORK_BITS))
