"""What the surfaces are made of: parts that the composition root puts together out of the configuration alone."""

from __future__ import annotations

from collections.abc import Callable

from actors.keys import KeyRing
from actors.stream import StreamLimits, StreamServer
from actors.tokens import Tokens
from pipaid.config.sections import RateLimit, Stream
from pipaid.seams import Clock, World
from pipaid.wire.budget import Budgets
from pipaid.wire.gate import Gate
from pipaid.wire.tap import EventSource


def gate_of(wanted: RateLimit, clock: Clock, keys: KeyRing, tokens: Tokens) -> Gate:
    """Return the gate for what clients signed and what they bear, with whole budgets."""
    return Gate(
        keys,
        clock,
        keys=Budgets(wanted.key_weight_max, float(wanted.key_weight_per_s)),
        addresses=Budgets(wanted.address_weight_max, float(wanted.address_weight_per_s)),
        bearers=tokens,
    )


def stream_of(
    wanted: Stream, world: World, hub: EventSource, keys: KeyRing, *, gate: Gate, owner_of: Callable[[str], str | None]
) -> StreamServer:
    """Return the event stream."""
    limits = StreamLimits(
        auth_s=float(wanted.authentication_s),
        ping_s=float(wanted.ping_s),
        stuck_s=float(wanted.stuck_s),
        frames_per_s=float(wanted.frames_per_second_max),
        subscriptions_max=wanted.subscriptions_max,
        connections_per_key_max=wanted.clients_per_key_max,
        clients_max=wanted.clients_max,
    )
    return StreamServer(
        hub=hub,
        authority=keys,
        owned=lambda account, strategy_id: owner_of(strategy_id) == account,
        clock=world.clock,
        net=world.net,
        toll=gate.told_after_paying,
        limits=limits,
        origins=frozenset(wanted.allowed_origins),
    )
