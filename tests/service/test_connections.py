"""What one client's connection may cost, and what it is answered before the application is asked."""

from __future__ import annotations

import os
import resource
import select
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest
import requests
from flask.testing import FlaskClient
from gunicorn.config import Config

from s3api.worker import Response, Sender
from support.faulty_s3 import Hang, running_faulty_s3
from support.raw_client import RawClient, form
from support.servers import ROOT, S3, Service, need, running_service, until
from support.stores import settings_for

MiB = 1024 * 1024
PAGE = "https://app.example"  # its pages may read the answers of a service in this module
PATIENCE = 2  # CLIENT_STALL_SECONDS of the service
#: For tests in which no client may be ended while they run. It is longer than any of their requests may take.
PATIENT: Mapping[str, object] = {"client_stall_seconds": 300}
TOKENS = (
    '[{"name":"tests","verbs":["list","read","write","delete"],'
    '"sha256":"4c5dc9b7708905f77f5e5d16316b5dfb425e68cb326dcd55a860e90a7707031e"}]'
)


@pytest.fixture(scope="module")
def service(seaweedfs_s3: S3, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service that serves two requests at once and waits two seconds for a client."""
    bucket = seaweedfs_s3.make_bucket("day02-connections")
    directory = tmp_path_factory.mktemp("connections")
    with running_service(
        seaweedfs_s3,
        bucket,
        directory,
        max_concurrent_requests=2,
        client_stall_seconds=PATIENCE,
        max_file_bytes=MiB,
    ) as service:
        yield service


@pytest.fixture(scope="module")
def closed_service(seaweedfs_s3: S3, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service that asks for a token."""
    directory = tmp_path_factory.mktemp("closed")
    with running_service(
        seaweedfs_s3, "day02-connections", directory, api_tokens=TOKENS, allow_anonymous="false"
    ) as service:
        yield service


@pytest.fixture(scope="module")
def patient_service(seaweedfs_s3: S3, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service that serves two requests at once, and has patience with clients and with waiting requests."""
    directory = tmp_path_factory.mktemp("patient")
    with running_service(
        seaweedfs_s3, "day02-unused", directory, max_concurrent_requests=2, upload_wait_seconds=300, **PATIENT
    ) as service:
        yield service


def seconds_to_livez(service: Service) -> float:
    started = time.monotonic()
    requests.get(service.at("/livez"), timeout=60).raise_for_status()
    return time.monotonic() - started


def served_before_livez(service: Service, clients: Sequence[RawClient]) -> int:
    """How many of the clients the service has answered, or has closed, when it answers /livez.

    When a service that waits for one client after the other answers /livez, it has ended all of them.
    """
    seconds_to_livez(service)
    poll = select.poll()  # `select.select` takes no descriptor above 1,023
    for client in clients:
        poll.register(client.socket, select.POLLIN)
    return len(poll.poll(0))


def drip(client: RawClient, data: bytes) -> int:
    """Send a byte each tenth of a second until the service answers; returns how many it took."""
    for sent in range(1000):
        if select.select([client.socket], [], [], 0.1)[0]:
            return sent
        client.send(data)
    raise AssertionError("the service waited without an end")


# --- slow clients


def test_a_head_has_one_deadline_at_any_pace(service: Service) -> None:
    """A head that drips is 408 after CLIENT_STALL_SECONDS in all; each byte does not start the wait anew."""
    with RawClient(service.url) as client:
        client.send(b"GET /livez HTTP/1.1\r\nHost: a\r\nX-Slow: ")
        sent = drip(client, b"x")
        answer = client.answer()

    assert (answer.status, answer.json()["code"]) == (408, "request_timeout")
    assert sent < 10 * (PATIENCE + 5)  # ten bytes a second; a busy machine sends fewer


@pytest.mark.parametrize("way", ["raw", "chunked", "form"])
def test_a_body_below_the_minimum_rate_ends(service: Service, way: str) -> None:
    """A body that drips is 408 (RFC 9110, section 15.5.9), and nothing of it is stored."""
    with RawClient(service.url) as client:
        if way == "form":
            content_type, body = form(("slow", b"x" * 100_000))
            client.begin("POST", "/upload", Content_Type=content_type, Content_Length=len(body))
            client.send(body[:1000])
        elif way == "raw":
            client.begin("PUT", "/upload/slow", Content_Length=100_000)
        else:
            client.begin("PUT", "/upload/slow", Transfer_Encoding="chunked")
        drip(client, b"1\r\nx\r\n" if way == "chunked" else b"x")
        answer = client.answer()

    assert (answer.status, answer.json()["code"]) == (408, "request_timeout")
    assert answer.headers["Connection"] == "close"
    assert requests.get(service.at("/list_files"), timeout=10).json()["content"] == []
    until(lambda: list(service.staging.glob("s3api-staged-*")) == [], "nothing is staged")


def test_slow_clients_do_not_delay_the_health_check(patient_service: Service) -> None:
    """With 100 unfinished heads, and every place taken by a stalled body, /livez answers first."""
    with ExitStack() as stack:
        heads = [stack.enter_context(RawClient(patient_service.url)) for _ in range(100)]
        for head in heads:
            head.send(b"GET /livez HTTP/1.1\r\n")
        bodies = [stack.enter_context(RawClient(patient_service.url)) for _ in range(4)]
        for body in bodies:
            body.begin("PUT", "/upload/stalled", Content_Length=1000)

        assert served_before_livez(patient_service, [*heads, *bodies]) == 0


def test_slow_closes_do_not_delay_others(service: Service) -> None:
    """Refused uploads whose clients keep the connection open close each by itself (gthread: one by one).

    The service waits for two seconds before it closes each (`LINGER_SILENCE_SECONDS`): for 50 s, one by one.
    """
    started = time.monotonic()
    with ExitStack() as stack:
        for _ in range(25):
            client = stack.enter_context(RawClient(service.url))
            client.begin("PUT", "/upload/large", Content_Length=2 * MiB)
            assert client.answer().status == 413
        seconds_to_livez(service)
        took = time.monotonic() - started

    assert took < 20


# --- refusals


REFUSED = {
    "not HTTP": (b"nonsense\r\n\r\n", 400),
    "no Host": (b"GET /livez HTTP/1.1\r\n\r\n", 400),  # RFC 9112, section 3.2
    "two Hosts": (b"GET /livez HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
    "a fragment": (b"GET /files/a#b HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),  # RFC 9112, section 3.2
    "a quote in the target": (b'GET /files/a"b HTTP/1.1\r\nHost: localhost\r\n\r\n', 400),
    "a long target": (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414),
    "a long header": (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 9000 + b"\r\n\r\n", 431),
    "an unknown expectation": (b"GET / HTTP/1.1\r\nHost: a\r\nExpect: tea\r\n\r\n", 417),
    # RFC 9112, sections 6.1 and 6.3
    "gzip, chunked": (b"PUT /upload/a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501),
    "identity, chunked": (
        b"PUT /upload/a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity, chunked\r\n\r\n",
        501,
    ),
    "an unknown coding": (b"PUT /upload/a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: br\r\n\r\n", 501),
    "gzip alone": (b"PUT /upload/a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", 400),
}


@pytest.mark.parametrize(("sent", "status"), REFUSED.values(), ids=REFUSED)
def test_what_is_not_http_is_refused_in_the_envelope(service: Service, sent: bytes, status: int) -> None:
    """Each refusal is JSON with its status, a sentence, a code and the id that the log has."""
    with RawClient(service.url) as client:
        client.send(sent)
        answer = client.answer()

    told = answer.json()
    assert (answer.status, told["status"]) == (status, status)
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["X-Request-Id"] == told["request_id"]
    assert told["message"]
    assert told["code"]


def test_http_1_0_needs_no_host(service: Service) -> None:
    """A request of HTTP/1.0 needs no Host: RFC 9112, section 3.2, requires it of HTTP/1.1 only."""
    with RawClient(service.url) as client:
        client.send(b"GET /livez HTTP/1.0\r\n\r\n")

        assert client.answer().status == 200


def test_the_routers_redirect_is_in_the_envelope(client: FlaskClient) -> None:
    """A 308 of the router is JSON with a request id, and says where to go."""
    client.application.add_url_rule("/folder/", view_func=lambda: "here")
    answer = client.get("/folder")

    assert answer.status_code == 308
    assert answer.headers["Location"].endswith("/folder/")
    assert answer.get_json()["request_id"] == answer.headers["X-Request-Id"]


# --- Expect and refused uploads


def test_a_refusal_comes_in_place_of_100_continue(closed_service: Service) -> None:
    """RFC 9110, section 10.1.1: a final status at once where the body is not wanted."""
    with RawClient(closed_service.url) as client:
        client.begin("PUT", "/upload/a", Content_Length=5, Expect="100-continue")
        first = client.socket.recv(12)

    assert first == b"HTTP/1.1 401"


def test_100_continue_comes_when_the_body_is_wanted(service: Service) -> None:
    """RFC 9110, section 10.1.1: the client that waits is asked, and its file is stored."""
    with RawClient(service.url) as client:
        client.begin("PUT", "/upload/asked", Content_Length=5, Expect="100-continue")
        asked = client.socket.recv(25)
        client.send(b"hello")
        answer = client.answer()
    requests.delete(service.at("/delete/", "asked"), timeout=10).raise_for_status()

    assert asked == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert answer.status == 200


@pytest.mark.parametrize(
    ("condition", "status", "code"),
    [
        ({"If_None_Match": "*"}, 412, "file_exists"),
        ({"If_Match": '"0123"'}, 412, "precondition_failed"),
    ],
)
def test_a_condition_that_fails_comes_in_place_of_100_continue(
    service: Service, condition: dict[str, str], status: int, code: str
) -> None:
    """RFC 9110, section 10.1.1: the client that waits sends no body that would be refused."""
    name = f"waits-{code}"
    requests.put(service.at("/upload/", name), data=b"kept", timeout=10).raise_for_status()
    try:
        with RawClient(service.url) as client:
            client.begin("PUT", f"/upload/{name}", Content_Length=5, Expect="100-continue", **condition)
            answer = client.answer()
        kept = requests.get(service.at("/files/", name), timeout=10).content
    finally:
        requests.delete(service.at("/delete/", name), timeout=10).raise_for_status()

    assert (answer.status, answer.json()["code"]) == (status, code)
    assert kept == b"kept"


def test_a_condition_that_holds_lets_the_body_come(service: Service) -> None:
    """A new file with If-None-Match: * gets 100 Continue, and is stored."""
    with RawClient(service.url) as client:
        client.begin("PUT", "/upload/waits-new", Content_Length=5, Expect="100-continue", If_None_Match="*")
        asked = client.socket.recv(25)
        client.send(b"hello")
        answer = client.answer()
    requests.delete(service.at("/delete/", "waits-new"), timeout=10).raise_for_status()

    assert asked == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert answer.status == 200


def curl(*arguments: str) -> str:
    need(shutil.which("curl"), "curl is not on the PATH")
    done = subprocess.run(
        ["curl", "-sS", *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    return f"{done.returncode} {done.stdout}"


@pytest.mark.parametrize("expect", ["Expect:", "Expect: 100-continue"])
@pytest.mark.parametrize("coding", ["X-Coding: none", "Transfer-Encoding: chunked"])
def test_curl_reads_why_a_large_upload_is_refused(
    service: Service, tmp_path: Path, expect: str, coding: str
) -> None:
    """curl -T of 64 MiB shows the status, with and without Expect, chunked or not."""
    large = tmp_path / "large"
    with large.open("wb") as file:
        file.truncate(64 * MiB)
    said = curl(
        *("-T", str(large), "-H", expect, "-H", coding, "-o", str(tmp_path / "answer")),
        *("-w", "%{http_code}", service.at("/upload/", "large")),
    )

    assert said == "0 413"


#: Programs that send a file of 16 MiB to a URL four times and print each status. Such a client loses the
#: answer when the server resets the connection while the client still sends the body.
JAVA = """
import java.net.URI; import java.net.http.*; import java.nio.file.*; import java.time.Duration;
class Put { public static void main(String[] a) throws Exception {
  for (int i = 0; i < 4; i++) {
    var path = Path.of(a[1]);
    var body = a[2].equals("stream")
      ? HttpRequest.BodyPublishers.ofInputStream(() -> {
          try { return Files.newInputStream(path); } catch (Exception e) { throw new RuntimeException(e); } })
      : HttpRequest.BodyPublishers.ofFile(path);
    var request = HttpRequest.newBuilder(URI.create(a[0])).version(HttpClient.Version.HTTP_1_1)
      .timeout(Duration.ofSeconds(30)).expectContinue(a[2].equals("expect")).PUT(body).build();
    System.out.print(HttpClient.newHttpClient().send(request, HttpResponse.BodyHandlers.ofString())
      .statusCode() + " ");
  } } }
"""
URL_CONNECTION = """
import java.io.*; import java.net.*; import java.nio.file.*;
class Put { public static void main(String[] a) throws Exception {
  for (int i = 0; i < 4; i++) {
    var put = (HttpURLConnection) new URL(a[0]).openConnection();
    put.setRequestMethod("PUT"); put.setDoOutput(true);
    put.setFixedLengthStreamingMode(Files.size(Path.of(a[1])));
    put.setRequestProperty("Expect", "100-continue");
    try (var out = put.getOutputStream()) { Files.copy(Path.of(a[1]), out); } catch (IOException refused) { }
    System.out.print(put.getResponseCode() + " ");
  } } }
"""
NODE_HTTP = """
const http = require("http"), fs = require("fs");
const put = () => new Promise((resolve, reject) => {
  const request = http.request(process.argv[1], {method: "PUT"}, (answer) => {
    answer.resume(); answer.on("end", () => resolve(answer.statusCode)); });
  request.on("error", reject);
  fs.createReadStream(process.argv[2]).pipe(request);
});
(async () => { for (let i = 0; i < 4; i++) console.log(await put()); })();
"""
NODE_FETCH = """
const fs = require("fs"), {Readable} = require("stream");
(async () => { for (let i = 0; i < 4; i++) {
  const body = Readable.toWeb(fs.createReadStream(process.argv[2]));
  console.log((await fetch(process.argv[1], {method: "PUT", body, duplex: "half"})).status);
} })();
"""
URLLIB3 = """
import sys, urllib3
for _ in range(4):
    with open(sys.argv[2], "rb") as file:
        pieces = iter(lambda: file.read(65536), b"")
        print(urllib3.request("PUT", sys.argv[1], body=pieces, retries=False).status)
"""
HTTPX = """
import sys, httpx
def pieces():
    with open(sys.argv[2], "rb") as file:
        yield from iter(lambda: file.read(65536), b"")
for _ in range(4):
    print(httpx.put(sys.argv[1], content=pieces(), timeout=30).status_code)
"""
CLIENTS = {
    "Java's HttpClient": ["java", "", JAVA, "plain"],
    "Java's HttpClient, a stream": ["java", "", JAVA, "stream"],
    "Java's HttpURLConnection": ["java", "", URL_CONNECTION, ""],
    "Node's http": ["node", "-e", NODE_HTTP, ""],
    "Node's fetch": ["node", "-e", NODE_FETCH, ""],
    "Python's urllib3": [sys.executable, "-c", URLLIB3, ""],
    "Python's httpx": [str(ROOT / ".venv-openapi" / "bin" / "python"), "-c", HTTPX, ""],
}


@pytest.mark.parametrize("client", CLIENTS)
def test_a_client_reads_why_a_large_upload_is_refused(service: Service, tmp_path: Path, client: str) -> None:
    """Each shows the status of each of four refusals, whatever it does about `100 Continue`.

    RFC 9110, section 10.1.1, and RFC 9112, section 9.6. Java's HttpClient lost four of four.
    """
    program, option, source, how = CLIENTS[client]
    need(shutil.which(program), f"{program} is not on the PATH")
    large = tmp_path / "large"
    with large.open("wb") as file:
        file.truncate(16 * MiB)
    if program == "java":
        (tmp_path / "Put.java").write_text(source)
        command = [program, str(tmp_path / "Put.java")]
    else:
        command = [program, option, source]
    done = subprocess.run(
        [*command, service.at("/upload/", "large"), str(large), how],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )

    assert done.stdout.split() == ["413"] * 4, done.stderr[-1000:]


def test_java_is_told_before_it_sends(service: Service, tmp_path: Path) -> None:
    """With `expectContinue(true)` Java's HttpClient has the final status, and sends no body.

    The test reads the client's own log: up to Java 18 the client then waits without an end for the body that
    it does not send (JDK-8286171, openjdk/jdk#9093).
    """
    need(shutil.which("java"), "java is not on the PATH")
    (tmp_path / "Put.java").write_text(JAVA)
    (tmp_path / "large").write_bytes(bytes(16 * MiB))
    log = tmp_path / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [
                "java",
                "-Djdk.httpclient.HttpClient.log=requests,trace",
                *(
                    str(tmp_path / "Put.java"),
                    service.at("/upload/", "large"),
                    str(tmp_path / "large"),
                    "expect",
                ),
            ],
            stdout=output,
            stderr=output,
        )
    try:
        until(lambda: "Expectation failed: Received 413" in log.read_text(), "Java has the answer", 60)
    finally:
        process.kill()
        process.wait()

    assert "Expect: 100-Continue" in log.read_text()
    line = until(
        lambda: [line for line in service.log_lines() if line.get("status") == 413][-1:], "the log has it"
    )[0]
    assert line["received_bytes"] == 0


def test_a_client_as_go_reads_why_a_large_upload_is_refused(service: Service) -> None:
    """Go's net/http sends the body in one goroutine and reads the answer in another.

    When a write fails before the answer has been read, it waits `maxWriteWaitBeforeConnReuse` (50 ms) for the
    answer, and then reports the write's error (golang/go, src/net/http/transport.go).
    """
    for _ in range(20):
        with RawClient(service.url) as client:
            client.begin("PUT", "/upload/large", Content_Length=16 * MiB)
            failed: list[OSError] = []

            def send(connection: socket.socket = client.socket, failed: list[OSError] = failed) -> None:
                try:
                    for _ in range(256):
                        connection.sendall(bytes(64 * 1024))
                except OSError as error:
                    failed.append(error)

            sender = threading.Thread(target=send)
            sender.start()
            answer = client.answer()
            sender.join()

        assert (answer.status, failed) == (413, [])


# --- many connections


def descriptors(process: int) -> int:
    return len(list(Path(f"/proc/{process}/fd").iterdir()))


def worker_of(service: Service) -> int:
    booted = [line["event"] for line in service.log_lines() if "Booting worker with pid" in line["event"]]
    return int(booted[-1].rpartition(" ")[2])


def test_a_worker_without_descriptors_survives(seaweedfs_s3: S3, tmp_path: Path) -> None:
    """When accepting fails with EMFILE the worker lives on, and answers once there are descriptors again."""
    with running_service(seaweedfs_s3, "day02-unused", tmp_path) as service, ExitStack() as stack:
        worker = worker_of(service)
        opened = descriptors(worker)
        _, hard = resource.prlimit(worker, resource.RLIMIT_NOFILE)
        resource.prlimit(worker, resource.RLIMIT_NOFILE, (opened + 10, hard))
        clients = [stack.enter_context(RawClient(service.url)) for _ in range(40)]
        until(lambda: descriptors(worker) >= opened + 9, "the descriptors are used up")
        for client in clients:
            client.socket.close()
        resource.prlimit(worker, resource.RLIMIT_NOFILE, (hard, hard))
        until(lambda: seconds_to_livez(service) < 5, "the service answers")

        assert worker_of(service) == worker


def test_a_thousand_idle_connections_cost_little(seaweedfs_s3: S3, tmp_path: Path) -> None:
    """1,000 connections that send half a head grow the worker by less than 100 MiB, and /livez answers."""
    with running_service(seaweedfs_s3, "day02-unused", tmp_path, **PATIENT) as service, ExitStack() as stack:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if hard < 4096:
            pytest.skip("this process may not open enough files")
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 4096), hard))
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        before = memory(worker_of(service))
        clients = [stack.enter_context(RawClient(service.url)) for _ in range(1000)]
        for client in clients:
            client.send(b"GET /livez HTTP/1.1\r\nHost: a\r\nX: ")
        served = served_before_livez(service, clients)
        grown = memory(worker_of(service)) - before

    assert served == 0
    assert grown < 100 * MiB


def test_large_heads_cost_little(seaweedfs_s3: S3, tmp_path: Path) -> None:
    """200 heads that never end, and are as large as they may be, need less than 64 MiB; /livez answers.

    Each byte of the last line comes by itself. A larger head is 431 (RFC 6585, section 5).
    """
    head = b"GET /livez HTTP/1.1\r\nHost: a\r\n" + b"".join(b"X: %s\r\n" % (b"y" * 8000) for _ in range(8))
    with running_service(seaweedfs_s3, "day02-unused", tmp_path, **PATIENT) as service, ExitStack() as stack:
        before = memory(worker_of(service))
        clients = [stack.enter_context(RawClient(service.url)) for _ in range(200)]
        for client in clients:
            client.send(head)
        for client in clients:
            client.send(b"Z")
        served = served_before_livez(service, clients)
        grown = memory(worker_of(service)) - before
        clients[0].send(b": 1\r\n\r\n")
        whole = clients[0].answer().status
        clients[1].send(b": 1\r\nX: " + b"y" * 8000)
        larger = clients[1].answer().status

    assert (whole, larger) == (200, 431)
    assert grown < 64 * MiB
    assert served == 0


@pytest.fixture(scope="module")
def small_service(seaweedfs_s3: S3, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service that asks for a token, has 40 connections, and serves one request at once."""
    bucket = seaweedfs_s3.make_bucket("day02-small-service")
    with running_service(
        seaweedfs_s3,
        bucket,
        tmp_path_factory.mktemp("small"),
        api_tokens=TOKENS,
        allow_anonymous="false",
        max_concurrent_requests=1,
        upload_wait_seconds=0.5,
        cors_origins=PAGE,
        gunicorn_cmd_args="--worker-connections 40",
        **PATIENT,
    ) as service:
        yield service


@pytest.mark.parametrize("sent", [b"", b"GET /livez HTTP/1.1\r\nX: "], ids=["idle", "half a head"])
def test_more_connections_than_there_may_be(small_service: Service, sent: bytes) -> None:
    """Connections that have sent no whole request do not keep others out: the oldest of them ends."""
    with ExitStack() as stack:
        for _ in range(60):
            stack.enter_context(RawClient(small_service.url)).send(sent)
        took = seconds_to_livez(small_service)

    assert took < 60  # by itself a connection would end after CLIENT_STALL_SECONDS, 300


def test_a_full_port_ends_no_connection_of_the_other(small_service: Service) -> None:
    """A scrape of the metrics keeps its idle connection while the API's port has too many."""
    with RawClient(small_service.metrics_url) as scraper, ExitStack() as stack:
        scraper.begin("GET", "/metrics")
        first = scraper.answer().status
        for _ in range(60):
            stack.enter_context(RawClient(small_service.url)).send(b"")
        seconds_to_livez(small_service)
        scraper.begin("GET", "/metrics")
        second = scraper.answer().status

    assert (first, second) == (200, 200)


def test_slow_readers_of_a_public_page_take_no_place(small_service: Service) -> None:
    """A client that does not read its answer keeps its connection, but no place among the requests."""
    with ExitStack() as stack:
        for _ in range(4):
            client = stack.enter_context(RawClient(small_service.url, receive_buffer=4096))
            client.send(b"GET /openapi.json HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" * 100)
            client.socket.recv(1)
        answers = [
            requests.get(
                small_service.at("/list_files"), headers={"Authorization": "Bearer test-token"}, timeout=10
            ).status_code
            for _ in range(10)
        ]

    assert answers == [200] * 10


def test_a_request_without_a_place_is_told_so(small_service: Service) -> None:
    """It is 503 with Retry-After (RFC 9110, section 15.6.4), in the envelope; /livez needs no place."""
    token = {"Authorization": "Bearer test-token"}
    with RawClient(small_service.url) as client:
        client.begin("PUT", "/upload/slow", Content_Length="5", **token)
        until(lambda: "requests_in_flight 1.0" in requests.get(small_service.metrics_url, timeout=9).text, "")
        refused = requests.get(small_service.at("/list_files"), headers=token, timeout=10)
        alive = requests.get(small_service.at("/livez"), timeout=10).status_code
        client.send(b"12345")
        stored = client.answer().status
    after = requests.get(small_service.at("/list_files"), headers=token, timeout=10).status_code

    assert (refused.status_code, refused.json()["code"]) == (503, "too_busy")
    assert refused.headers["Retry-After"] == "5"
    assert (alive, stored, after) == (200, 200, 200)


@contextmanager
def without_a_place(service: Service) -> Iterator[None]:
    """In the block one request holds the only place of this service."""
    token = {"Authorization": "Bearer test-token"}
    with RawClient(service.url) as client:
        client.begin("PUT", "/upload/slow", Content_Length="5", **token)
        until(lambda: "requests_in_flight 1.0" in requests.get(service.metrics_url, timeout=9).text, "")
        yield
        client.send(b"12345")
        assert client.answer().status == 200


def words(answer: requests.Response, header: str) -> set[str]:
    return {word.strip() for word in answer.headers.get(header, "").split(",")} - {""}


def test_a_refusal_for_want_of_a_place_is_like_every_other_answer(small_service: Service) -> None:
    """A page can read it, also the Retry-After (Fetch standard, "CORS protocol"). tus 1.0.0, "Tus-Resumable":
    the header must be in every response, except to OPTIONS. A preflight must have an ok status."""
    calls = [("GET", "/list_files"), ("HEAD", "/files/a"), ("POST", "/tus"), ("GET", "/upload_links/x")]
    with without_a_place(small_service):
        refused = [
            requests.request(method, small_service.at(path), headers={"Origin": PAGE}, timeout=20)
            for method, path in calls
        ]
        other = requests.get(small_service.at("/list_files"), timeout=20)
        preflight = requests.options(
            small_service.at("/list_files"),
            headers={"Origin": PAGE, "Access-Control-Request-Method": "GET"},
            timeout=20,
        )

    for answer in refused:
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
        assert answer.headers["Access-Control-Allow-Origin"] == PAGE
        assert {"Retry-After", "X-Request-Id"} <= words(answer, "Access-Control-Expose-Headers")
        assert "Origin" in words(answer, "Vary")
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert [answer.headers.get("Tus-Resumable") for answer in refused] == [None, None, "1.0.0", None]
    assert refused[3].headers["Referrer-Policy"] == "no-referrer"
    assert (other.status_code, words(other, "Vary")) == (503, {"Origin"})
    assert "Access-Control-Allow-Origin" not in other.headers
    assert (preflight.status_code, preflight.headers["Access-Control-Allow-Methods"]) == (204, "GET, HEAD")


def test_a_refusal_for_want_of_a_place_is_counted(small_service: Service) -> None:
    """The metrics have it as they have every other answer."""
    with without_a_place(small_service):
        assert requests.get(small_service.at("/whoami"), timeout=20).status_code == 503
    counted = 's3api_errors_total{code="too_busy",route="/whoami"} 1.0'

    until(lambda: counted in requests.get(small_service.metrics_url, timeout=9).text, "it is counted")


@pytest.mark.parametrize(
    ("head", "status", "resumable"),
    [
        (b"GET /list_files HTTP/1.1\r\nHost: a\r\nOrigin: %b\r\nX: " + b"x" * 9000, 431, False),
        (b"POST /tus HTTP/1.1\r\nHost: a\r\norigin:%b\r\nX: " + b"x" * 9000, 431, True),
        (b"PATCH /tus/x HTTP/1.1\r\nHost: a\r\nOrigin: %b \r\nTransfer-Encoding: gzip, chunked", 501, True),
        (b"OPTIONS /tus HTTP/1.1\r\nHost: a\r\nOrigin: %b\r\nX : y", 400, False),
        (b"HEAD /tus/x HTTP/3.0\r\nHost: a\r\nOrigin: %b", 505, True),
        (b"GET / HTTP/1.1\r\nHost: a\r\nExpect: more\r\nOrigin: %b", 417, False),
    ],
    ids=["long", "long of tus", "coding", "options of tus", "version", "expectation"],
)
@pytest.mark.parametrize("origin", [PAGE, "https://evil.example", "null"])
def test_a_page_reads_why_its_request_is_malformed(
    small_service: Service, head: bytes, status: int, resumable: bool, origin: str
) -> None:
    """The worker refuses these before the application is asked, with the headers of every other answer."""
    with RawClient(small_service.url) as client:
        client.send(head.replace(b"%b", origin.encode()) + b"\r\n\r\n")
        raw = client.socket.makefile("rb").read()
    lines = raw.partition(b"\r\n\r\n")[0].decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines[1:])

    assert lines[0].split()[1] == str(status)
    assert headers["Vary"] == "Origin"
    assert headers.get("Access-Control-Allow-Origin") == (PAGE if origin == PAGE else None)
    assert headers.get("Tus-Resumable") == ("1.0.0" if resumable else None)
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert (raw.endswith(b"}\n"), int(headers["Content-Length"]) > 0) == (not head.startswith(b"HEAD"), True)


def memory(process: int) -> int:
    status = Path(f"/proc/{process}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1]) * 1024


def test_a_broken_answer_without_a_length_is_reset(seaweedfs_s3: S3, service: Service) -> None:
    """RFC 9112, section 8: an HTTP/1.0 client reads to the end of the connection, and must not take this for
    the end of an archive that broke off. Its prefix has a name that the service does not take."""
    seaweedfs_s3.client().put_object(Bucket="day02-connections", Key="broken/a\nb", Body=b"x")
    with RawClient(service.url) as client:
        client.send(b"GET /archive?prefix=broken/ HTTP/1.0\r\n\r\n")
        received = client.socket.recv(12)
        with pytest.raises(ConnectionResetError):
            client.socket.makefile("rb").read()

    assert received == b"HTTP/1.0 200"


# --- an S3 that is slow


def test_a_hanging_s3_does_not_delay_the_health_check(seaweedfs_s3: S3, tmp_path: Path) -> None:
    """With more requests waiting for S3 than are served at once, /livez answers before all of them."""
    long = {"s3_read_timeout_seconds": 300, "upload_wait_seconds": 300}
    with (
        running_faulty_s3(seaweedfs_s3) as faulty,
        running_service(faulty.s3, "day02-unused", tmp_path, max_concurrent_requests=2, **long) as service,
        faulty.failing(Hang()),
        ExitStack() as stack,
    ):
        clients = [stack.enter_context(RawClient(service.url)) for _ in range(10)]
        for client in clients:
            client.begin("GET", "/download/a")
        until(lambda: faulty.asked, "S3 is asked")

        assert served_before_livez(service, clients) == 0


def test_a_disk_that_hangs_does_not_keep_names_from_being_found() -> None:
    """gevent looks up names on real threads too: a file lock that is held must not use up all of them."""
    script = """
from gevent import monkey; monkey.patch_all()
import gevent, os, socket
from s3api.waiting import on_disk
read, write = os.pipe()
stuck = [gevent.spawn(on_disk, os.read, read, 1) for _ in range(12)]
gevent.sleep(0.2)
with gevent.Timeout(30):
    print(len(socket.getaddrinfo("localhost", 80)) > 0)
os.write(write, b"x" * 12)
gevent.joinall(stuck)
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.stdout == "True\n", done.stderr


@contextmanager
def dripping_s3() -> Iterator[str]:
    """A server whose answer's head never ends: a byte each tenth of a second."""
    ended = threading.Event()

    def answer(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            connection.recv(4096)
            connection.sendall(b"HTTP/1.1 200 OK\r\nX: ")
            while not ended.wait(0.1):
                connection.sendall(b"x")

    def accept() -> None:
        with suppress(OSError):
            while not ended.is_set():
                threading.Thread(target=answer, args=(listener.accept()[0],), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            ended.set()
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


@pytest.mark.parametrize("ask", ["/download/a", "/list_files", "/readyz"])
def test_a_dripping_s3_is_503_within_the_deadline(seaweedfs_s3: S3, tmp_path: Path, ask: str) -> None:
    """S3_READ_TIMEOUT_SECONDS bounds each call in all, not each byte of its answer."""
    with dripping_s3() as url:
        s3 = S3("dripping", url, seaweedfs_s3.credentials)
        with running_service(s3, "day02-unused", tmp_path, s3_read_timeout_seconds=1) as service:
            started = time.monotonic()
            answer = requests.get(service.at(ask), timeout=30)
            took = time.monotonic() - started

    assert answer.status_code == 503
    assert took < 8


# --- an S3 that speaks TLS


def test_the_service_speaks_tls_to_s3(tls_s3: S3, tmp_path: Path) -> None:
    """Uploads, downloads, listings and readiness work over verified TLS, many at once.

    Where gevent replaces `ssl` too late, each call recurses without end (gunicorn #2515, boto3 #4061).
    """
    bucket = tls_s3.make_bucket("day02-tls")
    data = os.urandom(4 * MiB)
    with running_service(tls_s3, bucket, tmp_path) as service:

        def round_trip(number: int) -> bool:
            name = f"file-{number}"
            form = {"file": (f"form-{number}", data)}
            requests.put(service.at("/upload/", name), data=data, timeout=60).raise_for_status()
            requests.put(
                service.at("/upload/", f"chunked-{number}"), data=iter([data]), timeout=60
            ).raise_for_status()
            requests.post(service.at("/upload"), files=form, timeout=60).raise_for_status()
            return requests.get(service.at("/files/", name), timeout=60).content == data

        with ThreadPoolExecutor(4) as pool:
            same = list(pool.map(round_trip, range(4)))
        listed = requests.get(service.at("/list_files"), timeout=60).json()["content"]
        ready = requests.get(service.at("/readyz"), timeout=60).status_code

    assert same == [True] * 4
    assert len(listed) == 12
    assert ready == 200


def test_a_certificate_of_an_unknown_ca_is_refused(tls_s3: S3, tmp_path: Path) -> None:
    """Without the CA bundle the same S3 is 503: the certificate is checked."""
    credentials = {name: value for name, value in tls_s3.credentials.items() if name != "AWS_CA_BUNDLE"}
    with running_service(S3("tls", tls_s3.url, credentials), "day02-tls", tmp_path) as service:
        answer = requests.get(service.at("/download/a"), timeout=60)

    assert (answer.status_code, answer.json()["code"]) == (503, "s3_unavailable")


def test_a_refusal_of_head_has_no_body(service: Service) -> None:
    """RFC 9110, section 9.3.2: what comes after the head of such an answer would be taken for another one."""
    with RawClient(service.url) as client:
        client.send(b"HEAD /livez HTTP/1.1\r\nConnection: close\r\n\r\n")
        client.socket.settimeout(20)
        received = b"".join(iter(lambda: client.socket.recv(65536), b""))

    assert received.startswith(b"HTTP/1.1 400 ")
    assert received.endswith(b"\r\n\r\n")


class _Request:
    """What gunicorn's response reads of a request."""

    version = (1, 1)

    def __init__(self, method: str) -> None:
        self.method = method

    def should_close(self) -> bool:
        return False


@pytest.mark.parametrize(
    ("method", "pieces", "sent"),
    [
        ("GET", [b"one", b"two"], [b"one", b"two"]),
        ("GET", [b"1" * 30_000], [b"1" * 30_000]),
        ("GET", [], [b""]),
        ("HEAD", [b""], [b""]),
    ],
)
def test_the_head_is_sent_with_the_first_bytes(
    tmp_path: Path, method: str, pieces: list[bytes], sent: list[bytes]
) -> None:
    """The head of an answer and its first bytes are one call of the kernel; a head alone is sent as well."""
    # A socket of this kind delivers each call of send by itself.
    with ExitStack() as stack:
        ours, client = map(stack.enter_context, socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET))
        response = Response(_Request(method), Sender(ours, settings_for(tmp_path)), Config())
        response.start_response("200 OK", [("Content-Length", str(len(b"".join(pieces))))])
        for piece in pieces:
            response.write(piece)
        response.close()
        ours.close()

        received = list(iter(lambda: client.recv(65536), b""))

    head, _, first = received[0].partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert [first, *received[1:]] == sent
