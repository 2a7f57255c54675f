"""Measurements that need a process of their own: started, bounded in time, answering with one line of JSON."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec

ROOT = Path(__file__).resolve().parents[2]
CHILD_S_MAX = 240.0


def in_child(module: str, arguments: Any, *, timeout_s: float = CHILD_S_MAX) -> dict[str, float]:
    """Run `tests.bench.MODULE` on its arguments in a fresh process and return the numbers it answers with."""
    done = subprocess.run(
        [sys.executable, "-m", f"tests.bench.{module}", msgspec.json.encode(arguments).decode()],
        capture_output=True,
        timeout=timeout_s,
        check=False,
        cwd=ROOT,
        env=environment(),
    )
    if done.returncode:
        raise RuntimeError(f"{module} ended with {done.returncode}: {done.stderr.decode(errors='replace')[-2000:]}")
    return msgspec.json.decode(done.stdout.splitlines()[-1], type=dict[str, float])


def environment() -> dict[str, str]:
    """Return an environment in which nothing configures pipaid."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PIPAID")}
    return {**clean, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "", "NO_COLOR": "1"}


def answer(numbers: dict[str, float]) -> None:
    """Answer the process that asked."""
    sys.stdout.write(msgspec.json.encode(numbers).decode() + "\n")
