"""A listener shows a new certificate to new connections, keeps the old ones, and takes nothing that is bad."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from ssl import SSLContext, TLSVersion
from typing import cast

import attrs
import pytest
import trio
from attrs import define, field
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from pipaid.config.certificate import validity_of
from pipaid.errors import InvalidParameter
from pipaid.model.moment import DAY_MS, parse_iso
from pipaid.seams import SystemClock, World
from pipaid.wire.identity import Identity
from tests.certificates import Pair, make_pair, unverified
from tests.worlds import make_world


@define
class Shifted(SystemClock):
    """The wall clock, some days later."""

    days: float = 0.0

    def now_us(self) -> int:
        return super().now_us() + round(self.days * DAY_MS * 1_000)


@define(eq=False)
class Served:
    """A pair in use, the one that was made for later, and the identity that shows the first."""

    pair: Pair
    other: Pair
    clock: Shifted = field(factory=Shifted)
    identity: Identity = field(init=False)

    def __attrs_post_init__(self) -> None:
        world: World = attrs.evolve(make_world(), clock=self.clock)
        self.identity = Identity("stream", self.pair.certificate, self.pair.key, world)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Pair]:
    folder = tmp_path_factory.mktemp("made")
    return {
        "first": make_pair(folder, "first", days=400),
        "second": make_pair(folder, "second", days=500),
        "expired": make_pair(folder, "expired", expired=True),
    }


@pytest.fixture
def served(tmp_path: Path, made: dict[str, Pair]) -> Served:
    pair = Pair(tmp_path / "tls.crt", tmp_path / "tls.key")
    pair.become(made["first"])
    return Served(pair, made["second"])


@asynccontextmanager
async def listening(served: Served) -> AsyncGenerator[int]:
    """Give back what is sent, behind the identity, and yield the port."""

    async def give_back(stream: trio.abc.Stream) -> None:
        # A client that is refused, or has looked, leaves without a word.
        with suppress(trio.BrokenResourceError):
            while data := await stream.receive_some():
                await stream.send_all(data)

    async with trio.open_nursery() as nursery:
        (plain,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        port: int = plain.socket.getsockname()[1]
        listener = trio.SSLListener(plain, served.identity.context)
        nursery.start_soon(trio.serve_listeners, give_back, [listener])
        yield port
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def dialled(port: int, context: SSLContext | None = None) -> AsyncGenerator[trio.SSLStream[trio.SocketStream]]:
    async with await trio.open_tcp_stream("127.0.0.1", port) as plain:
        stream = trio.SSLStream(plain, context or unverified())
        await stream.do_handshake()
        yield stream


async def shown(port: int) -> bytes | None:
    async with dialled(port) as stream:
        return cast("bytes | None", stream.getpeercert(binary_form=True))


async def echoed(stream: trio.SSLStream[trio.SocketStream]) -> bytes:
    await stream.send_all(b"still there?")
    return bytes(await stream.receive_some())


async def test_a_new_pair_is_shown_to_new_connections_and_cuts_no_old_one(served: Served) -> None:
    async with listening(served) as port, dialled(port) as old:
        assert served.identity.look() is False
        served.pair.become(served.other)

        assert served.identity.look() is True

        async with dialled(port) as new:
            assert old.getpeercert(binary_form=True) != new.getpeercert(binary_form=True) == served.other.der
            assert await echoed(old) == await echoed(new) == b"still there?"
        assert served.identity.told() == ""


def half_written(served: Served, made: dict[str, Pair]) -> None:
    served.pair.put(served.other.certificate.read_bytes()[:-200], served.other.key.read_bytes())


def empty(served: Served, made: dict[str, Pair]) -> None:
    served.pair.put(b"", b"")


def with_the_old_key(served: Served, made: dict[str, Pair]) -> None:
    served.pair.put(served.other.certificate.read_bytes(), served.pair.key.read_bytes())


def with_the_old_certificate(served: Served, made: dict[str, Pair]) -> None:
    served.pair.put(served.pair.certificate.read_bytes(), served.other.key.read_bytes())


def gone(served: Served, made: dict[str, Pair]) -> None:
    served.pair.certificate.unlink()


def for_everybody_to_read(served: Served, made: dict[str, Pair]) -> None:
    served.pair.become(served.other)
    served.pair.key.chmod(0o644)


def expired(served: Served, made: dict[str, Pair]) -> None:
    served.pair.become(made["expired"])


def of_the_future(served: Served, made: dict[str, Pair]) -> None:
    served.clock.days = -2.0
    served.pair.become(served.other)


def too_large(served: Served, made: dict[str, Pair]) -> None:
    served.pair.put(b"#" * (1 << 20) + served.other.certificate.read_bytes(), served.other.key.read_bytes())


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (half_written, "no certificate in it"),
        (empty, "no certificate in it"),
        (with_the_old_key, r"tls\.key is not the key of .*tls\.crt"),
        (with_the_old_certificate, r"tls\.key is not the key of .*tls\.crt"),
        (gone, "cannot be read: No such file"),
        (for_everybody_to_read, "its mode is 0644"),
        (expired, "expired at"),
        (of_the_future, "is valid from .* on"),
        (too_large, "more than 1048576 bytes"),
    ],
)
async def test_a_bad_pair_is_refused_by_its_reason_and_the_one_before_stays(
    served: Served, made: dict[str, Pair], spoil: Callable[[Served, dict[str, Pair]], None], reason: str
) -> None:
    async with listening(served) as port:
        spoil(served, made)

        assert served.identity.look() is served.identity.look() is False

        with pytest.raises(InvalidParameter, match=reason):
            raise InvalidParameter(served.identity.refused)
        assert "the one before stays in force and ends at" in served.identity.told()
        assert await shown(port) == made["first"].der

        served.clock.days = 0.0
        served.pair.become(served.other)

        assert (served.identity.look(), served.identity.refused, served.identity.told()) == (True, "", "")
        assert await shown(port) == served.other.der


def test_a_pair_that_is_put_back_is_no_longer_refused(served: Served, made: dict[str, Pair]) -> None:
    with_the_old_key(served, made)
    served.identity.look()

    served.pair.become(made["first"])

    assert (served.identity.look(), served.identity.refused) == (False, "")


@pytest.mark.parametrize(
    ("days", "told"),
    [
        (385.0, ""),
        (386.5, "expires at .*, in 13 days"),
        (399.9, "in 0 days"),
        (400.5, "expired at .*: clients refuse it"),
    ],
)
def test_the_end_of_a_certificate_is_told_two_weeks_ahead(served: Served, days: float, told: str) -> None:
    served.clock.days = days
    served.identity.look()

    with pytest.raises(InvalidParameter, match=told or "^$"):
        raise InvalidParameter(served.identity.told())


def test_what_is_new_is_written_down_once_and_what_runs_out_once_a_day(
    served: Served,
) -> None:
    with capture_logs() as logged:
        for days in (0.0, 386.2, 386.3, 386.4, 387.2):
            served.clock.days = days
            served.identity.look()
        served.clock.days = 0.0
        served.pair.become(served.other)
        served.identity.look()
        served.identity.look()

    assert [each["event"] for each in logged] == ["certificate.expiring", "certificate.expiring", "certificate.renewed"]


def test_who_looks_at_what_another_presents_says_nothing(served: Served) -> None:
    served.identity.quiet = True
    served.pair.become(served.other)

    with capture_logs() as logged:
        assert served.identity.look()

    assert logged == []


def test_an_expired_pair_does_not_keep_a_start_from_happening(tmp_path: Path, made: dict[str, Pair]) -> None:
    pair = Pair(tmp_path / "tls.crt", tmp_path / "tls.key")
    pair.become(made["expired"])

    assert "clients refuse it" in Served(pair, pair).identity.told()


async def test_nothing_older_than_tls_1_2_is_spoken(served: Served) -> None:
    async with listening(served) as port:
        assert await spoken(port, TLSVersion.TLSv1_3) == "TLSv1.3"
        assert await spoken(port, TLSVersion.TLSv1_2) == "TLSv1.2"
        with pytest.warns(DeprecationWarning, match="TLSv1_1"), pytest.raises(trio.BrokenResourceError):
            await spoken(port, TLSVersion.TLSv1_1)
        # It is the identity that does not, for this client could.
        served.identity.context.in_force.set_ciphers("DEFAULT:@SECLEVEL=0")
        with pytest.warns(DeprecationWarning, match="TLSv1_1"):
            served.identity.context.in_force.minimum_version = TLSVersion.TLSv1_1
        with pytest.warns(DeprecationWarning, match="TLSv1_1"):
            assert await spoken(port, TLSVersion.TLSv1_1) == "TLSv1.1"


async def spoken(port: int, version: TLSVersion) -> str | None:
    """Return what is spoken with a client that speaks one version alone, however weak."""
    context = unverified()
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = version
    async with dialled(port, context) as stream:
        return cast("str | None", stream.version())


# Dates of certificates, in both ways to write them.


def test_the_dates_are_those_that_openssl_shows(made: dict[str, Pair]) -> None:
    validity = validity_of(made["first"].certificate.read_bytes())

    assert validity.ends_ms - validity.begins_ms == 400 * DAY_MS
    assert abs(validity.begins_ms - SystemClock().now_us() / 1_000) < DAY_MS


def test_dates_beyond_2049_are_read_too(tmp_path: Path) -> None:
    validity = validity_of(make_pair(tmp_path, days=365 * 60).certificate.read_bytes())

    assert validity.ends_ms > parse_iso("2080-01-01T00:00:00Z")


def test_the_first_certificate_of_a_chain_counts(made: dict[str, Pair]) -> None:
    chain = [made[name].certificate.read_bytes() for name in ("second", "expired")]

    assert validity_of(b"a comment\n" + b"".join(chain)) == validity_of(chain[0])


@given(st.binary(max_size=200))
def test_what_is_no_certificate_is_refused_and_breaks_nothing(content: bytes) -> None:
    for pem in (content, pem_of(content)):
        with pytest.raises(ValueError, match=r"certificate|cut off|dates|date|base64|padding|character"):
            validity_of(pem)


def test_a_certificate_that_is_damaged_or_cut_off_breaks_nothing(made: dict[str, Pair]) -> None:
    der = made["first"].der
    for place in range(len(der)):
        with suppress(ValueError):
            validity_of(pem_of(bytes((*der[:place], der[place] ^ 0x55, *der[place + 1 :]))))
        with pytest.raises(ValueError, match="cut off"):
            validity_of(pem_of(der[:place]))


def pem_of(der: bytes) -> bytes:
    return b"-----BEGIN CERTIFICATE-----\n%b\n-----END CERTIFICATE-----\n" % b64encode(der)
