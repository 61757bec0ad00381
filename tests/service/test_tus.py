"""tus 1.0.0 over HTTP. Each test names the section of https://tus.io/protocols/resumable-upload."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import partial
from io import BytesIO
from typing import Any
from unittest.mock import patch

import pytest
import requests
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from s3api import resumable
from s3api.auth import new_token
from s3api.bodies import Body, Received
from s3api.failures import StoreUnavailable, UploadGone, UploadInterrupted, WrongOffset
from s3api.file_store import FileStore, MiB, Part, PartPlan
from s3api.resumable import ResumableUpload
from s3api.settings import Verb
from support.memory_store import MemoryStore
from support.raw_client import RawClient
from support.servers import S3, Service, until
from support.stores import content, put

MakeClient = Callable[..., FlaskClient]
TUS = {"Tus-Resumable": "1.0.0"}
PATCH = {"Tus_Resumable": "1.0.0", "Content_Type": "application/offset+octet-stream"}
CHUNK = {**TUS, "Content-Type": "application/offset+octet-stream"}
DATA = bytes(range(256)) * (13 * 4 * 1024)  # 13 MiB: two parts of 5 MiB, and one of 3 MiB


def b64(text: str | bytes) -> str:
    return base64.b64encode(text.encode() if isinstance(text, str) else text).decode()


def created(client: FlaskClient, size: int = len(DATA), name: str = "a.bin", **more: Any) -> str:
    """The path of a new upload."""
    answer = create(client, size, name, **more)
    assert answer.status_code == 201, answer.text
    return f"/{answer.headers['Location']}"


def create(
    client: FlaskClient, size: object, name: str = "a.bin", body: bytes = b"", **headers: str
) -> TestResponse:
    sent = {
        **(CHUNK if body else TUS),
        "Upload-Length": str(size),
        "Upload-Metadata": f"filename {b64(name)}",
        **{key.replace("_", "-"): value for key, value in headers.items()},
    }
    return client.post("/tus", headers=sent, data=body)


def append(client: FlaskClient, path: str, at: object, data: bytes, **headers: str) -> TestResponse:
    more = {key.replace("_", "-"): value for key, value in headers.items()}
    return client.patch(path, headers={**CHUNK, "Upload-Offset": str(at), **more}, data=data)


def offset(client: FlaskClient, path: str) -> str:
    answer = client.head(path, headers=TUS)
    assert answer.status_code == 200
    return answer.headers["Upload-Offset"]


# --- core protocol


def test_a_file_goes_up_in_several_requests(client: FlaskClient, store: MemoryStore) -> None:
    """Core protocol, "HEAD" and "PATCH": the offset counts whole parts; the last one stores the file."""
    made = create(client, len(DATA))
    path = f"/{made.headers['Location']}"
    first = append(client, path, 0, DATA[: 7 * MiB])
    middle = client.head(path, headers=TUS)
    second = append(client, path, 5 * MiB, DATA[5 * MiB :])

    assert (made.status_code, made.headers["Upload-Offset"]) == (201, "0")
    assert (first.status_code, first.headers["Upload-Offset"], first.data) == (204, str(5 * MiB), b"")
    assert middle.headers["Upload-Offset"] == str(5 * MiB)
    assert middle.headers["Upload-Length"] == str(len(DATA))
    assert middle.headers["Cache-Control"] == "no-store"
    assert (second.status_code, second.headers["Upload-Offset"]) == (204, str(len(DATA)))
    assert "Upload-Expires" not in second.headers
    assert content(store, "a.bin") == DATA
    assert store.uploads == {}
    assert offset(client, path) == str(len(DATA))


@pytest.mark.parametrize("at", [0, 1, 5 * MiB + 1, 10 * MiB])
def test_a_wrong_offset_is_refused(client: FlaskClient, at: int) -> None:
    """Core protocol, "PATCH": 409 for an offset that is not the current one, and nothing changes."""
    path = created(client)
    append(client, path, 0, DATA[: 5 * MiB])
    answer = append(client, path, at, DATA[at:])

    assert (answer.status_code, answer.get_json()["code"]) == (409, "wrong_offset")
    assert answer.get_json()["content"] == {"offset": 5 * MiB}
    assert offset(client, path) == str(5 * MiB)


@pytest.mark.parametrize("version", [None, "0.2.2", "1.0"])
def test_another_version_is_refused(client: FlaskClient, store: MemoryStore, version: str | None) -> None:
    """Core protocol, "Tus-Resumable" and "Tus-Version": 412 with the version, and nothing is processed."""
    path = created(client)
    headers = {"Tus-Resumable": version} if version else {}
    answers = [
        client.post("/tus", headers={**headers, "Upload-Length": "1", "Upload-Metadata": "filename YQ=="}),
        client.head(path, headers=headers),
        client.delete(path, headers=headers),
        client.patch(path, headers={**CHUNK, "Upload-Offset": "0", "Tus-Resumable": version or ""}),
    ]

    for answer in answers:
        assert (answer.status_code, answer.headers["Tus-Version"]) == (412, "1.0.0")
    assert len(store.uploads) == 1


def test_options_tell_the_abilities(make_client: MakeClient) -> None:
    """Core protocol, "OPTIONS": version, extensions, the largest size; no Tus-Resumable."""
    answer = make_client(max_file_bytes=123456).options("/tus")

    assert answer.status_code == 204
    assert answer.headers["Tus-Version"] == "1.0.0"
    assert answer.headers["Tus-Extension"] == "creation,creation-with-upload,termination,expiration,checksum"
    assert answer.headers["Tus-Max-Size"] == "123456"
    assert answer.headers["Tus-Checksum-Algorithm"].split(",")[0] == "sha1"
    assert "Tus-Resumable" not in answer.headers


def test_every_other_answer_names_the_version(make_client: MakeClient) -> None:
    """Core protocol, "Tus-Resumable": also refusals of the router and without a token."""
    client = make_client(allow_anonymous=False)
    for answer in (client.get("/tus"), client.get("/tus/x"), client.post("/tus"), client.head("/tus/x")):
        assert answer.headers["Tus-Resumable"] == "1.0.0"
    assert "Tus-Resumable" not in client.get("/list_files").headers


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Content-Type": "application/octet-stream"}, 415),
        ({"Upload-Offset": "-1"}, 400),
        ({"Upload-Offset": "1e3"}, 400),
        ({"Upload-Offset": ""}, 400),
        ({"Upload-Concat": "partial"}, 400),
        ({"If-Match": '"other"'}, 400),
        ({"X-HTTP-Method": "DELETE"}, 400),
    ],
)
def test_a_patch_that_is_not_understood_is_refused(
    client: FlaskClient, headers: Mapping[str, str], status: int
) -> None:
    """Core protocol, "PATCH": 415 for another type. A header that would be ignored is refused."""
    path = created(client, 3)
    answer = client.patch(path, headers={**CHUNK, "Upload-Offset": "0", **headers}, data=b"abc")

    assert answer.status_code == status
    assert offset(client, path) == "0"


def test_a_chunk_beyond_the_end_is_refused(client: FlaskClient, store: MemoryStore) -> None:
    """Core protocol, "PATCH": the offset never exceeds Upload-Length."""
    path = created(client, 3)

    assert append(client, path, 0, b"abcd").status_code == 413
    assert offset(client, path) == "0"
    assert append(client, path, 0, b"abc").status_code == 204
    assert append(client, path, 3, b"").status_code == 204
    assert append(client, path, 3, b"d").status_code == 413
    assert content(store, "a.bin") == b"abc"


def test_a_chunk_that_is_too_small_names_the_minimum(client: FlaskClient) -> None:
    """S3 takes no part below 5 MiB but the last; the sentence names it, as tus has no header for it."""
    path = created(client)
    answer = append(client, path, 0, DATA[: 5 * MiB - 1])

    assert (answer.status_code, answer.get_json()["code"]) == (400, "chunk_too_small")
    assert "5242880 bytes (chunkSize of tus-js-client)" in answer.get_json()["message"]
    assert offset(client, path) == "0"
    assert append(client, path, 0, b"").headers["Upload-Offset"] == "0"


@pytest.mark.parametrize("size", [0, 3])
def test_a_completed_upload_takes_no_bytes(client: FlaskClient, size: int) -> None:
    """Core protocol, "PATCH": an empty PATCH at the offset is accepted, for an empty file as for another."""
    path = created(client, size)
    append(client, path, 0, b"abc"[:size])
    answer = append(client, path, size, b"")

    assert (answer.status_code, answer.headers["Upload-Offset"]) == (204, str(size))
    assert append(client, path, size, b"d").status_code == 413
    assert append(client, path, size + 1, b"").status_code == 409


def test_an_empty_chunk_needs_no_length(client: FlaskClient, store: MemoryStore) -> None:
    """RFC 9112, section 7.1: no bytes are no bytes, in whatever way the request says so."""
    path = created(client)
    chunked = {**CHUNK, "Transfer-Encoding": "chunked"}
    sent = {**chunked, "Upload-Length": "0", "Upload-Metadata": "filename YQ=="}
    empty = client.patch(path, headers={**chunked, "Upload-Offset": "0"}, input_stream=BytesIO())
    created_empty = client.post("/tus", headers=sent, input_stream=BytesIO())

    assert (empty.status_code, empty.headers["Upload-Offset"]) == (204, "0")
    assert created_empty.status_code == 201
    assert content(store, "a") == b""


@pytest.mark.parametrize(
    ("method", "override"),
    [("DELETE", "PATCH"), ("PATCH", "DELETE"), ("PATCH", "HEAD"), ("HEAD", "DELETE"), ("DELETE", "nonsense")],
)
def test_an_override_is_never_ignored(
    client: FlaskClient, store: MemoryStore, method: str, override: str
) -> None:
    """Core protocol, "X-HTTP-Method-Override": the actual method must be ignored. Only POST obeys it here."""
    path = created(client, 3)
    headers = {**CHUNK, "Upload-Offset": "0", "X-HTTP-Method-Override": override}
    data = b"abc" if method == "PATCH" else b""

    assert client.open(path, method=method, headers=headers, data=data).status_code == 400
    assert (len(store.uploads), store.objects) == (1, {})
    assert create(client, 3, "b", X_HTTP_Method_Override="OPTIONS").status_code == 400
    assert len(store.uploads) == 1
    same = client.open(path, method=method, headers={**headers, "X-HTTP-Method-Override": method}, data=data)
    assert same.status_code == (200 if method == "HEAD" else 204)


def test_a_post_without_an_override_is_told_what_is_missing(client: FlaskClient) -> None:
    """POST is among the methods of the URL, so the refusal names the header."""
    answer = client.post(created(client, 3), headers={"Tus-Resumable": "1.0.0"})

    assert answer.status_code == 405
    assert "X-HTTP-Method-Override" in answer.get_json()["message"]


@pytest.mark.parametrize("method", ["PATCH", "DELETE"])
def test_the_method_can_be_overridden(client: FlaskClient, store: MemoryStore, method: str) -> None:
    """POST with X-HTTP-Method-Override is PATCH or DELETE, and nothing else: the core protocol of tus."""
    path = created(client, 3)
    headers = {**CHUNK, "Upload-Offset": "0", "X-HTTP-Method-Override": method}
    answer = client.post(path, headers=headers, data=b"abc" if method == "PATCH" else b"")

    assert answer.status_code == 204
    assert list(store.objects) == (["a.bin"] if method == "PATCH" else [])
    assert store.uploads == {}
    assert client.post(path, headers={**TUS, "X-HTTP-Method-Override": "GET"}).status_code == 405


def test_a_refused_method_names_the_same_methods_on_every_way(client: FlaskClient) -> None:
    """RFC 9110, section 10.2.1: Allow lists the methods of the resource, also those that were not asked."""
    path = created(client, 3)
    ways = [
        client.get(path, headers=TUS),
        client.put(path, headers=TUS),
        client.post(path, headers=TUS),
        client.post(path, headers={**TUS, "X-HTTP-Method-Override": "GET"}),
    ]

    assert [answer.status_code for answer in ways] == [405] * 4
    assert {answer.headers["Allow"] for answer in ways} == {"DELETE, HEAD, PATCH, POST"}


# --- creation


def test_metadata_names_the_file_and_comes_back(client: FlaskClient, store: MemoryStore) -> None:
    """Creation, "Upload-Metadata": Base64 values, an empty value, and HEAD repeats it as it was sent."""
    name = "ordner/ü +#?%.txt"
    metadata = f"filename {b64(name)},filetype {b64('text/markdown')}, empty,relativePath {b64('null')}"
    answer = create(client, 2, Upload_Metadata=metadata)
    path = f"/{answer.headers['Location']}"
    append(client, path, 0, b"hi")

    assert client.head(path, headers=TUS).headers["Upload-Metadata"] == metadata
    assert content(store, name) == b"hi"
    assert store.objects[name].content_type == "text/markdown"


@pytest.mark.parametrize(
    ("metadata", "reason"),
    [
        ("", "must have the key 'filename'"),
        ("filetype dGV4dC9wbGFpbg==", "must have the key 'filename'"),
        ("filename !", "not Base64"),
        ("filename YQ==,filename Yg==", "twice"),
        ("filename YQ==,,", "not a list"),
        (f"filename {b64('../x')}", "dot segment"),
        ("filename /w==", "not valid UTF-8"),
        ("filename", "empty"),
        (f"filename YQ==,filetype {b64('nonsense')}", "media type"),
        (f"filename YQ==,more {b64('x' * 4000)}", "at most 4096"),
    ],
)
def test_metadata_that_names_no_file_is_refused(
    client: FlaskClient, store: MemoryStore, metadata: str, reason: str
) -> None:
    """Creation, "Upload-Metadata", and the contract's rules for names."""
    answer = create(client, 1, Upload_Metadata=metadata)

    assert answer.status_code == 400
    assert reason in answer.get_json()["message"]
    assert store.uploads == {}


