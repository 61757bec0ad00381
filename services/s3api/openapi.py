"""Generates the OpenAPI document from the views and their models (`python3 -m s3api openapi`).

The service serves the committed `static/openapi.json`, and a test compares it with the generated document.
Client generators read it, so names, types and operation ids are part of the contract.
"""

from __future__ import annotations

import re
from copy import deepcopy
from http import HTTPStatus
from typing import Any

from apiflask import APIFlask

from s3api.errors import CODES
from s3api.schemas import NAME_SCHEMA

_REFERENCE = re.compile(r"#/(?:components/schemas|\$defs)/(?:\w+\.)?(\w+)")
_BINARY = {"schema": {"type": "string", "format": "binary"}}
_FORM = {
    "schema": {
        "title": "UploadForm",
        "type": "object",
        "required": ["file"],
        "additionalProperties": False,
        "properties": {
            "file": {
                "type": "array",
                "minItems": 1,
                "items": {"type": "string", "format": "binary"},
                "description": "One or more files; a name is the last segment of the part's file name",
            },
            "prefix": {
                "type": "string",
                "description": "Put before each file's own name as it stands",
                "examples": ["reports/"],
            },
        },
    }
}
_IN_PATHS = {
    "link": "The secret part of an upload link",
    "upload_id": "The id of an upload, from the answer that created it",
}
_OPTIONAL_BODY = {"create_tus_upload", "override_tus_method"}
_DATE: dict[str, Any] = {"examples": ["Thu, 26 Nov 2026 12:00:00 GMT"]}
_NUMBER: dict[str, Any] = {"pattern": "^[0-9]{1,18}$", "examples": ["5242880"]}
_ETAG: dict[str, Any] = {"examples": ['"5d41402abc4b2a76b9719d911017c592"']}


