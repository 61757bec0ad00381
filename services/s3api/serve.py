"""Start gunicorn with the configuration of the service: `python3 -m s3api.serve`.

gunicorn reads WEB_CONCURRENCY while it is imported, and ends with a traceback where that is not a number.
So this checks the environment first.
"""

from __future__ import annotations

from s3api import gevent_patches  # isort: skip

gevent_patches.patch()

import sys
from pathlib import Path

from s3api.settings import Settings, SettingsError


def main() -> None:
    try:
        Settings.from_environment()
    except SettingsError as error:
        sys.exit(str(error))
    from gunicorn.app.wsgiapp import run  # noqa: PLC0415 - see above

    sys.argv[1:1] = ["--config", str(Path(__file__).with_name("gunicorn.conf.py"))]
    run()


if __name__ == "__main__":
    main()
