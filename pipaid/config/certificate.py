"""What is to be said of the certificate of a listener and of its key, before anybody is shown them."""

from __future__ import annotations

import re
from binascii import a2b_base64
from pathlib import Path
from ssl import Purpose, SSLContext, TLSVersion, create_default_context
from typing import Final

from attrs import frozen

from pipaid.config.secret import objection_to_mode
from pipaid.errors import InvalidParameter
from pipaid.model.moment import iso_seconds, parse_iso
from pipaid.seams import World

SOON_MS: Final = 14 * 86_400_000
PEM_BYTES_MAX: Final = 1024 * 1024
_FIRST: Final = re.compile(
    rb"-----BEGIN ((?:X509 |TRUSTED )?CERTIFICATE)-----([A-Za-z0-9+/=\s]+)-----END \1-----", re.DOTALL
)
# The tags of DER that lead to the dates: a structure, the version that may be missing, and two ways to write a moment.
_STRUCTURE: Final = 0x30
_VERSION: Final = 0xA0
_SHORT_YEAR: Final = 0x17
_LONG_YEAR: Final = 0x18


@frozen
class Validity:
    """From when to when a certificate is valid."""

    begins_ms: int
    ends_ms: int


def validity_of(pem: bytes) -> Validity:
    """Return the validity of the first certificate of a chain, its own one; raise ValueError where there is none."""
    found = _FIRST.search(pem)
    if found is None:
        raise ValueError("there is no certificate in it")
    der = a2b_base64(found[2])
    try:
        _, start, _ = _element(der, 0)  # Certificate
        _, at, _ = _element(der, start)  # TBSCertificate
        tag, _, end = _element(der, at)
        if tag == _VERSION:
            _, _, end = _element(der, end)
        for _ in ("signature algorithm", "issuer"):
            _, _, end = _element(der, end)
        tag, start, _ = _element(der, end)
        if tag != _STRUCTURE:
            raise ValueError("it has no dates")
        begins_ms, end = _moment(der, start)
        ends_ms, _ = _moment(der, end)
    except IndexError:
        raise ValueError("it is cut off") from None
    return Validity(begins_ms, ends_ms)


def _element(der: bytes, at: int) -> tuple[int, int, int]:
    """Return the tag of the element that begins there, and where its content begins and ends."""
    tag, length, start = der[at], der[at + 1], at + 2
    if length & 0x80:
        count = length & 0x7F
        length, start = int.from_bytes(der[start : start + count], "big"), start + count
    if start + length > len(der):
        raise IndexError
    return tag, start, start + length


def _moment(der: bytes, at: int) -> tuple[int, int]:
    tag, start, end = _element(der, at)
    text = der[start:end].decode("ascii")
    if tag == _SHORT_YEAR:
        text = ("19" if text >= "5" else "20") + text
    elif tag != _LONG_YEAR:
        raise ValueError("it has no dates")
    if not re.fullmatch(r"\d{14}Z", text):
        raise ValueError(f"it has a date that is none: {text}")
    return parse_iso(f"{text[:4]}-{text[4:6]}-{text[6:8]}T{text[8:10]}:{text[10:12]}:{text[12:]}"), end


def end_told(certificate: Path, validity: Validity, now_ms: int) -> str:
    """Say that a certificate has run out or is about to; nothing as long as there is time."""
    ends = iso_seconds(validity.ends_ms)
    if validity.ends_ms <= now_ms:
        return f"{certificate} expired at {ends}: clients refuse it"
    if validity.ends_ms - now_ms < SOON_MS:
        return f"{certificate} expires at {ends}, in {(validity.ends_ms - now_ms) // 86_400_000} days"
    return ""


def end_told_of_file(certificate: Path, world: World) -> str:
    """Say the same of a file that may be somebody else's; of one that cannot be read there is nothing to say."""
    try:
        return end_told(certificate, validity_of_file(certificate, world), world.clock.now_us() // 1000)
    except InvalidParameter:
        return ""


def validity_of_file(certificate: Path, world: World) -> Validity:
    """Return the validity of a certificate; raise InvalidParameter where none can be read."""
    try:
        return validity_of(read_pem(certificate, world))
    except ValueError as trouble:
        raise InvalidParameter(f"{certificate}: {trouble}") from None


def read_pem(path: Path, world: World) -> bytes:
    """Return what is in a file, which is no large one; raise InvalidParameter if it cannot be read."""
    try:
        if path.stat().st_size > PEM_BYTES_MAX:
            raise InvalidParameter(f"{path} has more than {PEM_BYTES_MAX} bytes")
        return world.disk.read(path)
    except OSError as trouble:
        raise InvalidParameter(f"{path} cannot be read: {trouble.strerror or trouble}") from None


def server_context(certificate: Path, key: Path, *, uid: int) -> SSLContext:
    """Return how a server proves who it is; raise InvalidParameter for a pair that cannot do that."""
    try:
        objection = objection_to_mode(key, uid=uid)
        if objection:
            raise InvalidParameter(f"{key}: {objection}")
        context = create_default_context(Purpose.CLIENT_AUTH)
        context.minimum_version = TLSVersion.TLSv1_2
        # An empty password makes a key that is encrypted fail here instead of asking at the terminal.
        context.load_cert_chain(certificate, key, password="")
    except (OSError, ValueError) as trouble:
        reason = getattr(trouble, "reason", None) or trouble
        if reason == "KEY_VALUES_MISMATCH":
            raise InvalidParameter(f"{key} is not the key of {certificate}") from None
        raise InvalidParameter(f"{certificate} and {key} cannot be used: {reason}") from None
    return context
