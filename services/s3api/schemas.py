"""The models of requests and answers. They validate input, and the OpenAPI document contains them."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, JsonValue, RootModel

from s3api.file_store import MAX_BULK, MAX_SINGLE_PUT_BYTES, MiB

Sha256 = Annotated[
    str,
    Field(
        pattern=r"^[0-9a-f]{64}$",
        description="SHA-256 in lower-case hex",
        examples=["2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"],
    ),
]
#: What the document says about a name. Only `names.check_name` judges names, so that a URL, a form and a JSON
#: body are refused in the same way.
NAME_SCHEMA: dict[str, JsonValue] = {
    "description": "1 to 1,024 bytes of UTF-8",
    "examples": ["reports/games.csv"],
    "minLength": 1,
    "maxLength": 1024,
    "pattern": r"^(?!/)(?!(?:[^/]*/)*\.{1,2}(?:/|$))[^\x00-\x1f\x7f-\x9f\\\uFFFE\uFFFF]+$",
}
FileName = Annotated[str, Field(json_schema_extra=NAME_SCHEMA)]
_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # noqa: S105 - HTTP's word for it
#: What the document says about a media type. Only `headers.media_type` judges media types.
MEDIA_TYPE_SCHEMA: dict[str, JsonValue] = {
    "description": "One media type, such as `text/plain; charset=utf-8`",
    "examples": ["text/csv"],
    "pattern": rf'^ *{_TOKEN}/{_TOKEN}( *; *({_TOKEN}=({_TOKEN}|"([ !#-\[\]-~]|\\[ -~])*"))?)* *$',
}
ContentType = Annotated[
    str, Field(max_length=255, pattern=r"^[\x20-\x7e]+$", json_schema_extra=MEDIA_TYPE_SCHEMA)
]


def _whole(value: object) -> object:
    """JSON has one kind of number, so 5.0 is an integer. true and "5" are not numbers."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Whole = BeforeValidator(_whole)


def _digits(value: object) -> object:
    """Of a query, where pydantic takes '1_0', '+1' and ' 1' as well.

    Python reads no number of thousands of digits. Nine significant digits are above every limit.
    """
    if not isinstance(value, str):
        return value
    if not re.fullmatch("[0-9]+", value):
        raise ValueError("Input should be decimal digits")
    return int(value.lstrip("0")[:9] or "0")


#: The shortest and the longest life of a download URL that a request can ask for. S3 takes at most 7 days:
#: https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html
MIN_EXPIRES, MAX_EXPIRES = 60, 604_800
MIN_S3_PART = 5 * MiB  # https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html


# --- requests


class ListQuery(BaseModel):
    prefix: Annotated[str, Field(description="Only names that begin with it")] = ""
    delimiter: Annotated[
        str, Field(max_length=16, description="Roll names up to the next delimiter into `prefixes`")
    ] = ""
    contains: Annotated[str, Field(description="Only names that contain it; case does not matter")] = ""
    limit: Annotated[int, Field(ge=1, le=1000, description="Names on a page"), BeforeValidator(_digits)] = (
        1000
    )
    cursor: Annotated[str | None, Field(description="The `next` of the page before")] = None
    details: Annotated[bool, Field(description="Objects instead of names")] = False


class DownloadQuery(BaseModel):
    redirect: Annotated[bool, Field(description="Answer 302 to the URL instead of showing it")] = False
    attachment: Annotated[bool, Field(description="Save it, also where a browser could show it")] = False
    check: Annotated[
        bool, Field(description="Look first whether the file is there; else its URL answers 404 by itself")
    ] = True
    # The view compares it with the limits, because one of them is configured.
    expires: Annotated[
        int | None,
        Field(
            description="The life of the URL in seconds, up to MAX_DOWNLOAD_URL_SECONDS; by default "
            "DOWNLOAD_URL_SECONDS. `expires_at` is earlier if the service's own credentials end earlier",
            json_schema_extra={"minimum": MIN_EXPIRES, "maximum": MAX_EXPIRES},
            examples=[600],
        ),
        BeforeValidator(_digits),
    ] = None


class ArchiveQuery(BaseModel):
    prefix: Annotated[
        str,
        Field(
            description="All files whose names begin with it; without `prefix` and `name`, all files of the "
            "bucket"
        ),
    ] = ""
    name: Annotated[
        list[str],
        Field(description="One file; repeat the parameter for several. Not together with `prefix`"),
        BeforeValidator(lambda value: [value] if isinstance(value, str) else value),
    ] = []


