"""Signed requests to one bucket, without the slow parts of boto3: its serializer, events, signer and parser.

boto3 still finds and refreshes the credentials, resolves the endpoint, and holds the pooled connections with
their timeouts, TLS and proxies. A failure is one of botocore's exceptions, or `UnexpectedAnswer`. Only
`s3_store` uses this module, for the frequent requests (docs/decisions/0005-signed-requests.md).
"""

from __future__ import annotations

import base64
import random
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from http import HTTPStatus
from typing import Any, Literal, Protocol, TypeVar
from urllib.parse import quote, urlsplit
from xml.etree import ElementTree as ET

import boto3.session
import urllib3
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.credentials import ReadOnlyCredentials
from botocore.exceptions import ClientError, HTTPClientError, NoCredentialsError
from botocore.httpchecksum import apply_request_checksum

from s3api.s3_answers import Answer, UnexpectedAnswer, document, empty, error_of, exchange
from s3api.s3_errors import THROTTLED
from s3api.s3_signing import (
    EMPTY_SHA256,
    UNSIGNED_PAYLOAD,
    UNSIGNED_PAYLOAD_TRAILER,
    S3Signer,
    encoded_query,
    timestamp_of,
)

T = TypeVar("T")

SEND_CHUNK = 128 * 1024

_PASSES = frozenset({"RequestTimeout", "500", "502", "503", "504"})
_CRC32_TRAILER = {"algorithm": "crc32", "in": "trailer", "name": "x-amz-checksum-crc32"}
_NOTHING: Mapping[str, str] = {}
_NO_RETRIES = urllib3.Retry(False)


class Readable(Protocol):
    def read(self, amount: int = ..., /) -> bytes: ...


@dataclass(frozen=True, slots=True)
class _Request:
    """A request before it is signed."""

    method: Literal["GET", "HEAD", "PUT"]
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    payload: str = EMPTY_SHA256


class _Connections:
    """The connections to one origin that botocore has configured, with timeouts, TLS and proxies.

    botocore would find the pool, the proxy and the certificates again for each request.
    """

    def __init__(self, session: Any, origin: str) -> None:
        proxy = session._proxy_config.proxy_url_for(origin)  # noqa: SLF001 - it has no public name
        manager = session._get_connection_manager(origin, proxy)  # noqa: SLF001 - as above
        self._pool = manager.connection_from_url(origin)
        session._setup_ssl_cert(self._pool, origin, session._verify)  # noqa: SLF001 - as above
        first = f"{origin}/"
        target = session._get_request_target(first, proxy)  # noqa: SLF001 - as above
        #: Where the part of a URL begins that is sent. A proxy without a tunnel gets the whole URL.
        self._sent_from = 0 if target == first else len(origin)

    def send(self, request: AWSPreparedRequest) -> Answer:
        """Send a request and return the answer. Its body has not been read yet. Raises `HTTPClientError`."""
        headers: Any = request.headers
        try:
            raw = self._pool.urlopen(
                request.method,
                request.url[self._sent_from :],
                request.body,
                headers,
                retries=_NO_RETRIES,
                redirect=False,
                assert_same_host=False,
                preload_content=False,
                decode_content=False,
                enforce_content_length=False,
                chunked=headers.get("Transfer-Encoding") == b"chunked",
            )
        except Exception as error:
            raise HTTPClientError(error=error) from error
        return Answer(request.url, raw.status, raw.headers, raw)


