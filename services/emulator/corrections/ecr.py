"""Corrections of ECR."""

from __future__ import annotations

import base64
from typing import Any

from emulator.corrections.replacing import replace
from emulator.registry import USER, Tokens
from emulator.settings import Settings


def name_repositories(settings: Settings) -> None:
    """Name repositories by the emulator's own address.

    MiniStack names them under amazonaws.com, so the engine would push to AWS and pull from it.
    """
    from ministack.services import ecr

    def uri(name: str) -> str:
        return f"{settings.registry}/{name}"

    ecr._repo_uri = uri


def issue_tokens(settings: Settings, tokens: Tokens) -> None:
    """Issue a new token for each request, and give the engine one for its pulls.

    MiniStack gives every client the same token and never asks for it.
    """
    from ministack.services import ecr, ecs

    def issue(_: dict[str, Any]) -> Any:
        password, expires = tokens.issue()
        token = base64.b64encode(f"{USER}:{password}".encode()).decode()
        answer = {"authorizationToken": token, "expiresAt": int(expires)}
        return ecr.json_response(
            {"authorizationData": [{**answer, "proxyEndpoint": f"http://{settings.registry}"}]}
        )

    connect = ecs._get_docker

    def with_credentials() -> Any:
        client = connect()
        if client is not None:
            # The SDK sends the password with each pull from this registry, as after `docker login`.
            client.api._auth_configs.add_auth(
                settings.registry, {"username": USER, "password": tokens.for_tasks}
            )
        return client

    replace(ecr, "_get_authorization_token", issue)
    ecs._get_docker = with_credentials


def delete_images_with_repository() -> None:
    """Delete the images of a deleted repository.

    MiniStack keeps their layers in memory and in its saved state.
    """
    from ministack.services import ecr

    delete = ecr._delete_repository

    def delete_all(data: dict[str, Any]) -> Any:
        answer = delete(data)
        if answer[0] < 300:
            for store in (ecr._layer_blobs, ecr._manifest_blobs, ecr._uploads):
                store.pop(data.get("repositoryName", ""), None)
        return answer

    ecr._delete_repository = delete_all
