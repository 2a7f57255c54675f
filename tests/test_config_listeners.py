"""Where the daemon may listen, and what it takes to be heard by other machines."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipaid.config import Mistaken, examine, load_config
from tests.certificates import make_pair
from tests.test_config import examined, only_mistake, value_of, written
from tests.worlds import make_world


@pytest.mark.parametrize("section", ["stream", "http"])
@pytest.mark.parametrize(
    "host",
    [
        "0.0.0.0", "::", "0", "0x7f.1", "127.1", "2130706433", "192.168.1.5", "10.0.0.1", "169.254.1.1", "fe80::1",
        "::ffff:10.0.0.1", "::ffff:0.0.0.0", "8.8.8.8", "2001:db8::1", "example.org", "LOCALHOST", "localhost.",
        "localhost.example.org", "127.0.0.1.example.org",
    ],
)  # fmt: skip
def test_an_address_others_can_reach_needs_tls(tmp_path: Path, section: str, host: str) -> None:
    mistake = only_mistake(tmp_path, f'[{section}]\nport = 0\nhost = "{host}"')

    assert mistake.place.endswith("pipaid.toml:3")
    assert 'to: host = "127.0.0.1"' in mistake.remedy


def test_an_address_from_the_environment_is_refused_by_the_name_of_its_variable(tmp_path: Path) -> None:
    (mistake,) = examined(tmp_path, "", PIPAID__STREAM__HOST="0.0.0.0").mistakes

    assert "PIPAID__STREAM__HOST" in mistake.remedy


def test_a_process_that_somebody_else_starts_is_judged_by_itself_and_not_by_the_daemon(tmp_path: Path) -> None:
    path = written(tmp_path, '[http]\nmode = "separate"\nhost = "0.0.0.0"')

    assert load_config(path, make_world()).http.host == "0.0.0.0"
    assert [each.key for each in examine(path, make_world()).mistakes] == ["http.host"]
    with pytest.raises(Mistaken, match=r"http\.host"):
        load_config(written(tmp_path, '[http]\nhost = "0.0.0.0"'), make_world())


def test_the_http_api_is_heard_by_others_with_tls_only_and_may_name_any_address_while_it_is_off(tmp_path: Path) -> None:
    mistake = only_mistake(tmp_path, '[http]\nport = 0\nhost = "0.0.0.0"')
    assert (mistake.key, mistake.place[-13:]) == ("http.host", "pipaid.toml:3")
    assert "set tls_certificate and tls_key in [http]" in mistake.remedy

    assert examined(tmp_path, '[http]\nmode = "off"\nhost = "0.0.0.0"').config is not None
    tls_files(tmp_path)
    served = '[http]\nhost = "0.0.0.0"\ntls_certificate = "cert.pem"\ntls_key = "key.pem"'
    assert examined(tmp_path, served).config is not None


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_a_loopback_address_needs_none(tmp_path: Path, host: str) -> None:
    assert examined(tmp_path, f'[stream]\nhost = "{host}"').config is not None


def test_a_stream_that_is_off_may_name_any_address(tmp_path: Path) -> None:
    assert examined(tmp_path, '[stream]\nenabled = false\nhost = "0.0.0.0"').config is not None


def tls_files(folder: Path) -> tuple[Path, Path]:
    made = make_pair(folder)
    return made.certificate.rename(folder / "cert.pem"), made.key.rename(folder / "key.pem")


def test_tls_opens_other_addresses_when_the_key_is_kept(tmp_path: Path) -> None:
    _, key = tls_files(tmp_path)
    text = '[stream]\nhost = "0.0.0.0"\ntls_certificate = "cert.pem"\ntls_key = "key.pem"'

    assert examined(tmp_path, text).config is not None
    key.chmod(0o644)
    assert "its mode is 0644" in only_mistake(tmp_path, text).wrong
    key.chmod(0o600)
    key.write_text("not a key", encoding="utf-8")
    assert "cannot be used" in only_mistake(tmp_path, text).wrong


def test_half_of_tls_is_a_mistake(tmp_path: Path) -> None:
    found = examined(tmp_path, '[stream]\ntls_key = "key.pem"')

    assert [mistake.key for mistake in found.mistakes] == ["stream.tls_certificate"]


def test_tls_files_may_come_as_credentials(tmp_path: Path) -> None:
    certificate, key = tls_files(tmp_path)
    certificate.rename(tmp_path / "pipaid.tls-certificate")
    key.rename(tmp_path / "pipaid.tls-key")

    found = examined(tmp_path, '[stream]\nhost = "0.0.0.0"', CREDENTIALS_DIRECTORY=str(tmp_path))

    assert found.config is not None
    assert value_of(found, "stream.tls_key")[1] == "credential pipaid.tls-key"
