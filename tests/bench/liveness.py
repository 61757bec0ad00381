"""The works that ask how soon /livez answers while the service is under some load.

`probe.py` asks, in a process of its own. Each load is a context manager here, and runs in threads.
"""

from __future__ import annotations

import http.client
import itertools
import json
import selectors
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from statistics import median
from typing import Self
from urllib.parse import urlsplit

from bench import opponents
from bench.client import Client, Content, WrongAnswer
from bench.opponents import HERE, Server
from bench.stage import OURS, Bar, Contestant, Metric, Stage, Work, expect, named

SYNC = "gunicorn sync, 5 workers"
METRICS = [
    Metric("p99", "99th percentile", "ms"),
    Metric("median", "median", "ms"),
    Metric("worst", "worst", "ms"),
]
HOW = "/livez is asked 50 times per second, by a process of its own; 2 s without an answer count as 2 s."


class _Probe:
    """Asks /livez from its start until `figures` is called."""

    def __init__(self, server: Server) -> None:
        parts = urlsplit(server.url)
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "probe.py"), str(parts.hostname), str(parts.port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def __enter__(self) -> Self:
        assert self._process.stdout is not None
        self._process.stdout.readline()  # the process has started
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def figures(self) -> Mapping[str, float]:
        """Percentiles of the latencies so far, in ms."""
        output, _ = self._process.communicate(timeout=60)
        expect(self._process.returncode == 0, "/livez did not answer as it must")
        latencies = sorted(1000 * seconds for seconds in json.loads(output))
        expect(latencies, "/livez was never asked")
        return {
            "p99": latencies[min(len(latencies) - 1, int(0.99 * len(latencies)))],
            "median": median(latencies),
            "worst": latencies[-1],
        }


def _work(stage: Stage, title: str, how: str, contestants: list[Contestant], limit: float) -> Work:
    bars = [Bar("p99", at_most=limit)]
    return Work(title, f"{how} {HOW}", METRICS, contestants, bars, stage.sizes.long_rounds)


# --- slow uploads


def slow_uploads(stage: Stage) -> Work:
    """/livez while 50 uploads come in slowly."""
    ours = stage.server(opponents.service)
    contestants = [Contestant(OURS, "ours", lambda: _under_slow_uploads(stage, ours, finish=True))]
    if sync := stage.opponent(
        SYNC,
        "flask",
        lambda *where: opponents.flask_boto3(*where, "--worker-class", "sync", "--workers", "5"),
    ):
        contestants.append(
            Contestant(SYNC, "opponent", lambda: _under_slow_uploads(stage, sync, finish=False))
        )
    return _work(
        stage,
        f"/livez during {stage.sizes.slow_uploads} slow uploads",
        "Each upload sends 1 KiB every 100 ms. The service must store every upload. 5 workers are gunicorn's "
        "own advice for two cores.",
        contestants,
        20,
    )


def _under_slow_uploads(stage: Stage, server: Server, *, finish: bool) -> Mapping[str, float]:
    """With `finish`, every upload must be whole in S3 at the end."""
    seconds = 3 * stage.sizes.seconds
    pieces = int(10 * seconds) + 20
    with _SlowUploads(server, stage.sizes.slow_uploads, pieces) as uploads:
        time.sleep(0.3)  # the service has begun to read them
        with _Probe(server) as probe:
            time.sleep(seconds)
            figures = probe.figures()
        if finish:
            uploads.finish()
            for number in range(stage.sizes.slow_uploads):
                stored = stage.boto3.head_object(Bucket=stage.bucket, Key=f"slow-{number}")
                expect(stored["ContentLength"] == 1024 * pieces, "a slow upload is not whole in S3")
    return figures


class _SlowUploads:
    """`count` uploads of `pieces` KiB; a thread sends 1 KiB of each every 100 ms."""

    def __init__(self, server: Server, count: int, pieces: int) -> None:
        self._parts = urlsplit(server.url)
        self._count = count
        self._left = pieces
        self._uploads: list[socket.socket] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._trickle)

    def __enter__(self) -> Self:
        for number in range(self._count):
            self._uploads.append(
                socket.create_connection((self._parts.hostname or "", self._parts.port or 0), 60)
            )
            head = f"PUT /upload/slow-{number} HTTP/1.1\r\nHost: {self._parts.netloc}\r\n"
            self._uploads[-1].sendall(f"{head}Content-Length: {1024 * self._left}\r\n\r\n".encode())
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        if self._thread.ident is not None:
            self._thread.join()
        for upload in self._uploads:
            upload.close()

    def _trickle(self) -> None:
        piece = bytes(1024)
        while not self._over.wait(0.1) and self._left > 1:
            for upload in self._uploads:
                upload.sendall(piece)
            self._left -= 1

    def finish(self) -> None:
        """Send the rest, and expect that each upload is stored."""
        self._over.set()
        self._thread.join()
        for upload in self._uploads:
            upload.sendall(bytes(1024 * self._left))
        for upload in self._uploads:
            response = http.client.HTTPResponse(upload)
            response.begin()
            expect(response.status == 200, f"a slow upload: {response.status} {response.read()!r}")


