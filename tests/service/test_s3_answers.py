"""What is not an answer of S3 is a failure of S3: for each operation over real sockets, and for any bytes."""

from __future__ import annotations

import base64
import io
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import requests
import urllib3
from botocore.awsrequest import AWSResponse
from hypothesis import given, settings
from hypothesis import strategies as st

from s3api import failures
from s3api.bodies import Body
from s3api.doctor import Verdict, diagnose
from s3api.errors import status_of
from s3api.file_store import Conditions, Page, Part, PartPlan, StoredFile
from s3api.s3_answers import ANSWER_BYTES, Answer, UnexpectedAnswer, document, error_of, exchange, parse
from s3api.s3_store import S3FileStore
from s3api.s3_values import page, size_of_range, stored_file
from s3api.settings import Settings
from support.faulty_s3 import REQUEST_ID, AnswerError, Asked, Fault, FaultyS3, Instead, running_faulty_s3
from support.servers import S3, SIGNING_KEY, running_service
from support.stores import body, put, s3_store

MiB = 1024 * 1024
DEADLINE = 20.0  # each ends within a second; the rest is for a machine that is busy
#: Shorter than DEADLINE, after two attempts too, and longer than a busy machine pauses.
TIMEOUTS = {"s3_read_timeout_seconds": 5, "s3_transfer_timeout_seconds": 10}
OWNER = "123456789012"
MD5_OF_PART = "827ccb0eea8a706c4c34a16891f84e7b"
PAGE = b"<html><head><title>Welcome</title></head><body>Log in to use this network</body></html>"


# --- each operation


@dataclass(frozen=True)
class Operation:
    """The operation after `prepare`, and which of its requests fails."""

    prepare: Callable[[S3FileStore], Callable[[], object]]
    fails: Callable[[Asked], bool]


def asked_for(method: str, *query: str) -> Callable[[Asked], bool]:
    """Requests with this method and, of all that S3 tells operations apart by, exactly these parameters."""
    known = {"list-type", "versions", "uploads", "uploadId", "partNumber", "delete", "versionId"}
    return lambda asked: asked.method == method and known & set(asked.query) == set(query)


def upload(size: int | None = -1, *, length: int = 5, create_only: bool = False) -> Callable[..., Any]:
    def prepare(store: S3FileStore) -> Callable[[], object]:
        data = b"x" * length
        store.delete("new")
        return lambda: store.put("new", body(data, size=size), "text/plain", create_only=create_only)

    return prepare


def with_plan(call: Callable[[S3FileStore, PartPlan], object]) -> Callable[..., Any]:
    """An upload in parts, of which the only part has come."""

    def prepare(store: S3FileStore) -> Callable[[], object]:
        upload_id = store.start_parts("parts", "text/plain", None, "nonce").upload_id
        plan = PartPlan("parts", upload_id, size=5, part_size=8 * MiB, nonce="nonce")
        (signed,) = store.sign_parts(plan, [1], 60)
        assert requests.put(signed.url, data=b"12345", timeout=10).status_code == 200
        return lambda: call(store, plan)

    return prepare


def deleted(store: S3FileStore) -> Callable[[], object]:
    put(store, "gone")
    store.delete("gone")
    return lambda: store.restore("gone")


def given_file(call: Callable[[S3FileStore], object]) -> Callable[..., Any]:
    def prepare(store: S3FileStore) -> Callable[[], object]:
        put(store, "name")
        return lambda: call(store)

    return prepare


