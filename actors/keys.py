"""The key ring: who may sign requests, until when and for what; it keeps no secret but derives each when needed."""

from __future__ import annotations

import hmac
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import msgspec
import trio
from attrs import define, field

from actors.actor import Asker, Writer
from pipaid.errors import (
    InvalidParameter,
    InvalidSignature,
    InvalidState,
    KeyExpired,
    NotFound,
    SignedTooEarly,
    Unavailable,
)
from pipaid.logs import register_secret
from pipaid.model import paging, report
from pipaid.model.account import OWNER
from pipaid.model.event import EventDraft, KeyRotated, notice
from pipaid.model.moment import iso_seconds
from pipaid.model.record import Batch, Kind, Record
from pipaid.model.request import Addressed, KeyCreate, KeyRotate, Page
from pipaid.seams import Clock, Ids
from pipaid.storage.derived import API_KEY as ENTITY
from pipaid.storage.derived import LIVE, REVOKED
from pipaid.storage.store import Committed, JournalRefused, Reader
from pipaid.wire.signing import (
    WINDOW_MS,
    Caller,
    ReplayMemory,
    SignedRequest,
    check_form,
    derive_secret,
    expand_scopes,
    matches,
)

# Revoked keys count as well: their rows stay, so that their holders are told what happened.
KEYS_MAX: Final = 10_000
GRACE_S: Final = 86_400
COMMIT_S: Final = 5.0
# So much of a key tells its owner which one it is, and nobody else what it is.
KEY_PREFIX_CHARS: Final = 11
MASTER_KEY_BYTES_MIN: Final = 32
_KEY_ENTROPY_BYTES: Final = 12


