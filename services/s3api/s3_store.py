"""`S3FileStore`: the files of one S3 bucket. Only the modules `s3_*` talk to S3.

IAM actions of the service; a test compares them with the policy of the task role:

    s3:ListBucket                 on the bucket
    s3:ListBucketVersions         on the bucket
    s3:GetBucketVersioning        on the bucket
    s3:GetObject                  on the objects
    s3:GetObjectVersion           on the objects
    s3:PutObject                  on the objects
    s3:DeleteObject               on the objects
    s3:AbortMultipartUpload       on the objects
    s3:ListMultipartUploadParts   on the objects

DeleteObjectVersion is not among them, so the service cannot destroy a version that the bucket keeps. `report`
reads more of the bucket's configuration, with the credentials of the user of `s3api doctor`.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any, Literal

import boto3.session
import urllib3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

from s3api import s3_session
from s3api.bodies import Body
from s3api.bucket import days_to_abort, days_to_remove, exposes_etag, is_versioned
from s3api.failures import (
    FileError,
    FileExists,
    FileNotFound,
    RangeNotSatisfiable,
    StoreDenied,
    StoreFailed,
    StoreUnavailable,
    changed,
)
from s3api.file_store import (
    KEPT_HEADERS,
    MAX_SINGLE_PUT_BYTES,
    NOTHING,
    Conditions,
    Copied,
    OpenFile,
    Page,
    Part,
    PartPlan,
    SignedPost,
    SignedPut,
    SignedUrl,
    StartedUpload,
    StoredFile,
    Upload,
    VersionPage,
    part_size_for,
)
from s3api.names import UNKNOWN_TYPE
from s3api.s3_answers import REQUEST_ID, UnexpectedAnswer, check_answers, expect_owner
from s3api.s3_copying import COPY_OF, S3Copying, copied_headers
from s3api.s3_errors import S3Errors, is_denial, look
from s3api.s3_http import S3Requests
from s3api.s3_multipart import S3Multipart
from s3api.s3_restore import S3Restore
from s3api.s3_values import clock_offset, etag_of, number, page, size_of_range, stored_file
from s3api.s3_versions import S3Versions
from s3api.settings import Settings
from s3api.upload_memory import UploadMemory
from s3api.waiting import at_most

ATTEMPTS = 2
READ_CHUNK = 256 * 1024
# A body of at most this size is read before the request is sent, and sent together with its head.
HELD_BYTES = 64 * 1024
# A body of unknown length and at most this size is stored without a share of `_memory`.
UNPLACED_BYTES = 256 * 1024
LOOKUP_THREADS = 16
# Completing an upload or copying can take minutes, during which S3 sends white space.
SLOW_ANSWER_SECONDS = 900
# The metadata of a file: the SHA-256 that was checked when the file was stored, the SHA-256 that the sender
# of a multipart upload declared, and the nonce of the upload's plan.
SHA256, DECLARED_SHA256, NONCE = "sha256", "declared-sha256", "s3api-upload"


@dataclass(frozen=True, slots=True)
class BucketReport:
    """What `s3api doctor` shows. A value is None if S3 did not allow reading it, or did not send it.

    The two numbers of days are also None if no rule sets them.
    """

    region: str | None
    clock_skew: timedelta | None
    versioning: bool | None
    abort_incomplete_days: int | None
    has_abort_rule: bool | None
    old_version_days: int | None
    has_old_version_rule: bool | None
    cors_exposes_etag: bool | None


@dataclass(frozen=True, slots=True)
class PresignedAnswer:
    """The answer to a presigned request. Something else than S3 may have given it."""

    status: int
    from_s3: bool


#: Sources of credentials by their names in botocore, `Credentials.method`.
_CREDENTIALS = {
    "env": "the environment (AWS_ACCESS_KEY_ID)",
    "container-role": "the task role",
    "iam-role": "the instance role",
    "shared-credentials-file": "{profile} of the credentials file",
    "config-file": "{profile} of the configuration file",
    "sso": "{profile} (SSO)",
    "assume-role": "{profile} (a role that it assumes)",
    "assume-role-with-web-identity": "a role by web identity",
    "custom-process": "{profile} (credential_process)",
    "explicit": "the program itself",
}


def source_of_credentials(session: boto3.session.Session) -> str:
    """Where the credentials of a session come from, in words."""
    found = session.get_credentials()
    if found is None:
        return "no credentials"
    profile = f"profile '{session.profile_name}'"
    return _CREDENTIALS.get(found.method, f"{profile} ({found.method})").format(profile=profile)


class S3FileStore:
    """The `FileStore` of one bucket. Threads can share it; a process needs only one.

    It has two boto3 clients. `_api` sends small requests, with short timeouts and retries. `_transfer` sends
    bodies and long copies, with long timeouts and without retries, because a stream cannot be sent twice. If
    the service's clients use another endpoint, a third one signs for it. `_small`, `_large` and `_public` are
    their counterparts for the frequent requests (`s3_http`).
    """

    def __init__(self, settings: Settings, session: boto3.session.Session | None = None) -> None:
        self.bucket = settings.bucket
        self._session = session or s3_session.session(settings.aws_region)
        self._region = settings.aws_region
        self._part_size = part_size_for(settings.max_file_bytes)
        self._memory = UploadMemory(
            settings.upload_buffer_bytes, self._part_size, settings.upload_wait_seconds
        )
        self._lookups = ThreadPoolExecutor(LOOKUP_THREADS, thread_name_prefix="s3-lookup")

        endpoint = settings.s3_endpoint_url
        pool = settings.max_concurrent_requests + LOOKUP_THREADS
        connect, read = settings.s3_connect_timeout_seconds, settings.s3_read_timeout_seconds
        transfer = self._patience = settings.s3_transfer_timeout_seconds
        owner = settings.bucket_owner
        self._errors = S3Errors(self.bucket, self._region, checks_owner=owner is not None)
        self._api = self._boto3_client(endpoint, connect, read, pool, attempts=ATTEMPTS)
        self._transfer = self._boto3_client(endpoint, connect, transfer, pool, attempts=1)
        public = self._api
        if settings.s3_public_endpoint_url:
            public = self._boto3_client(settings.s3_public_endpoint_url, connect, read, 1, attempts=1)
        self.endpoint: str = self._api.meta.endpoint_url
        check_answers(self._api, read)
        check_answers(self._transfer, SLOW_ANSWER_SECONDS)
        if owner:
            expect_owner(self._api, owner)
            expect_owner(self._transfer, owner)
        self._multipart = S3Multipart(self._api, self._transfer, self.bucket, self._errors)
        self._copying = S3Copying(self._api, self._transfer, self.bucket, self._errors, self._multipart)
        self._versions = S3Versions(self._api, self.bucket, self._errors)
        self._restoring = S3Restore(self._api, self.bucket, self._errors, self._copying)
        self._small = S3Requests(self._api, self._session, self.bucket, attempts=ATTEMPTS, owner=owner)
        self._large = S3Requests(self._transfer, self._session, self.bucket, owner=owner)
        self._public = S3Requests(public, self._session, self.bucket)

    def _boto3_client(
        self,
        endpoint: str | None,
        connect: float,
        read: float,
        pool: int,
        *,
        attempts: int,
    ) -> Any:
        return self._session.client(
            "s3",
            endpoint_url=endpoint,
            config=Config(
                signature_version="s3v4",
                connect_timeout=connect,
                read_timeout=read,
                retries={"mode": "standard", "total_max_attempts": attempts},
                max_pool_connections=pool,
                # boto3 holds every body that it sends, so the checksum is a header over plain HTTP too.
                request_checksum_calculation="when_supported",
                response_checksum_validation="when_required",
                s3={
                    # Emulators and self-hosted servers have no host name for each bucket.
                    "addressing_style": "path" if endpoint else "virtual",
                    # A stream cannot be read twice, to sign it and to send it. TLS protects it.
                    "payload_signing_enabled": False,
                },
            ),
        )

    # --- reading

    def check(self) -> None:
        with self._errors("head_bucket"):
            self._small.send("HEAD")

    def list_page(self, prefix: str, delimiter: str, limit: int, token: str | None) -> Page:
        query = {"list-type": "2", "encoding-type": "url", "prefix": prefix, "max-keys": str(limit)}
        if delimiter:
            query["delimiter"] = delimiter
        if token is not None:
            query["continuation-token"] = token
        with self._errors("list_objects"):
            root = self._small.get_document("ListBucketResult", query)
            return page(root, self.bucket, prefix, limit, token)

    def stat(self, name: str) -> StoredFile:
        with self._errors("get_object", name):
            headers = self._small.send("HEAD", name).headers
            return stored_file(name, headers, number(headers.get("Content-Length")))

    def missing(self, names: Sequence[str]) -> set[str]:
        def is_missing(name: str) -> bool:
            try:
                self.stat(name)
            except FileNotFound:
                return True
            return False

        return {name for name, gone in zip(names, self._lookups.map(is_missing, names), strict=True) if gone}

    def open(self, name: str, conditions: Conditions, *, with_body: bool) -> OpenFile:
        asked = {
            "Range": conditions.byte_range,
            "If-Match": conditions.if_match,
            "If-None-Match": conditions.if_none_match,
            "If-Modified-Since": _http_date(conditions.if_modified_since),
            "If-Unmodified-Since": _http_date(conditions.if_unmodified_since),
        }
        headers = {header: value for header, value in asked.items() if value is not None}
        with self._errors("get_object", name):
            if with_body:
                answer = self._large.send("GET", name, headers=headers, stream=True)
            else:
                answer = self._small.send("HEAD", name, headers=headers)
            try:
                length = number(answer.headers.get("Content-Length"))
                content_range, size = None, length
                if answer.status_code == 206:
                    content_range = answer.headers.get("Content-Range", "")
                    size = size_of_range(content_range, conditions.byte_range or "", length)
                file = stored_file(name, answer.headers, size)
            except (UnexpectedAnswer, RangeNotSatisfiable):
                if with_body:
                    answer.raw.close()
                raise
        return OpenFile(
            file=file,
            length=length,
            content_type=answer.headers.get("Content-Type") or UNKNOWN_TYPE,
            content_range=content_range,
            chunks=_chunks(answer.raw, length, self._patience) if with_body else iter(()),
            sha256=answer.headers.get(f"x-amz-meta-{SHA256}"),
            declared_sha256=answer.headers.get(f"x-amz-meta-{DECLARED_SHA256}"),
            nonce=answer.headers.get(f"x-amz-meta-{NONCE}"),
            copy_of=answer.headers.get(f"x-amz-meta-{COPY_OF}"),
            stored_headers={name: value for name in KEPT_HEADERS if (value := answer.headers.get(name))},
            copied_headers=copied_headers(answer.headers),
        )

    # --- writing

    def put(
        self,
        name: str,
        body: Body,
        content_type: str,
        *,
        create_only: bool,
        if_match: str | None = None,
        kept: Mapping[str, str] = NOTHING,
    ) -> Upload:
        """Send a body of known length as one PUT: without memory or disk, and a failure leaves nothing.

        A body of unknown length, or above S3's limit for one PUT, is uploaded in parts, with one in memory at
        a time.
        """
        stored = {"Content-Type": content_type, **kept}
        condition = _condition(create_only=create_only, if_match=if_match)
        try:
            with _not_matching(name, if_match):
                if body.size is None or body.size > MAX_SINGLE_PUT_BYTES:
                    etag = self._put_parts(name, body, stored, condition)
                else:
                    etag = self._put_whole(name, body, body.size, stored, condition)
        except FileError:
            # The HTTP library has wrapped the body's own failure.
            if body.failure is not None:
                raise body.failure from body.failure.__cause__
            raise
        return Upload(name=name, size=body.received, etag=etag, sha256=body.hexdigest())

    def _put_whole(
        self, name: str, body: Body, size: int, stored: Mapping[str, str], condition: Mapping[str, str]
    ) -> str:
        headers = {**stored, **condition}
        if body.sha256 is not None:
            headers["x-amz-checksum-sha256"] = _base64_of_hex(body.sha256)
            headers[f"x-amz-meta-{SHA256}"] = body.sha256
        held = None
        if size <= HELD_BYTES:
            # Read an empty body too: its digest is checked at its end.
            held = body.read_fully(size) or body.read()

        def send() -> str:
            with self._errors("put_object", name):
                if held is None:
                    return etag_of(self._large.put_stream(name, body, size, headers).headers)
                return etag_of(self._large.send("PUT", name, headers=headers, body=held).headers)

        try:
            return send()
        except StoreUnavailable:
            if body.failure is not None:
                raise
            # A body on disk, or a body that S3 has not started to read, can be read again.
            if held is None and not body.rewind():
                raise
            # A conditional PUT whose answer was lost would find its own file in the way.
            if held is not None and condition:
                raise
        time.sleep(0.2)
        return send()

    def _put_parts(
        self, name: str, body: Body, stored: Mapping[str, str], condition: Mapping[str, str]
    ) -> str:
        fields = {**_of_boto(stored), "Metadata": _metadata(body.sha256)}
        first = min(UNPLACED_BYTES, self._part_size)
        data = body.read_fully(first)
        if len(data) < first:
            return self._put_held(name, data, fields, condition)
        with self._memory.part(body, data) as data:
            if len(data) < self._part_size:
                return self._put_held(name, data, fields, condition)
            upload_id = self._multipart.create(name, **fields)["UploadId"]
            plan = PartPlan(name, upload_id, size=0, part_size=self._part_size, nonce="")
            try:
                parts = [self._multipart.put_part(plan, 1, data)]
            except BaseException:
                self._multipart.abort_quietly(plan)
                raise
        try:
            while len(data) == self._part_size:
                data = b""  # otherwise two parts are in memory while the next one is read
                with self._memory.part(body) as data:
                    if data:
                        parts.append(self._multipart.put_part(plan, len(parts) + 1, data))
            return self._multipart.complete(plan, parts, _of_boto(condition))
        except BaseException:
            self._multipart.abort_quietly(plan)
            raise

    def _put_held(
        self, name: str, data: bytes, fields: Mapping[str, Any], condition: Mapping[str, str]
    ) -> str:
        with self._errors("put_object", name):
            return etag_of(
                self._transfer.put_object(
                    Bucket=self.bucket, Key=name, Body=data, **fields, **_of_boto(condition)
                )
            )

    def delete(self, name: str, if_match: str | None = None) -> None:
        condition = _of_boto(_condition(create_only=False, if_match=if_match))
        with self._errors("delete_object", name):
            self._api.delete_object(Bucket=self.bucket, Key=name, **condition)

    def delete_many(self, names: Sequence[str]) -> Mapping[str, str]:
        if not names:
            return {}
        with self._errors("delete_object"):
            # In this mode (not "quiet") S3 names each deleted file. A file that it leaves out is not deleted.
            answer = self._api.delete_objects(
                Bucket=self.bucket, Delete={"Objects": [{"Key": name} for name in names]}
            )
        deleted = {entry.get("Key") for entry in answer.get("Deleted", ())}
        failed = dict.fromkeys(set(names).difference(deleted), StoreFailed.code)
        for entry in answer.get("Errors", ()):
            if entry.get("Key") in failed and is_denial(entry.get("Code", "")):
                failed[entry["Key"]] = StoreDenied("", "delete_object").code
        return failed

    def copy(
        self,
        source: str,
        destination: str,
        *,
        source_etag: str | None,
        create_only: bool,
        if_match: str | None,
    ) -> Copied:
        return self._copying.copy_file(
            source, destination, source_etag=source_etag, create_only=create_only, if_match=if_match
        )

    def restore(
        self, name: str, version: str | None = None, *, overwrite: bool = False, if_match: str | None = None
    ) -> StoredFile:
        if version is None:
            self._restoring.restore(name)
        else:
            self._restoring.restore_version(name, version, overwrite=overwrite, if_match=if_match)
        return self.stat(name)

    def list_versions(self, prefix: str, limit: int, token: str | None) -> VersionPage:
        return self._versions.page(prefix, limit, token)

    # --- direct transfers

    def sign_download(
        self,
        name: str,
        seconds: int,
        disposition: str,
        content_type: str | None = None,
        *,
        method: Literal["GET", "HEAD"] = "GET",
    ) -> SignedUrl:
        query = {"response-content-disposition": disposition}
        if content_type is not None:
            query["response-content-type"] = content_type
        return self._sign(method, name, query, {}, seconds)

    def sign_post(
        self,
        name: str,
        size: int,
        content_type: str,
        sha256: str | None,
        seconds: int,
        *,
        kept: Mapping[str, str] = NOTHING,
        up_to: bool = False,
    ) -> SignedPost:
        fields = {"Content-Type": content_type, **kept}
        if sha256 is not None:
            fields["x-amz-checksum-algorithm"] = "SHA256"
            fields["x-amz-checksum-sha256"] = _base64_of_hex(sha256)
            fields[f"x-amz-meta-{SHA256}"] = sha256
        fields["key"] = name
        with self._errors("sign"):
            expires_at = self._expiry(seconds)
            range_of_size = ["content-length-range", 0 if up_to else size, size]
            signed = self._public.presign_post(fields, [range_of_size], seconds)
            return SignedPost(url=self._public.url, fields=signed, expires_at=expires_at)

    def sign_put(
        self,
        name: str,
        size: int,
        content_type: str,
        sha256: str | None,
        seconds: int,
        *,
        kept: Mapping[str, str] = NOTHING,
    ) -> SignedPut:
        headers = {"Content-Type": content_type, "Content-Length": str(size), **kept}
        if sha256 is not None:
            headers["x-amz-checksum-sha256"] = _base64_of_hex(sha256)
            headers[f"x-amz-meta-{SHA256}"] = sha256
        signed = self._sign("PUT", name, {}, headers, seconds)
        return SignedPut(signed.url, headers, signed.expires_at)

    def start_parts(
        self,
        name: str,
        content_type: str,
        sha256: str | None,
        nonce: str,
        *,
        kept: Mapping[str, str] = NOTHING,
    ) -> StartedUpload:
        metadata = {NONCE: nonce, **({DECLARED_SHA256: sha256} if sha256 else {})}
        stored = _of_boto({"Content-Type": content_type, **kept})
        answer = self._multipart.create(name, Metadata=metadata, **stored)
        keyed = "kms" in answer.get("ServerSideEncryption", "")
        return StartedUpload(upload_id=answer["UploadId"], md5_etags=not keyed)

    def sign_parts(self, plan: PartPlan, numbers: Sequence[int], seconds: int) -> Sequence[SignedUrl]:
        return [
            self._sign(
                "PUT",
                plan.name,
                {"partNumber": str(number), "uploadId": plan.upload_id},
                # Signed, so that S3 refuses a part of another length.
                {"Content-Length": str(plan.size_of(number))},
                seconds,
            )
            for number in numbers
        ]

    def put_part(self, plan: PartPlan, number: int, body: Body) -> Part:
        """Send the part without memory or disk, and once: the bytes of a client cannot be read again."""
        size = plan.size_of(number)
        query = {"partNumber": str(number), "uploadId": plan.upload_id}
        # Read an empty body too: its digest is checked at its end.
        held = (body.read_fully(size) or body.read()) if size <= HELD_BYTES else None
        try:
            with self._errors("put_object", plan.name):
                if held is None:
                    answer = self._large.put_stream(plan.name, body, size, {}, query)
                else:
                    answer = self._large.send("PUT", plan.name, query=query, body=held)
                return Part(number=number, etag=etag_of(answer.headers), size=size)
        except FileError:
            # The HTTP library has wrapped the body's own failure.
            if body.failure is not None:
                raise body.failure from body.failure.__cause__
            raise

    def list_parts(self, plan: PartPlan, *, after: int = 0) -> Sequence[Part]:
        return self._multipart.list_parts(plan, after)

    def complete_parts(
        self,
        plan: PartPlan,
        parts: Sequence[Part],
        *,
        create_only: bool = False,
        if_match: str | None = None,
    ) -> str:
        condition = _of_boto(_condition(create_only=create_only, if_match=if_match))
        with _not_matching(plan.name, if_match):
            return self._multipart.complete(plan, parts, condition)

    def abort_parts(self, plan: PartPlan) -> bool:
        return self._multipart.abort(plan)

    def _sign(
        self,
        method: Literal["GET", "HEAD", "PUT"],
        name: str,
        query: Mapping[str, str],
        headers: Mapping[str, str],
        seconds: int,
    ) -> SignedUrl:
        with self._errors("sign"):
            expires_at = self._expiry(seconds)
            return SignedUrl(self._public.presign(method, name, query, headers, seconds), expires_at)

    def _expiry(self, seconds: int) -> datetime:
        """When a URL that is signed now expires: after `seconds`, or earlier with temporary credentials."""
        asked = datetime.now(UTC) + timedelta(seconds=seconds)
        credentials = self._session.get_credentials()
        if credentials is None:
            raise NoCredentialsError
        credentials.get_frozen_credentials()  # refreshes credentials that are about to expire
        # botocore keeps the end of temporary credentials only in this attribute. Static ones have none.
        ends: datetime | None = getattr(credentials, "_expiry_time", None)
        return min(asked, ends.astimezone(UTC)) if ends else asked

    # --- doctor

    def report(self) -> BucketReport:
        """Read the bucket's configuration. Raises the failures of `check`."""
        with self._errors("head_bucket"):
            head = self._api.head_bucket(Bucket=self.bucket)
        headers = head["ResponseMetadata"]["HTTPHeaders"]
        now = datetime.now(UTC)
        offset = clock_offset(headers, now)
        skew = None if offset is None else abs(offset)
        versioning = look(lambda: self._api.get_bucket_versioning(Bucket=self.bucket), "")
        lifecycle = look(
            lambda: self._api.get_bucket_lifecycle_configuration(Bucket=self.bucket),
            "NoSuchLifecycleConfiguration",
        )
        cors = look(lambda: self._api.get_bucket_cors(Bucket=self.bucket), "NoSuchCORSConfiguration")
        rules = (lifecycle or {}).get("Rules", ())
        days, old_version_days = days_to_abort(rules), days_to_remove(rules)
        return BucketReport(
            region=headers.get("x-amz-bucket-region"),
            clock_skew=skew,
            versioning=None if versioning is None else is_versioned(versioning),
            abort_incomplete_days=days,
            has_abort_rule=None if lifecycle is None else days is not None,
            old_version_days=old_version_days,
            has_old_version_rule=None if lifecycle is None else old_version_days is not None,
            cors_exposes_etag=None if cors is None else exposes_etag(cors.get("CORSRules", ())),
        )

    def delete_without_trace(self, name: str) -> bool:
        """Delete a missing file, then the delete marker. Returns whether the marker is left.

        It is for an S3 that has no conditional deletion. The role of a task on AWS may not delete a marker.
        """
        with self._errors("delete_object", name):
            version = self._api.delete_object(Bucket=self.bucket, Key=name).get("VersionId")
        if version is None:
            return False
        try:
            self._api.delete_object(Bucket=self.bucket, Key=name, VersionId=version)
        except (ClientError, BotoCoreError):
            return True
        return False

    @property
    def credentials(self) -> str:
        """Where the credentials come from, in words."""
        return source_of_credentials(self._session)

    def send_presigned(self, method: Literal["GET", "PUT"], url: str, body: bytes = b"") -> PresignedAnswer:
        """Send a presigned request, as a client of the service does. Raises `StoreUnavailable`."""
        with self._errors("presigned"):
            answer = self._public.send_presigned(method, url, body)
        return PresignedAnswer(answer.status_code, from_s3=REQUEST_ID in answer.headers)


