"""The works that move bodies: uploads, downloads, and ranges, over plain HTTP and over TLS to S3."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping

from bench import opponents
from bench.client import Client, Content
from bench.opponents import GiB, MiB, Server
from bench.stage import OURS, Bar, Contestant, Measure, Metric, Stage, Work, expect, named, target

FLASK = "Flask with boto3"
COMPANION = "Uppy Companion"
TUS = "@tus/server"
RCLONE_HTTP = "rclone serve http"
RCLONE_WEBDAV = "rclone serve webdav"
DIRECT_UPLOAD = "boto3 upload_file"
DIRECT_GET = "GET from S3 directly"
NGINX = "nginx before a presigned URL"

SECONDS = Metric("wall", "wall clock", "s", 2)
CPU = Metric("cpu", "server's CPU", "s", 2)

#: Uploads a body and returns the key that it then has in S3.
Send = Callable[[Content], str]


def _timed(server: Server | None, act: Callable[[], object]) -> dict[str, float]:
    before = server.cpu_seconds() if server else 0.0
    begun = time.perf_counter()
    act()
    wall = time.perf_counter() - begun
    return {"wall": wall, "cpu": server.cpu_seconds() - before} if server else {"wall": wall}


def put(server: Server, path: str) -> Send:
    """Upload as the raw body of a PUT."""

    def send(content: Content) -> str:
        with Client(server.url) as client:
            client.upload("PUT", path, content).expect(200, 201)
        return path.partition("?")[0].rpartition("/")[2]

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


def tus_upload(server: Server) -> Send:
    def send(content: Content) -> str:
        headers = {"Tus-Resumable": "1.0.0", "Upload-Length": str(content.size)}
        headers["Content-Type"] = "application/offset+octet-stream"
        with Client(server.url) as client:
            answer = client.upload("POST", "/files", content, headers).expect(201)
        expect(answer.headers.get("upload-offset") == str(content.size), "tus did not take the whole body")
        return answer.headers["location"].removeprefix(f"{server.url}/files/")

    return send


def _upload(stage: Stage, server: Server | None, content: Content, send: Send) -> Measure:
    """Seconds of one upload. Its size in S3 is compared every time, its bytes once."""
    compared: list[str] = []
    if server is not None:  # a small upload first, which opens connections and fills caches
        small = Content(content.path, min(content.size, MiB))
        stage.expect_stored(send(small), small)

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
    """boto3's transfer manager with its defaults (10 threads, parts of 8 MiB), from a file."""
    path = stage.directory / "whole"
    with path.open("wb") as file:
        data, left = content.path.read_bytes(), content.size
        while left > 0:
            left -= file.write(data[:left])

    def send(_: Content) -> str:
        stage.boto3.upload_file(str(path), stage.bucket, "direct")
        return "direct"

    return Contestant(DIRECT_UPLOAD, "limit", _upload(stage, None, content, send))


def webdav(stage: Stage) -> Server | None:
    return stage.opponent(RCLONE_WEBDAV, "rclone", lambda *where: opponents.rclone("webdav", *where))


def _nginx_upload(stage: Stage, content: Content) -> Contestant | None:
    nginx = stage.opponent(NGINX, "nginx", opponents.nginx)
    if nginx is None:
        return None
    return Contestant(
        NGINX, "limit", _upload(stage, nginx, content, put(nginx, target(stage.signed("PUT", "nginx"))))
    )


def raw_upload(stage: Stage, size: int) -> Work:
    """One file as the raw body of a request. Over TLS to S3 the opponents stay out."""
    content = stage.content(size)
    ours = stage.server(opponents.service)
    contestants = [Contestant(OURS, "ours", _upload(stage, ours, content, put(ours, "/upload/ours")))]
    if not stage.ca and (rclone := webdav(stage)):
        measure = _upload(stage, rclone, content, put(rclone, "/rclone"))
        contestants.append(Contestant(RCLONE_WEBDAV, "opponent", measure))
    if not stage.ca and (tus := stage.opponent(TUS, "node", opponents.tus)):
        contestants.append(Contestant(TUS, "opponent", _upload(stage, tus, content, tus_upload(tus))))
    if nginx := _nginx_upload(stage, content):
        contestants.append(nginx)
    contestants.append(_direct(stage, content))
    bars = [Bar("wall", DIRECT_UPLOAD, at_most=1.0), Bar("wall", TUS, at_most=0.6)]
    return Work(
        f"Raw upload of {named(size)}{over_tls(stage)}",
        "One request (tus: creation with upload), sent by the kernel from a file in memory. The SHA-256 of "
        "what S3 then holds is compared once, its size every time. nginx passes the same bytes to a "
        "presigned PUT, which is the least that a proxy does.",
        [SECONDS, CPU],
        contestants,
        [Bar("wall", DIRECT_UPLOAD, at_most=1.15)] if stage.ca else bars,
        stage.sizes.rounds if size < GiB else stage.sizes.long_rounds,
        stage.empty_bucket if size >= GiB else lambda: None,
        size,
    )


