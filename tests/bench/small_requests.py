"""The works of many small requests: plans and presigned URLs, and uploads of small files.

Each function prepares one work on a stage. Every contestant does the work once and its result is compared
before the measurement.
"""

from __future__ import annotations

import itertools
import json
import os
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import urllib3

from bench import opponents
from bench.client import ask, load, request_bytes
from bench.opponents import Server
from bench.stage import JSON, OURS, Bar, Contestant, Measure, Metric, Stage, Work, expect
from bench.transfers import COMPANION, FLASK

COURSE = "a boto3 client per request"
BARE = "bare Flask route"
HEAD_IN_FLASK = "signed HEAD in a bare Flask route"
HEAD = "signed HEAD, no server"
DIRECT_PUT = "boto3 put_object"
CONNECTIONS = 16

RATE = Metric("rate", "rate", "requests/s", 0)
CPU = Metric("cpu", "server's CPU", "ms/request", 2)
CLIENT = Metric("client", "client's CPU", "of a core", 2)


def _rate(stage: Stage, server: Server, request: bytes, contains: bytes) -> Measure:
    """The rate of the request on 16 connections, the server's CPU for each, and how busy the client is."""

    def measure(seconds: float = stage.sizes.seconds) -> Mapping[str, float]:
        before = server.cpu_seconds()
        done = load(server.url, [request], connections=CONNECTIONS, seconds=seconds, contains=contains)
        return {
            "rate": done.rate,
            "cpu": 1000 * (server.cpu_seconds() - before) / done.requests,
            "client": done.client_busy,
        }

    measure(0.2)  # the first requests open connections and fill caches
    return measure


def upload_plans(stage: Stage) -> Work:
    """Plan a small upload that goes to S3 directly. The service sends nothing to S3 for it."""
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
        "A presigned POST for one file, 16 connections. One plan of each is used before the measurement.",
        [RATE, CPU, CLIENT],
        contestants,
        [
            Bar("rate", BARE, at_least=0.65),
            Bar("rate", COMPANION, at_least=3),
            Bar("rate", FLASK, at_least=1),
        ],
        stage.sizes.rounds,
    )


def _follow_plan(stage: Stage, plan: Mapping[str, Any]) -> None:
    """Upload four bytes by the plan, expect them in S3, and delete them."""
    fields = [(name, value) for name, value in plan["fields"].items() if value is not None]
    answer = urllib3.request(
        "POST", plan["url"], fields=[*fields, ("file", ("plan.csv", b"a,b\n"))], timeout=60
    )
    expect(answer.status in (200, 201, 204), f"the plan was refused: {answer.status} {answer.data[:300]!r}")
    stored = stage.boto3.get_object(Bucket=stage.bucket, Key="reports/plan.csv")["Body"].read()
    expect(stored == b"a,b\n", f"the plan stored {stored!r}")
    stage.boto3.delete_object(Bucket=stage.bucket, Key="reports/plan.csv")


def presigned_downloads(stage: Stage) -> Work:
    """Presign a download without asking S3 whether the file exists."""
    stage.boto3.put_object(Bucket=stage.bucket, Key="reports/one.csv", Body=b"a,b\n")
    ours = stage.server(opponents.service)
    contestants = [Contestant(OURS, "ours", _presign(stage, ours, "/download/reports/one.csv?check=false"))]
    if flask := stage.opponent(FLASK, "flask", opponents.flask_boto3):
        contestants.append(Contestant(FLASK, "opponent", _presign(stage, flask, "/presign/reports/one.csv")))
    bare = stage.server(opponents.bare_flask)
    asked = request_bytes("GET", f"{bare.url}/bare")
    contestants.append(Contestant(BARE, "limit", _rate(stage, bare, asked, b"ok")))
    return Work(
        "Presign only: downloads without the check",
        "A presigned GET, 16 connections. One URL of each is read before the measurement. Companion signs no "
        "downloads.",
        [RATE, CPU, CLIENT],
        contestants,
        [Bar("rate", BARE, at_least=0.6), Bar("rate", FLASK, at_least=1)],
        stage.sizes.rounds,
    )


def _presign(stage: Stage, server: Server, path: str) -> Measure:
    """The rate of a route that answers with a presigned URL. Reading the URL must give the file."""
    answer = json.loads(ask(server.url, "GET", path).expect(200).body)
    read = urllib3.request("GET", answer["content"], timeout=60)
    expect((read.status, read.data) == (200, b"a,b\n"), f"the presigned URL gave {read.status}")
    return _rate(stage, server, request_bytes("GET", server.url + path), b"X-Amz-Signature")


def checked_downloads(stage: Stage) -> Work:
    """Presign a download after a check that the file exists."""
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
        """Signed HEADs by 16 threads over one pool, without a server of ours."""
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
        "One HEAD to S3 and a presigned GET, 16 connections; a missing file must be a 404. The limits sign "
        "the HEAD with botocore's signer and send it over urllib3's pool: in 16 threads of the client, and "
        "in a bare Flask route.",
        [RATE, CPU, CLIENT],
        contestants,
        [
            Bar("rate", HEAD, at_least=0.75),
            Bar("rate", HEAD_IN_FLASK, at_least=0.85),
            Bar("rate", COURSE, at_least=12),
        ],
        stage.sizes.rounds,
    )


def small_files(stage: Stage) -> Work:
    """Many files of 4 KiB, 16 at once."""
    count, body = stage.sizes.small_files, os.urandom(4096)

    def expect_all(prefix: str) -> None:
        names = {key for key in stage.s3.keys(stage.bucket) if key.startswith(prefix)}
        expect(len(names) == count, f"{len(names)} files stored of {count}")
        stored = stage.boto3.get_object(Bucket=stage.bucket, Key=f"{prefix}{count - 1}")["Body"].read()
        expect(stored == body, "a small file in S3 differs from what was sent")

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
        "The service takes raw bodies; Flask takes forms and calls put_object; the limit is one boto3 client "
        "in 16 threads. The files are counted in S3 afterwards.",
        [replace(RATE, unit="files/s"), replace(CPU, unit="ms/file")],
        contestants,
        [Bar("rate", DIRECT_PUT, at_least=1.2)],
        stage.sizes.long_rounds,
    )
