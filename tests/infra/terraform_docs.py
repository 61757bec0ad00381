"""Generates files from the Terraform code: the tables of the READMEs, the deployer's policy, the diagram.

`make docs` writes them (--write); a test checks them (--check).
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
from html import escape
from itertools import pairwise
from pathlib import Path

from deploy import iam_policies, terraform_variables
from infra import diagram
from infra.terraform import CHECKOUT, DIRECTORIES, Workspace

BEGIN = "<!-- generated: make docs -->\n"
END = "<!-- end -->\n"


def readme(directory: str) -> str:
    """The directory's README with current tables of inputs and outputs."""
    path = CHECKOUT / directory / "README.md"
    before, rest = path.read_text().split(BEGIN)
    _, rest = rest.split(END)
    tables = f"{_inputs(CHECKOUT / directory)}\n{_outputs(CHECKOUT / directory)}"
    return f"{before}{BEGIN}{tables}{END}{rest}"


def _blocks(path: Path, kind: str) -> dict[str, str]:
    return dict(re.findall(rf'^{kind} "(\w+)" \{{\n(.*?)^\}}', path.read_text(), re.DOTALL | re.MULTILINE))


def _attribute(body: str, name: str) -> str | None:
    """The value of an attribute in formatted code, joined into one line."""
    match = re.search(rf"^  {name} += (.*?)(?=^  \S|^$|\Z)", f"{body}\n", re.DOTALL | re.MULTILINE)
    if match is None:
        return None
    lines = [re.sub(r"\s+=\s+", " = ", line.strip()) for line in match[1].strip().splitlines()]
    value = lines[0]
    for previous, line in pairwise(lines):
        value += (" " if previous.endswith(("{", "[")) or line.startswith(("}", "]")) else ", ") + line
    # The closing brackets of a value are indented like the attribute, and the pattern stops before them.
    closing = "".join(")" if bracket == "(" else "}" for bracket in reversed(re.findall(r"[({]", value)))
    return value if value.count("{") == value.count("}") else f"{value} {closing}"


def _text(value: str | None) -> str:
    return escape((value or "").strip('"').replace('\\"', '"').replace("|", "\\|"), quote=False)


def _inputs(directory: Path) -> str:
    rows = ""
    for name, body in _blocks(directory / "variables.tf", "variable").items():
        default = _attribute(body, "default")
        shown = "required" if default is None else f"`{default}`"
        what = _text(_attribute(body, "description"))
        rows += f"| `{name}` | {what} | `{_attribute(body, 'type')}` | {shown} |\n"
    return f"| input | what it is | type | default |\n|---|---|---|---|\n{rows}"


def _outputs(directory: Path) -> str:
    rows = "".join(
        f"| `{name}` | {_text(_attribute(body, 'description'))} |\n"
        for name, body in _blocks(directory / "outputs.tf", "output").items()
    )
    return f"| output | what it is |\n|---|---|\n{rows}"


def generated(workspace: Workspace) -> dict[Path, str]:
    """Every generated file with its content."""
    files = {CHECKOUT / directory / "README.md": readme(directory) for directory in DIRECTORIES}
    for name, policy in iam_policies.documents(terraform_variables.values(CHECKOUT / "envs/day02")).items():
        files[CHECKOUT / "services/deploy/iam" / f"{name}.json"] = policy
    plan = workspace.test("envs/day02").plans["plan"]
    files[CHECKOUT / "docs/infrastructure/day02.svg"] = diagram.draw(plan, workspace.graph("envs/day02"))
    return files


def stale(workspace: Workspace) -> list[Path]:
    """The generated files whose content is out of date."""
    files = generated(workspace)
    return [path for path, text in files.items() if not path.exists() or path.read_text() != text]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--write", action="store_true")
    what.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as copy:
        workspace = Workspace(Path(copy) / "terraform")
        paths = stale(workspace)
        texts = generated(workspace)
    for path in paths:
        print(f"{'written' if arguments.write else 'stale'}: {path.relative_to(CHECKOUT)}")
        if arguments.write:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(texts[path])
    return 1 if arguments.check and paths else 0


if __name__ == "__main__":
    sys.exit(main())
