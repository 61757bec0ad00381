"""Behaviour of single modules that other tests do not cover. Mutations of the code showed each case."""

from __future__ import annotations

import base64
import errno
import gc
import hashlib
import io
import os
import socket
import string
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import boto3.session
import pytest
from flask.testing import FlaskClient
from itsdangerous import URLSafeSerializer, URLSafeTimedSerializer

from cli.command import Command
from s3api import failures
from s3api.auth import new_token
from s3api.bodies import Body
from s3api.errors import failure
from s3api.failures import StagingFailed
from s3api.file_store import Conditions, PartPlan
from s3api.s3_copying import COPIED_PART_BYTES, S3Copying
from s3api.s3_errors import S3Errors
from s3api.s3_multipart import S3Multipart
from s3api.s3_restore import S3Restore
from s3api.s3_store import ATTEMPTS
from s3api.settings import Settings
from s3api.signed_values import Signer
from s3api.staging import Staging
from support.faulty_s3 import AnswerError, Asked, FaultyS3, running_faulty_s3
from support.http_server import serving
from support.memory_store import MemoryStore
from support.servers import S3, SIGNING_KEY
from support.stores import s3_store

MiB = 1024 * 1024
PLAN = PartPlan("name", "upload", size=10, part_size=5, nonce="nonce")
MakeClient = Callable[..., FlaskClient]


# --- staging


class Unwritable(io.BytesIO):
    def write(self, _data: Any) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))


def test_an_error_of_the_disk_fails_the_request(tmp_path: Path) -> None:
    """Only a full disk becomes `StagingFull`; any other error of the disk is raised as it is."""
    with Staging(tmp_path, MiB, MiB).folder(10) as folder:
        staged = folder.new_file()
        staged.stream.close()
        staged.stream = Unwritable()

        with pytest.raises(OSError, match="Input/output error"):
            staged.write(b"x")


def test_an_error_of_the_disk_is_not_the_clients(tmp_path: Path) -> None:
    """A staged file that cannot be read is `staging_failed`, and no connection that ended."""
    with Staging(tmp_path, MiB, MiB).folder(10) as folder:
        staged = folder.new_file()
        staged.write(b"x")
        staged.finish()
        [path] = tmp_path.glob("*/*.part")
        path.unlink()
        path.mkdir()  # cannot be opened as a file
        with pytest.raises(StagingFailed):
            Body(staged.stream, 1, 1, staged.hexdigest()).read()


def test_a_pseudonym_depends_on_the_key_and_the_text() -> None:
    """Its length is fixed, because it is part of every upload link."""
    one, other = Signer("a" * 32), Signer("b" * 32)

    assert one.pseudonym("x") == one.pseudonym("x")
    assert len({one.pseudonym("x"), one.pseudonym("y"), other.pseudonym("x")}) == 3
    assert {len(one.pseudonym(text)) for text in ("", "x", "x" * 100)} == {16}


def test_staging_leaves_no_descriptor_open(tmp_path: Path) -> None:
    """After 50 forms as many descriptors are open as before."""
    staging = Staging(tmp_path, MiB, MiB)
    gc.collect()  # closes the connections of the stores of earlier tests
    before = len(list(Path("/dev/fd").iterdir()))
    for _ in range(50):
        with staging.folder(1) as folder:
            folder.new_file().write(b"x")

    assert len(list(Path("/dev/fd").iterdir())) == before


def test_each_form_sweeps_what_others_left(tmp_path: Path) -> None:
    """The folder of a request whose process is gone goes at the end of the next request."""
    left = tmp_path / f"s3api-staged-{'0' * 32}"
    with Staging(tmp_path, MiB, MiB).folder(1):
        left.mkdir()
        (left / "0.part").write_bytes(b"x")

    assert not left.exists()


