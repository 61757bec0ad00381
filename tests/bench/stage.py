"""The parts of a work, and the stage on which it runs: a bucket, a directory, servers."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self
from urllib.parse import quote, urlencode, urlsplit

from botocore.auth import S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from bench import opponents
from bench.client import Client, Content, WrongAnswer
from bench.opponents import GiB, MiB, Server
from local_servers import REGION
from support.servers import S3

Role = Literal["ours", "opponent", "limit"]
Measure = Callable[[], Mapping[str, float]]
StartServer = Callable[[S3, str, Path], AbstractContextManager[Server]]

OURS = "s3api"
JSON = {"Content-Type": "application/json"}
SHELL_SECONDS = 200
FOLDER = 1000  # keys in each folder of a filled bucket


@dataclass(frozen=True)
class Sizes:
    """How much is done: seconds of load, rounds, counts, and sizes in bytes.

    `seconds` is for one rate, `siege` for bad clients. `long_rounds` is for works that take long.
    `disk` is the free space that a run needs.
    """

    seconds: float
    siege: float
    rounds: int
    long_rounds: int
    listings: int
    keys: int
    many_keys: int
    file: int
    big_file: int
    huge_file: int
    small_files: int
    slow_uploads: int
    idle: int
    disk: int


FULL = Sizes(
    seconds=1.5,
    siege=24,
    rounds=5,
    long_rounds=3,
    listings=40,
    keys=100_000,
    many_keys=1_000_000,
    file=64 * MiB,
    big_file=GiB,
    huge_file=5 * GiB,
    small_files=2000,
    slow_uploads=50,
    idle=1000,
    disk=16 * GiB,
)
QUICK = Sizes(
    seconds=0.5,
    siege=3,
    rounds=2,
    long_rounds=1,
    listings=5,
    keys=10_000,
    many_keys=50_000,
    file=8 * MiB,
    big_file=32 * MiB,
    huge_file=64 * MiB,
    small_files=300,
    slow_uploads=50,
    idle=1000,
    disk=3 * GiB,
)
#: For the tests of this harness.
TINY = Sizes(
    seconds=0.2,
    siege=0.5,
    rounds=1,
    long_rounds=1,
    listings=1,
    keys=2_000,
    many_keys=3_000,
    file=2 * MiB,
    big_file=4 * MiB,
    huge_file=8 * MiB,
    small_files=20,
    slow_uploads=5,
    idle=50,
    disk=GiB,
)


@dataclass(frozen=True)
class Metric:
    """A figure: its key in a measurement, its name, its unit, and how many decimals are shown."""

    key: str
    label: str
    unit: str
    decimals: int = 1


@dataclass(frozen=True)
class Bar:
    """A limit for our figure: for its ratio to a contestant's figure of the same round, or for itself."""

    metric: str
    against: str | None = None
    at_least: float | None = None
    at_most: float | None = None


@dataclass(frozen=True)
class Contestant:
    name: str
    role: Role
    measure: Measure


@dataclass(frozen=True)
class Work:
    """One work, ready to be measured. `between` runs before each round, untimed; `size` is that of a body."""

    title: str
    how: str
    metrics: Sequence[Metric]
    contestants: Sequence[Contestant]
    bars: Sequence[Bar]
    rounds: int
    between: Callable[[], None] = lambda: None
    size: int | None = None


