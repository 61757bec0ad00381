"""Details of the RFCs, over a socket: what an outsider tries who knows HTTP and not this service.

Each case names its source. The bytes are sent as they are, because client libraries would correct them.
"""

from __future__ import annotations

import email.utils
import hashlib
import time
from pathlib import Path
from typing import Any

import pytest
import requests

from cli.command import Command
from support.raw_client import Answer, RawClient
from support.servers import Service

DATA = b"hello world"
NAME = "details/a.txt"
PUT = "PUT /upload/details/new HTTP/1.1"
CHUNKED = "Transfer-Encoding: chunked"


@pytest.fixture(scope="module")
def service(ministack_service: Service) -> Service:
    stored = requests.put(ministack_service.at("/upload/", NAME), data=DATA, timeout=30)
    assert stored.status_code == 200
    return ministack_service


def ask(service: Service, line: str, *headers: str, body: bytes = b"", host: bool = True) -> Answer:
    """The first final answer to a request whose lines are sent as they are given."""
    lines = [line, *(["Host: localhost"] if host else []), *headers, "", ""]
    with RawClient(service.url) as client:
        client.send("\r\n".join(lines).encode("latin-1") + body)
        return client.answer(30)


def ask_file(service: Service, *headers: str) -> Answer:
    return ask(service, f"GET /files/{NAME} HTTP/1.1", *headers)


def refused(answer: Answer, status: int) -> str:
    """The sentence of a refusal in the envelope."""
    told = answer.json()
    assert (answer.status, told["status"]) == (status, status), told
    assert told["request_id"] == answer.headers["X-Request-Id"]
    message: str = told["message"]
    return message


# --- versions, connections, and what every answer has


@pytest.mark.parametrize(("version", "answered"), [("1.2", 11), ("1.9", 11), ("1.1", 11), ("1.0", 10)])
def test_a_higher_minor_version_is_answered_as_1_1(service: Service, version: str, answered: int) -> None:
    """RFC 9112, section 2.3: a server must not send a version to which it is not conformant."""
    with RawClient(service.url) as client:
        client.send(f"GET /livez HTTP/{version}\r\nHost: localhost\r\n\r\n".encode())
        first = client.socket.recv(9)

    assert first == f"HTTP/1.{answered % 10} ".encode()


@pytest.mark.parametrize("version", ["2.0", "3.0", "0.9"])
def test_another_major_version_is_505(service: Service, version: str) -> None:
    """Another major version of HTTP gets a 505 that names HTTP/1.1: RFC 9110, section 15.6.6."""
    assert "HTTP/1.1" in refused(ask(service, f"GET / HTTP/{version}"), 505)


def test_a_version_that_is_none_is_400(service: Service) -> None:
    """RFC 9112, section 2.3: the name of the protocol is in capital letters."""
    refused(ask(service, "GET / http/1.1"), 400)


