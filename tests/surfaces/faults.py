"""Faults that the kernel itself makes for a real daemon: from a moment on its system calls fail as on a broken disk."""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import signal
import struct
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from tests.surfaces.daemon import Daemon

# The numbers of system calls by machine.
_CALLS: Final[Mapping[str, Mapping[str, int]]] = {
    "x86_64": {"write": 1, "pwrite64": 18, "fsync": 74, "fdatasync": 75, "seccomp": 317},
    "aarch64": {"write": 64, "pwrite64": 68, "fsync": 82, "fdatasync": 83, "seccomp": 277},
}
_PR_SET_NO_NEW_PRIVS: Final = 38
_SECCOMP_SET_MODE_FILTER: Final = 1
_SECCOMP_FILTER_FLAG_TSYNC: Final = 1
_LOAD_NUMBER: Final = struct.pack("HBBI", 0x20, 0, 0, 0)
_ALLOW: Final = struct.pack("HBBI", 0x06, 0, 0, 0x7FFF_0000)
_WRITES: Final = ("pwrite64",)
_SYNCS: Final = ("fsync", "fdatasync")

# What a fault is called, which calls fail, and with which error.
FAULTS: Final[Mapping[str, tuple[Sequence[str], int]]] = {
    "full": (_WRITES, errno.ENOSPC),
    "write error": (_WRITES, errno.EIO),
    "sync error": (_SYNCS, errno.EIO),
}


def breakable(daemon: Daemon, fault: str) -> Daemon:
    """Let a daemon that is to be started break at `strike`."""
    assert fault in FAULTS
    daemon.before = f"from tests.surfaces.faults import wait_for_strike; wait_for_strike({fault!r})"
    return daemon


def strike(daemon: Daemon) -> None:
    """Let the fault begin; it stays as long as the process lives."""
    os.kill(daemon.pid, signal.SIGUSR1)


def wait_for_strike(fault: str) -> None:
    """Have this process break when it gets the signal."""
    calls, error = FAULTS[fault]

    def break_now(number: int, frame: object) -> None:
        fail(calls, error)

    signal.signal(signal.SIGUSR1, break_now)


def sluggish(daemon: Daemon, seconds: float) -> Daemon:
    """Let the main thread of a daemon that is to be started compute for so long at `strike`."""
    daemon.before = f"from tests.surfaces.faults import compute_at_strike; compute_at_strike({seconds})"
    return daemon


def compute_at_strike(seconds: float) -> None:
    """Have this process compute for some seconds when it gets the signal: its loop stands still meanwhile."""

    def compute(number: int, frame: object) -> None:
        until_s = time.thread_time() + seconds
        while time.thread_time() < until_s:
            pass

    signal.signal(signal.SIGUSR1, compute)


def fail(calls: Sequence[str], error: int) -> None:
    """Let the kernel refuse system calls to every thread of this process, for good."""
    numbers = _CALLS[platform.machine()]
    program = _LOAD_NUMBER
    for left, call in zip(range(len(calls), 0, -1), calls, strict=True):
        # Equal: jump over the other comparisons and over the permission to the refusal behind them.
        program += struct.pack("HBBI", 0x15, left, 0, numbers[call])
    program += _ALLOW + struct.pack("HBBI", 0x06, 0, 0, 0x0005_0000 | error)
    library: Any = ctypes.CDLL(None, use_errno=True)
    held = ctypes.create_string_buffer(program, len(program))
    head = ctypes.create_string_buffer(struct.pack("HxxxxxxQ", len(program) // 8, ctypes.addressof(held)))
    library.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    told = library.syscall(numbers["seccomp"], _SECCOMP_SET_MODE_FILTER, _SECCOMP_FILTER_FLAG_TSYNC, head)
    assert told == 0, f"the kernel takes no filter: {os.strerror(ctypes.get_errno())}"
