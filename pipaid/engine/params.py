"""Params of templates: each knob declared once, checked with every mistake named, and published as JSON Schema."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, cast

import attrs
from cattrs import ClassValidationError, Converter, ForbiddenExtraKeysError
from cattrs.gen import make_dict_structure_fn, override

from pipaid.engine.guards import RiskParams
from pipaid.engine.knobs import KEY, NESTED, ParamSpec, mapping_of
from pipaid.engine.schedule import SCHEDULE, Schedule, ScheduleParams, known_zones, schedule_objections
from pipaid.errors import InvalidParameter
from pipaid.model.instrument import Instrument, Timeframe
from pipaid.model.money import plain

if TYPE_CHECKING:
    from pipaid.engine.template import Template

RISK: Final = "risk"
# What every template takes besides its own.
OF_ALL: Final = (RISK, SCHEDULE)
TEMPLATES_MAX: Final = 256
MISTAKES_SHOWN_MAX: Final = 100
NAME_SHOWN_MAX: Final = 60
_DECIMAL_PATTERN: Final = r"^-?[0-9]{1,18}(\.[0-9]{1,18})?$"
_LAST: Final = re.compile(r"[.\[]")
_TYPES: Final[Mapping[str, list[str]]] = MappingProxyType(
    {
        "integer": ["integer"],
        "decimal": ["string", "integer"],
        "number": ["number", "string"],
        "choice": ["string"],
        "text": ["string"],
        "choices": ["array"],
        "flag": ["boolean"],
        "free": ["object"],
    }
)
_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"


def structure_params(
    template: type[Template],
    raw: Mapping[str, Any],
    *,
    symbols: Sequence[str],
    timeframe: Timeframe,
    capital: Decimal,
    instruments: Mapping[str, Instrument] | None = None,
) -> Any:
    """Return the template's params out of what a client sent; raise InvalidParameter that names every bad field.

    `raw` may hold `risk` and `schedule`, which are checked too and read with `structure_risk` and `structure_schedule`.
    With the venue's instruments at hand the template can also hold amounts against their filters.
    """
    own = {name: value for name, value in raw.items() if name not in OF_ALL}
    params, mistakes = _structured(template.params_type, own)
    _, risk_mistakes = _structured_risk(raw, template.risk_defaults)
    _, schedule_mistakes = _structured_schedule(raw)
    if params is not None and symbols:
        around = {"symbols": symbols, "timeframe": timeframe, "capital": capital, "instruments": instruments or {}}
        mistakes = {**_objections(template, params, around), **mistakes}
    _refuse_if_any({**mistakes, **risk_mistakes, **schedule_mistakes}, f"params of {template.id}")
    return params


def prepare(templates: Iterable[type[Template]]) -> None:
    """Do in advance what takes long once: whoever checks params first has no more time for it than others."""
    known_zones()
    for params_type in (RiskParams, ScheduleParams, *(template.params_type for template in templates)):
        _prepare(params_type)


def _prepare(params_type: type) -> None:
    _structurer(params_type)
    for _, spec in param_specs(params_type).values():
        if spec.of is not None:
            _prepare(spec.of)


def _objections(template: type[Template], params: Any, around: Mapping[str, Any]) -> dict[str, str]:
    """Return what the template has against its params; that it breaks over them is an objection, too."""
    try:
        found = template.check(params, **around)
        return {str(name): str(reason) for name, reason in found.items()}
    except BaseException as trouble:  # noqa: BLE001 - a stranger's code, which may raise anything
        try:
            text = str(trouble)
        except BaseException:  # noqa: BLE001 - and its message may raise as well
            text = "its message cannot be read"
        return {"params": f"{template.id} broke while it checked them: {type(trouble).__name__}: {text[:200]}"}


def structure_risk(template: type[Template], raw: Mapping[str, Any], defaults: RiskParams | None = None) -> RiskParams:
    """Return the caps under `risk` laid over defaults, the template's if there are no others.

    Raise InvalidParameter that names every bad one.
    """
    risk, mistakes = _structured_risk(raw, template.risk_defaults if defaults is None else defaults)
    _refuse_if_any(mistakes, f"params of {template.id}")
    return risk


def structure_schedule(raw: Mapping[str, Any]) -> Schedule:
    """Return what stands under `schedule`; raise InvalidParameter that names every mistake."""
    if SCHEDULE not in raw:
        return Schedule()
    schedule, mistakes = _structured_schedule(raw)
    _refuse_if_any(mistakes, "params")
    return schedule


def params_schema(template: type[Template]) -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of a template's params.

    JSON Schema cannot bound a number in a string, so the bounds of decimals stand in `x-` members and the description.
    """
    schema = _object_schema(template.params_type)
    risk = _object_schema(RiskParams, template.risk_defaults)
    schema["properties"][RISK] = {"description": "Caps of the strategy; null switches a cap off", **risk}
    schedule = _object_schema(ScheduleParams)
    schema["properties"][SCHEDULE] = {"description": "When the strategy decides and when it may enter", **schedule}
    return {"$schema": _DIALECT, "title": f"Params of {template.id}", **schema}


