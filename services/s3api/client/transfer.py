"""Files on their way to and from the service and S3: in parallel, resumed, and checked; nothing is printed.

To S3 directly by the service's upload plans and presigned downloads, or through the service where S3 cannot
be reached from here. An upload in parts is resumed from what S3 says it has received; all that is kept on
this machine is the upload's id, in `Journal`. A download is resumed from a `.part` file beside the target.
"""

from __future__ import annotations

import base64
import glob
import hashlib
import io
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from threading import BoundedSemaphore
from typing import IO, Any, Literal, TypeVar

import urllib3

from s3api.client.api import (
    EXISTS,
    FAILED,
    NOT_FOUND,
    NOT_VERIFIED,
    UNREACHABLE,
    Api,
    CannotConnect,
    Failure,
    Stopped,
)
from s3api.client.sources import (
    Chained,
    Count,
    Hashes,
    Journal,
    LocalFile,
    Piece,
    Stream,
    Unfinished,
    form,
    part_file,
    publish,
    stem,
)

Item = TypeVar("Item")
Result = TypeVar("Result")

Via = Literal["auto", "s3", "service"]
Way = Literal["s3", "service"]
#: By what the two ends were compared; None where the other end's checksum is not known.
Verified = Literal["sha256", "md5"] | None

URL_BATCH = 32  # part URLs asked for at once; they expire, so no more than are soon used


class Meter:
    """What a transfer tells of its progress, from any thread; this one tells nobody."""

    def begin(self, name: str, doing: str, total: int | None, done: int = 0) -> None:
        """A new stage of the transfer: `done` of `total` bytes, None where that is not known."""

    def advance(self, name: str, amount: int) -> None:
        """So many bytes more; fewer where an attempt failed and its bytes count no more."""

    def end(self, name: str) -> None:
        """The transfer is over, one way or the other."""


@dataclass(frozen=True)
class Transferred:
    """What was done with one file. `size` in bytes, `sha256` in hex, `resumed` the bytes that were there."""

    name: str
    outcome: Literal["uploaded", "downloaded", "unchanged"]
    size: int
    sha256: str
    etag: str
    via: Way
    verified: Verified
    resumed: int = 0
    path: str | None = None


class S3OutOfReach(Exception):
    """S3 cannot be reached from here at all; the service may be."""


def spread(
    pool: Executor,
    function: Callable[[Item], Result],
    items: Iterable[Item],
    limit: int,
    *,
    settle: bool = False,
) -> Iterator[tuple[Item, Future[Result]]]:
    """Run the function for each item, `limit` at once, and yield them as they finish; items may be endless.

    `settle`: when the loop ends early, wait for those that are still running.
    """
    running: dict[Future[Result], Item] = {}
    try:
        for item in items:
            running[pool.submit(function, item)] = item
            if len(running) >= limit:
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                yield from [(running.pop(future), future) for future in done]
        while running:
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            yield from [(running.pop(future), future) for future in done]
    finally:
        for future in running:
            future.cancel()
        if settle:
            wait(running)


# --- the two directions


