"""Foreign templates, installed as a person would: by pip, into a folder that is on the daemon's path."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.surfaces.daemons import ROOT


def install(name: str, folder: Path) -> dict[str, str]:
    """Install one of the packages that stand in `tests/`, and return the environment in which a daemon finds it."""
    source, site = folder / "source", folder / "site"
    shutil.copytree(ROOT / "tests" / name, source)
    words = ["install", "--quiet", "--disable-pip-version-check", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([sys.executable, "-m", "pip", *words, "--target", str(site), str(source)], check=True)
    return {"PYTHONPATH": os.pathsep.join([str(ROOT), str(site)])}
