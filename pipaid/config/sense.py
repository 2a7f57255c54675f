"""Contradictions between values that are each allowed: what cannot work, or must not, although every key is right."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping
from typing import Final

from pipaid.config.certificate import server_context
from pipaid.config.secret import read_key
from pipaid.config.sections import Http, LlmProvider, Sections, Stream
from pipaid.config.toml import Mistake
from pipaid.engine.fees import tiers_objection
from pipaid.errors import InvalidParameter
from pipaid.model.fault import REPORT_FAULTS, REQUEST_FAULTS
from pipaid.model.target import checked_target
from pipaid.seams import World

CANDLES_REMEDY: Final = (
    "fetch 1m candles with `pipaid data download BTCUSDT --from DATE`, write them with `pipaid data export --into DIR` "
    'and name them here: files = ["DIR/*-1m-*.csv.gz"]; other CSV files named SYMBOL-1m-*.csv or .csv.gz with columns '
    "open_time_ms,open,high,low,close,volume will do (Binance publishes them, a file a month, at "
    "https://data.binance.vision under futures/um/monthly/klines)"
)


def contradictions(
    config: Sections, sources: Mapping[str, str], world: World, *, daemon: bool = False
) -> Iterator[Mistake]:
    """Yield what cannot work; `sources` says where each value came from, `daemon` whether it is to work there."""
    yield from _strategies(config, sources, world)
    yield from _market(config, sources, world)
    yield from _faults(config, sources)
    if config.stream.enabled:
        yield from _listener(config, sources, world, "stream")
    # A process that somebody else starts has credentials and rights of its own, and judges by those.
    if config.http.mode == "child" or (config.http.mode == "separate" and not daemon):
        yield from _listener(config, sources, world, "http")
    yield from _backoff(config, sources)
    yield from _tiers(config, sources)
    for name, provider in config.llm.providers.items():
        yield from _provider(name, provider, sources, world)


def _strategies(config: Sections, sources: Mapping[str, str], world: World) -> Iterator[Mistake]:
    for pattern in config.daemon.strategies:
        if not world.disk.find(pattern):
            yield Mistake(
                place=sources["daemon.strategies"],
                key="daemon.strategies",
                wrong=f"no file matches {pattern}",
                allowed="patterns of TOML files with [[strategy]] tables, relative to the config file",
                remedy="correct the path, or write: strategies = []",
            )


def _market(config: Sections, sources: Mapping[str, str], world: World) -> Iterator[Mistake]:
    market = config.market
    if market.start:
        try:
            _ = market.start_ms
        except ValueError as trouble:
            yield Mistake(
                place=sources["market.start"],
                key="market.start",
                wrong=f'"{market.start}" is no moment: {trouble}',
                allowed="a UTC moment, such as 2025-06-01T00:00:00Z",
                remedy='write one, or start = "" for the beginning',
            )
    if market.kind == "synthetic":
        if not market.symbols:
            yield Mistake(
                place=sources["market.symbols"],
                key="market.symbols",
                wrong="a synthetic market without symbols has nothing to trade",
                allowed="at least one symbol",
                remedy='write: symbols = ["BTCUSDT"]',
            )
        return
    if not market.files:
        yield Mistake(
            place=sources["market.kind"],
            key="market.files",
            wrong="a replay needs files of candles, and none are named",
            allowed="patterns of CSV files, relative to the config file",
            remedy=CANDLES_REMEDY,
        )
    for key, patterns in (("market.files", market.files), ("market.funding_files", market.funding_files)):
        for pattern in patterns:
            if not world.disk.find(pattern):
                yield Mistake(
                    place=sources[key],
                    key=key,
                    wrong=f"no file matches {pattern}",
                    allowed="patterns that match at least one file, relative to the config file",
                    remedy=CANDLES_REMEDY
                    if key == "market.files"
                    else "correct the path, or write: funding_files = []",
                )
    if market.instruments_file and not world.disk.exists(market.instruments_file):
        yield Mistake(
            place=sources["market.instruments_file"],
            key="market.instruments_file",
            wrong=f"{market.instruments_file} is not there",
            allowed="a CSV file of ticks and lots, relative to the config file",
            remedy="correct the path, or remove the line",
        )


def _faults(config: Sections, sources: Mapping[str, str]) -> Iterator[Mistake]:
    shares = config.desk.faults.shares()
    for kinds, things in ((REQUEST_FAULTS, "request"), (REPORT_FAULTS, "report")):
        given = [kind for kind in kinds if kind in shares]
        if sum(shares[kind] for kind in given) > 1:
            key = f"desk.faults.{given[-1]}"
            yield Mistake(
                place=sources[key],
                key=key,
                wrong=f"{', '.join(given)} together befall more than all there is",
                allowed=f"shares that add up to at most 1, for one {things} meets one fault",
                remedy=f'lower them, or write: {given[-1]} = "0"',
            )


def _listener(config: Sections, sources: Mapping[str, str], world: World, section: str) -> Iterator[Mistake]:
    """Yield what stands against listening for a surface: others must not hear what is not encrypted."""
    listener: Stream | Http = getattr(config, section)
    certificate, key = listener.tls_certificate, listener.tls_key
    if not is_loopback(listener.host) and not (certificate and key):
        place = sources[f"{section}.host"]
        yield Mistake(
            place=place,
            key=f"{section}.host",
            wrong=f'"{listener.host}" can be reached from other machines, and there is no TLS',
            allowed="127.0.0.1, ::1 or localhost; any other address with tls_certificate and tls_key",
            remedy=f'change {place} to: host = "127.0.0.1", or set tls_certificate and tls_key in [{section}]',
        )
    if (certificate is None) != (key is None):
        has, lacks = ("tls_certificate", "tls_key") if certificate else ("tls_key", "tls_certificate")
        yield Mistake(
            place=sources[f"{section}.{has}"],
            key=f"{section}.{lacks}",
            wrong=f"{has} is set and {lacks} is not",
            allowed="both or neither",
            remedy=f"set {lacks} as well, or remove {has}",
        )
        return
    if certificate and key:
        try:
            server_context(certificate, key, uid=world.env.uid())
        except InvalidParameter as trouble:
            yield Mistake(
                place=sources[f"{section}.tls_key"],
                key=f"{section}.tls_key",
                wrong=trouble.message,
                allowed="a PEM certificate chain and its private key, the key readable by the daemon alone",
                remedy=f"chmod 600 {key}, and check that it is the key of {certificate}",
            )


def is_loopback(host: str) -> bool:
    """Tell whether an address can be reached from this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _backoff(config: Sections, sources: Mapping[str, str]) -> Iterator[Mistake]:
    low, high = config.supervision.backoff_min_s, config.supervision.backoff_max_s
    if low > high:
        yield Mistake(
            place=sources["supervision.backoff_min_s"],
            key="supervision.backoff_min_s",
            wrong=f"{low:g} is above backoff_max_s, which is {high:g}",
            allowed="at most backoff_max_s",
            remedy=f"write: backoff_min_s = {high:g}",
        )


