"""Decides, before the emulator sees a request, whether the emulator may have it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import IntEnum
from urllib.parse import unquote
from xml.sax.saxutils import escape

from guard import signatures
from guard.signatures import Rejected, Request, SecretOf

#: For health checks: 204 if the emulator is ready, else 503. The answer says nothing else.
READY = "/_guard/ready"
#: Endpoints of the administration that do not begin with an underscore.
ADMINISTRATION = ("health", "shutdown")


class Wanted(IntEnum):
    """The part of the body that a decision needs. The value is the number of bytes to read at most."""

    FORM = 64 * 1024  # the fields of a form, which contain its signature; S3 accepts 20 KB of them
    BODY = 16 * 1024 * 1024  # the whole body, whose hash is signed: calls of services other than S3


@dataclass(frozen=True)
class Answer:
    """The guard's own answer, which the client gets instead of the emulator's."""

    status: int
    code: str = ""
    message: str = ""
    headers: tuple[tuple[bytes, bytes], ...] = ()

    @property
    def body(self) -> bytes:
        """The error in the format of S3, so that clients show its message."""
        if not self.code:
            return b""
        error = f"<Code>{self.code}</Code><Message>{escape(self.message)}</Message>"
        return f'<?xml version="1.0" encoding="UTF-8"?>\n<Error>{error}</Error>'.encode()


def _clock() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True)
class Guard:
    """The rules of one emulator.

    `hosts` and `origins` are the accepted values of the fields Host and Origin, in lower case.
    `services` are the services that requests may be signed for; empty means all.
    """

    hosts: frozenset[str]
    origins: frozenset[str]
    secret_of: SecretOf
    services: frozenset[str] = frozenset({"s3"})
    is_ready: Callable[[], bool] = field(default=lambda: True)
    now: Callable[[], datetime] = field(default=_clock)

    def decide(self, request: Request) -> Answer | Wanted | None:
        """Return None if the emulator may have the request, `Wanted` if the body must be checked first."""
        try:
            return self.closed(request) or self._check(request)
        except Rejected as rejected:
            return Answer(rejected.status, rejected.code, rejected.message)

    def decide_body(self, request: Request, wanted: Wanted, body: bytes, *, whole: bool) -> Answer | None:
        """Decide with the body, or with the part of it that `wanted` asks for."""
        try:
            if wanted is Wanted.FORM:
                fields = signatures.form_fields(request.header("content-type"), body)
                signatures.check_form(fields, self.secret_of, self.now())
            elif whole:
                self._check(request, hashlib.sha256(body).hexdigest())
            else:
                return Answer(
                    413, "EntityTooLarge", "The body is too large to check the signature of its hash."
                )
        except Rejected as rejected:
            return Answer(rejected.status, rejected.code, rejected.message)
        return None

    def allowed_origin(self, request: Request) -> str:
        """The origin whose page may read the answer; empty if none may."""
        origins = request.values("origin")
        return origins[0] if len(origins) == 1 and origins[0] in self.origins else ""

    def closed(self, request: Request) -> Answer | None:
        """Answer what the guard answers itself: refusals that no signature can change, and readiness."""
        hosts = request.values("host")
        if len(hosts) != 1 or hosts[0].lower() not in self.hosts:
            return Answer(403, "AccessDenied", "The emulator was not started under this address.")
        if request.values("origin") and not self.allowed_origin(request):
            return Answer(403, "AccessDenied", "Pages of this origin may not talk to the emulator.")
        if not request.path.startswith(b"/"):
            return Answer(400, "InvalidRequest", "The target of a request must be a path.")
        if request.path == READY.encode() and request.method in ("GET", "HEAD"):
            return Answer(204 if self.is_ready() else 503)
        if is_administration(request.path):
            return Answer(403, "AccessDenied", "The administration of the emulator is closed.")
        return None

    def _check(self, request: Request, body_hash: str | None = None) -> Wanted | None:
        """Check the signature; raise `Rejected` if it is not valid."""
        if self._is_preflight(request):
            return None
        presigned = signatures.is_presigned(request)
        headed = bool(request.values("authorization"))
        if presigned and headed:
            raise Rejected(400, "InvalidArgument", "Only one auth mechanism allowed")
        if not presigned and not headed:
            if self._may_be_form(request):
                return Wanted.FORM
            raise Rejected(403, "AccessDenied", "The request is not signed (AWS Signature Version 4).")
        claim = signatures.claim_of_query(request) if presigned else signatures.claim_of_header(request)
        secret = claim.secret(self.secret_of, self.services)
        signatures.check_time(claim, request, self.now(), presigned=presigned)
        signatures.check_headers(claim, request, presigned=presigned)
        body_hash = signatures.payload_hash(claim, request, presigned=presigned) or body_hash
        if body_hash is None:
            return Wanted.BODY
        claim.check(secret, signatures.text_to_sign(claim, request, body_hash))
        return None

    def _is_preflight(self, request: Request) -> bool:
        """Whether this is the preflight of an allowed page. Browsers never sign preflights."""
        asks = request.method == "OPTIONS" and request.header("access-control-request-method")
        return bool(asks and self.allowed_origin(request))

    def _may_be_form(self, request: Request) -> bool:
        """Whether this is S3's POST of a form to a bucket, and cannot be any other call."""
        return (
            request.method == "POST"
            and (not self.services or "s3" in self.services)
            and request.header("content-type").lower().startswith("multipart/form-data")
            and request.path.strip(b"/").count(b"/") == 0
            and not request.query
            and not any(name.startswith("x-amz-") for name in request.fields)
        )


def is_administration(path: bytes) -> bool:
    """Whether a path may lead to the emulator's own endpoints, also if it is percent-encoded.

    They begin with an underscore; no name of a bucket does.
    """
    first, _, rest = unquote(path.decode("latin-1")).lstrip("/").partition("/")
    return first.startswith("_") or (first in ADMINISTRATION and not rest)


def cross_origin(
    headers: Sequence[tuple[str, str]], origin: str, *, always: bool = False
) -> list[tuple[str, str]]:
    """The header fields of an answer, changed so that only a page of the allowed origin may read it.

    That page may read it if the emulator allows it, or with `always`.
    """
    allow = "access-control-allow-origin"
    allowed = {value for name, value in headers if name.lower() == allow}
    if not origin or not (always or allowed & {"*", origin}):
        return [one for one in headers if not one[0].lower().startswith("access-control-")]
    others = [one for one in headers if one[0].lower() != allow]
    return [*others, ("Access-Control-Allow-Origin", origin), ("Vary", "Origin")]
