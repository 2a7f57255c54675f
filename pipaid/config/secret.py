"""Secrets: a type that shows nothing of itself, and the master key from which API secrets are derived."""

from __future__ import annotations

import re
import stat
from pathlib import Path
from shlex import quote
from typing import Final, NoReturn

from pipaid.errors import InvalidParameter
from pipaid.seams import World

HIDDEN: Final = "[secret]"
MASTER_CREDENTIAL: Final = "pipaid.master"
MASTER_FILE: Final = "master.key"
MASTER_BYTES_MIN: Final = 32
SECRET_BYTES_MAX: Final = 64 * 1024
KEY_BYTES_MIN: Final = 8
KEY_BYTES_MAX: Final = 1_024


class Secret:
    """Bytes that only `reveal` shows; printing, formatting, comparing with `==` and pickling tell nothing."""

    __slots__ = ("_bytes",)

    def __init__(self, data: bytes) -> None:
        self._bytes = data

    def reveal(self) -> bytes:
        """Return the bytes, at the one place that needs them."""
        return self._bytes

    def __repr__(self) -> str:
        return HIDDEN

    def __format__(self, spec: str) -> str:
        return HIDDEN

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret does not leave the process")


def objection_to_mode(path: Path, *, uid: int) -> str | None:
    """Return why a file is no safe place for a secret, or nothing."""
    figures = path.stat()
    if not stat.S_ISREG(figures.st_mode):
        return "it is not a regular file"
    if figures.st_uid not in (0, uid):
        return f"it belongs to uid {figures.st_uid}; it must belong to uid {uid} or to root"
    mode = stat.S_IMODE(figures.st_mode)
    # systemd hands credentials over as 0440 to the service's own group, below a directory nobody else can enter.
    if mode & 0o037 or (mode & 0o040 and path.parent.stat().st_mode & 0o077 and figures.st_uid != 0):
        return f"its mode is {mode:04o}, so others may read it; run: chmod 600 {path}"
    return None


def read_secret(path: Path, world: World) -> Secret:
    """Read a secret from a file that nobody else may read; surrounding white space is not a part of it."""
    try:
        objection = objection_to_mode(path, uid=world.env.uid())
        data = b"" if objection else world.disk.read(path)
    except OSError as trouble:
        raise InvalidParameter(f"cannot read the secret in {path}: {trouble.strerror or trouble}") from None
    if objection:
        raise InvalidParameter(f"refused to read the secret in {path}: {objection}")
    data = data.strip()
    if not data or len(data) > SECRET_BYTES_MAX:
        raise InvalidParameter(f"the secret in {path} has {len(data)} bytes; 1 to {SECRET_BYTES_MAX} are allowed")
    return Secret(data)


def read_key(path: Path, world: World) -> Secret:
    """Read a key that is sent in a header: printable, in one word, and long enough to be hidden in the log."""
    key = read_secret(path, world)
    if not re.fullmatch(rb"[!-~]{%d,%d}" % (KEY_BYTES_MIN, KEY_BYTES_MAX), key.reveal()):
        raise InvalidParameter(
            f"what stands in {path} is no key: {KEY_BYTES_MIN} to {KEY_BYTES_MAX} printable characters without spaces"
        )
    return key


def credential_path(name: str, world: World) -> Path | None:
    """Return where systemd has put a credential, or nothing if it has not."""
    directory = world.env.variables().get("CREDENTIALS_DIRECTORY")
    if not directory:
        return None
    path = Path(directory) / name
    return path if world.disk.exists(path) else None


def master_key(state_dir: Path, world: World, *, holders: str = "") -> Secret:
    """Return the master key: the credential, else the 0600 file in the state directory, which is made once.

    `holders` says whose secrets derive from the one that there was: then none is made in its place.
    """
    path = credential_path(MASTER_CREDENTIAL, world)
    if path is None:
        path = state_dir / MASTER_FILE
        if not world.disk.exists(path):
            if holders:
                raise InvalidParameter(". ".join(lost_master_key(path, holders)))
            world.disk.write_atomically(path, world.ids.entropy(MASTER_BYTES_MIN).hex().encode() + b"\n", mode=0o600)
    key = read_secret(path, world)
    if len(key.reveal()) < MASTER_BYTES_MIN:
        raise InvalidParameter(
            f"the master key in {path} has {len(key.reveal())} bytes; at least {MASTER_BYTES_MIN} are needed; make one "
            "with: head -c 32 /dev/urandom | base64"
        )
    return key


def lost_master_key(path: Path, holders: str) -> tuple[str, str]:
    """Say that the master key in a file is lost, whose secrets went with it, and what to do about it."""
    path = path.absolute()
    found = (
        f"the master key is lost, and the secrets of {holders} derive from it: there is neither a credential "
        f"{MASTER_CREDENTIAL} nor the file {path}"
    )
    remedy = (
        f"Put it back from the backup. To begin anew: (umask 077; head -c 32 /dev/urandom | base64 > "
        f"{quote(str(path))}), then rotate every key and webhook, for the secrets that they have are good no more"
    )
    return found, remedy
