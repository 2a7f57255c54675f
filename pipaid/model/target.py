"""Where a webhook may be delivered: the shape of an address, and which hosts and networks nothing is ever sent to."""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final, NoReturn

import msgspec

from pipaid.errors import InvalidParameter

HOST_MAX: Final = 253
PORTS: Final = {"https": 443, "http": 80}

# Nothing of this is reached over the public network, or it leads somewhere else than it says. What is not listed here
# and is no global unicast address by number is refused as well.
_FORBIDDEN_4: Final[tuple[tuple[IPv4Network, str], ...]] = tuple(
    (IPv4Network(network), meaning)
    for network, meaning in (
        ("0.0.0.0/8", "this network"),
        ("10.0.0.0/8", "private"),
        ("100.64.0.0/10", "shared by carriers"),
        ("127.0.0.0/8", "this machine"),
        ("169.254.0.0/16", "link-local"),
        ("172.16.0.0/12", "private"),
        ("192.0.0.0/24", "reserved for protocols"),
        ("192.0.2.0/24", "for documentation"),
        ("192.88.99.0/24", "a relay into IPv6"),
        ("192.168.0.0/16", "private"),
        ("198.18.0.0/15", "for benchmarks"),
        ("198.51.100.0/24", "for documentation"),
        ("203.0.113.0/24", "for documentation"),
        ("224.0.0.0/4", "multicast"),
        ("240.0.0.0/4", "reserved"),
    )
)
_GLOBAL_6: Final = IPv6Network("2000::/3")
_FORBIDDEN_6: Final[tuple[tuple[IPv6Network, str], ...]] = tuple(
    (IPv6Network(network), meaning)
    for network, meaning in (
        ("::1/128", "this machine"),
        ("::/128", "unspecified"),
        ("::ffff:0:0/96", "an IPv4 address in disguise"),
        ("::ffff:0:0:0/96", "an IPv4 address in disguise"),
        ("::/96", "an IPv4 address in disguise"),
        ("64:ff9b::/96", "a translation into IPv4"),
        ("64:ff9b:1::/48", "a translation into IPv4"),
        ("2001::/32", "a tunnel through IPv4"),
        ("2001::/23", "reserved for protocols"),
        ("2001:db8::/32", "for documentation"),
        ("2002::/16", "a tunnel through IPv4"),
        ("3fff::/20", "for documentation"),
        ("fc00::/7", "private"),
        ("fe80::/10", "link-local"),
        ("fec0::/10", "private"),
        ("ff00::/8", "multicast"),
    )
)
_URL: Final = re.compile(r"(https?)://(\[[^\]\[/?#]*\]|[^\]\[/?#:]*)(?::([0-9]{1,5}))?((?:[/?].*)?)", re.DOTALL)
_LABEL: Final = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMBER: Final = re.compile(r"[0-9]+|0x[0-9a-f]*")
_LOCAL_NAMES: Final = frozenset({"localhost", "local", "localdomain", "internal", "intranet", "lan", "arpa", "onion"})


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """Where a request goes: `path` has the query with it; `literal` tells that the host is an address by itself."""

    scheme: str
    host: str
    port: int
    path: str
    literal: bool

    @property
    def authority(self) -> str:
        """Return the host as a request names it, with the port if it is not the usual one."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == PORTS[self.scheme] else f"{host}:{self.port}"


def checked_target(url: str, *, private: bool = False) -> Target:
    """Return where an address leads; raise InvalidParameter for one that nothing is sent to.

    `private` allows http and the hosts of this machine and its networks.
    """
    # Nothing is mended: what two programs could read in two ways leads to one place for the check and to another for
    # the connection.
    found = _URL.fullmatch(url)
    if found is None or not url.isascii() or not url.isprintable() or re.search(r'[\s\\"<>^`{|}#]', url):
        _refuse("must be https://HOST, with a port and a path if need be, in ASCII and without a fragment")
    scheme, host, port, path = found.groups()
    if scheme != "https" and not private:
        _refuse("must begin with https://; plain http is sent to nobody")
    if "@" in host:
        _refuse("must not name a user or a password")
    if port is not None and not 0 < int(port) < 65_536:
        _refuse("must have a port from 1 to 65535")
    name, literal = _checked_host(host.lower(), private=private)
    return Target(
        scheme=scheme,
        host=name,
        port=int(port or PORTS[scheme]),
        path=path if path.startswith("/") else f"/{path}",
        literal=literal,
    )


def forbidden(address: str) -> str:
    """Say what kind of address this is if nothing may be sent to it, else nothing."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return "no address"
    if isinstance(parsed, IPv4Address):
        return next((meaning for network, meaning in _FORBIDDEN_4 if parsed in network), "")
    return _forbidden_6(parsed)


def _forbidden_6(address: IPv6Address) -> str:
    if address.scope_id is not None:
        return "link-local"
    meaning = next((meaning for network, meaning in _FORBIDDEN_6 if address in network), "")
    return meaning or ("" if address in _GLOBAL_6 else "not global")


def _checked_host(host: str, *, private: bool) -> tuple[str, bool]:
    """Return a host in lower case, and whether it is an address by itself."""
    if host.startswith("["):
        return _checked_literal(host[1:-1], 6, private=private), True
    if not host or len(host) > HOST_MAX:
        _refuse("must name a host")
    labels = host.split(".")
    # Where the last part is a number, so is the whole, in one of many forms: short, octal, hexadecimal, one number.
    if _NUMBER.fullmatch(labels[-1] or (labels[-2] if len(labels) > 1 else "")):
        return _checked_literal(host, 4, private=private), True
    if not all(_LABEL.fullmatch(label) for label in labels):
        _refuse("must name a host in letters, digits, hyphens and dots, with no dot at its end; IDNs as xn--…")
    if not private and (len(labels) < 2 or labels[-1] in _LOCAL_NAMES):
        _refuse(f"must name a public host; {host[:60]} is not one")
    return host, False


def _checked_literal(text: str, version: int, *, private: bool) -> str:
    try:
        address = ip_address(text)
        # Only the one usual form of each is taken: 127.1, 0177.0.0.1 and 2130706433 are refused as they are.
        valid = address.version == version and (version == 6 or str(address) == text)
    except ValueError:
        valid = False
    if not valid:
        _refuse("must have an address in its usual form, such as 93.184.216.34 or [2606:2800:220:1::1]")
    meaning = forbidden(text)
    if meaning and (not private or "%" in text):
        _refuse(f"must lead to a public address; {text[:60]} is {meaning}")
    return str(ip_address(text))


def _refuse(reason: str) -> NoReturn:
    raise InvalidParameter(f"url {reason}", details=(("url", reason),))
