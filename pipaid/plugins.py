"""Find templates by entry point; a broken one is refused alone, by name."""

from __future__ import annotations

import hashlib
import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from decimal import Decimal
from importlib.metadata import Distribution, EntryPoint, distributions
from typing import Any, Final

import attrs
import msgspec
from attrs import field, frozen

from pipaid.engine.guards import RiskParams
from pipaid.engine.params import OF_ALL, param_specs
from pipaid.engine.template import Template
from pipaid.errors import InvalidParameter
from pipaid.model.money import apart

GROUP: Final = "pipaid.templates"
OURS: Final = "pipaid"
REASON_SHOWN_MAX: Final = 300
_ID: Final = re.compile(r"tpl_[a-z0-9_]{1,40}", re.ASCII)
_CALLBACKS: Final = (
    "features",
    "wakes",
    "allocation",
    "on_start",
    "on_candle",
    "on_opened",
    "on_closed",
    "on_entry_lost",
    "maintenance_ms",
    "on_maintenance",
    "on_price",
    "on_trade",
    "on_trades",
    "on_released",
    "on_answer",
)


@frozen
class Catalogue:
    """The templates at hand by id, and why the others were refused, by the name of their entry point."""

    templates: Mapping[str, type[Template]] = field(factory=dict[str, type[Template]])
    broken: Mapping[str, str] = field(factory=dict[str, str])

    def get(self, template_id: str) -> type[Template]:
        """Return a template; raise InvalidParameter that names those there are."""
        template = self.templates.get(template_id)
        if template is not None:
            return template
        if template_id in self.broken:
            reason = f"{template_id} is installed but broken: {self.broken[template_id]}"
        else:
            reason = f"no template is called {template_id[:60]!r}; known: {', '.join(sorted(self.templates))}"
        raise InvalidParameter(reason, details=(("template_id", reason),))


class _Refusal(Exception):
    """A plug-in is not what it claims to be."""


def load_templates(
    points: Iterable[EntryPoint] | None = None,
    *,
    barred: frozenset[int] = frozenset(),
    entering: Callable[[int], object] = bool,
) -> Catalogue:
    """Load every installed template, ours first, so that nobody else's takes its id.

    Whatever a plug-in does while it is imported, the others are loaded: only an interruption by the user gets through.
    One that never comes back is not tried again: `entering` is told the number of each plug-in just before its import,
    and 0 after the last, and those whose number is `barred` are left out.
    """
    templates: dict[str, type[Template]] = {}
    broken: dict[str, str] = {}
    for point in sorted(installed_points() if points is None else points, key=_rank):
        number = _number(point)
        try:
            if number in barred:
                raise _Refusal("its import held the whole daemon up before; install another version of it")
            entering(number)
            template = apart().run(_loaded, point)
            if template.id in templates:
                raise _Refusal(f"the id {template.id} is taken by {templates[template.id].__module__}")
        except KeyboardInterrupt:
            raise
        except BaseException as trouble:  # noqa: BLE001 - a plug-in may raise anything, SystemExit and groups too
            taken = point.name in templates or point.name in broken
            name = f"{point.name} of {_owner(point) or point.value}" if taken else point.name
            broken[name] = apart().run(_told, trouble)
        else:
            templates[template.id] = template
    entering(0)
    return Catalogue(templates, broken)


def installed_points() -> Iterator[EntryPoint]:
    """Yield the entry points of every readable distribution, of the first one on the path where a name comes twice."""
    seen: set[str] = set()
    for distribution in distributions():
        name, points = _points_of(distribution)
        if points and name not in seen:
            seen.add(name)
            yield from points


def _points_of(distribution: Distribution) -> tuple[str, tuple[EntryPoint, ...]]:
    try:
        points = tuple(distribution.entry_points.select(group=GROUP))
        return (distribution.name, points) if points else ("", ())
    except Exception:  # noqa: BLE001 - somebody's unreadable metadata is no reason not to find the others
        return "", ()


