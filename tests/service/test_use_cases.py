"""The decisions of the use cases, over a store in memory; and the meaning of S3's error codes."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from botocore.parsers import ResponseParserError
from flask.testing import FlaskClient

from s3api import failures, files
from s3api.bodies import Body
from s3api.failures import FileChanged, FileTooLarge, StoreDenied, StoreThrottled, StoreUnavailable
from s3api.file_store import (
    MAX_SINGLE_PUT_BYTES,
    NOTHING,
    Conditions,
    MiB,
    OpenFile,
    Page,
    SignedPost,
    SignedPut,
    Upload,
    part_size_for,
)
from s3api.s3_errors import _MEANINGS, THROTTLED, S3Errors, is_denial, look
from support.memory_store import MemoryStore
from support.stores import body, put

BIG = 64 * MiB


class FailingStore(MemoryStore):
    """Fails to store one name."""

    def put(self, name: str, body: Body, content_type: str, **more: Any) -> Upload:
        if name.endswith("second.txt"):
            raise StoreUnavailable("S3 cannot be reached; try again")
        return super().put(name, body, content_type, **more)


@pytest.fixture
def store() -> MemoryStore:
    return FailingStore()


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            ["first.txt", "second.txt", "third.txt"],
            "S3 cannot be reached; try again; 1 of 3 files stored before 'second.txt'",
        ),
        (["second.txt", "third.txt"], "S3 cannot be reached; try again"),
    ],
)
def test_a_form_that_fails_in_the_middle(
    client: FlaskClient, store: MemoryStore, tmp_path: Path, names: list[str], message: str
) -> None:
    """A failure after the first file says which files are stored, and those after it are not sent."""
    answer = client.post("/upload", data={"file": [(io.BytesIO(b"x"), name) for name in names]})
    envelope = answer.get_json()

    assert (answer.status_code, envelope["code"]) == (503, "s3_unavailable")
    assert answer.headers["Retry-After"] == "5"
    assert envelope["message"] == message
    assert [one["name"] for one in envelope.get("content", ())] == sorted(store.objects)
    assert sorted(store.objects) == names[: names.index("second.txt")]
    assert [path for path in (tmp_path / "uploads").iterdir() if path.is_dir()] == []


@pytest.mark.parametrize(
    ("name", "size", "wishes", "kind"),
    [
        ("a", 0, {}, SignedPost),
        ("a", BIG - 1, {}, SignedPost),
        ("a", BIG, {}, files.MultipartUpload),
        ("a", BIG, {"multipart": False}, SignedPost),
        ("a", 1, {"multipart": True}, files.MultipartUpload),
        ("a", 1, {"part_size": 5 * MiB}, files.MultipartUpload),
        ("a${filename}", 1, {}, files.MultipartUpload),
        ("a${filename}", 1, {"multipart": False}, SignedPut),
        ("a", 1 << 41, {}, FileTooLarge),
        ("a", 1, {"multipart": False, "part_size": 5 * MiB}, files.InvalidPlan),
        ("a", MAX_SINGLE_PUT_BYTES + 1, {"multipart": False}, files.InvalidPlan),
        ("a", MAX_SINGLE_PUT_BYTES, {"multipart": False}, SignedPost),
        ("a", 60_000 * MiB, {"part_size": 5 * MiB}, failures.InvalidParts),
        ("a", 50_000 * MiB + 1, {"part_size": 5 * MiB}, failures.InvalidParts),  # 10,001 parts
        ("a", 50_000 * MiB, {"part_size": 5 * MiB}, files.MultipartUpload),
        ("a", None, {}, SignedPost),
        ("a${filename}", None, {}, files.InvalidPlan),
    ],
)
def test_how_an_upload_is_planned(
    name: str, size: int | None, wishes: dict[str, Any], kind: type[object]
) -> None:
    """A form up to the threshold, parts from there; a name that S3 would change is never in a form."""
    wanted = {"multipart": None, "part_size": None, **wishes}

    def plan() -> object:
        return files.plan_upload(
            MemoryStore(),
            name,
            size,
            "text/plain",
            None,
            kept=NOTHING,
            max_bytes=1 << 40,
            multipart_from=BIG,
            seconds=60,
            **wanted,
        )

    if issubclass(kind, Exception):
        with pytest.raises(kind):
            plan()
    else:
        assert isinstance(plan(), kind)


@pytest.mark.parametrize(
    ("size", "part_size"),
    [(0, 8 * MiB), (80_000 * MiB, 8 * MiB), (80_000 * MiB + 1, 9 * MiB), (90_000 * MiB + 1, 10 * MiB)],
)
def test_part_size_for_a_file(size: int, part_size: int) -> None:
    """The smallest whole number of MiB, at least 8, with which S3's 10,000 parts are enough."""
    assert part_size_for(size) == part_size


