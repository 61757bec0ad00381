"""`make run`: run the API on this machine, with an embedded S3 or with yours.

With BUCKET, the API uses the S3 that other AWS tools would use, with the credentials that botocore finds: in
the environment, in a profile of ~/.aws, through SSO, and so on. Without BUCKET, or without credentials, an
embedded S3, MiniStack behind the guard (services/guard), runs on a free port of 127.0.0.1. Its data is in
`.data/s3`. Its keys, which are random and made once, are in `.data/credentials`.

Requests need no token unless tokens are configured, in any way that the service knows.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import boto3.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError

from local_servers import (
    REGION,
    CannotRun,
    embedded_s3,
    free_port,
    private_directory,
    stop,
    wait_for,
    without_aws,
)
from s3api.bucket import make as make_bucket
from s3api.origins import LOOPBACK
from s3api.s3_store import source_of_credentials
from s3api.settings import Settings, SettingsError
from taken_ports import conflict, is_taken

LOCAL_BUCKET = "day02-local"


@dataclass(frozen=True)
class OwnS3:
    """The S3 that AWS tools use here. `settings` has its region and endpoint, as variables of the service."""

    described: str
    settings: Mapping[str, str]


def own_s3(bucket: str) -> OwnS3 | None:
    """The S3 of the environment and of ~/.aws; None if they have no credentials.

    Raises `CannotRun` for credentials that cannot be used, such as those of an SSO session that has ended.
    """
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    try:
        session = boto3.session.Session()
        region = region or session.region_name or REGION
        found = session.get_credentials()
        if found is None:
            return None
        found.get_frozen_credentials()
        endpoint = session.client("s3", region_name=region).meta.endpoint_url
        default = Config(ignore_configured_endpoint_urls=True)  # type: ignore[call-arg]  # the stubs lack it
        aws = session.client("s3", region_name=region, config=default).meta.endpoint_url
    except BotoCoreError as error:
        raise CannotRun(f"the AWS credentials for the bucket {bucket} cannot be used: {error}") from None
    settings = {"AWS_REGION": region}
    if endpoint != aws:  # of AWS_ENDPOINT_URL, or of the profile
        settings["AWS_ENDPOINT_URL_S3"] = endpoint
    where = f"at {endpoint}" if endpoint != aws else f"on AWS in {region}, {endpoint}"
    return OwnS3(
        f"bucket {bucket} {where}\n  with the credentials of {source_of_credentials(session)}", settings
    )


def signing_key(data: Path) -> str:
    """The signing key of this directory, made once. The file gets its name when it is complete."""
    path = data / "signing_key"
    if not path.exists():
        new = data / f".signing_key.{os.getpid()}"
        new.touch(mode=0o600)
        new.write_text(secrets.token_urlsafe(32), encoding="ascii")
        new.replace(path)
    path.chmod(0o600)
    return path.read_text(encoding="ascii")


def checked_settings(port: int) -> Settings:
    """The settings of the service that will run. `CannotRun` reports everything that is wrong with them.

    The bucket and the signing key are not known yet, so examples replace them.
    """
    own: dict[str, object] = {"port": port}
    if not os.environ.get("BUCKET"):
        own["bucket"] = LOCAL_BUCKET
    if not os.environ.get("SIGNING_KEY"):
        own["signing_key"] = secrets.token_urlsafe(32)
    try:
        return Settings.from_environment(**own)
    except SettingsError as error:
        raise CannotRun(str(error)) from None


def allows_anonymous(settings: Settings) -> bool:
    """ALLOW_ANONYMOUS, or its default here: only without tokens, and only for this machine."""
    if "allow_anonymous" in settings.model_fields_set:
        return settings.allow_anonymous
    if settings.has_tokens:
        return False
    if settings.host not in LOOPBACK | {"::1"}:
        raise CannotRun(
            "HOST lets other machines in: set API_TOKENS, or ALLOW_ANONYMOUS=true to let them do everything"
        )
    return True


def run(port: int, data: Path, ministack_python: Path) -> None:
    bucket = os.environ.get("BUCKET", "")
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""
    if endpoint and not bucket:
        raise CannotRun("AWS_ENDPOINT_URL is set, but BUCKET is not: name the bucket to use there")
    if is_taken(port):
        raise CannotRun(conflict(port, "make run", "PORT"))
    settings = checked_settings(port)
    anonymous = allows_anonymous(settings)
    own = own_s3(bucket) if bucket else None
    if endpoint and own is None:
        raise CannotRun(f"no AWS credentials were found for the bucket {bucket} at {endpoint}")
    private_directory(data)
    common = {
        "PORT": str(port),
        "SIGNING_KEY": os.environ.get("SIGNING_KEY") or signing_key(data),
        "ALLOW_ANONYMOUS": str(anonymous).lower(),
        "METRICS_PORT": os.environ.get("METRICS_PORT") or str(free_port()),
    }
    if own:
        serve({**os.environ, **common, **own.settings}, own.described)
        return
    why = "no AWS credentials were found" if bucket else "BUCKET=… uses one of yours"
    bucket = bucket or LOCAL_BUCKET
    with (data / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CannotRun(f"Another `make run` uses {data}; stop it first") from None
        # MiniStack also holds the lock. If it outlives this script, a second script cannot use its data.
        origins = [f"http://127.0.0.1:{port}", f"http://localhost:{port}", *settings.cors_origins]
        with embedded_s3(ministack_python, data, origins, held=(lock.fileno(),)) as s3:
            make_bucket(s3.client(), bucket, REGION, origins)
            embedded = {**s3.credentials, "AWS_REGION": REGION, "AWS_ENDPOINT_URL": s3.url, "BUCKET": bucket}
            serve(
                {**without_aws(os.environ), **common, **embedded},
                f"bucket {bucket} of the embedded S3 in {data}/s3; {why}",
                f"  S3 itself, with the keys of this directory:\n"
                f"    AWS_SHARED_CREDENTIALS_FILE={s3.keys} aws s3 --endpoint-url {s3.url} ls s3://{bucket}\n",
            )


def revision() -> str:
    """The commit of this directory, with `-dirty` if files differ from it; "unknown" without git."""
    command = ["git", "describe", "--always", "--dirty", "--exclude=*"]
    with suppress(OSError, subprocess.CalledProcessError):
        where = Path(__file__).parent
        said = subprocess.run(command, cwd=where, capture_output=True, text=True, check=True)
        return said.stdout.strip()
    return "unknown"


def serve(environment: Mapping[str, str], where: str, more: str = "") -> None:
    """Run the API until it is stopped; raise `CannotRun` if it fails. `more` is added to the banner."""
    port = environment["PORT"]
    process = subprocess.Popen(
        [sys.executable, "-m", "s3api.serve"],
        env={"REVISION": revision(), **environment, "PYTHONPATH": str(Path(__file__).parent)},
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        url = f"http://127.0.0.1:{port}"
        wait_for(f"{url}/livez", process, "the API")
        if environment["ALLOW_ANONYMOUS"] == "true":
            who, curl = "Requests need no token: anyone on this machine may do everything", "curl"
        else:
            who = "Requests need a token; these read it from S3API_TOKEN"
            curl = 'curl -H "Authorization: Bearer $S3API_TOKEN"'
        print(
            f"\n  The file API answers at {url}\n  S3: {where}\n  {who}\n\n"
            f"    curl {url}/\n"
            f"    {curl} -F file=@README.md {url}/upload\n"
            f"    {curl} {url}/list_files\n\n"
            f"  In a browser: {url}/ui   Documentation: {url}/docs\n"
            f"  Metrics: http://127.0.0.1:{environment['METRICS_PORT']}/metrics   Stop: Ctrl-C\n{more}",
            flush=True,
        )
        process.wait()
    finally:
        stop(process)
    if process.returncode:
        raise CannotRun(f"the API ended with status {process.returncode}")


def interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def main() -> int:
    here = Path(__file__).resolve().parent.parent
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=5000)
    parser.add_argument("--data", type=Path, default=Path(".data"))
    parser.add_argument("--ministack", type=Path, default=here / ".venv-ministack" / "bin" / "python")
    arguments = parser.parse_args()
    os.umask(0o077)  # only this user may read the data
    # A shell that starts this script in the background makes it ignore SIGINT.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, interrupt)
    try:
        run(arguments.port, arguments.data, arguments.ministack)
    except CannotRun as error:
        print(f"make run: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
