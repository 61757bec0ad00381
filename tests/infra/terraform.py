"""Runs Terraform in a copy of the code, with mocked providers, so that it changes nothing."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

CHECKOUT = Path(__file__).resolve().parents[2]
MODULES = tuple(sorted(f"modules/{path.name}" for path in (CHECKOUT / "modules").iterdir() if path.is_dir()))
ROOTS = ("envs/day02", "envs/prod")
DIRECTORIES = (*MODULES, *ROOTS)

# Values of an operator. Any valid value works, because no AWS is called.
_VARIABLES = {
    "image": "sha256:" + "0" * 64,
    "data_bucket_name": "day02-data",
    "billing_email": "owner@example.com",
    "alarm_email": "owner@example.com",
    "allowed_cidrs": '["203.0.113.0/24"]',
    "domain_name": "files.example.com",
    "zone_id": "Z0123456789ABCDEFGHIJ",
    "access_logs_bucket_name": "day02-access-logs",
}

# A mocked provider cannot make a destroy plan: this is a real provider that makes no request.
_OFFLINE = """
terraform {
  backend "local" {}
}

provider "aws" {
  access_key                  = "offline"
  secret_key                  = "offline"
  skip_credentials_validation = true
  skip_metadata_api_check     = true
  skip_requesting_account_id  = true
}

provider "aws" {
  alias                       = "us_east_1"
  access_key                  = "offline"
  secret_key                  = "offline"
  skip_credentials_validation = true
  skip_metadata_api_check     = true
  skip_requesting_account_id  = true
}
"""


@dataclass(frozen=True)
class TestRun:
    """The output of `terraform test -json`: status of each run, errors, and a root's plans and states."""

    __test__ = False

    statuses: dict[str, str]
    plans: dict[str, dict[str, Any]]
    states: dict[str, dict[str, Any]]
    errors: list[str]


# Only invented credentials: a test that calls AWS fails at once.
_NO_AWS = {
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
}

# Files that a deployment from this checkout leaves in a root are not part of the code.
_LEFT_BY_RUNS = shutil.ignore_patterns(".terraform", "*.tfstate*", "*.tfplan")

T = TypeVar("T")


def _once(
    work: Callable[[Workspace, str], T],
) -> Callable[[Workspace, str], T]:
    """Run the function once for each directory. A second caller waits for the first."""
    results: dict[tuple[int, str], T] = {}
    locks: defaultdict[tuple[int, str], threading.Lock] = defaultdict(threading.Lock)

    @wraps(work)
    def done(workspace: Workspace, directory: str) -> T:
        key = (id(workspace), directory)
        with locks[key]:
            if key not in results:
                results[key] = work(workspace, directory)
            return results[key]

    return done