class Transfers:
    """Moves files, `jobs` bodies at once: small files beside each other, the parts of a large one too."""

    def __init__(self, api: Api, *, via: Via, jobs: int, meter: Meter, journal: Journal) -> None:
        self._api = api
        self._via = via
        self._jobs = jobs
        self._meter = meter
        self._journal = journal
        self._parts = ThreadPoolExecutor(jobs, thread_name_prefix="part")
        self._slots = BoundedSemaphore(jobs)

    # --- uploads

    def upload(self, path: Path, name: str, *, if_absent: bool = False) -> Transferred:
        """Store the file under the name. Raises `Failure`."""
        try:
            with path.open("rb") as stream:
                return self._upload(LocalFile(stream, path), name, if_absent=if_absent)
        except OSError as error:
            raise _local_failure(error, path) from error
        finally:
            self._meter.end(name)

    def upload_stream(self, stream: IO[bytes], name: str, *, if_absent: bool = False) -> Transferred:
        """Store what comes, of any length, through the service. It comes once, so nothing is sent again."""
        self._meter.begin(name, "sending", None)
        body = Stream(stream, self._counter(name))
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
        # S3 takes no condition with a presigned form; through the service creating is free of races.
        if not if_absent and self._via != "service":
            with suppress(S3OutOfReach):
                return self._resumed(local, name, sha256) or self._planned(local, name, sha256)
        return self._put(local, name, sha256, if_absent=if_absent)

    def _put(self, local: LocalFile, name: str, sha256: str, *, if_absent: bool) -> Transferred:
        """One PUT through the service, which computes the SHA-256 and has S3 check it."""
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
        with self._slots:  # planned when it is this file's turn, because the plan expires
            plan = self._api.call("POST", "/uploads", body=wanted)["content"]
            if plan["method"] == "POST":
                return self._post(local, name, sha256, plan)
        unfinished = Unfinished(self._api.url, name, local.size, sha256, plan["id"], plan["part_size"])
        self._journal.write(unfinished, local.path)
        return self._send_parts(local, unfinished, {})

    def _post(self, local: LocalFile, name: str, sha256: str, plan: Mapping[str, Any]) -> Transferred:
        """A presigned form. S3 is told the SHA-256, and stores nothing else."""
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
        """Go on with an interrupted upload of the same bytes; None where there is none."""
        saved = self._journal.read(self._api.url, name, local.path)
        if saved is None:
            return None
        if (saved.size, saved.sha256) != (local.size, sha256):
            # The file has changed since: those parts are worth nothing, and S3 should not keep them.
            with suppress(Failure):
                self._api.call("DELETE", f"/uploads/{saved.id}")
            self._journal.remove(saved, local.path)
            return None
        try:
            listed = self._api.call("GET", f"/uploads/{saved.id}/parts")["content"]
        except Failure as failure:
            if failure.http_status != 404:
                raise
            # Gone: it is complete and only the news of that was lost, or it was aborted, or has expired.
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
        if etag != _etag_of_parts(md5s):
            return None
        return Transferred(
            saved.name, "uploaded", saved.size, saved.sha256, etag, "s3", "md5", resumed=saved.size
        )

    def _send_parts(self, local: LocalFile, saved: Unfinished, md5s: dict[int, bytes]) -> Transferred:
        """Send the parts that S3 does not have, and complete. `md5s` are those of the parts that it has."""
        resumed = sum(saved.range_of(number)[1] for number in md5s)
        missing = [number for number in saved.numbers if number not in md5s]
        if resumed:
            self._api.s3_answered = True  # some time ago, and from here
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
        local.check_unchanged()  # each part was right as it was read; this is for all of them together
        etag = self._api.call("POST", f"/uploads/{saved.id}/complete")["content"]["etag"]
        self._journal.remove(saved, local.path)
        if comparable and etag != _etag_of_parts([md5s[number] for number in saved.numbers]):
            raise _not_verified(
                f"S3 does not hold as '{saved.name}' what was sent; something else wrote to it"
            )
        return Transferred(saved.name, "uploaded", saved.size, saved.sha256, etag, "s3", "md5", resumed)

    def _part_urls(self, saved: Unfinished, numbers: Sequence[int]) -> Iterator[dict[str, Any]]:
        left = iter(numbers)
        while batch := list(islice(left, URL_BATCH)):
            yield from self._api.call("POST", f"/uploads/{saved.id}/parts", body={"parts": batch})["content"]

    def _send_part(self, local: LocalFile, saved: Unfinished, number: int, url: str) -> tuple[bytes, bool]:
        """Send one part, which S3 checks by Content-MD5. Returns its MD5, and whether the ETag is that."""
        offset, size = saved.range_of(number)

        def once() -> tuple[bytes, bool]:
            nonlocal url
            md5 = local.digest("md5", offset, size)
            headers = {"Content-Length": str(size), "Content-MD5": _base64(md5)}
            with self._piece(local, saved.name, offset, size) as body:
                try:
                    return md5, self._to_s3("PUT", url, body, headers, md5)[1]
                except Failure as failure:
                    if failure.http_status == 403:  # the URL has expired, perhaps while the network was gone
                        url = next(self._part_urls(saved, [number]))["url"]
                        failure.passing = True
                    raise

        return self._api.retried(once)

    def _to_s3(
        self, method: str, url: str, body: Any, headers: Mapping[str, str], md5: bytes
    ) -> tuple[str, bool]:
        """Returns the ETag, and whether it is the MD5. Raises `Failure` where it should be and is not."""
        with (
            self._falling_back(),
            self._api.open(method, url, body=body, headers=headers, to_s3=True) as answer,
        ):
            answer.read()
            etag, is_md5 = _etag(answer)
        if is_md5 and etag != md5.hex():
            raise _not_verified("What S3 received is not what was sent")
        return etag, is_md5

    @contextmanager
    def _falling_back(self) -> Iterator[None]:
        """No connection to S3, which has never answered: there is no way to it from here."""
        try:
            yield
        except CannotConnect as failure:
            if self._via == "s3" or self._api.s3_answered:
                raise
            self._via = "service"  # for what comes after this file, too
            raise S3OutOfReach from failure

    @contextmanager
    def _piece(self, local: LocalFile, name: str, offset: int, size: int) -> Iterator[Piece]:
        """A body for one attempt; when the attempt fails, what it counted counts no more."""
        piece = Piece(local, offset, size, self._counter(name))
        try:
            yield piece
        except BaseException:
            self._meter.advance(name, -piece.sent)
            raise

    def _counter(self, name: str) -> Count:
        def count(amount: int) -> None:
            if self._api.stopped.is_set():
                raise Stopped
            self._meter.advance(name, amount)

        return count

    # --- downloads

    def download(self, name: str, target: Path, *, force: bool = False) -> Transferred:
        """Bring the file to the target, at once when it is whole; over another file only with `force`.

        Raises `Failure`.
        """
        try:
            with self._slots:
                return self._download(name, target, force=force)
        except OSError as error:
            raise _local_failure(error, target) from error
        finally:
            self._meter.end(name)

    def download_to(self, name: str, sink: IO[bytes]) -> Transferred:
        """Write the file to the sink; a connection that breaks is taken up again where it broke."""
        try:
            first, facts = self._api.retried(lambda: self._open(name))
            with first:
                hashes = facts.hashes()
                self._meter.begin(name, "receiving", facts.size)
                self._receive(first, facts, sink, hashes, 0)
                sink.flush()
            return facts.downloaded(hashes)
        finally:
            self._meter.end(name)

    def _download(self, name: str, target: Path, *, force: bool) -> Transferred:
        if os.path.lexists(target) and (target.is_symlink() or not target.is_file()):
            raise Failure("target_exists", f"{target} is there and is no plain file", EXISTS)
        first, facts = self._api.retried(lambda: self._open(name))
        with first:
            if target.exists():
                if unchanged := self._unchanged(facts, target):
                    return unchanged
                if not force:
                    raise Failure(
                        "target_exists", f"{target} is there with other contents; --force replaces it", EXISTS
                    )
            target.parent.mkdir(parents=True, exist_ok=True)
            path = facts.part_beside(target)
            with part_file(path) as part:
                have = part.seek(0, os.SEEK_END)
                if have > facts.size or not facts.etag:
                    have = part.truncate(0)
                hashes = facts.hashes()
                if have:
                    first.close()
                    self._meter.begin(name, "comparing", facts.size)
                    part.seek(0)
                    hashes.read(part, self._counter(name))
                part.seek(have)
                self._meter.begin(name, "receiving", facts.size, have)
                self._receive(None if have else first, facts, part, hashes, have)
                part.flush()
                try:
                    done = facts.downloaded(hashes, resumed=have, path=str(target))
                except Failure:
                    path.unlink()
                    raise
                publish(part, path, target)
        for stale in target.parent.glob(f"{glob.escape(stem(target))}.{'[0-9a-f]' * 16}.part"):
            stale.unlink(missing_ok=True)  # of the same file before it changed
        return done

    def _unchanged(self, facts: Facts, target: Path) -> Transferred | None:
        """What there is to say when the target already holds what would come; None when it does not."""
        if target.stat().st_size != facts.size:
            return None
        self._meter.begin(facts.name, "comparing", facts.size)
        hashes = facts.hashes()
        with target.open("rb") as stream:
            hashes.read(stream, self._counter(facts.name))
        with suppress(Failure):
            found = facts.downloaded(hashes, path=str(target), outcome="unchanged")
            return found if found.verified else None
        return None

    def _open(self, name: str, start: int = 0, etag: str = "") -> tuple[urllib3.BaseHTTPResponse, Facts]:
        """The file from byte `start` on, as long as it is still the one with this ETag."""
        headers = {"Accept-Encoding": "identity"}
        if start:
            headers |= {"Range": f"bytes={start}-", "If-Match": etag}
        response = None
        via: Way = "s3"
        if self._via != "service":
            url = self._api.call("GET", "/download/", name)["content"]
            with suppress(S3OutOfReach), self._falling_back():
                response = self._api.open("GET", url, headers=headers, to_s3=True)
        if response is None:
            via = "service"
            response = self._api.open("GET", self._api.at("/files/", name), headers=headers)
        if start and not response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
            response.close()
            raise Failure("no_ranges", f"'{name}' cannot be resumed: its server sends no ranges")
        return response, Facts.of(name, response, via)

    def _receive(
        self,
        first: urllib3.BaseHTTPResponse | None,
        facts: Facts,
        sink: IO[bytes],
        hashes: Hashes,
        done: int,
    ) -> None:
        """Write what is missing from byte `done` on, of which `first`, if any, is the beginning.

        Gives up after as many failures as there are retries, without one byte between them.
        """
        failures = 0
        while done < facts.size:
            try:
                response = first or self._open(facts.name, done, facts.etag)[0]
                first = None
                with response:
                    for data in self._api.blocks(response):
                        sink.write(data)
                        hashes.update(data)
                        self._meter.advance(facts.name, len(data))
                        done += len(data)
                        failures = 0
                _check_whole(done, facts)
            except Failure as failure:
                if failure.http_status == 412:
                    raise Failure(
                        "file_changed", f"'{facts.name}' changed while it came; download it again"
                    ) from failure
                if not failure.passing or failures >= self._api.retries:
                    raise
                self._api.pause(failures, failure)
                failures += 1