def filled(params: Any) -> dict[str, Any]:
    """Return params with all their defaults as JSON values, by the names clients use."""
    return {
        name: _as_json(spec, getattr(params, attribute.name))
        for name, (attribute, spec) in param_specs(params.__class__).items()
        if spec.kind != "refused"
    }


@lru_cache(maxsize=TEMPLATES_MAX)
def param_specs(params_type: type) -> Mapping[str, tuple[attrs.Attribute[Any], ParamSpec]]:
    """Return the declared knobs of a params class by the name clients use; raise TypeError for a field without one."""
    if not attrs.has(params_type):
        raise TypeError(f"{params_type.__name__} is no attrs class")
    specs: dict[str, tuple[attrs.Attribute[Any], ParamSpec]] = {}
    for attribute in attrs.fields(params_type):
        spec = attribute.metadata.get(KEY)
        if not isinstance(spec, ParamSpec):
            raise TypeError(f"{params_type.__name__}.{attribute.name} is not declared with a param function of the sdk")
        specs[_wire(attribute)] = (attribute, spec)
    return MappingProxyType(specs)


def _structured(params_type: type, raw: object) -> tuple[Any, dict[str, str]]:
    """Return the params, or those of the good fields alone if that is possible, and what is wrong by field."""
    if not isinstance(raw, Mapping):
        return None, {"": f"must be an object, got {raw!r:.60}"}
    sent = {str(name): value for name, value in cast("Mapping[object, Any]", raw).items()}
    try:
        params = _structure(params_type, sent)
    except ClassValidationError as trouble:
        mistakes = _named(trouble, param_specs(params_type))
        wrong = {_LAST.split(name)[0] for name in mistakes}
        good = {name: value for name, value in sent.items() if name not in wrong}
        try:
            params = _structure(params_type, good)
        except ClassValidationError:
            params = None
    else:
        mistakes = {}
    for name, reason in _disorder(params_type, sent).items():
        mistakes.setdefault(name, reason)
    return params, mistakes


def _structured_risk(raw: Mapping[str, Any], defaults: RiskParams) -> tuple[RiskParams, dict[str, str]]:
    sent = raw.get(RISK, {})
    known = param_specs(RiskParams)
    given, mistakes = _structured(RiskParams, sent)
    if given is not None:
        chosen = {attribute.name for name, (attribute, _) in known.items() if name in sent}
        given = RiskParams(
            **{
                name: getattr(given if attribute.name in chosen else defaults, attribute.name)
                for name, (attribute, _) in known.items()
            }
        )
    return given or defaults, {f"{RISK}.{name}" if name else RISK: reason for name, reason in mistakes.items()}


def _structured_schedule(raw: Mapping[str, Any]) -> tuple[Schedule, dict[str, str]]:
    given, mistakes = _structured(ScheduleParams, raw.get(SCHEDULE, {}))
    if given is not None:
        mistakes = {**schedule_objections(given), **mistakes}
    schedule = Schedule() if mistakes or given is None else Schedule(given)
    return schedule, {f"{SCHEDULE}.{name}" if name else SCHEDULE: reason for name, reason in mistakes.items()}


def _structure(params_type: type, raw: dict[str, Any]) -> Any:
    return _structurer(params_type)(raw, params_type)


# To make one takes longer than all that it is used for.
_CONVERTER: Final = Converter()


