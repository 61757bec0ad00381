"""`s3api doctor`: does what the service does with its bucket, with one finding for each check.

Nothing is stored, because a bucket that keeps versions would keep what was stored, and the role of a task may
not delete a version. So the checks use requests that S3 authorises first and that leave nothing:

- read: a file that does not exist;
- write and delete: on the condition of an ETag that no file has
  (https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-requests.html);
- signed upload: one part of a multipart upload, which is then aborted.
"""

from __future__ import annotations

import io
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import Enum
from typing import Literal, Protocol
from urllib.parse import urlsplit

from s3api.bodies import Body
from s3api.failures import FileChanged, FileError, FileNotFound, StoreFailed
from s3api.file_store import Conditions, FileStore, PartPlan
from s3api.observability import cause_in_words
from s3api.s3_errors import MAX_SKEW
from s3api.s3_store import BucketReport, PresignedAnswer
from s3api.settings import Settings

# A third of what S3 allows.
SKEW_TO_REPORT = timedelta(minutes=5)
SIGNED_SECONDS = 60
NO_ETAG = '"00000000000000000000000000000000"'
DATA = b"s3api doctor"


class Verdict(Enum):
    OK = "ok"
    ADVICE = "advice"
    UNKNOWN = "unknown"
    NOT_CHECKED = "not checked"
    FAILED = "FAILED"


@dataclass(frozen=True, slots=True)
class Finding:
    check: str
    verdict: Verdict
    message: str


class Examined(FileStore, Protocol):
    """The store of a service, with what only the doctor asks of it."""

    @property
    def credentials(self) -> str: ...

    def report(self) -> BucketReport: ...

    def delete_without_trace(self, name: str) -> bool: ...

    def send_presigned(
        self, method: Literal["GET", "PUT"], url: str, body: bytes = b""
    ) -> PresignedAnswer: ...


def diagnose(store: Examined, settings: Settings) -> list[Finding]:
    """The findings in a fixed order. A bucket that cannot be reached is the only finding."""
    try:
        report = store.report()
    except FileError as error:
        return [_failed(store, "bucket", error)]
    return list(_findings(store, report, settings))


def _failed(store: Examined, check: str, error: FileError) -> Finding:
    """What failed, where, with which credentials, and why."""
    where = f"{urlsplit(store.endpoint).netloc}, with the credentials of {store.credentials}"
    cause = f" ({cause_in_words(error)})" if error.__cause__ else ""
    return Finding(check, Verdict.FAILED, f"{error.message}; asked {where}{cause}")


def _findings(store: Examined, report: BucketReport, settings: Settings) -> Iterator[Finding]:
    owner = f", and belongs to {settings.bucket_owner}" if settings.bucket_owner else ""
    yield Finding("bucket", Verdict.OK, f"'{store.bucket}' is there and answers{owner}")
    yield Finding("credentials", Verdict.OK, f"{store.credentials}, for {urlsplit(store.endpoint).netloc}")
    yield _region(report, settings)
    yield _clock(report)
    name = f".s3api-doctor/{secrets.token_hex(8)}"
    yield _list(store)
    yield _read(store, name)
    yield _write(store, name)
    yield _delete(store, name)
    yield _presigned_download(store, name, settings)
    yield _signed_upload(store, name, settings)
    yield _advice(
        "versioning", "on", "off: deleted and overwritten files cannot be restored", good=report.versioning
    )
    yield _advice(
        "incomplete uploads",
        f"aborted after {report.abort_incomplete_days} days",
        "no lifecycle rule aborts them: the parts of abandoned uploads are kept and cost money",
        good=report.has_abort_rule,
    )
    yield _advice(
        "old versions",
        f"removed after {report.old_version_days} days",
        "no lifecycle rule removes them: replaced and deleted files are kept and cost money",
        good=report.has_old_version_rule,
    )
    yield _advice(
        "CORS",
        "exposes ETag",
        "does not expose ETag: browsers cannot upload large files directly",
        good=report.cors_exposes_etag,
    )


def _region(report: BucketReport, settings: Settings) -> Finding:
    if report.region is None:
        return Finding("region", Verdict.UNKNOWN, "S3 does not tell the bucket's region")
    if report.region == settings.aws_region:
        return Finding("region", Verdict.OK, report.region)
    return Finding(
        "region",
        Verdict.FAILED,
        f"the bucket is in {report.region}, AWS_REGION is {settings.aws_region}, so presigned URLs fail: "
        f"set AWS_REGION={report.region}",
    )


def _clock(report: BucketReport) -> Finding:
    if report.clock_skew is None:
        return Finding("clock", Verdict.UNKNOWN, "S3 does not tell its time")
    skew = f"{report.clock_skew.total_seconds():.0f} s from S3's"
    if report.clock_skew <= SKEW_TO_REPORT:
        return Finding("clock", Verdict.OK, skew)
    most = MAX_SKEW.total_seconds()
    return Finding(
        "clock",
        Verdict.ADVICE if report.clock_skew <= MAX_SKEW else Verdict.FAILED,
        f"{skew}, which rejects signatures above {most:.0f} s: synchronise this machine's clock",
    )


