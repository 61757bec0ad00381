"""The HTTP contract: each view parses, makes one call, renders."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from http import HTTPStatus
from typing import Any, TypeVar, cast
from urllib.parse import quote, unquote_to_bytes

from apiflask import APIBlueprint
from flask import Response, current_app, g, request
from pydantic import BaseModel
from werkzeug.datastructures import Headers, MultiDict
from werkzeug.exceptions import (
    BadRequest,
    LengthRequired,
    NotFound,
    RequestEntityTooLarge,
    UnsupportedMediaType,
)
from werkzeug.formparser import MultiPartParser
from werkzeug.http import http_date, parse_options_header
from werkzeug.routing import BaseConverter

from s3api import files, headers
from s3api.auth import ANONYMOUS, Caller, Forbidden, Signer, Tokens
from s3api.errors import failure, status_of
from s3api.files import Body, FileStore, StoredFile
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
INLINE = re.compile(r"image/(png|jpeg|gif|webp|avif)|text/plain|application/pdf|(audio|video)/[a-z0-9.-]+")
UNKNOWN_TYPE = "application/octet-stream"
_SHA256_HEX = re.compile("[0-9a-f]{64}")
_BACKSLASH = re.compile(r'\\(?!")')
#: The views that heed preconditions; every other write refuses them.
CONDITIONAL = {"api.upload_raw", "api.complete_upload", "api.delete"}
#: What browser widgets add to each piece of a file, and the field with the number of pieces, which may be 1:
#: Dropzone, Resumable.js, Flow.js, Plupload, Fine Uploader, simple-uploader.js.
PIECES: Mapping[str, str] = {
    "dzchunkindex": "dztotalchunkcount",
    "resumableChunkNumber": "resumableTotalChunks",
    "flowChunkNumber": "flowTotalChunks",
    "chunk": "chunks",
    "chunks": "chunks",
    "qqpartindex": "qqtotalparts",
    "chunkNumber": "totalChunks",
}
_DIGEST_EXAMPLES = {"Digest": "SHA-256=<base64 of 32 bytes>", "Content-MD5": "<base64 of 16 bytes>"}
FORM_HINT = (
    "Send the file in a form field named 'file', as `curl -F file=@name` does, or the raw body with "
    "PUT /upload/<file>"
)
#: What a health check asks, under whatever name it has for this task.
PROBES = {"api.livez", "api.readyz"}
PUBLIC = {"api.index", *PROBES}
STATIC = {"pages"}
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

#: The query parameters of a route; the others have none.
QUERIES: Mapping[str | None, type[BaseModel]] = {"api.list_files": ListQuery, "api.download": DownloadQuery}
# What begins a target that names the host as well, and what no target contains.
_AUTHORITY = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]*://[^/?#]*")
_NOT_IN_TARGET = re.compile(r"[^A-Za-z0-9._~!$&'()*+,;=:@/?%-]|%(?![0-9A-Fa-f]{2})")

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
    *refusals: int, answers: type[BaseModel] = Envelope, others: Mapping[int, str] | None = None
) -> Callable[[View], View]:
    """What the OpenAPI document says of a view: its answers, and its name as the operation's id.

    Nothing of this has an effect at run time.
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


@bp.before_app_request
def admit() -> None:
    """Find out who asks for what, and refuse it where that is enough to know, before any view runs."""
    _stop_waiting_for_a_stalled_client()
    at = services()
    at.origins.check_host(request.environ, any_host=request.endpoint in PROBES)
    _check_target()
    _drop_invalid_dates()
    try:
        request.environ["PATH_INFO"].encode("latin-1").decode("utf-8")
        unquote_to_bytes(request.query_string).decode("utf-8")
    except UnicodeDecodeError:
        raise files.InvalidName("The URL is not valid UTF-8") from None
    if request.url_rule is None:
        return
    # These pages are no secret; but with nothing configured, nothing is served at all.
    if request.endpoint in PUBLIC or (request.blueprint in STATIC and at.tokens.configured):
        _check_query()
        return
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
        if request.method not in ("GET", "HEAD"):
            _refuse_what_would_be_ignored()
        _check_query()


