"""Start MiniStack behind the guard, as the S3 of `make run` and of compose's profile `persistent`."""

from __future__ import annotations

import importlib
import os
from typing import Any

from guard import ministack_s3
from guard.asgi import guarded
from guard.installation import from_environment


def main() -> None:
    app: Any = None

    def is_ready() -> bool:
        """Whether all init hooks have ended without an error."""
        state = app._ready_scripts_state
        return bool(state["status"] == "completed" and not state["failed"])

    guard, keys = from_environment(os.environ, is_ready)
    # With AUTH, MiniStack also checks signatures, and answers preflights by the CORS rules of the bucket.
    os.environ |= {
        "AUTH": "true",
        "AWS_ACCESS_KEY_ID": keys.access_key,
        "AWS_SECRET_ACCESS_KEY": keys.secret.key,
        # Close the listeners that are not behind the guard.
        "IOT_MTLS_ENABLED": "0",
        "SFTP_ENABLED": "0",
    }
    ministack_s3.check_forms()
    app = importlib.import_module("ministack.app")
    ministack_s3.keep_files_out_of_parameters(app)
    app.app = guarded(app.app, guard)
    app.main()


if __name__ == "__main__":
    main()
