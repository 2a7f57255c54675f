"""Certificates that a test makes for itself, and what a server shows of them."""

from __future__ import annotations

import socket
import subprocess
from pathlib import Path
from ssl import CERT_NONE, PROTOCOL_TLS_CLIENT, PEM_cert_to_DER_cert, SSLContext, SSLSocket

from attrs import frozen

PATIENCE_S = 20.0


@frozen
class Pair:
    """A certificate for 127.0.0.1 and its key, in files."""

    certificate: Path
    key: Path

    @property
    def der(self) -> bytes:
        """Return the certificate as it is shown to a client."""
        return PEM_cert_to_DER_cert(self.certificate.read_text(encoding="ascii"))

    def put(self, certificate: bytes, key: bytes) -> None:
        """Replace both files, each at once."""
        for path, content in ((self.certificate, certificate), (self.key, key)):
            fresh = path.with_suffix(".new")
            fresh.touch(mode=0o600)
            fresh.write_bytes(content)
            fresh.replace(path)

    def become(self, other: Pair) -> None:
        """Hold what another pair holds."""
        self.put(other.certificate.read_bytes(), other.key.read_bytes())


def make_pair(folder: Path, name: str = "one", *, days: int = 400, expired: bool = False) -> Pair:
    """Make a pair that signs itself and is valid for so many days, or was until yesterday."""
    folder.mkdir(parents=True, exist_ok=True)
    pair = Pair(folder / f"{name}.crt", folder / f"{name}.key")
    _openssl(
        *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
        *("-days", str(days), "-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1"),
        *("-keyout", str(pair.key), "-out", str(pair.certificate)),
    )
    if expired:
        path = str(pair.certificate)
        _openssl("x509", "-in", path, "-signkey", str(pair.key), "-days", "-1", "-out", path)
    pair.key.chmod(0o600)
    return pair


def _openssl(*words: str) -> None:
    subprocess.run(["openssl", *words], check=True, capture_output=True, timeout=60)


def unverified() -> SSLContext:
    """Return a client's context that takes any certificate, so that a test can look at it."""
    context = SSLContext(PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = CERT_NONE
    return context


def connected(port: int) -> SSLSocket:
    """Return a connection to a port of this machine, after the handshake."""
    plain = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S)
    try:
        return unverified().wrap_socket(plain)
    except BaseException:
        plain.close()
        raise


def shown(port: int) -> bytes:
    """Return the certificate that a server shows to a new connection."""
    with connected(port) as connection:
        return certificate_of(connection)


def certificate_of(connection: SSLSocket) -> bytes:
    """Return the certificate that was shown on a connection."""
    der = connection.getpeercert(binary_form=True)
    assert der is not None
    return der
