"""The forms of POST /upload: read from the request, checked, and their files staged on disk."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, cast

from flask import request
from werkzeug.datastructures import Headers, MultiDict
from werkzeug.exceptions import BadRequest, RequestEntityTooLarge, UnsupportedMediaType
from werkzeug.formparser import MultiPartParser
from werkzeug.http import parse_options_header
from werkzeug.sansio.multipart import File

from s3api import failures, headers, write_headers
from s3api.bodies import Body, Received
from s3api.names import check_name, check_prefix
from s3api.staging import StagedFile

MAX_PARTS = 100
BUFFER_BYTES = 128 * 1024
MAX_FIELD_BYTES = 2 * BUFFER_BYTES  # the parser's buffer has the same limit
MAX_OVERHEAD = 1024 * 1024  # boundaries, headers and fields, in addition to the files
_BACKSLASH = re.compile(r'\\(?!")')
#: Text fields that say nothing about the file: a button of an HTML form, and tokens against foreign forms
#: (Flask-WTF, Django, Spring, Laravel, Rails). Every other field that is not known is refused.
IGNORED = frozenset({"submit", "csrf_token", "csrfmiddlewaretoken", "_csrf", "_token", "authenticity_token"})
_FLOW = ("ChunkNumber", "ChunkSize", "CurrentChunkSize", "TotalSize", "Type", "Identifier")
#: The fields that a browser widget adds to each piece of a file, by its field with the number of pieces. A
#: file in one piece is whole. These are Dropzone, Resumable.js, Flow.js, simple-uploader.js, Plupload and
#: Fine Uploader.
WIDGETS: Mapping[str, Sequence[str]] = {
    "dztotalchunkcount": ("dzuuid", "dzchunkindex", "dztotalfilesize", "dzchunksize", "dzchunkbyteoffset"),
    "resumableTotalChunks": [f"resumable{name}" for name in _FLOW],
    "flowTotalChunks": [f"flow{name}" for name in _FLOW],
    "totalChunks": [name[0].lower() + name[1:] for name in _FLOW],
    "chunks": ("chunk",),
    "qqtotalparts": ("qqpartindex", "qqpartbyteoffset", "qqchunksize"),
}
#: Fields of the same widgets that name the file. The name in the part counts, so they must repeat it.
SAME_NAME = frozenset(
    {
        *("name", "filename", "relativePath", "qqfilename"),
        *(f"{widget}{field}" for widget in ("resumable", "flow") for field in ("Filename", "RelativePath")),
    }
)
#: Fine Uploader adds these fields to every file.
_OF_WHOLE_FILES = frozenset({"qquuid", "qqtotalfilesize"})
_DISPOSITION = (
    "A Content-Disposition in the form is not valid (RFC 7578, section 4.2): it is form-data, with one name "
    "and at most one filename, each in quotation marks. A filename* is UTF-8 (RFC 8187)"
)
HINT = (
    "Send the file in a form field named 'file', as `curl -F file=@name` does, or the raw body with "
    "PUT /upload/<file>"
)


@dataclass
class _FormBody(Received):
    """The body of a form. Everything but its files is held in memory, so it has a limit."""

    staged: Sequence[StagedFile]

    def read(self, amount: int = -1) -> bytes:
        """Raises `RequestEntityTooLarge` as well."""
        data = super().read(amount)
        # The parser can still hold the last two buffers.
        held = self.received - sum(file.size for file in self.staged) - 2 * BUFFER_BYTES
        if held > MAX_OVERHEAD:
            raise RequestEntityTooLarge
        return data


@dataclass(frozen=True, slots=True)
class FormFile:
    """A file of a form, staged on disk. `name` is the name to store it under."""

    name: str
    content_type: str
    staged: StagedFile
    kept: Mapping[str, str]

    @contextmanager
    def open(self) -> Iterator[Body]:
        """Open the file at its start. Its descriptor is closed afterwards."""
        self.staged.seek(0)
        size = self.staged.size
        yield Body(self.staged.stream, size, size, self.staged.hexdigest())
        self.staged.finish()


def read(new_file: Callable[[], StagedFile], length: int | None) -> list[FormFile]:
    """Read the form of this request and stage its files. The body has `length` bytes, or None if unknown.

    Raises `FileError`, or an exception of Werkzeug, if the form is not valid.
    """
    fields, parts = _parse(new_file, length)
    if not parts or not all(part.own_name for part in parts):
        raise failures.FileNotFound("The file '' was not found", hint=_hint(fields))
    _check_fields(fields, parts)
    prefix = check_prefix(fields.get("prefix", ""))
    found = [
        FormFile(check_name(prefix + part.own_name), part.content_type, part.staged, part.kept)
        for part in parts
    ]
    taken: set[str] = set()
    for file in found:
        if file.name in taken:
            raise failures.DuplicateName(
                f"The form has two files that would be stored as '{file.name}'; nothing was stored. "
                "Send them under different names"
            )
        taken.add(file.name)
    return found


@dataclass(frozen=True, slots=True)
class _Part:
    """A part named `file`: the last segment of its file name, and what is stored with the file."""

    own_name: str
    content_type: str
    staged: StagedFile
    kept: Mapping[str, str]


def _parse(new_file: Callable[[], StagedFile], length: int | None) -> tuple[MultiDict[str, str], list[_Part]]:
    """The text fields, and the parts named `file`."""
    mimetype, options = parse_options_header(request.headers.get("Content-Type"))
    mimetype = mimetype.lower()  # RFC 9110, section 8.3.1
    if mimetype != "multipart/form-data" or not options.get("boundary"):
        if not length or mimetype in ("", "application/x-www-form-urlencoded"):
            raise failures.FileNotFound("The file '' was not found", hint=HINT)
        raise UnsupportedMediaType("Send the file as multipart/form-data, as `curl -F file=@name` does")
    staged: list[StagedFile] = []

    def new_part(**_: object) -> StagedFile:
        staged.append(new_file())
        return staged[-1]

    parser = _FormParser(
        stream_factory=new_part,  # type: ignore[arg-type]
        max_form_memory_size=MAX_FIELD_BYTES,
        buffer_size=BUFFER_BYTES,
        max_form_parts=MAX_PARTS,
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
        raise failures.FileNotFound(
            "The file '' was not found", hint=f"{HINT}; this form has it in {_quoted(others[:3])}"
        )
    return fields, [_part(part.headers, cast(StagedFile, part.stream)) for part in parts.getlist("file")]


class _FormParser(MultiPartParser):
    """Werkzeug's parser, which checks the headers of each part before the part's bytes are kept."""

    def get_part_charset(self, headers: Headers) -> str:
        """Decode every byte of a field. The parser would replace bytes that are not valid."""
        if _check_part(headers).file_name is not None:
            raise BadRequest(_DISPOSITION)  # the parser reads it as a field
        return "latin-1"

    def start_file_streaming(self, event: File, total_content_length: int | None) -> IO[bytes]:
        _check_part(event.headers)
        return super().start_file_streaming(event, total_content_length)


def _part(part: Headers, staged: StagedFile) -> _Part:
    own_name = (_check_part(part).file_name or "").rpartition("/")[2]
    kind = write_headers.content_type(own_name, part.get("Content-Type"))
    return _Part(own_name, kind, staged, write_headers.kept_language(part.get("Content-Language")))


def _decoded_fields(raw: MultiDict[str, str]) -> MultiDict[str, str]:
    fields: MultiDict[str, str] = MultiDict()
    for name, value in raw.items(multi=True):
        try:
            fields.add(name, value.encode("latin-1").decode("utf-8"))
        except UnicodeDecodeError:
            raise BadRequest(f"The form's field {_quoted([name])} is not valid UTF-8") from None
    return fields


def _check_fields(fields: MultiDict[str, str], parts: Sequence[_Part]) -> None:
    """Refuse a form with a field that is not known, because the field could change what the form means.

    Such a field can say that the form has only a piece of a file, or another name, or a condition.
    """
    if len(fields.getlist("prefix")) > 1:
        raise BadRequest("The form has two prefixes; send one form for each")
    for name, values in fields.lists():
        if name in IGNORED:
            continue
        if name == "file" and values != ["{}"]:  # FilePond adds the file's metadata, which are empty
            raise BadRequest(f"Nothing was stored: the form's field 'file' is text. {HINT}")
        if len(values) > 1 or not _is_known(name, fields, parts):
            raise BadRequest(
                f"The form has a field that the service does not know: {_quoted([name])}; nothing was "
                "stored. It knows 'file' and 'prefix'. It joins no pieces of a file: switch chunking off, or "
                "use PUT /upload/<file> or POST /uploads"
            )


def _is_known(name: str, fields: Mapping[str, str], parts: Sequence[_Part]) -> bool:
    if name in SAME_NAME:
        return all(part.own_name == fields[name] for part in parts)
    if any(name in (total, *others) and fields.get(total) == "1" for total, others in WIDGETS.items()):
        return True
    return name in _OF_WHOLE_FILES or name in ("prefix", "file")


def _check_part(part: Headers) -> headers.FormPart:
    """Refuse a part whose headers say that it is not the plain file, or that can be read in two ways."""
    names = [name.lower() for name, _ in part]
    if repeated := next((name for name in names if names.count(name) > 1), None):
        raise BadRequest(f"A part of the form has the header {_quoted([repeated])} twice; send it once")
    disposition = headers.form_part(part.get("Content-Disposition", ""))
    if disposition is None:
        raise BadRequest(_DISPOSITION)
    # Browsers send a backslash without an escape, and other clients mean an escape.
    if _BACKSLASH.search(part.get("Content-Disposition", "")):
        raise failures.InvalidName("The file name contains a backslash")
    others = [name for name, _ in part if name.lower() != "content-disposition"]
    unsupported = write_headers.unsupported_in_write(others)
    for name in (*(unsupported or ())[:1], *(name for name in headers.DIGESTS if name in part)):
        raise BadRequest(f"A form's part takes no {name}; send the file with PUT /upload/<file>")
    if part.get("Content-Encoding", "identity").lower() != "identity":
        raise UnsupportedMediaType("A form's part takes no Content-Encoding; PUT /upload/<file> keeps it")
    if not headers.is_binary(part.get("Content-Transfer-Encoding")):
        raise UnsupportedMediaType(
            "A form's part takes no Content-Transfer-Encoding; send the bytes as they are"
        )
    return disposition


def _hint(fields: Mapping[str, str]) -> str:
    if "file" in fields:
        return f"The form's field 'file' is text. {HINT}: curl needs the @ before the name"
    return HINT


def _quoted(names: Sequence[str]) -> str:
    return ", ".join(f"'{name[:60]}'" for name in names)
