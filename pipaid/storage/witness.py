"""The witness: a line beside the journal that says how far it had come, so that an older copy is not taken for it.

It is rewritten in place after each commit, and forced to the disk at opening and closing only. So an older copy put
back, a tail cut off and another history are noticed to the last commit as long as the machine stays up; after a power
loss, at least whatever is missing up to the last opening or closing, and in practice up to what the kernel had written
back. It never claims what is not durable, since the journal is forced to the disk first. The same file is the lock.
"""

from __future__ import annotations

import hashlib

import msgspec

_CHECK_BYTES = 6


class Witness(msgspec.Struct, frozen=True, kw_only=True):
    """Who wrote last, and the number and hash of the last record it knows to be durable."""

    pid: int
    epoch: int
    n: int
    hash: bytes

    def encode(self) -> bytes:
        """Return the line, which carries a checksum."""
        text = f"{self.pid} {self.epoch} {self.n} {self.hash.hex()}".encode()
        return b"%s %s\n" % (text, _check(text))


def decode_witness(content: bytes) -> Witness | None:
    """Return what a line says, None if it is empty or damaged."""
    text, _, check = content.partition(b"\n")[0].rpartition(b" ")
    if not text or check != _check(text):
        return None
    pid, epoch, n, digest = text.split(b" ")
    return Witness(pid=int(pid), epoch=int(epoch), n=int(n), hash=bytes.fromhex(digest.decode()))


def _check(text: bytes) -> bytes:
    return hashlib.blake2b(text, digest_size=_CHECK_BYTES).hexdigest().encode()
