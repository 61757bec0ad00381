"""The bytes and the trace of a request in the log and the metrics, over real connections."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any

import pytest
import requests

from s3api.observability import _watched
from support.raw_client import RawClient
from support.servers import S3, Service

DATA = b"x" * 100_000
TRACE = "0af7651916cd43dd8448eb211c80319c"


@pytest.fixture(scope="module")
def service(ministack_s3: S3, make_service: Callable[..., Service]) -> Service:
    made = make_service(ministack_s3, ministack_s3.make_bucket("day02-counted"))
    assert requests.put(made.at("/upload/", "a"), DATA, timeout=30).status_code == 200
    return made


def line_of(service: Service, request_id: str) -> dict[str, Any]:
    """The line of the request, which is written after its answer has been sent."""
    until = time.monotonic() + 30
    while time.monotonic() < until:
        for line in service.log_lines():
            if line.get("request_id") == request_id and line.get("event") == "request":
                return line
        time.sleep(0.02)
    raise AssertionError(f"no line of {request_id}")


def counted(service: Service) -> dict[str, float]:
    text = requests.get(service.metrics_url, timeout=10).text
    return {
        name: float(value)
        for name, value in re.findall(r"^s3api_(\w+)_bytes_total (\S+)", text, re.MULTILINE)
    }


@pytest.mark.parametrize(
    ("method", "path", "body", "received", "sent"),
    [
        ("GET", "/files/a", None, 0, len(DATA)),
        ("HEAD", "/files/a", None, 0, 0),
        ("PUT", "/upload/b", DATA, len(DATA), None),
        ("PUT", "/upload/a%00", DATA, 0, None),
        ("GET", "/list_files", None, 0, None),
        ("HEAD", "/list_files", None, 0, 0),
    ],
)
def test_bytes_are_counted_as_they_pass(  # noqa: PLR0917 - a column of the table each
    service: Service, method: str, path: str, body: bytes | None, received: int, sent: int | None
) -> None:
    """HEAD sends no body (RFC 9110, section 9.3.2), and a body that is refused unread was not received."""
    before = counted(service)
    answer = requests.request(method, service.url + path, data=body, timeout=30)
    line = line_of(service, answer.headers["X-Request-Id"])
    after = counted(service)

    assert line["received_bytes"] == received
    assert line["sent_bytes"] == (len(answer.content) if sent is None else sent)
    assert after["received"] - before["received"] == received
    assert after["sent"] - before["sent"] == line["sent_bytes"]


def test_a_304_sends_nothing(service: Service) -> None:
    """A 304 sends no body: RFC 9110, section 15.4.5."""
    for path in ("/files/a", "/ui/ui.js"):
        etag = requests.head(service.url + path, timeout=30).headers["ETag"]
        answer = requests.get(service.url + path, headers={"If-None-Match": etag}, timeout=30)

        line = line_of(service, answer.headers["X-Request-Id"])
        assert (answer.status_code, line["sent_bytes"]) == (304, 0)


def test_a_broken_download_counts_what_was_sent() -> None:
    """A chunk counts once the server asks for the next one; one that could not be sent does not."""
    fields: dict[str, Any] = {"sent_bytes": 0}
    chunks = _watched(iter([b"abc", b"de", b"f"]), fields)
    assert [next(chunks), next(chunks)] == [b"abc", b"de"]
    chunks.close()

    assert fields["sent_bytes"] == 3


@pytest.mark.parametrize("how", ["closes", "resets"])
def test_a_broken_download_counts_what_passed(service: Service, how: str) -> None:
    """The log and the metric say how much of the file the client's side took, and not the file's whole size.

    The difference is what both sockets' buffers hold: bytes that were sent, and that the client never read.
    """
    size = 64 * 1024 * 1024
    stored = requests.put(service.at("/upload/", "large"), bytes(size), timeout=120)
    assert stored.status_code == 200
    before = counted(service)["sent"]
    with RawClient(service.url, receive_buffer=64 * 1024) as client:
        client.begin("GET", "/files/large", X_Request_Id=f"broken-{how}-0001")
        received = 0
        while received < 8 * 1024 * 1024:
            received += len(client.socket.recv(64 * 1024))
        if how == "resets":
            client.vanish()
    line = line_of(service, f"broken-{how}-0001")
    sent = counted(service)["sent"] - before

    assert line["status"] == 200
    assert line["sent_bytes"] == sent
    assert received - 1024 * 1024 <= line["sent_bytes"] <= received + 16 * 1024 * 1024


def test_the_trace_is_in_the_log(service: Service) -> None:
    """W3C Trace Context, section 3.2; a value that is not valid is ignored."""
    for value, trace in ((f"00-{TRACE}-b7ad6b7169203331-01", TRACE), (f"00-{TRACE}", None)):
        answer = requests.get(service.url + "/", headers={"traceparent": value}, timeout=30)
        assert line_of(service, answer.headers["X-Request-Id"])["trace_id"] == trace
