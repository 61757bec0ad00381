"""Start the emulated AWS: MiniStack in this process, behind its guard, with its corrections and HAProxy."""

from __future__ import annotations

import importlib
import os
import tempfile
import threading
from pathlib import Path

from emulator import restrictions
from emulator.balancer import Balancer
from emulator.corrections import Settings, apply
from emulator.entrance import KEYS, entrance, with_tasks
from emulator.registry import Tokens
from emulator.restrictions import Limits
from guard.asgi import guarded
from guard.keys import installed


def main() -> None:
    settings = Settings.from_environment(os.environ)
    tokens = Tokens()
    guard = entrance(installed(KEYS), tokens)
    balancer = Balancer(Path(tempfile.mkdtemp(prefix="balancer-")), settings.time_scale)
    apply(settings, balancer, tokens)
    restrictions.apply(Limits(settings.registry, network=os.environ["HOSTNAME"]))
    threading.Thread(target=balancer.run, daemon=True, name="balancer").start()

    # Its routes are bound when it is loaded, so the corrections come first.
    app = importlib.import_module("ministack.app")

    restrictions.services_are_those_of_the_stack(app)
    restrictions.unknown_actions_are_the_roots(app)
    app.app = guarded(with_tasks(app.app), guard)  # type: ignore[attr-defined]
    app.main()


if __name__ == "__main__":
    main()
