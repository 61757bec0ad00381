"""Search for files by a part of their names.

S3 has no search. The service lists the names that begin with a prefix, and compares each of them, so a search
takes as long as a listing. It answers while it searches.
"""

from __future__ import annotations

import time
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, replace

from s3api.file_store import FileStore, Page
from s3api.files import list_all

_NAMES_AT_ONCE = 32


@dataclass(frozen=True, slots=True)
class Progress:
    """How many files the search has compared so far. It has no `name`, unlike a file that was found."""

    searched: int


class Search:
    """A search for `text` below the folder of `prefix`. The folder's own name is not compared.

    Case does not matter, nor whether an accented letter is one code point or two (NFC or NFD; macOS makes
    names in NFD). The accent itself does matter.
    """

    def __init__(self, prefix: str, text: str) -> None:
        self._folder = prefix.rfind("/") + 1
        self._text = _comparable(text)

    def matches(self, name: str) -> bool:
        return self._text in _comparable(name[self._folder :])

    def of(self, page: Page) -> Page:
        """The same page without the files and the prefixes that do not match."""
        files = []
        for number, file in enumerate(page.files):
            if number % _NAMES_AT_ONCE == 0:
                time.sleep(0)  # a name of many combining marks takes a millisecond: let other requests run
            if self.matches(file.name):
                files.append(file)
        return replace(
            page,
            files=files,
            prefixes=[prefix for prefix in page.prefixes if self.matches(prefix)],
        )


def search(store: FileStore, prefix: str, text: str) -> Iterator[tuple[Page, Progress]]:
    """Each page of the listing of `prefix` with only the files that match, and the progress after it.

    The first page is fetched at once, so that a failure comes before the first answer.
    """
    return _search(list_all(store, prefix), Search(prefix, text))


def _search(pages: Iterator[Page], wanted: Search) -> Iterator[tuple[Page, Progress]]:
    searched = 0
    for page in pages:
        searched += len(page.files)
        yield wanted.of(page), Progress(searched)


def _comparable(text: str) -> str:
    """The text for a canonical caseless match (The Unicode Standard, section 3.13, D145), but in NFC.

    In NFD the text "e" would be found in "é", and "es" would not be found in "és".
    """
    if text.isascii():
        return text.lower()
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", text).casefold())
