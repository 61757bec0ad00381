"""The works that move bodies: uploads, downloads, and the memory that uploads take."""

from __future__ import annotations

import hashlib
import json
import socket
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

from bench import opponents
from bench.client import Client, Content, ask
from bench.opponents import GiB, MiB, Server
from bench.stage import JSON, OURS, Bar, Contestant, Measure, Metric, Stage, Work, expect, named, target

FLASK = "Flask with boto3"
COMPANION = "Uppy Companion"
TUS = "@tus/server"
RCLONE_HTTP = "rclone serve http"
RCLONE_WEBDAV = "rclone serve webdav"
DIRECT_UPLOAD = "boto3 upload_file"
DIRECT_GET = "GET from S3 directly"

SECONDS = Metric("wall", "wall clock", "s", 2)
CPU = Metric("cpu", "server's CPU", "s", 2)

#: Uploads a body and returns the key under which it must then be in S3.
Send = Callable[[Content], str]


def _timed(server: Server | None, act: Callable[[], object]) -> dict[str, float]:
    before = server.cpu_seconds() if server else 0.0
    begun = time.perf_counter()
    act()
    wall = time.perf_counter() - begun
    return {"wall": wall, "cpu": server.cpu_seconds() - before} if server else {"wall": wall}


def _put(server: Server, path: str) -> Send:
    def send(content: Content) -> str:
        with Client(server.url) as client:
            client.upload("PUT", path, content).expect(200, 201)
        return path.rpartition("/")[2]

    return send


def _form(server: Server, name: str) -> Send:
    head = f'--b0undary\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'
    form = (head.encode(), b"\r\n--b0undary--\r\n")
    headers = {"Content-Type": "multipart/form-data; boundary=b0undary"}

    def send(content: Content) -> str:
        with Client(server.url) as client:
            client.upload("POST", "/upload", content, headers, form=form).expect(200)
        return name

    return send


def _tus(server: Server) -> Send:
    def send(content: Content) -> str:
        headers = {"Tus-Resumable": "1.0.0", "Upload-Length": str(content.size)}
        headers["Content-Type"] = "application/offset+octet-stream"
        with Client(server.url) as client:
            answer = client.upload("POST", "/files", content, headers).expect(201)
        expect(answer.headers.get("upload-offset") == str(content.size), "tus did not take the whole body")
        return answer.headers["location"].removeprefix(f"{server.url}/files/")

    return send


def _upload(stage: Stage, server: Server | None, content: Content, send: Send) -> Measure:
    """Seconds of one upload, whose size in S3 is compared every time, its bytes once."""
    compared: list[str] = []

    def measure() -> Mapping[str, float]:
        keys: list[str] = []
        figures = _timed(server, lambda: keys.append(send(content)))
        size = stage.boto3.head_object(Bucket=stage.bucket, Key=keys[0])["ContentLength"]
        expect(size == content.size, f"{size} bytes stored of {content.size}")
        if not compared:
            stage.expect_stored(keys[0], content)
            compared.append(keys[0])
        return figures

    return measure


def _direct(stage: Stage, content: Content) -> Contestant:
    """boto3's own transfer manager, from a file, with its defaults: 10 threads, parts of 8 MiB."""
    path = stage.directory / "whole"
    with path.open("wb") as file:
        data, left = content.path.read_bytes(), content.size
        while left > 0:
            left -= file.write(data[:left])

    def send(_: Content) -> str:
        stage.boto3.upload_file(str(path), stage.bucket, "direct")
        return "direct"

    return Contestant(DIRECT_UPLOAD, "limit", _upload(stage, None, content, send))


def _webdav(stage: Stage) -> Server | None:
    return stage.opponent(RCLONE_WEBDAV, "rclone", lambda *where: opponents.rclone("webdav", *where))


def raw_upload(stage: Stage, size: int) -> Work:
    """One file as the raw body of a request."""
    content = stage.content(size)
    ours = stage.server(opponents.service)
    contestants = [Contestant(OURS, "ours", _upload(stage, ours, content, _put(ours, "/upload/ours")))]
    if rclone := _webdav(stage):
        measure = _upload(stage, rclone, content, _put(rclone, "/rclone"))
        contestants.append(Contestant(RCLONE_WEBDAV, "opponent", measure))
    if tus := stage.opponent(TUS, "node", opponents.tus):
        contestants.append(Contestant(TUS, "opponent", _upload(stage, tus, content, _tus(tus))))
    contestants.append(_direct(stage, content))
    return Work(
        f"Raw upload of {named(size)}",
        "One request (tus: creation with upload), sent by the kernel from a file in memory. The SHA-256 of "
        "what S3 then holds is compared once, its size every time.",
        [SECONDS, CPU],
        contestants,
        [Bar("wall", DIRECT_UPLOAD, at_most=1.15), Bar("wall", TUS, at_most=0.8)],
        stage.sizes.rounds if size < GiB else stage.sizes.long_rounds,
        stage.empty_bucket if size >= GiB else lambda: None,
        size,
    )