HEAD, GET, PUT, POST, DELETE = (asked_for(method) for method in ("HEAD", "GET", "PUT", "POST", "DELETE"))
OPERATIONS = {
    "check": Operation(given_file(lambda store: store.check()), HEAD),
    "list_page": Operation(
        given_file(lambda store: store.list_page("", "/", 10, None)), asked_for("GET", "list-type")
    ),
    "stat": Operation(given_file(lambda store: store.stat("name")), HEAD),
    "missing": Operation(given_file(lambda store: store.missing(["name"])), HEAD),
    "open": Operation(given_file(lambda store: store.open("name", Conditions(), with_body=True)), GET),
    "look": Operation(given_file(lambda store: store.open("name", Conditions(), with_body=False)), HEAD),
    "open a range": Operation(
        given_file(lambda store: store.open("name", Conditions(byte_range="bytes=1-2"), with_body=True)), GET
    ),
    "put": Operation(upload(), PUT),
    "create": Operation(upload(create_only=True), PUT),
    "put a stream": Operation(upload(length=MiB), PUT),
    "put an unknown length": Operation(upload(None), PUT),
    "begin the parts of an unknown length": Operation(
        upload(None, length=9 * MiB), asked_for("POST", "uploads")
    ),
    "put a part": Operation(upload(None, length=9 * MiB), asked_for("PUT", "uploadId", "partNumber")),
    "complete an unknown length": Operation(upload(None, length=9 * MiB), asked_for("POST", "uploadId")),
    "delete": Operation(given_file(lambda store: store.delete("name")), DELETE),
    "delete_many": Operation(
        given_file(lambda store: store.delete_many(["name"])), asked_for("POST", "delete")
    ),
    "restore, its versions": Operation(deleted, asked_for("GET", "versions")),
    "restore, its version": Operation(deleted, asked_for("HEAD", "versionId")),
    "restore, its upload": Operation(deleted, asked_for("POST", "uploads")),
    "restore, its copy": Operation(deleted, asked_for("PUT", "uploadId", "partNumber")),
    "restore, its completion": Operation(deleted, asked_for("POST", "uploadId")),
    "start_parts": Operation(
        given_file(lambda store: store.start_parts("parts", "text/plain", None, "nonce")),
        asked_for("POST", "uploads"),
    ),
    "list_parts": Operation(
        with_plan(lambda store, plan: store.list_parts(plan)), asked_for("GET", "uploadId")
    ),
    "complete_parts": Operation(
        with_plan(lambda store, plan: store.complete_parts(plan, [Part(1, MD5_OF_PART, 5)])),
        asked_for("POST", "uploadId"),
    ),
    "abort_parts": Operation(
        with_plan(lambda store, plan: store.abort_parts(plan)), asked_for("DELETE", "uploadId")
    ),
}

HTML = (
    ("Content-Type", "text/html"),
    ("ETag", '"5f-61a"'),
    ("Last-Modified", "Thu, 26 Nov 2026 01:10:35 GMT"),
)
XML = (REQUEST_ID, ("Content-Type", "application/xml"))
LOOP = ("Location", "/")  # each client that follows it is redirected again
BAD: dict[str, Fault] = {
    "a captive portal": Instead(200, HTML, PAGE),
    "a page of S3's own": Instead(200, (REQUEST_ID, ("Content-Type", "text/html")), PAGE),
    "a proxy's 404": Instead(404, HTML, PAGE),
    "a proxy's 403": Instead(403, HTML, PAGE),
    # AWS, CopyObject: "a 200 OK response can contain either a success or an error"
    "an error in a 200": Instead(200, XML, b"<Error><Code>SlowDown</Code><Message>Reduce</Message></Error>"),
    "nothing": Instead(200, (REQUEST_ID,)),
    "no content": Instead(204, ()),
    "XML that ends early": Instead(200, XML, b'<?xml version="1.0"?><ListBucketResult><Name>'),
    "XML of another kind": Instead(200, XML, b"<AssumeRoleResponse><Code/></AssumeRoleResponse>"),
    "a body that ends early": Instead(200, XML, b"<ListBucketResult>", length=100),
    "an endless body": Instead(200, XML, b"<a>" * 20_000, endless=True),
    "an endless error": Instead(503, XML, b"<a>" * 20_000, endless=True),
    "not modified": Instead(304, (REQUEST_ID,)),
    "307": Instead(307, (REQUEST_ID, LOOP)),
    "a portal's redirect": Instead(302, (LOOP,)),
    "another region, without its name": Instead(
        301, XML, b"<Error><Code>PermanentRedirect</Code><Endpoint>elsewhere.example</Endpoint></Error>"
    ),
}
#: HEAD of the bucket has no body: with S3's own header it is an answer of S3.
FITTING = {
    ("check", bad)
    for bad in BAD
    if isinstance(fault := BAD[bad], Instead) and fault.status == 200 and REQUEST_ID in fault.headers
}


