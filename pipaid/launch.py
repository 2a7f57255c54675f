"""The doorstep: every program of pipaid starts here, so that its own packages are found before anybody else's."""

from __future__ import annotations

import sys
from typing import Final

from pipaid import __version__
from pipaid.home import house

# What Linux calls it: a signal that a process gets when its parent has gone, whatever ended that one.
PR_SET_PDEATHSIG: Final = 1


def admin() -> None:
    """Run `pipaid`, what a person types."""
    house()
    _answer_version("pipaid")

    from pipaid.cli.main import run

    run()


def daemon() -> None:
    """Run `pipaidd`, the daemon."""
    house()
    _answer_version("pipaidd")

    from actors.process import run

    run()


def daemon_of(parent: int) -> None:
    """Run a daemon for the one process that starts it: when that has gone, it ends in order."""
    import ctypes
    import os
    import signal

    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    # It may have gone before the kernel was asked.
    if os.getppid() != parent:
        raise SystemExit(0)
    daemon()


def api() -> None:
    """Run `pipaid-api`, the HTTP API."""
    house()
    _answer_version("pipaid-api")

    from pipaid.api.process import run

    run()


def _answer_version(program: str) -> None:
    """Answer `--version` without importing anything that would take time."""
    if sys.argv[1:] == ["--version"]:
        sys.stdout.write(f"{program} {__version__}\n")
        raise SystemExit(0)
