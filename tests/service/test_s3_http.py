"""Requests without boto3 are the same as boto3 would have sent, with the same results."""

from __future__ import annotations

import base64
import functools
import io
import socket
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import boto3.session
import botocore.loaders
import botocore.session
import pytest
from botocore.config import Config
from botocore.exceptions import HTTPClientError, UnknownServiceError

from s3api import failures, s3_session
from s3api.file_store import Conditions
from s3api.s3_http import S3Requests
from s3api.s3_store import S3FileStore
from support.faulty_s3 import AnswerError, Asked, Fault, FaultyS3, Reset, running_faulty_s3
from support.servers import S3, until
from support.stores import body, content, put, s3_store, sha256
from support.tls import TlsFront, running_tls

MiB = 1024 * 1024
NAMES = [
    "a.txt",
    "a//b/",
    "a b+c%20&d=e?f#g",
    "~'()*!$,;:@",
    "é/日本/😀",
    "${filename}",
    "-._/./..",
    "\u2028",
]


# --- signing


@functools.cache
def session_with(token: str | None) -> boto3.session.Session:
    """One session for the same credentials, because loading the description of S3 takes long."""
    return boto3.session.Session("key", "secret", token, region_name="eu-west-1")


def requests_and_client(token: str | None, endpoint: str | None = None) -> tuple[S3Requests, Any]:
    session = session_with(token)
    config = Config(signature_version="s3v4", s3={"addressing_style": "path" if endpoint else "virtual"})
    client = session.client("s3", endpoint_url=endpoint, config=config)
    return S3Requests(client, session, "day02-files"), client


def in_the_same_second(one: Any, other: Any, moment: Any) -> tuple[Any, Any]:
    """Both, made anew until both were signed in the same second."""
    while True:
        made = one(), other()
        if moment(made[0]) == moment(made[1]):
            return made


@pytest.mark.parametrize("token", [None, "a/token+="])
@pytest.mark.parametrize("name", NAMES)
def test_presigned_urls_are_those_of_boto3(name: str, token: str | None) -> None:
    """A presigned URL is to the letter the one that boto3 makes, of a download and of a part."""
    ours, client = requests_and_client(token)
    disposition = f"inline; filename*=UTF-8''{name}"
    download = in_the_same_second(
        lambda: ours.presign("GET", name, {"response-content-disposition": disposition}, {}, 60),
        lambda: client.generate_presigned_url(
            "get_object",
            Params={"Bucket": "day02-files", "Key": name, "ResponseContentDisposition": disposition},
            ExpiresIn=60,
        ),
        lambda url: parse_qs(urlsplit(url).query)["X-Amz-Date"],
    )
    part = in_the_same_second(
        lambda: ours.presign(
            "PUT", name, {"partNumber": "3", "uploadId": "i+d/="}, {"Content-Length": "7"}, 60
        ),
        lambda: client.generate_presigned_url(
            "upload_part",
            Params={
                "Bucket": "day02-files",
                "Key": name,
                "PartNumber": 3,
                "UploadId": "i+d/=",
                "ContentLength": 7,
            },
            ExpiresIn=60,
        ),
        lambda url: parse_qs(urlsplit(url).query)["X-Amz-Date"],
    )

    assert download[0] == download[1]
    assert urlsplit(part[0])[:3] == urlsplit(part[1])[:3]
    assert parse_qs(urlsplit(part[0]).query) == parse_qs(urlsplit(part[1]).query)


@pytest.mark.parametrize("bucket", ["day02-files", "day02.with.dots"])
@pytest.mark.parametrize("endpoint", [None, "http://127.0.0.1:9000", "https://s3.example/base"])
def test_the_bucket_is_where_boto3_finds_it(bucket: str, endpoint: str | None) -> None:
    """A bucket has its own host on AWS, unless its name has dots, and a path everywhere else."""
    session = session_with(None)
    config = Config(signature_version="s3v4", s3={"addressing_style": "path" if endpoint else "virtual"})
    url = S3Requests(session.client("s3", endpoint_url=endpoint, config=config), session, bucket).url

    if endpoint:
        assert url == f"{endpoint}/{bucket}"
    elif "." in bucket:
        assert url == f"https://s3.eu-west-1.amazonaws.com/{bucket}"
    else:
        assert url == f"https://{bucket}.s3.eu-west-1.amazonaws.com/"


