"""An opponent: a file API of Flask and boto3 as it is commonly written. Runs in .venv-bench."""

from __future__ import annotations

import os
import tempfile
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError
from flask import Flask, jsonify, request
from werkzeug.utils import secure_filename

BUCKET = os.environ["BUCKET"]
STAGING = os.environ["FILES"]

# In old regions boto3 still presigns with signature version 2 by default.
SIGNED = Config(signature_version="s3v4", max_pool_connections=64)

app = Flask(__name__)
s3: Any = boto3.client("s3", endpoint_url=os.environ["S3_URL"], config=SIGNED)


@app.get("/livez")
def livez() -> Any:
    return jsonify(status="ok")


@app.post("/uploads")
def plan() -> Any:
    return jsonify(s3.generate_presigned_post(BUCKET, request.get_json()["name"], ExpiresIn=900))


@app.get("/presign/<path:name>")
def presign(name: str) -> Any:
    params = {"Bucket": BUCKET, "Key": name}
    return jsonify(content=s3.generate_presigned_url("get_object", Params=params, ExpiresIn=120))


@app.get("/download/<path:name>")
def download(name: str) -> Any:
    """With a new client for each request."""
    client: Any = boto3.client("s3", endpoint_url=os.environ["S3_URL"], config=SIGNED)
    try:
        client.head_object(Bucket=BUCKET, Key=name)
    except ClientError:
        return jsonify(message="not found"), 404
    params = {"Bucket": BUCKET, "Key": name}
    return jsonify(content=client.generate_presigned_url("get_object", Params=params, ExpiresIn=120))


@app.get("/list_files")
def list_files() -> Any:
    answer = s3.list_objects_v2(Bucket=BUCKET, Prefix=request.args["prefix"], MaxKeys=1000)
    return jsonify(content=[entry["Key"] for entry in answer.get("Contents", ())])


@app.post("/upload")
def upload() -> Any:
    """Save the form's file, send it with boto3's transfer manager, and remove it."""
    given = request.files["file"]
    name = secure_filename(given.filename or "")
    with tempfile.TemporaryDirectory(dir=STAGING) as directory:
        path = os.path.join(directory, name)  # noqa: PTH118 - as it is commonly written
        given.save(path)
        s3.upload_file(path, BUCKET, name)
    return jsonify(content=name)


@app.post("/small")
def upload_small() -> Any:
    """Send the form's file with one put_object, the shortest way for small files."""
    given = request.files["file"]
    s3.put_object(Bucket=BUCKET, Key=secure_filename(given.filename or ""), Body=given.read())
    return jsonify(content=given.filename)


@app.put("/upload/<path:name>")
def upload_raw(name: str) -> Any:
    s3.upload_fileobj(request.stream, BUCKET, name)
    return jsonify(content=name)
