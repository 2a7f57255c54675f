"""What a model said, over whatever API: how it ended, how much of it there may be, and which counts are believed."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final, Literal, Protocol, TypeVar

import msgspec

from pipaid.model.consult import ANSWER_MAX, Question, Verdict

# How an answer of a certain form is asked for: by a tool that must be used, a schema that the API holds the model to, a
# mode in which it writes JSON, or in words alone.
Manner = Literal["tool", "schema", "object", "text"]
# The one tool that is offered, and the name of the schema.
ANSWER: Final = "answer"
REASON_CHARS_MAX: Final = 200
# No question is read into more; whoever counts more does not count.
TOKENS_COUNTED_MAX: Final = 10_000_000
# More has nobody to say who counts tokens.
USAGE_BYTES_MAX: Final = 4_096
_NOTHING: Final = msgspec.Raw(b"")
_CUT_OFF: Final = (Verdict.MALFORMED, "it was cut off: it may not write so much")
_REFUSED: Final = (Verdict.REFUSED, "the model refused to answer")
_STOPS: Final[Mapping[str, tuple[Verdict, str]]] = {
    "max_tokens": _CUT_OFF,
    "length": _CUT_OFF,
    "model_context_window_exceeded": (Verdict.MALFORMED, "it was cut off: the model cannot hold so much"),
    "refusal": _REFUSED,
    "content_filter": _REFUSED,
}
_Form = TypeVar("_Form")


class Said(msgspec.Struct, frozen=True, kw_only=True):
    """An answer before anybody knows whose it is."""

    verdict: Verdict
    text: str = ""
    error: str = ""
    tokens_in: int | None = None
    tokens_out: int | None = None


class Speech(Protocol):
    """One API in which models are spoken to."""

    @property
    def path(self) -> str:
        """Return where questions go, behind the base address."""
        ...

    def headers(self, key: str | None) -> dict[str, str]:
        """Return the headers that say who asks."""
        ...

    def body(self, question: Question) -> bytes:
        """Return a question as it is sent."""
        ...

    def read(self, body: bytes) -> Said:
        """Return what an answer says; whatever is wrong with it, nothing is raised."""
        ...


def parsed(body: bytes, form: type[_Form]) -> _Form | None:
    """Return JSON as the form has it, or nothing if it is not like that."""
    try:
        # As text: what is left raw or passed over is looked at by nobody else.
        return msgspec.json.decode(body.decode(), type=form)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def malformed(why: str) -> Said:
    """Return what stands for an answer that cannot be read."""
    return Said(verdict=Verdict.MALFORMED, error=why)


def told(reason: object) -> str:
    """Return what the other side gave as a reason, as a short line without anything that is not to be seen."""
    line = " ".join(str(reason).split())[:REASON_CHARS_MAX]
    return "".join(each if each.isprintable() else "?" for each in line)


class _Objection(msgspec.Struct):
    error: msgspec.Raw = _NOTHING
    message: msgspec.Raw = _NOTHING
    detail: msgspec.Raw = _NOTHING


def objection_of(body: bytes) -> str:
    """Return why an API says that it does not answer, as far as it says so."""
    for _ in range(2):
        found = parsed(body, _Objection)
        if found is None:
            break
        body = next((bytes(each) for each in (found.error, found.message, found.detail) if each != _NOTHING), b"")
    reason = parsed(body, str)
    return "" if reason is None else told(reason[:REASON_CHARS_MAX])


def ended(text: str, stop: object, ends: Collection[str], tokens: tuple[int | None, int | None]) -> Said:
    """Judge what was said by why it ended there: `ends` are the reasons of one that is whole."""
    verdict, error = Verdict.ANSWERED, ""
    if stop not in ends:
        unknown = (Verdict.MALFORMED, f"it did not come to an end: {told(stop)!r}")
        verdict, error = _STOPS.get(stop, unknown) if isinstance(stop, str) else unknown
    elif not text.strip():
        verdict, error = Verdict.MALFORMED, "it said nothing in the form that it was asked for"
    elif len(text) > ANSWER_MAX:
        verdict, error = Verdict.MALFORMED, f"it said more than {ANSWER_MAX} characters"
    tokens_in, tokens_out = tokens
    if not tokens_in or tokens_out is None or (text and not tokens_out):
        # What was read and written took tokens; a count that denies it is none.
        tokens_in = tokens_out = None
    return Said(verdict=verdict, text=text[:ANSWER_MAX], error=error, tokens_in=tokens_in, tokens_out=tokens_out)


def counted(usage: msgspec.Raw, *names: str) -> int | None:
    """Return the sum of counts, of which the first must be there, or nothing if any cannot be believed."""
    table = parsed(bytes(usage), dict[str, Any]) if len(bytes(usage)) <= USAGE_BYTES_MAX else None
    if table is None or names[0] not in table:
        return None
    total = 0
    for name in names:
        count = table.get(name) or 0
        if not isinstance(count, int) or isinstance(count, bool) or not 0 <= count <= TOKENS_COUNTED_MAX:
            return None
        total += count
    return total


def in_words(question: Question) -> str:
    """Return what a model is told that nothing but words holds to a form."""
    schema = msgspec.json.encode(question.answer_schema).decode()
    told = f"Answer with one JSON object that fits this JSON Schema, and with nothing else: {schema}"
    return f"{question.system}\n\n{told}"
