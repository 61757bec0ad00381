"""JSON bodies, held to a size and a number of values before any of them costs memory."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from functools import wraps
from itertools import islice
from typing import Any, TypeVar, cast

from flask import request
from flask.json.provider import DefaultJSONProvider
from werkzeug.exceptions import BadRequest, UnsupportedMediaType

from s3api.files import MAX_BULK, MAX_NAME_BYTES, TooBusy

View = TypeVar("View", bound=Callable[..., Any])

#: A plan, or the numbers of a thousand parts.
SMALL = 16 * 1024
#: A bulk delete. JSON escapes are up to three times as long as the UTF-8 of the letters that need one.
LARGE = MAX_BULK * (3 * MAX_NAME_BYTES + 8)
# Two tokens for each of a thousand values, and some to spare.
MAX_TOKENS = 2 * MAX_BULK + 100
# Strings, and what separates values: no value comes without one of these. A string that does not end takes
# the rest, so that each byte is looked at once.
_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*+"?|[\[{,:]', re.DOTALL)
# A body above this size waits for nothing and has one of these places: what is made of it can take 40 MB.
_WITHOUT_PLACE = 64 * 1024
_places = threading.BoundedSemaphore(2)


def json_body(limit: int) -> Callable[[View], View]:
    """Hold the view's JSON body to `limit` bytes and to its media type; `bp.input`, inside it, parses it.

    Only `application/json` is taken: a page of another origin cannot send that without being let in.
    """

    def decorate(view: View) -> View:
        @wraps(view)
        def bounded(*args: Any, **kwargs: Any) -> Any:
            if request.mimetype != "application/json":
                raise UnsupportedMediaType(
                    "Send the body as JSON, with the header 'Content-Type: application/json'"
                )
            request.max_content_length = limit
            length = limit if request.content_length is None else request.content_length
            if min(length, limit) <= _WITHOUT_PLACE:
                _parse_body()
                return view(*args, **kwargs)
            if not _places.acquire(blocking=False):
                raise TooBusy("Too many large requests at once; try again, or name fewer files in each")
            try:
                _parse_body()
                return view(*args, **kwargs)
            finally:
                _places.release()

        return cast(View, bounded)

    return decorate


class JsonProvider(DefaultJSONProvider):
    """Flask's, which takes no object that has a member twice.

    RFC 8259, section 4: parsers differ in which of the two they take, so that a proxy could check one and
    the service use the other.
    """

    def loads(self, s: str | bytes, **kwargs: Any) -> Any:
        return super().loads(s, object_pairs_hook=_unique, **kwargs)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        raise BadRequest("The body has an object with two members of the same name; send each name once")
    return members


def _parse_body() -> None:
    """Parse what `bp.input` will ask for. A value of two bytes, such as `[]`, can cost a hundred."""
    if next(islice(_TOKEN.finditer(request.get_data()), MAX_TOKENS, None), None) is not None:
        raise BadRequest(f"The body has too many values; no request needs more than {MAX_BULK}")
    try:
        request.get_json(force=True)
    except RecursionError:
        raise BadRequest from None