@pytest.mark.parametrize(
    ("value", "closes"),
    [
        ("close", True),
        ("Close", True),
        ("keep-alive, close", True),
        ("close, x-hop", True),
        ("x-hop ,\tCLOSE", True),
        ("keep-alive", False),
        ("closed", False),
    ],
)
def test_close_is_an_option_in_a_list(service: Service, value: str, closes: bool) -> None:
    """RFC 9110, section 7.6.1, and RFC 9112, section 9.6: a server that received `close` must close."""
    with RawClient(service.url) as client:
        client.send(f"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: {value}\r\n\r\n".encode())
        answer = client.answer()
        if closes:
            assert client.socket.recv(1) == b""
        else:
            client.send(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert client.answer().status == 200

    assert (answer.headers["Connection"] == "close") is closes


@pytest.mark.parametrize(
    ("line", "status"),
    [
        ("GET /livez HTTP/1.1", 200),
        ("GET /nothing HTTP/1.1", 404),
        ("GET / HTTP/2.0", 505),
        ("nonsense", 400),
        ("GET /" + "a" * 9000 + " HTTP/1.1", 414),
    ],
)
def test_every_answer_has_a_date_and_is_not_stored(service: Service, line: str, status: int) -> None:
    """Every answer has these headers, also one of the worker: RFC 9110, section 6.6.1; RFC 9111, 4.2.2."""
    answer = ask(service, line)
    sent = email.utils.parsedate_to_datetime(answer.headers["Date"]).timestamp()

    assert answer.status == status
    assert abs(sent - time.time()) < 60
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_pipelined_requests_are_answered_in_their_order(service: Service) -> None:
    """Pipelined requests get their answers in order; a HEAD's has no body: RFC 9112, section 9.3.2."""
    lines = ["GET /livez", "HEAD /livez", "GET /nothing", "GET /"]
    sent = "".join(f"{line} HTTP/1.1\r\nHost: localhost\r\n\r\n" for line in lines)
    with RawClient(service.url) as client:
        client.send(sent.encode())
        client.socket.shutdown(1)
        received = b"".join(iter(lambda: client.socket.recv(65536), b""))

    assert [part[:3] for part in received.split(b"HTTP/1.1 ")[1:]] == [b"200", b"200", b"404", b"200"]


# --- targets


def test_two_slashes_at_the_beginning_are_another_path(service: Service) -> None:
    """RFC 3986, section 6.2: a proxy that keeps `/files/` to itself would let `//files/` pass."""
    spelt = (f"//files/{NAME}", "//list_files", "//", f"http://localhost//files/{NAME}", f"/%2Ffiles/{NAME}")
    for target in spelt:
        refused(ask(service, f"GET {target} HTTP/1.1"), 404)
    assert ask(service, f"GET http://localhost/files/{NAME} HTTP/1.1").body == DATA


@pytest.mark.parametrize(
    ("target", "headers", "status"),
    [
        ("http://127.0.0.1:5815/livez HTTP/1.1", ["Host: localhost:5815"], 200),
        ("http://localhost:80/list_files HTTP/1.1", ["Host: localhost"], 200),
        ("HTTP://LOCALHOST/list_files HTTP/1.1", ["Host: 127.0.0.1"], 200),
        ("http://[::1]/list_files HTTP/1.1", ["Host: evil.test"], 200),  # the Host is ignored
        ("https://localhost/list_files HTTP/1.1", ["Host: localhost"], 200),
        ("http://localhost/list_files HTTP/1.0", [], 200),
        (
            "http://localhost HTTP/1.1",
            ["Host: localhost"],
            200,
        ),  # RFC 9110, section 4.2.3: an empty path is /
        ("http://localhost?a=b HTTP/1.1", ["Host: localhost"], 400),
        ("http://evil.test/list_files HTTP/1.1", ["Host: localhost"], 421),
        ("http://evil.test/list_files HTTP/1.1", ["Host: evil.test"], 421),
        ("http://evil.test/list_files HTTP/1.0", [], 421),
        ("http://localhost/list_files HTTP/1.1", [], 400),  # section 3.2
        ("http://localhost/list_files HTTP/1.1", ["Host: a b"], 400),
        # RFC 9110, section 4.2.1: an empty host is not valid; section 4.2.4: neither is a user name
        ("http:///livez HTTP/1.1", ["Host: localhost"], 400),
        ("http://:80/livez HTTP/1.1", ["Host: localhost"], 400),
        ("http://user@localhost/livez HTTP/1.1", ["Host: localhost"], 400),
        ("ftp://localhost/livez HTTP/1.1", ["Host: localhost"], 400),
    ],
)
def test_the_host_of_an_absolute_target_counts(
    service: Service, target: str, headers: list[str], status: int
) -> None:
    """RFC 9112, section 3.2.2: it replaces the Host header, so it passes the same check (DNS rebinding)."""
    answer = ask(service, f"GET {target}", *headers, host=False)

    assert (answer.status, answer.json()["status"]) == (status, status), answer.body


@pytest.mark.parametrize("host", ["localhost:", "127.0.0.1:", "[::1]:"])
def test_a_host_with_an_empty_port(service: Service, host: str) -> None:
    """RFC 3986, section 3.2.3: the port may be empty, and is the default port then."""
    assert ask(service, "GET /list_files HTTP/1.1", f"Host: {host}", host=False).status == 200


def test_an_empty_port_is_the_default_port_of_an_origin(service: Service) -> None:
    """RFC 6454, section 4: the origin of the service's own page has no port then."""
    answer = ask(
        service, "GET /list_files HTTP/1.1", "Host: localhost:", "Origin: http://localhost", host=False
    )

    assert answer.status == 200


@pytest.mark.parametrize("line", ["OPTIONS /", "TRACE /", "PATCH /", "FOO /", "PUT /"])
def test_a_method_that_is_not_allowed_says_which_are(service: Service, line: str) -> None:
    """A 405 names the allowed methods in Allow: RFC 9110, section 15.5.6."""
    answer = ask(service, f"{line} HTTP/1.1")
    refused(answer, 405)

    assert answer.headers["Allow"] == "GET, HEAD"


@pytest.mark.parametrize(
    "path", ["/", "/livez", "/list_files", f"/files/{NAME}", "/files/none", "/ui", "/openapi.json", "/none"]
)
def test_head_has_the_headers_of_get(service: Service, path: str) -> None:
    """HEAD has the status and the headers of GET, and no body: RFC 9110, section 9.3.2."""
    heads = []
    for method in ("GET", "HEAD"):
        answer = requests.request(method, service.url + path, timeout=30)
        own = {"Date", "X-Request-Id"}
        heads.append((answer.status_code, {k: v for k, v in answer.headers.items() if k not in own}))
        assert method == "GET" or answer.content == b""

    assert heads[0] == heads[1]


# --- bodies


@pytest.mark.parametrize(
    "length", ["+3", "-3", "0x3", "3_0", "3, 3", "3\r\nContent-Length: 3", "3\r\nContent-Length: 4", ""]
)
def test_a_length_that_is_no_number_is_400(service: Service, length: str) -> None:
    """A Content-Length that is not one number is refused: RFC 9110, section 8.6; RFC 9112, section 6.3."""
    refused(ask(service, PUT, f"Content-Length: {length}", body=b"abc"), 400)


@pytest.mark.parametrize(
    "fields",
    [
        f"Content-Length: 3\r\n{CHUNKED}",  # RFC 9112, section 6.1: a sign of request smuggling
        "Content-Length : 3",  # RFC 9112, section 5.1
        "X: a\r\n b\r\nContent-Length: 3",  # RFC 9112, section 5.2
        "X: a\rb\r\nContent-Length: 3",  # RFC 9112, section 2.2
        "X: a\nContent-Length: 3",
        "X: a\0b\r\nContent-Length: 3",  # RFC 9110, section 5.5
    ],
)
def test_a_field_that_two_parsers_read_differently_is_400(service: Service, fields: str) -> None:
    """Each is a way to smuggle a request past a proxy."""
    refused(ask(service, PUT, fields, body=b"3\r\nabc\r\n0\r\n\r\n"), 400)


CHUNKS = {
    "plain": (b"3\r\nabc\r\n0\r\n\r\n", 200),
    "an extension": (b'3 ; a="b;c"\r\nabc\r\n0\r\n\r\n', 200),  # RFC 9112, section 7.1.1: ignored
    "zeros before the size": (b"0003\r\nabc\r\n00\r\n\r\n", 200),
    "a trailer": (b"3\r\nabc\r\n0\r\nServer-Timing: a\r\n\r\n", 200),  # RFC 9112, section 7.1.2
    "no size": (b"zz\r\nabc\r\n0\r\n\r\n", 400),
    "a sign": (b"+3\r\nabc\r\n0\r\n\r\n", 400),
    "a prefix": (b"0x3\r\nabc\r\n0\r\n\r\n", 400),
    "a space before": (b" 3\r\nabc\r\n0\r\n\r\n", 400),
    "more than it says": (b"3\r\nabcd\r\n0\r\n\r\n", 400),
    "bare line feeds": (b"3\nabc\n0\n\n\r\n\r\n", 400),
    "a line feed in an extension": (b"3;a\nb\r\nabc\r\n0\r\n\r\n", 400),
    "a long extension": (b"3;" + b"a" * 20_000 + b"\r\nabc\r\n0\r\n\r\n", 400),
    "a trailer that is no field": (b"3\r\nabc\r\n0\r\nnonsense\r\n\r\n", 400),
}
FORM = "Content-Type: multipart/form-data; boundary=x"
JSON = "Content-Type: application/json"


@pytest.mark.parametrize(("body", "status"), CHUNKS.values(), ids=CHUNKS)
def test_chunks_of_a_file(service: Service, body: bytes, status: int) -> None:
    """RFC 9112, section 7.1: what is not valid stores nothing, and the connection closes."""
    requests.delete(service.at("/delete/", "details/chunks"), timeout=30)
    answer = ask(service, "PUT /upload/details/chunks HTTP/1.1", CHUNKED, body=body)
    found = requests.get(service.at("/files/", "details/chunks"), timeout=30)

    assert answer.status == status, answer.body
    assert (found.status_code, found.content) == (200, b"abc") if status == 200 else found.status_code == 404
    assert status == 200 or (answer.json()["message"], answer.headers["Connection"]) == (
        "The chunks of the body are not valid (RFC 9112, section 7.1)",
        "close",
    )


@pytest.mark.parametrize(
    ("line", "content_type"),
    [("POST /delete", JSON), ("POST /uploads", JSON), ("POST /upload", FORM), ("PUT /upload/a", "X: y")],
)
def test_chunks_that_are_not_valid_are_400_everywhere(service: Service, line: str, content_type: str) -> None:
    """A chunk without a valid size is refused for every kind of body: RFC 9112, section 7.1."""
    answer = ask(service, f"{line} HTTP/1.1", content_type, CHUNKED, body=b"zz\r\nabc\r\n0\r\n\r\n")

    assert "chunks" in refused(answer, 400)
    assert answer.json()["code"] == "malformed_request"


@pytest.mark.parametrize(
    "trailer",
    [
        "Content-Digest: sha-256=:" + "A" * 43 + "=:",  # RFC 9530, section 6.5
        "Digest: SHA-256=" + "A" * 43 + "=",
        "x-amz-checksum-crc32: AAAAAA==",  # what AWS's SDKs send since 2025
        "Upload-Complete: ?0",
        "Content-Type: text/html",  # RFC 9110, section 6.5.1: a trailer is too late for it
        "Content-Disposition: attachment",
        "x-amz-if-match-size: 3",
        "ETag: abc",
    ],
)
def test_a_trailer_that_would_be_ignored_is_refused(service: Service, trailer: str) -> None:
    """A digest in a trailer was not checked: the file was stored, and its sender believed it was."""
    requests.delete(service.at("/delete/", "details/trailer"), timeout=30)
    body = f"3\r\nabc\r\n0\r\n{trailer}\r\n\r\n".encode()
    answer = ask(service, "PUT /upload/details/trailer HTTP/1.1", CHUNKED, body=body)

    assert trailer.partition(":")[0].lower() in refused(answer, 400).lower()
    assert requests.get(service.at("/files/", "details/trailer"), timeout=30).status_code == 404


@pytest.mark.parametrize(
    "header",
    [
        "x-amz-acl: public-read",
        "X-Amz-Storage-Class: GLACIER",
        "x-amz-tagging: a=b",
        "x-amz-meta-owner: me",
        "x-amz-checksum-sha256: " + "A" * 43 + "=",
        "x-amz-server-side-encryption: aws:kms",
        "x-amz-object-lock-mode: COMPLIANCE",
        "x-amz-write-offset-bytes: 5",
        "X-Content-Range: bytes 0-2/9",  # nginx's upload module
        "x-amz-if-match-size: 5",  # S3's DeleteObject
        "x-amz-version-id: none",
        "x-amz-new-in-some-year: a",
        "X-Checksum-Sha256: 00",  # Artifactory
        "X-Checksum-Deploy: true",
        "X-Goog-Hash: md5=AAAA",  # Google Cloud Storage
        "X-Goog-Upload-Command: start",
        "X-Ms-Blob-Type: BlockBlob",  # Azure
        "X-Bz-Content-Sha1: 00",  # Backblaze B2
        "ETag: 00",  # OpenStack Swift: the MD5 of the body
        "X-Delete-After: 60",
        "OC-Checksum: SHA1:00",  # ownCloud
        "OC-Chunked: 1",
        "X-OC-MTime: 1",
        "Overwrite: F",  # RFC 4918, section 10.6
        "Upload-Draft-Interop-Version: 6",  # draft-ietf-httpbis-resumable-upload
        "Upload-Metadata: name YQ==",  # tus 1.0
        "Upload-Defer-Length: 1",
        "X-Update-Range: bytes=0-1",  # SabreDAV
    ],
)
def test_a_header_for_s3_itself_is_refused(service: Service, header: str) -> None:
    """A client of S3 that is pointed at the service learns that the service does not do what it asks.

    https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutObject.html
    """
    answer = ask(service, PUT, header, "Content-Length: 1", body=b"a")

    assert header.partition(":")[0].lower() in refused(answer, 400).lower()


@pytest.mark.parametrize(
    "header",
    [
        "x-amz-if-match-size: 5",
        "x-amz-if-match-last-modified-time: Sun, 06 Nov 1994 08:49:37 GMT",
        "x-amz-mfa: 1 2",
        "x-amz-bypass-governance-retention: true",
    ],
)
def test_a_condition_of_s3_on_a_deletion_is_refused(service: Service, header: str) -> None:
    """The file was deleted although the condition of S3's own protocol did not hold.

    https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteObject.html
    """
    answer = ask(service, f"DELETE /delete/{NAME} HTTP/1.1", header)

    assert header.partition(":")[0] in refused(answer, 400).lower()
    assert ask_file(service).body == DATA


SHA256 = {data: hashlib.sha256(data).hexdigest() for data in (b"", b"a", b"b")}


@pytest.mark.parametrize(
    ("line", "digest", "status"),
    [
        (PUT, SHA256[b"a"], 200),
        (PUT, "UNSIGNED-PAYLOAD", 200),
        (PUT, SHA256[b"b"], 400),
        (PUT, "0" * 64, 400),
        (PUT, "STREAMING-AWS4-HMAC-SHA256-PAYLOAD", 400),  # the body has the signatures of chunks
        (PUT, "", 400),
        ("POST /upload HTTP/1.1", SHA256[b"a"], 400),
        (f"DELETE /delete/{NAME} HTTP/1.1", SHA256[b"b"], 400),
    ],
)
def test_the_digest_of_a_signature_of_aws(service: Service, line: str, digest: str, status: int) -> None:
    """It is checked, or refused where it is not checked.

    https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-auth-using-authorization-header.html
    """
    body = b"" if line.startswith("DELETE") else b"a"
    given = [f"X-Amz-Content-Sha256: {digest}", f"Content-Length: {len(body)}"]
    answer = ask(service, line, *given, body=body)

    assert answer.status == status, answer.body


def test_the_digest_of_an_empty_body_is_right(service: Service) -> None:
    """Clients that sign for AWS send it with a request without a body: the deletion takes place."""
    requests.put(service.at("/upload/", "details/signed"), data=b"a", timeout=30).raise_for_status()
    digest = f"X-Amz-Content-Sha256: {SHA256[b'']}"

    assert ask(service, "DELETE /delete/details/signed HTTP/1.1", digest).status == 200


@pytest.mark.parametrize(
    ("line", "body"),
    [
        ("POST /restore/details/a.txt", b'{"version_id": "none"}'),
        ("POST /uploads/none/complete", b'{"parts": [], "sha256": "000"}'),
        ("DELETE /uploads/none", b"{}"),
        (f"DELETE /delete/{NAME}", b'{"version_id": "none"}'),
    ],
)
@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_that_would_be_ignored_is_refused(
    service: Service, line: str, body: bytes, chunked: bool
) -> None:
    """RFC 9110, section 9.3.5: a body has no meaning in a DELETE, and a server may refuse it."""
    length = CHUNKED if chunked else f"Content-Length: {len(body)}"
    sent = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body) if chunked else body
    answer = ask(service, f"{line} HTTP/1.1", JSON, length, body=sent)

    assert "takes no body" in refused(answer, 400)
    assert ask_file(service).body == DATA