@lru_cache(maxsize=TEMPLATES_MAX)
def _structurer(params_type: type) -> Callable[[Mapping[str, Any], Any], Any]:
    """Have cattrs build the params, each field through its own declaration."""
    overrides: dict[str, Any] = {
        attribute.name: override(rename=name, struct_hook=_hook(spec))
        for name, (attribute, spec) in param_specs(params_type).items()
    }
    make = cast("Callable[..., Callable[[Mapping[str, Any], Any], Any]]", make_dict_structure_fn)
    return make(params_type, _CONVERTER, _cattrs_forbid_extra_keys=True, _cattrs_detailed_validation=True, **overrides)


class _Misfit(ValueError):
    """What is wrong within a knob that is made of others, by the path from it."""

    def __init__(self, mistakes: Mapping[str, str]) -> None:
        super().__init__("; ".join(f"{path} {reason}" for path, reason in mistakes.items()))
        self.mistakes = mistakes


def _hook(spec: ParamSpec) -> Callable[[Any, Any], Any]:
    return lambda value, _: _parsed(spec, value)


def _parsed(spec: ParamSpec, value: object) -> Any:
    """Return what a client sent for a knob; raise ValueError with what is wrong, a _Misfit if that lies deeper."""
    if spec.kind not in NESTED:
        return spec.parse(value)
    assert spec.of is not None
    if spec.kind == "object":
        return _inner(spec.of, {"": mapping_of(value)})[0]
    if spec.kind == "table":
        rows = mapping_of(value)
        unknown = {
            f".{name}": f"is unknown; known are {', '.join(spec.choices)}" for name in rows.keys() - spec.choices
        }
        if unknown:
            raise _Misfit(unknown)
        return dict(zip(rows, _inner(spec.of, {f".{name}": row for name, row in rows.items()}), strict=True))
    if not isinstance(value, list | tuple):
        raise ValueError(f"must be a list, got {value!r:.60}")
    elements = cast("Sequence[object]", value)
    if len(elements) > spec.most:
        raise ValueError(f"must have at most {spec.most} elements, got {len(elements)}")
    return tuple(_inner(spec.of, {f"[{number}]": each for number, each in enumerate(elements)}))


def _inner(params_type: type, raws: Mapping[str, object]) -> list[Any]:
    """Return the params of several objects; raise a _Misfit with all that is wrong, by path."""
    made: list[Any] = []
    mistakes: dict[str, str] = {}
    for path, raw in raws.items():
        params, wrong = _structured(params_type, raw)
        made.append(params)
        mistakes |= {f"{path}.{name}" if name else path: reason for name, reason in wrong.items()}
    if mistakes:
        raise _Misfit(mistakes)
    return made


def _named(
    trouble: ClassValidationError, specs: Mapping[str, tuple[attrs.Attribute[Any], ParamSpec]]
) -> dict[str, str]:
    """Turn what cattrs collected into a reason for each field, by the name clients use."""
    wire = {attribute.name: name for name, (attribute, _) in specs.items()}
    fields, others = trouble.group_exceptions()
    mistakes: dict[str, str] = {}
    for error, note in fields:
        name = wire[note.name]
        if isinstance(error, _Misfit):
            mistakes |= {f"{name}{path}": reason for path, reason in error.mistakes.items()}
        else:
            mistakes[name] = "is required" if isinstance(error, KeyError) else str(error)
    for error in others:
        assert isinstance(error, ForbiddenExtraKeysError)
        for name in sorted(error.extra_fields):
            mistakes[name] = f"is unknown; known are {', '.join(specs)}"
    return mistakes


def _disorder(params_type: type, sent: Mapping[str, Any]) -> dict[str, str]:
    """Find the pairs that must be in order and are not, among the fields that are good by themselves."""
    values: dict[str, Any] = {}
    specs = param_specs(params_type)
    for name, (attribute, spec) in specs.items():
        if spec.kind in NESTED:
            continue
        try:
            values[name] = spec.parse(sent[name]) if name in sent else attribute.default
        except ValueError:
            continue
    mistakes: dict[str, str] = {}
    for name, (_, spec) in specs.items():
        small, large = values.get(name), values.get(spec.less_than)
        if isinstance(small, int | Decimal) and isinstance(large, int | Decimal) and small >= large:
            mistakes[name] = f"must be below {spec.less_than}, got {small} and {large}"
    return mistakes


