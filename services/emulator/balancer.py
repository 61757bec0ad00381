"""Real load balancing for the emulated load balancers: HAProxy, configured from MiniStack's records of ELBv2.

Listener ports, health checks, algorithm and timeouts are the values that Terraform has set. Targets are added
and removed over HAProxy's runtime socket. Its process is replaced only when a listener changes.
"""

from __future__ import annotations

import csv
import io
import logging
import re
import socket
import subprocess
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from emulator.certificates import Authority

logger = logging.getLogger("balancer")

SLOTS = 16
POLL_SECONDS = 0.05
# A busy task on a busy laptop needs up to this long to answer its health check.
LEAST_TIMEOUT_SECONDS = 3.0
_STATISTICS_SECONDS = 0.2


@dataclass(frozen=True)
class Group:
    """A target group: how it balances, when a target is healthy, and how long it drains.

    Times are in seconds. Those of the health checks are already scaled. Groups that differ only in their
    deregistration delay are equal, because HAProxy does not know it.
    """

    arn: str
    path: str
    codes: str
    interval: float
    timeout: float
    rise: int
    fall: int
    algorithm: str
    deregistration_delay: float = field(default=300.0, compare=False)

    @property
    def interval_after_failure(self) -> float:
        """The time from a failed check to the next one.

        AWS counts the interval from the start of a check, HAProxy from its end. A check that gets no answer
        lasts until its timeout.
        """
        return max(self.interval - self.timeout, self.interval / 3)

    @property
    def name(self) -> str:
        """The name of the backend in HAProxy: letters, digits and hyphens."""
        return "tg-" + re.sub(r"[^A-Za-z0-9-]", "-", self.arn.split("targetgroup/", 1)[-1])


@dataclass(frozen=True)
class Listener:
    """A listener's port, the idle timeout of its load balancer, and its default action.

    It forwards to `group`, or redirects to `redirect`. With `certificate`, the file of a certificate and its
    key, it speaks HTTPS.
    """

    port: int
    group: Group | None
    idle_timeout: int
    redirect: Redirect | None = None
    certificate: Path | None = None


@dataclass(frozen=True)
class Redirect:
    """A redirect to the same host, path and query by another protocol and port."""

    protocol: str
    port: str
    status: int


@dataclass(frozen=True)
class Health:
    """The health of a target, `initial`, `healthy`, `unhealthy` or `draining`, and the reason."""

    state: str
    reason: str = ""


@dataclass
class _Slot:
    """A server slot in HAProxy, and the target that occupies it, if any.

    `drains_until` is the end of the deregistration delay of a target that was deregistered.
    """

    name: str
    target: tuple[str, int] | None = None
    was_healthy: bool = False
    drains_until: float | None = None
    freed_at: float = field(default=0.0)


def group_of(record: Mapping[str, Any], attributes: Mapping[str, str], time_scale: float) -> Group:
    """A target group from MiniStack's record of it, with its times divided by the scale."""
    timeout = record["HealthCheckTimeoutSeconds"]
    return Group(
        arn=record["TargetGroupArn"],
        path=record["HealthCheckPath"],
        codes=record["Matcher"]["HttpCode"],
        interval=record["HealthCheckIntervalSeconds"] / time_scale,
        timeout=min(timeout, max(timeout / time_scale, LEAST_TIMEOUT_SECONDS)),
        rise=record["HealthyThresholdCount"],
        fall=record["UnhealthyThresholdCount"],
        algorithm=attributes.get("load_balancing.algorithm.type", "round_robin"),
        deregistration_delay=float(attributes.get("deregistration_delay.timeout_seconds", "300")),
    )


def configuration(listeners: tuple[Listener, ...], control: Path) -> str:
    """HAProxy's configuration for these listeners."""
    lines = [
        "global",
        f"  stats socket {control} mode 600 level admin",
        "  maxconn 2000",
        "  hard-stop-after 120s",
        "defaults",
        "  mode http",
        "  timeout connect 10s",
        "  timeout http-request 60s",
        "  option forwardfor",
        # Nothing has been sent when a connection fails, so the request may go to another target.
        "  option redispatch 1",
        "  retries 2",
        "  retry-on conn-failure",
    ]
    for listener in listeners:
        # The policy of the listener, ELBSecurityPolicy-TLS13-1-2-2021-06, has TLS 1.2 and 1.3.
        tls = f" ssl crt {listener.certificate} ssl-min-ver TLSv1.2 alpn h2,http/1.1"
        lines += [
            f"frontend port-{listener.port}",
            f"  bind :{listener.port}" + (tls if listener.certificate else ""),
            f"  timeout client {listener.idle_timeout}s",
            f"  timeout http-keep-alive {listener.idle_timeout}s",
            f"  http-request set-header X-Forwarded-Proto {'https' if listener.certificate else 'http'}",
            "  http-request set-header X-Forwarded-Port %[dst_port]",
        ]
        if redirect := listener.redirect:
            # ELB names the port in the location also where it is the protocol's own.
            where = f"{redirect.protocol.lower()}://%[req.hdr(host),host_only]:{redirect.port}%[pathq]"
            lines.append(f"  http-request redirect code {redirect.status} location {where}")
        if listener.group:
            lines.append(f"  default_backend {listener.group.name}")
    idle_timeouts = {listener.group: listener.idle_timeout for listener in listeners if listener.group}
    for group, idle_timeout in idle_timeouts.items():
        between, after_failure = group.interval * 1000, group.interval_after_failure * 1000
        intervals = f"inter {between:.0f}ms fastinter {after_failure:.0f}ms"
        lines += [
            f"backend {group.name}",
            f"  timeout server {idle_timeout}s",
            f"  timeout check {group.timeout * 1000:.0f}ms",
            "  balance " + ("leastconn" if group.algorithm == "least_outstanding_requests" else "roundrobin"),
            "  option httpchk",
            f"  http-check send meth GET uri {group.path} ver HTTP/1.1 hdr Host balancer",
            f"  http-check expect status {group.codes}",
            f"  default-server check {intervals} rise {group.rise} fall {group.fall}",
            f"  server-template t {SLOTS} 127.0.0.1:1 disabled",
        ]
    return "\n".join(lines) + "\n"


