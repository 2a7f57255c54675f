"""Who a listener says it is: its certificate and key, replaced while connections go on."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from ssl import SSLContext, SSLObject
from typing import Any, Final

from attrs import define, field

from pipaid.config.certificate import Validity, end_told, read_pem, server_context, validity_of_file
from pipaid.errors import InvalidParameter
from pipaid.logs import get_log
from pipaid.model.moment import iso_seconds
from pipaid.seams import World

# How often files are looked at unasked: what came is taken then at the latest, and what runs out is told.
LOOK_EVERY_S: Final = 60.0


class Presented(SSLContext):
    """What a listener holds for good, and what gives each new connection the context that is in force."""

    in_force: SSLContext

    def wrap_bio(self, *given: Any, **named: Any) -> SSLObject:
        """Begin a connection with the context that is in force."""
        return self.in_force.wrap_bio(*given, **named)


@define(eq=False)
class Identity:
    """Who a listener says it is: a pair of files, and the last that was good in them.

    What is bad is kept out, and what was in force stays so; `refused` says why. Whoever looks at what another process
    presents is `quiet`, for that one says so itself.
    """

    name: str
    certificate: Path
    key: Path
    world: World
    quiet: bool = False
    context: Presented = field(init=False)
    validity: Validity = field(init=False)
    refused: str = field(default="", init=False)
    _told: str = field(default="", init=False)
    _seen: bytes = field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        # One that has expired still serves whoever does not mind: a start must not fail because time went by.
        self._seen, self.validity, context = self._judge()
        self.context = Presented(context.protocol)
        self.context.in_force = context

    def look(self) -> bool:
        """Take what is in the files now, if it is new and good; tell whether it was taken."""
        refused, taken = "", False
        try:
            taken = self._take()
        except InvalidParameter as trouble:
            refused = trouble.message
        self.refused = refused
        if not self.quiet:
            self._tell(taken=taken)
        return taken

    def told(self) -> str:
        """Say what a person should know of it, or nothing."""
        if self.refused:
            kept = f"the one before stays in force and ends at {iso_seconds(self.validity.ends_ms)}"
            return f"{self.name}: {self.refused}; {kept}"
        told = end_told(self.certificate, self.validity, self._now_ms)
        return f"{self.name}: {told}" if told else ""

    def _tell(self, *, taken: bool) -> None:
        """Write down what is new, and what runs out once a day."""
        before, self._told = self._told, self.told()
        if taken:
            get_log().info("certificate.renewed", listener=self.name, expires=iso_seconds(self.validity.ends_ms))
        if self._told and self._told != before:
            event = "certificate.refused" if self.refused else "certificate.expiring"
            get_log().warning(event, detail=self._told)

    def _take(self) -> bool:
        if self._files() == self._seen:
            return False
        seen, validity, context = self._judge()
        if validity.ends_ms <= self._now_ms:
            raise InvalidParameter(f"{self.certificate} expired at {iso_seconds(validity.ends_ms)}")
        if validity.begins_ms > self._now_ms:
            raise InvalidParameter(f"{self.certificate} is valid from {iso_seconds(validity.begins_ms)} on")
        self._seen, self.validity, self.context.in_force = seen, validity, context
        return True

    def _judge(self) -> tuple[bytes, Validity, SSLContext]:
        # What is read first is what is remembered: whatever is written meanwhile shows at the next look.
        seen = self._files()
        validity = validity_of_file(self.certificate, self.world)
        return seen, validity, server_context(self.certificate, self.key, uid=self.world.env.uid())

    def _files(self) -> bytes:
        return sha256(read_pem(self.certificate, self.world) + read_pem(self.key, self.world)).digest()

    @property
    def _now_ms(self) -> int:
        return self.world.clock.now_us() // 1000
