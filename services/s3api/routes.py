"""The HTTP contract: each view parses, makes one call, renders."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from http import HTTPStatus
from typing import Any, TypeVar, cast
from urllib.parse import quote, unquote_to_bytes

from apiflask import APIBlueprint
from flask import Response, current_app, g, request
from werkzeug.datastructures import MultiDict
from werkzeug.exceptions import BadRequest, LengthRequired, RequestEntityTooLarge, UnsupportedMediaType
from werkzeug.formparser import MultiPartParser
from werkzeug.http import http_date, parse_options_header
from werkzeug.routing import BaseConverter

from s3api import files, headers
from s3api.auth import ANONYMOUS, Caller, Forbidden, Signer, Tokens
from s3api.errors import failure, status_of
from s3api.files import Body, Conditions, FileStore, StoredFile
from s3api.health import Readiness, draining
from s3api.json_bodies import LARGE, SMALL, json_body
from s3api.observability import log_failure
from s3api.origins import Origins
from s3api.schemas import (
    Aborted,
    Completed,
    DeleteRequest,
    DeleteResults,
    DownloadQuery,
    Envelope,
    FileList,
    ListQuery,
    PartUrls,
    PartUrlsRequest,
    PresignedUrl,
    RestoredFile,
    UploadedFiles,
    UploadedParts,
    UploadPlan,
    UploadPlanRequest,
)
from s3api.settings import Settings, Verb
from s3api.staging import StagedFile, Staging

View = TypeVar("View", bound=Callable[..., Any])

NDJSON = "application/x-ndjson"
MAX_FORM_PARTS = 100
FORM_BUFFER = 128 * 1024
MAX_FIELD_BYTES = 2 * FORM_BUFFER  # the parser holds its buffer to the same limit
MAX_FORM_OVERHEAD = 1024 * 1024  # boundaries, headers and fields, in addition to the files
#: What a browser may show by itself, in canonical form; anything else is a download.
INLINE = re.compile(r"image/(png|jpeg|gif|webp|avif)|text/plain|application/pdf|(audio|video)/[a-z0-9.+-]+")
UNKNOWN_TYPE = "application/octet-stream"
_SHA256_HEX = re.compile("[0-9a-f]{64}")
_BACKSLASH = re.compile(r'\\(?!")')
#: What a health check asks, under whatever name it has for this task.
PROBES = {"api.livez", "api.readyz"}
PUBLIC = {"api.index", *PROBES}
STATIC = {"docs", "page"}
#: What a caller must be allowed, whatever the file, before anything of the body is read.
VERBS: Mapping[str, Verb] = {
    "api.list_files": "list",
    "api.download": "read",
    "api.read_file": "read",
    "api.upload": "write",
    "api.upload_raw": "write",
    "api.plan_upload": "write",
    "api.sign_parts": "write",
    "api.list_parts": "write",
    "api.complete_upload": "write",
    "api.abort_upload": "write",
    "api.restore": "write",
    "api.delete": "delete",
    "api.delete_many": "delete",
}

bp = APIBlueprint("api", __name__, tag="Files")


@dataclass(frozen=True)
class Services:
    """What the views work with; `app` makes it, once."""

    settings: Settings
    store: FileStore
    staging: Staging
    tokens: Tokens
    signer: Signer
    readiness: Readiness
    origins: Origins


class NameConverter(BaseConverter):
    """A file's name in a URL: all that is left, slashes and line breaks too; `check_name` judges it."""

    regex = r"[\s\S]+"
    part_isolating = False


def services() -> Services:
    found: Services = current_app.extensions["s3api"]
    return found


def caller() -> Caller:
    who: Caller = g.caller
    return who


def answer(message: str, content: object = None, *, status: int = 200, **more: object) -> Response:
    """The envelope. `more` are further members of it; those that are None stay out."""
    body: dict[str, Any] = {"status": status, "message": message}
    if content is not None:
        body["content"] = content
    body.update((key, value) for key, value in more.items() if value is not None)
    return Response(json.dumps(body) + "\n", status, mimetype="application/json")


