"""The contract of a `FileStore`, held against every implementation: memory, and each S3 at hand."""

from __future__ import annotations

import io
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import requests

from s3api import failures, files
from s3api.bodies import Body
from s3api.file_store import Conditions, FileStore, NotModified, PartPlan, SignedPost, Upload
from s3api.s3_store import S3FileStore
from support.faulty_s3 import Asked, FaultyS3, Hang, running_faulty_s3
from support.memory_store import MemoryStore
from support.servers import S3, until
from support.stores import body, content, put, s3_store, sha256

MiB = 1024 * 1024
STORES = ["memory", "ministack", "seaweedfs", "tls", "localstack"]


def s3_of(request: pytest.FixtureRequest, kind: str) -> S3:
    s3: S3 = request.getfixturevalue(f"{kind}_s3")
    if "AWS_CA_BUNDLE" in s3.credentials:  # for clients of presigned URLs
        environment: pytest.MonkeyPatch = request.getfixturevalue("monkeypatch")
        environment.setenv("REQUESTS_CA_BUNDLE", s3.credentials["AWS_CA_BUNDLE"])
    return s3


def empty_store(request: pytest.FixtureRequest, *, versioned: bool) -> FileStore:
    kind: str = request.param
    if kind == "memory":
        return MemoryStore()
    s3 = s3_of(request, kind)
    return s3_store(s3, s3.make_bucket(f"day02-{uuid.uuid4().hex[:12]}", versioned=versioned))


@pytest.fixture(params=STORES)
def any_store(request: pytest.FixtureRequest) -> FileStore:
    """An empty store of each kind."""
    return empty_store(request, versioned=False)


@pytest.fixture(params=STORES)
def versioned_store(request: pytest.FixtureRequest) -> FileStore:
    """An empty store of each kind that keeps versions."""
    return empty_store(request, versioned=True)


@pytest.fixture(params=["ministack", "seaweedfs", "tls", "localstack"])
def real_store(request: pytest.FixtureRequest) -> tuple[S3, S3FileStore]:
    """An empty bucket on each real S3, for what a client does with a signed URL."""
    s3 = s3_of(request, request.param)
    return s3, s3_store(s3, s3.make_bucket(f"day02-{uuid.uuid4().hex[:12]}"))


# --- putting and reading


@pytest.mark.parametrize("data", [b"", b"x", b"0123456789" * 200_000], ids=["empty", "one byte", "2 MB"])
def test_what_is_put_is_read(any_store: FileStore, data: bytes) -> None:
    """A file comes back byte for byte, with its size, its SHA-256 and its content type."""
    stored = put(any_store, "a/b.txt", data)

    opened = any_store.open("a/b.txt", Conditions(), with_body=True)
    assert b"".join(opened.chunks) == data
    assert stored == Upload("a/b.txt", len(data), stored.etag, sha256(data))
    assert (opened.length, opened.content_type, opened.content_range) == (len(data), "text/plain", None)
    assert any_store.stat("a/b.txt").etag == stored.etag == opened.file.etag


@pytest.mark.parametrize("size", [-1, None], ids=["known length", "unknown length"])
@pytest.mark.parametrize("declared", [True, False])
def test_a_declared_sha256_stays_with_the_file(
    any_store: FileStore, size: int | None, *, declared: bool
) -> None:
    """Reads and HEADs of a file return the SHA-256 that its sender declared, if any."""
    data = b"x" * (9 * MiB)
    digest = sha256(data) if declared else None
    any_store.put("name", body(data, size=size, sha256=digest), "text/plain", create_only=False)

    assert any_store.open("name", Conditions(), with_body=False).sha256 == digest
    assert any_store.open("name", Conditions(byte_range="bytes=0-0"), with_body=False).sha256 == digest


@pytest.mark.parametrize(
    "data", [b"", b"small", b"x" * (9 * MiB)], ids=["empty", "less than a part", "two parts"]
)
def test_a_body_of_unknown_length_is_stored(any_store: FileStore, data: bytes) -> None:
    """A body without a length is stored whole, in parts where it is large."""
    stored = any_store.put("unknown", body(data, size=None), "text/plain", create_only=False)

    assert stored.size == len(data)
    assert stored.sha256 == sha256(data)
    assert content(any_store, "unknown") == data


def test_a_put_replaces(any_store: FileStore) -> None:
    """A second put of a name replaces the first."""
    put(any_store, "name", b"old")
    put(any_store, "name", b"new")

    assert content(any_store, "name") == b"new"


