"""The service's own gunicorn.conf.py for the bare Flask routes, without the log's line about the store."""

from __future__ import annotations

import gc
import runpy
from pathlib import Path
from typing import Any

# It patches the standard library, and then imports what needs the patch.
globals().update(runpy.run_path(str(Path(__file__).parents[2] / "services" / "s3api" / "gunicorn.conf.py")))


def post_worker_init(_worker: Any) -> None:
    gc.collect()
    gc.freeze()
