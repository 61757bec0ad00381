"""Who may do what: bearer tokens, stored as hashes, each with verbs and a name prefix."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Protocol

from s3api.settings import TokenEntry, Verb

if TYPE_CHECKING:
    from s3api.jwt_tokens import Rights

ALL_VERBS: frozenset[Verb] = frozenset({"list", "read", "write", "delete"})


class Unauthorized(Exception):
    """The request has no token, or one that is not valid (`invalid_token`)."""

    def __init__(self, message: str, *, invalid_token: bool = False) -> None:
        super().__init__(message)
        self.invalid_token = invalid_token


class Forbidden(Exception):
    """The caller is known and may not do this."""


@dataclass(frozen=True, slots=True)
class Caller:
    """The sender of a request. `name` is the token's name, for the log.

    `expires` is when the token ends, in seconds since 1970, or None. `fingerprint` tells a configured token
    from another one of the same name. Other callers have none.
    """

    name: str
    verbs: frozenset[Verb]
    prefix: str = ""
    expires: float | None = None
    fingerprint: str = ""

    def require(self, verb: Verb, *names: str) -> None:
        """Raises `Forbidden` unless the caller may do `verb` to all of the names, or prefixes."""
        if verb not in self.verbs:
            raise Forbidden(f"The token '{self.name}' may not {verb} files")
        if self.prefix and not all(name.startswith(self.prefix) for name in names):
            raise Forbidden(f"The token '{self.name}' may only {verb} files that begin with '{self.prefix}'")


ANONYMOUS = Caller("anonymous", ALL_VERBS)
#: The sender of a request with an upload link, until the link is read.
LINK_HOLDER = Caller("upload_link", frozenset({"write"}))
#: The names of callers with a JWT begin with it. A configured token has no colon in its name.
JWT = "jwt:"


class JwtVerifier(Protocol):
    """What `jwt_tokens.Verifier` does. That module is loaded only if JWTs are configured."""

    def verify(self, token: str) -> Rights: ...


class Tokens:
    """The configured tokens: hashed ones, and the JWTs of an application."""

    def __init__(
        self,
        entries: Sequence[TokenEntry],
        *,
        allow_anonymous: bool,
        reloaded: Callable[[], Sequence[TokenEntry]] | None = None,
        jwts: JwtVerifier | None = None,
    ) -> None:
        """`reloaded` returns the current entries if they are in a file. Requests call it; it must be fast."""
        self._entries = reloaded or (lambda: entries)
        self._seen: Sequence[TokenEntry] | None = None
        self._callers: list[tuple[str, Caller]] = []
        self._jwts = jwts
        self._allow_anonymous = allow_anonymous

    @property
    def configured(self) -> bool:
        return self._allow_anonymous or self._jwts is not None or bool(self._entries())

    def identify(self, authorization: str | None) -> Caller:
        """The caller behind an Authorization header. Raises `Unauthorized`."""
        callers = self._hashed()
        if not (callers or self._jwts or self._allow_anonymous):
            raise Unauthorized(
                "No API tokens are configured; the operator sets API_TOKENS, or ALLOW_ANONYMOUS=true"
            )
        if authorization is None:
            if self._allow_anonymous:
                return ANONYMOUS
            raise Unauthorized("A token is needed: send the header 'Authorization: Bearer <token>'")
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer":
            raise Unauthorized("The Authorization header must be 'Bearer <token>'")
        token = token.strip()
        digest = hash_token(token)
        found = None
        # Compare every entry, in constant time, so that the duration reveals nothing about them.
        for sha256, caller in callers:
            if hmac.compare_digest(sha256, digest):
                found = caller
        if found is None and self._jwts is not None and token.count(".") == 2:
            found = self._issued(self._jwts, token)
        if found is None:
            hint = (
                "" if callers or self._jwts else ": this service has no tokens; send the request without one"
            )
            raise Unauthorized(f"The token is not valid{hint}", invalid_token=True)
        if found.expires is not None and found.expires <= time.time():
            raise Unauthorized("The token has expired", invalid_token=True)
        return found

    def find(self, name: str, fingerprint: str) -> Caller | None:
        """The caller with this name and fingerprint, with its rights of now. None if its access has ended.

        The rights of a JWT are only in the JWT, so its caller is found while JWTs are accepted.
        """
        if fingerprint:
            for _, caller in self._hashed():
                if (caller.name, caller.fingerprint) == (name, fingerprint):
                    return None if caller.expires is not None and caller.expires <= time.time() else caller
            return None
        if name.startswith(JWT):
            return Caller(name, ALL_VERBS) if self._jwts is not None else None
        return ANONYMOUS if self._allow_anonymous else None

    def _hashed(self) -> list[tuple[str, Caller]]:
        entries = self._entries()
        if entries is not self._seen:
            self._callers = [(entry.sha256, _caller(entry)) for entry in entries]
            self._seen = entries
        return self._callers

    def _issued(self, jwts: JwtVerifier, token: str) -> Caller:
        from s3api.jwt_tokens import LEEWAY, InvalidJwt  # noqa: PLC0415 - its libraries take memory

        try:
            rights = jwts.verify(token)
        except InvalidJwt as error:
            raise Unauthorized(str(error), invalid_token=True) from None
        return Caller(f"{JWT}{rights.subject}", rights.verbs, rights.prefix, rights.expires + LEEWAY)


def _caller(entry: TokenEntry) -> Caller:
    expires = None if entry.expires is None else entry.expires.timestamp()
    return Caller(entry.name, entry.verbs, entry.prefix, expires, hash_token(entry.sha256)[:16])


def new_token(
    name: str, verbs: frozenset[Verb], prefix: str, expires: datetime | None = None
) -> tuple[str, TokenEntry]:
    """Return a new token of 256 random bits and its entry for API_TOKENS. The token itself is not stored."""
    token = "s3api_" + secrets.token_urlsafe(32)
    return token, TokenEntry(name=name, verbs=verbs, prefix=prefix, sha256=hash_token(token), expires=expires)


def hash_token(token: str) -> str:
    """SHA-256 is enough: a token is 256 random bits, so it cannot be guessed as a password can."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()
