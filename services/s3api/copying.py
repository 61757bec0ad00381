"""Copies and moves of files and of folders, with the names that they may have."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from math import inf

from s3api.failures import FileChanged, FileError, FileExists, FileNotFound, InvalidCopy, changed
from s3api.file_store import Conditions, Copied, FileStore, OpenFile
from s3api.files import find
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
    _check_names(source, destination)
    if wanted.overwrite or wanted.if_match is not None:
        return store.copy(
            source,
            destination,
            source_etag=wanted.source_etag,
            create_only=False,
            if_match=wanted.if_match,
        )
    original = _look(store, source)
    # The store checks again when it writes. This early check avoids a useless copy of a large file.
    if done := _done_before(store, original, destination, wanted):
        return done
    try:
        return store.copy(
            source, destination, source_etag=wanted.source_etag, create_only=True, if_match=None
        )
    except (FileExists, FileNotFound):
        # The same request can run twice at the same time: the other one has copied or moved the file.
        if done := _done_before(store, original, destination, wanted):
            return done
        raise


def _check_names(source: str, destination: str) -> None:
    if source == destination:
        raise InvalidCopy("The source and the destination are the same file; nothing was copied")
    if destination.endswith("/") and not source.endswith("/"):
        last = source.rpartition("/")[2]
        raise InvalidCopy(
            f"The destination '{destination}' ends with a slash, as a folder does; nothing was copied. Send "
            f"the whole name of the file, such as '{destination}{last}'"
        )


def _look(store: FileStore, name: str) -> OpenFile:
    return store.open(name, Conditions(), with_body=False)


def _done_before(store: FileStore, original: OpenFile, destination: str, wanted: Wanted) -> Copied | None:
    """The copy, if the destination is one of this source. Raises `FileExists` if it is another file."""
    try:
        there = _look(store, destination)
    except FileNotFound:
        return None
    source = original.file
    if wanted.source_etag in (None, source.etag) and there.copy_of == original.mark:
        return Copied(source.name, destination, there.file.size, there.file.etag, source.etag, original.mark)
    raise FileExists(
        f"The file '{destination}' already exists on the bucket '{store.bucket}'; nothing was copied. "
        "Set overwrite to true to replace it"
    )


def move_file(store: FileStore, source: str, destination: str, wanted: Wanted) -> Copied:
    """Copy a file, then delete exactly the file that was copied. A move that was interrupted can be repeated.

    If the source is gone after the copy, because another request has moved or deleted it, the move is done.
    Raises the failures of `copy_file`, and `FileChanged` if the source was replaced after the copy; then both
    files stay.
    """
    copied = copy_file(store, source, destination, wanted)
    try:
        _delete_copied(store, copied)
    except FileNotFound:
        return copied
    except FileChanged:
        # Some kinds of S3 answer so for a missing file as well.
        if find(store, source) is None:
            return copied
        raise FileChanged(
            f"The file '{source}' was copied to '{destination}', and then replaced; the newer one stays, "
            "and was not moved"
        ) from None
    return copied


def _delete_copied(store: FileStore, copied: Copied) -> None:
    """Delete the source. Raises `FileNotFound`, and `FileChanged` if it is not what was copied any more."""
    # Not every S3 evaluates the condition of a deletion, and none of them compares the metadata.
    if _look(store, copied.source).mark != copied.mark:
        raise changed(copied.source)
    store.delete(copied.source, f'"{copied.source_etag}"')


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

    found: dict[str, Result] = {}
    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="copy") as threads:
        for _, group in groupby(sorted(names, key=_turn), key=_turn):
            together = list(group)
            found.update(zip(together, threads.map(try_one, together), strict=True))
    return Results([found[name] for name in names], page.next_token)


def _turn(name: str) -> float:
    """The object of a folder itself is copied before all below it, and files are copied last.

    For some kinds of S3, such as SeaweedFS, `a/` exists as soon as a file below it does.
    """
    return name.count("/") if name.endswith("/") else inf


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
