"""Signatures are those of botocore, for any key, query, headers, credentials and time."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from unittest import mock
from urllib.parse import quote

import pytest
from botocore.auth import S3SigV4Auth, S3SigV4PostAuth, S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import ReadOnlyCredentials
from hypothesis import given
from hypothesis import strategies as st

from s3api.s3_signing import EMPTY_SHA256, S3Signer, timestamp_of

TEXT = st.text(st.characters(codec="utf-8"), max_size=40)
TOKENS = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=60)
QUERIES = st.dictionaries(TEXT.filter(bool), TEXT, max_size=4)
#: http.client sends no line break in a value. botocore signs a name as it is in lower case.
HEADERS = st.dictionaries(
    st.sampled_from(["Content-Type", "content-length", "If-None-Match", "Range", "x-amz-checksum-sha256"])
    | st.from_regex(r"\A[Xx]-[Aa]mz-[Mm]eta-[A-Za-z0-9!#$%&'*+.^_`|~-]{1,20}\Z"),
    st.text(st.characters(codec="utf-8", exclude_characters="\r\n"), max_size=40),
    max_size=4,
).filter(lambda headers: len({name.lower() for name in headers}) == len(headers))
CREDENTIALS = st.builds(
    ReadOnlyCredentials, access_key=TOKENS, secret_key=TEXT, token=st.none() | TEXT.filter(bool)
)
MOMENTS = st.integers(0, 4_102_444_800)  # until the year 2100
ENDPOINTS = st.sampled_from(
    [
        "https://day02-files.s3.eu-west-1.amazonaws.com",
        "https://s3.example:443",
        "http://S3.Example:80",
        "http://127.0.0.1:9000",
        "http://[::1]:9000",
    ]
)
REGIONS = st.sampled_from(["eu-west-1", "us-east-1"])


@contextmanager
def botocore_at(moment: int) -> Iterator[None]:
    now = datetime.fromtimestamp(moment, UTC)
    with mock.patch("botocore.auth.get_current_datetime", return_value=now):
        yield


def request_of(
    method: str, endpoint: str, path: str, query: Mapping[str, str], headers: Mapping[str, str]
) -> AWSRequest:
    pairs = [f"{quote(name, safe='-._~')}={quote(value, safe='-._~')}" for name, value in query.items()]
    return AWSRequest(method, f"{endpoint}{path}?{'&'.join(pairs)}", dict(headers))


@given(
    method=st.sampled_from(["GET", "HEAD", "PUT"]),
    endpoint=ENDPOINTS,
    key=TEXT,
    query=QUERIES,
    headers=HEADERS,
    credentials=CREDENTIALS,
    region=REGIONS,
    moment=MOMENTS,
    seconds=st.integers(1, 604_800),
)
def test_presigned_urls_are_those_of_botocore(
    *,
    method: str,
    endpoint: str,
    key: str,
    query: dict[str, str],
    headers: dict[str, str],
    credentials: ReadOnlyCredentials,
    region: str,
    moment: int,
    seconds: int,
) -> None:
    """A presigned URL is the same, to the letter, as the one of botocore's S3SigV4QueryAuth."""
    path = "/" + quote(key, safe="/~")
    theirs = request_of(method, endpoint, path, query, headers)
    with botocore_at(moment):
        S3SigV4QueryAuth(credentials, "s3", region, expires=seconds).add_auth(theirs)
    ours = S3Signer(endpoint, region).url(
        method, path, query, headers, credentials, timestamp=timestamp_of(moment), seconds=seconds
    )

    assert ours == theirs.url


