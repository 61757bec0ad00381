"""The tables of docs/ that come from the code, the settings and the layers: `make docs` writes them."""

from __future__ import annotations

import ast
import inspect
import tomllib
from itertools import pairwise
from pathlib import Path
from typing import Any

from pydantic import AliasChoices
from pydantic.fields import FieldInfo

from s3api.settings import GiB, MiB, Settings
from support.servers import ROOT

CONFIGURATION = ROOT / "docs" / "configuration.md"
ARCHITECTURE = ROOT / "docs" / "architecture.md"
BEGIN = "<!-- generated: make docs -->\n"
END = "<!-- end -->\n"


def pages() -> dict[Path, str]:
    """The generated pages, with their text as it should be now."""
    return {
        CONFIGURATION: _with_tables(CONFIGURATION, settings_table()),
        ARCHITECTURE: _with_tables(ARCHITECTURE, layers_table(), files_table()),
    }


def _with_tables(page: Path, *tables: str) -> str:
    """The page with these tables between its marks, in their order."""
    text, *rests = page.read_text(encoding="utf-8").split(BEGIN)
    for table, rest in zip(tables, rests, strict=True):
        text += f"{BEGIN}{table}{END}{rest.split(END)[1]}"
    return text


def settings_table() -> str:
    described = descriptions()
    rows = "".join(_row(name, field, described[name]) for name, field in Settings.model_fields.items())
    return f"| variable | default | meaning |\n|---|---|---|\n{rows}"


def layers_table() -> str:
    """The layers of `s3api` in pyproject.toml, which import-linter enforces, from the top to the bottom."""
    configured = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = configured["tool"]["importlinter"]["contracts"]
    [layers] = [one["layers"] for one in contracts if one.get("containers") == ["s3api"]]
    named = [[f"`{module.strip(' ()')}`" for module in layer.split("|")] for layer in layers]
    rows = "".join(f"| {number} | {', '.join(names)} |\n" for number, names in enumerate(named, 1))
    return f"| layer | modules |\n|---|---|\n{rows}"


def files_table() -> str:
    """The first line of each file of the other packages and of the page. It says what the file contains."""
    services = ROOT / "services"
    files = [
        services / "s3api" / "gunicorn.conf.py",
        *(
            path
            for package in ("s3api/client", "deploy", "guard", "emulator", "emulator/corrections")
            for path in sorted((services / package).glob("*.py"))
        ),
        *sorted((services / "s3api" / "static").glob("*.js")),
    ]
    rows = "".join(f"| `{path.relative_to(services)}` | {_first_line(path)} |\n" for path in files)
    return f"| file in `services` | content |\n|---|---|\n{rows}"


def _first_line(path: Path) -> str:
    begins, ends = ('"""', '"""') if path.suffix == ".py" else ("/** ", " */")
    line = path.read_text(encoding="utf-8").partition("\n")[0]
    if not line.startswith(begins):
        raise ValueError(f"the first line of {path} does not say what the file contains")
    return line.removeprefix(begins).removesuffix(ends)


def variables(name: str, field: FieldInfo) -> list[str]:
    """The environment variables of a setting; the first one that is set counts."""
    aliases = field.validation_alias
    others = [str(one) for one in aliases.choices] if isinstance(aliases, AliasChoices) else []
    return list(dict.fromkeys([*others, name.upper()]))


def descriptions() -> dict[str, str]:
    """The docstrings of the settings that have one. pydantic would read them at each start of the service."""
    [definition] = ast.parse(inspect.getsource(Settings)).body
    assert isinstance(definition, ast.ClassDef)
    return {
        field.target.id: text.value.value
        for field, text in pairwise(definition.body)
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(text, ast.Expr)
        and isinstance(text.value, ast.Constant)
        and isinstance(text.value.value, str)
    }


def _row(name: str, field: FieldInfo, description: str) -> str:
    described = " ".join(description.split()).removesuffix(".")
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
    for path, text in pages().items():
        path.write_text(text, encoding="utf-8")