# --- transfers at full speed

STREAMS = 4
MOST_FAILURES = 20


def full_speed(stage: Stage) -> Work:
    """/livez during uploads and downloads at full speed and a long listing."""
    content = stage.content(stage.sizes.big_file)
    ours = stage.server(opponents.service)

    def prepare() -> None:
        stage.empty_bucket()
        stage.fill(stage.sizes.keys)
        stage.store("down", content)

    def measure() -> Mapping[str, float]:
        transfers = _Transfers(ours, content, stage.sizes.keys + 1)
        with ThreadPoolExecutor(2 * STREAMS + 1) as threads:
            deadline = time.monotonic() + 3 * stage.sizes.seconds
            uploads = [
                threads.submit(transfers.upload, f"up-{number}", deadline) for number in range(STREAMS)
            ]

            def uploading() -> bool:
                return not all(upload.done() for upload in uploads)

            others = [threads.submit(transfers.download, uploading) for _ in range(STREAMS)]
            others.append(threads.submit(transfers.list, uploading))
            with _Probe(ours) as probe:
                for upload in uploads:
                    upload.result()
                figures = probe.figures()
            for other in others:
                other.result()
        for number in range(STREAMS):
            stored = stage.boto3.head_object(Bucket=stage.bucket, Key=f"up-{number}")
            expect(stored["ContentLength"] == content.size, "an upload is not whole in S3")
        stage.expect_stored("up-0", content)
        return {**figures, "failed": len(transfers.failures)}

    work = _work(
        stage,
        f"/livez during {STREAMS} uploads and {STREAMS} downloads of {named(content.size)}, and a listing",
        f"All at full speed, on loopback; the listing streams {stage.sizes.keys:,} keys as JSON lines. "
        "Downloads and the listing repeat until the uploads have ended. The uploads must be whole in S3. A "
        "transfer that fails, because S3 is too slow on a machine that is full, is counted and repeated.",
        [Contestant(OURS, "ours", measure)],
        50,
    )
    return replace(work, between=prepare, metrics=[*METRICS, Metric("failed", "failed transfers", "", 0)])


class _Transfers:
    """Transfers at full speed, each for a thread. `failures` has those that had to be repeated, and why."""

    def __init__(self, server: Server, content: Content, least: int) -> None:
        self._url = server.url
        self._content = content
        #: The keys that a listing must have; the uploads may be in it or not.
        self._least = least
        self.failures: list[str] = []

    def upload(self, key: str, deadline: float) -> None:
        """Upload until the deadline, and at least once."""

        def put(client: Client) -> None:
            client.upload("PUT", f"/upload/{key}", self._content).expect(200)

        stored = False
        while not stored or time.monotonic() < deadline:
            stored = self._attempt(put) or stored

    def download(self, condition: Callable[[], bool]) -> None:
        def get(client: Client) -> None:
            length = client.download("/files/down")
            expect(length == self._content.size, f"{length} bytes of {self._content.size}")

        while condition():
            self._attempt(get)

    def list(self, condition: Callable[[], bool]) -> None:
        def get(client: Client) -> None:
            lines = 0

            def count(piece: memoryview) -> None:
                nonlocal lines
                lines += bytes(piece).count(b"\n")

            client.download("/list_files", {"Accept": "application/x-ndjson"}, look=count)
            expect(self._least <= lines <= self._least + STREAMS, f"{lines} lines of {self._least}")

        while condition():
            self._attempt(get)

    def _attempt(self, act: Callable[[Client], None]) -> bool:
        try:
            with Client(self._url) as client:
                act(client)
        except (WrongAnswer, OSError, http.client.HTTPException) as error:
            self.failures.append(repr(error))
            expect(len(self.failures) < MOST_FAILURES, f"too many transfers failed: {self.failures}")
            return False
        return True


# --- clients that behave badly

HEADS, CLOSES, BODIES = 300, 100, 64
TICK_SECONDS = 0.25


def bad_clients(stage: Stage) -> Work:
    """/livez while clients send heads and bodies byte by byte, and do not close their connections."""
    ours = stage.server(opponents.service)

    def measure() -> Mapping[str, float]:
        with _BadClients(ours), _Probe(ours) as probe:
            time.sleep(stage.sizes.siege)
            figures = probe.figures()
        stored = {key for key in stage.s3.keys(stage.bucket) if key.startswith("bad-")}
        expect(not stored, f"parts of bodies were stored: {stored}")
        return figures

    return _work(
        stage,
        f"/livez during {HEADS} dripping heads, {CLOSES} slow closes and {BODIES} dripping bodies",
        "A dripping head or body sends 4 bytes per second. A slow close is an upload that is refused for its "
        "size, after which the client neither stops nor closes. A client opens an ended connection again.",
        [Contestant(OURS, "ours", measure)],
        50,
    )


