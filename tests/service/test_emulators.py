"""The emulators of this machine, attacked by programs that do not have their keys.

The guard stands in front of MiniStack (`make run`, profile `persistent`) and of LocalStack (`make up`). Every
attack worked on the emulator alone. tests/ui/test_emulated_s3.py attacks from a browser.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import boto3.session
import docker
import pytest
import requests
from botocore.config import Config
from botocore.exceptions import ClientError
from urllib3.util import parse_url

from local_servers import REGION, free_port
from support.containers import docker_engine, image_or_need
from support.localstack import ENVIRONMENT, IMAGE, mounts, running_localstack
from support.servers import ROOT, S3, need, running_ministack, until

PAGE = "http://127.0.0.1:5999"
KEY = "dir/a b+ü.txt"
#: What every emulator used to take, and what LocalStack's own calls are signed with.
WELL_KNOWN = [("test", "test"), ("000000000000", "test"), ("AKIAIOSFODNN7EXAMPLE", "test"), ("", "")]
WELL_KNOWN += [("__internal_call__", "__internal_call__"), ("949334387222", "test")]


@pytest.fixture(scope="module", params=["ministack", "localstack"])
def s3(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    if request.param == "ministack":
        with running_ministack(tmp_path_factory.mktemp("ministack"), PAGE) as running:
            yield running
    else:
        with running_localstack(PAGE) as running:
            yield running


@pytest.fixture
def engine() -> Iterator[docker.DockerClient]:
    with docker_engine() as engine:
        yield engine


@pytest.fixture
def bucket(s3: S3, bucket_name: str) -> Iterator[str]:
    """A bucket with one file, which no attack may change."""
    s3.make_bucket(bucket_name, versioned=True)
    client = s3.client()
    rule = {"AllowedMethods": ["GET", "PUT", "POST"], "AllowedOrigins": [PAGE], "AllowedHeaders": ["*"]}
    client.put_bucket_cors(Bucket=bucket_name, CORSConfiguration={"CORSRules": [rule]})
    client.put_object(Bucket=bucket_name, Key=KEY, Body=b"secret")
    yield bucket_name
    assert client.get_object(Bucket=bucket_name, Key=KEY)["Body"].read() == b"secret"
    assert len(client.list_object_versions(Bucket=bucket_name)["Versions"]) == 1


def client_with(s3: S3, key: str, secret: str, **config: Any) -> Any:
    settings: dict[str, Any] = {"s3": {"addressing_style": "path"}, "retries": {"total_max_attempts": 1}}
    return boto3.session.Session(key, secret, region_name=REGION).client(
        "s3", endpoint_url=s3.url, config=Config(**settings | config)
    )


def presigned(s3: S3, bucket: str, operation: str = "get_object", seconds: int = 60, **more: Any) -> str:
    url: str = s3.client(signature_version="s3v4").generate_presigned_url(
        operation, Params={"Bucket": bucket, "Key": KEY, **more}, ExpiresIn=seconds
    )
    return url


def refused(answer: requests.Response) -> bool:
    """Whether it is an error of S3 that a page of another origin cannot read."""
    assert "Access-Control-Allow-Origin" not in answer.headers
    assert b"secret" not in answer.content
    return answer.status_code == 403 and b"<Code>" in answer.content


# --- refused


def test_unsigned(s3: S3, bucket: str) -> None:
    """Listing, reading, overwriting and deleting need a signature."""
    url = f"{s3.url}/{bucket}"
    for asked in (
        requests.get(f"{s3.url}/", timeout=10),
        requests.get(url, timeout=10),
        requests.get(f"{url}/{KEY}", timeout=10),
        requests.put(f"{url}/{KEY}", data=b"other", timeout=10),
        requests.put(f"{url}/other", data=b"x" * 8 * 1024 * 1024, timeout=10),
        requests.delete(f"{url}/{KEY}", timeout=10),
        requests.delete(url, timeout=10),
        requests.post(
            f"{url}?delete", data=f"<Delete><Object><Key>{KEY}</Key></Object></Delete>", timeout=10
        ),
        requests.post(url, data={"key": KEY}, files={"file": b"other"}, timeout=10),
        requests.post(f"{s3.url}/", data={"Action": "ListUsers"}, timeout=10),
        requests.put(f"{url}?cors", data="<CORSConfiguration/>", timeout=10),
    ):
        assert refused(asked), asked.request.url


@pytest.mark.parametrize(("key", "secret"), WELL_KNOWN)
def test_well_known_keys(s3: S3, bucket: str, key: str, secret: str) -> None:
    """The keys that emulators take by default open nothing: in headers, in URLs, in forms."""
    client = client_with(s3, key or "x", secret or "x", signature_version="s3v4")
    for call in (
        client.list_buckets,
        lambda: client.list_objects_v2(Bucket=bucket),
        lambda: client.delete_object(Bucket=bucket, Key=KEY),
        lambda: client.put_object(Bucket=bucket, Key=KEY, Body=b"other"),
    ):
        with pytest.raises(ClientError, match="InvalidAccessKeyId"):
            call()
    url = client.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": KEY})
    form = client.generate_presigned_post(bucket, KEY)

    assert refused(requests.get(url, timeout=10))
    assert refused(requests.post(form["url"], data=form["fields"], files={"file": b"other"}, timeout=10))


def test_the_right_key_with_a_wrong_secret(s3: S3, bucket: str) -> None:
    """The id of the key is not secret, so every kind of request needs a correct signature."""
    client = client_with(s3, s3.credentials["AWS_ACCESS_KEY_ID"], "test", signature_version="s3v4")
    url = client.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": KEY})
    form = client.generate_presigned_post(bucket, KEY)

    with pytest.raises(ClientError, match="SignatureDoesNotMatch"):
        client.list_objects_v2(Bucket=bucket)
    assert refused(requests.get(url, timeout=10))
    assert refused(requests.post(form["url"], data=form["fields"], files={"file": b"other"}, timeout=10))


@pytest.mark.parametrize(
    "path",
    [
        "/_ministack/reset",
        "/_ministack/config",
        "/_ministack/health",
        "/%5Fministack/reset",
        "/_localstack/health",
        "/_localstack/init",
        "/_localstack/state/reset",
        "/_localstack/diagnose",
        "/_aws/execute-api/x/y",
        "/health",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "OPTIONS"])
@pytest.mark.usefixtures("bucket")
def test_administration(s3: S3, path: str, method: str) -> None:
    """The emulator's own endpoints are closed; before, a simple POST deleted all data."""
    assert refused(requests.request(method, f"{s3.url}{path}", data=b"{}", timeout=10))


