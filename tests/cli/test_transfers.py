"""Interrupted, damaged, slow and large transfers, with a real S3 behind a proxy that fails."""

from __future__ import annotations

import hashlib
import os
import pty
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, suppress
from pathlib import Path

import pytest

from cli.command import PROGRAM, Command
from s3api.client.commands import END_SECONDS
from s3api.client.journal import Journal, Unfinished
from support.faulty_s3 import (
    AnswerError,
    Asked,
    BreakAnswer,
    Damage,
    FaultyS3,
    Hang,
    Reset,
    running_faulty_s3,
)
from support.servers import S3, Service, need, running_service, unguarded_ministack, until
from support.terminal import read_until, running_on_terminal

MiB = 1024 * 1024
PART = 8 * MiB
PARTS = 4
BUCKET = "day02-transfers"


@pytest.fixture(scope="module")
def far_s3(seaweedfs_s3: S3) -> Iterator[FaultyS3]:
    """S3 as clients reach it; the service itself reaches it without the proxy."""
    with running_faulty_s3(seaweedfs_s3) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def service(seaweedfs_s3: S3, far_s3: FaultyS3, make_service: Callable[..., Service]) -> Service:
    bucket = seaweedfs_s3.make_bucket(BUCKET)
    return make_service(
        seaweedfs_s3, bucket, s3_public_endpoint_url=far_s3.s3.url, multipart_threshold_bytes=PART
    )


@pytest.fixture
def s3api(service: Service, far_s3: FaultyS3, tmp_path: Path) -> Command:
    far_s3.asked.clear()
    return Command(service.url, tmp_path)


@pytest.fixture
def big(s3api: Command, bucket_name: str) -> Path:
    """A file of four parts, the last one short, whose name no other test has."""
    return s3api.file(bucket_name, os.urandom((PARTS - 1) * PART + 1000))


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def part_of(asked: Asked) -> int:
    """The number of the part that is sent; 0 for another request."""
    return int(asked.query["partNumber"][0]) if asked.method == "PUT" and "partNumber" in asked.query else 0


def parts_sent(far_s3: FaultyS3) -> list[int]:
    return [number for number in map(part_of, far_s3.asked) if number]


def parts_stored(s3: S3, name: str) -> list[int]:
    client = s3.client()
    return [
        part["PartNumber"]
        for upload in client.list_multipart_uploads(Bucket=BUCKET).get("Uploads", ())
        if upload["Key"] == name
        for part in client.list_parts(Bucket=BUCKET, Key=name, UploadId=upload["UploadId"]).get("Parts", ())
    ]


def stored(s3: S3, name: str) -> str:
    """The SHA-256 of what S3 has."""
    body = s3.client().get_object(Bucket=BUCKET, Key=name)["Body"].read()
    return hashlib.sha256(body).hexdigest()


def interrupted(s3api: Command, far_s3: FaultyS3, s3: S3, path: Path, number: int) -> list[int]:
    """Kill an upload, as kill -9 does, when all parts below this one are stored; returns them."""
    before = list(range(1, number))
    with (
        far_s3.failing(Hang(), lambda asked: part_of(asked) >= number),
        s3api.running("upload", path) as process,
    ):
        until(lambda: parts_stored(s3, path.name) == before, "the parts are stored")
        process.kill()
        process.wait()
    far_s3.asked.clear()
    return before


# --- uploads


def test_an_upload_resumes_after_kill_9(
    s3api: Command, far_s3: FaultyS3, seaweedfs_s3: S3, big: Path
) -> None:
    """After kill -9 only the parts that S3 does not have are sent, and what it stores is the file."""
    kept = interrupted(s3api, far_s3, seaweedfs_s3, big, 3)
    noted = s3api.unfinished()
    ran = s3api("upload", big, "--json")
    result = ran.objects()[0]

    assert kept == [1, 2]
    assert len(noted) == 1
    assert sorted(parts_sent(far_s3)) == [3, 4]
    assert (result["ok"], result["resumed"], result["verified"]) == (True, 2 * PART, "md5")
    assert stored(seaweedfs_s3, big.name) == sha256(big) == result["sha256"]
    assert s3api.unfinished() == []
    assert big.name not in seaweedfs_s3.open_uploads(BUCKET)


