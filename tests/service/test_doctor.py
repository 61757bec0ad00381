"""`s3api doctor` on real S3s: what it finds when something fails, and that it leaves nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import boto3.session
import pytest
from click.testing import CliRunner

from local_servers import free_port
from s3api.__main__ import main
from s3api.doctor import Finding, Verdict, diagnose
from s3api.s3_store import S3FileStore
from support.container_credentials import ContainerCredentials, Keys
from support.faulty_s3 import ARN, AnswerError, Asked, FaultyS3, running_faulty_s3
from support.http_server import serving
from support.memory_store import MemoryStore
from support.servers import S3, service_environment
from support.stores import s3_store, settings_for


@pytest.fixture(scope="module")
def faulty(ministack_s3: S3) -> Iterator[FaultyS3]:
    with running_faulty_s3(ministack_s3) as proxy:
        yield proxy


@pytest.fixture
def store(faulty: FaultyS3, ministack_s3: S3, bucket_name: str) -> S3FileStore:
    """A bucket that keeps versions, through a proxy that can fail."""
    return s3_store(faulty.s3, ministack_s3.make_bucket(bucket_name, versioned=True))


def findings_of(store: S3FileStore, tmp_path: Path) -> dict[str, Finding]:
    return {found.check: found for found in diagnose(store, settings_for(tmp_path, bucket=store.bucket))}


def leftovers(s3: S3, bucket: str) -> list[str]:
    """The keys of the versions, delete markers and open uploads in the bucket."""
    listed = s3.client().list_object_versions(Bucket=bucket)
    entries = [*listed.get("Versions", ()), *listed.get("DeleteMarkers", ())]
    return [*(entry["Key"] for entry in entries), *s3.open_uploads(bucket)]


@pytest.mark.parametrize("versioned", [True, False])
@pytest.mark.parametrize("kind", ["ministack", "seaweedfs"])
def test_a_healthy_bucket_is_checked_and_nothing_is_left(
    request: pytest.FixtureRequest, kind: str, versioned: bool, bucket_name: str, tmp_path: Path
) -> None:
    """List, read, write, delete and presigned requests are allowed, without a version or an open upload."""
    s3: S3 = request.getfixturevalue(f"{kind}_s3")
    s3.make_bucket(bucket_name, versioned=versioned)
    found = findings_of(s3_store(s3, bucket_name), tmp_path)

    checks = ("list", "read", "write", "delete", "public endpoint", "signed upload")
    assert {check: found[check].verdict for check in checks} == dict.fromkeys(checks, Verdict.OK)
    assert leftovers(s3, bucket_name) == []


def is_of(method: str, *query: str, without: tuple[str, ...] = ()) -> Callable[[Asked], bool]:
    def matches(asked: Asked) -> bool:
        given = asked.query.keys()
        return asked.method == method and given >= set(query) and given.isdisjoint(without)

    return matches


SIGNED = "X-Amz-Signature"
DENIALS = {
    "list": is_of("GET", "list-type"),
    "read": is_of("GET", without=(SIGNED, "list-type", "versioning", "lifecycle", "cors", "uploadId")),
    "write": is_of("PUT", without=(SIGNED,)),
    "delete": is_of("DELETE", without=("uploadId",)),
    "public endpoint": is_of("GET", SIGNED),
    "signed upload": is_of("POST", "uploads"),
}


@pytest.mark.parametrize("check", DENIALS)
def test_a_denied_request_is_the_only_failure(
    check: str, store: S3FileStore, faulty: FaultyS3, ministack_s3: S3, tmp_path: Path
) -> None:
    """A role without one permission fails one check, which names the host, the credentials and the cause."""
    with faulty.failing(AnswerError(403, "AccessDenied"), DENIALS[check]):
        found = findings_of(store, tmp_path)

    assert [name for name, one in found.items() if one.verdict is Verdict.FAILED] == [check]
    message = found[check].message
    assert faulty.s3.url.removeprefix("http://") in message
    assert "the credentials of the program itself" in message
    assert ("HTTP 403" if check == "public endpoint" else "AccessDenied") in message
    assert "Signature" not in message
    assert leftovers(ministack_s3, store.bucket) == []


def test_a_part_that_is_refused_leaves_no_upload(
    store: S3FileStore, faulty: FaultyS3, ministack_s3: S3, tmp_path: Path
) -> None:
    """The upload is aborted when its presigned part was refused."""
    with faulty.failing(AnswerError(403, "AccessDenied"), is_of("PUT", SIGNED)):
        found = findings_of(store, tmp_path)

    assert (found["signed upload"].verdict, found["write"].verdict) == (Verdict.FAILED, Verdict.OK)
    assert "HTTP 403" in found["signed upload"].message
    assert leftovers(ministack_s3, store.bucket) == []


def test_an_upload_that_cannot_be_aborted_is_named(
    store: S3FileStore, faulty: FaultyS3, ministack_s3: S3, tmp_path: Path
) -> None:
    """What is left in the bucket is named, so that its owner can remove it."""
    with faulty.failing(AnswerError(403, "AccessDenied"), is_of("DELETE", "uploadId")):
        found = findings_of(store, tmp_path)
    (left,) = leftovers(ministack_s3, store.bucket)

    assert found["signed upload"].verdict is Verdict.FAILED
    assert f"of '{left}' is left" in found["signed upload"].message


def test_an_s3_that_cannot_be_reached(store: S3FileStore, faulty: FaultyS3, tmp_path: Path) -> None:
    """The only finding names the host, the credentials and the error of the network."""
    with faulty.down():
        found = findings_of(store, tmp_path)

    assert list(found) == ["bucket"]
    message = found["bucket"].message
    assert faulty.s3.url.removeprefix("http://") in message
    assert "the credentials of the program itself" in message
    assert "Connection refused" in message


def test_the_cause_is_for_the_operator_only(store: S3FileStore, faulty: FaultyS3, tmp_path: Path) -> None:
    """S3's own words, which no client of the service sees, tell the operator which role was denied."""
    with faulty.failing(AnswerError(403, "AccessDenied"), DENIALS["list"]):
        found = findings_of(store, tmp_path)

    assert ARN in found["list"].message