@pytest.fixture(scope="module")
def faulty(seaweedfs_s3: S3) -> Iterator[FaultyS3]:
    with running_faulty_s3(seaweedfs_s3) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def store(faulty: FaultyS3, seaweedfs_s3: S3) -> S3FileStore:
    bucket = seaweedfs_s3.make_bucket("day02-answers", versioned=True)
    return s3_store(faulty.s3, bucket, bucket_owner=OWNER, **TIMEOUTS)


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("name", OPERATIONS)
def test_what_s3_does_not_answer_is_a_failure(
    store: S3FileStore, faulty: FaultyS3, name: str, bad: str
) -> None:
    """Each operation ends soon with a failure of S3, after few requests and bytes, and never with success."""
    if (name, bad) in FITTING:
        return
    operation = OPERATIONS[name]
    call = operation.prepare(store)
    faulty.asked.clear()
    faulty.sent = 0
    began = time.monotonic()
    with faulty.failing(BAD[bad], operation.fails), pytest.raises(failures.FileError) as failed:
        call()

    assert status_of(failed.value) in (502, 503)
    assert isinstance(failed.value, failures.StoreUnavailable | failures.StoreFailed)
    assert time.monotonic() - began < DEADLINE
    assert len([asked for asked in faulty.asked if operation.fails(asked)]) <= 2
    assert faulty.sent < ANSWER_BYTES + 24 * MiB  # what the sockets between hold is not read


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("restore, its version", AnswerError(503, "ServiceUnavailable")),
        ("list_parts", AnswerError(503, "ServiceUnavailable")),
        ("list_parts", AnswerError(400, "RequestTimeout")),
    ],
)
def test_boto3_asks_again(store: S3FileStore, faulty: FaultyS3, name: str, fault: Fault) -> None:
    """A small request that boto3 sends survives one failure of S3, with a body or without (HEAD)."""
    operation = OPERATIONS[name]
    call = operation.prepare(store)
    once = iter([True])
    with faulty.failing(fault, lambda asked: operation.fails(asked) and next(once, False)):
        call()

    assert next(once, None) is None


def test_boto3_asks_in_no_other_region(store: S3FileStore, faulty: FaultyS3) -> None:
    """S3 answers a HEAD for a bucket of another region with 400; boto3 would go there."""
    operation = OPERATIONS["restore, its version"]
    call = operation.prepare(store)
    faulty.asked.clear()
    elsewhere = Instead(400, (REQUEST_ID, ("x-amz-bucket-region", "eu-north-1")))
    with (
        faulty.failing(elsewhere, operation.fails),
        pytest.raises(failures.StoreFailed, match="AWS_REGION"),
    ):
        call()

    assert [asked.method for asked in faulty.asked].count("HEAD") == 1


# --- one answer


@dataclass
class Connections:
    """Answers every request with this."""

    status: int
    body: bytes
    headers: tuple[tuple[str, str], ...] = (REQUEST_ID,)

    def send(self, _request: Any) -> Answer:
        headers = urllib3.HTTPHeaderDict(dict(self.headers))
        raw = urllib3.HTTPResponse(io.BytesIO(self.body), headers, self.status, preload_content=False)
        return Answer("http://s3.example/", self.status, headers, raw)


def exchanged(status: int, body: bytes, *headers: tuple[str, str]) -> AWSResponse:
    return exchange(Connections(status, body, headers or (REQUEST_ID,)), SimpleNamespace(body=b""), 5.0)