def _refuse_what_would_be_ignored() -> None:
    """Refuse a write with a header that changes its meaning, and that its view does not heed."""
    if unsupported := headers.unsupported_in_write(request.headers.keys()):
        name, instead = unsupported
        raise BadRequest(f"The header {name} is not supported: {instead}")
    _check_transfer_encoding(request.headers)
    for name in headers.PRECONDITIONS:
        if name in request.headers and request.endpoint not in CONDITIONAL:
            raise BadRequest(f"This request takes no {name}: S3 has no condition for it; nothing was changed")
    if request.endpoint == "api.upload_raw":
        return
    for name in headers.DIGESTS:
        if name in request.headers:
            raise BadRequest(f"Only PUT /upload/<file> checks a {name}; leave it out; nothing was changed")
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise UnsupportedMediaType("Only PUT /upload/<file> takes a Content-Encoding; send the body as it is")


def _condition(*, any_file: bool = False) -> tuple[bool, str | None]:
    """Whether the file must not exist, and the ETag that it must have: what S3 holds without a race.

    `any_file` allows `If-Match: *`. RFC 9110, section 13.1.4: If-Unmodified-Since does not count together
    with If-Match, nor where it is no date.
    """
    if_match, if_none_match = request.headers.get("If-Match"), request.headers.get("If-None-Match")
    since = headers.date(request.headers.get("If-Unmodified-Since"))
    if since is not None and if_match is None:
        raise BadRequest("S3 cannot hold If-Unmodified-Since for a write; send If-Match with the file's ETag")
    if any_file and if_none_match is not None:
        raise BadRequest("A deletion understands one condition: If-Match")
    if if_none_match not in (None, "*") or (if_none_match and if_match):
        raise BadRequest("A write understands 'If-None-Match: *', or If-Match with one ETag")
    if if_match is None or (any_file and if_match.strip() == "*"):
        return if_none_match == "*", if_match and "*"
    etag = headers.strong_etag(if_match)
    if etag is None:
        raise BadRequest("If-Match must hold one strong ETag, with its quotes, as the file's own")
    return False, etag


def _check_target() -> None:
    """RFC 9112, section 3.2, and RFC 3986, section 3.3: the server would cut the target at a `#`."""
    raw = request.environ.get("RAW_URI", "")
    target = _AUTHORITY.sub("", raw)
    authority = raw[: len(raw) - len(target)].partition("://")[2]
    if authority and authority.lower() != request.environ.get("HTTP_HOST", "").lower():
        raise BadRequest("The URL and the Host header name different hosts")  # RFC 9112, section 3.2.2
    if target.startswith("//"):
        # The router would drop a slash. A proxy that keeps some paths to itself would not.
        raise NotFound
    if wrong := _NOT_IN_TARGET.search(target):
        escaped = quote(wrong[0], safe="", encoding="latin-1")
        raise BadRequest(f"The URL contains a raw '{wrong[0]}'; send it percent-encoded, as '{escaped}'")


def _drop_invalid_dates() -> None:
    """RFC 9110, sections 13.1.3 and 13.1.4: a date that is not valid is ignored, by the framework as well."""
    for header in ("HTTP_IF_MODIFIED_SINCE", "HTTP_IF_UNMODIFIED_SINCE"):
        if header in request.environ and headers.date(request.environ[header]) is None:
            del request.environ[header]


def _check_query() -> None:
    """A parameter that the route does not know, or that comes twice, would be ignored."""
    known = list(QUERIES[request.endpoint].model_fields) if request.endpoint in QUERIES else []
    if request.endpoint == "api.list_files" and _wants_lines():
        known = ["prefix"]  # the whole listing in one answer, in details
    for name, values in request.args.lists():
        if name not in known:
            there_are = f"it knows {', '.join(known)}" if known else "it knows none"
            raise BadRequest(f"This request knows no query parameter '{name[:100]}'; {there_are}")
        if len(values) > 1:
            raise BadRequest(f"The query parameter '{name}' is given {len(values)} times; give it once")


