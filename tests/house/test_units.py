"""The systemd units say what the daemon relies on, and lock it in as tightly as it can still work."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pipaid.config import load_config
from pipaid.wire.systemd import SOCKET_NAMES
from tests.house.tree import ROOT
from tests.worlds import make_world

FOLDER = ROOT / "systemd"
SERVICES = ("pipaid.service", "pipaid-api.service")
SOCKETS = ("pipaid.socket", "pipaid-observe.socket", "pipaid-forward.socket")
UNITS = (*SERVICES, *SOCKETS)

# Exposure levels are given to the program in tenths.
LOOPBACK_TENTHS_MAX = 9
PAPER_TENTHS_MAX = 2
CONNECTED_TENTHS_MAX = 11

EXPECTED = {
    "OOMPolicy": ["continue"],
    "Type": ["notify"],
    "NotifyAccess": ["main"],
    "ExecStart": ["/usr/bin/pipaidd --config /etc/pipaid/pipaid.toml"],
    "User": ["pipaid"],
    "StateDirectory": ["pipaid"],
    "RuntimeDirectory": ["pipaid"],
    "LoadCredential": ["pipaid.master:/etc/pipaid/credentials/master"],
    "WatchdogSec": ["10"],
    "WatchdogSignal": ["SIGABRT"],
    "Restart": ["on-failure"],
    "RestartPreventExitStatus": ["70 78"],
    "Environment": ["PIPAID__HTTP__MODE=separate"],
}
API = {
    "OOMPolicy": ["stop"],
    "Type": ["exec"],
    "ExecStart": ["/usr/bin/pipaid-api --config /etc/pipaid/pipaid.toml"],
    "User": ["pipaid-api"],
    "Group": ["pipaid-forward"],
    "Environment": ["PIPAID__HTTP__MODE=separate PIPAID__DAEMON__RUNTIME_DIR=/run/pipaid"],
    "Restart": ["on-failure"],
    "RestartPreventExitStatus": ["78"],
}
LOCKED = {
    "NoNewPrivileges": ["yes"],
    "CapabilityBoundingSet": [""],
    "AmbientCapabilities": [""],
    "ProtectSystem": ["strict"],
    "ProtectHome": ["yes"],
    **{f"Private{what}": ["yes"] for what in ("Tmp", "Devices", "Users", "IPC", "Mounts")},
    **{
        f"Protect{what}": ["yes"]
        for what in ("Clock", "ControlGroups", "Hostname", "KernelLogs", "KernelModules", "KernelTunables")
    },
    "ProtectProc": ["invisible"],
    "ProcSubset": ["pid"],
    "RestrictAddressFamilies": ["AF_UNIX AF_INET AF_INET6"],
    "IPAddressDeny": ["any"],
    "IPAddressAllow": ["localhost"],
    "RestrictNamespaces": ["yes"],
    "RestrictRealtime": ["yes"],
    "RestrictSUIDSGID": ["yes"],
    "LockPersonality": ["yes"],
    "MemoryDenyWriteExecute": ["yes"],
    "SystemCallArchitectures": ["native"],
    "SystemCallFilter": ["@system-service", "~@privileged @resources"],
    "SystemCallErrorNumber": ["EPERM"],
    "KeyringMode": ["private"],
    "RemoveIPC": ["yes"],
    "DevicePolicy": ["closed"],
    "UMask": ["0077"],
    "LimitCORE": ["0"],
    "KillMode": ["mixed"],
}


def directives(path: Path) -> dict[str, list[str]]:
    """Read a unit: each directive with its values, in order."""
    found: dict[str, list[str]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        if line and line[0] not in "#;[":
            name, _, value = line.partition("=")
            found.setdefault(name, []).append(value)
    return found


@pytest.mark.parametrize(("unit", "own"), list(zip(SERVICES, (EXPECTED, API), strict=True)))
def test_a_service_says_what_its_program_relies_on(unit: str, own: dict[str, list[str]]) -> None:
    service = directives(FOLDER / unit)
    expected = {**own, **LOCKED}

    assert {name: service.get(name) for name in expected} == expected
    assert (service["StartLimitIntervalSec"], service["StartLimitBurst"]) == (["300"], ["5"])
    assert "MemoryMax" in service
    assert "TasksMax" in service


def test_the_service_gives_the_daemon_time_to_stop() -> None:
    service = directives(FOLDER / "pipaid.service")

    assert (
        int(service["TimeoutStopSec"][0])
        > load_config(FOLDER.parent / "config/pipaid.toml", make_world()).daemon.shutdown_s
    )


def test_the_port_of_a_service_is_the_one_that_it_may_bind() -> None:
    config = load_config(FOLDER.parent / "config/pipaid.toml", make_world())
    assert_binds("pipaid.service", config.stream.port)
    assert_binds("pipaid-api.service", config.http.port)


def assert_binds(unit: str, port: int) -> None:
    service = directives(FOLDER / unit)

    assert service["SocketBindDeny"] == ["any"]
    assert service["SocketBindAllow"] == [f"ipv4:tcp:{port}", f"ipv6:tcp:{port}"]


def test_each_socket_bears_the_name_and_the_place_the_daemon_knows() -> None:
    config = load_config(None, make_world(RUNTIME_DIRECTORY="/run/pipaid"))
    expected = {
        "control": config.control_socket,
        "observe": config.observe_socket,
        "forward": config.forward_socket,
    }

    found: dict[str, Path] = {}
    for name in SOCKETS:
        unit = directives(FOLDER / name)
        found[unit["FileDescriptorName"][0]] = Path(unit["ListenStream"][0])
        assert unit["Service"] == ["pipaid.service"]
        assert unit["SocketMode"] == [config.control.mode]

    assert found == expected
    assert set(found) <= set(SOCKET_NAMES)


def test_users_and_groups_of_the_units_are_made() -> None:
    made = set(re.findall(r"^[ug] (\S+)", (FOLDER / "pipaid.sysusers").read_text(encoding="utf-8"), re.MULTILINE))

    wanted: set[str] = set()
    for name in UNITS:
        unit = directives(FOLDER / name)
        for directive in ("User", "Group", "SocketUser", "SocketGroup"):
            wanted.update(unit.get(directive, []))

    assert wanted == made


def test_folders_are_made_where_the_units_look() -> None:
    made = re.findall(r"^d (\S+)", (FOLDER / "pipaid.tmpfiles").read_text(encoding="utf-8"), re.MULTILINE)

    assert made == ["/etc/pipaid", "/etc/pipaid/credentials", "/run/pipaid"]


def analyzer() -> str:
    """Return the program that judges units; where systemd is missing, the tests above are all there is."""
    program = shutil.which("systemd-analyze")
    if program is None:
        assert not os.environ.get("CI"), "systemd-analyze is missing: install systemd in the image of the CI"
        pytest.skip("systemd-analyze is not on this machine, so nobody can ask it; install systemd to run this test")
    return program


def staged(folder: Path, *drop_ins: str) -> list[str]:
    """Copy the units to where they can be verified: with a program that is there, and with drop-ins in force."""
    for name in UNITS:
        text = (FOLDER / name).read_text(encoding="utf-8")
        (folder / name).write_text(re.sub(r"/usr/bin/pipaid(d|-api)", sys.executable, text), encoding="utf-8")
    if drop_ins:
        (folder / "pipaid.service.d").mkdir()
    for name in drop_ins:
        shutil.copy(FOLDER / "drop-ins" / name, folder / "pipaid.service.d")
    return [str(folder / name) for name in UNITS]


def verdict(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_the_units_are_verified_without_a_word(tmp_path: Path) -> None:
    done = verdict(analyzer(), "verify", "--man=no", *staged(tmp_path))

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_verifier_would_find_a_mistake(tmp_path: Path) -> None:
    program = analyzer()
    units = staged(tmp_path)
    service = tmp_path / "pipaid.service"
    service.write_text(service.read_text(encoding="utf-8").replace("KillMode=mixed", "KillMode=mixd"), encoding="utf-8")

    assert "mixd" in verdict(program, "verify", "--man=no", *units).stderr


@pytest.mark.parametrize(
    ("unit", "drop_ins", "tenths_max"),
    [
        ("pipaid.service", (), LOOPBACK_TENTHS_MAX),
        ("pipaid.service", ("paper.conf",), PAPER_TENTHS_MAX),
        ("pipaid.service", ("webhooks.conf",), CONNECTED_TENTHS_MAX),
        ("pipaid.service", ("models.conf",), CONNECTED_TENTHS_MAX),
        ("pipaid-api.service", (), LOOPBACK_TENTHS_MAX),
    ],
)
def test_a_service_is_locked_in(tmp_path: Path, unit: str, drop_ins: tuple[str, ...], tenths_max: int) -> None:
    service = staged(tmp_path, *drop_ins)[UNITS.index(unit)]

    done = verdict(analyzer(), "security", "--offline=yes", f"--threshold={tenths_max}", "--no-pager", service)

    assert done.returncode == 0, done.stdout.splitlines()[-1]
