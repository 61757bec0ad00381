"""Credentials that change while the service runs, as those of an ECS task do every few hours."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import requests

from support.container_credentials import ContainerCredentials, ministack_keys, seaweedfs_keys
from support.faulty_s3 import AnswerError, running_faulty_s3
from support.servers import S3, Service, presigned, running_service, unguarded_ministack

MiB = 1024 * 1024


@dataclass(frozen=True)
class Task:
    """A service with container credentials, and an S3 that accepts only the current ones."""

    service: Service
    credentials: ContainerCredentials

    def call(self, method: str, route: str, name: str = "", **options: Any) -> requests.Response:
        answer = requests.request(method, self.service.at(route, name), timeout=30, **options)
        assert answer.ok, f"{method} {route}: {answer.text}"
        return answer


@pytest.fixture(scope="module")
def ministack_with_sts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    with unguarded_ministack(tmp_path_factory.mktemp("ministack"), "s3", "sts") as s3:
        yield s3


@pytest.fixture(params=["seaweedfs", "ministack"])
def task(request: pytest.FixtureRequest, bucket_name: str, tmp_path: Path) -> Iterator[Task]:
    """On SeaweedFS the keys change; on MiniStack the session tokens change too."""
    if request.param == "seaweedfs":
        s3: S3 = request.getfixturevalue("seaweedfs_s3")
        supply = seaweedfs_keys()
    else:
        s3 = request.getfixturevalue("ministack_with_sts")
        supply = ministack_keys(s3)
    s3.make_bucket(bucket_name, versioned=True)
    credentials = ContainerCredentials(supply)
    with (
        credentials.served() as url,
        running_faulty_s3(s3) as guard,
        guard.failing(AnswerError(403, "InvalidAccessKeyId"), credentials.are_not_of),
    ):
        own = S3(s3.kind, guard.s3.url, {"AWS_CONTAINER_CREDENTIALS_FULL_URI": url})
        with running_service(own, bucket_name, tmp_path, download_url_seconds=3600) as service:
            yield Task(service, credentials)


def read(task: Task) -> None:
    task.call("GET", "/readyz")
    task.call("PUT", "/upload/", "small", data=b"small")
    listed = task.call("GET", "/list_files").json()["content"]
    streamed = task.call("GET", "/list_files", headers={"Accept": "application/x-ndjson"}).text

    assert "small" in listed
    assert '"small"' in streamed
    assert task.call("GET", "/files/", "small").content == b"small"
    assert task.call("HEAD", "/files/", "small").headers["Content-Length"] == "5"


def presign_downloads(task: Task) -> None:
    task.call("PUT", "/upload/", "small", data=b"small")
    answer = task.call("GET", "/download/", "small")
    unchecked = task.call("GET", "/download/", "small", params={"check": "false"})

    assert requests.get(presigned(answer), timeout=10).content == b"small"
    assert requests.get(presigned(unchecked), timeout=10).content == b"small"
    long = task.call("GET", "/download/", "small", params={"expires": "604800"})
    for one in (answer, long):  # the URL expires with the credentials
        assert datetime.fromisoformat(one.json()["expires_at"]) == task.credentials.ends


def upload(task: Task) -> None:
    large = b"x" * (9 * MiB)
    task.call("PUT", "/upload/", "stream", data=large)
    task.call("PUT", "/upload/", "parts", data=iter([large]))
    task.call("POST", "/upload", files={"file": ("form", b"form")})

    assert [len(task.call("GET", "/files/", name).content) for name in ("stream", "parts")] == [9 * MiB] * 2


def upload_directly(task: Task) -> None:
    plan = task.call("POST", "/uploads", json={"name": "direct", "size": 6}).json()["content"]
    sent = requests.post(plan["url"], data=plan["fields"], files={"file": b"direct"}, timeout=10)

    assert sent.ok
    assert plan["fields"]["x-amz-credential"].startswith(f"{task.credentials.keys.key}/")
    assert plan["fields"].get("x-amz-security-token") == task.credentials.keys.token


def upload_in_parts(task: Task) -> None:
    plan = task.call("POST", "/uploads", json={"name": "big", "size": 64 * MiB}).json()["content"]
    numbers = list(range(1, plan["parts"] + 1))
    parts = task.call("POST", f"/uploads/{plan['id']}/parts", json={"parts": numbers}).json()["content"]
    for part in parts:
        assert requests.put(part["url"], data=b"x" * part["size"], timeout=30).ok
    listed = task.call("GET", f"/uploads/{plan['id']}/parts").json()["content"]
    task.call("POST", f"/uploads/{plan['id']}/complete")
    again = task.call("POST", "/uploads", json={"name": "big", "size": 64 * MiB}).json()["content"]
    task.call("DELETE", f"/uploads/{again['id']}")

    assert len(listed) == len(numbers)


def delete_and_restore(task: Task) -> None:
    for name in ("one", "two", "three"):
        task.call("PUT", "/upload/", name, data=b"x")
    task.call("DELETE", "/delete/", "one")
    deleted = task.call("POST", "/delete", json={"files": ["two", "three"]}).json()["content"]
    task.call("POST", "/restore/", "one")

    assert [one["deleted"] for one in deleted] == [True, True]


PATHS: list[Callable[[Task], None]] = [
    read,
    presign_downloads,
    upload,
    upload_directly,
    upload_in_parts,
    delete_and_restore,
]


def test_every_path_works_on_when_credentials_change(task: Task) -> None:
    """After the credentials change, and S3 refuses the old ones, every operation still works."""
    for path in PATHS:
        path(task)
    old_url = presigned(task.call("GET", "/download/", "small"))
    before = requests.get(old_url, timeout=10)
    task.credentials.rotate()
    after = requests.get(old_url, timeout=10)
    for path in PATHS:
        path(task)

    assert (before.status_code, after.status_code) == (200, 403)