def form_upload(stage: Stage, size: int) -> Work:
    """One file in a form."""
    content = stage.content(size)
    ours = stage.server(opponents.service)
    contestants = [Contestant(OURS, "ours", _upload(stage, ours, content, _form(ours, "ours")))]
    if flask := stage.opponent(FLASK, "flask", opponents.flask_boto3):
        measure = _upload(stage, flask, content, _form(flask, "flask"))
        contestants.append(Contestant(FLASK, "opponent", measure))
    contestants.append(_direct(stage, content))
    return Work(
        f"Form upload of {named(size)}",
        "multipart/form-data, staged on disk, then sent to S3. Flask saves request.files to a file and calls "
        "upload_file. Checked as raw uploads are.",
        [SECONDS, CPU],
        contestants,
        [Bar("wall", DIRECT_UPLOAD, at_most=1.5)],
        stage.sizes.rounds if size < GiB else stage.sizes.long_rounds,
        stage.empty_bucket if size >= GiB else lambda: None,
        size,
    )


RANGES = 20


def _read(url: str, get: Callable[[], str], content: Content, server: Server | None) -> Measure:
    """Seconds to read the whole content at `get()`, and milliseconds to read a MiB of it."""

    def ranges(client: Client) -> None:
        for number in range(RANGES):
            begin = (number * (content.size - MiB) // RANGES) & ~4095
            given = {"Range": f"bytes={begin}-{begin + MiB - 1}"}
            length = client.download(get(), given, statuses=(206,))
            expect(length == MiB, f"{length} bytes of a range of {MiB}")

    def measure() -> Mapping[str, float]:
        lengths: list[int] = []
        with Client(url) as client:
            figures = _timed(server, lambda: lengths.append(client.download(get())))
            figures["range"] = 1000 * _timed(None, lambda: ranges(client))["wall"] / RANGES
        expect(lengths == [content.size], f"{lengths} bytes of {content.size}")
        return figures

    digest = hashlib.sha256()
    with Client(url) as client:
        client.download(get(), look=digest.update)
    expect(digest.hexdigest() == content.sha256(), "the bytes that came are others")
    return measure


def downloads(stage: Stage) -> Work:
    """The bytes of a file through the service: all of them, and ranges."""
    content = stage.content(stage.sizes.big_file)
    stage.store("big", content)
    ours = stage.server(opponents.service)
    contestants = [Contestant(OURS, "ours", _read(ours.url, lambda: "/files/big", content, ours))]
    if rclone := stage.opponent(RCLONE_HTTP, "rclone", lambda *where: opponents.rclone("http", *where)):
        measure = _read(rclone.url, lambda: "/big", content, rclone)
        contestants.append(Contestant(RCLONE_HTTP, "opponent", measure))
    direct = _read(stage.s3.url, lambda: target(stage.signed("GET", "big")), content, None)
    contestants.append(Contestant(DIRECT_GET, "limit", direct))
    return Work(
        f"Download of {named(content.size)}, and ranges of 1 MiB",
        "One kept connection. The SHA-256 of the bytes is compared once, their number every time. The limit "
        "is the same client at a presigned URL.",
        [SECONDS, CPU, Metric("range", "a range of 1 MiB", "ms")],
        contestants,
        [Bar("wall", DIRECT_GET, at_most=1.2), Bar("range", DIRECT_GET, at_most=1.2)],
        stage.sizes.rounds,
        size=content.size,
    )


def memory(stage: Stage) -> Work:
    """The most memory that a server's largest process has resident during uploads, in MiB."""
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
            figures["many"] = peak(file, 16)  # last, because what it took is not given back at once
            return figures

        return measure

    ours = stage.server(opponents.service)
    measure = peaks(ours, lambda number: _put(ours, f"/upload/ours{number}"), huge_too=True)
    contestants = [Contestant(OURS, "ours", measure)]
    if rclone := _webdav(stage):
        measure = peaks(rclone, lambda number: _put(rclone, f"/rclone{number}"))
        contestants.append(Contestant(RCLONE_WEBDAV, "opponent", measure))
    if tus := stage.opponent(TUS, "node", opponents.tus):
        contestants.append(Contestant(TUS, "opponent", peaks(tus, lambda _: _tus(tus))))
    if companion := stage.opponent(COMPANION, "node", opponents.companion):
        measure = peaks(companion, lambda number: _import(stage, companion, number))
        contestants.append(Contestant(COMPANION, "opponent", measure))
    one, largest = named(sizes.file), named(sizes.huge_file)
    return Work(
        f"Memory during uploads of {one} to {largest}",
        f"The kernel's high-water mark (VmHWM) of the server's largest process. {largest} goes through ours "
        "alone. Through Companion no uploads pass; it imports the same bytes from a URL, streaming.",
        [
            Metric("one", one, "MiB", 0),
            Metric("many", f"16 × {one}", "MiB", 0),
            Metric("huge", largest, "MiB", 0),
            Metric("growth", f"more for {largest} than for {one}", "MiB", 0),
        ],
        contestants,
        [Bar("many", at_most=128), Bar("huge", at_most=128), Bar("growth", at_most=16)],
        1,
    )


def _import(stage: Stage, companion: Server, number: int) -> Send:
    """Have Companion fetch the content from a URL into S3; it begins when someone listens to its progress."""
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
