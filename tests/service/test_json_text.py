"""JSON as the service writes it means what the standard library's means, and is in ASCII."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3api.files import StoredFile
from s3api.json_text import to_json, to_json_lines

#: Any text, with lone surrogates too: JSON of a client can hold them.
TEXT = st.text(st.characters(exclude_categories=()))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner),
)


@given(VALUES)
def test_json_means_what_was_given(value: Any) -> None:
    """Any value comes back from its JSON; the JSON is ASCII on one line, without a control character."""
    text = to_json(value)

    assert json.loads(text) == value
    assert text.isascii()
    assert not any(byte < 0x20 for byte in text)


@pytest.mark.parametrize("name", ["a.txt", "\x9b31m", "\u202e\u2028", "é/日本/😀"])
def test_files_become_objects(name: str) -> None:
    """A line holds a file's members in their order, and its time in UTC with Z (RFC 3339, section 5.6)."""
    moments = [datetime(2026, 11, 26, 12, tzinfo=UTC), datetime(2026, 11, 26, 12, 0, 1, 500_000, tzinfo=UTC)]
    lines = to_json_lines(StoredFile(name, 5, moment, "etag") for moment in moments)

    assert lines.isascii()
    assert [list(json.loads(line).items()) for line in lines.splitlines()] == [
        [("name", name), ("size", 5), ("last_modified", text), ("etag", "etag")]
        for text in ("2026-11-26T12:00:00Z", "2026-11-26T12:00:01.500000Z")
    ]
