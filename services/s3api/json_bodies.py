"""JSON bodies, held to a size and a number of values before any of them costs memory."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from functools import wraps
from itertools import islice
from typing import Any, TypeVar, cast

from flask.globals import request_ctx
from flask.wrappers import Request
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
            asked = request_ctx.request
            if asked.content_type != "application/json" and asked.mimetype != "application/json":
                raise UnsupportedMediaType(
                    "Send the body as JSON, with the header 'Content-Type: application/json'"
                )
            asked.max_content_length = limit
            length = limit if asked.content_length is None else asked.content_length
            if min(length, limit) <= _WITHOUT_PLACE:
                _parse_body(asked)
                return view(*args, **kwargs)
            if not _places.acquire(blocking=False):
                raise TooBusy("Too many large requests at once; try again, or name fewer files in each")
            try:
                _parse_body(asked)
                return view(*args, **kwargs)
            finally:
                _places.release()

        return cast(View, bounded)

    return decorate


def _parse_body(asked: Request) -> None:
    """Parse what `bp.input` will ask for. A value of two bytes, such as `[]`, can cost a hundred."""
    body = asked.get_data()
    # Each token has at least one byte.
    if len(body) > MAX_TOKENS and next(islice(_TOKEN.finditer(body), MAX_TOKENS, None), None) is not None:
        raise BadRequest(f"The body has too many values; no request needs more than {MAX_BULK}")
    try:
        asked.get_json(force=True)
    except RecursionError:
        raise BadRequest from None