def _wants_lines() -> bool:
    return request.accept_mimetypes.best_match(["application/json", NDJSON]) == NDJSON


# --- the service itself


@bp.get("/")
@bp.doc(responses={status: HTTPStatus(status).phrase for status in (400, 421, 500)}, operation_id="greet")
@bp.output(Envelope)
def index() -> Response:
    """Say hello."""
    return answer(f"Successfully connected to {services().settings.project_name} upload/download API")


@bp.get("/livez")
@bp.doc(responses={status: HTTPStatus(status).phrase for status in (400, 500)}, operation_id="livez")
@bp.output(Envelope)
def livez() -> Response:
    """Tell that the process answers; touches nothing."""
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

    With `Accept: application/x-ndjson` the whole listing is streamed, one file's details on each line; of the
    parameters only `prefix` applies then.
    """
    at = services()
    prefix = files.check_prefix(query.prefix)
    caller().require("list", prefix)
    if _wants_lines():
        first = at.store.list_page(prefix, "", 1000, None)
        lines = _json_lines(files.walk(at.store, prefix, first))
        return Response(lines, mimetype=NDJSON, headers={"Vary": "Accept"})
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
    response.headers["Vary"] = "Accept"
    if following:
        asked = {**query.model_dump(exclude_defaults=True), "cursor": following}
        pairs = (f"{key}={quote(_query_value(value), safe='')}" for key, value in asked.items())
        # A relative reference (RFC 8288, section 3.1), which is right below every prefix of a proxy.
        response.headers["Link"] = f'<?{"&".join(pairs)}>; rel="next"'
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


def _json_lines(pages: Iterator[files.Page]) -> Iterator[bytes]:
    for page in pages:
        yield "".join(json.dumps(_details(file)) + "\n" for file in page.files).encode()


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
            raise files.FileNotFound("The file '' was not found", hint=_form_hint(fields))
        wanted = [
            (files.check_name(prefix + own), content_type, staged) for own, content_type, staged in parts
        ]
        taken: set[str] = set()
        for name, _, _ in wanted:
            if name in taken:
                raise files.DuplicateName(
                    f"The form has two files that would be stored as '{name}'; nothing was stored. "
                    "Send them under different names"
                )
            taken.add(name)
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
    mimetype = mimetype.lower()  # RFC 9110, section 8.3.1
    if mimetype != "multipart/form-data" or not options.get("boundary"):
        if not length or mimetype in ("", "application/x-www-form-urlencoded"):
            raise files.FileNotFound("The file '' was not found", hint=FORM_HINT)
        raise UnsupportedMediaType("Send the file as multipart/form-data, as `curl -F file=@name` does")
    staged: list[StagedFile] = []

    def new_part(**_: object) -> StagedFile:
        staged.append(new_file())
        return staged[-1]

    parser = _FormParser(
        stream_factory=new_part,  # type: ignore[arg-type]
        max_form_memory_size=MAX_FIELD_BYTES,
        buffer_size=FORM_BUFFER,
        max_form_parts=MAX_FORM_PARTS,
    )
    body = _FormBody(request.environ["wsgi.input"], length, staged)
    try:
        raw, parts = parser.parse(body, options["boundary"].encode("latin-1"), length)  # type: ignore[arg-type]
    except UnicodeDecodeError:
        raise BadRequest("A header in the form, such as a file name, is not valid UTF-8") from None
    except ValueError:
        raise BadRequest("The form is not valid multipart/form-data, or ends too early") from None
    fields = _decoded_fields(raw)
    others = sorted({name for name in parts if name != "file"})
    if others and "file" in parts:
        raise BadRequest(
            f"The form has a file in the field {_quoted(others[:1])}; files come in fields named 'file'. "
            "Nothing was stored"
        )
    if others:
        raise files.FileNotFound(
            "The file '' was not found", hint=f"{FORM_HINT}; this form has it in {_quoted(others[:3])}"
        )
    named = []
    for part in parts.getlist("file"):
        _check_part(part.headers)
        # Browsers send a backslash as it is; the parser would drop it, and so change the name.
        if _BACKSLASH.search(part.headers.get("Content-Disposition", "")):
            raise files.InvalidName("The file name contains a backslash")
        own_name = (part.filename or "").rpartition("/")[2]
        named.append((own_name, _content_type(own_name, part.content_type), cast(StagedFile, part.stream)))
    return fields, named


class _FormParser(MultiPartParser):
    def get_part_charset(self, headers: object) -> str:  # noqa: ARG002
        """Keep the bytes of a field: the parser itself would replace what is not valid."""
        return "latin-1"


def _decoded_fields(raw: MultiDict[str, str]) -> MultiDict[str, str]:
    """The fields of a form. Refuses those that would make it something else than whole files."""
    fields: MultiDict[str, str] = MultiDict()
    for name, value in raw.items(multi=True):
        try:
            fields.add(name, value.encode("latin-1").decode("utf-8"))
        except UnicodeDecodeError:
            raise BadRequest(f"The form's field {_quoted([name])} is not valid UTF-8") from None
    if len(fields.getlist("prefix")) > 1:
        raise BadRequest("The form has two prefixes; send one form for each")
    given = {**request.args.to_dict(), **fields.to_dict()}  # some widgets send these in the query
    for field, total in PIECES.items():
        if field in given and given.get(total) != "1":
            raise BadRequest(
                f"The form sends a piece of a file ({field}), and the service does not join pieces; nothing "
                "was stored. Switch chunking off, or use PUT /upload/<file> or POST /uploads"
            )
    return fields


def _check_part(part: Headers) -> None:
    """Refuse a part of a form that is not the file as it is."""
    others = [name for name in part.keys() if name.lower() != "content-disposition"]  # noqa: SIM118 - pairs
    unsupported = headers.unsupported_in_write(others)
    for name in (*(unsupported or ())[:1], *(name for name in headers.DIGESTS if name in part)):
        raise BadRequest(f"A form's part takes no {name}; send the file with PUT /upload/<file>")
    if part.get("Content-Encoding", "identity").lower() != "identity":
        raise UnsupportedMediaType("A form's part takes no Content-Encoding; PUT /upload/<file> keeps it")
    _check_transfer_encoding(part)


def _check_transfer_encoding(given: Headers) -> None:
    """A header of mail, not of HTTP (RFC 7578, section 4.7): base64 would be stored as it is."""
    if given.get("Content-Transfer-Encoding", "binary").lower() not in ("binary", "7bit", "8bit"):
        raise UnsupportedMediaType("Content-Transfer-Encoding is not supported; send the bytes as they are")


def _form_hint(fields: Mapping[str, str]) -> str:
    if "file" in fields:
        return f"The form's field 'file' is text. {FORM_HINT}: curl needs the @ before the name"
    return FORM_HINT


def _quoted(names: Sequence[str]) -> str:
    return ", ".join(f"'{name[:60]}'" for name in names)


@bp.put("/upload/<name:name>")
@documented(409, 411, 412, 413, 415, answers=UploadedFiles)
def upload_raw(name: str) -> Response:
    """Upload the raw body of the request, streamed to S3: no disk, bounded memory.

    `If-None-Match: *` creates or answers 412; `If-Match` with one ETag replaces that file or answers 412. A
    `Content-Digest`, `Repr-Digest`, `Digest` or `Content-MD5` that does not match stores nothing.
    `Content-Encoding` and `Content-Language` stay with the file. A header that would change the meaning of
    the upload and is not supported, such as `Content-Range`, is 400.
    """
    at = services()
    files.check_name(name)
    caller().require("write", name)
    length = request.content_length
    if length is None and "chunked" not in request.headers.get("Transfer-Encoding", "").lower():
        raise LengthRequired("Send a Content-Length, or the body chunked")
    given = request.headers.get("Content-Type")
    if parse_options_header(given)[0].lower() == "multipart/form-data":
        raise UnsupportedMediaType("PUT stores the body as it is; send a form with POST /upload")
    content_type, kept = _content_type(name, given), _kept()
    create_only, if_match = _condition()
    digests = _wanted_digests()
    sha256 = digests.pop("sha-256", None)
    body = Body(request.environ["wsgi.input"], length, at.settings.max_file_bytes, sha256, digests=digests)
    if if_match is not None:
        files.check_match(name, files.find(at.store, name), if_match)
    stored = at.store.put(name, body, content_type, create_only=create_only, if_match=if_match, kept=kept)
    return _uploaded([stored])


def _kept() -> dict[str, str]:
    """The headers of a PUT that stay with the file, in addition to its content type."""
    kept = _kept_encoding(request.headers.get("Content-Encoding"))
    given = request.headers.get("Content-Language")
    if given is not None:
        language = headers.content_language(given)
        if language is None:
            raise BadRequest("The Content-Language is not a list of language tags, such as 'de' or 'pt-BR'")
        kept["Content-Language"] = language
    return kept


def _kept_encoding(given: str | None) -> dict[str, str]:
    if given is None:
        return {}
    encoding = headers.content_encoding(given)
    if encoding is None:
        raise UnsupportedMediaType("The Content-Encoding is not a list of codings, such as 'gzip'")
    if "aws-chunked" in encoding.split(", "):
        # Of S3's own protocol; what it wraps is not the file.
        raise UnsupportedMediaType("The Content-Encoding 'aws-chunked' is for S3 itself; send the plain body")
    return {"Content-Encoding": encoding} if encoding else {}


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


def _wanted_digests() -> dict[str, str]:
    """The digests of the body that the client gives, in hex, by the algorithms' names in RFC 9530."""
    found: dict[str, str] = {}
    for header in headers.DIGESTS:
        value = request.headers.get(header)
        if value is None:
            continue
        given = headers.digests(header, value)
        if not given:
            raise BadRequest(
                f"The {header} header holds no digest that the service can check, such as "
                f"'{_DIGEST_EXAMPLES.get(header, 'sha-256=:<base64 of 32 bytes>:')}'"
            )
        for algorithm, digest in given.items():
            if found.setdefault(algorithm, digest) != digest:
                raise BadRequest(f"Two headers give different digests ({algorithm}) of one body")
    return found


