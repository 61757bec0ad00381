"""Single crafted requests against the service under gunicorn: what they cost, and what the log keeps."""

from __future__ import annotations

import json
import re
import shutil
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests

from s3api import json_bodies
from s3api.auth import ALL_VERBS, new_token
from support.raw_client import Answer, RawClient
from support.servers import S3, Service, running_service, until

MiB = 1024 * 1024
LISTING, LISTING_ENTRY = new_token("listing", frozenset({"list"}), "")
EVERYTHING, EVERYTHING_ENTRY = new_token("everything", ALL_VERBS, "")


def fill(first: bytes, values: Callable[[int], bytes], last: bytes, size: int) -> bytes:
    """A JSON body of about this many bytes."""
    each = len(values(1_000_000)) + 1
    return first + b",".join(values(n) for n in range(size // each)) + last


def members(size: int) -> bytes:
    return fill(b"{", lambda n: b'"%07d":0' % n, b"}", size)


def arrays(size: int) -> bytes:
    return fill(b'{"files":[', lambda _: b"[]", b"]}", size)


def names(size: int) -> bytes:
    return fill(b'{"files":[', lambda _: b'"a"', b"]}", size)


def one_name(size: int) -> bytes:
    """A text that Python holds with four bytes for each letter, because one letter needs them."""
    return b'{"files":["' + "😀".encode() + b"a" * (size - 20) + b'"]}'


@pytest.fixture(scope="module")
def service(ministack_s3: S3, make_service: Callable[..., Service]) -> Service:
    bucket = ministack_s3.make_bucket("day02-attacks")
    entries = json.dumps([json.loads(one.model_dump_json()) for one in (LISTING_ENTRY, EVERYTHING_ENTRY)])
    return make_service(ministack_s3, bucket, api_tokens=entries, allow_anonymous=False)


def worker_of(service: Service) -> int:
    children = Path(f"/proc/{service.process.pid}/task/{service.process.pid}/children").read_text().split()
    return int(children[0])


class Peak:
    """The highest memory of the worker since this object was made, in MiB above its memory at that time."""

    def __init__(self, service: Service) -> None:
        self._process = Path(f"/proc/{worker_of(service)}")
        (self._process / "clear_refs").write_text("5")  # proc(5): resets VmHWM to what is held now
        self._before = self._read("VmRSS")

    def _read(self, name: str) -> float:
        found = re.search(rf"{name}:\s+(\d+) kB", (self._process / "status").read_text())
        assert found
        return int(found[1]) / 1024

    def above(self) -> float:
        return self._read("VmHWM") - self._before


def delete(service: Service, token: str, body: bytes) -> requests.Response:
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    return requests.post(f"{service.url}/delete", data=body, headers=headers, timeout=120)


# --- what a request costs


@pytest.mark.parametrize("token", [LISTING, EVERYTHING], ids=["list-only", "everything"])
@pytest.mark.parametrize("body", [members, arrays, names, one_name])
@pytest.mark.parametrize("size", [json_bodies.LARGE - 100, 8 * MiB], ids=["3 MiB", "8 MiB"])
def test_a_body_costs_little(service: Service, body: Callable[[int], bytes], token: str, size: int) -> None:
    """No JSON body costs more than 40 MiB, with any token; the worker and what is in flight survive."""
    delete(service, token, b'{"files":["warm"]}')
    worker, data = worker_of(service), body(size)
    with RawClient(service.url) as in_flight:
        in_flight.begin("PUT", "/upload/in-flight", Authorization=f"Bearer {EVERYTHING}", Content_Length=10)
        in_flight.send(b"12345")
        peak = Peak(service)
        answer = delete(service, token, data)

        assert peak.above() < 40
        # A name that is too long is a result of a bulk delete, as is every name that is not allowed.
        accepted = 200 if body is one_name else 400
        expected = 403 if token == LISTING else 413 if size == 8 * MiB else accepted
        assert answer.status_code == expected, answer.text
        assert len(answer.content) < 32 * 1024
        in_flight.send(b"67890")
        assert in_flight.answer().status == 200
    assert worker_of(service) == worker


def test_many_large_bodies_cost_little(service: Service) -> None:
    """Of twenty of the costliest bodies at once, two are parsed; the others are answered 503."""
    data = one_name(json_bodies.LARGE - 100)
    peak = Peak(service)
    with ThreadPoolExecutor(20) as pool:
        statuses = [pool.submit(delete, service, EVERYTHING, data) for _ in range(20)]
        answers = [one.result() for one in statuses]

    assert {answer.status_code for answer in answers} <= {200, 503}
    assert max(len(answer.content) for answer in answers) < 32 * 1024
    assert all("Retry-After" in answer.headers for answer in answers if answer.status_code == 503)
    assert peak.above() < 100


def test_a_refused_body_is_not_waited_for(service: Service) -> None:
    """A caller who may not delete is refused even if the body never arrives."""
    with RawClient(service.url) as client:
        client.begin(
            "POST",
            "/delete",
            Authorization=f"Bearer {LISTING}",
            Content_Type="application/json",
            Content_Length=3 * MiB,
        )
        answer = client.answer(seconds=10)

    assert (answer.status, answer.json()["code"]) == (403, "forbidden")


def test_the_fields_of_a_form_cost_little(service: Service) -> None:
    """The limit applies to all fields of a form together, not to each field."""
    part = b'--b\r\nContent-Disposition: form-data; name="other"\r\n\r\n%b\r\n' % (b"x" * 250_000)
    headers = {"Authorization": f"Bearer {EVERYTHING}", "Content-Type": "multipart/form-data; boundary=b"}
    body = part * 90 + b"--b--\r\n"
    requests.post(f"{service.url}/upload", data=b"", headers=headers, timeout=60)
    peak = Peak(service)
    answer = requests.post(f"{service.url}/upload", data=body, headers=headers, timeout=60)

    assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")
    assert peak.above() < 10


# --- what is not HTTP

SECRET = "s3cr3t-value-of-a-header"
MALFORMED = {
    "a space before the colon": b"GET / HTTP/1.1\r\nHost: localhost\r\nAuthorization : Bearer %b\r\n\r\n",
    "a header without a colon": b"GET / HTTP/1.1\r\nHost: localhost\r\nBearer %b\r\n\r\n",
    "a control character": b"GET / HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer \x01%b\r\n\r\n",
    "a folded line": b"GET / HTTP/1.1\r\nHost: localhost\r\nX: y\r\n Bearer %b\r\n\r\n",
    "a request line": b"GET /?signature=%b nonsense here HTTP/1.1\r\n\r\n",
    "a method": b"%b /livez\x00 HTTP/1.1\r\n\r\n",
    "a version": b"GET /?signature=%b HTTP/9.9\r\n\r\n",
    "a length": b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: %b\r\n\r\n",
    "a coding": b"GET / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: %b\r\n\r\n",
    "an expectation": b"GET / HTTP/1.1\r\nHost: localhost\r\nExpect: %b\r\n\r\n",
    "a long line": b"GET /%b" + b"x" * 9000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "a long header": b"GET / HTTP/1.1\r\nHost: localhost\r\nX: %b" + b"x" * 70_000 + b"\r\n\r\n",
    "a chunk": b"PUT /upload/a HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n"
    b"Authorization: Bearer " + EVERYTHING.encode() + b"\r\n\r\n%b\r\n",
}


def send(service: Service, data: bytes) -> Answer:
    with RawClient(service.url) as client:
        client.send(data)
        client.socket.shutdown(socket.SHUT_WR)
        return client.answer()


@pytest.mark.parametrize("kind", list(MALFORMED))
def test_a_malformed_request_leaves_no_value(service: Service, kind: str) -> None:
    """A malformed request is refused in the envelope; neither the answer nor the log has its values."""
    answer = send(service, MALFORMED[kind] % SECRET.encode())
    body = answer.json()

    assert (answer.status, body["status"]) in [(s, s) for s in (400, 414, 417, 431, 501, 505)], body
    assert body["request_id"] == answer.headers["X-Request-Id"]
    assert SECRET.encode() not in answer.body
    until(lambda: body["request_id"] in service.log_path.read_text(), "the log has the request")
    assert SECRET not in service.log_path.read_text()
    assert requests.get(f"{service.url}/livez", timeout=10).status_code == 200


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET /livez HTTP/1.1\r\n\r\n", 400),
        (b"GET /livez HTTP/1.1\r\nHost:\r\n\r\n", 400),
        (b"GET /livez HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n", 400),
        (b"GET /livez HTTP/1.0\r\n\r\n", 200),
        (b"GET / HTTP/1.1\r\nHost: evil.test\r\n\r\n", 421),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", 200),
        # RFC 9112, section 3.2.2: the host of a target in absolute form is the one that counts.
        (b"GET http://evil.test/ HTTP/1.1\r\nHost: localhost\r\n\r\n", 421),
        (b"GET http://localhost/ HTTP/1.1\r\nHost: localhost\r\n\r\n", 200),
    ],
)
def test_the_host_on_the_wire(service: Service, head: bytes, status: int) -> None:
    """RFC 9112, section 3.2: one valid Host with HTTP/1.1, or 400; on loopback it is a name of loopback's."""
    answer = send(service, head)

    assert answer.status == status
    assert answer.json()["status"] == status


