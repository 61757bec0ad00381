"""The forms of POST /upload: read from the request, checked, and their files staged on disk."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import cast

from flask import request
from werkzeug.datastructures import Headers, MultiDict
from werkzeug.exceptions import BadRequest, RequestEntityTooLarge, UnsupportedMediaType
from werkzeug.formparser import MultiPartParser
from werkzeug.http import parse_options_header

from s3api import failures, headers, write_headers
from s3api.bodies import Body, Received
from s3api.names import check_name, check_prefix
from s3api.staging import StagedFile

MAX_PARTS = 100
BUFFER_BYTES = 128 * 1024
MAX_FIELD_BYTES = 2 * BUFFER_BYTES  # the parser's buffer has the same limit
MAX_OVERHEAD = 1024 * 1024  # boundaries, headers and fields, in addition to the files
_BACKSLASH = re.compile(r'\\(?!")')
#: The field that a browser widget adds to each piece of a file, and its field with the number of pieces,
#: which can be 1. Dropzone, Resumable.js, Flow.js, Plupload, Fine Uploader and simple-uploader.js have them.
PIECES: Mapping[str, str] = {
    "dzchunkindex": "dztotalchunkcount",
    "resumableChunkNumber": "resumableTotalChunks",
    "flowChunkNumber": "flowTotalChunks",
    "chunk": "chunks",
    "chunks": "chunks",
    "qqpartindex": "qqtotalparts",
    "chunkNumber": "totalChunks",
}
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
    prefix = check_prefix(fields.get("prefix", ""))
    if not parts or not all(own_name for own_name, _, _ in parts):
        raise failures.FileNotFound("The file '' was not found", hint=_hint(fields))
    found = [FormFile(check_name(prefix + own_name), kind, staged) for own_name, kind, staged in parts]
    taken: set[str] = set()
    for file in found:
        if file.name in taken:
            raise failures.DuplicateName(
                f"The form has two files that would be stored as '{file.name}'; nothing was stored. "
                "Send them under different names"
            )
        taken.add(file.name)
    return found


def _parse(
    new_file: Callable[[], StagedFile], length: int | None
) -> tuple[MultiDict[str, str], list[tuple[str, str, StagedFile]]]:
    """The fields; and for each part named `file`, its file name, its content type and its staged file."""
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
    named = []
    for part in parts.getlist("file"):
        _check_part(part.headers)
        # Browsers send a backslash without an escape. The parser would drop it, and so change the name.
        if _BACKSLASH.search(part.headers.get("Content-Disposition", "")):
            raise failures.InvalidName("The file name contains a backslash")
        own_name = (part.filename or "").rpartition("/")[2]
        named.append(
            (own_name, write_headers.content_type(own_name, part.content_type), cast(StagedFile, part.stream))
        )
    return fields, named


class _FormParser(MultiPartParser):
    def get_part_charset(self, headers: object) -> str:  # noqa: ARG002 - the parser calls it with the headers
        """Decode every byte of a field. The parser would replace bytes that are not valid."""
        return "latin-1"


def _decoded_fields(raw: MultiDict[str, str]) -> MultiDict[str, str]:
    """The fields of a form. Refuses a form that contains only a piece of a file."""
    fields: MultiDict[str, str] = MultiDict()
    for name, value in raw.items(multi=True):
        try:
            fields.add(name, value.encode("latin-1").decode("utf-8"))
        except UnicodeDecodeError:
            raise BadRequest(f"The form's field {_quoted([name])} is not valid UTF-8") from None
    if len(fields.getlist("prefix")) > 1:
        raise BadRequest("The form has two prefixes; send one form for each")
    given = {**request.args.to_dict(), **fields.to_dict()}  # some widgets send them in the query
    for field, total in PIECES.items():
        if field in given and given.get(total) != "1":
            raise BadRequest(
                f"The form sends a piece of a file ({field}), and the service does not join pieces; nothing "
                "was stored. Switch chunking off, or use PUT /upload/<file> or POST /uploads"
            )
    return fields


def _check_part(part: Headers) -> None:
    """Refuse a part whose headers say that it is not the plain file."""
    others = [name for name in part.keys() if name.lower() != "content-disposition"]  # noqa: SIM118 - pairs
    unsupported = headers.unsupported_in_write(others)
    for name in (*(unsupported or ())[:1], *(name for name in headers.DIGESTS if name in part)):
        raise BadRequest(f"A form's part takes no {name}; send the file with PUT /upload/<file>")
    if part.get("Content-Encoding", "identity").lower() != "identity":
        raise UnsupportedMediaType("A form's part takes no Content-Encoding; PUT /upload/<file> keeps it")
    if not headers.is_binary(part.get("Content-Transfer-Encoding")):
        raise UnsupportedMediaType(
            "A form's part takes no Content-Transfer-Encoding; send the bytes as they are"
        )


def _hint(fields: Mapping[str, str]) -> str:
    if "file" in fields:
        return f"The form's field 'file' is text. {HINT}: curl needs the @ before the name"
    return HINT


def _quoted(names: Sequence[str]) -> str:
    return ", ".join(f"'{name[:60]}'" for name in names)
