"""Tokens that an application issues: JWTs, checked as RFC 8725 (JSON Web Token Best Current Practices) says.

This module is loaded only if JWTs are configured, because the libraries take several MiB of memory.
"""

from __future__ import annotations

import json
import logging
import math
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, get_args

import jwt
import urllib3
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from s3api.failures import TokenKeysUnavailable
from s3api.reloading import Reloaded
from s3api.settings import Settings, SettingsError, Verb
from s3api.waiting import at_most

log = logging.getLogger("s3api")

#: A longer token is refused before anything of it is decoded.
MAX_TOKEN_CHARACTERS = 4096
#: How far the clocks of the issuer and of the service may differ, in seconds.
LEEWAY = 30
#: Headers that bring or name a key. A key comes only from the configuration (RFC 8725, section 3.10).
KEY_HEADERS = ("jwk", "jku", "x5u", "x5c")
#: The media types of a token that grants access (RFC 8725, section 3.11; RFC 9068, section 2.1).
TYPES = frozenset({"jwt", "at+jwt", "application/jwt", "application/at+jwt"})
MIN_RSA_BITS = 2048  # RFC 7518, section 3.3

MAX_JWKS_BYTES = 256 * 1024
FETCH_SECONDS = 5.0
#: The longest wait for a connection, and for each piece of the answer. If an address of the issuer does not
#: answer, there is still time for another one.
CONNECTION_SECONDS = 2.0
#: The shortest time between two requests for the keys.
FETCH_INTERVAL_SECONDS = 30.0
#: After this time the keys are fetched again, so that a key that its issuer has removed ends.
KEYS_LIFE_SECONDS = 300.0

_SUBJECT = re.compile(r"[\x21-\x7e]{1,128}")


class InvalidJwt(Exception):
    """The token is refused; the message is a sentence without any part of the token."""


@dataclass(frozen=True, slots=True)
class Rights:
    """What a valid token allows until `expires`, in seconds since 1970."""

    subject: str
    verbs: frozenset[Verb]
    prefix: str
    expires: float


@dataclass(frozen=True, slots=True)
class Key:
    """A key and the only algorithm that it is used with (RFC 8725, section 3.1)."""

    key: Any
    algorithm: str


class Keys(Protocol):
    """Where the keys come from."""

    def find(self, kid: str) -> Key | None:
        """Raises `TokenKeysUnavailable` if the key may exist but cannot be fetched now."""


