"""What a data bucket must be: made, corrected and judged by the same rules everywhere.

`make run`, `make up` and `make bucket` apply them, `s3api doctor` judges a bucket by them. `make up` copies
this file alone into the emulator's container, so it imports nothing of the service, and only botocore.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from botocore.exceptions import ClientError

#: Deleted and replaced files can be restored.
VERSIONED = {"Status": "Enabled"}
#: The parts of uploads that are never completed cost money; S3 removes them after a day.
ABORT_INCOMPLETE: Mapping[str, Any] = {
    "ID": "abort-incomplete-uploads",
    "Status": "Enabled",
    "Filter": {"Prefix": ""},
    "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 1},
}
OLD_VERSION_DAYS = 90
_OLD_VERSIONS = "remove-old-versions"
CLOSED = {
    "BlockPublicAcls": True,
    "IgnorePublicAcls": True,
    "BlockPublicPolicy": True,
    "RestrictPublicBuckets": True,
}
ENCRYPTED = {"Rules": [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}]}
_ORIGIN = re.compile(r"(https?)://(?:\[[0-9a-f:.]+\]|[a-z0-9._-]{1,253})(?::([0-9]{1,5}))?")
_DEFAULT_PORTS = {"http": "80", "https": "443"}
_WHOLE_BUCKET: tuple[Mapping[str, str], ...] = ({}, {"Prefix": ""})
_ABSENT = ("NoSuch", "ServerSideEncryptionConfigurationNotFound")


def check_origin(text: str) -> str:
    """The origin in the form in which browsers send it (RFC 6454, section 6.2).

    Raises `ValueError`, which says what is wrong and does not repeat the text.
    """
    origin = text.lower()
    if "*" in origin:
        raise ValueError(
            "must name each origin; a wildcard would let every web page use the service and read its files"
        )
    if origin == "null":
        raise ValueError("must not contain null, which is the origin of every sandboxed page and local file")
    match = _ORIGIN.fullmatch(origin)
    if match is None or not 0 < int(match[2] or 1) < 65_536:
        raise ValueError(
            "must be an origin, such as https://files.example: a scheme, a host, and a port if not the "
            "default; without a path, and without a slash at the end"
        )
    if match[2] is not None and match[2] == _DEFAULT_PORTS[match[1]]:
        raise ValueError(f"must not name the port {match[2]}, which browsers leave out of the origin")
    return origin


def origins_in(text: str) -> list[str]:
    """The origins in a variable, with commas or spaces between them. Raises `ValueError`."""
    return [check_origin(word) for word in text.replace(",", " ").split()]


def open_to_pages(origins: Sequence[str]) -> dict[str, Any]:
    """The CORS rule by which pages of these origins may use presigned URLs.

    A page needs the ETag of each part to complete an upload. `@uppy/aws-s3` also reads the Location of a
    file that it has sent with a form.
    """
    return {
        "AllowedMethods": ["GET", "PUT", "POST"],
        "AllowedOrigins": list(origins),
        "AllowedHeaders": ["*"],
        "ExposeHeaders": ["ETag", "Location"],
    }


def tls_only(bucket: str) -> dict[str, Any]:
    """The statement that refuses requests without TLS."""
    return {
        "Sid": "TlsOnly",
        "Effect": "Deny",
        "Principal": "*",
        "Action": "s3:*",
        "Resource": [f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*"],
        "Condition": {"Bool": {"aws:SecureTransport": "false"}},
    }


def is_versioned(configuration: Mapping[str, Any]) -> bool:
    """Judges the answer to GetBucketVersioning."""
    return configuration.get("Status") == VERSIONED["Status"]


def days_to_abort(rules: Sequence[Mapping[str, Any]]) -> int | None:
    """The days after which these lifecycle rules abort every incomplete upload; None where none does."""
    return min(
        (
            rule["AbortIncompleteMultipartUpload"]["DaysAfterInitiation"]
            for rule in rules
            if _is_for_all(rule) and "DaysAfterInitiation" in rule.get("AbortIncompleteMultipartUpload", ())
        ),
        default=None,
    )


def remove_old_versions(days: int) -> dict[str, Any]:
    """The rule that removes replaced and deleted files after some days; until then they can be restored.

    A delete marker without older versions hides nothing, so it is removed as well.
    """
    return {
        "ID": _OLD_VERSIONS,
        "Status": "Enabled",
        "Filter": {"Prefix": ""},
        "NoncurrentVersionExpiration": {"NoncurrentDays": days},
        "Expiration": {"ExpiredObjectDeleteMarker": True},
    }


def days_to_remove(rules: Sequence[Mapping[str, Any]]) -> int | None:
    """The days after which these lifecycle rules remove every old version; None if none does.

    A rule that always keeps some newer versions does not count: it bounds nothing for files of few versions.
    """
    return min(
        (
            rule["NoncurrentVersionExpiration"]["NoncurrentDays"]
            for rule in rules
            if _is_for_all(rule)
            and "NoncurrentDays" in rule.get("NoncurrentVersionExpiration", ())
            and "NewerNoncurrentVersions" not in rule["NoncurrentVersionExpiration"]
        ),
        default=None,
    )


def _is_for_all(rule: Mapping[str, Any]) -> bool:
    whole = (rule.get("Filter") or {"Prefix": rule.get("Prefix", "")}) in _WHOLE_BUCKET
    return bool(rule["Status"] == "Enabled" and whole)


def exposes_etag(rules: Sequence[Mapping[str, Any]]) -> bool:
    """Whether these CORS rules let a page read the ETag of what it uploads."""
    exposed = {header.lower() for rule in rules for header in rule.get("ExposeHeaders", ())}
    return not exposed.isdisjoint(("etag", "*"))


def make(s3: Any, bucket: str, region: str, origins: Sequence[str]) -> None:
    """Create the bucket on an emulator if it does not exist, and correct its settings.

    TLS is not required, because emulators use plain HTTP.
    """
    try:
        s3.head_bucket(Bucket=bucket)
    except ClientError:
        s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": region})
    correct(s3, bucket, origins=origins, tls=False)


def correct(
    s3: Any,
    bucket: str,
    *,
    pages: bool = True,
    origins: Sequence[str] | None = None,
    tls: bool = True,
    old_version_days: int | None = None,
) -> list[str]:
    """Correct the settings of a bucket that are not as they must be; returns what was changed.

    The owner's other rules and statements stay, and so does encryption with another key. With `origins`, the
    pages of exactly these may use presigned URLs. Without, the owner's CORS rules stay, and a bucket that has
    none is opened to all pages. With `old_version_days`, old versions are removed after that time. Without,
    a rule of the bucket that removes them stays, and a bucket that has none gets `OLD_VERSION_DAYS`.
    """
    changed: list[str] = []

    def ensure(what: str, right: bool, put: Callable[[], object]) -> None:
        if not right:
            put()
            changed.append(what)

    ensure(
        "versioned",
        is_versioned(s3.get_bucket_versioning(Bucket=bucket)),
        lambda: s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration=VERSIONED),
    )
    ensure(
        "encrypted",
        bool(_setting(s3.get_bucket_encryption, bucket, "ServerSideEncryptionConfiguration")),
        lambda: s3.put_bucket_encryption(Bucket=bucket, ServerSideEncryptionConfiguration=ENCRYPTED),
    )
    ensure(
        "public access blocked",
        _setting(s3.get_public_access_block, bucket, "PublicAccessBlockConfiguration") == CLOSED,
        lambda: s3.put_public_access_block(Bucket=bucket, PublicAccessBlockConfiguration=CLOSED),
    )
    rules = _setting(s3.get_bucket_lifecycle_configuration, bucket, "Rules") or []

    def put_rule(rule: Mapping[str, Any]) -> None:
        rules[:] = [*(_with_filter(known) for known in rules if known.get("ID") != rule["ID"]), rule]
        s3.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration={"Rules": rules})

    ensure(
        "incomplete uploads aborted after a day",
        days_to_abort(rules) == 1,
        lambda: put_rule(ABORT_INCOMPLETE),
    )
    days = old_version_days or OLD_VERSION_DAYS
    judged = (
        rules if old_version_days is None else [rule for rule in rules if rule.get("ID") == _OLD_VERSIONS]
    )
    ensure(
        f"old versions removed after {days} days",
        days_to_remove(judged) == days if old_version_days else days_to_remove(judged) is not None,
        lambda: put_rule(remove_old_versions(days)),
    )
    if pages:
        known = _setting(s3.get_bucket_cors, bucket, "CORSRules") or []
        rule = open_to_pages(origins or ["*"])
        ensure(
            "open to pages with presigned URLs",
            len(known) == 1 and rule.items() <= known[0].items() if origins else bool(known),
            lambda: s3.put_bucket_cors(Bucket=bucket, CORSConfiguration={"CORSRules": [rule]}),
        )
    if tls:
        policy = json.loads(_setting(s3.get_bucket_policy, bucket, "Policy") or '{"Version": "2012-10-17"}')
        statement = tls_only(bucket)
        kept = [entry for entry in policy.get("Statement", []) if entry.get("Sid") != statement["Sid"]]
        ensure(
            "TLS only",
            statement in policy.get("Statement", []),
            lambda: s3.put_bucket_policy(
                Bucket=bucket, Policy=json.dumps({**policy, "Statement": [*kept, statement]})
            ),
        )
    return changed


def _with_filter(rule: Mapping[str, Any]) -> Mapping[str, Any]:
    """The rule with its prefix in a filter: S3 takes no list in which some rules have the older form."""
    if "Prefix" not in rule:
        return rule
    return {
        **{name: value for name, value in rule.items() if name != "Prefix"},
        "Filter": {"Prefix": rule["Prefix"]},
    }


def _setting(get: Callable[..., Any], bucket: str, key: str) -> Any:
    """A setting of the bucket, or None where it has none."""
    try:
        return get(Bucket=bucket).get(key)
    except ClientError as error:
        if error.response["Error"]["Code"].startswith(_ABSENT):
            return None
        raise
