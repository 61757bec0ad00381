"""JSON as the service writes it means what the standard library's means, and is in ASCII."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from s3api.file_store import StoredFile
from s3api.json_text import to_json, to_json_lines

#: Any text, with lone surrogates too: JSON of a client can hold them.
TEXT = st.text(st.characters(exclude_categories=()))
#: Names with what stands between two files, and with what controls a terminal.
TRAPS = ['},{"name":', "},{", "{", '"},{"name":"', "\\},{", "\x9b31m", "\u202e\u2028", "é/日本/😀"]
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner),
)


def is_utf8(text: str) -> bool:
    return not any("\ud800" <= char <= "\udfff" for char in text)


@given(VALUES)
def test_json_means_what_was_given(value: Any) -> None:
    """Any value comes back from its JSON; the JSON is ASCII on one line, without a control character."""
    text = to_json(value)

    assert json.loads(text) == value
    assert text.isascii()
    assert not any(byte < 0x20 for byte in text)


@given(st.lists(TEXT.filter(is_utf8) | st.sampled_from(TRAPS)))
@example(TRAPS)
def test_files_become_lines(names: list[str]) -> None:
    """A line holds a file's members in their order, and its time in UTC with Z (RFC 3339, section 5.6)."""
    moment = datetime(2026, 11, 26, 12, tzinfo=UTC)
    lines = to_json_lines([StoredFile(name, 5, moment, "etag") for name in names], "name")

    assert lines.isascii()
    assert lines.endswith(b"\n") == bool(names)
    assert [list(json.loads(line).items()) for line in lines.splitlines()] == [
        [("name", name), ("size", 5), ("last_modified", "2026-11-26T12:00:00Z"), ("etag", "etag")]
        for name in names
    ]


def test_what_orjson_refuses_is_written_all_the_same() -> None:
    """A lone surrogate and a large integer stay as they are, next to a time too; `default` does the rest."""
    moment = datetime(2026, 11, 26, 12, tzinfo=UTC)
    text = to_json({"name": "\ud800", "size": 2**70, "at": moment, "of": {1}}, default=sorted)

    assert json.loads(text) == {"name": "\ud800", "size": 2**70, "at": "2026-11-26T12:00:00Z", "of": [1]}
    with pytest.raises(TypeError):
        to_json({1})