@pytest.mark.parametrize(
    "origin", ["http://evil.test", "null", "http://127.0.0.1:5998", "http://localhost:4566"]
)
def test_foreign_origins(s3: S3, bucket: str, origin: str) -> None:
    """A page of another origin gets nothing, even with a signed URL; its preflights are refused too."""
    asks = {"Origin": origin, "Access-Control-Request-Method": "PUT", "Access-Control-Request-Headers": "x"}

    assert refused(requests.options(f"{s3.url}/{bucket}/{KEY}", headers=asks, timeout=10))
    assert refused(requests.options(f"{s3.url}/", headers=asks, timeout=10))
    assert refused(requests.get(presigned(s3, bucket), headers={"Origin": origin}, timeout=10))
    assert refused(requests.get(f"{s3.url}/_guard/ready", headers={"Origin": origin}, timeout=10))


def test_foreign_addresses(s3: S3, bucket: str) -> None:
    """A name of the attacker's that points at loopback is refused, signed or not (DNS rebinding)."""
    for host in ("evil.test", f"evil.test:{parse_url(s3.url).port}", "127.0.0.1", f"{bucket}.s3.localhost"):
        assert refused(requests.get(presigned(s3, bucket), headers={"Host": host}, timeout=10))
        assert refused(requests.get(f"{s3.url}/_guard/ready", headers={"Host": host}, timeout=10))


def raw(s3: S3, *lines: str) -> bytes:
    """The answer to these lines, whatever they are."""
    address = parse_url(s3.url)
    with socket.create_connection((str(address.host), int(address.port or 0)), timeout=10) as connection:
        connection.sendall("\r\n".join([*lines, "", ""]).encode())
        told = b""
        while data := connection.recv(65536):
            told += data
        return told


def test_heads_of_other_shapes(s3: S3, bucket: str) -> None:
    """A request with no Host, two Hosts, or another address in its target is refused."""
    host = s3.url.removeprefix("http://")
    for lines in (
        [f"GET /{bucket} HTTP/1.0"],
        [f"GET /{bucket} HTTP/1.1", f"Host: {host}", "Host: evil.test"],
        [f"GET http://{host}/{bucket} HTTP/1.1", f"Host: {host}"],
        [f"GET http://{host}/_ministack/health HTTP/1.1", f"Host: {host}"],
        [f"GET http://evil.test/{bucket} HTTP/1.1", f"Host: {host}"],
    ):
        told = raw(s3, *lines, *["Connection: close"] * (len(lines) > 1))

        assert KEY.encode() not in told
        assert not told.startswith((b"HTTP/1.1 2", b"HTTP/1.0 2")), told
    asks = [f"Host: {host}", f"Origin: {PAGE}", "Access-Control-Request-Method: PUT", "Connection: close"]
    told = raw(s3, "OPTIONS * HTTP/1.1", *asks)
    assert b"Access-Control" not in told or b" 400 " in told


