"""Checks that an answer comes from S3 and is complete: limited in bytes and time, no redirect, as requested.

Sometimes something else answers in place of S3: a captive portal, a proxy, a wrong endpoint. Such an answer
is a failure, never an empty success. All requests pass through this module, from `s3_http` and from boto3.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any
from xml.etree import ElementTree as ET

import urllib3
from botocore.awsrequest import AWSResponse
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError

from s3api.waiting import at_most

#: The largest answer in memory lists 1,000 keys of 1,024 bytes, all of them escaped.
ANSWER_BYTES = 8 * 1024 * 1024
ERROR_BYTES = 256 * 1024
#: Some servers send a page of 10,000 parts, which has 160,000 tags.
MAX_TAGS = 256_000
PIECE = 64 * 1024

#: Every answer of S3 has this header:
#: https://docs.aws.amazon.com/AmazonS3/latest/API/RESTCommonResponseHeaders.html
REQUEST_ID = "x-amz-request-id"

#: RFC 9110, section 8.8.3, in ASCII only. The ETags of S3 are never weak.
ETAG = re.compile('"?([!#-~]{1,256})"?')


@dataclass(frozen=True)
class _Form:
    """The required form of an XML answer.

    `root` must contain the elements `has`, and `more` if the answer is truncated. Every element named in
    `each` must contain the elements given there.
    """

    root: str
    has: tuple[str, ...] = ()
    each: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    more: tuple[str, ...] = ()


#: The required forms of the answers that boto3 reads, by operation: the elements that the service reads and
#: that S3's API reference says are always there.
_FORMS: Mapping[str, _Form] = {
    "CompleteMultipartUpload": _Form("CompleteMultipartUploadResult", ("ETag",)),
    "CreateMultipartUpload": _Form("InitiateMultipartUploadResult", ("UploadId",)),
    "DeleteObjects": _Form("DeleteResult"),
    "GetBucketCors": _Form("CORSConfiguration"),
    "GetBucketLifecycleConfiguration": _Form("LifecycleConfiguration"),
    "GetBucketVersioning": _Form("VersioningConfiguration"),
    "ListObjectVersions": _Form(
        "ListVersionsResult",
        ("IsTruncated",),
        {
            "DeleteMarker": ("Key", "VersionId", "IsLatest", "LastModified"),
            "Version": ("Key", "VersionId", "IsLatest", "LastModified"),
        },
        ("NextKeyMarker", "NextVersionIdMarker"),
    ),
    "ListParts": _Form(
        "ListPartsResult",
        ("IsTruncated",),
        {"Part": ("PartNumber", "ETag", "Size")},
        ("NextPartNumberMarker",),
    ),
    "UploadPartCopy": _Form("CopyPartResult", ("ETag",)),
}
_NO_CONTENT = frozenset({"AbortMultipartUpload", "DeleteObject"})
#: The required headers of answers without a body.
_HEADERS: Mapping[str, tuple[str, ...]] = {
    "HeadBucket": (),
    "HeadObject": ("ETag", "Last-Modified", "Content-Length"),
    "PutObject": ("ETag",),
    "UploadPart": ("ETag",),
}

#: boto3 would follow these errors to another region, and repeat the request there without end.
_ELSEWHERE = frozenset(
    {"AuthorizationHeaderMalformed", "IllegalLocationConstraintException", "PermanentRedirect"}
)


class UnexpectedAnswer(BotoCoreError):
    """An answer that S3 does not give to this request."""

    fmt = "{reason}"

    def __init__(self, reason: str) -> None:
        super().__init__(reason=reason)


class Answer(AWSResponse):
    """An answer with the headers of urllib3, which `AWSResponse` would copy, and its body once it is read."""

    def __init__(self, url: str, status: int, headers: Any, raw: Any, body: bytes | None = None) -> None:
        self.url, self.status_code, self.headers, self.raw, self._content = url, status, headers, raw, body


def _held(answer: AWSResponse, status: int, body: bytes) -> AWSResponse:
    return Answer(answer.url, status, answer.headers, answer.raw, body)


def exchange(connections: Any, request: Any, seconds: float, *, stream: bool = False) -> AWSResponse:
    """Send the request and return the answer, with its body in memory unless `stream`.

    The exchange takes at most `seconds`, without the time for sending a stream. Redirects are not followed.
    Raises `UnexpectedAnswer` if the answer does not come from S3.
    """
    request.stream_output = True
    streams = isinstance(request.body, Iterator)
    try:
        with at_most(seconds, running=not streams) as start:
            if streams:
                request.body = _then(request.body, start)
            answer: AWSResponse = connections.send(request)
            succeeded = answer.status_code < 300
            if not (stream and succeeded):
                body = _read(answer, ANSWER_BYTES if succeeded else ERROR_BYTES, seconds)
                answer = _held(answer, answer.status_code, body)
    except TimeoutError as error:
        raise HTTPClientError(error=error) from error
    # An error of 500 and above can come from a proxy in front of S3. It counts as a failure of S3.
    if (
        answer.status_code < 500
        and answer.status_code != HTTPStatus.NOT_MODIFIED
        and REQUEST_ID not in answer.headers
        and (succeeded or _error_element(answer) is None)
    ):
        if stream and succeeded:
            answer.raw.close()
        raise UnexpectedAnswer(f"status {answer.status_code} without {REQUEST_ID}")
    return answer


def _then(body: Iterator[bytes], do: Callable[[], None]) -> Iterator[bytes]:
    yield from body
    do()


def _read(answer: AWSResponse, most: int, seconds: float) -> bytes:
    """The whole body. The connection is closed if the body is not complete."""
    ends = time.monotonic() + seconds
    body = bytearray()
    whole = False
    try:
        while piece := answer.raw.read1(PIECE):
            body += piece
            if len(body) > most:
                if answer.status_code >= 300:
                    return b""  # the status alone says enough
                raise UnexpectedAnswer(f"more than {most} bytes")
            if time.monotonic() > ends:
                raise UnexpectedAnswer(f"a body that took more than {seconds} s")
        whole = True
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise HTTPClientError(error=error) from error
    finally:
        if not whole:
            answer.raw.close()
    declared = answer.headers.get("Content-Length")
    bodiless = answer.raw.length_remaining == 0 and not body  # of a HEAD, or of a status without a body
    if declared is not None and not bodiless and declared != str(len(body)):
        raise HTTPClientError(error=f"{len(body)} of {declared} bytes came")
    return bytes(body)


# --- XML


def document(answer: AWSResponse, tag: str) -> ET.Element:
    """The root element, which must have this name. Raises S3's error if the body contains one."""
    if answer.status_code != HTTPStatus.OK:
        raise UnexpectedAnswer(f"status {answer.status_code} in place of 200")
    root = parse(answer.content)
    found = local_name(root)
    if found == "Error":
        # AWS about CopyObject, CompleteMultipartUpload and others: "a 200 OK response can contain either a
        # success or an error". The error is one of the server.
        raise error_of(_held(answer, 500, answer.content), tag)
    if found != tag:
        raise UnexpectedAnswer(f"<{found[:40]}> in place of <{tag}>")
    return root