def test_a_failed_condition_reads_nothing() -> None:
    """A PUT whose If-Match fails is refused before the first byte of its body is read."""
    memory = MemoryStore()
    put(memory, "name")
    unread = body(b"new")

    with pytest.raises(FileChanged):
        files.put_file(
            memory, "name", unread, "text/plain", create_only=False, if_match='"other"', kept=NOTHING
        )

    assert unread.received == 0


@pytest.mark.parametrize("create_only", [True, False])
def test_a_body_that_waits_is_not_read_for_a_file_that_exists(*, create_only: bool) -> None:
    """RFC 9110, section 10.1.1: with `Expect: 100-continue` a refusal saves the body."""
    memory = MemoryStore()
    put(memory, "name")
    sent = body(b"new")

    def store() -> None:
        kind = "text/plain"
        files.put_file(
            memory, "name", sent, kind, create_only=create_only, if_match=None, kept=NOTHING, body_waits=True
        )

    if create_only:
        with pytest.raises(failures.FileExists):
            store()
    else:
        store()

    assert sent.received == (0 if create_only else 3)


def test_a_whole_listing_is_read_in_the_largest_pages() -> None:
    """A listing of everything asks for 1,000 names at a time: S3 answers with no more.

    https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html, max-keys
    """
    limits: list[int] = []

    class Counting(MemoryStore):
        def list_page(self, prefix: str, delimiter: str, limit: int, token: str | None) -> Page:
            limits.append(limit)
            return super().list_page(prefix, delimiter, min(limit, 2), token)

    memory = Counting()
    for name in "abc":
        put(memory, name)
    pages = list(files.list_all(memory, ""))

    assert [file.name for page in pages for file in page.files] == ["a", "b", "c"]
    assert limits == [1000, 1000]


def test_a_read_of_a_file_that_changes_ends() -> None:
    """A file that is replaced between each look and its read is looked at three times, and then given up."""
    looks: list[str] = []

    class Changing(MemoryStore):
        def open(self, name: str, conditions: Conditions, *, with_body: bool) -> OpenFile:
            if conditions.if_match is not None:
                raise FileChanged("replaced")
            looks.append(name)
            return super().open(name, conditions, with_body=with_body)

    memory = Changing()
    put(memory, "name")
    asked = files.ReadConditions(if_none_match=frozenset({'"other"'}))
    with pytest.raises(StoreUnavailable):
        files.open_file(memory, "name", asked, with_body=True)

    assert looks == ["name"] * 3


# --- the meaning of S3's errors


def client_error(code: str, status: int = 400, headers: Mapping[str, str] = NOTHING) -> ClientError:
    metadata = {"HTTPStatusCode": status, "HTTPHeaders": headers}
    response: Any = {"Error": {"Code": code}, "ResponseMetadata": metadata}
    return ClientError(response, "operation")


def translated(
    code: str, operation: str, name: str, status: int = 400, headers: Mapping[str, str] = NOTHING
) -> Exception:
    with pytest.raises(failures.FileError) as raised, S3Errors("b", "r", checks_owner=True)(operation, name):
        raise client_error(code, status, headers)
    return raised.value


@pytest.mark.parametrize("code", sorted(_MEANINGS))
def test_every_sentence_is_filled_in(code: str) -> None:
    """No sentence of the table names a field that it is not given; a file's name stays as it is."""
    told = str(translated(code, "put_object", "a{bucket}b"))

    assert "{" not in told.replace("a{bucket}b", "")
    assert told


@pytest.mark.parametrize("code", sorted(THROTTLED))
def test_throttling_is_throttling(code: str) -> None:
    """Each of these codes is throttling, and `s3_http` waits longer after the same codes."""
    assert isinstance(translated(code, "get_object", "a"), StoreThrottled)


