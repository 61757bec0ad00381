"""Fixtures of the command's tests. A module names its bucket in `BUCKET`, or has fixtures of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from cli.command import Command
from support.servers import S3, Service


@pytest.fixture(scope="module")
def service(
    request: pytest.FixtureRequest, ministack_s3: S3, make_service: Callable[..., Service]
) -> Service:
    return make_service(ministack_s3, ministack_s3.make_bucket(request.module.BUCKET))


@pytest.fixture
def s3api(request: pytest.FixtureRequest, service: Service, ministack_s3: S3, tmp_path: Path) -> Command:
    """The command, at a service whose bucket is empty."""
    for name in ministack_s3.keys(request.module.BUCKET):
        ministack_s3.client().delete_object(Bucket=request.module.BUCKET, Key=name)
    return Command(service.url, tmp_path)
