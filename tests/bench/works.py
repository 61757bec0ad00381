"""The works that are measured: what each contestant does in a round, what its figures are, and what is asked.

Each function prepares one work on a stage: it fills the bucket, starts the servers, and has every one of them
do the work once and looks at what came of it, before anything is timed. `bodies` has those that move bodies.
"""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import os
import re
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Self
from urllib.parse import urlsplit

import urllib3

from bench import bodies, opponents
from bench.bodies import COMPANION, FLASK, RCLONE_HTTP
from bench.client import Client, ask, load, request_bytes
from bench.opponents import Server
from bench.stage import (
    FOLDER,
    JSON,
    OURS,
    Bar,
    Contestant,
    Measure,
    Metric,
    Sizes,
    Stage,
    Work,
    expect,
    named,
    target,
)
from local_servers import free_port
from support.servers import ROOT, service_environment, until

COURSE = "a boto3 client per request"
SYNC = "gunicorn sync, 5 workers"
BARE = "bare Flask route"
HEAD_IN_FLASK = "signed HEAD in a bare Flask route"
HEAD = "signed HEAD, no server"
DIRECT_LIST = "S3 directly"
PAGING = "S3 directly, page by page"
DIRECT_PUT = "boto3 put_object"
CONNECTIONS = 16


# --- many small requests

RATE = Metric("rate", "rate", "requests/s", 0)
CPU = Metric("cpu", "server's CPU", "ms/request", 2)


def _rate(stage: Stage, server: Server, request: bytes, contains: bytes) -> Measure:
    """The rate at which the request is answered on 16 connections, and the server's CPU for each."""

    def measure(seconds: float = stage.sizes.seconds) -> Mapping[str, float]:
        before = server.cpu_seconds()
        done = load(server.url, [request], connections=CONNECTIONS, seconds=seconds, contains=contains)
        return {"rate": done.rate, "cpu": 1000 * (server.cpu_seconds() - before) / done.requests}

    measure(0.2)  # whatever is made once, is made
    return measure


def upload_plans(stage: Stage) -> Work:
    """Plan an upload that goes to S3 directly; nobody asks S3 anything."""
    body = b'{"name": "reports/plan.csv", "size": 4}'
    path = "/s3/params?filename=reports%2Fplan.csv&type=text%2Fcsv"
    contestants = []
    ours = stage.server(opponents.service)
    asked = request_bytes("POST", f"{ours.url}/uploads", JSON, body)
    plan = json.loads(ask(ours.url, "POST", "/uploads", JSON, body).expect(200).body)
    _follow_plan(stage, plan["content"])
    contestants.append(Contestant(OURS, "ours", _rate(stage, ours, asked, b"x-amz-signature")))
    if companion := stage.opponent(COMPANION, "node", opponents.companion):
        _follow_plan(stage, json.loads(ask(companion.url, "GET", path).expect(200).body))
        asked = request_bytes("GET", companion.url + path)
        contestants.append(
            Contestant(COMPANION, "opponent", _rate(stage, companion, asked, b"X-Amz-Signature"))
        )
    if flask := stage.opponent(FLASK, "flask", opponents.flask_boto3):
        answer = ask(flask.url, "POST", "/uploads", JSON, body).expect(200)
        _follow_plan(stage, json.loads(answer.body))
        asked = request_bytes("POST", f"{flask.url}/uploads", JSON, body)
        contestants.append(Contestant(FLASK, "opponent", _rate(stage, flask, asked, b"x-amz-signature")))
    bare = stage.server(opponents.bare_flask)
    asked = request_bytes("POST", f"{bare.url}/bare", JSON, body)
    contestants.append(Contestant(BARE, "limit", _rate(stage, bare, asked, b"ok")))
    return Work(
        "Presign only: upload plans",
        "A presigned POST for one file, 16 connections. Every plan is followed once: the file must arrive.",
        [RATE, CPU],
        contestants,
        [Bar("rate", BARE, at_least=0.85), Bar("rate", COMPANION, at_least=2.5)],
        stage.sizes.rounds,
    )


