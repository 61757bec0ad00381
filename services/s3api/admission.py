"""Which requests are let in, decided before any view runs: the caller, the target, the query, the headers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import quote, unquote_to_bytes

from flask import Flask, g, request
from pydantic import BaseModel
from werkzeug.exceptions import BadRequest, UnsupportedMediaType

from s3api import files, headers
from s3api.auth import ANONYMOUS, Forbidden
from s3api.schemas import DownloadQuery, ListQuery
from s3api.services import current_caller, current_services
from s3api.settings import Verb

API = "api"  # the blueprint of `routes`
NDJSON = "application/x-ndjson"
#: What a health check asks, under whatever name it has for this task.
PROBES = {"api.livez", "api.readyz"}
PUBLIC = {"api.index", *PROBES}
STATIC = {"pages"}
#: What a caller must be allowed, whatever the file, before anything of the body is read.
VERBS: Mapping[str, Verb] = {
    "api.list_files": "list",
    "api.download": "read",
    "api.read_file": "read",
    "api.upload": "write",
    "api.upload_raw": "write",
    "api.plan_upload": "write",
    "api.sign_parts": "write",
    "api.list_parts": "write",
    "api.complete_upload": "write",
    "api.abort_upload": "write",
    "api.restore": "write",
    "api.delete": "delete",
    "api.delete_many": "delete",
}
#: The views that heed preconditions; every other write refuses them.
CONDITIONAL = {"api.upload_raw", "api.complete_upload", "api.delete"}
#: The query parameters of a route; the others have none.
QUERIES: Mapping[str | None, type[BaseModel]] = {"api.list_files": ListQuery, "api.download": DownloadQuery}
# What begins a target that names the host as well, and what no target contains.
_AUTHORITY = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]*://[^/?#]*")
_NOT_IN_TARGET = re.compile(r"[^A-Za-z0-9._~!$&'()*+,;=:@/?%-]|%(?![0-9A-Fa-f]{2})")


def register(app: Flask) -> None:
    app.before_request(admit)


def admit() -> None:
    """Find out who asks for what, and refuse it where that is enough to know, before any view runs."""
    services = current_services()
    services.origins.check_host(request.environ, any_host=request.endpoint in PROBES)
    _check_target()
    _drop_invalid_dates()
    try:
        request.environ["PATH_INFO"].encode("latin-1").decode("utf-8")
        unquote_to_bytes(request.query_string).decode("utf-8")
    except UnicodeDecodeError:
        raise files.InvalidName("The URL is not valid UTF-8") from None
    if request.url_rule is None:
        return
    # These pages are no secret; but with nothing configured, nothing is served at all.
    if request.endpoint in PUBLIC or (request.blueprint in STATIC and services.tokens.configured):
        _check_query()
        return
    g.caller = services.tokens.identify(request.headers.get("Authorization"))
    # A browser adds no token by itself, so where one was sent a foreign page can at most have been given it.
    may_be_foreign = g.caller is not ANONYMOUS and request.method in ("GET", "HEAD")
    if not may_be_foreign and services.origins.is_foreign(request.environ):
        raise Forbidden(
            "A web page of another origin may not do this; the service's operator can add its origin "
            "to ALLOWED_ORIGINS"
        )
    if request.blueprint == API:
        current_caller().require(VERBS[str(request.endpoint)])
        if request.method not in ("GET", "HEAD"):
            _refuse_what_would_be_ignored()
        _check_query()


def _refuse_what_would_be_ignored() -> None:
    """Refuse a write with a header that changes its meaning, and that its view does not heed."""
    for name, instead in headers.UNSUPPORTED_IN_WRITES.items():
        if name in request.headers:
            raise BadRequest(f"The header {name} is not supported: {instead}")
    for name in headers.PRECONDITIONS:
        if name in request.headers and request.endpoint not in CONDITIONAL:
            raise BadRequest(f"This request takes no {name}: S3 has no condition for it; nothing was changed")
    if request.endpoint == "api.upload_raw":
        return
    for name in headers.DIGESTS:
        if name in request.headers:
            raise BadRequest(f"Only PUT /upload/<file> checks a {name}; leave it out; nothing was changed")
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise UnsupportedMediaType("Only PUT /upload/<file> takes a Content-Encoding; send the body as it is")


def _check_target() -> None:
    """RFC 9112, section 3.2, and RFC 3986, section 3.3: the server would cut the target at a `#`."""
    raw = request.environ.get("RAW_URI", "")
    target = _AUTHORITY.sub("", raw)
    authority = raw[: len(raw) - len(target)].partition("://")[2]
    if authority and authority.lower() != request.environ.get("HTTP_HOST", "").lower():
        raise BadRequest("The URL and the Host header name different hosts")  # RFC 9112, section 3.2.2
    if wrong := _NOT_IN_TARGET.search(target):
        escaped = quote(wrong[0], safe="", encoding="latin-1")
        raise BadRequest(f"The URL contains a raw '{wrong[0]}'; send it percent-encoded, as '{escaped}'")


def _drop_invalid_dates() -> None:
    """RFC 9110, sections 13.1.3 and 13.1.4: a date that is not valid is ignored, by the framework as well."""
    for header in ("HTTP_IF_MODIFIED_SINCE", "HTTP_IF_UNMODIFIED_SINCE"):
        if header in request.environ and headers.date(request.environ[header]) is None:
            del request.environ[header]


def _check_query() -> None:
    """A parameter that the route does not know, or that comes twice, would be ignored."""
    known = list(QUERIES[request.endpoint].model_fields) if request.endpoint in QUERIES else []
    if request.endpoint == "api.list_files" and wants_lines():
        known = ["prefix"]  # the whole listing in one answer, in details
    for name, values in request.args.lists():
        if name not in known:
            there_are = f"it knows {', '.join(known)}" if known else "it knows none"
            raise BadRequest(f"This request knows no query parameter '{name[:100]}'; {there_are}")
        if len(values) > 1:
            raise BadRequest(f"The query parameter '{name}' is given {len(values)} times; give it once")


def wants_lines() -> bool:
    return request.accept_mimetypes.best_match(["application/json", NDJSON]) == NDJSON
