"""What may be wrong with an installation, looked at without changing it: each finding with its remedy."""

from __future__ import annotations

import os
import platform
import resource
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from enum import StrEnum
from pathlib import Path
from typing import Final

import msgspec
import trio
from attrs import frozen

from pipaid.config import Declaration, Examined
from pipaid.config.certificate import end_told, validity_of_file
from pipaid.config.secret import MASTER_BYTES_MIN, MASTER_FILE, credential_path, lost_master_key, read_secret
from pipaid.config.secret import MASTER_CREDENTIAL as MASTER
from pipaid.config.sections import Http, Sections, Stream
from pipaid.config.sense import is_loopback
from pipaid.engine.params import structure_params
from pipaid.errors import InvalidParameter, PipaidError
from pipaid.model.moment import iso_seconds
from pipaid.model.report import DaemonStatus
from pipaid.plugins import Catalogue, load_templates
from pipaid.seams import World
from pipaid.storage.connection import SQLITE_MIN, connect_to_read, damaged, gone_by_witness, unusable, witness_path
from pipaid.storage.derived import holders
from pipaid.storage.reading import SqliteReader
from pipaid.storage.schema import SCHEMA, require_known
from pipaid.storage.store import JournalUnusable
from pipaid.storage.witness import decode_witness
from pipaid.wire.client import BlockingClient

PYTHON_MIN: Final = (3, 11)
PYTHON_MAX: Final = (3, 13)
JOURNAL_NAME: Final = "journal.db"
FREE_BYTES_GOOD: Final = 1024 * 1024 * 1024
# What a daemon keeps open besides its clients: journal, log, black box, sockets, the loop's own.
DESCRIPTORS_BESIDES: Final = 64
CONNECT_S_MAX: Final = 2.0
# A clock before the first release is wrong, whatever it says.
RELEASED_MS: Final = 1_767_225_600_000
CENTURY_MS: Final = 4_102_444_800_000
CLOCK_LEAP_MS: Final = 60_000


class Verdict(StrEnum):
    """How bad a finding is."""

    GOOD = "good"
    WARNING = "warning"
    BAD = "bad"


@frozen
class Finding:
    """One thing that was looked at: what was found, and what to do about it unless it is good."""

    name: str
    verdict: Verdict
    found: str
    remedy: str = ""


@frozen
class _Patient:
    """What the checks look at."""

    sections: Sections
    examined: Examined
    world: World
    answers: bool

    @property
    def state_dir(self) -> Path:
        return self.sections.daemon.state_dir

    @property
    def journal(self) -> Path:
        return self.state_dir / JOURNAL_NAME


def diagnose(examined: Examined, world: World) -> list[Finding]:
    """Look at everything a daemon with this configuration depends on; nothing leaves this machine."""
    sections = examined.sections
    answers = trio.run(_answers, sections.control_socket, world)
    patient = _Patient(sections, examined, world, answers)
    return [finding for _, check in CHECKS for finding in check(patient)]


def _good(name: str, found: str) -> Finding:
    return Finding(name, Verdict.GOOD, found)


def _bad(name: str, found: str, remedy: str) -> Finding:
    return Finding(name, Verdict.BAD, found, remedy)


def _warning(name: str, found: str, remedy: str) -> Finding:
    return Finding(name, Verdict.WARNING, found, remedy)


def _python(patient: _Patient) -> Iterator[Finding]:
    version = platform.python_version()
    if PYTHON_MIN <= sys.version_info[:2] <= PYTHON_MAX:
        yield _good("python", version)
    else:
        yield _bad(
            "python", f"{version} is not supported", "install Python 3.11, 3.12 or 3.13 and install pipaid there"
        )
    if sys.flags.optimize:
        yield _bad("assertions", "python runs with -O, which removes the checks of invariants", "unset PYTHONOPTIMIZE")


def _sqlite(patient: _Patient) -> Iterator[Finding]:
    wanted = ".".join(map(str, SQLITE_MIN))
    if sqlite3.sqlite_version_info >= SQLITE_MIN:
        yield _good("sqlite", sqlite3.sqlite_version)
    else:
        found = f"{sqlite3.sqlite_version} is too old for the journal"
        yield _bad("sqlite", found, f"use a Python that was built with SQLite {wanted} or later")


