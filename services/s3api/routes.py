"""The HTTP contract: each view parses, makes at most one call, renders.

It calls a use case of `files` with the store, or the store itself if there is nothing to decide.
tests/service/test_views.py reads this file and checks it.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from http import HTTPStatus
from typing import Any, TypeVar
from urllib.parse import quote

from apiflask import APIBlueprint
from flask import Response, request
from pydantic import BaseModel
from werkzeug.exceptions import BadRequest, LengthRequired, UnsupportedMediaType
from werkzeug.http import http_date, parse_options_header
from werkzeug.routing import BaseConverter

from s3api import archive, failures, files, forms, headers, presentation, searching, write_headers
from s3api.admission import API, NDJSON, wants_lines
from s3api.auth import ANONYMOUS
from s3api.bodies import Body
from s3api.errors import failure
from s3api.file_store import NOTHING, NotModified, OpenFile, Page, PartPlan, SignedPost, SignedPut, Upload
from s3api.health import draining
from s3api.json_bodies import LARGE, SMALL, json_body
from s3api.json_text import to_json, to_json_lines
from s3api.names import MAX_NAME_BYTES, check_name, check_prefix, is_name
from s3api.observability import log_failure
from s3api.schemas import (
    MIN_EXPIRES,
    Aborted,
    ArchiveQuery,
    Completed,
    DeleteRequest,
    DeleteResults,
    DownloadQuery,
    Envelope,
    FileList,
    Identity,
    ListQuery,
    PartUrls,
    PartUrlsRequest,
    PresignedUrl,
    UploadedFiles,
    UploadedParts,
    UploadForm,
    UploadPlan,
    UploadPlanRequest,
)
from s3api.services import Services, current_caller, current_services

View = TypeVar("View", bound=Callable[..., Any])

_SHA256_HEX = re.compile("[0-9a-f]{64}")

bp = APIBlueprint(API, __name__, tag="Files")


class NameConverter(BaseConverter):
    """A file's name: the rest of the URL, with slashes and line breaks. `check_name` checks it."""

    regex = r"[\s\S]+"
    part_isolating = False


def answer(message: str, content: object = None, *, status: int = 200, **more: object) -> Response:
    """An answer in the envelope. `more` are further members; those that are None are left out."""
    body: dict[str, Any] = {"status": status, "message": message}
    if content is not None:
        body["content"] = content
    body.update((key, value) for key, value in more.items() if value is not None)
    return Response(to_json(body) + b"\n", status, mimetype="application/json")


def documented(
    *refusals: int, answers: type[BaseModel] = Envelope, others: Mapping[int, str] | None = None
) -> Callable[[View], View]:
    """Describe a view in the OpenAPI document: its answers, and its name as the operation's id.

    This has no effect at run time.
    """
    statuses = sorted({400, 401, 403, 421, 500, 502, 503, *refusals})
    reasons: dict[int | str, Any] = {status: HTTPStatus(status).phrase for status in statuses}
    reasons.update((others or {}).items())

    def decorate(view: View) -> View:
        described: View = bp.doc(responses=reasons, security="bearer", operation_id=view.__name__)(
            bp.output(answers)(view)
        )
        return described

    return decorate


# --- the service itself


@bp.get("/")
@bp.doc(responses={status: HTTPStatus(status).phrase for status in (400, 421, 500)}, operation_id="greet")
@bp.output(Envelope)
def index() -> Response:
    """Say hello."""
    return answer(f"Successfully connected to {current_services().settings.project_name} upload/download API")


@bp.get("/livez")
@bp.doc(responses={status: HTTPStatus(status).phrase for status in (400, 500)}, operation_id="livez")
@bp.output(Envelope)
def livez() -> Response:
    """Say that the process answers. Nothing else is checked."""
    return answer("The service is alive")


@bp.get("/readyz")
@bp.doc(
    responses={
        400: HTTPStatus(400).phrase,
        500: HTTPStatus(500).phrase,
        503: "Draining, or S3 cannot be reached",
    },
    operation_id="readyz",
)
@bp.output(Envelope)
def readyz() -> Response:
    """Say whether requests can be served: S3 answers, and the process is not about to stop."""
    return _health(current_services().readiness.failure, "The service is ready")