class VersionsOfQuery(BaseModel):
    limit: Annotated[
        int, Field(ge=1, le=1000, description="Versions on a page"), BeforeValidator(_digits)
    ] = 1000
    cursor: Annotated[str | None, Field(description="The `next` of the page before")] = None


class VersionsQuery(VersionsOfQuery):
    prefix: Annotated[str, Field(description="Only names that begin with it")] = ""
    deleted: Annotated[bool, Field(description="Only the files that are deleted now")] = False


class RestoreQuery(BaseModel):
    version: Annotated[
        str | None,
        Field(
            min_length=1, max_length=1024, description="A version of the file, by the list of its versions"
        ),
    ] = None
    overwrite: Annotated[bool, Field(description="Replace an existing file by the version")] = False


class UploadPlanRequest(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    name: FileName
    size: Annotated[int, Field(ge=0, description="Bytes", examples=[5]), Whole]
    content_type: ContentType | None = None
    sha256: Annotated[
        Sha256 | None,
        Field(
            description="S3 stores a form only if its file has this digest. S3 cannot check it for a "
            "multipart upload; a read then returns it as `X-Declared-SHA-256`, never as `Repr-Digest`"
        ),
    ] = None
    content_encoding: Annotated[
        str | None, Field(max_length=255, description="Kept with the file, such as `gzip`")
    ] = None
    multipart: Annotated[
        bool | None,
        Field(description="Whether the plan is in parts; by default from MULTIPART_THRESHOLD_BYTES up"),
    ] = None
    part_size: Annotated[
        int | None,
        Field(
            ge=MIN_S3_PART,
            le=MAX_SINGLE_PUT_BYTES,
            description="Bytes of every part but the last; plans in parts unless `multipart` is false. "
            "At most 10,000 parts are possible",
        ),
        Whole,
    ] = None


class PartUrlsRequest(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    parts: Annotated[
        list[Annotated[int, Field(ge=1, le=10_000), Whole]],
        Field(min_length=1, max_length=MAX_BULK, description="Part numbers, from 1", examples=[[1, 2]]),
    ]


class DeleteRequest(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    # A name that is not allowed has its own result: a bucket can contain it, and the other files are deleted.
    files: Annotated[
        list[str],
        Field(min_length=1, max_length=MAX_BULK, examples=[["reports/games.csv", "notes.txt"]]),
    ]


class CopyRequest(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    source: FileName
    destination: Annotated[str, Field(json_schema_extra={**NAME_SCHEMA, "examples": ["archive/games.csv"]})]
    overwrite: Annotated[bool, Field(description="Replace the destination if it exists")] = False
    source_etag: Annotated[
        str | None,
        Field(max_length=255, description="Copy the source only if it has this ETag, without quotes"),
    ] = None


class UploadLinkRequest(BaseModel):
    """Give `name` or `prefix`."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: Annotated[FileName | None, Field(description="The name that the file gets")] = None
    prefix: Annotated[
        str | None,
        Field(description="The folder that receives the files, with a slash at its end", examples=["inbox/"]),
    ] = None
    max_bytes: Annotated[
        int | None,
        Field(
            ge=1, description="The size of the largest file; by default MAX_FILE_BYTES", examples=[104857600]
        ),
        Whole,
    ] = None
    # The view compares it with the limits, because one of them is configured.
    expires: Annotated[
        int | None,
        Field(
            description="The life of the link in seconds, up to MAX_UPLOAD_LINK_SECONDS; by default one day",
            json_schema_extra={"minimum": MIN_EXPIRES},
            examples=[86400],
        ),
        Whole,
    ] = None
    overwrite: Annotated[bool, Field(description="Allow replacing existing files")] = False


class RestoreRequest(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    prefix: Annotated[
        str, Field(description="All deleted files whose names begin with it", examples=["reports/"])
    ]
    limit: Annotated[int, Field(ge=1, le=MAX_BULK, description="Versions in this request"), Whole] = 100
    cursor: Annotated[str | None, Field(description="The `next` of the request before")] = None


class CopyFolderRequest(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    source: Annotated[str, Field(description="A prefix that ends with a slash", examples=["reports/"])]
    destination: Annotated[
        str, Field(description="A prefix that ends with a slash", examples=["archive/2026/"])
    ]
    overwrite: Annotated[bool, Field(description="Replace destinations that exist")] = False
    limit: Annotated[int, Field(ge=1, le=MAX_BULK, description="Files in this request"), Whole] = 100
    cursor: Annotated[str | None, Field(description="The `next` of the request before")] = None


# --- answers

Name = Annotated[str, Field(examples=["reports/games.csv"])]
Size = Annotated[int, Field(description="Bytes", examples=[5])]
Etag = Annotated[str, Field(description="Without quotes", examples=["5d41402abc4b2a76b9719d911017c592"])]
Url = Annotated[str, Field(examples=["https://day02-files.s3.eu-west-1.amazonaws.com/reports/games.csv?…"])]
Moment = Annotated[datetime, Field(examples=["2026-11-26T12:00:00Z"])]


class Envelope(BaseModel):
    status: Annotated[int, Field(description="The HTTP status, again", examples=[200])]
    message: Annotated[str, Field(description="One sentence")]


class Failure(Envelope):
    code: Annotated[str, Field(description="Stable, for scripts", examples=["file_not_found"])]
    request_id: Annotated[
        str,
        Field(description="Also in X-Request-Id, and in the service's log", examples=["5f0c2a9e8b7d6c41"]),
    ]
    hint: Annotated[str | None, Field(description="What to do, where the message does not say it")] = None
    content: Annotated[object, Field(description="What was done before the failure, where something was")] = (
        None
    )


class CallerDetails(BaseModel):
    name: Annotated[
        str, Field(description="The token's name; `anonymous` without a token", examples=["reader"])
    ]
    verbs: Annotated[list[Literal["list", "read", "write", "delete"]], Field(examples=[["list", "read"]])]
    prefix: Annotated[
        str, Field(description="The caller may use only names that begin with it", examples=["reports/"])
    ]


class Identity(Envelope):
    content: CallerDetails


class FileDetails(BaseModel):
    name: Name
    size: Size
    last_modified: Moment
    etag: Etag


class FilePage(Envelope):
    prefixes: Annotated[
        list[str] | None, Field(description="Only with a delimiter", examples=[["reports/"]])
    ] = None
    next: Annotated[str | None, Field(description="The cursor of the next page, while there is one")] = None


class FileNames(FilePage):
    """A page of names, without `details`."""

    content: Annotated[list[Name], Field(examples=[["notes.txt", "reports/games.csv"]])]


class DetailedFiles(FilePage):
    """A page of objects, with `details=true`."""

    content: list[FileDetails]


class FileList(RootModel[DetailedFiles | FileNames]):
    """`details` decides which of the two it is; an empty page is valid as both.

    Generated clients try them in this order.
    """

    # Objects come first, because clients of openapi-python-client accept any list as a list of strings.


class UploadedFile(BaseModel):
    name: Name
    size: Size
    etag: Etag
    sha256: Sha256


class UploadedFiles(Envelope):
    content: list[UploadedFile]


class UploadLinkDetails(BaseModel):
    name: Annotated[
        str | None, Field(description="The name that the file gets", examples=["reports/games.csv"])
    ] = None
    prefix: Annotated[
        str | None, Field(description="The folder that receives the files", examples=["inbox/"])
    ] = None
    max_bytes: Annotated[int, Field(description="The size of the largest file", examples=[104857600])]
    overwrite: Annotated[bool, Field(description="Whether it replaces existing files")]
    expires_at: Moment


class ReadUploadLink(Envelope):
    content: UploadLinkDetails


class NewUploadLink(UploadLinkDetails):
    url: Annotated[
        str,
        Field(
            description="The secret URL, with the host of this request",
            examples=["https://files.example/upload_links/WyJpbmJveC8i…/"],
        ),
    ]
    path: Annotated[
        str,
        Field(
            description="The same, relative to the URL of the service",
            examples=["upload_links/WyJpbmJveC8i…/"],
        ),
    ]


class CreatedUploadLink(Envelope):
    content: NewUploadLink


class PresignedUrl(Envelope):
    content: Annotated[Url, Field(description="The presigned URL")]
    expires_at: Moment


class PostPlan(BaseModel):
    """Send a multipart/form-data POST of `fields`, then the file as `file`, to `url`."""

    method: Literal["POST"]
    multipart: Literal[False]
    url: Url
    fields: dict[str, str]
    expires_at: Moment


class MultipartPlan(BaseModel):
    """Ask for part URLs, PUT each part there, then complete. Every part but the last is `part_size` bytes."""

    method: Literal["MULTIPART"]
    multipart: Literal[True]
    id: Annotated[
        str, Field(description="Good for two days; the bucket's own rule may abort the upload earlier")
    ]
    part_size: Annotated[int, Field(description="Bytes", examples=[8388608])]
    parts: Annotated[int, Field(description="How many", examples=[9])]
    md5_etags: Annotated[
        bool, Field(description="Whether the ETag of a part is the MD5 of its bytes. False with a KMS key")
    ]


class PutPlan(BaseModel):
    """PUT the file's bytes to `url`, with these headers.

    The plan for a name that contains `${filename}`, if `multipart` is false. A POST would replace that text.
    """

    method: Literal["PUT"]
    multipart: Literal[False]
    url: Url
    headers: dict[str, str]
    expires_at: Moment


class UploadPlan(Envelope):
    content: Annotated[PostPlan | PutPlan | MultipartPlan, Field(discriminator="method")]


class UploadForm(Envelope):
    content: PostPlan


class PartUrl(BaseModel):
    number: int
    url: Url
    size: Size
    expires_at: Moment


class PartUrls(Envelope):
    content: list[PartUrl]


class UploadedPart(BaseModel):
    number: int
    etag: Etag
    size: Size


class UploadedParts(Envelope):
    content: list[UploadedPart]


class CompletedUpload(BaseModel):
    name: Name
    size: Size
    etag: Etag


class Completed(Envelope):
    content: CompletedUpload


class AbortedUpload(BaseModel):
    name: Name
    aborted: Annotated[
        bool, Field(description="False when nothing was left to abort: aborted before, or expired")
    ]


class Aborted(Envelope):
    content: AbortedUpload


class DeleteResult(BaseModel):
    name: Name
    deleted: bool
    code: Annotated[
        str | None,
        Field(
            description="Why it was not deleted: `file_not_found`; `invalid_file_name` for a name that the "
            "service does not take, which another client of S3 can delete; or a code of S3's failure"
        ),
    ] = None


class DeleteResults(Envelope):
    content: list[DeleteResult]


class Copy(BaseModel):
    source: Name
    name: Annotated[str, Field(examples=["archive/games.csv"])]
    size: Size
    etag: Etag


class CopiedFile(Envelope):
    content: Copy


class CopyResult(BaseModel):
    """`copied` is in the answer to a copy, `moved` in the answer to a move."""

    name: Name
    destination: Annotated[str, Field(examples=["archive/games.csv"])]
    copied: bool | None = None
    moved: bool | None = None
    code: Annotated[
        str | None,
        Field(
            description="Why it was not copied or moved: `file_exists`, `invalid_file_name`, or another code"
        ),
    ] = None
    message: Annotated[str | None, Field(description="The reason in one sentence")] = None


class CopyResults(Envelope):
    content: list[CopyResult]
    next: Annotated[str | None, Field(description="The cursor of the next files, while there are more")] = (
        None
    )


class Version(BaseModel):
    name: Name
    version: Annotated[str, Field(examples=["3sL4kqtJlcpXroDTDmJ+rmSpXd3dIbrHY"])]
    last_modified: Moment
    latest: Annotated[bool, Field(description="Whether it is what a read of the file finds")]
    deleted: Annotated[bool, Field(description="Whether it marks a deletion, and has no bytes")]
    size: Annotated[int | None, Field(description="Bytes", examples=[5])] = None
    etag: Annotated[str | None, Field(description="Without quotes")] = None


class FileVersions(Envelope):
    content: list[Version]
    next: Annotated[str | None, Field(description="The cursor of the next page, while there is one")] = None


class RestoreResult(BaseModel):
    name: Name
    restored: bool
    code: Annotated[str | None, Field(description="Why it was not restored")] = None
    message: Annotated[str | None, Field(description="The reason in one sentence")] = None


class RestoreResults(Envelope):
    content: list[RestoreResult]
    next: Annotated[str | None, Field(description="The cursor of the next request, while there is one")] = (
        None
    )


class RestoredFile(Envelope):
    content: FileDetails
