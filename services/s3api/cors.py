"""CORS: lets the web pages of the origins in CORS_ORIGINS use the service and read its answers.

A browser asks first, with a preflight: an OPTIONS request without the token. Then it sends the request, and
gives the answer to the page if its headers name the page's origin. Cookies are never involved.

https://fetch.spec.whatwg.org/#http-cors-protocol
"""

from __future__ import annotations

from collections.abc import Collection

from flask import Flask, Response
from flask.globals import request_ctx

from s3api.services import current_services

#: The headers of the contract that a page could not read otherwise. Every page may read Cache-Control,
#: Content-Language, Content-Length, Content-Type, Expires, Last-Modified and Pragma:
#: https://fetch.spec.whatwg.org/#cors-safelisted-response-header-name
EXPOSED = (
    "Accept-Ranges",
    "Allow",
    "Content-Disposition",
    "Content-Encoding",
    "Content-Range",
    "ETag",
    "Link",
    "Location",
    "Repr-Digest",
    "Retry-After",
    "Tus-Checksum-Algorithm",
    "Tus-Extension",
    "Tus-Max-Size",
    "Tus-Resumable",
    "Tus-Version",
    "Upload-Expires",
    "Upload-Length",
    "Upload-Metadata",
    "Upload-Offset",
    "WWW-Authenticate",
    "X-Declared-SHA-256",
    "X-Request-Id",
)
_EXPOSED = ", ".join(EXPOSED)
#: `*` does not cover Authorization: https://fetch.spec.whatwg.org/#http-access-control-allow-headers
_ACCEPTED = "*, Authorization"
#: The longest time, in seconds, that Chromium keeps the answer to a preflight. Firefox would keep it longer.
_MAX_AGE = 7200


def readable(origin: str | None, origins: Collection[str]) -> dict[str, str]:
    """The headers that let a page of this origin read an answer, if it is one of `origins`."""
    if origin is None or origin not in origins:
        return {}
    return {"Access-Control-Allow-Origin": origin, "Access-Control-Expose-Headers": _EXPOSED}


def register(app: Flask, origins: Collection[str]) -> None:
    """Answer the pages of these origins. Without any, requests do no work for CORS.

    This comes before `admission`, because a preflight has no token.
    """
    if not origins:
        return

    @app.before_request
    def answer_preflight() -> Response | None:
        asked = request_ctx.request
        is_preflight = asked.method == "OPTIONS" and "HTTP_ACCESS_CONTROL_REQUEST_METHOD" in asked.environ
        if not is_preflight or asked.environ.get("HTTP_ORIGIN") not in origins:
            return None
        current_services().origins.check_host(asked.environ)
        assert request_ctx.url_adapter is not None  # noqa: S101 - Flask makes it for each request
        methods = request_ctx.url_adapter.allowed_methods()
        if not methods:
            return None  # there is nothing at this URL
        response = Response(status=204)
        response.headers["Access-Control-Allow-Methods"] = ", ".join(sorted(methods))
        response.headers["Access-Control-Allow-Headers"] = _ACCEPTED
        response.headers["Access-Control-Max-Age"] = str(_MAX_AGE)
        return response

    @app.after_request
    def let_the_page_read(response: Response) -> Response:
        # On every answer: a cache must not give a page the answer that it has stored for another origin.
        response.vary.add("Origin")
        response.headers.update(readable(request_ctx.request.environ.get("HTTP_ORIGIN"), origins))
        return response
