"""The service as a client sees it, by HTTP only. Every test works in its own folder."""

from __future__ import annotations

import hashlib
import http.client
import json
import re
import secrets
import ssl
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

import requests

MiB = 1024 * 1024
TIMEOUT = 120


@dataclass(frozen=True)
class Target:
    """Where the service is, and how to get there.

    `presigned_host` replaces the host of presigned URLs when connecting; the Host header stays, because it is
    signed. `keeps_versions` is None when unknown. `ca` and `s3_ca` are the files of the CAs that signed the
    certificates of the service and of S3, when they are no public ones.
    """

    url: str
    token: str | None = None
    host: str | None = None
    presigned_host: str | None = None
    keeps_versions: bool | None = None
    s3_ca: str | None = None
    ca: str | None = None

    def connection(self) -> http.client.HTTPConnection:
        """A new connection to the service."""
        url = urlsplit(self.url)
        if url.scheme == "http":
            return http.client.HTTPConnection(url.netloc, timeout=TIMEOUT)
        context = ssl.create_default_context(cafile=self.ca)
        return http.client.HTTPSConnection(url.netloc, timeout=TIMEOUT, context=context)

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> requests.Response:
        """Get a page without a token."""
        host = {"Host": self.host} if self.host else {}
        return requests.get(
            self.url + path, headers={**host, **(headers or {})}, timeout=TIMEOUT, verify=self.ca or True
        )


@dataclass
class Answer:
    """The answer on a plain connection, which sends the path unchanged."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Api:
    """A client. Its names begin with `folder`; `tidy` removes what it made."""

    target: Target
    folder: str
    session: requests.Session = field(default_factory=requests.Session)
    _names: set[str] = field(default_factory=set)
    _uploads: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.session.trust_env = False
        self.session.verify = self.target.ca or True
        self.session.headers.update(self._headers())

    def _headers(self) -> dict[str, str]:
        headers = {}
        if self.target.token:
            headers["Authorization"] = f"Bearer {self.target.token}"
        if self.target.host:
            headers["Host"] = self.target.host
        return headers

    # --- requests

    def call(self, method: str, route: str, name: str = "", **options: Any) -> requests.Response:
        """Send a request. A file's whole name is percent-encoded once."""
        options = {"timeout": TIMEOUT, "allow_redirects": False, **options}
        return self.session.request(method, f"{self.target.url}{route}{quote(name, safe='')}", **options)

    def raw(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
    ) -> Answer:
        """A request whose path is sent as it is."""
        connection = self.target.connection()
        prefix = urlsplit(self.target.url).path
        try:
            connection.putrequest(
                method, prefix + path, skip_host=bool(self.target.host), skip_accept_encoding=True
            )
            sent = {**self._headers(), **(headers or {})}
            if body is not None:
                sent["Content-Length"] = str(len(body))
            for header, value in sent.items():
                connection.putheader(header, value)
            connection.endheaders(body)
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())
        finally:
            connection.close()

    def s3(self, method: str, url: str, **options: Any) -> requests.Response:
        """Send a request to a presigned URL, without the service's headers."""
        headers = dict(options.pop("headers", {}))
        if self.target.presigned_host:
            parts = urlsplit(url)
            headers["Host"] = parts.netloc
            url = urlunsplit(parts._replace(netloc=self.target.presigned_host))
        if self.target.s3_ca:
            options["verify"] = self.target.s3_ca
        return requests.request(method, url, headers=headers, timeout=TIMEOUT, **options)

    # --- names

    def name(self, rest: str) -> str:
        """A name in this test's folder, removed at its end."""
        name = f"{self.folder}{rest}"
        self._names.add(name)
        return name

    def put(self, name: str, data: bytes, **headers: str) -> dict[str, Any]:
        """Upload raw bytes; returns the answer's `content` for the file."""
        self._names.add(name)
        answer = self.call("PUT", "/upload/", name, data=data, headers=headers)
        [content] = good(answer)["content"]
        return dict(content)

    def exists(self, name: str) -> bool:
        status = self.call("HEAD", "/files/", name).status_code
        assert status in (200, 404), status
        return status == 200

    def plan(self, name: str, size: int, **more: Any) -> dict[str, Any]:
        """Plan an upload direct to S3."""
        self._names.add(name)
        body = good(self.call("POST", "/uploads", json={"name": name, "size": size, **more}))
        plan: dict[str, Any] = body["content"]
        if "id" in plan:
            self._uploads.add(plan["id"])
        return plan

    def names(self, prefix: str) -> list[str]:
        """Every name that begins with the prefix, as one stream."""
        answer = self.call(
            "GET", "/list_files", params={"prefix": prefix}, headers={"Accept": "application/x-ndjson"}
        )
        assert answer.status_code == 200, answer.text
        return [json.loads(line)["name"] for line in answer.content.splitlines()]

    def tidy(self) -> None:
        """Abort open uploads and delete files; ignore those that are gone."""
        for upload in self._uploads:
            self.call("DELETE", f"/uploads/{upload}")
        names = sorted(self._names.union(self.names(self.folder)))
        for start in range(0, len(names), 1000):
            good(self.call("POST", "/delete", json={"files": names[start : start + 1000]}))


def good(answer: requests.Response) -> dict[str, Any]:
    """The envelope of a success."""
    assert answer.status_code == 200, f"{answer.status_code} {answer.text}"
    body: dict[str, Any] = answer.json()
    assert body["status"] == 200
    return body


def refused(answer: requests.Response | Answer, status: int, code: str) -> str:
    """The sentence of a failure, after a check of its envelope."""
    found = answer.status_code if isinstance(answer, requests.Response) else answer.status
    assert found == status, answer
    body = answer.json()
    assert (body["status"], body["code"]) == (status, code), body
    assert body["request_id"] == answer.headers["X-Request-Id"]
    return str(body["message"])


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def part_of_form(file_name: str, data: bytes) -> tuple[str, tuple[str, bytes]]:
    return ("file", (file_name, data))


def pages(api: Api, **query: Any) -> Iterator[dict[str, Any]]:
    """The pages of a listing, by the cursor in the body."""
    cursor = None
    while True:
        page = good(
            api.call("GET", "/list_files", params={**query, **({"cursor": cursor} if cursor else {})})
        )
        yield page
        cursor = page.get("next")
        if cursor is None:
            return


def joined(listing: Iterable[Mapping[str, Any]]) -> list[Any]:
    return [entry for page in listing for entry in page["content"]]


@contextmanager
def working_in_folder(target: Target, run: str) -> Iterator[Api]:
    """A client whose names begin with the run's prefix. Its files are always removed at the end."""
    api = Api(target, f"{run}{secrets.token_hex(4)}/")
    try:
        yield api
    finally:
        api.tidy()
        api.session.close()


def bucket_of(target: Target) -> str:
    """The name of the bucket, as the service reports it."""
    api = Api(target, "")
    message = good(api.call("GET", "/list_files", params={"limit": 1}))["message"]
    match = re.fullmatch(r"Successfully listed files on s3 bucket '(day02-[^']+)'", message)
    assert match, message
    return match[1]
