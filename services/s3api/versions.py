"""Deleted files and older versions: lists of them, and the restore of a whole folder."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from s3api.failures import FileError, FileNotDeleted
from s3api.file_store import FileStore, FileVersion, VersionPage
from s3api.names import check_name

#: Files that are restored at the same time for one request.
AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class Result:
    """What happened to one deleted file of a folder. `code` is None if it was restored."""

    name: str
    code: str | None
    message: str | None


@dataclass(frozen=True, slots=True)
class Results:
    """The results of one page of versions. `next_token` is None after the last page."""

    files: Sequence[Result]
    next_token: str | None


def list_versions(
    store: FileStore, prefix: str, limit: int, token: str | None, *, deleted: bool
) -> VersionPage:
    """A page of versions, or only of the files that are deleted now. Raises `VersioningOff`."""
    page = store.list_versions(prefix, limit, token)
    return replace(page, versions=_deleted(page)) if deleted else page


def list_versions_of(store: FileStore, name: str, limit: int, token: str | None) -> VersionPage:
    """A page of the versions of one file. Raises `VersioningOff`."""
    page = store.list_versions(name, limit, token)
    versions = [version for version in page.versions if version.name == name]
    # The names that begin with this one, and are longer, come after it.
    ends = len(versions) < len(page.versions)
    return VersionPage(versions, None if ends else page.next_token)


def restore_folder(store: FileStore, prefix: str, limit: int, token: str | None) -> Results:
    """Restore the deleted files of one page of versions, several at the same time. Nothing is replaced.

    A file that is not deleted any more is left out. Raises `VersioningOff`.
    """
    page = store.list_versions(prefix, limit, token)
    names = [marker.name for marker in _deleted(page)]

    def try_one(name: str) -> Result | None:
        try:
            store.restore(check_name(name))
        except FileNotDeleted:
            return None
        except FileError as error:
            return Result(name, error.code, error.message)
        return Result(name, None, None)

    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="restore") as threads:
        results = list(threads.map(try_one, names))
    return Results([one for one in results if one is not None], page.next_token)


def _deleted(page: VersionPage) -> list[FileVersion]:
    """The markers of the files that are deleted now, with the size of each file if the page shows it."""
    sizes: dict[str, int | None] = {}
    for version in page.versions:
        if not version.deleted:
            sizes.setdefault(version.name, version.size)
    return [replace(one, size=sizes.get(one.name)) for one in page.versions if one.deleted and one.latest]
