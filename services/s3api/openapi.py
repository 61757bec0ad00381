"""The OpenAPI document and the page that shows it.

The document is generated from the views and their models (`python3 -m s3api openapi`) and committed as
`static/openapi.json`, which is what the service serves; a test generates it anew and compares.
"""

from __future__ import annotations

from importlib import resources, util
from pathlib import Path
from typing import Any

from apiflask import APIBlueprint, APIFlask
from flask import Response, abort

from s3api.schemas import NAME_SCHEMA

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
)
_ASSETS = {
    "swagger-ui-bundle.js": ("js/swagger-ui-bundle.js", "text/javascript"),
    "swagger-ui.css": ("css/swagger-ui.css", "text/css"),
}

_FORM = {
    "schema": {
        "type": "object",
        "required": ["file"],
        "properties": {
            "file": {
                "type": "array",
                "minItems": 1,
                "items": {"type": "string", "format": "binary"},
                "description": "One or more files; a name is the last segment of the part's file name",
            },
            "prefix": {"type": "string", "description": "Put before each file's own name as it stands"},
        },
    }
}

bp = APIBlueprint("docs", __name__, enable_openapi=False)


@bp.get("/openapi.json")
def openapi_json() -> Response:
    return Response(_static("openapi.json"), mimetype="application/json")


@bp.get("/docs")
def docs() -> Response:
    page = Response(_static("docs.html"), mimetype="text/html")
    page.headers["Content-Security-Policy"] = _POLICY
    return page


@bp.get("/docs/<asset>")
def docs_asset(asset: str) -> Response:
    if asset == "docs.js":
        return Response(_static("docs.js"), mimetype="text/javascript")
    if asset not in _ASSETS:
        abort(404)
    path, mimetype = _ASSETS[asset]
    response = Response((_swagger_ui() / path).read_bytes(), mimetype=mimetype)
    response.headers["Cache-Control"] = "public, max-age=86400"
    return response


def _static(name: str) -> str:
    return (resources.files("s3api") / "static" / name).read_text(encoding="utf-8")


def _swagger_ui() -> Path:
    # The package is wanted for its files alone: importing it would import another framework.
    spec = util.find_spec("flask_openapi3_swagger")
    if spec is None or spec.origin is None:
        abort(404)
    return Path(spec.origin).parent / "templates" / "swagger"


def complete(spec: dict[str, Any]) -> dict[str, Any]:
    """Add what the framework's decorators cannot say: bodies that are bytes, streams, and HEAD."""
    paths = spec["paths"]
    binary = {"schema": {"type": "string", "format": "binary"}}
    paths["/upload"]["post"]["requestBody"] = {"required": True, "content": {"multipart/form-data": _FORM}}
    raw = paths["/upload/{name}"]["put"]
    raw["requestBody"] = {"required": True, "content": {"application/octet-stream": binary}}
    raw["parameters"] += [
        _header("If-None-Match", "`*` creates a file, and never replaces one", enum=["*"]),
        _header(
            "Content-Digest",
            "RFC 9530, such as `sha-256=:<base64>:`; a mismatch stores nothing",
            pattern="sha-256=:[A-Za-z0-9+/]{43}=:",
        ),
        _header("Repr-Digest", "RFC 9530; checked as Content-Digest is, with `sha-256` or `sha-512`"),
        _header("Digest", "RFC 3230, obsolete; checked, with `SHA-256`, `SHA-512` or `MD5`"),
        _header("Content-MD5", "RFC 1864; checked"),
        _header("Content-Encoding", "Stays with the file, such as `gzip`; `aws-chunked` is 415"),
        _header("Content-Language", "Stays with the file, such as `de`"),
        _if_match("Replaces only the file that has this one ETag"),
    ]
    paths["/uploads/{upload_id}/complete"]["post"]["parameters"] += [
        _header("If-None-Match", "`*` creates a file, and never replaces one", enum=["*"]),
        _if_match("Replaces only the file that has this one ETag"),
    ]
    paths["/delete/{name}"]["delete"]["parameters"] += [
        _if_match("Deletes the file only while it has this one ETag; `*` for any")
    ]
    listing = paths["/list_files"]["get"]["responses"]["200"]
    listing["content"]["application/x-ndjson"] = {"schema": {"type": "string"}}
    listing["headers"] = {
        "Link": {"schema": {"type": "string"}, "description": 'The next page, `rel="next"`'}
    }
    reading = paths["/files/{name}"]["get"]
    reading["parameters"] += [
        _header("Range", "One range of bytes, such as `bytes=0-99`"),
        _header("If-Range", "An ETag or a date; the range is honoured only while it holds"),
        _header("If-None-Match", "An ETag; 304 while the file still has it"),
    ]
    for status in ("200", "206"):
        reading["responses"][status]["content"] = {"*/*": binary}
    reading["responses"]["304"].pop("content", None)
    paths["/download/{name}"]["get"]["responses"]["302"].pop("content", None)
    paths["/files/{name}"]["head"] = {
        **{key: reading[key] for key in ("tags", "security", "parameters")},
        "operationId": "head_read_file",
        "summary": "Answer as GET does, without the bytes",
        "responses": {
            status: {"description": response["description"]}
            for status, response in reading["responses"].items()
        },
    }
    for methods in paths.values():
        for operation in methods.values():
            if isinstance(operation, dict):
                _describe(operation)
    return spec


def _if_match(description: str) -> dict[str, Any]:
    return _header("If-Match", f"{description}; else 412")


def _header(name: str, description: str, **schema: Any) -> dict[str, Any]:
    return {
        "name": name,
        "in": "header",
        "required": False,
        "description": description,
        "schema": {"type": "string", **schema},
    }


def _describe(operation: dict[str, Any]) -> None:
    if "requestBody" in operation:
        operation["requestBody"]["required"] = True
    for parameter in operation["parameters"]:
        if (parameter["in"], parameter["name"]) == ("path", "name"):
            parameter["schema"] |= NAME_SCHEMA
    for status, response in operation["responses"].items():
        headers = response.setdefault("headers", {})
        headers["X-Request-Id"] = {"schema": {"type": "string"}}
        if status in ("503", "507"):
            headers["Retry-After"] = {"schema": {"type": "integer"}}


def register(app: APIFlask) -> None:
    app.register_blueprint(bp)
    app.spec_processor(complete)  # type: ignore[arg-type]
