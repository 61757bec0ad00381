"""The tests that a table of the documentation names, as `test_x.py` or `test_x.py -k 'word or word'`."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
FILES = {path.name: path for path in (ROOT / "tests").rglob("test_*.py")}


def check_named_tests(text: str) -> int:
    """Fail unless each file that the text names has tests, and a test for each of its words.

    Returns the number of files that the text names.
    """
    selections = re.findall(r"((?:tests/)?(?:\w+/)?test_\w+\.py)(?: -k (?:'([^']+)'|(\w+)))?", text)
    for file, words, word in selections:
        names = _names_in(file)
        assert names, f"{file} has no tests"
        for part in (words or word).split(" or ") if words or word else ():
            assert any(part in name for name in names), f"{file} has no test for {part}"
    return len(selections)


def _names_in(file: str) -> list[str]:
    # The course has a file of the same name for the API and for the infrastructure.
    path = ROOT / file if "/" in file else FILES[Path(file).name]
    return re.findall(r"def (test_\w+)", path.read_text(encoding="utf-8"))