def _stop_waiting_for_a_stalled_client() -> None:
    """A body that stops coming, or an answer that is not read, must not hold its place without an end."""
    socket = request.environ.get("gunicorn.socket")
    if socket is not None:
        socket.settimeout(services().settings.client_stall_seconds)


# --- uploads direct to S3


@bp.post("/uploads")
@json_body(SMALL)
@bp.input(UploadPlanRequest, arg_name="wanted")
@documented(413, 415, answers=UploadPlan)
def plan_upload(wanted: UploadPlanRequest) -> Response:
    """Plan an upload that goes to S3 directly: one presigned POST, or the parts of a multipart upload.

    A name with `${filename}`, which S3 would replace in a POST, is planned in parts, or with
    `multipart: false` as one presigned PUT.
    """
    at = services()
    name = files.check_name(wanted.name)
    caller().require("write", name)
    if wanted.size > at.settings.max_file_bytes:
        raise files.too_large(at.settings.max_file_bytes)
    content_type, kept = _content_type(name, wanted.content_type), _kept_encoding(wanted.content_encoding)
    # S3 replaces '${filename}' in the key of a POST by the sender's own name for the file, and has no escape.
    # https://docs.aws.amazon.com/AmazonS3/latest/API/RESTObjectPOST.html
    replaced = "${filename}" in name
    plan: dict[str, Any]
    if _in_parts(wanted, at.settings.multipart_threshold_bytes, replaced=replaced):
        parts, started = files.plan_parts(
            at.store, name, wanted.size, content_type, wanted.sha256, part_size=wanted.part_size, kept=kept
        )
        plan = {"method": "MULTIPART", "multipart": True, "id": at.signer.upload_id(parts)}
        plan |= {"part_size": parts.part_size, "parts": parts.parts, "md5_etags": started.md5_etags}
    else:
        described = (name, wanted.size, content_type, wanted.sha256, at.settings.upload_url_seconds)
        if replaced:
            put = at.store.sign_put(*described, kept=kept)
            plan = {"method": "PUT", "multipart": False, "url": put.url, "headers": dict(put.headers)}
            plan["expires_at"] = _iso(put.expires_at)
        else:
            post = at.store.sign_post(*described, kept=kept)
            plan = {"method": "POST", "multipart": False, "url": post.url, "fields": dict(post.fields)}
            plan["expires_at"] = _iso(post.expires_at)
    return answer(f"Successfully planned the upload of '{name}' to the bucket '{at.store.bucket}'", plan)


