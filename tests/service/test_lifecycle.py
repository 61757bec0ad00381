"""The processes: starting, stopping, being killed, and `make run`, without simulation."""

from __future__ import annotations

import fcntl
import hashlib
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests

import taken_ports
from local_servers import CannotRun, credentials_in, free_port, stop, without_aws
from run_local import allows_anonymous, checked_settings, own_s3
from s3api.private import lock_path
from s3api.settings import Settings, SettingsError
from support.raw_client import RawClient, form
from support.servers import (
    MINISTACK_PYTHON,
    ROOT,
    S3,
    SIGNING_KEY,
    Service,
    need,
    running_service,
    service_environment,
    unguarded_ministack,
    until,
)

MiB = 1024 * 1024
LOCK = lock_path(Path()).name  # the one file that stays in a staging directory
GUNICORN = [sys.executable, "-m", "gunicorn", "-c", str(ROOT / "services" / "s3api" / "gunicorn.conf.py")]


def refuses(url: str) -> bool:
    parts = urlsplit(url)
    try:
        socket.create_connection((parts.hostname, parts.port), 1).close()
    except OSError:
        return True
    return False


def answers(service: Service) -> bool:
    try:
        return requests.get(service.at("/livez"), timeout=1).ok
    except requests.exceptions.RequestException:
        return False


def is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    # A process that has ended, and whose parent has not waited for it, still has its number.
    status = Path(f"/proc/{process}/stat")
    return not (status.exists() and ") Z " in status.read_text())


def workers(log: str) -> list[int]:
    """The processes that gunicorn said it started, the newest last."""
    events = [json.loads(line)["event"] for line in log.splitlines() if line.startswith("{")]
    return [int(event.split()[-1]) for event in events if event.startswith("Booting worker with pid")]


def sha256_in_s3(s3: S3, bucket: str, name: str) -> str:
    return hashlib.sha256(s3.client().get_object(Bucket=bucket, Key=name)["Body"].read()).hexdigest()


# --- stopping


def test_sigterm_drains_then_finishes_what_is_in_flight(
    seaweedfs_s3: S3, bucket_name: str, tmp_path: Path
) -> None:
    """On SIGTERM readiness fails first, uploads under way are stored whole, and the process ends with 0.

    A second SIGTERM ends the draining. So the draining may take as long as the machine needs.
    """
    s3, bucket = seaweedfs_s3, seaweedfs_s3.make_bucket(bucket_name)
    raw_data, form_data = b"raw " * MiB, b"form" * MiB
    content_type, body = form(("form.bin", form_data))
    with ExitStack() as stack:
        service = stack.enter_context(
            running_service(s3, bucket, tmp_path, drain_seconds=300, client_stall_seconds=300)
        )
        raw = stack.enter_context(RawClient(service.url))
        raw.begin("PUT", "/upload/raw.bin", Content_Length=len(raw_data))
        raw.send(raw_data[:MiB])
        staged = stack.enter_context(RawClient(service.url))
        staged.begin("POST", "/upload", Content_Type=content_type, Content_Length=len(body))
        staged.send(body[:MiB])
        until(lambda: any(path.stat().st_size for path in service.staged()), "the form is being staged")
        until(lambda: requests.get(service.at("/readyz"), timeout=10).ok, "the service is ready")

        service.terminate()
        draining: requests.Response = until(
            lambda: [one for one in [requests.get(service.at("/readyz"), timeout=10)] if not one.ok],
            "readiness fails",
        )[0]
        alive = requests.get(service.at("/livez"), timeout=10)
        during = requests.put(service.at("/upload/", "during"), data=b"still taken", timeout=10)
        service.terminate()
        until(lambda: refuses(service.url), "new connections are refused, not left waiting")
        running = service.process.poll() is None
        raw.send(raw_data[MiB:])
        staged.send(body[MiB:])
        statuses = raw.answer().status, staged.answer().status
        status = service.process.wait(20)

        assert draining.status_code == 503
        assert draining.json()["code"] == "draining"
        assert draining.headers["Retry-After"]
        assert alive.status_code == 200
        assert during.status_code == 200
        assert running
        assert statuses == (200, 200)
        assert status == 0
        assert refuses(service.url)
        assert list(service.staging.glob("s3api-staged-*")) == []
    assert sha256_in_s3(s3, bucket, "raw.bin") == hashlib.sha256(raw_data).hexdigest()
    assert sha256_in_s3(s3, bucket, "form.bin") == hashlib.sha256(form_data).hexdigest()


