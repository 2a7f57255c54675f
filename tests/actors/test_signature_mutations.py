"""Ten thousand requests that somebody changed after they were signed, or sent again: none is accepted."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from pipaid.model.operation import operation_named
from pipaid.model.request import KeyCreate
from pipaid.wire.budget import Budgets
from pipaid.wire.envelope import Forwarded
from pipaid.wire.gate import Admitted, Gate
from pipaid.wire.signing import canonical, sign
from tests.actors.controls import open_control

MUTATIONS: Final = 10_000
BODY: Final = '{"dry_run":true,"capital":"2500.00"}'
TARGET: Final = "/v1/strategies/strat_00000001/deploy"
DEPLOY: Final = operation_named("strategy.deploy")
ALPHABET: Final = '0123456789abcdefABCDEF{}":,/?&=%-_. é\n'


def flipped(chance: random.Random, text: str) -> str:
    at = chance.randrange(len(text))
    return text[:at] + chance.choice(ALPHABET) + text[at + 1 :]


def shortened(chance: random.Random, text: str) -> str:
    at = chance.randrange(len(text))
    return text[:at] + text[at + chance.randint(1, 8) :]


def lengthened(chance: random.Random, text: str) -> str:
    at = chance.randint(0, len(text))
    return text[:at] + chance.choice(ALPHABET) * chance.randint(1, 3) + text[at:]


def swapped(chance: random.Random, text: str) -> str:
    at = chance.randrange(max(1, len(text) - 1))
    return text[:at] + text[at + 1 : at + 2] + text[at : at + 1] + text[at + 2 :]


def in_capitals(chance: random.Random, text: str) -> str:
    return text.upper()


MUTATE: Final[tuple[Callable[[random.Random, str], str], ...]] = (flipped, shortened, lengthened, swapped, in_capitals)
FIELDS: Final = ("target", "body", "api_key", "timestamp", "signature", "method")


async def test_no_request_is_accepted_that_was_changed_or_sent_again(tmp_path: Path) -> None:
    chance = random.Random(20_260_101)
    plenty = 10 * MUTATIONS
    async with open_control(tmp_path) as control:
        gate = Gate(control.keys, control.clock, keys=Budgets(plenty, 1.0), addresses=Budgets(plenty, 1.0))
        keys = [await control.keys.create(KeyCreate(name="one", scopes=("trade",)), account="acct_main") for _ in "ab"]
        accepted = refused = 0
        for number in range(MUTATIONS):
            key = keys[number % 2]
            # One key signs at most so many commands within the window, so time goes on.
            control.clock.us += 10_000
            timestamp = str(control.clock.us // 1_000)
            signature = sign(str(key.secret).encode(), canonical(timestamp, "POST", TARGET, BODY.encode()))
            honest = Forwarded(
                method="POST", target=TARGET, body=BODY, address="192.0.2.7", request_id="req_0123456789ab",
                api_key=key.api_key, timestamp=timestamp, signature=signature,
            )  # fmt: skip
            name = chance.choice(FIELDS)
            text = getattr(honest, name)
            changed = msgspec.structs.replace(honest, **{name: chance.choice(MUTATE)(chance, text)})
            if number % 4 == 3:
                # The other key's name over this one's signature.
                changed = msgspec.structs.replace(honest, api_key=keys[(number + 1) % 2].api_key)
            if changed != honest:
                assert not isinstance(gate.judge(DEPLOY, changed), Admitted), changed
                refused += 1
            assert isinstance(gate.judge(DEPLOY, honest), Admitted)
            assert not isinstance(gate.judge(DEPLOY, honest), Admitted), "it was accepted twice"
            accepted += 1

    assert accepted == MUTATIONS
    assert refused > 0.8 * MUTATIONS