def _in_parts(wanted: UploadPlanRequest, threshold: int, *, replaced: bool) -> bool:
    if wanted.multipart is None:
        return wanted.part_size is not None or wanted.size >= threshold or replaced
    if not wanted.multipart and wanted.part_size is not None:
        raise BadRequest("A part_size is for a multipart upload; leave it out, or set multipart to true")
    if not wanted.multipart and wanted.size > files.MAX_SINGLE_PUT_BYTES:
        raise BadRequest(f"Above {files.MAX_SINGLE_PUT_BYTES} bytes S3 takes a file in parts only")
    return wanted.multipart


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
@documented(404, 409, 412, 415, answers=Completed)
def complete_upload(upload_id: str) -> Response:
    """Complete a multipart upload from the parts that S3 has received; safe to repeat.

    `If-None-Match: *` creates the file or answers 412; `If-Match` with one ETag replaces that file or answers
    412, and the upload stays open.

    An upload that is gone is confirmed only while its own file is there: a file of the same name that came
    another way answers 404.
    """
    at, plan = _open_plan(upload_id)
    create_only, if_match = _condition()
    etag = files.complete_upload(at.store, plan, create_only=create_only, if_match=if_match)
    return answer(
        f"Successfully uploaded '{plan.name}' to the bucket '{at.store.bucket}'",
        {"name": plan.name, "size": plan.size, "etag": etag},
    )