def test_metadata_has_a_longest_length(client: FlaskClient) -> None:
    """The limit keeps the URL of the upload short enough: 4096 characters are accepted, and no more."""
    metadata = f"filename YQ==,m {b64('x' * 3060)}"

    assert len(metadata) == 4096
    assert create(client, 1, Upload_Metadata=metadata).status_code == 201
    longer = create(client, 1, Upload_Metadata=metadata.replace(",m", ",mm"))
    assert "has 4097 characters; at most 4096" in longer.get_json()["message"]


def test_the_size_must_be_known_and_allowed(make_client: MakeClient, store: MemoryStore) -> None:
    """Creation, "Upload-Length", "Upload-Defer-Length" and Tus-Max-Size: refused before S3 is asked."""
    client = make_client(max_file_bytes=10)

    assert create(client, 11).status_code == 413
    for size in ("", "-1", "x", "1.5"):
        assert create(client, size).status_code == 400
    deferred = client.post(
        "/tus", headers={**TUS, "Upload-Defer-Length": "1", "Upload-Metadata": "filename YQ=="}
    )
    assert deferred.status_code == 400
    assert "Upload-Defer-Length is not supported" in deferred.get_json()["message"]
    assert store.uploads == {}


def test_an_empty_file_is_stored_at_once(client: FlaskClient, store: MemoryStore) -> None:
    """Creation, "POST": Upload-Length may be 0, and no PATCH follows."""
    path = created(client, 0)

    assert content(store, "a.bin") == b""
    assert offset(client, path) == "0"