class S3Requests:
    """Requests to `bucket`, the same that `client` would send. Threads can share an instance.

    `attempts` counts as boto3's standard mode does: after a failure that may pass, the request is sent again
    after a pause. `owner` is the account that must own the bucket; None checks no owner. Presigned URLs and
    forms do not name the owner, because S3 reads it from a header, which a plain client does not send.
    """

    def __init__(
        self,
        client: Any,
        session: boto3.session.Session,
        bucket: str,
        *,
        attempts: int = 1,
        owner: str | None = None,
    ) -> None:
        self._client = client
        self._session = session
        self._bucket = bucket
        self._attempts = attempts
        self._own_headers = {"User-Agent": "s3api"}
        if owner:
            self._own_headers["x-amz-expected-bucket-owner"] = owner
        self._seconds: float = client.meta.config.read_timeout

    @cached_property
    def url(self) -> str:
        """The URL of the bucket. boto3 knows the hosts, and which bucket names must be in the path."""
        presigned: str = self._client.generate_presigned_url("head_bucket", Params={"Bucket": self._bucket})
        return presigned.partition("?")[0]

    @cached_property
    def _origin(self) -> str:
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc}"

    @cached_property
    def _path_of_bucket(self) -> str:
        return urlsplit(self.url).path

    @cached_property
    def _signer(self) -> S3Signer:
        return S3Signer(self.url, self._client.meta.region_name)

    @cached_property
    def _connections(self) -> _Connections:
        configured = self._client._endpoint.http_session  # noqa: SLF001 - it has no public name
        return _Connections(configured, self._origin)

    def send(
        self,
        method: Literal["GET", "HEAD", "PUT"],
        key: str = "",
        *,
        query: Mapping[str, str] = _NOTHING,
        headers: Mapping[str, str] = _NOTHING,
        body: bytes | None = None,
        stream: bool = False,
    ) -> AWSResponse:
        """The answer, its body read unless `stream`. Raises `ClientError` for a status of 300 and above.

        Raises `UnexpectedAnswer` for an answer that does not fit, such as one to HEAD or PUT with a body.
        """
        if body is None:
            request = _Request(method, self._path(key), query, headers)
        else:
            checked = {**headers, **_checksum(headers, body)}
            request = _Request(method, self._path(key), query, checked, sha256(body).hexdigest())

        def attempt() -> AWSResponse:
            answer = self._send(request, body, stream=stream)
            if not stream:
                empty(answer)
            return answer

        return self._persist(attempt)

    def get_document(self, root: str, query: Mapping[str, str]) -> ET.Element:
        """The root element of the bucket's answer, which must have this name."""
        request = _Request("GET", self._path(""), query, _NOTHING)
        return self._persist(lambda: document(self._send(request, None), root))

    def _persist(self, attempt: Callable[[], T]) -> T:
        left = self._attempts
        while True:
            left -= 1
            try:
                return attempt()
            except ClientError as error:
                code = error.response["Error"]["Code"]
                status = str(error.response["ResponseMetadata"]["HTTPStatusCode"])
                throttled = not THROTTLED.isdisjoint((code, status))
                if not left or not (throttled or not _PASSES.isdisjoint((code, status))):
                    raise
                pause = 1.0 if throttled else 0.05
            except HTTPClientError:
                if not left:
                    raise
                pause = 0.05
            time.sleep(random.random() * pause)  # noqa: S311 - spreads the load, keeps no secret

    def put_stream(
        self,
        key: str,
        body: Readable,
        size: int,
        headers: Mapping[str, str],
        query: Mapping[str, str] = _NOTHING,
    ) -> AWSResponse:
        """PUT `size` bytes, once, without holding them. S3 can refuse the request before any byte is sent.

        Over TLS a CRC-32 follows the bytes, for S3 to check, unless the headers have a checksum already.
        """
        sent = {**headers, "Content-Length": str(size)}
        payload = UNSIGNED_PAYLOAD
        chunks: Iterator[bytes] = iter(lambda: body.read(SEND_CHUNK), b"")
        if "x-amz-checksum-sha256" in headers:
            sent["x-amz-sdk-checksum-algorithm"] = "SHA256"
        elif self.url.startswith("https:"):
            context = {"checksum": {"request_algorithm": _CRC32_TRAILER}}
            checked: dict[str, Any] = {"headers": sent, "body": body, "context": context}
            apply_request_checksum(checked)
            sent["x-amz-sdk-checksum-algorithm"] = "CRC32"
            payload = UNSIGNED_PAYLOAD_TRAILER
            chunks = iter(checked["body"])
        request = _Request("PUT", self._path(key), query, sent, payload)
        return empty(self._send(request, chunks, expect=True))

    def presign(
        self,
        method: Literal["GET", "HEAD", "PUT"],
        key: str,
        query: Mapping[str, str],
        headers: Mapping[str, str],
        seconds: int,
    ) -> str:
        """A URL that lets anyone send this request, with these headers and no others signed."""
        return self._signer.url(
            method,
            self._path(key),
            query,
            headers,
            self._credentials(),
            timestamp=timestamp_of(time.time()),
            seconds=seconds,
        )

    def send_presigned(self, method: Literal["GET", "PUT"], url: str, body: bytes) -> Answer:
        """Send a presigned request as a client would. Only the head of the answer is read.

        Raises `HTTPClientError`. Every status is an answer.
        """
        headers: Any = {}
        answer = self._connections.send(AWSPreparedRequest(method, url, headers, body or None, False))
        answer.raw.close()
        return answer

    def presign_post(
        self, fields: Mapping[str, str], conditions: Sequence[Any], seconds: int
    ) -> dict[str, str]:
        """The fields of a form that anyone may POST to `url`: those given, and the signed policy."""
        now = time.time()
        return self._signer.form(
            fields,
            [{"bucket": self._bucket}, *({name: value} for name, value in fields.items()), *conditions],
            self._credentials(),
            timestamp=timestamp_of(now),
            expiration=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now + seconds)),
        )

    def _credentials(self) -> ReadOnlyCredentials:
        """A consistent snapshot of the current credentials, refreshed first when they are about to end."""
        found = self._session.get_credentials()
        if found is None:
            raise NoCredentialsError
        return found.get_frozen_credentials()

    def _path(self, key: str) -> str:
        if not key:
            return self._path_of_bucket
        return f"{self._path_of_bucket.rstrip('/')}/{quote(key, safe='/~')}"

    def _send(
        self,
        request: _Request,
        body: bytes | Iterator[bytes] | None,
        *,
        stream: bool = False,
        expect: bool = False,
    ) -> AWSResponse:
        signed = self._signer.headers(
            request.method,
            request.path,
            request.query,
            {**request.headers, **self._own_headers},
            self._credentials(),
            timestamp=timestamp_of(time.time()),
            payload=request.payload,
        )
        # In bytes, as they were signed. botocore's connections look for Expect in bytes as well.
        headers: Any = {name: value.encode() for name, value in signed.items()}
        if expect:
            headers["Expect"] = b"100-continue"
        url = f"{self._origin}{request.path}"
        if request.query:
            url += f"?{encoded_query(request.query)}"
        sent: Any = body
        prepared = AWSPreparedRequest(request.method, url, headers, sent, stream)
        answer = exchange(self._connections, prepared, self._seconds, stream=stream)
        if answer.status_code >= 300:
            if answer.status_code == HTTPStatus.NOT_MODIFIED and not _may_be_unmodified(request):
                raise UnexpectedAnswer("status 304 without a condition")
            raise error_of(answer, request.method)
        wanted = (HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT) if "Range" in headers else (HTTPStatus.OK,)
        if answer.status_code not in wanted:
            if stream:
                answer.raw.close()
            raise UnexpectedAnswer(f"status {answer.status_code}")
        return answer


def _may_be_unmodified(request: _Request) -> bool:
    asked = "If-None-Match" in request.headers or "If-Modified-Since" in request.headers
    return asked and request.method in ("GET", "HEAD")


def _checksum(headers: Mapping[str, str], body: bytes) -> dict[str, str]:
    """The headers with a checksum of the body: a bucket with Object Lock refuses a PUT without one.

    https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutObject.html: "The Content-MD5 or
    x-amz-sdk-checksum-algorithm header is required for any request to upload an object with a retention
    period configured using Amazon S3 Object Lock."
    """
    if "x-amz-checksum-sha256" in headers:
        return {"x-amz-sdk-checksum-algorithm": "SHA256"}
    crc = base64.b64encode(zlib.crc32(body).to_bytes(4, "big")).decode()
    return {"x-amz-checksum-crc32": crc, "x-amz-sdk-checksum-algorithm": "CRC32"}