@pytest.mark.parametrize(("length", "body"), [("Content-Length: 0", b""), (CHUNKED, b"0\r\n\r\n")])
def test_an_empty_body_is_no_body(service: Service, length: str, body: bytes) -> None:
    """RFC 9112, section 6.3: clients send a length of 0, or no chunk, with a request without a body."""
    requests.put(service.at("/upload/", "details/empty"), data=b"a", timeout=30).raise_for_status()

    assert ask(service, "DELETE /delete/details/empty HTTP/1.1", length, body=body).status == 200


@pytest.mark.parametrize("kind", ["multipart/mixed", "multipart/related"])
def test_a_file_with_the_type_of_a_message_leaves_no_trace(
    service: Service, kind: str, tmp_path: Path
) -> None:
    """RFC 2046, section 5.1.1: urllib3 looks for a boundary in the head of S3's answer, and warned.

    Neither the log of the service nor the command line has its trace.
    """
    url = service.at("/files/", "details/message")
    before = len(service.log_path.read_text())
    given = {"Content-Type": kind}
    stored = requests.put(service.at("/upload/", "details/message"), b"a", headers=given, timeout=30)
    answer = requests.get(url, timeout=30)

    assert (stored.status_code, answer.content, answer.headers["Content-Type"]) == (200, b"a", kind)
    ran = Command(service.url, tmp_path)("download", "details/message")
    assert (ran.status, (tmp_path / "message").read_bytes()) == (0, b"a"), ran.err
    assert "HeaderParsingError" not in ran.err
    assert "HeaderParsingError" not in service.log_path.read_text()[before:]


