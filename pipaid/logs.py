"""The log: one JSON line an event to standard error, or lines for people; secrets never pass.

A line is at most 4 KiB and is written only when the descriptor can take it, so a stuck journald or a full pipe costs
the loop at most 20 ms once and nothing after that: lines are dropped, counted, and the count is logged as soon as there
is room again.
"""

from __future__ import annotations

import logging
import os
import re
import select
import sys
import traceback
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from decimal import Decimal
from itertools import chain
from typing import Any, Final, Literal, TextIO, cast

import msgspec
import structlog
from attrs import define, field

from pipaid.config.secret import HIDDEN, Secret
from pipaid.model.moment import iso_millis
from pipaid.seams import Clock

Level = Literal["debug", "info", "warning", "error"]
Fields = MutableMapping[str, Any]

LEVELS: Final[Mapping[str, int]] = {"debug": 10, "info": 20, "warning": 30, "error": 40, "critical": 50}
LINE_BYTES_MAX: Final = 4_096
FIELD_CHARS_MAX: Final = 1_024
FIELD_CHARS_TIGHT: Final = 120
TRACEBACK_CHARS_MAX: Final = 2_000
FIELDS_MAX: Final = 32
ITEMS_MAX: Final = 32
DEPTH_MAX: Final = 4
SECRETS_MAX: Final = 1_000
SECRET_CHARS_MIN: Final = 6
# Of one length; more than these are looked for all at once.
SEARCHED_ONE_BY_ONE: Final = 50
WAIT_MS_MAX: Final = 20

# The priorities of syslog, which journald reads from the start of a line: "<6>".
_PRIORITIES: Final[Mapping[str, int]] = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}
_SECRET_WORDS: Final = frozenset(
    {
        "secret",
        "secrets",
        "signature",
        "token",
        "tokens",
        "password",
        "passphrase",
        "authorization",
        "cookie",
        "credential",
    }
)
_SECRET_PAIRS: Final = ("private_key", "master_key", "tls_key", "secret_key", "api_secret")
_IN_TEXT: Final = re.compile(
    r"(?i)\b((?:\w*(?:secret|signature|token|password|passphrase))[\"']?\s*[=:]\s*[\"']?)[^\s&\"',;]+"
)
_BEARER: Final = re.compile(r"(?i)\b(bearer\s+)[\w.:~+/=-]+")


@define
class _Known:
    """What the pipeline knows at run time: the level, and texts that must never appear."""

    threshold: int = LEVELS["info"]
    texts: list[str] = field(factory=lambda: list[str]())
    # Those that are good for as long as the process runs; an operator's configuration bounds them.
    lasting: list[str] = field(factory=lambda: list[str]())

    def all(self) -> Iterator[str]:
        return chain(self.lasting, self.texts)


_known: Final = _Known()


class Log(structlog.BoundLoggerBase):
    """A logger with bound fields; an event below the level costs one comparison."""

    def bind(self, **fields: Any) -> Log:
        """Return a logger that adds these fields to each event."""
        return super().bind(**fields)

    def debug(self, event: str, **fields: Any) -> None:
        """Log what only a developer asks for."""
        if _known.threshold <= 10:
            self._proxy_to_logger("debug", event, **fields)

    def info(self, event: str, **fields: Any) -> None:
        """Log what an operator may want to follow."""
        if _known.threshold <= 20:
            self._proxy_to_logger("info", event, **fields)

    def warning(self, event: str, **fields: Any) -> None:
        """Log what an operator should look at."""
        if _known.threshold <= 30:
            self._proxy_to_logger("warning", event, **fields)

    def error(self, event: str, **fields: Any) -> None:
        """Log what an operator must look at; `exc_info=True` or an exception adds the traceback."""
        self._proxy_to_logger("error", event, **fields)

    def critical(self, event: str, **fields: Any) -> None:
        """Log why the daemon ends."""
        self._proxy_to_logger("critical", event, **fields)


def get_log(**fields: Any) -> Log:
    """Return a logger; it follows whatever `configure` sets up, before or after."""
    return cast(Log, structlog.get_logger(**fields))


def set_level(level: Level) -> None:
    """Change the level at once, for all loggers."""
    _known.threshold = LEVELS[level]


def level() -> Level:
    """Return the level in effect."""
    return cast(Level, next(name for name, number in LEVELS.items() if number == _known.threshold))


def register_secret(text: str, *, lasting: bool = False) -> None:
    """Hide a text wherever it would be logged; refuse one so short that it would hide half the log.

    One that is `lasting` is hidden however many come after it.
    """
    if len(text) < SECRET_CHARS_MIN:
        raise ValueError(f"a secret of {len(text)} characters cannot be hidden; at least {SECRET_CHARS_MIN} are needed")
    known = _known.lasting if lasting else _known.texts
    if text not in known:
        known.append(text)
        # Oldest first out: whoever registers more than this rotates keys, and old ones no longer open anything.
        del _known.texts[:-SECRETS_MAX]


