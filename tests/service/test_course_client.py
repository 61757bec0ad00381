"""A client of the course's current edition, unchanged, against a running service.

Source: 42-AI/bootcamp_data-engineering, module02/ex03 to ex05. The client is `course_client.py`.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from local_servers import without_aws
from support.servers import S3, Service

CLIENT = Path(__file__).with_name("course_client.py")
NAME = "appstore_games.csv"
DATA = b"ID,Name\n1,Sudoku\n" * 1000


def client(service: Service, directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the client in a directory. `PORT` is the one value that the course fixes to 5000."""
    environment = {**without_aws(os.environ), "PORT": str(urlsplit(service.url).port)}
    return subprocess.run(
        [sys.executable, str(CLIENT), *arguments],
        cwd=directory,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def said(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stderr
    return done.stdout.removesuffix("\n")


@pytest.mark.parametrize("kind", ["ministack_s3", "seaweedfs_s3"])
def test_the_client_of_the_course(
    kind: str,
    request: pytest.FixtureRequest,
    bucket_name: str,
    make_service: Callable[..., Service],
    tmp_path: Path,
) -> None:
    """It pings, uploads with a 204 of S3, lists, downloads the same bytes, and is told how to delete."""
    s3: S3 = request.getfixturevalue(kind)
    service = make_service(s3, s3.make_bucket(bucket_name))
    here = ("--ip", "127.0.0.1")
    (tmp_path / NAME).write_bytes(DATA)

    assert said(client(service, tmp_path, "ping", *here)) == (
        "Successfully connected to day02 upload/download API"
    )
    assert said(client(service, tmp_path, "list", *here)) == ""
    uploaded = client(service, tmp_path, "upload", *here, "--filename", NAME)
    assert said(uploaded) == f"Successfully uploaded file '{NAME}' on s3 bucket '{bucket_name}'"
    assert said(client(service, tmp_path, "list", *here)) == NAME

    (tmp_path / NAME).unlink()
    said(client(service, tmp_path, "download", *here, "--filename", NAME))
    assert (tmp_path / NAME).read_bytes() == DATA

    deleted = client(service, tmp_path, "delete", *here, "--filename", NAME)
    assert deleted.returncode == 1
    assert deleted.stderr == "Error: This URL does not answer to this method; use DELETE\n"
    assert s3.keys(bucket_name) == {NAME}


def test_the_default_address_of_the_client(
    ministack_s3: S3, bucket_name: str, make_service: Callable[..., Service], tmp_path: Path
) -> None:
    """The operator can allow its default address, 0.0.0.0. Decision 0035 says why this is not the default."""
    bucket = ministack_s3.make_bucket(bucket_name)
    refusing = make_service(ministack_s3, bucket)
    allowing = make_service(ministack_s3, bucket, allowed_hosts="0.0.0.0")

    refused = client(refusing, tmp_path, "ping")
    assert refused.returncode == 1
    assert "its operator can add the name to ALLOWED_HOSTS" in refused.stderr
    assert said(client(allowing, tmp_path, "ping")) == "Successfully connected to day02 upload/download API"
