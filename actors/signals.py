"""What a client may know of the signals that rules are made of."""

from __future__ import annotations

from actors.actor import Asker
from pipaid.errors import InvalidParameter, NotFound
from pipaid.model import request, signal
from pipaid.signals.catalogue.lookup import EXTERNAL, SIGNALS, find
from pipaid.signals.catalogue.shown import signal_object


class Signals:
    """Answer the operations on signals; each method is named after its operation."""

    async def signal_list(self, caller: Asker, asked: request.Nothing) -> signal.SignalList:
        """List all signals."""
        return signal.SignalList(data=tuple(map(signal_object, SIGNALS.values())))

    async def signal_get(self, caller: Asker, asked: signal.SignalGet) -> signal.SignalObject:
        """Show one signal."""
        try:
            return signal_object(find(asked.id))
        except InvalidParameter as refused:
            if asked.id in EXTERNAL:
                raise
            raise NotFound(refused.message) from None