@bp.delete("/uploads/<upload_id>")
@documented(404, 415, answers=Aborted, others={409: "The upload was completed before; its file stays"})
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
    stored: Mapping[str, str] = {}
    if query.check:
        opened = at.store.open(name, files.Conditions(), with_body=False)
        kind, stored = _servable(opened.content_type), opened.stored_headers
    else:
        kind = files.guess_content_type(name)
    # Without a type in the URL, S3 answers with the one that is stored when the URL is used. What is shown
    # inline must be of the type that was judged here.
    shown = not query.attachment and _is_inline(kind)
    signed = at.store.sign_download(
        name,
        at.settings.download_url_seconds,
        _disposition(name, kind if shown else UNKNOWN_TYPE, stored.get("Content-Disposition")),
        kind if shown or query.check else None,
        # A signature is good for one method (AWS: "Signature Calculations for the Authorization Header").
        method="HEAD" if query.redirect and request.method == "HEAD" else "GET",
    )
    if query.redirect:
        response = Response(status=302, headers={"Location": signed.url})
    else:
        message = f"Successfully generated presigned url for '{name}'"
        response = answer(message, signed.url, expires_at=_iso(signed.expires_at))
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
    try:
        opened = files.open_file(at.store, name, _conditions(), with_body=with_body)
    except files.NotModified as unmodified:
        if unmodified.opened is None:
            raise
        return Response(status=304, headers=_validators(unmodified.opened))
    status = 206 if opened.content_range else 200
    kind = _servable(opened.content_type)
    response = Response(opened.chunks, status, content_type=kind)
    response.headers.update(
        {
            "Content-Length": str(opened.length),
            "Accept-Ranges": "bytes",
            "Content-Disposition": _disposition(name, kind, opened.stored_headers.get("Content-Disposition")),
            **_validators(opened),
        }
    )
    # RFC 9110, section 8.4: the bytes are those that are stored, and so is their coding. RFC 9530, section 3:
    # Repr-Digest is of the bytes in that coding.
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


