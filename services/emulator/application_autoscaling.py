"""Application Auto Scaling, which MiniStack lacks. It records targets and policies, and scales nothing.

https://docs.aws.amazon.com/autoscaling/application/APIReference/API_Operations.html
"""

from __future__ import annotations

import copy
import json
import time
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from ministack.core.responses import (
    AccountRegionScopedDict,
    error_response_json,
    get_account_id,
    get_region,
    json_response,
)

NAME = "application-autoscaling"

_Data = dict[str, Any]

#: Targets by namespace, resource and dimension.
_targets: Any = AccountRegionScopedDict()
#: Policies by the same, and their name.
_policies: Any = AccountRegionScopedDict()
#: Tags by the ARN of a target.
_tags: Any = AccountRegionScopedDict()

_TARGET = ("ServiceNamespace", "ResourceId", "ScalableDimension")


class _Refused(Exception):
    """An error of the service: its code and its sentence."""


def get_state() -> dict[str, Any]:
    return {name: copy.deepcopy(store) for name, store in _stores().items()}


def load_persisted_state(data: Mapping[str, Any]) -> None:
    for name, store in _stores().items():
        store.update(data.get(name, {}))


def reset() -> None:
    for store in _stores().values():
        store.clear()


def tags_of(parameters: Mapping[str, str]) -> Mapping[str, str]:
    """The tags of the target that a request names."""
    arn = parameters.get("ResourceARN") or (_targets.get(_key(parameters)) or {}).get("ScalableTargetARN", "")
    found: Mapping[str, str] = _tags.get(arn) or {}
    return found


async def handle_request(
    _method: str, _path: str, headers: Mapping[str, str], body: bytes, _query: Any
) -> Any:
    operation = _OPERATIONS.get(headers.get("x-amz-target", "").rpartition(".")[2])
    if operation is None:
        return error_response_json("UnknownOperationException", "There is no such operation.", 400)
    try:
        return json_response(operation(json.loads(body or b"{}")))
    except _Refused as refused:
        return error_response_json(refused.args[0], refused.args[1], 400)


def _register(data: _Data) -> _Data:
    key = _key(data)
    target = _targets.get(key)
    if target is None:
        arn = f"arn:aws:{NAME}:{get_region()}:{get_account_id()}:scalable-target/{uuid.uuid4().hex}"
        target = {name: data[name] for name in _TARGET}
        target |= {"ScalableTargetARN": arn, "CreationTime": time.time()}
        role = "ecs.application-autoscaling.amazonaws.com/AWSServiceRoleForApplicationAutoScaling_ECSService"
        target["RoleARN"] = f"arn:aws:iam::{get_account_id()}:role/aws-service-role/{role}"
        target["SuspendedState"] = {
            f"{what}Suspended": False
            for what in ("DynamicScalingIn", "DynamicScalingOut", "ScheduledScaling")
        }
        _targets[key] = target
        _tags[arn] = dict(data.get("Tags") or {})
    target |= {name: data[name] for name in ("MinCapacity", "MaxCapacity") if name in data}
    return {"ScalableTargetARN": target["ScalableTargetARN"]}


def _describe_targets(data: _Data) -> _Data:
    return {"ScalableTargets": [target for target in _targets.values() if _asked(target, data)]}


def _deregister(data: _Data) -> _Data:
    target = _target(data)
    del _targets[_key(data)]
    _tags.pop(target["ScalableTargetARN"], None)
    for key in [key for key, policy in _policies.items() if _key(policy) == _key(data)]:
        del _policies[key]
    return {}


def _put_policy(data: _Data) -> _Data:
    _target(data)
    key = f"{_key(data)}|{data['PolicyName']}"
    policy = _policies.get(key) or {
        "PolicyARN": f"arn:aws:autoscaling:{get_region()}:{get_account_id()}:scalingPolicy:{uuid.uuid4()}:"
        f"resource/{data['ServiceNamespace']}/{data['ResourceId']}:policyName/{data['PolicyName']}",
        "CreationTime": time.time(),
    }
    _policies[key] = {**policy, **data, "Alarms": []}
    return {"PolicyARN": policy["PolicyARN"], "Alarms": []}


def _describe_policies(data: _Data) -> _Data:
    names = data.get("PolicyNames")
    return {
        "ScalingPolicies": [
            policy
            for policy in _policies.values()
            if _asked(policy, data) and (not names or policy["PolicyName"] in names)
        ]
    }


def _delete_policy(data: _Data) -> _Data:
    key = f"{_key(data)}|{data['PolicyName']}"
    if key not in _policies:
        raise _Refused("ObjectNotFoundException", "No scaling policy found for this name and target.")
    del _policies[key]
    return {}


def _tag(data: _Data) -> _Data:
    _known(data).update(data["Tags"])
    return {}


def _untag(data: _Data) -> _Data:
    for name in data["TagKeys"]:
        _known(data).pop(name, None)
    return {}


def _list_tags(data: _Data) -> _Data:
    return {"Tags": _known(data)}


def _known(data: _Data) -> dict[str, str]:
    tags: dict[str, str] | None = _tags.get(data["ResourceARN"])
    if tags is None:
        raise _Refused("ResourceNotFoundException", f"{data['ResourceARN']} does not exist.")
    return tags


def _target(data: _Data) -> _Data:
    target: _Data | None = _targets.get(_key(data))
    if target is None:
        raise _Refused("ObjectNotFoundException", "No scalable target found for this resource and dimension.")
    return target


def _asked(record: _Data, data: _Data) -> bool:
    """Whether a request to describe includes this record."""
    resources = data.get("ResourceIds") or [data.get("ResourceId")]
    return (
        record["ServiceNamespace"] == data["ServiceNamespace"]
        and record["ResourceId"] in (resources if any(resources) else [record["ResourceId"]])
        and data.get("ScalableDimension") in {None, record["ScalableDimension"]}
    )


def _key(data: Mapping[str, Any]) -> str:
    return "|".join(str(data.get(name)) for name in _TARGET)


def _stores() -> dict[str, Any]:
    return {"targets": _targets, "policies": _policies, "tags": _tags}


_OPERATIONS: dict[str, Callable[[_Data], _Data]] = {
    "RegisterScalableTarget": _register,
    "DescribeScalableTargets": _describe_targets,
    "DeregisterScalableTarget": _deregister,
    "PutScalingPolicy": _put_policy,
    "DescribeScalingPolicies": _describe_policies,
    "DeleteScalingPolicy": _delete_policy,
    "TagResource": _tag,
    "UntagResource": _untag,
    "ListTagsForResource": _list_tags,
}


def add_to(app: Any) -> None:
    """Serve this module's operations as one of MiniStack's services. Its state is saved with theirs."""
    import sys

    from ministack.core import iam_actions

    module = NAME.replace("-", "_")
    app._loaded_modules[module] = sys.modules[__name__]
    app.SERVICE_REGISTRY[NAME] = {"module": module}
    app.SERVICE_HANDLERS[NAME] = handle_request
    app._state_map[module] = module
    iam_actions.SERVICE_TO_IAM_NAMESPACE[NAME] = NAME