def test_a_part_that_is_wrong_in_s3_is_sent_again(
    ministack_s3: S3, make_service: Callable[..., Service], bucket_name: str, tmp_path: Path
) -> None:
    """Parts at S3 that do not match the file are not used."""
    # SeaweedFS lists a part that came twice twice.
    bucket = ministack_s3.make_bucket(bucket_name)
    client = ministack_s3.client()
    with running_faulty_s3(ministack_s3) as proxy:
        service = make_service(
            ministack_s3, bucket, s3_public_endpoint_url=proxy.s3.url, multipart_threshold_bytes=PART
        )
        s3api = Command(service.url, tmp_path)
        big = s3api.file("big", os.urandom(2 * PART + 1))
        with (
            proxy.failing(Hang(), lambda asked: part_of(asked) == 3),
            s3api.running("upload", "big", "--jobs", "1") as process,
        ):
            until(lambda: 3 in parts_sent(proxy), "the last part is under way")
            process.kill()
            process.wait()
        (upload,) = client.list_multipart_uploads(Bucket=bucket)["Uploads"]
        client.upload_part(
            Bucket=bucket, Key="big", UploadId=upload["UploadId"], PartNumber=2, Body=b"x" * PART
        )
        proxy.asked.clear()
        ran = s3api("upload", "big")
    body = client.get_object(Bucket=bucket, Key="big")["Body"].read()

    assert ran.status == 0, ran.err
    assert sorted(parts_sent(proxy)) == [2, 3]
    assert body == big.read_bytes()


def test_a_file_that_has_changed_begins_anew(
    s3api: Command, far_s3: FaultyS3, seaweedfs_s3: S3, big: Path
) -> None:
    """Parts of an older version are not mixed in, and do not stay in S3."""
    interrupted(s3api, far_s3, seaweedfs_s3, big, 3)
    with big.open("r+b") as stream:
        stream.write(b"changed")
    ran = s3api("upload", big)

    assert ran.status == 0, ran.err
    assert sorted(parts_sent(far_s3)) == [1, 2, 3, 4]
    assert stored(seaweedfs_s3, big.name) == sha256(big)
    assert big.name not in seaweedfs_s3.open_uploads(BUCKET)


def test_an_upload_that_was_aborted_begins_anew(
    s3api: Command, far_s3: FaultyS3, seaweedfs_s3: S3, big: Path
) -> None:
    """An upload that S3 has removed, as after a day, is sent from the beginning."""
    interrupted(s3api, far_s3, seaweedfs_s3, big, 2)
    client = seaweedfs_s3.client()
    for one in client.list_multipart_uploads(Bucket=BUCKET)["Uploads"]:
        if one["Key"] == big.name:
            client.abort_multipart_upload(Bucket=BUCKET, Key=big.name, UploadId=one["UploadId"])
    ran = s3api("upload", big)

    assert ran.status == 0, ran.err
    assert sorted(parts_sent(far_s3)) == [1, 2, 3, 4]
    assert stored(seaweedfs_s3, big.name) == sha256(big)


def test_an_upload_that_was_completed_unheard_is_not_sent_again(
    s3api: Command, far_s3: FaultyS3, seaweedfs_s3: S3, big: Path
) -> None:
    """Killed after the completion and before it was noted, the next run finds the file and compares it."""
    interrupted(s3api, far_s3, seaweedfs_s3, big, 3)
    (note,) = s3api.unfinished()
    kept = note.read_bytes()
    completed = s3api("upload", big)
    note.write_bytes(kept)
    far_s3.asked.clear()
    ran = s3api("upload", big, "--json")

    assert (completed.status, ran.status) == (0, 0)
    assert parts_sent(far_s3) == []
    assert (ran.objects()[0]["resumed"], ran.objects()[0]["verified"]) == (big.stat().st_size, "md5")
    assert s3api.unfinished() == []


