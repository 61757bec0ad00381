"""Commands in running containers."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

#: What precedes each piece of output: its stream and its size
#: (https://docs.docker.com/reference/api/engine/, "Stream format" of ContainerAttach).
_HEAD = struct.Struct(">BxxxL")
_STDOUT = 1


@dataclass(frozen=True)
class Ran:
    """A command that has ended: its exit status, its whole output, and the part on standard output."""

    status: int
    output: str
    stdout: str


def run_in(container: Any, *command: str, **options: Any) -> Ran:
    """Run a command in a container of docker-py. The options are those of `exec_create`.

    `Container.exec_run` reads from the socket itself. So it loses output that arrives together with the head
    of the answer, which happens on a busy machine (https://github.com/docker/docker-py/issues/2042).
    """
    api = container.client.api
    made = api.exec_create(container.id, list(command), **options)["Id"]
    url = f"{api.base_url}/v{api.api_version}/exec/{made}/start"
    answer = api.post(url, json={"Detach": False, "Tty": False})
    answer.raise_for_status()
    left, pieces = answer.content, []
    while left:
        stream, size = _HEAD.unpack_from(left)
        pieces.append((stream, left[_HEAD.size : _HEAD.size + size]))
        left = left[_HEAD.size + size :]
    return Ran(
        status=api.exec_inspect(made)["ExitCode"],
        output=b"".join(piece for _, piece in pieces).decode(),
        stdout=b"".join(piece for stream, piece in pieces if stream == _STDOUT).decode(),
    )
