"""The operator's commands: make a token, check the bucket, generate the OpenAPI document."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime, timedelta
from typing import cast, get_args

import click
from pydantic import SecretStr

from s3api.app import create_app
from s3api.auth import new_token
from s3api.doctor import Finding, Verdict, diagnose
from s3api.s3_store import S3FileStore
from s3api.safe_text import shown
from s3api.settings import Settings, SettingsError, TokenEntry, Verb


@click.group()
def token() -> None:
    """API tokens."""


@token.command("new")
@click.option("--name", required=True, help="Who it is for; the log shows it.")
@click.option(
    "--verbs",
    default="list,read",
    show_default=True,
    help="What it may do: any of list, read, write, delete, separated by commas.",
)
@click.option("--prefix", default="", help="Only names that begin with this; all of them without it.")
@click.option(
    "--days", type=click.FloatRange(min=0, max=36_500, min_open=True), help="It expires after this many days."
)
def token_new(name: str, verbs: str, prefix: str, days: float | None) -> None:
    """Make a token: printed once, on standard output, and kept nowhere.

    The entry for API_TOKENS, which holds only its hash, goes to standard error.
    """
    wanted = {verb.strip() for verb in verbs.split(",")}
    if unknown := wanted.difference(get_args(Verb)):
        raise click.BadParameter(
            f"{', '.join(sorted(unknown))}: choose from {', '.join(get_args(Verb))}", param_hint="--verbs"
        )
    try:
        expires = None
        if days is not None:
            expires = (datetime.now(UTC) + timedelta(days=days)).replace(microsecond=0)
        secret, entry = new_token(name, cast("frozenset[Verb]", frozenset(wanted)), prefix, expires)
    except ValueError:
        raise click.BadParameter("1 to 64 letters, digits, '.', '_' or '-'", param_hint="--name") from None
    click.echo(secret)
    click.echo("Put this entry into the JSON list of API_TOKENS:", err=True)
    click.echo(entry_json(entry), err=True)


def entry_json(entry: TokenEntry) -> str:
    return json.dumps({**entry.model_dump(mode="json", exclude_none=True), "verbs": sorted(entry.verbs)})


@click.command()
def doctor() -> None:
    """Check what the service needs of its bucket; one line for each check. Nothing is stored.

    Exit status 1 if a check failed, otherwise 0.
    """
    try:
        settings = Settings.from_environment()
    except SettingsError as error:
        raise click.ClickException(str(error)) from None
    unread = [Finding(name, Verdict.ADVICE, what) for name, what in Settings.unread_variables()]
    findings = [*unread, *diagnose(S3FileStore(settings), settings)]
    for finding in findings:
        click.echo(shown(f"{finding.verdict.value:<7} {finding.check}: {finding.message}"))
    sys.exit(1 if any(finding.verdict is Verdict.FAILED for finding in findings) else 0)


@click.command()
def openapi() -> None:
    """Generate the API's OpenAPI document from the code and print it. The environment does not matter."""
    settings = Settings.model_construct(bucket="day02-files", signing_key=SecretStr("nothing is signed"))
    app = create_app(settings, S3FileStore(settings))
    with app.app_context():
        click.echo(json.dumps(app.spec, indent=2, ensure_ascii=False))


COMMANDS = {"doctor": doctor, "openapi": openapi, "token": token}