@pytest.mark.parametrize(
    "header",
    [
        "X-Amz-Cf-Id: a",
        "X-Amzn-Trace-Id: Root=1-5759e988-bd862e3fe1be46a994272793",
        "x-amz-date: a",
        "x-amz-security-token: a",
        "X-Goog-Iap-Jwt-Assertion: a",
    ],
)
def test_what_proxies_of_aws_add_is_no_request_to_s3(service: Service, header: str) -> None:
    """CloudFront's, a load balancer's, and the signature of VPC Lattice."""
    assert ask(service, PUT, header, "Content-Length: 1", body=b"a").status == 200


def test_a_transfer_encoding_of_mail_is_refused(service: Service) -> None:
    """RFC 7578, section 4.7: the base64 text would be stored as the file."""
    given = ["Content-Transfer-Encoding: base64", "Content-Length: 4"]

    assert "Content-Transfer-Encoding" in refused(ask(service, PUT, *given, body=b"YWJj"), 415)


# --- JSON


@pytest.mark.parametrize(
    "body",
    [
        b'{"files": ["none"], "files": ["details/a.txt"]}',
        b'{"files": ["none"], "\\u0066iles": ["details/a.txt"]}',
        b'{"files": ["details/a.txt"], "files": ["none"]}',
    ],
)
def test_two_members_of_one_name_are_refused(service: Service, body: bytes) -> None:
    """RFC 8259, section 4: a proxy may have checked the other one. The last one was deleted."""
    answer = ask(service, "POST /delete HTTP/1.1", JSON, f"Content-Length: {len(body)}", body=body)

    assert "same name" in refused(answer, 400)
    assert ask_file(service).body == DATA


