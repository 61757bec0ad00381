"""`create_app`: the only wiring of the service."""

from __future__ import annotations

from importlib import resources

from apiflask import APIFlask
from flask import Response, request
from werkzeug.middleware.proxy_fix import ProxyFix

import s3api
from s3api import errors, json_bodies, observability, openapi, pages, routes
from s3api.auth import Signer, Tokens
from s3api.files import FileStore
from s3api.health import Readiness
from s3api.origins import Origins
from s3api.s3_store import S3FileStore
from s3api.schemas import Failure
from s3api.settings import Settings
from s3api.staging import Staging


def create_app(settings: Settings, store: FileStore) -> APIFlask:
    """The WSGI application; tests hand it a store of their own. It touches neither the disk nor S3 yet."""
    app = APIFlask(
        "s3api",
        title="s3api",
        version=s3api.__version__,
        spec_path=None,
        docs_path=None,
        static_folder=None,  # type: ignore[arg-type]
    )
    app.config.update(
        MAX_CONTENT_LENGTH=json_bodies.SMALL,  # views that take files read them by themselves
        PROVIDE_AUTOMATIC_OPTIONS=False,
        OPENAPI_VERSION="3.1.0",
        DESCRIPTION=(resources.files("s3api") / "static" / "api.md").read_text(encoding="utf-8"),
        # Relative to where the document is, so that it holds below every prefix of a proxy.
        SERVERS=[{"url": "."}],
        AUTO_404_RESPONSE=False,
        AUTO_VALIDATION_ERROR_RESPONSE=False,
        AUTO_AUTH_ERROR_RESPONSE=False,
        HTTP_ERROR_SCHEMA=Failure.model_json_schema(),
        VALIDATION_ERROR_STATUS_CODE=400,
        SECURITY_SCHEMES={"bearer": {"type": "http", "scheme": "bearer"}},
    )
    app.json = json_bodies.JsonProvider(app)
    app.json.sort_keys = False  # the envelope reads from status to content
    app.url_map.merge_slashes = False
    app.url_map.converters["name"] = routes.NameConverter
    app.extensions["s3api"] = routes.Services(
        settings=settings,
        store=store,
        staging=Staging(settings.staging_dir, settings.staging_max_bytes, settings.max_file_bytes),
        tokens=Tokens(settings.api_tokens, allow_anonymous=settings.allow_anonymous),
        signer=Signer(settings.signing_key.get_secret_value()),
        readiness=Readiness(store.check),
        origins=Origins.of(settings),
    )
    observability.observe(app)
    app.register_blueprint(routes.bp)
    openapi.register(app)
    pages.register(app)
    errors.register(app)

    @app.after_request
    def harden(response: Response) -> Response:
        headers = response.headers
        headers["X-Content-Type-Options"] = "nosniff"
        # Without this a cache may store an answer by a guess of its own: RFC 9111, section 4.2.2.
        headers.setdefault("Cache-Control", "no-store")
        # No page may show an answer in a frame; a page of another origin may not even show it as a picture.
        headers["X-Frame-Options"] = "DENY"
        headers["Cross-Origin-Resource-Policy"] = "same-origin"
        headers.setdefault("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
        if request.is_secure:
            # Only this host: the service cannot know what others below it serve.
            headers["Strict-Transport-Security"] = "max-age=31536000"
        return response

    if settings.trusted_proxy_hops:
        hops = settings.trusted_proxy_hops
        # Not X-Forwarded-Port: the host that browsers send, and proxies pass on, has the port.
        app.wsgi_app = ProxyFix(  # type: ignore[method-assign]
            app.wsgi_app, x_for=hops, x_proto=hops, x_host=hops, x_prefix=hops
        )
    return app


def from_environment() -> APIFlask:
    """What gunicorn serves."""
    settings = Settings.from_environment()
    app = create_app(settings, S3FileStore(settings))
    app.extensions["s3api"].staging.sweep()  # what a process that was killed has left
    return app
