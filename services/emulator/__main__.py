"""Start the emulated AWS: MiniStack in this process, corrected, restricted and guarded, with HAProxy."""

from __future__ import annotations

import importlib
import os
import tempfile
import threading
from pathlib import Path

from emulator import corrections, restrictions, scheduler
from emulator.balancer import Balancer
from emulator.certificates import Authority
from emulator.entrance import KEYS, entrance, with_task_endpoints
from emulator.registry import Tokens
from emulator.repeated_calls import carried_out_once
from emulator.restrictions import Limits
from emulator.settings import Settings
from guard.asgi import guarded
from guard.keys import installed


def main() -> None:
    settings = Settings.from_environment(os.environ)
    tokens = Tokens()
    guard = entrance(installed(KEYS), tokens)
    authority = Authority(settings.certificates)
    balancer = Balancer(Path(tempfile.mkdtemp(prefix="balancer-")), settings.time_scale, authority)
    corrections.apply(settings, balancer, tokens, authority)
    scheduler.start(settings, balancer)
    restrictions.apply(Limits(settings.registry, network=os.environ["HOSTNAME"]))
    threading.Thread(target=balancer.run, daemon=True, name="balancer").start()

    # Loading the application binds its routes, so the corrections come first.
    app = importlib.import_module("ministack.app")

    importlib.import_module("emulator.application_autoscaling").add_to(app)
    restrictions.restrict_services(app)
    restrictions.restrict_unknown_actions(app)
    app.app = guarded(with_task_endpoints(carried_out_once(app.app)), guard)  # type: ignore[attr-defined]
    app.main()


if __name__ == "__main__":
    main()
