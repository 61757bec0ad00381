"""A client for the API, as exercise 05 of the course's current edition asks for one.

Source: 42-AI/bootcamp_data-engineering, module02/ex05. It knows only what the exercises 03 to 05 say: the
routes, `--ip` and `--filename`, and a form to S3 from `content.url` and `content.fields`. It is the course's
contract, so it uses nothing of this project.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click
import requests

PORT = os.environ.get("PORT", "5000")
SECONDS = 30

ip = click.option("--ip", default="0.0.0.0", show_default=True, help="IP address of the API")
filename = click.option("--filename", required=True, help="File to upload, download or delete")


def call(address: str, path: str) -> dict[str, Any]:
    """The API's answer. A status other than 200 in it ends the client with the API's message."""
    body: dict[str, Any] = requests.get(f"http://{address}:{PORT}{path}", timeout=SECONDS).json()
    if body["status"] != 200:
        raise click.ClickException(body["message"])
    return body


@click.group()
def cli() -> None:
    """Work with the files of the bucket."""


@cli.command()
@ip
def ping(ip: str) -> None:
    """Call the API."""
    click.echo(call(ip, "/")["message"])


@cli.command("list")
@ip
def list_files(ip: str) -> None:
    """List the files."""
    for name in call(ip, "/list_files")["content"]:
        click.echo(name)


@cli.command()
@ip
@filename
def upload(ip: str, filename: str) -> None:
    """Upload a file: the API plans a form, and S3 takes it."""
    body = call(ip, f"/upload/{filename}")
    plan = body["content"]
    with Path(filename).open("rb") as file:
        sent = requests.post(plan["url"], data=plan["fields"], files={"file": file}, timeout=SECONDS)
    if sent.status_code != 204:
        raise click.ClickException(f"S3 answered {sent.status_code}: {sent.text}")
    click.echo(body["message"])


@cli.command()
@ip
@filename
def download(ip: str, filename: str) -> None:
    """Download a file by its presigned URL."""
    body = call(ip, f"/download/{filename}")
    received = requests.get(body["content"], timeout=SECONDS)
    received.raise_for_status()
    Path(filename).write_bytes(received.content)
    click.echo(body["message"])


@cli.command()
@ip
@filename
def delete(ip: str, filename: str) -> None:
    """Delete a file by the GET of exercise 03."""
    click.echo(call(ip, f"/delete/{filename}")["message"])


if __name__ == "__main__":
    cli()
