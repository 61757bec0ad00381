"""Programs on a pseudo-terminal, and what they show there."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def running_on_terminal(
    command: Sequence[str], folder: Path, environment: Mapping[str, str], *, columns: int = 150
) -> Iterator[tuple[subprocess.Popen[bytes], int, int]]:
    """Run a command on a terminal. Yield the process, the end that shows its output, and the end it uses."""
    screen, program = pty.openpty()
    process = subprocess.Popen(
        command,
        cwd=folder,
        env={**environment, "TERM": "xterm", "COLUMNS": str(columns), "LINES": "24"},
        stdin=program,
        stdout=program,
        stderr=program,
        start_new_session=True,
    )
    try:
        yield process, screen, program
    finally:
        process.kill()
        process.wait()
        os.close(program)
        os.close(screen)


def read_until(
    process: subprocess.Popen[bytes], screen: int, wanted: re.Pattern[bytes] | None = None
) -> bytes:
    """The output up to the wanted text, the end of the process, or the time by which one should have come."""
    output = b""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (wanted and wanted.search(output)):
        ended = process.poll() is not None  # before the last read, which then has the rest of the output
        if select.select([screen], [], [], 0.1)[0]:
            output += os.read(screen, 65536)
        elif ended:
            break
    return output