@pytest.mark.parametrize(
    ("status", "most"), [(200, 8 * MiB), (299, 8 * MiB), (300, MiB // 4), (404, MiB // 4)]
)
def test_the_largest_answer(status: int, most: int) -> None:
    """An answer in memory has at most 8 MiB. Of an error above 256 KiB only the status counts."""
    whole = exchanged(status, bytes(most))

    assert len(whole.content) == most
    if status < 300:
        with pytest.raises(UnexpectedAnswer):
            exchanged(status, bytes(most + 1))
    else:
        assert exchanged(status, bytes(most + 1)).content == b""


@pytest.mark.parametrize("status", [500, 503, 599])
def test_an_error_of_a_proxy_counts_as_one_of_s3(status: int) -> None:
    """A proxy in front of S3 answers 502 without S3's own header; that may pass, as an error of S3 may."""
    assert exchanged(status, PAGE, ("Content-Type", "text/html")).status_code == status


@pytest.mark.parametrize("status", [200, 301, 404, 499])
def test_any_other_answer_of_a_proxy_is_none(status: int) -> None:
    """A proxy's answer that is not an error of a server (5xx) is not taken for an answer of S3."""
    with pytest.raises(UnexpectedAnswer):
        exchanged(status, PAGE, ("Content-Type", "text/html"))


@pytest.mark.parametrize("found", ["ListPartsResult", "Z", "A", "errors"])
def test_another_document_is_none(found: str) -> None:
    """An answer whose root has another name is not the answer, whatever that name is."""
    right = f"<{found}/>".encode()

    assert document(exchanged(200, right), found).tag == found
    with pytest.raises(UnexpectedAnswer):
        document(exchanged(200, right), "ListBucketResult")


@pytest.mark.parametrize(("root", "code"), [("Error", "SlowDown"), ("Apology", "400"), ("Fault", "400")])
def test_only_s3s_own_error_has_a_code(root: str, code: str) -> None:
    """Without S3's error document the status is the code."""
    answer = exchanged(400, f"<{root}><Code>SlowDown</Code></{root}>".encode())

    assert error_of(answer, "operation").response["Error"]["Code"] == code


def test_a_client_sees_no_empty_listing(faulty: FaultyS3, seaweedfs_s3: S3, tmp_path: Path) -> None:
    """A listing is answered 503, not 200 without files, while S3 answers SlowDown in a 200."""
    bucket = seaweedfs_s3.make_bucket("day02-answers-listing")
    with (
        running_service(faulty.s3, bucket, tmp_path) as service,
        faulty.failing(BAD["an error in a 200"], asked_for("GET", "list-type")),
    ):
        answer = requests.get(service.at("/list_files"), timeout=10)

    assert (answer.status_code, answer.json()["code"]) == (503, "s3_throttled")


# --- listings

ENTRY = """<Contents><Key>a</Key><LastModified>2026-11-26T01:10:35.000Z</LastModified><ETag>"e"</ETag>
<Size>1</Size></Contents>"""
WHOLE = f"""<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>day02-b</Name>
<KeyCount>1</KeyCount><IsTruncated>true</IsTruncated><NextContinuationToken>2</NextContinuationToken>
{ENTRY}</ListBucketResult>"""


def page_of(listing: str, limit: int = 10) -> Page:
    return page(parse(listing.encode()), "day02-b", "", limit, "1")


def test_a_whole_listing_is_a_page() -> None:
    """What the next test changes is a page as it is, with S3's namespace and without."""
    expected = Page([StoredFile("a", 1, datetime(2026, 11, 26, 1, 10, 35, tzinfo=UTC), "e")], [], "2")

    assert page_of(WHOLE) == expected
    assert page_of(WHOLE.replace(' xmlns="http://s3.amazonaws.com/doc/2006-03-01/"', "")) == expected


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("<Key>a</Key>", ""),
        ("<Key>a</Key>", "<Key></Key>"),
        ("<Size>1</Size>", ""),
        ("<Size>1</Size>", "<Size>many</Size>"),
        ("<Size>1</Size>", "<Size>-1</Size>"),
        ("<Size>1</Size>", f"<Size>{'9' * 5000}</Size>"),
        ("2026-11-26T01:10:35.000Z", "yesterday"),
        ("2026-11-26T01:10:35.000Z", "2026-11-26T01:10:35"),
        ('<ETag>"e"</ETag>', ""),
        ('<ETag>"e"</ETag>', "<ETag>e&#10;Set-Cookie: x</ETag>"),
        ("<IsTruncated>true</IsTruncated>", ""),
        ("<IsTruncated>true</IsTruncated>", "<IsTruncated>maybe</IsTruncated>"),
        ("<NextContinuationToken>2</NextContinuationToken>", ""),
        ("<NextContinuationToken>2<", "<NextContinuationToken>1<"),
        ("<KeyCount>1<", "<KeyCount>2<"),
        ("<Name>day02-b<", "<Name>day02-other<"),
        ("<ListBucketResult", "<!DOCTYPE l [<!ENTITY a 'b'>]><ListBucketResult"),
        (ENTRY, ENTRY * 11),
    ],
)
def test_a_listing_that_s3_would_not_send(old: str, new: str) -> None:
    """A listing without what every listing has, or that goes on from where it was, is no listing."""
    assert old in WHOLE
    with pytest.raises(UnexpectedAnswer):
        page_of(
            WHOLE.replace(old, new).replace(
                "<KeyCount>1<", f"<KeyCount>{'11' if new.count('<Key>') > 1 else 1}<"
            )
        )