def holds_secret(text: str) -> bool:
    """Tell whether a registered secret stands in a text."""
    by_length: dict[int, set[str]] = {}
    for secret in _known.all():
        by_length.setdefault(len(secret), set()).add(secret)
    return any(_stands_in(text, length, secrets) for length, secrets in by_length.items())


def _stands_in(text: str, length: int, secrets: set[str]) -> bool:
    if len(secrets) <= SEARCHED_ONE_BY_ONE:
        return any(secret in text for secret in secrets)
    # Each place is looked at once, however many there are.
    return any(text[at : at + length] in secrets for at in range(len(text) - length + 1))


def without_secrets(text: str) -> str:
    """Return a text with every registered secret hidden, for what is kept elsewhere than in the log."""
    if len(text) > FIELD_CHARS_MAX and not holds_secret(text):
        return text
    for secret in _known.all():
        if secret in text:
            text = text.replace(secret, HIDDEN)
    return text


def forget_secrets() -> None:
    """Hide registered texts no longer: when the process has no more use for them."""
    _known.texts.clear()
    _known.lasting.clear()


def configure(
    *,
    clock: Clock,
    variables: Mapping[str, str],
    level: Level = "info",
    format: Literal["auto", "json", "console"] = "auto",
    stream: TextIO | None = None,
) -> Outlet:
    """Set the pipeline up for this process, and return where its lines go."""
    set_level(level)
    outlet = Outlet.over(stream or sys.stderr, variables)
    console = format == "console" or (format == "auto" and outlet.is_terminal)
    if console:
        colours = outlet.is_terminal and not variables.get("NO_COLOR") and variables.get("TERM") != "dumb"
        finish: Any = _Console(clock, colours)
    else:
        outlet.style = "journald" if outlet.is_journald else "json"
        finish = _Json(clock, prefixed=outlet.is_journald)
    structlog.configure(
        processors=[structlog.contextvars.merge_contextvars, _explain_exception, _redact, finish],
        wrapper_class=Log,
        logger_factory=lambda *_: outlet,
        cache_logger_on_first_use=False,
    )
    root = logging.getLogger()
    root.handlers[:] = [each for each in root.handlers if not isinstance(each, _Adopted)] + [_Adopted()]
    root.setLevel(logging.WARNING)
    logging.captureWarnings(True)
    return outlet


@define
class Outlet:
    """Where lines go; when the other end does not read, they are dropped and counted.

    `style` is how they look, for another process that writes there too: `console`, `json` or `journald`.
    """

    descriptor: int
    is_terminal: bool
    is_journald: bool
    style: str = "console"
    dropped: int = 0
    _poll: Any = field(factory=select.poll)
    _stuck: bool = False

    @classmethod
    def over(cls, stream: TextIO, variables: Mapping[str, str]) -> Outlet:
        """Write to the descriptor below a stream."""
        descriptor = stream.fileno()
        figures = os.fstat(descriptor)
        journald = variables.get("JOURNAL_STREAM") == f"{figures.st_dev}:{figures.st_ino}"
        outlet = cls(descriptor, stream.isatty(), journald)
        outlet._poll.register(descriptor, select.POLLOUT)
        return outlet

    def write(self, line: bytes) -> None:
        """Write one line, or count it as dropped."""
        if not self._has_room():
            self.dropped += 1
            return
        if self.dropped:
            # The count goes first, so that whoever reads knows that something is missing before this line.
            count, self.dropped = self.dropped, 0
            self._put(b'{"level":"warning","event":"log.dropped","lines":%d}\n' % count)
            if not self._has_room():
                self.dropped += 1
                return
        self._put(line)

    debug = info = warning = error = critical = write

    def _put(self, line: bytes) -> None:
        try:
            while line:
                line = line[os.write(self.descriptor, line) :]
        except OSError:
            # Standard error is gone: there is nobody left to tell.
            self.dropped += 1

    def _has_room(self) -> bool:
        # A pipe or socket that polls writable takes at least a page, and a line is never longer than one.
        ready = self._poll.poll(0 if self._stuck else WAIT_MS_MAX)
        self._stuck = not any(flags & select.POLLOUT for _, flags in ready)
        return not self._stuck


def _explain_exception(_: Any, __: str, fields: Fields) -> Fields:
    trouble = fields.pop("exc_info", None)
    if trouble is True:
        trouble = sys.exc_info()[1]
    elif isinstance(trouble, tuple):
        trouble = cast("tuple[object, ...]", trouble)[1]
    if isinstance(trouble, BaseException):
        fields.setdefault("error", f"{type(trouble).__name__}: {trouble}")
        text = "".join(traceback.format_exception(trouble, limit=-20))
        # The innermost frames say most, and they come last. Secrets go before the cut, which could halve one.
        fields["traceback"] = _hidden(text)[-TRACEBACK_CHARS_MAX:]
    return fields


