"""Several worker processes (WEB_CONCURRENCY): what they share, and what remains of one that is killed."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import requests

from local_servers import free_port
from support.faulty_s3 import AnswerError, running_faulty_s3
from support.raw_client import RawClient, form
from support.servers import S3, Service, running_service, service_environment, until

MiB = 1024 * 1024
#: A stopped worker cannot show that it lives, and an upload waits while the test uses the other workers. On a
#: loaded machine both take longer than the service allows by default: 30 s and 20 s.
PATIENT: Mapping[str, object] = {"gunicorn_cmd_args": "--timeout=0", "client_stall_seconds": 300}


def workers(service: Service) -> list[int]:
    """The process ids of the workers that live, in the order in which they started."""
    events = [line["event"] for line in service.log_lines()]
    started = [int(event.split()[-1]) for event in events if event.startswith("Booting worker with pid")]
    return [worker for worker in started if is_child(worker, service)]


def is_child(process: int, service: Service) -> bool:
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):  # it has ended, before or during the reading
        return False
    return f"PPid:\t{service.process.pid}\n" in status and "State:\tZ" not in status


def state(worker: int) -> str:
    """The state of a process, as in proc_pid_stat(5)."""
    return Path(f"/proc/{worker}/stat").read_text().rpartition(")")[2].split()[0]


@contextmanager
def only(service: Service, worker: int) -> Iterator[None]:
    """In the block this worker alone accepts connections: the others are stopped."""
    others = [other for other in workers(service) if other != worker]
    for other in others:
        os.kill(other, signal.SIGSTOP)
    try:
        for other in others:
            # Until the signal takes effect, a worker may still accept a connection.
            until(lambda other=other: state(other) == "T", "the other worker stops")  # type: ignore[misc]
        yield
    finally:
        for other in others:
            os.kill(other, signal.SIGCONT)


@contextmanager
def running(s3: S3, bucket: str, directory: Path, count: int, **settings: object) -> Iterator[Service]:
    with running_service(s3, bucket, directory, web_concurrency=count, **PATIENT, **settings) as service:
        until(lambda: len(workers(service)) == count, "all workers start")
        for worker in workers(service):
            with only(service, worker):
                until(lambda: requests.get(service.at("/livez"), timeout=10).ok, "the worker answers")
        # A client can have an answer before the worker has counted it. The request of a worker that is
        # stopped at that moment stays in flight until the worker continues.
        until(lambda: metric(service, "s3api_requests_in_flight") == 0, "no request is in flight")
        yield service


def metric(service: Service, name: str) -> float:
    text = requests.get(service.metrics_url, timeout=10).text
    found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
    return float(found[1]) if found else 0.0


GREETINGS = 's3api_requests_total{method="GET",route="/",status="200"}'


def metrics_files(worker: int) -> Path:
    """The directory in which a worker counts."""
    opened = [str(link.readlink()) for link in Path(f"/proc/{worker}/fd").iterdir() if link.is_symlink()]
    return Path(next(path for path in opened if path.endswith(".db"))).parent


# --- metrics


@pytest.mark.parametrize("count", [2, 3])
def test_metrics_are_the_sum_over_workers(
    seaweedfs_s3: S3, bucket_name: str, tmp_path: Path, count: int
) -> None:
    """Whichever worker is asked for the metrics, it answers with the requests of all."""
    seaweedfs_s3.make_bucket(bucket_name)
    with running(seaweedfs_s3, bucket_name, tmp_path, count) as service:
        for number, worker in enumerate(workers(service)):
            with only(service, worker):
                for _ in range(number + 1):
                    requests.get(service.at("/"), timeout=10).raise_for_status()
        sent = count * (count + 1) // 2
        until(lambda: metric(service, GREETINGS) == sent, "all requests are counted")
        told = []
        for worker in workers(service):
            with only(service, worker):
                told.append(metric(service, GREETINGS))

    assert told == [sent] * count


def test_a_killed_worker_leaves_its_counters_and_no_gauge(
    seaweedfs_s3: S3, bucket_name: str, tmp_path: Path
) -> None:
    """After kill -9 of a worker a new one answers, no counter has fallen, and nothing is in flight."""
    seaweedfs_s3.make_bucket(bucket_name)
    with running(seaweedfs_s3, bucket_name, tmp_path, 2) as service, ExitStack() as stack:
        victim, other = workers(service)
        with only(service, victim):
            raw = stack.enter_context(RawClient(service.url))
            raw.begin("PUT", "/upload/half", Content_Length=2 * MiB)
            raw.send(b"x" * MiB)
            until(lambda: metric(service, "s3api_requests_in_flight") == 1, "the upload is in flight")
            for _ in range(5):
                requests.get(service.at("/"), timeout=10).raise_for_status()
            until(lambda: metric(service, GREETINGS) == 5, "the requests are counted")
        files = metrics_files(other)
        before = {path.name for path in files.glob("*.db")}
        os.kill(victim, signal.SIGKILL)
        until(lambda: len(set(workers(service)) - {victim}) == 2, "a new worker starts")
        [new] = set(workers(service)) - {victim, other}
        with only(service, other):
            counted_by_other = metric(service, GREETINGS), metric(service, "s3api_requests_in_flight")
        with only(service, new):
            until(lambda: requests.get(service.at("/"), timeout=10).ok, "the new worker answers")
        until(lambda: metric(service, GREETINGS) == 6, "the new worker continues the counter")
        after = {path.name for path in files.glob("*.db")}

    assert counted_by_other == (5, 0)
    # The new worker has the files of the one before it: there are no files of a third worker.
    assert {name.rpartition("_")[2] for name in after} == {name.rpartition("_")[2] for name in before}
    assert not files.exists()


def test_metrics_of_a_killed_service_are_removed(seaweedfs_s3: S3, bucket_name: str, tmp_path: Path) -> None:
    """After kill -9 of all processes the next start removes the directory that they counted in."""
    seaweedfs_s3.make_bucket(bucket_name)
    with running(seaweedfs_s3, bucket_name, tmp_path, 2) as service:
        left = metrics_files(workers(service)[0])
        os.killpg(service.process.pid, signal.SIGKILL)
        service.process.wait(20)
        mode = left.stat().st_mode & 0o777
    with running(seaweedfs_s3, bucket_name, tmp_path, 2):
        found = left.exists()

    assert mode == 0o700
    assert not found


def test_slots_are_used_again(tmp_path: Path) -> None:
    """A worker gets the first slot that no living worker has, so the number of files stays bounded."""
    script = (
        "import sys; from pathlib import Path; from s3api import shared_metrics as m; "
        "m.begin(Path(sys.argv[1])); "
        "print(m.take_slot([]), m.take_slot([1, 3]), m.take_slot([1, 2, 3])); m.end()"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout.split() == ["1", "2", "4"]


# --- stopping


def test_sigterm_drains_every_worker(seaweedfs_s3: S3, bucket_name: str, tmp_path: Path) -> None:
    """On SIGTERM readiness fails in each worker. A second one ends the draining; all uploads are stored."""
    bucket = seaweedfs_s3.make_bucket(bucket_name)
    data = b"data" * (MiB // 2)
    with running(seaweedfs_s3, bucket, tmp_path, 3, drain_seconds=300) as service, ExitStack() as stack:
        clients = []
        for number, worker in enumerate(workers(service)):
            with only(service, worker):
                client = stack.enter_context(RawClient(service.url))
                clients.append(client)
                client.begin("PUT", f"/upload/file-{number}", Content_Length=len(data))
                client.send(data[:MiB])
                until(lambda: metric(service, "s3api_requests_in_flight") == len(clients), "it is in flight")
        service.terminate()
        until(lambda: requests.get(service.at("/readyz"), timeout=10).status_code == 503, "draining begins")
        draining = []
        for worker in workers(service):
            with only(service, worker):
                draining.append(requests.get(service.at("/readyz"), timeout=10).json()["code"])
        during = requests.put(service.at("/upload/", "during"), data=b"still accepted", timeout=10)
        service.terminate()
        for client in clients:
            client.send(data[MiB:])
        statuses = [client.answer().status for client in clients]
        status = service.process.wait(30)

    assert draining == ["draining"] * 3
    assert during.status_code == 200
    assert statuses == [200] * 3
    assert status == 0
    assert seaweedfs_s3.keys(bucket) == {"during", "file-0", "file-1", "file-2"}


# --- what workers share


def test_one_worker_that_reached_s3_speaks_for_all(
    seaweedfs_s3: S3, bucket_name: str, tmp_path: Path
) -> None:
    """Once a worker has reached S3, the check for a load balancer succeeds in every worker without S3."""
    bucket = seaweedfs_s3.make_bucket(bucket_name)
    with running_faulty_s3(seaweedfs_s3) as faulty, running(faulty.s3, bucket, tmp_path, 3) as service:
        first, *others = workers(service)
        with faulty.failing(AnswerError(503, "ServiceUnavailable")):
            before = requests.get(service.at("/healthz"), timeout=30).status_code
        with only(service, first):
            until(lambda: requests.get(service.at("/healthz"), timeout=30).ok, "a worker has reached S3")
        with faulty.failing(AnswerError(503, "ServiceUnavailable")):
            after = []
            for worker in others:
                with only(service, worker):
                    after.append(requests.get(service.at("/healthz"), timeout=60).status_code)

    assert before == 503
    assert after == [200, 200]


def test_the_staging_budget_is_that_of_all_workers(
    seaweedfs_s3: S3, bucket_name: str, tmp_path: Path
) -> None:
    """What a form reserves in one worker is missing in the other, and so is its caller's share."""
    bucket = seaweedfs_s3.make_bucket(bucket_name)
    content_type, body = form(("first", b"x" * 6 * MiB))

    def post(size: int) -> int:
        files = {"file": ("second", b"y" * size)}
        return requests.post(service.at("/upload"), files=files, timeout=60).status_code

    with (
        running(seaweedfs_s3, bucket, tmp_path, 2, staging_max_bytes=8 * MiB) as service,
        ExitStack() as stack,
    ):
        one, other = workers(service)
        with only(service, one):
            client = stack.enter_context(RawClient(service.url))
            client.begin("POST", "/upload", Content_Type=content_type, Content_Length=len(body))
            client.send(body[: 6 * MiB])
            until(lambda: sum(p.stat().st_size for p in service.staged()) > 11 * MiB, "the form is staged")
        with only(service, other):
            above_share, within = post(3 * MiB // 2), post(MiB // 2)
        client.send(body[6 * MiB :])
        first = client.answer().status
        with only(service, other):
            afterwards = post(3 * MiB // 2)

    assert (above_share, within, first, afterwards) == (507, 200, 200, 200)


def test_upload_ids_and_cursors_are_valid_in_every_worker(
    seaweedfs_s3: S3, bucket_name: str, tmp_path: Path
) -> None:
    """One worker plans an upload, and begins a listing and an upload of tus; the other continues them."""
    bucket = seaweedfs_s3.make_bucket(bucket_name)
    with running(seaweedfs_s3, bucket, tmp_path, 2) as service:
        one, other = workers(service)
        with only(service, one):
            wanted = {"name": "planned", "size": 6, "multipart": True}
            plan = requests.post(service.at("/uploads"), json=wanted, timeout=10).json()["content"]
        with only(service, other):
            url = f"{service.url}/uploads/{plan['id']}"
            signed = requests.post(f"{url}/parts", json={"parts": [1]}, timeout=10).json()["content"]
            requests.put(signed[0]["url"], data=b"parts!", timeout=10).raise_for_status()
        with only(service, one):
            completed = requests.post(f"{url}/complete", timeout=10).status_code
            requests.put(service.at("/upload/", "second"), data=b"x", timeout=10).raise_for_status()
            page = requests.get(service.at("/list_files?limit=1"), timeout=10).json()
        with only(service, other):
            rest = requests.get(
                service.at("/list_files"), params={"limit": 1, "cursor": page["next"]}, timeout=10
            ).json()
        tus = {"Tus-Resumable": "1.0.0", "Upload-Length": str(6 * MiB), "Upload-Metadata": "filename YQ=="}
        chunk = {**tus, "Content-Type": "application/offset+octet-stream"}
        with only(service, one):
            created = requests.post(service.at("/tus"), data=b"x" * 5 * MiB, headers=chunk, timeout=60)
            location = service.at(f"/{created.headers['Location']}")
        with only(service, other):
            offset = requests.head(location, headers=tus, timeout=60).headers["Upload-Offset"]
            chunk["Upload-Offset"] = offset
            requests.patch(location, data=b"x" * MiB, headers=chunk, timeout=60).raise_for_status()

    assert completed == 200
    assert page["content"] + rest["content"] == ["planned", "second"]
    assert offset == str(5 * MiB)
    assert seaweedfs_s3.keys(bucket) == {"a", "planned", "second"}


def test_forms_that_arrive_at_every_worker_are_stored(
    seaweedfs_s3: S3, bucket_name: str, tmp_path: Path
) -> None:
    """Forms of several files, many at once, are stored whole, and nothing remains staged."""
    bucket = seaweedfs_s3.make_bucket(bucket_name)
    with running(seaweedfs_s3, bucket, tmp_path, 2) as service:

        def post(number: int) -> int:
            files = [("file", (f"{number}-{part}", os.urandom(200_000))) for part in range(3)]
            return requests.post(service.at("/upload"), files=files, timeout=60).status_code

        with ThreadPoolExecutor(8) as pool:
            statuses = list(pool.map(post, range(24)))
        staged = service.staged()

    assert statuses == [200] * 24
    assert len(seaweedfs_s3.keys(bucket)) == 72
    assert staged == []


# --- the variable


def started_in_vain(directory: Path, **settings: object) -> subprocess.CompletedProcess[str]:
    """A start of the service with settings that end it."""
    s3 = S3("none", "http://127.0.0.1:1", {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"})
    environment = service_environment(
        s3, "day02-unused", directory, port=free_port(), metrics_port=0, **settings
    )
    return subprocess.run(
        [sys.executable, "-m", "s3api.serve"],
        env={**environment, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=60,
        cwd=directory,
        check=False,
    )


@pytest.mark.parametrize("value", ["two", "0", "-1", "1.5", "65"])
def test_a_wrong_number_of_workers_ends_it_with_a_sentence(tmp_path: Path, value: str) -> None:
    """What is no whole number from 1 to 64 stops the start; gunicorn by itself would show a traceback."""
    ended = started_in_vain(tmp_path, web_concurrency=value)

    assert ended.returncode == 1
    assert ended.stderr.startswith("The configuration is not valid.\n  WEB_CONCURRENCY: ")
    assert "the number of worker processes, a whole number from 1 to 64" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("option", ["--workers 2", "--worker-class gevent"])
def test_gunicorns_own_options_for_workers_are_refused(tmp_path: Path, option: str) -> None:
    """The metrics of workers that gunicorn's options start would not be added up."""
    ended = started_in_vain(tmp_path, gunicorn_cmd_args=option)

    assert ended.returncode == 1
    assert "GUNICORN_CMD_ARGS: --workers and --worker-class cannot be set there" in ended.stderr
    assert "Traceback" not in ended.stderr