@pytest.mark.parametrize("may_delete_versions", [True, False])
def test_an_s3_without_conditional_deletion(
    store: S3FileStore, faulty: FaultyS3, ministack_s3: S3, tmp_path: Path, may_delete_versions: bool
) -> None:
    """LocalStack 4.14 answers 501 to If-Match; then a delete marker is removed, or named if it stays."""

    def refused(asked: Asked) -> bool:
        return asked.method == "DELETE" and (
            "If-Match" in asked.headers or (not may_delete_versions and "versionId" in asked.query)
        )

    with faulty.failing(AnswerError(501, "NotImplemented"), refused):
        found = findings_of(store, tmp_path)
    left = leftovers(ministack_s3, store.bucket)

    assert found["delete"].verdict is (Verdict.OK if may_delete_versions else Verdict.ADVICE)
    assert len(left) == (not may_delete_versions)
    assert all(name in found["delete"].message for name in left)


class IgnoresConditions(MemoryStore):
    """An S3 that stores and deletes whatever If-Match says."""

    def _check(self, name: str, *, create_only: bool, if_match: str | None) -> None:
        del if_match
        super()._check(name, create_only=create_only, if_match=None)


def test_an_s3_that_ignores_if_match(store: S3FileStore, tmp_path: Path) -> None:
    """The doctor removes what it has stored against its condition, and warns."""
    memory = IgnoresConditions()
    found = findings_of(_With(store, memory), tmp_path)  # type: ignore[arg-type]

    assert (found["write"].verdict, found["delete"].verdict) == (Verdict.ADVICE, Verdict.ADVICE)
    assert memory.objects == {}


class _With:
    """The store, with the writes of another one."""

    def __init__(self, store: S3FileStore, writes: MemoryStore) -> None:
        self._store = store
        self.put, self.delete = writes.put, writes.delete

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


# --- the public endpoint


def doctor(environment: dict[str, str]) -> tuple[int, str]:
    ran = CliRunner(env={**environment, "LOG_FORMAT": "json"}).invoke(main, ["doctor"])
    return ran.exit_code, ran.output


def test_a_public_endpoint_out_of_reach_is_not_checked(
    ministack_s3: S3, bucket_name: str, tmp_path: Path
) -> None:
    """In a healthy task the doctor succeeds: only clients can reach the public endpoint."""
    ministack_s3.make_bucket(bucket_name)
    public = f"http://127.0.0.1:{free_port()}"
    environment = service_environment(ministack_s3, bucket_name, tmp_path, s3_public_endpoint_url=public)
    status, said = doctor(environment)

    assert status == 0, said
    assert f"not checked public endpoint: the public endpoint {public} cannot be reached from here" in said
    assert f"not checked signed upload: the public endpoint {public} cannot be reached from here" in said
    assert "FAILED" not in said
    assert leftovers(ministack_s3, bucket_name) == []


