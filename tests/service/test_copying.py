"""Copies and moves: on every store, with the faults that can occur between their steps, and over HTTP.

LocalStack is left out: it answers 501 to the `If-Match` of a deletion, so it refuses every move.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from random import Random
from typing import Any

import pytest
from flask.testing import FlaskClient

from s3api import copying, failures, file_store, s3_copying
from s3api.auth import new_token
from s3api.copying import Wanted
from s3api.file_store import Conditions, Copied, FileStore
from s3api.s3_store import S3FileStore
from s3api.settings import Verb
from support.faulty_s3 import AnswerError, Asked, FaultyS3, Hang, Reset, running_faulty_s3
from support.memory_store import MemoryStore
from support.servers import S3
from support.stores import body as body_of
from support.stores import content, put, s3_store
from support.together import Together

MiB = 1024 * 1024
S3_KINDS = ["ministack", "seaweedfs"]
PLAIN = Wanted()


@pytest.fixture(params=["memory", *S3_KINDS])
def any_store(request: pytest.FixtureRequest) -> FileStore:
    """An empty store of each kind, without versions."""
    if request.param == "memory":
        return MemoryStore()
    s3: S3 = request.getfixturevalue(f"{request.param}_s3")
    return s3_store(s3, s3.make_bucket(f"day02-{uuid.uuid4().hex[:12]}"))


@pytest.fixture(params=S3_KINDS)
def staged(request: pytest.FixtureRequest) -> Iterator[tuple[FaultyS3, S3FileStore, Any]]:
    """A store that keeps versions behind a proxy, and a client that reaches its S3 past the proxy."""
    s3: S3 = request.getfixturevalue(f"{request.param}_s3")
    bucket = s3.make_bucket(f"day02-{uuid.uuid4().hex[:12]}", versioned=True)
    with running_faulty_s3(s3) as proxy:
        yield proxy, s3_store(proxy.s3, bucket), s3.client()


def names(store: FileStore) -> list[str]:
    return [file.name for file in store.list_page("", "", 1000, None).files]


def no_open_uploads(store: S3FileStore, client: Any) -> bool:
    return not client.list_multipart_uploads(Bucket=store.bucket).get("Uploads")


# --- one file


@pytest.mark.parametrize("data", [b"", b"the bytes"], ids=["empty", "small"])
def test_a_copy_and_a_move(any_store: FileStore, data: bytes) -> None:
    """A copy leaves its source, a move does not."""
    put(any_store, "a", data)
    copied = copying.copy_file(any_store, "a", "copies/ä b+c", PLAIN)
    assert (copied.name, copied.size) == ("copies/ä b+c", len(data))
    assert content(any_store, "copies/ä b+c") == content(any_store, "a") == data
    moved = copying.move_file(any_store, "a", "b", PLAIN)

    assert any_store.stat("b").etag == moved.etag
    assert content(any_store, "b") == data
    assert any_store.open("b", Conditions(), with_body=False).content_type == "text/plain"
    assert names(any_store) == ["b", "copies/ä b+c"]


def test_nothing_is_replaced_unless_it_is_asked_for(any_store: FileStore) -> None:
    """An existing destination is a refusal, and then both files stay as they are."""
    put(any_store, "a", b"source")
    etag = put(any_store, "b", b"precious").etag
    for one in (copying.copy_file, copying.move_file):
        with pytest.raises(failures.FileExists):
            one(any_store, "a", "b", PLAIN)
        with pytest.raises(failures.FileChanged):
            one(any_store, "a", "b", Wanted(if_match='"0123456789abcdef0123456789abcdef"'))
    assert (content(any_store, "a"), content(any_store, "b")) == (b"source", b"precious")
    copying.copy_file(any_store, "a", "b", Wanted(if_match=f'"{etag}"'))
    assert content(any_store, "b") == b"source"
    put(any_store, "a", b"newer")
    copying.move_file(any_store, "a", "b", Wanted(overwrite=True))

    assert content(any_store, "b") == b"newer"
    assert names(any_store) == ["b"]


def test_a_copy_of_another_source_than_was_meant(any_store: FileStore) -> None:
    """`source_etag` is the condition on the source."""
    etag = put(any_store, "a", b"old").etag
    put(any_store, "a", b"new")
    with pytest.raises(failures.FileChanged):
        copying.move_file(any_store, "a", "b", Wanted(source_etag=etag))

    assert names(any_store) == ["a"]


def test_a_missing_source_and_the_same_name(any_store: FileStore) -> None:
    """A missing source is not found; a file is not copied over itself."""
    put(any_store, "there")
    for destination in ("b", "there"):
        with pytest.raises(failures.FileNotFound):
            copying.copy_file(any_store, "none", destination, PLAIN)
    with pytest.raises(failures.InvalidCopy):
        copying.move_file(any_store, "there", "there", Wanted(overwrite=True))

    assert names(any_store) == ["there"]


def test_a_copy_can_be_repeated(any_store: FileStore) -> None:
    """The same copy again is confirmed. A copy of what the source was before is another file."""
    put(any_store, "a", b"one")
    first = copying.copy_file(any_store, "a", "b", PLAIN)
    assert copying.copy_file(any_store, "a", "b", PLAIN) == first
    put(any_store, "same bytes", b"one")
    with pytest.raises(failures.FileExists):
        copying.move_file(any_store, "same bytes", "b", PLAIN)
    put(any_store, "a", b"two")
    with pytest.raises(failures.FileExists):
        copying.copy_file(any_store, "a", "b", PLAIN)


@pytest.mark.parametrize(
    ("content_type", "kept"), [("text/csv", {}), ("text/plain", {"Cache-Control": "max-age=5"})]
)
def test_the_same_bytes_with_other_headers_are_another_source(
    any_store: FileStore, content_type: str, kept: dict[str, str]
) -> None:
    """The ETag stays the same, but the copy lacks the new headers. A move would lose them with the source."""
    put(any_store, "a", b"one")
    copying.copy_file(any_store, "a", "b", PLAIN)
    any_store.put("a", body_of(b"one"), content_type, create_only=False, kept=kept)
    for one in (copying.copy_file, copying.move_file):
        with pytest.raises(failures.FileExists):
            one(any_store, "a", "b", PLAIN)

    assert names(any_store) == ["a", "b"]


def test_a_copy_of_a_copy_can_be_repeated(any_store: FileStore) -> None:
    """The mark that a copy has is not one of the headers that its own copy keeps."""
    put(any_store, "a", b"one")
    copying.copy_file(any_store, "a", "b", PLAIN)
    copied = copying.copy_file(any_store, "b", "c", PLAIN)

    assert copying.move_file(any_store, "b", "c", PLAIN) == copied
    assert names(any_store) == ["a", "c"]


class Meanwhile:
    """A store that does something else once, just before a copy or just after it."""

    def __init__(self, store: FileStore, action: Callable[[], object], *, before: bool) -> None:
        self._store, self._action, self._before = store, action, before

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def copy(self, *names: str, **conditions: Any) -> Any:
        if self._before:
            self._action()
        copied = self._store.copy(*names, **conditions)
        if not self._before:
            self._action()
        return copied


@pytest.mark.parametrize("one", [copying.copy_file, copying.move_file])
@pytest.mark.parametrize("other", [copying.copy_file, copying.move_file])
def test_the_same_request_at_the_same_time_is_confirmed(any_store: FileStore, one: Any, other: Any) -> None:
    """Of two equal requests one finds that the other has copied, or even moved, the file."""
    put(any_store, "a", b"one")
    store: Any = Meanwhile(any_store, lambda: other(any_store, "a", "b", PLAIN), before=True)
    done = one(store, "a", "b", PLAIN)

    assert (done.name, done.etag) == ("b", any_store.stat("b").etag)
    assert content(any_store, "b") == b"one"
    moved = copying.move_file in (one, other)
    assert names(any_store) == (["b"] if moved else ["a", "b"])


@pytest.mark.parametrize("wanted", [PLAIN, Wanted(overwrite=True)], ids=["create", "overwrite"])
def test_a_move_whose_source_is_gone_after_the_copy_is_done(any_store: FileStore, wanted: Wanted) -> None:
    """Another move took the source to another name. Both copies exist, so neither request failed."""
    put(any_store, "a", b"one")
    store: Any = Meanwhile(any_store, lambda: copying.move_file(any_store, "a", "c", PLAIN), before=False)
    moved = copying.move_file(store, "a", "b", wanted)

    assert moved.etag == any_store.stat("b").etag
    assert names(any_store) == ["b", "c"]
    with pytest.raises(failures.FileNotFound):
        copying.move_file(any_store, "a", "b", wanted)


def test_a_source_with_new_headers_stays_after_the_copy(any_store: FileStore) -> None:
    """A move deletes what it copied: not the same bytes that were stored with another content type since."""
    put(any_store, "a", b"one")
    store: Any = Meanwhile(
        any_store,
        lambda: any_store.put("a", body_of(b"one"), "text/csv", create_only=False),
        before=False,
    )
    with pytest.raises(failures.FileChanged, match="stays"):
        copying.move_file(store, "a", "b", PLAIN)

    assert any_store.open("a", Conditions(), with_body=False).content_type == "text/csv"


def test_a_file_is_not_copied_to_the_name_of_a_folder(any_store: FileStore) -> None:
    """A file would get the name of a folder. The object of a folder itself may be moved."""
    put(any_store, "in/a.txt", b"one")
    put(any_store, "in/", b"")
    for one in (copying.copy_file, copying.move_file):
        with pytest.raises(failures.InvalidCopy, match=r"such as 'archive/a\.txt'"):
            one(any_store, "in/a.txt", "archive/", Wanted(overwrite=True))
    copying.move_file(any_store, "in/", "archive/", PLAIN)

    assert names(any_store) == ["archive/", "in/a.txt"]


def test_a_look_at_the_destination_reads_nothing_of_it(
    store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To confirm a copy is to compare: the bytes of the destination, and their connection, are not needed."""
    put(store, "a", b"one")
    copying.copy_file(store, "a", "b", PLAIN)
    opened = store.open

    def without_body(name: str, conditions: Conditions, *, with_body: bool) -> Any:
        assert not with_body
        return opened(name, conditions, with_body=with_body)

    monkeypatch.setattr(store, "open", without_body)

    assert copying.copy_file(store, "a", "b", PLAIN).name == "b"