def over_tls(stage: Stage) -> str:
    """The end of a title."""
    return " over TLS to S3" if stage.ca else ""


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
        "multipart/form-data, staged on disk, then sent to S3. Flask saves the form's file to disk and calls "
        "upload_file. The result is compared as for raw uploads.",
        [SECONDS, CPU],
        contestants,
        [Bar("wall", DIRECT_UPLOAD, at_most=1.4 if size < GiB else 1.25)],
        stage.sizes.rounds if size < GiB else stage.sizes.long_rounds,
        stage.empty_bucket if size >= GiB else lambda: None,
        size,
    )


RANGES = 40


def _read(
    open_client: Callable[[], Client], get: Callable[[], str], content: Content, server: Server | None
) -> Measure:
    """Seconds to read the whole content at `get()`, and milliseconds to read 1 MiB of it."""

    def ranges(client: Client) -> None:
        for number in range(RANGES):
            begin = (number * (content.size - MiB) // RANGES) & ~4095
            given = {"Range": f"bytes={begin}-{begin + MiB - 1}"}
            length = client.download(get(), given, statuses=(206,))
            expect(length == MiB, f"{length} bytes of a range of {MiB}")

    def measure() -> Mapping[str, float]:
        lengths: list[int] = []
        with open_client() as client:
            figures = _timed(server, lambda: lengths.append(client.download(get())))
            figures["range"] = 1000 * _timed(None, lambda: ranges(client))["wall"] / RANGES
        expect(lengths == [content.size], f"{lengths} bytes of {content.size}")
        return figures

    digest = hashlib.sha256()
    with open_client() as client:
        client.download(get(), look=digest.update)
    expect(digest.hexdigest() == content.sha256(), "the bytes that came are others")
    return measure


def downloads(stage: Stage) -> Work:
    """The bytes of a file through the service: all of them, and ranges."""
    content = stage.content(stage.sizes.big_file)
    stage.store("big", content)

    def through(server: Server, get: Callable[[], str]) -> Measure:
        return _read(lambda: Client(server.url), get, content, server)

    def presigned() -> str:
        return target(stage.signed("GET", "big"))

    contestants = [Contestant(OURS, "ours", through(stage.server(opponents.service), lambda: "/files/big"))]
    if not stage.ca and (
        rclone := stage.opponent(RCLONE_HTTP, "rclone", lambda *where: opponents.rclone("http", *where))
    ):
        contestants.append(Contestant(RCLONE_HTTP, "opponent", through(rclone, lambda: "/big")))
    if nginx := stage.opponent(NGINX, "nginx", opponents.nginx):
        contestants.append(Contestant(NGINX, "limit", through(nginx, presigned)))
    contestants.append(Contestant(DIRECT_GET, "limit", _read(stage.s3_client, presigned, content, None)))
    bars = [Bar("wall", RCLONE_HTTP, at_most=0.9), Bar("range", DIRECT_GET, at_most=1.25)]
    return Work(
        f"Download of {named(content.size)}, and ranges of 1 MiB{over_tls(stage)}",
        "One kept connection. The SHA-256 of the bytes is compared once, their number every time. The limits "
        "are the same client at a presigned URL, directly and with nginx before it.",
        [SECONDS, CPU, Metric("range", "a range of 1 MiB", "ms", 2)],
        contestants,
        [Bar("wall", DIRECT_GET, at_most=1.3)] if stage.ca else bars,
        stage.sizes.rounds,
        size=content.size,
    )