def test_an_upload_that_outlasts_the_grace_leaves_nothing(
    seaweedfs_s3: S3, bucket_name: str, tmp_path: Path
) -> None:
    """After DRAIN_SECONDS and GRACEFUL_SECONDS, one SIGTERM ends the process, whatever is in flight.

    The next start cleans up.
    """
    bucket = seaweedfs_s3.make_bucket(bucket_name)
    content_type, body = form(("form.bin", b"x" * MiB))
    with (
        running_service(seaweedfs_s3, bucket, tmp_path, drain_seconds=1, graceful_seconds=1) as service,
        RawClient(service.url) as raw,
        RawClient(service.url) as staged,
    ):
        raw.begin("PUT", "/upload/raw.bin", Content_Length=2 * MiB)
        raw.send(b"x" * MiB)
        staged.begin("POST", "/upload", Content_Type=content_type, Content_Length=len(body))
        staged.send(body[: MiB // 2])
        until(service.staged, "the form is being staged")
        service.terminate()
        service.process.wait(20)
    with running_service(seaweedfs_s3, bucket, tmp_path) as service:
        left = list(service.staging.glob("s3api-staged-*"))

    assert left == []
    assert seaweedfs_s3.keys(bucket) == set()
    assert seaweedfs_s3.open_uploads(bucket) == []


def test_connections_are_kept_for_longer_than_a_load_balancer_keeps_them(
    seaweedfs_s3: S3, seaweedfs_service: Service, tmp_path: Path
) -> None:
    """A connection serves one request after another, and waits for the next one for more than 60 s."""
    environment = service_environment(seaweedfs_s3, "day02-unused", tmp_path, port=free_port())
    shown = subprocess.run(
        [*GUNICORN, "--print-config"], env=environment, capture_output=True, text=True, timeout=60, check=True
    )
    config = dict(line.split("=", 1) for line in shown.stdout.splitlines() if "=" in line)
    values = {name.strip(): value.strip() for name, value in config.items()}
    shown = subprocess.run(
        [*GUNICORN, "--print-config"],
        env={**environment, "KEEPALIVE_SECONDS": "915"},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    config = dict(line.split("=", 1) for line in shown.stdout.splitlines() if "=" in line)
    configured = {name.strip(): value.strip() for name, value in config.items()}
    parts = urlsplit(seaweedfs_service.url)
    connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=20)
    try:
        ports = []
        for _ in range(3):
            connection.request("GET", "/livez")
            answer = connection.getresponse()
            answer.read()
            kept = answer.headers.get("Connection", "keep-alive")
            assert (answer.status, kept) == (200, "keep-alive")
            ports.append(connection.sock.getsockname()[1])
    finally:
        connection.close()

    assert int(values["keepalive"]) > 60
    assert int(configured["keepalive"]) == 915
    assert len(set(ports)) == 1


# --- being killed


def fill_with_foreign(directory: Path) -> dict[Path, bytes]:
    """Files that users may keep in the directory, some with names almost like the service's own folders."""
    digits = "0123456789abcdef" * 2
    elsewhere = directory.parent / "elsewhere"
    elsewhere.mkdir()
    names = [
        "notes.txt",
        ".hidden",
        "reports/2024/january.csv",
        f"reports/s3api-staged-{digits}/0.part",
        "s3api-staged-/0.part",
        "s3api-staged-mine/0.part",
        f"s3api-staged-{digits[:-1]}/0.part",
        f"s3api-staged-{digits}0/0.part",
        f"S3API-STAGED-{digits}/0.part",
        f"s3api-staged-{digits.upper()}/0.part",
        f"my-s3api-staged-{digits}/0.part",
        f"s3api-staged-{digits}.bak/0.part",
        f"s3api-staged-{'f' * 32}",  # a file by the very name of a folder of the service's own
        "0.part",
        "reserved",
    ]
    for name in names:
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    (elsewhere / "precious.txt").write_bytes(b"precious")
    (directory / f"s3api-staged-{'a' * 32}").symlink_to(elsewhere)
    (directory / "link").symlink_to(elsewhere)
    (directory / "empty").mkdir()
    (directory / "dangling").symlink_to(directory / "nothing")
    return contents(directory.parent)


def contents(directory: Path) -> dict[Path, bytes]:
    """Every path below, with its bytes, or b"" where it is no file; without the service's log and lock."""
    found = {}
    for folder, folders, names in os.walk(directory):  # unlike rglob it bears what goes away meanwhile
        for path in (Path(folder, name) for name in (*folders, *names) if name not in ("service.log", LOCK)):
            with suppress(FileNotFoundError):
                found[path] = path.read_bytes() if path.is_file() else b""
    return found


def test_sweeps_touch_nothing_but_what_the_service_staged(
    seaweedfs_s3: S3, bucket_name: str, tmp_path: Path
) -> None:
    """Other files in STAGING_DIR survive every sweep unchanged; staged files are removed."""
    bucket = seaweedfs_s3.make_bucket(bucket_name)
    staging = tmp_path / "uploads"
    staging.mkdir()
    foreign = fill_with_foreign(staging)
    orphan = staging / f"s3api-staged-{'0' * 32}"
    content_type, body = form(("half.bin", b"x" * MiB))

    def make_orphan() -> None:
        orphan.mkdir()
        (orphan / "0.part").write_bytes(b"left by a process that was killed")

    make_orphan()
    with running_service(seaweedfs_s3, bucket, tmp_path) as service:
        at_start = contents(tmp_path)
        make_orphan()
        with RawClient(service.url) as client:
            client.begin("POST", "/upload", Content_Type=content_type, Content_Length=len(body))
            client.send(body[: MiB // 2])
            ours = foreign.keys() | {orphan, orphan / "0.part"}
            until(lambda: contents(tmp_path).keys() > ours, "a file is being staged")
            answer = requests.post(service.at("/upload"), files={"file": ("whole", b"w")}, timeout=60)
            half = contents(tmp_path)
        until(lambda: contents(tmp_path) == foreign, "only foreign files are left")
        refused = requests.post(service.at("/upload"), data={"prefix": "x"}, timeout=60)

    assert at_start == foreign
    assert answer.status_code == 200, answer.text
    assert orphan not in half
    assert half.keys() > foreign.keys()
    assert refused.status_code == 404
    assert contents(tmp_path) == foreign


def test_a_killed_worker_is_replaced_and_its_staged_files_are_swept(
    seaweedfs_s3: S3, bucket_name: str, tmp_path: Path
) -> None:
    """After a kill -9 of the worker a new one answers, without the files that the old one had staged."""
    bucket = seaweedfs_s3.make_bucket(bucket_name)
    content_type, body = form(("half.bin", b"x" * 4 * MiB))
    with running_service(seaweedfs_s3, bucket, tmp_path) as service:
        (service.staging / "notes.txt").write_bytes(b"not ours")
        [worker] = workers(service.log_path.read_text())
        with RawClient(service.url) as client:
            client.begin("POST", "/upload", Content_Type=content_type, Content_Length=len(body))
            client.send(body[: 2 * MiB])
            until(lambda: len(service.staged()) > 1, "the form is being staged")
            os.kill(worker, signal.SIGKILL)
            until(lambda: len(workers(service.log_path.read_text())) == 2, "a new worker starts")
            until(lambda: answers(service), "the new worker answers")
        left = [path.name for path in service.staging.iterdir() if path.name != LOCK]
        upload = requests.post(service.at("/upload"), files={"file": ("whole", b"w")}, timeout=60)

        assert left == ["notes.txt"]
        assert upload.status_code == 200
    assert not is_running(worker)


def test_a_service_that_was_killed_whole_sweeps_when_it_starts_again(
    seaweedfs_s3: S3, bucket_name: str, tmp_path: Path
) -> None:
    """After a kill -9 of all its processes the next start removes what was staged; S3 has nothing of it."""
    bucket = seaweedfs_s3.make_bucket(bucket_name)
    content_type, body = form(("half.bin", b"x" * 4 * MiB))
    with (
        running_service(seaweedfs_s3, bucket, tmp_path) as service,
        RawClient(service.url) as client,
        RawClient(service.url) as raw,
    ):
        (service.staging / "notes.txt").write_bytes(b"not ours")
        client.begin("POST", "/upload", Content_Type=content_type, Content_Length=len(body))
        client.send(body[: 2 * MiB])
        raw.begin("PUT", "/upload/raw.bin", Content_Length=4 * MiB)
        raw.send(b"x" * 2 * MiB)
        until(lambda: len(service.staged()) > 1, "the form is being staged")
        os.killpg(service.process.pid, signal.SIGKILL)
        service.process.wait(20)
        until(lambda: refuses(service.url), "its processes are gone")
        before = len(service.staged())
    with running_service(seaweedfs_s3, bucket, tmp_path) as service:
        left = [path.name for path in service.staging.iterdir() if path.name != LOCK]

    assert before > 1
    assert left == ["notes.txt"]
    assert seaweedfs_s3.keys(bucket) == set()


# --- starting


def test_gevent_looks_for_no_plugins() -> None:
    """gevent patches the standard library without reading the metadata of each installed distribution."""
    program = (
        "from importlib import metadata\n"
        "metadata.entry_points = None\n"
        "from s3api import gevent_patches\n"
        "gevent_patches.patch()\n"
        "from gevent import monkey\n"
        "print(monkey.is_module_patched('socket'), monkey.is_module_patched('threading'))\n"
    )
    shown = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)

    assert shown.stdout == "True True\n"


def test_garbage_is_searched_only_while_it_serves(tmp_path: Path) -> None:
    """No process searches for garbage while it imports. The master and each worker do afterwards."""
    program = (
        "import gc, runpy, sys\n"
        "from types import SimpleNamespace\n"
        "hooks = runpy.run_path(sys.argv[1])\n"
        "print(gc.isenabled())\n"
        "hooks['when_ready'](SimpleNamespace())\n"
        "print(gc.isenabled(), gc.get_freeze_count() > 10_000)\n"
        "hooks['post_fork'](None, None)\n"
        "print(gc.isenabled())\n"
        "hooks['post_worker_init'](SimpleNamespace(age=2))\n"
        "print(gc.isenabled(), gc.get_freeze_count() > 10_000)\n"
    )
    nowhere = S3("none", "http://127.0.0.1:9", {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"})
    shown = subprocess.run(
        [sys.executable, "-c", program, GUNICORN[-1]],
        check=True,
        capture_output=True,
        text=True,
        env=service_environment(nowhere, "day02-none", tmp_path),
    )

    assert shown.stdout.split() == ["False", "True", "True", "False", "True", "True"]


def test_it_starts_and_writes_nothing_but_its_staging_directory(
    seaweedfs_s3: S3, bucket_name: str, tmp_path: Path
) -> None:
    """A service starts, answers and serves metrics; it makes no control socket and no file of its own."""
    bucket = seaweedfs_s3.make_bucket(bucket_name)
    home = tmp_path / "home"
    home.mkdir()
    surroundings = {"home": home, "xdg_runtime_dir": home, "tmpdir": home, "pythondontwritebytecode": 1}
    with running_service(seaweedfs_s3, bucket, tmp_path / "service", **surroundings) as service:
        hello = requests.get(service.at("/"), timeout=10)
        metrics = requests.get(service.metrics_url, timeout=10)
        made = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")}

    assert hello.json()["message"] == "Successfully connected to day02 upload/download API"
    assert "s3api_requests_total" in metrics.text
    assert made == {"home", "service", "service/uploads", f"service/uploads/{LOCK}", "service/service.log"}


ENTRY = {"name": "ci", "verbs": ["read"], "sha256": "0" * 64}


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("BUCKET", None),
        ("BUCKET", "Not_A_Bucket"),
        ("SIGNING_KEY", None),
        ("SIGNING_KEY", "short-secret"),
        ("API_TOKENS", '[{"name": "secret-json"'),
        ("API_TOKENS", json.dumps([{**ENTRY, "sha256": "secret-no-hash"}])),
        ("API_TOKENS", json.dumps([ENTRY, ENTRY])),
        ("STAGING_DIR", "a-file/uploads"),
        ("AWS_ENDPOINT_URL", "localhost-without-scheme:9000"),
        ("S3_PUBLIC_ENDPOINT_URL", "http://user:secret-password@s3.test"),
        ("PORT", "secret-port"),
        ("MAX_FILE_BYTES", "-12345"),
    ],
)
def test_a_wrong_configuration_ends_it_with_a_message_that_names_the_variable(
    variable: str, value: str | None, tmp_path: Path
) -> None:
    """With a variable missing or wrong the process ends with a status, names it and shows no value."""
    (tmp_path / "a-file").touch()
    s3 = S3("none", "http://127.0.0.1:1", {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"})
    environment = service_environment(s3, "day02-unused", tmp_path, port=free_port(), metrics_port=0)
    environment.pop(variable, None)
    if value is not None:
        environment[variable] = value
    ended = subprocess.run(
        GUNICORN, env=environment, capture_output=True, text=True, timeout=60, cwd=tmp_path, check=False
    )
    said = ended.stdout + ended.stderr

    assert ended.returncode != 0
    assert said.startswith("The configuration is not valid."), said
    assert variable in said
    assert value is None or value not in said
    assert SIGNING_KEY not in said
    assert "secret-" not in said
    assert "Traceback" not in said


def test_a_taken_port_ends_it(seaweedfs_service: Service, seaweedfs_s3: S3, tmp_path: Path) -> None:
    """A service whose port is taken ends with a status; the service that has the port continues."""
    port = urlsplit(seaweedfs_service.url).port
    environment = service_environment(seaweedfs_s3, "day02-shared", tmp_path, port=port, metrics_port=0)
    ended = subprocess.run(
        GUNICORN, env=environment, capture_output=True, text=True, timeout=60, cwd=tmp_path, check=False
    )

    assert ended.returncode != 0
    assert str(port) in ended.stderr
    until(lambda: answers(seaweedfs_service), "the service that has the port answers")


# --- make run


class Local:
    """`make run` in a process of its own."""

    def __init__(self, process: subprocess.Popen[bytes], url: str, log: Path) -> None:
        self.process = process
        self.url = url
        self.log = log

    def gunicorn(self) -> list[int]:
        """The master and the worker of the API."""
        log = self.log.read_text()
        events = [json.loads(line)["event"] for line in log.splitlines() if line.startswith("{")]
        masters = [int(event.rpartition("(")[2].rstrip(")")) for event in events if "Listening at" in event]
        return masters + workers(log)

    def interrupt(self) -> int:
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(60)


def local_command(port: int, data: Path) -> list[str]:
    script = ROOT / "services" / "run_local.py"
    command = [sys.executable, str(script), "--port", str(port), "--data", str(data)]
    return [*command, "--ministack", str(MINISTACK_PYTHON)]


#: What decides who may use the service.
ACCESS = ("ALLOW_ANONYMOUS", "API_TOKENS", "API_TOKENS_FILE", "JWT_ISSUER", "JWT_AUDIENCE", "JWT_SECRET")


def local_environment(directory: Path, **more: str) -> dict[str, str]:
    mine = ("BUCKET", "SIGNING_KEY", "METRICS_PORT", "STAGING_DIR", "HOST", "CORS_ORIGINS", *ACCESS)
    clean = {name: value for name, value in without_aws(os.environ).items() if name not in mine}
    return {**clean, "STAGING_DIR": str(directory / "uploads"), "LOG_FORMAT": "json", **more}


@contextmanager
def running_local(data: Path, **environment: str) -> Iterator[Local]:
    data.parent.mkdir(parents=True, exist_ok=True)
    log = data.parent / "make-run.log"
    port = free_port()
    with log.open("wb") as output:
        process = subprocess.Popen(
            local_command(port, data),
            env=local_environment(data.parent, **environment),
            stdout=output,
            stderr=output,
            stdin=subprocess.DEVNULL,
            cwd=data.parent,
        )
    try:
        until(
            lambda: b"The file API answers" in log.read_bytes() or process.poll() is not None,
            "the local service starts",
            60,
        )
        yield Local(process, f"http://127.0.0.1:{port}", log)
    finally:
        stop(process)


def run_local(port: int, data: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """`make run`, where it is to fail."""
    return subprocess.run(
        local_command(port, data),
        env=local_environment(data.parent, **environment),
        capture_output=True,
        text=True,
        timeout=60,
        cwd=data.parent,
        check=False,
    )


def is_unlocked(data: Path) -> bool:
    """The embedded S3 holds this lock for as long as it lives."""
    with (data / "lock").open("r+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


@pytest.fixture
def ministack_installed() -> None:
    need(MINISTACK_PYTHON.exists(), f"MiniStack is not installed in {MINISTACK_PYTHON.parent}")


@pytest.mark.usefixtures("ministack_installed")
def test_make_run_keeps_the_data_and_stops_all_it_started(tmp_path: Path) -> None:
    """Uploaded files are there in the next run; Ctrl-C ends both processes; a second run is refused."""
    data = tmp_path / ".data"
    with running_local(data) as local:
        upload = requests.put(f"{local.url}/upload/kept.txt", data=b"kept", timeout=30)
        second = run_local(free_port(), data)
        same_port = run_local(int(local.url.rpartition(":")[2]), tmp_path / "other")
        started = local.gunicorn()
        locked = not is_unlocked(data)
        status = local.interrupt()
        said = local.log.read_text()
    gone = [not is_running(process) for process in started]
    unlocked = is_unlocked(data)
    with running_local(data) as local:
        listed = requests.get(f"{local.url}/list_files", timeout=30).json()
        url = requests.get(f"{local.url}/download/kept.txt", timeout=30).json()["content"]
        bytes_again = requests.get(url, timeout=30).content
        local.interrupt()

    assert upload.status_code == 200, upload.text
    assert status == 0
    assert "Traceback" not in said
    assert said.count(f"    curl {local.url.rpartition(':')[0]}") == 2
    assert "Requests need no token: anyone on this machine may do everything" in said
    assert (len(started), gone) == (2, [True, True])
    assert refuses(local.url)
    assert locked
    assert unlocked
    assert listed["message"] == "Successfully listed files on s3 bucket 'day02-local'"
    assert listed["content"] == ["kept.txt"]
    assert bytes_again == b"kept"
    for ended, words in ((second, "Another `make run` uses"), (same_port, "is taken; choose another")):
        assert (ended.returncode, "Traceback" in ended.stderr) == (1, False)
        assert words in ended.stderr


@pytest.mark.usefixtures("ministack_installed")
def test_make_run_keeps_what_an_earlier_version_left(tmp_path: Path) -> None:
    """Files from before the guard are found, the bucket closes to other pages, all becomes private."""
    data = tmp_path / ".data"
    data.mkdir(mode=0o755)
    with unguarded_ministack(data / "s3", "s3") as old:
        old.make_bucket("day02-local", versioned=True)
        rule = {"AllowedMethods": ["GET"], "AllowedOrigins": ["*"]}
        old.client().put_bucket_cors(Bucket="day02-local", CORSConfiguration={"CORSRules": [rule]})
        old.client().put_object(Bucket="day02-local", Key="old.txt", Body=b"old")
    (data / "signing_key").write_text("of an earlier version, 32 characters")
    with running_local(data) as local:
        url = requests.get(f"{local.url}/download/old.txt", timeout=30).json()["content"]
        content = requests.get(url, timeout=30).content
        said = local.log.read_text()
        command = re.search(r"AWS_SHARED_CREDENTIALS_FILE=(\S+) aws s3 --endpoint-url (\S+) ls", said)
        assert command
        keys = credentials_in(Path(command[1]).read_text(encoding="ascii"))
        client = S3("ministack", command[2], keys).client()
        (rule,) = client.get_bucket_cors(Bucket="day02-local")["CORSRules"]
        unsigned = requests.get(f"{command[2]}/day02-local", timeout=30)
        modes = {path.name: path.stat().st_mode & 0o777 for path in data.iterdir()}
        local.interrupt()

    port = local.url.rpartition(":")[2]
    assert content == b"old"
    assert rule["AllowedOrigins"] == [f"http://127.0.0.1:{port}", f"http://localhost:{port}"]
    assert unsigned.status_code == 403
    assert data.stat().st_mode & 0o777 == 0o700
    assert (modes["credentials"], modes["signing_key"], modes["s3"]) == (0o600, 0o600, 0o700)
    assert (data / "signing_key").read_text() == "of an earlier version, 32 characters"
    assert keys["AWS_SECRET_ACCESS_KEY"] not in said


@pytest.mark.usefixtures("ministack_installed")
@pytest.mark.parametrize("victim", ["worker and master", "script"])
def test_make_run_does_not_leave_half_of_itself(tmp_path: Path, victim: str) -> None:
    """When the API is killed, or the script gets SIGTERM, the embedded S3 stops as well."""
    data = tmp_path / ".data"
    with running_local(data) as local:
        started = local.gunicorn()
        if victim == "script":
            local.process.terminate()
        else:
            os.killpg(started[0], signal.SIGKILL)
        status = local.process.wait(60)

    assert (status == 0) == (victim == "script")
    assert not any(is_running(process) for process in started)
    assert is_unlocked(data)


def test_make_run_with_an_s3_of_your_own_starts_none(
    seaweedfs_s3: S3, bucket_name: str, tmp_path: Path
) -> None:
    """With BUCKET and AWS_ENDPOINT_URL set the API uses that S3, and no embedded one is started."""
    bucket = seaweedfs_s3.make_bucket(bucket_name)
    data = tmp_path / ".data"
    own = {"BUCKET": bucket, "AWS_ENDPOINT_URL": seaweedfs_s3.url, **seaweedfs_s3.credentials}
    with running_local(data, **own) as local:
        upload = requests.put(f"{local.url}/upload/mine.txt", data=b"mine", timeout=30)
        said = local.log.read_text()
        status = local.interrupt()

    assert upload.status_code == 200, upload.text
    assert seaweedfs_s3.keys(bucket) == {"mine.txt"}
    assert f"bucket {bucket} at {seaweedfs_s3.url}" in said
    assert status == 0
    assert not (data / "s3").exists()
    assert not (data / "lock").exists()


@pytest.fixture
def only(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., None]:
    """Replace the whole environment by these variables."""

    def replace(**variables: str) -> None:
        for name in os.environ:
            monkeypatch.delenv(name)
        for name, value in {"STAGING_DIR": str(tmp_path / "uploads"), **variables}.items():
            monkeypatch.setenv(name, value)

    return replace


TOKEN_ENTRIES = json.dumps(
    [{"name": "ci", "verbs": ["list"], "sha256": hashlib.sha256(b"token").hexdigest()}]
)
JWTS = {"JWT_ISSUER": "https://app.example", "JWT_AUDIENCE": "files", "JWT_SECRET": "s" * 32}


@pytest.mark.parametrize(
    ("variables", "anonymous"),
    [
        ({}, True),
        ({"API_TOKENS": "", "JWT_ISSUER": ""}, True),
        ({"HOST": "::1"}, True),
        ({"API_TOKENS": TOKEN_ENTRIES}, False),
        ({"api_tokens": TOKEN_ENTRIES}, False),
        ({"API_TOKENS_FILE": "entries.json"}, False),
        (JWTS, False),
        ({"ALLOW_ANONYMOUS": "false"}, False),
        ({"API_TOKENS": TOKEN_ENTRIES, "ALLOW_ANONYMOUS": "true"}, True),
    ],
)
def test_make_run_is_open_only_without_tokens(
    only: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    variables: dict[str, str],
    anonymous: bool,
) -> None:
    """Each way to configure tokens ends the anonymous access, unless ALLOW_ANONYMOUS asks for it."""
    monkeypatch.chdir(tmp_path)
    Path("entries.json").write_text(TOKEN_ENTRIES)
    only(**variables)

    assert allows_anonymous(checked_settings(5000)) is anonymous


def test_make_run_is_not_open_to_other_machines(only: Callable[..., None]) -> None:
    """A HOST that other machines reach needs tokens, or ALLOW_ANONYMOUS."""
    only(HOST="0.0.0.0")
    with pytest.raises(CannotRun, match="HOST lets other machines in: set API_TOKENS"):
        allows_anonymous(checked_settings(5000))


def test_make_run_with_tokens_needs_one(seaweedfs_s3: S3, bucket_name: str, tmp_path: Path) -> None:
    """A request without a token is refused, and the banner's commands send one."""
    bucket = seaweedfs_s3.make_bucket(bucket_name)
    entries = tmp_path / "entries.json"
    entries.write_text(TOKEN_ENTRIES)
    own = {"BUCKET": bucket, "AWS_ENDPOINT_URL": seaweedfs_s3.url, **seaweedfs_s3.credentials}
    with running_local(tmp_path / ".data", API_TOKENS_FILE=str(entries), **own) as local:
        listed = requests.get(f"{local.url}/list_files", timeout=30)
        said = local.log.read_text()
        local.interrupt()

    assert listed.status_code == 401
    assert "Requests need a token" in said
    assert 'curl -H "Authorization: Bearer $S3API_TOKEN" -F file=@' in said


def test_make_run_reports_all_wrong_settings_before_it_starts_anything(tmp_path: Path) -> None:
    """One message names every wrong variable, and no S3 has been started."""
    wrong = {"API_TOKENS_FILE": str(tmp_path / "none"), "CORS_ORIGINS": "*", "DRAIN_SECONDS": "x"}
    ended = run_local(free_port(), tmp_path / ".data", **wrong)

    assert ended.returncode == 1
    assert [line.split(":")[0].strip() for line in ended.stderr.splitlines()] == ["make run", *wrong]
    assert "Traceback" not in ended.stderr
    assert not (tmp_path / ".data").exists()


def test_make_run_with_an_endpoint_and_no_bucket_says_so(tmp_path: Path) -> None:
    """AWS_ENDPOINT_URL without BUCKET is an error that names both."""
    ended = run_local(free_port(), tmp_path / ".data", AWS_ENDPOINT_URL="http://127.0.0.1:1")

    assert ended.returncode == 1
    assert "AWS_ENDPOINT_URL is set, but BUCKET is not" in ended.stderr


def aws_folder(home: Path, **profile: str) -> dict[str, str]:
    """The environment of a user whose ~/.aws has one profile, `work`, with these settings."""
    (home / ".aws").mkdir(parents=True)
    lines = [f"{name} = {value}" for name, value in profile.items()]
    (home / ".aws" / "config").write_text("\n".join(["[profile work]", *lines, ""]))
    return {"HOME": str(home), "AWS_PROFILE": "work", "AWS_EC2_METADATA_DISABLED": "true"}


def test_make_run_uses_a_profile_of_aws_tools(seaweedfs_s3: S3, bucket_name: str, tmp_path: Path) -> None:
    """BUCKET is enough where ~/.aws has keys, region and endpoint; the banner says which S3 is used."""
    bucket = seaweedfs_s3.make_bucket(bucket_name)
    keys = {name.lower(): value for name, value in seaweedfs_s3.credentials.items()}
    own = aws_folder(tmp_path / "home", **keys, region="eu-west-1", endpoint_url=seaweedfs_s3.url)
    with running_local(tmp_path / ".data", BUCKET=bucket, **own) as local:
        upload = requests.put(f"{local.url}/upload/mine.txt", data=b"mine", timeout=30)
        said = local.log.read_text()
        local.interrupt()

    assert upload.status_code == 200, upload.text
    assert seaweedfs_s3.keys(bucket) == {"mine.txt"}
    assert f"S3: bucket {bucket} at {seaweedfs_s3.url}" in said
    assert "with the credentials of profile 'work'" in said
    assert seaweedfs_s3.credentials["AWS_SECRET_ACCESS_KEY"] not in said


def test_make_run_names_aws(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With keys and a region but no endpoint, the S3 is that of AWS in this region."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    keys = {"aws_access_key_id": "AKIAEXAMPLE", "aws_secret_access_key": "secret", "region": "eu-north-1"}
    for name, value in aws_folder(tmp_path, **keys).items():
        monkeypatch.setenv(name, value)
    own = own_s3("day02-files")

    assert own is not None
    assert own.settings == {"AWS_REGION": "eu-north-1"}
    assert own.described == (
        "bucket day02-files on AWS in eu-north-1, https://s3.eu-north-1.amazonaws.com\n"
        "  with the credentials of profile 'work' of the configuration file"
    )


@pytest.mark.parametrize(
    ("profile", "words"),
    [
        ({"sso_session": "company", "sso_account_id": "123456789012", "sso_role_name": "dev"}, "SSO"),
        ({"credential_process": "false"}, "custom-process"),
    ],
)
def test_make_run_explains_credentials_that_cannot_be_used(
    tmp_path: Path, profile: dict[str, str], words: str
) -> None:
    """A profile whose credentials cannot be had is an error, not a start with another S3."""
    own = aws_folder(tmp_path / "home", **profile, region="eu-west-1")
    with (tmp_path / "home" / ".aws" / "config").open("a") as config:
        if "sso_session" in profile:
            config.write(
                "[sso-session company]\nsso_region = eu-west-1\nsso_start_url = https://sso.example\n"
            )
    ended = run_local(free_port(), tmp_path / ".data", BUCKET="day02-files", **own)

    assert ended.returncode == 1
    assert "the AWS credentials for the bucket day02-files cannot be used" in ended.stderr
    assert words in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.usefixtures("ministack_installed")
def test_make_run_without_credentials_names_the_embedded_s3(tmp_path: Path) -> None:
    """The banner says that no AWS credentials were found, and the start-up line which commit runs."""
    none = {"HOME": str(tmp_path), "AWS_EC2_METADATA_DISABLED": "true"}
    with running_local(tmp_path / ".data", BUCKET="day02-mine", **none) as local:
        said = local.log.read_text()
        local.interrupt()
    (started,) = [line for line in said.splitlines() if '"event":"started"' in line]

    assert "S3: bucket day02-mine of the embedded S3 in" in said
    assert "no AWS credentials were found" in said
    assert json.loads(started)["revision"] != "unknown"


# --- make up


@pytest.mark.parametrize(
    ("variables", "anonymous"),
    [
        ({}, True),
        ({"API_TOKENS": TOKEN_ENTRIES}, None),
        ({"API_TOKENS_FILE": "/entries.json"}, None),
        ({"JWT_ISSUER": "https://app.example"}, None),
        ({"API_TOKENS": TOKEN_ENTRIES, "ALLOW_ANONYMOUS": "false"}, False),
    ],
)
def test_make_up_is_open_only_without_tokens(
    only: Callable[..., None], variables: dict[str, str], anonymous: bool | None
) -> None:
    """The compose file passes API_TOKENS on. With tokens and no ALLOW_ANONYMOUS, no service starts."""
    need(shutil.which("docker") is not None, "docker is not installed")
    path = os.environ["PATH"]
    file = ROOT / "docker" / "compose.yaml"
    done = subprocess.run(
        ["docker", "compose", "-f", str(file), "config", "--format", "json"],
        env={"PATH": path, **variables},
        capture_output=True,
        text=True,
        check=True,
    )
    inside = json.loads(done.stdout)["services"]["api"]["environment"]
    access = {name: inside[name] for name in ACCESS if name in inside}
    only(BUCKET="day02-local", SIGNING_KEY=SIGNING_KEY, **access)

    if anonymous is None:
        with pytest.raises(SettingsError, match="ALLOW_ANONYMOUS: must be true or false"):
            Settings.from_environment()
        return
    settings = Settings.from_environment()
    assert settings.allow_anonymous is anonymous
    assert settings.has_tokens is ("API_TOKENS" in variables)


def test_make_up_names_a_taken_port_and_its_variable() -> None:
    """Before anything is built, `make up` says which port is taken, and what changes it."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        ports = {"S3API_PORT": str(port), "S3_PORT": "x"}
        ended = subprocess.run(
            ["make", "--no-print-directory", "free-ports", f"PYTHON={sys.executable}"],
            env={**os.environ, **ports},
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )

    assert ended.returncode != 0
    assert f"make up: Port {port} of 127.0.0.1 is taken; choose another: make up S3API_PORT=" in ended.stderr
    assert "make up: S3_PORT=x is not a port" in ended.stderr


def test_free_ports_are_not_taken(capsys: pytest.CaptureFixture[str]) -> None:
    """A free port is no conflict."""
    assert taken_ports.main("up", f"S3API_PORT={free_port()}", f"S3_PORT={free_port()}") == 0
    assert capsys.readouterr().err == ""
