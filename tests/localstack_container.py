"""LocalStack as a container of its own, and sessions on it; for tests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import requests
from localstack_client.session import Session

from containers import docker_engine, image_or_need
from run_local import LOCAL_CREDENTIALS, REGION, free_port
from servers import ROOT, S3, until

IMAGE = "localstack/localstack:4.14.0"
# As in docker/compose.yaml: S3 alone, signatures and their expiry checked, nothing sent or fetched.
ENVIRONMENT = {
    "SERVICES": "s3",
    "EAGER_SERVICE_LOADING": "1",
    "S3_SKIP_SIGNATURE_VALIDATION": "0",
    "DISABLE_EVENTS": "1",
    "SKIP_SSL_CERT_DOWNLOAD": "1",
}


HOOKS = ROOT / "docker" / "localstack"
READY = "/etc/localstack/init/ready.d"


@contextmanager
def running_localstack() -> Iterator[S3]:
    """LocalStack on a free port of loopback, corrected, without a bucket; gone at the end, with its data."""
    with docker_engine() as engine:
        image_or_need(engine, IMAGE)
        port = free_port()
        container = engine.containers.run(
            IMAGE,
            detach=True,
            environment=ENVIRONMENT,
            volumes=[f"{HOOKS / 'correct_listing.py'}:{READY}/correct_listing.py:ro"],
            ports={"4566/tcp": ("127.0.0.1", port)},
        )
        try:
            url = f"http://127.0.0.1:{port}"
            until(lambda: _is_ready(url), "LocalStack is ready", 60)
            yield S3("localstack", url, LOCAL_CREDENTIALS)
        finally:
            container.remove(force=True, v=True)


def _is_ready(url: str) -> bool:
    try:
        answer = requests.get(f"{url}/_localstack/init/ready", timeout=5)
    except requests.RequestException:
        return False
    if not answer.ok or not answer.json()["completed"]:
        return False
    assert "ERROR" not in answer.text, answer.text
    return True


def s3_client(url: str) -> Any:
    """A client of LocalStack's S3 at the URL, whatever endpoint the environment names."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("AWS_ENDPOINT_URL", raising=False)
        patch.delenv("USE_SSL", raising=False)
        session = Session(
            aws_access_key_id=LOCAL_CREDENTIALS["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=LOCAL_CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
            region_name=REGION,
            localstack_host=url.removeprefix("http://"),
        )
        return session.client("s3")
