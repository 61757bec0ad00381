"""An init hook of LocalStack, run in its process before it listens: puts the guard in front of it."""
# ruff: noqa: INP001 - a script of LocalStack's, no package

import os
import sys
import traceback

try:
    sys.path.insert(0, "/srv")
    from guard import localstack

    localstack.install()
except BaseException:
    # LocalStack would log the error and serve without the guard.
    traceback.print_exc()
    os._exit(1)
