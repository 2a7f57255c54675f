"""What may keep the daemon from doing all it should: each condition with its meaning and its remedy."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final

import msgspec


class Condition(StrEnum):
    """What may be wrong around the daemon or with it."""

    JOURNAL = "journal"
    DISK = "disk"
    MEMORY = "memory"
    DESCRIPTORS = "descriptors"
    CERTIFICATE = "certificate"
    CLOCK = "clock"
    SUSPENDED = "suspended"
    STALLED = "stalled"
    HTTP = "http"
    DRAWDOWN = "drawdown"


class Meaning(msgspec.Struct, frozen=True, kw_only=True):
    """What a condition means for trading, what a person does about it, and whether nothing is entered meanwhile."""

    means: str
    remedy: str
    blocks_entries: bool = False


MEANINGS: Final[Mapping[Condition, Meaning]] = MappingProxyType(
    {
        Condition.JOURNAL: Meaning(
            means="the journal takes nothing: no order is sent until it does; once it is lost, resting entries are "
            "withdrawn and the daemon ends",
            remedy="make room or mend the disk; the service manager starts the daemon again",
            blocks_entries=True,
        ),
        Condition.DISK: Meaning(
            means="the disk of the journal is nearly full: nothing is entered, exits go on",
            remedy="make room on the file system of the state directory; it clears by itself",
            blocks_entries=True,
        ),
        Condition.MEMORY: Meaning(
            means="the daemon holds more memory than it should: nothing is entered, exits go on",
            remedy="see which strategy grew with `pipaid actors`; raise MemoryMax or stop strategies",
            blocks_entries=True,
        ),
        Condition.DESCRIPTORS: Meaning(
            means="no more files or connections can be opened: new clients wait, trading and known clients go on",
            remedy="close clients, or raise LimitNOFILE; `pipaid doctor` says how many are needed",
        ),
        Condition.CERTIFICATE: Meaning(
            means="a certificate runs out or a new one cannot be used: once it has, clients refuse to connect; trading "
            "goes on",
            remedy="put the new certificate and its key where the old ones are, then `pipaid reload`",
        ),
        Condition.CLOCK: Meaning(
            means="the wall clock was stepped: trading does not use it, but signatures may be refused on both sides",
            remedy="set it right and keep it so: timedatectl set-ntp true",
        ),
        Condition.SUSPENDED: Meaning(
            means="the process did not run for a while: prices count as stale until they are heard again",
            remedy="see who stopped it or what starved it of CPU; it clears by itself",
        ),
        Condition.STALLED: Meaning(
            means="the daemon was busy with one thing for too long: prices count as stale until they are heard again",
            remedy="look for a strategy that blocks with `pipaid actors`; it clears by itself",
        ),
        Condition.HTTP: Meaning(
            means="the process of the HTTP API ended: it is started again and again, trading and all else go on",
            remedy='do what the detail says; to serve no HTTP, write in [http]: mode = "off"',
        ),
        # Of two accounts one may go on, so this is no reason to block both: the book itself refuses.
        Condition.DRAWDOWN: Meaning(
            means="an account has lost too large a share of its capital, each loss as a share of what was deployed "
            "then: nothing is entered on it, over restarts too, until a person allows it; exits go on",
            remedy="see what lost it with `pipaid list`; `pipaid kill deactivate` allows entries again and counts "
            "losses anew",
        ),
    }
)
