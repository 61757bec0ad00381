"""The compose file as its user sees it, with LocalStack and with the persistent S3."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any
from urllib.parse import parse_qs, urlsplit

import boto3.session
import docker
import pytest
import requests
from botocore.exceptions import ClientError
from docker.models.images import Image

import taken_ports
from local_servers import REGION
from support.containers import Api, Compose, MakeApi
from support.localstack import keys_of, s3_client
from support.servers import ROOT, presigned, until

BUCKET = "day02-local"


def test_rebound_name(composed: Api) -> None:
    """The published port refuses the host name of another site (DNS rebinding), and serves loopback's."""
    for host, status in (("evil.test", 421), ("localhost:5000", 200), ("127.0.0.1:5000", 200)):
        answer = requests.get(f"{composed.url}/list_files", headers={"Host": host}, timeout=10)

        assert answer.status_code == status


def test_services(compose: Compose, engine: docker.DockerClient) -> None:
    """Without a profile, the API and LocalStack run, and both are healthy."""
    services = compose("ps", "--services").split()
    states = {
        name: compose.container(engine, name).attrs["State"]["Health"]["Status"] for name in sorted(services)
    }

    assert states == {"api": "healthy", "localstack": "healthy"}


def test_loopback_only(compose: Compose, engine: docker.DockerClient) -> None:
    """Ports are published on loopback only."""
    published = [
        binding["HostIp"]
        for service in ("api", "localstack")
        for bindings in compose.container(engine, service).attrs["NetworkSettings"]["Ports"].values()
        for binding in bindings or ()
    ]

    assert published == ["127.0.0.1", "127.0.0.1"]


def test_default_ports() -> None:
    """By default the API uses port 5000 and S3 port 4566."""
    settings = {"S3API_PORT": "", "S3_PORT": "", "S3API_IMAGE": ""}
    config = Compose("s3api-test-config", "", settings=settings)("config")

    assert 'published: "5000"' in config
    assert 'published: "4566"' in config
    assert "S3_PUBLIC_ENDPOINT_URL: http://127.0.0.1:4566" in config


def test_s3_alone_is_served(compose: Compose, engine: docker.DockerClient) -> None:
    """Other services of AWS refuse calls, even with the right keys."""
    keys = keys_of(compose.container(engine, "localstack"))
    session = boto3.session.Session(keys["AWS_ACCESS_KEY_ID"], keys["AWS_SECRET_ACCESS_KEY"])
    for service, operation in (("sts", "get_caller_identity"), ("iam", "list_users"), ("sqs", "list_queues")):
        client: Any = session.client(service, endpoint_url=compose.s3_url, region_name=REGION)  # type: ignore[call-overload]
        with pytest.raises(ClientError) as refused:
            getattr(client, operation)()
        assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403


def test_bucket(compose: Compose, engine: docker.DockerClient) -> None:
    """The init hook makes the bucket: versioning, rules for incomplete uploads and old versions, CORS."""
    s3 = s3_client(compose.s3_url, keys_of(compose.container(engine, "localstack")))
    incomplete, old = s3.get_bucket_lifecycle_configuration(Bucket=BUCKET)["Rules"]
    (cors,) = s3.get_bucket_cors(Bucket=BUCKET)["CORSRules"]

    assert s3.get_bucket_versioning(Bucket=BUCKET)["Status"] == "Enabled"
    assert (incomplete["Status"], old["Status"]) == ("Enabled", "Enabled")
    assert incomplete["AbortIncompleteMultipartUpload"] == {"DaysAfterInitiation": 1}
    assert old["NoncurrentVersionExpiration"] == {"NoncurrentDays": 90}
    assert old["Expiration"] == {"ExpiredObjectDeleteMarker": True}
    assert "ETag" in cors["ExposeHeaders"]
    assert cors["AllowedOrigins"] == [f"http://127.0.0.1:{compose.port}", f"http://localhost:{compose.port}"]


