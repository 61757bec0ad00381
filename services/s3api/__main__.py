"""The command `s3api`: the client's commands, and the operator's, for which alone the service is loaded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import click
from click.shell_completion import CompletionItem

import s3api
from s3api.client import commands
from s3api.printing import shown, shown_lines

#: The commands of `manage`, and what the list of commands says of them, so that it need not load them.
OPERATOR: Mapping[str, str] = {
    "doctor": "Check the bucket that the environment names; one line a check.",
    "openapi": "Generate the API's OpenAPI document from the code, whatever the environment, and print it.",
    "token": "API tokens.",
}


@contextmanager
def _shown_errors() -> Iterator[None]:
    """Escape what click repeats of a wrong command line: with `*`, the names of files are in it."""
    try:
        yield
    except click.ClickException as error:
        escape = shown if isinstance(error, click.UsageError) else shown_lines
        error.message = escape(error.message)  # type: ignore[misc]  # Final to others, not to who shows it
        raise


class Commands(click.Group):
    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        with _shown_errors():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        with _shown_errors():
            return super().invoke(ctx)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in OPERATOR:
            from s3api import manage  # noqa: PLC0415 - Flask and boto3 take most of a second

            return manage.COMMANDS[cmd_name]
        return super().get_command(ctx, cmd_name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        super().format_commands(ctx, formatter)
        with formatter.section("Commands for whoever runs the service"):
            formatter.write_dl(list(OPERATOR.items()))

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        found = [CompletionItem(name, help=text) for name, text in OPERATOR.items()]
        return [
            *super().shell_complete(ctx, incomplete),
            *(i for i in found if i.value.startswith(incomplete)),
        ]


main = Commands(
    "s3api",
    commands=list(commands.COMMANDS),
    help=commands.HELP,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
click.version_option(s3api.__version__, prog_name="s3api")(main)

if __name__ == "__main__":
    main(prog_name="s3api")
