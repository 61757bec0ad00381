"""Makes the guard of one emulator from environment variables.

GUARD_KEYS is the directory of the keys. GUARD_OWNER, which only root may set, is the user who owns them.
GUARD_HOSTS are the addresses that clients use, and GUARD_ORIGINS the origins of the pages, separated by
commas or spaces.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from guard.guard import Guard
from guard.keys import Keys, installed


def from_environment(environment: Mapping[str, str], is_ready: Callable[[], bool]) -> tuple[Guard, Keys]:
    owner = environment.get("GUARD_OWNER")
    keys = installed(Path(environment["GUARD_KEYS"]), int(owner) if owner else None)
    hosts, origins = (
        frozenset(environment[name].lower().replace(",", " ").split())
        for name in ("GUARD_HOSTS", "GUARD_ORIGINS")
    )
    return Guard(hosts, origins, keys.secret_of, is_ready=is_ready), keys
