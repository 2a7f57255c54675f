"""Whom strategies may ask: what a configuration says of models becomes lines to their providers."""

from __future__ import annotations

from typing import Protocol

from actors.consultant import Consultant, Line
from actors.recorder import Recorder
from pipaid.config import Config
from pipaid.config.secret import read_key
from pipaid.config.sections import LlmProvider
from pipaid.logs import register_secret
from pipaid.seams import World
from pipaid.wire import completions, messages
from pipaid.wire.completions import Completions, TokensKey
from pipaid.wire.messages import Messages
from pipaid.wire.models import HttpProvider
from pipaid.wire.said import Speech


class Parts(Protocol):
    """The parts of a daemon that its consultant depends on."""

    config: Config
    world: World
    recorder: Recorder


def consultant_of(parts: Parts) -> Consultant:
    """Return who asks models in a daemon that has a journal; their keys are read, and hidden from now on."""
    wanted, world = parts.config.llm, parts.world
    return Consultant(
        writer=parts.recorder,
        clock=world.clock,
        lines={name: _line(provider, world) for name, provider in wanted.providers.items()},
        tariffs=wanted.tariffs,
        money_per_day_max=wanted.money_per_day_max,
        waiting_max=wanted.waiting_max,
    )


def _line(wanted: LlmProvider, world: World) -> Line:
    key = None if wanted.key_file is None else read_key(wanted.key_file, world)
    if key is not None:
        register_secret(key.reveal().decode("ascii"), lasting=True)
    provider = HttpProvider(
        speech=_speech(wanted),
        base_url=(wanted.base_url or _home(wanted)).rstrip("/"),
        net=world.net,
        clock=world.clock,
        key=key,
        private=wanted.allow_private_targets,
        patience_s=float(wanted.patience_s),
    )
    return Line(provider, wanted.concurrent_max, wanted.requests_per_minute_max)


def _home(wanted: LlmProvider) -> str:
    return messages.BASE_URL if wanted.kind == "anthropic" else completions.BASE_URL


def _speech(wanted: LlmProvider) -> Speech:
    if wanted.kind == "anthropic":
        return Messages("tool" if wanted.answers == "auto" else wanted.answers)
    # Its own address refuses the older key for newer models; others may pass over the newer one, and write without end.
    usual: TokensKey = "max_tokens" if wanted.base_url else "max_completion_tokens"
    tokens_key = usual if wanted.tokens_key == "auto" else wanted.tokens_key
    return Completions("schema" if wanted.answers == "auto" else wanted.answers, tokens_key)
