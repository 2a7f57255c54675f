"""SIGKILL at random moments: what was acknowledged is there, and the journal goes on without hole or repeat."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from pipaid.storage.inspect import verify
from tests.storage.journals import journal_path, open_journal

KILLS = 15

# Each batch adds one fill and one event of each of three strategies; each acknowledgement is a line with the count.
WRITER = """
import sys
from pathlib import Path
from pipaid.model.record import Batch
from tests.storage.journals import add, numbered, open_journal, opt_in, put

journal = open_journal(Path(sys.argv[1]))
count = len(list(journal.rows("fill")))
print(count, flush=True)
while True:
    group = range(count, count + 1 + count % 7)
    journal.commit([
        Batch(
            records=[add("fill", f"f{number:08d}", b"x" * (number % 2000)), put("brain", "s", b"%d" % number)],
            events=[numbered("a"), numbered("b"), opt_in("b"), numbered("c")],
        )
        for number in group
    ])
    count = group.stop
    print(count, flush=True)
    if count % 20 == 0:
        journal.forget(journal.prunable(older_than_us=2**62, keep_events=50, limit=200))
"""


@pytest.mark.parametrize("seed", [1])
def test_no_kill_loses_an_acknowledged_batch(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    total = 0

    for _ in range(KILLS):
        acknowledged = run_and_kill(tmp_path, after_s=chance.uniform(0.02, 0.5))
        report = verify(journal_path(tmp_path))
        assert report.ok, report.problems
        with closing(open_journal(tmp_path)) as journal:
            fills = [row.key for row in journal.rows("fill")]
            seqs = [journal.last_seq(strategy_id) for strategy_id in "abc"]
            brain = journal.get("brain", "s")

        assert fills == [f"f{number:08d}" for number in range(len(fills))]
        # At most the one group that was being written when the signal came may be there without having been told.
        assert acknowledged <= len(fills) <= acknowledged + 7
        assert seqs == [len(fills)] * 3
        assert brain is not None
        assert brain.data == b"%d" % (len(fills) - 1)
        total = len(fills)

    assert total > KILLS


def run_and_kill(folder: Path, *, after_s: float) -> int:
    """Start a writer, kill it a moment after its first acknowledgement, and return the last one that was heard."""
    child = subprocess.Popen([sys.executable, "-c", WRITER, str(folder)], stdout=subprocess.PIPE)
    with child:
        assert child.stdout is not None
        heard = child.stdout.readline() + child.stdout.readline()
        time.sleep(after_s)
        child.kill()
        heard += child.stdout.read()
    # The last line may have been cut by the signal.
    return int(heard.rpartition(b"\n")[0].split(b"\n")[-1])
