"""What S3's failures mean: the failure and the sentence for each of its error codes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import urllib3
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    NoCredentialsError,
    ParamValidationError,
    PartialCredentialsError,
)
from botocore.parsers import ResponseParserError

from s3api.failures import (
    BucketNotFound,
    ClockSkewed,
    Conflict,
    DigestMismatch,
    FileChanged,
    FileError,
    FileExists,
    FileNotFound,
    FileTooLarge,
    InvalidName,
    InvalidParts,
    RangeNotSatisfiable,
    StoreDenied,
    StoreFailed,
    StoreThrottled,
    StoreUnavailable,
    UploadNotFound,
)
from s3api.file_store import NotModified
from s3api.s3_answers import UnexpectedAnswer
from s3api.s3_values import clock_offset

# AWS: "RequestTimeTooSkewed: The difference between the request time and the server's time is too large."
MAX_SKEW = timedelta(minutes=15)
NOT_S3 = (
    "The answer is not one of S3; try again. If it lasts, the service's operator must look at "
    "AWS_ENDPOINT_URL and at what is between the service and S3"
)
#: The codes, and the status, by which S3 asks for fewer requests.
THROTTLED = frozenset(
    {"SlowDown", "Throttling", "ThrottlingException", "RequestLimitExceeded", "TooManyRequests", "429"}
)


@dataclass(frozen=True, slots=True)
class _Meaning:
    """A failure, and its sentence with the fields that `S3Errors` fills in."""

    error: type[FileError]
    sentence: str


_CHANGED = _Meaning(FileChanged, "The file '{name}' does not match the condition of the request")
_UNAVAILABLE = _Meaning(StoreUnavailable, "S3 answered with an error of its own; try again")
_FAILED = _Meaning(StoreFailed, "S3 refused the request ({operation})")
_DENIED = _Meaning(
    StoreDenied,
    "S3 does not allow the service to do this ({operation}); its operator must look at the role{owner}",
)

#: S3's error codes, and HTTP's statuses for an answer without a code, with what they mean.
_MEANINGS: Mapping[str, _Meaning] = {
    code: meaning
    for codes, meaning in (
        ("NoSuchBucket", _Meaning(BucketNotFound, "The bucket '{bucket}' does not exist")),
        (
            "NoSuchUpload",
            _Meaning(UploadNotFound, "The upload was not found; it was completed, aborted or has expired"),
        ),
        (
            "NoSuchKey NoSuchVersion 404",
            _Meaning(FileNotFound, "The file '{name}' was not found on the bucket '{bucket}'"),
        ),
        ("304", _Meaning(NotModified, "")),
        (
            "ConditionalRequestConflict OperationAborted 409",
            _Meaning(Conflict, "Another upload of '{name}' is under way; try again"),
        ),
        (
            "PreconditionFailed 412",
            _Meaning(
                FileExists, "The file '{name}' already exists on the bucket '{bucket}'; nothing was stored"
            ),
        ),
        ("InvalidRange 416", _Meaning(RangeNotSatisfiable, "The range is outside the file '{name}'")),
        (
            "BadDigest InvalidDigest XAmzContentChecksumMismatch XAmzContentSHA256Mismatch",
            _Meaning(
                DigestMismatch, "The body does not match its SHA-256; nothing was stored. Send the file again"
            ),
        ),
        ("EntityTooLarge", _Meaning(FileTooLarge, "S3 refused the size of '{name}'; nothing was stored")),
        (
            "InvalidPart InvalidPartOrder EntityTooSmall",
            _Meaning(
                InvalidParts,
                "S3 refused the parts of the upload; list them, and upload again what is missing",
            ),
        ),
        ("KeyTooLongError", _Meaning(InvalidName, "The file name is too long for S3")),
        (" ".join(THROTTLED), _Meaning(StoreThrottled, "S3 asks to slow down; try again")),
        (
            (
                "AccessDenied AllAccessDisabled ExpiredToken InvalidAccessKeyId InvalidToken "
                "SignatureDoesNotMatch TokenRefreshRequired 401 403"
            ),
            _DENIED,
        ),
        (
            "PermanentRedirect AuthorizationHeaderMalformed 301",
            _Meaning(
                StoreFailed,
                "The bucket '{bucket}' is not in the region {region}; "
                "the service's operator must correct AWS_REGION",
            ),
        ),
        (
            "RequestTimeTooSkewed",
            _Meaning(
                ClockSkewed, "The service's clock differs from S3's by {minutes}; its operator must set it"
            ),
        ),
        (
            "TemporaryRedirect 300 302 303 307 308",
            _Meaning(
                StoreUnavailable,
                "S3 redirects the request, and the service follows no redirect; if it lasts, its operator "
                "must look at AWS_ENDPOINT_URL and AWS_REGION",
            ),
        ),
        ("RequestTimeout InternalError ServiceUnavailable", _UNAVAILABLE),
        ("NotImplemented 501", _FAILED),
    )
    for code in codes.split()
}


def is_denial(code: str) -> bool:
    """Whether this error code means that S3 denies the service the operation."""
    return _MEANINGS.get(code) is _DENIED


class S3Errors:
    """Turns what botocore raises into the errors of `failures`. The cause is kept for the log only."""

    def __init__(self, bucket: str, region: str, *, checks_owner: bool) -> None:
        self._bucket = bucket
        self._region = region
        self._owner = ", and at whether the account in BUCKET_OWNER owns the bucket" if checks_owner else ""

    @contextmanager
    def __call__(self, operation: str, name: str = "") -> Iterator[None]:
        """Translate the errors of one operation on S3, for the file of this name."""
        try:
            yield
        except ClientError as error:
            raise self._translate(error, operation, name) from error
        except (NoCredentialsError, PartialCredentialsError) as error:
            raise StoreUnavailable("The service has no AWS credentials") from error
        # boto3 refuses metadata that is not ASCII, which another S3 than AWS's can have.
        except ParamValidationError as error:
            raise StoreFailed(f"S3 does not take this request ({operation})") from error
        # boto3's parser raises the second and the third; the last is a field that an answer lacks.
        except (UnexpectedAnswer, ResponseParserError, ValueError, KeyError) as error:
            raise StoreUnavailable(NOT_S3) from error
        except (BotoCoreError, urllib3.exceptions.HTTPError, OSError) as error:
            raise StoreUnavailable("S3 cannot be reached; try again") from error

    def _translate(self, error: ClientError, operation: str, name: str) -> FileError:
        """S3's code decides. Where it has none (an answer to HEAD has no body), the status does."""
        code = str(error.response.get("Error", {}).get("Code", ""))
        answer = error.response.get("ResponseMetadata", {})
        status = answer.get("HTTPStatusCode", 0)
        headers = answer.get("HTTPHeaders", {})
        if operation == "head_bucket" and status == 404:
            code = "NoSuchBucket"
        if status == 400 and headers.get("x-amz-bucket-region", self._region) != self._region:
            code = "PermanentRedirect"  # the answer to a HEAD that is signed for the wrong region
        if operation == "get_object_version" and status in (400, 405) and code != "PermanentRedirect":
            code = "NoSuchVersion"  # the answers to a HEAD of an impossible version, and of a delete marker
        offset = clock_offset(headers, datetime.now(UTC))
        if code == "403" and offset is not None and abs(offset) > MAX_SKEW:
            code = "RequestTimeTooSkewed"  # the answer to a HEAD does not name its reason
        fallback = _UNAVAILABLE if status >= 500 else _FAILED
        meaning = _MEANINGS.get(code) or _MEANINGS.get(str(status)) or fallback
        if meaning.error is FileExists and operation != "put_object":
            meaning = _CHANGED
        if meaning.error is NotModified:
            return NotModified(details=headers)
        minutes = f"{round(abs(offset).total_seconds() / 60)} minutes" if offset else "more than 15 minutes"
        sentence = meaning.sentence.format(
            name=name,
            bucket=self._bucket,
            region=self._region,
            operation=operation,
            minutes=minutes,
            owner=self._owner,
        )
        return StoreDenied(sentence, operation) if meaning is _DENIED else meaning.error(sentence)


def look(call: Callable[[], dict[str, Any]], absent: str) -> dict[str, Any] | None:
    """The configuration; {} if there is none, None if it cannot be read."""
    try:
        return call()
    except ClientError as error:
        return {} if error.response.get("Error", {}).get("Code") == absent else None
    except (BotoCoreError, ResponseParserError, ValueError):
        return None
