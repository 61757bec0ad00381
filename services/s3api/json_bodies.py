"""Limits of JSON bodies: size and number of values are checked before parsing needs memory."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable
from functools import wraps
from itertools import islice
from typing import Any, TypeVar, cast

from flask.globals import request_ctx
from flask.json.provider import DefaultJSONProvider
from flask.wrappers import Request
from werkzeug.exceptions import BadRequest, UnsupportedMediaType

from s3api.failures import TooBusy
from s3api.file_store import MAX_BULK
from s3api.names import MAX_NAME_BYTES

View = TypeVar("View", bound=Callable[..., Any])

#: For an upload plan, or the numbers of a thousand parts.
SMALL = 16 * 1024
#: For a bulk delete. A JSON escape is up to three times as long as the UTF-8 of its character.
LARGE = MAX_BULK * (3 * MAX_NAME_BYTES + 8)
# Two tokens for each of a thousand values, and a reserve.
MAX_TOKENS = 2 * MAX_BULK + 100
# Strings, and the characters before values: every value has one of them. A string without an end matches to
# the end of the body, so that each byte is scanned only once.
_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*+"?|[\[{,:]', re.DOTALL)
# A body above this size needs one of two places, because parsing it can take 40 MB. It does not wait for one.
_WITHOUT_PLACE = 64 * 1024
_places = threading.BoundedSemaphore(2)


def json_body(limit: int) -> Callable[[View], View]:
    """Check the size and the media type of a view's JSON body. The inner `bp.input` parses it.

    Only `application/json` is accepted: a page of another origin cannot send it without a CORS preflight.
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


class JsonProvider(DefaultJSONProvider):
    """Flask's provider, which refuses an object that has a member twice.

    RFC 8259, section 4: parsers differ in which of the two they take, so that a proxy could check one and the
    service use the other.
    """

    def loads(self, s: str | bytes, **_: Any) -> Any:
        if isinstance(s, bytes):
            s = s.decode(json.detect_encoding(s), "surrogatepass")
        return _decoder.decode(s)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        raise BadRequest("The body has an object with two members of the same name; send each name once")
    return members


_decoder = json.JSONDecoder(object_pairs_hook=_unique)  # json.loads would make a new one for each body


def _parse_body(asked: Request) -> None:
    """Parse the body for `bp.input`. A value of two bytes, such as `[]`, can need a hundred in memory."""
    body = asked.get_data()
    # Each token has at least one byte.
    if len(body) > MAX_TOKENS and next(islice(_TOKEN.finditer(body), MAX_TOKENS, None), None) is not None:
        raise BadRequest(f"The body has too many values; no request needs more than {MAX_BULK}")
    try:
        asked.get_json(force=True)
    except RecursionError:
        raise BadRequest from None
