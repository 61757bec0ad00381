"""Who may do what: bearer tokens with verbs and a key prefix, stored hashed; and what the service signs."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from itsdangerous import BadSignature, URLSafeSerializer, URLSafeTimedSerializer

from s3api.files import InvalidCursor, PartPlan, UploadNotFound
from s3api.settings import TokenEntry, Verb

# As long as an unfinished upload can live in a bucket whose rule aborts it after a day: S3 rounds the end of
# that day up to the next midnight UTC.
UPLOAD_ID_SECONDS = 2 * 24 * 3600
ALL_VERBS: frozenset[Verb] = frozenset({"list", "read", "write", "delete"})


class Unauthorized(Exception):
    """No token, or one that is not configured."""


class Forbidden(Exception):
    """The caller is known and may not do this."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: `name` is that of the token, for the log."""

    name: str
    verbs: frozenset[Verb]
    prefix: str = ""

    def require(self, verb: Verb, *names: str) -> None:
        """Raises `Forbidden` unless the caller may do `verb` to every one of the names (or list prefixes)."""
        if verb not in self.verbs:
            raise Forbidden(f"The token '{self.name}' may not {verb} files")
        if not all(name.startswith(self.prefix) for name in names):
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
        # Every entry is compared, in constant time, so that timing tells nothing about them.
        for sha256, caller in self._entries:
            if hmac.compare_digest(sha256, digest):
                found = caller
        if found is None:
            raise Unauthorized("The token is not valid")
        return found


def new_token(name: str, verbs: frozenset[Verb], prefix: str) -> tuple[str, TokenEntry]:
    """A new token of 256 random bits, and the entry to configure; the token itself is kept nowhere."""
    token = "s3api_" + secrets.token_urlsafe(32)
    return token, TokenEntry(name=name, verbs=verbs, prefix=prefix, sha256=hash_token(token))


def hash_token(token: str) -> str:
    """SHA-256 is enough: a token is 256 random bits, not a password that could be guessed."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


class Signer:
    """Signs what the service hands out and must recognise later, so that it keeps no state of its own."""

    def __init__(self, key: str) -> None:
        self._cursors = URLSafeSerializer(key, salt="cursor")
        self._uploads = URLSafeTimedSerializer(key, salt="upload")

    def cursor(self, query: Sequence[str], token: str) -> str:
        return str(self._cursors.dumps([list(query), token]))

    def read_cursor(self, query: Sequence[str], cursor: str) -> str:
        """The store's token inside. Raises `InvalidCursor` unless it was given out for this query."""
        try:
            of, token = self._cursors.loads(cursor)
        except (BadSignature, ValueError, TypeError):
            of, token = None, None
        # Base64 has several spellings of the same bytes; only the one that was given out is taken.
        if of != list(query) or not isinstance(token, str) or self.cursor(query, token) != cursor:
            raise InvalidCursor(
                "The cursor was not given out for this query; begin again without it, "
                "and keep prefix and delimiter the same from page to page"
            )
        return token

    def upload_id(self, plan: PartPlan) -> str:
        return str(self._uploads.dumps([plan.name, plan.upload_id, plan.size, plan.part_size, plan.nonce]))

    def read_upload_id(self, value: str) -> PartPlan:
        """Raises `UploadNotFound` for an id that was not given out here, or is over two days old."""
        try:
            fields: Any = self._uploads.loads(value, max_age=UPLOAD_ID_SECONDS)
            return PartPlan(*fields)
        except (BadSignature, ValueError, TypeError):
            raise UploadNotFound(
                "The upload id is not valid, or has expired; plan the upload again"
            ) from None
