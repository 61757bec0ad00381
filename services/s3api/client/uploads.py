"""Uploads: planned, in parts that can be resumed or in one piece, and checked."""

from __future__ import annotations

import base64
import io
import secrets
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import IO, Any

from s3api.client.api import Api, Failure
from s3api.client.journal import Journal, Unfinished
from s3api.client.sources import LocalFile, Piece, Stream
from s3api.client.transfer import (
    Meter,
    S3OutOfReach,
    Transfer,
    Transferred,
    Via,
    etag_of,
    etag_of_parts,
    local_failure,
    not_verified,
    spread,
)

URL_BATCH = 32  # part URLs in one request; they expire, so only as many as are used soon


class Uploads(Transfer):
    """Uploads files, and the parts of large files, several at once."""

    def __init__(self, api: Api, *, via: Via, jobs: int, meter: Meter, journal: Journal) -> None:
        super().__init__(api, via=via, jobs=jobs, meter=meter)
        self._journal = journal
        self._parts = ThreadPoolExecutor(jobs, thread_name_prefix="part")

    def upload(self, path: Path, name: str, *, if_absent: bool = False) -> Transferred:
        """Store the file under the name. Raises `Failure`."""
        try:
            with path.open("rb") as stream:
                local = LocalFile(stream, path)
                if not local.size_is_known():
                    with self._slots:
                        return self.upload_stream(stream, path, name, if_absent=if_absent)
                return self._upload(local, name, if_absent=if_absent)
        except OSError as error:
            raise local_failure(error, path) from error
        finally:
            self._meter.end(name)

    def upload_stream(
        self, stream: IO[bytes], path: Path, name: str, *, if_absent: bool = False
    ) -> Transferred:
        """Store a stream of any length through the service. It can be read once, so there is no retry."""
        self._meter.begin(name, "sending", None)
        body = Stream(stream, path, self._counter(name))
        headers = {"If-None-Match": "*"} if if_absent else {}
        try:
            with self._api.open(
                "PUT", self._api.at("/upload/", name), body=body, headers=headers
            ) as response:
                stored = self._api.envelope(response)["content"][0]
        finally:
            self._meter.end(name)
        return _stored(name, body.size, body.sha256.hexdigest(), stored)

    def _upload(self, local: LocalFile, name: str, *, if_absent: bool) -> Transferred:
        self._meter.begin(name, "reading", local.size)
        sha256 = local.digest("sha256", 0, local.size, self._counter(name)).hex()
        local.check_unchanged()
        # S3 takes no condition with a presigned form. The service creates without a race.
        if not if_absent and self._via != "service":
            with suppress(S3OutOfReach):
                return self._resumed(local, name, sha256) or self._planned(local, name, sha256)
        return self._put(local, name, sha256, if_absent=if_absent)

    def _put(self, local: LocalFile, name: str, sha256: str, *, if_absent: bool) -> Transferred:
        """One PUT to the service, which computes the SHA-256 and lets S3 check it."""
        self._meter.begin(name, "sending", local.size)
        headers = {
            "Content-Length": str(local.size),
            "Content-Digest": f"sha-256=:{_base64(bytes.fromhex(sha256))}:",
            **({"If-None-Match": "*"} if if_absent else {}),
        }
        url = self._api.at("/upload/", name)

        def once() -> dict[str, Any]:
            with (
                self._piece(local, name, 0, local.size) as body,
                self._api.open("PUT", url, body=body, headers=headers) as response,
            ):
                stored: dict[str, Any] = self._api.envelope(response)["content"][0]
                return stored

        with self._slots:
            stored = self._api.retried(once, repeat=not if_absent)
        return _stored(name, local.size, sha256, stored)

    def _planned(self, local: LocalFile, name: str, sha256: str) -> Transferred:
        wanted = {"name": name, "size": local.size, "sha256": sha256}
        with self._slots:  # planned just before it is sent, because the plan expires
            plan = self._api.call("POST", "/uploads", body=wanted)["content"]
            if plan["method"] == "POST":
                return self._post(local, name, sha256, plan)
        unfinished = Unfinished(self._api.url, name, local.size, sha256, plan["id"], plan["part_size"])
        self._journal.write(unfinished, local.path)
        return self._send_parts(local, unfinished, {})

    def _post(self, local: LocalFile, name: str, sha256: str, plan: Mapping[str, Any]) -> Transferred:
        """Send a presigned form. S3 stores only bytes with the SHA-256 in it."""
        md5 = local.digest("md5", 0, local.size)
        self._meter.begin(name, "sending", local.size)
        content_type, head, tail = form(plan["fields"])
        headers = {"Content-Type": content_type, "Content-Length": str(len(head) + local.size + len(tail))}

        def once() -> str:
            with self._piece(local, name, 0, local.size) as piece:
                body = Chained(io.BytesIO(head), piece, io.BytesIO(tail))
                return self._to_s3("POST", plan["url"], body, headers, md5)[0]

        etag = self._api.retried(once)
        return Transferred(name, "uploaded", local.size, sha256, etag, "s3", "sha256")

    def _resumed(self, local: LocalFile, name: str, sha256: str) -> Transferred | None:
        """Continue an interrupted upload of the same bytes; None if there is none."""
        saved = self._journal.read(self._api.url, name, local.path)
        if saved is None:
            return None
        if (saved.size, saved.sha256) != (local.size, sha256):
            # The file has changed, so its parts are useless, and S3 should delete them.
            with suppress(Failure):
                self._api.call("DELETE", f"/uploads/{saved.id}")
            self._journal.remove(saved, local.path)
            return None
        try:
            listed = self._api.call("GET", f"/uploads/{saved.id}/parts")["content"]
        except Failure as failure:
            if failure.http_status != 404:
                raise
            # It is gone: completed (and the answer was lost), aborted, or expired.
            done = self._completed_before(local, saved)
            self._journal.remove(saved, local.path)
            return done
        self._meter.begin(name, "comparing", local.size)

        def kept(part: Mapping[str, Any]) -> bytes | None:
            offset, size = saved.range_of(part["number"])
            if part["size"] != size:
                return None
            md5 = local.digest("md5", offset, size, self._counter(name))
            return md5 if md5.hex() == part["etag"] else None

        compared = spread(self._parts, kept, listed, self._jobs, settle=True)
        found = {part["number"]: future.result() for part, future in compared}
        return self._send_parts(local, saved, {number: md5 for number, md5 in found.items() if md5})

    def _completed_before(self, local: LocalFile, saved: Unfinished) -> Transferred | None:
        try:
            etag = self._api.call("POST", f"/uploads/{saved.id}/complete")["content"]["etag"]
        except Failure as failure:
            if failure.http_status != 404:
                raise
            return None
        self._meter.begin(saved.name, "comparing", local.size)
        count = self._counter(saved.name)
        md5s = [local.digest("md5", *saved.range_of(number), count) for number in saved.numbers]
        if etag != etag_of_parts(md5s):
            return None
        return Transferred(
            saved.name, "uploaded", saved.size, saved.sha256, etag, "s3", "md5", resumed=saved.size
        )

    def _send_parts(self, local: LocalFile, saved: Unfinished, md5s: dict[int, bytes]) -> Transferred:
        """Send the parts that S3 does not have, and complete. `md5s` has the MD5s of those that it has."""
        resumed = sum(saved.range_of(number)[1] for number in md5s)
        missing = [number for number in saved.numbers if number not in md5s]
        if resumed:
            self._api.s3_answered = True  # earlier, and from this machine
        self._meter.begin(saved.name, "sending", local.size, resumed)

        def send(signed: Mapping[str, Any]) -> tuple[bytes, bool]:
            with self._slots:
                return self._send_part(local, saved, signed["number"], signed["url"])

        comparable = True
        try:
            urls = self._part_urls(saved, missing)
            for signed, future in spread(self._parts, send, urls, self._jobs, settle=True):
                md5s[signed["number"]], is_md5 = future.result()
                comparable = comparable and is_md5
        except S3OutOfReach:
            self._api.call("DELETE", f"/uploads/{saved.id}")
            self._journal.remove(saved, local.path)
            raise
        local.check_unchanged()  # each part was checked when it was read; this checks the whole
        etag = self._api.call("POST", f"/uploads/{saved.id}/complete")["content"]["etag"]
        self._journal.remove(saved, local.path)
        if comparable and etag != etag_of_parts([md5s[number] for number in saved.numbers]):
            raise not_verified(
                f"S3 does not hold as '{saved.name}' what was sent; something else wrote to it"
            )
        return Transferred(saved.name, "uploaded", saved.size, saved.sha256, etag, "s3", "md5", resumed)

    def _part_urls(self, saved: Unfinished, numbers: Sequence[int]) -> Iterator[dict[str, Any]]:
        left = iter(numbers)
        while batch := list(islice(left, URL_BATCH)):
            yield from self._api.call("POST", f"/uploads/{saved.id}/parts", body={"parts": batch})["content"]

    def _send_part(self, local: LocalFile, saved: Unfinished, number: int, url: str) -> tuple[bytes, bool]:
        """Send one part, which S3 checks by Content-MD5. Returns its MD5, and whether the ETag is equal."""
        offset, size = saved.range_of(number)

        def once() -> tuple[bytes, bool]:
            nonlocal url
            md5 = local.digest("md5", offset, size)
            headers = {"Content-Length": str(size), "Content-MD5": _base64(md5)}
            with self._piece(local, saved.name, offset, size) as body:
                try:
                    return md5, self._to_s3("PUT", url, body, headers, md5)[1]
                except Failure as failure:
                    if failure.http_status == 403:  # the URL has expired, perhaps while the network was down
                        url = next(self._part_urls(saved, [number]))["url"]
                        failure.passing = True
                    raise

        return self._api.retried(once)

    def _to_s3(
        self, method: str, url: str, body: Any, headers: Mapping[str, str], md5: bytes
    ) -> tuple[str, bool]:
        """Returns the ETag, and whether it is the MD5. Raises `Failure` if it should be and is not."""
        with (
            self._falling_back(),
            self._api.open(method, url, body=body, headers=headers, to_s3=True) as answer,
        ):
            answer.read()
            etag, is_md5 = etag_of(answer)
        if is_md5 and etag != md5.hex():
            raise not_verified("What S3 received is not what was sent")
        return etag, is_md5

    @contextmanager
    def _piece(self, local: LocalFile, name: str, offset: int, size: int) -> Iterator[Piece]:
        """The body of one attempt. When the attempt fails, its bytes are subtracted from the progress."""
        piece = Piece(local, offset, size, self._counter(name))
        try:
            yield piece
        except BaseException:
            self._meter.advance(name, -piece.sent)
            raise


def _stored(name: str, size: int, sha256: str, stored: Mapping[str, Any]) -> Transferred:
    """The description of the stored file. Raises `Failure` if it is not the file that was sent."""
    if (stored["size"], stored["sha256"]) != (size, sha256):
        raise not_verified(f"The service did not store as '{name}' what was sent")
    return Transferred(name, "uploaded", size, sha256, stored["etag"], "service", "sha256")


class Chained:
    """Several bodies, one after the other."""

    def __init__(self, *bodies: Any) -> None:
        self._bodies = list(bodies)

    def read(self, amount: int) -> bytes:
        while self._bodies:
            if data := self._bodies[0].read(amount):
                return bytes(data)
            del self._bodies[0]
        return b""


def form(fields: Mapping[str, str]) -> tuple[str, bytes, bytes]:
    """The content type of a form, and its bytes before and after the file."""
    boundary = secrets.token_hex(16)
    head = "".join(
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in fields.items()
    )
    head += f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="file"\r\n\r\n'
    return f"multipart/form-data; boundary={boundary}", head.encode(), f"\r\n--{boundary}--\r\n".encode()


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
