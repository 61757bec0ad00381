"""How much of its limits the service uses: requests at once, the staging directory, memory.

`measure` sets what is measured and not counted. It is called when the metrics are read.
"""

from __future__ import annotations

import os
from pathlib import Path

from prometheus_client import Gauge

from s3api.observability import registry
from s3api.staging import Staging
from s3api.waiting import on_disk

_CGROUP = Path("/sys/fs/cgroup")
_PROCESSES = Path("/proc")

concurrency_limit = Gauge(
    "s3api_concurrency_limit",
    "Requests that the service answers at once, MAX_CONCURRENT_REQUESTS for each worker",
    registry=registry,
    multiprocess_mode="livesum",
)
requests_waiting = Gauge(
    "s3api_requests_waiting",
    "Requests that wait because as many as the limit are being answered",
    registry=registry,
    multiprocess_mode="livesum",
)
# The workers share what these measure, so the last worker that measured is right.
_staging_bytes = Gauge(
    "s3api_staging_bytes",
    "Bytes of the staging directory that forms have reserved",
    registry=registry,
    multiprocess_mode="livemostrecent",
)
_staging_limit_bytes = Gauge(
    "s3api_staging_limit_bytes",
    "STAGING_MAX_BYTES",
    registry=registry,
    multiprocess_mode="livemostrecent",
)
_memory_bytes = Gauge(
    "s3api_memory_bytes",
    "Memory of the container, without page cache that can be dropped, or else of the service's processes",
    registry=registry,
    multiprocess_mode="livemostrecent",
)
_memory_limit_bytes = Gauge(
    "s3api_memory_limit_bytes",
    "The container's limit of memory; 0 without one",
    registry=registry,
    multiprocess_mode="livemostrecent",
)


def measure(staging: Staging) -> None:
    _staging_bytes.set(on_disk(staging.used_bytes))
    _staging_limit_bytes.set(staging.max_bytes)
    used, limit = memory()
    _memory_bytes.set(used)
    _memory_limit_bytes.set(limit)


def memory(cgroup: Path = _CGROUP, processes: Path = _PROCESSES) -> tuple[int, int]:
    """The bytes of memory in use, and their limit, which is 0 if there is none.

    https://docs.kernel.org/admin-guide/cgroup-v2.html: a container sees its own group, the root group has no
    `memory.current`. `inactive_file` is the page cache that the kernel drops first.
    """
    try:
        used = int((cgroup / "memory.current").read_text())
        most = (cgroup / "memory.max").read_text().strip()
        fields = (line.split() for line in (cgroup / "memory.stat").read_text().splitlines())
        cache = next((int(value) for name, value in fields if name == "inactive_file"), 0)
    except (OSError, ValueError):
        return _resident(processes), 0
    return max(0, used - cache), 0 if most == "max" else int(most)


def _resident(processes: Path) -> int:
    """The resident memory of gunicorn's master and its workers; 0 on a system without /proc."""
    master = os.getppid()
    try:
        children = (processes / str(master) / "task" / str(master) / "children").read_text().split()
        pages = [
            int((processes / name / "statm").read_text().split()[1]) for name in (str(master), *children)
        ]
    except (OSError, ValueError):
        return 0
    return sum(pages) * os.sysconf("SC_PAGE_SIZE")