@pytest.mark.parametrize("limit", ["1_0", "%2B1", "%205", "1.0", "", "0", "1001", "%D9%A3", "1e1"])
def test_a_limit_that_is_no_number_is_400(service: Service, limit: str) -> None:
    """The document says that it is an integer from 1 to 1000; '1_0' meant ten."""
    assert "limit" in refused(ask(service, f"GET /list_files?limit={limit} HTTP/1.1"), 400)


# --- ranges and conditions


@pytest.mark.parametrize(
    ("value", "status", "expected"),
    [
        ("bytes=0-0", 206, b"h"),
        ("bytes=-5", 206, b"world"),
        ("bytes=6-", 206, b"world"),
        ("BYTES=0-0", 206, b"h"),  # RFC 9110, section 14.1: the unit has no case
        ("bytes=0-0,", 206, b"h"),  # RFC 9110, section 5.6.1: an element may be empty
        ("bytes= , 0-0 ,", 206, b"h"),
        ("bytes=000000000000000000000000000001-1", 206, b"e"),
        # RFC 9110, section 14.1.1: numbers of any length
        ("bytes=6-99999999999999999999", 206, b"world"),
        ("bytes=0-18446744073709551615", 206, DATA),
        ("bytes=-99999999999999999999", 206, DATA),
        ("bytes=6-" + "9" * 5000, 206, b"world"),  # Python refuses to parse more than 4,300 digits
        # RFC 9110, section 15.5.17
        ("bytes=99999999999999999999-", 416, None),
        ("bytes=11-", 416, None),
        ("bytes=-0", 416, None),
        # RFC 9110, section 14.2: what is ignored
        ("bytes=5-2", 200, DATA),
        ("bytes=99999999999999999999-99999999999999999998", 416, None),
        ("bytes=0-0,2-3", 200, DATA),
        ("bytes = 0-0", 200, DATA),
        ("bytes=+0-0", 200, DATA),
        ("bytes=a-b", 200, DATA),
        ("bytes=", 200, DATA),
        ("chars=0-0", 200, DATA),
    ],
)
def test_ranges(service: Service, value: str, status: int, expected: bytes | None) -> None:
    """A valid range is 206, one beyond the end 416, and any other is ignored: RFC 9110, section 14."""
    answer = ask_file(service, f"Range: {value}")

    assert answer.status == status
    if expected is None:
        refused(answer, 416)
        assert answer.headers["Content-Range"] == f"bytes */{len(DATA)}"
    else:
        assert answer.body == expected


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ("%a, %d %b %Y %H:%M:%S GMT", 304),
        ("%A, %d-%b-%y %H:%M:%S GMT", 304),  # RFC 850, obsolete
        ("%a %b %e %H:%M:%S %Y", 304),  # asctime, obsolete
        ("%a, %d %b %Y %H:%M:%S UTC", 200),  # RFC 9110, section 5.6.7: no other zone
        ("%a, %d %b %Y %H:%M:%S +0000", 200),
        ("%Y-%m-%dT%H:%M:%SZ", 200),
        ("%s", 200),
    ],
)
def test_three_forms_of_a_date(service: Service, form: str, expected: int) -> None:
    """Conditions take three forms of a date and ignore others: RFC 9110, sections 5.6.7 and 13.1.3."""
    later = time.strftime(form, time.gmtime(time.time() + 60))

    assert ask_file(service, f"If-Modified-Since: {later}").status == expected


