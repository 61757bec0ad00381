"""`make status`: what runs, on one screen."""

from __future__ import annotations

from collections import Counter

from deploy.environments import Environment
from deploy.image import commit_of
from deploy.service import Service
from deploy.steps import Failed, answer

EVENTS = 5


def show(environment: Environment, service: Service, url: str) -> None:
    """Print the image, the rollouts, the health of the targets, and the newest events of the service."""
    described = service.describe()
    if described is None:
        raise Failed(f"{environment.name} has no service", environment.command("deploy"))
    answer(f"url      {url}")
    image = service.image(described["taskDefinition"])
    answer(f"image    {image}")
    answer(f"commit   {commit_of(environment, image)}")
    answer(f"bucket   {service.bucket()}")
    answer(f"tasks    {described['runningCount']} run, {described['desiredCount']} are asked for")
    for deployment in described["deployments"]:
        name = deployment["taskDefinition"].rsplit("/", 1)[-1]
        state, why = deployment.get("rolloutState", "?"), deployment.get("rolloutStateReason", "")
        answer(f"rollout  {name}: {state} {why}".rstrip())
    states = Counter(service.target_states(described))
    answer("targets  " + (", ".join(f"{count} {state}" for state, count in states.items()) or "none"))
    events = described.get("events", ())[:EVENTS]
    if not events:
        answer("event    none")
    for event in events:
        answer(f"event    {event['createdAt']:%Y-%m-%d %H:%M:%S} {event['message']}")