def test_a_lost_network(s3api: Command, far_s3: FaultyS3, seaweedfs_s3: S3, big: Path) -> None:
    """The command ends when S3 is away for longer than the retries, and continues when S3 is back."""
    interrupted(s3api, far_s3, seaweedfs_s3, big, 3)
    with far_s3.down():
        lost = s3api("upload", big, "--retries", "1")
    back = s3api("upload", big, "--json")

    assert lost.status == 5
    assert "cannot be reached" in lost.err
    assert sorted(parts_sent(far_s3)) == [3, 4]
    assert back.objects()[0]["resumed"] == 2 * PART
    assert stored(seaweedfs_s3, big.name) == sha256(big)


@pytest.mark.parametrize(
    "fault",
    [Reset(after=MiB), AnswerError(503, "SlowDown"), AnswerError(403, "AccessDenied"), Damage()],
    ids=str,
)
def test_a_part_that_fails_is_sent_again(
    s3api: Command, far_s3: FaultyS3, seaweedfs_s3: S3, big: Path, fault: Reset | AnswerError | Damage
) -> None:
    """A reset connection, a busy S3, an expired URL and a damaged part are retried."""
    failed: list[int] = []

    def first_time(asked: Asked) -> bool:
        number = part_of(asked)
        if number not in (1, 3) or number in failed:
            return False
        failed.append(number)
        return True

    with far_s3.failing(fault, first_time):
        ran = s3api("upload", big, "--json")

    assert ran.status == 0, ran.out
    assert sorted(failed) == [1, 3]
    assert sorted(parts_sent(far_s3)) == [1, 1, 2, 3, 3, 4]
    assert stored(seaweedfs_s3, big.name) == sha256(big)


def test_what_arrives_damaged_is_never_a_success(s3api: Command, far_s3: FaultyS3, big: Path) -> None:
    """A large file and a small one that are damaged on every attempt fail with a status of their own."""
    small = s3api.file("small", os.urandom(100_000))
    with far_s3.failing(Damage(), lambda asked: asked.method in ("PUT", "POST")):
        runs = [s3api("upload", path, "--retries", "1") for path in (big, small)]

    assert [ran.status for ran in runs] == [6, 6], [ran.err for ran in runs]


def test_damage_that_s3_overlooks(bucket_name: str, tmp_path: Path) -> None:
    """Where an S3 does not check the SHA-256 of a form itself, the ETag that it answers gives it away."""
    with (
        unguarded_ministack(tmp_path / "s3", "s3") as s3,  # as it is, it checks no SHA-256 of a form
        running_faulty_s3(s3) as proxy,
        running_service(
            s3, s3.make_bucket(bucket_name), tmp_path / "service", s3_public_endpoint_url=proxy.s3.url
        ) as service,
    ):
        s3api = Command(service.url, tmp_path)
        s3api.file("small", os.urandom(100_000))
        with proxy.failing(Damage()):
            ran = s3api("upload", "small")

    assert ran.status == 6
    assert "is not what was sent" in ran.err


def test_s3_out_of_reach(
    seaweedfs_s3: S3, bucket_name: str, make_service: Callable[..., Service], tmp_path: Path
) -> None:
    """If S3 cannot be reached, uploads and downloads of any size go through the service."""
    bucket = seaweedfs_s3.make_bucket(bucket_name)
    service = make_service(
        seaweedfs_s3,
        bucket,
        s3_public_endpoint_url="http://s3.nowhere.invalid:9000",
        multipart_threshold_bytes=PART,
    )
    s3api = Command(service.url, tmp_path)
    files = [s3api.file("large", os.urandom(PART + 1)), s3api.file("small", b"x")]
    runs = [s3api("upload", *files, "--json"), s3api("download", "large", "small", "--to", "to/", "--json")]
    insisted = s3api("upload", "small", "--via", "s3", "--retries", "0")

    assert [ran.status for ran in runs] == [0, 0], [ran.out for ran in runs]
    assert {one["via"] for ran in runs for one in ran.objects()} == {"service"}
    assert {one["verified"] for ran in runs for one in ran.objects()} == {"sha256"}
    assert [(tmp_path / "to" / path.name).read_bytes() for path in files] == [f.read_bytes() for f in files]
    assert insisted.status == 5
    assert seaweedfs_s3.open_uploads(bucket) == []
    assert s3api.unfinished() == []