@bp.get("/healthz")
@bp.doc(
    responses={
        400: HTTPStatus(400).phrase,
        500: HTTPStatus(500).phrase,
        503: "Draining, or S3 has not been reached since the start",
    },
    operation_id="healthz",
)
@bp.output(Envelope)
def healthz() -> Response:
    """Say whether a load balancer should send requests here.

    Until S3 has answered once, this is the same as readiness. After that it fails only while the process is
    about to stop: an outage of S3 is no reason to replace the process.
    """
    return _health(current_services().readiness.failure_before_first_success, "The service takes requests")


def _health(check: Callable[[], Exception | None], well: str) -> Response:
    if draining.is_set():
        return failure(503, "draining", "The service is draining and will stop")
    error = check()
    if isinstance(error, failures.FileError):
        log_failure(error)
        return failure(503, error.code, error.message)
    if error is not None:
        raise error
    return answer(well)


@bp.get("/whoami")
@documented(answers=Identity)
def whoami() -> Response:
    """Say what the caller may do: the verbs, and the prefix with which the names of its files begin.

    The web page hides what the token may not do. Every request is still checked on its own.
    """
    caller = current_caller()
    return answer(
        f"Successfully identified '{caller.name}'",
        {"name": caller.name, "verbs": sorted(caller.verbs), "prefix": caller.prefix},
    )


# --- listing


@bp.get("/list_files")
@bp.input(ListQuery, location="query", arg_name="query")
@documented(answers=FileList)
def list_files(query: ListQuery) -> Response:
    """List the files: one page, or the whole listing as a stream of JSON lines.

    With `Accept: application/x-ndjson` the answer is the whole listing, with the details of one file on each
    line. Only the parameters `prefix` and `contains` are allowed then.

    With `contains` the answer has only the files whose names contain the text below the folder of `prefix`.
    Case does not matter. The service compares all names that begin with `prefix`. On a page, `limit` counts
    the names that are compared, so a page with `next` can be empty. In JSON lines, a line
    `{"searched": <number>}` follows after every 1,000 names that were compared, and after the last one.
    """
    services = current_services()
    prefix = check_prefix(query.prefix)
    text = check_prefix(query.contains, "The parameter contains")
    current_caller().require("list", prefix)
    if wants_lines() and text:
        found = _lines_of_search(searching.search(services.store, prefix, text))
        return Response(found, mimetype=NDJSON, headers={"Vary": "Accept"})
    if wants_lines():
        lines = _json_lines(files.list_all(services.store, prefix))
        return Response(lines, mimetype=NDJSON, headers={"Vary": "Accept"})
    of = ("list", prefix, check_prefix(query.delimiter, "The delimiter"), text)
    token = services.signer.read_cursor(of, query.cursor) if query.cursor is not None else None
    page = services.store.list_page(prefix, query.delimiter, query.limit, token)
    if text:
        page = searching.Search(prefix, text).of(page)
    following = services.signer.cursor(of, page.next_token) if page.next_token else None
    response = answer(
        f"Successfully listed files on s3 bucket '{services.store.bucket}'",
        page.files if query.details else [file.name for file in page.files],
        prefixes=list(page.prefixes) if query.delimiter else None,
        next=following,
    )
    response.headers["Vary"] = "Accept"
    if following:
        asked = {**query.model_dump(exclude_defaults=True), "cursor": following}
        pairs = (f"{key}={quote(_query_value(value), safe='')}" for key, value in asked.items())
        # A relative reference (RFC 8288, section 3.1) is valid below every path prefix of a proxy.
        response.headers["Link"] = f'<?{"&".join(pairs)}>; rel="next"'
    return response


