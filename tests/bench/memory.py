"""The works that measure memory: during uploads, and with idle connections."""

from __future__ import annotations

import http.client
import json
import resource
import socket
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from urllib.parse import urlsplit

from bench import opponents
from bench.client import Content, ask, request_bytes
from bench.opponents import Server
from bench.stage import JSON, OURS, Bar, Contestant, Measure, Metric, Stage, Work, expect, named
from bench.transfers import COMPANION, RCLONE_WEBDAV, TUS, Send, put, tus_upload, webdav


def during_uploads(stage: Stage) -> Work:
    """The peak memory of a server's largest process during uploads, in MiB."""
    sizes = stage.sizes
    file, huge = stage.content(sizes.file), stage.content(sizes.huge_file)

    def peaks(server: Server, send_as: Callable[[int], Send], *, huge_too: bool = False) -> Measure:
        def peak(content: Content, at_once: int) -> float:
            server.forget_peak()
            with ThreadPoolExecutor(at_once) as threads:
                list(threads.map(lambda number: send_as(number)(content), range(at_once)))
            return server.peak_mib()

        def measure() -> Mapping[str, float]:
            stage.empty_bucket()
            figures = {"one": peak(file, 1)}
            if huge_too:
                figures["huge"] = peak(huge, 1)
                figures["growth"] = figures["huge"] - figures["one"]
            figures["many"] = peak(file, 16)  # last, because the process does not return memory at once
            figures["together"] = server.together_mib()
            return figures

        return measure

    ours = stage.server(opponents.service)
    measure = peaks(ours, lambda number: put(ours, f"/upload/ours{number}"), huge_too=True)
    contestants = [Contestant(OURS, "ours", measure)]
    if rclone := webdav(stage):
        measure = peaks(rclone, lambda number: put(rclone, f"/rclone{number}"))
        contestants.append(Contestant(RCLONE_WEBDAV, "opponent", measure))
    if tus := stage.opponent(TUS, "node", opponents.tus):
        contestants.append(Contestant(TUS, "opponent", peaks(tus, lambda _: tus_upload(tus))))
    if companion := stage.opponent(COMPANION, "node", opponents.companion):
        measure = peaks(companion, lambda number: _import(stage, companion, number))
        contestants.append(Contestant(COMPANION, "opponent", measure))
    one, largest = named(sizes.file), named(sizes.huge_file)
    return Work(
        f"Memory during uploads of {one} to {largest}",
        f"The kernel's high-water mark (VmHWM) of the server's largest process: for gunicorn, the worker. "
        f"All processes together: the sum of their proportional set sizes after 16 uploads. {largest} goes "
        "through the service alone. Companion takes no uploads; it imports the same bytes from a URL.",
        [
            Metric("one", one, "MiB", 0),
            Metric("many", f"16 × {one}", "MiB", 0),
            Metric("huge", largest, "MiB", 0),
            Metric("growth", f"more for {largest} than for {one}", "MiB", 0),
            Metric("together", "all processes together", "MiB", 0),
        ],
        contestants,
        [Bar("many", at_most=80), Bar("huge", at_most=80)],
        1,
    )


def _import(stage: Stage, companion: Server, number: int) -> Send:
    """Make Companion copy the content from a URL into S3; it starts when a client listens to its progress."""
    parts = urlsplit(companion.url)

    def send(content: Content) -> str:
        source, key = f"source-{number}", f"companion-{number}"
        stage.store(source, content)
        wanted = {"url": stage.signed("GET", source), "protocol": "s3-multipart", "metadata": {"name": key}}
        answer = ask(companion.url, "POST", "/url/get", JSON, json.dumps(wanted).encode()).expect(200)
        token = json.loads(answer.body)["token"]
        with socket.create_connection((parts.hostname or "", parts.port or 0), 600) as listener:
            listener.sendall(
                f"GET /api/{token} HTTP/1.1\r\nHost: {parts.netloc}\r\n"
                "Upgrade: websocket\r\nConnection: Upgrade\r\n"
                "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
            )
            told = b""
            while b'"action":"success"' not in told:
                told = told[-100_000:] + (heard := listener.recv(65536))
                expect(heard and b'"action":"error"' not in told, f"Companion: {told[-500:]!r}")
        return key

    return send


def idle_connections(stage: Stage) -> Work:
    """The memory of the service while many connections are open and idle."""
    count = stage.sizes.idle
    ours = stage.server(opponents.service)

    def measure() -> Mapping[str, float]:
        ours.forget_peak()
        with _many_files(2 * count), ExitStack() as stack:
            parts = urlsplit(ours.url)
            address = (parts.hostname or "", parts.port or 0)
            idle = [stack.enter_context(socket.create_connection(address, 30)) for _ in range(count)]
            asked = request_bytes("GET", f"{ours.url}/livez")
            for connection in idle:
                _expect_alive(connection, asked)
            figures = {"peak": ours.peak_mib(), "together": ours.together_mib()}
            for connection in idle:  # all of them were open during the measurement
                _expect_alive(connection, asked)
        return figures

    return Work(
        f"Memory with {count:,} idle connections",
        "Each connection has had one request, and is kept; afterwards each must answer another one. The peak "
        "is the kernel's high-water mark of the largest process.",
        [Metric("peak", "peak memory", "MiB", 0), Metric("together", "all processes together", "MiB", 0)],
        [Contestant(OURS, "ours", measure)],
        [Bar("peak", at_most=128)],
        stage.sizes.long_rounds,
    )


def _expect_alive(connection: socket.socket, asked: bytes) -> None:
    connection.sendall(asked)
    answer = http.client.HTTPResponse(connection)
    answer.begin()
    answer.read()
    expect(answer.status == 200, "an idle connection does not answer")


@contextmanager
def _many_files(count: int) -> Iterator[None]:
    """Raise the limit of open files of this process to `count` and some more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = max(soft, count + 256)
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
