"""The versions and delete markers that the bucket keeps."""

from __future__ import annotations

import json
from datetime import UTC
from typing import Any

from s3api.bucket import is_versioned
from s3api.failures import InvalidCursor, VersioningOff
from s3api.file_store import FileVersion, VersionPage
from s3api.s3_answers import UnexpectedAnswer
from s3api.s3_errors import S3Errors, look
from s3api.s3_values import etag_of


class S3Versions:
    def __init__(self, api: Any, bucket: str, errors: S3Errors) -> None:
        self._api = api
        self._bucket = bucket
        self._errors = errors

    def page(self, prefix: str, limit: int, token: str | None) -> VersionPage:
        """As `FileStore.list_versions`."""
        position: dict[str, str] = {}
        if token is not None:
            position = _position(token)
        with self._errors("list_object_versions"):
            answer = self._api.list_object_versions(
                Bucket=self._bucket, Prefix=prefix, MaxKeys=limit, **position
            )
            versions = _versions(answer)
            if not all(one.name.startswith(prefix) for one in versions):
                raise UnexpectedAnswer("a listing with a name that was not asked for")
            following = None
            if answer["IsTruncated"]:
                following = json.dumps([answer["NextKeyMarker"], answer.get("NextVersionIdMarker", "")])
                if following == token:
                    raise UnexpectedAnswer("a listing that does not go on from where it ended")
        # A bucket that never kept versions lists each file as the version "null".
        if token is None and all(one.version == "null" and not one.deleted for one in versions):
            self._raise_unless_versioned()
        return VersionPage(versions, following)

    def _raise_unless_versioned(self) -> None:
        versioning = look(lambda: self._api.get_bucket_versioning(Bucket=self._bucket), "")
        if versioning is not None and not is_versioned(versioning) and not versioning.get("Status"):
            raise VersioningOff(
                f"The bucket '{self._bucket}' keeps no versions, so deleted and overwritten files are lost; "
                "with versioning on, they are kept from then on"
            )


def _position(token: str) -> dict[str, str]:
    try:
        key, version = json.loads(token)
    except (ValueError, TypeError):
        raise InvalidCursor("The cursor is not one of a list of versions; begin again without it") from None
    return {"KeyMarker": key, **({"VersionIdMarker": version} if version else {})}


def _versions(answer: dict[str, Any]) -> list[FileVersion]:
    """boto3 returns versions and markers apart. S3 has sorted both by name, then by age."""
    found = [(entry, False) for entry in answer.get("Versions", ())]
    found += [(entry, True) for entry in answer.get("DeleteMarkers", ())]
    versions = [
        FileVersion(
            name=entry["Key"],
            version=entry["VersionId"],
            last_modified=entry["LastModified"].astimezone(UTC),
            latest=entry["IsLatest"],
            deleted=deleted,
            size=None if deleted else entry["Size"],
            etag=None if deleted else etag_of(entry),
        )
        for entry, deleted in found
    ]
    # The latest one first, also where the times of S3 are whole seconds.
    versions.sort(key=lambda one: (one.latest, one.last_modified), reverse=True)
    versions.sort(key=lambda one: one.name.encode())
    return versions