class Workspace:
    """A copy of the modules, the roots and the mocks.

    Each directory is initialised once, from its lock file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        for part in ("modules", "envs", "tests/infra/mocks"):
            shutil.copytree(CHECKOUT / part, path / part, ignore=_LEFT_BY_RUNS)
        self._pool = ThreadPoolExecutor(max_workers=2)
        # Providers are downloaded once. Terraform's cache is not made for two that fill it at the same time.
        self._plugins = path / "plugins"
        self._plugins.mkdir()
        self._filling = threading.Lock()
        self._starting = threading.Lock()
        self._providers: dict[Path, tuple[subprocess.Popen[str], str]] = {}

    def begin(self, directories: Iterable[str]) -> None:
        """Start to prepare what the tests need, two directories at a time."""
        for directory in directories:
            self._pool.submit(self.plans if directory in ROOTS else self.test, directory)

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)
        for provider, _ in self._providers.values():
            provider.send_signal(signal.SIGINT)  # it removes its socket
            provider.communicate()
        shutil.rmtree(self.path)

    def run(
        self, directory: str, *arguments: str, check: bool = True, more: Mapping[str, str] | None = None
    ) -> str:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        result = subprocess.run(
            ["terraform", *arguments],
            cwd=self.path / directory,
            env={
                "TF_PLUGIN_CACHE_DIR": str(self._plugins),
                "TF_PLUGIN_CACHE_MAY_BREAK_DEPENDENCY_LOCK_FILE": "1",  # of a copy that has none
                **environment,
                "TF_IN_AUTOMATION": "1",
                "CHECKPOINT_DISABLE": "1",
                **_NO_AWS,
                **(more or {}),
            },
            capture_output=True,
            text=True,
            check=False,
        )
        if check and result.returncode:
            said = f"{result.stdout[-4000:]}\n{result.stderr[-4000:]}"
            raise AssertionError(f"terraform {' '.join(arguments)} in {directory}:\n{said}")
        return result.stdout

    @_once
    def init(self, directory: str) -> None:
        locked = (self.path / directory / ".terraform.lock.hcl").exists()
        lock_file = ["-lockfile=readonly"] if locked else []
        with self._filling:
            self.run(directory, "init", "-backend=false", "-input=false", "-no-color", *lock_file)

    def run_attached(self, directory: str, *arguments: str, check: bool = True) -> str:
        """Run a command that configures no real provider, with a provider that already runs.

        Otherwise Terraform starts the provider several times for each run of a test, for 0.4 s of processor
        time each, and reads its 700 MB for the checksum. `init` has checked it.
        https://developer.hashicorp.com/terraform/plugin/debugging
        """
        [binary] = (self.path / directory / ".terraform/providers").glob("*/*/*/*/*/terraform-provider-*")
        attached = {"TF_REATTACH_PROVIDERS": self._attachment(binary.resolve())}
        return self.run(directory, *arguments, check=check, more=attached)

    def _attachment(self, binary: Path) -> str:
        """How Terraform reaches the running provider. It is started on first use."""
        with self._starting:
            if binary not in self._providers:
                provider = subprocess.Popen(
                    [binary, "-debug"],
                    env={**os.environ, **_NO_AWS},
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    text=True,
                )
                assert provider.stdout is not None
                said = next(line for line in provider.stdout if "TF_REATTACH_PROVIDERS=" in line)
                self._providers[binary] = provider, said.split("=", 1)[1].strip().strip("'")
            return self._providers[binary][1]

    @_once
    def test(self, directory: str) -> TestRun:
        self.init(directory)
        statuses: dict[str, str] = {}
        plans: dict[str, dict[str, Any]] = {}
        states: dict[str, dict[str, Any]] = {}
        errors: list[str] = []
        # Only the plans of roots are read, and each contains 13 MB of schemas.
        verbose = ["-verbose"] if directory in ROOTS else []
        for line in self.run_attached(directory, "test", "-json", *verbose, check=False).splitlines():
            event = _without_schemas(line)
            run = event.get("@testrun", "")
            match event:
                case {"test_run": {"progress": "complete", "status": status}}:
                    statuses[run] = status
                case {"test_plan": plan}:
                    plans[run] = plan
                case {"test_state": state}:
                    states[run] = state
                case {"diagnostic": {"severity": "error", "summary": summary, "detail": detail}}:
                    errors.append(f"{run}: {summary}: {detail}")
        return TestRun(statuses, plans, states, errors)

    @_once
    def offline(self, root: str) -> str:
        """A copy of the root with local state and real providers that make no request."""
        copy = self.path / f"{root}-offline"
        shutil.copytree(self.path / root, copy, ignore=shutil.ignore_patterns(".terraform", "tests"))
        (copy / "offline_override.tf").write_text(_OFFLINE)
        directory = copy.relative_to(self.path).as_posix()
        with self._filling:
            self.run(directory, "init", "-input=false", "-no-color")
        return directory

    @_once
    def destroy_plan(self, root: str) -> dict[str, Any]:
        """The plan of `terraform destroy` from the state of the mocked apply."""
        directory = self.offline(root)
        copy = self.path / directory
        (copy / "terraform.tfstate").write_text(json.dumps(_state_file(self.test(root).states["create"])))
        asked = [name for name in _VARIABLES if f'variable "{name}"' in (copy / "variables.tf").read_text()]
        variables = [argument for name in asked for argument in ("-var", f"{name}={_VARIABLES[name]}")]
        self.run(directory, "plan", "-destroy", "-refresh=false", "-input=false", "-out=plan", *variables)
        plan: dict[str, Any] = json.loads(self.run_attached(directory, "show", "-json", "plan"))
        return plan

    def plans(self, root: str) -> dict[str, dict[str, Any]]:
        """All plans of a root: create, change, replace and destroy."""
        plans = self.test(root).plans
        return {
            "create": plans["plan"],
            "change": plans["change"],
            "replace": plans["replace"],
            "destroy": self.destroy_plan(root),
        }

    @_once
    def graph(self, root: str) -> dict[str, set[str]]:
        """The direct dependencies of each resource in Terraform's graph."""
        edges: dict[str, set[str]] = {}
        for line in self.run_attached(self.offline(root), "graph").splitlines():
            if " -> " in line:
                after, before = (part.strip(' ";') for part in line.split(" -> "))
                edges.setdefault(after, set()).add(before)
        return edges


def managed(plan: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The changes of a plan to managed resources, by address."""
    return {change["address"]: change for change in plan["resource_changes"] if change["mode"] == "managed"}


def after(plan: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The planned values of each resource, by address."""
    return {address: change["change"]["after"] for address, change in managed(plan).items()}


def waits_for(graph: dict[str, set[str]], resource: str) -> set[str]:
    """All dependencies of `resource`, which are created before it and destroyed after it."""
    found: set[str] = set()
    todo = [resource]
    while todo:
        for before in graph.get(todo.pop(), set()) - found:
            found.add(before)
            todo.append(before)
    return found


def _without_schemas(line: str) -> dict[str, Any]:
    """An event of `terraform test -json`. The 13 MB of schemas in plans and states are not parsed."""
    head, found, _ = line.partition(',"provider_schemas":')
    event: dict[str, Any] = json.loads(head + "}}" if found else line)
    return event


def _state_file(state: dict[str, Any]) -> dict[str, Any]:
    """The state from the output of `terraform test`, as a state file."""
    resources: dict[tuple[str, str, str], dict[str, Any]] = {}
    todo = [state["root_module"]]
    while todo:
        module = todo.pop()
        todo.extend(module.get("child_modules", []))
        address = module.get("address", "")
        alias = ".us_east_1" if address == "module.billing_alarm" else ""
        for resource in module.get("resources", []):
            if resource["mode"] != "managed":
                continue
            entry = resources.setdefault(
                (address, resource["type"], resource["name"]),
                {
                    "mode": "managed",
                    "type": resource["type"],
                    "name": resource["name"],
                    "provider": f'provider["registry.terraform.io/hashicorp/aws"]{alias}',
                    "instances": [],
                    **({"module": address} if address else {}),
                },
            )
            entry["instances"].append(
                {
                    "schema_version": resource["schema_version"],
                    "attributes": resource["values"],
                    "dependencies": resource.get("depends_on", []),
                    **({"index_key": resource["index"]} if "index" in resource else {}),
                }
            )
    return {
        "version": 4,
        "terraform_version": state.get("terraform_version", "1.11.0"),
        "serial": 1,
        "lineage": "mocked",
        "outputs": {},
        "resources": list(resources.values()),
    }