def _follow_plan(stage: Stage, plan: Mapping[str, Any]) -> None:
    """Upload four bytes as a plan says; they must be in S3 then, and are removed."""
    fields = [(name, value) for name, value in plan["fields"].items() if value is not None]
    answer = urllib3.request(
        "POST", plan["url"], fields=[*fields, ("file", ("plan.csv", b"a,b\n"))], timeout=60
    )
    expect(answer.status in (200, 201, 204), f"the plan was refused: {answer.status} {answer.data[:300]!r}")
    stored = stage.boto3.get_object(Bucket=stage.bucket, Key="reports/plan.csv")["Body"].read()
    expect(stored == b"a,b\n", f"the plan stored {stored!r}")
    stage.boto3.delete_object(Bucket=stage.bucket, Key="reports/plan.csv")


def presigned_downloads(stage: Stage) -> Work | None:
    """Presign a download without asking S3 whether the file exists."""
    stage.boto3.put_object(Bucket=stage.bucket, Key="reports/one.csv", Body=b"a,b\n")
    ours = stage.server(opponents.service)
    document = json.loads(ask(ours.url, "GET", "/openapi.json").expect(200).body)
    parameters = document["paths"]["/download/{name}"]["get"].get("parameters", [])
    if not any(parameter["name"] == "check" for parameter in parameters):
        stage.absent[OURS] = "its OpenAPI document has no parameter `check` of /download"
        return None
    contestants = [Contestant(OURS, "ours", _presign(stage, ours, "/download/reports/one.csv?check=false"))]
    if flask := stage.opponent(FLASK, "flask", opponents.flask_boto3):
        contestants.append(Contestant(FLASK, "opponent", _presign(stage, flask, "/presign/reports/one.csv")))
    bare = stage.server(opponents.bare_flask)
    asked = request_bytes("GET", f"{bare.url}/bare")
    contestants.append(Contestant(BARE, "limit", _rate(stage, bare, asked, b"ok")))
    return Work(
        "Presign only: downloads, the check off",
        "A presigned GET, 16 connections. Every URL is followed once. Companion signs no downloads.",
        [RATE, CPU],
        contestants,
        [Bar("rate", BARE, at_least=0.85)],
        stage.sizes.rounds,
    )


def _presign(stage: Stage, server: Server, path: str) -> Measure:
    """The rate of a route that answers with a presigned URL; the URL must lead to the file."""
    answer = json.loads(ask(server.url, "GET", path).expect(200).body)
    read = urllib3.request("GET", answer["content"], timeout=60)
    expect((read.status, read.data) == (200, b"a,b\n"), f"the presigned URL gave {read.status}")
    return _rate(stage, server, request_bytes("GET", server.url + path), b"X-Amz-Signature")


