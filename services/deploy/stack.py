"""Runs Terraform for one environment and reports its progress."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from deploy import terraform_variables
from deploy.environments import Environment
from deploy.prices import Resource
from deploy.steps import Failed, Reporter

# Passes the validation of the variable but names no image. No task is ever planned with it.
NO_IMAGE = "sha256:" + "0" * 64
_DENIED = re.compile(
    r"not authorized to perform:?\s+([\w-]+:\w+)|access denied[^.]*?([\w-]+:[A-Z]\w+)", re.IGNORECASE
)
# What `terraform state list` prints before the first apply: in one way of its own, and one of the backend.
_NO_STATE = re.compile(r"No state file was found|No stored state was found")
_DATA_SOURCE = re.compile(r"(module\.[^.\[]+(\[[^]]*\])?\.)*data\.")
# What Terraform prints about a lock.
_LOCK = re.compile(r"^\s*(ID|Who|Created):\s+(\S.*?)\s*$", re.MULTILINE)


class Stack:
    """The Terraform root module of an environment."""

    def __init__(self, environment: Environment, report: Reporter) -> None:
        self.environment = environment
        self._report = report
        self._work = environment.work or environment.root
        self._outputs: dict[str, Any] | None = None

    def init(self) -> None:
        self._work.mkdir(parents=True, exist_ok=True)
        backend = {"bucket": self.environment.state_bucket, "region": self.environment.region}
        self._run(
            "init",
            "-input=false",
            "-no-color",
            "-reconfigure",
            "-lockfile=readonly",
            *(f"-backend-config={key}={value}" for key, value in backend.items()),
        )

    def unlock(self, lock: str) -> None:
        """Release the lock of the state with that id."""
        self._run("force-unlock", "-no-color", "-force", lock)

    def check_variables(self) -> None:
        """Raise unless every variable has a valid value."""
        terraform_variables.check(self.environment.root, self._variables(NO_IMAGE), self._environment())

    def outputs(self) -> dict[str, Any]:
        """The outputs in the state; empty before the first apply.

        Terraform is asked for them only if no other command of this object has printed them: each start of
        Terraform reads the 700 MB of its provider.
        """
        if self._outputs is None:
            self._outputs = _values(json.loads(self._run("output", "-json", "-no-color")))
        return self._outputs

    def addresses(self) -> set[str]:
        """The addresses of the managed resources in the state; empty before the first apply.

        This starts no provider: `terraform show` reads the schemas of all the resources that AWS has.
        """
        try:
            listed = self._run("state", "list", "-no-color").splitlines()
        except Failed as failure:
            if _NO_STATE.search(failure.why):
                return set()
            raise
        return {address for address in listed if not _DATA_SOURCE.match(address)}

    def resources(self) -> list[Resource]:
        """The types and values of the resources in the state."""
        state = json.loads(self._run("show", "-json", "-no-color")).get("values", {})
        self._outputs = _values(state.get("outputs", {}))
        return [Resource(entry["type"], entry["values"]) for entry in managed(state.get("root_module", {}))]

    def import_options(self) -> str:
        """The variables that `terraform import` needs and no file has, for a shell."""
        return shlex.join(f"-var={name}={value}" for name, value in self._variables(NO_IMAGE).items())

    def apply(
        self, image: str, *, targets: tuple[str, ...] = (), watch: Callable[[], Failed | None] = lambda: None
    ) -> bool:
        """Apply the configuration. Return whether anything was changed.

        `watch` is called every few seconds. If it returns a failure, Terraform is stopped and the failure is
        raised.
        """
        return self._carry_out(image, *(f"-target={target}" for target in targets), watch=watch)

    def destroy(self, *, keep: tuple[str, ...] = ()) -> bool:
        """Destroy all modules except those in `keep`. They must have no dependency on the others.

        The others must not depend on them either: with `-target`, Terraform also destroys dependencies.
        https://developer.hashicorp.com/terraform/cli/commands/destroy
        """
        targets: set[str] = set()
        if keep:
            targets = {".".join(address.split(".")[:2]) for address in self.addresses()} - set(keep)
            if not targets:
                return False
        return self._carry_out(NO_IMAGE, "-destroy", *(f"-target={target}" for target in sorted(targets)))

    def plan_is_empty(self, image: str) -> bool:
        """Whether a plan would change nothing."""
        return self._plan(image) is None

    def changes(self, image: str) -> list[str]:
        """What a plan would change: an action and an address each."""
        plan = self._plan(image)
        if plan is None:
            return []
        try:
            shown = json.loads(self._run("show", "-json", "-no-color", str(plan)))
        finally:
            plan.unlink(missing_ok=True)
        return [
            f"{'/'.join(entry['change']['actions'])} {entry['address']}"
            for entry in shown.get("resource_changes", ())
            if entry["change"]["actions"] not in (["no-op"], ["read"])
        ]

    def _carry_out(
        self, image: str, *options: str, watch: Callable[[], Failed | None] = lambda: None
    ) -> bool:
        plan = self._plan(image, *options)
        if plan is None:
            return False
        self._outputs = None
        try:
            self._follow("apply", "-json", "-input=false", str(plan), watch=watch)
        finally:
            plan.unlink(missing_ok=True)
        return True

    def _plan(self, image: str, *options: str) -> Path | None:
        """Make a plan and return its file, or None if it is empty."""
        plan = self._work.resolve() / "deploy.tfplan"
        variables = [f"-var={name}={value}" for name, value in self._variables(image).items()]
        changes: dict[str, int] = {}
        for event in self._events("plan", "-json", "-input=false", f"-out={plan}", *variables, *options):
            if event.get("type") == "change_summary":
                changes = event["changes"]
        if not any(changes.get(kind) for kind in ("add", "change", "remove", "import")):
            plan.unlink(missing_ok=True)
            self._report.say("nothing to change")
            return None
        self._report.say(
            f"{changes['add']} to add, {changes['change']} to change, {changes['remove']} to remove"
        )
        return plan

    def _follow(self, *arguments: str, watch: Callable[[], Failed | None]) -> None:
        with closing(self._events(*arguments)) as events:
            self._report_events(events, watch)

    def _report_events(self, events: Iterator[dict[str, Any]], watch: Callable[[], Failed | None]) -> None:
        for event in events:
            if event.get("type") == "outputs":
                self._outputs = _values(event["outputs"])
            # Terraform sends this event every ten seconds while a resource is being changed.
            if event.get("type") == "apply_progress" and (failure := watch()):
                raise failure
            if event.get("type") in {"apply_complete", "apply_errored"}:
                hook = event["hook"]
                done = "failed" if event["type"] == "apply_errored" else "done"
                seconds = hook.get("elapsed_seconds", 0)
                self._report.say(f"{hook['action']} {hook['resource']['addr']}: {done}, {seconds} s")

    def _events(self, *arguments: str) -> Generator[dict[str, Any]]:
        """Yield Terraform's events as they arrive. Raise its errors at the end.

        If the caller stops before the end, Terraform is interrupted. It saves its state and releases the
        lock.
        """
        errors: list[str] = []
        with subprocess.Popen(
            ["terraform", *arguments],
            cwd=self.environment.root,
            env=self._environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            # Ctrl-C reaches this process only. A second signal would make Terraform stop without saving.
            process_group=0,
        ) as process:
            assert process.stdout is not None
            try:
                for line in process.stdout:
                    try:
                        event = json.loads(line)
                    except json.JSONDecodeError:
                        errors.append(line.strip())
                        continue
                    if event.get("@level") == "error" and "diagnostic" in event:
                        found = event["diagnostic"]
                        text = f"{found.get('address', '')}: {found['summary']} {found.get('detail', '')}"
                        errors.append(text.strip())
                    yield event
            except BaseException:
                process.send_signal(signal.SIGINT)
                process.communicate()
                raise
        if process.returncode:
            raise failure_of(f"terraform {arguments[0]}", errors, self.environment.command("unlock"))

    def _run(self, *arguments: str) -> str:
        result = subprocess.run(
            ["terraform", *arguments],
            cwd=self.environment.root,
            env=self._environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        if result.returncode:
            said = result.stderr.strip() or result.stdout.strip()
            raise failure_of(f"terraform {arguments[0]}", [said], self.environment.command("unlock"))
        return result.stdout

    def _variables(self, image: str) -> dict[str, str]:
        emulated = self.environment.emulated
        previous = list(self.environment.previous_buckets)
        return {
            "image": image,
            "data_bucket_name": self.environment.bucket,
            **({"previous_bucket_names": json.dumps(previous)} if previous else {}),
            **(emulated.values if emulated else {}),
        }

    def _environment(self) -> dict[str, str]:
        environment = {**os.environ, "TF_IN_AUTOMATION": "1", "CHECKPOINT_DISABLE": "1"}
        if self.environment.work:
            environment["TF_DATA_DIR"] = str(self._work.resolve() / ".terraform")
        if self.environment.emulated:
            # The operator's own AWS_* could name a real account.
            environment = {name: value for name, value in environment.items() if not name.startswith("AWS_")}
            environment |= self.environment.aws_variables
        return environment


def _values(outputs: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The outputs that have a value."""
    return {name: entry["value"] for name, entry in outputs.items() if entry.get("value") is not None}


