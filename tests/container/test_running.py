"""A running container of the service: confinement, health, memory and stopping."""

from __future__ import annotations

import http.client
import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from urllib.parse import urlsplit

import docker
import pytest
import requests

from local_servers import credentials_in
from support.containers import Api, Compose, MakeApi
from support.localstack import keys_of, s3_client
from support.servers import until

MiB = 1024 * 1024
LIMIT = 256 * MiB


class Zeros:
    """A body of zero bytes that needs no memory."""

    def __init__(self, size: int) -> None:
        self._left = size

    def __len__(self) -> int:
        return self._left

    def read(self, amount: int = -1, /) -> bytes:
        amount = self._left if amount < 0 else min(amount, self._left)
        self._left -= amount
        return bytes(amount)


def chunks(count: int) -> Iterator[bytes]:
    for _ in range(count):
        yield bytes(MiB)


def upload(api: Api, name: str, size: int) -> requests.Response:
    return requests.post(api.at("/upload"), files={"file": (name, bytes(size))}, timeout=120)


def moment(value: str) -> datetime:
    """Parse a time of the engine, which has nanoseconds."""
    return datetime.fromisoformat(re.sub(r"\.(\d{6})\d*", r".\1", value))


# --- confined


def test_identity(composed: Api) -> None:
    """Every process runs as 10001:10001, without capabilities, and cannot gain any."""
    status = composed.output("sh", "-c", "cat /proc/[0-9]*/status")

    assert set(re.findall(r"^Uid:\s+(.*)$", status, re.MULTILINE)) == {"10001\t10001\t10001\t10001"}
    assert set(re.findall(r"^Gid:\s+(.*)$", status, re.MULTILINE)) == {"10001\t10001\t10001\t10001"}
    assert set(re.findall(r"^Cap(?:Inh|Prm|Eff|Bnd|Amb):\s+(\w+)$", status, re.MULTILINE)) == {"0" * 16}
    assert set(re.findall(r"^NoNewPrivs:\s+(\d)$", status, re.MULTILINE)) == {"1"}


def test_read_only_root(composed: Api) -> None:
    """Not even root can write to the root file system. The two intended directories are writable."""
    for directory in (
        "/",
        "/srv",
        "/srv/app/s3api",
        "/srv/venv/bin",
        "/etc",
        "/usr/bin",
        "/var/tmp",
        "/home",
    ):
        ran = composed.run("touch", f"{directory}/written", user="0")
        assert ran.status != 0, directory
        assert "Read-only file system" in ran.output
    for directory in ("/srv/uploads", "/tmp"):
        composed.output("sh", "-c", f"touch {directory}/written && rm {directory}/written")


def test_staging_is_private(composed: Api) -> None:
    """Only the service can read staged files, and they cannot be executed."""
    assert composed.output("stat", "-c", "%u:%g %a", "/srv/uploads") == "10001:10001 700"
    assert "noexec" in composed.output("sh", "-c", "grep ' /srv/uploads ' /proc/mounts")


def test_first_process(composed: Api) -> None:
    """gunicorn is process 1 and reaps orphaned processes with any exit status."""
    assert "s3api.serve" in composed.output("cat", "/proc/1/cmdline")

    # A worker of gunicorn exits with 3 if it cannot start, and then gunicorn ends.
    waits = "(until rm /tmp/orphan-may-end; do sleep 0.1; done; exit 3) >/dev/null 2>&1 & echo $!"
    orphan = composed.output("sh", "-c", waits)
    try:
        status = composed.output("cat", f"/proc/{orphan}/status")
    finally:
        composed.output("touch", "/tmp/orphan-may-end")

    assert re.search(r"^PPid:\s+1$", status, re.MULTILINE)
    until(lambda: composed.run("test", "-e", f"/proc/{orphan}").status != 0, "the orphan is reaped")
    assert requests.get(composed.at("/livez"), timeout=5).ok


