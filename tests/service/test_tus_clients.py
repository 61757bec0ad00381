"""tus 1.0.0 with stock clients: tuspy (PyPI) and tus-js-client (npm). Sections are those of the protocol."""

from __future__ import annotations

import io
import json
import subprocess
from pathlib import Path

import pytest
import requests
from tusclient.client import TusClient
from tusclient.exceptions import TusUploadFailed

from s3api.file_store import MiB
from service.npm_programs import NODE_MODULES, node
from support.servers import Service

HERE = Path(__file__).parent
DATA = bytes(range(256)) * (12 * 4 * 1024)  # 12 MiB: two parts of 5 MiB, and one of 2 MiB


def stored(service: Service, name: str) -> bytes:
    return requests.get(service.at(f"/files/{name}"), timeout=60).content


def test_tuspy_resumes_with_checksums(seaweedfs_service: Service) -> None:
    """tuspy 1: a part with its SHA-1 (Checksum), then another uploader continues at the offset (HEAD)."""
    client = TusClient(seaweedfs_service.at("/tus"))
    metadata = {"filename": "tuspy.bin"}
    first = client.uploader(
        file_stream=io.BytesIO(DATA), chunk_size=5 * MiB, metadata=metadata, upload_checksum=True
    )
    first.upload(stop_at=5 * MiB)
    second = client.uploader(file_stream=io.BytesIO(DATA), url=first.url, chunk_size=5 * MiB)

    assert second.offset == 5 * MiB
    second.upload()
    assert stored(seaweedfs_service, "tuspy.bin") == DATA


def test_two_uploaders_of_tuspy_share_an_upload(seaweedfs_service: Service) -> None:
    """Core protocol, "PATCH": the second gets 409 for an old offset; its next HEAD continues the file."""
    client = TusClient(seaweedfs_service.at("/tus"))
    one = client.uploader(file_stream=io.BytesIO(DATA), chunk_size=6 * MiB, metadata={"filename": "two.bin"})
    one.set_url(one.create_url())
    one.offset = 0
    two = client.uploader(file_stream=io.BytesIO(DATA), url=one.url, chunk_size=6 * MiB)
    one.upload(stop_at=5 * MiB)
    with pytest.raises(TusUploadFailed) as refused:
        two.upload()

    assert (one.offset, refused.value.status_code) == (5 * MiB, 409)
    two.offset = two.get_offset()
    two.upload()
    assert stored(seaweedfs_service, "two.bin") == DATA


def test_tuspy_reads_why_its_chunk_is_refused(seaweedfs_service: Service) -> None:
    """A chunk below the size of a part is 400, and the sentence names the minimum."""
    client = TusClient(seaweedfs_service.at("/tus"))
    uploader = client.uploader(
        file_stream=io.BytesIO(DATA), chunk_size=1 * MiB, metadata={"filename": "small.bin"}
    )
    with pytest.raises(TusUploadFailed) as refused:
        uploader.upload()

    assert refused.value.status_code == 400
    assert b"at least 5242880 bytes" in refused.value.response_content


def test_tus_js_client_resumes_and_terminates(seaweedfs_service: Service, tmp_path: Path) -> None:
    """tus-js-client 4 in Node: interrupted after a part, resumed from its URL, and another one terminated."""
    program, _ = node("tus-js-client", "package.json")
    (tmp_path / "node_modules").symlink_to(NODE_MODULES)
    script = tmp_path / "tus.mjs"
    script.write_text((HERE / "node" / "tus.mjs").read_text(encoding="utf-8"), encoding="utf-8")
    done = subprocess.run(
        [program, script, seaweedfs_service.at("/tus")],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["interrupted"] in (5 * MiB, 10 * MiB)
    assert said["resumed"] == said["size"] == len(DATA)
    assert said["terminated"] == 410
    assert stored(seaweedfs_service, "tus-js.bin") == DATA
