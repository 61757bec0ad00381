"""The output of the client: results, failures, and progress bars."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from s3api.client.api import FAILED, Failure
from s3api.client.transfer import Meter
from s3api.client.wording import in_options
from s3api.safe_text import json_line, shown

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


class Output:
    """Prints results to standard output, failures and notes to standard error; keeps the exit status."""

    def __init__(self, *, as_json: bool, quiet: bool) -> None:
        self.as_json = as_json
        self.quiet = quiet
        self.results_to_stderr = False  # when standard output receives the file itself
        self._statuses: set[int] = set()
        for stream in (sys.stdout, sys.stderr):
            if hasattr(stream, "reconfigure"):  # print names that the locale cannot encode
                stream.reconfigure(errors="backslashreplace")

    @property
    def exit_status(self) -> int:
        """The exit status of the failures, if they have the same one."""
        return min(self._statuses, default=0) if len(self._statuses) < 2 else FAILED

    def answer(self, text: str, **fields: Any) -> None:
        """Print requested data: unchanged into a pipe, with control characters escaped on a terminal."""
        if self.as_json:
            click.echo(json_line(fields))
        elif sys.stdout.isatty():
            click.echo(shown(text))
        else:
            click.echo(text, color=True)  # otherwise click removes colour codes, and the name is another one

    def done(self, text: str, **fields: Any) -> None:
        """Report what was done: the text for people, the fields for scripts."""
        if self.as_json:
            click.echo(json_line({"ok": True, **fields}), err=self.results_to_stderr)
        elif not self.quiet:
            click.echo(shown(text), err=self.results_to_stderr)

    def note(self, text: str) -> None:
        if not self.quiet:
            click.echo(f"s3api: {shown(text)}", err=True)

    def failed(self, failure: Failure, name: str | None = None) -> None:
        self._statuses.add(failure.exit_status)
        message, request_id = in_options(failure.message), failure.request_id
        if self.as_json:
            known = {"name": name, "code": failure.code, "message": message, "request_id": request_id}
            fields = {key: value for key, value in known.items() if value is not None}
            click.echo(json_line({"ok": False, **fields}), err=self.results_to_stderr)
            return
        about = "" if name is None or name in message else f"{name}: "
        request = f" (request {request_id})" if request_id else ""
        click.echo(f"s3api: {shown(about + message + request)}", err=True)


class Bars(Meter):
    """A progress bar for each running transfer, with rate and remaining time."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._tasks: dict[str, TaskID] = {}

    def begin(self, name: str, doing: str, total: int | None, done: int = 0) -> None:
        description = f"{doing} {shown(name)}"
        if name in self._tasks:
            self._progress.reset(self._tasks[name], total=total, completed=done, description=description)
        else:
            self._tasks[name] = self._progress.add_task(description, total=total, completed=done)

    def advance(self, name: str, amount: int) -> None:
        if name in self._tasks:
            self._progress.advance(self._tasks[name], amount)

    def end(self, name: str) -> None:
        if name in self._tasks:
            self._progress.remove_task(self._tasks.pop(name))


@contextmanager
def metered(output: Output) -> Iterator[Meter]:
    """Progress bars on a terminal, nothing elsewhere."""
    if output.quiet or output.as_json or not sys.stderr.isatty():
        yield Meter()
        return
    from rich.console import Console  # noqa: PLC0415 - takes longer to load than a small command to run
    from rich.progress import (  # noqa: PLC0415 - as above
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(compact=True),
    )
    console = Console(stderr=True)
    with Progress(*columns, console=console, redirect_stdout=sys.stdout.isatty(), transient=True) as progress:
        yield Bars(progress)