def documented(
    *refusals: int, answers: type[Envelope] = Envelope, others: Mapping[int, str] | None = None
) -> Callable[[View], View]:
    """What the OpenAPI document says of a view's answers; nothing at run time."""
    statuses = sorted({400, 401, 403, 421, 502, 503, *refusals})
    reasons: dict[int | str, Any] = {status: HTTPStatus(status).phrase for status in statuses}
    reasons.update((others or {}).items())

    def decorate(view: View) -> View:
        described: View = bp.doc(responses=reasons, security="bearer")(bp.output(answers)(view))
        return described

    return decorate


@bp.before_app_request
def admit() -> None:
    """Find out who asks for what, and refuse it where that is enough to know, before any view runs."""
    _stop_waiting_for_a_stalled_client()
    at = services()
    at.origins.check_host(request.environ, any_host=request.endpoint in PROBES)
    try:
        request.environ["PATH_INFO"].encode("latin-1").decode("utf-8")
        unquote_to_bytes(request.query_string).decode("utf-8")
    except UnicodeDecodeError:
        raise files.InvalidName("The URL is not valid UTF-8") from None
    if request.url_rule is None or request.endpoint in PUBLIC:
        return
    if request.blueprint in STATIC and at.tokens.configured:
        return  # these pages are no secret; but with nothing configured, nothing is served at all
    g.caller = at.tokens.identify(request.headers.get("Authorization"))
    # A browser adds no token by itself, so where one was sent a foreign page can at most have been given it.
    may_be_foreign = g.caller is not ANONYMOUS and request.method in ("GET", "HEAD")
    if not may_be_foreign and at.origins.is_foreign(request.environ):
        raise Forbidden(
            "A web page of another origin may not do this; the service's operator can add its origin "
            "to ALLOWED_ORIGINS"
        )
    if request.blueprint == bp.name:
        caller().require(VERBS[str(request.endpoint)])


# --- the service itself


@bp.get("/")
@bp.doc(responses={421: HTTPStatus(421).phrase})
@bp.output(Envelope)
def index() -> Response:
    """Say hello."""
    return answer(f"Successfully connected to {services().settings.project_name} upload/download API")


@bp.get("/livez")
@bp.output(Envelope)
def livez() -> Response:
    """Tell that the process answers; touches nothing."""
    return answer("The service is alive")


@bp.get("/readyz")
@bp.doc(responses={503: "Draining, or S3 cannot be reached"})
@bp.output(Envelope)
def readyz() -> Response:
    """Tell whether requests can be served: S3 answers, and the process is not about to stop."""
    if draining.is_set():
        return failure(503, "draining", "The service is draining and will stop")
    error = services().readiness.failure()
    if isinstance(error, files.FileError):
        log_failure(error)
        return failure(503, error.code, error.message)
    if error is not None:
        raise error
    return answer("The service is ready")


# --- listing


@bp.get("/list_files")
@bp.input(ListQuery, location="query", arg_name="query")
@documented(answers=FileList)
def list_files(query: ListQuery) -> Response:
    """List the files, a page at a time, or all of them as a stream of JSON lines.

    With `Accept: application/x-ndjson` the whole listing is streamed, one file's details on each line.
    """
    at = services()
    prefix = files.check_prefix(query.prefix)
    caller().require("list", prefix)
    if request.accept_mimetypes.best_match(["application/json", NDJSON]) == NDJSON:
        first = at.store.list_page(prefix, "", 1000, None)
        return Response(_json_lines(files.walk(at.store, prefix, first)), mimetype=NDJSON)
    of = (prefix, files.check_prefix(query.delimiter, "The delimiter"))
    token = at.signer.read_cursor(of, query.cursor) if query.cursor is not None else None
    page = at.store.list_page(prefix, query.delimiter, query.limit, token)
    following = at.signer.cursor(of, page.next_token) if page.next_token else None
    response = answer(
        f"Successfully listed files on s3 bucket '{at.store.bucket}'",
        [_details(file) for file in page.files] if query.details else [file.name for file in page.files],
        prefixes=list(page.prefixes) if query.delimiter else None,
        next=following,
    )
    if following:
        asked = {**query.model_dump(exclude_defaults=True), "cursor": following}
        pairs = (f"{key}={quote(_query_value(value), safe='')}" for key, value in asked.items())
        response.headers["Link"] = f'<{request.path}?{"&".join(pairs)}>; rel="next"'
    return response