def test_http_2(s3: S3, bucket: str) -> None:
    """The guard also checks HTTP/2, which both emulators support by default."""
    need(shutil.which("curl"), "curl is not installed")
    command = ["curl", "-s", "--max-time", "10", "-w", "%{http_version} %{http_code}"]
    for flag, version in (("--http2-prior-knowledge", b"2 "), ("--http2", b"")):
        bare, signed = (
            subprocess.run([*command, flag, url], capture_output=True, check=False).stdout
            for url in (f"{s3.url}/{bucket}", presigned(s3, bucket))
        )

        assert bare.endswith(version + b"403"), bare
        assert bare.startswith(b"<?xml"), bare
        assert signed.startswith(b"secret" + version), signed
        assert signed.endswith(b" 200"), signed


def test_websockets(s3: S3) -> None:
    """No websocket opens."""
    asked = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    }

    assert requests.get(f"{s3.url}/_aws/execute-api/x/y", headers=asked, timeout=10).status_code == 403


def test_expired(s3: S3, bucket: str) -> None:
    """A presigned URL is refused after it has expired, and only then."""
    short, long = presigned(s3, bucket, seconds=1), presigned(s3, bucket, seconds=300)

    until(lambda: requests.get(short, timeout=10).status_code == 403, "the URL expires")
    expired = requests.get(short, timeout=10)
    assert refused(expired)
    assert b"<Message>Request has expired</Message>" in expired.content
    assert requests.get(long, timeout=10).content == b"secret"


def test_a_presigned_url_means_one_thing(s3: S3, bucket: str) -> None:
    """A presigned URL cannot be changed into another call."""
    url = presigned(s3, bucket, "put_object")
    copied = {"x-amz-copy-source": f"{bucket}/{KEY}"}

    assert refused(requests.delete(url, timeout=10))
    assert refused(requests.put(url, headers=copied, timeout=10))
    assert refused(requests.put(url, headers={"x-amz-acl": "public-read"}, timeout=10))
    assert refused(requests.put(f"{url}&acl=", timeout=10))


# --- served


def test_a_file_is_not_parsed(s3: S3, bucket_name: str) -> None:
    """A file of the type that `curl --data-binary` and urllib send does not block the emulator."""
    bucket, client = s3.make_bucket(bucket_name), s3.client(signature_version="s3v4")
    url = client.generate_presigned_url("put_object", Params={"Bucket": bucket, "Key": "form"})
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    data = b"&".join([b"a=b"] * (4 * 1024 * 1024))
    with ThreadPoolExecutor(1) as pool:
        sent = pool.submit(requests.put, url, data=data, headers=form, timeout=120)
        while not sent.done():
            assert requests.get(f"{s3.url}/_guard/ready", timeout=5).status_code == 204

    assert sent.result().status_code == 200
    assert client.get_object(Bucket=bucket, Key="form")["Body"].read() == data


def test_stock_client(s3: S3, bucket: str) -> None:
    """boto3 with the keys works: names beyond ASCII, chunked uploads, multipart uploads, deletions."""
    client = s3.client()
    part = b"x" * 5 * 1024 * 1024
    client.put_object(Bucket=bucket, Key="checked", Body=b"data", ChecksumAlgorithm="SHA256")
    upload = client.create_multipart_upload(Bucket=bucket, Key="parts")["UploadId"]
    parts = [
        {
            "PartNumber": number,
            "ETag": client.upload_part(
                Bucket=bucket, Key="parts", UploadId=upload, PartNumber=number, Body=part
            )["ETag"],
        }
        for number in (1, 2)
    ]
    client.complete_multipart_upload(
        Bucket=bucket, Key="parts", UploadId=upload, MultipartUpload={"Parts": parts}
    )

    assert s3.keys(bucket) == {KEY, "checked", "parts"}
    assert client.get_object(Bucket=bucket, Key="parts")["Body"].read() == part * 2
    client.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "checked"}, {"Key": "parts"}]})
    assert s3.keys(bucket) == {KEY}
    for version in client.list_object_versions(Bucket=bucket)["Versions"]:
        if version["Key"] != KEY:
            client.delete_object(Bucket=bucket, Key=version["Key"], VersionId=version["VersionId"])