def _http_date(moment: datetime | None) -> str | None:
    return None if moment is None else format_datetime(moment.astimezone(UTC), usegmt=True)


def _metadata(sha256: str | None) -> dict[str, str]:
    """Store the sender's SHA-256 with the file, so that a reader can check the bytes.

    S3 keeps no SHA-256 of a whole multipart object, and returns that of other objects only on request.
    """
    return {SHA256: sha256} if sha256 else {}


def _condition(*, create_only: bool, if_match: str | None) -> dict[str, str]:
    """S3's conditions of a write, as headers.

    https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-requests.html
    """
    if create_only:
        return {"If-None-Match": "*"}
    return {"If-Match": if_match} if if_match else {}


def _of_boto(headers: Mapping[str, str]) -> dict[str, Any]:
    """Headers under boto3's names for them."""
    return {name.replace("-", ""): value for name, value in headers.items()}


@contextmanager
def _not_matching(name: str, if_match: str | None) -> Iterator[None]:
    """Raise `FileChanged` for S3's answers to a failed If-Match: 412 for another ETag, 404 for no file."""
    try:
        yield
    except (FileExists, FileNotFound):
        if if_match is None:
            raise
        raise changed(name) from None


def _base64_of_hex(digest: str) -> str:
    return base64.b64encode(bytes.fromhex(digest)).decode()


def _chunks(body: Any, length: int, patience: float) -> Iterator[bytes]:
    """The body in pieces. A connection whose body was not read to the end is closed.

    Each piece must arrive within `patience` seconds. The time limit of the socket alone starts again with
    each byte.
    """
    left = length
    try:
        while left > 0:
            try:
                with at_most(patience):
                    data = body.read(min(READ_CHUNK, left))
            except (BotoCoreError, urllib3.exceptions.HTTPError, OSError) as error:
                raise StoreUnavailable("The connection to S3 ended in the middle of the file") from error
            if not data:
                raise StoreUnavailable("The connection to S3 ended in the middle of the file")
            left -= len(data)
            yield data
    finally:
        body.close()
