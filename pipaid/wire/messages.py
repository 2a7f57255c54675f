"""The Messages API of Anthropic: questions as it takes them, and what its answers say."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from attrs import frozen

from pipaid.model.consult import Question
from pipaid.wire.said import ANSWER, Manner, Said, counted, ended, in_words, malformed, objection_of, parsed, told

VERSION: Final = "2023-06-01"
BASE_URL: Final = "https://api.anthropic.com"
_READ: Final = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")


class _Block(msgspec.Struct):
    type: str
    text: str = ""
    name: str = ""
    input: msgspec.Raw = msgspec.Raw(b"")


class _Message(msgspec.Struct):
    content: list[_Block]
    stop_reason: Any = None
    usage: msgspec.Raw = msgspec.Raw(b"")


@frozen
class Messages:
    """Speak it, with answers of a form that a tool asks for, or a schema, or words alone."""

    manner: Manner = "tool"
    path: str = "/v1/messages"

    def headers(self, key: str | None) -> dict[str, str]:
        """Return the headers that say who asks."""
        return {"anthropic-version": VERSION, **({} if key is None else {"x-api-key": key})}

    def body(self, question: Question) -> bytes:
        """Return a question as it is sent."""
        schema = question.answer_schema
        asked: dict[str, Any] = {
            "model": question.model,
            "max_tokens": question.tokens_max,
            "system": question.system,
            "messages": [{"role": "user", "content": question.prompt}],
        }
        match self.manner:
            case "tool":
                offered = {"name": ANSWER, "description": "Give the answer in this form.", "input_schema": schema}
                choice = {"type": "tool", "name": ANSWER, "disable_parallel_tool_use": True}
                asked |= {"tools": [offered], "tool_choice": choice}
            case "schema":
                asked["output_config"] = {"format": {"type": "json_schema", "schema": schema}}
            case "object" | "text":
                asked["system"] = in_words(question)
        return msgspec.json.encode(asked)

    def read(self, body: bytes) -> Said:
        """Return what an answer says; whatever is wrong with it, nothing is raised."""
        message = parsed(body, _Message)
        if message is None:
            return malformed(objection_of(body) or "it is no message")
        tokens = counted(message.usage, *_READ), counted(message.usage, "output_tokens")
        used = [block for block in message.content if block.type == "tool_use"]
        if self.manner != "tool":
            if used:
                return malformed(f"it used a tool that nobody offered: {told(used[0].name)!r}")
            text = "".join(block.text for block in message.content if block.type == "text")
            return ended(text, message.stop_reason, ("end_turn", "stop_sequence"), tokens)
        strange = next((block.name for block in used if block.name != ANSWER), None)
        if strange is not None:
            return malformed(f"it used a tool that nobody offered: {told(strange)!r}")
        if len(used) > 1:
            return malformed(f"it answered {len(used)} times at once")
        text = bytes(used[0].input).decode() if used else ""
        return ended(text, message.stop_reason, ("tool_use", "end_turn"), tokens)