def test_a_file_that_is_written_to_meanwhile(s3api: Command, far_s3: FaultyS3, big: Path) -> None:
    """A file that changes while it is sent is not stored as if it were one version."""

    def the_last_part_once(asked: Asked) -> bool:
        return part_of(asked) == PARTS and parts_sent(far_s3).count(PARTS) == 1

    with far_s3.failing(Hang(), the_last_part_once), s3api.running("upload", big) as process:
        until(lambda: PARTS in parts_sent(far_s3), "the last part is under way")
        with big.open("r+b") as stream:
            stream.write(b"changed")
        far_s3._over.set()  # the part fails, and is sent again
        out, err = process.communicate(timeout=60)

    assert (process.returncode, out) == (1, b"")
    assert b"changed while it was sent" in err


def test_the_journal_is_of_one_file_and_one_name(tmp_path: Path) -> None:
    """An entry is used only for its file, name and service; an invalid entry is ignored."""
    journal = Journal(tmp_path / "state")
    path = tmp_path / "a"
    noted = Unfinished("http://one", "a", 10, "0" * 64, "id", 5)
    journal.write(noted, path)
    (written,) = (tmp_path / "state").iterdir()
    found = journal.read("http://one", "a", path)
    others = [
        journal.read("http://two", "a", path),
        journal.read("http://one", "b", path),
        journal.read("http://one", "a", tmp_path / "b"),
    ]
    mode = written.stat().st_mode & 0o777
    written.write_text("{")

    assert found == noted
    assert others == [None] * 3
    assert mode == 0o600
    assert journal.read("http://one", "a", path) is None


# --- downloads


@pytest.fixture(scope="module")
def contents() -> bytes:
    return os.urandom(20 * MiB)


@pytest.fixture
def there(service: Service, seaweedfs_s3: S3, contents: bytes, bucket_name: str) -> str:
    """The name of a large file in S3, with its SHA-256."""
    assert service
    digest = hashlib.sha256(contents).hexdigest()
    seaweedfs_s3.client().put_object(
        Bucket=BUCKET, Key=bucket_name, Body=contents, Metadata={"sha256": digest}
    )
    return bucket_name


def begun(s3api: Command, far_s3: FaultyS3, name: str, size: int) -> Path:
    """Kill a download with SIGKILL when `size` bytes have arrived; returns the file that has most of them."""

    def part() -> Path | None:
        found = list(s3api.folder.glob("copy.*.part"))
        # The last few bytes may still wait to be written.
        return found[0] if found and found[0].stat().st_size >= size - 64 * 1024 else None

    with (
        far_s3.failing(BreakAnswer(after=size, hang=True), lambda asked: asked.method == "GET"),
        s3api.running("download", name, "--to", "copy") as process,
    ):
        path: Path = until(part, "the bytes have come")
        process.kill()
        process.wait()
    far_s3.asked.clear()
    return path


def test_a_download_resumes_after_kill_9(
    s3api: Command, far_s3: FaultyS3, there: str, contents: bytes
) -> None:
    """After kill -9 the rest is fetched, of the same version, and the whole is checked."""
    part = begun(s3api, far_s3, there, 10 * MiB)
    had = part.stat().st_size
    ran = s3api("download", there, "--to", "copy", "--json")
    result = ran.objects()[0]
    ranges = [asked.headers.get("Range") for asked in far_s3.asked if asked.method == "GET"]

    assert had >= 9 * MiB
    assert (result["ok"], result["resumed"], result["verified"]) == (True, had, "sha256")
    assert ranges == [None, f"bytes={had}-"]
    assert (s3api.folder / "copy").read_bytes() == contents
    assert not part.exists()


