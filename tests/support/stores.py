"""Settings and stores for tests, and helpers that put and read files."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from s3api.bodies import Body
from s3api.file_store import Conditions, FileStore, Upload
from s3api.s3_store import S3FileStore
from s3api.settings import Settings
from support.servers import S3, SIGNING_KEY


def settings_for(tmp_path: Path, **values: Any) -> Settings:
    """Settings that ignore the environment."""
    given: dict[str, Any] = {
        "bucket": "day02-memory",
        "signing_key": SecretStr(SIGNING_KEY),
        "allow_anonymous": True,
        "staging_dir": tmp_path / "uploads",
    }
    return Settings.model_validate({**given, **values})


def s3_store(s3: S3, bucket: str, session: Any = None, **values: Any) -> S3FileStore:
    settings = Settings.model_validate(
        {"bucket": bucket, "signing_key": SecretStr(SIGNING_KEY), "s3_endpoint_url": s3.url, **values}
    )
    return S3FileStore(settings, session or s3.session())


def body(data: bytes, *, size: int | None = -1, sha256: str | None = None, limit: int = 1 << 40) -> Body:
    return Body(io.BytesIO(data), len(data) if size == -1 else size, limit, sha256)


def put(store: FileStore, name: str, data: bytes = b"data") -> Upload:
    return store.put(name, body(data), "text/plain", create_only=False)


def content(store: FileStore, name: str, **conditions: Any) -> bytes:
    return b"".join(store.open(name, Conditions(**conditions), with_body=True).chunks)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
