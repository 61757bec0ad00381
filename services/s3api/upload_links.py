"""Upload links: anyone who has the URL can upload to one name, or into one folder, without a token.

The service stores no links. The URL contains the signed terms of its link. Each use also checks that the
creator of the link may still write there.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple

from s3api import files
from s3api.auth import JWT, Caller, Forbidden, Tokens
from s3api.bodies import Body
from s3api.failures import (
    FileExists,
    FileNotFound,
    StoreDenied,
    StoreFailed,
    StoreUnavailable,
    UploadLinkGone,
)
from s3api.file_store import FileStore, Upload
from s3api.settings import Settings
from s3api.signed_values import Signer

#: The life of a link if the request does not say it, in seconds.
DEFAULT_SECONDS = 24 * 3600
_NEW_LINK = "ask for a new link"
#: The failures of S3 whose sentences are for those with a token. Some name the bucket or its region.
_OF_STORE = (FileNotFound, StoreDenied, StoreFailed, StoreUnavailable)


class Terms(NamedTuple):
    """What a link allows. A `target` that ends with a slash is a folder; any other is the name of a file.

    `creator` and `fingerprint` are those of the caller that created the link. Every holder can read them.
    So a creator with a JWT is stored under a pseudonym, because its `sub` can be an address. `expires` is in
    seconds since 1970.
    """

    target: str
    max_bytes: int
    overwrite: bool
    expires: int
    creator: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class UploadLink:
    """A valid link: the signed `value` in its URL, and its terms with the limits of the service."""

    value: str
    target: str
    max_bytes: int
    overwrite: bool
    expires_at: datetime
    caller: Caller

    @property
    def is_folder(self) -> bool:
        return self.target.endswith("/")


@dataclass(frozen=True, slots=True)
class Sent:
    """A file that the holder of a link sends. `body_waits` is that of `files.put_file`."""

    name: str
    body: Body
    content_type: str
    kept: Mapping[str, str]
    create_only: bool
    body_waits: bool


def create(
    signer: Signer,
    settings: Settings,
    caller: Caller,
    target: str,
    *,
    max_bytes: int,
    seconds: int,
    overwrite: bool,
) -> UploadLink:
    """A new link of this caller, who may write to the target.

    A link expires no later than the configured token that created it. The expiry of a JWT does not count,
    because a link is meant to outlive it.
    """
    expires = int(time.time()) + seconds
    if caller.fingerprint and caller.expires is not None:
        expires = min(expires, int(caller.expires))
    creator = f"{JWT}{signer.pseudonym(caller.name)}" if caller.name.startswith(JWT) else caller.name
    terms = Terms(target, max_bytes, overwrite, expires, creator, caller.fingerprint)
    return _of(signer.upload_link(terms), terms, settings, expires)


def read(signer: Signer, tokens: Tokens, settings: Settings, value: str) -> UploadLink:
    """The link with this value. Raises `UploadLinkNotFound` and `UploadLinkGone`."""
    signed, signed_at = signer.read_upload_link(value)
    try:
        terms = Terms(*signed)
    except TypeError:  # of another version of the service
        raise UploadLinkGone(f"The upload link is no longer valid; {_NEW_LINK}") from None
    # A configuration with a shorter life also shortens the links that exist.
    expires = min(terms.expires, int(signed_at.timestamp()) + settings.max_upload_link_seconds)
    if expires <= time.time():
        raise UploadLinkGone(f"The upload link has expired; {_NEW_LINK}")
    if not _may_write(tokens.find(terms.creator, terms.fingerprint), terms.target):
        raise UploadLinkGone(
            f"The upload link is no longer valid, because its creator may no longer write there; {_NEW_LINK}"
        )
    return _of(value, terms, settings, expires)


def _may_write(creator: Caller | None, target: str) -> bool:
    if creator is None:
        return False
    try:
        creator.require("write", target)
    except Forbidden:
        return False
    return True


def put(store: FileStore, sent: Sent) -> Upload:
    """Store the file. Raises `FileExists` if the link does not allow replacing an existing one.

    No sentence of a failure names the bucket, which concerns only those with a token.
    """
    try:
        return files.put_file(
            store,
            sent.name,
            sent.body,
            sent.content_type,
            create_only=sent.create_only,
            if_match=None,
            kept=sent.kept,
            body_waits=sent.body_waits,
        )
    except FileExists as error:
        raise FileExists(
            "A file with this name was sent before, and this link does not replace it; nothing was stored"
        ) from error
    except _OF_STORE as error:
        # The error keeps its code, its status, and its own sentence for the log.
        error.message = "The service cannot store the file now; try again later, or ask who sent you the link"
        raise


def _of(value: str, terms: Terms, settings: Settings, expires: int) -> UploadLink:
    return UploadLink(
        value,
        terms.target,
        min(terms.max_bytes, settings.max_file_bytes),
        terms.overwrite,
        datetime.fromtimestamp(expires, UTC),
        # A configured token has no colon in its name, so the log tells a link from its creator.
        Caller(f"upload_link:{terms.creator}", frozenset({"write"}), terms.target),
    )
