"""The answer to every failure, in the envelope. Its cause and its trace never leave the service."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from http import HTTPStatus
from typing import Any

from apiflask import APIFlask
from apiflask.exceptions import HTTPError
from flask import Response, g
from werkzeug.exceptions import (
    BadRequest,
    ClientDisconnected,
    HTTPException,
    MethodNotAllowed,
    RequestEntityTooLarge,
)

from s3api import failures, files
from s3api.auth import Forbidden, Unauthorized
from s3api.bodies import TOO_SLOW
from s3api.json_text import to_json
from s3api.observability import log_failure
from s3api.origins import UnknownHost

_STATUS: Mapping[type[failures.FileError], int] = {
    failures.InvalidName: 400,
    failures.DuplicateName: 400,
    failures.InvalidContentType: 400,
    failures.InvalidCursor: 400,
    failures.InvalidParts: 400,
    failures.InvalidCopy: 400,
    failures.ChunkNotOnePart: 400,
    failures.ChunkTooSmall: 400,
    failures.TooManyFiles: 400,
    failures.DigestMismatch: 400,
    failures.UploadInterrupted: 400,
    failures.MalformedBody: 400,
    failures.ClientTooSlow: 408,
    failures.FileNotFound: 404,
    failures.UploadNotFound: 404,
    failures.UploadLinkNotFound: 404,
    failures.Conflict: 409,
    failures.FileNotDeleted: 409,
    failures.VersioningOff: 409,
    failures.UploadCompleted: 409,
    failures.WrongOffset: 409,
    failures.UploadGone: 410,
    failures.UploadLinkGone: 410,
    failures.FileExists: 412,
    failures.FileChanged: 412,
    failures.FileTooLarge: 413,
    failures.RangeNotSatisfiable: 416,
    failures.ChecksumMismatch: 460,  # tus 1.0.0, checksum
    failures.StoreDenied: 502,
    failures.StoreFailed: 502,
    failures.ClockSkewed: 502,
    failures.StoreUnavailable: 503,
    failures.StoreThrottled: 503,
    failures.BucketNotFound: 503,
    failures.TooBusy: 503,
    failures.TokenKeysUnavailable: 503,
    failures.StagingFull: 507,
    failures.FormTooLarge: 507,
    failures.StagingFailed: 500,
}

_CODES = {
    400: "bad_request",
    404: "not_found",
    405: "method_not_allowed",
    411: "length_required",
    413: "body_too_large",
    415: "unsupported_media_type",
}

#: Every code of a failure with its status. The OpenAPI document lists them, and docs/api.md explains them.
CODES: Mapping[str, int] = {
    **{code: status for status, code in _CODES.items()},
    **{error.code: status for error, status in _STATUS.items() if error is not failures.StoreDenied},
    "draining": 503,
    "forbidden": 403,
    "internal_error": 500,
    "invalid_request": 400,
    "malformed_request": 400,  # the worker also answers 414, 417, 431, 501 and 505
    "moved": 308,
    "s3_<operation>_denied": 502,
    "unauthorized": 401,
    "unknown_host": 421,
    "unsupported_tus_version": 412,
}

MAX_PROBLEMS = 10
MAX_MEMBER = 100


def failure(
    status: int,
    code: str,
    message: str,
    *,
    headers: Mapping[str, str] | None = None,
    content: object = None,
    hint: str | None = None,
) -> Response:
    """A failure in the envelope. The hint says what to do if the contract fixes the message."""
    g.error_code = code
    body: dict[str, Any] = {
        "status": status,
        "message": message,
        "code": code,
        "request_id": g.get("request_id", ""),
    }
    if hint is not None:
        body["hint"] = hint
    if content is not None:
        body["content"] = content
    response = Response(to_json(body) + b"\n", status, mimetype="application/json")
    if status in (503, 507):
        response.headers["Retry-After"] = "5"
    response.headers.update(headers or {})
    return response


def status_of(error: failures.FileError) -> int:
    return _STATUS[type(error)]


def file_error(error: failures.FileError) -> Response:
    status = status_of(error)
    if status >= 500:
        log_failure(error)
    headers: dict[str, str] = {}
    if isinstance(error, failures.RangeNotSatisfiable) and isinstance(error.details, Mapping):
        headers["Content-Range"] = f"bytes */{error.details['size']}"  # RFC 9110, section 15.5.17
    answer = failure(
        status, error.code, error.message, headers=headers, content=error.details, hint=error.hint
    )
    if isinstance(error, failures.FormTooLarge):
        del answer.headers["Retry-After"]
    return answer


def stored_in_part(error: files.StoredInPart) -> Response:
    """The answer to the failure. Its content lists the files that are stored."""
    log_failure(error.failed)
    stored = [asdict(one) for one in error.stored]
    return failure(status_of(error.failed), error.failed.code, str(error), content=stored)


def invalid_plan(error: files.InvalidPlan) -> Response:
    return http_exception(BadRequest(str(error)))


def unauthorized(error: Unauthorized) -> Response:
    # RFC 6750, section 3.1: a request without a token gets no error code.
    reason = ', error="invalid_token"' if error.invalid_token else ""
    challenge = {"WWW-Authenticate": f'Bearer realm="s3api"{reason}'}
    return failure(401, "unauthorized", str(error), headers=challenge)


def forbidden(error: Forbidden) -> Response:
    return failure(403, "forbidden", str(error))


def unknown_host(error: UnknownHost) -> Response:
    return failure(421, "unknown_host", str(error))


def http_exception(error: HTTPException) -> Response:
    """The answer to an exception of Flask or Werkzeug."""
    status = error.code or 500
    message = error.description or error.name
    headers = {}
    if isinstance(error, ClientDisconnected):
        if isinstance(error.__context__, TimeoutError):
            return client_stalled(error.__context__)
        return file_error(failures.UploadInterrupted("The connection ended before the whole body had come"))
    if isinstance(error, RequestEntityTooLarge):
        message = "The body, or a field of the form, is too large, or the form has more than 100 parts"
    elif isinstance(error, MethodNotAllowed):
        allowed = sorted(error.valid_methods or ())
        if error.description == MethodNotAllowed.description:  # otherwise it has a sentence of its own
            message = f"This URL does not answer to this method; use {' or '.join(allowed)}"
        headers = {"Allow": ", ".join(allowed)}
    elif isinstance(error, BadRequest) and message == BadRequest.description:
        message = "The body is not valid JSON"  # every other BadRequest has its own sentence
    elif status == 404:
        message = "There is nothing at this URL; GET /docs lists what there is"
    return failure(status, _CODES.get(status, f"http_{status}"), message, headers=headers)


def validation_error(error: HTTPError) -> Response:
    """The answer to a query or a JSON body that does not match its schema."""
    problems = [
        f"{_short(name)}: {message}".removeprefix("_schema: ")
        for location in error.detail.values()
        for name, messages in location.items()
        for message in messages
    ]
    message = "; ".join(problems[:MAX_PROBLEMS])
    if len(problems) > MAX_PROBLEMS:
        message += f"; and {len(problems) - MAX_PROBLEMS} more"
    return failure(error.status_code, "invalid_request", message or str(error.message))


def _short(name: str) -> str:
    """The name of a member, cut to a length, because the sender chose it."""
    return name if len(name) <= MAX_MEMBER else f"{name[:MAX_MEMBER]}…"


def client_stalled(_error: TimeoutError) -> Response:
    """The connection to the client timed out. A timeout of S3 is a `FileError` already."""
    return file_error(failures.ClientTooSlow(TOO_SLOW))


def unexpected(error: Exception) -> Response:
    log_failure(error)
    return failure(
        500, "internal_error", "The service failed unexpectedly; its log has the reason under the request id"
    )


def redirected(response: Response) -> Response:
    """A redirect of the router, in the envelope. Flask passes it to no error handler.

    No URL of the service needs one today.
    """
    if response.status_code != HTTPStatus.PERMANENT_REDIRECT:
        return response
    location = response.headers["Location"]
    return failure(
        308, "moved", "The resource has another URL; see the Location header", headers={"Location": location}
    )


def register(app: APIFlask) -> None:
    app.after_request(redirected)
    app.error_processor(validation_error)
    app.register_error_handler(failures.FileError, file_error)
    app.register_error_handler(files.InvalidPlan, invalid_plan)
    app.register_error_handler(files.StoredInPart, stored_in_part)
    app.register_error_handler(Unauthorized, unauthorized)
    app.register_error_handler(Forbidden, forbidden)
    app.register_error_handler(UnknownHost, unknown_host)
    app.register_error_handler(HTTPException, http_exception)
    app.register_error_handler(TimeoutError, client_stalled)
    app.register_error_handler(Exception, unexpected)
