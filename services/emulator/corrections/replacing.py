"""Replace a function of MiniStack."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def replace(module: Any, name: str, new: Callable[..., Any]) -> None:
    """Replace a function in its module and in the module's dispatch tables."""
    old = getattr(module, name)
    setattr(module, name, new)
    for value in vars(module).values():
        if isinstance(value, dict):
            for key in [key for key, entry in value.items() if entry is old]:
                value[key] = new