def test_a_year_of_two_digits_is_at_most_fifty_years_ahead(service: Service) -> None:
    """RFC 9110, section 5.6.7: 99 is 1999, so the file was modified since."""
    assert ask_file(service, "If-Modified-Since: Friday, 31-Dec-99 23:59:59 GMT").status == 200
    assert ask_file(service, "If-Unmodified-Since: Friday, 31-Dec-99 23:59:59 GMT").status == 412


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("If-Match: *", 200),
        ('If-Match: "none", ETAG', 200),
        ('If-Match: "none",, ,ETAG', 200),  # RFC 9110, section 5.6.1
        ("If-Match: W/ETAG", 412),  # section 13.1.1: the strong comparison
        ("If-None-Match: *", 304),
        ("If-None-Match: W/ETAG", 304),  # section 13.1.2: the weak comparison
        ('If-None-Match: "none", W/ETAG', 304),
        ('If-None-Match: "none"', 200),
    ],
)
def test_lists_of_entity_tags(service: Service, header: str, expected: int) -> None:
    """A condition takes a list of ETags or `*`: RFC 9110, section 13.1."""
    etag = ask_file(service).headers["ETag"]

    assert ask_file(service, header.replace("ETAG", etag)).status == expected


@pytest.mark.parametrize("path", ["/ui", "/ui/ui.js", "/docs", "/openapi.json"])
def test_a_page_whose_condition_fails_is_in_the_envelope(service: Service, path: str) -> None:
    """RFC 9110, section 15.5.13: the page itself came with the status 412."""
    refused(ask(service, f"GET {path} HTTP/1.1", 'If-Match: "none"'), 412)
    assert ask(service, f"GET {path} HTTP/1.1", "If-None-Match: *").status == 304


