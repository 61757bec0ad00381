"""The keys of an installation: random, made once, readable only by their owner.

The directory contains `signing_key` and `credentials`. AWS tools read the latter
(AWS_SHARED_CREDENTIALS_FILE).
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from configparser import ConfigParser
from dataclasses import dataclass
from pathlib import Path

from guard.signatures import Secret

REGION = "eu-west-1"


@dataclass(frozen=True)
class Keys:
    access_key: str
    secret: Secret

    def secret_of(self, access_key: str) -> Secret | None:
        return self.secret if access_key == self.access_key else None


def installed(directory: Path, owner: int | None = None) -> Keys:
    """Return the keys in the directory. Make those that are missing; root may make them for another user."""
    directory.mkdir(parents=True, exist_ok=True)
    _private(directory, 0o700, owner)
    text = _kept(directory / "credentials", _new_credentials, owner)
    _kept(directory / "signing_key", lambda: secrets.token_urlsafe(32), owner)
    parser = ConfigParser(interpolation=None)
    parser.read_string(text)
    profile = parser["default"]
    return Keys(profile["aws_access_key_id"], Secret(profile["aws_secret_access_key"]))


def _new_credentials() -> str:
    # Not in the format of AWS, from which an emulator would read an account number.
    return (
        "[default]\n"
        f"aws_access_key_id = local-{secrets.token_hex(8)}\n"
        f"aws_secret_access_key = {secrets.token_urlsafe(30)}\n"
        f"region = {REGION}\n"
        # Without it boto3 and version 1 of the AWS CLI presign with signature version 2.
        "s3 =\n    signature_version = s3v4\n"
    )


def _kept(path: Path, make: Callable[[], str], owner: int | None) -> str:
    """Return the file's text. A new file gets its name when it is complete: a crash leaves no empty key."""
    if not path.exists():
        new = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
        new.touch(mode=0o600)
        new.write_text(make(), encoding="ascii")
        new.replace(path)
    _private(path, 0o600, owner)
    return path.read_text(encoding="ascii")


def _private(path: Path, mode: int, owner: int | None) -> None:
    path.chmod(mode)
    if owner is not None:
        os.chown(path, owner, owner)