@pytest.mark.parametrize("size", [0, 9, 11 * MiB], ids=["empty", "small", "in parts"])
def test_a_copy_keeps_all_that_a_file_has(
    staged: tuple[FaultyS3, S3FileStore, Any], monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    """Bytes, headers and metadata are kept, also above the limit of one part, which is 5 GiB on AWS."""
    monkeypatch.setattr("s3api.s3_copying.MAX_SINGLE_PUT_BYTES", 10)
    monkeypatch.setattr("s3api.s3_copying.COPIED_PART_BYTES", 5 * MiB)
    proxy, store, client = staged
    data = Random(size).randbytes(size)  # no two parts are equal
    own = {"a-first": "1", "own": "value", "z-last": "2"}
    given: dict[str, Any] = {
        "CacheControl": "max-age=5",
        "ContentDisposition": 'attachment; filename="x"',
        "ContentEncoding": "x-own",
        "ContentLanguage": "de",
        "ContentType": "text/x-own",
        "Expires": datetime(2026, 10, 21, 7, 28, tzinfo=UTC),
    }
    client.put_object(Bucket=store.bucket, Key="a", Body=data, Metadata=own, **given)
    copying.move_file(store, "a", "b", PLAIN)
    ranges = [asked.headers.get("x-amz-copy-source-range") for asked in proxy.asked if copied_from(asked)]
    found = client.get_object(Bucket=store.bucket, Key="b")

    assert found["Body"].read() == data
    assert {key: found.get(key) for key in given} == given
    assert own.items() <= found["Metadata"].items()
    assert no_open_uploads(store, client)
    # A range of a source that is not above 5 MB is refused by AWS:
    # https://docs.aws.amazon.com/AmazonS3/latest/API/API_UploadPartCopy.html
    expected = {
        0: [],
        9: [None],
        11 * MiB: [
            f"bytes=0-{5 * MiB - 1}",
            f"bytes={10 * MiB}-{11 * MiB - 1}",
            f"bytes={5 * MiB}-{10 * MiB - 1}",
        ],
    }
    assert sorted(ranges, key=str) == expected[size]


def copied_from(asked: Asked) -> bool:
    return "x-amz-copy-source" in asked.headers


def test_the_largest_file_is_copied_in_the_parts_that_s3_allows() -> None:
    """Parts are from 5 MiB to 5 GiB, at most 10,000 of them; a file up to 5 GiB is one part.

    Source: https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html
    """
    part, most_for_one = s3_copying.COPIED_PART_BYTES, file_store.MAX_SINGLE_PUT_BYTES

    assert (part, most_for_one) == (1024 * MiB, 5 * 1024 * MiB)


@pytest.mark.parametrize("header", ["x-amz-meta-a", "x-amz-meta-z", "Content-Type", "EXPIRES"])
def test_the_headers_that_a_copy_keeps(header: str) -> None:
    """All metadata but the mark of a copy, in any case."""
    found = {header: "kept", f"X-Amz-Meta-{s3_copying.COPY_OF}": "mark", "ETag": "x", "Date": "y"}

    assert s3_copying.copied_headers(found) == {header.lower(): "kept"}


def test_a_source_or_a_destination_that_is_gone_during_the_copy(
    staged: tuple[FaultyS3, S3FileStore, Any],
) -> None:
    """S3 answers 404 to both: to a part whose source is gone, and to an If-Match without a file.

    https://docs.aws.amazon.com/AmazonS3/latest/API/API_CompleteMultipartUpload.html
    """
    proxy, store, client = staged
    client.put_object(Bucket=store.bucket, Key="a", Body=b"one")
    gone = AnswerError(404, "NoSuchKey")
    with (
        proxy.failing(gone, copied_from),
        pytest.raises(failures.FileNotFound, match="The file 'a' was not found"),
    ):
        store.copy("a", "b", source_etag=None, create_only=True, if_match=None)
    with (
        proxy.failing(gone, lambda asked: asked.method == "POST" and "uploadId" in asked.query),
        pytest.raises(failures.FileChanged, match="'b'"),
    ):
        store.copy("a", "b", source_etag=None, create_only=False, if_match='"0123456789abcdef"')

    assert names(store) == ["a"]
    assert no_open_uploads(store, client)


@pytest.mark.parametrize("size", [0, 9, 11 * MiB], ids=["empty", "small", "in parts"])
def test_no_copy_has_tags(
    staged: tuple[FaultyS3, S3FileStore, Any], monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    """A file of any size is copied, moved and restored without its S3 tags; no permission for them is needed.

    CopyObject would copy tags, and would need s3:GetObjectTagging and s3:PutObjectTagging for it:
    https://docs.aws.amazon.com/AmazonS3/latest/API/API_CopyObject.html
    """
    monkeypatch.setattr("s3api.s3_copying.MAX_SINGLE_PUT_BYTES", 10)
    monkeypatch.setattr("s3api.s3_copying.COPIED_PART_BYTES", 5 * MiB)
    proxy, store, client = staged
    client.put_object(Bucket=store.bucket, Key="a", Body=b"z" * size, Tagging="own=value")
    copying.copy_file(store, "a", "copy", PLAIN)
    copying.move_file(store, "a", "moved", PLAIN)
    store.restore("a")

    for name in ("copy", "moved", "a"):
        assert client.get_object_tagging(Bucket=store.bucket, Key=name)["TagSet"] == []
    assert not any("tagging" in asked.query for asked in proxy.asked)
    assert not any(
        header.lower().startswith("x-amz-tagging") for asked in proxy.asked for header in asked.headers
    )


@pytest.mark.parametrize("data", [b"", b"moved"], ids=["empty", "small"])
def test_a_destination_that_is_stored_during_a_copy_stays(
    staged: tuple[FaultyS3, S3FileStore, Any], data: bytes
) -> None:
    """S3 itself decides when it writes: both files stay, and no upload is left open.

    https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html
    """
    proxy, store, client = staged
    client.put_object(Bucket=store.bucket, Key="a", Body=data)
    created: list[Asked] = []

    def create(asked: Asked) -> bool:
        if asked.method in ("PUT", "POST") and not created:
            created.append(asked)
            client.put_object(Bucket=store.bucket, Key="b", Body=b"created")
        return False

    with proxy.failing(Hang(), create), pytest.raises(failures.FileExists):
        copying.move_file(store, "a", "b", PLAIN)

    assert (content(store, "a"), content(store, "b")) == (data, b"created")
    assert no_open_uploads(store, client)


@pytest.mark.parametrize("when", ["before the copy", "before the deletion"])
def test_a_newer_source_is_never_deleted(staged: tuple[FaultyS3, S3FileStore, Any], when: str) -> None:
    """A source that is replaced during a move stays: the move copies the version that it found."""
    proxy, store, client = staged
    client.put_object(Bucket=store.bucket, Key="a", Body=b"old")
    replaced: list[Asked] = []
    method = "PUT" if when == "before the copy" else "DELETE"

    def replace(asked: Asked) -> bool:
        if asked.method == method and not replaced:
            replaced.append(asked)
            client.put_object(Bucket=store.bucket, Key="a", Body=b"newer")
        return False

    with proxy.failing(Hang(), replace), pytest.raises(failures.FileChanged, match="stays"):
        copying.move_file(store, "a", "b", PLAIN)

    assert replaced
    assert content(store, "a") == b"newer"
    assert content(store, "b") == b"old"


@pytest.mark.parametrize("kind", S3_KINDS)
def test_a_source_that_is_replaced_during_a_copy(request: pytest.FixtureRequest, kind: str) -> None:
    """In a bucket without versions, `x-amz-copy-source-if-match` refuses the newer source; nothing is stored.

    https://docs.aws.amazon.com/AmazonS3/latest/API/API_UploadPartCopy.html
    """
    s3: S3 = request.getfixturevalue(f"{kind}_s3")
    client = s3.client()
    bucket = s3.make_bucket(f"day02-{uuid.uuid4().hex[:12]}")
    replaced: list[Asked] = []

    def replace(asked: Asked) -> bool:
        if "partNumber" in asked.query and not replaced:
            replaced.append(asked)
            client.put_object(Bucket=bucket, Key="a", Body=b"newer")
        return False

    with running_faulty_s3(s3) as proxy:
        store = s3_store(proxy.s3, bucket)
        put(store, "a", b"old")
        with proxy.failing(Hang(), replace), pytest.raises(failures.FileChanged):
            copying.move_file(store, "a", "b", PLAIN)

        assert replaced
        assert names(store) == ["a"]
        assert content(store, "a") == b"newer"
        assert no_open_uploads(store, client)


@pytest.mark.parametrize("method", ["POST", "DELETE"])
def test_an_interrupted_move_is_repeated(staged: tuple[FaultyS3, S3FileStore, Any], method: str) -> None:
    """A move that breaks off leaves the source, and nothing half-done. Repeated, it succeeds."""
    proxy, store, client = staged
    client.put_object(Bucket=store.bucket, Key="a", Body=b"data")

    def ends(asked: Asked) -> bool:
        return asked.method == method and not ("uploadId" in asked.query and method == "DELETE")

    with proxy.failing(Reset(), ends), pytest.raises(failures.StoreUnavailable):
        copying.move_file(store, "a", "b", PLAIN)
    assert content(store, "a") == b"data"
    assert no_open_uploads(store, client)
    copying.move_file(store, "a", "b", PLAIN)

    assert content(store, "b") == b"data"
    assert names(store) == ["b"]


def test_a_denied_copy_names_the_operation(staged: tuple[FaultyS3, S3FileStore, Any]) -> None:
    """A copy that the role does not permit is its own code, and the source stays."""
    proxy, store, client = staged
    client.put_object(Bucket=store.bucket, Key="a", Body=b"data")
    with (
        proxy.failing(AnswerError(403, "AccessDenied"), lambda asked: "partNumber" in asked.query),
        pytest.raises(failures.StoreDenied) as denied,
    ):
        copying.move_file(store, "a", "b", PLAIN)

    assert denied.value.code == "s3_copy_object_denied"
    assert names(store) == ["a"]
    assert no_open_uploads(store, client)


# --- folders


def all_results(store: FileStore, one: Any, source: str, to: str, limit: int = 1000) -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    token: str | None = None
    while True:
        results = copying.copy_folder(store, one, source, to, overwrite=False, limit=limit, token=token)
        found |= {result.name: result.code for result in results.files}
        token = results.next_token
        if token is None:
            return found


@pytest.mark.parametrize("limit", [2, 1000])
def test_a_folder_is_moved(any_store: FileStore, limit: int) -> None:
    """All files of the folder are moved, in several requests too, with the object of the folder itself."""
    for name in ("a/", "a/1", "a/b/2", "a/b/3", "ab/4", "z"):
        put(any_store, name, b"" if name.endswith("/") else name.encode())
    results = all_results(any_store, copying.move_file, "a/", "n/", limit)

    assert results == dict.fromkeys(["a/", "a/1", "a/b/2", "a/b/3"])
    assert names(any_store) == ["ab/4", "n/", "n/1", "n/b/2", "n/b/3", "z"]
    assert content(any_store, "n/b/3") == b"a/b/3"


def test_the_object_of_a_folder_is_copied_before_what_is_below_it(any_store: FileStore) -> None:
    """For SeaweedFS, a folder exists as soon as a file below it does. Then its object could not be copied."""
    expected = ["a/", "a/1", "a/b/", "a/b/2", "a/b/c/"]
    for name in expected:
        put(any_store, name, b"" if name.endswith("/") else name.encode())
    others = threading.Event()

    def one(store: FileStore, source: str, destination: str, wanted: Wanted) -> Copied:
        if source == "a/":
            assert not others.wait(0.3)
        others.set()
        if source == "a/b/":
            assert "n/b/2" not in names(store)
        return copying.copy_file(store, source, destination, wanted)

    results = copying.copy_folder(any_store, one, "a/", "n/", overwrite=False, limit=1000, token=None)

    assert [(result.name, result.code) for result in results.files] == [(name, None) for name in expected]
    assert names(any_store)[len(expected) :] == ["n/", "n/1", "n/b/", "n/b/2", "n/b/c/"]


def test_each_file_of_a_folder_has_its_own_result(any_store: FileStore) -> None:
    """What cannot be moved stays and says why; the rest is moved. Repeated, the rest is not an error."""
    long = "/".join(["x" * 199] * 4)
    for name in ("a/1", "a/2", f"a/{long}"):
        put(any_store, name, name.encode())
    put(any_store, "a-longer-folder-name/2", b"precious")
    results = all_results(any_store, copying.move_file, "a/", "a-longer-folder-name/" + "y" * 240 + "/")
    assert results == {"a/1": None, "a/2": None, f"a/{long}": "invalid_file_name"}
    put(any_store, "a/2", b"again")
    results = all_results(any_store, copying.copy_file, "a/", "a-longer-folder-name/")

    assert results == {"a/2": "file_exists", f"a/{long}": None}
    assert content(any_store, "a-longer-folder-name/2") == b"precious"
    assert content(any_store, "a/2") == b"again"


def test_eight_files_are_copied_at_the_same_time(store: MemoryStore) -> None:
    """A copy waits for S3 most of the time, so eight run at the same time, and no more."""
    together = Together(8)
    for number in range(16):
        put(store, f"a/{number}")

    def copy(store: FileStore, source: str, destination: str, wanted: Wanted) -> Copied:
        together.wait()
        return copying.copy_file(store, source, destination, wanted)

    assert set(all_results(store, copy, "a/", "b/").values()) == {None}
    assert len(store.objects) == 32
    assert len(together.threads) == 8


def test_an_interrupted_move_of_a_folder_is_repeated(staged: tuple[FaultyS3, S3FileStore, Any]) -> None:
    """While S3 refuses deletions, all is copied and nothing is lost. The repeated move completes."""
    proxy, store, client = staged
    for name in ("a/1", "a/2", "a/3"):
        client.put_object(Bucket=store.bucket, Key=name, Body=name.encode())
    with proxy.failing(
        AnswerError(403, "AccessDenied"),
        lambda asked: asked.method == "DELETE" and "uploadId" not in asked.query,
    ):
        results = all_results(store, copying.move_file, "a/", "b/")
    assert set(results.values()) == {"s3_delete_object_denied"}
    assert names(store) == ["a/1", "a/2", "a/3", "b/1", "b/2", "b/3"]

    assert all_results(store, copying.move_file, "a/", "b/") == dict.fromkeys(["a/1", "a/2", "a/3"])
    assert names(store) == ["b/1", "b/2", "b/3"]


@pytest.mark.parametrize(
    ("source", "destination"),
    [("a/", "a/"), ("a/", "a/b/"), ("a/b/", "a/"), ("a", "b/"), ("a/", "b"), ("", "b/"), ("a/", "")],
)
def test_folders_that_do_not_fit_together(source: str, destination: str) -> None:
    """Overlapping folders, and prefixes that are no folder, are refused before anything is copied."""
    store = MemoryStore()
    put(store, "a/b/1")
    with pytest.raises(failures.InvalidCopy):
        all_results(store, copying.move_file, source, destination)

    assert names(store) == ["a/b/1"]


# --- HTTP


def test_the_answers(client: FlaskClient, store: MemoryStore) -> None:
    """The sentences and the contents of the four routes."""
    put(store, "a/1", b"12345")
    body = client.post("/copy", json={"source": "a/1", "destination": "b"}).get_json()
    etag = store.stat("b").etag
    assert body == {
        "status": 200,
        "message": "Successfully copied file 'a/1' to 'b' on s3 bucket 'day02-memory'",
        "content": {"source": "a/1", "name": "b", "size": 5, "etag": etag},
    }
    put(store, "c", b"other")
    exists = client.post("/move", json={"source": "b", "destination": "c"})
    assert (exists.status_code, exists.get_json()["code"]) == (412, "file_exists")
    moved = client.post(
        "/move", json={"source": "b", "destination": "c"}, headers={"If-Match": f'"{store.stat("c").etag}"'}
    )
    assert moved.get_json()["message"] == "Successfully moved file 'b' to 'c' on s3 bucket 'day02-memory'"
    put(store, "a/2")
    put(store, "n/2", b"other")
    first = client.post("/move/folder", json={"source": "a/", "destination": "n/", "limit": 1}).get_json()
    second = client.post(
        "/move/folder",
        json={"source": "a/", "destination": "n/", "limit": 1, "cursor": first["next"]},
    ).get_json()

    assert first["message"] == "Successfully moved 1 of 1 files on s3 bucket 'day02-memory'"
    assert first["content"] == [{"name": "a/1", "destination": "n/1", "moved": True}]
    (failed,) = second["content"]
    assert (failed["moved"], failed["code"]) == (False, "file_exists")
    assert "next" not in second
    other = {"source": "a/", "destination": "o/", "cursor": first["next"]}
    assert client.post("/move/folder", json=other).get_json()["code"] == "invalid_cursor"
    other = {"source": "a/", "destination": "n/", "cursor": first["next"]}
    assert client.post("/copy/folder", json=other).get_json()["code"] == "invalid_cursor"


@pytest.mark.parametrize("route", ["/copy", "/move"])
def test_a_file_is_not_copied_over_itself(client: FlaskClient, store: MemoryStore, route: str) -> None:
    """Also not with `overwrite`: a move would delete the only copy."""
    put(store, "a.txt", b"precious")
    answer = client.post(route, json={"source": "a.txt", "destination": "a.txt", "overwrite": True})

    assert (answer.status_code, answer.get_json()["code"]) == (400, "invalid_copy")
    assert content(store, "a.txt") == b"precious"


@pytest.mark.parametrize("name", ["", "/a", "a/../b", "a\nb", "x" * 1025])
def test_names_that_no_file_may_have(client: FlaskClient, store: MemoryStore, name: str) -> None:
    """Both names are checked as everywhere else."""
    put(store, "a")
    for body in ({"source": name, "destination": "b"}, {"source": "a", "destination": name}):
        answer = client.post("/copy", json=body)
        assert (answer.status_code, answer.get_json()["code"]) == (400, "invalid_file_name")


@pytest.mark.parametrize(
    ("verbs", "prefix", "copies", "moves"),
    [
        ({"read", "write", "delete", "list"}, "", 200, 200),
        ({"read", "write", "list"}, "", 200, 403),
        ({"write", "delete", "list"}, "", 403, 403),
        ({"read", "delete", "list"}, "", 403, 403),
        ({"read", "write", "delete", "list"}, "a/", 403, 403),
        ({"read", "write", "delete", "list"}, "b/", 403, 403),
    ],
)
def test_the_token_decides_about_both_names(
    make_client: Callable[..., FlaskClient],
    store: MemoryStore,
    *,
    verbs: set[Verb],
    prefix: str,
    copies: int,
    moves: int,
) -> None:
    """Reading, writing and, for a move, deleting are each permitted or refused, for files and folders."""
    put(store, "a/1")
    token, entry = new_token("t", frozenset(verbs), prefix)
    client = make_client(api_tokens=[entry], allow_anonymous=False)
    headers = {"Authorization": f"Bearer {token}"}

    def status(route: str, source: str, destination: str) -> int:
        body = {"source": source, "destination": destination}
        return client.post(route, json=body, headers=headers).status_code

    assert status("/copy", "a/1", "b/1") == copies
    assert status("/copy/folder", "a/", "b/") == copies
    assert status("/move/folder", "a/", "b/") == moves
    put(store, "a/1")
    assert status("/move", "a/1", "b/2") == moves


def test_a_folder_needs_the_verb_list(make_client: Callable[..., FlaskClient]) -> None:
    """A token that may not list learns no names by copying a folder."""
    token, entry = new_token("t", frozenset({"read", "write", "delete"}), "")
    client = make_client(api_tokens=[entry], allow_anonymous=False)
    answer = client.post(
        "/copy/folder",
        json={"source": "a/", "destination": "b/"},
        headers={"Authorization": f"Bearer {token}"},
    )

    assert answer.status_code == 403
