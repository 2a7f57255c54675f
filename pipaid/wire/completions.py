"""The chat completions that many endpoints offer as OpenAI does: questions as they take them, and what they answer."""

from __future__ import annotations

from typing import Any, Final, Literal

import msgspec
from attrs import frozen

from pipaid.model.consult import Question
from pipaid.wire.said import ANSWER, Manner, Said, counted, ended, in_words, malformed, objection_of, parsed, told

BASE_URL: Final = "https://api.openai.com/v1"
# Which of them bounds what may be written: an endpoint that does not know the one it is given may pass it over.
TokensKey = Literal["max_tokens", "max_completion_tokens"]


class _Function(msgspec.Struct):
    name: str
    arguments: str


class _Call(msgspec.Struct):
    function: _Function


class _Message(msgspec.Struct):
    content: str | None = None
    refusal: str | None = None
    tool_calls: list[_Call] | None = None


class _Choice(msgspec.Struct):
    message: _Message
    finish_reason: Any = None


class _Completion(msgspec.Struct):
    choices: list[_Choice]
    usage: msgspec.Raw = msgspec.Raw(b"")


@frozen
class Completions:
    """Speak it, with answers of a form that is asked for in the way the endpoint knows."""

    manner: Manner = "schema"
    tokens_key: TokensKey = "max_completion_tokens"
    path: str = "/chat/completions"

    def headers(self, key: str | None) -> dict[str, str]:
        """Return the headers that say who asks."""
        return {} if key is None else {"Authorization": f"Bearer {key}"}

    def body(self, question: Question) -> bytes:
        """Return a question as it is sent."""
        schema, system = question.answer_schema, question.system
        asked: dict[str, Any] = {"model": question.model, self.tokens_key: question.tokens_max}
        match self.manner:
            case "tool":
                offered = {"name": ANSWER, "description": "Give the answer in this form.", "parameters": schema}
                asked["tools"] = [{"type": "function", "function": offered}]
                asked["tool_choice"] = {"type": "function", "function": {"name": ANSWER}}
            case "schema":
                asked["response_format"] = {
                    "type": "json_schema",
                    "json_schema": {"name": ANSWER, "schema": schema},
                }
            case "object":
                asked["response_format"] = {"type": "json_object"}
                system = in_words(question)
            case "text":
                system = in_words(question)
        asked["messages"] = [
            {"role": "system", "content": system},
            {"role": "user", "content": question.prompt},
        ]
        return msgspec.json.encode(asked)

    def read(self, body: bytes) -> Said:
        """Return what an answer says; whatever is wrong with it, nothing is raised."""
        completion = parsed(body, _Completion)
        if completion is None or not completion.choices:
            return malformed(objection_of(body) or "it is no completion")
        choice, usage = completion.choices[0], completion.usage
        tokens = counted(usage, "prompt_tokens"), counted(usage, "completion_tokens")
        message, calls = choice.message, choice.message.tool_calls or []
        if message.refusal:
            refused = ended("", "refusal", (), tokens)
            return msgspec.structs.replace(refused, error=f"{refused.error}: {told(message.refusal)}")
        if self.manner != "tool":
            if calls:
                return malformed(f"it used a tool that nobody offered: {told(calls[0].function.name)!r}")
            return ended(message.content or "", choice.finish_reason, ("stop",), tokens)
        strange = next((call.function.name for call in calls if call.function.name != ANSWER), None)
        if strange is not None:
            return malformed(f"it used a tool that nobody offered: {told(strange)!r}")
        if len(calls) > 1:
            return malformed(f"it answered {len(calls)} times at once")
        text = calls[0].function.arguments if calls else ""
        return ended(text, choice.finish_reason, ("stop", "tool_calls"), tokens)