def test_a_listing_of_another_prefix_is_none() -> None:
    """A page with names that do not begin with the requested prefix is refused."""
    with pytest.raises(UnexpectedAnswer):
        page(parse(WHOLE.encode()), "day02-b", "team/", 10, None)


TEXT = st.text(
    st.characters(codec="utf-8", exclude_characters="<&", exclude_categories=["Cc", "Cs"]), max_size=12
)
VALUES = st.one_of(
    TEXT, st.sampled_from(["true", "false", "1", "-1", "2026-11-26T01:10:35Z", '"e"', "url", "%00"])
)


@st.composite
def listings(draw: st.DrawFn) -> str:
    """Listings whose elements are there or not, in any number, with any text."""
    names = ["Name", "IsTruncated", "NextContinuationToken", "KeyCount", "EncodingType"]
    inner = "".join(f"<{name}>{draw(VALUES)}</{name}>" for name in draw(st.lists(st.sampled_from(names))))
    for _ in range(draw(st.integers(0, 3))):
        kept = draw(st.lists(st.sampled_from(["Key", "Size", "LastModified", "ETag", "Contents"])))
        inner += "<Contents>" + "".join(f"<{name}>{draw(VALUES)}</{name}>" for name in kept) + "</Contents>"
    if draw(st.booleans()):
        inner += f"<CommonPrefixes><Prefix>{draw(VALUES)}</Prefix></CommonPrefixes>"
    return f"<ListBucketResult>{inner}</ListBucketResult>"


@settings(max_examples=500)
@given(listing=st.one_of(listings().map(str.encode), st.binary(max_size=200)))
def test_any_bytes_are_a_page_or_no_answer(listing: bytes) -> None:
    """Any listing is a page or `UnexpectedAnswer`; nothing else is raised."""
    try:
        found = page(parse(listing), "day02-b", "", 1000, None)
    except UnexpectedAnswer:
        return
    assert all(file.name and file.size >= 0 and file.last_modified.tzinfo for file in found.files)
    assert found.next_token != ""


def test_a_flood_of_elements_is_not_parsed() -> None:
    """A body of more than 256,000 tags is refused before its elements take memory."""
    most = b"<a>" + b"<a/>" * 255_998 + b"</a>"

    assert len(parse(most)) == 255_998
    for flood in (most.replace(b"</a>", b"<a/></a>"), b"<a>" + b"<a/>" * 1_000_000 + b"</a>"):
        with pytest.raises(UnexpectedAnswer):
            parse(flood)


# --- headers

HEADERS = {"ETag": '"e"', "Last-Modified": "Thu, 26 Nov 2026 01:10:35 GMT"}