def _validators(opened: files.OpenFile) -> dict[str, str]:
    """What a 304 says as well, which a cache takes over. RFC 9110, section 15.4.5; RFC 9111, section 3.2."""
    stored = opened.stored_headers.get("Cache-Control")
    private = caller() is not ANONYMOUS
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


def _servable(content_type: str) -> str:
    """A stored type in canonical form; another client of S3 may have stored anything."""
    return headers.media_type(content_type) or UNKNOWN_TYPE


def _is_inline(content_type: str) -> bool:
    """Whether a browser may show it by itself. Takes a type in canonical form."""
    return INLINE.fullmatch(content_type.partition(";")[0]) is not None


def _disposition(name: str, content_type: str, stored: str | None = None) -> str:
    """RFC 6266: inline for what is on the list, else a download; the name in ASCII, if need be in full.

    What is `stored` can give the file another name, or make a download of it; never show it inline.
    """
    asked, options = parse_options_header(stored)
    kind = "inline" if _is_inline(content_type) and asked in ("", "inline") else "attachment"
    own_name = name.rstrip("/").rpartition("/")[2] or "file"
    with suppress(files.InvalidName):
        own_name = files.check_name((options.get("filename") or "").rpartition("/")[2])
    plain = re.sub(r'[^\x20-\x7e]|["%]', "_", own_name)
    value = f'{kind}; filename="{plain}"'
    if plain != own_name:
        value += f"; filename*=UTF-8''{quote(own_name, safe='')}"
    return value


# --- deleting


@bp.delete("/delete/<name:name>")
@documented(404, 412, 415)
def delete(name: str) -> Response:
    """Delete one file; with `If-Match` only while it has that ETag."""
    at = services()
    files.check_name(name)
    caller().require("delete", name)
    _, if_match = _condition(any_file=True)
    files.delete_file(at.store, name, if_match)
    return answer(f"Successfully deleted file '{name}' on s3 bucket '{at.store.bucket}'")


@bp.post("/delete")
@json_body(LARGE)
@bp.input(DeleteRequest, arg_name="wanted")
@documented(413, 415, answers=DeleteResults)
def delete_many(wanted: DeleteRequest) -> Response:
    """Delete up to 1,000 files; each has its own result, and a missing one is no error.

    A name that is not allowed is a result too, `invalid_file_name`. A name that the token may not delete
    refuses the whole request.
    """
    at = services()
    caller().require("delete", *filter(files.is_name, wanted.files))
    results = files.delete_files(at.store, wanted.files)
    deleted = sum(code is None for code in results.values())
    return answer(
        f"Successfully deleted {deleted} of {len(results)} files on s3 bucket '{at.store.bucket}'",
        [
            {"name": _shown(name), "deleted": code is None, **({"code": code} if code else {})}
            for name, code in results.items()
        ],
    )


def _shown(name: str) -> str:
    """A name as an answer repeats it: whole, unless it is far too long to be one."""
    longest = 4 * files.MAX_NAME_BYTES
    return name if len(name) <= longest else f"{name[:longest]}…"


@bp.post("/restore/<name:name>")
@documented(404, 409, 415, answers=RestoredFile)
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
