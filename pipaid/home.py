"""Where the generic names of ours lie: in a private folder of an installed wheel, beside `pipaid` in a checkout."""

from __future__ import annotations

import sys
from pathlib import Path


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