@given(
    method=st.sampled_from(["GET", "HEAD", "PUT"]),
    endpoint=ENDPOINTS,
    key=TEXT,
    query=QUERIES,
    headers=HEADERS,
    credentials=CREDENTIALS,
    region=REGIONS,
    moment=MOMENTS,
)
def test_signed_headers_are_those_of_botocore(
    *,
    method: str,
    endpoint: str,
    key: str,
    query: dict[str, str],
    headers: dict[str, str],
    credentials: ReadOnlyCredentials,
    region: str,
    moment: int,
) -> None:
    """A request without a body has the same Authorization and headers as one of botocore's S3SigV4Auth."""
    path = "/" + quote(key, safe="/~")
    theirs = request_of(method, endpoint, path, query, {**headers, "User-Agent": "s3api"})
    with botocore_at(moment):
        S3SigV4Auth(credentials, "s3", region).add_auth(theirs)
    ours = S3Signer(endpoint, region).headers(
        method,
        path,
        query,
        {**headers, "User-Agent": "s3api"},
        credentials,
        timestamp=timestamp_of(moment),
        payload=EMPTY_SHA256,
    )

    assert ours == dict(theirs.headers.items())


@given(
    fields=st.dictionaries(TEXT.filter(bool), TEXT, max_size=4),
    size=st.integers(0, 2**40),
    credentials=CREDENTIALS,
    region=REGIONS,
    moment=MOMENTS,
)
def test_forms_are_those_of_botocore(
    *, fields: dict[str, str], size: int, credentials: ReadOnlyCredentials, region: str, moment: int
) -> None:
    """A form has the fields and the policy of botocore's S3SigV4PostAuth, which signs the policy alike."""
    expiration = "2026-11-26T12:00:00Z"
    conditions = [{"bucket": "day02-files"}, ["content-length-range", size, size]]
    theirs = AWSRequest("POST", "https://s3.example")
    theirs.context["s3-presign-post-fields"] = dict(fields)
    theirs.context["s3-presign-post-policy"] = {"expiration": expiration, "conditions": list(conditions)}
    signer = S3SigV4PostAuth(credentials, "s3", region)
    with botocore_at(moment):
        signer.add_auth(theirs)
    ours = S3Signer("https://s3.example", region).form(
        fields, conditions, credentials, timestamp=timestamp_of(moment), expiration=expiration
    )
    policy, signature = ours.pop("policy"), ours.pop("x-amz-signature")
    signed = theirs.context["s3-presign-post-fields"]
    theirs_policy = signed.pop("policy")
    del signed["x-amz-signature"]

    assert ours == signed
    assert json.loads(base64.b64decode(policy)) == json.loads(base64.b64decode(theirs_policy))
    assert signature == signer.signature(policy, theirs)


@pytest.mark.parametrize(
    "other",
    [
        {"credentials": ReadOnlyCredentials("key", "other", None)},
        {"credentials": ReadOnlyCredentials("other", "secret", None)},
        {"credentials": ReadOnlyCredentials("key", "secret", "token")},
        {"timestamp": "20261127T000000Z"},
        {"region": "us-east-1"},
    ],
)
def test_a_signing_key_serves_its_day_region_and_credentials_alone(other: dict[str, object]) -> None:
    """The kept key of one day, region or set of credentials signs for no other."""

    def signature(
        credentials: object = ReadOnlyCredentials("key", "secret", None),
        timestamp: object = "20261126T235959Z",
        region: object = "eu-west-1",
    ) -> str:
        signer = S3Signer("https://s3.example", str(region))
        assert isinstance(credentials, ReadOnlyCredentials)
        url = signer.url("GET", "/a", {}, {}, credentials, timestamp=str(timestamp), seconds=60)
        return url.rpartition("=")[2]

    first = signature()

    assert signature(**other) != first
    assert signature() == first


@pytest.mark.parametrize(
    ("url", "same"),
    [
        ("https://s3.example:443", True),
        ("https://s3.example:80", False),
        ("https://s3.example:8443", False),
        ("http://s3.example:80", True),
    ],
)
def test_a_default_port_is_not_signed(url: str, *, same: bool) -> None:
    """RFC 9110, section 7.2: Host leaves out the scheme's default port, and the signature covers Host."""
    scheme = url.partition(":")[0]
    signatures = {
        S3Signer(origin, "eu-west-1").headers(
            "GET",
            "/bucket/name",
            {},
            {},
            ReadOnlyCredentials("key", "secret", None),
            timestamp="20261126T010203Z",
            payload="UNSIGNED-PAYLOAD",
        )["Authorization"]
        for origin in (url, f"{scheme}://s3.example")
    }

    assert (len(signatures) == 1) == same