@pytest.mark.parametrize(
    ("code", "status", "kind"),
    [
        ("SomethingNew", 500, StoreUnavailable),
        ("SomethingNew", 400, failures.StoreFailed),
        ("SomethingNew", 404, failures.FileNotFound),
        ("AccessDenied", 403, StoreDenied),
        ("PreconditionFailed", 412, FileChanged),
    ],
)
def test_unknown_codes_are_judged_by_their_status(code: str, status: int, kind: type[Exception]) -> None:
    """A code that the table does not have means what its status means."""
    assert type(translated(code, "get_object", "a", status)) is kind


@pytest.mark.parametrize(
    ("operation", "status", "kind"),
    [
        ("head_bucket", 404, failures.BucketNotFound),
        ("head_bucket", 405, failures.StoreFailed),
        ("head_bucket", 500, StoreUnavailable),
        ("get_object", 404, failures.FileNotFound),
        ("get_object", 499, failures.StoreFailed),
        ("get_object", 599, StoreUnavailable),
        ("get_object", 412, FileChanged),
        ("put_object", 412, failures.FileExists),
    ],
)
def test_an_answer_without_a_code_is_judged_by_its_status(
    operation: str, status: int, kind: type[Exception]
) -> None:
    """An answer to HEAD has no body, so it names no code."""
    assert type(translated(str(status), operation, "a", status)) is kind


@pytest.mark.parametrize(
    ("status", "region", "kind"),
    [
        (400, "elsewhere", "is not in the region r"),
        (400, "r", "S3 refused"),
        (400, None, "S3 refused"),
        (403, "elsewhere", "does not allow"),
        (307, "elsewhere", "redirects"),
    ],
)
def test_a_head_signed_for_another_region(status: int, region: str | None, kind: str) -> None:
    """S3 answers it with 400 and the bucket's region. With another status the region is not the reason."""
    headers = {} if region is None else {"x-amz-bucket-region": region}

    assert kind in str(translated(str(status), "get_object", "a", status, headers))


@pytest.mark.parametrize("direction", [1, -1])
@pytest.mark.parametrize(
    ("code", "seconds", "kind"),
    [
        ("403", 15 * 60 + 50, failures.ClockSkewed),
        ("403", 15 * 60 - 30, StoreDenied),
        ("AccessDenied", 15 * 60 + 50, StoreDenied),
        ("401", 15 * 60 + 50, StoreDenied),
        ("404", 15 * 60 + 50, failures.FileNotFound),
    ],
)
def test_a_clock_is_wrong_from_15_minutes_on(
    code: str, seconds: int, kind: type[Exception], direction: int
) -> None:
    """S3 accepts a request whose time differs by up to 15 minutes. A 403 without a code has another reason.

    https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html, RequestTimeTooSkewed
    """
    there = datetime.now(UTC) + direction * timedelta(seconds=seconds)
    headers = {"date": format_datetime(there, usegmt=True)}

    error = translated(code, "get_object", "a", 403, headers)

    assert type(error) is kind
    assert ("by 16 minutes" in str(error)) == (kind is failures.ClockSkewed)


def test_a_wrong_clock_in_an_answer_that_has_no_date() -> None:
    """Without a date in S3's answer, the error states only the limit of 15 minutes."""
    assert "by more than 15 minutes" in str(translated("RequestTimeTooSkewed", "get_object", "a"))


def test_denials_are_the_codes_that_deny() -> None:
    """Only the codes of S3 that deny access count as denials; an unknown code does not."""
    assert is_denial("AccessDenied")
    assert not is_denial("NoSuchKey")
    assert not is_denial("SomethingNew")


def test_a_configuration_that_is_absent_differs_from_one_that_cannot_be_read() -> None:
    """A bucket without rules is told apart from rules that the service may not read."""

    def fails(code: str) -> Callable[[], dict[str, Any]]:
        def call() -> dict[str, Any]:
            raise client_error(str(code.encode(), "ascii"))  # as it is parsed: another object

        return call

    def unread() -> dict[str, Any]:
        raise ResponseParserError

    assert look(lambda: {"Rules": []}, "NoSuchRules") == {"Rules": []}
    assert look(fails("NoSuchRules"), "NoSuchRules") == {}
    assert look(fails("AccessDenied"), "NoSuchRules") is None
    assert look(unread, "NoSuchRules") is None