def managed(module: dict[str, Any]) -> list[dict[str, Any]]:
    """The resources that Terraform manages in a module of `terraform show -json`, and in its children."""
    own = [entry for entry in module.get("resources", ()) if entry["mode"] == "managed"]
    return own + [entry for child in module.get("child_modules", ()) for entry in managed(child)]


def failure_of(what: str, errors: list[str], unlock: str) -> Failed:
    """Turn Terraform's errors into one failure, which names a missing permission.

    `unlock` is the command that releases a lock.
    """
    text = "\n".join(dict.fromkeys(error for error in errors if error)) or "it printed no error"
    denied = sorted({found for match in _DENIED.findall(text) for found in match if found})
    if denied:
        return Failed(
            f"{what}: the deployer may not {', '.join(denied)}",
            "Give the deployer the policies in services/deploy/iam as they are now, and deploy again. "
            f"Terraform said:\n{text[:2000]}",
        )
    if "state lock" in text:
        lock = dict(_LOCK.findall(text))
        who, since = lock.get("Who", "someone else"), lock.get("Created", "a moment ago")
        return Failed(
            f"{what}: {who} is deploying, or was cut off: the state is locked since {since}",
            "Wait for it. If no deployment runs, release the lock: "
            f"{unlock} LOCK={lock.get('ID', '<id>')}\n{text[:1000]}",
        )
    if 'variable "' in text and "No value for required variable" in text:
        return Failed(
            f"{what}: a variable has no value",
            f"Set it in {terraform_variables.FILE} in the environment's folder.\n{text[:1500]}",
        )
    if "does not support creating load balancers" in text or "PendingVerification" in text:
        return Failed(
            f"{what}: {text[:3000]}",
            "AWS has not enabled this account for that yet. Open a case with AWS Support, then deploy again",
        )
    return Failed(
        f"{what}: {text[:3000]}", "Correct that and run the same command again: finished steps are skipped"
    )
