"""The daemon looks at the certificates of its listeners by itself, and tells what there is to tell of all of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trio
from attrs import define, field
from trio.testing import MockClock

from actors.certificates import Certificates
from actors.surfaces import certificates_of
from pipaid.config.sections import Http, Sections, Stream
from pipaid.errors import InvalidParameter
from pipaid.model.condition import Condition
from pipaid.seams import SystemClock, World
from pipaid.wire.identity import LOOK_EVERY_S
from tests.certificates import Pair, make_pair

pytestmark = pytest.mark.usefixtures("logged")


class Waiting(SystemClock):
    """The wall clock as it is, and pauses that a test can make pass."""

    async def sleep(self, seconds: float) -> None:
        await trio.sleep(seconds)


@define
class Told:
    """Conditions that remember what they were told last."""

    detail: str = ""
    reloads: int = 0

    def enter(self, condition: Condition, detail: str) -> None:
        assert condition is Condition.CERTIFICATE
        self.detail = detail

    def leave(self, condition: Condition) -> None:
        assert condition is Condition.CERTIFICATE
        self.detail = ""

    def reload(self) -> None:
        self.reloads += 1


@define
class Files:
    """The pair of the stream and the pair of the HTTP API."""

    folder: Path
    told: Told = field(factory=Told)
    stream: Pair = field(init=False)
    http: Pair = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.stream, self.http = make_pair(self.folder, "stream"), make_pair(self.folder, "http")

    def kept(self, mode: Any) -> Certificates:
        """Return what keeps them in a daemon whose HTTP API is run like that."""
        stream = Stream(tls_certificate=self.stream.certificate, tls_key=self.stream.key)
        http = Http(mode=mode, tls_certificate=self.http.certificate, tls_key=self.http.key)
        front: Any = self.told
        return certificates_of(Sections(stream=stream, http=http), World(clock=Waiting()), self.told, front)


async def test_a_file_that_changes_is_taken_without_a_word_from_anybody(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    files = Files(tmp_path)
    kept = files.kept("child")
    async with trio.open_nursery() as nursery:
        await nursery.start(kept.run)
        before = kept.identities[0].context.in_force
        files.stream.put(files.http.certificate.read_bytes(), files.stream.key.read_bytes())

        await trio.sleep(LOOK_EVERY_S + 1)

        assert kept.identities[0].context.in_force is before
        assert "is not the key of" in files.told.detail

        files.stream.become(files.http)
        await trio.sleep(LOOK_EVERY_S)

        assert kept.identities[0].context.in_force is not before
        assert files.told.detail == ""
        nursery.cancel_scope.cancel()


def test_a_reload_says_what_was_taken_and_tells_the_child(tmp_path: Path) -> None:
    files = Files(tmp_path)
    kept = files.kept("child")

    assert kept.reload() == []
    files.stream.become(make_pair(tmp_path, "later"))
    assert kept.reload() == ["stream.tls_certificate"]
    files.http.become(make_pair(tmp_path, "later"))
    assert kept.reload() == ["http.tls_certificate"]
    files.http.certificate.unlink()
    with pytest.raises(InvalidParameter, match=r"^http: .*http.crt cannot be read: No such file"):
        kept.reload()
    assert files.told.reloads == 4


def test_of_a_process_that_somebody_else_starts_the_end_is_told_and_nothing_else(tmp_path: Path) -> None:
    files = Files(tmp_path)
    files.http.key.unlink()
    kept = files.kept("separate")

    kept.look()
    assert (files.told.detail, [each.name for each in kept.identities]) == ("", ["stream"])

    files.http.become(make_pair(tmp_path, "soon", days=3))
    files.stream.become(files.http)
    kept.look()
    assert files.told.detail.startswith(f"stream: {files.stream.certificate} expires at ")
    assert f"; http: {files.http.certificate} expires at " in files.told.detail

    files.http.certificate.write_text("cannot be read", encoding="ascii")
    kept.look()
    assert "http:" not in files.told.detail


@pytest.mark.parametrize(("enabled", "mode", "names"), [(True, "off", ["stream"]), (False, "child", ["http"])])
def test_what_is_switched_off_has_no_certificate(tmp_path: Path, enabled: bool, mode: Any, names: list[str]) -> None:
    pair = make_pair(tmp_path)
    stream = Stream(enabled=enabled, tls_certificate=pair.certificate, tls_key=pair.key)
    http = Http(mode=mode, tls_certificate=pair.certificate, tls_key=pair.key)
    kept = certificates_of(Sections(stream=stream, http=http), World(), Told(), None)

    assert [each.name for each in kept.identities] == names
    assert (kept.context_of("stream") is not None) == enabled
    assert kept
    assert not certificates_of(Sections(), World(), Told(), None)
