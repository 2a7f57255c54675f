"""Default, file, credential, environment, command line: the later layer wins, and each value remembers its source."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, cast, get_args, get_origin

import attrs
from attrs import define, field, frozen

from pipaid.config.declare import TABLE, Declaration, load_declarations
from pipaid.config.fields import Beside, Needed, Objection, Spelled, hints_of, mark_of, shown, structure
from pipaid.config.secret import MASTER_CREDENTIAL, credential_path
from pipaid.config.sections import Sections
from pipaid.config.sense import contradictions
from pipaid.config.toml import (
    BARE_KEY,
    Document,
    Mistake,
    Mistaken,
    Route,
    WrittenFloat,
    nearest,
    read_document,
    unknown_key,
    vast_integers,
)
from pipaid.seams import World

PREFIX: Final = "PIPAID__"
COMMAND_LINE: Final = "command line"
# What systemd may hand over as a credential instead of a path in the file.
CREDENTIALS: Final[Mapping[str, str]] = {
    "stream.tls_certificate": "pipaid.tls-certificate",
    "stream.tls_key": "pipaid.tls-key",
    "http.tls_certificate": "pipaid.tls-certificate",
    "http.tls_key": "pipaid.tls-key",
}
# The same of keys that stand in tables somebody named.
NAMED_CREDENTIALS: Final[Mapping[str, str]] = {"llm.providers.{}.key_file": "pipaid.llm-{}"}
NAMED_MAX: Final = 100
APART: Final = "strategies stand in files of their own: `pipaid apply FILE`, or name the file in daemon.strategies"
# Folders that systemd makes for the service and names in its environment.
FOLDERS: Final[Mapping[str, str]] = {
    "daemon.state_dir": "STATE_DIRECTORY",
    "daemon.runtime_dir": "RUNTIME_DIRECTORY",
}


@frozen
class Effective:
    """A value in effect: its key, how it would be written, and where it came from."""

    key: str
    value: str
    source: str


@frozen(kw_only=True)
class Config(Sections):
    """The configuration of one daemon: its sections, the file they came from, and the strategies it declares."""

    path: Path | None = None
    strategy_files: tuple[Path, ...] = ()
    declarations: tuple[Declaration, ...] = ()

    def differences(self, other: Config, *, besides: Collection[str] = ()) -> list[str]:
        """Return the keys whose values differ, but for those named and those below a section that is named."""
        own, theirs = dict(_flat(self, ())), dict(_flat(other, ()))
        changed = [key for key in own if own[key] != theirs[key]]
        if self.declarations != other.declarations and "daemon.strategies" not in changed:
            changed.append("daemon.strategies")
        return [key for key in changed if not any(key == each or key.startswith(f"{each}.") for each in besides)]


@frozen
class Examined:
    """What became of a configuration: the config, unless there are mistakes, and every value in effect.

    In `sections` the default stands for each value that was refused, so that a diagnosis can go on.
    """

    config: Config | None
    values: tuple[Effective, ...]
    mistakes: tuple[Mistake, ...]
    sections: Sections
    file: Path | None = None


def load_config(path: Path | None, world: World, *, overrides: Mapping[str, str] | None = None) -> Config:
    """Return the daemon's config; raise Mistaken with all mistakes. `overrides` are keys given on the command line."""
    examined = examine(path, world, overrides=overrides, daemon=True)
    if examined.config is None:
        raise Mistaken(examined.mistakes)
    return examined.config


def examine(
    path: Path | None, world: World, *, overrides: Mapping[str, str] | None = None, daemon: bool = False
) -> Examined:
    """Read every layer, and report each value with its source and each mistake with its remedy; change nothing.

    The `daemon` does not judge what a process beside it is to judge for itself.
    """
    mistakes: list[Mistake] = []
    document = None
    if path is not None:
        try:
            document = read_document(path, world.disk)
        except Mistaken as trouble:
            mistakes.extend(trouble.mistakes)
    reading = _Reading(document, world, _given(world, overrides or {}), mistakes)
    sections = cast(Sections, reading.section(Sections, ()))
    reading.refuse_unread()
    # A value that was refused stands as its default here, so that what depends on it is still looked at.
    sources = {effective.key: effective.source for effective in reading.effective}
    mistakes.extend(contradictions(sections, sources, world, daemon=daemon))
    files = _strategy_files(sections, world)
    try:
        declarations = tuple(load_declarations(files, world.disk))
    except Mistaken as trouble:
        mistakes.extend(trouble.mistakes)
        declarations = ()
    values = (*reading.effective, *_secrets(sections, world))
    if mistakes:
        return Examined(None, values, tuple(mistakes), sections, path)
    own = {name: getattr(sections, name) for name in attrs.fields_dict(Sections)}
    config = Config(**own, path=path, strategy_files=files, declarations=declarations)
    return Examined(config, values, (), sections, path)