def _configuration(patient: _Patient) -> Iterator[Finding]:
    mistakes = patient.examined.mistakes
    for mistake in mistakes:
        subject = f"{mistake.key}: " if mistake.key else ""
        yield _bad("configuration", f"{mistake.place}: {subject}{mistake.wrong}", mistake.remedy)
    if not mistakes:
        own = sum(1 for value in patient.examined.values if value.source != "default")
        where = patient.examined.file or "the built-in defaults"
        yield _good(
            "configuration",
            f"no mistakes in {where}; {own} of {len(patient.examined.values)} values are not the default",
        )


def _templates(patient: _Patient) -> Iterator[Finding]:
    catalogue = load_templates()
    for name, reason in catalogue.broken.items():
        yield _bad("templates", f"{name} cannot be used: {reason}", "mend or uninstall the package it comes from")
    if catalogue.templates:
        yield _good("templates", ", ".join(catalogue.templates))
    else:
        yield _bad("templates", "none were found", "reinstall pipaid: its entry points are missing")
    config = patient.examined.config
    for declaration in config.declarations if config else ():
        yield from _declaration(declaration, catalogue)


def _declaration(declaration: Declaration, catalogue: Catalogue) -> Iterator[Finding]:
    place = f'{declaration.source}: "{declaration.name}"'
    try:
        structure_params(
            catalogue.get(declaration.template_id),
            declaration.params,
            symbols=declaration.symbols,
            timeframe=declaration.timeframe,
            capital=declaration.capital,
        )
    except InvalidParameter as refusal:
        for key, reason in refusal.details or (("", refusal.message),):
            yield _bad("strategies", f"{place}: {key}: {reason}", "correct it there; `pipaid template list` shows them")


def _state(patient: _Patient) -> Iterator[Finding]:
    path = patient.state_dir
    parent = next(each for each in (path, *path.absolute().parents) if each.exists())
    if not parent.is_dir():
        yield _bad("state directory", f"{parent} is not a directory", f"move it aside, or set state_dir: {path}")
        return
    if not os.access(parent, os.W_OK | os.X_OK):
        mend = f"run as the user who owns it, or: chown {patient.world.env.uid()} {parent}"
        yield _bad("state directory", f"{parent} cannot be written to", mend)
        return
    if parent != path:
        yield _good("state directory", f"{path} will be made in {parent}")
    elif path.stat().st_mode & 0o022:
        yield _warning("state directory", f"{path} can be written to by others", f"chmod go-w {path}")
    else:
        yield _good("state directory", f"{path} can be written to")
    free = patient.world.disk.free_bytes(parent)
    told = f"{free / 1024**3:.1f} GiB are free" if free >= 1024**3 else f"{free // 1024**2} MiB are free"
    if free < patient.sections.journal.free_bytes_min:
        yield _bad("disk", told, "make room: a journal that cannot be written ends trading")
    elif free < FREE_BYTES_GOOD:
        yield _warning("disk", told, "make room before the journal needs it")
    else:
        yield _good("disk", told)