def test_headers_are_signed_as_they_are_sent(seaweedfs_s3: S3, bucket_name: str) -> None:
    """A condition beyond ASCII, as any client may send it, is judged and not refused for its signature."""
    store = s3_store(seaweedfs_s3, seaweedfs_s3.make_bucket(bucket_name))
    put(store, "name")

    assert store.open("name", Conditions(if_none_match='"é\xa0日"'), with_body=False).length == 4
    with pytest.raises(failures.FileChanged):
        store.open("name", Conditions(if_match='"é"'), with_body=True)


# --- failing


@pytest.fixture
def faulty(seaweedfs_s3: S3) -> Iterator[FaultyS3]:
    with running_faulty_s3(seaweedfs_s3) as proxy:
        yield proxy


@pytest.mark.parametrize(
    ("fault", "attempts"),
    [
        (Reset(), 2),
        (AnswerError(500, "InternalError"), 2),
        (AnswerError(503, "SlowDown"), 2),
        (AnswerError(400, "RequestTimeout"), 2),
        (AnswerError(403, "AccessDenied"), 1),
        (AnswerError(404, "NoSuchBucket"), 1),
    ],
    ids=lambda value: getattr(value, "code", None),
)
def test_what_may_pass_is_tried_twice(
    seaweedfs_s3: S3, faulty: FaultyS3, bucket_name: str, fault: Fault, attempts: int
) -> None:
    """A listing that fails in a way that may pass is asked for again, once; any other failure stands."""
    store = s3_store(faulty.s3, seaweedfs_s3.make_bucket(bucket_name))
    put(store, "name")
    faulty.asked.clear()
    with faulty.failing(fault), pytest.raises(failures.FileError):
        store.list_page("", "", 10, None)
    asked = len(faulty.asked)
    once = iter([True])
    with faulty.failing(fault, lambda _: next(once, False)):
        if attempts == 2:
            assert [file.name for file in store.list_page("", "", 10, None).files] == ["name"]
        else:
            with pytest.raises(failures.FileError):
                store.list_page("", "", 10, None)

    assert asked == attempts


