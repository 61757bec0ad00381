"""The credentials endpoint of ECS, and keys that it can give out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler
from typing import Any

from support.faulty_s3 import Asked
from support.http_server import serving
from support.servers import S3, SEAWEEDFS_KEYS


@dataclass(frozen=True)
class Keys:
    key: str
    secret: str
    token: str | None


def seaweedfs_keys() -> Iterator[Keys]:
    """It checks every signature and knows several keys, but no session tokens."""
    for key, secret in SEAWEEDFS_KEYS.items():
        yield Keys(key, secret, None)


def ministack_keys(s3: S3) -> Iterator[Keys]:
    """Its STS gives out keys with session tokens, which its presigned URLs need to be right."""
    sts = s3.session().client("sts", endpoint_url=s3.url)
    while True:
        made = sts.assume_role(RoleArn="arn:aws:iam::000000000000:role/task", RoleSessionName="task")
        made = made["Credentials"]
        yield Keys(made["AccessKeyId"], made["SecretAccessKey"], made["SessionToken"])


class ContainerCredentials:
    """The credentials endpoint of ECS: it returns the current credentials, which expire in 14 minutes.

    This close to their expiry, boto3 asks for them before every use, and gets those that `rotate` made.
    """

    def __init__(self, supply: Iterator[Keys]) -> None:
        self._supply = supply
        self.rotate()

    def rotate(self) -> None:
        self.keys = next(self._supply)
        self.ends = (datetime.now(UTC) + timedelta(minutes=14)).replace(microsecond=0)

    def document(self) -> dict[str, Any]:
        return {
            "AccessKeyId": self.keys.key,
            "SecretAccessKey": self.keys.secret,
            "Token": self.keys.token,
            "Expiration": self.ends.isoformat(),
        }

    def are_not_of(self, asked: Asked) -> bool:
        """Whether a request is signed with other credentials than these. In a form, the fields are signed."""
        signed = asked.headers.get("Authorization", "") + "".join(asked.query.get("X-Amz-Credential", []))
        token = asked.headers.get("X-Amz-Security-Token", *asked.query.get("X-Amz-Security-Token", [None]))
        is_form = asked.headers.get("Content-Type", "").startswith("multipart/form-data")
        return not is_form and (f"{self.keys.key}/" not in signed or token != self.keys.token)

    @contextmanager
    def served(self) -> Iterator[str]:
        """The URL that returns them."""
        current = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = json.dumps(current.document()).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        with serving(Handler) as port:
            yield f"http://127.0.0.1:{port}/credentials"
