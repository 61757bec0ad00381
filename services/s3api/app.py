"""The wiring of the service: `create_app`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import lru_cache
from importlib import resources
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from apiflask import APIFlask
from flask import Flask, Request, Response, request
from flask.sessions import NullSession, SessionInterface
from flask.typing import ResponseReturnValue
from werkzeug.middleware.proxy_fix import ProxyFix
from werkzeug.routing import Map, MapAdapter
from werkzeug.sansio.utils import get_host

import s3api
from s3api import (
    admission,
    copy_routes,
    cors,
    errors,
    json_bodies,
    observability,
    openapi,
    pages,
    routes,
    tus,
    upload_link_routes,
    version_routes,
)
from s3api.auth import Tokens
from s3api.file_store import FileStore
from s3api.headers import ALWAYS, UNLESS_SET
from s3api.health import Readiness, SharedFlag, s3_reached
from s3api.origins import Origins, with_host_of_target
from s3api.reloading import Reloaded
from s3api.s3_store import S3FileStore
from s3api.schemas import Failure
from s3api.services import Services, services_of
from s3api.settings import Settings, parse_entries
from s3api.signed_values import Signer
from s3api.staging import Staging
from s3api.waiting import IN_MEMORY, IN_MEMORY_BYTES

#: A path without empty segments and dot segments (RFC 3986, section 3.3).
_PATH_PREFIX = re.compile(r"(/(?!\.{1,2}(/|$))([A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2})+)*/?")


#: The modules with the views of the API. They share the blueprint of `routes`.
VIEWS = (routes, copy_routes, tus, upload_link_routes, version_routes)


@lru_cache(maxsize=64)
def _adapter(
    urls: Map, scheme: str, host: str | None, server: tuple[str, int], script_name: str
) -> MapAdapter:
    return urls.bind(get_host(scheme, host, server), script_name, subdomain="", url_scheme=scheme)


class _NoSessions(SessionInterface):
    _none = NullSession()

    def open_session(self, _app: Flask, _request: Request) -> NullSession:
        """One object for all requests. Flask would make another for each."""
        return self._none

    def save_session(self, *_: object) -> None:
        pass


class _App(APIFlask):
    """APIFlask without what every request would pay for and the service does not use.

    The service has no asynchronous function, no session, no hook of a blueprint, and no hook after the
    context of a request.
    """

    session_interface = _NoSessions()

    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        """Skip Flask's check before each call."""
        return func

    def create_url_adapter(self, request: Request | None) -> MapAdapter | None:
        """The router for a request. What does not depend on its path is found once for each host."""
        if request is None:
            return None  # only an application with SERVER_NAME has one outside of a request
        environ = request.environ
        if "HTTP_UPGRADE" in environ:
            return super().create_url_adapter(request)
        scheme, host = environ["wsgi.url_scheme"], environ.get("HTTP_HOST")
        server = (environ["SERVER_NAME"], environ["SERVER_PORT"])
        known = _adapter(self.url_map, scheme, host, server, _decoded(environ["SCRIPT_NAME"]))
        return MapAdapter(
            self.url_map,
            known.server_name,
            known.script_name,
            known.subdomain,
            scheme,
            _decoded(environ["PATH_INFO"]),
            environ["REQUEST_METHOD"],
            _decoded(environ.get("QUERY_STRING", "")),
        )

    def full_dispatch_request(self) -> Response:
        """Answer the request, without signals: nothing listens to them."""
        answer: Any
        try:
            answer = self.preprocess_request()
            if answer is None:
                answer = self.dispatch_request()
        except Exception as error:
            answer = self.handle_user_exception(error)
        response = self.process_response(self.make_response(answer))
        request.environ[IN_MEMORY] = response.is_sequence and (
            request.blueprint == pages.bp.name or (response.content_length or 0) <= IN_MEMORY_BYTES
        )
        return response

    def preprocess_request(self) -> ResponseReturnValue | None:
        """Call the hooks until one answers."""
        for hook in self.before_request_funcs[None]:
            answer: Any = hook()
            if answer is not None:
                return answer  # type: ignore[no-any-return]
        return None

    def process_response(self, response: Response) -> Response:
        for hook in reversed(self.after_request_funcs[None]):
            response = hook(response)
        return response

    def do_teardown_request(self, exc: BaseException | None = None) -> None:
        """Do nothing: no function is registered for it."""

    def do_teardown_appcontext(self, exc: BaseException | None = None) -> None:
        """Do nothing: no function is registered for it."""


def _decoded(text: str) -> str:
    """A text of the environment, which holds each byte as a character (PEP 3333)."""
    return text.encode("latin-1").decode("utf-8", "replace")