def complete(spec: dict[str, Any]) -> dict[str, Any]:
    """Add what the framework's decorators cannot express: bodies of bytes, streams, and HEAD."""
    spec = _tidy(spec)
    schemas = spec["components"]["schemas"]
    # The framework names nested models `Outer.Inner`, once for each outer model, and failures `HTTPError`.
    names = {name: "Failure" if name == "HTTPError" else name.rpartition(".")[2] for name in schemas}
    spec["components"]["schemas"] = {names[name]: schema for name, schema in sorted(schemas.items())}
    for name, schema in spec["components"]["schemas"].items():
        _drop_null(schema, also_type=not name.endswith("Request"))
    failure = spec["components"]["schemas"]["Failure"]["properties"]["code"]
    failure["examples"] = sorted(code.replace("<operation>", "get_object") for code in CODES)
    spec["info"]["license"] = {"name": "MIT", "identifier": "MIT"}
    spec["tags"] = [{"name": "Files", "description": "The files of the bucket, and the service itself"}]
    paths = spec["paths"]
    paths["/upload"]["post"]["requestBody"] = {"required": True, "content": {"multipart/form-data": _FORM}}
    raw = paths["/upload/{name}"]["put"]
    raw["requestBody"] = {"required": True, "content": {"application/octet-stream": _BINARY}}
    raw["parameters"] += [*_raw_headers(), _if_match("Replaces only the file that has this one ETag")]
    paths["/uploads/{upload_id}/complete"]["post"]["parameters"] += [
        _header("If-None-Match", "`*` creates a file, and never replaces one", enum=["*"]),
        _if_match("Replaces only the file that has this one ETag"),
    ]
    for path in ("/copy", "/move"):
        paths[path]["post"]["parameters"] += [
            _header("If-None-Match", "`*` never replaces the destination; this is the default", enum=["*"]),
            _if_match("Replaces only the destination that has this one ETag"),
        ]
    paths["/restore/{name}"]["post"]["parameters"] += [
        _if_match("Replaces only the file that has this one ETag, by the version")
    ]
    paths["/delete/{name}"]["delete"]["parameters"] += [
        _if_match("Deletes the file only while it has this one ETag; `*` for any")
    ]
    listing = paths["/list_files"]["get"]["responses"]["200"]
    listing["content"]["application/x-ndjson"] = {"schema": {"type": "string"}}
    listing["headers"] = {
        "Link": {
            "schema": {"type": "string", "examples": ['<?cursor=…>; rel="next"']},
            "description": 'The next page, `rel="next"`, relative to this one',
        }
    }
    reading = paths["/files/{name}"]["get"]
    reading["parameters"] += [
        _header("Range", "One range of bytes", examples=["bytes=0-99"]),
        _header("If-Range", "An ETag or a date; the range is honoured only while it holds", **_ETAG),
        _header("If-Match", "ETags; 412 unless the file has one of them", **_ETAG),
        _header("If-None-Match", "ETags; 304 while the file still has one of them", **_ETAG),
        _header("If-Modified-Since", "A date; 304 unless the file has changed since", **_DATE),
        _header("If-Unmodified-Since", "A date; 412 where the file has changed since", **_DATE),
    ]
    for status in ("200", "206"):
        # The answer has the file's type. Generators need a type that they know as bytes.
        reading["responses"][status]["content"] = {"application/octet-stream": _BINARY, "*/*": _BINARY}
    reading["responses"]["304"].pop("content", None)
    zipped = paths["/archive"]["get"]
    zipped["responses"]["200"] = {
        "description": "The ZIP",
        "content": {"application/octet-stream": _BINARY, "application/zip": _BINARY},
        "headers": {"Content-Disposition": {"schema": {"type": "string"}}},
    }
    for parameter in zipped["parameters"]:
        if parameter["name"] == "name":
            parameter |= {"style": "form", "explode": True}
            parameter["schema"]["items"] = {"type": "string", **NAME_SCHEMA}
    signing = paths["/download/{name}"]["get"]
    signing["responses"]["302"] |= {
        "content": signing["responses"]["200"]["content"],
        "headers": {
            "Location": {"schema": {"type": "string", "format": "uri"}, "description": "The presigned URL"}
        },
    }
    paths["/files/{name}"]["head"] = _head(reading, "head_file", "Answer as GET does, without the bytes")
    paths["/download/{name}"]["head"] = _head(
        signing, "head_download", "Answer as GET does, without a body; the URL of a redirect is for HEAD"
    )
    _describe_tus(paths)
    _describe_upload_links(paths)
    for methods in paths.values():
        for method, operation in methods.items():
            if method in ("post", "put", "patch", "delete"):
                _refuses(operation, 415)  # a Content-Encoding, which only PUT /upload/{name} keeps
            if "requestBody" in operation:
                _refuses(operation, 408)
            _describe(operation)
    return spec


def _raw_headers() -> list[dict[str, Any]]:
    """The headers of a request whose body is stored as it is."""
    return [
        _header("If-None-Match", "`*` creates a file, and never replaces one", enum=["*"]),
        _header(
            "Content-Digest",
            "RFC 9530, such as `sha-256=:<base64>:`; a mismatch stores nothing",
            pattern="^sha-256=:[A-Za-z0-9+/]{43}=:$",
        ),
        _header("Repr-Digest", "RFC 9530; checked as Content-Digest is, with `sha-256` or `sha-512`"),
        _header("Digest", "RFC 3230, obsolete; checked, with `SHA-256`, `SHA-512` or `MD5`"),
        _header("Content-MD5", "RFC 1864; checked"),
        _header("Content-Encoding", "Stays with the file, such as `gzip`; `aws-chunked` is 415"),
        _header("Content-Language", "Stays with the file, such as `de`"),
    ]