def _redact(_: Any, __: str, fields: Fields) -> Fields:
    kept = list(fields.items())[-FIELDS_MAX:] if len(fields) > FIELDS_MAX else fields.items()
    return {_hidden(str(name))[:64]: _safe(str(name), value, DEPTH_MAX) for name, value in kept}


def _safe(name: str, value: object, depth: int) -> Any:
    """Return a value that JSON carries, without secrets and of bounded size."""
    if value is None or isinstance(value, bool | int | float):
        # A number under such a name is a count: of tokens, of secrets.
        return value
    if isinstance(value, Secret) or _names_secret(name):
        return HIDDEN
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, Mapping) and depth:
        pairs = cast("Mapping[object, object]", value)
        return {_hidden(str(key))[:64]: _safe(str(key), pairs[key], depth - 1) for key in list(pairs)[:ITEMS_MAX]}
    if isinstance(value, list | tuple) and depth:
        items = cast("Sequence[object]", value)
        return [_safe("", item, depth - 1) for item in items[:ITEMS_MAX]]
    if isinstance(value, set | frozenset) and depth:
        return [_safe("", item, depth - 1) for item in sorted(cast("frozenset[object]", value), key=str)[:ITEMS_MAX]]
    text = value if isinstance(value, str) else f"{value!s}"
    return _cut(_hidden(text), TRACEBACK_CHARS_MAX if name == "traceback" else FIELD_CHARS_MAX)


def _names_secret(name: str) -> bool:
    lowered = name.lower().replace("-", "_")
    return not _SECRET_WORDS.isdisjoint(lowered.split("_")) or any(pair in lowered for pair in _SECRET_PAIRS)


def _hidden(text: str) -> str:
    text = without_secrets(text)
    text = _IN_TEXT.sub(rf"\g<1>{HIDDEN}", text)
    return _BEARER.sub(rf"\g<1>{HIDDEN}", text)


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


@define
class _Json:
    """Render one JSON object a line, in the order: time, level, event, fields."""

    clock: Clock
    prefixed: bool
    _encoder: msgspec.json.Encoder = field(factory=lambda: msgspec.json.Encoder(enc_hook=str))

    def __call__(self, _: Any, name: str, fields: Fields) -> bytes:
        event = fields.pop("event", "")
        head = {"ts": iso_millis(self.clock.now_us() // 1000), "level": name, "event": event}
        line = self._encoder.encode({**head, **fields})
        if len(line) > LINE_BYTES_MAX - 8:
            tight = {key: _cut(str(value), FIELD_CHARS_TIGHT) for key, value in fields.items()}
            line = self._encoder.encode({**head, **tight, "cut": True})
        if len(line) > LINE_BYTES_MAX - 8:
            line = self._encoder.encode({**head, "event": _cut(str(event), FIELD_CHARS_TIGHT), "cut": True})
        return (b"<%d>" % _PRIORITIES[name] if self.prefixed else b"") + line + b"\n"


@define
class _Console:
    """Render a line for people: time, level, event, fields; a traceback below."""

    clock: Clock
    colours: bool

    def __call__(self, _: Any, name: str, fields: Fields) -> bytes:
        moment = iso_millis(self.clock.now_us() // 1000)[11:-1]
        event = str(fields.pop("event", ""))
        trace = fields.pop("traceback", None)
        told = " ".join(f"{self._paint('36', key)}={_for_people(value)}" for key, value in fields.items())
        shade = {"debug": "2", "info": "32", "warning": "33"}.get(name, "31")
        head = f"{self._paint('2', moment)} {self._paint(shade, f'{name:<8}')}"
        line = f"{head} {self._paint('1', f'{_plain(event):<28}')} {told}"
        if trace:
            line = f"{line}\n{_plain(str(trace), keep_lines=True).rstrip()}"
        data = line.rstrip().encode("utf-8", "replace")
        return data[: LINE_BYTES_MAX - 1] + b"\n"

    def _paint(self, code: str, text: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self.colours else text


def _for_people(value: object) -> str:
    text = _plain(value if isinstance(value, str) else str(value))
    return f"'{text}'" if " " in text or not text else text


def _plain(text: str, *, keep_lines: bool = False) -> str:
    """Return text that cannot move the cursor or recolour the terminal of whoever reads it."""
    return "".join(each if each.isprintable() or (keep_lines and each == "\n") else "?" for each in text)


class _Adopted(logging.Handler):
    """Take what libraries say through the standard library's logging."""

    def emit(self, record: logging.LogRecord) -> None:
        name = next(name for name, number in reversed(tuple(LEVELS.items())) if number <= max(record.levelno, 10))
        fields: dict[str, Any] = {"logger": record.name, "message": record.getMessage()}
        if record.exc_info:
            fields["exc_info"] = record.exc_info
        getattr(get_log(), name)("library.said", **fields)