@pytest.mark.parametrize(
    ("own", "plain", "extended"),
    [
        ("a b.txt", "a b.txt", None),
        ("a;b,c=d.txt", "a;b,c=d.txt", None),
        ('a"b.txt', "a_b.txt", "a%22b.txt"),
        ("100%.txt", "100_.txt", "100%25.txt"),  # RFC 6266, appendix D
        ("é.txt", "_.txt", "%C3%A9.txt"),
        ("e\u0301.txt", "e_.txt", "e%CC%81.txt"),  # NFD stays NFD
        ("😀'*.txt", "_'*.txt", "%F0%9F%98%80%27%2A.txt"),  # RFC 8187, section 3.2.1
        ("trailing. ", "trailing. ", None),
    ],
)
def test_the_name_of_a_download(service: Service, own: str, plain: str, extended: str | None) -> None:
    """RFC 6266, section 4.3: a name in ASCII for everyone, and the whole name where that differs."""
    url = service.at("/files/", f"details/{own}")
    requests.put(service.at("/upload/", f"details/{own}"), data=b"a", timeout=30).raise_for_status()
    value = requests.head(url, timeout=30).headers["Content-Disposition"]
    expected = f'filename="{plain}"' + (f"; filename*=UTF-8''{extended}" if extended else "")

    assert value.partition("; ")[2] == expected


