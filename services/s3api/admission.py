"""The checks of every request before its view runs: host, URL, caller, query and headers."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote, unquote_to_bytes

from flask import Flask, request
from flask.globals import app_ctx, request_ctx
from flask.wrappers import Request
from pydantic import BaseModel
from werkzeug.exceptions import BadRequest, NotFound, UnsupportedMediaType

from s3api import failures, headers, write_headers
from s3api.auth import ANONYMOUS, LINK_HOLDER, Forbidden
from s3api.bodies import Received
from s3api.origins import path_of_target
from s3api.schemas import (
    ArchiveQuery,
    DownloadQuery,
    ListQuery,
    RestoreQuery,
    VersionsOfQuery,
    VersionsQuery,
)
from s3api.services import current_services
from s3api.settings import Verb
from s3api.waiting import NO_PLACE

API = "api"  # the blueprint of `routes`
NDJSON = "application/x-ndjson"
#: Health checks may use any host name.
PROBES = {"api.livez", "api.readyz", "api.healthz"}
PUBLIC = {"api.index", *PROBES}
STATIC = {"pages"}
#: The verb that a caller needs for a view, or None if every caller may use it. It is checked before the body
#: is read.
VERBS: Mapping[str, Verb | None] = {
    "api.whoami": None,
    "api.list_files": "list",
    "api.download": "read",
    "api.read_file": "read",
    "api.read_archive": "read",
    "api.upload": "write",
    "api.upload_raw": "write",
    "api.plan_upload": "write",
    "api.plan_upload_form": "write",
    "api.sign_parts": "write",
    "api.list_parts": "write",
    "api.complete_upload": "write",
    "api.abort_upload": "write",
    "api.restore": "write",
    "api.restore_folder": "write",
    "api.list_versions": "list",
    "api.list_versions_of": "list",
    "api.copy": "write",
    "api.copy_folder": "write",
    "api.move": "write",
    "api.move_folder": "write",
    "api.tus_options": "write",
    "api.create_tus_upload": "write",
    "api.read_tus_offset": "write",
    "api.append_tus_upload": "write",
    "api.override_tus_method": "write",
    "api.terminate_tus_upload": "write",
    "api.delete": "delete",
    "api.delete_many": "delete",
    "api.create_upload_link": "write",
    "api.read_upload_link": None,
    "api.show_upload_link": None,
    "api.upload_by_link": "write",
    "api.upload_into_link": "write",
}
#: The views whose URL contains an upload link. They check it themselves, and need no token.
BY_LINK = {"api.read_upload_link", "api.show_upload_link", "api.upload_by_link", "api.upload_into_link"}
#: The views that store the body of the request as it is.
RAW = {"api.upload_raw", "api.upload_by_link", "api.upload_into_link"}
#: The views of one resumable upload, and the one that creates it. They understand the headers of tus.
TUS_UPLOADS = {
    "api.create_tus_upload",
    "api.read_tus_offset",
    "api.append_tus_upload",
    "api.override_tus_method",
    "api.terminate_tus_upload",
}
#: The view that obeys X-HTTP-Method-Override.
OVERRIDES = "api.override_tus_method"
#: The views whose requests change something, or allow it, although they use GET or HEAD.
WRITE_BY_READING = {"api.plan_upload_form", "api.read_tus_offset"}
#: The views that evaluate preconditions. Every other write refuses them.
CONDITIONAL = {
    *RAW,
    "api.complete_upload",
    "api.delete",
    "api.copy",
    "api.move",
    "api.restore",
    *TUS_UPLOADS,
}
#: The query parameters of each view. The other views have none.
QUERIES: Mapping[str | None, type[BaseModel]] = {
    "api.list_files": ListQuery,
    "api.download": DownloadQuery,
    "api.read_archive": ArchiveQuery,
    "api.list_versions": VersionsQuery,
    "api.list_versions_of": VersionsOfQuery,
    "api.restore": RestoreQuery,
}
#: The parameters that can be given several times.
REPEATED = {("api.read_archive", "name")}
# What no target contains.
_NOT_IN_TARGET = re.compile(r"[^A-Za-z0-9._~!$&'()*+,;=:@/?%-]|%(?![0-9A-Fa-f]{2})")

#: The views that read a body. Every other write refuses one.
BODIES = {
    "api.upload",
    *RAW,
    "api.plan_upload",
    "api.sign_parts",
    "api.delete_many",
    "api.restore_folder",
    "api.copy",
    "api.copy_folder",
    "api.move",
    "api.move_folder",
    "api.create_tus_upload",
    "api.append_tus_upload",
    "api.override_tus_method",
    "api.create_upload_link",
}


def _in_environment(name: str) -> str:
    return f"HTTP_{name.upper().replace('-', '_')}"


#: The headers that at least one write refuses, by their names in the environment. Most requests have none.
_REFUSED_BY_SOME = frozenset(
    map(
        _in_environment,
        (
            *write_headers.UNSUPPORTED_IN_WRITES,
            *write_headers.PRECONDITIONS,
            *headers.DIGESTS,
            "Content-Encoding",
            "Content-Transfer-Encoding",
        ),
    )
)
_REFUSED_BEGINNINGS = tuple(map(_in_environment, write_headers.UNSUPPORTED_BEGINNINGS))
_SIGNED_DIGEST = "HTTP_X_AMZ_CONTENT_SHA256"
_EMPTY_SHA256 = hashlib.sha256().hexdigest()


def register(app: Flask) -> None:
    app.before_request(admit)


def admit() -> None:
    """Identify the caller, and refuse the request if its head is reason enough."""
    asked = request_ctx.request  # the request itself: every use of its proxy costs a look-up
    environ, endpoint, blueprint = asked.environ, asked.endpoint, asked.blueprint
    if NO_PLACE in environ:
        raise failures.TooBusy("The service is serving as many requests as it can; try again later")
    services = current_services()
    services.origins.check_host(environ, any_host=endpoint in PROBES)
    _check_target(environ)
    _drop_invalid_dates(environ)
    if asked.url_rule is None:
        return
    # These pages are public. But a service without any configured access serves nothing.
    if endpoint in PUBLIC or (blueprint in STATIC and services.tokens.configured):
        _check_query(asked)
        return
    if endpoint in BY_LINK:
        if not services.tokens.configured:
            raise failures.UploadLinkGone(
                "The service accepts no tokens, so no upload link is valid; its operator sets API_TOKENS"
            )
        caller = LINK_HOLDER
    else:
        caller = services.tokens.identify(environ.get("HTTP_AUTHORIZATION"))
    app_ctx.g.caller = caller
    reads = asked.method in ("GET", "HEAD", "OPTIONS") and endpoint not in WRITE_BY_READING
    # A browser adds no token to a request by itself. A page that sends one was given it by its owner.
    may_be_foreign = caller is not ANONYMOUS and reads
    if not may_be_foreign and services.origins.is_foreign(environ, links=reads):
        raise Forbidden(
            "A web page of another origin may not do this; the service's operator can add its origin "
            "to ALLOWED_ORIGINS"
        )
    if blueprint == API:
        if verb := VERBS[str(endpoint)]:
            caller.require(verb)
        if not reads:
            _check_write(asked)
        _check_query(asked)


def _check_write(asked: Request) -> None:
    environ = asked.environ
    takes_body = asked.endpoint in BODIES
    if not takes_body:
        _refuse_body(asked)
    signed = environ.get(_SIGNED_DIGEST)
    if signed == "UNSIGNED-PAYLOAD" or (signed == _EMPTY_SHA256 and not takes_body):
        del environ[_SIGNED_DIGEST]  # it says nothing that is left to check
    # A list, because it takes half the time of `any` with a generator.
    if not _REFUSED_BY_SOME.isdisjoint(environ) or [
        name for name in environ if name.startswith(_REFUSED_BEGINNINGS)
    ]:
        _refuse_what_would_be_ignored()


def _refuse_body(asked: Request) -> None:
    """Refuse a body that the view would ignore, although it could ask for something else."""
    if asked.content_length is None:
        chunked = "chunked" in asked.headers.get("Transfer-Encoding", "").lower()
        empty = not chunked or not Received(asked.environ["wsgi.input"], None).read(1)
    else:
        empty = asked.content_length == 0
    if not empty:
        raise BadRequest("This request takes no body, and nothing was changed; send it without one")


def _refuse_what_would_be_ignored() -> None:
    """Refuse a write with a header that changes its meaning but that its view would ignore."""
    names: Iterable[str] = request.headers.keys()
    if request.endpoint in TUS_UPLOADS:
        names = [name for name in names if name.lower() not in write_headers.TUS and not _is_override(name)]
    if unsupported := write_headers.unsupported_in_write(names):
        name, instead = unsupported
        raise BadRequest(f"The header {name} is not supported: {instead}")
    if not headers.is_binary(request.headers.get("Content-Transfer-Encoding")):
        raise UnsupportedMediaType("Content-Transfer-Encoding is not supported; send the bytes as they are")
    for name in write_headers.PRECONDITIONS:
        if name in request.headers and request.endpoint not in CONDITIONAL:
            raise BadRequest(f"This request takes no {name}: S3 has no condition for it; nothing was changed")
    if request.endpoint in RAW:
        return
    for name in headers.DIGESTS:
        if name in request.headers:
            raise BadRequest(f"Only PUT /upload/<file> checks a {name}; leave it out; nothing was changed")
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise UnsupportedMediaType("Only PUT /upload/<file> takes a Content-Encoding; send the body as it is")


def _is_override(name: str) -> bool:
    """Whether this header of tus is obeyed here: the protocol lets it replace the method of every request.

    Only the view for POST does so, because the verb and the other checks depend on the view. On any other
    method the header is refused, unless it names that method.
    """
    if name.lower() != "x-http-method-override":
        return False
    return request.endpoint == OVERRIDES or request.headers[name].upper() == request.method


def _check_target(environ: Mapping[str, Any]) -> None:
    """Refuse a target with characters that RFC 3986 does not allow (RFC 9112, section 3.2).

    The server would ignore everything after a `#`. The decoded path and query must be UTF-8.
    """
    target = path_of_target(environ.get("RAW_URI", ""))
    if target.startswith("//") or environ["PATH_INFO"].startswith("//"):
        # The router drops slashes at the beginning, so this would be another spelling of a path. A proxy that
        # protects the path might not recognise it.
        raise NotFound
    if wrong := _NOT_IN_TARGET.search(target):
        escaped = quote(wrong[0], safe="", encoding="latin-1")
        raise BadRequest(f"The URL contains a raw '{wrong[0]}'; send it percent-encoded, as '{escaped}'")
    path, query = environ["PATH_INFO"], environ.get("QUERY_STRING", "")
    if path.isascii() and query.isascii() and "%" not in query:
        return
    try:
        path.encode("latin-1").decode("utf-8")
        unquote_to_bytes(query.encode("latin-1")).decode("utf-8")
    except UnicodeDecodeError:
        raise failures.InvalidName("The URL is not valid UTF-8") from None


def _drop_invalid_dates(environ: dict[str, Any]) -> None:
    """Remove invalid dates, so that the framework ignores them (RFC 9110, sections 13.1.3 and 13.1.4)."""
    for header in ("HTTP_IF_MODIFIED_SINCE", "HTTP_IF_UNMODIFIED_SINCE"):
        if header in environ and headers.date(environ[header]) is None:
            del environ[header]


def _check_query(asked: Request) -> None:
    """Refuse a parameter that the view does not know, or that is given twice. It would be ignored."""
    if not asked.query_string:
        return
    known = list(QUERIES[asked.endpoint].model_fields) if asked.endpoint in QUERIES else []
    if asked.endpoint == "api.list_files" and wants_lines():
        known = ["prefix", "contains"]  # the answer is the whole listing, with details
    for name, values in asked.args.lists():
        if name not in known:
            there_are = f"it knows {', '.join(known)}" if known else "it knows none"
            raise BadRequest(f"This request knows no query parameter '{name[:100]}'; {there_are}")
        if len(values) > 1 and (asked.endpoint, name) not in REPEATED:
            raise BadRequest(f"The query parameter '{name}' is given {len(values)} times; give it once")


def wants_lines() -> bool:
    """Whether the client prefers JSON lines to one JSON document."""
    return request.accept_mimetypes.best_match(["application/json", NDJSON]) == NDJSON
