"""The world is read at the seams only: clocks, chance, files and sockets reach all other code as arguments."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from tests.house.test_floors import within
from tests.house.tree import CODE, Source, at, dotted, imports_of, planted, sources

# What a dotted name reaches, and why nobody but the seams may. Names below one of these are covered too.
WORLD = {
    "asyncio": "the daemon runs on trio",
    "datetime.date.today": "the Clock tells the time",
    "datetime.datetime.now": "the Clock tells the time",
    "datetime.datetime.today": "the Clock tells the time",
    "datetime.datetime.utcnow": "the Clock tells the time",
    "io.open": "the Disk opens files",
    "numpy.random": "Random is an argument",
    "os.environ": "the Env is an argument",
    "os.getenv": "the Env is an argument",
    "os.open": "the Disk opens files",
    "os.urandom": "Ids come from journal facts",
    "random": "Random is an argument",
    "secrets": "Random is an argument",
    "socket": "the Net is an argument",
    "time": "the Clock tells the time",
    "trio.current_time": "the Clock tells the time",
    "trio.open_file": "the Disk opens files",
    "trio.socket": "the Net is an argument",
    "trio.to_thread": "work left in a thread has an unknown outcome",
    "uuid": "Ids come from journal facts",
}
# These are nobody's to call.
NEVER = {
    "compile": "code is not made at run time",
    "dill": "state is typed and readable",
    "eval": "code is not made at run time",
    "exec": "code is not made at run time",
    "marshal": "state is typed and readable",
    "pickle": "state is typed and readable",
    "shelve": "state is typed and readable",
}
DYNAMIC = {
    "__import__": "templates are found by entry point",
    "importlib.import_module": "templates are found by entry point",
}
BUILTINS = frozenset({"__import__", "compile", "eval", "exec", "open"})
FILE_METHODS = frozenset({"read_bytes", "read_text", "write_bytes", "write_text"})
SEAMS = "pipaid/seams.py"

# Each entry says which file may reach what, and why. A new one needs a reason that a reviewer believes.
ALLOWED: dict[str, dict[str, str]] = {
    "actors/backtests.py": {"trio.to_thread": "candle files are looked at, so nothing is lost with a thread that does"},
    "actors/recorder.py": {"trio.to_thread": "a query changes nothing, so nothing is lost with a thread that runs one"},
    "pipaid/api/app.py": {"asyncio": "the web server's process runs on what the web server runs on"},
    "pipaid/api/connection.py": {"asyncio": "the web server's process runs on what the web server runs on"},
    "pipaid/api/process.py": {"asyncio": "the web server's process runs on what the web server runs on"},
    "pipaid/api/upstream.py": {"asyncio": "the web server's process runs on what the web server runs on"},
    "pipaid/client/blocking.py": {"time": "a script waits without an event loop"},
    "pipaid/backtesting.py": {"importlib.import_module": "pandas and plotly are large and not everybody's"},
    "pipaid/sdk.py": {"importlib.import_module": "a template in a daemon does without what only scripts need"},
    "pipaid/optimising/cluster.py": {"importlib.import_module": "Dask is large and not everybody's"},
    "pipaid/optimising/suggesting.py": {"importlib.import_module": "optuna is large and not everybody's"},
    "pipaid/model/columns.py": {"open": "it is what the column of opening prices is called"},
    "pipaid/venues/importing.py": {"importlib.import_module": "pyarrow is large and not everybody's"},
    "pipaid/wire/client.py": {"socket": "the command line connects without an event loop, which would cost its start"},
    "pipaid/wire/lines.py": {
        "socket": "peer credentials and the modes of a unix socket are asked of the socket itself"
    },
    "pipaid/jobs.py": {"os.open": "a process of its own, which no argument reaches"},
    "pipaid/sentry.py": {
        "os.open": "a process of its own, which no argument reaches",
        "time": "a process of its own, which no argument reaches",
    },
    "actors/watchdog.py": {"os.open": "a mapped file needs its descriptor"},
    "pipaid/unixname.py": {"os.open": "the kernel finds a socket in a deep folder by a descriptor of the folder"},
    "pipaid/wire/systemd.py": {
        "socket": "systemd hands over listening sockets by number and hears datagrams",
        "trio.socket": "a socket that was handed over becomes trio's",
    },
}

ORDER_BLIND = frozenset({"all", "any", "frozenset", "len", "max", "min", "set", "sorted", "sum"})
ORDER_SEEING = frozenset({"dict", "enumerate", "iter", "list", "map", "next", "tuple", "zip"})
SET_METHODS = frozenset({"difference", "intersection", "symmetric_difference", "union"})


def test_nothing_but_the_seams_reads_the_world() -> None:
    offences = [offence for source in sources(*CODE) for offence in world_offences(source)]

    assert offences == []


def test_nothing_iterates_over_a_set_where_the_order_can_be_seen() -> None:
    offences = [offence for source in sources(*CODE) for offence in set_offences(source)]

    assert offences == []


def test_every_exception_is_still_needed() -> None:
    unneeded = [
        f"{source.place}: {name}"
        for source in sources(*CODE)
        for name in ALLOWED.get(source.place, {})
        if not any(within(reached, name) for reached, _ in _reached(source))
    ]

    assert unneeded == []


@pytest.mark.parametrize(
    "text",
    [
        "import time",
        "from time import monotonic",
        "import random",
        "import uuid",
        "from secrets import token_hex",
        "import socket",
        "import asyncio",
        "import pickle",
        "open('x')",
        "import io\nio.open('x')",
        "path.read_text()",
        "(root / 'x').write_bytes(b'')",
        "config_path.open()",
        "import os\nos.environ['HOME']",
        "from os import environ",
        "import os\nos.getenv('HOME')",
        "import os as system\nsystem.urandom(8)",
        "import trio\ntrio.to_thread.run_sync(f)",
        "from trio import to_thread",
        "import trio\ntrio.current_time()",
        "import numpy as np\nnp.random.default_rng()",
        "from datetime import datetime\ndatetime.now()",
        "import datetime as dt\ndt.datetime.utcnow()",
        "eval('1')",
        "exec('1')",
        "__import__('x')",
        "import importlib\nimportlib.import_module('x')",
    ],
)
def test_a_look_at_the_world_is_found(text: str) -> None:
    assert len(list(world_offences(planted("actors/feed.py", text)))) == 1


@pytest.mark.parametrize(
    "text",
    [
        "clock.time()",
        "self.random.random()",
        "from datetime import datetime\ndatetime.fromtimestamp(0)",
        "import os\nos.getpid()",
        "import trio\ntrio.sleep(1)",
        "import re\nre.compile('x')",
        "disk.read('x')",
        "ledger.open(lot)",
        "def open_position(): ...\nopen_position()",
    ],
)
def test_what_only_resembles_a_look_at_the_world_is_left_alone(text: str) -> None:
    assert list(world_offences(planted("actors/feed.py", text))) == []


def test_the_seams_may_look_but_not_at_everything() -> None:
    assert list(world_offences(planted(SEAMS, "import time\nimport random\nopen('x')"))) == []
    assert len(list(world_offences(planted(SEAMS, "eval('1')")))) == 1


def test_only_the_plug_in_loader_may_import_by_name() -> None:
    text = "import importlib\nimportlib.import_module('x')"

    assert list(world_offences(planted("pipaid/plugins.py", text))) == []
    assert len(list(world_offences(planted(SEAMS, text)))) == 1


@pytest.mark.parametrize(
    "text",
    [
        "for x in {1, 2}: ...",
        "for x in set(y): ...",
        "for x in frozenset(y) - z: ...",
        "for x in a | {1}: ...",
        "for x in {y for y in z}: ...",
        "for x in set(a).union(b): ...",
        "[x for x in {1, 2}]",
        "{x: 1 for x in set(y)}",
        "list(set(y))",
        "tuple({1, 2})",
        "enumerate(set(y))",
        "', '.join({1, 2})",
        "f(*set(y))",
        "f(x for x in set(y))",
        "def f():\n    seen = set()\n    for x in seen: ...",
        "def f():\n    seen: set[int] = load()\n    return list(seen)",
    ],
)
def test_a_visible_order_of_a_set_is_found(text: str) -> None:
    assert len(list(set_offences(planted("actors/feed.py", text)))) == 1


@pytest.mark.parametrize(
    "text",
    [
        "for x in sorted({1, 2}): ...",
        "sorted(x for x in set(y))",
        "any(x for x in {1, 2})",
        "{x for x in set(y)}",
        "set(set(y))",
        "1 in {1, 2}",
        "for x in [1, 2]: ...",
        "def f():\n    seen = set()\n    for x in sorted(seen): ...",
        "def f():\n    seen = set()\n\ndef g(seen):\n    for x in seen: ...",
    ],
)
def test_a_set_whose_order_nobody_sees_is_left_alone(text: str) -> None:
    assert list(set_offences(planted("actors/feed.py", text))) == []


def world_offences(source: Source) -> Iterator[str]:
    """List where a file reaches for the world."""
    forbidden = dict(NEVER)
    if source.place != "pipaid/plugins.py":
        forbidden |= DYNAMIC
    if source.place != SEAMS:
        forbidden |= WORLD | {"open": "the Disk opens files"}
    for name in ALLOWED.get(source.place, {}):
        forbidden.pop(name, None)
    seen: set[tuple[int, str]] = set()
    for name, node in _reached(source):
        for banned, reason in forbidden.items():
            if within(name, banned) and (node.lineno, banned) not in seen:
                seen.add((node.lineno, banned))
                yield f"{at(source, node)}: {name}: {reason}"
    if source.place != SEAMS:
        yield from _file_method_offences(source)


def set_offences(source: Source) -> Iterator[str]:
    """List where the order of a set, which differs from one process to the next, can be seen."""
    for scope in _scopes(source.tree):
        own = list(_own_nodes(scope))
        known = {name for node in own for name in _set_name(node)}
        calls = [node for node in own if isinstance(node, ast.Call)]
        blind = {id(arg) for call in calls if _callee(call) in ORDER_BLIND for arg in call.args}
        for node in own:
            for iterated in _iterated(node, blind):
                if _is_set(iterated, known):
                    yield f"{at(source, iterated)}: {ast.unparse(iterated)}: sort it first"


def _reached(source: Source) -> Iterator[tuple[str, ast.expr | ast.stmt]]:
    """List the dotted names that a file imports, or reaches through what it imported, or calls as a builtin."""
    aliases: dict[str, str] = {}
    for node, target in imports_of(source):
        yield target, node
        for alias in node.names:
            if isinstance(node, ast.ImportFrom):
                aliases[alias.asname or alias.name] = f"{node.module}.{alias.name}"
            elif alias.asname:
                aliases[alias.asname] = alias.name
            else:
                top = alias.name.partition(".")[0]
                aliases[top] = top
    for found in ast.walk(source.tree):
        if isinstance(found, ast.Attribute):
            first, _, rest = dotted(found).partition(".")
            if first in aliases:
                yield f"{aliases[first]}.{rest}", found
        elif isinstance(found, ast.Name) and found.id in BUILTINS and isinstance(found.ctx, ast.Load):
            yield found.id, found


def _file_method_offences(source: Source) -> Iterator[str]:
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            # Much can be opened, a position or a journal; only on a path is it a look at the world.
            on_a_path = ast.unparse(node.func.value).lower().endswith(("path", "file", "path(__file__)"))
            if node.func.attr in FILE_METHODS or (node.func.attr == "open" and on_a_path):
                yield f"{at(source, node)}: .{node.func.attr}(): the Disk opens files"


def _scopes(tree: ast.Module) -> Iterator[ast.AST]:
    yield tree
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def _own_nodes(scope: ast.AST) -> Iterator[ast.AST]:
    """Walk one scope without entering the functions inside it."""
    for child in ast.iter_child_nodes(scope):
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield child
            yield from _own_nodes(child)


def _set_name(node: ast.AST) -> Iterator[str]:
    """Name the local variable that a statement visibly makes a set of."""
    if isinstance(node, ast.Assign) and _is_set(node.value, set()):
        yield from (target.id for target in node.targets if isinstance(target, ast.Name))
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        kind = node.annotation.value if isinstance(node.annotation, ast.Subscript) else node.annotation
        if dotted(kind) in {"set", "frozenset"}:
            yield node.target.id


def _iterated(node: ast.AST, blind: set[int]) -> Iterator[ast.expr]:
    """Name what a node goes through in an order that leaves a trace."""
    if isinstance(node, ast.For | ast.AsyncFor):
        yield node.iter
    elif isinstance(node, ast.ListComp | ast.DictComp | ast.GeneratorExp) and id(node) not in blind:
        yield from (generator.iter for generator in node.generators)
    elif isinstance(node, ast.Starred):
        yield node.value
    elif isinstance(node, ast.Call) and (_callee(node) in ORDER_SEEING or _is_join(node)):
        yield from (arg for arg in node.args if not isinstance(arg, ast.GeneratorExp))


def _is_join(node: ast.Call) -> bool:
    return isinstance(node.func, ast.Attribute) and node.func.attr == "join"


def _is_set(node: ast.expr, known: set[str]) -> bool:
    """Whether an expression is plainly a set."""
    if isinstance(node, ast.Set | ast.SetComp):
        return True
    if isinstance(node, ast.Name):
        return node.id in known
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr | ast.BitAnd | ast.Sub | ast.BitXor):
        return _is_set(node.left, known) or _is_set(node.right, known)
    if isinstance(node, ast.Call):
        if isinstance(node.func, ast.Attribute) and node.func.attr in SET_METHODS:
            return _is_set(node.func.value, known)
        return _callee(node) in {"set", "frozenset"}
    return False


def _callee(node: ast.Call) -> str:
    return node.func.id if isinstance(node.func, ast.Name) else ""