class _Other(BaseHTTPRequestHandler):
    """A server that is not S3."""

    def do_GET(self) -> None:
        self.send_response(404)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_PUT(self) -> None:
        self.do_GET()


def test_another_server_at_the_public_endpoint_is_not_s3(
    ministack_s3: S3, bucket_name: str, tmp_path: Path
) -> None:
    """Loopback is another machine for the clients than it is inside a container."""
    ministack_s3.make_bucket(bucket_name)
    with serving(_Other) as port:
        public = f"http://127.0.0.1:{port}"
        status, said = doctor(
            service_environment(ministack_s3, bucket_name, tmp_path, s3_public_endpoint_url=public)
        )

    assert status == 0, said
    assert f"not checked public endpoint: what answers here at the public endpoint {public} is not S3" in said


def test_a_misspelt_variable_is_advice(ministack_s3: S3, bucket_name: str, tmp_path: Path) -> None:
    """The doctor names variables that have no effect."""
    ministack_s3.make_bucket(bucket_name)
    status, said = doctor(
        {**service_environment(ministack_s3, bucket_name, tmp_path), "ALLOWED_HOST": "files.example"}
    )

    assert status == 0, said
    assert "advice  ALLOWED_HOST: is not a variable of this program; did you mean ALLOWED_HOSTS?" in said


# --- the kinds of credentials


KEYS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}
PROFILE = "[work]\naws_access_key_id = key\naws_secret_access_key = secret\n"


def named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, **environment: str) -> str:
    """What the doctor calls the credentials that boto3 finds in this environment alone."""
    for name in (*KEYS, "AWS_PROFILE", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    nowhere = str(tmp_path / "nowhere")
    found = {"AWS_CONFIG_FILE": nowhere, "AWS_SHARED_CREDENTIALS_FILE": nowhere, **environment}
    for name, value in {"AWS_EC2_METADATA_DISABLED": "true", **found}.items():
        monkeypatch.setenv(name, value)
    session = boto3.session.Session(region_name="eu-west-1")
    return s3_store(S3("none", "http://127.0.0.1:9", {}), "day02-none", session).credentials


def test_the_kind_of_credentials_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Environment, profile and task role, as boto3 finds them; none at all is named too."""
    file = tmp_path / "credentials"
    file.write_text(PROFILE)
    task = ContainerCredentials(iter([Keys("key", "secret", "token")]))
    with task.served() as url:
        role = named(monkeypatch, tmp_path, AWS_CONTAINER_CREDENTIALS_FULL_URI=url)
    monkeypatch.delenv("AWS_CONTAINER_CREDENTIALS_FULL_URI")
    profile = named(monkeypatch, tmp_path, AWS_SHARED_CREDENTIALS_FILE=str(file), AWS_PROFILE="work")

    assert role == "the task role"
    assert profile == "profile 'work' of the credentials file"
    assert named(monkeypatch, tmp_path) == "no credentials"
    assert named(monkeypatch, tmp_path, **KEYS) == "the environment (AWS_ACCESS_KEY_ID)"


class _Metadata(BaseHTTPRequestHandler):
    """The instance metadata service, version 2.

    https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-data-retrieval.html
    """

    def _answer(self, text: str) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def do_PUT(self) -> None:
        self._answer("token")

    def do_GET(self) -> None:
        role = self.path.rstrip("/").endswith("security-credentials")
        keys = '"Code":"Success","AccessKeyId":"key","SecretAccessKey":"secret","Token":"token"'
        self._answer("day02-instance" if role else f'{{{keys},"Expiration":"2999-01-01T00:00:00Z"}}')


def test_the_instance_role_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Outside ECS, an EC2 instance has the credentials of its own role."""
    with serving(_Metadata) as port:
        endpoint = {"AWS_EC2_METADATA_SERVICE_ENDPOINT": f"http://127.0.0.1:{port}/"}
        found = named(monkeypatch, tmp_path, AWS_EC2_METADATA_DISABLED="false", **endpoint)

    assert found == "the instance role"
