"""Restores a deleted file from the versions that the bucket keeps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from s3api.bucket import is_versioned
from s3api.failures import FileExists, FileNotDeleted, FileNotFound, StoreUnavailable, VersioningOff
from s3api.file_store import MAX_SINGLE_PUT_BYTES, Part, PartPlan
from s3api.s3_errors import NOT_S3, S3Errors, look
from s3api.s3_multipart import S3Multipart
from s3api.s3_values import etag_of

# A file above S3's limit for one part is restored in parts of this size, several at the same time.
COPIED_PART_BYTES = 1024**3
COPY_THREADS = 8
# The fields that a restored file takes over from its version, in boto3's names.
_RESTORED = (
    "CacheControl",
    "ContentDisposition",
    "ContentEncoding",
    "ContentLanguage",
    "ContentType",
    "Expires",
    "Metadata",
)


class S3Restore:
    """`api` and `transfer` are the boto3 clients of `S3Multipart`."""

    def __init__(
        self, api: Any, transfer: Any, bucket: str, errors: S3Errors, multipart: S3Multipart
    ) -> None:
        self._api = api
        self._transfer = transfer
        self._bucket = bucket
        self._errors = errors
        self._multipart = multipart

    def restore(self, name: str) -> None:
        """Copy the newest version over the delete marker, which needs no permission to destroy anything.

        S3 accepts the copy only if no file has this name; a delete marker is no file. The condition is on the
        completion of a multipart upload, because not every S3 honours it for CopyObject.
        """
        version = self._newest_version(name)
        with self._errors("get_object_version", name):
            head = self._api.head_object(Bucket=self._bucket, Key=name, VersionId=version)
        kept = {key: head[key] for key in _RESTORED if head.get(key)}
        size: int = head["ContentLength"]
        try:
            if size:
                self._copy_version(name, version, size, kept)
            else:  # S3 cannot copy an empty range to a part
                with self._errors("put_object", name):
                    self._transfer.put_object(
                        Bucket=self._bucket, Key=name, Body=b"", IfNoneMatch="*", **kept
                    )
        except FileExists:
            raise FileNotDeleted(
                f"The file '{name}' is not deleted any more: another one was stored meanwhile, and it stays"
            ) from None

    def _copy_version(self, name: str, version: str, size: int, kept: Mapping[str, Any]) -> None:
        part_size = size if size <= MAX_SINGLE_PUT_BYTES else COPIED_PART_BYTES
        upload_id = self._multipart.create(name, **kept)["UploadId"]
        plan = PartPlan(name, upload_id, size, part_size, nonce="")

        def copy(number: int) -> Part:
            first, length = (number - 1) * part_size, plan.size_of(number)
            piece = {"CopySourceRange": f"bytes={first}-{first + length - 1}"} if plan.parts > 1 else {}
            with self._errors("put_object", name):
                answer = self._transfer.upload_part_copy(
                    Bucket=self._bucket,
                    Key=name,
                    UploadId=upload_id,
                    PartNumber=number,
                    CopySource={"Bucket": self._bucket, "Key": name, "VersionId": version},
                    **piece,
                )
            return Part(number=number, etag=etag_of(answer["CopyPartResult"]), size=length)

        try:
            with ThreadPoolExecutor(COPY_THREADS, thread_name_prefix="s3-copy") as threads:
                copied = [threads.submit(copy, number) for number in range(1, plan.parts + 1)]
                try:
                    parts = [part.result() for part in copied]
                except BaseException:
                    threads.shutdown(cancel_futures=True)
                    raise
            self._multipart.complete(plan, parts, {"IfNoneMatch": "*"})
        except BaseException:
            self._multipart.abort_quietly(plan)
            raise

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
