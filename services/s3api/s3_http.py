"""Signed requests to one bucket, without what is slow in boto3: its serializer, its events and its parser.

boto3 still finds the credentials and refreshes them, resolves the endpoint, signs, and holds the pooled
connections with their timeouts, TLS and proxies; failures are its own exceptions, and those of `s3_answers`.
Only `s3_store` uses this, for the frequent requests (docs/decisions/0005-signed-requests.md).
"""

from __future__ import annotations

import base64
import random
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from functools import cached_property
from http import HTTPStatus
from typing import Any, Literal, Protocol, TypeVar
from urllib.parse import quote, urlencode
from xml.etree import ElementTree as ET

import boto3.session
from botocore.auth import S3SigV4Auth, S3SigV4PostAuth, S3SigV4QueryAuth
from botocore.awsrequest import AWSPreparedRequest, AWSRequest, AWSResponse
from botocore.credentials import ReadOnlyCredentials
from botocore.exceptions import ClientError, HTTPClientError, NoCredentialsError
from botocore.exceptions import ConnectionError as NotConnected
from botocore.httpchecksum import apply_request_checksum

from s3api.s3_answers import UnexpectedAnswer, document, empty, error_of, exchange
from s3api.s3_errors import THROTTLED

T = TypeVar("T")

SEND_CHUNK = 128 * 1024

_PASSES = frozenset({"RequestTimeout", "500", "502", "503", "504"})
_CRC32_TRAILER = {"algorithm": "crc32", "in": "trailer", "name": "x-amz-checksum-crc32"}


class Readable(Protocol):
    def read(self, amount: int = ..., /) -> bytes: ...