def _tiers(config: Sections, sources: Mapping[str, str]) -> Iterator[Mistake]:
    objection = tiers_objection(config.backtest.tiers)
    if objection:
        yield Mistake(
            place=sources["backtest.tiers"],
            key="backtest.tiers",
            wrong=objection,
            allowed="tiers in the order of their volume, the first from 0 on",
            remedy='put them in order, the first with volume = "0"',
        )


def _provider(name: str, provider: LlmProvider, sources: Mapping[str, str], world: World) -> Iterator[Mistake]:
    """Yield what stands against asking a provider: an address that is no place for a key, a key that is not kept."""
    table = f"llm.providers.{name}"
    if provider.base_url:
        try:
            checked_target(provider.base_url, private=provider.allow_private_targets)
        except InvalidParameter as trouble:
            yield Mistake(
                place=sources[f"{table}.base_url"],
                key=f"{table}.base_url",
                wrong=trouble.message.removeprefix("url "),
                allowed="https://HOST; hosts of this machine and its networks with allow_private_targets = true",
                remedy="correct it, or remove the line for the provider's own address",
            )
    if provider.key_file is not None:
        try:
            read_key(provider.key_file, world)
        except InvalidParameter as trouble:
            yield Mistake(
                place=sources[f"{table}.key_file"],
                key=f"{table}.key_file",
                wrong=trouble.message,
                allowed="a file that holds the key and that the daemon alone can read",
                remedy=f"put the key into {provider.key_file}, and: chmod 600 {provider.key_file}",
            )
    elif not provider.base_url:
        yield Mistake(
            place=sources[f"{table}.kind"],
            key=f"{table}.key_file",
            wrong="it is missing, and the provider's own address answers nobody without a key",
            allowed=f"a file of mode 0600, or the systemd credential pipaid.llm-{name}",
            remedy=f'write: key_file = "{name}.key"',
        )
    if not provider.models:
        yield Mistake(
            place=sources[f"{table}.kind"],
            key=f"{table}.models",
            wrong="it names no model, and one without prices is not asked",
            allowed="a table for each model, with what a million tokens cost",
            remedy=f'write [{table}.models."NAME"] with read = "3.00" and written = "15.00" below it',
        )