class Verifier:
    """Checks JWTs of one issuer for one audience."""

    def __init__(self, keys: Keys, issuer: str, audience: str, max_seconds: int, *, needs_kid: bool) -> None:
        self._keys = keys
        self._issuer = issuer
        self._audience = audience
        self._max_seconds = max_seconds
        self._needs_kid = needs_kid

    def verify(self, token: str) -> Rights:
        """The rights of a token. Raises `InvalidJwt`, and `TokenKeysUnavailable` without its keys."""
        if len(token) > MAX_TOKEN_CHARACTERS:
            raise InvalidJwt(f"The token has more than {MAX_TOKEN_CHARACTERS} characters")
        try:
            header = jwt.get_unverified_header(token)
        except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
            raise InvalidJwt("The token is not a valid JWT") from None
        kid = self._kid(header)
        key = self._keys.find(kid)
        if key is None:
            raise InvalidJwt("The token's key is not known")
        if header.get("alg") != key.algorithm:
            raise InvalidJwt("The token's algorithm is not the one of its key")
        return self._rights(self._claims(token, key))

    def _kid(self, header: Mapping[str, Any]) -> str:
        if any(name in header for name in KEY_HEADERS):
            raise InvalidJwt("The token brings or names its own key; only configured keys are used")
        if "crit" in header:  # RFC 7515, section 4.1.11
            raise InvalidJwt("The token has a critical header that is not supported")
        if str(header.get("typ", "JWT")).lower() not in TYPES:
            raise InvalidJwt("The token has another type than JWT or at+jwt")
        kid = header.get("kid", "")
        if not isinstance(kid, str) or (self._needs_kid and not kid):
            raise InvalidJwt("The token has no key id (kid)")
        return kid

    def _claims(self, token: str, key: Key) -> Mapping[str, Any]:
        try:
            claims: Mapping[str, Any] = jwt.decode(
                token,
                key.key,
                algorithms=[key.algorithm],
                audience=self._audience,
                issuer=self._issuer,
                leeway=LEEWAY,
                options={"require": ["iss", "aud", "exp", "sub"]},
            )
        except jwt.ExpiredSignatureError:
            raise InvalidJwt("The token has expired") from None
        except jwt.ImmatureSignatureError:
            raise InvalidJwt("The token is not valid yet") from None
        except jwt.InvalidAudienceError:
            raise InvalidJwt("The token is for another audience (aud)") from None
        except jwt.InvalidIssuerError:
            raise InvalidJwt("The token is from another issuer (iss)") from None
        except jwt.MissingRequiredClaimError as error:
            raise InvalidJwt(f"The token has no claim '{error.claim}'") from None
        except jwt.InvalidSignatureError:
            key_of = "the key of its kid" if self._needs_kid else "the configured secret"
            raise InvalidJwt(f"The token's signature is not valid: it does not match {key_of}") from None
        except (jwt.PyJWTError, ValueError, TypeError, ArithmeticError, RecursionError):
            raise InvalidJwt("The token is not valid") from None
        return claims

    def _rights(self, claims: Mapping[str, Any]) -> Rights:
        for name in ("exp", "nbf", "iat"):
            if name in claims and not _is_date(claims[name]):
                raise InvalidJwt(f"The token's claim '{name}' is not a number")
        expires = float(claims["exp"])
        if expires > time.time() + self._max_seconds + LEEWAY:
            raise InvalidJwt(f"The token is valid for more than {self._max_seconds} seconds")
        subject, verbs, prefix = claims["sub"], claims.get("verbs"), claims.get("prefix")
        if not isinstance(subject, str) or not _SUBJECT.fullmatch(subject):
            raise InvalidJwt("The token's subject (sub) must have 1 to 128 visible ASCII characters")
        known = get_args(Verb)
        if not isinstance(verbs, list) or not verbs or not all(verb in known for verb in verbs):
            raise InvalidJwt(f"The token's claim 'verbs' must be a list of {', '.join(known)}")
        if not isinstance(prefix, str):
            raise InvalidJwt("The token's claim 'prefix' must be a string; an empty one allows all files")
        return Rights(subject, frozenset(verbs), prefix, expires)


def _is_date(value: object) -> bool:
    """Whether this is a NumericDate (RFC 7519, section 2)."""
    return isinstance(value, int | float) and not isinstance(value, bool) and -(2**53) < value < 2**53


class _Secret:
    """One secret that the application shares with the service. The token needs no key id."""

    def __init__(self, secret: str) -> None:
        self._key = Key(secret.encode(), "HS256")

    def find(self, kid: str) -> Key | None:  # noqa: ARG002 - there is one key
        return self._key


class _File:
    """The keys of a file. A changed file is read again."""

    def __init__(self, keys: Callable[[], Mapping[str, Key]]) -> None:
        self._keys = keys

    def find(self, kid: str) -> Key | None:
        return self._keys().get(kid)