def test_metrics_stay_inside(composed: Api) -> None:
    """The metrics are available inside the container and not on any port of the machine."""
    script = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:9100/metrics').read().decode())"

    assert "s3api_requests_total" in composed.output("python3", "-c", script)
    assert list(composed.attribute("NetworkSettings", "Ports")) == ["5000/tcp"]


def test_log_is_json_without_secrets(composed: Api) -> None:
    """The container logs JSON lines. No key is in them or in the engine's description of the container."""
    secrets = [
        composed.output("cat", "/run/secrets/signing_key"),
        credentials_in(composed.output("cat", "/run/secrets/credentials"))["AWS_SECRET_ACCESS_KEY"],
    ]
    described = json.dumps(composed.attribute("Config"))
    lines = composed.logs().splitlines()

    assert lines
    assert all(line.startswith("{") for line in lines)
    assert not any(secret in line for secret in secrets for line in [*lines, described])


# --- healthy


def test_time_to_healthy(make_api: MakeApi) -> None:
    """The engine finds the container healthy soon after its start, without S3.

    The time until then depends on how busy the machine is. So the test limits what the container adds to it:
    the wait for the first check, and the processor time. `test_health_needs_no_s3` shows that it does not
    wait for S3.
    """
    api = make_api()
    until(lambda: api.attribute("State", "Health", "Status") == "healthy", "the container is healthy")
    started = moment(api.attribute("State", "StartedAt"))
    passed = [
        check for check in api.attribute("State", "Health", "Log") if check["ExitCode"] == 0
    ]  # the first successful check made it healthy
    seconds = (moment(passed[0]["End"]) - started).total_seconds()
    used = api.cpu_seconds()
    print(f"healthy after {seconds:.2f} s, {used:.2f} s of CPU, {api.bytes_now() / MiB:.0f} MiB at rest")

    assert api.attribute("Config", "Healthcheck", "Interval") <= 2e9  # nanoseconds
    assert used < 5


def test_health_needs_no_s3(make_api: MakeApi) -> None:
    """Without S3 the container is not ready but stays healthy, because a restart would not help."""
    api = make_api(aws_endpoint_url="http://127.0.0.1:9", s3_connect_timeout_seconds="0.5", ready="/livez")
    until(lambda: api.attribute("State", "Health", "Status") == "healthy", "the container is healthy")

    assert requests.get(api.at("/readyz"), timeout=10).status_code == 503


def test_wrong_configuration(make_api: MakeApi) -> None:
    """A container with a wrong setting ends with a message that names it and an exit code."""
    api = make_api(max_concurrent_requests="none", ready="")
    ended = api.container.wait(timeout=30)

    assert ended["StatusCode"] != 0
    assert "MAX_CONCURRENT_REQUESTS" in api.logs()


# --- stopping


def test_sigterm_drains(make_api: MakeApi, compose: Compose, engine: docker.DockerClient) -> None:
    """After SIGTERM, readiness fails first, then new requests are refused; a running upload completes.

    A second SIGTERM ends the draining. So the draining may take as long as the machine needs.
    """
    api = make_api(drain_seconds="300", client_stall_seconds="300")
    body = bytes(2 * MiB)
    connection = http.client.HTTPConnection(urlsplit(api.url).netloc, timeout=60)
    connection.putrequest("PUT", "/upload/drained.bin")
    connection.putheader("Content-Length", str(len(body)))
    connection.endheaders(body[:MiB])

    api.container.kill("SIGTERM")
    until(lambda: requests.get(api.at("/readyz"), timeout=5).status_code == 503, "readiness fails")
    draining = requests.get(api.at("/readyz"), timeout=5)
    alive = requests.get(api.at("/livez"), timeout=5)
    api.container.kill("SIGTERM")
    until(lambda: not _serves(api), "nothing new is served")
    connection.send(body[MiB:])
    answer = connection.getresponse()
    uploaded = answer.read()
    connection.close()
    ended = api.container.wait(timeout=30)

    assert draining.json()["code"] == "draining"
    assert alive.status_code == 200
    assert answer.status == 200, uploaded
    assert ended["StatusCode"] == 0, api.logs()[-3000:]
    keys = keys_of(compose.container(engine, "localstack"))
    head = s3_client(compose.s3_url, keys).head_object(Bucket="day02-local", Key="drained.bin")
    assert head["ContentLength"] == len(body)


