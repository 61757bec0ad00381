"""An init hook that corrects the listings of LocalStack 4.14.0 beyond ASCII.

It reads the token of a page as ASCII, so the page that begins with an accent is an error. And it compares
percent-encoded names, in another order than the one it has sorted them in, so that pages repeat some.
With this a page is made of the plain names and encoded at the end, as S3 does it.
"""
# ruff: noqa: INP001 - a script of LocalStack's, no package

import base64
from typing import Any
from urllib.parse import quote

from localstack.services.plugins import SERVICE_PLUGINS
from localstack.services.s3 import provider


def decode(token: str | None) -> str:
    return base64.b64decode(token or "", altchars=b"._").decode()


def list_objects_v2(*, encoding_type: str | None = None, **request: Any) -> Any:
    if encoding_type != "url":
        return original(encoding_type=encoding_type, **request)
    page = original(**request)
    encode(page, "Prefix", "Delimiter", "StartAfter")
    for entry in page.get("Contents", ()):
        encode(entry, "Key")
    for entry in page.get("CommonPrefixes", ()):
        encode(entry, "Prefix")
    return {**page, "EncodingType": "url"}


def encode(entry: dict[str, Any], *names: str) -> None:
    entry.update({name: quote(entry[name]) for name in names if name in entry})


provider.decode_continuation_token = decode
operation = SERVICE_PLUGINS.get_service("s3").skeleton.dispatch_table["ListObjectsV2"]
original = operation.fn
operation.fn = list_objects_v2