def _list(store: Examined) -> Finding:
    try:
        store.list_page("", "", 1, None)
    except FileError as error:
        return _failed(store, "list", error)
    return Finding("list", Verdict.OK, "allowed")


def _read(store: Examined, name: str) -> Finding:
    try:
        # To a caller who may not read, S3 answers 403, whether the file exists or not.
        for _ in store.open(name, Conditions(), with_body=True).chunks:
            pass
    except FileNotFound:
        return Finding("read", Verdict.OK, "allowed")
    except FileError as error:
        return _failed(store, "read", error)
    return Finding("read", Verdict.FAILED, f"S3 has a file '{name}', which was never stored")


def _write(store: Examined, name: str) -> Finding:
    try:
        body = Body(io.BytesIO(DATA), len(DATA), len(DATA), None)
        store.put(name, body, "text/plain", create_only=False, if_match=NO_ETAG)
        store.delete(name)
    except (FileChanged, FileNotFound):
        return Finding("write", Verdict.OK, "allowed")
    except FileError as error:
        return _failed(store, "write", error)
    return _ignores_if_match("write", name)


def _delete(store: Examined, name: str) -> Finding:
    try:
        store.delete(name, NO_ETAG)
    except (FileChanged, FileNotFound):
        return Finding("delete", Verdict.OK, "allowed")
    except StoreFailed:  # not every S3 knows the condition
        return _delete_without_condition(store, name)
    except FileError as error:
        return _failed(store, "delete", error)
    return _ignores_if_match("delete", name)


def _delete_without_condition(store: Examined, name: str) -> Finding:
    try:
        left = store.delete_without_trace(name)
    except FileError as error:
        return _failed(store, "delete", error)
    if left:
        return Finding("delete", Verdict.ADVICE, f"allowed; the bucket has a delete marker of '{name}' now")
    return Finding("delete", Verdict.OK, "allowed")


def _ignores_if_match(check: str, name: str) -> Finding:
    """A finding about an S3 other than AWS's."""
    return Finding(
        check,
        Verdict.ADVICE,
        "allowed, but this S3 ignores If-Match, so a file that has changed can be lost. If the bucket keeps "
        f"versions, it has some of '{name}' now",
    )


def _signed_upload(store: Examined, name: str, settings: Settings) -> Finding:
    """Upload a part as the client of a planned upload does, and abort the upload."""
    check = "signed upload"
    try:
        upload_id = store.start_parts(name, "text/plain", None, "").upload_id
        plan = PartPlan(name, upload_id, size=len(DATA), part_size=len(DATA), nonce="")
    except FileError as error:
        return _failed(store, check, error)
    try:
        (part,) = store.sign_parts(plan, [1], SIGNED_SECONDS)
        finding = _at_public_endpoint(store, check, _Signed("PUT", part.url, DATA, 200), settings)
        store.list_parts(plan)
    except FileError as error:
        finding = _failed(store, check, error)
    try:
        store.abort_parts(plan)
    except FileError as error:
        failed = _failed(store, check, error)
        return replace(failed, message=f"the upload '{upload_id}' of '{name}' is left: {failed.message}")
    return finding


def _presigned_download(store: Examined, name: str, settings: Settings) -> Finding:
    try:
        signed = store.sign_download(name, SIGNED_SECONDS, "attachment")
    except FileError as error:
        return _failed(store, "public endpoint", error)
    return _at_public_endpoint(store, "public endpoint", _Signed("GET", signed.url, b"", 404), settings)


@dataclass(frozen=True, slots=True)
class _Signed:
    """A presigned request, and the status of S3's answer to it."""

    method: Literal["GET", "PUT"]
    url: str
    body: bytes
    wanted: int


def _at_public_endpoint(store: Examined, check: str, signed: _Signed, settings: Settings) -> Finding:
    """Send the request to where clients send it. The service may be unable to reach that place."""
    parts = urlsplit(signed.url)
    endpoint = f"{parts.scheme}://{parts.netloc}"
    elsewhere = settings.s3_public_endpoint_url not in (None, settings.s3_endpoint_url)
    try:
        answer = store.send_presigned(signed.method, signed.url, signed.body)
    except FileError as error:
        if elsewhere:
            message = f"the public endpoint {endpoint} cannot be reached from here; clients may reach it"
            return Finding(check, Verdict.NOT_CHECKED, f"{message} ({cause_in_words(error)})")
        return _failed(store, check, error)
    if elsewhere and not answer.from_s3:
        message = f"what answers here at the public endpoint {endpoint} is not S3; clients may reach another"
        return Finding(check, Verdict.NOT_CHECKED, message)
    if answer.status == signed.wanted:
        return Finding(check, Verdict.OK, f"{endpoint} takes presigned URLs")
    return Finding(
        check,
        Verdict.FAILED,
        f"{endpoint} answers a presigned {signed.method} with HTTP {answer.status}; it was signed with the "
        f"credentials of {store.credentials}. Set S3_PUBLIC_ENDPOINT_URL to where clients reach S3",
    )


def _advice(check: str, yes: str, no: str, *, good: bool | None) -> Finding:
    if good is None:
        return Finding(check, Verdict.UNKNOWN, "these credentials may not read it")
    return Finding(check, Verdict.OK if good else Verdict.ADVICE, yes if good else no)
