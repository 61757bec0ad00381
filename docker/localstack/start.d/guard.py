"""An init hook of LocalStack that installs the guard in its process before it listens."""
# ruff: noqa: INP001 - a script of LocalStack, not a package

import os
import sys
import traceback

try:
    sys.path.insert(0, "/srv")
    from guard import localstack

    localstack.install()
except BaseException:
    # LocalStack would only log the error and then serve without the guard.
    traceback.print_exc()
    os._exit(1)
