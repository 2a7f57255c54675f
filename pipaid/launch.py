"""The doorstep: every program of pipaid starts here, so that its own packages are found before anybody else's."""

from __future__ import annotations

import sys

from pipaid import __version__
from pipaid.home import house


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
