"""The gate: who sent a forwarded request, whether they may, whether it is within their budget, and what it asks for."""

from __future__ import annotations

from typing import Final, Protocol

import msgspec
from attrs import define

from pipaid.errors import InsufficientPermission, InvalidParameter, InvalidSignature, KeyExpired, NotFound, PipaidError
from pipaid.model.operation import PUBLIC, Operation, objection_to
from pipaid.model.request import Request
from pipaid.model.route import is_addressed, request_of
from pipaid.seams import Clock
from pipaid.wire.budget import Budgets, Spent, holder_of
from pipaid.wire.envelope import NESTING_MAX, Forwarded, Standing, too_deep
from pipaid.wire.signing import Caller, SignedRequest

# The account of whoever did not sign: there is no object that belongs to it.
NOBODY: Final = ""
FAILED_SIGNATURE_WEIGHT: Final = 1


class Authority(Protocol):
    """Who knows the keys."""

    def authenticate(self, request: SignedRequest, *, mutating: bool = False) -> Caller:
        """Return who signed the request, or raise InvalidSignature or KeyExpired."""
        ...


class Bearers(Protocol):
    """Who knows the tokens, and the keys of those who bear theirs instead of signing with it."""

    def bear(self, authorization: str) -> Caller:
        """Return who an `Authorization` header stands for, or raise InvalidSignature or KeyExpired."""
        ...


class Admitted(msgspec.Struct, frozen=True, kw_only=True):
    """A request that may be carried out: for whom, what it asks for, and what is left of the budget it cost."""

    account: str
    request: Request
    standing: Standing
    api_key: str = ""
    user: str = ""
    organisation: str = ""


class Refused(msgspec.Struct, frozen=True, kw_only=True):
    """A request that may not be, why, and what is left of the budget it was charged to, if it was to any."""

    error: PipaidError
    standing: Standing | None


@define(eq=False)
class Gate:
    """Judge forwarded requests; `keys` and `addresses` are the budgets of those who signed and of those who did not.

    A signature is judged whatever was spent before: strangers cannot use up the budget of a key, only that of their own
    address, which also pays for each signature that fails.
    """

    authority: Authority
    clock: Clock
    keys: Budgets
    addresses: Budgets
    bearers: Bearers | None = None

    def judge(self, operation: Operation, asked: Forwarded) -> Admitted | Refused:
        """Judge one request for an operation: signature, budget, scope and arguments, in this order."""
        if not is_addressed(operation, asked.method, asked.target.partition("?")[0]):
            return Refused(error=NotFound(f"{operation.name} is not asked for like this"), standing=None)
        standing: Standing | None = None
        try:
            caller = self._caller(operation, asked)
            # What weighs as much as it asks for has to be understood before it is charged, and is so only once.
            known = _understood(operation, asked) if operation.weight_max else None
            weight = (known.weight if known is not None else None) or operation.weight
            standing = self._charge(weight, caller, asked.address)
            if caller is not None:
                objection = objection_to(operation, speaks_for=caller.account, scopes=caller.scopes)
                if objection:
                    raise InsufficientPermission(objection)
            request = _request(operation, asked) if known is None else known
        except Spent as spent:
            return Refused(error=spent, standing=spent.standing)
        except (InvalidSignature, KeyExpired) as failed:
            return self._pay_for(failed, asked.address)
        except PipaidError as refused:
            return Refused(error=refused, standing=standing)
        if caller is None:
            return Admitted(account=NOBODY, request=request, standing=standing)
        return Admitted(
            account=caller.account,
            request=request,
            standing=standing,
            api_key=caller.api_key,
            user=caller.user,
            organisation=caller.organisation,
        )

    def told_after_paying(self, failed: PipaidError, address: str) -> PipaidError:
        """Let an address pay for a signature that failed elsewhere, and return what it is told."""
        return self._pay_for(failed, address).error

    def _caller(self, operation: Operation, asked: Forwarded) -> Caller | None:
        """Return who signed, or who bears a credential where that will do; nobody has to where no key is needed."""
        if not (asked.api_key or asked.timestamp or asked.signature):
            if operation.scope == PUBLIC:
                return None
            if operation.dialect and self.bearers is not None:
                return self.bearers.bear(asked.authorization)
        signed = SignedRequest(
            api_key=asked.api_key,
            timestamp=asked.timestamp,
            signature=asked.signature,
            method=asked.method,
            target=asked.target,
            body=asked.body.encode(),
        )
        return self.authority.authenticate(signed, mutating=operation.mutating)

    def _charge(self, weight: int, caller: Caller | None, address: str) -> Standing:
        now_s = self.clock.monotonic_s()
        if caller is None:
            return self.addresses.charge(holder_of(address), weight, now_s=now_s)
        return self.keys.charge(caller.holder, weight, now_s=now_s)

    def _pay_for(self, failed: PipaidError, address: str) -> Refused:
        try:
            standing = self._charge(FAILED_SIGNATURE_WEIGHT, None, address)
        except Spent as spent:
            return Refused(error=spent, standing=spent.standing)
        return Refused(error=failed, standing=standing)


def _understood(operation: Operation, asked: Forwarded) -> Request | None:
    """Return what is asked for; nothing where that is a mistake, which is told once it was paid for."""
    try:
        return _request(operation, asked)
    except PipaidError:
        return None


def _request(operation: Operation, asked: Forwarded) -> Request:
    if too_deep(asked.body.encode()):
        raise InvalidParameter(f"the body is nested deeper than {NESTING_MAX}")
    return request_of(operation, asked.target, asked.body)
