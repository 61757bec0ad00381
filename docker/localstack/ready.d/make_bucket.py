"""An init hook, of LocalStack and of MiniStack: makes the bucket, once S3 answers."""
# ruff: noqa: INP001 - a script of the emulators', no package

import os

import botocore.session
from botocore.config import Config
from botocore.exceptions import ClientError

# With the keys of this installation, which AWS_SHARED_CREDENTIALS_FILE names.
session = botocore.session.Session()
s3 = session.create_client(
    "s3",
    region_name="eu-west-1",
    endpoint_url="http://127.0.0.1:4566",
    config=Config(s3={"addressing_style": "path"}),
)
bucket = os.environ["BUCKET"]
try:
    s3.head_bucket(Bucket=bucket)
except ClientError:
    s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
# What is deleted can be restored.
s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
# Parts of uploads that are never completed go after a day.
abort = {
    "ID": "abort-incomplete-uploads",
    "Status": "Enabled",
    "Filter": {"Prefix": ""},
    "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 1},
}
s3.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration={"Rules": [abort]})
# The service's page uploads parts and reads the ETags that complete them; no other page may.
cors = {
    "AllowedMethods": ["GET", "PUT", "POST"],
    "AllowedOrigins": os.environ["GUARD_ORIGINS"].split(","),
    "AllowedHeaders": ["*"],
    "ExposeHeaders": ["ETag"],
}
s3.put_bucket_cors(Bucket=bucket, CORSConfiguration={"CORSRules": [cors]})