def test_the_location_keeps_the_prefix_of_a_proxy(make_client: MakeClient) -> None:
    """Creation, "POST": a relative Location, so that it is valid below every path of a proxy."""
    client = make_client(trusted_proxy_hops=1)

    assert re.fullmatch(r"tus/[\w.-]+", create(client, 1, X_Forwarded_Prefix="/api").headers["Location"])


def test_a_creation_can_carry_the_first_bytes(client: FlaskClient, store: MemoryStore) -> None:
    """Creation With Upload: 201 with the offset, which counts whole parts, and the file if all has come."""
    part = create(client, len(DATA), body=DATA[: 6 * MiB])
    whole = create(client, 3, "b", body=b"abc")

    assert (part.status_code, part.headers["Upload-Offset"]) == (201, str(5 * MiB))
    assert (whole.status_code, whole.headers["Upload-Offset"]) == (201, "3")
    assert "Upload-Expires" not in whole.headers
    assert content(store, "b") == b"abc"
    begun, done = (answer.get_json()["message"].partition(" to ")[0] for answer in (part, whole))
    assert (begun, done) == ("Successfully created the upload of 'a.bin'", "Successfully uploaded 'b'")


@pytest.mark.parametrize("coding", ["chunked", "Chunked"])
def test_the_first_bytes_can_have_no_length(client: FlaskClient, store: MemoryStore, coding: str) -> None:
    """RFC 9112, section 7.1: transfer codings are case-insensitive. The whole body is read."""
    sent = {**CHUNK, "Upload-Length": "3", "Upload-Metadata": "filename YQ==", "Transfer-Encoding": coding}
    answer = client.post("/tus", headers=sent, input_stream=BytesIO(b"abc"))

    assert (answer.status_code, answer.headers["Upload-Offset"]) == (201, "3")
    assert content(store, "a") == b"abc"


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"too small", {}, 400),
        (b"x", {"Content-Type": "text/plain"}, 415),
        (DATA[: 5 * MiB], {"Upload-Checksum": f"md5 {b64(b'0' * 16)}"}, 460),
        (DATA + b"x", {}, 413),
    ],
)
def test_a_refused_creation_leaves_nothing(
    client: FlaskClient, store: MemoryStore, body: bytes, headers: Mapping[str, str], status: int
) -> None:
    """Creation With Upload: the client does not know the upload, so nothing of it stays."""
    sent = {**CHUNK, "Upload-Length": str(len(DATA)), "Upload-Metadata": "filename YQ==", **headers}

    assert client.post("/tus", headers=sent, data=body).status_code == status
    assert (store.uploads, store.objects) == ({}, {})


