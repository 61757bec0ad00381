"""`s3api doctor`: checks what the service needs of its bucket, with one finding for each check."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from typing import Protocol

from s3api.failures import FileError
from s3api.s3_store import BucketReport
from s3api.settings import Settings

# S3 rejects signatures if the clocks differ by more than 15 minutes. Warn at a third of that.
MAX_SKEW = timedelta(minutes=5)


class Verdict(Enum):
    OK = "ok"
    ADVICE = "advice"
    UNKNOWN = "unknown"
    FAILED = "FAILED"


@dataclass(frozen=True, slots=True)
class Finding:
    check: str
    verdict: Verdict
    message: str


class Reporting(Protocol):
    def report(self) -> BucketReport: ...


def diagnose(store: Reporting, settings: Settings) -> list[Finding]:
    """The findings in a fixed order. A bucket that cannot be reached is the only finding."""
    try:
        report = store.report()
    except FileError as error:
        return [Finding("bucket", Verdict.FAILED, error.message)]
    return list(_findings(report, settings))


def _findings(report: BucketReport, settings: Settings) -> Iterator[Finding]:
    owner = f", and belongs to {settings.bucket_owner}" if settings.bucket_owner else ""
    yield Finding("bucket", Verdict.OK, f"'{settings.bucket}' is there and answers{owner}")

    if report.region is None:
        yield Finding("region", Verdict.UNKNOWN, "S3 does not tell the bucket's region")
    elif report.region == settings.aws_region:
        yield Finding("region", Verdict.OK, report.region)
    else:
        yield Finding(
            "region",
            Verdict.FAILED,
            f"the bucket is in {report.region}, AWS_REGION is {settings.aws_region}, so presigned URLs fail: "
            f"set AWS_REGION={report.region}",
        )

    if report.clock_skew is None:
        yield Finding("clock", Verdict.UNKNOWN, "S3 does not tell its time")
    elif report.clock_skew <= MAX_SKEW:
        yield Finding("clock", Verdict.OK, f"{report.clock_skew.total_seconds():.0f} s from S3's")
    else:
        yield Finding(
            "clock",
            Verdict.FAILED,
            f"{report.clock_skew.total_seconds():.0f} s from S3's, which refuses signatures from 900 s on: "
            "synchronise this machine's clock",
        )

    if report.public_endpoint_error is None:
        yield Finding("public endpoint", Verdict.OK, f"{report.public_endpoint} takes presigned URLs")
    else:
        yield Finding(
            "public endpoint",
            Verdict.FAILED,
            f"{report.public_endpoint} answers a presigned URL with {report.public_endpoint_error}: "
            "set S3_PUBLIC_ENDPOINT_URL to where clients reach S3",
        )

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


def _advice(check: str, yes: str, no: str, *, good: bool | None) -> Finding:
    if good is None:
        return Finding(check, Verdict.UNKNOWN, "these credentials may not read it")
    return Finding(check, Verdict.OK if good else Verdict.ADVICE, yes if good else no)
