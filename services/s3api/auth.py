"""Who may do what: bearer tokens, stored as hashes, each with verbs and a name prefix."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from s3api.settings import TokenEntry, Verb

ALL_VERBS: frozenset[Verb] = frozenset({"list", "read", "write", "delete"})


class Unauthorized(Exception):
    """The request has no token, or one that is not configured."""


class Forbidden(Exception):
    """The caller is known and may not do this."""


@dataclass(frozen=True, slots=True)
class Caller:
    """The sender of a request. `name` is the token's name, for the log."""

    name: str
    verbs: frozenset[Verb]
    prefix: str = ""

    def require(self, verb: Verb, *names: str) -> None:
        """Raises `Forbidden` unless the caller may do `verb` to all of the names, or prefixes."""
        if verb not in self.verbs:
            raise Forbidden(f"The token '{self.name}' may not {verb} files")
        if self.prefix and not all(name.startswith(self.prefix) for name in names):
            raise Forbidden(f"The token '{self.name}' may only {verb} files that begin with '{self.prefix}'")


ANONYMOUS = Caller("anonymous", ALL_VERBS)


class Tokens:
    """The configured tokens."""

    def __init__(self, entries: Sequence[TokenEntry], *, allow_anonymous: bool) -> None:
        self._entries = [(entry.sha256, Caller(entry.name, entry.verbs, entry.prefix)) for entry in entries]
        self._allow_anonymous = allow_anonymous

    @property
    def configured(self) -> bool:
        return bool(self._entries) or self._allow_anonymous

    def identify(self, authorization: str | None) -> Caller:
        """The caller behind an Authorization header. Raises `Unauthorized`."""
        if not self.configured:
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
        digest = hash_token(token.strip())
        found = None
        # Compare every entry, in constant time, so that the duration reveals nothing about them.
        for sha256, caller in self._entries:
            if hmac.compare_digest(sha256, digest):
                found = caller
        if found is None:
            raise Unauthorized("The token is not valid")
        return found


def new_token(name: str, verbs: frozenset[Verb], prefix: str) -> tuple[str, TokenEntry]:
    """Return a new token of 256 random bits and its entry for API_TOKENS. The token itself is not stored."""
    token = "s3api_" + secrets.token_urlsafe(32)
    return token, TokenEntry(name=name, verbs=verbs, prefix=prefix, sha256=hash_token(token))


def hash_token(token: str) -> str:
    """SHA-256 is enough: a token is 256 random bits, so it cannot be guessed as a password can."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()
