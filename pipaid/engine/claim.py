"""A name that somebody asked for: theirs while it becomes durable, and free again if it does not."""

from __future__ import annotations

from pipaid.errors import DuplicateName


class Claim:
    """Hold a name while its commit is under way, and give it back if that fails."""

    def __init__(self, names: dict[tuple[str, str], str], account: str, name: str) -> None:
        self._names, self._key, self._kept = names, (account, name), False

    def __enter__(self) -> Claim:
        if self._key in self._names:
            raise DuplicateName(f"another strategy is already called {self._key[1]!r}; choose another name")
        self._names[self._key] = ""
        return self

    def keep(self, id: str) -> None:
        """Give the name to a strategy for good."""
        self._names[self._key], self._kept = id, True

    def __exit__(self, *_: object) -> None:
        if not self._kept:
            del self._names[self._key]
