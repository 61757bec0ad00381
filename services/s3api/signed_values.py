"""Signed values that clients keep for the service: listing cursors, upload ids and upload links.

The service stores no state of its own. It signs what it needs again later, and gives it to the client.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from itsdangerous import BadSignature, SignatureExpired, URLSafeSerializer, URLSafeTimedSerializer
from itsdangerous import Signer as KeyedHash

from s3api.failures import InvalidCursor, UploadGone, UploadLinkNotFound, UploadNotFound
from s3api.file_store import PartPlan
from s3api.resumable import LIFE, ResumableUpload

# A bucket whose rule aborts uploads after one day can keep one for almost two: S3 rounds the end of the day
# up to the next midnight UTC.
UPLOAD_ID_SECONDS = 2 * 24 * 3600


class Signer:
    """Signs cursors, upload ids and upload links, and verifies them when they come back."""

    def __init__(self, key: str) -> None:
        self._cursors = URLSafeSerializer(key, salt="cursor")
        self._uploads = URLSafeTimedSerializer(key, salt="upload")
        self._resumable = URLSafeTimedSerializer(key, salt="tus")
        self._upload_links = URLSafeTimedSerializer(key, salt="upload link")
        self._pseudonyms = KeyedHash(key, salt="pseudonym")

    def cursor(self, query: Sequence[str], token: str) -> str:
        """A cursor that holds the store's `token` and is valid for this query only.

        The first item of `query` is the name of the route, so that no other route accepts the cursor.
        """
        return str(self._cursors.dumps([list(query), token]))

    def read_cursor(self, query: Sequence[str], cursor: str) -> str:
        """Return the store's token. Raises `InvalidCursor` unless the cursor was issued for this query."""
        try:
            _, token = self._cursors.loads(cursor)
        except (BadSignature, ValueError, TypeError):
            token = None
        # The cursor of another query differs. So does another spelling of the same bytes in Base64.
        if not isinstance(token, str) or self.cursor(query, token) != cursor:
            raise InvalidCursor(
                "The cursor does not belong to this request; begin again without it, "
                "and change no other parameter from page to page"
            )
        return token

    def upload_id(self, plan: PartPlan) -> str:
        """An id that holds the whole plan of a multipart upload."""
        return str(self._uploads.dumps([plan.name, plan.upload_id, plan.size, plan.part_size, plan.nonce]))

    def read_upload_id(self, value: str) -> PartPlan:
        """Raises `UploadNotFound` for an id that this service did not issue, or that is over two days old."""
        try:
            fields: Any = self._uploads.loads(value, max_age=UPLOAD_ID_SECONDS)
            return PartPlan(*fields)
        except (BadSignature, ValueError, TypeError):
            raise UploadNotFound(
                "The upload id is not valid, or has expired; plan the upload again"
            ) from None

    def resumable_id(self, upload: ResumableUpload, metadata: str) -> str:
        """The id of a resumable upload, which its URL contains. The client sent the `metadata` with it."""
        plan = upload.plan
        of_plan = [plan.name, plan.upload_id, plan.size, plan.part_size, plan.nonce]
        return str(self._resumable.dumps([of_plan, upload.create_only, upload.if_match, metadata]))

    def read_resumable_id(self, value: str) -> tuple[ResumableUpload, str, datetime]:
        """The upload, its metadata, and when it expires. Raises `UploadNotFound` and `UploadGone`."""
        try:
            fields, signed = self._resumable.loads(
                value, max_age=int(LIFE.total_seconds()), return_timestamp=True
            )
            of_plan, create_only, if_match, metadata = fields
            return ResumableUpload(PartPlan(*of_plan), create_only, if_match), metadata, signed + LIFE
        except SignatureExpired:
            raise UploadGone("The upload has expired; create it again with POST /tus") from None
        except (BadSignature, ValueError, TypeError):
            raise UploadNotFound("This is no URL of an upload; create one with POST /tus") from None

    def pseudonym(self, text: str) -> str:
        """The first 16 characters of a keyed hash of the text. Equal texts have equal pseudonyms."""
        return self._pseudonyms.get_signature(text).decode()[:16]

    def upload_link(self, terms: Sequence[str | int]) -> str:
        """The secret part of the URL of an upload link."""
        return str(self._upload_links.dumps(list(terms)))

    def read_upload_link(self, value: str) -> tuple[list[Any], datetime]:
        """The terms of the link, and when they were signed. Raises `UploadLinkNotFound`."""
        try:
            terms, signed = self._upload_links.loads(value, return_timestamp=True)
        except (BadSignature, ValueError, TypeError):
            raise UploadLinkNotFound(
                "This is no upload link of this service; check that its URL is complete"
            ) from None
        return terms, signed