class ApiKey(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A key as the journal holds it; `previous_until_ms` is when the version before stops being good."""

    api_key: str
    name: str
    account: str
    scopes: tuple[str, ...]
    created_at_ms: int
    version: int = 1
    expires_at_ms: int | None = None
    revoked_at_ms: int | None = None
    rotated_at_ms: int | None = None
    previous_until_ms: int | None = None

    def is_live(self, now_ms: int) -> bool:
        """Tell whether the key opens anything."""
        return self.revoked_at_ms is None and (self.expires_at_ms is None or now_ms < self.expires_at_ms)

    def takes(self, version: int, now_ms: int) -> bool:
        """Tell whether the secret of a version is good: the newest, and for its grace time the one before."""
        in_grace = self.previous_until_ms is not None and now_ms < self.previous_until_ms
        return version == self.version or (version == self.version - 1 and in_grace)

    def status(self, now_ms: int) -> str:
        """Say `active`, `revoked` or `expired`."""
        if self.revoked_at_ms is not None:
            return "revoked"
        return "active" if self.is_live(now_ms) else "expired"


class KeyObject(msgspec.Struct, frozen=True, kw_only=True):
    """A key as the surfaces show it; `secret` is there once, when the key is made and when it is rotated."""

    api_key: str
    name: str
    account_id: str
    scopes: tuple[str, ...]
    status: str
    version: int
    created_at: str
    expires_at: str | None
    revoked_at: str | None
    rotated_at: str | None
    previous_valid_until: str | None
    secret: str | msgspec.UnsetType = msgspec.UNSET


class KeyList(msgspec.Struct, frozen=True, kw_only=True):
    """All keys, newest first."""

    data: tuple[KeyObject, ...]


@define(eq=False)
class KeyRing:
    """Make, list, rotate and revoke keys, and tell who signed a request.

    What changes is durable before it counts and before it is answered. `on_revoked` hears of each key that was revoked;
    `is_account` says for whom keys are made.
    """

    writer: Writer
    clock: Clock
    ids: Ids
    master_key: bytes = field(repr=False)
    window_ms: int = WINDOW_MS
    strict_query: bool = False
    on_revoked: Callable[[str], None] = field(default=lambda _: None)
    owner: str = OWNER
    is_account: Callable[[str], bool] = field(default=lambda _: True)
    _keys: dict[str, ApiKey] = field(factory=dict[str, ApiKey], init=False)
    _replays: ReplayMemory = field(init=False)
    _began_ms: int = field(init=False)
    # One change at a time: each starts from what the one before it has made durable.
    _changing: trio.Lock = field(factory=trio.Lock, init=False)

    def __attrs_post_init__(self) -> None:
        assert len(self.master_key) >= MASTER_KEY_BYTES_MIN, f"a master key has {MASTER_KEY_BYTES_MIN} bytes or more"
        self._replays = ReplayMemory(self.window_ms)
        self._began_ms = self._now_ms()

    async def load(self) -> None:
        """Read the keys from the journal."""
        self._keys = {key.api_key: key for key in await self.writer.read(_stored_keys)}

    def authenticate(self, request: SignedRequest, *, mutating: bool = False) -> Caller:
        """Return who signed the request; raise InvalidSignature, KeyExpired for a key that was good once.

        An unknown key costs the same work as a known one and gets the same answer as a bad signature.
        """
        now_ms = self._now_ms()
        check_form(request, now_ms=now_ms, window_ms=self.window_ms)
        matched = partial(matches, request=request, strict_query=self.strict_query)
        caller = self._proven(request.api_key, matched, "the signature does not fit the key and the request")
        if mutating:
            # Whether it was carried out by the process before this one, nobody remembers.
            if int(request.timestamp) < self._began_ms:
                raise SignedTooEarly("the request was signed before this daemon started; sign it anew")
            self._replays.note(request, now_ms=now_ms)
        return caller

    def bear(self, api_key: str, secret: str) -> Caller:
        """Return who shows a key and its secret; raise InvalidSignature, KeyExpired for a key that was good once."""
        matched = partial(hmac.compare_digest, secret.encode())
        return self._proven(api_key, matched, "the secret does not fit the key")

    def _proven(self, api_key: str, matched: Callable[[bytes], bool], refusal: str) -> Caller:
        """Return who has the key whose secret, or the one before it, matched; an unknown key costs the same work."""
        now_ms = self._now_ms()
        key = self._keys.get(api_key)
        version = key.version if key is not None else 1
        is_current = matched(self._secret(api_key, version))
        is_previous = matched(self._secret(api_key, version - 1))
        if key is None or not (is_current or is_previous):
            raise InvalidSignature(refusal)
        if not key.is_live(now_ms):
            raise KeyExpired(f"the key is {key.status(now_ms)}; make a new one")
        version = key.version if is_current else key.version - 1
        if not key.takes(version, now_ms):
            raise KeyExpired("the key was rotated; take its new secret")
        return Caller(api_key=api_key, account=key.account, scopes=expand_scopes(key.scopes), version=version)

    def is_live(self, caller: Caller) -> bool:
        """Tell whether the secret with which a caller was authenticated still opens anything."""
        key, now_ms = self._keys.get(caller.api_key), self._now_ms()
        return key is not None and key.is_live(now_ms) and key.takes(caller.version, now_ms)

    # What the control socket asks; each is named after its operation.

    async def key_create(self, caller: Asker, asked: KeyCreate) -> report.KeyWithSecret:
        """Make a key; whoever speaks for no account in particular makes it for the owner."""
        return _told_once(await self.create(asked, account=caller.account or self.owner))

    async def key_list(self, caller: Asker, asked: Page) -> report.KeyPage:
        """List keys, newest first."""
        filters = paging.filters_hash("key.list", asked)
        before = paging.decode_cursor(asked.cursor, filters=filters, unit_us=paging.US_PER_MS)
        keys = [key for key in self._keys.values() if caller.account in (None, key.account)]
        keys = [key for key in keys if before is None or (key.created_at_ms, key.api_key) < before]
        keys.sort(key=lambda key: (key.created_at_ms, key.api_key), reverse=True)
        page = keys[: asked.limit]
        cursor = None
        if len(keys) > asked.limit:
            last = page[-1]
            cursor = paging.encode_cursor(last.created_at_ms, last.api_key, filters=filters, unit_us=paging.US_PER_MS)
        data = tuple(report.KeyObject(**_told(self._shown(key))) for key in page)
        return report.KeyPage(data=data, next_cursor=cursor)

    async def key_rotate(self, caller: Asker, asked: KeyRotate) -> report.KeyWithSecret:
        """Give a key a new secret."""
        self._require_seen(caller, asked.id)
        return _told_once(await self.rotate(asked))

    async def key_revoke(self, caller: Asker, asked: Addressed) -> report.KeyObject:
        """End a key."""
        self._require_seen(caller, asked.id)
        return report.KeyObject(**_told(await self.revoke(asked.id)))

    def _require_seen(self, caller: Asker, api_key: str) -> None:
        key = self._keys.get(api_key)
        if key is None or caller.account not in (None, key.account):
            raise NotFound(f"there is no key {api_key!r:.60}")

    # Keys.

    async def create(self, request: KeyCreate, *, account: str) -> KeyObject:
        """Make a key for the account that the request names, else for the given one; its secret is told this once."""
        expand_scopes(request.scopes)
        if request.account_id is not None and not self.is_account(request.account_id):
            reason = f"there is no account {request.account_id!r:.60}; `pipaid account create` makes one"
            raise InvalidParameter(reason, details=(("account_id", reason),))
        now_ms = self._now_ms()
        if request.expires_at is not None and request.expires_at <= now_ms:
            raise InvalidParameter("expires_at has passed already", details=(("expires_at", "must be in the future"),))
        async with self._changing:
            if len(self._keys) >= KEYS_MAX:
                raise InvalidState(f"there are {KEYS_MAX} keys already, revoked ones included")
            key = ApiKey(
                api_key=f"pk_{self.ids.entropy(_KEY_ENTROPY_BYTES).hex()}",
                name=request.name,
                account=request.account_id or account,
                scopes=request.scopes,
                created_at_ms=now_ms,
                expires_at_ms=request.expires_at,
            )
            await self._store(key, Kind.ADD)
        return self._shown(key, with_secret=True)

    def list(self) -> KeyList:
        """Return all keys, newest first, revoked ones too; no secrets."""
        newest_first = sorted(self._keys.values(), key=lambda key: (key.created_at_ms, key.api_key), reverse=True)
        return KeyList(data=tuple(self._shown(key) for key in newest_first))

    async def rotate(self, request: KeyRotate) -> KeyObject:
        """Give a key a new secret, told this once; the one before it stays good for the grace time."""
        grace_s = GRACE_S if request.grace_s is None else request.grace_s
        async with self._changing:
            key = self._live_key(request.id)
            now_ms = self._now_ms()
            key = msgspec.structs.replace(
                key, version=key.version + 1, rotated_at_ms=now_ms, previous_until_ms=now_ms + grace_s * 1000
            )
            rotated = KeyRotated(
                key_prefix=key.api_key[:KEY_PREFIX_CHARS],
                rotated_at=iso_seconds(now_ms),
                grace_until=iso_seconds(now_ms + grace_s * 1000),
            )
            await self._store(key, Kind.PUT, notice(key.account, rotated, now_ms))
        return self._shown(key, with_secret=True)

    async def revoke(self, api_key: str) -> KeyObject:
        """End a key for good."""
        async with self._changing:
            key = msgspec.structs.replace(self._live_key(api_key), revoked_at_ms=self._now_ms())
            await self._store(key, Kind.PUT)
        self._replays.forget(api_key)
        self.on_revoked(api_key)
        return self._shown(key)

    def _live_key(self, api_key: str) -> ApiKey:
        key = self._keys.get(api_key)
        if key is None:
            raise NotFound(f"there is no key {api_key}")
        if key.revoked_at_ms is not None:
            raise InvalidState(f"the key {api_key} is revoked")
        return key

    async def _store(self, key: ApiKey, kind: Kind, *events: EventDraft) -> None:
        record = Record(
            entity=ENTITY,
            key=key.api_key,
            kind=kind,
            data=msgspec.json.encode(key),
            owner=key.account,
            state=LIVE if key.revoked_at_ms is None else REVOKED,
            sort=key.created_at_ms,
        )

        outcomes: list[Committed | JournalRefused | BaseException] = []
        told = trio.Event()

        def settle(outcome: Committed | JournalRefused | BaseException) -> None:
            # Whoever asked may be gone by now; what is durable counts all the same.
            if isinstance(outcome, Committed):
                self._keys[key.api_key] = key
            outcomes.append(outcome)
            told.set()

        self.writer.submit(Batch(records=[record], events=list(events)), settle)
        with trio.move_on_after(COMMIT_S, shield=True):
            await told.wait()
        if not outcomes:
            raise Unavailable(f"the journal did not answer within {COMMIT_S:g} s; look at the list of keys")
        if isinstance(outcomes[0], BaseException):
            raise outcomes[0]

    def _secret(self, api_key: str, version: int) -> bytes:
        return derive_secret(self.master_key, api_key, version).encode()

    def _shown(self, key: ApiKey, *, with_secret: bool = False) -> KeyObject:
        return KeyObject(
            api_key=key.api_key,
            name=key.name,
            account_id=key.account,
            scopes=key.scopes,
            status=key.status(self._now_ms()),
            version=key.version,
            created_at=iso_seconds(key.created_at_ms),
            expires_at=_iso(key.expires_at_ms),
            revoked_at=_iso(key.revoked_at_ms),
            rotated_at=_iso(key.rotated_at_ms),
            previous_valid_until=_iso(key.previous_until_ms),
            secret=self._secret_to_tell(key) if with_secret else msgspec.UNSET,
        )

    def _secret_to_tell(self, key: ApiKey) -> str:
        """Return a key's secret, and have it hidden wherever it might be logged from now on."""
        secret = derive_secret(self.master_key, key.api_key, key.version)
        register_secret(secret)
        return secret

    def _now_ms(self) -> int:
        return self.clock.now_us() // 1000


def _told(key: KeyObject) -> dict[str, Any]:
    return {
        "api_key": key.api_key,
        "name": key.name,
        "account_id": key.account_id,
        "scopes": key.scopes,
        "state": key.status,
        "created_at": key.created_at,
        "expires_at": key.expires_at,
        "rotated_at": key.rotated_at,
        "grace_until": key.previous_valid_until,
    }


def _told_once(key: KeyObject) -> report.KeyWithSecret:
    return report.KeyWithSecret(**_told(key), secret=key.secret if isinstance(key.secret, str) else None)


def _stored_keys(reader: Reader) -> list[ApiKey]:
    return [msgspec.json.decode(row.data, type=ApiKey) for row in reader.rows(ENTITY)]


def _iso(at_ms: int | None) -> str | None:
    return None if at_ms is None else iso_seconds(at_ms)