# What comes after the colon, as bytes that no client of Python's would send.
DECODED = {
    "Content-Digest": [b"sha-256=:\xff:", b"sha-256=:" + b"A" * 4000 + b":"],
    "Content-Type": [b"text/\xff", b"text/plain;charset=utf-8,text/html", b"a/" + b"b" * 8000],
    "If-None-Match": [b"\xff", b'"' + b"x" * 8000 + b'"'],
    "If-Match": [b"\xff"],
}


@pytest.mark.parametrize("header", ["Upload-Metadata: filename ", "Upload-Checksum: sha1 "])
def test_a_header_of_tus_of_any_bytes_is_400(service: Service, header: str) -> None:
    """Text that is not ASCII is not Base64, and no failure of the service."""
    head = (
        f"POST /tus HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {EVERYTHING}\r\n"
        "Tus-Resumable: 1.0.0\r\n"
        "Content-Type: application/offset+octet-stream\r\nContent-Length: 1\r\nUpload-Length: 1\r\n"
    )
    if "Metadata" not in header:
        head += "Upload-Metadata: filename YQ==\r\n"
    answer = send(service, f"{head}{header}".encode() + b"\xe9\r\n\r\nx")

    assert answer.status == 400, answer.body


@pytest.mark.parametrize("header", list(DECODED))
def test_a_header_of_any_bytes_is_400(service: Service, header: str) -> None:
    """Bytes that are not ASCII, and values that are too long, are refused before S3 is asked."""
    for value in DECODED[header]:
        head = f"PUT /upload/a HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {EVERYTHING}\r\n"
        answer = send(service, f"{head}Content-Length: 1\r\n{header}: ".encode() + value + b"\r\n\r\nx")

        assert answer.status == 400, (value, answer.body)
        assert len(answer.body) < 1000