def test_the_head_of_a_redirect_has_the_length_of_its_get(service: Service) -> None:
    """RFC 9110, section 8.6: the Content-Length of HEAD is that of GET."""
    requests.put(service.at("/upload/", "redirected"), data=b"x", timeout=10).raise_for_status()
    at = service.at("/download/", "redirected") + "?redirect=true"
    get, head = (requests.request(verb, at, timeout=10, allow_redirects=False) for verb in ("GET", "HEAD"))
    requests.delete(service.at("/delete/", "redirected"), timeout=10).raise_for_status()

    assert (get.status_code, head.status_code) == (302, 302)
    assert get.json()["content"] == get.headers["Location"]
    for answer in (get, head):
        assert answer.headers["Content-Type"] == "application/json"
        assert answer.headers["Content-Length"] == str(len(get.content))


def test_a_listing_varies_by_what_it_accepts(service: Service) -> None:
    """A listing has Vary (RFC 9110, section 12.5.5), and no cache stores the redirect to a signed URL."""
    for accept in ("application/json", "application/x-ndjson"):
        answer: Any = ask(service, "GET /list_files HTTP/1.1", f"Accept: {accept}", "Connection: close")
        assert answer.headers["Vary"] == "Accept"
    redirect = ask(service, f"GET /download/{NAME}?redirect=true HTTP/1.1")
    assert (redirect.status, redirect.headers["Cache-Control"]) == (302, "no-store")
