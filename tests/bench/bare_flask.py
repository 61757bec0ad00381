"""The limit of a Flask service: minimal routes, under the service's own gunicorn configuration."""

from __future__ import annotations

import os
from urllib.parse import quote

import urllib3
from botocore.auth import S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from flask import Flask, Response, jsonify, request

app = Flask(__name__)
_credentials = Credentials(os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"])
_signer = S3SigV4QueryAuth(_credentials, "s3", os.environ["AWS_REGION"], expires=60)
_pool = urllib3.PoolManager(maxsize=64)
_bucket = f"{os.environ['AWS_ENDPOINT_URL']}/{os.environ['BUCKET']}"


@app.route("/livez", methods=["GET"])
@app.route("/bare", methods=["GET", "POST"])
def bare() -> Response:
    request.get_data()  # otherwise the connection would end after the answer
    return jsonify(status=200, message="ok")


@app.get("/head/<path:name>")
def head(name: str) -> Response:
    """One signed HEAD over a pooled connection."""
    asked = AWSRequest("HEAD", f"{_bucket}/{quote(name)}")
    _signer.add_auth(asked)
    answer = _pool.request("HEAD", str(asked.url), retries=False)
    return jsonify(status=answer.status, message="ok")