@pytest.mark.parametrize("header", ["If-None-Match", "If-Match", "If-Range", "Range", "If-Modified-Since"])
@pytest.mark.parametrize(
    "value", [b"\xff", b'"\xe9"', b"'", b"bytes=" + b"9" * 5000 + b"-", b'"' + b"x" * 4000]
)
def test_a_condition_of_any_bytes_is_no_failure(service: Service, header: str, value: bytes) -> None:
    """A condition that is not an ETag or a date is true, false or ignored, on a real S3 too."""
    authorized = {"Authorization": f"Bearer {EVERYTHING}"}
    requests.put(f"{service.url}/upload/read", data=b"0123456789", headers=authorized, timeout=60)
    head = f"GET /files/read HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {EVERYTHING}\r\n"
    also = "Range: bytes=0-1\r\n" if header == "If-Range" else ""
    answer = send(service, f"{head}{also}{header}: ".encode() + value + b"\r\n\r\n")

    assert answer.status in (200, 206, 304, 400, 412, 416), answer.body


# --- the log


def test_an_upload_id_is_never_in_the_log(service: Service) -> None:
    """The log has no upload id, even if the method, the end of the URL or its escapes are wrong."""
    authorized = {"Authorization": f"Bearer {EVERYTHING}"}
    wanted = {"name": "planned", "size": 100 * MiB}
    plan = requests.post(f"{service.url}/uploads", json=wanted, headers=authorized, timeout=60).json()[
        "content"
    ]
    upload = plan["id"]
    calls = [
        ("GET", f"/uploads/{upload}/parts"),
        ("PATCH", f"/uploads/{upload}"),
        ("GET", f"/uploads/{upload}"),
        ("GET", f"/uploads/{upload}/complete"),
        ("POST", f"/uploads/{upload}/nothing"),
        ("GET", f"//uploads//{upload}"),
        ("GET", f"/UPLOADS/{upload}"),
        ("GET", f"/uploads%2f{upload}"),
        ("GET", f"/uploads%252f{upload}"),
        ("GET", f"/{upload}/parts"),
        ("DELETE", f"/uploads/{upload}"),
        ("GET", f"/files/{upload}"),
        ("GET", f"/ui/{upload}"),
        ("DELETE", f"/delete/{upload}"),
    ]
    answered = []
    for method, path in calls:
        with RawClient(service.url) as client:
            client.begin(method, path, Authorization=authorized["Authorization"])
            answered.append(client.answer().headers["X-Request-Id"])
    until(lambda: all(one in service.log_path.read_text() for one in answered), "the log has the requests")

    assert upload not in service.log_path.read_text()
    assert upload.rpartition(".")[2] not in service.log_path.read_text()