@settings(max_examples=500)
@given(
    headers=st.dictionaries(
        st.sampled_from([*HEADERS, "Content-Length"]),
        st.one_of(
            st.text(st.characters(max_codepoint=255), max_size=30), st.sampled_from(list(HEADERS.values()))
        ),
    ),
    content_range=st.one_of(st.text(max_size=20), st.from_regex(r"bytes [0-9]{1,3}-[0-9]{1,3}/[0-9]{1,3}")),
    asked=st.from_regex(r"\Abytes=([0-9]{1,3}-[0-9]{0,3}|-[0-9]{1,3})\Z"),
)
def test_any_header_is_read_or_no_answer(headers: dict[str, str], content_range: str, asked: str) -> None:
    """Any header is read or `UnexpectedAnswer`; nothing else is raised."""
    with suppress(UnexpectedAnswer):
        assert stored_file("name", headers, 1).last_modified.tzinfo
    with suppress(UnexpectedAnswer):
        assert size_of_range(content_range, asked, 3) > 0


@pytest.mark.parametrize("lacking", ["ETag", "Last-Modified", "Content-Length"])
@pytest.mark.parametrize("with_body", [True, False])
def test_a_file_without_its_headers_is_none(
    store: S3FileStore, faulty: FaultyS3, lacking: str, *, with_body: bool
) -> None:
    """A file whose answer has no ETag, date or length is a failure of S3."""
    kept = tuple((name, value) for name, value in HEADERS.items() if name != lacking)
    fault = Instead(200, (REQUEST_ID, *kept), b"12345", endless=lacking == "Content-Length")
    with faulty.failing(fault), pytest.raises(failures.StoreUnavailable):
        store.open("name", Conditions(), with_body=with_body)


@pytest.mark.parametrize(
    ("asked", "status", "content_range"),
    [
        ("bytes=0-4", 206, "bytes 5-9/10"),
        ("bytes=0-4", 206, "bytes 0-9/10"),
        ("bytes=0-3", 206, "bytes 0-3/10"),  # five bytes come
        ("bytes=-5", 206, "bytes 0-4/10"),
        ("bytes=5-", 206, "bytes 0-4/10"),
        ("bytes=0-4", 206, "pages 0-4/10"),
        ("bytes=0-4", 206, None),
        (None, 206, "bytes 0-4/10"),
        ("bytes=0-4", 203, None),
    ],
)
def test_another_range_is_no_answer(
    store: S3FileStore, faulty: FaultyS3, asked: str | None, status: int, content_range: str | None
) -> None:
    """RFC 9110, section 15.3.7: 206 says which range it has; any but the one asked for is a failure of S3."""
    told = (("Content-Range", content_range),) if content_range else ()
    fault = Instead(status, (REQUEST_ID, *HEADERS.items(), *told), b"12345")
    with faulty.failing(fault), pytest.raises(failures.StoreUnavailable):
        store.open("name", Conditions(byte_range=asked), with_body=True)


@pytest.mark.parametrize(
    ("asked", "content_range", "size"),
    [
        ("bytes=0-4", "bytes 0-4/10", 10),
        ("bytes=5-99", "bytes 5-9/10", 10),
        ("bytes=-5", "bytes 5-9/10", 10),
        ("bytes=-99", "bytes 0-4/5", 5),
        ("bytes=0-1", None, 5),
    ],
)
def test_the_range_asked_for_is_the_answer(
    store: S3FileStore, faulty: FaultyS3, asked: str, content_range: str | None, size: int
) -> None:
    """A range to the end of the file, or the whole file in place of a range, is what S3 may answer."""
    told = (("Content-Range", content_range),) if content_range else ()
    fault = Instead(206 if told else 200, (REQUEST_ID, *HEADERS.items(), *told), b"12345")
    with faulty.failing(fault):
        opened = store.open("name", Conditions(byte_range=asked), with_body=True)
        assert b"".join(opened.chunks) == b"12345"

    assert (opened.file.size, opened.content_range) == (size, content_range)