# --- what is known of a file that comes


@dataclass(frozen=True)
class Facts:
    """What the head of an answer says: `etag` as it stands there, `sha256` as the sender declared it.

    `md5` is the ETag where it comes from the MD5 of the whole, as it stands or as that of a single part.
    """

    name: str
    size: int
    etag: str
    sha256: str | None
    md5: str | None
    via: Way

    @classmethod
    def of(cls, name: str, response: urllib3.BaseHTTPResponse, via: Way) -> Facts:
        length = response.headers.get("Content-Length", "")
        if not length.isdecimal():
            raise Failure("not_the_api", f"The answer does not tell the size of '{name}'", UNREACHABLE)
        # What the sender declared serves here even if nothing has checked it: it is compared with what comes.
        declared = ("x-amz-meta-sha256", "x-amz-meta-declared-sha256", "X-Declared-SHA-256")
        sha256 = next((response.headers[name] for name in declared if name in response.headers), None)
        if found := re.search(r"sha-256=:([A-Za-z0-9+/]{43}=):", response.headers.get("Repr-Digest", "")):
            sha256 = base64.b64decode(found[1]).hex()
        if not re.fullmatch("[0-9a-f]{64}", sha256 or ""):
            sha256 = None
        etag, is_md5 = _etag(response)
        if etag.endswith("-1"):
            is_md5 = _is_md5(response, etag.removesuffix("-1"))
        return cls(name, int(length), response.headers.get("ETag", ""), sha256, etag if is_md5 else None, via)

    def hashes(self) -> Hashes:
        return Hashes(md5=self.sha256 is None and self.md5 is not None)

    def downloaded(
        self,
        hashes: Hashes,
        *,
        resumed: int = 0,
        path: str | None = None,
        outcome: Literal["downloaded", "unchanged"] = "downloaded",
    ) -> Transferred:
        """The result. Raises `Failure` when what came is not what the sender declared, or S3 has stored."""
        sha256 = hashes.sha256.hexdigest()
        verified: Verified = None
        wrong = hashes.size != self.size
        if self.sha256:
            verified, wrong = "sha256", wrong or sha256 != self.sha256
        elif hashes.md5 and self.md5 in (hashes.md5.hexdigest(), _etag_of_parts([hashes.md5.digest()])):
            verified = "md5"
        elif hashes.md5 and self.via == "s3":  # the service does not tell how S3 has encrypted it
            wrong = True
        if wrong:
            raise _not_verified(
                f"What came of '{self.name}' is not what was stored, or not what its sender declared; "
                "nothing was kept"
            )
        etag = self.etag.strip('"')
        return Transferred(self.name, outcome, self.size, sha256, etag, self.via, verified, resumed, path)

    def part_beside(self, target: Path) -> Path:
        """Where an unfinished download waits; another version of the file has another."""
        key = hashlib.sha256(f"{self.name}\0{self.etag}".encode()).hexdigest()
        return target.with_name(f"{stem(target)}.{key[:16]}.part")


