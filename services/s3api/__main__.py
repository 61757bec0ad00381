"""The command `s3api`: the client's commands, and the operator's, which load the service."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise, takewhile
from typing import Any

import click
from click.shell_completion import CompletionItem

import s3api
from s3api.client import commands
from s3api.safe_text import json_line, shown, shown_lines

#: The commands of `manage`, and what the list of commands says of them, so that it need not load them.
OPERATOR: Mapping[str, str] = {
    "doctor": "Check what the service needs of its bucket; one line for each check.",
    "openapi": "Generate the API's OpenAPI document from the code and print it.",
    "token": "API tokens.",
}


@contextmanager
def _shown_errors(arguments: Sequence[str]) -> Iterator[None]:
    """Report an error of the command line: as JSON with --json, otherwise as click's text, escaped.

    The text can contain the names of files, because the shell expands `*`.
    """
    try:
        yield
    except click.ClickException as error:
        options = list(takewhile(lambda argument: argument != "--", arguments))
        if "--json" in options:
            fields = {"ok": False, "code": "usage", "message": error.format_message()}
            for_a_file = "--to=-" in options or ("--to", "-") in pairwise(options)
            click.echo(json_line(fields), err=for_a_file)
            raise click.exceptions.Exit(error.exit_code) from error
        escape = shown if isinstance(error, click.UsageError) else shown_lines
        error.message = escape(error.message)  # type: ignore[misc]  # Final to others, not to who shows it
        raise


def _takes(command: click.Command, option: str) -> bool:
    return any(option in parameter.opts for parameter in command.params)


class Commands(click.Group):
    def make_context(self, info_name: str | None, args: list[str], *more: Any, **extra: Any) -> click.Context:
        arguments = tuple(args)  # click takes them out of the list
        with _shown_errors(arguments):
            context = super().make_context(info_name, args, *more, **extra)
        context.meta[__name__] = arguments
        return context

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        given = tuple(args)
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            option = error.option_name
            takers = [name for name, command in self.commands.items() if _takes(command, option)]
            if not takers:
                raise
            example = next((argument for argument in given if argument in takers), takers[0])
            message = f"{option} belongs after the command, as in: s3api {example} {option}"
            raise click.UsageError(message, ctx) from error

    def invoke(self, ctx: click.Context) -> Any:
        with _shown_errors(ctx.meta[__name__]):
            return super().invoke(ctx)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in OPERATOR:
            from s3api import manage  # noqa: PLC0415 - Flask and boto3 take most of a second

            return manage.COMMANDS[cmd_name]
        return super().get_command(ctx, cmd_name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        super().format_commands(ctx, formatter)
        with formatter.section("Commands for operators of the service"):
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
