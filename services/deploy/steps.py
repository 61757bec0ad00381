"""Reports the steps of a command and their durations, and its failures with a reason and a remedy."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from botocore.exceptions import BotoCoreError, ClientError
from docker.errors import DockerException

from s3api.safe_text import shown_lines

# Of AWS, of the connection to it, and of Docker.
EXPECTED = (ClientError, BotoCoreError, DockerException)


class Failed(Exception):
    """A step failed. `why` is the reason, `then` says what to do about it."""

    def __init__(self, why: str, then: str = "") -> None:
        super().__init__(why)
        self.why = why
        self.then = then
        self.step = ""


class Reporter:
    """Prints the steps of a command on standard error. Standard output is for results that scripts read."""

    def __init__(self) -> None:
        self._begun = time.monotonic()

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        self.line(f"▸ {name}")
        begun = time.monotonic()
        try:
            yield
        except Failed as failure:
            failure.step = failure.step or name
            raise
        except EXPECTED as error:
            failed = reason(error)
            failed.step = name
            raise failed from error
        self.line(f"  {time.monotonic() - begun:.1f} s")

    def say(self, what: str) -> None:
        self.line(f"  {what}")

    def line(self, text: str) -> None:
        print(shown_lines(text), file=sys.stderr, flush=True)

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._begun


def answer(text: str) -> None:
    """Print a result: unchanged into a pipe, without control characters on a terminal."""
    print(shown_lines(text) if sys.stdout.isatty() else text, flush=True)


def explain(failure: Failed, command: str = "deploy") -> str:
    """The text that is printed about a failure at the end: its step, or the command if it has none."""
    lines = [f"✗ {failure.step or command}: {failure.why}"]
    if failure.then:
        lines.append(f"  {failure.then}")
    return "\n".join(lines)


def reason(error: Exception) -> Failed:
    """Turn an error of AWS or of Docker into a failure. AWS names a missing permission in its message."""
    if not isinstance(error, ClientError):
        return Failed(str(error), "Check the connection and your credentials, and run the same command again")
    details = error.response["Error"]
    return Failed(
        f"AWS refuses {error.operation_name}: {details['Code']}: {details['Message']}",
        "Where a permission is missing: services/deploy/iam has the policies of a deployer",
    )