def test_sigterm_at_rest(make_api: MakeApi) -> None:
    """Without requests, the service stops at once with exit code 0."""
    api = make_api()
    api.container.kill("SIGTERM")

    assert api.container.wait(timeout=10)["StatusCode"] == 0


def _serves(api: Api) -> bool:
    try:
        requests.get(api.at("/livez"), timeout=5)
    except requests.RequestException:
        return False
    return True


# --- memory


def test_large_upload(make_api: MakeApi, compose: Compose, engine: docker.DockerClient) -> None:
    """A raw upload of 1 GiB passes through 256 MiB of memory."""
    api = make_api()
    size = 1024 * MiB
    answer = requests.put(api.at("/upload/", "large.bin"), data=Zeros(size), timeout=240)
    print(f"1 GiB raw: peak {api.peak_bytes() / MiB:.0f} MiB")

    assert answer.status_code == 200, answer.text
    assert api.attribute("HostConfig", "Memory") == LIMIT
    api.assert_never_out_of_memory()
    client = s3_client(compose.s3_url, keys_of(compose.container(engine, "localstack")))
    assert client.head_object(Bucket="day02-local", Key="large.bin")["ContentLength"] == size
    client.delete_object(Bucket="day02-local", Key="large.bin")


def test_fifty_forms(make_api: MakeApi) -> None:
    """Fifty concurrent forms of 1 MiB, staged in memory, and four chunked uploads fit into the limit."""
    api = make_api()
    with ThreadPoolExecutor(54) as pool:
        raw = [
            pool.submit(requests.put, api.at("/upload/", f"raw-{number}"), data=chunks(64), timeout=120)
            for number in range(4)
        ]
        forms = [pool.submit(upload, api, f"form-{number}", MiB) for number in range(50)]
        statuses = [one.result().status_code for one in (*forms, *raw)]
    print(f"50 forms and 4 chunked uploads: peak {api.peak_bytes() / MiB:.0f} MiB")

    assert statuses == [200] * 54
    api.assert_never_out_of_memory()
    assert api.output("ls", "/srv/uploads") == ""


def test_more_than_fits(make_api: MakeApi) -> None:
    """Forms that exceed the staging space are refused one by one; the others are stored."""
    api = make_api()
    with ThreadPoolExecutor(40) as pool:
        forms = [pool.submit(upload, api, f"form-{number}", 4 * MiB) for number in range(40)]
        statuses = {one.result().status_code for one in forms}

    assert statuses == {200, 507}
    api.assert_never_out_of_memory()
    assert upload(api, "after", MiB).status_code == 200


@pytest.mark.parametrize("budget", ["60817408", "1073741824"], ids=["budget", "disk"])
def test_full_staging(make_api: MakeApi, budget: str) -> None:
    """A form larger than the staging directory gets 507, by the budget or by the tmpfs; the next fits."""
    api = make_api(staging_max_bytes=budget)
    refused = upload(api, "too-large", 80 * MiB)

    assert refused.status_code == 507
    assert refused.json()["code"] == "staging_full"
    assert api.output("ls", "/srv/uploads") == ""
    assert upload(api, "fits", MiB).status_code == 200
    api.assert_never_out_of_memory()


def test_staging_filled_by_others(make_api: MakeApi) -> None:
    """If the tmpfs is full, a form gets 507 and a raw upload succeeds; afterwards both succeed."""
    api = make_api()
    filled = api.run("sh", "-c", "cat /dev/zero > /srv/uploads/filler").output
    refused = upload(api, "no-room", MiB)
    raw = requests.put(api.at("/upload/", "needs-none"), data=bytes(MiB), timeout=60)
    api.output("rm", "/srv/uploads/filler")

    assert "No space left" in filled
    assert refused.status_code == 507
    assert raw.status_code == 200
    assert upload(api, "room-again", MiB).status_code == 200
    api.assert_never_out_of_memory()
