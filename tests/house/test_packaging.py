"""The wheel carries one top-level name, and what it installs runs beside a foreign package of the same name as ours."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from pathlib import Path

import pytest

from pipaid import __version__
from tests.house.tree import CODE, ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
TEMPLATES: dict[str, str] = PROJECT["entry-points"]["pipaid.templates"]
HOSTILE = "raise ImportError('a foreign package of this name was imported')\n"

# Loads each template as the daemon does, and tells which file it came from.
LIST_TEMPLATES = """
import json, sys
from importlib.metadata import entry_points
from pipaid import launch
launch.house()
found = {point.name: point.load() for point in entry_points(group="pipaid.templates")}
json.dump({name: sys.modules[kind.__module__].__file__ for name, kind in found.items()}, sys.stdout)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_wheel(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the wheel into an empty environment where somebody else already owns our two generic names."""
    environment = tmp_path_factory.mktemp("installed") / "env"
    run(sys.executable, "-m", "venv", "--without-pip", str(environment))
    (site_packages,) = environment.glob("lib/python*/site-packages")
    for name in ("actors", "templates"):
        plant(site_packages, name)
    run(sys.executable, "-m", "pip", "--quiet", "--python", str(environment / "bin" / "python"), "install",
        "--no-deps", "--no-index", "--disable-pip-version-check", str(wheel))  # fmt: skip
    # The dependencies are borrowed from the environment of the tests, behind everything installed here.
    (site_packages / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    return environment


def test_the_wheel_has_one_top_level_name(wheel: Path) -> None:
    tops = {name.partition("/")[0] for name in zipfile.ZipFile(wheel).namelist()}

    # The data folder is not imported: its files are placed under share/ on installation.
    assert tops - {f"pipaid-{__version__}.data"} == {"pipaid", f"pipaid-{__version__}.dist-info"}


def test_the_wheel_carries_every_source_file(wheel: Path) -> None:
    kinds = (".py", ".css", ".js")
    carried = {name for name in zipfile.ZipFile(wheel).namelist() if name.endswith(kinds)}

    homes = {"pipaid": "pipaid", "actors": "pipaid/_house/actors", "templates": "pipaid/_house/templates"}
    assert carried == {
        f"{homes[top]}/{path.relative_to(ROOT / top).as_posix()}"
        for top in CODE
        for path in (ROOT / top).rglob("*")
        if path.suffix in kinds
    }


def test_the_wheel_carries_units_and_configuration(wheel: Path) -> None:
    prefix = f"pipaid-{__version__}.data/data/share/pipaid/"
    carried = {name.removeprefix(prefix) for name in zipfile.ZipFile(wheel).namelist() if name.startswith(prefix)}

    assert {"systemd/pipaid.service", "config/pipaid.toml"} <= carried


def test_two_builds_are_the_same_to_the_byte(wheel: Path, tmp_path: Path) -> None:
    again = build_wheel(tmp_path)

    assert digest(again) == digest(wheel)


@pytest.mark.parametrize("program", sorted(PROJECT["scripts"]))
def test_an_installed_program_answers_its_version(installed: Path, program: str, tmp_path: Path) -> None:
    answer = run(str(installed / "bin" / program), "--version", cwd=tmp_path)

    assert answer == f"{program} {__version__}\n"


def test_an_installed_program_explains_itself(installed: Path, tmp_path: Path) -> None:
    answer = run(str(installed / "bin" / "pipaid"), "--help", cwd=tmp_path)

    assert "pipaid" in answer


def test_the_foreign_packages_would_win_without_the_doorstep(installed: Path, tmp_path: Path) -> None:
    for name in ("actors", "templates"):
        with pytest.raises(AssertionError, match="a foreign package of this name was imported"):
            run(str(installed / "bin" / "python"), "-c", f"import {name}", cwd=tmp_path)


@pytest.mark.parametrize("name", ["actors", "templates"])
def test_an_installed_generic_name_is_ours_beside_a_foreign_package(installed: Path, name: str, tmp_path: Path) -> None:
    ask = f"from pipaid import launch; launch.house(); import {name}; print({name}.__file__)"

    file = Path(run(str(installed / "bin" / "python"), "-c", ask, cwd=tmp_path).strip())

    assert file.is_relative_to(installed)
    assert file.parts[-4:] == ("pipaid", "_house", name, "__init__.py")


def test_installed_templates_are_ours_beside_a_foreign_package(installed: Path, tmp_path: Path) -> None:
    files = json.loads(run(str(installed / "bin" / "python"), "-c", LIST_TEMPLATES, cwd=tmp_path))

    assert files.keys() == TEMPLATES.keys()
    for name, file in files.items():
        assert Path(file).is_relative_to(installed), name
        assert "pipaid/_house/templates" in file, name


def test_templates_of_a_checkout_are_ours_beside_a_foreign_package(tmp_path: Path) -> None:
    plant(tmp_path, "templates")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}

    files = json.loads(run(sys.executable, "-c", LIST_TEMPLATES, cwd=tmp_path, environment=environment))

    assert files.keys() == TEMPLATES.keys()
    for name, file in files.items():
        assert Path(file).is_relative_to(ROOT / "templates"), name


def build_wheel(folder: Path) -> Path:
    """Build the wheel from the checkout, offline, with the locked build tools."""
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT))
    (wheel,) = folder.glob("*.whl")
    return wheel


def plant(folder: Path, name: str) -> None:
    """Put a package there that cannot be imported."""
    (folder / name).mkdir()
    (folder / name / "__init__.py").write_text(HOSTILE, encoding="utf-8")


def digest(path: Path) -> str:
    """Reduce a file to what tells it from any other."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def run(*command: str, cwd: Path = ROOT, environment: dict[str, str] | None = None) -> str:
    """Run a command that has to succeed, and return what it printed."""
    if environment is None:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
    return done.stdout