def _number(point: EntryPoint) -> int:
    """Return the number that stands for this plug-in in this version of its distribution."""
    version = point.dist.version if point.dist is not None else ""
    what = "\0".join((point.name, point.value, _owner(point), version))
    return int.from_bytes(hashlib.blake2b(what.encode(), digest_size=8).digest(), "little")


def _rank(point: EntryPoint) -> tuple[bool, str, str]:
    return _owner(point) != OURS, point.name, point.value


def _owner(point: EntryPoint) -> str:
    return point.dist.name if point.dist is not None else ""


def _loaded(point: EntryPoint) -> type[Template]:
    template = point.load()
    if not (isinstance(template, type) and issubclass(template, Template)):
        raise _Refusal(f"{point.value} is no subclass of pipaid.sdk.Template")
    trouble = next(template_objections(template, point.name), None)
    if trouble is not None:
        raise _Refusal(f"{point.value}: {trouble}")
    return template


def template_objections(template: Any, name: str | None = None) -> Iterator[str]:
    """Yield what is wrong with a template's declaration; with the name of its entry point, that has to be its id."""
    if not (isinstance(template, type) and issubclass(template, Template)):
        yield f"{template!r:.60} is no subclass of pipaid.sdk.Template"
        return
    declared: dict[str, Any] = {
        attribute: getattr(template, attribute, None)
        for attribute in (
            "id",
            "version",
            "description",
            "capital_min",
            "multi_symbol",
            "foretells",
            "reads_larger",
            "risk_defaults",
            "state_type",
        )
    }
    if not isinstance(declared["id"], str) or not _ID.fullmatch(declared["id"]):
        yield f"id must be tpl_ and lower-case letters, digits and underscores, got {declared['id']!r:.60}"
    elif name is not None and declared["id"] != name:
        yield f"its id is {declared['id']}, but its entry point is called {name}"
    if not isinstance(declared["version"], int) or isinstance(declared["version"], bool) or declared["version"] < 1:
        yield "version must be a whole number from 1"
    if not isinstance(declared["description"], str) or not declared["description"].strip():
        yield "description is missing"
    if not isinstance(declared["capital_min"], Decimal) or not declared["capital_min"] >= 0:
        yield "capital_min must be a Decimal from zero"
    if not isinstance(declared["multi_symbol"], bool):
        yield "multi_symbol must be a bool"
    for flag in ("foretells", "reads_larger"):
        if not isinstance(declared[flag], bool):
            yield f"{flag} must be a bool"
    if not isinstance(declared["risk_defaults"], RiskParams):
        yield "risk_defaults must be RiskParams"
    if not (isinstance(declared["state_type"], type) and issubclass(declared["state_type"], msgspec.Struct)):
        yield "state_type must be a msgspec.Struct"
    for callback in _CALLBACKS:
        function = getattr(template, callback)
        if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
            yield f"{callback} must not be async"
    yield from _param_objections(getattr(template, "params_type", None))


def _param_objections(params_type: object) -> Iterator[str]:
    if not isinstance(params_type, type):
        yield "params_type is missing"
        return
    try:
        specs = param_specs(params_type)
    except TypeError as trouble:
        yield str(trouble)
        return
    for name, (attribute, spec) in specs.items():
        if name in OF_ALL:
            yield f"params_type must not have a field {name}, which every template takes"
        if spec.less_than and spec.less_than not in specs:
            yield f"{name} is to be below {spec.less_than}, which is no param"
        if spec.of is not None:
            yield from (f"{name}: {trouble}" for trouble in _param_objections(spec.of))
        elif attribute.default is not attrs.NOTHING and spec.kind != "free":
            try:
                spec.parse(attribute.default)
            except ValueError as trouble:
                yield f"the default of {name} {trouble}"


def _told(trouble: BaseException) -> str:
    """Say in one line what went wrong; even asking an exception for its text may fail."""
    if isinstance(trouble, _Refusal):
        return str(trouble)[:REASON_SHOWN_MAX]
    try:
        text = " ".join(str(trouble).split())
    except Exception:  # noqa: BLE001 - a foreign __str__
        text = "which cannot be shown"
    return f"{type(trouble).__name__}: {text}"[:REASON_SHOWN_MAX]