class Balancer:
    """One HAProxy for all listeners. A thread keeps it up to date with MiniStack's records."""

    def __init__(self, directory: Path, time_scale: float, authority: Authority) -> None:
        self._authority = authority
        self._control = directory / "control"
        self._file = directory / "haproxy.cfg"
        self._time_scale = time_scale
        self._listeners: tuple[Listener, ...] = ()
        self._process: subprocess.Popen[bytes] | None = None
        self._slots: dict[str, list[_Slot]] = {}
        self._lock = threading.Lock()
        self._statistics: dict[tuple[str, str], dict[str, str]] = {}
        self._statistics_at = float("-inf")

    def run(self) -> None:
        """Apply changes of the records until the process ends."""
        while True:
            try:
                self.follow()
            except Exception:
                logger.exception("A change could not be applied to the balancer; the next round tries again")
                time.sleep(1)
            time.sleep(POLL_SECONDS)

    def follow(self) -> None:
        listeners, targets = self._recorded()
        with self._lock:
            if listeners != self._listeners:
                self._replace(listeners)
            self._listeners = listeners  # with the deregistration delays of now
            for group in {listener.group for listener in self._listeners if listener.group}:
                self._place(group, targets.get(group.arn, set()))

    def health(self, arn: str, address: str) -> Health:
        """The health of the target with that address in the target group with that ARN."""
        with self._lock:
            for listener in self._listeners:
                if listener.group is None or listener.group.arn != arn:
                    continue
                for slot in self._slots.get(listener.group.name, ()):
                    if slot.target and slot.target[0] == address:
                        return self._health(listener.group, slot)
        return Health("initial", "no listener has this target yet")

    def draining(self, arn: str) -> set[tuple[str, int]]:
        """The targets that were deregistered from the target group and still finish their requests."""
        with self._lock:
            return {
                slot.target
                for listener in self._listeners
                if listener.group and listener.group.arn == arn
                for slot in self._slots[listener.group.name]
                if slot.target and slot.drains_until is not None
            }

    def serves(self, address: str) -> bool:
        """Whether the address is a target of any group: registered, or draining."""
        with self._lock:
            return any(
                slot.target and slot.target[0] == address for slots in self._slots.values() for slot in slots
            )

    def _health(self, group: Group, slot: _Slot) -> Health:
        if slot.drains_until is not None:
            return Health("draining", "Target deregistration is in progress")
        server = self._server(group.name, slot.name)
        status = server.get("status", "")
        check = f"{server.get('check_status', '')} {server.get('check_code', '')}".strip()
        if status.startswith("UP"):
            slot.was_healthy = True
            return Health("healthy")
        if slot.was_healthy or (status.startswith("DOWN") and check and not check.startswith("L7OK")):
            return Health("unhealthy", f"health check of {group.path}: {check}")
        return Health("initial", "the health checks have no result yet")

    def _server(self, backend: str, name: str) -> dict[str, str]:
        if time.monotonic() - self._statistics_at > _STATISTICS_SECONDS:
            rows = csv.DictReader(io.StringIO(self._command("show stat").lstrip("# ")))
            self._statistics = {(row["pxname"], row["svname"]): row for row in rows}
            self._statistics_at = time.monotonic()
        return self._statistics.get((backend, name), {})

    def _recorded(self) -> tuple[tuple[Listener, ...], dict[str, set[tuple[str, int]]]]:
        from ministack.services import alb

        attributes = {arn: {a["Key"]: a["Value"] for a in values} for arn, values in _items(alb._tg_attrs)}
        balancers = {arn: {a["Key"]: a["Value"] for a in values} for arn, values in _items(alb._lb_attrs)}
        groups = {
            arn: group_of(tg, attributes.get(arn, {}), self._time_scale) for arn, tg in _items(alb._tgs)
        }
        listeners = []
        for _, listener in _items(alb._listeners):
            attributes_of_it = balancers.get(listener["LoadBalancerArn"], {})
            idle = int(attributes_of_it.get("idle_timeout.timeout_seconds", "60"))
            if found := self._serving(listener, groups, idle):
                listeners.append(found)
        targets = {
            arn: {(t["Id"], int(t.get("Port") or 0)) for t in registered}
            for arn, registered in _items(alb._targets)
        }
        return tuple(sorted(listeners, key=lambda listener: listener.port)), targets

    def _serving(self, record: Mapping[str, Any], groups: Mapping[str, Group], idle: int) -> Listener | None:
        """A listener from MiniStack's record of it, or None while it cannot serve."""
        certificate = None
        if record["Protocol"] == "HTTPS":
            certificate = self._authority.bundle(record["Certificates"][0])
            if not certificate.exists():
                return None
        for action in record["DefaultActions"]:
            if action["Type"] == "forward" and action.get("TargetGroupArn") in groups:
                group = groups[action["TargetGroupArn"]]
                return Listener(record["Port"], group, idle, certificate=certificate)
            if action["Type"] == "redirect":
                asked = action["RedirectConfig"]
                status = int(asked["StatusCode"].removeprefix("HTTP_"))
                redirect = Redirect(asked["Protocol"], asked["Port"], status)
                return Listener(record["Port"], None, idle, redirect, certificate)
        return None

    def _replace(self, listeners: tuple[Listener, ...]) -> None:
        """Start a new process for the new listeners; the old one finishes its requests."""
        self._file.write_text(configuration(listeners, self._control))
        healthy = {
            (name, slot.target) for name, slots in self._slots.items() for slot in slots if slot.was_healthy
        }
        old = self._process
        self._process = None
        if listeners:
            finish = ["-sf", str(old.pid)] if old and old.poll() is None else []
            self._process = subprocess.Popen(["haproxy", "-q", "-db", "-f", str(self._file), *finish])
            self._wait_for_control()
        elif old:
            old.terminate()
        if old:
            threading.Thread(target=old.wait, daemon=True).start()
        before = self._slots
        self._listeners = listeners
        self._slots = {
            listener.group.name: [_Slot(f"t{number}") for number in range(1, SLOTS + 1)]
            for listener in listeners
            if listener.group
        }
        for listener in listeners:
            if listener.group:
                # The old process finishes the requests of draining targets.
                slots = before.get(listener.group.name, ())
                registered = {slot.target for slot in slots if slot.target and slot.drains_until is None}
                self._place(listener.group, registered, healthy)

    def _wait_for_control(self) -> None:
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            try:
                if (
                    self._command("show info").find(f"Pid: {self._process.pid if self._process else 0}\n")
                    >= 0
                ):
                    return
            except OSError:
                pass
            time.sleep(0.02)
        raise RuntimeError("HAProxy does not answer on its socket")

    def _place(
        self,
        group: Group,
        targets: set[tuple[str, int]],
        healthy: frozenset[tuple[str, Any]] | set[tuple[str, Any]] = frozenset(),
    ) -> None:
        """Give each new target a slot, and let those that were deregistered drain."""
        slots = self._slots[group.name]
        for slot in slots:
            if slot.target and slot.target not in targets:
                self._drain(group, slot)
            elif slot.drains_until is not None:  # registered again
                self._command(f"set server {group.name}/{slot.name} state ready")
                slot.drains_until = None
        placed = {slot.target for slot in slots}
        for target in sorted(targets - placed):
            slot = min((slot for slot in slots if slot.target is None), key=lambda slot: slot.freed_at)
            known = (group.name, target) in healthy
            server = f"{group.name}/{slot.name}"
            self._command(f"set server {server} addr {target[0]} port {target[1]}")
            self._command(f"set server {server} state ready")
            self._command(f"set server {server} health {'up' if known else 'down'}")
            slot.target, slot.was_healthy = target, known
            self._statistics_at = float("-inf")

    def _drain(self, group: Group, slot: _Slot) -> None:
        """Send the target no new requests. Free its slot after its last request, or after the delay.

        AWS displays such a target as draining until the delay has passed, even if it has no requests. Here it
        is `unused` at once, which saves every deployment that time.
        """
        now = time.monotonic()
        if slot.drains_until is None:
            self._command(f"set server {group.name}/{slot.name} state maint")
            slot.drains_until = now + group.deregistration_delay
            self._statistics_at = float("-inf")
        elif now >= slot.drains_until or self._server(group.name, slot.name).get("scur") == "0":
            slot.target, slot.was_healthy, slot.drains_until, slot.freed_at = None, False, None, now

    def _command(self, command: str) -> str:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(5)
            connection.connect(str(self._control))
            connection.sendall(command.encode() + b"\n")
            answer = b"".join(iter(lambda: connection.recv(65536), b""))
        return answer.decode()


def _items(store: Any) -> list[tuple[str, Any]]:
    """Keys and values of a MiniStack store, over all accounts and regions."""
    return [(key[-1], value) for key, value in list(store._data.items())]
