"""The tokens of ECR. Only their holders may push to the emulated registry and pull from it."""

from __future__ import annotations

import base64
import binascii
import hashlib
import secrets
import threading
import time
from collections.abc import Callable

#: An authorization token is valid for 12 hours:
#: https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_GetAuthorizationToken.html
VALID_SECONDS = 12 * 3600
USER = "AWS"
CHALLENGE = 'Basic realm="ECR"'


class Tokens:
    """The digests of the passwords that are valid now. They are kept in memory only."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._expires: dict[bytes, float] = {}
        self._lock = threading.Lock()
        #: The password with which the engine pulls the image of a task.
        self.for_tasks = secrets.token_urlsafe(32)

    def issue(self) -> tuple[str, float]:
        """Return a new password and the time when it expires."""
        password, now = secrets.token_urlsafe(32), self._clock()
        with self._lock:
            self._expires = {digest: end for digest, end in self._expires.items() if end > now}
            self._expires[_digest(password)] = now + VALID_SECONDS
        return password, now + VALID_SECONDS

    def accept(self, authorization: str) -> bool:
        """Whether the value of an Authorization header contains a valid password."""
        scheme, _, coded = authorization.partition(" ")
        if scheme.lower() != "basic":
            return False
        try:
            user, _, password = base64.b64decode(coded.strip(), validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            return False
        if user != USER:
            return False
        if secrets.compare_digest(_digest(password), _digest(self.for_tasks)):
            return True
        with self._lock:
            return self._expires.get(_digest(password), 0.0) > self._clock()


def _digest(password: str) -> bytes:
    return hashlib.sha256(password.encode()).digest()
