"""What the shell offers while somebody types: the names and ids of strategies, if a daemon answers at once."""

from __future__ import annotations

from typing import Final

from pipaid.errors import PipaidError

COMPLETION_S: Final = 0.5
OFFERED_MAX: Final = 100


def complete_strategy(incomplete: str) -> list[str]:
    """Return the ids and names that start so; nothing at all when nobody answers in time."""
    import msgspec

    from pipaid.cli.terminal import socket_path
    from pipaid.model.reply import StrategyPage
    from pipaid.seams import SystemEnv
    from pipaid.wire.client import BlockingClient

    try:
        with BlockingClient(socket_path(None, SystemEnv().variables()), answer_s=COMPLETION_S) as client:
            page = msgspec.json.decode(client.call("strategy.list", {"limit": OFFERED_MAX}), type=StrategyPage)
    except PipaidError:
        return []
    offered = [text for strategy in page.data for text in (strategy.name, strategy.id)]
    return [text for text in offered if text.startswith(incomplete)]