@pytest.mark.parametrize("when", ["before", "meanwhile"])
def test_a_creation_can_forbid_to_replace_a_file(client: FlaskClient, store: MemoryStore, when: str) -> None:
    """RFC 9110, section 13.1.2: `If-None-Match: *` of the creation holds for the completion, by S3's own."""
    path = ""
    if when == "meanwhile":
        path = created(client, 3, If_None_Match="*")
    put(store, "a.bin", b"other")
    refused = (
        append(client, path, 0, b"abc", If_None_Match="*") if path else create(client, 3, If_None_Match="*")
    )

    assert refused.status_code == 412
    assert content(store, "a.bin") == b"other"
    assert store.uploads == {}
    if path:
        assert client.head(path, headers=TUS).status_code == 410


def test_a_creation_can_name_the_file_that_it_replaces(client: FlaskClient, store: MemoryStore) -> None:
    """RFC 9110, section 13.1.1: `If-Match` holds when the upload is created, and when S3 stores the file."""
    old = f'"{put(store, "a.bin", b"old").etag}"'
    refused = [create(client, 3, If_Match='"0123456789abcdef"'), create(client, 3, "none", If_Match=old)]
    path = created(client, 3, If_Match=old)
    newer = f'"{put(store, "a.bin", b"newer").etag}"'
    refused.append(append(client, path, 0, b"abc", If_Match=old))

    assert [answer.status_code for answer in refused] == [412] * 3
    assert (content(store, "a.bin"), store.uploads) == (b"newer", {})
    assert append(client, created(client, 3, If_Match=newer), 0, b"abc").status_code == 204
    assert content(store, "a.bin") == b"abc"