def _describe_upload_links(paths: dict[str, Any]) -> None:
    """Add the bodies of uploads by a link. They need no token."""
    created = paths["/upload_links"]["post"]["responses"]
    created["201"] |= {
        "content": created.pop("200")["content"],
        "headers": {
            "Location": {"schema": {"type": "string"}, "description": "The URL, relative to this one"}
        },
    }
    one = paths["/upload_links/{link}"]
    for operation in (one["get"], one["put"], paths["/upload_links/{link}/{name}"]["put"]):
        del operation["security"]
        del operation["responses"]["401"]
    del one["get"]["responses"]["403"]
    one["get"]["responses"]["302"] |= {
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Envelope"}}},
        "headers": {
            "Location": {"schema": {"type": "string"}, "description": "The page, relative to this URL"}
        },
    }
    for operation in (one["put"], paths["/upload_links/{link}/{name}"]["put"]):
        operation["requestBody"] = {"required": True, "content": {"application/octet-stream": _BINARY}}
        operation["parameters"] += _raw_headers()


def _head(get: dict[str, Any], operation_id: str, summary: str) -> dict[str, Any]:
    """The HEAD that belongs to a GET. RFC 9110, section 14.2: a range is for GET alone."""
    return {
        **{key: get[key] for key in ("tags", "security")},
        "operationId": operation_id,
        "summary": summary,
        "parameters": [
            deepcopy(one) for one in get["parameters"] if one["name"] not in ("Range", "If-Range")
        ],
        "responses": {
            status: {key: deepcopy(response[key]) for key in ("description", "headers") if key in response}
            for status, response in get["responses"].items()
            if status not in ("206", "416")
        },
    }


def _describe_tus(paths: dict[str, Any]) -> None:
    """Add the headers and bodies of tus. Its successful answers have no body, except that of a creation."""
    creation, upload = paths["/tus"], paths["/tus/{upload_id}"]
    chunk = {"content": {"application/offset+octet-stream": _BINARY}}
    checksum = _header(
        "Upload-Checksum", "`sha1`, `md5`, `sha256` or `sha512`, a space and the Base64 digest of the body"
    )
    version = _header("Tus-Resumable", "The version of tus, 1.0.0", required=True, examples=["1.0.0"])
    offset = _header("Upload-Offset", "Where the body continues the file", **_NUMBER)
    condition = [
        _header("If-None-Match", "`*` creates a file, and never replaces one", enum=["*"]),
        _if_match("Replaces only the file that has this one ETag"),
    ]
    create = creation["post"]
    create["responses"]["201"] |= {
        **{key: value for key, value in create["responses"].pop("200").items() if key == "content"},
        "headers": _answered(Location="The URL of the upload, relative to this one"),
    }
    create["requestBody"] = chunk
    create["parameters"] += [
        version,
        _header("Upload-Length", "The size of the file", required=True, **_NUMBER),
        _header(
            "Upload-Metadata",
            "`key base64` pairs with commas between them",
            required=True,
            examples=["filename Z2FtZXMuY3N2,filetype dGV4dC9jc3Y="],
        ),
        checksum,
        *condition,
    ]
    for operation in upload.values():
        operation["responses"].pop("200")
        operation["responses"]["204"].pop("content", None)
        operation["parameters"] += [version, *deepcopy(condition)]
    upload["patch"]["parameters"] += [deepcopy(offset) | {"required": True}, checksum]
    upload["post"]["parameters"] += [
        offset,
        checksum,
        _header("X-HTTP-Method-Override", "The method", required=True, enum=["PATCH", "DELETE"]),
    ]
    for method in ("patch", "post"):
        upload[method]["requestBody"] = deepcopy(chunk)
        upload[method]["responses"]["204"]["headers"] = _answered()
    shared = {key: create[key] for key in ("tags", "security")}
    upload["head"] = {
        **shared,
        "operationId": "read_tus_offset",
        "summary": "Tell how many bytes of the file S3 has received",
        "parameters": deepcopy(upload["delete"]["parameters"]),
        "responses": {
            "200": {
                "description": "The offset",
                "headers": _answered(
                    **{
                        "Upload-Length": "The size of the file",
                        "Upload-Metadata": "What the client sent when it created the upload",
                    }
                ),
            },
            **{
                status: {"description": response["description"]}
                for status, response in upload["delete"]["responses"].items()
                if status != "204"
            },
        },
    }
    creation["options"] = {
        **shared,
        "operationId": "tus_options",
        "summary": "Tell the version and the extensions of tus, and the size of the largest file",
        "parameters": [],
        "responses": {
            "204": {
                "description": "The abilities of the service",
                "headers": {
                    name: {"schema": {"type": "string"}}
                    for name in ("Tus-Version", "Tus-Extension", "Tus-Max-Size", "Tus-Checksum-Algorithm")
                },
            },
            **{
                status: deepcopy(create["responses"][status])
                for status in ("400", "401", "403", "421", "500")
            },
        },
    }