class _BadClient:
    """One connection that sends its head and then a byte at each tick; it opens again when it has ended."""

    def __init__(self, server: Server, head: str) -> None:
        parts = urlsplit(server.url)
        self._address = (parts.hostname or "", parts.port or 0)
        self._head = head.format(host=parts.netloc).encode()
        self._socket: socket.socket | None = None

    def tick(self) -> None:
        if self._socket is None:
            self._socket = socket.create_connection(self._address, 10)
            self._socket.sendall(self._head)
            self._socket.setblocking(False)
            return
        try:
            self._socket.send(b"x")
            if self._socket.recv(65536) == b"":
                self.close()
        except BlockingIOError:
            pass
        except OSError:
            self.close()

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


class _BadClients:
    """Keeps all of them open. A connection that the service does not take ends the measurement."""

    def __init__(self, server: Server) -> None:
        drip = "GET /files/bad HTTP/1.1\r\nHost: {host}\r\nX-Filler: "
        close = "PUT /upload/bad-close HTTP/1.1\r\nHost: {host}\r\nContent-Length: 99999999999999\r\n\r\n"
        body = "PUT /upload/bad-body HTTP/1.1\r\nHost: {host}\r\nContent-Length: 1000000\r\n\r\n"
        heads = [drip] * HEADS + [close] * CLOSES + [body] * BODIES
        self._clients = [_BadClient(server, head) for head in heads]
        self._over = threading.Event()
        self._error: OSError | None = None
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        try:
            for client in self._clients:
                client.tick()
        except OSError:
            self._close()
            raise
        self._thread.start()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._close()
        if self._error is not None and kind is None:
            raise WrongAnswer("the service took no more connections") from self._error

    def _close(self) -> None:
        for client in self._clients:
            client.close()

    def _run(self) -> None:
        try:
            while not self._over.wait(TICK_SECONDS):
                for client in self._clients:
                    client.tick()
        except OSError as error:
            self._error = error


# --- an S3 that stalls

RATE = 50
PATHS = ("/download/a", "/list_files", "/files/a", "/readyz")


def hanging_s3(stage: Stage) -> Work:
    """/livez while S3 takes every request and never answers."""
    return _stalling(stage, "hang", "S3 hangs")


def dripping_s3(stage: Stage) -> Work:
    """/livez while S3 sends its answers byte by byte."""
    return _stalling(stage, "drip", "S3 sends ten bytes per second")


def _stalling(stage: Stage, how: str, what: str) -> Work:
    stalling = stage.enter_context(opponents.stalling_s3(how, stage.directory))
    # At the end, requests that wait for S3 are not worth waiting for.
    where = stalling, stage.bucket, stage.directory
    ours = stage.enter_context(opponents.service(*where, graceful_seconds=1))

    def measure() -> Mapping[str, float]:
        with _SteadyRequests(ours) as requests, _Probe(ours) as probe:
            time.sleep(stage.sizes.siege / 2)
            figures = probe.figures()
        expect(requests.statuses <= {503}, f"answers were {requests.statuses}, not 503")
        return figures

    return _work(
        stage,
        f"/livez while {what}, under {RATE} requests per second",
        f"The requests are {', '.join(PATHS)} in turn, each on a connection of its own, whether or not the "
        "earlier ones have answers. Every answer that comes must be 503.",
        [Contestant(OURS, "ours", measure)],
        50,
    )


class _SteadyRequests:
    """Sends a request every 20 ms and collects the statuses of the answers."""

    def __init__(self, server: Server) -> None:
        parts = urlsplit(server.url)
        self._host, self._address = parts.netloc, (parts.hostname or "", parts.port or 0)
        self.statuses: set[int] = set()
        self._over = threading.Event()
        self._error: OSError | None = None
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self._over.set()
        self._thread.join()
        if self._error is not None and kind is None:
            raise WrongAnswer("the service dropped a connection") from self._error

    def _run(self) -> None:
        try:
            with ExitStack() as stack:
                selector = stack.enter_context(selectors.DefaultSelector())
                for path in itertools.cycle(PATHS):
                    if self._over.wait(1 / RATE):
                        return
                    connection = socket.create_connection(self._address, 10)
                    stack.enter_context(connection)
                    connection.sendall(f"GET {path} HTTP/1.1\r\nHost: {self._host}\r\n\r\n".encode())
                    selector.register(connection, selectors.EVENT_READ, connection)
                    for key, _ in selector.select(0):
                        selector.unregister(key.fileobj)
                        with key.data:
                            self.statuses.add(int(key.data.recv(65536)[9:12] or 0))
        except OSError as error:
            self._error = error