def checked_downloads(stage: Stage) -> Work:
    """Presign a download of a file that is known to exist."""
    key = "reports/one.csv"
    stage.boto3.put_object(Bucket=stage.bucket, Key=key, Body=b"a,b\n")
    path = f"/download/{key}"
    ours = stage.server(opponents.service)
    ask(ours.url, "GET", "/download/reports/none.csv").expect(404)
    contestants = [Contestant(OURS, "ours", _presign(stage, ours, path))]
    if flask := stage.opponent(COURSE, "flask", opponents.flask_boto3):
        ask(flask.url, "GET", "/download/reports/none.csv").expect(404)
        contestants.append(Contestant(COURSE, "opponent", _presign(stage, flask, path)))
    bare = stage.server(opponents.bare_flask)
    asked = request_bytes("GET", f"{bare.url}/head/{key}")
    contestants.append(Contestant(HEAD_IN_FLASK, "limit", _rate(stage, bare, asked, b'"status":200')))

    pool = urllib3.PoolManager(maxsize=CONNECTIONS)

    def heads() -> Mapping[str, float]:
        """Signed HEADs by 16 threads over one pool, with no server in between."""
        deadline = time.perf_counter() + stage.sizes.seconds

        def ask(_: int) -> int:
            for count in itertools.count():
                if time.perf_counter() > deadline:
                    return count
                answer = pool.request("HEAD", stage.signed("HEAD", key), retries=False)
                expect(answer.status == 200, f"S3 answered {answer.status}")
            raise AssertionError

        with ThreadPoolExecutor(CONNECTIONS) as threads:
            begun = time.perf_counter()
            count = sum(threads.map(ask, range(CONNECTIONS)))
            return {"rate": count / (time.perf_counter() - begun)}

    contestants.append(Contestant(HEAD, "limit", heads))
    return Work(
        "/download with the existence check",
        "One HEAD to S3 and a presigned GET, 16 connections; a missing file must be a 404. The limit signs "
        "the HEAD with botocore's signer and sends it over urllib3's pool: by itself in 16 threads, and in a "
        "bare Flask route.",
        [RATE, CPU],
        contestants,
        [
            Bar("rate", HEAD, at_least=0.7),
            Bar("rate", HEAD_IN_FLASK, at_least=0.7),
            Bar("rate", COURSE, at_least=5),
        ],
        stage.sizes.rounds,
    )


# --- listing