def _answered(**more: str) -> dict[str, Any]:
    """The headers of an answer about an upload of tus."""
    found = {
        "Tus-Resumable": "The version of tus",
        "Upload-Offset": "How many bytes S3 has received",
        "Upload-Expires": "When the upload can no longer be continued, unless it is complete",
        **more,
    }
    return {
        name: {"schema": {"type": "string"}, "description": description}
        for name, description in found.items()
    }


def _tidy(value: Any) -> Any:
    """Remove titles that repeat a field's name, and rename references as `complete` renames schemas."""
    if isinstance(value, str):
        return _REFERENCE.sub(_new_reference, value)
    if isinstance(value, list):
        return [_tidy(one) for one in value]
    if not isinstance(value, dict):
        return value
    titled = "version" in value or "properties" in value  # the document, and a model
    return {
        key: _tidy(one) for key, one in value.items() if titled or key != "title" or not isinstance(one, str)
    }


def _new_reference(match: re.Match[str]) -> str:
    return f"#/components/schemas/{'Failure' if match[1] == 'HTTPError' else match[1]}"


def _drop_null(schema: dict[str, Any], *, also_type: bool) -> None:
    """Remove `default: null`, and the type null from answers and queries, which never contain it."""
    for field in schema.get("properties", {}).values():
        _drop_null_of(field, also_type=also_type)


def _drop_null_of(field: dict[str, Any], *, also_type: bool) -> None:
    if field.get("default", ...) is not None:
        return
    del field["default"]
    kinds = [kind for kind in field.get("anyOf", ()) if kind != {"type": "null"}]
    if also_type and len(kinds) == 1:
        del field["anyOf"]
        field |= {**kinds[0], **field}


def _if_match(description: str) -> dict[str, Any]:
    return _header("If-Match", f"{description}; else 412")


def _header(name: str, description: str, *, required: bool = False, **schema: Any) -> dict[str, Any]:
    return {
        "name": name,
        "in": "header",
        "required": required,
        "description": description,
        "schema": {"type": "string", **schema},
    }


def _refuses(operation: dict[str, Any], status: int) -> None:
    """Add an answer that every operation of this kind can give, before its view runs."""
    failure = {**operation["responses"]["400"], "description": HTTPStatus(status).phrase}
    operation["responses"].setdefault(str(status), failure)


def _describe(operation: dict[str, Any]) -> None:
    if "requestBody" in operation:
        operation["requestBody"]["required"] = operation["operationId"] not in _OPTIONAL_BODY
    operation.setdefault("security", [])
    for parameter in operation["parameters"]:
        _drop_null_of(parameter["schema"], also_type=True)
        if (parameter["in"], parameter["name"]) == ("path", "name"):
            parameter["schema"] |= NAME_SCHEMA
        # Where programs that show a parameter look for it. The models have it in the schema.
        text = parameter["schema"].pop("description", "") or _IN_PATHS.get(parameter["name"], "")
        parameter.setdefault("description", text)
    for status, response in operation["responses"].items():
        headers = response.setdefault("headers", {})
        headers["X-Request-Id"] = {"schema": {"type": "string"}}
        if status in ("503", "507"):
            headers["Retry-After"] = {"schema": {"type": "integer"}}


def register(app: APIFlask) -> None:
    app.spec_processor(complete)  # type: ignore[arg-type]
