"""The load balancer's idle timeout: a form that S3 takes slowly, through the emulated balancer.

No bytes flow to or from the client while the staged file goes to S3. A load balancer whose idle timeout is
shorter answers 504:
docs.aws.amazon.com/elasticloadbalancing/latest/application/edit-load-balancer-attributes.html,
"Connection idle timeout".
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests

from emulator.balancer import Balancer, Group, Listener
from emulator.certificates import Authority
from local_servers import free_port
from support.faulty_s3 import Asked, Late, running_faulty_s3
from support.servers import S3, need, running_service, until

SILENT_SECONDS = 8.0
GROUP = Group(
    "arn:aws:elasticloadbalancing:eu-west-1:0:targetgroup/t/1", "/healthz", "200", 0.2, 3, 2, 2, "x"
)


class OneTask(Balancer):
    """The emulated load balancer with one listener and one task, instead of MiniStack's records."""

    def __init__(self, directory: Path, listener: Listener, task: int) -> None:
        super().__init__(directory, 1, Authority(directory))
        self._listener, self._task = listener, task

    def _recorded(self) -> tuple[tuple[Listener, ...], dict[str, set[tuple[str, int]]]]:
        return (self._listener,), {GROUP.arn: {("127.0.0.1", self._task)}}


@contextmanager
def balanced(directory: Path, idle_timeout: int, task: int) -> Iterator[str]:
    """The URL of a load balancer with this idle timeout in front of the service on that port."""
    need(shutil.which("haproxy") is not None, "HAProxy is not installed")
    listener = Listener(free_port(), GROUP, idle_timeout)
    balancer = OneTask(directory, listener, task)
    balancer.follow()
    try:
        until(lambda: balancer.health(GROUP.arn, "127.0.0.1").state == "healthy", "a healthy task", 30)
        yield f"http://127.0.0.1:{listener.port}"
    finally:
        process = balancer._process
        assert process is not None
        process.kill()
        process.wait(10)


@pytest.mark.parametrize(("idle_timeout", "status"), [(4, 504), (60, 200)])
def test_a_form_outlasts_a_slow_s3_only_with_a_longer_idle_timeout(
    seaweedfs_s3: S3, bucket_name: str, tmp_path: Path, idle_timeout: int, status: int
) -> None:
    """S3 is silent for eight seconds during the upload of a form."""
    bucket = seaweedfs_s3.make_bucket(bucket_name)
    port, begun = free_port(), threading.Event()

    def uploads(asked: Asked) -> bool:
        if asked.method == "PUT":
            begun.set()
        return asked.method == "PUT"

    with (
        running_faulty_s3(seaweedfs_s3) as faulty,
        running_service(faulty.s3, bucket, tmp_path, port=port),
        balanced(tmp_path, idle_timeout, port) as url,
        faulty.failing(Late(SILENT_SECONDS), uploads),
    ):
        answer = requests.post(f"{url}/upload", files={"file": ("a.bin", b"x" * 100_000)}, timeout=60)
        until(begun.is_set, "the upload to S3")

    assert answer.status_code == status
