"""What schemathesis loads beside the document: how requests are signed, and what of an answer no schema can foresee."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Final, cast

import schemathesis
from requests import PreparedRequest
from requests.auth import AuthBase

from pipaid.wire.signing import canonical, sign
from tests.fuzz.foreseen import API_KEY, SECRET, is_foreseen

CREDENTIALS: Final = ("X-PipAI-API-Key", "X-PipAI-Timestamp", "X-PipAI-Signature")
BEARER: Final = "Authorization"
# What is asked for with either.
DIALECT: Final = "/api/"


class Signing(AuthBase):
    """Sign what is sent, each time with a later timestamp, unless the fuzzer took the credentials away."""

    last_ms: int = 0

    def __call__(self, request: PreparedRequest) -> PreparedRequest:
        """Sign one request, or bear the key where either will do and the fuzzer gave neither."""
        given = [name for name in (*CREDENTIALS, BEARER) if name in request.headers]
        if not given and request.path_url.startswith(DIALECT):
            request.headers[BEARER] = f"Bearer {os.environ[API_KEY]}:{os.environ[SECRET]}"
        if any(name not in given for name in CREDENTIALS):
            return request
        self.last_ms = max(self.last_ms + 1, time.time_ns() // 1_000_000)
        signed = canonical(str(self.last_ms), str(request.method), request.path_url, body_of(request))
        signature = sign(os.environ[SECRET].encode(), signed)
        request.headers.update(zip(CREDENTIALS, (os.environ[API_KEY], str(self.last_ms), signature), strict=True))
        return request


def body_of(request: PreparedRequest) -> bytes:
    """Return the bytes that are sent."""
    body = cast("str | bytes | None", request.body) or b""
    return body.encode() if isinstance(body, str) else body


# The library gives these away in a form that type checkers cannot follow.
_library: Any = schemathesis
_hook: Callable[[Callable[..., bool]], Callable[..., bool]] = _library.hook
_library.auth.set_from_requests(Signing())


@_hook
def filter_failure(context: Any, failure: Exception, case: Any, response: Any) -> bool:
    """Tell whether a failure counts: no schema says why a valid request may be refused, nor how large a body may be."""
    if type(failure).__name__ == "AcceptedNegativeData":
        return bool(response.status_code != HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
    if type(failure).__name__ != "RejectedPositiveData":
        return True
    request: PreparedRequest = response.request
    return is_foreseen(case.operation.definition.raw["operationId"], request.path_url, body_of(request).decode())
