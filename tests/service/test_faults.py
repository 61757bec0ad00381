"""What clients see, and what is left behind, when clients and S3 fail; with a real gunicorn and a real S3."""

from __future__ import annotations

import hashlib
import select
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests

from support.faulty_s3 import (
    ARN,
    AnswerError,
    Asked,
    BreakAnswer,
    Drip,
    Fault,
    FaultyS3,
    Hang,
    Reset,
    Swallow,
    running_faulty_s3,
)
from support.raw_client import RawClient, form
from support.servers import S3, SIGNING_KEY, Service, running_service, until

MiB = 1024 * 1024
PART = 8 * MiB
DEADLINE = 15.0  # what the settings below allow is 10 s; the rest is for a machine that is busy
AT_ONCE = 5.0  # shorter than two attempts to reach an S3 that hangs, each of which takes 5 s by default
SIZES = {"max_file_bytes": 64 * MiB, "staging_max_bytes": 32 * MiB}
#: For tests in which S3 answers nothing. In any other test, a busy machine could need longer than this.
SHORT_FOR_S3 = {
    "s3_connect_timeout_seconds": 1,
    "s3_read_timeout_seconds": 1,
    "s3_transfer_timeout_seconds": 2,
}
#: For tests in which S3 answers at first and hangs later. The limits for small requests are the default ones.
SHORT_FOR_TRANSFERS = {"s3_transfer_timeout_seconds": 6}
#: For tests in which a client stalls.
SHORT_FOR_CLIENTS = {"client_stall_seconds": 2}


@dataclass(frozen=True)
class Stage:
    """A service whose S3 fails when told to, and the bucket as it is behind the failures."""

    service: Service
    faulty: FaultyS3
    s3: S3
    bucket: str

    def left_behind(self) -> tuple[set[str], list[str], list[Path]]:
        """The objects, the open multipart uploads and the staged files."""
        staged = list(self.service.staging.glob("s3api-staged-*"))
        return self.s3.keys(self.bucket), self.s3.open_uploads(self.bucket), staged

    def is_clean(self) -> bool:
        return self.left_behind() == (set(), [], [])

    def alive(self) -> bool:
        return requests.get(self.service.at("/livez"), timeout=DEADLINE).status_code == 200

    def in_flight(self) -> int:
        metrics = requests.get(self.service.metrics_url, timeout=DEADLINE).text
        line = next(line for line in metrics.splitlines() if line.startswith("s3api_requests_in_flight "))
        return int(float(line.split()[1]))

    def logged(self, event: str, **fields: object) -> dict[str, Any]:
        """The line of the log with this event and these fields, once it is there."""

        def find() -> dict[str, Any] | None:
            lines = [line for line in self.service.log_lines() if line["event"] == event]
            wanted = [line for line in lines if fields.items() <= line.items()]
            return wanted[-1] if wanted else None

        found: dict[str, Any] = until(find, f"the log has {event} with {fields}")
        return found


@contextmanager
def running_stage(s3: S3, bucket: str, directory: Path, **settings: object) -> Iterator[Stage]:
    """A service with these settings, and its S3, which fails when told to."""
    s3.make_bucket(bucket)
    # The first object of a bucket makes its volumes, which may take longer than the service waits here.
    s3.client().put_object(Bucket=bucket, Key="first", Body=b"x")
    s3.client().delete_object(Bucket=bucket, Key="first")
    with (
        running_faulty_s3(s3) as faulty,
        running_service(faulty.s3, bucket, directory, **settings) as service,
    ):
        yield Stage(service, faulty, s3, bucket)


