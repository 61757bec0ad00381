"""The paths of downloads: which files of a bucket a file system can hold together.

S3 keeps any two names apart. A file system cannot hold a file and a folder of one name, and some file systems
take names that differ only in case, in Unicode normalization or in dots and spaces at the end for one name.
"""

from __future__ import annotations

import os
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePath
from tempfile import TemporaryDirectory

from s3api.client.api import Failure
from s3api.client.sources import Source

#: Whether a file system takes two different names in one folder for the same name.
AreSame = Callable[[str, str], bool]
_Folded = tuple[str, ...]


@dataclass(frozen=True)
class Refused:
    """A file that is not downloaded, because another file needs its path."""

    source: Source
    failure: Failure


def apart(
    files: Iterable[Source], markers: Iterable[Source], folder: Path, are_same: AreSame
) -> tuple[list[Source], list[Refused]]:
    """The files that can be downloaded together into the folder, and the others.

    `markers` are folders that will be made. A folder wins over a file of its name, because it can hold many
    files. Of two files, the first wins.
    """
    wanted = list(dict.fromkeys(files))
    kept: list[Source] = []
    refused: list[Refused] = []
    folders: defaultdict[_Folded, dict[PurePath, str]] = defaultdict(dict)
    taken: defaultdict[_Folded, dict[PurePath, str]] = defaultdict(dict)
    for one in markers:
        path = one.path.relative_to(folder)
        folders[_folded(path)].setdefault(path, one.name)
    for one in [*wanted, *markers]:
        path = one.path.relative_to(folder)
        for parent in path.parents[:-1]:
            folders[_folded(parent)].setdefault(parent, one.name)
    for one in wanted:
        path = one.path.relative_to(folder)
        folded = _folded(path)
        if owner := _owner(path, folders.get(folded, {}), are_same):
            message = (
                f"'{one.name}' would become the file {one.path}, where '{owner}' needs a folder; "
                "it was not downloaded. Download it alone, with --to FILE"
            )
            refused.append(Refused(one, Failure("name_taken", message)))
        elif owner := _owner(path, taken[folded], are_same):
            message = f"'{one.name}' would become {one.path}, as '{owner}' does; it was not downloaded"
            refused.append(Refused(one, Failure("name_taken", message)))
        else:
            taken[folded][path] = one.name
            kept.append(one)
    return kept, refused


def _owner(path: PurePath, others: dict[PurePath, str], are_same: AreSame) -> str | None:
    """The name that has this path, or a path that is the same here."""
    if path in others:
        return others[path]
    for other, name in others.items():
        pairs = zip(path.parts, other.parts, strict=True)
        if all(one == another or are_same(one, another) for one, another in pairs):
            return name
    return None


def _folded(path: PurePath) -> _Folded:
    """Equal for all paths that some file system takes for the same one. It is coarser than each of them."""
    return tuple(_folded_name(part) for part in path.parts)


def _folded_name(name: str) -> str:
    folded = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", name).casefold())
    return folded.rstrip(". ") or name


def file_system_of(folder: Path) -> AreSame:
    """Ask the file system of the folder itself, because its rules depend on its kind and its options."""
    existing = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.is_dir())

    @cache
    def are_same(one: str, other: str) -> bool:
        # A file system that refuses a name reports it when the file is written.
        with suppress(OSError), TemporaryDirectory(prefix=".s3api-", dir=existing) as empty:
            Path(empty, one).touch()
            return os.path.lexists(Path(empty, other))
        return False

    return are_same
