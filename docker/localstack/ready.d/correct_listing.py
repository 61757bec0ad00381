"""An init hook that corrects the listings of LocalStack 4.14.0 for names that are not ASCII.

LocalStack decodes a continuation token as ASCII, so a page that starts at a name with an accent is an error.
It also sorts plain names but compares percent-encoded ones, so that pages repeat names. With this correction,
pages are made from plain names, which are encoded at the end, as in S3.
"""
# ruff: noqa: INP001 - a script of LocalStack, not a package

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
