"""The web page at /ui: files of this package as they stand, and the policy that confines them.

The page is a client of the API like any other, and shows nothing by itself.
"""

from __future__ import annotations

import re
from importlib import resources
from urllib.parse import urlsplit

from apiflask import APIBlueprint, APIFlask
from flask import Response, abort, current_app, request

from s3api.files import FileStore

_TYPES = {"css": "text/css", "html": "text/html", "js": "text/javascript", "svg": "image/svg+xml"}
_ASSETS = {"ui.css", "ui.js", "api.js", "md5.js", "upload.js", "ui.svg"}

bp = APIBlueprint("page", __name__, enable_openapi=False)


@bp.get("/ui")
def page() -> Response:
    store: FileStore = current_app.extensions["s3api"].store
    # Direct uploads go where presigned URLs lead; what signs them knows that best. The page is served without
    # a token, so where the host begins with the bucket's name, it stands for every bucket of the region.
    s3 = urlsplit(store.sign_download("ui", 1, "attachment").url)
    host = re.sub(rf"^{re.escape(store.bucket)}\.", "*.", s3.netloc)
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
def page_asset(asset: str) -> Response:
    if asset not in _ASSETS:
        abort(404)
    return _file(asset)


def _file(name: str) -> Response:
    data = (resources.files("s3api") / "static" / name).read_bytes()
    response = Response(data, mimetype=_TYPES[name.rpartition(".")[2]])
    response.headers["Cache-Control"] = "no-cache"  # asked for again each time: all are of one version
    response.add_etag()
    response.make_conditional(request)
    return response


def register(app: APIFlask) -> None:
    app.register_blueprint(bp)