@pytest.mark.parametrize(
    ("text", "hour"),
    [
        ("Thu, 26 Nov 2026 01:10:35 GMT", 1),
        ("Thu, 26 Nov 2026 01:10:35 -0000", 1),
        ("Thu, 26 Nov 2026 01:10:35 +0200", 23),
    ],
)
def test_the_date_of_s3_is_a_moment(text: str, hour: int) -> None:
    """RFC 5322, section 3.3: a date has an offset; -0000 is UTC."""
    modified = stored_file("name", {"ETag": '"e"', "Last-Modified": text}, 1).last_modified

    assert modified.astimezone(UTC).hour == hour


# --- what is left out

VERSION = "<Version><Key>gone</Key><VersionId>v</VersionId><IsLatest>false</IsLatest></Version>"
#: A page of delete markers that names itself as the next one.
ENDLESS = """<IsTruncated>true</IsTruncated><NextKeyMarker>gone</NextKeyMarker>
<NextVersionIdMarker>again</NextVersionIdMarker><DeleteMarker><Key>gone</Key><VersionId>again</VersionId>
<IsLatest>true</IsLatest><LastModified>2026-11-26T01:10:35.000Z</LastModified></DeleteMarker>"""
PART = "<Part><PartNumber>1</PartNumber><ETag>e</ETag><Size>five</Size></Part>"


@pytest.mark.parametrize(
    ("name", "root", "inner"),
    [
        ("start_parts", "InitiateMultipartUploadResult", ""),
        ("list_parts", "ListPartsResult", ""),
        ("list_parts", "ListPartsResult", f"<IsTruncated>false</IsTruncated>{PART}"),
        ("list_parts", "ListPartsResult", "<IsTruncated>true</IsTruncated>"),
        (
            "list_parts",
            "ListPartsResult",
            "<IsTruncated>true</IsTruncated><NextPartNumberMarker>0</NextPartNumberMarker>",
        ),
        ("complete_parts", "CompleteMultipartUploadResult", ""),
        ("restore, its versions", "ListVersionsResult", VERSION),
        ("restore, its versions", "ListVersionsResult", "<Version><IsLatest>true</IsLatest></Version>"),
        ("restore, its versions", "ListVersionsResult", ENDLESS),
    ],
)
def test_an_answer_that_lacks_what_is_read(
    store: S3FileStore, faulty: FaultyS3, name: str, root: str, inner: str
) -> None:
    """The right root element alone is not enough: what is read must be there, and a list must go on."""
    operation = OPERATIONS[name]
    call = operation.prepare(store)
    fault = Instead(200, XML, f"<{root}>{inner}</{root}>".encode())
    with faulty.failing(fault, operation.fails), pytest.raises(failures.StoreUnavailable):
        call()


def test_a_file_that_a_bulk_delete_leaves_out_is_not_deleted(store: S3FileStore, faulty: FaultyS3) -> None:
    """S3 names each file that it deleted; one that it does not name counts as not deleted."""
    answer = (
        "<DeleteResult><Deleted><Key>a</Key></Deleted>"
        "<Error><Key>b</Key><Code>AccessDenied</Code></Error><Error><Code>Odd</Code></Error></DeleteResult>"
    )
    with faulty.failing(Instead(200, XML, answer.encode()), asked_for("POST", "delete")):
        failed = store.delete_many(["a", "b", "c"])

    assert failed == {"b": "s3_delete_object_denied", "c": "s3_error"}


# --- the clock


@pytest.mark.parametrize("ahead", [timedelta(minutes=17), -timedelta(hours=3)])
@pytest.mark.parametrize("name", ["check", "stat", "list_page", "list_parts", "put"])
def test_a_wrong_clock_is_told(store: S3FileStore, faulty: FaultyS3, name: str, ahead: timedelta) -> None:
    """S3 refuses what is signed at another time: the failure says so, and by how much, with a body or not."""
    operation = OPERATIONS[name]
    call = operation.prepare(store)
    date = ("Date", format_datetime(datetime.now(UTC) + ahead, usegmt=True))
    error = b"<Error><Code>RequestTimeTooSkewed</Code><Message>The difference is too large.</Message></Error>"
    with (
        faulty.failing(Instead(403, (*XML, date), error), operation.fails),
        pytest.raises(failures.FileError) as failed,
    ):
        call()

    minutes = round(abs(ahead).total_seconds() / 60)
    assert type(failed.value) is failures.ClockSkewed
    assert failed.value.message == (
        f"The service's clock differs from S3's by {minutes} minutes; its operator must set it"
    )


