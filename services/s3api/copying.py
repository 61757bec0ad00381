"""Copies and moves of files and of folders, with the names that they may have."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from s3api.failures import FileChanged, FileError, FileExists, FileNotFound, InvalidCopy
from s3api.file_store import Conditions, Copied, FileStore, copy_mark
from s3api.files import check_match
from s3api.names import check_name

#: Files that are copied at the same time for one request.
AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to do with the destination, and which source to copy. ETags are without quotes.

    Without `overwrite`, nothing is replaced. `if_match` is the destination's quoted ETag, and implies it.
    """

    overwrite: bool = False
    if_match: str | None = None
    source_etag: str | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """What happened to one file of a folder. `code` is None if it was copied, or moved."""

    name: str
    destination: str
    code: str | None
    message: str | None


@dataclass(frozen=True, slots=True)
class Results:
    """The results of one page of the source's listing. `next_token` is None after the last page."""

    files: Sequence[Result]
    next_token: str | None


def copy_file(store: FileStore, source: str, destination: str, wanted: Wanted) -> Copied:
    """Copy a file. To repeat a copy is no error: the destination is then confirmed.

    Raises `InvalidCopy`, `FileNotFound`, `FileExists`, and `FileChanged` if an ETag does not match.
    """
    if source == destination:
        raise InvalidCopy("The source and the destination are the same file; nothing was copied")
    create_only = not wanted.overwrite and wanted.if_match is None
    # The store checks again when it writes. This early check avoids a useless copy of a large file.
    if create_only and (done := _done_before(store, source, destination, wanted)):
        return done
    return store.copy(
        source,
        destination,
        source_etag=wanted.source_etag,
        create_only=create_only,
        if_match=wanted.if_match,
    )


def _done_before(store: FileStore, source: str, destination: str, wanted: Wanted) -> Copied | None:
    """The copy, if the destination is one of this source. Raises `FileExists` if it is another file."""
    try:
        there = store.open(destination, Conditions(), with_body=False)
    except FileNotFound:
        return None
    original = store.stat(source)
    if wanted.source_etag in (None, original.etag) and there.copy_of == copy_mark(source, original.etag):
        return Copied(source, destination, there.file.size, there.file.etag, original.etag)
    raise FileExists(
        f"The file '{destination}' already exists on the bucket '{store.bucket}'; nothing was copied. "
        "Set overwrite to true to replace it"
    )


def move_file(store: FileStore, source: str, destination: str, wanted: Wanted) -> Copied:
    """Copy a file, then delete exactly the file that was copied. A move that was interrupted can be repeated.

    Raises the failures of `copy_file`, and `FileChanged` if the source was replaced after the copy; then both
    files stay.
    """
    copied = copy_file(store, source, destination, wanted)
    same = f'"{copied.source_etag}"'
    try:
        # Not every S3 evaluates the condition of a deletion.
        check_match(source, store.stat(source), same)
        store.delete(source, same)
    except FileChanged:
        raise FileChanged(
            f"The file '{source}' was copied to '{destination}', and then replaced; the newer one stays, "
            "and was not moved"
        ) from None
    return copied


def copy_folder(
    store: FileStore,
    one: Callable[[FileStore, str, str, Wanted], Copied],
    source: str,
    destination: str,
    *,
    overwrite: bool,
    limit: int,
    token: str | None,
) -> Results:
    """Copy or move up to `limit` files whose names begin with `source`, several at the same time.

    `one` is `copy_file` or `move_file`.
    Each file has its own result. After a failure or an interruption, the same request can be repeated.
    Raises `InvalidCopy` if one of the prefixes begins with the other.
    """
    _check_folders(source, destination)
    page = store.list_page(source, "", limit, token)
    names = [file.name for file in page.files]

    def try_one(name: str) -> Result:
        return _result(store, one, name, destination + name[len(source) :], overwrite=overwrite)

    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="copy") as threads:
        return Results(list(threads.map(try_one, names)), page.next_token)


def _check_folders(source: str, destination: str) -> None:
    if not source.endswith("/") or not destination.endswith("/"):
        raise InvalidCopy("The source and the destination of a folder end with a slash, such as 'reports/'")
    if source.startswith(destination) or destination.startswith(source):
        # A copy would be found again by the listing, and copied once more.
        raise InvalidCopy(
            f"'{source}' and '{destination}' overlap, so a file could be copied twice; nothing was copied. "
            "Use another folder in between"
        )


def _result(
    store: FileStore,
    one: Callable[[FileStore, str, str, Wanted], Copied],
    name: str,
    destination: str,
    *,
    overwrite: bool,
) -> Result:
    try:
        check_name(name)
        check_name(destination)
        one(store, name, destination, Wanted(overwrite=overwrite))
    except FileError as error:
        return Result(name, destination, error.code, error.message)
    return Result(name, destination, None, None)