# --- termination and expiration


def test_a_terminated_upload_is_gone(client: FlaskClient, store: MemoryStore) -> None:
    """Termination: 204, then 410 for every request; the parts are deleted."""
    path = created(client)
    append(client, path, 0, DATA[: 5 * MiB])
    ended = client.delete(path, headers=TUS)

    assert (ended.status_code, store.uploads) == (204, {})
    assert client.head(path, headers=TUS).status_code == 410
    assert append(client, path, 5 * MiB, DATA[5 * MiB :]).status_code == 410
    assert client.delete(path, headers=TUS).status_code == 410


def test_a_completed_upload_cannot_be_terminated(client: FlaskClient, store: MemoryStore) -> None:
    """Termination: the file stays, because deleting a file needs the verb `delete`."""
    path = created(client, 3)
    append(client, path, 0, b"abc")

    assert client.delete(path, headers=TUS).get_json()["code"] == "upload_completed"
    assert content(store, "a.bin") == b"abc"


def test_an_upload_expires_after_a_day(client: FlaskClient) -> None:
    """Expiration, "Upload-Expires": in the answers to POST, PATCH and HEAD; then 410."""
    answer = create(client, len(DATA))
    path = f"/{answer.headers['Location']}"
    moments = [
        parsedate_to_datetime(one.headers["Upload-Expires"])
        for one in (answer, append(client, path, 0, DATA[: 5 * MiB]), client.head(path, headers=TUS))
    ]
    with patch("itsdangerous.timed.TimestampSigner.get_timestamp", lambda _: int(moments[0].timestamp()) + 2):
        expired = [client.head(path, headers=TUS), append(client, path, 5 * MiB, DATA[5 * MiB :])]

    assert len(set(moments)) == 1
    assert timedelta(hours=23) < moments[0] - datetime.now(UTC) <= timedelta(hours=24)
    assert [one.status_code for one in expired] == [410, 410]


@pytest.mark.parametrize("path", ["/tus/x", "/tus/a.b.c"])
def test_an_unknown_url_is_not_found(client: FlaskClient, path: str) -> None:
    """Core protocol, "HEAD": 404 without Upload-Offset. An id of /uploads is none of /tus either."""
    planned = client.post("/uploads", json={"name": "a", "size": 5 * MiB, "multipart": True})
    for one in (path, f"/tus/{planned.get_json()['content']['id']}"):
        answer = client.head(one, headers=TUS)
        assert answer.status_code == 404
        assert "Upload-Offset" not in answer.headers


# --- checksum


@pytest.mark.parametrize("algorithm", ["sha1", "md5", "sha256", "sha512"])
def test_a_checksum_is_verified(client: FlaskClient, store: MemoryStore, algorithm: str) -> None:
    """Checksum: 460 if it does not match, and nothing of the chunk is stored."""
    path = created(client, len(DATA[: 8 * MiB]))
    part, rest = DATA[: 5 * MiB], DATA[5 * MiB : 8 * MiB]
    right = [f"{algorithm} {b64(hashlib.new(algorithm, data).digest())}" for data in (part, rest)]
    wrong = append(client, path, 0, part, Upload_Checksum=right[1])

    assert (wrong.status_code, wrong.get_json()["code"]) == (460, "checksum_mismatch")
    assert offset(client, path) == "0"
    assert append(client, path, 0, part, Upload_Checksum=right[0]).status_code == 204
    assert append(client, path, 5 * MiB, rest, Upload_Checksum=right[0]).status_code == 460
    assert append(client, path, 5 * MiB, rest, Upload_Checksum=right[1]).status_code == 204
    assert content(store, "a.bin") == DATA[: 8 * MiB]