def _strategy_files(sections: Sections, world: World) -> tuple[Path, ...]:
    """Return the files that match any pattern, each once, in the order of the patterns."""
    found: dict[Path, None] = {}
    for pattern in sections.daemon.strategies:
        found.update(dict.fromkeys(world.disk.find(pattern)))
    return tuple(found)


def _flat(section: attrs.AttrsInstance, route: Route) -> Iterator[tuple[str, object]]:
    """Yield every key of the sections with its value; what a config knows besides its sections is no key."""
    for name in attrs.fields_dict(Sections) if isinstance(section, Sections) else attrs.fields_dict(type(section)):
        value: object = getattr(section, name)
        inner = (*route, name)
        if attrs.has(value.__class__):
            yield from _flat(cast(attrs.AttrsInstance, value), inner)
        else:
            yield ".".join(map(str, inner)), value


@frozen
class _Given:
    """A value from outside the file, still as text."""

    text: str
    source: str


def _given(world: World, overrides: Mapping[str, str]) -> dict[str, _Given]:
    """Return what environment and command line say, by key; the command line wins."""
    variables = world.env.variables()
    given: dict[str, _Given] = {}
    for key, name in FOLDERS.items():
        if variables.get(name):
            # systemd lists several folders with colons between them; the first is ours.
            given[key] = _Given(variables[name].partition(":")[0], f"environment {name}")
    for key, name in CREDENTIALS.items():
        found = credential_path(name, world)
        if found is not None:
            given[key] = _Given(str(found), f"credential {name}")
    for name in sorted(variables):
        if name.startswith(PREFIX):
            given[name.removeprefix(PREFIX).lower().replace("__", ".")] = _Given(variables[name], f"environment {name}")
    for key, text in overrides.items():
        given[key] = _Given(text, COMMAND_LINE)
    return given


@define
class _Reading:
    """One pass over the sections; it keeps what was found and what was wrong."""

    document: Document | None
    world: World
    given: dict[str, _Given]
    mistakes: list[Mistake]
    effective: list[Effective] = field(factory=lambda: list[Effective]())
    known: list[str] = field(factory=lambda: list[str]())

    def section(self, kind: type[attrs.AttrsInstance], route: Route) -> attrs.AttrsInstance:
        hints = hints_of(kind)
        self._refuse_unknown(route, list(hints))
        defaults = kind()
        values: dict[str, Any] = {}
        for name, hint in hints.items():
            inner = (*route, name)
            named = _named(hint)
            if attrs.has(hint):
                values[name] = self.section(hint, inner)
            elif named is not None:
                values[name] = self._tables(inner, hint, named)
            else:
                values[name] = self._value(inner, hint, getattr(defaults, name))
        return kind(**values)

    def _tables(self, route: Route, hint: Any, kind: type[attrs.AttrsInstance]) -> dict[str, attrs.AttrsInstance]:
        """Return the tables below one to which people give names, each read like a section."""
        table, place = self._written(route)
        if table is None or not self._is_table(route, table, place, ["NAME"]):
            return {}
        names = list(cast("dict[str, object]", table))
        if len(names) > NAMED_MAX:
            self.mistakes.append(
                Mistake(
                    place=place,
                    key=_dotted(route),
                    wrong=f"{len(names)} tables stand there",
                    allowed=f"at most {NAMED_MAX}",
                    remedy="remove those that nobody needs",
                )
            )
        spelled = mark_of(hint, Spelled)
        assert spelled is not None, "whoever lets people name tables says how"
        found: dict[str, attrs.AttrsInstance] = {}
        for name in names[:NAMED_MAX]:
            inner = (*route, name)
            if re.fullmatch(spelled.pattern, name, re.ASCII):
                self._take_credential(_dotted(inner), name)
                found[name] = self.section(kind, inner)
            else:
                self.mistakes.append(
                    Mistake(
                        place=self._written(inner)[1],
                        key=_dotted(inner),
                        wrong=f"{shown(name)} is no name for it",
                        allowed=spelled.allowed,
                        remedy="name it otherwise",
                    )
                )
        return found

    def _take_credential(self, table: str, name: str) -> None:
        for pattern, credential in NAMED_CREDENTIALS.items():
            path, key = credential_path(credential.format(name), self.world), pattern.format(name)
            if path is not None and key.startswith(f"{table}."):
                self.given.setdefault(key, _Given(str(path), f"credential {path.name}"))

    def _value(self, route: Route, hint: Any, default: object) -> object:
        key = _dotted(route)
        self.known.append(key)
        value: object = default
        source = "default"
        written, place = self._written(route)
        if written is not None:
            value, source = self._structured(written, hint, key, place), place
        given = self.given.pop(key, None)
        if given is not None:
            value, source = self._structured(_meant(given.text, hint), hint, key, given.source), given.source
        needed = mark_of(hint, Needed)
        if needed is not None and source == "default":
            assert self.document is not None
            self.mistakes.append(
                Mistake(
                    place=self.document.place(route),
                    key=key,
                    wrong="it is missing",
                    allowed="it has no default",
                    remedy=f"write: {route[-1]} = {needed.example}",
                )
            )
        if isinstance(value, _Refused):
            # Its mistake is noted; the default stands in so that everything else is still examined.
            source = f"default, because {value.source} was refused"
            value = default
        elif source != "default" and mark_of(hint, Beside) is not None:
            folder = self.document.path.parent if self.document and source == place else Path()
            value = _beside(folder, value)
        self.effective.append(Effective(key, shown(value), source))
        return value

    def _written(self, route: Route) -> tuple[object, str]:
        if self.document is None:
            return None, ""
        node: object = self.document.table
        for name in route:
            if not isinstance(node, dict) or name not in node:
                return None, ""
            node = cast("dict[object, object]", node)[name]
        return node, self.document.place(route)

    def _structured(self, written: object, hint: Any, key: str, source: str) -> object:
        try:
            return structure(written, hint)
        except Objection as objection:
            self.mistakes.append(
                Mistake(
                    place=source,
                    key=key,
                    wrong=objection.wrong,
                    allowed=objection.allowed,
                    remedy=_remedy(key, objection.better, source),
                )
            )
            return _Refused(source)

    def _refuse_unknown(self, route: Route, names: list[str]) -> None:
        table, place = self._written(route)
        if table is None:
            return
        assert self.document is not None
        if not self._is_table(route, table, place, names):
            return
        for name in cast("dict[str, object]", table):
            if name not in names:
                inner = (*route, name)
                key = _dotted(inner)
                mistake = unknown_key(self.document.place(inner), key, name, names)
                self.mistakes.append(attrs.evolve(mistake, remedy=APART) if inner == (TABLE,) else mistake)

    def _is_table(self, route: Route, table: object, place: str, names: list[str]) -> bool:
        if isinstance(table, dict):
            return True
        section = _dotted(route)
        self.mistakes.append(
            Mistake(
                place=place,
                key=section,
                wrong=f"{shown(table)} stands where a table must be",
                allowed=f"[{section}] with keys {', '.join(names)}",
                remedy=f"write [{section}] on a line of its own, and its keys below",
            )
        )
        return False

    def refuse_unread(self) -> None:
        for key, given in self.given.items():
            meant = nearest(key, self.known)
            spelled = PREFIX + meant.upper().replace(".", "__") if meant else ""
            self.mistakes.append(
                Mistake(
                    place=given.source,
                    key=key,
                    wrong="no such key",
                    allowed=f"{PREFIX}SECTION__KEY for a key of config/pipaid.toml",
                    remedy=f"did you mean {spelled}?" if spelled else "remove it",
                )
            )


