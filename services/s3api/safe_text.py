"""Makes untrusted text safe to print, such as file names, server messages and log lines."""

from __future__ import annotations

import json
import unicodedata

_UNSAFE = ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")


def _is_safe(char: str) -> bool:
    return char == " " or unicodedata.category(char) not in _UNSAFE


def shown(text: str) -> str:
    """The text with escapes for what controls a terminal, turns writing around, or breaks the line."""
    return "".join(char if _is_safe(char) else char.encode("unicode_escape").decode() for char in text)


def shown_lines(text: str) -> str:
    """The same for text of several lines, which stay lines."""
    return "\n".join(shown(line) for line in text.expandtabs().replace("\r\n", "\n").split("\n"))


def json_line(value: object) -> str:
    """The value as JSON on one line, safe for a terminal too: to a JSON parser the escapes mean the same."""
    text = json.dumps(value, ensure_ascii=False)
    return "".join(char if _is_safe(char) else json.dumps(char)[1:-1] for char in text)
