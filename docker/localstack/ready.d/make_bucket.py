"""An init hook of LocalStack and MiniStack: makes the bucket as soon as S3 answers."""
# ruff: noqa: INP001 - a script of the emulators', no package

import os
import sys

import botocore.session
from botocore.config import Config

sys.path.insert(0, "/srv")  # in LocalStack; MiniStack's image has it on the path
from s3api import bucket

# With the keys of this installation, which AWS_SHARED_CREDENTIALS_FILE names.
s3 = botocore.session.Session().create_client(
    "s3",
    region_name="eu-west-1",
    endpoint_url="http://127.0.0.1:4566",
    config=Config(s3={"addressing_style": "path"}),
)
# The service's page, and the pages of CORS_ORIGINS, upload parts and read their ETags. No other page may.
bucket.make(s3, os.environ["BUCKET"], "eu-west-1", bucket.origins_in(os.environ["GUARD_ORIGINS"]))
