"""What a forked child inherits, and what it does not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pipaid.seams import SystemDisk

FORKED = """
import os, sys
from pathlib import Path
from pipaid.seams import SystemDisk
held = SystemDisk().hold(Path(sys.argv[1]))
if os.fork() == 0:
    print("forked", flush=True)
    os.read(0, 1)
    os._exit(0)
os.read(0, 1)
os._exit(0)
"""


def test_a_forked_child_neither_ends_a_lock_nor_outlives_it(tmp_path: Path) -> None:
    path = tmp_path / "held"
    words = [sys.executable, "-c", FORKED, str(path)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdin is not None
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"forked\n"
        with pytest.raises(BlockingIOError):
            SystemDisk().hold(path)

        parent.kill()
        parent.wait()

        SystemDisk().hold(path).release()
        parent.stdin.close()
