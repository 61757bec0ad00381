"""The bytes of a file on their way in: counted, hashed, and checked before the last of them is passed on."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import IO

from s3api.failures import ClientTooSlow, DigestMismatch, FileError, FileTooLarge, UploadInterrupted

TOO_SLOW = "The body came too slowly, or stopped coming; nothing was stored. Send the request again"


@dataclass
class Received:
    """Bytes that a client sends, read like a file; an end before the announced `size` is an error."""

    stream: IO[bytes]
    size: int | None
    received: int = field(default=0, kw_only=True)

    def read(self, amount: int = -1) -> bytes:
        """Up to `amount` bytes, b"" at the end. Raises `UploadInterrupted` and `ClientTooSlow`."""
        if self.size is not None:
            left = self.size - self.received
            amount = left if amount < 0 else min(amount, left)
            if not amount:
                return b""
        try:
            data = self.stream.read(amount)
        except TimeoutError as error:
            raise ClientTooSlow(TOO_SLOW) from error
        except Exception as error:  # the server's own errors of a connection that broke or stalled
            raise UploadInterrupted("The connection ended before the whole file had been received") from error
        if not data and self.size is not None:
            raise UploadInterrupted(
                f"The connection ended after {self.received} of {self.size} bytes; nothing was stored"
            )
        self.received += len(data)
        return data


@dataclass
class Body(Received):
    """A file's bytes on their way in, counted, hashed and held to the policy as they pass.

    The last bytes are handed on only after the whole has been checked, so a store that streams it never
    receives a body that is complete and wrong. What went wrong is kept in `failure`, because HTTP libraries
    wrap what a body raises.
    """

    max_size: int
    sha256: str | None = None
    digests: Mapping[str, str] = field(
        default_factory=dict, kw_only=True
    )  # others, in hex, by RFC 9530's names
    failure: FileError | None = field(default=None, kw_only=True)
    _hash: hashlib._Hash = field(default_factory=hashlib.sha256, kw_only=True)
    _others: dict[str, hashlib._Hash] = field(default_factory=dict, kw_only=True)

    def __post_init__(self) -> None:
        if self.size is not None and self.size > self.max_size:
            raise too_large(self.max_size)
        self._start_hashes()

    def _start_hashes(self) -> None:
        self._hash = hashlib.sha256()
        self._others = {
            name: hashlib.new(name.replace("-", ""), usedforsecurity=False) for name in self.digests
        }

    def read(self, amount: int = -1) -> bytes:
        """Also raises `FileTooLarge` and `DigestMismatch`."""
        try:
            data = super().read(amount)
            self._hash.update(data)
            for other in self._others.values():
                other.update(data)
            if self.received > self.max_size:
                raise too_large(self.max_size)
            if not data or self.received == self.size:
                self._check_digest()
        except FileError as error:
            self.failure = error
            raise
        return data

    def read_fully(self, amount: int) -> bytes:
        """Exactly `amount` bytes, fewer only at the end."""
        parts: list[bytes] = []
        while amount > 0 and (data := self.read(amount)):
            parts.append(data)
            amount -= len(data)
        return b"".join(parts)

    def rewind(self) -> bool:
        """Go back to the first byte, so that the store can try again; False where the stream cannot."""
        if self.received:
            if not getattr(self.stream, "seekable", lambda: False)():
                return False
            self.stream.seek(0)
            self.received = 0
            self._start_hashes()
        return True

    def hexdigest(self) -> str:
        return self._hash.hexdigest()

    def _check_digest(self) -> None:
        if self.sha256 is not None and not hmac.compare_digest(self.sha256, self._hash.hexdigest()):
            raise DigestMismatch(
                "The body does not match the given SHA-256; nothing was stored. Send the file again"
            )
        for name, digest in self.digests.items():
            if not hmac.compare_digest(digest, self._others[name].hexdigest()):
                raise DigestMismatch(
                    f"The body does not match the given digest ({name}); nothing was stored. "
                    "Send the file again"
                )


def too_large(limit: int) -> FileTooLarge:
    return FileTooLarge(f"The file is larger than the limit of {limit} bytes; nothing was stored")