def _journal(patient: _Patient) -> Iterator[Finding]:
    path = patient.journal
    if (missing := gone_by_witness(path, patient.world.disk)) is not None:
        yield _damaged(missing)
        return
    if not path.exists():
        yield _good("journal", "there is none yet; the daemon makes it at its first start")
        return
    try:
        with closing(connect_to_read(path)) as connection:
            schema = require_known(connection, path)
            (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    except PipaidError as refusal:
        yield _bad("journal", refusal.message, f"pipaid journal verify --state {patient.state_dir}")
        return
    except sqlite3.Error as trouble:
        yield _damaged(unusable(path, trouble))
        return
    size = f"{path}, {path.stat().st_size / 1024**2:.1f} MiB, schema {schema}"
    if found != "ok":
        yield _damaged(damaged(path, found))
    elif schema < SCHEMA:
        yield _warning("journal", size, f"the next start brings it to schema {SCHEMA} and keeps a backup")
    else:
        yield _good("journal", f"{size}; `pipaid journal verify` checks every record")


def _damaged(trouble: JournalUnusable) -> Finding:
    """Tell what the daemon tells when it refuses to start: what is wrong, and then the way back."""
    found, _, remedy = trouble.message.partition(". ")
    return _bad("journal", found, remedy or "check its owner, mode and disk, then start the daemon")


def _lock(patient: _Patient) -> Iterator[Finding]:
    path = witness_path(patient.journal)
    if not patient.world.disk.exists(path):
        yield _good("lock", "free: no daemon has run on this state yet")
        return
    try:
        patient.world.disk.hold(path).release()
    except BlockingIOError:
        witness = decode_witness(patient.world.disk.read(path))
        holder = f"process {witness.pid}" if witness else "a process"
        if patient.answers:
            yield _good("lock", f"{holder} holds it and answers")
        else:
            remedy = (
                "give it a moment if it is starting or stopping; otherwise look at it with: systemctl status pipaid"
            )
            yield _warning("lock", f"{holder} holds it, and nothing answers on the control socket", remedy)
    except OSError as trouble:
        yield _bad("lock", f"{path} cannot be opened: {trouble.strerror}", "run as the user whose daemon it is")
    else:
        yield _good("lock", "free: no daemon runs on this state")


def _socket(patient: _Patient) -> Iterator[Finding]:
    path = patient.sections.control_socket
    if patient.answers:
        yield _good("control socket", f"{path} is answered")
    elif not path.exists():
        yield _warning("control socket", f"{path} is not there: no daemon runs", "start it: pipaidd --config FILE")
    elif not os.access(path, os.R_OK | os.W_OK):
        remedy = "join the group that owns it: sudo usermod -aG pipaid-operate $USER, then log in again"
        yield _bad("control socket", f"{path} may not be used by uid {patient.world.env.uid()}", remedy)
    else:
        yield _warning(
            "control socket", f"{path} is there and nobody answers", "start the daemon; it replaces the file"
        )


def _conditions(patient: _Patient) -> Iterator[Finding]:
    """Tell what the daemon that runs says of itself."""
    if not patient.answers:
        return
    try:
        with BlockingClient(patient.sections.control_socket, answer_s=CONNECT_S_MAX) as client:
            status = msgspec.json.decode(client.call("status"), type=DaemonStatus)
    except (PipaidError, OSError, msgspec.MsgspecError) as trouble:
        remedy = "look at its log: journalctl -u pipaid"
        yield _warning("daemon", f"it does not say how it is: {trouble}", remedy)
        return
    for each in status.conditions:
        yield _warning("daemon", f"{each.condition} since {each.since}: {each.detail}; {each.means}", each.remedy)
    if not status.conditions:
        yield _good("daemon", f"it is {status.state}, and nothing keeps it from anything")


def _stream(patient: _Patient) -> Iterator[Finding]:
    stream = patient.sections.stream
    yield from _port(patient, "stream", stream, wanted=stream.enabled)


def _http(patient: _Patient) -> Iterator[Finding]:
    http = patient.sections.http
    yield from _port(patient, "http", http, wanted=http.mode != "off")


def _port(patient: _Patient, section: str, surface: Stream | Http, *, wanted: bool) -> Iterator[Finding]:
    place = f"{surface.host} port {surface.port}"
    if not wanted:
        yield _good(section, "it is switched off")
        return
    if patient.examined.config is None and not is_loopback(surface.host):
        # An address that the configuration may not have is not listened on either, not even for a moment.
        return
    try:
        trio.run(_try_to_listen, surface.host, surface.port, patient.world)
    except OSError as trouble:
        if patient.answers:
            yield _good(section, f"{place} is taken, by the daemon that answers")
        else:
            remedy = f"see who has it with: ss -ltnp 'sport = :{surface.port}', or set another port in [{section}]"
            yield _bad(section, f"nobody can listen on {place}: {trouble.strerror or trouble}", remedy)
    else:
        yield _good(section, f"{place} is free")


def _certificates(patient: _Patient) -> Iterator[Finding]:
    """Tell until when the certificates of the surfaces are good; what is wrong with a pair is told by its mistake."""
    stream, http = patient.sections.stream, patient.sections.http
    used = [("stream", stream.tls_certificate)] if stream.enabled else []
    used += [("http", http.tls_certificate)] if http.mode != "off" else []
    for section, path in used:
        if path is None:
            continue
        try:
            validity = validity_of_file(path, patient.world)
        except InvalidParameter as trouble:
            remedy = f"let the user who serves it look: openssl x509 -noout -enddate -in {path}"
            yield _warning("certificate", f"{section}: {trouble.message}", remedy)
            continue
        now_ms = patient.world.clock.now_us() // 1000
        told = end_told(path, validity, now_ms)
        remedy = "put a new one and its key in their place, then: pipaid reload"
        if not told:
            yield _good("certificate", f"{section}: {path} is good until {iso_seconds(validity.ends_ms)}")
        elif validity.ends_ms <= now_ms:
            yield _bad("certificate", f"{section}: {told}", remedy)
        else:
            yield _warning("certificate", f"{section}: {told}", remedy)


def _clock(patient: _Patient) -> Iterator[Finding]:
    now_ms = patient.world.clock.now_us() // 1000
    remedy = "set it right and keep it so: timedatectl set-ntp true"
    if not RELEASED_MS <= now_ms <= CENTURY_MS:
        yield _bad("clock", f"it is {now_ms // 1000} s after 1970 by the clock, which cannot be", remedy)
        return
    told = f"it is {iso_seconds(now_ms)}"
    if patient.journal.exists() and patient.journal.stat().st_mtime * 1000 > now_ms + CLOCK_LEAP_MS:
        yield _warning("clock", f"{told}, and the journal was written later: the clock was set back", remedy)
        return
    yield _good("clock", told)


def _credentials(patient: _Patient) -> Iterator[Finding]:
    path = credential_path(MASTER, patient.world) or patient.state_dir / MASTER_FILE
    if not path.exists():
        if lacking := _holders(patient):
            yield _bad("master key", *lost_master_key(path, lacking))
            return
        yield _good("master key", f"{path} will be made at the first start, with mode 0600")
        return
    try:
        size = len(read_secret(path, patient.world).reveal())
    except PipaidError as refusal:
        yield _bad("master key", refusal.message, f"chmod 600 {path}, as the user who runs the daemon")
        return
    if size < MASTER_BYTES_MIN:
        remedy = "put at least 32 random bytes there; every API secret changes with it"
        yield _bad("master key", f"{path} has {size} bytes", remedy)
    else:
        yield _good("master key", f"{path} is kept")


def _holders(patient: _Patient) -> str:
    """Say whose secrets derive from a master key, as far as there is a journal that tells."""
    if not patient.journal.exists():
        return ""
    try:
        with closing(SqliteReader(patient.journal)) as reader:
            return holders(reader)
    except (PipaidError, sqlite3.Error):
        return ""


def _descriptors(patient: _Patient) -> Iterator[Finding]:
    (soft, hard) = resource.getrlimit(resource.RLIMIT_NOFILE)
    sections = patient.sections
    wanted = 2 * sections.control.clients_max + DESCRIPTORS_BESIDES
    wanted += sections.stream.clients_max if sections.stream.enabled else 0
    if soft in (-1, resource.RLIM_INFINITY) or soft >= wanted:
        yield _good("open files", f"{soft} are allowed, {wanted} may be needed")
    else:
        remedy = (
            f"ulimit -n {wanted}" if hard in (-1, resource.RLIM_INFINITY) or hard >= wanted else "raise the hard limit"
        )
        found = f"{soft} are allowed and {wanted} may be needed"
        yield _warning("open files", found, f"{remedy}, or LimitNOFILE={wanted} in the unit, or lower clients_max")


def _market(patient: _Patient) -> Iterator[Finding]:
    market = patient.sections.market
    if market.kind != "replay":
        yield _good("market", f"synthetic: {', '.join(market.symbols)}")
        return
    files = [path for pattern in market.files for path in patient.world.disk.find(pattern)]
    closed = [path for path in files if not os.access(path, os.R_OK)]
    for path in closed:
        yield _bad("market", f"{path} cannot be read", f"chmod +r {path}")
    if files and not closed:
        size = sum(path.stat().st_size for path in files)
        yield _good("market", f"a replay of {len(files)} files, {size / 1024**2:.1f} MiB")


# A replay whose files are missing is a mistake of the configuration, which says how to get some.
CHECKS: Final[tuple[tuple[str, Callable[[_Patient], Iterator[Finding]]], ...]] = (
    ("python", _python),
    ("sqlite", _sqlite),
    ("configuration", _configuration),
    ("templates", _templates),
    ("state", _state),
    ("journal", _journal),
    ("lock", _lock),
    ("control socket", _socket),
    ("daemon", _conditions),
    ("stream", _stream),
    ("http", _http),
    ("certificates", _certificates),
    ("clock", _clock),
    ("credentials", _credentials),
    ("descriptors", _descriptors),
    ("market", _market),
)


async def _answers(path: Path, world: World) -> bool:
    """Tell whether somebody accepts connections there."""
    with trio.move_on_after(CONNECT_S_MAX):
        try:
            stream = await world.net.connect_unix(path)
        except (OSError, RuntimeError):
            return False
        await stream.aclose()
        return True
    return False


async def _try_to_listen(host: str, port: int, world: World) -> None:
    for listener in await world.net.listen_tcp(host, port):
        await listener.aclose()
