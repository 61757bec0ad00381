"""Behaviour of single modules that other tests do not cover. Mutations of the code showed each case."""

from __future__ import annotations

import base64
import errno
import hashlib
import io
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import boto3.session
import pytest
from flask.testing import FlaskClient

from cli.command import Command
from s3api import failures
from s3api.auth import new_token
from s3api.bodies import Body
from s3api.file_store import Conditions, PartPlan
from s3api.s3_errors import S3Errors
from s3api.s3_multipart import S3Multipart
from s3api.s3_store import ATTEMPTS
from s3api.settings import Settings
from s3api.staging import Staging
from support.faulty_s3 import AnswerError, Asked, FaultyS3, running_faulty_s3
from support.memory_store import MemoryStore
from support.servers import S3, SIGNING_KEY
from support.stores import s3_store

MiB = 1024 * 1024
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


def test_staging_leaves_no_descriptor_open(tmp_path: Path) -> None:
    """After 50 forms as many descriptors are open as before."""
    staging = Staging(tmp_path, MiB, MiB)
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


# --- files


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


PLAN = PartPlan("name", "upload", size=10, part_size=5, nonce="nonce")


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

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def answering() -> Iterator[tuple[str, list[str]]]:
    asked: list[str] = []
    handler = type("Handler", (Answers,), {"asked": asked})
    with HTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", asked
        finally:
            server.shutdown()


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