def list_a_page(stage: Stage) -> Work:
    """List 1,000 keys of a bucket that has 100,000, one request after another."""
    stage.fill(stage.sizes.keys)
    folders = [f"d{number:06d}/" for number in range(stage.sizes.keys // FOLDER)]

    def lists(
        url: str,
        get: Callable[[str], str],
        read: Callable[[bytes], list[str]],
        server: Server | None = None,
    ) -> Measure:
        following = itertools.cycle(folders)

        def measure() -> Mapping[str, float]:
            before = server.cpu_seconds() if server else 0.0
            with Client(url) as client:
                begun = time.perf_counter()
                for folder in itertools.islice(following, stage.sizes.listings):
                    client.request("GET", get(folder)).expect(200)
                wall = 1000 * (time.perf_counter() - begun) / stage.sizes.listings
            if server is None:
                return {"wall": wall}
            return {"wall": wall, "cpu": 1000 * (server.cpu_seconds() - before) / stage.sizes.listings}

        names = read(ask(url, "GET", get("d000001/")).expect(200).body)
        wanted = [f"d000001/k{number:06d}" for number in range(FOLDER)]
        expect(names == wanted, f"{len(names)} names, {names[:2]} … {names[-2:]}")
        return measure

    def content(body: bytes) -> list[str]:
        return list(json.loads(body)["content"])

    ours = stage.server(opponents.service)
    measure = lists(ours.url, lambda folder: f"/list_files?limit=1000&prefix={folder}", content, ours)
    contestants = [Contestant(OURS, "ours", measure)]
    if rclone := stage.opponent(RCLONE_HTTP, "rclone", lambda *where: opponents.rclone("http", *where)):
        measure = lists(
            rclone.url,
            lambda folder: f"/{folder}",
            lambda body: [f"d000001/{name}" for name in re.findall(r'href="(k\d+)"', body.decode())],
            rclone,
        )
        contestants.append(Contestant(RCLONE_HTTP, "opponent", measure))
    if flask := stage.opponent(FLASK, "flask", opponents.flask_boto3):
        measure = lists(flask.url, lambda folder: f"/list_files?prefix={folder}", content, flask)
        contestants.append(Contestant(FLASK, "opponent", measure))

    def directly(folder: str) -> str:
        return target(stage.signed("GET", **{"list-type": "2", "max-keys": "1000", "prefix": folder}))

    measure = lists(stage.s3.url, directly, lambda body: re.findall("<Key>(.*?)</Key>", body.decode()))
    contestants.append(Contestant(DIRECT_LIST, "limit", measure))
    return Work(
        f"List 1,000 of {stage.sizes.keys:,} keys",
        "One kept connection, one request after another, each a folder of 1,000 keys, in turn: rclone cannot "
        "list a part of a folder. The limit reads S3's XML and does not parse it. Names are compared once.",
        [Metric("wall", "wall clock", "ms/request"), replace(CPU, decimals=1)],
        contestants,
        [
            Bar("wall", DIRECT_LIST, at_most=2.5),
            Bar("cpu", at_most=10),
            Bar("cpu", FLASK, at_most=0.2),
        ],
        stage.sizes.rounds,
    )


def list_everything(stage: Stage) -> Work:
    """List a million keys as JSON lines."""
    keys = stage.sizes.many_keys
    stage.fill(keys)
    ours = stage.server(opponents.service)
    headers = {"Accept": "application/x-ndjson"}

    lines = ask(ours.url, "GET", "/list_files?prefix=d00000", headers).expect(200).body.splitlines()
    wanted = [f"d{n // FOLDER:06d}/k{n % FOLDER:06d}" for n in range(min(keys, 10 * FOLDER))]
    expect([json.loads(line)["name"] for line in lines] == wanted, "the names of the first folders differ")

    def stream() -> Mapping[str, float]:
        """Seconds for all lines; and by how much the worker's memory grew after the first 20,000, in MiB."""
        count, settled, most, looked = 0, 0.0, 0.0, 0.0

        def look(piece: memoryview) -> None:
            nonlocal count, settled, most, looked
            count += bytes(piece).count(b"\n")
            if time.perf_counter() < looked + 0.05:
                return
            looked = time.perf_counter()
            resident = ours.resident_mib()
            if count <= min(20_000, keys // 2):
                settled = resident
            most = max(most, resident)

        with Client(ours.url) as client:
            begun = time.perf_counter()
            client.download("/list_files", headers, look=look)
            seconds = time.perf_counter() - begun
        expect(count == keys, f"{count} lines instead of {keys}")
        return {"wall": seconds, "growth": most - settled, "peak": most}

    def page_by_page() -> Mapping[str, float]:
        """Seconds for the XML of all pages, each asked for when the one before has come; none is parsed."""
        count, query = 0, {"list-type": "2", "max-keys": "1000"}
        with Client(stage.s3.url) as s3:
            begun = time.perf_counter()
            token: re.Match[bytes] | None = None
            while count == 0 or token is not None:
                body = s3.request("GET", target(stage.signed("GET", **query))).expect(200).body
                count += body.count(b"<Key>")
                token = re.search(b"<NextContinuationToken>(.*?)</NextContinuationToken>", body)
                query["continuation-token"] = token[1].decode() if token else ""
            seconds = time.perf_counter() - begun
        expect(count == keys, f"{count} keys instead of {keys}")
        return {"wall": seconds}

    return Work(
        f"List {keys:,} keys as JSON lines",
        "One request that streams all of them. The limit pages through S3 and parses nothing. Memory is the "
        "worker's, read 20 times a second.",
        [
            Metric("wall", "wall clock", "s", 2),
            Metric("growth", "memory grown after the first 20,000", "MiB"),
            Metric("peak", "most memory", "MiB"),
        ],
        [Contestant(OURS, "ours", stream), Contestant(PAGING, "limit", page_by_page)],
        [Bar("wall", PAGING, at_most=1.5), Bar("growth", at_most=8)],
        stage.sizes.long_rounds,
    )


def liveness(stage: Stage) -> Work:
    """How soon /livez answers, on connections of its own, while 50 uploads come in slowly."""
    contestants = []
    ours = stage.server(opponents.service)
    contestants.append(Contestant(OURS, "ours", lambda: _probe(stage, ours, finish=True)))
    if sync := stage.opponent(
        SYNC,
        "flask",
        lambda *where: opponents.flask_boto3(*where, "--worker-class", "sync", "--workers", "5"),
    ):
        contestants.append(Contestant(SYNC, "opponent", lambda: _probe(stage, sync, finish=False)))
    return Work(
        f"/livez while {stage.sizes.slow_uploads} slow uploads run",
        f"Each upload sends 1 KiB every 100 ms; /livez is asked every 20 ms, and given up after "
        f"{GIVE_UP_SECONDS:.0f} s, which then counts. Ours must store every upload. 5 workers are gunicorn's "
        "own advice for two cores.",
        [Metric("p99", "99th percentile", "ms"), Metric("median", "median", "ms")],
        contestants,
        [Bar("p99", at_most=50)],
        stage.sizes.long_rounds,
    )


GIVE_UP_SECONDS = 2.0


def _probe(stage: Stage, server: Server, *, finish: bool) -> Mapping[str, float]:
    """Percentiles, in ms, of /livez's latency while the uploads trickle in; `finish` completes them."""
    seconds = 3 * stage.sizes.seconds
    pieces = int(10 * seconds) + 20
    latencies: list[float] = []
    with _SlowUploads(server, stage.sizes.slow_uploads, pieces) as uploads:
        time.sleep(0.3)  # they are under way
        deadline = time.perf_counter() + seconds
        while time.perf_counter() < deadline:
            latencies.append(_latency(server))
            time.sleep(0.02)
        if finish:
            uploads.finish()
            for number in range(stage.sizes.slow_uploads):
                stored = stage.boto3.head_object(Bucket=stage.bucket, Key=f"slow-{number}")
                expect(stored["ContentLength"] == 1024 * pieces, "a slow upload is not whole in S3")
    latencies.sort()
    return {
        "p99": 1000 * latencies[min(len(latencies) - 1, int(0.99 * len(latencies)))],
        "median": 1000 * latencies[len(latencies) // 2],
    }


def _latency(server: Server) -> float:
    """Seconds until /livez answered on a connection of its own, at most those until it is given up."""
    parts = urlsplit(server.url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=GIVE_UP_SECONDS)
    begun = time.perf_counter()
    try:
        connection.request("GET", "/livez")
        answer = connection.getresponse()
        answer.read()
        expect(answer.status == 200, f"/livez answered {answer.status}")
    except TimeoutError:
        return GIVE_UP_SECONDS
    finally:
        connection.close()
    return time.perf_counter() - begun


class _SlowUploads:
    """So many uploads of so many pieces of 1 KiB, one piece every 100 ms, by a thread of their own."""

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
        """Send what is left, and see that each was taken."""
        self._over.set()
        self._thread.join()
        for upload in self._uploads:
            upload.sendall(bytes(1024 * self._left))
        for upload in self._uploads:
            response = http.client.HTTPResponse(upload)
            response.begin()
            expect(response.status == 200, f"a slow upload: {response.status} {response.read()!r}")


# --- small files


def small_files(stage: Stage) -> Work:
    """Many files of 4 KiB, 16 at once."""
    count, body = stage.sizes.small_files, os.urandom(4096)

    def expect_all(prefix: str) -> None:
        names = {key for key in stage.s3.keys(stage.bucket) if key.startswith(prefix)}
        expect(len(names) == count, f"{len(names)} files stored of {count}")
        stored = stage.boto3.get_object(Bucket=stage.bucket, Key=f"{prefix}{count - 1}")["Body"].read()
        expect(stored == body, "a small file is not in S3 as it was sent")

    def through(server: Server, requests: Sequence[bytes], prefix: str) -> Measure:
        def measure() -> Mapping[str, float]:
            before = server.cpu_seconds()
            done = load(server.url, requests, connections=CONNECTIONS, seconds=None)
            figures = {"rate": done.rate, "cpu": 1000 * (server.cpu_seconds() - before) / count}
            expect_all(prefix)
            return figures

        load(server.url, requests[:CONNECTIONS], connections=CONNECTIONS, seconds=None)
        return measure

    ours = stage.server(opponents.service)
    requests = [
        request_bytes("PUT", f"{ours.url}/upload/ours-{number}", None, body) for number in range(count)
    ]
    contestants = [Contestant(OURS, "ours", through(ours, requests, "ours-"))]
    if flask := stage.opponent(FLASK, "flask", opponents.flask_boto3):
        requests = []
        for number in range(count):
            head = "--b0undary\r\nContent-Disposition: form-data; "
            head += f'name="file"; filename="flask-{number}"\r\n\r\n'
            form = head.encode() + body + b"\r\n--b0undary--\r\n"
            headers = {"Content-Type": "multipart/form-data; boundary=b0undary"}
            requests.append(request_bytes("POST", f"{flask.url}/small", headers, form))
        contestants.append(Contestant(FLASK, "opponent", through(flask, requests, "flask-")))

    def directly() -> Mapping[str, float]:
        def put(number: int) -> None:
            stage.boto3.put_object(Bucket=stage.bucket, Key=f"direct-{number}", Body=body)

        with ThreadPoolExecutor(CONNECTIONS) as threads:
            begun = time.perf_counter()
            list(threads.map(put, range(count)))
            seconds = time.perf_counter() - begun
        expect_all("direct-")
        return {"rate": count / seconds}

    contestants.append(Contestant(DIRECT_PUT, "limit", directly))
    return Work(
        f"{count:,} files of 4 KiB, 16 at once",
        "Ours as raw bodies; Flask takes the form's file and calls put_object; the limit is one boto3 client "
        "in 16 threads. All are counted in S3 afterwards.",
        [replace(RATE, unit="files/s"), replace(CPU, unit="ms/file")],
        contestants,
        [Bar("rate", DIRECT_PUT, at_least=0.8)],
        stage.sizes.long_rounds,
    )


# --- more tasks

TASKS = (1, 2, 4)
TASK_CPUS = 0.25


def tasks(stage: Stage) -> Work | None:
    """Upload plans by 1, 2 and 4 containers of a quarter of a CPU each, behind HAProxy."""
    if reason := opponents.missing("haproxy") or _no_docker():
        stage.absent[OURS] = reason
        return None
    ports = [stage.enter_context(_container(stage, number)) for number in range(max(TASKS))]
    fronts = stage.enter_context(_haproxy(stage, ports))
    body = b'{"name": "reports/plan.csv", "size": 4}'

    def rate(tasks: int) -> float:
        url = f"http://127.0.0.1:{fronts[tasks]}"
        asked = request_bytes("POST", f"{url}/uploads", JSON, body)
        return load(
            url, [asked], connections=8 * tasks, seconds=3 * stage.sizes.seconds, contains=b"x-amz-signature"
        ).rate

    def measure() -> Mapping[str, float]:
        rates = {tasks: rate(tasks) for tasks in TASKS}
        figures = {f"rate{tasks}": value for tasks, value in rates.items()}
        return {**figures, **{f"linear{n}": rates[n] / (n * rates[1]) for n in TASKS[1:]}}

    for tasks in TASKS:
        rate(tasks)
    return Work(
        "More tasks: 1, 2 and 4 containers of 0.25 CPU behind HAProxy",
        "The image, capped by the kernel's quota; upload plans, 8 connections for each container. Linear is "
        "the rate of one times their number.",
        [
            *(Metric(f"rate{n}", f"{n} container{'s' if n > 1 else ''}", "requests/s", 0) for n in TASKS),
            *(Metric(f"linear{n}", f"{n} of linear", "", 2) for n in TASKS[1:]),
        ],
        [Contestant(OURS, "ours", measure)],
        [Bar(f"linear{n}", at_least=0.95) for n in TASKS[1:]],
        stage.sizes.long_rounds,
    )


def _no_docker() -> str | None:
    if shutil.which("docker") is None:
        return "Docker is not installed"
    answers = subprocess.run(["docker", "info"], capture_output=True, check=False).returncode == 0
    return None if answers else "no Docker engine answers"


IMAGE = "s3api:bench"


def build_image() -> None:
    """As `make image` does; DOCKER_BUILD_FLAGS is for machines whose builds need more."""
    subprocess.run(["make", "image", f"IMAGE={IMAGE}"], cwd=ROOT, capture_output=True, check=True)


@contextmanager
def _container(stage: Stage, number: int) -> Iterator[int]:
    """A container of the image with its share of a CPU, on a free port of loopback."""
    port = free_port()
    settings = service_environment(stage.s3, stage.bucket, stage.directory, port=port, metrics_port=0)
    del settings["STAGING_DIR"]
    ours = {"PORT", "METRICS_PORT", "BUCKET", "SIGNING_KEY", "ALLOW_ANONYMOUS", "LOG_FORMAT"}
    given = {k: v for k, v in settings.items() if k in ours or k.startswith("AWS_")}
    given["HOST"] = "127.0.0.1"
    name = f"s3api-bench-{os.getpid()}-{number}"
    command = ["docker", "run", "--detach", "--name", name, "--network", "host", f"--cpus={TASK_CPUS}"]
    command += ["--memory", "384m", "--no-healthcheck"]
    for key, value in given.items():
        command += ["--env", f"{key}={value}"]
    try:
        subprocess.run([*command, IMAGE], capture_output=True, check=True)
        until(lambda: _answers(f"http://127.0.0.1:{port}/livez"), "a container answers", 60)
        yield port
    finally:
        subprocess.run(["docker", "rm", "--force", "--volumes", name], capture_output=True, check=False)


def _answers(url: str) -> bool:
    with contextlib.suppress(urllib3.exceptions.HTTPError):
        return urllib3.request("GET", url, timeout=1.0, retries=False).status == 200
    return False


@contextmanager
def _haproxy(stage: Stage, ports: Sequence[int]) -> Iterator[Mapping[int, int]]:
    """HAProxy with a port for each number of tasks, as the load balancer of the stack balances."""
    fronts = {tasks: free_port() for tasks in TASKS}
    lines = [
        "global",
        "  nbthread 1",
        "defaults",
        "  mode http",
        "  balance leastconn",
        "  http-reuse always",
    ]
    lines += ["  timeout connect 10s", "  timeout client 60s", "  timeout server 60s"]
    for tasks, front in fronts.items():
        lines += [f"listen tasks-{tasks}", f"  bind 127.0.0.1:{front}"]
        lines += [f"  server task-{port} 127.0.0.1:{port}" for port in ports[:tasks]]
    file = stage.directory / "haproxy.cfg"
    file.write_text("\n".join([*lines, ""]))
    process = subprocess.Popen(["haproxy", "-q", "-db", "-f", str(file)], start_new_session=True)
    try:
        until(lambda: _answers(f"http://127.0.0.1:{fronts[1]}/livez"), "HAProxy answers")
        yield fronts
    finally:
        process.kill()
        process.wait()


Make = Callable[[Stage], Work | None]


def all_works(sizes: Sizes) -> Mapping[str, tuple[str, Make]]:
    """Every work by its number: a short name, and how it is made.

    None is a work that cannot be done here, for a reason that the stage then holds.
    """
    file, big_file = named(sizes.file), named(sizes.big_file)
    return {
        "1a": ("upload plan", upload_plans),
        "1b": ("presigned download, unchecked", presigned_downloads),
        "2": ("/download", checked_downloads),
        "3": ("list 1,000 keys", list_a_page),
        "4": (f"list {sizes.many_keys:,} keys", list_everything),
        "5a": (f"raw upload, {file}", lambda stage: bodies.raw_upload(stage, sizes.file)),
        "5b": (f"raw upload, {big_file}", lambda stage: bodies.raw_upload(stage, sizes.big_file)),
        "6a": (f"form upload, {file}", lambda stage: bodies.form_upload(stage, sizes.file)),
        "6b": (f"form upload, {big_file}", lambda stage: bodies.form_upload(stage, sizes.big_file)),
        "7": (f"download, {big_file}", bodies.downloads),
        "8": ("memory", bodies.memory),
        "9": ("/livez under slow uploads", liveness),
        "10": ("files of 4 KiB", small_files),
        "11": ("tasks", tasks),
    }
