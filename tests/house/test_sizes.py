"""A file fits a head and a function fits a screen: sizes that make people split things before they hurt."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from tests.house.tree import CODE, Source, at, planted, sources

FILE_LINES_MAX = 500
FUNCTION_LINES_MAX = 59
POSITIONAL_ARGS_MAX = 4

Function = ast.FunctionDef | ast.AsyncFunctionDef


def test_no_file_or_function_is_too_long() -> None:
    offences = [offence for source in sources(*CODE, "tests") for offence in size_offences(source)]

    assert offences == []


def test_no_function_takes_too_many_positional_arguments() -> None:
    offences = [offence for source in sources(*CODE) for offence in argument_offences(source)]

    assert offences == []


def test_a_file_over_the_limit_is_found() -> None:
    at_limit = planted("pipaid/model/long.py", "x = 1\n" * FILE_LINES_MAX)
    above = planted("pipaid/model/long.py", "x = 1\n" * (FILE_LINES_MAX + 1))

    assert list(size_offences(at_limit)) == []
    assert list(size_offences(above)) == ["pipaid/model/long.py: 501 lines, at most 500"]


@pytest.mark.parametrize("opening", ["def f():", "async def f():", "class A:\n  def f(self):"])
def test_a_function_over_the_limit_is_found(opening: str) -> None:
    def of_length(lines: int) -> Source:
        return planted("actors/feed.py", opening + "\n" + "    x = 1\n" * (lines - 1))

    assert list(size_offences(of_length(FUNCTION_LINES_MAX))) == []
    assert len(list(size_offences(of_length(FUNCTION_LINES_MAX + 1)))) == 1


def test_decorators_count_for_nothing_but_the_body_does() -> None:
    decorated = "@mark\n" * 10 + "def f():\n" + "    x = 1\n" * (FUNCTION_LINES_MAX - 1)

    assert list(size_offences(planted("actors/feed.py", decorated))) == []


@pytest.mark.parametrize(
    "text",
    [
        "def f(a, b, c, d, e): ...",
        "class A:\n    def f(self, a, b, c, d, e): ...",
        "async def f(a, b, /, c, d, e): ...",
    ],
)
def test_a_fifth_positional_argument_is_found(text: str) -> None:
    assert len(list(argument_offences(planted("pipaid/engine/risk.py", text)))) == 1


@pytest.mark.parametrize(
    "text",
    [
        "def f(a, b, c, d, *, e, f): ...",
        "class A:\n    def f(self, a, b, c, d): ...",
        "class A:\n    @classmethod\n    def f(cls, a, b, c, d): ...",
    ],
)
def test_four_positional_arguments_are_allowed(text: str) -> None:
    assert list(argument_offences(planted("pipaid/engine/risk.py", text))) == []


def size_offences(source: Source) -> Iterator[str]:
    """List the file and its functions where they are too long."""
    lines = len(source.text.splitlines())
    if lines > FILE_LINES_MAX:
        yield f"{source.place}: {lines} lines, at most {FILE_LINES_MAX}"
    for function in _functions(source):
        assert function.end_lineno is not None
        length = function.end_lineno - function.lineno + 1
        if length > FUNCTION_LINES_MAX:
            yield f"{at(source, function)}: {function.name} has {length} lines, at most {FUNCTION_LINES_MAX}"


def argument_offences(source: Source) -> Iterator[str]:
    """List the functions that take more by position than a reader can keep apart."""
    for function in _functions(source):
        names = [arg.arg for arg in (*function.args.posonlyargs, *function.args.args)]
        if names[:1] in (["self"], ["cls"]):
            names = names[1:]
        if len(names) > POSITIONAL_ARGS_MAX:
            yield f"{at(source, function)}: {function.name} takes {len(names)} by position (max {POSITIONAL_ARGS_MAX})"


def _functions(source: Source) -> Iterator[Function]:
    for node in ast.walk(source.tree):
        if isinstance(node, Function):
            yield node
