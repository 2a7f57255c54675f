"""The tokens: made for users, kept nowhere, and told apart from what anybody else may show as one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

import msgspec
import trio
from attrs import define, field

from actors.actor import Asker, Writer
from pipaid.errors import InvalidParameter, InvalidSignature
from pipaid.logs import register_secret
from pipaid.model.account import TokenCreate, TokenObject, TokensRotated
from pipaid.model.ident import random_id
from pipaid.model.moment import iso_seconds
from pipaid.model.record import Batch, Kind, Record
from pipaid.model.request import Nothing
from pipaid.seams import Clock, Ids
from pipaid.storage.store import Reader
from pipaid.wire.signing import API_KEY_CHARS_MAX, SECRET_CHARS, Caller, derive_secret, expand_scopes
from pipaid.wire.token import TOKEN_CHARS_MAX, Claims, made_token, read_token

ENTITY: Final = "token"
SIGNING: Final = "signing key"
BEARER: Final = "bearer"
WAY: Final = "send Authorization: Bearer TOKEN, or KEY:SECRET"


class SigningKey(msgspec.Struct, frozen=True, kw_only=True):
    """Which version of the key tokens are signed with, as the journal keeps it."""

    version: int = 1
    rotated_at_us: int = 0


class Keys(Protocol):
    """The key ring as the tokens see it."""

    def bear(self, api_key: str, secret: str) -> Caller:
        """Return who shows a key and its secret."""
        ...


class Organisations(Protocol):
    """The accounts as the tokens see them."""

    def of(self, organisation: str) -> Sequence[str]:
        """Return the accounts of an organisation, oldest first."""
        ...


@define(eq=False)
class Tokens:
    """Make tokens, void them all at once, and tell whom a bearer stands for: a user, or the account of a key."""

    writer: Writer
    clock: Clock
    ids: Ids
    master_key: bytes = field(repr=False)
    keys: Keys
    organisations: Organisations
    _signing: SigningKey = field(init=False)
    _key: bytes = field(init=False, repr=False)
    _changing: trio.Lock = field(factory=trio.Lock, init=False)

    def __attrs_post_init__(self) -> None:
        self._take(SigningKey())

    async def load(self) -> None:
        """Read from the journal which version of the key is in force."""
        self._take(await self.writer.read(_stored))

    def bear(self, authorization: str) -> Caller:
        """Return who an `Authorization` header stands for; raise InvalidSignature or KeyExpired."""
        scheme, _, shown = authorization.partition(" ")
        if not authorization:
            raise InvalidSignature(f"nobody said who asks; {WAY}")
        if scheme.lower() != BEARER or not shown:
            raise InvalidSignature(f"the Authorization header is not understood; {WAY}")
        if len(shown) > TOKEN_CHARS_MAX:
            raise InvalidSignature(f"what is borne has more than {TOKEN_CHARS_MAX} characters")
        api_key, colon, secret = shown.partition(":")
        if colon:
            if len(api_key) > API_KEY_CHARS_MAX or len(secret) != SECRET_CHARS:
                raise InvalidSignature("the secret does not fit the key")
            return self.keys.bear(api_key, secret)
        if "." not in shown:
            raise InvalidSignature("a key alone is never enough; send Authorization: Bearer KEY:SECRET")
        claims = read_token(shown, self._key, self._signing.version, now_s=self.clock.now_us() // 1_000_000)
        accounts = self.organisations.of(claims.org)
        if not accounts:
            raise InvalidSignature(f"the organisation {claims.org} has no account any more")
        scopes = expand_scopes(claims.scope.split())
        return Caller(api_key="", account=accounts[0], scopes=scopes, user=claims.sub, organisation=claims.org)

    # What the control socket asks; each is named after its operation.

    async def token_create(self, caller: Asker, asked: TokenCreate) -> TokenObject:
        """Make a token; nothing of it is kept."""
        accounts = self.organisations.of(asked.organisation)
        if not accounts:
            reason = f"no account belongs to {asked.organisation!r}; `pipaid account create --organisation` makes one"
            raise InvalidParameter(f"organisation: {reason}", details=(("organisation", reason),))
        now_s = self.clock.now_us() // 1_000_000
        scopes = tuple(sorted(expand_scopes(asked.scopes)))
        claims = Claims(
            sub=asked.user,
            org=asked.organisation,
            scope=" ".join(scopes),
            iat=now_s,
            exp=now_s + asked.ttl_seconds,
            jti=random_id("tok", self.ids.entropy(6)),
        )
        token = made_token(claims, self._key, self._signing.version)
        register_secret(token)
        return TokenObject(
            token=token,
            token_id=claims.jti,
            user=claims.sub,
            organisation=claims.org,
            account_id=accounts[0],
            scopes=scopes,
            expires_at=iso_seconds(claims.exp * 1_000),
        )

    async def token_rotate(self, caller: Asker, asked: Nothing) -> TokensRotated:
        """Void every token made so far."""
        async with self._changing:
            fresh = SigningKey(version=self._signing.version + 1, rotated_at_us=self.clock.now_us())
            # Even if whoever asked is cut off: memory must not fall behind.
            with trio.CancelScope(shield=True):
                await self.writer.commit(Batch(records=[Record(ENTITY, SIGNING, Kind.PUT, msgspec.json.encode(fresh))]))
            self._take(fresh)
        return TokensRotated(version=fresh.version)

    def _take(self, signing: SigningKey) -> None:
        self._signing = signing
        # No API key has a blank in its name, so none has this secret.
        self._key = derive_secret(self.master_key, SIGNING, signing.version).encode()


def _stored(reader: Reader) -> SigningKey:
    row = reader.get(ENTITY, SIGNING)
    return SigningKey() if row is None else msgspec.json.decode(row.data, type=SigningKey)
