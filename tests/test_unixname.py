"""Unix sockets are found however deep they lie, and nothing stays open for it."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from pipaid.unixname import NAME_BYTES_MAX, unix_name

# With the slash and the name of the socket, as long as the kernel takes a path as it is.
FITTING = NAME_BYTES_MAX - len("/s")


@pytest.mark.parametrize(
    ("folder", "as_it_is"),
    [("d" * FITTING, True), ("d" * (FITTING + 1), False), ("d" * 250, False), ("ü" * (FITTING // 2 + 1), False)],
    ids=["the longest name", "one byte more", "far more", "fewer characters than bytes"],
)
def test_a_socket_is_found_at_a_path_of_any_length(
    folder: str, as_it_is: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = Path(folder, "s")
    path.parent.mkdir()
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        with unix_name(path) as name:
            assert (name == str(path)) is as_it_is
            server.bind(name)
        server.listen()
        with unix_name(path) as name:
            client.connect(name)


def test_the_folder_is_open_no_longer_than_the_name_is_needed(tmp_path: Path) -> None:
    folder = tmp_path / ("d" * 200)
    folder.mkdir()

    with unix_name(folder / "s") as name:
        opened = os.stat(Path(name).parent)

    assert opened.st_ino == os.stat(folder).st_ino
    assert not Path(name).parent.exists()
