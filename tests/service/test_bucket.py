"""What a data bucket must be, on the emulators and as the doctor sees it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from s3api import bucket
from s3api.doctor import Verdict, diagnose
from support.servers import MINISTACK_PYTHON, S3
from support.stores import s3_store, settings_for

ORIGINS = ["http://127.0.0.1:5000", "http://localhost:5000"]


def rule(days: int = 1, **changes: Any) -> dict[str, Any]:
    return {
        **bucket.ABORT_INCOMPLETE,
        "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": days},
        **changes,
    }


@pytest.mark.parametrize(
    ("rules", "days"),
    [
        ([], None),
        ([rule(1)], 1),
        ([rule(7), rule(3)], 3),
        ([rule(1, Status="Disabled"), rule(7)], 7),
        ([rule(1, Filter={})], 1),
        ([{**rule(2, Prefix=""), "Filter": None}], 2),
        ([rule(1, Filter={"Prefix": "tmp/"})], None),
        ([rule(1, Filter={"Tag": {"Key": "a", "Value": "b"}})], None),
        ([{**rule(1, Prefix="tmp/"), "Filter": None}], None),
        ([rule(1, AbortIncompleteMultipartUpload={})], None),
        ([{"Status": "Enabled", "Filter": {}, "Expiration": {"Days": 1}}], None),
    ],
)
def test_which_rules_abort_every_upload(rules: list[dict[str, Any]], days: int | None) -> None:
    """Only an enabled rule for the whole bucket counts; the earliest one decides.

    https://docs.aws.amazon.com/AmazonS3/latest/API/API_LifecycleRule.html: `Filter`, or the older `Prefix`.
    """
    assert bucket.days_to_abort(rules) == days


@pytest.mark.parametrize(
    ("rules", "days"),
    [
        ([], None),
        ([bucket.remove_old_versions(30)], 30),
        ([{**bucket.remove_old_versions(30), "Filter": {"Prefix": "tmp/"}}], None),
        ([{**bucket.remove_old_versions(30), "Status": "Disabled"}], None),
        ([bucket.remove_old_versions(30), {**bucket.remove_old_versions(7), "ID": "own"}], 7),
        (
            [
                {
                    **bucket.remove_old_versions(30),
                    "NoncurrentVersionExpiration": {"NoncurrentDays": 30, "NewerNoncurrentVersions": 3},
                }
            ],
            None,
        ),
        ([rule(1)], None),
    ],
)
def test_which_rules_remove_every_old_version(rules: list[dict[str, Any]], days: int | None) -> None:
    """Only an enabled rule for all old versions of the whole bucket counts; the earliest one decides.

    Source: docs.aws.amazon.com/AmazonS3/latest/API/API_NoncurrentVersionExpiration.html
    """
    assert bucket.days_to_remove(rules) == days


def test_old_versions_are_removed_after_the_owners_days(ministack_s3: S3, bucket_name: str) -> None:
    """A bucket gets a rule for old versions. The owner's own rules stay, and so does the owner's time."""
    s3 = ministack_s3.client()
    own = {"ID": "own", "Status": "Enabled", "Filter": {"Prefix": "tmp/"}, "Expiration": {"Days": 3}}
    ministack_s3.make_bucket(bucket_name)
    s3.put_bucket_lifecycle_configuration(Bucket=bucket_name, LifecycleConfiguration={"Rules": [own]})

    def rules() -> dict[str, Any]:
        found = s3.get_bucket_lifecycle_configuration(Bucket=bucket_name)["Rules"]
        return {entry["ID"]: entry for entry in found}

    def correct(days: int | None = None) -> list[str]:
        return bucket.correct(s3, bucket_name, tls=False, old_version_days=days)

    first, made = correct(), rules()
    chosen, again, later = correct(14), correct(14), correct()
    changed = rules()

    assert "old versions removed after 90 days" in first
    assert made["own"]["Expiration"] == {"Days": 3}
    assert made["remove-old-versions"]["NoncurrentVersionExpiration"] == {"NoncurrentDays": 90}
    assert made["remove-old-versions"]["Expiration"] == {"ExpiredObjectDeleteMarker": True}
    assert (chosen, again, later) == (["old versions removed after 14 days"], [], [])
    assert changed["remove-old-versions"]["NoncurrentVersionExpiration"] == {"NoncurrentDays": 14}
    assert set(changed) == {"own", "abort-incomplete-uploads", "remove-old-versions"}


def test_a_bucket_is_made_and_corrected(ministack_s3: S3, bucket_name: str) -> None:
    """A bucket is made as it must be, one that differs is corrected, and then nothing is left to change."""
    s3 = ministack_s3.client()
    bucket.make(s3, bucket_name, "eu-west-1", ["http://127.0.0.1:1"])
    s3.put_bucket_versioning(Bucket=bucket_name, VersioningConfiguration={"Status": "Suspended"})
    s3.delete_bucket_lifecycle(Bucket=bucket_name)

    bucket.make(s3, bucket_name, "eu-west-1", ORIGINS)

    assert bucket.is_versioned(s3.get_bucket_versioning(Bucket=bucket_name))
    rules = s3.get_bucket_lifecycle_configuration(Bucket=bucket_name)["Rules"]
    assert bucket.days_to_abort(rules) == 1
    assert [entry["AllowedOrigins"] for entry in s3.get_bucket_cors(Bucket=bucket_name)["CORSRules"]] == [
        ORIGINS
    ]
    assert bucket.correct(s3, bucket_name, origins=ORIGINS, tls=False) == []
    with pytest.raises(ClientError, match="NoSuchBucketPolicy"):
        s3.get_bucket_policy(Bucket=bucket_name)  # the emulator speaks plain HTTP, which the policy refuses


def test_a_rule_for_other_methods_is_corrected(ministack_s3: S3, bucket_name: str) -> None:
    """A CORS rule for the right pages that lets them do less is replaced."""
    s3 = ministack_s3.client()
    bucket.make(s3, bucket_name, "eu-west-1", ORIGINS)
    less = {**bucket.open_to_pages(ORIGINS), "AllowedMethods": ["GET"]}
    s3.put_bucket_cors(Bucket=bucket_name, CORSConfiguration={"CORSRules": [less]})

    changed = bucket.correct(s3, bucket_name, origins=ORIGINS, tls=False)

    assert changed == ["open to pages with presigned URLs"]


def test_the_doctor_agrees(ministack_s3: S3, bucket_name: str, tmp_path: Path) -> None:
    """The doctor accepts a bucket that was made here, and not a rule that covers only some names."""
    s3 = ministack_s3.client()
    bucket.make(s3, bucket_name, "eu-west-1", ORIGINS)
    store = s3_store(ministack_s3, bucket_name)
    settings = settings_for(tmp_path, bucket=bucket_name)

    well = {finding.check: finding.verdict for finding in diagnose(store, settings)}
    partial = rule(1, Filter={"Prefix": "tmp/"})
    s3.put_bucket_lifecycle_configuration(Bucket=bucket_name, LifecycleConfiguration={"Rules": [partial]})
    ill = {finding.check: finding.verdict for finding in diagnose(store, settings)}

    checks = ("versioning", "incomplete uploads", "old versions", "CORS")
    assert [well[check] for check in checks] == [Verdict.OK] * 4
    assert [ill[check] for check in checks] == [Verdict.OK, Verdict.ADVICE, Verdict.ADVICE, Verdict.OK]


@pytest.mark.usefixtures("ministack_s3")
def test_it_is_imported_where_the_service_is_not(tmp_path: Path) -> None:
    """MiniStack's libraries are enough for the file alone, which compose puts into its container."""
    (tmp_path / "s3api").mkdir()
    shutil.copy(bucket.__file__, tmp_path / "s3api")

    outcome = subprocess.run(
        [MINISTACK_PYTHON, "-c", "from s3api import bucket; print(bucket.VERSIONED['Status'])"],
        env={"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert (outcome.stdout, outcome.stderr) == ("Enabled\n", "")
