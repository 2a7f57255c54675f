"""A daemon that a verb starts for itself ends with the verb, whatever ends that one."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

END_MS = 20_000
VERB = """
import os, sys
from pathlib import Path
from pipaid.cli.child import running
from pipaid.cli.demo import shipped_config
from pipaid.cli.terminal import Terminal

state = Path(sys.argv[1])
terminal = Terminal(variables=dict(os.environ), out=sys.stdout, err=sys.stderr, socket=state / "unused")
with running(terminal, shipped_config(), state) as child:
    child.wait_until_ready()
    print(child.process.pid, flush=True)
    sys.stdin.read()
"""


def ends(descriptors: list[int]) -> bool:
    """Wait until all of these processes have ended; tell whether they did in time."""
    for descriptor in descriptors:
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        if not poll.poll(END_MS):
            return False
    return True


def test_the_daemon_of_a_verb_that_is_killed_ends_with_all_that_it_started() -> None:
    with tempfile.TemporaryDirectory() as state:
        verb = subprocess.Popen(
            [sys.executable, "-c", VERB, state], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        with verb:
            assert verb.stdout is not None
            daemon = int(verb.stdout.readline())
            # Each of its threads has children of its own.
            tasks = Path(f"/proc/{daemon}/task").glob("*/children")
            helpers = " ".join(path.read_text(encoding="ascii") for path in tasks).split()
            watched = [os.pidfd_open(pid) for pid in (daemon, *map(int, helpers))]
            verb.kill()
        try:
            assert helpers
            assert ends(watched)
        finally:
            for descriptor in watched:
                with suppress(ProcessLookupError):
                    signal.pidfd_send_signal(descriptor, signal.SIGKILL)
                os.close(descriptor)
