"""Restores a deleted file, or a version of a file, from the versions that the bucket keeps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from s3api.bucket import is_versioned
from s3api.failures import (
    FileExists,
    FileNotDeleted,
    FileNotFound,
    StoreUnavailable,
    VersioningOff,
    changed,
)
from s3api.s3_copying import S3Copying
from s3api.s3_errors import NOT_S3, S3Errors, look


class S3Restore:
    """`api` is the boto3 client for small requests."""

    def __init__(self, api: Any, bucket: str, errors: S3Errors, copying: S3Copying) -> None:
        self._api = api
        self._bucket = bucket
        self._errors = errors
        self._copying = copying

    def restore(self, name: str) -> None:
        """Copy the newest version over the delete marker, which needs no permission to destroy anything.

        S3 accepts the copy only if no file has this name; a delete marker is no file.
        """
        self._copy(name, self._newest_version(name), {"IfNoneMatch": "*"})

    def restore_version(self, name: str, version: str, *, overwrite: bool, if_match: str | None) -> None:
        """Copy a version over the file, or over its delete marker. What it replaces stays a version."""
        condition = {"IfMatch": if_match} if if_match else {} if overwrite else {"IfNoneMatch": "*"}
        try:
            self._copy(name, version, condition)
        except FileNotFound:
            if if_match and self._exists(name, version):
                raise changed(name) from None  # S3's answer to If-Match if there is no file
            raise FileNotFound(
                f"The file '{name}' has no such version with bytes; list its versions, and choose one that "
                "does not mark a deletion"
            ) from None
        except FileNotDeleted:
            if if_match:
                raise changed(name) from None
            raise FileNotDeleted(
                f"The file '{name}' exists, and was not replaced; to replace it by the version, set "
                "overwrite to true, or send its ETag as If-Match"
            ) from None

    def _exists(self, name: str, version: str) -> bool:
        try:
            self._copying.original(name, version)
        except FileNotFound:
            return False
        return True

    def _copy(self, name: str, version: str, condition: Mapping[str, str]) -> None:
        original = self._copying.original(name, version)
        try:
            self._copying.copy(original, name, condition)
        except FileExists:
            raise FileNotDeleted(
                f"The file '{name}' is not deleted any more: another one was stored meanwhile, and it stays"
            ) from None

    def _newest_version(self, name: str) -> str:
        position: dict[str, str] = {}
        markers: list[Mapping[str, Any]] = []
        while True:
            with self._errors("list_object_versions", name):
                answer = self._api.list_object_versions(
                    Bucket=self._bucket, Prefix=name, MaxKeys=100, **position
                )
            found = [entry for entry in answer.get("DeleteMarkers", ()) if entry["Key"] == name]
            versions = [entry for entry in answer.get("Versions", ()) if entry["Key"] == name]
            markers += found
            if any(version["IsLatest"] for version in versions):
                raise FileNotDeleted(f"The file '{name}' is not deleted, there is nothing to restore")
            if versions:
                newest = max(versions, key=lambda version: version["LastModified"])
                self._raise_if_replaced_unkept(name, newest, markers)
                return str(newest["VersionId"])
            # S3 lists the versions of a key before those of longer keys.
            if not answer["IsTruncated"] or not found:
                break
            if position.get("VersionIdMarker") == answer["NextVersionIdMarker"]:
                raise StoreUnavailable(NOT_S3)  # otherwise the same page would be requested without end
            position = {
                "KeyMarker": answer["NextKeyMarker"],
                "VersionIdMarker": answer["NextVersionIdMarker"],
            }
        if not any(marker["IsLatest"] for marker in markers):
            self._raise_unless_versioned(name)
        raise FileNotFound(f"The file '{name}' was not found on the bucket '{self._bucket}'")

    @staticmethod
    def _raise_if_replaced_unkept(
        name: str, newest: Mapping[str, Any], markers: Sequence[Mapping[str, Any]]
    ) -> None:
        # A deletion while versioning is suspended destroys the file that was stored during the suspension,
        # and leaves a marker with the version "null". The newest version can then be older than the deleted
        # file.
        if any(
            marker["VersionId"] == "null" and marker["LastModified"] >= newest["LastModified"]
            for marker in markers
        ):
            raise VersioningOff(
                f"'{name}' was deleted while the bucket kept no versions, so what was deleted may be lost; "
                "nothing was restored. The bucket's owner can look at the older versions"
            )

    def _raise_unless_versioned(self, name: str) -> None:
        versioning = look(lambda: self._api.get_bucket_versioning(Bucket=self._bucket), "")
        if versioning is not None and not is_versioned(versioning):
            raise VersioningOff(
                f"The bucket '{self._bucket}' keeps no versions, so '{name}' cannot be restored; "
                "with versioning on, what is deleted from then on can be"
            )
