"""Whether ports of this machine are taken: `python3 taken_ports.py up S3API_PORT=5000` asks for `make up`.

It needs nothing but Python, because `make up` needs no environment.
"""

from __future__ import annotations

import socket
import subprocess
import sys
from contextlib import suppress

PROJECT = "s3api"  # of docker/compose.yaml


def is_taken(port: int) -> bool:
    """Whether something listens on this port of 127.0.0.1."""
    # macOS lets a second program bind an address that another one has bound with the wildcard.
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return True
    return False


def conflict(port: int, command: str, variable: str) -> str:
    """The sentence about a taken port: which one it is, and what changes it."""
    other = port + 1 if port < 65_535 else 1024
    return f"Port {port} of 127.0.0.1 is taken; choose another: {command} {variable}={other}"


def _published(project: str) -> str:
    """The ports of the running containers of a Compose project, as Docker prints them."""
    command = ["docker", "ps", "--filter", f"label=com.docker.compose.project={project}"]
    command += ["--format", "{{.Ports}}"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout
    except OSError:  # Docker is not installed, which the next step says
        return ""


def main(target: str, *given: str) -> int:
    ours = _published(PROJECT)  # the containers of an earlier `make up` keep their ports
    problems = []
    for variable, _, text in (one.partition("=") for one in given):
        if not text.isdigit() or not 0 < int(text) < 65_536:
            problems.append(f"{variable}={text} is not a port: choose a number from 1 to 65535")
        elif f":{text}->" not in ours and is_taken(int(text)):
            problems.append(conflict(int(text), f"make {target}", variable))
    for problem in problems:
        print(f"make {target}: {problem}", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