def _query_value(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _json_lines(pages: Iterator[Page]) -> Iterator[bytes]:
    for page in pages:
        yield to_json_lines(page.files, "name")


def _lines_of_search(pages: Iterator[tuple[Page, searching.Progress]]) -> Iterator[bytes]:
    # The line after each page keeps the connection in use while nothing matches. If the client has gone, the
    # line cannot be sent, which ends the search.
    for page, progress in pages:
        yield to_json_lines(page.files, "name") + to_json(progress) + b"\n"


# --- uploads through the service


@bp.post("/upload")
@documented(404, 409, 413, 415, 507, answers=UploadedFiles)
def upload() -> Response:
    """Upload the files of a form. They are staged on disk, sent to S3, and removed from disk."""
    services = current_services()
    length = request.content_length
    who = request.remote_addr if current_caller() is ANONYMOUS else current_caller().name
    with services.staging.folder(length, who) as folder:
        received = forms.read(folder.new_file, length)
        current_caller().require("write", *(file.name for file in received))
        stored = files.put_files(services.store, received)
    return _uploaded(stored)


@bp.put("/upload/<name:name>")
@documented(409, 411, 412, 413, 415, answers=UploadedFiles)
def upload_raw(name: str) -> Response:
    """Upload the raw body of the request. It is streamed to S3, without disk and with limited memory.

    With `If-None-Match: *` the request creates the file or answers 412. With `If-Match` and one ETag it
    replaces that file or answers 412. Nothing is stored if a `Content-Digest`, `Repr-Digest`, `Digest` or
    `Content-MD5` does not match. `Content-Encoding` and `Content-Language` are stored with the file. A header
    that would change the meaning of the upload and is not supported, such as `Content-Range` or `x-amz-acl`,
    answers 400. So does a digest in a trailer, because nothing would check it.
    """
    services = current_services()
    check_name(name)
    current_caller().require("write", name)
    create_only, if_match = write_headers.condition()
    body, content_type, kept = raw_body(name, services.settings.max_file_bytes)
    stored = files.put_file(
        services.store,
        name,
        body,
        content_type,
        create_only=create_only,
        if_match=if_match,
        kept=kept,
        body_waits=request.headers.get("Expect", "").lower() == "100-continue",
    )
    return _uploaded([stored])


def raw_body(name: str, max_bytes: int) -> tuple[Body, str, dict[str, str]]:
    """The body of this request, its media type, and the headers that are stored with it."""
    length = request.content_length
    if length is None and "chunked" not in request.headers.get("Transfer-Encoding", "").lower():
        raise LengthRequired("Send a Content-Length, or the body chunked")
    given = request.headers.get("Content-Type")
    if parse_options_header(given)[0].lower() == "multipart/form-data":
        raise UnsupportedMediaType("PUT stores the body as it is; send a form with POST /upload")
    content_type, kept = write_headers.content_type(name, given), write_headers.kept_headers()
    digests = write_headers.wanted_digests()
    sha256 = digests.pop("sha-256", None)
    return Body(request.environ["wsgi.input"], length, max_bytes, sha256, digests=digests), content_type, kept


def _uploaded(stored: Sequence[Upload]) -> Response:
    names = ", ".join(one.name for one in stored)
    return answer(
        f"Successfully uploaded '{names}' to the bucket '{current_services().store.bucket}'",
        [asdict(one) for one in stored],
    )


# --- uploads direct to S3


@bp.post("/uploads")
@json_body(SMALL)
@bp.input(UploadPlanRequest, arg_name="wanted")
@documented(413, 415, answers=UploadPlan)
def plan_upload(wanted: UploadPlanRequest) -> Response:
    """Plan an upload directly to S3: one presigned POST, or the parts of a multipart upload.

    S3 would replace `${filename}` in the name of a POST. A file with such a name is uploaded in parts, or
    with one presigned PUT if `multipart` is false.
    """
    services = current_services()
    name = check_name(wanted.name)
    current_caller().require("write", name)
    planned = files.plan_upload(
        services.store,
        name,
        wanted.size,
        write_headers.content_type(name, wanted.content_type),
        wanted.sha256,
        kept=write_headers.kept_encoding(wanted.content_encoding),
        max_bytes=services.settings.max_file_bytes,
        multipart=wanted.multipart,
        multipart_from=services.settings.multipart_threshold_bytes,
        part_size=wanted.part_size,
        seconds=services.settings.upload_url_seconds,
    )
    return answer(
        f"Successfully planned the upload of '{name}' to the bucket '{services.store.bucket}'",
        _plan(services, planned),
    )


@bp.get("/upload/<name:name>")
@documented(answers=UploadForm)
def plan_upload_form(name: str) -> Response:
    """Plan an upload directly to S3 without its size: one presigned POST. The request itself changes nothing.

    The form takes a file up to the limit of the service, and at most 5 GiB. `POST /uploads` plans a file of
    a known size, which S3 then checks. The message is true after the client has sent the form.
    """
    services = current_services()
    check_name(name)
    current_caller().require("write", name)
    planned = files.plan_upload(
        services.store,
        name,
        None,
        write_headers.content_type(name, None),
        None,
        kept=NOTHING,
        max_bytes=services.settings.max_file_bytes,
        multipart=False,
        multipart_from=services.settings.multipart_threshold_bytes,
        part_size=None,
        seconds=services.settings.upload_url_seconds,
    )
    # The course's client shows this sentence after S3 has accepted the form.
    return answer(
        f"Successfully uploaded file '{name}' on s3 bucket '{services.store.bucket}'",
        _plan(services, planned),
    )


def _plan(services: Services, planned: SignedPost | SignedPut | files.MultipartUpload) -> dict[str, Any]:
    plan: dict[str, Any]
    match planned:
        case files.MultipartUpload(part_plan, md5_etags):
            plan = {"method": "MULTIPART", "multipart": True, "id": services.signer.upload_id(part_plan)}
            return plan | {
                "part_size": part_plan.part_size,
                "parts": part_plan.parts,
                "md5_etags": md5_etags,
            }
        case SignedPut(url, signed_headers, expires_at):
            plan = {"method": "PUT", "multipart": False, "url": url, "headers": dict(signed_headers)}
        case SignedPost(url, fields, expires_at):
            plan = {"method": "POST", "multipart": False, "url": url, "fields": dict(fields)}
    return plan | {"expires_at": _to_the_second(expires_at)}


@bp.post("/uploads/<upload_id>/parts")
@json_body(SMALL)
@bp.input(PartUrlsRequest, arg_name="wanted")
@documented(404, 413, 415, answers=PartUrls)
def sign_parts(upload_id: str, wanted: PartUrlsRequest) -> Response:
    """Presign the URLs of parts. The client sends each part's bytes to its URL with PUT."""
    services, plan = _open_plan(upload_id)
    signed = services.store.sign_parts(plan, wanted.parts, services.settings.upload_url_seconds)
    return answer(
        f"Successfully generated presigned urls for parts of '{plan.name}'",
        [
            {
                "number": number,
                "url": one.url,
                "size": plan.size_of(number),
                "expires_at": _to_the_second(one.expires_at),
            }
            for number, one in zip(wanted.parts, signed, strict=True)
        ],
    )


@bp.get("/uploads/<upload_id>/parts")
@documented(404, answers=UploadedParts)
def list_parts(upload_id: str) -> Response:
    """List the parts that S3 has received, so that the client can resume the upload."""
    services, plan = _open_plan(upload_id)
    parts = [asdict(part) for part in services.store.list_parts(plan)]
    return answer(f"Successfully listed the received parts of '{plan.name}'", parts)


@bp.post("/uploads/<upload_id>/complete")
@documented(404, 409, 412, 415, answers=Completed)
def complete_upload(upload_id: str) -> Response:
    """Complete a multipart upload from the parts that S3 has received. The request can be repeated.

    With `If-None-Match: *` the request creates the file or answers 412. With `If-Match` and one ETag it
    replaces that file or answers 412. After a 412 the upload stays open.

    A completed upload is confirmed again while its own file exists. If another file has its name, the answer
    is 404.
    """
    services, plan = _open_plan(upload_id)
    create_only, if_match = write_headers.condition()
    etag = files.complete_upload(services.store, plan, create_only=create_only, if_match=if_match)
    return answer(
        f"Successfully uploaded '{plan.name}' to the bucket '{services.store.bucket}'",
        {"name": plan.name, "size": plan.size, "etag": etag},
    )


@bp.delete("/uploads/<upload_id>")
@documented(404, 415, answers=Aborted, others={409: "The upload was completed before; its file stays"})
def abort_upload(upload_id: str) -> Response:
    """Abort a multipart upload and delete its parts. The request can be repeated.

    `aborted` is false if there was nothing left to abort. A completed upload answers 409 `upload_completed`,
    and its file stays.
    """
    services, plan = _open_plan(upload_id)
    aborted = files.abort_upload(services.store, plan)
    message = (
        f"Successfully aborted the upload of '{plan.name}'"
        if aborted
        else f"There was no upload of '{plan.name}' to abort any more; it was aborted before, or has expired"
    )
    return answer(message, {"name": plan.name, "aborted": aborted})


def _open_plan(upload_id: str) -> tuple[Services, PartPlan]:
    services = current_services()
    plan = services.signer.read_upload_id(upload_id)
    current_caller().require("write", plan.name)
    return services, plan


def _to_the_second(moment: datetime) -> datetime:
    return moment.replace(microsecond=0)


# --- downloads


@bp.get("/download/<name:name>")
@bp.input(DownloadQuery, location="query", arg_name="query")
@documented(404, answers=PresignedUrl, others={302: "To the presigned URL, with `redirect=true`"})
def download(name: str, query: DownloadQuery) -> Response:
    """Return a presigned URL of the file. S3 serves the URL until `expires_at`.

    The URL is valid for `expires` seconds, but not longer than the credentials of the service.
    """
    services = current_services()
    check_name(name)
    current_caller().require("read", name)
    signed = files.sign_download(
        services.store,
        name,
        _life_of_url(services, query.expires),
        lambda opened: presentation.of_signed_url(name, opened, save=query.attachment),
        check=query.check,
        # A signature is valid for one method (AWS: "Signature Calculations for the Authorization Header").
        method="HEAD" if query.redirect and request.method == "HEAD" else "GET",
    )
    response = answer(
        f"Successfully generated presigned url for '{name}'",
        signed.url,
        status=302 if query.redirect else 200,
        expires_at=_to_the_second(signed.expires_at),
    )
    if query.redirect:
        response.headers["Location"] = signed.url
    return response


def _life_of_url(services: Services, wanted: int | None) -> int:
    """The life of a download URL in seconds."""
    if wanted is None:
        return services.settings.download_url_seconds
    longest = services.settings.max_download_url_seconds
    if not MIN_EXPIRES <= wanted <= longest:
        raise BadRequest(f"The parameter expires must be from {MIN_EXPIRES} to {longest} seconds")
    return wanted


@bp.get("/files/<name:name>")
@documented(404, 412, 416, others={206: "The range that was asked for", 304: "The client has the file"})
def read_file(name: str) -> Response:
    """Serve the file's bytes through the service, for clients that cannot reach S3.

    The request may have Range, If-Range, If-Match, If-None-Match, If-Modified-Since and If-Unmodified-Since.
    `Repr-Digest` is the SHA-256 of the whole file, if its sender sent one; it was checked when the file was
    stored. `X-Declared-SHA-256`, in hex, was declared by the sender of a multipart upload and was never
    checked.
    """
    services = current_services()
    check_name(name)
    current_caller().require("read", name)
    with_body = request.method != "HEAD"
    try:
        opened = files.open_file(services.store, name, _conditions(), with_body=with_body)
    except NotModified as unmodified:
        if unmodified.opened is None:
            raise
        return Response(status=304, headers=_validators(unmodified.opened))
    status = 206 if opened.content_range else 200
    kind = presentation.servable(opened.content_type)
    response = Response(opened.chunks, status, content_type=kind)
    response.headers.update(
        {
            "Content-Length": str(opened.length),
            "Accept-Ranges": "bytes",
            "Content-Disposition": presentation.disposition(
                name, kind, opened.stored_headers.get("Content-Disposition")
            ),
            **_validators(opened),
        }
    )
    # The bytes are sent as they are stored, with their encoding (RFC 9110, section 8.4). Repr-Digest is the
    # digest of the encoded bytes (RFC 9530, section 3).
    for header in ("Content-Encoding", "Content-Language"):
        if value := headers.visible(opened.stored_headers.get(header)):
            response.headers[header] = value
    if opened.content_range:
        response.headers["Content-Range"] = opened.content_range
    if opened.sha256 and _SHA256_HEX.fullmatch(opened.sha256):
        digest = base64.b64encode(bytes.fromhex(opened.sha256)).decode()
        response.headers["Repr-Digest"] = f"sha-256=:{digest}:"
    if opened.declared_sha256 and _SHA256_HEX.fullmatch(opened.declared_sha256):
        response.headers["X-Declared-SHA-256"] = opened.declared_sha256
    return response


def _validators(opened: OpenFile) -> dict[str, str]:
    """The headers that a 304 repeats for caches (RFC 9110, section 15.4.5; RFC 9111, section 3.2)."""
    stored = opened.stored_headers.get("Cache-Control")
    private = current_caller() is not ANONYMOUS
    return {
        "ETag": f'"{opened.file.etag}"',
        "Last-Modified": http_date(opened.file.last_modified),
        "Cache-Control": headers.cache_control(stored, private=private) or "private, no-cache",
        "Content-Security-Policy": "sandbox",
    }


def _conditions() -> files.ReadConditions:
    header = request.headers.get
    if_range = header("If-Range")
    return files.ReadConditions(
        byte_range=headers.byte_range(header("Range")),
        if_match=headers.entity_tags(header("If-Match")),
        if_none_match=headers.entity_tags(header("If-None-Match")),
        if_modified_since=headers.date(header("If-Modified-Since")),
        if_unmodified_since=headers.date(header("If-Unmodified-Since")),
        if_range=headers.date(if_range) or if_range,
    )


@bp.get("/archive")
@bp.input(ArchiveQuery, location="query", arg_name="query")
@documented(404, answers=Envelope)
def read_archive(query: ArchiveQuery) -> Response:
    """Serve a folder, or a selection of files, as one ZIP with at most 10,000 files, without compression.

    The paths in the ZIP begin below the deepest folder that contains all of its files. A file that cannot be
    read is named in the entry `_errors.txt`, and the answer ends as an interrupted one, so that an incomplete
    archive is not taken for a complete one. A token needs the verbs `list` and `read` for a prefix, and
    `read` for names.
    """
    names = [check_name(name) for name in request.args.getlist("name")]
    prefix = check_prefix(query.prefix)
    if names and prefix:
        raise BadRequest("An archive has a prefix or names; give one of them")
    if names:
        current_caller().require("read", *names)
    else:
        current_caller().require("list", prefix)
        current_caller().require("read", prefix)
    made = archive.Archive(current_services().store, prefix, names)
    response = Response(made, mimetype="application/zip")
    response.call_on_close(made.close)
    response.headers["Content-Disposition"] = presentation.disposition(made.name, "application/zip")
    return response


# --- deleting


@bp.delete("/delete/<name:name>")
@documented(404, 409, 412, 415)
def delete(name: str) -> Response:
    """Delete one file. With `If-Match`, delete it only if it has that ETag."""
    services = current_services()
    check_name(name)
    current_caller().require("delete", name)
    _, if_match = write_headers.condition(any_file=True)
    files.delete_file(services.store, name, if_match)
    return answer(f"Successfully deleted file '{name}' on s3 bucket '{services.store.bucket}'")


@bp.post("/delete")
@json_body(LARGE)
@bp.input(DeleteRequest, arg_name="wanted")
@documented(413, 415, answers=DeleteResults)
def delete_many(wanted: DeleteRequest) -> Response:
    """Delete up to 1,000 files. Each file has its own result, and a missing file is not an error.

    A name that is not allowed has the result `invalid_file_name`. If the token may not delete one of the
    files, the whole request is refused.
    """
    services = current_services()
    current_caller().require("delete", *filter(is_name, wanted.files))
    results = files.delete_files(services.store, wanted.files)
    deleted = sum(code is None for code in results.values())
    return answer(
        f"Successfully deleted {deleted} of {len(results)} files on s3 bucket '{services.store.bucket}'",
        [
            {"name": _shown(name), "deleted": code is None, **({"code": code} if code else {})}
            for name, code in results.items()
        ],
    )


def _shown(name: str) -> str:
    """The name as an answer repeats it. A name that is far too long is cut."""
    longest = 4 * MAX_NAME_BYTES
    return name if len(name) <= longest else f"{name[:longest]}…"
