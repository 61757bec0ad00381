"""What the documentation says of the code is true."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

from s3api.settings import Settings
from service import configuration
from support.servers import ROOT

SECURITY = ROOT / "docs" / "security.md"
ARCHITECTURE = ROOT / "docs" / "architecture.md"
SERVICES = ROOT / "services"
CONFIGURATION = configuration.PAGE.read_text(encoding="utf-8")
#: Variables of the system, of make itself, and of a WSGI request: nothing to configure.
NOT_OURS = re.compile(r"PATH|HOSTNAME|CURDIR|MAKE|MAKEFILE_LIST|HTTP_.*|REQUEST_(METHOD|URI)")
VARIABLE = r"[A-Z][A-Z0-9_]+"


def test_every_promise_names_tests_that_exist() -> None:
    """Each row of a table in docs/security.md names tests, and each of them is in the file that it names."""
    rows = [
        line.rstrip("|").rpartition("|")[2]
        for line in SECURITY.read_text(encoding="utf-8").splitlines()
        if line.startswith("| ") and not line.startswith("| promise ")
    ]
    unknown = []
    for row in rows:
        path = ""
        named = re.findall(r"`([^`]+)`", row)
        assert named, row
        for name in named:
            file, _, test = name.partition("::")
            path = file or path
            text = (ROOT / path).read_text(encoding="utf-8") if (ROOT / path).is_file() else ""
            if not text or (test and not re.search(rf"^\s*def {test}\(", text, re.MULTILINE)):
                unknown.append(name)

    assert len(rows) > 25
    assert unknown == []


def test_the_architecture_names_every_module() -> None:
    """The tables of docs/architecture.md have a row for each module and package, and no other row."""
    named = re.findall(r"^\| `(\w+)` \|", ARCHITECTURE.read_text(encoding="utf-8"), re.MULTILINE)
    modules = {path.stem for path in (SERVICES / "s3api").glob("*.py") if path.stem.isidentifier()}
    packages = {path.parent.name for path in SERVICES.glob("*/__init__.py")}
    expected = (modules | packages | {"client"}) - {"__init__", "__main__", "s3api"}

    assert sorted(named) == sorted(expected)


def test_the_architecture_names_the_clients_modules() -> None:
    """Its row for the client names each of the client's modules."""
    text = ARCHITECTURE.read_text(encoding="utf-8")
    row = re.search(r"^\| `client` \|.*: (.*) \|$", text, re.MULTILINE)
    assert row is not None
    modules = {path.stem for path in (SERVICES / "s3api" / "client").glob("*.py")} - {"__init__"}

    assert set(re.findall(r"`(\w+)`", row[1])) == modules


# --- configuration


def test_the_table_of_settings_is_fresh() -> None:
    """docs/configuration.md is what `make docs` would write."""
    assert configuration.page() == CONFIGURATION, "run: make docs"


def test_every_setting_has_a_description() -> None:
    """Each field of `Settings` has a docstring, which becomes its row."""
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []


def test_every_variable_that_is_read_is_documented() -> None:
    """A variable that the code, the Makefile or a container file reads is in a table of docs/configuration.md."""
    documented = {
        name
        for line in CONFIGURATION.splitlines()
        if line.startswith("| `")
        for name in re.findall(rf"`({VARIABLE})`", line.split("|")[1])
    }
    read = {
        name: path.relative_to(ROOT).as_posix()
        for path in _tracked()
        for name in _variables_read_by(path)
        if not NOT_OURS.fullmatch(name)
    }

    assert {"BUCKET", "STATE_BUCKET", "S3API_TOKEN_FILE", "DOCKER_BUILD_FLAGS", "S3_PORT", "FILES"} <= set(
        read
    )
    assert {name: where for name, where in read.items() if name not in documented} == {}


def _tracked() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return [path for name in listed.stdout.split("\0") if name and (path := ROOT / name).is_file()]


def _variables_read_by(path: Path) -> set[str]:
    if path.suffix == ".py":
        inside = not path.is_relative_to(ROOT / "tests")
        return set(_variables_of_python(ast.parse(path.read_text(encoding="utf-8")), inside=inside))
    if path.name == "Makefile":
        text = path.read_text(encoding="utf-8")
        own = set(re.findall(rf"^({VARIABLE})\s*:?=", text, re.MULTILINE))
        own |= set(re.findall(rf"^define ({VARIABLE})$", text, re.MULTILINE))
        return set(re.findall(rf"\$\$?[({{]({VARIABLE})", text)) - own
    if path.name == "compose.yaml":
        return set(re.findall(rf"\$\{{({VARIABLE})", path.read_text(encoding="utf-8")))
    if path.name == "Dockerfile":
        return set(re.findall(rf"^ARG ({VARIABLE})", path.read_text(encoding="utf-8"), re.MULTILINE))
    if path.suffix == ".mjs":
        found = re.findall(r"\{([^}]*)\} = process\.env", path.read_text(encoding="utf-8"))
        return set(re.findall(VARIABLE, " ".join(found)))
    return set()


def _variables_of_python(tree: ast.AST, *, inside: bool) -> Iterator[str]:
    """The names that are read from `os.environ`, from a mapping that stands for it, or by a click option."""
    sources = {"os.environ", "environment", "variables"} if inside else {"os.environ"}
    for node in ast.walk(tree):
        names: list[ast.expr] = []
        match node:
            case ast.Subscript(value=base, slice=key, ctx=ast.Load()) if ast.unparse(base) in sources:
                names = [key]
            case ast.Call(func=ast.Attribute(value=base, attr="get"), args=[key, *_]) if (
                ast.unparse(base) in sources
            ):
                names = [key]
            case ast.Compare(left=key, ops=[ast.In() | ast.NotIn()], comparators=[base]) if (
                ast.unparse(base) in sources
            ):
                names = [key]
            case ast.Call(keywords=options):
                names = [option.value for option in options if option.arg == "envvar"]
        for name in names:
            if isinstance(name, ast.Constant) and re.fullmatch(VARIABLE, str(name.value)):
                yield str(name.value)
