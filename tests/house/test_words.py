"""One word for one thing: names that say nothing, and the words another system would use, do not enter the tree."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator

import pytest

from tests.house.tree import CODE, Source, at, planted, sources

EMPTY_NAMES = frozenset({"common", "helper", "helpers", "misc", "util", "utils"})
EMPTY_SUFFIXES = ("Handler", "Helper", "Manager", "Processor", "Service", "Util", "Utils")

# Words of other systems, with ours. Those with an honest second meaning (tick size, price action, a call) are left out.
FOREIGN_WORDS = {
    "algo": "template",
    "algos": "templates",
    "bar": "candle",
    "bars": "candles",
    "bot": "strategy",
    "bots": "strategies",
    "broker": "venue",
    "canceled": "cancelled",
    "coin": "instrument",
    "coins": "instruments",
    "deal": "fill",
    "deals": "fills",
    "kline": "candle",
    "klines": "candles",
    "ohlcv": "candle",
    "settings": "params",
    "wallet": "account",
}
# These are named after operations, whose names the contract has.
AFTER_OPERATIONS = frozenset({"market_klines"})
# A venue's own spelling stays at its edge.
VENUES_EDGE = "pipaid/venues/binance"
UNFINISHED = re.compile(r"\b(TODO|FIXME|XXX)\b(?!.*#\d+)")
BARE_IGNORE = re.compile(r"#\s*(type|pyright):\s*ignore(?!\[)")


def test_names_say_what_they_mean() -> None:
    offences = [offence for source in sources(*CODE) for offence in name_offences(source)]

    assert offences == []


def test_every_file_opens_with_what_it_is_for() -> None:
    offences = [offence for source in sources(*CODE, "tests") for offence in opening_offences(source)]

    assert offences == []


def test_comments_leave_nothing_unfinished_or_silenced_wholesale() -> None:
    offences = [offence for source in sources(*CODE, "tests") for offence in comment_offences(source)]

    assert offences == []


@pytest.mark.parametrize(
    ("place", "text"),
    [
        ("pipaid/model/utils.py", ""),
        ("pipaid/helpers/money.py", ""),
        ("actors/common.py", ""),
        ("actors/feed.py", "class FeedManager: ..."),
        ("actors/feed.py", "class OrderHandler: ..."),
        ("actors/feed.py", "class Processor: ..."),
        ("actors/feed.py", "class BaseFeed: ..."),
        ("actors/feed.py", "class ABase: ..."),
        ("actors/feed.py", "class BarSeries: ..."),
        ("actors/feed.py", "def on_bar(): ..."),
        ("actors/feed.py", "def f(klines): ..."),
        ("actors/feed.py", "def f(*, bot_id): ..."),
        ("actors/feed.py", "wallet_id = 1"),
        ("actors/feed.py", "class A:\n    canceled: int = 0"),
        ("actors/feed.py", "class A:\n    def f(self):\n        self.broker = 1"),
        ("actors/feed.py", "for coin in (): ..."),
        ("actors/feed.py", "__all__ = ['Feed']"),
    ],
)
def test_a_banned_name_is_found(place: str, text: str) -> None:
    assert len(list(name_offences(planted(place, text)))) == 1


@pytest.mark.parametrize(
    ("place", "text"),
    [
        ("pipaid/venues/binance_stream.py", "def candle_of(kline): ..."),
        ("pipaid/sdk.py", "__all__ = ['Template']"),
        ("actors/feed.py", "barrier = 1\nbase_asset = 'BTC'\nclass Baseline: ...\nclass Database: ..."),
        ("actors/feed.py", "class Serviceable: ..."),
    ],
)
def test_a_name_that_only_resembles_one_is_left_alone(place: str, text: str) -> None:
    assert list(name_offences(planted(place, text))) == []


@pytest.mark.parametrize(
    "text",
    [
        "from __future__ import annotations\nx = 1\n",
        '"""Keep candles."""\nx = 1\n',
        '"""Keep candles\nfor later"""\nfrom __future__ import annotations\n',
        '"""keep candles"""\nfrom __future__ import annotations\n',
    ],
)
def test_a_file_that_opens_badly_is_found(text: str) -> None:
    assert len(list(opening_offences(planted("actors/feed.py", text)))) == 1


def test_an_empty_package_file_and_one_of_words_alone_may_stay_as_they_are() -> None:
    assert list(opening_offences(planted("pipaid/model/__init__.py", ""))) == []
    assert list(opening_offences(planted("pipaid/model/__init__.py", '"""What things are."""\n'))) == []


@pytest.mark.parametrize(
    "text", ["x = 1  # TO" + "DO later\n", "# FIX" + "ME\n", "x = f()  # type: " + "ignore\n", "# XX" + "X: odd\n"]
)
def test_an_unfinished_or_silencing_comment_is_found(text: str) -> None:
    assert len(list(comment_offences(planted("actors/feed.py", text)))) == 1


def test_a_comment_with_an_issue_or_an_error_code_is_left_alone() -> None:
    text = "x = 1  # TO" + "DO: see #12\ny = f()  # type: ignore[arg-type]  # The stub is wrong.\nz = 'TO" + "DO'\n"

    assert list(comment_offences(planted("actors/feed.py", text))) == []


def name_offences(source: Source) -> Iterator[str]:
    """List the names one file makes that say nothing or belong to another system."""
    for part in source.place.removesuffix(".py").split("/"):
        if EMPTY_NAMES & set(_words(part)):
            yield f"{source.place}: {part} says nothing"
    for name, node in _made_names(source):
        if name == "__all__" and source.place != "pipaid/sdk.py":
            yield f"{at(source, node)}: __all__ stands in pipaid/sdk.py only"
        if isinstance(node, ast.ClassDef) and _is_empty_class_name(name):
            yield f"{at(source, node)}: {name}: say what it keeps, judges, carries or matches"
        if not source.place.startswith(VENUES_EDGE) and name not in AFTER_OPERATIONS:
            for word in _words(name):
                if word in FOREIGN_WORDS:
                    yield f"{at(source, node)}: {name}: say {FOREIGN_WORDS[word]} for {word}"


def opening_offences(source: Source) -> Iterator[str]:
    """Say what the first lines of a file lack."""
    if not source.tree.body:
        return
    docstring = ast.get_docstring(source.tree)
    sentence = (docstring or "").partition("\n\n")[0]
    if not docstring:
        yield f"{source.place}: no sentence says what it is for"
    elif not (sentence[0].isupper() or sentence[0] == "`") or sentence[-1] not in ".:?!":
        yield f"{source.place}: opens with something that is no sentence"
    if "from __future__ import annotations" not in source.text and not all(map(_is_inert, source.tree.body)):
        yield f"{source.place}: lacks `from __future__ import annotations`"


def comment_offences(source: Source) -> Iterator[str]:
    """List comments that put work off without an issue, or silence a checker without naming what."""
    for token in tokenize.generate_tokens(io.StringIO(source.text).readline):
        if token.type == tokenize.COMMENT and (UNFINISHED.search(token.string) or BARE_IGNORE.search(token.string)):
            yield f"{source.place}:{token.start[0]}: {token.string}"


def _is_inert(node: ast.stmt) -> bool:
    """Whether a statement is a docstring, or a dunder such as `__version__`."""
    if isinstance(node, ast.Assign):
        return all(isinstance(target, ast.Name) and target.id.startswith("__") for target in node.targets)
    return isinstance(node, ast.Expr)


def _is_empty_class_name(name: str) -> bool:
    bare = name.lstrip("_")
    words = _words(bare)
    return bare.endswith(EMPTY_SUFFIXES) or "base" in (*words[:1], *words[-1:])


def _made_names(source: Source) -> Iterator[tuple[str, ast.expr | ast.stmt]]:
    """List the names a file gives to things (definitions, arguments, variables, attributes), not those it uses."""
    for node in ast.walk(source.tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name, node
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            arguments = node.args
            for arg in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs):
                yield arg.arg, node
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id, node
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr, node


def _words(name: str) -> list[str]:
    """Cut a name at underscores and at capitals."""
    return [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+", name)]
