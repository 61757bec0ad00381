"""The host names that the service answers to, and the origins whose web pages may use it.

Every web page can make a browser send requests, even to services that only this machine can reach. Two
headers that no page can set identify such requests. `Host` is the name that the page used for the service;
with DNS rebinding, an attacker's name can resolve to the service. `Origin` is the origin of the page.
`Sec-Fetch-Site` compares the two, but browsers do not send it to plain-HTTP names.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from werkzeug.exceptions import BadRequest

from s3api.settings import Settings

#: These names are always served, because no other site can have them.
LOOPBACK = frozenset({"localhost", "127.0.0.1", "[::1]"})

_HOST = re.compile(r"(\[[0-9a-f:.]{2,45}\]|[a-z0-9._-]{1,253})(?::([0-9]{0,5}))?")
# A target in absolute form: the scheme has no case, and the host is not empty (RFC 9110, section 4.2).
_ABSOLUTE = re.compile(r"https?://([^/?#]+)(?:[/?].*)?", re.IGNORECASE | re.DOTALL)
_DEFAULT_PORTS = {"http": "80", "https": "443"}


def with_host_of_target(app: WSGIApplication) -> WSGIApplication:
    """Replace the Host header by the host of a target in absolute form (RFC 9112, section 3.2.2).

    So the target's host passes every check of a Host. Browsers send this form only to proxies. A target or a
    Host that is not valid stays as it is, and `path_of_target` or `Origins.check_host` refuses it.
    """

    def outer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        raw: str = environ.get("RAW_URI", "")
        match = None if raw.startswith("/") else _ABSOLUTE.fullmatch(raw)
        if match is not None:
            # RFC 9112, section 3.2: a request of HTTP/1.1 has a valid Host, whatever the form of its target.
            without = match[1] if environ.get("SERVER_PROTOCOL") == "HTTP/1.0" else ""
            if _HOST.fullmatch(str(environ.get("HTTP_HOST", without)).lower()):
                environ["HTTP_HOST"] = match[1]
            environ["PATH_INFO"] = environ["PATH_INFO"] or "/"  # RFC 9110, section 4.2.3
        return app(environ, start_response)

    return outer


def path_of_target(raw: str) -> str:
    """The target without the scheme and the host of the absolute form.

    Raises `BadRequest` if the scheme is not http or https, or if the host is empty.
    """
    if raw.startswith("/") or "://" not in raw:
        return raw
    match = _ABSOLUTE.fullmatch(raw)
    if match is None:
        raise BadRequest("The URL has another scheme than http or https, or no host")
    return raw[match.end(1) :]


def for_known_hosts(app: WSGIApplication, origins: Origins) -> WSGIApplication:
    """Restrict an application to known hosts. It is for a port without the service's routes."""

    def outer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        try:
            origins.check_host(environ)
        except (BadRequest, UnknownHost):
            start_response("421 Misdirected Request", [("Content-Length", "0")])
            return [b""]
        return app(environ, start_response)

    return with_host_of_target(outer)


class UnknownHost(Exception):
    """The request names a host that is not this service."""


class Origins:
    """The hosts and origins that are allowed. With `hosts` None, every host is."""

    def __init__(self, hosts: Collection[str] | None, pages: Collection[str]) -> None:
        self._hosts = hosts
        self._pages = pages

    @classmethod
    def of(cls, settings: Settings) -> Origins:
        bound = settings.host.lower()
        on_loopback = bound in LOOPBACK or f"[{bound}]" in LOOPBACK
        listed = on_loopback or settings.allowed_hosts
        pages = {*settings.allowed_origins, *settings.cors_origins}
        return cls(LOOPBACK.union(settings.allowed_hosts) if listed else None, pages)

    def check_host(self, environ: Mapping[str, Any], *, any_host: bool = False) -> None:
        """Raises `UnknownHost`, and `BadRequest` if RFC 9112, section 3.2, requires it.

        Behind a trusted proxy, both `Host` and `X-Forwarded-Host` must be allowed, because some proxies, such
        as AWS's load balancers, forward an `X-Forwarded-Host` that the client sent.
        """
        sent = environ.get("werkzeug.proxy_fix.orig", environ).get("HTTP_HOST")
        self._check_host(sent, environ, any_host=any_host)
        if environ.get("HTTP_HOST") != sent:
            self._check_host(environ.get("HTTP_HOST"), environ, any_host=any_host)

    def _check_host(self, given: str | None, environ: Mapping[str, Any], *, any_host: bool) -> None:
        if given is None and environ.get("SERVER_PROTOCOL") == "HTTP/1.0":
            return  # no browser sends this
        match = _HOST.fullmatch((given or "").lower())
        if match is None:
            raise BadRequest("The Host header is missing or not valid")
        if not any_host and self._hosts is not None and match[1] not in self._hosts:
            raise UnknownHost(
                f"This service does not answer to the host '{match[1]}'; its operator can add the name "
                "to ALLOWED_HOSTS"
            )

    def is_foreign(self, environ: Mapping[str, Any], *, links: bool) -> bool:
        """Whether a web page of another origin, which configuration does not name, sends this request.

        With `links`, following a link from another site is not foreign, because that site cannot read the
        answer.
        """
        origin = environ.get("HTTP_ORIGIN")
        if origin in self._pages:
            return False
        if origin is not None and origin != _own_origin(environ):
            return True
        followed_link = (
            links
            and environ["REQUEST_METHOD"] == "GET"
            and environ.get("HTTP_SEC_FETCH_MODE") == "navigate"
            and environ.get("HTTP_SEC_FETCH_DEST") == "document"
        )
        return environ.get("HTTP_SEC_FETCH_SITE") in ("cross-site", "same-site") and not followed_link


def _own_origin(environ: Mapping[str, Any]) -> str | None:
    """The origin of the service's own pages, without a default port (RFC 6454, section 6.2)."""
    match = _HOST.fullmatch(environ.get("HTTP_HOST", "").lower())
    if match is None:
        return None
    scheme = environ["wsgi.url_scheme"]
    port = "" if match[2] in (None, "", _DEFAULT_PORTS.get(scheme)) else f":{match[2]}"
    return f"{scheme}://{match[1]}{port}"
