"""Environment variables that look like a setting but are none: misspelt, or of an earlier version."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

#: The variables that the command line reads.
CLIENT = frozenset({"S3API_TOKEN", "S3API_TOKEN_FILE", "S3API_URL"})
#: The variables of earlier versions, with those that replace them.
REPLACED = {"THREADS": "MAX_CONCURRENT_REQUESTS"}
#: The least similarity, from 0 to 1, that counts as a misspelling. A letter more or less is above it.
SIMILAR = 0.85


def unread(names: Iterable[str], known: Collection[str]) -> Iterator[tuple[str, str]]:
    """Each of the names that is not known and looks like a known one, with a sentence that says so.

    Other programs have variables too, so a name that looks like none is ignored.
    """
    for name in sorted(set(names).difference(known)):
        if new := REPLACED.get(name):
            yield name, f"is no longer read; {new} has replaced it"
        # AWS tools read a variable with this prefix for each service of AWS.
        elif not name.startswith("AWS_ENDPOINT_URL_") and (meant := _closest(name, known)):
            yield name, f"is not a variable of this program; did you mean {meant}?"


def _closest(name: str, known: Collection[str]) -> str | None:
    from difflib import get_close_matches  # noqa: PLC0415 - few runs need it

    if similar := get_close_matches(name, sorted(known), n=1, cutoff=SIMILAR):
        return similar[0]
    # Such as JWT_JWKS. A single word could be any program's.
    longer = sorted(one for one in known if "_" in name and one.startswith(f"{name}_"))
    return " or ".join(longer) or None
