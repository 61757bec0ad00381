"""What the views work with: one `Services` for each application."""

from __future__ import annotations

from dataclasses import dataclass

from flask import Flask, current_app

from s3api.auth import Tokens
from s3api.files import FileStore
from s3api.health import Readiness
from s3api.origins import Origins
from s3api.settings import Settings
from s3api.signed_values import Signer
from s3api.staging import Staging

_EXTENSION = "s3api"


@dataclass(frozen=True, slots=True)
class Services:
    """`app` creates it once and attaches it; every view gets it from `services`."""

    settings: Settings
    store: FileStore
    staging: Staging
    tokens: Tokens
    signer: Signer
    readiness: Readiness
    origins: Origins

    def attach(self, app: Flask) -> None:
        app.extensions[_EXTENSION] = self


def services(app: Flask = current_app) -> Services:
    """The services of this application, by default of the one that handles the request."""
    found: Services = app.extensions[_EXTENSION]
    return found
