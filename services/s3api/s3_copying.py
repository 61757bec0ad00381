"""Copies inside the bucket: S3 reads and writes the bytes itself.

Every copy is a multipart upload, whose completion has the condition on the destination. Not every S3 honours
that condition for CopyObject, and CopyObject ends at 5 GiB.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

from s3api.failures import FileChanged, FileExists, FileNotFound, changed
from s3api.file_store import MAX_SINGLE_PUT_BYTES, Copied, Part, PartPlan, copy_mark
from s3api.s3_errors import S3Errors
from s3api.s3_multipart import S3Multipart
from s3api.s3_values import etag_of

# A file above S3's limit for one part is copied in parts of this size, several at the same time.
COPIED_PART_BYTES = 1024**3
COPY_THREADS = 8
#: The metadata of a copy: the mark of the file that was copied. It identifies the copy when the request is
#: repeated.
COPY_OF = "s3api-copy-of"
# The fields that a copy takes over, in boto3's names.
_KEPT = (
    "CacheControl",
    "ContentDisposition",
    "ContentEncoding",
    "ContentLanguage",
    "ContentType",
    "Expires",
    "Metadata",
)
# The same fields as headers; the metadata has a beginning instead of a name.
_KEPT_HEADERS = frozenset(
    {
        *("cache-control", "content-disposition", "content-encoding", "content-language", "content-type"),
        "expires",
    }
)
_METADATA = "x-amz-meta-"


@dataclass(frozen=True, slots=True)
class Original:
    """The source of a copy: one state of a file. `version` is None if the bucket keeps no versions."""

    name: str
    version: str | None
    etag: str
    size: int
    kept: Mapping[str, Any]
    mark: str


def copied_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Those headers of a file that a copy keeps. Each copy has a mark of its own."""
    lower = {header.lower(): value for header, value in headers.items()}
    return {
        header: value
        for header, value in lower.items()
        if header in _KEPT_HEADERS or (header.startswith(_METADATA) and header != f"{_METADATA}{COPY_OF}")
    }


class S3Copying:
    """`api` and `transfer` are the boto3 clients of `S3Multipart`."""

    def __init__(
        self, api: Any, transfer: Any, bucket: str, errors: S3Errors, multipart: S3Multipart
    ) -> None:
        self._api = api
        self._transfer = transfer
        self._bucket = bucket
        self._errors = errors
        self._multipart = multipart

    def original(self, name: str, version: str | None = None) -> Original:
        """The file as it is now, or one of its versions. Raises `FileNotFound`."""
        of_version = {} if version is None else {"VersionId": version}
        with self._errors("get_object" if version is None else "get_object_version", name):
            head = self._api.head_object(Bucket=self._bucket, Key=name, **of_version)
            found = head.get("VersionId") if version is None else version
            return Original(
                name,
                None if found == "null" and version is None else found,
                etag_of(head),
                head["ContentLength"],
                {key: head[key] for key in _KEPT if head.get(key)},
                copy_mark(name, etag_of(head), copied_headers(head["ResponseMetadata"]["HTTPHeaders"])),
            )

    def copy(self, original: Original, destination: str, condition: Mapping[str, str]) -> str:
        """Copy the file with its metadata, if the condition (in boto3's names) holds. Returns the new ETag.

        Raises `FileExists` for the condition, and `FileChanged` if the original is another file by now.
        """
        if not original.size:  # S3 cannot copy an empty range to a part
            with self._errors("put_object", destination):
                return etag_of(
                    self._transfer.put_object(
                        Bucket=self._bucket, Key=destination, Body=b"", **original.kept, **condition
                    )
                )
        size = original.size
        part_size = size if size <= MAX_SINGLE_PUT_BYTES else COPIED_PART_BYTES
        upload_id = self._multipart.create(destination, **original.kept)["UploadId"]
        plan = PartPlan(destination, upload_id, size, part_size, nonce="")
        try:
            with ThreadPoolExecutor(COPY_THREADS, thread_name_prefix="s3-copy") as threads:
                copied = [
                    threads.submit(self._copy_part, original, plan, number)
                    for number in range(1, plan.parts + 1)
                ]
                try:
                    parts = [part.result() for part in copied]
                except BaseException:
                    threads.shutdown(cancel_futures=True)
                    raise
            return self._multipart.complete(plan, parts, condition)
        except BaseException:
            self._multipart.abort_quietly(plan)
            raise

    def _copy_part(self, original: Original, plan: PartPlan, number: int) -> Part:
        source = {"Bucket": self._bucket, "Key": original.name}
        if original.version is not None:
            source["VersionId"] = original.version
        first, length = (number - 1) * plan.part_size, plan.size_of(number)
        piece = {"CopySourceRange": f"bytes={first}-{first + length - 1}"} if plan.parts > 1 else {}
        with self._errors("copy_object", original.name):
            answer = self._transfer.upload_part_copy(
                Bucket=self._bucket,
                Key=plan.name,
                UploadId=plan.upload_id,
                PartNumber=number,
                CopySource=source,
                CopySourceIfMatch=f'"{original.etag}"',
                **piece,
            )
            return Part(number=number, etag=etag_of(answer["CopyPartResult"]), size=length)

    def copy_file(
        self,
        source: str,
        destination: str,
        *,
        source_etag: str | None,
        create_only: bool,
        if_match: str | None,
    ) -> Copied:
        """As `FileStore.copy`."""
        original = self.original(source)
        if source_etag not in (None, original.etag):
            raise source_changed(source)
        metadata = {**original.kept.get("Metadata", {}), COPY_OF: original.mark}
        marked = replace(original, kept={**original.kept, "Metadata": metadata})
        condition = {"IfNoneMatch": "*"} if create_only else {"IfMatch": if_match} if if_match else {}
        try:
            etag = self.copy(marked, destination, condition)
        except FileChanged:
            raise source_changed(source) from None
        except FileNotFound as error:
            # The answer to a failed If-Match if there is no file.
            if if_match is None:
                raise FileNotFound(
                    f"The file '{source}' was not found on the bucket '{self._bucket}'"
                ) from error
            raise changed(destination) from None
        except FileExists:
            if if_match is None:
                raise
            raise changed(destination) from None
        return Copied(source, destination, original.size, etag, original.etag, original.mark)


def source_changed(name: str) -> FileChanged:
    return FileChanged(f"The file '{name}' is not the one that was to be copied; nothing was copied")