def test_a_download_of_what_has_changed_begins_anew(
    s3api: Command, far_s3: FaultyS3, there: str, seaweedfs_s3: S3
) -> None:
    """Bytes of an older version are not used, and are removed."""
    part = begun(s3api, far_s3, there, MiB)
    seaweedfs_s3.client().put_object(Bucket=BUCKET, Key=there, Body=b"a new version" * 1000)
    ran = s3api("download", there, "--to", "copy", "--json")

    assert (ran.objects()[0]["resumed"], ran.objects()[0]["verified"]) == (0, "md5")
    assert (s3api.folder / "copy").read_bytes() == b"a new version" * 1000
    assert not part.exists()


def test_a_damaged_part_file_is_found_out(s3api: Command, far_s3: FaultyS3, there: str) -> None:
    """Bytes that changed on this machine cause a failure and no file; the next run succeeds."""
    part = begun(s3api, far_s3, there, MiB)
    with part.open("r+b") as stream:
        stream.write(b"damage")
    damaged = s3api("download", there, "--to", "copy")
    kept = (s3api.folder / "copy").exists() or part.exists()
    again = s3api("download", there, "--to", "copy")

    assert (damaged.status, kept, again.status) == (6, False, 0)


@pytest.mark.parametrize("target", ["copy", "-"])
def test_a_connection_that_breaks_is_taken_up_again(
    s3api: Command, far_s3: FaultyS3, there: str, contents: bytes, target: str
) -> None:
    """Within one run a broken download continues at the next byte, also to standard output."""
    broken: list[str | None] = []

    def twice(asked: Asked) -> bool:
        if asked.method != "GET" or len(broken) == 2:
            return False
        broken.append(asked.headers.get("Range"))
        return True

    with far_s3.failing(BreakAnswer(after=3 * MiB), twice):
        ran = s3api("download", there, "--to", target)
    got = ran.raw if target == "-" else (s3api.folder / "copy").read_bytes()

    assert ran.status == 0, ran.err
    assert broken == [None, f"bytes={3 * MiB}-"]
    assert got == contents


def test_through_the_service_it_resumes_too(
    s3api: Command, far_s3: FaultyS3, there: str, contents: bytes
) -> None:
    """A download that began from S3 continues through the service, with the same checks."""
    begun(s3api, far_s3, there, 10 * MiB)
    ran = s3api("download", there, "--to", "copy", "--via", "service", "--json")
    result = ran.objects()[0]

    assert (result["via"], result["verified"]) == ("service", "sha256")
    assert result["resumed"] >= 9 * MiB
    assert far_s3.asked == []
    assert (s3api.folder / "copy").read_bytes() == contents


def test_what_is_not_what_was_declared(s3api: Command, seaweedfs_s3: S3, bucket_name: str) -> None:
    """A file that does not have the SHA-256 its sender declared fails, whichever way, and leaves nothing."""
    seaweedfs_s3.client().put_object(
        Bucket=BUCKET, Key=bucket_name, Body=b"something", Metadata={"sha256": "0" * 64}
    )
    runs = [s3api("download", bucket_name, "--via", via) for via in ("s3", "service")]
    piped = s3api("download", bucket_name, "--to", "-")

    assert [ran.status for ran in (*runs, piped)] == [6, 6, 6]
    assert [path.name for path in s3api.folder.iterdir()] == []


def stored_in_parts(s3: S3, name: str, *bodies: bytes) -> None:
    client = s3.client()
    upload = {"Bucket": BUCKET, "Key": name}
    upload["UploadId"] = client.create_multipart_upload(**upload)["UploadId"]
    parts = [
        {"PartNumber": number, "ETag": client.upload_part(**upload, PartNumber=number, Body=body)["ETag"]}
        for number, body in enumerate(bodies, 1)
    ]
    client.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})


def test_what_cannot_be_checked_is_said(s3api: Command, seaweedfs_s3: S3, bucket_name: str) -> None:
    """Of a file in parts that somebody else stored S3 knows no checksum of the whole; the result says so."""
    stored_in_parts(seaweedfs_s3, bucket_name, b"x" * 5 * MiB, b"y")
    ran = s3api("download", bucket_name)

    assert ran.status == 0
    assert "only the size was checked" in ran.out


