"""The bytes that a client sends: counted, hashed, and checked before the last of them is passed on."""

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
    """Bytes that a client sends, read like a file. Fewer bytes than the announced `size` are a failure."""

    stream: IO[bytes]
    size: int | None
    received: int = field(default=0, kw_only=True)

    def read(self, amount: int = -1) -> bytes:
        """Return up to `amount` bytes, or b"" at the end. Raises `UploadInterrupted` and `ClientTooSlow`."""
        if self.size is not None:
            left = self.size - self.received
            amount = left if amount < 0 else min(amount, left)
            if not amount:
                return b""
        try:
            data = self.stream.read(amount)
        except FileError:
            raise
        except TimeoutError as error:
            raise ClientTooSlow(TOO_SLOW) from error
        except Exception as error:  # the server has its own errors for a broken connection
            raise UploadInterrupted("The connection ended before the whole file had been received") from error
        if not data and self.size is not None:
            raise UploadInterrupted(
                f"The connection ended after {self.received} of {self.size} bytes; nothing was stored"
            )
        self.received += len(data)
        return data


@dataclass
class Body(Received):
    """The bytes of one file, counted, hashed and checked against the limits while they are read.

    The last bytes are returned only after all checks, so a store that receives a stream never receives a
    complete body that is wrong. `failure` keeps the failure, because HTTP libraries wrap it.
    Without `hashed` the SHA-256 is not computed, and `hexdigest` must not be called.
    """

    max_size: int
    sha256: str | None = None
    digests: Mapping[str, str] = field(
        default_factory=dict, kw_only=True
    )  # other digests in hex, by their names in RFC 9530
    failure: FileError | None = field(default=None, kw_only=True)
    hashed: bool = field(default=True, kw_only=True)
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
        """Raises `FileTooLarge` and `DigestMismatch` as well."""
        try:
            data = super().read(amount)
            if self.hashed:
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
        """Return exactly `amount` bytes, or fewer at the end."""
        parts: list[bytes] = []
        while amount > 0 and (data := self.read(amount)):
            parts.append(data)
            amount -= len(data)
        return b"".join(parts)

    def rewind(self) -> bool:
        """Go back to the first byte, so that the store can try again. Returns False if the stream cannot."""
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
