"""A target: inputs out of chance, what must hold for each, and the smallest input that still breaks it."""

from __future__ import annotations

import ast
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any, Final, TypeAlias

import msgspec
from attrs import field, frozen

CORPUS: Final = Path(__file__).with_name("corpus")
FAILURES_MAX: Final = 3
TRIES_MAX: Final = 2_000
SHRINK_S_MAX: Final = 20.0

# Bytes, or a list of plain tuples: something that can be cut, written to a file and read again.
Input: TypeAlias = Any


@frozen(kw_only=True)
class Target:
    """Something to be fuzzed in this process: `make` an input out of chance, `check` that everything holds for it."""

    name: str
    make: Callable[[Random], Input]
    check: Callable[[Input], None]
    # What is set up once, and given back at the end.
    tidy: Callable[[], None] = field(default=lambda: None)

    def input(self, seed: str, number: int) -> Input:
        """Return the input of this number: the same one for the same seed, whatever came before."""
        return self.make(Random(f"{self.name} {seed} {number}"))

    def trouble(self, given: Input) -> str:
        """Say how an input breaks what must hold, empty if it does not."""
        try:
            self.check(given)
        except Exception as trouble:  # noqa: BLE001 - whatever comes out is what is looked for
            return f"{type(trouble).__name__}: {trouble}"[:500] or "it failed without a word"
        return ""

    def shrunk(self, given: Input) -> Input:
        """Return the smallest input found that fails in the same way."""
        kind = self.trouble(given).partition(":")[0]
        return shrunk(given, lambda smaller: self.trouble(smaller).partition(":")[0] == kind)

    @property
    def corpus(self) -> list[tuple[str, Input]]:
        """Return the inputs that were interesting once, by the names of their files."""
        return [(path.name, load(path)) for path in sorted((CORPUS / self.name).glob("*"))]


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """An input that broke something."""

    target: str
    seed: str
    number: int
    trouble: str
    input: str


def fuzz(target: Target, *, seed: str, count: int, start: int = 0) -> list[Failure]:
    """Check so many inputs from a number on; the failures are shrunk, at most three of them."""
    failures: list[Failure] = []
    try:
        for number in range(start, start + count):
            given = target.input(seed, number)
            if target.trouble(given) and len(failures) < FAILURES_MAX:
                small = target.shrunk(given)
                failures.append(
                    Failure(
                        target=target.name, seed=seed, number=number, trouble=target.trouble(small), input=dump(small)
                    )
                )
    finally:
        target.tidy()
    return failures


def shrunk(given: Input, fails: Callable[[Input], bool]) -> Input:
    """Leave out ever smaller pieces as long as what is left still fails."""
    until = time.monotonic() + SHRINK_S_MAX
    tries = 0
    size = max(1, len(given) // 2)
    while True:
        at, before = 0, len(given)
        while at < len(given):
            smaller = given[:at] + given[at + size :]
            tries += 1
            if tries > TRIES_MAX or time.monotonic() > until:
                return given
            if fails(smaller):
                given = smaller
            else:
                at += size
        if size == 1 and len(given) == before:
            return given
        size = max(1, size // 2)


def dump(given: Input) -> str:
    """Write an input as text that `load` understands."""
    return repr(given)


def load(path: Path) -> Input:
    """Read an input: the bytes of the file, unless it ends in .case and holds a literal."""
    data = path.read_bytes()
    return ast.literal_eval(data.decode()) if path.suffix == ".case" else data
