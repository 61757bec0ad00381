"""The values of a root module's variables, as Terraform reads them from its files and from TF_VAR_…."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from deploy.steps import Failed

#: The variables that the deployment itself uses. A root that does not declare one has None.
NAMES = (
    "region",
    "project_name",
    "name",
    "port",
    "architecture",
    "instance_type",
    "task_role_name",
    "billing_topic_name",
    "certificate_arn",
    "data_bucket_name",
    "firewall",
    "memory_mib",
    "public_subnets",
    "zone_id",
)
FILE = "10_terraform.auto.tfvars"
#: Variables that the file of prod leaves to the operator.
OPERATORS = ("access_logs_bucket_name", "domain_name")
_UNKNOWN = "(known after apply)"


@cache
def values(root: Path) -> Mapping[str, Any]:
    """The values of `NAMES` and `OPERATORS`. A variable without a value is None or missing."""
    declared = set(re.findall(r'^variable "(\w+)"', (root / "variables.tf").read_text(), re.MULTILINE))
    found = {**dict.fromkeys(NAMES), **_evaluated(root, [name for name in NAMES if name in declared])}
    # One without a value would make the whole expression unknown.
    for name in OPERATORS:
        if name in declared:
            found |= _evaluated(root, [name])
    return found


def _evaluated(root: Path, names: list[str]) -> dict[str, Any]:
    """The values of variables, or nothing if one of them has none."""
    expression = f"jsonencode({{{', '.join(f'{name} = var.{name}' for name in names)}}})"
    output = _terraform(root, "console", stdin=expression).strip()
    if output == _UNKNOWN:
        return {}
    found: dict[str, Any] = json.loads(json.loads(output))
    return found


def check(root: Path, given: Mapping[str, str], environment: Mapping[str, str]) -> None:
    """Raise unless each required variable has a value, and each value passes the root's validations."""
    assigned = [f"-var={name}={value}" for name, value in given.items()]
    _terraform(root, "plan", "-input=false", "-lock=false", *assigned, environment=environment)


def _terraform(
    root: Path, *arguments: str, stdin: str = "", environment: Mapping[str, str] = os.environ
) -> str:
    """Run Terraform on a copy of the variables and their values only.

    The copy has no provider and no backend, so Terraform needs no `init` and calls no AWS.
    """
    if shutil.which("terraform") is None:
        raise Failed(
            "terraform is not installed", "Install Terraform 1.11 or newer: developer.hashicorp.com/terraform"
        )
    with tempfile.TemporaryDirectory() as directory:
        for path in (root / "variables.tf", *root.glob("*.tfvars"), *root.glob("*.tfvars.json")):
            shutil.copy(path, directory)
        result = subprocess.run(
            ["terraform", arguments[0], "-no-color", *arguments[1:]],
            cwd=directory,
            env={**environment, "CHECKPOINT_DISABLE": "1", "TF_DATA_DIR": f"{directory}/.terraform"},
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
        )
    if result.returncode:
        raise Failed(
            f"a variable of {root.name} has no value, or a wrong one:\n{result.stderr.strip()}",
            f"Set it in envs/{root.name}/{FILE}",
        )
    return result.stdout