# --- the owner


def test_every_request_names_the_owner(store: S3FileStore, faulty: FaultyS3) -> None:
    """AWS, bucket owner condition: every request carries the account, and no signed URL needs it."""
    for operation in OPERATIONS.values():
        faulty.asked.clear()
        operation.prepare(store)()
        own = [asked for asked in faulty.asked if "X-Amz-Signature" not in asked.query]
        assert own
        assert {asked.headers.get("x-amz-expected-bucket-owner") for asked in own} == {OWNER}
        if operation is OPERATIONS["restore, its copy"]:
            copies = [asked.headers for asked in own if "x-amz-copy-source" in asked.headers]
            assert copies[0]["x-amz-source-expected-bucket-owner"] == OWNER
    put(store, "name")
    url = store.sign_download("name", 60, "attachment").url

    assert "expected-bucket-owner" not in url
    assert requests.get(url, timeout=10).status_code == 200


def test_without_an_owner_none_is_named(faulty: FaultyS3, seaweedfs_s3: S3, bucket_name: str) -> None:
    """Where the account is not known, no request carries one."""
    store = s3_store(faulty.s3, seaweedfs_s3.make_bucket(bucket_name))
    faulty.asked.clear()
    put(store, "name")
    store.delete("name")

    assert len(faulty.asked) == 2
    assert not any("x-amz-expected-bucket-owner" in asked.headers for asked in faulty.asked)


def settings_of(store: S3FileStore) -> Settings:
    return Settings.model_validate(
        {"bucket": store.bucket, "signing_key": SIGNING_KEY, "bucket_owner": OWNER}
    )


def test_another_owner_is_told(store: S3FileStore, faulty: FaultyS3) -> None:
    """S3 refuses a bucket of another account; the failure, and the doctor, say what to look at."""
    asked = settings_of(store)
    assert (
        diagnose(store, asked)[0].message
        == "'day02-answers' is there and answers, and belongs to 123456789012"
    )
    with faulty.failing(AnswerError(403, "AccessDenied")):
        with pytest.raises(failures.StoreDenied, match="BUCKET_OWNER"):
            store.check()
        findings = diagnose(store, asked)

    assert [(found.check, found.verdict) for found in findings] == [("bucket", Verdict.FAILED)]
    assert "BUCKET_OWNER" in findings[0].message


# --- checksums

MARKS = ("content-md5", "x-amz-checksum-crc32", "x-amz-checksum-sha256")


@pytest.mark.parametrize("name", ["put", "create", "put an unknown length", "put a part", "delete_many"])
def test_held_writes_carry_a_checksum_over_http(store: S3FileStore, faulty: FaultyS3, name: str) -> None:
    """AWS, PutObject: a bucket with Object Lock refuses a body without a checksum; each held body has one."""
    operation = OPERATIONS[name]
    call = operation.prepare(store)
    faulty.asked.clear()

    def lacks(asked: Asked) -> bool:
        given = {header.lower() for header in asked.headers}
        return operation.fails(asked) and given.isdisjoint(MARKS)

    with faulty.failing(AnswerError(400, "InvalidRequest"), lacks):
        call()

    assert any(operation.fails(asked) for asked in faulty.asked)


def test_the_checksum_is_that_of_the_body(store: S3FileStore, faulty: FaultyS3) -> None:
    """The CRC-32 of a small file is that of its bytes, and is named as SDKs name it."""
    faulty.asked.clear()
    store.put("name", Body(io.BytesIO(b"data"), 4, 4), "text/plain", create_only=False)
    (asked,) = faulty.asked

    expected = base64.b64encode(zlib.crc32(b"data").to_bytes(4, "big")).decode()
    assert asked.headers["x-amz-checksum-crc32"] == expected
    assert asked.headers["x-amz-sdk-checksum-algorithm"] == "CRC32"