def test_a_single_part_is_checked_by_its_md5(s3api: Command, seaweedfs_s3: S3, bucket_name: str) -> None:
    """The ETag of a file in one part, such as a restored one, tells the MD5 of its bytes."""
    stored_in_parts(seaweedfs_s3, bucket_name, b"x" * 100_000)
    etag = seaweedfs_s3.client().head_object(Bucket=BUCKET, Key=bucket_name)["ETag"]
    key = hashlib.sha256(f"{bucket_name}\0{etag}".encode()).hexdigest()[:16]
    ran = s3api("download", bucket_name, "--to", "copy", "--json")
    (s3api.folder / f"damaged.{key}.part").write_bytes(b"y" * 50_000)
    damaged = s3api("download", bucket_name, "--to", "damaged")

    assert ran.objects()[0]["verified"] == "md5"
    assert damaged.status == 6
    assert [path.name for path in s3api.folder.iterdir()] == ["copy"]


@pytest.mark.parametrize("via", ["s3", "service"])
def test_a_file_in_parts_is_checked_by_what_its_sender_declared(
    s3api: Command, seaweedfs_s3: S3, big: Path, via: str
) -> None:
    """A digest that only the sender has declared is compared with the bytes, from S3 and from the service."""
    s3api("upload", big)
    ran = s3api("download", big.name, "--to", "copy", "--via", via, "--json")
    head = seaweedfs_s3.client().head_object(Bucket=BUCKET, Key=big.name)

    assert (ran.objects()[0]["via"], ran.objects()[0]["verified"]) == (via, "sha256")
    assert head["Metadata"]["declared-sha256"] == sha256(big)
    assert "sha256" not in head["Metadata"]


# --- the terminal


def test_deleting_by_prefix_asks_on_a_terminal(s3api: Command, bucket_name: str) -> None:
    """The question names the number of files; only "yes" deletes them."""
    s3api("upload", "-", "--name", f"{bucket_name}/a", stdin=b"x")

    def answered(answer: bytes) -> tuple[int, bytes]:
        master, slave = pty.openpty()
        try:
            with s3api.running("delete", "--prefix", f"{bucket_name}/", stdin=slave) as process:
                os.write(master, answer)
                asked = process.communicate(timeout=30)[1]
                return process.returncode, asked
        finally:
            os.close(slave)
            os.close(master)

    refused = answered(b"n\n")
    kept = s3api("list", f"{bucket_name}/").out
    agreed = answered(b"y\n")

    assert (refused[0], agreed[0]) == (1, 0)
    assert b"Delete the 1 files" in refused[1]
    assert (kept, s3api("list", f"{bucket_name}/").out) == (f"{bucket_name}/a\n", "")


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Commands under test get SIGINT, also when a shell has started the tests in the background.

    Such a shell sets SIGINT to be ignored, which every child inherits (POSIX, Shell Command Language, 2.12).
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def on_a_terminal(
    s3api: Command, *arguments: str | Path
) -> AbstractContextManager[tuple[subprocess.Popen[bytes], int, int]]:
    """The command with a terminal; yields it, the end that shows what it writes, and the end it writes to."""
    return running_on_terminal([*PROGRAM, *map(str, arguments)], s3api.folder, s3api.environment)


