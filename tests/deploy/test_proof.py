"""The proofs that docs/proof.md names exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from deploy.environments import CHECKOUT

PAGE = (CHECKOUT / "docs/proof.md").read_text()
POINTS = re.findall(r"^\| (.+) \| (.+) \|$", PAGE.split("point by point")[1].split("\n## ")[0], re.MULTILINE)[
    1:
]
FILES = {path.name: path for path in (CHECKOUT / "tests").rglob("test_*.py")}


def names_in(file: str) -> list[str]:
    # The course has a file of the same name for the API and for the infrastructure.
    path = CHECKOUT / file if "/" in file else FILES[Path(file).name]
    return re.findall(r"def (test_\w+)", path.read_text())


@pytest.mark.parametrize(("point", "proof"), POINTS, ids=[point[:30] for point, _ in POINTS])
def test_the_proofs_of_a_point_exist(point: str, proof: str) -> None:
    """Each file, each word that selects tests in it, and each run of `terraform test` is there."""
    selections = re.findall(r"((?:tests/)?(?:\w+/)?test_\w+\.py)(?: -k (?:'([^']+)'|(\w+)))?", proof)
    runs = [
        (run, module)
        for names, modules in re.findall(r"runs? ((?:`\w+`(?: and )?)+) of ((?:`\w+`(?: and )?)+)", proof)
        + re.findall(r", ((?:`\w+`)) of ((?:`\w+`))", proof)
        for run in re.findall(r"`(\w+)`", names)
        for module in re.findall(r"`(\w+)`", modules)
    ]

    assert selections or runs, point
    for file, words, word in selections:
        names = names_in(file)
        assert names
        for part in (words or word).split(" or ") if words or word else ():
            assert any(part in name for name in names), f"{file} has no test for {part}"
    for run, module in runs:
        [tests] = (CHECKOUT / "modules" / module / "tests").glob("*.tftest.hcl")
        assert f'run "{run}" {{' in tests.read_text(), f"{module} has no run {run}"
