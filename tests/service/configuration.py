"""The table of settings in docs/configuration.md, made from `Settings`. `make docs` writes it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import AliasChoices
from pydantic.fields import FieldInfo

from s3api.settings import GiB, MiB, Settings
from support.servers import ROOT

PAGE = ROOT / "docs" / "configuration.md"
BEGIN = "<!-- generated: make docs -->\n"
END = "<!-- end -->\n"


def page() -> str:
    """docs/configuration.md with the table as it is now."""
    before, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
    _, after = rest.split(END)
    rows = "".join(_row(name, field) for name, field in Settings.model_fields.items())
    return f"{before}{BEGIN}| variable | default | meaning |\n|---|---|---|\n{rows}{END}{after}"


def variables(name: str, field: FieldInfo) -> list[str]:
    """The environment variables of a setting; the first one that is set counts."""
    aliases = field.validation_alias
    others = [str(one) for one in aliases.choices] if isinstance(aliases, AliasChoices) else []
    return list(dict.fromkeys([*others, name.upper()]))


def _row(name: str, field: FieldInfo) -> str:
    described = " ".join((field.description or "").split()).removesuffix(".")
    names = ", ".join(f"`{one}`" for one in variables(name, field))
    return f"| {names} | {_default(name, field)} | {described} |\n"


def _default(name: str, field: FieldInfo) -> str:
    value: Any = field.default
    if field.is_required():
        return "required"
    if value is None or value == ():
        return "not set"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, (str, Path)):
        return f"`{value}`"
    for unit, symbol in ((GiB, "GiB"), (MiB, "MiB")):
        if name.endswith("_bytes") and value % unit == 0:
            return f"{value // unit} {symbol}"
    return str(value)


if __name__ == "__main__":
    print(page(), end="")
