"""What the documentation says of the code is true."""

from __future__ import annotations

import re

from support.servers import ROOT

SECURITY = ROOT / "docs" / "security.md"


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
