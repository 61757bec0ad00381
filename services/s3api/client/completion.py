"""Shell completion of local paths, and of names in the bucket."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from urllib.parse import urlencode

import click
from click.shell_completion import CompletionItem

from s3api.client.api import Api

SECONDS = 1.0  # the user waits for the completion
MOST = 1000  # names in one request
# Other characters have a meaning for the shell; bash also splits words at a colon.
_PLAIN = re.compile(r"[\w%+,./=@][\w%+,./=@-]*")

MakeApi = Callable[[dict[str, Any]], Api]


def local_paths(
    _context: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Let the shell itself complete paths."""
    return [CompletionItem(incomplete, type="file")]


def remote_names(
    make_api: MakeApi,
) -> Callable[[click.Context, click.Parameter, str], list[CompletionItem]]:
    """The names in the bucket that begin with the word, up to the next slash.

    Nothing is completed when the service refuses, fails, or does not answer within `SECONDS`.
    """

    def complete(
        context: click.Context, _parameter: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        found: list[str] = []

        def ask() -> None:
            with suppress(Exception):  # a message would appear in the line that the user types
                found.extend(_names(make_api(context.params), incomplete))

        thread = threading.Thread(target=ask, daemon=True)  # a name look-up cannot be stopped
        thread.start()
        thread.join(SECONDS)
        return [CompletionItem(name) for name in list(found) if _PLAIN.fullmatch(name)]

    return complete


def _names(api: Api, prefix: str) -> list[str]:
    """Replace a single folder by its contents: bash would end the word after the folder's name."""
    while True:
        query = urlencode({"prefix": prefix, "delimiter": "/", "limit": MOST})
        answer = api.call("GET", f"/list_files?{query}")
        files = [name for name in answer["content"] if not name.endswith("/")]  # not the folder markers
        folders = answer["prefixes"]
        if files or len(folders) != 1 or folders == [prefix]:
            return sorted([*files, *folders])
        prefix = folders[0]
