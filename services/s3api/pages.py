"""The packaged pages: the web page at /ui, the reference at /docs, and the OpenAPI document.

They are files of this package, served unchanged, with strict security policies. The pages use the API as
every other client does. Their links are relative, so that they work below a path prefix of a proxy.
"""

from __future__ import annotations

import re
from functools import cache
from importlib import util
from pathlib import Path
from urllib.parse import urlsplit

from apiflask import APIBlueprint, APIFlask
from flask import Response, abort, request

from s3api.errors import failure
from s3api.services import current_services

_STATIC = Path(__file__).parent / "static"
_TYPES = {
    "css": "text/css",
    "html": "text/html",
    "js": "text/javascript",
    "json": "application/json",
    "svg": "image/svg+xml",
}
_UI_ASSETS = {
    "ui.css",
    "ui.svg",
    "access.js",
    "api.js",
    "deleted.js",
    "deleting.js",
    "links.js",
    "location.js",
    "md5.js",
    "menu.js",
    "name_conflicts.js",
    "page.js",
    "preview.js",
    "receive.css",
    "receive.js",
    "rename.js",
    "results.js",
    "search.js",
    "selection.js",
    "send.js",
    "sorting.js",
    "total.js",
    "ui.js",
    "upload_link_dialog.js",
    "uploads.js",
    "versions.js",
}
_SWAGGER_UI = {"swagger-ui-bundle.js": "js", "swagger-ui.css": "css"}
_DOCS_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
)

bp = APIBlueprint("pages", __name__, enable_openapi=False)


@bp.get("/openapi.json")
def openapi_json() -> Response:
    return _file("openapi.json")


@bp.get("/docs")
def docs() -> Response:
    response = _file("docs.html")
    response.headers["Content-Security-Policy"] = _DOCS_POLICY
    return response


@bp.get("/docs/<asset>")
def docs_asset(asset: str) -> Response:
    if asset in ("docs.css", "docs.js"):
        return _file(asset)
    if asset not in _SWAGGER_UI:
        abort(404)
    # Only the files of the package are needed. Importing it would import another framework.
    spec = util.find_spec("flask_openapi3_swagger")
    if spec is None or spec.origin is None:
        abort(404)
    path = Path(spec.origin).parent / "templates" / "swagger" / _SWAGGER_UI[asset] / asset
    return _packaged(asset, _read(path))


@bp.get("/ui")
def ui() -> Response:
    services = current_services()
    # The browser sends direct uploads to the host of presigned URLs. The page is public, so its policy must
    # not name the bucket: if the host begins with the bucket's name, a wildcard replaces it.
    s3 = urlsplit(services.store.sign_download("ui", 1, "attachment").url)
    host = re.sub(rf"^{re.escape(services.store.bucket)}\.", "*.", s3.netloc)
    response = _file("ui.html")
    response.headers["Content-Security-Policy"] = (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        f"connect-src 'self' {s3.scheme}://{host}; "
        "form-action 'none'; base-uri 'none'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'; trusted-types 'none'"
    )
    response.headers["Referrer-Policy"] = "no-referrer"
    response.headers["Cross-Origin-Opener-Policy"] = "same-origin"
    return response


@bp.get("/ui/<asset>")
def ui_asset(asset: str) -> Response:
    if asset not in _UI_ASSETS:
        abort(404)
    return _file(asset)


def upload_page() -> Response:
    """The page of an upload link. It is the same for all links; the page asks for the terms of its own."""
    response = _file("receive.html")
    response.headers["Content-Security-Policy"] = (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'none'; base-uri 'none'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'; trusted-types 'none'"
    )
    response.headers["Cross-Origin-Opener-Policy"] = "same-origin"
    response.headers["Cache-Control"] = "no-store"  # no cache keeps the secret URL
    response.headers["Vary"] = "Accept"
    return response


def _file(name: str) -> Response:
    return _packaged(name, _read(_STATIC / name))


@cache
def _read(path: Path) -> bytes:
    """All answers share one copy: clients that read slowly would each hold another."""
    return path.read_bytes()


def _packaged(name: str, data: bytes) -> Response:
    response = Response(data, mimetype=_TYPES[name.rpartition(".")[2]])
    # The browser revalidates each file, so that all files of a page have the same version.
    response.headers["Cache-Control"] = "no-cache"
    response.add_etag()
    response.make_conditional(request)
    if response.status_code == 412:
        return failure(412, "precondition_failed", "The page does not match the condition of the request")
    return response


def register(app: APIFlask) -> None:
    app.register_blueprint(bp)
