"""Corrections of IAM."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

#: Read with `docker exec`, which needs access to the engine. No request can read it.
PERMISSIONS = Path("/run/permissions.jsonl")
_MOST_PERMISSIONS = 20_000


def match_unknown_resources() -> None:
    """Treat an unknown resource as a match.

    MiniStack often cannot name a call's resource and then denies whatever a policy allows on named resources
    only. With this, actions are always enforced, and resources where MiniStack knows them.
    """
    from ministack.core import iam_evaluator

    matches = iam_evaluator._resource_matches

    def or_unknown(resource_arn: str, *rest: Any, **named: Any) -> bool:
        return resource_arn == "*" or bool(matches(resource_arn, *rest, **named))

    iam_evaluator._resource_matches = or_unknown


def match_policies_for_public_parameters() -> None:
    """Let policies match the ARNs of AWS's public parameters in SSM, which have no account number.

    MiniStack adds the number to the ARN of a call's resource, so a policy written for AWS does not match.
    """
    from ministack.core import iam_actions

    extract = iam_actions.extract_resource_arn

    def resource(*arguments: Any, **named: Any) -> str:
        arn = str(extract(*arguments, **named))
        return re.sub(r"^(arn:aws:ssm:[a-z0-9-]+:)[0-9]{12}(:parameter/aws/service/)", r"\1\2", arn)

    iam_actions.extract_resource_arn = resource


def record_permissions() -> None:
    """Write each action that was allowed or denied to a file in the container, for the tests."""
    from ministack.core import iam_evaluator

    enforce = iam_evaluator.enforce
    known: set[tuple[str, str, str, bool]] = set()

    def recorded(access_key: str, action: str, service: str, region: str, *rest: Any, **named: Any) -> Any:
        refused = enforce(access_key, action, service, region, *rest, **named)
        entry = (access_key, action, str(named.get("resource_arn", "*")), refused is None)
        if entry not in known and len(known) < _MOST_PERMISSIONS:
            known.add(entry)
            with PERMISSIONS.open("a") as file:
                file.write(json.dumps(entry) + "\n")
        return refused

    iam_evaluator.enforce = recorded