def empty(answer: AWSResponse) -> AWSResponse:
    """The answer, which must have no body. Raises S3's error if the body contains one."""
    if answer.content.strip():
        document(answer, "nothing")
    return answer


def parse(body: bytes) -> ET.Element:
    """The root element. Raises `UnexpectedAnswer` if the body is not XML that S3 would send."""
    if b"<!" in body or body.count(b"<") > MAX_TAGS:  # a document type, which could declare entities
        raise UnexpectedAnswer("XML that S3 does not send")
    try:
        # S3 sends white space before an answer that takes long.
        return ET.fromstring(body.lstrip(), ET.XMLParser(encoding="utf-8"))  # noqa: S314 - without entities
    except ET.ParseError as error:
        raise UnexpectedAnswer("a body that is not XML") from error


def local_name(element: ET.Element) -> str:
    """The element's name without its namespace."""
    return element.tag.rpartition("}")[2]


# --- errors


def _error_element(answer: AWSResponse) -> ET.Element | None:
    try:
        root = parse(answer.content)
    except UnexpectedAnswer:
        return None
    return root if local_name(root) == "Error" else None


def error_of(answer: AWSResponse, operation: str) -> ClientError:
    """The error as boto3 raises it, with S3's code, or the status if the answer has no body."""
    code, message = str(answer.status_code), ""
    root = _error_element(answer)
    if root is not None:
        code, message = root.findtext("{*}Code") or code, root.findtext("{*}Message") or message
    response: Any = {
        "Error": {"Code": code, "Message": message},
        "ResponseMetadata": {
            "HTTPStatusCode": answer.status_code,
            "HTTPHeaders": {name.lower(): value for name, value in answer.headers.items()},
        },
    }
    return ClientError(response, operation)


