"""What the views work with: the `Services` of the application, and the caller of the request."""

from __future__ import annotations

from dataclasses import dataclass

from flask import Flask, current_app, g

from s3api.auth import Caller, Tokens
from s3api.file_store import FileStore
from s3api.health import Readiness
from s3api.origins import Origins
from s3api.settings import Settings
from s3api.signed_values import Signer
from s3api.staging import Staging

_EXTENSION = "s3api"


@dataclass(frozen=True, slots=True)
class Services:
    """`app` creates it once and attaches it; every view gets it from `current_services`."""

    settings: Settings
    store: FileStore
    staging: Staging
    tokens: Tokens
    signer: Signer
    readiness: Readiness
    origins: Origins

    def attach(self, app: Flask) -> None:
        app.extensions[_EXTENSION] = self


def services_of(app: Flask) -> Services:
    attached: Services = app.extensions[_EXTENSION]
    return attached


def current_services() -> Services:
    """The services of the application that handles this request."""
    return services_of(current_app)


def current_caller() -> Caller:
    """The sender of this request, which `admission` has identified."""
    caller: Caller = g.caller
    return caller
