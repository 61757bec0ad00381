"""Start the emulated AWS: MiniStack in this process with its corrections, HAProxy beside it."""

from __future__ import annotations

import importlib
import json
import os
import tempfile
import threading
from pathlib import Path
from typing import Any

from emulator.balancer import Balancer
from emulator.corrections import PERMISSIONS, Settings, apply


def main() -> None:
    settings = Settings.from_environment(os.environ)
    balancer = Balancer(Path(tempfile.mkdtemp(prefix="balancer-")), settings.time_scale)
    apply(settings, balancer)
    threading.Thread(target=balancer.run, daemon=True, name="balancer").start()

    # Its routes are bound when it is loaded, so the corrections come first.
    app = importlib.import_module("ministack.app")

    app.app = with_permissions(app.app)  # type: ignore[attr-defined]
    app.main()


def with_permissions(inner: Any) -> Any:
    """The application, and beside it who was allowed and denied what, as JSON."""

    async def outer(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http" or scope["path"] != "/_emulator/permissions":
            await inner(scope, receive, send)
            return
        body = json.dumps(sorted(PERMISSIONS)).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return outer


if __name__ == "__main__":
    main()