# --- checks


def _stored(name: str, size: int, sha256: str, stored: Mapping[str, Any]) -> Transferred:
    """What the service says that it stored. Raises `Failure` when that is not what was sent."""
    if (stored["size"], stored["sha256"]) != (size, sha256):
        raise _not_verified(f"The service did not store as '{name}' what was sent")
    return Transferred(name, "uploaded", size, sha256, stored["etag"], "service", "sha256")


def _etag(response: urllib3.BaseHTTPResponse) -> tuple[str, bool]:
    """The ETag, and whether it is the MD5 of the bytes."""
    etag = response.headers.get("ETag", "").strip('"')
    return etag, _is_md5(response, etag)


def _is_md5(response: urllib3.BaseHTTPResponse, etag: str) -> bool:
    """Whether S3 says an MD5 here: not with keys of KMS or of the customer's own."""
    keyed = (
        "kms" in response.headers.get("x-amz-server-side-encryption", "")
        or "x-amz-server-side-encryption-customer-algorithm" in response.headers
    )
    return bool(re.fullmatch("[0-9a-f]{32}", etag)) and not keyed


def _etag_of_parts(md5s: Sequence[bytes]) -> str:
    return f"{hashlib.md5(b''.join(md5s), usedforsecurity=False).hexdigest()}-{len(md5s)}"


def _check_whole(done: int, facts: Facts) -> None:
    if done < facts.size:
        message = f"'{facts.name}' ended after {done} of {facts.size} bytes"
        raise Failure("interrupted", message, UNREACHABLE, passing=True)


def _not_verified(message: str) -> Failure:
    return Failure("not_verified", message, NOT_VERIFIED)


def _local_failure(error: OSError, path: Path) -> Failure:
    missing = isinstance(error, FileNotFoundError)
    code = "local_file_not_found" if missing else "local_file_error"
    reason = error.strerror or str(error)
    return Failure(code, f"{error.filename or path}: {reason}", NOT_FOUND if missing else FAILED)


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
