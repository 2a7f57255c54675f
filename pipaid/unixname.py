"""Names of Unix sockets: the kernel takes 107 bytes, and folders lie deeper than that."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

# `sun_path` of unix(7) without the zero byte at its end.
NAME_BYTES_MAX: Final = 107


@contextmanager
def unix_name(path: Path) -> Generator[str]:
    """Yield a name by which the kernel finds a Unix socket: its path, or one by way of its open folder."""
    if len(os.fsencode(path)) <= NAME_BYTES_MAX:
        yield str(path)
        return
    folder = os.open(path.parent, os.O_PATH | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
