"""Generates docs/cli.md from the commands' help: python -m cli.docs > docs/cli.md"""

from __future__ import annotations

from collections.abc import Iterator

import click

from s3api import manage
from s3api.__main__ import main
from s3api.client import commands

WIDTH = 100
HEAD = """# The command line

`pip install .` installs the command `s3api`. After `make run` it is also at `.venv/bin/s3api`. This page
is the output of `s3api --help` and `s3api COMMAND --help`; `make docs` generates it.
"""


def page() -> str:
    top = _context(main, "s3api", None)
    parts = [HEAD, _block(top)]
    parts += [f"## {context.command_path}\n\n{_block(context)}" for context in _commands(top)]
    return "\n".join(parts)


def _commands(top: click.Context) -> Iterator[click.Context]:
    for command in (*commands.COMMANDS, *manage.COMMANDS.values()):
        context = _context(command, command.name, top)
        if isinstance(command, click.Group):
            yield from (_context(inner, name, context) for name, inner in command.commands.items())
        else:
            yield context


def _context(command: click.Command, name: str | None, parent: click.Context | None) -> click.Context:
    return click.Context(command, parent, info_name=name, terminal_width=WIDTH, **command.context_settings)


def _block(context: click.Context) -> str:
    return f"```text\n{context.get_help()}\n```\n"


if __name__ == "__main__":
    print(page(), end="")
