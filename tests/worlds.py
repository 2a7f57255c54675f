"""Worlds for tests: the real seams with an environment of the test's own."""

from __future__ import annotations

from collections.abc import Mapping

from attrs import define, field

from pipaid.seams import World


@define
class GivenEnv:
    """An environment that holds what the test gave and nothing else."""

    given: Mapping[str, str] = field(factory=lambda: dict[str, str]())
    process: int = 4711
    user: int = 0

    def variables(self) -> Mapping[str, str]:
        return self.given

    def pid(self) -> int:
        return self.process

    def uid(self) -> int:
        return self.user

    def resident_bytes(self) -> int:
        return 0

    def leave(self, code: int) -> None:
        raise SystemExit(code)


def make_world(**variables: str) -> World:
    """Return the real world but for its environment variables; files belong to whoever runs the test."""
    return World(env=GivenEnv(variables, user=World().env.uid()))