class S3Requests:
    """Requests to `bucket`, as `client` would send them. Safe for threads.

    `attempts` as boto3's standard mode counts them: what may pass is tried again after a pause. `owner` is
    the account that must own the bucket, where it is known. Presigned URLs and forms do not carry it: S3
    takes it in a header only, which a plain client would not send.
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
        self._region: str = client.meta.region_name
        self._attempts = attempts
        self._owner = {"x-amz-expected-bucket-owner": owner} if owner else {}
        self._seconds: float = client.meta.config.read_timeout
        # There is no public way to the connections that the client was configured with.
        self._connections = client._endpoint.http_session  # noqa: SLF001

    @cached_property
    def url(self) -> str:
        """The bucket's: boto3 knows the host of a region, and which buckets need their name in the path."""
        presigned: str = self._client.generate_presigned_url("head_bucket", Params={"Bucket": self._bucket})
        return presigned.partition("?")[0]

    def send(
        self,
        method: Literal["GET", "HEAD", "PUT"],
        key: str = "",
        *,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        stream: bool = False,
    ) -> AWSResponse:
        """The answer, its body read unless `stream`. Raises `ClientError` for a status of 300 and above.

        Raises `UnexpectedAnswer` for an answer that does not fit, such as one to HEAD or PUT with a body.
        """

        def attempt() -> AWSResponse:
            request = self._request(method, key, query, headers)
            request.data = body
            if body is not None:
                _add_checksum(request, body)
            answer = self._send(request, body, stream=stream)
            if not stream:
                empty(answer)
            return answer

        return self._persist(attempt)

    def get_document(self, root: str, query: Mapping[str, str]) -> ET.Element:
        """The root element of what the bucket answers, which has this name."""
        return self._persist(lambda: document(self._send(self._request("GET", "", query, None), None), root))

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
            except (NotConnected, HTTPClientError):
                if not left:
                    raise
                pause = 0.05
            time.sleep(random.random() * pause)  # noqa: S311 - spreads the load, keeps no secret

    def put_stream(self, key: str, body: Readable, size: int, headers: Mapping[str, str]) -> AWSResponse:
        """PUT `size` bytes, once, without holding them; S3 can refuse before it has been sent any.

        Over TLS a CRC-32 follows the bytes, for S3 to check, unless the headers have a checksum already.
        """
        request = self._request("PUT", key, None, {**headers, "Content-Length": str(size)})
        chunks: Iterator[bytes] = iter(lambda: body.read(SEND_CHUNK), b"")
        request.context["client_config"] = self._client.meta.config  # which leaves the payload unsigned
        if "x-amz-checksum-sha256" in headers:
            request.headers["x-amz-sdk-checksum-algorithm"] = "SHA256"
        elif self.url.startswith("https:"):
            request.context["checksum"] = {"request_algorithm": _CRC32_TRAILER}
            checked: dict[str, Any] = {"headers": request.headers, "body": body, "context": request.context}
            apply_request_checksum(checked)
            request.headers["x-amz-sdk-checksum-algorithm"] = "CRC32"
            chunks = iter(checked["body"])
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
        request = AWSRequest(method, self._url(key, query), headers)
        S3SigV4QueryAuth(self._credentials(), "s3", self._region, expires=seconds).add_auth(request)
        return str(request.url)

    def presign_post(self, fields: Mapping[str, str], conditions: list[Any], seconds: int) -> dict[str, str]:
        """The fields of a form that anyone may POST to `url`: those given, and the signed policy."""
        ends = datetime.now(UTC) + timedelta(seconds=seconds)
        request = AWSRequest("POST", self.url)
        signed = dict(fields)
        request.context["s3-presign-post-fields"] = signed
        request.context["s3-presign-post-policy"] = {
            "expiration": ends.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "conditions": [{"bucket": self._bucket}, *({k: v} for k, v in fields.items()), *conditions],
        }
        S3SigV4PostAuth(self._credentials(), "s3", self._region).add_auth(request)
        return signed

    def _credentials(self) -> ReadOnlyCredentials:
        """Those that hold now: refreshed when they are about to end, and of one piece."""
        found = self._session.get_credentials()
        if found is None:
            raise NoCredentialsError
        return found.get_frozen_credentials()

    def _url(self, key: str, query: Mapping[str, str] | None) -> str:
        url = f"{self.url.rstrip('/')}/{quote(key, safe='/~')}" if key else self.url
        return f"{url}?{urlencode(query, quote_via=quote, safe='~')}" if query else url

    def _request(
        self, method: str, key: str, query: Mapping[str, str] | None, headers: Mapping[str, str] | None
    ) -> Any:
        request = AWSRequest(method, self._url(key, query), {**(headers or {}), **self._owner})
        request.headers["User-Agent"] = "s3api"
        return request

    def _send(
        self,
        request: Any,
        body: bytes | Iterator[bytes] | None,
        *,
        stream: bool = False,
        expect: bool = False,
    ) -> AWSResponse:
        S3SigV4Auth(self._credentials(), "s3", self._region).add_auth(request)
        # In bytes, as they were signed; botocore's connections look for Expect in bytes as well.
        headers: Any = {name: value.encode() for name, value in request.headers.items()}
        if expect:
            headers["Expect"] = b"100-continue"
        sent: Any = body
        prepared = AWSPreparedRequest(request.method, request.url, headers, sent, stream)
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


def _may_be_unmodified(request: Any) -> bool:
    asked = "If-None-Match" in request.headers or "If-Modified-Since" in request.headers
    return asked and request.method in ("GET", "HEAD")


def _add_checksum(request: Any, body: bytes) -> None:
    """A checksum of the body in a header, unless there is one: a bucket with Object Lock refuses PUT without.

    https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutObject.html: "The Content-MD5 or
    x-amz-sdk-checksum-algorithm header is required for any request to upload an object with a retention
    period configured using Amazon S3 Object Lock."
    """
    if "x-amz-checksum-sha256" in request.headers:
        request.headers["x-amz-sdk-checksum-algorithm"] = "SHA256"
        return
    crc = zlib.crc32(body).to_bytes(4, "big")
    request.headers["x-amz-checksum-crc32"] = base64.b64encode(crc).decode()
    request.headers["x-amz-sdk-checksum-algorithm"] = "CRC32"
