"""The views of deleted files and older versions."""

from __future__ import annotations

from dataclasses import asdict

from flask import Response
from werkzeug.exceptions import BadRequest

from s3api import versions, write_headers
from s3api.file_store import VersionPage
from s3api.json_bodies import SMALL, json_body
from s3api.names import check_name, check_prefix
from s3api.routes import answer, bp, documented
from s3api.schemas import (
    FileVersions,
    RestoredFile,
    RestoreQuery,
    RestoreRequest,
    RestoreResults,
    VersionsOfQuery,
    VersionsQuery,
)
from s3api.services import Services, current_caller, current_services


@bp.get("/versions")
@bp.input(VersionsQuery, location="query", arg_name="query")
@documented(409, answers=FileVersions)
def list_versions(query: VersionsQuery) -> Response:
    """List the versions of the files that begin with `prefix`: by name, the newest of each name first.

    An entry with `deleted` marks a deletion. With `deleted=true` the answer has only the files that are
    deleted now: `last_modified` is the time of the deletion, and `size` is that of the file that can be
    restored; it is left out if the file's versions are on the next page. `limit` counts versions, so a page
    with `next` can be empty. A bucket that has never kept versions answers 409 `versioning_off`.
    """
    services = current_services()
    prefix = check_prefix(query.prefix)
    current_caller().require("list", prefix)
    of = ("versions", prefix, str(query.deleted))
    token = services.signer.read_cursor(of, query.cursor) if query.cursor is not None else None
    page = versions.list_versions(services.store, prefix, query.limit, token, deleted=query.deleted)
    what = "deleted files" if query.deleted else "versions"
    return _versions(services, f"Successfully listed {what} on s3 bucket", page, of)


@bp.get("/versions/<name:name>")
@bp.input(VersionsOfQuery, location="query", arg_name="query")
@documented(409, answers=FileVersions)
def list_versions_of(name: str, query: VersionsOfQuery) -> Response:
    """List the versions of one file, the newest first. A file that never existed has none."""
    services = current_services()
    check_name(name)
    current_caller().require("list", name)
    of = ("versions of", name)
    token = services.signer.read_cursor(of, query.cursor) if query.cursor is not None else None
    page = versions.list_versions_of(services.store, name, query.limit, token)
    return _versions(services, f"Successfully listed versions of '{name}' on s3 bucket", page, of)


def _versions(services: Services, message: str, page: VersionPage, of: tuple[str, ...]) -> Response:
    return answer(
        f"{message} '{services.store.bucket}'",
        [
            {key: value for key, value in asdict(version).items() if value is not None}
            for version in page.versions
        ],
        next=services.signer.cursor(of, page.next_token) if page.next_token else None,
    )


@bp.post("/restore/<name:name>")
@bp.input(RestoreQuery, location="query", arg_name="query")
@documented(404, 409, 412, 415, answers=RestoredFile)
def restore(name: str, query: RestoreQuery) -> Response:
    """Restore a deleted file, or a version of a file, without its S3 tags, if the bucket keeps versions.

    An existing file is never replaced, unless `version` is given together with `overwrite`, or with
    `If-Match` and the file's ETag. The file that is replaced stays an older version. The answer is 409
    `file_not_deleted` if the file exists, even if it was stored during this request, and 409
    `versioning_off` if the bucket kept no version of the deleted file.
    """
    services = current_services()
    check_name(name)
    current_caller().require("write", name)
    create_only, if_match = write_headers.condition()
    if create_only:
        raise BadRequest("A restore needs no If-None-Match: without a version no file is replaced")
    if query.version is None and (query.overwrite or if_match):
        raise BadRequest("Without a version only a deleted file is restored; overwrite needs a version")
    restored = services.store.restore(name, query.version, overwrite=query.overwrite, if_match=if_match)
    return answer(f"Successfully restored file '{name}' on s3 bucket '{services.store.bucket}'", restored)


@bp.post("/restore")
@json_body(SMALL)
@bp.input(RestoreRequest, arg_name="wanted")
@documented(409, 413, 415, answers=RestoreResults)
def restore_folder(wanted: RestoreRequest) -> Response:
    """Restore the deleted files whose names begin with `prefix`. Each file has its own result.

    No existing file is replaced. Repeat the request with `next` as the `cursor` until there is no `next`.
    `limit` counts versions, so an answer with `next` can have no results. The token also needs the verb
    `list`.
    """
    services = current_services()
    prefix = check_prefix(wanted.prefix)
    current_caller().require("list", prefix)
    current_caller().require("write", prefix)
    of = ("restore", prefix)
    token = services.signer.read_cursor(of, wanted.cursor) if wanted.cursor is not None else None
    results = versions.restore_folder(services.store, prefix, wanted.limit, token)
    done = sum(one.code is None for one in results.files)
    return answer(
        f"Successfully restored {done} of {len(results.files)} files on s3 bucket '{services.store.bucket}'",
        [
            {"name": one.name, "restored": one.code is None}
            | ({} if one.code is None else {"code": one.code, "message": one.message})
            for one in results.files
        ],
        next=services.signer.cursor(of, results.next_token) if results.next_token else None,
    )
