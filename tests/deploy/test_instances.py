"""`make refresh`, with an Auto Scaling group whose refresh goes through given states.

The states are those of docs.aws.amazon.com/autoscaling/ec2/APIReference/API_InstanceRefresh.html. The
emulated AWS runs no instances.
"""

from __future__ import annotations

from typing import Any

import pytest

from deploy import instances
from deploy.steps import Failed, Reporter

GROUP = "day02-flask-asg-1"


class Account:
    """An environment whose clients are all this object. The last state stays."""

    name = project = "day02"

    def __init__(self, *states: str, providers: tuple[str, ...] = ("day02",)) -> None:
        self._states = list(states)
        self._providers = list(providers)
        self.started: list[dict[str, Any]] = []
        self.rolled_back: list[str] = []

    def client(self, _: str) -> Account:
        return self

    def command(self, command: str) -> str:
        return f"make {command} ENV={self.name}"

    def describe_clusters(self, **_: object) -> dict[str, Any]:
        return {"clusters": [{"capacityProviders": self._providers}]}

    def describe_capacity_providers(self, **_: object) -> dict[str, Any]:
        arn = f"arn:aws:autoscaling:eu-west-1:1:autoScalingGroup:x:autoScalingGroupName/{GROUP}"
        return {"capacityProviders": [{"autoScalingGroupProvider": {"autoScalingGroupArn": arn}}]}

    def describe_auto_scaling_groups(self, **_: object) -> dict[str, Any]:
        return {"AutoScalingGroups": [{"LaunchTemplate": {"LaunchTemplateId": "lt-1", "Version": "3"}}]}

    def describe_launch_templates(self, **_: object) -> dict[str, Any]:
        return {"LaunchTemplates": [{"LatestVersionNumber": 4}]}

    def start_instance_refresh(self, **asked: Any) -> dict[str, Any]:
        self.started.append(asked)
        return {"InstanceRefreshId": "r"}

    def describe_instance_refreshes(self, **_: object) -> dict[str, Any]:
        state = self._states.pop(0) if len(self._states) > 1 else self._states[0]
        return {"InstanceRefreshes": [{"Status": state, "StatusReason": "the reason"}]}

    def rollback_instance_refresh(self, **asked: str) -> None:
        self.rolled_back.append(asked["AutoScalingGroupName"])


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instances, "PAUSE", 0)


def refresh(account: Account) -> None:
    environment: Any = account
    instances.refresh(environment, Reporter())


def test_a_refresh_is_awaited_and_can_be_rolled_back() -> None:
    """AWS can roll a refresh back only if it names a version of the template by its number.

    Source: docs.aws.amazon.com/autoscaling/ec2/userguide/instance-refresh-rollback.html
    """
    account = Account("Pending", "InProgress", "Successful")

    refresh(account)

    (started,) = account.started
    assert started["AutoScalingGroupName"] == GROUP
    assert started["DesiredConfiguration"] == {"LaunchTemplate": {"LaunchTemplateId": "lt-1", "Version": "4"}}
    assert started["Preferences"]["AutoRollback"]
    assert account.rolled_back == []


@pytest.mark.parametrize("state", ["Failed", "Cancelled", "RollbackFailed", "RollbackSuccessful"])
def test_a_refresh_that_did_not_replace_the_instances_fails(state: str) -> None:
    """A refresh that AWS ends without new instances is an error with AWS's reason."""
    with pytest.raises(Failed, match=f"ended as {state}: the reason"):
        refresh(Account("InProgress", state))


def test_a_refresh_that_does_not_end_is_rolled_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """A refresh that is not finished in time is rolled back, and the error says so."""
    monkeypatch.setattr(instances, "FINISHED_WITHIN", -1)
    account = Account("InProgress")

    with pytest.raises(Failed, match="is being rolled back"):
        refresh(account)

    assert account.rolled_back == [GROUP]


def test_there_is_nothing_to_refresh_before_a_deployment() -> None:
    """Without a group of instances, the error says that the environment is not deployed."""
    with pytest.raises(Failed, match="not deployed"):
        refresh(Account("Successful", providers=()))