@pytest.fixture(scope="module")
def shared_stage(seaweedfs_s3: S3, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with running_stage(seaweedfs_s3, "day02-faults", tmp_path_factory.mktemp("faults"), **SIZES) as stage:
        yield stage


@pytest.fixture(scope="module")
def shared_short_for_s3(seaweedfs_s3: S3, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    directory = tmp_path_factory.mktemp("hanging")
    with running_stage(seaweedfs_s3, "day02-hanging", directory, **SIZES, **SHORT_FOR_S3) as stage:
        yield stage


@pytest.fixture(scope="module")
def shared_short_for_transfers(seaweedfs_s3: S3, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    directory = tmp_path_factory.mktemp("hanging-later")
    settings = {**SIZES, **SHORT_FOR_TRANSFERS}
    with running_stage(seaweedfs_s3, "day02-hanging-later", directory, **settings) as stage:
        yield stage


@pytest.fixture(scope="module")
def shared_short_for_clients(seaweedfs_s3: S3, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    directory = tmp_path_factory.mktemp("stalling")
    with running_stage(seaweedfs_s3, "day02-stalling", directory, **SIZES, **SHORT_FOR_CLIENTS) as stage:
        yield stage


@contextmanager
def emptied(stage: Stage) -> Iterator[Stage]:
    """The service and its S3 in good health, with nothing stored; emptied at the end."""
    until(lambda: requests.get(stage.service.at("/readyz"), timeout=DEADLINE).ok, "the service is ready")
    stage.faulty.asked.clear()
    try:
        yield stage
    finally:
        client = stage.s3.client()
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=stage.bucket):
            if keys := [{"Key": entry["Key"]} for entry in page.get("Contents", ())]:
                client.delete_objects(Bucket=stage.bucket, Delete={"Objects": keys})


def hangs(request: pytest.FixtureRequest) -> bool:
    """Whether the test's `fault` is a hang."""
    fault = request.node.callspec.params.get("fault") if hasattr(request.node, "callspec") else None
    return isinstance(fault, Hang | Drip) or (isinstance(fault, BreakAnswer) and fault.hang)


@pytest.fixture
def stage(request: pytest.FixtureRequest) -> Iterator[Stage]:
    """The service with the timeouts it has by default, or with short ones if S3 hangs."""
    name = "shared_short_for_s3" if hangs(request) else "shared_stage"
    with emptied(request.getfixturevalue(name)) as stage:
        yield stage


@pytest.fixture
def transfer_stage(request: pytest.FixtureRequest) -> Iterator[Stage]:
    """As `stage`, for a `fault` that comes after S3 has answered other requests of the same operation."""
    name = "shared_short_for_transfers" if hangs(request) else "shared_stage"
    with emptied(request.getfixturevalue(name)) as stage:
        yield stage


@pytest.fixture
def short_for_s3(shared_short_for_s3: Stage) -> Iterator[Stage]:
    with emptied(shared_short_for_s3) as stage:
        yield stage


@pytest.fixture
def short_for_clients(shared_short_for_clients: Stage) -> Iterator[Stage]:
    with emptied(shared_short_for_clients) as stage:
        yield stage


def put(stage: Stage, name: str, data: bytes = b"some bytes") -> None:
    stage.s3.client().put_object(Bucket=stage.bucket, Key=name, Body=data)


def pieces(data: bytes) -> Iterator[bytes]:
    """A body from an iterator has no length, so it is sent chunked."""
    for start in range(0, len(data), MiB):
        yield data[start : start + MiB]


def only(method: str, **query: str) -> Callable[[Asked], bool]:
    def when(asked: Asked) -> bool:
        return asked.method == method and all(asked.query.get(k, [""])[0] == v for k, v in query.items())

    return when


def code_of(answer: requests.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


# --- S3 fails


def first_failure(ask: Callable[[], requests.Response]) -> requests.Response:
    """The first failure: readiness and free places may answer with success for a moment longer."""
    answers: list[requests.Response] = until(
        lambda: [] if (answer := ask()).ok else [answer], "a request is refused"
    )
    return answers[0]


Operation = Callable[[Service], requests.Response]
OPERATIONS: dict[str, Operation] = {
    "readyz": lambda at: first_failure(lambda: requests.get(at.at("/readyz"), timeout=60)),
    "list": lambda at: requests.get(at.at("/list_files"), timeout=60),
    "list as lines": lambda at: requests.get(
        at.at("/list_files"), headers={"Accept": "application/x-ndjson"}, timeout=60
    ),
    "download": lambda at: requests.get(at.at("/download/", "there.txt"), timeout=60),
    "files": lambda at: requests.get(at.at("/files/", "there.txt"), timeout=60),
    "head": lambda at: requests.head(at.at("/files/", "there.txt"), timeout=60),
    "raw upload": lambda at: requests.put(at.at("/upload/", "raw"), data=b"x" * 100_000, timeout=60),
    "short chunked upload": lambda at: requests.put(
        at.at("/upload/", "short"), data=pieces(b"x" * 100), timeout=60
    ),
    "long chunked upload": lambda at: requests.put(
        at.at("/upload/", "long"), data=pieces(b"x" * (PART + 1)), timeout=60
    ),
    "form upload": lambda at: requests.post(
        at.at("/upload"), files={"file": ("form", b"x" * 100_000)}, timeout=60
    ),
    "plan": lambda at: requests.post(
        at.at("/uploads"), json={"name": "planned", "size": 64 * MiB}, timeout=60
    ),
    "delete": lambda at: requests.delete(at.at("/delete/", "there.txt"), timeout=60),
    "delete many": lambda at: requests.post(at.at("/delete"), json={"files": ["there.txt", "b"]}, timeout=60),
    "restore": lambda at: requests.post(at.at("/restore/", "there.txt"), timeout=60),
}
#: Those that send HEAD to S3 first. An answer to HEAD has no body, so it has only a status and no code.
BY_HEAD = {"readyz", "download", "head", "delete", "delete many"}
DENIED = {
    "readyz": "s3_head_bucket_denied",
    "list": "s3_list_objects_denied",
    "list as lines": "s3_list_objects_denied",
    "restore": "s3_list_object_versions_denied",
    **dict.fromkeys(("download", "files", "head", "delete", "delete many"), "s3_get_object_denied"),
    **dict.fromkeys(
        ("raw upload", "short chunked upload", "long chunked upload", "form upload", "plan"),
        "s3_put_object_denied",
    ),
}


def all_operations(stage: Stage) -> dict[str, tuple[requests.Response, float]]:
    """The answers to all operations, asked at once, with the seconds of each; the service survives."""

    def timed(operation: Operation) -> tuple[requests.Response, float]:
        started = time.monotonic()
        return operation(stage.service), time.monotonic() - started

    with ThreadPoolExecutor(len(OPERATIONS)) as pool:
        asked = {name: pool.submit(timed, operation) for name, operation in OPERATIONS.items()}
        while not all(one.done() for one in asked.values()):
            assert stage.alive()
            time.sleep(0.2)
        return {name: one.result() for name, one in asked.items()}


def check_failures(
    stage: Stage, answers: dict[str, tuple[requests.Response, float]], wanted: dict[str, tuple[int, str]]
) -> None:
    """Every answer is as documented and contains nothing from S3's error; the cause is in the log."""
    requested = {
        name: stage.logged("request", request_id=answer.headers["X-Request-Id"])
        for name, (answer, _) in answers.items()
    }
    # Taken from the log, because an answer to HEAD has no body.
    seen = {name: (answer.status_code, requested[name]["code"]) for name, (answer, _) in answers.items()}

    unexpected = [answers[name][0].headers["X-Request-Id"] for name in wanted if seen[name] != wanted[name]]
    causes = [stage.logged("request_failed", request_id=request_id) for request_id in unexpected]

    assert seen == wanted, causes
    for name, (answer, seconds) in answers.items():
        request_id = answer.headers["X-Request-Id"]
        shown = answer.text + str(answer.headers)

        assert seconds < DEADLINE, name
        assert ("Retry-After" in answer.headers) == (answer.status_code == 503), name
        assert stage.logged("request_failed", request_id=request_id)["cause"], name
        if name != "head":
            assert answer.json()["status"] == answer.status_code
            assert (answer.json()["request_id"], answer.json()["code"]) == (request_id, wanted[name][1])
        for secret in (ARN, "arn:", "Traceback", "botocore", SIGNING_KEY, *stage.s3.credentials.values()):
            assert secret not in shown, name


@pytest.mark.parametrize(
    ("fault", "code", "code_by_head"),
    [
        (Hang(), "s3_unavailable", "s3_unavailable"),
        (Reset(), "s3_unavailable", "s3_unavailable"),
        (AnswerError(500, "InternalError"), "s3_unavailable", "s3_unavailable"),
        (AnswerError(503, "SlowDown"), "s3_throttled", "s3_unavailable"),
        (AnswerError(503, "ServiceUnavailable"), "s3_unavailable", "s3_unavailable"),
    ],
    ids=["hangs", "resets", "500", "slow-down", "503"],
)
def test_s3_that_fails_is_503_within_the_deadline(
    stage: Stage, fault: Fault, code: str, code_by_head: str
) -> None:
    """If S3 hangs, resets or answers 5xx: 503 with Retry-After, nothing left behind, no hanging request."""
    put(stage, "there.txt")
    with stage.faulty.failing(fault):
        answers = all_operations(stage)

    check_failures(
        stage, answers, {name: (503, code_by_head if name in BY_HEAD else code) for name in OPERATIONS}
    )
    assert stage.alive()
    assert stage.left_behind() == ({"there.txt"}, [], [])
    until(lambda: requests.get(stage.service.at("/list_files"), timeout=10).ok, "the service recovers")


def test_s3_that_refuses_connections_is_503(stage: Stage) -> None:
    """While S3's port is closed every operation is 503; all succeed once it is open again."""
    put(stage, "there.txt")
    with stage.faulty.down():
        answers = all_operations(stage)

    check_failures(stage, answers, dict.fromkeys(OPERATIONS, (503, "s3_unavailable")))
    assert stage.left_behind() == ({"there.txt"}, [], [])
    until(lambda: requests.get(stage.service.at("/list_files"), timeout=10).ok, "the service recovers")


def test_s3_that_denies_is_502_with_a_code_that_names_the_operation(stage: Stage) -> None:
    """A denied operation is 502 with its name, never the role's; the log has both."""
    put(stage, "there.txt")
    with stage.faulty.failing(AnswerError(403, "AccessDenied")):
        answers = all_operations(stage)
    listing = answers["list"][0].headers["X-Request-Id"]

    check_failures(
        stage, answers, {name: (503 if name == "readyz" else 502, DENIED[name]) for name in OPERATIONS}
    )
    assert ARN in stage.logged("request_failed", request_id=listing)["cause"]
    assert stage.left_behind() == ({"there.txt"}, [], [])


@pytest.mark.parametrize(
    ("fault", "failure"),
    [
        (AnswerError(403, "AccessDenied"), (502, "s3_delete_object_denied")),
        (AnswerError(503, "SlowDown"), (503, "s3_throttled")),
    ],
    ids=["denied", "slow-down"],
)
@pytest.mark.parametrize("way", ["delete", "delete many"])
def test_a_deletion_that_s3_refuses_deletes_nothing(
    stage: Stage, fault: Fault, failure: tuple[int, str], way: str
) -> None:
    """A deletion that S3 refuses after the file was found is an error, and the file is still there."""
    put(stage, "there.txt")
    put(stage, "b")
    with stage.faulty.failing(fault, lambda asked: asked.method != "HEAD"):
        answer = OPERATIONS[way](stage.service)

    assert code_of(answer) == failure
    assert stage.s3.keys(stage.bucket) == {"there.txt", "b"}


def test_a_missing_bucket_is_named_by_readiness(
    seaweedfs_s3: S3, bucket_name: str, make_service: Callable[..., Service]
) -> None:
    """Where the bucket does not exist /readyz is 503 and names it, and uploads are 503 as well."""
    service = make_service(seaweedfs_s3, bucket_name)
    answer = requests.get(service.at("/readyz"), timeout=10)
    listing = requests.get(service.at("/list_files"), timeout=10)

    assert code_of(answer) == (503, "bucket_not_found")
    assert bucket_name in answer.json()["message"]
    assert answer.headers["Retry-After"]
    assert code_of(listing) == (503, "bucket_not_found")


def test_readiness_does_not_wait_for_others(short_for_s3: Stage) -> None:
    """While S3 hangs, many probes of readiness at once are all answered within the deadline."""
    started = time.monotonic()
    with short_for_s3.faulty.failing(Hang()), ThreadPoolExecutor(20) as pool:
        probes = pool.map(lambda _: OPERATIONS["readyz"](short_for_s3.service), range(20))
        codes = {code_of(answer) for answer in probes}

    assert codes == {(503, "s3_unavailable")}
    assert time.monotonic() - started < DEADLINE


def test_an_outage_of_s3_replaces_no_task(stage: Stage) -> None:
    """While S3 hangs or refuses, the load balancer's check succeeds at once; the log and a metric have it.

    The alarm `s3-unreachable` counts the lines `s3_check_failed` (modules/service/monitoring.tf).
    """
    assert requests.get(stage.service.at("/healthz"), timeout=DEADLINE).status_code == 200
    before = len(stage.service.log_lines())
    with stage.faulty.failing(Hang()):

        def reported() -> bool:
            answer = requests.get(stage.service.at("/healthz"), timeout=AT_ONCE)
            assert answer.status_code == 200
            return any(line["event"] == "s3_check_failed" for line in stage.service.log_lines()[before:])

        until(reported, "the outage is in the log", 60, 0.2)
        ready = first_failure(lambda: requests.get(stage.service.at("/readyz"), timeout=DEADLINE))
        healthy = requests.get(stage.service.at("/healthz"), timeout=AT_ONCE)

    assert code_of(ready) == (503, "s3_unavailable")
    assert healthy.status_code == 200
    assert stage.logged("s3_check_failed")["code"] == "s3_unavailable"
    metrics = requests.get(stage.service.metrics_url, timeout=DEADLINE).text
    assert 's3api_s3_checks_total{outcome="failed"}' in metrics


# --- S3 fails half-way


def test_s3_that_resets_a_streamed_upload_stores_nothing(stage: Stage) -> None:
    """If S3 breaks off a raw upload, the client gets 503 before it has sent all, and nothing is stored."""
    with stage.faulty.failing(Reset(5 * MiB), only("PUT")), RawClient(stage.service.url) as client:
        client.begin("PUT", "/upload/half", Content_Length=20 * MiB)
        client.send(b"x" * 10 * MiB)
        answer = client.answer()

    assert (answer.status, answer.json()["code"]) == (503, "s3_unavailable")
    assert answer.headers["Retry-After"]
    until(stage.is_clean, "nothing is left")


def test_a_form_is_sent_again_when_s3_fails_once(stage: Stage) -> None:
    """A staged file can be sent twice, so the client does not notice one reset by S3."""
    data = b"0123456789" * 300_000
    failures = iter([True])
    with stage.faulty.failing(Reset(MiB), lambda asked: asked.method == "PUT" and next(failures, False)):
        answer = requests.post(stage.service.at("/upload"), files={"file": ("twice", data)}, timeout=60)
    stored = stage.s3.client().get_object(Bucket=stage.bucket, Key="twice")["Body"].read()

    assert answer.status_code == 200
    assert answer.json()["content"][0]["sha256"] == hashlib.sha256(data).hexdigest()
    assert stored == data
    assert stage.left_behind() == ({"twice"}, [], [])


@pytest.mark.parametrize(
    ("fault", "when", "failure"),
    [
        (AnswerError(500, "InternalError"), only("PUT", partNumber="2"), (503, "s3_unavailable")),
        (Reset(5), only("PUT", partNumber="2"), (503, "s3_unavailable")),
        (Hang(), only("PUT", partNumber="2"), (503, "s3_unavailable")),
        (AnswerError(403, "AccessDenied"), only("PUT", partNumber="2"), (502, "s3_put_object_denied")),
        # S3 can find out that it failed after it has said 200.
        (
            AnswerError(200, "InternalError"),
            lambda asked: "uploadId" in asked.query and asked.method == "POST",
            (503, "s3_unavailable"),
        ),
    ],
    ids=["500", "reset", "hang", "denied", "200-that-failed"],
)
def test_s3_that_fails_a_later_part_leaves_no_open_upload(
    transfer_stage: Stage, fault: Fault, when: Callable[[Asked], bool], failure: tuple[int, str]
) -> None:
    """A chunked upload whose second part, or whose end, S3 fails is an error, and is aborted."""
    stage = transfer_stage
    with stage.faulty.failing(fault, when):
        answer = requests.put(
            stage.service.at("/upload/", "parts"), data=pieces(b"x" * (PART + 10)), timeout=60
        )

    assert code_of(answer) == failure
    assert any(asked.query.get("partNumber") == ["1"] for asked in stage.faulty.asked)
    until(stage.is_clean, "nothing is left")


def test_an_abort_that_fails_is_tried_again(stage: Stage) -> None:
    """If the abort fails at first too, the multipart upload is aborted later."""
    failures = iter([True, True])

    def when(asked: Asked) -> bool:
        second = asked.query.get("partNumber") == ["2"]
        return second or (asked.method == "DELETE" and next(failures, False))

    with stage.faulty.failing(AnswerError(500, "InternalError"), when):
        answer = requests.put(
            stage.service.at("/upload/", "parts"), data=pieces(b"x" * (PART + 10)), timeout=60
        )

    assert code_of(answer) == (503, "s3_unavailable")
    until(stage.is_clean, "nothing is left")


def test_a_form_of_which_s3_takes_the_first_file_only_says_so(stage: Stage) -> None:
    """When the second file of a form fails the answer lists the first, which is stored."""
    with stage.faulty.failing(AnswerError(403, "AccessDenied"), lambda asked: asked.path.endswith("/second")):
        answer = requests.post(
            stage.service.at("/upload"),
            files=[("file", ("first", b"1")), ("file", ("second", b"2"))],
            timeout=60,
        )
    body = answer.json()

    assert code_of(answer) == (502, "s3_put_object_denied")
    assert [stored["name"] for stored in body["content"]] == ["first"]
    assert ARN not in answer.text
    assert ARN in stage.logged("request_failed", request_id=body["request_id"])["cause"]
    assert stage.left_behind() == ({"first"}, [], [])


@pytest.mark.parametrize(
    "fault",
    [BreakAnswer(MiB), BreakAnswer(MiB, hang=True), Drip(MiB)],
    ids=["ends", "hangs", "drips"],
)
def test_a_download_that_s3_breaks_off_is_seen_to_be_broken(transfer_stage: Stage, fault: Fault) -> None:
    """A file that S3 stops sending half-way reaches the client as a broken transfer, and the log has why.

    So does a file that S3 sends byte by byte.
    """
    stage = transfer_stage
    put(stage, "large", b"x" * 10 * MiB)
    started = time.monotonic()
    with stage.faulty.failing(fault, only("GET")):
        answer = requests.get(stage.service.at("/files/", "large"), stream=True, timeout=60)
        with answer, pytest.raises(requests.exceptions.ChunkedEncodingError):
            answer.content  # noqa: B018 - reading it is what fails
    failure = stage.logged("request_failed", request_id=answer.headers["X-Request-Id"])
    line = stage.logged("request", request_id=answer.headers["X-Request-Id"])

    assert time.monotonic() - started < DEADLINE
    assert failure["error"] == "StoreUnavailable"
    assert line["code"] == "s3_unavailable"
    until(lambda: stage.in_flight() == 0, "no request is left")


def test_a_listing_that_s3_breaks_off_is_seen_to_be_broken(stage: Stage) -> None:
    """A streamed listing whose second page S3 fails is a broken transfer, not a short listing."""
    client = stage.s3.client()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: client.put_object(Bucket=stage.bucket, Key=f"{i:04}"), range(1001)))
    with stage.faulty.failing(
        AnswerError(500, "InternalError"), lambda asked: "continuation-token" in asked.query
    ):
        answer = requests.get(
            stage.service.at("/list_files"),
            headers={"Accept": "application/x-ndjson"},
            stream=True,
            timeout=60,
        )
        with answer, pytest.raises(requests.exceptions.ChunkedEncodingError):
            answer.content  # noqa: B018 - reading it is what fails

    assert answer.status_code == 200
    assert stage.logged("request_failed", request_id=answer.headers["X-Request-Id"])["cause"]


@pytest.mark.parametrize("way", ["known", "chunked", "form"])
def test_a_client_that_goes_on_sending_can_read_why_it_is_refused(small_stage: Stage, way: str) -> None:
    """A client that sends a body that is too large before it reads the answer still gets the refusal."""
    data = b"x" * 64 * MiB
    service = small_stage.service
    if way == "form":
        answer = requests.post(service.at("/upload"), files={"file": ("large", data)}, timeout=60)
    else:
        body: Any = pieces(data) if way == "chunked" else data
        answer = requests.put(service.at("/upload/", "large"), data=body, timeout=60)

    assert code_of(answer) == ((507, "staging_full") if way == "form" else (413, "file_too_large"))
    until(small_stage.is_clean, "nothing is left")


@pytest.mark.parametrize(
    "fault", [Reset(5 * MiB), AnswerError(500, "InternalError", 5 * MiB)], ids=["reset", "500"]
)
def test_a_client_that_goes_on_sending_can_read_that_s3_failed(stage: Stage, fault: Fault) -> None:
    """If S3 breaks off an upload, the client gets the 503, however much it has still to send."""
    with stage.faulty.failing(fault, only("PUT")):
        answer = requests.put(stage.service.at("/upload/", "large"), data=b"x" * 60 * MiB, timeout=60)

    assert code_of(answer) == (503, "s3_unavailable")
    until(stage.is_clean, "nothing is left")


# --- clients fail


def half_raw(client: RawClient) -> None:
    client.begin("PUT", "/upload/gone", Content_Length=10 * MiB)
    client.send(b"x" * 5 * MiB)


def half_chunked(client: RawClient) -> None:
    client.begin("PUT", "/upload/gone", Transfer_Encoding="chunked")
    client.send_chunk(b"x" * (PART + MiB))
    client.send(b"100000\r\nno more of this chunk")


def half_form(client: RawClient) -> None:
    content_type, body = form(("gone", b"x" * 5 * MiB))
    client.begin("POST", "/upload", Content_Type=content_type, Content_Length=len(body))
    client.send(body[: 3 * MiB])


def half_chunked_form(client: RawClient) -> None:
    content_type, body = form(("gone", b"x" * 5 * MiB))
    client.begin("POST", "/upload", Content_Type=content_type, Transfer_Encoding="chunked")
    client.send_chunk(body[: 3 * MiB])


HALVES = [half_raw, half_chunked, half_form, half_chunked_form]


def wait_for_half(stage: Stage, half: Callable[[RawClient], None]) -> None:
    """Return when the service is processing the first half of a request."""
    if half in (half_form, half_chunked_form):
        until(lambda: any(path.stat().st_size for path in stage.service.staged()), "a file is staged")
    elif half is half_chunked:
        until(lambda: any("partNumber" in asked.query for asked in stage.faulty.asked), "a part is stored")
    else:
        until(lambda: any(asked.method == "PUT" for asked in stage.faulty.asked), "the upload has begun")


@pytest.mark.parametrize("orderly", [True, False], ids=["closes", "resets"])
@pytest.mark.parametrize("half", HALVES)
def test_a_client_that_vanishes_leaves_nothing(
    stage: Stage, half: Callable[[RawClient], None], orderly: bool
) -> None:
    """A client that disconnects during an upload leaves no object, no staged file and no open upload."""
    with RawClient(stage.service.url) as client:
        half(client)
        wait_for_half(stage, half)
        if not orderly:
            client.vanish()
    until(lambda: stage.in_flight() == 0, "the request has ended", DEADLINE)

    until(stage.is_clean, "nothing is left")
    assert stage.service.log_lines()[-1]["code"] == "upload_interrupted"
    assert stage.alive()


@pytest.mark.parametrize("half", HALVES)
def test_a_client_that_stalls_is_answered_and_leaves_nothing(
    short_for_clients: Stage, half: Callable[[RawClient], None]
) -> None:
    """A client that stops sending is 408 (RFC 9110, 15.5.9), and nothing of it is left."""
    with RawClient(short_for_clients.service.url) as client:
        half(client)
        answer = client.answer(DEADLINE)

    assert (answer.status, answer.json()["code"]) == (408, "request_timeout")
    until(short_for_clients.is_clean, "nothing is left")


def test_a_client_that_stalls_in_a_tus_upload_continues_after_the_last_part(short_for_clients: Stage) -> None:
    """https://tus.io/protocols/resumable-upload, "PATCH": 408, and the offset is what S3 has received."""
    tus = {"Tus-Resumable": "1.0.0", "Upload-Length": str(13 * MiB), "Upload-Metadata": "filename YQ=="}
    service = short_for_clients.service
    url = f"/{requests.post(service.at('/tus'), headers=tus, timeout=60).headers['Location']}"
    bytes_at: dict[str, object] = {
        "Tus_Resumable": "1.0.0",
        "Content_Type": "application/offset+octet-stream",
    }
    with RawClient(service.url) as client:
        client.begin("PATCH", url, **bytes_at, Upload_Offset=0, Content_Length=13 * MiB)
        client.send(b"x" * 7 * MiB)
        stalled = client.answer(DEADLINE)
    offset = requests.head(service.at(url), headers=tus, timeout=60).headers["Upload-Offset"]
    with RawClient(service.url) as client:
        client.begin("PATCH", url, **bytes_at, Upload_Offset=5 * MiB, Content_Length=8 * MiB)
        client.send(b"x" * 8 * MiB)
        continued = client.answer()

    assert (stalled.status, stalled.json()["code"]) == (408, "request_timeout")
    assert f"{5 * MiB} bytes of this request were stored" in stalled.json()["message"]
    assert offset == str(5 * MiB)
    assert (continued.status, continued.headers["Upload-Offset"]) == (204, str(13 * MiB))
    assert short_for_clients.left_behind() == ({"a"}, [], [])


def test_a_client_that_stalls_in_a_json_body_does_not_hold_its_thread(short_for_clients: Stage) -> None:
    """A JSON body that stops coming is 408 after CLIENT_STALL_SECONDS as well."""
    with RawClient(short_for_clients.service.url) as client:
        client.begin("POST", "/delete", Content_Type="application/json", Content_Length=100)
        client.send(b'{"files": [')
        answer = client.answer(DEADLINE)

    assert (answer.status, answer.json()["code"]) == (408, "request_timeout")


def test_clients_that_stall_in_the_head_do_not_hold_every_thread(
    seaweedfs_s3: S3, make_service: Callable[..., Service]
) -> None:
    """Half request heads delay no other request, and end with 408 in the envelope."""
    service = make_service(seaweedfs_s3, "day02-unused", max_concurrent_requests=2, **SHORT_FOR_CLIENTS)
    with RawClient(service.url) as one, RawClient(service.url) as other:
        one.send(b"GET /livez HT")
        other.send(b"GET /livez HTTP/1.1\r\nHost: a\r\n")
        answer = requests.get(service.at("/livez"), timeout=DEADLINE)
        ends = [one.answer(), other.answer()]

    assert answer.status_code == 200
    for end in ends:
        assert (end.status, end.json()["code"]) == (408, "request_timeout")
        assert end.headers["X-Request-Id"] == end.json()["request_id"]


@pytest.mark.parametrize("vanishes", [True, False], ids=["vanishes", "stalls"])
def test_a_client_that_stops_reading_does_not_hold_its_thread(
    short_for_clients: Stage, vanishes: bool
) -> None:
    """A download whose client goes away, or stops reading, ends half-way and frees its thread."""
    put(short_for_clients, "large", b"x" * 32 * MiB)
    request_id = "vanishes" if vanishes else "stalls"
    with RawClient(short_for_clients.service.url, receive_buffer=4096) as client:
        client.begin("GET", "/files/large", X_Request_Id=request_id)
        assert client.socket.recv(100)
        if vanishes:
            client.vanish()

        line = short_for_clients.logged("request", request_id=request_id)
        until(lambda: short_for_clients.in_flight() == 0, "the download has ended", DEADLINE)
    assert 0 < line["sent_bytes"] < 32 * MiB
    assert short_for_clients.alive()


# --- limits


@pytest.fixture(scope="module")
def small_stage(seaweedfs_s3: S3, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """A service that takes files up to 10 MiB, and stages 3 MiB at a time."""
    bucket = seaweedfs_s3.make_bucket("day02-limits")
    directory = tmp_path_factory.mktemp("limits")
    limits = {"max_file_bytes": 10 * MiB, "staging_max_bytes": 3 * MiB, "upload_wait_seconds": 0.5}
    with (
        running_faulty_s3(seaweedfs_s3) as faulty,
        running_service(faulty.s3, bucket, directory, **limits) as service,
    ):
        yield Stage(service, faulty, seaweedfs_s3, bucket)


@pytest.mark.parametrize(
    ("method", "path", "content_type", "refused"),
    [
        ("PUT", "/upload/large", "text/plain", (413, "file_too_large")),
        ("POST", "/upload", "multipart/form-data; boundary=b", (507, "staging_full")),
    ],
    ids=["raw", "form"],
)
def test_a_body_that_is_known_to_be_too_large_is_refused_unread(
    small_stage: Stage, method: str, path: str, content_type: str, refused: tuple[int, str]
) -> None:
    """A body above MAX_FILE_BYTES is 413 and a form above the staging budget 507, before it is sent."""
    with RawClient(small_stage.service.url) as client:
        client.begin(method, path, Content_Type=content_type, Content_Length=12 * MiB, Expect="100-continue")
        answer = client.answer()

    assert (answer.status, answer.json()["code"]) == refused
    assert small_stage.is_clean()


def test_a_chunked_body_that_becomes_too_large_stores_nothing(small_stage: Stage) -> None:
    """A body of unknown length is 413 once it is above MAX_FILE_BYTES, and its stored parts are gone."""
    with RawClient(small_stage.service.url) as client:
        client.begin("PUT", "/upload/large", Transfer_Encoding="chunked")
        for _ in range(11):
            client.send_chunk(b"x" * MiB)
        client.send_chunk(b"")
        answer = client.answer()

    assert (answer.status, answer.json()["code"]) == (413, "file_too_large")
    assert any("partNumber" in asked.query for asked in small_stage.faulty.asked)
    until(small_stage.is_clean, "nothing is left")


def test_the_staging_budget_is_kept_and_freed(small_stage: Stage) -> None:
    """A form is 507 while another form uses the staging budget."""
    service = small_stage.service
    content_type, body = form(("first", b"x" * 2 * MiB))

    def second() -> requests.Response:
        return requests.post(service.at("/upload"), files={"file": ("second", b"y" * 2 * MiB)}, timeout=60)

    with RawClient(service.url) as client:
        client.begin("POST", "/upload", Content_Type=content_type, Content_Length=len(body))
        client.send(body[: 2 * MiB])
        until(lambda: any(path.stat().st_size > MiB for path in service.staged()), "the first form is staged")
        refused = second()
        raw = requests.put(service.at("/upload/", "raw"), data=b"z" * 2 * MiB, timeout=60)
        client.send(body[2 * MiB :])
        first = client.answer()
    accepted = second()

    assert code_of(refused) == (507, "staging_full")
    assert refused.headers["Retry-After"]
    assert raw.status_code == 200
    assert first.status == 200
    assert accepted.status_code == 200
    assert small_stage.left_behind() == ({"first", "second", "raw"}, [], [])
    for name in ("first", "second", "raw"):
        requests.delete(service.at("/delete/", name), timeout=60).raise_for_status()


def test_more_uploads_of_unknown_length_than_buffers_are_told_to_wait(small_stage: Stage) -> None:
    """Of five uploads that hold almost a part each, one is 503, because there is memory for four parts.

    Uploads of known length go on meanwhile, and later all is well.
    """
    service = small_stage.service
    with ExitStack() as stack:
        clients = [stack.enter_context(RawClient(service.url)) for _ in range(5)]
        for number, client in enumerate(clients):
            client.begin("PUT", f"/upload/slow-{number}", Transfer_Encoding="chunked")
            client.send_chunk(b"s" * (PART - MiB // 2))
        # Whichever of them came last to the buffers is answered while the others are still being sent.
        sockets = {client.socket: client for client in clients}
        answered = until(lambda: select.select(list(sockets), [], [], 0)[0], "one upload is refused")
        refused = sockets.pop(answered[0]).answer()
        known = requests.put(service.at("/upload/", "known"), data=b"k", timeout=60)
        for client in sockets.values():
            client.send_chunk(b"")
        answers = [client.answer().status for client in sockets.values()]
    again = requests.put(service.at("/upload/", "small"), data=pieces(b"s"), timeout=60)

    assert len(answered) == 1
    assert (refused.status, refused.json()["code"]) == (503, "too_busy")
    assert refused.headers["Retry-After"]
    assert known.status_code == 200
    assert answers == [200] * 4
    assert again.status_code == 200
    names = [f"slow-{number}" for number in range(5)] + ["small", "known"]
    requests.post(service.at("/delete"), json={"files": names}, timeout=60).raise_for_status()


def test_memory_does_not_grow_with_an_upload(seaweedfs_s3: S3, tmp_path: Path) -> None:
    """A raw upload of 512 MiB grows the worker by less than 32 MiB at any time."""
    if not Path("/proc/self/status").exists():
        pytest.skip("the memory of another process is read from /proc, which is not there")
    bucket = seaweedfs_s3.make_bucket("day02-memory")
    block = b"\0" * MiB
    with (
        running_faulty_s3(seaweedfs_s3) as faulty,
        running_service(faulty.s3, bucket, tmp_path) as service,
    ):
        worker = worker_of(service)
        requests.put(service.at("/upload/", "warm"), data=block, timeout=60).raise_for_status()
        before = memory(worker, "VmRSS")
        with faulty.failing(Swallow(), only("PUT")), RawClient(service.url) as client:
            client.begin("PUT", "/upload/known", Content_Length=512 * MiB)
            for _ in range(512):
                client.send(block)
            known = client.answer()
        after_known = memory(worker, "VmHWM")

    assert known.status == 200
    assert known.json()["content"][0]["size"] == 512 * MiB
    assert after_known - before < 32 * MiB


def worker_of(service: Service) -> int:
    booted = [line["event"] for line in service.log_lines() if "Booting worker with pid" in line["event"]]
    return int(booted[-1].rpartition(" ")[2])


def memory(process: int, what: str) -> int:
    status = Path(f"/proc/{process}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith(f"{what}:"))
    return int(line.split()[1]) * 1024