def _refuse_if_any(mistakes: Mapping[str, str], whose: str) -> None:
    if not mistakes:
        return
    details = tuple((name[:NAME_SHOWN_MAX], reason) for name, reason in mistakes.items())[:MISTAKES_SHOWN_MAX]
    listed = "; ".join(f"{name} {reason}" for name, reason in details)
    raise InvalidParameter(f"{whose}: {listed}", details=details)


def _object_schema(params_type: type, defaults: object = None) -> dict[str, Any]:
    """Return the schema of a params class; `defaults`, if given, is an instance whose values are the defaults."""
    properties: dict[str, Any] = {}
    required: list[str] = []
    for name, (attribute, spec) in param_specs(params_type).items():
        if spec.kind == "refused":
            continue
        default = attribute.default if defaults is None else getattr(defaults, attribute.name)
        properties[name] = _knob_schema(spec)
        if default is attrs.NOTHING:
            required.append(name)
        elif spec.kind not in ("object", "free"):
            properties[name]["default"] = _as_json(spec, default)
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def _knob_schema(spec: ParamSpec) -> dict[str, Any]:
    if spec.kind in NESTED:
        return _nested_schema(spec)
    if spec.kind == "integers":
        return _integers_schema(spec)
    allowed = _TYPES[spec.kind] + (["null"] if spec.optional else [])
    schema: dict[str, Any] = {"type": allowed[0] if len(allowed) == 1 else allowed}
    reach = spec.reach()
    order = f"below {spec.less_than}" if spec.less_than else ""
    note = ", ".join(part for part in (reach, order) if part)
    schema["description"] = f"{spec.description} ({note})" if note else spec.description
    if spec.kind == "choice":
        schema["enum"] = list(spec.choices)
    if spec.kind == "choices":
        schema |= {"items": {"type": "string", "enum": list(spec.choices)}, "uniqueItems": True}
    if spec.kind in ("decimal", "number"):
        schema |= {"format": "decimal", "pattern": _DECIMAL_PATTERN}
    bounds = (("minimum", spec.low), ("maximum", spec.high), ("exclusiveMinimum", spec.above))
    for keyword, bound in bounds:
        if bound is not None:
            schema[keyword] = int(bound) if bound == int(bound) else float(bound)
            if spec.kind in ("decimal", "number"):
                schema[f"x-{keyword}"] = plain(bound)
    if spec.less_than:
        schema["x-less-than"] = spec.less_than
    return schema


def _integers_schema(spec: ParamSpec) -> dict[str, Any]:
    assert spec.low is not None
    assert spec.high is not None
    one = {"type": "integer", "minimum": int(spec.low), "maximum": int(spec.high)}
    what = f"{spec.description} (each {spec.reach()})"
    return {"type": "array", "description": what, "items": one, "maxItems": spec.most, "uniqueItems": True}


def _nested_schema(spec: ParamSpec) -> dict[str, Any]:
    assert spec.of is not None
    inner, described = _object_schema(spec.of), {"description": spec.description}
    if spec.kind == "object":
        return {**described, **inner}
    if spec.kind == "list":
        return {"type": "array", **described, "items": inner, "maxItems": spec.most}
    rows = dict.fromkeys(spec.choices, inner)
    return {"type": "object", **described, "properties": rows, "additionalProperties": False}


def _as_json(spec: ParamSpec, value: Any) -> Any:
    """Return a knob's value as a client may write it."""
    if isinstance(value, Decimal) and spec.kind == "number":
        return int(value) if value == int(value) else float(value)
    if isinstance(value, Decimal):
        return plain(value)
    if spec.kind == "object":
        return filled(value)
    if spec.kind in ("choices", "integers"):
        return list(value)
    if spec.kind == "list":
        return [filled(each) for each in value]
    return {name: filled(each) for name, each in value.items()} if spec.kind == "table" else value


def _wire(attribute: attrs.Attribute[Any]) -> str:
    """Return the name clients use: the one of the constructor's keyword."""
    return attribute.alias or attribute.name
