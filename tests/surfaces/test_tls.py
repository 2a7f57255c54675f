"""Certificates of a real daemon and of its web process: replaced while both go on, told of before they run out."""

from __future__ import annotations

import os
import signal
from collections.abc import Generator
from pathlib import Path
from ssl import SSLSocket, create_default_context

import pytest
from attrs import frozen

from pipaid.errors import InvalidParameter, Unavailable
from tests.certificates import Pair, certificate_of, connected, make_pair, shown
from tests.surfaces.api import SEPARATE, Api, serving
from tests.surfaces.daemon import GRID, Daemon, running
from tests.surfaces.scripts import WAYS, client_in

ASK = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"
UPGRADE = (
    b"GET /v1/ws HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


@frozen
class Pairs:
    """The pair in the files that are served, and those that may take its place."""

    served: Pair
    first: Pair
    second: Pair
    expired: Pair
    soon: Pair


@frozen
class Home:
    """A daemon with its web process, both behind TLS."""

    daemon: Daemon
    pairs: Pairs

    @property
    def ports(self) -> tuple[int, int]:
        return self.daemon.stream_port, int(self.daemon.said("http.listening")[-1]["port"])

    def reload(self) -> None:
        """Have it read its files, and wait until the web process has done so too."""
        before = len(self.daemon.said("http.reloaded"))
        try:
            self.daemon.ask("reload")
        finally:
            self.daemon.wait_for(lambda: len(self.daemon.said("http.reloaded")) > before)

    def told(self) -> list[str]:
        """Return what is said of certificates at a glance."""
        conditions = self.daemon.ask("status")["conditions"]
        return [each["detail"] for each in conditions if each["condition"] == "certificate"]


def pairs_in(folder: Path) -> Pairs:
    served = Pair(folder / "served.crt", folder / "served.key")
    folder.mkdir(parents=True, exist_ok=True)
    pairs = Pairs(
        served,
        make_pair(folder, "first"),
        make_pair(folder, "second"),
        make_pair(folder, "expired", expired=True),
        make_pair(folder, "soon", days=13),
    )
    served.become(pairs.first)
    return pairs


def variables(pairs: Pairs, *sections: str) -> dict[str, str]:
    return {
        f"PIPAID__{section}__TLS_{name}": str(path)
        for section in sections
        for name, path in (("CERTIFICATE", pairs.served.certificate), ("KEY", pairs.served.key))
    }


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Generator[Home, None, None]:
    folder = tmp_path_factory.mktemp("tls")
    pairs = pairs_in(folder / "pairs")
    given = {"PIPAID__HTTP__MODE": "child", **variables(pairs, "STREAM", "HTTP")}
    with running(folder, SEPARATE, variables=given) as daemon:
        daemon.wait_for(lambda: daemon.said("http.listening"))
        yield Home(daemon, pairs)


@pytest.fixture(autouse=True)
def as_at_first(request: pytest.FixtureRequest) -> None:
    """Begin each test of the shared daemon with the first pair in force."""
    if "home" in request.fixturenames:
        home: Home = request.getfixturevalue("home")
        home.pairs.served.become(home.pairs.first)
        home.reload()


def answered(connection: SSLSocket, asked: bytes) -> bytes:
    """Return the first line of the answer to a request."""
    connection.sendall(asked)
    head = b""
    while b"\r\n" not in head:
        piece = connection.recv(65_536)
        assert piece, "it was cut off"
        head += piece
    return head.partition(b"\r\n")[0]


@pytest.mark.parametrize("how", ["operation", "signal"])
def test_a_reload_shows_the_new_certificate_and_cuts_nobody_off(home: Home, how: str) -> None:
    stream, http = home.ports
    with connected(stream) as old_stream, connected(http) as old_http:
        home.pairs.served.become(home.pairs.second)

        if how == "operation":
            changed = home.daemon.ask("reload")["changed"]
            assert changed == ["stream.tls_certificate", "http.tls_certificate"]
        else:
            os.kill(home.daemon.pid, signal.SIGHUP)
        home.daemon.wait_for(lambda: shown(http) == home.pairs.second.der)
        home.daemon.wait_for(lambda: shown(stream) == home.pairs.second.der)

        assert certificate_of(old_stream) == certificate_of(old_http) == home.pairs.first.der
        assert answered(old_stream, UPGRADE) == b"HTTP/1.1 101 Switching Protocols"
        assert answered(old_http, ASK) == b"HTTP/1.1 200 OK"
        assert home.told() == []


def test_behind_tls_the_stream_answers_to_any_name_for_the_certificate_proves_it(home: Home) -> None:
    with connected(home.ports[0]) as named, connected(home.ports[0]) as foreign:
        asked = UPGRADE.replace(b"127.0.0.1", b"desk.example.org:5002")

        assert answered(named, asked) == b"HTTP/1.1 101 Switching Protocols"
        elsewhere = asked.replace(b"\r\n\r\n", b"\r\nOrigin: https://example.com\r\n\r\n")
        assert answered(foreign, elsewhere) == b"HTTP/1.1 403 Refused"


def test_a_pair_that_does_not_match_changes_nothing_and_is_told_everywhere(home: Home) -> None:
    home.pairs.served.put(home.pairs.second.certificate.read_bytes(), home.pairs.first.key.read_bytes())

    with pytest.raises(InvalidParameter, match="is not the key of"):
        home.reload()

    assert [shown(port) for port in home.ports] == [home.pairs.first.der] * 2
    (told,) = home.told()
    assert told.startswith(
        f"stream: {home.pairs.served.key} is not the key of {home.pairs.served.certificate}; the one"
    )
    refused = [each["detail"].partition(":")[0] for each in home.daemon.said("certificate.refused")]
    assert refused[-2:] in (["stream", "http"], ["http", "stream"])
    assert "certificate" in home.daemon.pipaid("status")


def test_a_new_pair_that_has_expired_is_not_taken(home: Home) -> None:
    home.pairs.served.become(home.pairs.expired)

    with pytest.raises(InvalidParameter, match=r"expired at .*; the one before stays in force"):
        home.reload()

    assert [shown(port) for port in home.ports] == [home.pairs.first.der] * 2


def test_a_certificate_that_runs_out_within_two_weeks_is_told(home: Home) -> None:
    home.pairs.served.become(home.pairs.soon)

    home.reload()

    assert [shown(port) for port in home.ports] == [home.pairs.soon.der] * 2
    (told,) = home.told()
    assert told.count("in 12 days") == 2


def test_a_process_of_its_own_takes_a_new_certificate_at_a_signal(tmp_path: Path) -> None:
    pairs = pairs_in(tmp_path / "pairs")
    with serving(tmp_path / "daemon", variables=variables(pairs, "HTTP")) as api, connected(api.port) as old:
        pairs.served.become(pairs.second)
        hang_up(api)

        assert shown(api.port) == pairs.second.der
        assert answered(old, ASK) == b"HTTP/1.1 200 OK"
        assert certificate_of(old) == pairs.first.der

        pairs.served.become(pairs.expired)
        hang_up(api)

        assert shown(api.port) == pairs.second.der
        assert "expired at" in api.said("certificate.refused")[-1]["detail"]
        with connected(api.port) as asking:
            asking.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            figures = b"".join(iter(lambda: asking.recv(65_536), b""))
        assert b"\npipaid_http_certificate_ends_seconds 1" in figures


def hang_up(api: Api) -> None:
    """Tell the process as `systemctl reload` does, and wait until it has looked."""
    assert api.process is not None
    before = len(api.said("http.reloaded"))
    api.process.send_signal(signal.SIGHUP)
    api.daemon.wait_for(lambda: len(api.said("http.reloaded")) > before)


def test_the_daemon_tells_of_a_certificate_whose_key_is_not_for_it(tmp_path: Path) -> None:
    pairs = pairs_in(tmp_path / "pairs")
    pairs.served.become(pairs.soon)
    pairs.served.key.unlink()
    given = {"PIPAID__HTTP__MODE": "separate", "PIPAID__HTTP__HOST": "0.0.0.0", **variables(pairs, "HTTP")}
    with running(tmp_path / "daemon", variables=given) as daemon:
        (condition,) = daemon.ask("status")["conditions"]

    assert condition["condition"] == "certificate"
    assert condition["detail"].startswith(f"http: {pairs.served.certificate} expires at")
    assert condition["blocks_entries"] is False


def test_without_a_certificate_a_signal_ends_nothing(tmp_path: Path) -> None:
    with serving(tmp_path) as api:
        hang_up(api)

        assert api.user().send("GET", "/v1/strategies").status_code == 200


@pytest.mark.parametrize("way", WAYS)
def test_a_script_trusts_whom_it_was_told_to_at_both_doors(home: Home, way: str) -> None:
    stream_port, http_port = home.ports
    user = home.daemon.ask("key.create", name="script", scopes=["trade"])
    key = (user["api_key"], user["secret"], f"https://127.0.0.1:{http_port}")
    stream = f"wss://127.0.0.1:{stream_port}/v1/ws"
    trusted = create_default_context(cafile=str(home.pairs.served.certificate))
    with client_in(way, *key, stream=stream, tls=trusted) as client:
        made = client.ask("strategy.create", name=f"by tls {way}", **GRID)
        client.ask("strategy.deploy", id=made["id"], dry_run=True)
        assert client.first_event(made["id"])["event"] == "deployed"

    with client_in(way, *key, stream=stream, patience_s=0.2) as doubting:
        with pytest.raises(Unavailable, match="CERTIFICATE_VERIFY_FAILED"):
            doubting.ask("strategy.list")
        with pytest.raises(Unavailable, match="CERTIFICATE_VERIFY_FAILED"):
            doubting.first_event("*")