def _query_value(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _details(file: StoredFile) -> dict[str, Any]:
    return {
        "name": file.name,
        "size": file.size,
        "last_modified": file.last_modified.isoformat().replace("+00:00", "Z"),
        "etag": file.etag,
    }


def _json_lines(pages: Iterator[files.Page]) -> Iterator[str]:
    for page in pages:
        yield "".join(json.dumps(_details(file)) + "\n" for file in page.files)


# --- uploads through the service


@bp.post("/upload")
@documented(404, 413, 415, 507, answers=UploadedFiles)
def upload() -> Response:
    """Upload the files of a form: staged on disk, sent to S3, removed from disk."""
    at = services()
    length = request.content_length
    if length is not None and length > at.settings.max_file_bytes + MAX_FORM_OVERHEAD:
        raise files.too_large(at.settings.max_file_bytes)
    who = request.remote_addr if caller() is ANONYMOUS else caller().name
    with at.staging.folder(length, who) as folder:
        fields, parts = _parse_form(folder.new_file, length)
        prefix = files.check_prefix(fields.get("prefix", ""))
        if not parts or not all(own_name for own_name, _, _ in parts):
            raise files.FileNotFound("The file '' was not found")
        wanted = [
            (files.check_name(prefix + own), content_type, staged) for own, content_type, staged in parts
        ]
        caller().require("write", *(name for name, _, _ in wanted))
        stored: list[files.Upload] = []
        for name, content_type, staged in wanted:
            staged.seek(0)
            body = Body(staged.stream, staged.size, at.settings.max_file_bytes, staged.hexdigest())
            try:
                stored.append(at.store.put(name, body, content_type, create_only=False))
                staged.finish()
            except files.FileError as error:
                if not stored:
                    raise
                # The files before this one are in S3; saying so beats hiding it.
                log_failure(error)
                return failure(
                    status_of(error),
                    error.code,
                    f"{error.message}; {len(stored)} of {len(wanted)} files stored before '{name}'",
                    content=[asdict(one) for one in stored],
                )
    return _uploaded(stored)


@dataclass
class _FormBody(files.Received):
    """The body of a form; what is in it in addition to the files is held in memory, and so has a limit."""

    staged: Sequence[StagedFile]

    def read(self, amount: int = -1) -> bytes:
        """Also raises `RequestEntityTooLarge`."""
        data = super().read(amount)
        # The parser may still hold the two buffers that it was given last.
        held = self.received - sum(file.size for file in self.staged) - 2 * FORM_BUFFER
        if held > MAX_FORM_OVERHEAD:
            raise RequestEntityTooLarge
        return data


def _parse_form(
    new_file: Callable[[], StagedFile], length: int | None
) -> tuple[MultiDict[str, str], list[tuple[str, str, StagedFile]]]:
    """The fields, and for each part named `file` its own name, its content type and where it is staged."""
    mimetype, options = parse_options_header(request.headers.get("Content-Type"))
    if mimetype != "multipart/form-data" or not options.get("boundary"):
        if not length or mimetype in ("", "application/x-www-form-urlencoded"):
            raise files.FileNotFound("The file '' was not found")
        raise UnsupportedMediaType("Send the file as multipart/form-data, as `curl -F file=@name` does")
    staged: list[StagedFile] = []

    def new_part(**_: object) -> StagedFile:
        staged.append(new_file())
        return staged[-1]

    parser = MultiPartParser(
        stream_factory=new_part,  # type: ignore[arg-type]
        max_form_memory_size=MAX_FIELD_BYTES,
        buffer_size=FORM_BUFFER,
        max_form_parts=MAX_FORM_PARTS,
    )
    body = _FormBody(request.environ["wsgi.input"], length, staged)
    try:
        fields, parts = parser.parse(body, options["boundary"].encode("latin-1"), length)  # type: ignore[arg-type]
    except ValueError:
        raise BadRequest("The form is not valid multipart/form-data, or ends too early") from None
    named = []
    for part in parts.getlist("file"):
        # Browsers send a backslash as it is; the parser would drop it, and so change the name.
        if _BACKSLASH.search(part.headers.get("Content-Disposition", "")):
            raise files.InvalidName("The file name contains a backslash")
        own_name = (part.filename or "").rpartition("/")[2]
        named.append((own_name, _content_type(own_name, part.content_type), cast(StagedFile, part.stream)))
    return fields, named


@bp.put("/upload/<name:name>")
@documented(411, 412, 413, answers=UploadedFiles)
def upload_raw(name: str) -> Response:
    """Upload the raw body of the request, streamed to S3: no disk, bounded memory.

    `If-None-Match: *` creates or answers 412. A `Content-Digest` that does not match stores nothing.
    """
    at = services()
    files.check_name(name)
    caller().require("write", name)
    length = request.content_length
    if length is None and "chunked" not in request.headers.get("Transfer-Encoding", "").lower():
        raise LengthRequired("Send a Content-Length, or the body chunked")
    stored = at.store.put(
        name,
        Body(request.environ["wsgi.input"], length, at.settings.max_file_bytes, _wanted_digest()),
        _content_type(name, request.headers.get("Content-Type")),
        create_only=_create_only(),
    )
    return _uploaded([stored])


def _uploaded(stored: Sequence[files.Upload]) -> Response:
    names = ", ".join(one.name for one in stored)
    return answer(
        f"Successfully uploaded '{names}' to the bucket '{services().store.bucket}'",
        [asdict(one) for one in stored],
    )


def _content_type(name: str, given: str | None) -> str:
    """The one media type that the client says, or a guess where it says none, or that it does not know.

    Raises `InvalidContentType`.
    """
    if not given:
        return files.guess_content_type(name)
    kind = headers.media_type(given)
    if kind is None:
        raise files.InvalidContentType(
            "The content type is not a media type, such as 'text/plain; charset=utf-8'; "
            "correct it, or leave it out"
        )
    unknown = kind.partition(";")[0] in (UNKNOWN_TYPE, "application/x-www-form-urlencoded")
    return files.guess_content_type(name) if unknown else kind


def _create_only() -> bool:
    given = request.headers.get("If-None-Match")
    if given not in (None, "*") or "If-Match" in request.headers:
        raise BadRequest("An upload understands one condition: 'If-None-Match: *'")
    return given == "*"


def _wanted_digest() -> str | None:
    """The SHA-256, in hex, of RFC 9530's Content-Digest; None without one."""
    given = request.headers.get("Content-Digest")
    if given is None:
        return None
    digest = headers.sha256_digest(given)
    if digest is None:
        raise BadRequest("The Content-Digest header must hold 'sha-256=:<base64 of 32 bytes>:', and once")
    return digest


def _stop_waiting_for_a_stalled_client() -> None:
    """A body that stops coming, or an answer that nobody reads, must not hold its place without an end."""
    socket = request.environ.get("gunicorn.socket")
    if socket is not None:
        socket.settimeout(services().settings.client_stall_seconds)


# --- uploads direct to S3


@bp.post("/uploads")
@json_body(SMALL)
@bp.input(UploadPlanRequest, arg_name="wanted")
@documented(413, 415, answers=UploadPlan)
def plan_upload(wanted: UploadPlanRequest) -> Response:
    """Plan an upload that goes to S3 directly: one presigned POST, or the parts of a multipart upload."""
    at = services()
    name = files.check_name(wanted.name)
    caller().require("write", name)
    if wanted.size > at.settings.max_file_bytes:
        raise files.too_large(at.settings.max_file_bytes)
    content_type = _content_type(name, wanted.content_type)
    plan: dict[str, Any]
    # S3 replaces '${filename}' in the key of a POST by the sender's own name for the file.
    if wanted.size < at.settings.multipart_threshold_bytes and "${filename}" not in name:
        post = at.store.sign_post(
            name, wanted.size, content_type, wanted.sha256, at.settings.upload_url_seconds
        )
        plan = {"method": "POST", "url": post.url, "fields": dict(post.fields)}
        plan["expires_at"] = _iso(post.expires_at)
    else:
        parts, started = files.plan_parts(at.store, name, wanted.size, content_type, wanted.sha256)
        plan = {"method": "MULTIPART", "id": at.signer.upload_id(parts), "part_size": parts.part_size}
        plan |= {"parts": parts.parts, "md5_etags": started.md5_etags}
    return answer(f"Successfully planned the upload of '{name}' to the bucket '{at.store.bucket}'", plan)


@bp.post("/uploads/<upload_id>/parts")
@json_body(SMALL)
@bp.input(PartUrlsRequest, arg_name="wanted")
@documented(404, 413, 415, answers=PartUrls)
def sign_parts(upload_id: str, wanted: PartUrlsRequest) -> Response:
    """Presign the URLs of parts; PUT each part's bytes to its URL."""
    at, plan = _open_plan(upload_id)
    signed = at.store.sign_parts(plan, wanted.parts, at.settings.upload_url_seconds)
    return answer(
        f"Successfully generated presigned urls for parts of '{plan.name}'",
        [
            {
                "number": number,
                "url": one.url,
                "size": plan.size_of(number),
                "expires_at": _iso(one.expires_at),
            }
            for number, one in zip(wanted.parts, signed, strict=True)
        ],
    )


@bp.get("/uploads/<upload_id>/parts")
@documented(404, answers=UploadedParts)
def list_parts(upload_id: str) -> Response:
    """List the parts that S3 has received, so that an upload can be resumed."""
    at, plan = _open_plan(upload_id)
    parts = [asdict(part) for part in at.store.list_parts(plan)]
    return answer(f"Successfully listed the received parts of '{plan.name}'", parts)


@bp.post("/uploads/<upload_id>/complete")
@documented(404, answers=Completed)
def complete_upload(upload_id: str) -> Response:
    """Complete a multipart upload from the parts that S3 has received; safe to repeat.

    An upload that is gone is confirmed only while its own file is there: a file of the same name that came
    another way answers 404.
    """
    at, plan = _open_plan(upload_id)
    etag = files.complete_upload(at.store, plan)
    return answer(
        f"Successfully uploaded '{plan.name}' to the bucket '{at.store.bucket}'",
        {"name": plan.name, "size": plan.size, "etag": etag},
    )


@bp.delete("/uploads/<upload_id>")
@documented(404, answers=Aborted, others={409: "The upload was completed before; its file stays"})
def abort_upload(upload_id: str) -> Response:
    """Abort a multipart upload and drop its parts; safe to repeat.

    `aborted` is false when there was nothing to abort any more. A completed upload answers 409
    `upload_completed`, and its file stays.
    """
    at, plan = _open_plan(upload_id)
    aborted = files.abort_upload(at.store, plan)
    message = (
        f"Successfully aborted the upload of '{plan.name}'"
        if aborted
        else f"There was no upload of '{plan.name}' to abort any more; it was aborted before, or has expired"
    )
    return answer(message, {"name": plan.name, "aborted": aborted})


def _open_plan(upload_id: str) -> tuple[Services, files.PartPlan]:
    at = services()
    plan = at.signer.read_upload_id(upload_id)
    caller().require("write", plan.name)
    return at, plan


def _iso(moment: datetime) -> str:
    return moment.replace(microsecond=0).isoformat().replace("+00:00", "Z")


# --- downloads


@bp.get("/download/<name:name>")
@bp.input(DownloadQuery, location="query", arg_name="query")
@documented(404, answers=PresignedUrl, others={302: "To the presigned URL, with `redirect=true`"})
def download(name: str, query: DownloadQuery) -> Response:
    """Hand out a presigned URL of the file, which S3 itself serves until it expires."""
    at = services()
    files.check_name(name)
    caller().require("read", name)
    if query.check:
        kind = _servable(at.store.open(name, files.Conditions(), with_body=False).content_type)
    else:
        kind = files.guess_content_type(name)
    # Without a type in the URL, S3 answers with the one that is stored when the URL is used. What is shown
    # inline must be of the type that was judged here.
    shown = not query.attachment and _is_inline(kind)
    signed = at.store.sign_download(
        name,
        at.settings.download_url_seconds,
        _disposition(name, kind if shown else UNKNOWN_TYPE),
        kind if shown or query.check else None,
    )
    if query.redirect:
        response = Response(status=302, headers={"Location": signed.url})
    else:
        message = f"Successfully generated presigned url for '{name}'"
        response = answer(message, signed.url, expires_at=_iso(signed.expires_at))
    response.headers["Cache-Control"] = "no-store"
    return response


@bp.get("/files/<name:name>")
@documented(404, 412, 416, others={206: "The range that was asked for", 304: "The client has the file"})
def read_file(name: str) -> Response:
    """Serve the file's bytes through the service, for clients that cannot reach S3.

    Understands Range, If-Range, If-Match, If-None-Match, If-Modified-Since and If-Unmodified-Since. Answers
    with `Repr-Digest`, the SHA-256 of the whole file, where its sender gave one and it was checked. What the
    sender of a multipart upload declared is in `X-Declared-SHA-256`, in hex; nothing has checked it.
    """
    at = services()
    files.check_name(name)
    caller().require("read", name)
    with_body = request.method != "HEAD"
    opened = files.open_file(at.store, name, _conditions(), _if_range(), with_body=with_body)
    status = 206 if opened.content_range else 200
    kind = _servable(opened.content_type)
    response = Response(opened.chunks, status, content_type=kind)
    response.headers.update(
        {
            "Content-Length": str(opened.length),
            "ETag": f'"{opened.file.etag}"',
            "Last-Modified": http_date(opened.file.last_modified),
            "Accept-Ranges": "bytes",
            "Content-Disposition": _disposition(name, kind),
            "Content-Security-Policy": "sandbox",
            "Cache-Control": "private, no-cache",
        }
    )
    if opened.content_range:
        response.headers["Content-Range"] = opened.content_range
    if opened.sha256 and _SHA256_HEX.fullmatch(opened.sha256):
        digest = base64.b64encode(bytes.fromhex(opened.sha256)).decode()
        response.headers["Repr-Digest"] = f"sha-256=:{digest}:"
    if opened.declared_sha256 and _SHA256_HEX.fullmatch(opened.declared_sha256):
        response.headers["X-Declared-SHA-256"] = opened.declared_sha256
    return response


def _conditions() -> Conditions:
    header = request.headers.get
    return Conditions(
        byte_range=headers.byte_range(header("Range")),
        if_match=header("If-Match"),
        if_none_match=header("If-None-Match"),
        if_modified_since=headers.date(header("If-Modified-Since")),
        if_unmodified_since=headers.date(header("If-Unmodified-Since")),
    )


def _if_range() -> str | datetime | None:
    given = request.headers.get("If-Range")
    return headers.date(given) or given


def _servable(content_type: str) -> str:
    """A stored type in canonical form; another client of S3 may have stored anything."""
    return headers.media_type(content_type) or UNKNOWN_TYPE


def _is_inline(content_type: str) -> bool:
    """Whether a browser may show it by itself. Takes a type in canonical form."""
    return INLINE.fullmatch(content_type.partition(";")[0]) is not None


def _disposition(name: str, content_type: str) -> str:
    """RFC 6266: inline for what is on the list, else a download; the name in ASCII, if need be in full."""
    kind = "inline" if _is_inline(content_type) else "attachment"
    own_name = name.rstrip("/").rpartition("/")[2] or "file"
    plain = re.sub(r'[^\x20-\x7e]|["%]', "_", own_name)
    value = f'{kind}; filename="{plain}"'
    if plain != own_name:
        value += f"; filename*=UTF-8''{quote(own_name, safe='')}"
    return value


# --- deleting


@bp.delete("/delete/<name:name>")
@documented(404)
def delete(name: str) -> Response:
    """Delete one file."""
    at = services()
    files.check_name(name)
    caller().require("delete", name)
    files.delete_file(at.store, name)
    return answer(f"Successfully deleted file '{name}' on s3 bucket '{at.store.bucket}'")


@bp.post("/delete")
@json_body(LARGE)
@bp.input(DeleteRequest, arg_name="wanted")
@documented(413, 415, answers=DeleteResults)
def delete_many(wanted: DeleteRequest) -> Response:
    """Delete up to 1,000 files; each has its own result, and a missing one is no error."""
    at = services()
    names = [files.check_name(name) for name in wanted.files]
    caller().require("delete", *names)
    results = files.delete_files(at.store, names)
    deleted = sum(code is None for code in results.values())
    return answer(
        f"Successfully deleted {deleted} of {len(results)} files on s3 bucket '{at.store.bucket}'",
        [
            {"name": name, "deleted": code is None, **({"code": code} if code else {})}
            for name, code in results.items()
        ],
    )


@bp.post("/restore/<name:name>")
@documented(404, 409, answers=RestoredFile)
def restore(name: str) -> Response:
    """Undelete a file, where the bucket keeps versions; never over a file that is there.

    409 `file_not_deleted` when there is a file, also one that was stored meanwhile. 409 `versioning_off` when
    the bucket kept no version of what was deleted.
    """
    at = services()
    files.check_name(name)
    caller().require("write", name)
    restored = at.store.restore(name)
    return answer(f"Successfully restored file '{name}' on s3 bucket '{at.store.bucket}'", _details(restored))
