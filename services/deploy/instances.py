"""`make refresh`: replaces the instances, waits for the end, and returns to the old ones if it fails."""

from __future__ import annotations

import time

from deploy.environments import Environment
from deploy.steps import Failed, Reporter

FINISHED_WITHIN = 3600
PAUSE = 10
_RUNS = {"Pending", "InProgress", "Baking", "Cancelling", "RollbackInProgress"}


def refresh(environment: Environment, report: Reporter) -> None:
    """Replace the instances by ones of the newest launch template, at most half of them at a time.

    Each is drained first. If the new instances do not become healthy, the group returns to the version of the
    template that it had. Terraform leaves that version to this command.
    https://docs.aws.amazon.com/autoscaling/ec2/userguide/instance-refresh-rollback.html
    """
    client = environment.client("autoscaling")
    name = _group(environment)
    group = client.describe_auto_scaling_groups(AutoScalingGroupNames=[name])["AutoScalingGroups"][0]
    current = group["LaunchTemplate"]
    template = {
        "LaunchTemplateId": current["LaunchTemplateId"],
        "Version": _newest_version(environment, current["LaunchTemplateId"]),
    }
    report.say(f"the group has version {current['Version']} of its template, and gets {template['Version']}")
    identity = client.start_instance_refresh(
        AutoScalingGroupName=name,
        # AWS can only roll a refresh back that names a version by its number.
        DesiredConfiguration={"LaunchTemplate": template},
        Preferences={"MinHealthyPercentage": 50, "SkipMatching": True, "AutoRollback": True},
    )["InstanceRefreshId"]
    _wait(environment, name, identity, report)


def _wait(environment: Environment, name: str, identity: str, report: Reporter) -> None:
    client = environment.client("autoscaling")
    deadline = time.monotonic() + FINISHED_WITHIN
    said = ""
    while True:
        current = client.describe_instance_refreshes(
            AutoScalingGroupName=name, InstanceRefreshIds=[identity]
        )["InstanceRefreshes"][0]
        text = f"{current['Status']}, {current.get('PercentageComplete', 0)} %"
        if text != said:
            report.say(f"{text} {current.get('StatusReason', '')}".strip())
            said = text
        if current["Status"] == "Successful":
            return
        if current["Status"] not in _RUNS:
            raise Failed(
                f"the instance refresh ended as {current['Status']}: {current.get('StatusReason', '')}",
                "Correct the template, deploy it, and run the same command again",
            )
        if time.monotonic() > deadline:
            client.rollback_instance_refresh(AutoScalingGroupName=name)
            raise Failed(
                f"the instance refresh has not ended in {FINISHED_WITHIN} s and is being rolled back: {text}",
                f"See {environment.command('status')}",
            )
        time.sleep(PAUSE)


def _newest_version(environment: Environment, template: str) -> str:
    found = environment.client("ec2").describe_launch_templates(LaunchTemplateIds=[template])
    return str(found["LaunchTemplates"][0]["LatestVersionNumber"])


def _group(environment: Environment) -> str:
    """The name of the Auto Scaling group of the cluster's capacity provider."""
    ecs = environment.client("ecs")
    cluster = ecs.describe_clusters(clusters=[environment.project])["clusters"]
    providers = cluster[0]["capacityProviders"] if cluster else []
    if not providers:
        raise Failed(f"{environment.name} is not deployed", environment.command("deploy"))
    found = ecs.describe_capacity_providers(capacityProviders=providers)["capacityProviders"][0]
    arn: str = found["autoScalingGroupProvider"]["autoScalingGroupArn"]
    return arn.rpartition("autoScalingGroupName/")[2]
