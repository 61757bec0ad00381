"""The views that copy and move files and folders."""

from __future__ import annotations

from typing import Any, Literal

from flask import Response
from werkzeug.exceptions import BadRequest

from s3api import copying, write_headers
from s3api.file_store import Copied
from s3api.json_bodies import SMALL, json_body
from s3api.names import check_name, check_prefix
from s3api.routes import answer, bp, documented
from s3api.schemas import CopiedFile, CopyFolderRequest, CopyRequest, CopyResults
from s3api.services import current_caller, current_services

_DONE = {"copy": "copied", "move": "moved"}


@bp.post("/copy")
@json_body(SMALL)
@bp.input(CopyRequest, arg_name="wanted")
@documented(404, 409, 412, 413, 415, answers=CopiedFile)
def copy(wanted: CopyRequest) -> Response:
    """Copy one file inside the bucket, with its content type and its metadata, but without its S3 tags.

    An existing destination is replaced only with `overwrite`, or with `If-Match` and its ETag; otherwise the
    answer is 412. With `source_etag`, only a source with that ETag is copied. The request can be repeated: if
    the destination is a copy of this source, with the same headers and metadata, it is confirmed. A file is
    not copied to a name that ends with a slash. The token needs the verb `read` for the source, and `write`
    for the destination.
    """
    services = current_services()
    _permit("copy", check_name(wanted.source), check_name(wanted.destination))
    copied = copying.copy_file(services.store, wanted.source, wanted.destination, _conditions(wanted))
    return _copied("copy", copied)


@bp.post("/move")
@json_body(SMALL)
@bp.input(CopyRequest, arg_name="wanted")
@documented(404, 409, 412, 413, 415, answers=CopiedFile)
def move(wanted: CopyRequest) -> Response:
    """Move (rename) one file: copy it, as `POST /copy` does, then delete the source.

    Only the file that was copied is deleted. If another one was stored in its place meanwhile, both files
    stay, and the answer is 412. A move that was interrupted between the copy and the deletion can be
    repeated; one that has ended answers 404, because its source is gone. In a bucket that keeps versions, the
    source can be restored, but its S3 tags are lost. The token also needs the verb `delete` for the source.
    """
    services = current_services()
    _permit("move", check_name(wanted.source), check_name(wanted.destination))
    moved = copying.move_file(services.store, wanted.source, wanted.destination, _conditions(wanted))
    return _copied("move", moved)


@bp.post("/copy/folder")
@json_body(SMALL)
@bp.input(CopyFolderRequest, arg_name="wanted")
@documented(413, 415, answers=CopyResults)
def copy_folder(wanted: CopyFolderRequest) -> Response:
    """Copy the files of a folder, up to `limit` of them. Each file has its own result.

    Repeat the request with `next` as the `cursor` until there is no `next`. The prefixes end with a slash,
    and neither begins with the other. The token also needs the verb `list` for the source.
    """
    services = current_services()
    _permit_folder("copy", wanted)
    of = ("copy", wanted.source, wanted.destination)
    token = services.signer.read_cursor(of, wanted.cursor) if wanted.cursor is not None else None
    results = copying.copy_folder(
        services.store,
        copying.copy_file,
        wanted.source,
        wanted.destination,
        overwrite=wanted.overwrite,
        limit=wanted.limit,
        token=token,
    )
    return _results(of, results)


@bp.post("/move/folder")
@json_body(SMALL)
@bp.input(CopyFolderRequest, arg_name="wanted")
@documented(413, 415, answers=CopyResults)
def move_folder(wanted: CopyFolderRequest) -> Response:
    """Move (rename) the files of a folder, up to `limit` of them, as `POST /copy/folder` copies them.

    A file that cannot be moved stays, and its result says why. A move that was interrupted can be repeated
    from the start.
    """
    services = current_services()
    _permit_folder("move", wanted)
    of = ("move", wanted.source, wanted.destination)
    token = services.signer.read_cursor(of, wanted.cursor) if wanted.cursor is not None else None
    results = copying.copy_folder(
        services.store,
        copying.move_file,
        wanted.source,
        wanted.destination,
        overwrite=wanted.overwrite,
        limit=wanted.limit,
        token=token,
    )
    return _results(of, results)


def _permit_folder(kind: Literal["copy", "move"], wanted: CopyFolderRequest) -> None:
    source = check_prefix(wanted.source, "The source")
    destination = check_prefix(wanted.destination, "The destination")
    current_caller().require("list", source)
    _permit(kind, source, destination)


def _results(of: tuple[str, str, str], results: copying.Results) -> Response:
    services = current_services()
    kind = of[0]
    done = sum(one.code is None for one in results.files)
    return answer(
        f"Successfully {_DONE[kind]} {done} of {len(results.files)} files on s3 bucket "
        f"'{services.store.bucket}'",
        [_result(kind, one) for one in results.files],
        next=services.signer.cursor(of, results.next_token) if results.next_token else None,
    )


def _result(kind: str, one: copying.Result) -> dict[str, Any]:
    result = {"name": one.name, "destination": one.destination, _DONE[kind]: one.code is None}
    return result if one.code is None else result | {"code": one.code, "message": one.message}


def _permit(kind: Literal["copy", "move"], source: str, destination: str) -> None:
    caller = current_caller()
    caller.require("read", source)
    caller.require("write", destination)
    if kind == "move":
        caller.require("delete", source)


def _conditions(wanted: CopyRequest) -> copying.Wanted:
    create_only, if_match = write_headers.condition()
    if create_only and wanted.overwrite:
        raise BadRequest("'If-None-Match: *' and overwrite contradict each other; send one of them")
    return copying.Wanted(overwrite=wanted.overwrite, if_match=if_match, source_etag=wanted.source_etag)


def _copied(kind: str, copied: Copied) -> Response:
    return answer(
        f"Successfully {_DONE[kind]} file '{copied.source}' to '{copied.name}' on s3 bucket "
        f"'{current_services().store.bucket}'",
        {"source": copied.source, "name": copied.name, "size": copied.size, "etag": copied.etag},
    )