def _tokens(settings: Settings) -> Tokens:
    entries = settings.api_tokens
    reloaded = None
    if settings.api_tokens_file is not None:
        reloaded = Reloaded(settings.api_tokens_file, parse_entries)
    verifier = None
    if settings.accepts_jwts:
        from s3api import jwt_tokens  # noqa: PLC0415 - its libraries take memory

        verifier = jwt_tokens.verifier(settings)
    return Tokens(entries, allow_anonymous=settings.allow_anonymous, reloaded=reloaded, jwts=verifier)


def _hardened(app: WSGIApplication) -> WSGIApplication:
    """Add the headers of every answer. A WSGI layer is the cheapest place for it."""

    def outer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        def start(status: str, headers: list[tuple[str, str]], *exc_info: Any) -> Any:
            given = {name for name, _ in headers}
            headers += ALWAYS
            headers += [header for header in UNLESS_SET if header[0] not in given]
            if environ["wsgi.url_scheme"] == "https":
                # Only for this host, because the service does not know what its subdomains serve.
                headers.append(("Strict-Transport-Security", "max-age=31536000"))
            return start_response(status, headers, *exc_info)

        return app(environ, start)

    return outer


def _clean_forwarded(app: WSGIApplication) -> WSGIApplication:
    """Ignore a forwarded scheme or path prefix that is not valid. `Location` would contain it."""

    def outer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        direct = environ["werkzeug.proxy_fix.orig"]
        environ["wsgi.url_scheme"] = environ["wsgi.url_scheme"].lower()
        if environ["wsgi.url_scheme"] not in ("http", "https"):
            environ["wsgi.url_scheme"] = direct["wsgi.url_scheme"]
        if not _PATH_PREFIX.fullmatch(environ["SCRIPT_NAME"]):
            environ["SCRIPT_NAME"] = direct["SCRIPT_NAME"]
        return app(environ, start_response)

    return outer


def create_app(settings: Settings, store: FileStore, reached: SharedFlag | None = None) -> APIFlask:
    """The WSGI application. Creating it touches neither the disk nor S3. Tests pass their own store.

    The processes of a service share `reached`, which says whether S3 has ever answered.
    """
    app = _App(
        "s3api",
        title="s3api",
        version=s3api.__version__,
        spec_path=None,
        docs_path=None,
        static_folder=None,  # type: ignore[arg-type]
    )
    app.config.update(
        MAX_CONTENT_LENGTH=json_bodies.SMALL,  # views that accept files read the body themselves
        PROVIDE_AUTOMATIC_OPTIONS=False,
        OPENAPI_VERSION="3.1.0",
        DESCRIPTION=(resources.files("s3api") / "static" / "api.md").read_text(encoding="utf-8"),
        # Relative to the document, so that it is valid below every path prefix of a proxy.
        SERVERS=[{"url": "."}],
        AUTO_404_RESPONSE=False,
        AUTO_VALIDATION_ERROR_RESPONSE=False,
        AUTO_AUTH_ERROR_RESPONSE=False,
        HTTP_ERROR_SCHEMA=Failure.model_json_schema(),
        VALIDATION_ERROR_STATUS_CODE=400,
        SECURITY_SCHEMES={"bearer": {"type": "http", "scheme": "bearer"}},
    )
    app.json = json_bodies.JsonProvider(app)
    app.json.sort_keys = False  # the envelope begins with the status
    app.url_map.merge_slashes = False
    app.url_map.converters["name"] = routes.NameConverter
    Services(
        settings=settings,
        store=store,
        staging=Staging(settings.staging_dir, settings.staging_max_bytes, settings.max_file_bytes),
        tokens=_tokens(settings),
        signer=Signer(settings.signing_key.get_secret_value()),
        readiness=Readiness(store.check, observability.report_s3_check, reached),
        origins=Origins.of(settings),
    ).attach(app)
    observability.observe(app)
    cors.register(app, settings.cors_origins)
    admission.register(app)
    tus.register(app)
    upload_link_routes.register(app)
    app.register_blueprint(VIEWS[0].bp)
    openapi.register(app)
    pages.register(app)
    errors.register(app)

    app.wsgi_app = _hardened(app.wsgi_app)  # type: ignore[assignment, method-assign]
    if settings.trusted_proxy_hops:
        hops = settings.trusted_proxy_hops
        # Not X-Forwarded-Port: the forwarded host contains the port.
        app.wsgi_app = ProxyFix(  # type: ignore[method-assign]
            _clean_forwarded(app.wsgi_app), x_for=hops, x_proto=hops, x_host=hops, x_prefix=hops
        )
    app.wsgi_app = with_host_of_target(app.wsgi_app)  # type: ignore[assignment, method-assign]
    return app


def from_environment() -> APIFlask:
    """The application that gunicorn serves."""
    settings = Settings.from_environment()
    app = create_app(settings, S3FileStore(settings), s3_reached)
    services_of(app).staging.sweep()  # removes what a killed process has left
    return app