def test_times_have_a_zone_and_are_now(any_store: FileStore) -> None:
    """The modification time is the time of the put, with a time zone."""
    put(any_store, "name")

    assert abs(any_store.stat("name").last_modified - datetime.now(UTC)) < timedelta(seconds=10)


@pytest.mark.parametrize("size", [-1, None], ids=["known length", "unknown length"])
@pytest.mark.parametrize("length", [4, 9 * MiB], ids=["small", "large"])
def test_create_only_never_replaces(any_store: FileStore, size: int | None, length: int) -> None:
    """With create_only the first put creates and the second raises, leaving the first."""
    first, second = b"1" * length, b"2" * length
    any_store.put("name", body(first, size=size), "text/plain", create_only=True)
    with pytest.raises(failures.FileExists):
        any_store.put("name", body(second, size=size), "text/plain", create_only=True)

    assert any_store.stat("name").size == length
    assert content(any_store, "name", byte_range="bytes=0-0") == b"1"


@pytest.mark.parametrize("size", [-1, None], ids=["known length", "unknown length"])
@pytest.mark.parametrize("length", [4, 9 * MiB], ids=["small", "large"])
def test_if_match_replaces_that_file_alone(any_store: FileStore, size: int | None, length: int) -> None:
    """A put with If-Match stores over the file of this ETag, and raises over another or none."""

    def replace(data: bytes, etag: str) -> Upload:
        stream = body(data, size=size)
        return any_store.put("name", stream, "text/plain", create_only=False, if_match=f'"{etag}"')

    with pytest.raises(failures.FileChanged):
        replace(b"0" * length, "0" * 32)
    first = put(any_store, "name", b"first")
    second = replace(b"2" * length, first.etag)
    with pytest.raises(failures.FileChanged):
        replace(b"3" * length, first.etag)

    assert any_store.stat("name").etag == second.etag
    assert content(any_store, "name", byte_range="bytes=0-0") == b"2"


def test_a_deletion_with_if_match(any_store: FileStore) -> None:
    """A deletion with If-Match leaves another file than the one of this ETag."""
    first = put(any_store, "name", b"first")
    put(any_store, "name", b"second")
    with pytest.raises(failures.FileChanged):
        files.delete_file(any_store, "name", f'"{first.etag}"')

    assert content(any_store, "name") == b"second"