def test_a_staging_directory_is_made_with_its_parents(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """STAGING_DIR may name a directory whose parents do not exist yet."""
    wanted = tmp_path / "a" / "b" / "c"
    values = {
        "BUCKET": "day02-files",
        "SIGNING_KEY": SIGNING_KEY,
        "ALLOW_ANONYMOUS": "true",
        "STAGING_DIR": str(wanted),
    }
    for name, value in values.items():
        monkeypatch.setenv(name, value)

    assert Settings.from_environment().staging_dir == wanted
    assert wanted.is_dir()


# --- the HTTP edge


def test_a_client_that_stalls_is_told_to_send_again(client: FlaskClient) -> None:
    """A time-out of the client's own connection is 408, not a failure of the service."""

    def stalled() -> str:
        raise TimeoutError

    client.application.add_url_rule("/stalled", view_func=stalled)
    answer = client.get("/stalled")

    assert (answer.status_code, answer.get_json()["code"]) == (408, "request_timeout")


def test_a_token_is_taken_as_bearer_only(make_client: MakeClient) -> None:
    """A valid token under another scheme is refused (RFC 6750, 2.1)."""
    entry = {
        "name": "ci",
        "verbs": ["list"],
        "prefix": "",
        "sha256": hashlib.sha256(b"secret").hexdigest(),
    }
    client = make_client(allow_anonymous=False, api_tokens=[entry])
    statuses = [
        client.get("/list_files", headers={"Authorization": f"{scheme} secret"}).status_code
        for scheme in ("Bearer", "bearer", "Token", "Basic")
    ]

    assert statuses == [200, 200, 401, 401]


def test_a_token_has_256_random_bits() -> None:
    """The mark of the service, and 32 bytes that no other token has; its entry knows only its digest."""
    tokens = [new_token("ci", frozenset({"list"}), "")[0] for _ in range(2)]
    secrets = [base64.urlsafe_b64decode(token.removeprefix("s3api_") + "=") for token in tokens]

    assert all(token.startswith("s3api_") for token in tokens)
    assert [len(secret) for secret in secrets] == [32, 32]
    assert secrets[0] != secrets[1]


@pytest.mark.parametrize("prefix", ["x" * 1025, "a%00", "a%5Cb"])
def test_a_prefix_that_no_name_has_is_refused(client: FlaskClient, prefix: str) -> None:
    """A prefix that is longer than any name, or has forbidden characters, is 400, not an empty list."""
    assert client.get(f"/list_files?prefix={prefix}").status_code == 400
    assert client.get(f"/list_files?prefix={'x' * 1024}").status_code == 200


def test_a_readiness_check_that_fails_unexpectedly_is_not_ready(
    make_client: MakeClient, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error that is not an error of the store is 500."""

    def broken() -> None:
        raise RuntimeError

    monkeypatch.setattr(store, "check", broken)
    answer = make_client().get("/readyz")

    assert (answer.status_code, answer.get_json()["code"]) == (500, "internal_error")


def test_a_backslash_in_a_forms_name_is_refused(client: FlaskClient, store: MemoryStore) -> None:
    """The parser of forms would drop a backslash, and so store the file under another name."""
    body = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a\\b"\r\n\r\nx\r\n--b--\r\n'
    answer = client.post("/upload", data=body, content_type="multipart/form-data; boundary=b")

    assert (answer.status_code, answer.get_json()["code"]) == (400, "invalid_file_name")
    assert store.list_page("", "", 10, None).files == []


def test_a_failure_has_a_hint_only_where_there_is_one(client: FlaskClient) -> None:
    """A member of the envelope that has no value is left out."""
    with_hint = client.post("/upload", data={"other": (io.BytesIO(b"x"), "a.txt")})
    without = client.get("/files/missing")

    assert "'file'" in with_hint.get_json()["hint"]
    assert set(without.get_json()) == {"status", "message", "code", "request_id"}


@pytest.mark.parametrize(("status", "retry"), [(502, None), (503, "5"), (504, None), (507, "5"), (508, None)])
def test_which_failures_say_when_to_try_again(client: FlaskClient, status: int, retry: str | None) -> None:
    """RFC 9110, section 10.2.3: Retry-After. Only what passes by itself says it."""
    with client.application.test_request_context():
        assert failure(status, "code", "message").headers.get("Retry-After") == retry


def test_a_redirect_of_the_router_is_in_the_envelope(client: FlaskClient) -> None:
    """Flask answers another spelling of a URL with HTML; a client of this service reads JSON."""
    client.application.add_url_rule("/page/", "page", lambda: "")
    answer = client.get("/page")

    assert (answer.status_code, answer.mimetype) == (308, "application/json")
    assert answer.headers["Location"].endswith("/page/")
    assert (answer.get_json()["status"], answer.get_json()["code"]) == (308, "moved")


def test_a_name_that_is_far_too_long_is_shown_in_part(client: FlaskClient) -> None:
    """An answer repeats a name that it refuses, up to 4,096 characters, so that it stays small."""
    answer = client.post("/delete", json={"files": ["x" * 4096, "y" * 4097]})

    assert [one["name"] for one in answer.get_json()["content"]] == ["x" * 4096, "y" * 4096 + "…"]


# --- signed values

SIGNER = Signer(SIGNING_KEY)


@pytest.mark.parametrize(("age", "valid"), [(2 * 24 * 3600, True), (2 * 24 * 3600 + 1, False)])
def test_an_upload_id_lasts_two_days(monkeypatch: pytest.MonkeyPatch, age: int, *, valid: bool) -> None:
    """After two days even a bucket that aborts uploads after one day has aborted it."""
    value = SIGNER.upload_id(PLAN)
    now = int(time.time())
    monkeypatch.setattr("time.time", lambda: now + age)
    if valid:
        assert SIGNER.read_upload_id(value) == PLAN
    else:
        with pytest.raises(failures.UploadNotFound):
            SIGNER.read_upload_id(value)


@pytest.mark.parametrize("content", [5, [], ["name", "upload", 10], {"name": "name"}])
def test_a_value_of_another_version(content: object) -> None:
    """What was signed with the same key in another form is not valid; it is no fault of the service."""
    with pytest.raises(failures.UploadNotFound):
        SIGNER.read_upload_id(str(URLSafeTimedSerializer(SIGNING_KEY, salt="upload").dumps(content)))
    with pytest.raises(failures.UploadNotFound):
        SIGNER.read_resumable_id(str(URLSafeTimedSerializer(SIGNING_KEY, salt="tus").dumps(content)))
    with pytest.raises(failures.InvalidCursor):
        SIGNER.read_cursor(["a"], str(URLSafeSerializer(SIGNING_KEY, salt="cursor").dumps(content)))
    with pytest.raises(failures.InvalidCursor):
        SIGNER.read_cursor(["a"], str(URLSafeSerializer(SIGNING_KEY, salt="cursor").dumps([["a"], content])))


@pytest.mark.parametrize("other", [["A", "/"], ["b", "/"], ["a", ""], ["a", "0"], []])
def test_a_cursor_of_another_query(other: list[str]) -> None:
    """A cursor is valid for its own prefix and delimiter only, whichever sorts first."""
    cursor = SIGNER.cursor(["a", "/"], "token")

    assert SIGNER.read_cursor(["a", "/"], cursor) == "token"
    with pytest.raises(failures.InvalidCursor):
        SIGNER.read_cursor(other, cursor)


def test_a_respelled_cursor() -> None:
    """Base64 has several spellings of the same bytes; only the one that was issued is valid."""
    alphabet = string.ascii_uppercase + string.ascii_lowercase + string.digits + "-_"
    orders = set()
    for number in range(200):
        cursor = SIGNER.cursor(["a"], f"token {number}")
        last = alphabet.index(cursor[-1])
        for other in alphabet[last - last % 4 : last - last % 4 + 4].replace(cursor[-1], ""):
            orders.add(other < cursor[-1])
            with pytest.raises(failures.InvalidCursor):
                SIGNER.read_cursor(["a"], cursor[:-1] + other)

    assert orders == {True, False}


# --- files


def test_a_body_is_read_in_pieces() -> None:
    """`read` returns as much as it is asked for; without a number, all that is left."""
    for size in (10, None):
        received = Body(io.BytesIO(b"0123456789"), size, 10)

        assert [received.read(3), received.read(1), received.read(0), received.read()] == [
            b"012",
            b"3",
            b"",
            b"456789",
        ]
        assert received.read() == b""


def test_the_first_piece_is_not_the_whole_body() -> None:
    """The digest is that of the whole body, so it is checked at the end of it, and not before."""
    digest = hashlib.sha256(b"0123456789").hexdigest()
    received = Body(io.BytesIO(b"0123456789"), None, 10, digest)

    assert received.read_fully(4) == b"0123"
    assert received.read_fully(100) == b"456789"


def test_an_announced_length_above_the_limit_is_refused_unread() -> None:
    """A body that is announced as too large is refused before one byte of it is read."""
    stream = io.BytesIO(b"xx")

    with pytest.raises(failures.FileTooLarge):
        Body(stream, 2, 1)
    assert stream.tell() == 0


def test_a_plan_has_a_part_at_least() -> None:
    """S3 completes no upload without a part, so an empty file has one."""
    plan = PartPlan("name", "upload", size=0, part_size=5, nonce="nonce")

    assert (plan.parts, plan.size_of(1)) == (1, 0)


# --- S3


def test_without_credentials_s3_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    """If boto3 has no credentials any more, the store says so, and raises no unexpected error."""
    session = boto3.session.Session("key", "secret", region_name="eu-west-1")
    store = s3_store(S3("none", "http://127.0.0.1:1", {}), "bucket", session)
    with pytest.raises(failures.StoreUnavailable, match="S3 cannot be reached"):
        store.check()
    monkeypatch.setattr(session, "get_credentials", lambda: None)

    with pytest.raises(failures.StoreUnavailable, match="no AWS credentials"):
        store.check()


@pytest.fixture
def far(seaweedfs_s3: S3) -> Iterator[FaultyS3]:
    with running_faulty_s3(seaweedfs_s3) as proxy:
        yield proxy


def test_how_often_a_failing_request_is_sent(seaweedfs_s3: S3, far: FaultyS3, bucket_name: str) -> None:
    """A small request that fails is sent `ATTEMPTS` times, a part of an upload once."""
    store = s3_store(far.s3, seaweedfs_s3.make_bucket(bucket_name))
    sent = []
    for call in (
        lambda: store.delete("a"),
        lambda: store.put("a", unknown(9 * MiB, 1 << 40), "", create_only=False),
    ):
        far.asked.clear()
        with (
            far.failing(AnswerError(500, "InternalError"), failing),
            pytest.raises(failures.StoreUnavailable),
        ):
            call()
        sent.append(len([asked for asked in far.asked if failing(asked)]))

    assert sent == [ATTEMPTS, 1]


def failing(asked: Asked) -> bool:
    """Deletes of files, and parts."""
    return (asked.method == "DELETE" and "uploadId" not in asked.query) or "partNumber" in asked.query


def unknown(size: int, limit: int) -> Body:
    """A body of unknown length."""
    return Body(io.BytesIO(bytes(size)), None, limit)


def test_an_abort_that_is_refused_for_a_moment(seaweedfs_s3: S3, far: FaultyS3, bucket_name: str) -> None:
    """The parts of a failed upload are removed, even if S3 refuses that for a third of a second."""
    store = s3_store(far.s3, seaweedfs_s3.make_bucket(bucket_name))
    refused: list[float] = []

    def at_first(asked: Asked) -> bool:
        if asked.method != "DELETE" or (refused and time.monotonic() > refused[0] + 0.3):
            return False
        refused.append(time.monotonic())
        return True

    with far.failing(AnswerError(403, "AccessDenied"), at_first), pytest.raises(failures.FileTooLarge):
        store.put("a", unknown(17 * MiB, 16 * MiB), "", create_only=False)

    assert refused
    assert seaweedfs_s3.open_uploads(bucket_name) == []


class Pages:
    """boto3's client, as far as it lists parts: one page for each call. An abort is refused."""

    def __init__(self, *pages: tuple[list[int], int | None]) -> None:
        self.pages = list(pages)
        self.markers: list[int] = []

    def list_parts(self, PartNumberMarker: int = 0, **_: object) -> dict[str, Any]:  # noqa: N803 - boto3's name
        self.markers.append(PartNumberMarker)
        numbers, marker = self.pages.pop(0)
        more = {} if marker is None else {"NextPartNumberMarker": marker}
        parts = [{"PartNumber": number, "ETag": '"e"', "Size": 5} for number in numbers]
        return {"Parts": parts, "IsTruncated": marker is not None, **more}

    def abort_multipart_upload(self, **_: object) -> None:
        raise ConnectionError

    def parts(self) -> S3Multipart:
        return S3Multipart(self, self, "bucket", S3Errors("bucket", "region", checks_owner=False))


def test_all_pages_of_parts_are_read() -> None:
    """A list of parts goes on from the marker of the page before it. The first page has no part before it.

    https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListParts.html
    """
    api = Pages(([1, 1000], 1000), ([1001], 2000), ([], None))

    assert [part.number for part in api.parts().list_parts(PLAN)] == [1, 1000, 1001]
    assert api.markers == [0, 1000, 2000]


@pytest.mark.parametrize("then", [int("1000"), 999])
def test_pages_of_parts_that_do_not_go_on(then: int) -> None:
    """A page whose marker is that of the page before, or an earlier one, would be read without end."""
    api = Pages(([1], int("1000")), ([2], then), ([3], None))

    with pytest.raises(failures.StoreUnavailable):
        api.parts().list_parts(PLAN)


def test_an_abort_that_keeps_failing(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is tried three times, first at once, and never holds the failed request for more than 3 seconds."""
    api = Pages(*[([], None)] * 9)
    pauses: list[float] = []
    monkeypatch.setattr("time.sleep", pauses.append)
    api.parts().abort_quietly(PLAN)

    assert pauses == [0, 0.5, 2]
    assert len(api.markers) == 3


class Versions:
    """boto3's client, as far as a restore uses it: a file of this size whose versions are on these pages."""

    def __init__(self, size: int, *pages: dict[str, Any]) -> None:
        self.size = size
        self.pages = list(pages)
        self.asked: list[dict[str, Any]] = []
        self.looked: list[str] = []
        self.copied: dict[int, str | None] = {}
        self.completed: list[int] = []

    def list_object_versions(self, **asked: Any) -> dict[str, Any]:
        self.asked.append(asked)
        return self.pages.pop(0)

    def get_bucket_versioning(self, **_: object) -> dict[str, Any]:
        return {"Status": "Enabled"}

    def head_object(self, VersionId: str, **_: object) -> dict[str, Any]:  # noqa: N803 - boto3's name
        self.looked.append(VersionId)
        return {"ContentLength": self.size, "ETag": '"e"', "ResponseMetadata": {"HTTPHeaders": {}}}

    def put_object(self, **_: object) -> dict[str, Any]:
        self.copied[0] = None
        return {"ETag": '"e"'}

    def create_multipart_upload(self, **_: object) -> dict[str, Any]:
        return {"UploadId": "upload"}

    def upload_part_copy(
        self,
        PartNumber: int,  # noqa: N803 - boto3's names
        CopySourceRange: str | None = None,  # noqa: N803 - boto3's names
        **_: object,
    ) -> dict[str, Any]:
        self.copied[PartNumber] = CopySourceRange
        return {"CopyPartResult": {"ETag": '"e"'}}

    def complete_multipart_upload(
        self,
        MultipartUpload: dict[str, Any],  # noqa: N803 - boto3's name
        **_: object,
    ) -> dict[str, Any]:
        self.completed = [part["PartNumber"] for part in MultipartUpload["Parts"]]
        return {"ETag": '"e"'}

    def restore(self) -> None:
        errors = S3Errors("bucket", "region", checks_owner=False)
        copying = S3Copying(self, self, "bucket", errors, S3Multipart(self, self, "bucket", errors))
        S3Restore(self, "bucket", errors, copying).restore("name")


def entry(version: str, second: int, *, key: str = "name", latest: bool = False) -> dict[str, Any]:
    moment = datetime(2026, 11, 26, 1, 10, second, tzinfo=UTC)
    return {"Key": key, "VersionId": version, "IsLatest": latest, "LastModified": moment}


def versions(
    markers: list[dict[str, Any]], found: list[dict[str, Any]], following: str | None = None
) -> dict[str, Any]:
    more = {} if following is None else {"NextKeyMarker": "name", "NextVersionIdMarker": following}
    return {"DeleteMarkers": markers, "Versions": found, "IsTruncated": following is not None, **more}


@pytest.mark.parametrize(
    ("size", "ranges"),
    [
        ((5 << 30) - 1, [None]),
        (5 << 30, [None]),
        (
            (5 << 30) + 1,
            [f"bytes={n << 30}-{((n + 1) << 30) - 1}" for n in range(5)] + [f"bytes={5 << 30}-{5 << 30}"],
        ),
    ],
)
def test_a_large_file_is_restored_by_parts_of_a_gibibyte(size: int, ranges: list[str | None]) -> None:
    """S3 copies at most 5 GiB at once. A larger file is copied in parts, all of it and in order.

    https://docs.aws.amazon.com/AmazonS3/latest/API/API_UploadPartCopy.html
    """
    assert 5 * MiB <= COPIED_PART_BYTES  # S3's smallest part; far smaller ones would fill the memory here
    api = Versions(size, versions([entry("m", 2, latest=True)], [entry("v", 1)]))
    api.restore()

    assert [api.copied[number] for number in sorted(api.copied)] == ranges
    assert api.completed == sorted(api.copied) == list(range(1, len(ranges) + 1))


@pytest.mark.parametrize(("marker", "lost"), [(3, True), (2, True), (1, False)])
def test_a_null_marker_of_the_same_second(marker: int, *, lost: bool) -> None:
    """The times of S3 are whole seconds: a marker of the version's second may have destroyed a newer file."""
    api = Versions(0, versions([entry("null", marker), entry("m", 4, latest=True)], [entry("v", 2)]))
    if lost:
        with pytest.raises(failures.VersioningOff):
            api.restore()
    else:
        api.restore()

    assert api.looked == ([] if lost else ["v"])


def test_a_version_after_a_page_of_markers() -> None:
    """A file that was deleted often has its versions on a later page, and only its own count."""
    longer = entry("w", 9, key="name, longer")
    api = Versions(
        0,
        versions([entry("m3", 8, latest=True), entry("m2", 7)], [], "m2"),
        versions([entry("m1", 6)], [], "m1"),
        versions([], [longer, entry("v1", 1), entry("v2", 2)]),
    )
    api.restore()

    assert api.looked == ["v2"]
    assert [asked.get("VersionIdMarker") for asked in api.asked] == [None, "m2", "m1"]


def test_the_versions_of_longer_names_are_not_read() -> None:
    """S3 lists a key before those that it begins, so a page without the name ends the search."""
    api = Versions(0, versions([entry("m", 8, key="name, longer")], [], "m"))

    with pytest.raises(failures.FileNotFound):
        api.restore()
    assert len(api.asked) == 1


class Answers(BaseHTTPRequestHandler):
    """Counts requests; answers HEAD and GET without a Content-Type, and breaks the connection of a POST."""

    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(self.command)
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.send_header("ETag", '"x"')
        self.send_header("Last-Modified", "Thu, 01 Jan 2026 00:00:00 GMT")
        self.send_header("x-amz-request-id", "1")
        self.end_headers()

    do_HEAD = do_GET  # noqa: N815 - the names that http.server calls

    def do_POST(self) -> None:
        self.asked.append(self.command)
        self.connection.shutdown(socket.SHUT_RDWR)
        self.close_connection = True


@contextmanager
def answering() -> Iterator[tuple[str, list[str]]]:
    asked: list[str] = []
    handler = type("Handler", (Answers,), {"asked": asked})
    with serving(handler) as port:
        yield f"http://127.0.0.1:{port}", asked


def test_a_file_without_a_type_is_a_stream_of_bytes() -> None:
    """The type of a file for which S3 sends none is application/octet-stream (RFC 9110, 8.3)."""
    with answering() as (url, _):
        store = s3_store(S3("stub", url, {"AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s"}), "bucket")

        assert store.open("a", Conditions(), with_body=False).content_type == "application/octet-stream"


# --- the command line


@pytest.mark.parametrize("command", ["delete", "restore"])
def test_what_must_not_be_done_twice_is_sent_once(tmp_path: Path, command: str) -> None:
    """A request whose answer is lost may have succeeded, and repeating it would hide its result."""
    with answering() as (url, asked):
        ran = Command(url, tmp_path)(command, "a")

    assert ran.status == 5, ran.err
    assert asked == ["POST"]
