"""The source tree as the house tests see it: each file with its dotted name, its text and its syntax tree."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from attrs import frozen

ROOT = Path(__file__).resolve().parents[2]
CODE = ("pipaid", "actors", "templates")


@frozen
class Source:
    """One Python file."""

    place: str
    text: str
    tree: ast.Module

    @property
    def module(self) -> str:
        """The dotted name; a package is named for its folder."""
        return self.place.removesuffix(".py").removesuffix("/__init__").replace("/", ".")

    @property
    def is_package(self) -> bool:
        """Whether this is the `__init__` of its folder."""
        return self.place.endswith("/__init__.py")


def planted(place: str, text: str) -> Source:
    """Make a source file out of text, to prove that a check would find what is wrong with it."""
    return Source(place=place, text=text, tree=ast.parse(text))


def sources(*folders: str) -> Iterator[Source]:
    """Read every Python file below the folders, in a stable order."""
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield planted(path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8"))


def at(source: Source, node: ast.expr | ast.stmt) -> str:
    """Say where a node stands, in the form an editor jumps to."""
    return f"{source.place}:{node.lineno}"


def imports_of(source: Source) -> Iterator[tuple[ast.Import | ast.ImportFrom, str]]:
    """List each import with the dotted name it reaches; `from a import b` reaches `a.b`, whatever `b` is."""
    package = source.module if source.is_package else source.module.rpartition(".")[0]
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node, alias.name
        elif isinstance(node, ast.ImportFrom):
            origin = node.module or ""
            if node.level:
                parents = package.split(".")
                origin = ".".join([*parents[: len(parents) - node.level + 1], *filter(None, [origin])])
            for alias in node.names:
                yield node, f"{origin}.{alias.name}"


def dotted(node: ast.expr) -> str:
    """Spell `a.b.c` out of a chain of attributes; empty when it does not start with a plain name."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        before = dotted(node.value)
        return f"{before}.{node.attr}" if before else ""
    return ""