def test_doctor(composed: Api) -> None:
    """In the container, every check of `s3api doctor` passes except those of the public endpoint."""
    ran = composed.run("python3", "-m", "s3api", "doctor")
    found = ran.output
    wrong = [line for line in found.splitlines() if not line.startswith("ok")]

    assert ran.status == 0, found
    assert len(wrong) == 2, found
    assert all(line.startswith("not checked") for line in wrong), found

    # The public endpoint is 127.0.0.1 of the user's machine, which the container cannot reach.
    assert all("public endpoint" in line for line in wrong), found


def test_presigned_url(composed: Api, compose: Compose) -> None:
    """The presigned URL works from this machine for 120 s, and not if it is altered."""
    requests.put(composed.at("/upload/", "dir/a b+ü.txt"), data=b"hello", timeout=30).raise_for_status()
    url = presigned(requests.get(composed.at("/download/", "dir/a b+ü.txt"), timeout=30))

    assert url.startswith(compose.s3_url)
    assert parse_qs(urlsplit(url).query)["X-Amz-Expires"] == ["120"]
    assert requests.get(url, timeout=30).content == b"hello"
    assert requests.get(url.replace("X-Amz-Expires=120", "X-Amz-Expires=999"), timeout=30).status_code == 403


def test_presigned_url_dies(make_api: MakeApi) -> None:
    """A presigned URL answers 403 after its expiry."""
    api = make_api(download_url_seconds="1")
    requests.put(api.at("/upload/", "short.txt"), data=b"hello", timeout=30).raise_for_status()
    url = api.at("/download/", "short.txt")
    short = presigned(requests.get(url, timeout=30))
    long = presigned(requests.get(url, params={"expires": 300}, timeout=30))

    until(lambda: requests.get(short, timeout=30).status_code == 403, "the URL expires")
    assert "Request has expired" in requests.get(short, timeout=30).text
    assert requests.get(long, timeout=30).content == b"hello"


@pytest.mark.timeout(600)
def test_black_box_suite(composed: Api) -> None:
    """The whole black-box suite passes against the composed service."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/e2e"],
        cwd=ROOT,
        env={**os.environ, "S3API_URL": composed.url, "S3API_VERSIONED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    print(done.stdout[-1500:])

    assert done.returncode == 0, done.stdout[-10_000:]


def test_persistent_profile(engine: docker.DockerClient, run_id: str, image: Image) -> None:
    """With the profile `persistent`, files survive `docker compose down`, until the volume is removed."""
    project = Compose(f"{run_id}-persistent", image.tags[0], profiles=("persistent",))
    try:
        project("up", "-d", "--wait")
        api = project.api(engine)
        requests.put(api.at("/upload/", "kept.txt"), data=b"kept", timeout=30).raise_for_status()
        project("down")
        between = project.left(engine)
        project("up", "-d", "--wait")
        api = project.api(engine)
        listed = requests.get(api.at("/list_files"), timeout=30).json()["content"]
        url = presigned(requests.get(api.at("/download/", "kept.txt"), timeout=30))
        content = requests.get(url, timeout=30).content
        keys = keys_of(project.container(engine, "ministack"))
        versioning = s3_client(project.s3_url, keys).get_bucket_versioning(Bucket=BUCKET)
        services = project("ps", "--services").split()
    finally:
        project("down", "--volumes")

    assert sorted(between) == [f"{run_id}-persistent_keys", f"{run_id}-persistent_s3"]
    assert sorted(services) == ["api", "ministack"]
    assert listed == ["kept.txt"]
    assert content == b"kept"
    assert versioning["Status"] == "Enabled"
    assert project.left(engine) == []


def test_down_takes_all(engine: docker.DockerClient, run_id: str, image: Image) -> None:
    """`docker compose down` leaves no container and no network, only the volume of the keys."""
    project = Compose(f"{run_id}-down", image.tags[0])
    project("create", "--no-build")
    made = project.left(engine)
    project("down")
    after_down = project.left(engine)
    project("down", "--volumes")

    assert len(made) == 4  # the API, LocalStack, their network, the volume
    assert after_down == [f"{run_id}-down_keys"]
    assert project.left(engine) == []


def test_ports_of_a_running_project_are_its_own(composed: Api, compose: Compose) -> None:
    """A second `make up` is not refused because of the ports of the first."""
    assert composed
    published = taken_ports._published(compose.project)

    assert f":{compose.port}->" in published
    assert taken_ports.is_taken(compose.port)