class FetchedKeys:
    """The keys of a URL.

    One request at a time fetches them, at most once in FETCH_INTERVAL_SECONDS, in a thread of its own. A
    request waits for it only if its key is not known yet, or has not been confirmed for long, and no longer
    than FETCH_SECONDS. If a fetch fails, the keys of the last one stay in use.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._keys: Mapping[str, Key] = {}
        self._pool = urllib3.PoolManager(retries=False, timeout=CONNECTION_SECONDS)
        self._lock = threading.Lock()
        self._fetching: threading.Event | None = None
        # As long as the last success is older than the last start, a fetch is running or has failed.
        self._last_start = self._last_success = -math.inf

    def find(self, kid: str) -> Key | None:
        key = self._keys.get(kid)
        if key is None:
            self._start()
            if running := self._fetching:
                running.wait(FETCH_SECONDS)
            key = self._keys.get(kid)
            if key is None and self._last_success < self._last_start:
                raise TokenKeysUnavailable("The keys of the tokens' issuer cannot be fetched; try again")
        elif (age := time.monotonic() - self._last_success) > KEYS_LIFE_SECONDS:
            self._start()
            # A service that had nothing to do for hours must not accept a key that was removed meanwhile.
            if age > KEYS_LIFE_SECONDS + FETCH_INTERVAL_SECONDS:
                if running := self._fetching:
                    running.wait(FETCH_SECONDS)
                key = self._keys.get(kid)
        return key

    def _start(self) -> None:
        with self._lock:
            now = time.monotonic()
            if self._fetching is not None or now - self._last_start < FETCH_INTERVAL_SECONDS:
                return
            self._last_start = now
            self._fetching = done = threading.Event()
        threading.Thread(target=self._fetch, args=(done,), name="jwks", daemon=True).start()

    def _fetch(self, done: threading.Event) -> None:
        try:
            with at_most(FETCH_SECONDS):
                text = self._download()
            self._keys = parse_jwks(text)
            self._last_success = time.monotonic()
        except Exception as error:
            log.error("The keys at JWT_JWKS_URL cannot be fetched: %s", type(error).__name__)  # noqa: TRY400 - with its URL
        finally:
            self._fetching = None
            done.set()

    def _download(self) -> str:
        deadline = time.monotonic() + FETCH_SECONDS
        headers = {"Accept": "application/jwk-set+json, application/json"}
        answer = self._pool.request(
            "GET", self._url, headers=headers, redirect=False, preload_content=False, decode_content=False
        )
        try:
            if answer.status != 200:
                raise ValueError("the status is not 200")
            data = b""
            while piece := answer.read1(MAX_JWKS_BYTES):
                data += piece
                if len(data) > MAX_JWKS_BYTES or time.monotonic() > deadline:
                    raise ValueError("the answer is too long or too slow")
            return data.decode()
        finally:
            answer.close()


def parse_jwks(text: str) -> Mapping[str, Key]:
    """The keys of a JWK set by their ids. Keys that are not usable are ignored (RFC 7517, section 5).

    Raises `ValueError` if none is usable.
    """
    document = json.loads(text)
    listed = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(listed, list):
        raise ValueError("is not a JWK set: a JSON object with the list 'keys'")  # noqa: TRY004 - a value is wrong
    keys: dict[str, Key] = {}
    for one in listed:
        kid, key = one.get("kid") if isinstance(one, dict) else None, _key(one)
        if isinstance(kid, str) and kid and key is not None:
            if kid in keys:
                raise ValueError("has two keys with the same key id (kid)")
            keys[kid] = key
    if not keys:
        raise ValueError(
            "has no usable key: a public key with a kid, "
            "for RS256 (2,048 bits or more), ES256 or EdDSA (Ed25519)"
        )
    return keys


#: The algorithm for each kind of key. A symmetric key (`oct`) in a set that others can read is never used.
_ALGORITHMS: Mapping[tuple[object, object], str] = {
    ("RSA", None): "RS256",
    ("EC", "P-256"): "ES256",
    ("OKP", "Ed25519"): "EdDSA",
}


def _key(one: object) -> Key | None:
    """The key of a JWK, or None if it is private, not for signatures, too short, or of another kind."""
    if not isinstance(one, dict):
        return None
    try:
        algorithm = _ALGORITHMS.get((one.get("kty"), one.get("crv")))
    except TypeError:
        return None
    operations = one.get("key_ops", ["verify"])
    if (
        algorithm is None
        or one.get("alg", algorithm) != algorithm
        or one.get("use", "sig") != "sig"
        or not isinstance(operations, list)
        or "verify" not in operations
        or "d" in one
    ):
        return None
    try:
        key = jwt.PyJWK(one, algorithm=algorithm).key
    except (jwt.PyJWTError, UnsupportedAlgorithm, ValueError, TypeError):
        return None
    if isinstance(key, RSAPublicKey) and key.key_size < MIN_RSA_BITS:
        return None
    return Key(key, algorithm)


def verifier(settings: Settings) -> Verifier:
    """The verifier for these settings. Raises `SettingsError` if JWT_JWKS_FILE is not usable."""
    keys: Keys
    if settings.jwt_secret is not None:
        keys = _Secret(settings.jwt_secret.get_secret_value())
    elif settings.jwt_jwks_file is not None:
        try:
            keys = _File(Reloaded(settings.jwt_jwks_file, parse_jwks))
        except OSError as error:
            raise SettingsError(f"JWT_JWKS_FILE: the file cannot be read ({error.strerror})") from None
        except ValueError as error:
            what = "is not valid JSON" if isinstance(error, json.JSONDecodeError) else error
            raise SettingsError(f"JWT_JWKS_FILE: the file {what}") from None
    else:
        keys = FetchedKeys(str(settings.jwt_jwks_url))
    return Verifier(
        keys,
        str(settings.jwt_issuer),
        str(settings.jwt_audience),
        settings.jwt_max_seconds,
        needs_kid=settings.jwt_secret is None,
    )