@frozen
class _Refused:
    """Stands for a value that was no good; its mistake is noted elsewhere."""

    source: str


def _meant(text: str, hint: Any) -> object:
    """Read text as the TOML value it would be in the file; whatever is none is text."""
    inner = attrs_free(hint)
    if inner in (str, Path):
        return text
    try:
        value: object = tomllib.loads(f"value = {text}", parse_float=WrittenFloat)["value"]
    except (ValueError, RecursionError):
        listed = [part.strip() for part in text.split(",") if part.strip()]
        return listed if "tuple" in str(inner) else text
    if next(vast_integers(value, ()), None) is not None:
        return text
    # A variable has no quotes to put around a decimal, so its digits are taken as they stand.
    return text if isinstance(value, WrittenFloat) and "Decimal" in str(inner) else value


def _named(hint: Any) -> type[attrs.AttrsInstance] | None:
    """Return what each of the tables is that people name, or nothing if the hint is another."""
    inner = attrs_free(hint)
    return get_args(inner)[1] if get_origin(inner) is Mapping else None


def _dotted(route: Route) -> str:
    """Return a key as it would be written, with quotes around a part that needs them."""
    return ".".join(each if BARE_KEY.fullmatch(each) else shown(each) for each in map(str, route))


def attrs_free(hint: Any) -> Any:
    """Return a type without the marks on it."""
    return getattr(hint, "__origin__", hint) if hasattr(hint, "__metadata__") else hint


def _remedy(key: str, better: str, source: str) -> str:
    name = key.rpartition(".")[2]
    if source.startswith("environment"):
        variable = source.removeprefix("environment ")
        bare = better.strip('"')
        return f"set {variable}={bare}" if better else f"set {variable} to an allowed value, or unset it"
    if source == COMMAND_LINE:
        return "give an allowed value"
    return f"write: {name} = {better}" if better else "write an allowed value, or remove the line for the default"


def _beside(folder: Path, value: object) -> object:
    if isinstance(value, tuple):
        return tuple(str(folder / str(each)) for each in cast("tuple[object, ...]", value))
    return folder / value if isinstance(value, Path) else value


def _secrets(config: Sections, world: World) -> Iterator[Effective]:
    path = credential_path(MASTER_CREDENTIAL, world)
    source = f"credential {MASTER_CREDENTIAL}" if path else f"file {config.daemon.state_dir / 'master.key'}"
    yield Effective("master key", "[secret]", source)
