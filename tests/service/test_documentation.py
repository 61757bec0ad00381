"""What the documentation says of the code is true."""

from __future__ import annotations

import re

from support.servers import ROOT

SECURITY = ROOT / "docs" / "security.md"
ARCHITECTURE = ROOT / "docs" / "architecture.md"
SERVICES = ROOT / "services"


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
    scripts = {path.stem for path in SERVICES.glob("*.py")}
    expected = (modules | packages | scripts | {"client"}) - {"__init__", "__main__", "s3api"}

    assert sorted(named) == sorted(expected)


def test_the_architecture_names_the_clients_modules() -> None:
    """Its row for the client names each of the client's modules."""
    text = ARCHITECTURE.read_text(encoding="utf-8")
    row = re.search(r"^\| `client` \|.*: (.*) \|$", text, re.MULTILINE)
    assert row is not None
    modules = {path.stem for path in (SERVICES / "s3api" / "client").glob("*.py")} - {"__init__"}

    assert set(re.findall(r"`(\w+)`", row[1])) == modules