def bar(big: Path) -> re.Pattern[bytes]:
    """The bar after two parts. On a loaded machine its rate is below 1 MB/s, and shown in kB/s."""
    return re.compile(rb"sending " + big.name.encode() + rb".*16\.8/25\.2 MB.*[kM]B/s.*\d:\d\d")


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_progress_and_ctrl_c_on_a_terminal(
    s3api: Command, far_s3: FaultyS3, seaweedfs_s3: S3, big: Path, number: signal.Signals
) -> None:
    """On a terminal a bar shows rate and remaining time; Ctrl-C ends with 130 and keeps the bytes."""
    with (
        far_s3.failing(Hang(), lambda asked: part_of(asked) >= 3),
        on_a_terminal(s3api, "upload", big) as (process, terminal, _),
    ):
        screen = read_until(process, terminal, bar(big))
        # The bar shows bytes that were sent; S3 may not have confirmed them yet.
        until(lambda: parts_stored(seaweedfs_s3, big.name) == [1, 2], "the parts are stored")
        process.send_signal(number)
        screen += read_until(process, terminal, re.compile(b"interrupted.*\n"))
        process.wait(20)
    again = s3api("upload", big, "--json")

    assert bar(big).search(screen), screen[-2000:]
    assert process.returncode == 128 + number
    assert b"interrupted; run the same command again" in screen
    assert b"\x1b[?25h" in screen  # the cursor is shown again (xterm, DECTCEM)
    assert b"Traceback" not in screen
    assert again.objects()[0]["resumed"] == 2 * PART


def fill(terminal: int) -> None:
    """Write to a terminal that nothing reads, until every further write would wait."""
    writing = os.open(os.ttyname(terminal), os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY)
    with suppress(BlockingIOError):
        while True:
            os.write(writing, b"." * 256)
    os.close(writing)


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("times", ["once", "again and again"])
def test_ctrl_c_with_a_terminal_that_nothing_reads(
    s3api: Command, far_s3: FaultyS3, big: Path, times: str
) -> None:
    """Ctrl-C ends the command soon, even if writes to its terminal block; a second one ends it at once."""
    with (
        far_s3.failing(Hang(), lambda asked: part_of(asked) >= 3),
        on_a_terminal(s3api, "upload", big) as (process, terminal, writing),
    ):
        screen = read_until(process, terminal, bar(big))
        fill(writing)
        began = time.monotonic()
        process.send_signal(signal.SIGINT)

        def ended() -> bool:
            if times != "once":
                process.send_signal(signal.SIGINT)
            return process.poll() is not None

        until(ended, "the command has ended")
        seconds = time.monotonic() - began

    assert bar(big).search(screen), screen[-2000:]
    assert process.returncode == 130
    assert times == "once" or seconds < END_SECONDS


@pytest.mark.parametrize("arguments", [["--json"], ["--to", "/dev/full"]])
def test_an_output_that_is_full(s3api: Command, there: str, arguments: list[str]) -> None:
    """Where the result cannot be written, the command says so, without a traceback, and fails."""
    need(Path("/dev/full").exists(), "the output that is full is Linux's /dev/full")
    with (
        Path("/dev/full").open("wb") as full,
        s3api.running("download", there, *arguments, stdout=full) as run,
    ):
        err = run.communicate(timeout=60)[1]

    assert (run.returncode, err) == (1, b"s3api: the output cannot be written: No space left on device\n")


def test_memory_does_not_grow_with_the_file(seaweedfs_service: Service, tmp_path: Path) -> None:
    """Transfers of half a gigabyte, direct and through the service, need less than 80 MiB of memory."""
    need(Path("/proc/self/status").exists(), "the peak of memory is read from /proc")
    s3api = Command(seaweedfs_service.url, tmp_path)
    sparse = s3api.file("sparse", b"")
    os.truncate(sparse, 512 * MiB)

    def peak(*arguments: str) -> int:
        """The most memory that the command held, in bytes."""
        most = 0
        with s3api.running(*arguments, "--quiet", stdout=None, stderr=None) as process:
            while process.poll() is None:
                status = Path(f"/proc/{process.pid}/status").read_text()
                if found := re.search(r"VmHWM:\s+(\d+) kB", status):
                    most = int(found[1]) * 1024
                time.sleep(0.05)
        assert process.returncode == 0
        return most

    peaks = [peak("upload", "sparse"), peak("download", "sparse", "--to", "copy")]
    copied = (tmp_path / "copy").stat().st_size
    peaks.append(peak("download", "sparse", "--to", "copy2", "--via", "service"))

    s3api("delete", "sparse")

    assert copied == 512 * MiB
    assert 0 < max(peaks) < 80 * MiB
