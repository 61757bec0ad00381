"""LocalStack in a container, and clients of it, for tests."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest
import requests
from docker.models.containers import Container
from localstack_client.session import Session

from local_servers import REGION, credentials_in, free_port
from support.containers import docker_engine, image_or_need, output_of
from support.servers import ROOT, S3, until

IMAGE = "localstack/localstack:4.14.0"
# As in docker/compose.yaml: S3 alone, signatures and their expiry checked, nothing sent or fetched.
ENVIRONMENT = {
    "SERVICES": "s3",
    "EAGER_SERVICE_LOADING": "1",
    "S3_SKIP_SIGNATURE_VALIDATION": "0",
    "DISABLE_EVENTS": "1",
    "SKIP_SSL_CERT_DOWNLOAD": "1",
    "GUARD_KEYS": "/keys",
}


def mounts() -> list[str]:
    """The mounts of the guard and of the corrected listing, without the hook that makes a bucket."""
    places = {
        "docker/localstack/start.d": "/etc/localstack/init/start.d",
        "docker/localstack/ready.d/correct_listing.py": "/etc/localstack/init/ready.d/correct_listing.py",
        "services/guard": "/srv/guard",
    }
    return [f"{ROOT / path}:{inside}:ro" for path, inside in places.items()]


@contextmanager
def running_localstack(*origins: str, port: int = 0) -> Iterator[S3]:
    """LocalStack without a bucket, on a port of loopback (0 chooses a free one); removed at the end."""
    with docker_engine() as engine:
        image_or_need(engine, IMAGE)
        port = port or free_port()
        proxies = (free_port(), free_port())
        container = engine.containers.run(
            IMAGE,
            detach=True,
            environment={
                **ENVIRONMENT,
                "GUARD_HOSTS": ",".join(f"127.0.0.1:{at},localhost:{at}" for at in (port, *proxies)),
                "GUARD_ORIGINS": ",".join(origins),
            },
            volumes=mounts(),
            ports={"4566/tcp": ("127.0.0.1", port)},
        )
        try:
            url = f"http://127.0.0.1:{port}"
            until(lambda: is_ready(url), "LocalStack is ready", 60)
            yield S3("localstack", url, keys_of(container), proxy_ports=proxies)
        finally:
            container.remove(force=True, v=True)


def is_ready(url: str) -> bool:
    """Whether the guard says that the emulator behind it is ready."""
    try:
        return requests.get(f"{url}/_guard/ready", timeout=5).status_code == 204
    except requests.RequestException:
        return False


def keys_of(container: Container) -> Mapping[str, str]:
    """The keys that the emulator made, as environment variables."""
    return credentials_in(output_of(container, "cat", "/keys/credentials"))


def s3_client(url: str, credentials: Mapping[str, str]) -> Any:
    """A client of LocalStack's S3 at this URL; an endpoint in the environment is ignored."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("AWS_ENDPOINT_URL", raising=False)
        patch.delenv("USE_SSL", raising=False)
        session = Session(
            aws_access_key_id=credentials["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=credentials["AWS_SECRET_ACCESS_KEY"],
            region_name=REGION,
            localstack_host=url.removeprefix("http://"),
        )
        return session.client("s3")
