"""Runs the command as users and scripts do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.servers import ROOT

PROGRAM = (sys.executable, "-m", "s3api")


@dataclass(frozen=True)
class Ran:
    """How a command ended, and what it printed."""

    status: int
    out: str
    err: str
    raw: bytes

    def objects(self) -> list[dict[str, Any]]:
        """The results of a run with --json."""
        return [json.loads(line) for line in self.out.splitlines()]


class Command:
    """`s3api` in its own folder, with only the environment that it needs."""

    def __init__(self, url: str, folder: Path, **environment: str) -> None:
        self.folder = folder
        self.state = folder / "state"
        self.environment: Mapping[str, str] = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT / "services"),
            "HOME": str(folder),
            "LANG": "C.UTF-8",
            "XDG_STATE_HOME": str(self.state),
            "S3API_URL": url,
            **environment,
        }

    def __call__(self, *arguments: str | Path, stdin: bytes = b"", **environment: str) -> Ran:
        done = subprocess.run(
            [*PROGRAM, *map(str, arguments)],
            cwd=self.folder,
            env={**self.environment, **environment},
            input=stdin,
            capture_output=True,
            check=False,
            timeout=120,
        )
        out, err = done.stdout.decode("utf-8", "replace"), done.stderr.decode()
        assert "Traceback" not in err, err
        return Ran(done.returncode, out, err, done.stdout)

    @contextmanager
    def running(self, *arguments: str | Path, **streams: Any) -> Iterator[subprocess.Popen[bytes]]:
        """The running command, which is killed at the end."""
        streams = {
            "stdin": subprocess.DEVNULL,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE,
            **streams,
        }
        with subprocess.Popen(
            [*PROGRAM, *map(str, arguments)], cwd=self.folder, env=self.environment, **streams
        ) as process:
            try:
                yield process
            finally:
                process.kill()

    def file(self, name: str, data: bytes) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return path

    def unfinished(self) -> list[Path]:
        """The journal's entries of unfinished uploads."""
        return list(self.state.rglob("*.json"))
