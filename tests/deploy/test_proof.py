"""The proofs that docs/proof.md names exist."""

from __future__ import annotations

import re

import pytest

from deploy.environments import CHECKOUT
from support.named_tests import check_named_tests

PAGE = (CHECKOUT / "docs/proof.md").read_text()
POINTS = re.findall(r"^\| (.+) \| (.+) \|$", PAGE.split("point by point")[1].split("\n## ")[0], re.MULTILINE)[
    1:
]


@pytest.mark.parametrize(("point", "proof"), POINTS, ids=[point[:30] for point, _ in POINTS])
def test_the_proofs_of_a_point_exist(point: str, proof: str) -> None:
    """Each file, each word that selects tests in it, and each run of `terraform test` is there."""
    runs = [
        (run, module)
        for names, modules in re.findall(r"runs? ((?:`\w+`(?: and )?)+) of ((?:`\w+`(?: and )?)+)", proof)
        + re.findall(r", ((?:`\w+`)) of ((?:`\w+`))", proof)
        for run in re.findall(r"`(\w+)`", names)
        for module in re.findall(r"`(\w+)`", modules)
    ]

    assert check_named_tests(proof) or runs, point
    for run, module in runs:
        [tests] = (CHECKOUT / "modules" / module / "tests").glob("*.tftest.hcl")
        assert f'run "{run}" {{' in tests.read_text(), f"{module} has no run {run}"