def test_a_line_of_the_log_does_not_grow(service: Service) -> None:
    """The longest path, query and request id make a log line of a few kilobytes."""
    headers = {"X-Request-Id": "x" * 8000, "User-Agent": "y" * 8000}
    answer = requests.get(f"{service.url}/{'z' * 7000}?a={'q' * 500}", headers=headers, timeout=10)
    request_id = answer.headers["X-Request-Id"]
    lines = until(
        lambda: [line for line in service.log_path.read_text().splitlines() if request_id in line], "a line"
    )

    assert answer.status_code == 404
    assert [len(line) < 3000 for line in lines] == [True]


@pytest.fixture
def console(ministack_s3: S3, ministack_service: Service, tmp_path: Path) -> Iterator[Service]:
    """A service with the log format for people."""
    assert ministack_service
    with running_service(ministack_s3, "day02-shared", tmp_path, log_format="console") as service:
        yield service


ESCAPES = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202e\u2028\r\nforged=line\x7f"


def test_no_control_character_reaches_a_terminal(console: Service) -> None:
    """A path with terminal commands or line breaks is escaped in the log for people."""
    path = "".join(f"%{byte:02x}" for byte in ESCAPES.encode())
    parts = urlsplit(console.url)
    for route in (f"/files/{path}", f"/{path}", f"/uploads/{path}/parts"):
        with socket.create_connection((parts.hostname, parts.port), timeout=30) as connection:
            connection.sendall(f"GET {route} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            assert b" 40" in connection.recv(100)
    send(console, b"GET / HTTP/1.1\r\nHost: localhost\r\nX\x1b: y\r\n\r\n")
    log = until(
        lambda: (text := console.log_path.read_text()).count("owned") >= 2 and "malformed" in text and text,
        "the log has the requests",
    )

    assert [c for c in log if not c.isprintable() and c != "\n"] == []
    assert not [line for line in log.splitlines() if line.startswith("forged")]


def test_a_trace_for_people_shows_no_values(console: Service) -> None:
    """The trace of an unexpected failure has no values of variables, because tokens can be among them."""
    shutil.rmtree(console.staging)
    console.staging.write_text("no directory any more")
    answer = requests.post(f"{console.url}/upload", files={"file": (SECRET, b"x")}, timeout=30)
    log = until(
        lambda: "Traceback" in (text := console.log_path.read_text()) and text, "the log has the trace"
    )

    assert answer.status_code == 500, answer.text
    assert "locals" not in log
    assert SECRET not in log