# --- boto3


def check_answers(boto3_client: Any, seconds: float) -> None:
    """Send the requests of this boto3 client through `exchange`, and check their answers."""
    connections = boto3_client._endpoint.http_session  # noqa: SLF001 - it has no public name

    def send(request: Any, event_name: str, **_: object) -> AWSResponse:
        operation = event_name.rpartition(".")[2]
        answer = exchange(connections, request, seconds)
        if answer.status_code < 300:
            return _checked(answer, operation)
        if answer.status_code == HTTPStatus.NOT_MODIFIED:
            raise UnexpectedAnswer("status 304 without a condition")
        error = error_of(answer, operation)
        code = error.response["Error"]["Code"]
        head = request.method == "HEAD" and answer.status_code == HTTPStatus.BAD_REQUEST
        if answer.status_code < 400 or code in _ELSEWHERE or head:
            raise error
        return answer

    boto3_client.meta.events.register("before-send.s3", send)


def _checked(answer: AWSResponse, operation: str) -> AWSResponse:
    """The answer, which must fit the operation. If it contains an error, it gets status 500 for boto3."""
    try:
        if operation in _FORMS:
            form = _FORMS[operation]
            _require(document(answer, form.root), form)
        elif operation in _HEADERS or operation in _NO_CONTENT:
            empty(answer)
    except ClientError:
        return _held(answer, 500, answer.content)
    if operation in _NO_CONTENT and answer.status_code != HTTPStatus.NO_CONTENT:
        raise UnexpectedAnswer(f"status {answer.status_code} in place of 204")
    for name in _HEADERS.get(operation, ()):
        _require_text(name, answer.headers.get(name))
    return answer


def _require(root: ET.Element, form: _Form) -> None:
    space = root.tag.removesuffix(form.root)
    elements = [(root, form.has)]
    if root.findtext(f"{space}IsTruncated") == "true":
        elements.append((root, form.more))
    for kind, has in form.each.items():
        elements += [(element, has) for element in root.findall(f"{space}{kind}")]
    for element, has in elements:
        for name in has:
            _require_text(name, element.findtext(f"{space}{name}"))


def _require_text(name: str, text: str | None) -> None:
    if not text or (name == "ETag" and not ETAG.fullmatch(text)):
        raise UnexpectedAnswer(f"a missing or invalid {name}")


def expect_owner(boto3_client: Any, account: str) -> None:
    """Make S3 refuse every request of this boto3 client unless the account owns the bucket.

    https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucket-owner-condition.html
    """

    def add(params: dict[str, Any], model: Any, **_: object) -> None:
        known = model.input_shape.members if model.input_shape else {}
        for name in ("ExpectedBucketOwner", "ExpectedSourceBucketOwner"):
            if name in known:
                params.setdefault(name, account)

    boto3_client.meta.events.register("before-parameter-build.s3", add)