@pytest.mark.parametrize(
    "value",
    ["crc32 AAAA", "sha1", "sha1 ", "sha1 !", "sha1 AAAA", f"sha1 !{b64(hashlib.sha1(b'abc').digest())}"],
)
def test_a_checksum_that_cannot_be_checked_is_refused(client: FlaskClient, value: str) -> None:
    """Checksum, "Upload-Checksum": 400 for an unknown algorithm or a malformed value."""
    path = created(client, 3)

    assert append(client, path, 0, b"abc", Upload_Checksum=value).status_code == 400
    assert offset(client, path) == "0"


@pytest.mark.parametrize("sent", [len(DATA), 5 * MiB - 1])
def test_a_checksum_covers_one_part(client: FlaskClient, sent: int) -> None:
    """Checksum: bytes of a refused chunk must be discarded, and S3 cannot take back a part.

    The answer names the exact size, for a chunk that is too large and for one that is too small.
    """
    path = created(client)
    right = f"sha1 {b64(hashlib.sha1(DATA[:sent]).digest())}"
    answer = append(client, path, 0, DATA[:sent], Upload_Checksum=right)

    assert (answer.status_code, answer.get_json()["code"]) == (400, "chunk_not_one_part")
    assert "exactly 5242880 bytes" in answer.get_json()["message"]
    assert answer.get_json()["content"] == {"exactly": 5 * MiB}
    assert offset(client, path) == "0"


@pytest.mark.parametrize("received", [0, 5 * MiB, len(DATA)], ids=["new", "begun", "complete"])
def test_the_checksum_of_an_empty_chunk_is_verified(client: FlaskClient, received: int) -> None:
    """Checksum: 460 if it does not match, also for no bytes."""
    path = created(client)
    append(client, path, 0, DATA[:received])
    wrong, right = (f"sha1 {b64(hashlib.sha1(data).digest())}" for data in (b"x", b""))

    def status(method: str, path: str, checksum: str, **headers: object) -> int:
        sent = {key.replace("_", "-"): str(value) for key, value in headers.items()}
        return client.open(
            path,
            method=method,
            headers={**CHUNK, "Upload-Checksum": checksum, **sent},
            environ_overrides={"CONTENT_LENGTH": "0"},  # the test client leaves the length of no bytes out
        ).status_code

    assert status("PATCH", path, wrong, Upload_Offset=received) == 460
    assert status("PATCH", path, right, Upload_Offset=received) == 204
    of_new = {"Upload_Length": 3, "Upload_Metadata": f"filename {b64('b')}"}
    assert status("POST", "/tus", wrong, **of_new) == 460
    assert status("POST", "/tus", right, **of_new) == 201


def test_only_a_checksum_that_is_asked_for_is_computed(client: FlaskClient, store: MemoryStore) -> None:
    """SHA-256 of a GiB takes 0.6 s of CPU. Nothing keeps it, so only Upload-Checksum makes it necessary."""
    path = created(client)
    with patch("s3api.bodies.hashlib.sha256") as computed:
        assert append(client, path, 0, DATA).status_code == 204

    computed.return_value.update.assert_not_called()
    assert content(store, "a.bin") == DATA


# --- the limits of S3