class Stage(ExitStack):
    """Where one work runs: a bucket, a directory, the servers. All are removed when the context ends."""

    def __init__(self, s3: S3, directory: Path, sizes: Sizes, name: str) -> None:
        super().__init__()
        self.s3 = s3
        self.sizes = sizes
        self.bucket = f"day02-bench-{name}"
        self.directory = directory
        self.absent: dict[str, str] = {}
        self.ca = s3.credentials.get("AWS_CA_BUNDLE")
        self.boto3: Any = s3.client(max_pool_connections=32)
        self._signer = S3SigV4QueryAuth(
            Credentials(s3.credentials["AWS_ACCESS_KEY_ID"], s3.credentials["AWS_SECRET_ACCESS_KEY"]),
            "s3",
            REGION,
            expires=3600,
        )

    def __enter__(self) -> Self:
        super().__enter__()
        try:
            self.directory.mkdir(parents=True)
            self.callback(shutil.rmtree, self.directory, ignore_errors=True)
            self.s3.make_bucket(self.bucket)
        except BaseException:
            self.close()  # Python calls __exit__ only after an __enter__ that succeeded
            raise
        self.callback(self.drop_bucket)
        return self

    def server(self, start: StartServer) -> Server:
        """Start a server; it ends with the stage."""
        return self.enter_context(start(self.s3, self.bucket, self.directory))

    def opponent(self, name: str, tool: str, start: StartServer) -> Server | None:
        """Start an opponent; None when its tool is not on this machine, and `absent` then has the reason."""
        if reason := opponents.missing(tool):
            self.absent[name] = reason
            return None
        return self.server(start)

    def url(self, key: str = "") -> str:
        """The URL of an object, or of the bucket."""
        return f"{self.s3.url}/{self.bucket}/{quote(key)}" if key else f"{self.s3.url}/{self.bucket}"

    def signed(self, method: str, key: str = "", **query: object) -> str:
        """A presigned URL."""
        url = self.url(key) + (f"?{urlencode(query, quote_via=quote)}" if query else "")
        asked = AWSRequest(method, url)
        self._signer.add_auth(asked)
        return str(asked.url)

    def content(self, size: int) -> Content:
        """A body of that size; 64 MiB of random bytes are repeated."""
        path = self.directory / "content"
        if not path.exists():
            with path.open("wb") as file:
                for _ in range(min(64, -(-max(self.sizes.big_file, size) // MiB))):
                    file.write(os.urandom(MiB))
        return Content(path, size)

    def shell(self, *commands: str) -> None:
        """Run commands of SeaweedFS's own shell."""
        ports = self.s3.ports
        weed = [str(Path(sys.executable).parent / "weed"), "shell"]
        weed += [
            f"-{server}=127.0.0.1:{ports[f'{server}.port']}.{ports[f'{server}.port.grpc']}"
            for server in ("master", "filer")
        ]
        done = subprocess.run(
            weed,
            input="\n".join([*commands, ""]),
            capture_output=True,
            text=True,
            check=True,
            timeout=SHELL_SECONDS,  # without a server it waits without end
        )
        if "error" in done.stdout:
            raise RuntimeError(done.stdout[-2000:])

    def drop_bucket(self) -> None:
        """Delete the bucket, its objects, and their space on the disk."""
        self.shell("lock", f"s3.bucket.delete -name {self.bucket}", "unlock")

    def empty_bucket(self) -> None:
        self.drop_bucket()
        self.s3.make_bucket(self.bucket)

    def fill(self, keys: int) -> None:
        """Make empty objects, `d000000/k000000` and so on, a thousand in each folder.

        A million PUTs would take too long. So one object is put, SeaweedFS's shell saves its record, and then
        loads copies of that record under other names of the same length.
        """
        self.boto3.put_object(Bucket=self.bucket, Key="d000000/k000000", Body=b"")
        saved, made, last = (self.directory / f"{name}.meta" for name in ("saved", "made", "last"))
        self.shell(f"fs.meta.save -o={saved} /buckets/{self.bucket}/d000000")
        (record,) = (one for one in _records(saved.read_bytes()) if b"k000000" in one)
        with made.open("wb") as file:
            for number in range(keys):
                folder, key = divmod(number, FOLDER)
                file.write(record.replace(b"d000000", b"d%06d" % folder).replace(b"k000000", b"k%06d" % key))
        # The shell does not wait for its last writes. So the last ones are written again, one by one, and
        # after them one more that need not arrive.
        last.write_bytes(made.read_bytes()[-100 * len(record) :] + record)
        self.shell(f"fs.meta.load -v=false -concurrency=32 {made}")
        self.shell(f"fs.meta.load -v=false -concurrency=1 {last}")
        made.unlink()

    def s3_client(self) -> Client:
        return Client(self.s3.url, self.ca)

    def store(self, key: str, content: Content) -> None:
        """Put the content into S3 directly."""
        with self.s3_client() as s3:
            s3.upload("PUT", target(self.signed("PUT", key)), content).expect(200)

    def expect_stored(self, key: str, content: Content) -> None:
        """Read the object from S3 and compare every byte with the content."""
        digest = hashlib.sha256()
        with self.s3_client() as s3:
            s3.download(target(self.signed("GET", key)), look=digest.update)
        if digest.hexdigest() != content.sha256():
            raise WrongAnswer(f"{key} is not in S3 as it was sent")


def _records(saved: bytes) -> Iterator[bytes]:
    """The records in a file of fs.meta.save; four bytes before each are its length."""
    at = 0
    while at < len(saved):
        end = at + 4 + int.from_bytes(saved[at : at + 4], "big")
        yield saved[at:end]
        at = end


def target(url: str) -> str:
    """The path and query of a URL."""
    parts = urlsplit(url)
    return f"{parts.path}?{parts.query}" if parts.query else parts.path


def expect(condition: object, what: str) -> None:
    if not condition:
        raise WrongAnswer(what)


def named(size: int) -> str:
    """The size in words."""
    return f"{size // GiB} GiB" if size >= GiB else f"{size // MiB} MiB"
