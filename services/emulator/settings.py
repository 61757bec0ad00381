"""How the emulated AWS is reached, and how fast its clocks run."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

# Faster clocks do not make a task start faster, so a grace period is never scaled below this.
LEAST_START_SECONDS = float(os.environ.get("LEAST_START_SECONDS", "20"))


@dataclass(frozen=True)
class Settings:
    """What the container's environment says.

    `address` is the emulator's address on the tasks' network. The AWS SDKs accept task credentials from it.
    `registry` is the host and port by which the engine reaches the registry.
    `time_scale` divides the intervals of health checks, and grace periods down to `LEAST_START_SECONDS`.
    `certificates` is the directory with the certificates that ACM has issued, and their keys.
    """

    address: str
    port: str
    registry: str
    time_scale: float
    credentials_seconds: int
    certificates: Path = Path("/data/certificates")

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Settings:
        port = environment.get("GATEWAY_PORT", "4566")
        return cls(
            address=environment.get("TASK_AWS_ADDRESS", "169.254.170.2"),
            port=port,
            registry=environment.get("REGISTRY_HOST", f"127.0.0.1:{port}"),
            time_scale=float(environment.get("TIME_SCALE", "10")),
            credentials_seconds=int(environment.get("TASK_CREDENTIALS_SECONDS", "3600")),
        )


def grace(seconds: float, time_scale: float) -> float:
    """A grace period, divided by the scale, but not below the time that a start needs."""
    return min(seconds, max(seconds / time_scale, LEAST_START_SECONDS))