@pytest.mark.parametrize(
    ("fault", "longest"),
    [(Reset(), 0.1), (AnswerError(500, "InternalError"), 0.1), (AnswerError(503, "SlowDown"), 1.0)],
    ids=lambda value: getattr(value, "code", None),
)
def test_the_pause_before_the_second_attempt(
    faulty: FaultyS3, bucket_name: str, fault: Fault, longest: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pause is random: up to a second if S3 asks for fewer requests, otherwise hardly one."""
    store = s3_store(faulty.s3, bucket_name)
    pauses: list[float] = []
    monkeypatch.setattr("time.sleep", pauses.append)
    monkeypatch.setattr("random.random", lambda: 1.0)
    with faulty.failing(fault), pytest.raises(failures.FileError):
        store.list_page("", "", 10, None)

    (pause,) = pauses
    assert longest / 2 <= pause <= longest


@pytest.mark.parametrize(("size", "waits"), [(64 * 1024, False), (64 * 1024 + 1, True)])
def test_a_larger_file_waits_for_s3(
    seaweedfs_s3: S3, faulty: FaultyS3, bucket_name: str, size: int, *, waits: bool
) -> None:
    """Up to 64 KiB go with the head of the request; a larger file is sent when S3 wants it.

    RFC 9110, section 10.1.1: Expect.
    """
    store = s3_store(faulty.s3, seaweedfs_s3.make_bucket(bucket_name))
    put(store, "name", bytes(size))
    (asked,) = faulty.asked

    assert ("Expect" in asked.headers) == waits


def test_a_stream_is_sent_in_pieces(seaweedfs_s3: S3, bucket_name: str) -> None:
    """A large file is read and sent 128 KiB at a time, so that a slow client's file is never in memory."""
    session, bucket = seaweedfs_s3.session(), seaweedfs_s3.make_bucket(bucket_name)
    stream = io.BytesIO(bytes(MiB))
    asked: list[int] = []

    class Source:
        def read(self, amount: int = -1, /) -> bytes:
            asked.append(amount)
            return stream.read(amount)

    S3Requests(seaweedfs_s3.client(), session, bucket).put_stream("name", Source(), MiB, {})

    assert set(asked) == {128 * 1024}
    assert seaweedfs_s3.keys(bucket) == {"name"}


def test_the_parts_of_an_unknown_length(seaweedfs_s3: S3, faulty: FaultyS3, bucket_name: str) -> None:
    """Its parts are numbered from 1 without a gap, so that the last number of S3, 10,000, is in reach."""
    store = s3_store(faulty.s3, seaweedfs_s3.make_bucket(bucket_name), max_file_bytes=40 * MiB)
    store.put("name", body(bytes(17 * MiB), size=None), "text/plain", create_only=False)

    numbers = [asked.query["partNumber"] for asked in faulty.asked if "partNumber" in asked.query]
    assert numbers == [["1"], ["2"], ["3"]]


def test_a_small_body_of_unknown_length_needs_no_memory_of_others(seaweedfs_s3: S3, bucket_name: str) -> None:
    """Below 256 KiB it is stored although others hold all memory; from there on it waits for a share."""
    bucket = seaweedfs_s3.make_bucket(bucket_name)
    limits = {"max_file_bytes": 40 * MiB, "upload_buffer_bytes": 8 * MiB, "upload_wait_seconds": 0.1}
    store = s3_store(seaweedfs_s3, bucket, **limits)
    with store._memory.part(body(bytes(8 * MiB), size=None)):
        store.put("small", body(bytes(256 * 1024 - 1), size=None), "text/plain", create_only=False)
        with pytest.raises(failures.TooBusy):
            store.put("large", body(bytes(256 * 1024), size=None), "text/plain", create_only=False)

    assert seaweedfs_s3.keys(bucket) == {"small"}


def test_the_largest_file_of_one_put(seaweedfs_s3: S3, faulty: FaultyS3, bucket_name: str) -> None:
    """AWS: one PUT stores up to 5 GiB, so a file of that size needs no parts. This one breaks off."""
    store = s3_store(faulty.s3, seaweedfs_s3.make_bucket(bucket_name))
    with pytest.raises(failures.UploadInterrupted):
        store.put("name", body(b"", size=5 << 30), "text/plain", create_only=False)
    until(lambda: faulty.asked, "the request arrives")

    assert [(asked.method, asked.query) for asked in faulty.asked] == [("PUT", {})]


@pytest.mark.parametrize("create_only", [True, False])
def test_a_small_file_is_sent_again(
    seaweedfs_s3: S3, faulty: FaultyS3, bucket_name: str, *, create_only: bool
) -> None:
    """A small file survives one failure of S3, unless it must be new: the first attempt may have made it."""
    store = s3_store(faulty.s3, seaweedfs_s3.make_bucket(bucket_name))
    once = iter([True])

    def first(asked: Asked) -> bool:
        return asked.method == "PUT" and next(once, False)

    with faulty.failing(AnswerError(500, "InternalError"), first):
        if create_only:
            with pytest.raises(failures.StoreUnavailable):
                store.put("name", body(b"data"), "text/plain", create_only=True)
        else:
            store.put("name", body(b"data"), "text/plain", create_only=False)

    assert seaweedfs_s3.keys(bucket_name) == (set() if create_only else {"name"})


def test_another_region_is_named(seaweedfs_s3: S3, faulty: FaultyS3, bucket_name: str) -> None:
    """A bucket in another region is an error that names the wrong setting."""
    store = s3_store(faulty.s3, seaweedfs_s3.make_bucket(bucket_name))
    for call in (store.check, lambda: store.list_page("", "", 10, None), lambda: store.delete("name")):
        with (
            faulty.failing(AnswerError(301, "PermanentRedirect")),
            pytest.raises(failures.StoreFailed, match="AWS_REGION"),
        ):
            call()


def test_a_listing_that_is_cut_off_is_no_short_listing(
    seaweedfs_s3: S3, faulty: FaultyS3, bucket_name: str
) -> None:
    """A listing that is not a complete XML document is a failure of S3."""
    store = s3_store(faulty.s3, seaweedfs_s3.make_bucket(bucket_name))
    put(store, "name")
    with faulty.failing(AnswerError(200, "<")), pytest.raises(failures.StoreUnavailable):
        store.list_page("", "", 10, None)


# --- proxies


@pytest.mark.parametrize(
    ("endpoint", "line"),
    [
        # RFC 9112, sections 3.2.2 and 3.2.3: a proxy gets the whole URL, or is asked for a tunnel.
        ("http://s3.example", b"HEAD http://s3.example/day02-files/name HTTP/1.1"),
        ("https://s3.example", b"CONNECT s3.example:443 HTTP/1.0"),
    ],
)
def test_requests_go_through_the_proxy_of_the_environment(
    monkeypatch: pytest.MonkeyPatch, endpoint: str, line: bytes
) -> None:
    """What boto3 reads of the environment holds for the requests that go past it."""
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        address = f"http://127.0.0.1:{proxy.getsockname()[1]}"
        monkeypatch.setenv("HTTP_PROXY", address)
        monkeypatch.setenv("HTTPS_PROXY", address)
        ours, _ = requests_and_client(None, endpoint)
        asked: list[bytes] = []

        def refuse() -> None:
            client, _ = proxy.accept()
            with client, client.makefile("rb") as lines:
                asked.extend(iter(lambda: lines.readline().rstrip(), b""))

        thread = threading.Thread(target=refuse)
        thread.start()
        with pytest.raises(HTTPClientError):
            ours.send("HEAD", "name")
        thread.join()

    assert asked[0] in (line, line.replace(b"HTTP/1.0", b"HTTP/1.1"))


# --- TLS


@pytest.fixture
def tls(seaweedfs_s3: S3, tmp_path: Path) -> Iterator[TlsFront]:
    with running_tls(seaweedfs_s3, tmp_path, keeps=True) as front:
        yield front


def test_tls_is_verified(tls: TlsFront, seaweedfs_s3: S3, bucket_name: str) -> None:
    """The service sends no request to an S3 whose certificate is not trusted, on any path."""
    store = s3_store(tls.s3, seaweedfs_s3.make_bucket(bucket_name))
    for call in (store.check, lambda: put(store, "name"), lambda: put(store, "name", b"x" * MiB)):
        with pytest.raises(failures.StoreUnavailable):
            call()

    assert not tls.seen


def test_every_write_carries_a_checksum_over_tls(
    tls: TlsFront, seaweedfs_s3: S3, bucket_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over TLS S3 gets a checksum of every body: in a header, or behind what is streamed.

    AWS, PutObject: "The Content-MD5 or x-amz-sdk-checksum-algorithm header is required for any request to
    upload an object with a retention period configured using Amazon S3 Object Lock." DeleteObjects needs one
    in any bucket.
    """
    monkeypatch.setenv("AWS_CA_BUNDLE", str(tls.authority))
    store: S3FileStore = s3_store(tls.s3, seaweedfs_s3.make_bucket(bucket_name))
    large = b"0123456789abcdef" * (3 * MiB // 16)
    sent: dict[str, bytes] = {}
    made = {
        "empty": body(b""),
        "small": body(b"small"),
        "stream": body(large),
        "given": body(large, sha256=sha256(large)),
        "small and given": body(b"small", sha256=sha256(b"small")),
        "unknown": body(b"small", size=None),
        "parts": body(large * 3, size=None),
    }
    for name, each in made.items():
        tls.seen.clear()
        store.put(name, each, "text/plain", create_only=False)
        sent[name] = bytes(tls.seen).lower()
    assert [content(store, name) for name in ("small", "stream", "given")] == [b"small", large, large]
    tls.seen.clear()
    store.delete_many(list(made))
    sent["delete"] = bytes(tls.seen).lower()

    crc = {
        name: base64.b64encode(zlib.crc32(data).to_bytes(4, "big")).lower()
        for name, data in {"empty": b"", "small": b"small"}.items()
    }
    assert f"x-amz-content-sha256: {sha256(b'small')}".encode() in sent["small"]
    for name, value in crc.items():
        assert b"x-amz-checksum-crc32: " + value in sent[name]
    for name in ("stream", "unknown", "parts"):
        assert b"x-amz-content-sha256: streaming-unsigned-payload-trailer" in sent[name]
    assert [sent[name].count(b"\r\nx-amz-checksum-crc32:") for name in ("stream", "unknown", "parts")] == [
        1,
        1,
        2,
    ]
    for name in ("given", "small and given"):
        assert b"x-amz-checksum-sha256: " in sent[name]
        assert b"x-amz-checksum-crc32" not in sent[name]
    assert b"x-amz-checksum-crc32: " in sent["delete"]
    for name in made:
        assert b"x-amz-sdk-checksum-algorithm: " in sent[name]


def _stripped(value: Any) -> Any:
    """A document of botocore without the texts of its documentation."""
    if isinstance(value, dict):
        return {name: "" if name == "documentation" else _stripped(inner) for name, inner in value.items()}
    return [_stripped(inner) for inner in value] if isinstance(value, list) else value


def test_the_session_describes_s3_as_botocore_does() -> None:
    """The session's documents are those of botocore, as plain dictionaries and without documentation."""
    loader = s3_session.session("eu-west-1")._session.get_component("data_loader")
    original = botocore.loaders.create_loader()  # a session that has made a client has changed "endpoints"

    for kind in ("service-2", "endpoint-rule-set-1"):
        assert loader.load_service_model("s3", kind) == _stripped(original.load_service_model("s3", kind))
    for name in ("endpoints", "partitions"):
        assert loader.load_data(name) == _stripped(original.load_data(name))
        assert type(loader.load_data(name)) is dict
    with pytest.raises(UnknownServiceError):
        loader.load_service_model("no-such-service", "service-2")
