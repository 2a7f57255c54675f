"""Where nothing is ever delivered: every way to write, hide or carry an address that is not on the public network."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipaid.errors import InvalidParameter
from pipaid.model.target import Target, checked_target, forbidden

# Each as the host of an address, and why nothing may go there.
FORBIDDEN = {
    # This machine.
    "127.0.0.1": "loopback", "127.255.255.254": "loopback", "[::1]": "loopback", "[0:0:0:0:0:0:0:1]": "written out",
    "localhost": "by name", "LOCALHOST": "in capitals", "localhost.": "with a dot", "a.localhost": "below it",
    "0.0.0.0": "this machine, on Linux", "0.1.2.3": "this network", "[::]": "unspecified",
    # Other spellings of IPv4 that some libraries read.
    "127.1": "short", "127.0.1": "three parts", "2130706433": "one number", "0x7f000001": "hexadecimal",
    "0x7f.0.0.1": "one part hexadecimal", "0177.0.0.1": "octal", "017700000001": "one octal number",
    "127.0.0.01": "a zero in front", "127.0.0.1.": "with a dot", "0": "zero", "127.0.0.0x1": "hexadecimal at its end",
    "4294967296": "beyond 32 bits", "256.256.256.256": "beyond 8 bits", "1.2.3.4.5": "five parts", "0x": "no digits",
    # Networks of one's own.
    "10.0.0.1": "private", "10.255.255.255": "private", "172.16.0.1": "private", "172.31.255.255": "private",
    "192.168.0.1": "private", "100.64.0.1": "shared by carriers", "100.127.255.255": "shared by carriers",
    "169.254.169.254": "the clouds' own data", "169.254.0.1": "link-local", "[fe80::1]": "link-local",
    "[fe80::1%eth0]": "with a zone", "[fe80::1%25eth0]": "with an escaped zone", "[::1%lo]": "loopback with a zone",
    "[fc00::1]": "private", "[fd12:3456:789a::1]": "private", "[fec0::1]": "once site-local",
    "[fd00:ec2::254]": "the clouds' own data",
    # For something else.
    "192.0.0.1": "protocols", "192.0.2.1": "documentation", "198.51.100.7": "documentation",
    "203.0.113.9": "documentation", "198.18.0.1": "benchmarks", "198.19.255.255": "benchmarks",
    "192.88.99.1": "relay", "224.0.0.1": "multicast", "239.255.255.250": "multicast", "240.0.0.1": "reserved",
    "255.255.255.255": "broadcast", "[ff02::1]": "multicast", "[2001:db8::1]": "documentation",
    "[3fff::1]": "documentation", "[100::1]": "discard", "[5f00::1]": "segment routing", "[4000::1]": "not given out",
    "[2001:2::1]": "benchmarks", "[2001:10::1]": "hashes", "[2001:20::1]": "hashes",
    # IPv4 inside IPv6, public or not.
    "[::ffff:127.0.0.1]": "mapped", "[::ffff:7f00:1]": "mapped, in hexadecimal",
    "[::ffff:8.8.8.8]": "mapped and public",
    "[::ffff:0:127.0.0.1]": "translated", "[::127.0.0.1]": "compatible", "[::7f00:1]": "compatible",
    "[64:ff9b::7f00:1]": "NAT64", "[64:ff9b::10.0.0.1]": "NAT64", "[64:ff9b:1::1]": "NAT64 of one's own",
    "[2002:7f00:1::]": "6to4 of loopback", "[2002:c0a8:1::1]": "6to4 of a private one", "[2002:808:808::1]": "6to4",
    "[2001:0:53aa:64c:0:5efe:7f00:1]": "Teredo", "[2001::1]": "Teredo",
    # Names that mean a place nearby.
    "intranet": "one word", "db.internal": "internal", "printer.local": "local", "a.localdomain": "local",
    "metadata.google.internal": "internal", "1.0.0.127.in-addr.arpa": "arpa", "hidden.onion": "elsewhere",
    # What is no host.
    "": "nothing", ".": "a dot", "a..com": "two dots", ".a.com": "a dot in front", "example.com.": "a dot at its end",
    "-a.com": "a hyphen in front", "ex%61mple.com": "escaped", "exam\u200bple.com": "not ASCII",
    "\u2460\u2461\u2466.0.0.1": "digits in circles", "example\u3002com": "another dot", "a_.-b.com": "a hyphen",
    "[127.0.0.1]": "IPv4 in brackets", "[::1": "one bracket", "::1": "no bracket", "[]": "empty",
    "[v1.a]": "a future one",
}  # fmt: skip
MALFORMED = [
    "http://example.com/", "HTTP://example.com", "ftp://example.com/", "//example.com/", "example.com",
    "https:example.com",
    "https:///hooks", "https://", "javascript:alert(1)", "file:///etc/passwd", "https://user@example.com/",
    "https://user:word@example.com/", "https://example.com@127.0.0.1/", "https://127.0.0.1:80@example.com/",
    "https://example.com:0/", "https://example.com:65536/", "https://example.com:x/", "https://example.com:-1/",
    "https://example.com:080000/", "https://example.com/#top", "https://example.com\\@127.0.0.1/",
    "https://example.com/a b", "https://example.com/\r\nX: y", "https://example.com/\t", " https://example.com/",
    "https://example.com/\u00e9", "https://example.com\n", "https://exa mple.com/", "https://example.com/<a>",
    "https://[::1]x/", "https://[2606:4700::1]example.com/", "https://example.com:443:443/", "gopher://127.0.0.1:70/",
]  # fmt: skip
TAKEN = {
    "https://example.com": Target(scheme="https", host="example.com", port=443, path="/", literal=False),
    "https://Example.COM/Hooks?a=b&c=%20": Target(
        scheme="https", host="example.com", port=443, path="/Hooks?a=b&c=%20", literal=False
    ),
    "https://example.com?a": Target(scheme="https", host="example.com", port=443, path="/?a", literal=False),
    "https://a-b.example.co.uk:8443/": Target(
        scheme="https", host="a-b.example.co.uk", port=8443, path="/", literal=False
    ),
    "https://xn--bcher-kva.example/": Target(
        scheme="https", host="xn--bcher-kva.example", port=443, path="/", literal=False
    ),
    "https://8.8.8.8:22/": Target(scheme="https", host="8.8.8.8", port=22, path="/", literal=True),
    "https://[2606:4700:0:0::1111]/": Target(scheme="https", host="2606:4700::1111", port=443, path="/", literal=True),
    "https://10.example.com/": Target(scheme="https", host="10.example.com", port=443, path="/", literal=False),
}


def test_there_are_enough_forms() -> None:
    assert len(FORBIDDEN) >= 60


@pytest.mark.parametrize("host", FORBIDDEN, ids=lambda host: f"{host} {FORBIDDEN[host]}"[:50])
@pytest.mark.parametrize("rest", ["/", ":8443/hooks"])
def test_nothing_is_delivered_to(host: str, rest: str) -> None:
    with pytest.raises(InvalidParameter) as refused:
        checked_target(f"https://{host}{rest}")

    assert [name for name, _ in refused.value.details] == ["url"]


@pytest.mark.parametrize("url", MALFORMED)
def test_what_two_programs_could_read_in_two_ways_is_refused(url: str) -> None:
    with pytest.raises(InvalidParameter):
        checked_target(url)


@pytest.mark.parametrize(("url", "target"), TAKEN.items())
def test_public_addresses_are_taken_apart(url: str, target: Target) -> None:
    assert checked_target(url) == target


@pytest.mark.parametrize(
    ("url", "authority"),
    [
        ("https://example.com/", "example.com"),
        ("https://example.com:443/", "example.com"),
        ("https://example.com:8443/", "example.com:8443"),
        ("https://[2606:4700::1111]:1/", "[2606:4700::1111]:1"),
    ],
)
def test_a_request_names_the_host_as_it_is_looked_up(url: str, authority: str) -> None:
    assert checked_target(url).authority == authority


@pytest.mark.parametrize("url", ["http://127.0.0.1:8080/", "http://localhost/", "https://[::1]/", "http://10.0.0.1/x"])
def test_for_development_this_machine_is_allowed(url: str) -> None:
    assert checked_target(url, private=True).host

    with pytest.raises(InvalidParameter):
        checked_target(url)


@pytest.mark.parametrize("url", ["http://127.1/", "http://a@localhost/", "ftp://localhost/", "http://[fe80::1%lo]/"])
def test_even_then_an_address_has_one_form(url: str) -> None:
    with pytest.raises(InvalidParameter):
        checked_target(url, private=True)


@pytest.mark.parametrize("address", ["", "x", "127.1", "0x7f000001", "1.2.3.4/24", "::1%lo"])
def test_what_a_name_server_says_is_judged_the_same_way(address: str) -> None:
    assert forbidden(address)


@pytest.mark.parametrize("address", ["1.1.1.1", "93.184.216.34", "2606:4700::1111", "2a00:1450:4001:80e::200e"])
def test_public_addresses_are_not_forbidden(address: str) -> None:
    assert forbidden(address) == ""


@given(st.integers(0, 2**32 - 1).map(IPv4Address) | st.integers(0, 2**128 - 1).map(IPv6Address))
def test_nothing_is_allowed_that_the_registries_do_not_call_global(address: IPv4Address | IPv6Address) -> None:
    if not ip_address(str(address)).is_global:
        assert forbidden(str(address))


@given(st.integers(0, 2**32 - 1).map(IPv4Address), st.sampled_from(["::ffff:{}", "::{}", "64:ff9b::{}"]))
def test_no_address_inside_another_is_allowed(inside: IPv4Address, form: str) -> None:
    assert forbidden(form.format(inside))