def test_the_page(s3: S3, bucket: str) -> None:
    """The page of the allowed origin may ask first, upload, and read the answers, refusals included."""
    put = s3.client(signature_version="s3v4").generate_presigned_url(
        "put_object", Params={"Bucket": bucket, "Key": "new"}
    )
    own = {"Origin": PAGE}
    asked = requests.options(put, headers={**own, "Access-Control-Request-Method": "PUT"}, timeout=10)
    sent = requests.put(put, data=b"new", headers=own, timeout=10)
    read = requests.get(presigned(s3, bucket), headers=own, timeout=10)
    unsigned = requests.get(f"{s3.url}/{bucket}", headers=own, timeout=10)

    assert [answer.status_code for answer in (asked, sent, read, unsigned)] == [200, 200, 200, 403]
    for answer in (asked, sent, read, unsigned):
        assert answer.headers["Access-Control-Allow-Origin"] == PAGE
        assert "Origin" in answer.headers["Vary"]
    assert read.content == b"secret"
    s3.client().delete_object(Bucket=bucket, Key="new", VersionId=sent.headers["x-amz-version-id"])


@pytest.mark.parametrize("size", [0, 4, 65_535, 65_536, 65_537, 2_000_000])
def test_forms(s3: S3, bucket: str, size: int) -> None:
    """A signed form arrives whole, though its beginning is read twice."""
    form = s3.client(signature_version="s3v4").generate_presigned_post(
        bucket, "posted", Conditions=[["content-length-range", 0, 2_000_000]]
    )
    data = os.urandom(size)
    answer = requests.post(form["url"], data=form["fields"], files={"file": data}, timeout=30)
    too_large = requests.post(form["url"], data=form["fields"], files={"file": bytes(2_000_001)}, timeout=30)

    assert answer.status_code in (200, 204), answer.text
    assert s3.client().get_object(Bucket=bucket, Key="posted")["Body"].read() == data
    assert too_large.status_code == 400, too_large.text
    for version in s3.client().list_object_versions(Bucket=bucket, Prefix="posted")["Versions"]:
        s3.client().delete_object(Bucket=bucket, Key="posted", VersionId=version["VersionId"])


# --- how they start


@pytest.mark.usefixtures("engine")
def test_nothing_is_served_before_the_guard() -> None:
    """While LocalStack starts, every answer to continuous requests is the guard's."""
    statuses: list[int] = []
    stopped = threading.Event()
    port = free_port()

    def ask() -> None:
        while not stopped.wait(0.01):
            try:
                answer = requests.get(f"http://127.0.0.1:{port}/_localstack/health", timeout=10)
                statuses.append(answer.status_code)
            except requests.RequestException:
                continue

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        with running_localstack(port=port):
            until(lambda: len(statuses) > 50, "the guard has answered")
    finally:
        stopped.set()
        asking.join()

    assert set(statuses) == {403}


def test_localstack_does_not_run_without_the_guard(engine: docker.DockerClient) -> None:
    """If the guard cannot start, LocalStack ends instead of running without it."""
    image_or_need(engine, IMAGE)
    container = engine.containers.run(IMAGE, detach=True, environment=ENVIRONMENT, volumes=mounts())
    try:
        ended: Mapping[str, Any] = container.wait(timeout=120)
        said = container.logs().decode()
    finally:
        container.remove(force=True, v=True)

    assert ended["StatusCode"] == 1
    assert "GUARD_HOSTS" in said


def test_ministack_listens_at_one_port(tmp_path: Path) -> None:
    """MiniStack listens on one port only, the guarded one, on loopback."""
    with running_ministack(tmp_path) as s3:
        processes = [
            entry
            for entry in Path("/proc").iterdir()
            if entry.name.isdigit() and str(tmp_path).encode() in _read(entry / "environ")
        ]
        listening = {address for process in processes for address in _listening(process)}

    assert listening == {f"0100007F:{int(parse_url(s3.url).port or 0):04X}"}


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def _listening(process: Path) -> set[str]:
    """The local addresses of the process's sockets that listen (proc(5), net/tcp)."""
    inodes = set()
    for descriptor in (process / "fd").iterdir():
        target = str(descriptor.readlink())
        if target.startswith("socket:["):
            inodes.add(target[8:-1])
    rows = [
        line.split()
        for table in ("tcp", "tcp6")
        for line in (process / "net" / table).read_text().splitlines()[1:]
    ]
    return {row[1] for row in rows if row[3] == "0A" and row[9] in inodes}


def test_no_port_is_published_beyond_loopback() -> None:
    """Every port in every compose file is one of 127.0.0.1."""
    for path in [*ROOT.glob("docker/**/*.yaml"), *ROOT.glob("docker/**/*.yml")]:
        published = [line for line in path.read_text().splitlines() if "ports:" in line]

        assert all('["127.0.0.1:' in line for line in published), path