def test_of_concurrent_creations_one_wins(any_store: FileStore) -> None:
    """Of many creations of one name at once exactly one succeeds."""
    outcomes: list[str] = []

    def create(data: bytes) -> None:
        try:
            any_store.put("name", body(data), "text/plain", create_only=True)
            outcomes.append("created")
        except (failures.FileExists, failures.Conflict):
            outcomes.append("refused")

    threads = [threading.Thread(target=create, args=(bytes([n]) * 1000,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(outcomes) == ["created", *["refused"] * 7]


@pytest.mark.parametrize("size", [-1, None], ids=["known length", "unknown length"])
@pytest.mark.parametrize("length", [0, 10, 9 * MiB], ids=["empty", "small", "large"])
def test_a_wrong_digest_stores_nothing(any_store: FileStore, size: int | None, length: int) -> None:
    """A body that does not match its SHA-256 is refused, and nothing is stored or left open."""
    with pytest.raises(failures.DigestMismatch):
        any_store.put(
            "name", body(b"x" * length, size=size, sha256=sha256(b"y")), "text/plain", create_only=False
        )

    with pytest.raises(failures.FileNotFound):
        any_store.stat("name")
    assert_no_open_uploads(any_store)


@pytest.mark.parametrize("size", [-1, None], ids=["known length", "unknown length"])
def test_a_right_digest_is_accepted(any_store: FileStore, size: int | None) -> None:
    """A body that matches its SHA-256 is stored."""
    data = b"x" * (9 * MiB)
    stored = any_store.put(
        "name", body(data, size=size, sha256=sha256(data)), "text/plain", create_only=False
    )

    assert stored.sha256 == sha256(data)
    assert any_store.stat("name").size == len(data)


@pytest.mark.parametrize("announced", [20, 20 * MiB], ids=["small", "large"])
def test_a_body_that_ends_early_stores_nothing(any_store: FileStore, announced: int) -> None:
    """A stream that ends before its announced length raises, and nothing is stored."""
    with pytest.raises(failures.UploadInterrupted):
        any_store.put("name", body(b"x" * (announced // 2), size=announced), "text/plain", create_only=False)

    with pytest.raises(failures.FileNotFound):
        any_store.stat("name")


def test_a_body_that_fails_in_its_second_part_leaves_nothing_open(any_store: FileStore) -> None:
    """A stream of unknown length that breaks after its first part leaves neither an object nor parts."""

    class Breaks(io.BytesIO):
        def read(self, amount: int | None = -1) -> bytes:
            if self.tell() > 8 * MiB:
                raise ConnectionResetError
            return super().read(amount)

    stream = Body(Breaks(b"x" * (20 * MiB)), None, 1 << 40)
    with pytest.raises(failures.UploadInterrupted):
        any_store.put("name", stream, "text/plain", create_only=False)

    with pytest.raises(failures.FileNotFound):
        any_store.stat("name")
    assert_no_open_uploads(any_store)


@pytest.mark.parametrize("length", [101, 9 * MiB], ids=["small", "large"])
def test_a_body_over_the_limit_stores_nothing(any_store: FileStore, length: int) -> None:
    """A stream of unknown length that grows over the limit is refused, and nothing is stored."""
    with pytest.raises(failures.FileTooLarge):
        any_store.put(
            "name", body(b"x" * length, size=None, limit=length - 1), "text/plain", create_only=False
        )

    with pytest.raises(failures.FileNotFound):
        any_store.stat("name")
    assert_no_open_uploads(any_store)


def assert_no_open_uploads(store: FileStore) -> None:
    if isinstance(store, S3FileStore):
        assert "Uploads" not in store._api.list_multipart_uploads(Bucket=store.bucket)


# --- reading, with conditions


@pytest.mark.parametrize(
    ("byte_range", "expected", "content_range"),
    [
        ("bytes=0-0", b"0", "bytes 0-0/10"),
        ("bytes=2-5", b"2345", "bytes 2-5/10"),
        ("bytes=7-", b"789", "bytes 7-9/10"),
        ("bytes=-3", b"789", "bytes 7-9/10"),
        ("bytes=5-99", b"56789", "bytes 5-9/10"),
    ],
)
def test_ranges(any_store: FileStore, byte_range: str, expected: bytes, content_range: str) -> None:
    """One range of bytes is served, with its place in the whole."""
    put(any_store, "name", b"0123456789")
    opened = any_store.open("name", Conditions(byte_range=byte_range), with_body=True)

    assert b"".join(opened.chunks) == expected
    assert (opened.length, opened.content_range, opened.file.size) == (len(expected), content_range, 10)


def test_a_range_outside_the_file_is_refused(any_store: FileStore) -> None:
    """A range that begins after the end raises."""
    put(any_store, "name", b"0123456789")

    with pytest.raises(failures.RangeNotSatisfiable):
        any_store.open("name", Conditions(byte_range="bytes=10-"), with_body=True)


@pytest.mark.parametrize("with_body", [True, False])
def test_conditions(any_store: FileStore, *, with_body: bool) -> None:
    """If-Match, If-None-Match, If-Modified-Since and If-Unmodified-Since are judged by the store."""
    etag = put(any_store, "name").etag
    before, after = datetime.now(UTC) - timedelta(days=1), datetime.now(UTC) + timedelta(seconds=1)

    def opens(**conditions: Any) -> bool:
        opened = any_store.open("name", Conditions(**conditions), with_body=with_body)
        return opened.length == len(b"".join(opened.chunks)) if with_body else opened.length == 4

    assert opens(if_match=f'"{etag}"')
    assert opens(if_none_match='"other"')
    assert opens(if_modified_since=before)
    assert opens(if_unmodified_since=after)
    with pytest.raises(failures.FileChanged):
        opens(if_match='"other"')
    with pytest.raises(failures.FileChanged):
        opens(if_unmodified_since=before)
    with pytest.raises(NotModified):
        opens(if_none_match=f'"{etag}"')


def test_without_a_body_all_else_is_the_same(any_store: FileStore) -> None:
    """Opening without a body tells everything but the bytes."""
    put(any_store, "name", b"0123456789")
    opened = any_store.open("name", Conditions(), with_body=False)

    assert (opened.length, opened.content_type, list(opened.chunks)) == (10, "text/plain", [])


@pytest.mark.parametrize("call", ["stat", "open"])
def test_a_missing_file_raises(any_store: FileStore, call: str) -> None:
    """A file that is not there raises, with its name and the bucket in the sentence."""
    calls: dict[str, Callable[[], object]] = {
        "stat": lambda: any_store.stat("no such file"),
        "open": lambda: any_store.open("no such file", Conditions(), with_body=True),
    }
    with pytest.raises(failures.FileNotFound) as caught:
        calls[call]()

    assert caught.value.message == f"The file 'no such file' was not found on the bucket '{any_store.bucket}'"


# --- listing

NAMES = ["a.txt", "b/1.txt", "b/2.txt", "b/c/3.txt", "z é.txt", "ü.txt", "\U0001f600.txt"]


def names_of(store: FileStore, prefix: str = "", delimiter: str = "", limit: int = 1000) -> list[str]:
    found: list[str] = []
    token = None
    while True:
        page = store.list_page(prefix, delimiter, limit, token)
        assert len(page.files) + len(page.prefixes) <= limit
        found += [file.name for file in page.files] + list(page.prefixes)
        if page.next_token is None:
            return found
        token = page.next_token


@pytest.mark.parametrize("limit", [1, 2, 3, 1000])
def test_a_listing_is_complete_and_in_order(any_store: FileStore, limit: int) -> None:
    """Every name comes once, in the order of its UTF-8 bytes, whatever the size of a page."""
    for name in reversed(NAMES):
        put(any_store, name)

    assert names_of(any_store, limit=limit) == sorted(NAMES, key=str.encode)
    assert names_of(any_store, prefix="b/", limit=limit) == ["b/1.txt", "b/2.txt", "b/c/3.txt"]
    assert names_of(any_store, prefix="nothing", limit=limit) == []


@pytest.mark.parametrize("limit", [1, 2, 1000])
def test_a_delimiter_rolls_names_up(any_store: FileStore, limit: int) -> None:
    """With a delimiter, names below a prefix are one entry, once, also over pages."""
    for name in NAMES:
        put(any_store, name)

    found = names_of(any_store, delimiter="/", limit=limit)
    assert sorted(found, key=str.encode) == ["a.txt", "b/", "z é.txt", "ü.txt", "\U0001f600.txt"]
    assert sorted(names_of(any_store, "b/", "/", limit)) == ["b/1.txt", "b/2.txt", "b/c/"]


def test_a_listing_tells_size_and_etag(any_store: FileStore) -> None:
    """A listed file has the size, the ETag and the time that a look at it has."""
    put(any_store, "name", b"12345")
    (listed,) = any_store.list_page("", "", 1000, None).files
    looked = any_store.stat("name")

    assert (listed.name, listed.size, listed.etag) == (looked.name, 5, looked.etag)
    assert abs(listed.last_modified - looked.last_modified) < timedelta(seconds=1)


# --- deleting and restoring


def test_deleting_is_idempotent(any_store: FileStore) -> None:
    """A deleted file is gone, and deleting a missing file is no error."""
    put(any_store, "name")
    any_store.delete("name")
    any_store.delete("name")
    any_store.delete("never there")

    assert names_of(any_store) == []


def test_deleting_many(any_store: FileStore) -> None:
    """Many are deleted in one call, those that were never there included, and the others stay."""
    names = ["plain", "a&b<c>.txt", "q'\"", "é/ü"]
    for name in [*names, "stays"]:
        put(any_store, name)

    assert any_store.missing([*names, "never there"]) == {"never there"}
    assert any_store.delete_many([*names, "never there"]) == {}
    assert names_of(any_store) == ["stays"]


def test_restoring(versioned_store: FileStore) -> None:
    """A deleted file comes back as it last was; one that is there, or never was, cannot."""
    put(versioned_store, "name", b"old")
    put(versioned_store, "name", b"newest")
    put(versioned_store, "name, longer", b"another")
    with pytest.raises(failures.FileNotDeleted):
        versioned_store.restore("name")
    versioned_store.delete("name")
    restored = versioned_store.restore("name")

    assert content(versioned_store, "name") == b"newest"
    assert versioned_store.open("name", Conditions(), with_body=False).content_type == "text/plain"
    assert restored.size == 6
    with pytest.raises(failures.FileNotFound):
        versioned_store.restore("nam")


@pytest.fixture(params=["ministack", "seaweedfs", "localstack"])
def versions(request: pytest.FixtureRequest) -> Iterator[tuple[FaultyS3, S3FileStore, Any]]:
    """A store that keeps versions behind a proxy, and a client that reaches its S3 past the proxy."""
    s3 = s3_of(request, request.param)
    bucket = s3.make_bucket(f"day02-{uuid.uuid4().hex[:12]}", versioned=True)
    with running_faulty_s3(s3) as proxy:
        yield proxy, s3_store(proxy.s3, bucket), s3.client()


def deleted(store: S3FileStore, client: Any, data: bytes, **headers: Any) -> None:
    client.put_object(Bucket=store.bucket, Key="name", Body=data, **headers)
    client.delete_object(Bucket=store.bucket, Key="name")


@pytest.mark.parametrize("data", [b"", b"deleted", b"deleted, in parts"], ids=["empty", "small", "large"])
def test_restoring_never_replaces_a_file_that_was_stored_meanwhile(
    versions: tuple[FaultyS3, S3FileStore, Any], monkeypatch: pytest.MonkeyPatch, data: bytes
) -> None:
    """A file that is created between the look and the copy stays, and nothing else is left behind.

    CompleteMultipartUpload and PutObject take `If-None-Match: *`, which a delete marker does not fail:
    https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html
    """
    monkeypatch.setattr("s3api.s3_copying.MAX_SINGLE_PUT_BYTES", 10)
    monkeypatch.setattr("s3api.s3_copying.COPIED_PART_BYTES", 5 * MiB)
    proxy, store, client = versions
    deleted(store, client, data + bytes(6 * MiB) if len(data) > 10 else data)

    def create(asked: Asked) -> bool:
        if asked.method in ("PUT", "POST") and not created:
            created.append(asked)
            client.put_object(Bucket=store.bucket, Key="name", Body=b"created", IfNoneMatch="*")
        return False

    created: list[Asked] = []
    with proxy.failing(Hang(), create), pytest.raises(failures.FileNotDeleted, match="it stays"):
        store.restore("name")

    assert created
    assert content(store, "name") == b"created"
    assert_no_open_uploads(store)


@pytest.mark.parametrize("size", [0, 9, 11 * MiB], ids=["empty", "small", "large"])
def test_restoring_keeps_all_that_a_file_has(
    versions: tuple[FaultyS3, S3FileStore, Any], monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    """A restored file has its bytes, its headers and its metadata, also where it is copied in parts."""
    monkeypatch.setattr("s3api.s3_copying.MAX_SINGLE_PUT_BYTES", 10)
    monkeypatch.setattr("s3api.s3_copying.COPIED_PART_BYTES", 5 * MiB)
    _, store, client = versions
    data = b"0123456789abcdef" * (size // 16) + b"z" * (size % 16)
    given: dict[str, Any] = {
        "CacheControl": "max-age=5",
        "ContentDisposition": 'attachment; filename="x"',
        "ContentEncoding": "x-own",
        "ContentLanguage": "de",
        "ContentType": "text/x-own",
        "Expires": datetime(2026, 10, 21, 7, 28, tzinfo=UTC),
        "Metadata": {"sha256": sha256(data), "own": "value"},
    }
    deleted(store, client, data, **given)
    store.restore("name")
    found = client.get_object(Bucket=store.bucket, Key="name")

    assert found["Body"].read() == data
    assert {key: found.get(key) for key in given} == given
    assert_no_open_uploads(store)


@pytest.mark.parametrize("enabled_again", [False, True])
def test_what_was_deleted_while_versioning_was_suspended_is_not_restored(
    versions: tuple[FaultyS3, S3FileStore, Any], *, enabled_again: bool
) -> None:
    """An older content does not come back in place of the one that was deleted, which S3 has not kept.

    A deletion removes the "null" version and leaves a marker of that version:
    https://docs.aws.amazon.com/AmazonS3/latest/userguide/DeletingObjectsfromVersioningSuspendedBuckets.html
    """
    _, store, client = versions

    def versioning(status: str) -> None:
        client.put_bucket_versioning(Bucket=store.bucket, VersioningConfiguration={"Status": status})

    client.put_object(Bucket=store.bucket, Key="name", Body=b"kept, but older")
    versioning("Suspended")
    deleted(store, client, b"deleted, and not kept")
    if enabled_again:
        versioning("Enabled")
        client.delete_object(Bucket=store.bucket, Key="name")

    with pytest.raises(failures.VersioningOff, match="nothing was restored"):
        store.restore("name")
    assert names_of(store) == []


def test_what_is_stored_after_a_suspension_is_restored(
    versions: tuple[FaultyS3, S3FileStore, Any],
) -> None:
    """A deletion during a suspension does not keep what came after it from being restored."""
    proxy, store, client = versions
    if proxy.kind == "seaweedfs":
        pytest.skip("SeaweedFS 4.48 hides all that is stored after a deletion during a suspension")

    def versioning(status: str) -> None:
        client.put_bucket_versioning(Bucket=store.bucket, VersioningConfiguration={"Status": status})

    def is_newer() -> bool:
        """Times in a listing may be whole seconds, which leaves the order open."""
        client.put_object(Bucket=store.bucket, Key="name", Body=b"kept")
        found = client.list_object_versions(Bucket=store.bucket)
        newest = max(version["LastModified"] for version in found["Versions"])
        return bool(newest > max(marker["LastModified"] for marker in found["DeleteMarkers"]))

    versioning("Suspended")
    deleted(store, client, b"not kept")
    versioning("Enabled")
    until(is_newer, "a version is newer than the marker")
    client.delete_object(Bucket=store.bucket, Key="name")
    store.restore("name")

    assert content(store, "name") == b"kept"


def test_without_versions_nothing_is_restored(real_store: tuple[S3, S3FileStore]) -> None:
    """A bucket without versions says so."""
    _, store = real_store
    put(store, "name")
    store.delete("name")

    with pytest.raises(failures.VersioningOff):
        store.restore("name")


# --- the bucket


def test_check(any_store: FileStore) -> None:
    """A bucket that is there passes."""
    any_store.check()


@pytest.mark.parametrize("kind", ["ministack", "seaweedfs", "localstack"])
def test_a_missing_bucket_is_named(request: pytest.FixtureRequest, kind: str) -> None:
    """Every call on a bucket that is not there raises, and names it."""
    store = s3_store(s3_of(request, kind), "day02-not-there")

    with pytest.raises(failures.BucketNotFound, match="'day02-not-there'"):
        store.check()
    with pytest.raises(failures.BucketNotFound):
        store.list_page("", "", 10, None)
    if kind != "seaweedfs":  # it makes a bucket that is written to
        with pytest.raises(failures.BucketNotFound):
            put(store, "name")


def test_wrong_credentials_are_a_refusal_that_names_the_operation(seaweedfs_s3: S3) -> None:
    """A refused service raises with the operation in the code, and nothing of S3's own words."""
    bucket = seaweedfs_s3.make_bucket(f"day02-{uuid.uuid4().hex[:12]}")
    refused = S3(
        "seaweedfs", seaweedfs_s3.url, {"AWS_ACCESS_KEY_ID": "unknown", "AWS_SECRET_ACCESS_KEY": "wrong"}
    )

    with pytest.raises(failures.StoreDenied) as caught:
        s3_store(refused, bucket).list_page("", "", 10, None)
    assert caught.value.code == "s3_list_objects_denied"
    assert "unknown" not in caught.value.message


def test_an_unreachable_store_raises_within_its_deadline() -> None:
    """A closed port is reported quickly."""
    nowhere = S3("nowhere", "http://127.0.0.1:9", {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "y"})
    store = s3_store(nowhere, "day02-bucket", s3_connect_timeout_seconds=0.5)
    started = time.monotonic()

    with pytest.raises(failures.StoreUnavailable):
        store.list_page("", "", 10, None)
    assert time.monotonic() - started < 10


# --- what clients do with signed URLs


def test_a_signed_download_serves_and_expires(real_store: tuple[S3, S3FileStore]) -> None:
    """A presigned URL serves the file with its disposition, refuses another signature, and dies in time."""
    _, store = real_store
    put(store, "a b/ü +.txt", b"content")
    before = datetime.now(UTC)
    short = store.sign_download("a b/ü +.txt", 1, 'attachment; filename="x"')
    after = datetime.now(UTC)
    signed = store.sign_download("a b/ü +.txt", 300, 'attachment; filename="x"')
    answer = requests.get(signed.url, timeout=10)

    assert (answer.status_code, answer.content) == (200, b"content")
    assert answer.headers["Content-Disposition"] == 'attachment; filename="x"'
    assert before <= short.expires_at - timedelta(seconds=1) <= after
    assert requests.get(signed.url.replace("Signature=", "Signature=0"), timeout=10).status_code == 403
    while datetime.now(UTC) < short.expires_at + timedelta(seconds=1):
        time.sleep(0.1)
    expired = requests.get(short.url, timeout=10)
    assert expired.status_code == 403
    assert "Request has expired" in expired.text


def test_urls_need_no_header_that_a_plain_client_does_not_send(real_store: tuple[S3, S3FileStore]) -> None:
    """A presigned URL signs the host alone; a part's also its length, which every client sends."""
    _, store = real_store
    plan, _ = files.plan_parts(store, "name", 10 * MiB, "text/plain", None)

    download = store.sign_download("name", 60, "inline").url
    part = store.sign_parts(plan, [1], 60)[0].url
    assert "X-Amz-SignedHeaders=host&" in download
    assert "X-Amz-SignedHeaders=content-length%3Bhost&" in part
    assert "checksum" not in (download + part).lower()


def post(signed: SignedPost, data: bytes) -> requests.Response:
    return requests.post(signed.url, data=dict(signed.fields), files={"file": ("sent.bin", data)}, timeout=30)


def test_a_signed_post_stores_exactly_what_was_planned(real_store: tuple[S3, S3FileStore]) -> None:
    """A presigned POST stores the planned size, type and SHA-256, and S3 refuses any other size."""
    _, store = real_store
    signed = store.sign_post("up/ü.txt", 5, "text/x-planned", sha256(b"right"), 60)

    assert post(signed, b"longer").status_code in (400, 403)
    assert post(signed, b"no").status_code in (400, 403)
    assert post(signed, b"wrong").status_code == 400
    with pytest.raises(failures.FileNotFound):
        store.stat("up/ü.txt")
    assert post(signed, b"right").status_code in (200, 201, 204)
    opened = store.open("up/ü.txt", Conditions(), with_body=True)
    assert b"".join(opened.chunks) == b"right"
    assert opened.content_type == "text/x-planned"
    assert opened.sha256 == sha256(b"right")


@pytest.mark.parametrize("size", [0, 3, 5])
def test_a_signed_post_up_to_a_size(real_store: tuple[S3, S3FileStore], size: int) -> None:
    """With `up_to`, a presigned POST stores any file up to the size, with a 204, and no larger one."""
    _, store = real_store
    signed = store.sign_post("up/to.txt", 5, "text/plain", None, 60, up_to=True)

    assert post(signed, b"longer").status_code in (400, 403)
    with pytest.raises(failures.FileNotFound):
        store.stat("up/to.txt")
    assert post(signed, b"x" * size).status_code == 204
    assert store.stat("up/to.txt").size == size


def test_a_multipart_upload_is_resumed_and_completed(real_store: tuple[S3, S3FileStore]) -> None:
    """Parts go to S3 by their URLs; what has come is listed; completing joins it, and can be repeated."""
    _, store = real_store
    data = b"".join(bytes([n]) * MiB for n in range(11))
    plan, started = files.plan_parts(store, "big.bin", len(data), "application/x-big", sha256(data))
    assert started.md5_etags
    first, second = store.sign_parts(plan, [1, 2], 60)

    assert requests.put(first.url, data=data[: 8 * MiB], timeout=30).status_code == 200
    assert [(part.number, part.size) for part in store.list_parts(plan)] == [(1, 8 * MiB)]
    with pytest.raises(failures.InvalidParts) as caught:
        files.complete_upload(store, plan)
    assert caught.value.details == {"missing": [2]}
    assert requests.put(second.url, data=data[8 * MiB :], timeout=30).status_code == 200
    etag = files.complete_upload(store, plan)
    assert files.complete_upload(store, plan) == etag
    assert content(store, "big.bin") == data
    assert store.open("big.bin", Conditions(), with_body=False).declared_sha256 == sha256(data)
    with pytest.raises(failures.InvalidParts):
        store.sign_parts(plan, [3], 60)


def sent_in_one_part(store: FileStore, name: str, data: bytes, sha256: str | None = None) -> PartPlan:
    """A multipart upload whose only part has been sent."""
    plan, _ = files.plan_parts(store, name, len(data), "text/plain", sha256)
    if isinstance(store, MemoryStore):
        store.uploads[plan.upload_id].parts[1] = data
    else:
        requests.put(store.sign_parts(plan, [1], 60)[0].url, data=data, timeout=30).raise_for_status()
    return plan


def test_a_completed_upload_is_confirmed_by_its_own_file_only(any_store: FileStore) -> None:
    """A file with the same name, size and number of parts does not confirm another upload."""
    first = sent_in_one_part(any_store, "name", b"first")
    aborted = sent_in_one_part(any_store, "name", b"other")
    files.abort_upload(any_store, aborted)
    etag = files.complete_upload(any_store, first)
    confirmed = files.complete_upload(any_store, first)
    with pytest.raises(failures.UploadNotFound, match="'name' that is there now is not of this upload"):
        files.complete_upload(any_store, aborted)
    second = sent_in_one_part(any_store, "name", b"third")
    files.complete_upload(any_store, second)

    assert confirmed == etag
    with pytest.raises(failures.UploadNotFound, match="replaced since"):
        files.complete_upload(any_store, first)
    any_store.delete("name")
    with pytest.raises(failures.UploadNotFound):
        files.complete_upload(any_store, second)
    assert_no_open_uploads(any_store)


def test_a_completed_upload_is_not_aborted(any_store: FileStore) -> None:
    """An abort after completion says that it came too late, every time, and the file stays."""
    plan = sent_in_one_part(any_store, "name", b"12345")
    files.complete_upload(any_store, plan)

    for _ in range(2):
        with pytest.raises(failures.UploadCompleted, match="the file stays"):
            files.abort_upload(any_store, plan)
    assert content(any_store, "name") == b"12345"


def test_the_sha256_of_a_multipart_upload_is_told_as_declared(any_store: FileStore) -> None:
    """Nothing compares the parts with a SHA-256 of the whole, so a wrong one is not told as the file's."""
    declared = sha256(b"other bytes")
    files.complete_upload(any_store, sent_in_one_part(any_store, "name", b"12345", declared))
    opened = any_store.open("name", Conditions(), with_body=False)

    assert (opened.sha256, opened.declared_sha256) == (None, declared)


def test_a_plan_tells_that_etags_of_a_bucket_with_kms_are_no_md5s(
    ministack_s3: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S3 says by which keys it will encrypt, and with those of KMS an ETag is no MD5.

    https://docs.aws.amazon.com/AmazonS3/latest/API/API_CreateMultipartUpload.html (no S3 at hand says it),
    https://docs.aws.amazon.com/AmazonS3/latest/API/API_Object.html
    """
    store = s3_store(ministack_s3, ministack_s3.make_bucket(f"day02-{uuid.uuid4().hex[:12]}"))
    create = store._api.create_multipart_upload

    def encrypted(**fields: Any) -> dict[str, Any]:
        return {**create(**fields), "ServerSideEncryption": "aws:kms"}

    monkeypatch.setattr(store._api, "create_multipart_upload", encrypted)
    _, started = files.plan_parts(store, "name", 5, "text/plain", None)

    assert not started.md5_etags


def test_a_restored_upload_is_still_confirmed(versioned_store: FileStore) -> None:
    """Restoring keeps what the upload is known by, and what its sender declared."""
    plan = sent_in_one_part(versioned_store, "name", b"12345", sha256(b"12345"))
    files.complete_upload(versioned_store, plan)
    versioned_store.delete("name")
    restored = versioned_store.restore("name")

    assert files.complete_upload(versioned_store, plan) == restored.etag
    assert versioned_store.open("name", Conditions(), with_body=False).declared_sha256 == sha256(b"12345")


def test_an_aborted_upload_is_gone(real_store: tuple[S3, S3FileStore]) -> None:
    """Aborting drops the parts, is idempotent, tells what it found, and leaves nothing to complete."""
    _, store = real_store
    plan = sent_in_one_part(store, "name", b"12345")
    found = [files.abort_upload(store, plan) for _ in range(2)]

    assert found == [True, False]
    with pytest.raises(failures.UploadNotFound):
        store.list_parts(plan)
    with pytest.raises(failures.UploadNotFound):
        files.complete_upload(store, plan)
    assert_no_open_uploads(store)


def test_temporary_credentials_bound_the_expiry(seaweedfs_s3: S3) -> None:
    """A URL signed with credentials that expire soon expires with them."""
    own = S3("seaweedfs", seaweedfs_s3.url, {"AWS_ACCESS_KEY_ID": "temporary", "AWS_SECRET_ACCESS_KEY": "x"})
    store = s3_store(own, "day02-any")
    ends = datetime.now(UTC) + timedelta(seconds=30)
    credentials = store._session.get_credentials()
    credentials._expiry_time = ends  # type: ignore[union-attr]

    assert store.sign_download("name", 120, "inline").expires_at == ends
    assert store.sign_download("name", 10, "inline").expires_at < ends


def test_urls_are_signed_for_the_public_endpoint(seaweedfs_s3: S3) -> None:
    """A presigned URL and a presigned POST name the host that clients reach, and are valid there."""
    bucket = seaweedfs_s3.make_bucket(f"day02-{uuid.uuid4().hex[:12]}")
    public = seaweedfs_s3.url.replace("127.0.0.1", "localhost")
    store = s3_store(seaweedfs_s3, bucket, s3_public_endpoint_url=public)
    put(store, "name", b"reached")
    signed = store.sign_download("name", 60, "inline")

    assert signed.url.startswith(public + "/")
    assert requests.get(signed.url, timeout=10).content == b"reached"
    assert store.sign_post("name", 1, "text/plain", None, 60).url.startswith(public + "/")
