"""A refusal that asks for a confirmation, told as the command that gives it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from typing import Any, Final

from pipaid.errors import InvalidState

TOKEN: Final = re.compile(r'(.*) with "confirm": "(cfm_[0-9a-f]+)"')


def with_command(refusal: InvalidState, words: str, typed: Mapping[str, Any]) -> InvalidState:
    """Return the refusal with the whole command line to type, if it asks for a confirmation."""
    found = TOKEN.fullmatch(refusal.message)
    if found is None:
        return refusal
    options = [_option(name, value) for name, value in typed.items() if value is not None and name != "confirm"]
    line = " ".join([f"pipaid {words}", *options, f"--confirm {found[2]}"])
    return InvalidState(f"{found[1]}:\n{line}")


def _option(name: str, value: Any) -> str:
    dashed = name.replace("_", "-")
    if isinstance(value, bool):
        return f"--{dashed}" if value else f"--no-{dashed}"
    return f"--{dashed} {shlex.quote(str(value))}"
