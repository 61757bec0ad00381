"""Fixtures: the servers of a test session, a bucket for each test, and the service on each."""

from __future__ import annotations

import functools
import gc
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import botocore.session
import pytest
from flask.testing import FlaskClient
from hypothesis import settings
from werkzeug.routing import Rule

from infra.terraform import Workspace
from s3api.app import create_app
from support.localstack import running_localstack
from support.memory_store import MemoryStore
from support.servers import (
    S3,
    Service,
    need,
    running_ministack,
    running_seaweedfs,
    running_service,
)
from support.stores import settings_for
from support.tls import running_tls

#: Markers, and the fixtures that give a test its marker. `make quick` leaves out all of these tests but "s3".
MARKERS: Mapping[str, frozenset[str]] = {
    "docker": frozenset({"engine", "localstack_s3"}),
    "browser": frozenset({"browser"}),
    "terraform": frozenset({"workspace", "checkov", "trivy"}),
    "service": frozenset({"make_service", "base_url", "own_s3"}),
    "s3": frozenset({"ministack_s3", "seaweedfs_s3", "tls_s3", "s3"}),
}

# How long an example takes says more about the machine than about the code. In CI it has no deadline anyway.
settings.register_profile("without deadline", settings(deadline=None))
# `make quick` tries a tenth of the examples of `make test`. A module multiplies the number of its profile.
settings.register_profile("quick", parent=settings.get_profile("without deadline"), max_examples=10)
settings.load_profile("without deadline")

# Without this, every session of botocore reads the descriptions of the services again, for 0.1 s and more.
botocore.session.create_loader = functools.cache(botocore.session.create_loader)

_compile_builder = Rule._compile_builder
_builders: dict[tuple[Any, ...], Any] = {}


def _compile_builder_once(rule: Rule, append_unknown: bool = True) -> Any:
    key = rule.rule, tuple(rule._trace), append_unknown
    if rule.defaults:
        return _compile_builder(rule, append_unknown)
    if key not in _builders:
        _builders[key] = _compile_builder(rule, append_unknown)
    return _builders[key]


# Without this, every app compiles the functions that build its URLs again, for 15 ms. They depend on its
# rules alone, which are the same for all apps.
Rule._compile_builder = _compile_builder_once  # type: ignore[method-assign, assignment]


def pytest_configure(config: pytest.Config) -> None:
    gc.disable()  # imports leave almost no garbage, and the search takes a quarter of the time
    for marker in MARKERS:
        config.addinivalue_line("markers", f"{marker}: set by tests/conftest.py from a test's fixtures")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test with what it starts.

    The marks come from the test's fixtures, from a parameter that names an S3, and from `running_service` in
    the test's module.
    """
    for item in items:
        if not isinstance(item, pytest.Function):
            continue
        fixtures = set(item.fixturenames)
        parameters = item.callspec.params.values() if hasattr(item, "callspec") else ()
        fixtures |= {
            f"{kind}_s3" for kind in ("localstack", "ministack", "seaweedfs", "tls") if kind in parameters
        }
        if "running_service" in vars(item.module):
            fixtures.add("make_service")
        for marker, names in MARKERS.items():
            if fixtures & names:
                item.add_marker(marker)


def pytest_collection_finish() -> None:
    """Keep the imported modules and the tests out of each garbage collection, which would take 0.5 s.

    With Python's own threshold, 700 objects, a sixth of the tests' time goes into collections.
    """
    gc.freeze()
    gc.set_threshold(50_000)
    gc.enable()


@pytest.fixture(scope="session")
def ministack_s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    with running_ministack(tmp_path_factory.mktemp("ministack")) as s3:
        yield s3


@pytest.fixture(scope="session")
def seaweedfs_s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    with running_seaweedfs(tmp_path_factory.mktemp("seaweedfs")) as s3:
        yield s3


@pytest.fixture(scope="session")
def tls_s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    """SeaweedFS over TLS. As with AWS, its certificate is checked."""
    with running_seaweedfs(tmp_path_factory.mktemp("tls"), tls=True) as s3:
        yield s3


@pytest.fixture(scope="session")
def localstack_s3() -> Iterator[S3]:
    with running_localstack() as s3:
        yield s3


@pytest.fixture
def bucket_name() -> str:
    return f"day02-{uuid.uuid4().hex[:16]}"


@pytest.fixture(scope="session")
def make_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Service]]:
    """Start a service with the settings of a test. All services end with the session."""
    made: list[Service] = []
    with ExitStack() as stack:

        def make(s3: S3, bucket: str, **settings: object) -> Service:
            directory = tmp_path_factory.mktemp("service")
            made.append(stack.enter_context(running_service(s3, bucket, directory, **settings)))
            return made[-1]

        yield make
        for service in made:  # to end side by side: each drains for a while
            service.terminate()


@pytest.fixture(scope="session")
def seaweedfs_service(seaweedfs_s3: S3, make_service: Callable[..., Service]) -> Service:
    """One service on SeaweedFS, with the bucket `day02-shared`, for all tests that do not disturb it."""
    return make_service(seaweedfs_s3, seaweedfs_s3.make_bucket("day02-shared"))


@pytest.fixture(scope="session")
def tls_ministack_s3(ministack_s3: S3, tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    """MiniStack behind TLS; only AWS_CA_BUNDLE of its credentials knows the CA."""
    with running_tls(ministack_s3, tmp_path_factory.mktemp("tls-ministack")) as front:
        yield front.trusted


@pytest.fixture(scope="session")
def tls_service(tls_ministack_s3: S3, make_service: Callable[..., Service]) -> Service:
    """One service that reaches MiniStack over TLS; its bucket `day02-tls` keeps versions."""
    return make_service(tls_ministack_s3, tls_ministack_s3.make_bucket("day02-tls", versioned=True))


@pytest.fixture(scope="session")
def ministack_service(ministack_s3: S3, make_service: Callable[..., Service]) -> Service:
    """One service on MiniStack. Its bucket `day02-shared` keeps versions."""
    return make_service(ministack_s3, ministack_s3.make_bucket("day02-shared", versioned=True))


@pytest.fixture(scope="session")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """A copy of the Terraform code that sends no request to AWS."""
    need(shutil.which("terraform"), "terraform is not on the PATH")
    workspace = Workspace(tmp_path_factory.mktemp("terraform"))
    yield workspace
    workspace.close()


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def make_client(tmp_path: Path, store: MemoryStore) -> Callable[..., FlaskClient]:
    """A test client of the app over the memory store, with the settings given."""

    def make(**values: Any) -> FlaskClient:
        return create_app(settings_for(tmp_path, **values), store).test_client()

    return make


@pytest.fixture
def client(make_client: Callable[..., FlaskClient]) -> FlaskClient:
    return make_client()