@pytest.mark.parametrize(
    ("size", "part"),
    [
        (10_000 * 5 * MiB, 5 * MiB),
        (10_000 * 5 * MiB + 1, 6 * MiB),
        (5 * 1024 * 1024 * MiB, 525 * MiB),
    ],
)
def test_a_file_never_needs_more_parts_than_s3_takes(make_client: MakeClient, size: int, part: int) -> None:
    """10,000 parts of 5 MiB to 5 GiB: https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html.

    The size of the parts follows from Upload-Length. A chunk that would need smaller parts names the size,
    before any part is stored. A file that is too large for S3 is refused when it is created.
    """
    client = make_client(max_file_bytes=5 * 1024 * 1024 * MiB)
    answer = append(client, created(client, size), 0, b"x" * (5 * MiB - 1))

    assert (answer.status_code, answer.get_json()["content"]) == (400, {"least": part})
    assert f"Send chunks of at least {part} bytes" in answer.get_json()["message"]
    assert -(-size // part) <= 10_000
    refused = create(client, 5 * 1024 * 1024 * MiB + 1)
    assert (refused.status_code, refused.get_json()["code"]) == (413, "file_too_large")


# --- tokens


def test_an_upload_needs_the_verb_and_the_prefix(make_client: MakeClient) -> None:
    """Each request needs `write` for the name of the file; a signed URL alone is not enough."""
    granted: dict[str, tuple[set[Verb], str]] = {
        "writer": ({"write"}, "team/"),
        "other": ({"write"}, "else/"),
        "reader": ({"read", "list"}, ""),
    }
    made = {name: new_token(name, frozenset(verbs), prefix) for name, (verbs, prefix) in granted.items()}
    client = make_client(
        allow_anonymous=False,
        api_tokens=json.dumps([json.loads(entry.model_dump_json()) for _, entry in made.values()]),
    )

    def bearer(name: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {made[name][0]}"}

    path = created(client, 3, "team/a", **bearer("writer"))
    for who, status in (("other", 403), ("reader", 403)):
        assert create(client, 3, "team/a", b"", **bearer(who)).status_code == status
        assert client.head(path, headers={**TUS, **bearer(who)}).status_code == status
        assert append(client, path, 0, b"abc", **bearer(who)).status_code == status
        assert client.delete(path, headers={**TUS, **bearer(who)}).status_code == status
    assert client.head(path, headers=TUS).status_code == 401
    assert client.options("/tus", headers=bearer("reader")).status_code == 403
    assert append(client, path, 0, b"abc", **bearer("writer")).status_code == 204


# --- two clients, and what S3 does meanwhile


def upload_of(store: FileStore, size: int = len(DATA)) -> ResumableUpload:
    upload, _ = resumable.create(
        store, "a.bin", size, "text/plain", create_only=False, if_match=None, max_bytes=1 << 40, body=None
    )
    return upload


class Interrupting(BytesIO):
    """A body that does something else before a read beyond `at`."""

    def __init__(self, data: bytes, at: int, action: Callable[[], object]) -> None:
        super().__init__(data)
        self._at, self._action = at, [action]

    def read(self, size: int | None = -1, /) -> bytes:
        if self._action and self.tell() >= self._at:
            self._action.pop()()
        return super().read(size)


def test_of_two_clients_in_one_part_one_loses(store: MemoryStore) -> None:
    """Another request stores the part first: it stays, and the slower client gets 409 before its end."""
    upload = upload_of(store)
    fast = Received(BytesIO(DATA[: 5 * MiB]), 5 * MiB)
    slow = Interrupting(b"x" * len(DATA), 4 * MiB, lambda: resumable.append(store, upload, 0, fast))
    with pytest.raises(WrongOffset):
        resumable.append(store, upload, 0, Received(slow, len(DATA)))

    assert resumable.offset(store, upload) == 5 * MiB
    resumable.append(store, upload, 5 * MiB, Received(BytesIO(DATA[5 * MiB :]), 8 * MiB))
    assert content(store, "a.bin") == DATA


@pytest.mark.parametrize("end", ["completed", "terminated"])
def test_an_upload_that_another_request_ends(store: MemoryStore, end: str) -> None:
    """A request that sends bytes meanwhile learns that all bytes are there, or that the upload is gone."""
    upload = upload_of(store)

    def other() -> None:
        if end == "completed":
            resumable.append(store, upload, 0, Received(BytesIO(DATA), len(DATA)))
        else:
            resumable.terminate(store, upload)

    slow = Received(Interrupting(DATA, 4 * MiB, other), len(DATA))
    with pytest.raises(WrongOffset if end == "completed" else UploadGone) as ended:
        resumable.append(store, upload, 0, slow)

    assert ended.value.details == ({"offset": len(DATA)} if end == "completed" else None)


def test_an_append_asks_for_the_newest_parts_only(store: MemoryStore) -> None:
    """A file can have 10,000 parts, and S3 lists 1,000 in an answer: a list of all takes ten requests."""
    upload = upload_of(store, 30 * MiB)
    listed: list[tuple[int, int]] = []

    class Listed(MemoryStore):
        def list_parts(self, plan: PartPlan, *, after: int = 0) -> Sequence[Part]:
            parts = super().list_parts(plan, after=after)
            listed.append((after, len(parts)))
            return parts

    asked = Listed(uploads=store.uploads, objects=store.objects)
    resumable.append(asked, upload, 0, Received(BytesIO(bytes(25 * MiB)), 25 * MiB))

    # The offset, then for each part: the one before it, and after the last part: this one.
    assert listed == [(0, 0), (0, 0), (0, 1), (1, 1), (2, 1), (3, 1), (4, 1)]


@pytest.mark.parametrize(("mine", "other"), [(b"x", b"y"), (b"y", b"x")])
def test_a_replaced_part_ends_the_request(store: MemoryStore, mine: bytes, other: bytes) -> None:
    """Two requests that write one part within the same moment: the one whose part is not kept gets 409."""
    upload = upload_of(store)

    class Racing(MemoryStore):
        def put_part(self, plan: PartPlan, number: int, body: Body) -> Part:
            part = store.put_part(plan, number, body)
            store.uploads[plan.upload_id].parts[number] = other * plan.size_of(number)
            return part

        def list_parts(self, plan: PartPlan, *, after: int = 0) -> Sequence[Part]:
            return store.list_parts(plan, after=after)

    with pytest.raises(WrongOffset, match="at the same time"):
        resumable.append(Racing(), upload, 0, Received(BytesIO(mine * 5 * MiB), 5 * MiB))


def test_an_interruption_loses_one_part_at_most(store: MemoryStore) -> None:
    """Core protocol, "PATCH": a connection that breaks within the second part leaves the first one."""
    upload = upload_of(store)
    with pytest.raises(UploadInterrupted, match="5242880 bytes of this request were stored"):
        resumable.append(store, upload, 0, Received(BytesIO(DATA[: 9 * MiB]), len(DATA)))

    assert resumable.offset(store, upload) == 5 * MiB


@pytest.mark.parametrize("sent", [5 * MiB, 6 * MiB, 10 * MiB, 13 * MiB])
def test_a_chunk_of_unknown_length_is_stored_in_whole_parts(store: MemoryStore, sent: int) -> None:
    """RFC 9112, section 7.1: tus-java-client sends its chunks without a Content-Length."""
    upload = upload_of(store)
    now = resumable.append(store, upload, 0, Received(BytesIO(DATA[:sent]), None))

    assert now == (len(DATA) if sent == len(DATA) else sent // (5 * MiB) * 5 * MiB)
    assert resumable.offset(store, upload) == now


def test_the_last_request_can_be_finished_later(store: MemoryStore) -> None:
    """S3 has all parts, but fails to store the file: HEAD stores it before it tells the offset."""
    upload = upload_of(store, 3)

    class Failing(MemoryStore):
        def complete_parts(self, *_: object, **__: object) -> str:
            raise StoreUnavailable("S3 cannot be reached; try again")

    failing = Failing(uploads=store.uploads, objects=store.objects)
    with pytest.raises(StoreUnavailable):
        resumable.append(failing, upload, 0, Received(BytesIO(b"abc"), 3))
    with pytest.raises(StoreUnavailable):
        resumable.offset(failing, upload)

    assert "a.bin" not in store.objects
    assert resumable.offset(store, upload) == 3
    assert content(store, "a.bin") == b"abc"


# --- over S3


def test_s3_keeps_what_was_received(
    seaweedfs_service: Service, ministack_service: Service, seaweedfs_s3: S3, ministack_s3: S3
) -> None:
    """Two requests with a break between them, an empty file, and a termination, on two kinds of S3."""
    for service, s3 in ((seaweedfs_service, seaweedfs_s3), (ministack_service, ministack_s3)):
        url = create_at(service, "tus/ü.bin", len(DATA))
        with RawClient(service.url) as client:
            client.begin("PATCH", url, **PATCH, Upload_Offset=0, Content_Length=len(DATA))
            client.send(DATA[: 9 * MiB])
            until(partial(is_at, service, url, 5 * MiB), "S3 has the first part", 60)
            client.vanish()
        ended = requests.patch(
            service.at(url), DATA[5 * MiB :], headers={**CHUNK, "Upload-Offset": str(5 * MiB)}, timeout=60
        )
        create_at(service, "tus/empty", 0)
        other = create_at(service, "tus/other", len(DATA))

        assert ended.status_code == 204, ended.text
        assert ended.headers["Upload-Offset"] == str(len(DATA))
        assert requests.get(service.at("/files/tus/%C3%BC.bin"), timeout=60).content == DATA
        assert requests.get(service.at("/files/tus/empty"), timeout=60).content == b""
        assert requests.delete(service.at(other), headers=TUS, timeout=60).status_code == 204
        assert requests.head(service.at(other), headers=TUS, timeout=60).status_code == 410
        opened = s3.client().list_multipart_uploads(Bucket="day02-shared", Prefix="tus/")
        assert opened.get("Uploads", []) == []


def create_at(service: Service, name: str, size: int) -> str:
    headers = {**TUS, "Upload-Length": str(size), "Upload-Metadata": f"filename {b64(name)}"}
    answer = requests.post(service.at("/tus"), headers=headers, timeout=60)
    assert answer.status_code == 201, answer.text
    return f"/{answer.headers['Location']}"


def is_at(service: Service, url: str, offset: int) -> bool:
    return requests.head(service.at(url), headers=TUS, timeout=60).headers["Upload-Offset"] == str(offset)
