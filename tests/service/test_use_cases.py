"""The decisions of the use cases, over a store in memory; and the meaning of S3's error codes."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from flask.testing import FlaskClient

from s3api import failures, files
from s3api.bodies import Body
from s3api.failures import FileChanged, FileTooLarge, StoreDenied, StoreThrottled, StoreUnavailable
from s3api.file_store import MAX_SINGLE_PUT_BYTES, NOTHING, MiB, SignedPost, SignedPut, Upload
from s3api.s3_errors import _MEANINGS, THROTTLED, S3Errors
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


def translated(code: str, operation: str, name: str, status: int = 400) -> Exception:
    response: Any = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
    with pytest.raises(failures.FileError) as raised, S3Errors("b", "r", checks_owner=True)(operation, name):
        raise ClientError(response, operation)
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
