"""tus 1.0.0: resumable uploads through the service, for clients that cannot reach S3.

https://tus.io/protocols/resumable-upload has the sections that this module and its tests name.
The URL of an upload contains its signed id, so the service keeps no state.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import wraps
from typing import Any, TypeVar

from apiflask import APIFlask
from flask import Response, request
from flask.globals import request_ctx
from werkzeug.exceptions import BadRequest, LengthRequired, MethodNotAllowed, UnsupportedMediaType
from werkzeug.http import http_date, parse_options_header

from s3api import failures, resumable, write_headers
from s3api.bodies import Received
from s3api.errors import failure
from s3api.headers import TUS_VERSION
from s3api.names import check_name
from s3api.routes import answer, bp, documented
from s3api.schemas import Envelope
from s3api.services import Services, current_caller, current_services

View = TypeVar("View", bound=Callable[..., Any])

EXTENSIONS = ("creation", "creation-with-upload", "termination", "expiration", "checksum")
#: The names of tus and of RFC 9530 for each algorithm.
ALGORITHMS: Mapping[str, str] = {"sha1": "sha-1", "md5": "md5", "sha256": "sha-256", "sha512": "sha-512"}
_BYTES = "application/offset+octet-stream"
#: The URL of an upload contains the metadata. It must not be too long for the service or for a proxy.
MAX_METADATA = 4096
#: The statuses that answer a request with bytes of a file, for the reference.
RECEIVING = (404, 409, 410, 411, 412, 413, 415)
MISMATCH = "The Upload-Checksum does not match"
_KEY = re.compile(r"[\x21-\x2b\x2d-\x7e]+")


def tus_request(view: View) -> View:
    """Refuse a request of another version, as the section "Tus-Resumable" of the protocol asks."""

    @wraps(view)
    def checked(**path: str) -> Response:
        if request.headers.get("Tus-Resumable") != TUS_VERSION:
            return failure(
                412,
                "unsupported_tus_version",
                f"Send the header 'Tus-Resumable: {TUS_VERSION}'; the service speaks no other version of tus",
                headers={"Tus-Version": TUS_VERSION},
            )
        answered: Response = view(**path)
        return answered

    return checked  # type: ignore[return-value]


@bp.route("/tus", methods=["OPTIONS"])
def tus_options() -> Response:
    """Tell the version and the extensions of tus, and the size of the largest file."""
    return Response(
        status=204,
        headers={
            "Tus-Version": TUS_VERSION,
            "Tus-Extension": ",".join(EXTENSIONS),
            "Tus-Max-Size": str(current_services().settings.max_file_bytes),
            "Tus-Checksum-Algorithm": ",".join(ALGORITHMS),
        },
    )


@bp.post("/tus")
@documented(
    *RECEIVING,
    answers=Envelope,
    others={201: "Created; `Location` is the URL of the upload", 460: MISMATCH},
)
@tus_request
def create_tus_upload() -> Response:
    """Create a resumable upload of tus 1.0.0, for clients that cannot reach S3.

    `Upload-Metadata` names the file with the key `filename`, and its type with `filetype`; other keys are
    only returned. The body can be the first bytes of the file. Parts have 5 MiB, or more for a file above 48
    GiB. The beginning of a part that a request does not complete is not stored, and `Upload-Offset` does not
    count it. So a chunk must have at least the size of a part, unless the file ends with it. With
    `If-None-Match: *` the upload creates the file, and with `If-Match` it replaces the file of that ETag;
    otherwise it ends with 412.
    """
    services = current_services()
    size = _upload_length()
    sent = request.headers.get("Upload-Metadata", "")
    metadata = _metadata(sent)
    name = check_name(_text(metadata, "filename"))
    current_caller().require("write", name)
    create_only, if_match = write_headers.condition()
    upload, offset = resumable.create(
        services.store,
        name,
        size,
        write_headers.content_type(name, _text(metadata, "filetype", "") or None),
        create_only=create_only,
        if_match=if_match,
        max_bytes=services.settings.max_file_bytes,
        body=_first_bytes(),
        digests=_checksum(),
    )
    done = offset == size
    response = answer(
        f"Successfully {'uploaded' if done else 'created the upload of'} '{name}' to the bucket "
        f"'{services.store.bucket}'",
        status=201,
    )
    upload_id = services.signer.resumable_id(upload, sent)
    # A relative reference (RFC 3986, section 4.2) is valid below every path prefix of a proxy.
    response.headers["Location"] = f"tus/{upload_id}"
    response.headers["Upload-Offset"] = str(offset)
    if not done:
        response.headers["Upload-Expires"] = http_date(services.signer.read_resumable_id(upload_id)[2])
    return response


@bp.route("/tus/<upload_id>", methods=["HEAD"])
@tus_request
def read_tus_offset(upload_id: str) -> Response:
    """Tell how many bytes of the file S3 has received.

    If S3 has all of them, but the last request could not store the file, this request stores it.
    """
    services, upload, metadata, expires_at = _open_upload(upload_id)
    offset = resumable.offset(services.store, upload)
    response = _at(offset, upload, expires_at, status=200)
    response.headers["Upload-Length"] = str(upload.plan.size)
    if metadata:
        response.headers["Upload-Metadata"] = metadata
    return response


@bp.patch("/tus/<upload_id>")
@documented(
    *RECEIVING,
    answers=Envelope,
    others={204: "Stored up to `Upload-Offset`", 460: MISMATCH},
)
@tus_request
def append_tus_upload(upload_id: str) -> Response:
    """Continue an upload at its offset. The file is stored when its last byte has arrived.

    `Upload-Offset` of the answer can be smaller than the end of the chunk: the client continues there. With
    an `Upload-Checksum`, a chunk must be exactly one part. Of two clients that send the same part at the same
    time, one gets 409.
    """
    services, upload, _, expires_at = _open_upload(upload_id)
    if parse_options_header(request.headers.get("Content-Type"))[0].lower() != _BYTES:
        raise UnsupportedMediaType(f"Send the bytes with 'Content-Type: {_BYTES}'")
    at = _number("Upload-Offset")
    offset = resumable.append(services.store, upload, at, _body(), _checksum())
    return _at(offset, upload, expires_at)


@bp.delete("/tus/<upload_id>")
@documented(404, 409, 410, 412, 415, answers=Envelope, others={204: "The upload and its parts are deleted"})
@tus_request
def terminate_tus_upload(upload_id: str) -> Response:
    """End an upload and delete its parts. A completed upload answers 409 `upload_completed`."""
    services, upload, _, _ = _open_upload(upload_id)
    resumable.terminate(services.store, upload)
    return Response(status=204)


@bp.post("/tus/<upload_id>")
@documented(
    405,
    *RECEIVING,
    answers=Envelope,
    others={204: "As PATCH or DELETE", 460: MISMATCH},
)
@tus_request
def override_tus_method(upload_id: str) -> Response:
    """Do what PATCH or DELETE does, for clients that cannot send these: `X-HTTP-Method-Override` names it."""
    method = request.headers.get("X-HTTP-Method-Override", "").upper()
    if method == "PATCH":
        return append_tus_upload(upload_id=upload_id)
    if method == "DELETE":
        return terminate_tus_upload(upload_id=upload_id)
    raise MethodNotAllowed(
        ["DELETE", "HEAD", "PATCH", "POST"],
        "POST needs the header X-HTTP-Method-Override with PATCH or DELETE",
    )


# --- parsing


def _open_upload(upload_id: str) -> tuple[Services, resumable.ResumableUpload, str, datetime]:
    services = current_services()
    upload, metadata, expires_at = services.signer.read_resumable_id(upload_id)
    current_caller().require("write", upload.plan.name)
    # Clients send their own headers with each request, not only with the one that creates the upload.
    if write_headers.condition() not in ((False, None), (upload.create_only, upload.if_match)):
        raise BadRequest("The condition of an upload is that of the POST /tus that created it")
    return services, upload, metadata, expires_at


def _number(header: str) -> int:
    value = request.headers.get(header)
    if value is None or not re.fullmatch("[0-9]{1,18}", value):
        raise BadRequest(f"Send the header {header} with a number of bytes")
    return int(value)


def _upload_length() -> int:
    if "Upload-Defer-Length" in request.headers:
        raise BadRequest(
            "Upload-Defer-Length is not supported; send the size of the file in Upload-Length, or send a "
            "file of unknown size with PUT /upload/<file>"
        )
    return _number("Upload-Length")


def _metadata(value: str) -> dict[str, bytes]:
    """The pairs of Upload-Metadata (section "Creation", "Upload-Metadata")."""
    if len(value) > MAX_METADATA:
        raise BadRequest(
            f"The Upload-Metadata has {len(value)} characters; at most {MAX_METADATA} are allowed"
        )
    found: dict[str, bytes] = {}
    for pair in value.split(",") if value else ():
        key, _, encoded = pair.strip(" ").partition(" ")
        if not _KEY.fullmatch(key):
            raise BadRequest(
                "The Upload-Metadata is not a list of 'key base64' pairs with commas between them"
            )
        if key in found:
            raise BadRequest(f"The Upload-Metadata has the key '{key}' twice")
        try:
            found[key] = base64.b64decode(encoded, validate=True)
        except ValueError:  # binascii.Error is one; text that is not ASCII is another
            raise BadRequest(f"The value of '{key}' in the Upload-Metadata is not Base64") from None
    return found


def _text(metadata: Mapping[str, bytes], key: str, default: str | None = None) -> str:
    if key not in metadata:
        if default is None:
            raise BadRequest(f"The Upload-Metadata must have the key '{key}', with the name of the file")
        return default
    try:
        return metadata[key].decode("utf-8")
    except UnicodeDecodeError:
        raise failures.InvalidName(f"The '{key}' in the Upload-Metadata is not valid UTF-8") from None


def _checksum() -> dict[str, str]:
    """The digest that the bytes must have, in hex, by its algorithm (section "Checksum")."""
    value = request.headers.get("Upload-Checksum")
    if value is None:
        return {}
    if request.content_length is None:
        raise LengthRequired("Send a Content-Length with an Upload-Checksum")
    algorithm, _, encoded = value.partition(" ")
    if algorithm not in ALGORITHMS:
        raise BadRequest(f"The Upload-Checksum has none of the algorithms {', '.join(ALGORITHMS)}")
    try:
        digest = base64.b64decode(encoded, validate=True)
    except ValueError:
        digest = b""
    if len(digest) != hashlib.new(algorithm, usedforsecurity=False).digest_size:
        raise BadRequest(
            f"The Upload-Checksum is not an algorithm, a space and the Base64 of a whole {algorithm} digest"
        )
    return {ALGORITHMS[algorithm]: digest.hex()}


def _body() -> Received:
    length = request.content_length
    if length is None and "chunked" not in request.headers.get("Transfer-Encoding", "").lower():
        length = 0  # RFC 9112, section 6.3: the request has no body
    return Received(request.environ["wsgi.input"], length)


def _first_bytes() -> Received | None:
    """The body of a request that creates an upload (section "Creation With Upload")."""
    body = _body()
    if body.size == 0:
        return None
    if parse_options_header(request.headers.get("Content-Type"))[0].lower() != _BYTES:
        raise UnsupportedMediaType(f"Send the first bytes with 'Content-Type: {_BYTES}', or no body")
    return body


# --- answers


def _at(
    offset: int, upload: resumable.ResumableUpload, expires_at: datetime, *, status: int = 204
) -> Response:
    response = Response(status=status)
    response.headers["Upload-Offset"] = str(offset)
    if offset < upload.plan.size:
        response.headers["Upload-Expires"] = http_date(expires_at)
    return response


def register(app: APIFlask) -> None:
    """Name the version of tus in every answer below /tus, also in those of the router and of admission."""

    @app.after_request
    def name_version(response: Response) -> Response:
        path = request_ctx.request.environ["PATH_INFO"]
        # Section "Tus-Resumable": every answer has it, except those to OPTIONS.
        if path.startswith("/tus") and request_ctx.request.method != "OPTIONS":
            response.headers["Tus-Resumable"] = TUS_VERSION
        return response
