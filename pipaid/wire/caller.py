"""Who asks the control server, through which kind of door, and how much one connection may have there."""

from __future__ import annotations

import math
from enum import StrEnum
from typing import Final

from attrs import frozen

from pipaid.wire.envelope import FORWARDED_LINE_BYTES_MAX, LINE_BYTES_MAX
from pipaid.wire.lines import Peer


class Role(StrEnum):
    """What a socket is for: commands, questions, or what others signed and somebody passes on."""

    OPERATE = "operate"
    OBSERVE = "observe"
    FORWARD = "forward"


@frozen(kw_only=True)
class Caller:
    """Who asks; an `account` of None sees every account, as whoever may open the socket does.

    A `user` asks for an `organisation`, all of which they see; what they make belongs to the account.
    """

    role: Role
    peer: Peer
    account: str | None = None
    api_key: str = ""
    user: str = ""
    organisation: str = ""

    @property
    def keeper(self) -> str:
        """Return whose idempotency keys are meant: no account and no key has the sign between account and user."""
        account = self.account or ""
        return f"{account}\x1f{self.user}" if self.user else account

    @property
    def who(self) -> str:
        """Return the caller in words, for records that people read."""
        if self.user:
            return f"user {self.user} of {self.organisation}"
        if self.account is not None:
            return f"key {self.api_key}" if self.api_key else "nobody"
        return f"uid {self.peer.uid}, pid {self.peer.pid}"


@frozen(kw_only=True)
class Limits:
    """What one client may have: when `asks_max` requests are under way, its next line waits unread."""

    clients_max: int = 32
    asks_max: int = 16
    tails_max: int = 8
    idle_s: float = 30.0
    write_s: float = 5.0
    line_bytes_max: int = LINE_BYTES_MAX


# Whoever passes on what others sent is few, has much under way, and stays connected while nobody sends anything.
FORWARD_LIMITS: Final = Limits(
    clients_max=8, asks_max=512, tails_max=0, idle_s=math.inf, line_bytes_max=FORWARDED_LINE_BYTES_MAX
)
