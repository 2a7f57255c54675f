"""The doorstep: every program of pipaid starts here, so that its own packages are found before anybody else's."""

from __future__ import annotations

import sys
from pathlib import Path

from pipaid import __version__


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


def house() -> Path:
    """Put the folder that holds `actors` and `templates` first on sys.path, and return it.

    Both names are generic, so another distribution may have installed a package of the same name. In a wheel ours lie
    in a private folder beside this file; in a checkout they are its siblings, which an editable install only appends
    to the path. A worker process calls this before it imports either of them.
    """
    here = Path(__file__).resolve().parent
    private = here / "_house"
    home = private if private.is_dir() else here.parent
    entry = str(home)
    if sys.path[:1] != [entry]:
        sys.path[:] = [entry, *(other for other in sys.path if other != entry)]
    return home


def _answer_version(program: str) -> None:
    """Answer `--version` without importing anything that would take time."""
    if sys.argv[1:] == ["--version"]:
        sys.stdout.write(f"{program} {__version__}\n")
        raise SystemExit(0)
