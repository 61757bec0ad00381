"""The operator's side: configuration, tokens, the doctor, logs and metrics."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import click.testing
import pytest
import requests
from flask.testing import FlaskClient

import s3api
from s3api import failures, health, manage, observability, worker
from s3api.__main__ import main
from s3api.auth import Tokens
from s3api.doctor import Verdict, diagnose
from s3api.s3_errors import look
from s3api.s3_store import BucketReport, PresignedAnswer
from s3api.settings import Settings, SettingsError, TokenEntry
from support.memory_store import MemoryStore
from support.servers import S3, SIGNING_KEY, Service, running_service, service_environment, until
from support.stores import s3_store, settings_for

VALID = {"BUCKET": "day02-files", "SIGNING_KEY": SIGNING_KEY}


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., None]:
    """Replace the whole environment by a valid one, with the changes given; None removes."""

    def replace(**changes: str | None) -> None:
        for name in os.environ:
            monkeypatch.delenv(name)
        for name, value in {**VALID, "STAGING_DIR": str(tmp_path / "uploads"), **changes}.items():
            if value is not None:
                monkeypatch.setenv(name, value)

    return replace


# --- configuration


def test_the_defaults(environment: Callable[..., None]) -> None:
    """Two variables are enough, and the defaults are the mission's."""
    environment()
    settings = Settings.from_environment()

    assert (settings.project_name, settings.aws_region, settings.port) == ("day02", "eu-west-1", 5000)
    assert (settings.download_url_seconds, settings.allow_anonymous) == (120, False)
    assert settings.host == "127.0.0.1"


def test_settings_are_frozen(environment: Callable[..., None]) -> None:
    """Nothing changes the configuration of a running service."""
    environment()

    with pytest.raises(ValueError, match="frozen"):
        Settings.from_environment().port = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("BUCKET", None),
        ("BUCKET", "Not_A_Bucket"),
        ("SIGNING_KEY", None),
        ("SIGNING_KEY", "too-short-and-secret"),
        ("PORT", "seventy-thousand"),
        ("PORT", "70000"),
        ("AWS_ENDPOINT_URL", "localhost:4566"),
        ("S3_PUBLIC_ENDPOINT_URL", "http://user:secret-word@host"),
        ("API_TOKENS", "not-json-secret"),
        ("API_TOKENS", '[{"name": "secret-name"}]'),
        ("API_TOKENS", '[{"name":"a","verbs":["admin"],"sha256":"%s"}]' % ("0" * 64)),
        ("API_TOKENS", json.dumps([{"name": "a", "verbs": ["list"], "sha256": "0" * 64}] * 2)),
        ("STAGING_DIR", "/proc/nowhere"),
        ("MULTIPART_THRESHOLD_BYTES", "1"),
        ("LOG_LEVEL", "loud"),
        ("TRUSTED_PROXY_HOPS", "-1"),
        ("PROJECT_NAME", "a\nb"),
        ("ALLOWED_HOSTS", "secret.example:443"),
        ("ALLOWED_HOSTS", "https://secret.example"),
        ("ALLOWED_ORIGINS", "secret.example"),
        ("ALLOWED_ORIGINS", "https://secret.example/"),
        ("ALLOWED_ORIGINS", "*"),
    ],
)
def test_a_wrong_variable_is_named_and_not_shown(
    environment: Callable[..., None], name: str, value: str | None
) -> None:
    """The message names the variable at fault and never repeats its value."""
    environment(**{name: value})
    with pytest.raises(SettingsError) as caught:
        Settings.from_environment()

    message = str(caught.value).replace("import secrets; print(secrets.token_urlsafe(32))", "")
    assert f"  {name}" in message
    assert "secret" not in message


def test_every_wrong_variable_is_named_at_once(environment: Callable[..., None]) -> None:
    """One start reports all errors."""
    environment(BUCKET=None, SIGNING_KEY="short", PORT="x")
    with pytest.raises(SettingsError) as caught:
        Settings.from_environment()

    assert all(name in str(caught.value) for name in ("BUCKET", "SIGNING_KEY", "PORT"))


def test_every_kind_of_error_is_reported_together_in_plain_words(environment: Callable[..., None]) -> None:
    """What pydantic, JSON, the disk and the names of variables have to say is one message without jargon."""
    twins = json.dumps([{"name": "a", "verbs": ["list"], "sha256": "0" * 64}] * 2)
    environment(
        BUCKET=None,
        BUCKETT="day02-files",
        PORT="x",
        METRICS_PORT="70000",
        DRAIN_SECONDS="-1",
        LOG_LEVEL="loud",
        ALLOW_ANONYMOUS="maybe",
        API_TOKENS=twins,
        ALLOWED_HOSTS="a b:1",
        STAGING_DIR="/proc/nowhere",
        THREADS="8",
        MAX_FILE_BYTES="5G",
        API_TOKENS_FILE="/nowhere",
        JWT_JWKS="keys.json",
        JWT_JWKS_FILE="/dev/null",
        JWT_SECRET="short",
    )
    with pytest.raises(SettingsError) as caught:
        Settings.from_environment()

    assert (
        str(caught.value)
        == """The configuration is not valid.
  BUCKET: is not set (the name of an existing S3 bucket, such as day02-files)
  API_TOKENS: two entries have the same name (a JSON list of entries, each printed by `s3api token new`)
  API_TOKENS_FILE: the file cannot be read (No such file or directory)
  JWT_JWKS_FILE: the file is not valid JSON
  JWT_SECRET: must have at least 32 characters (32 random characters or more, the same as the application has)
  ALLOW_ANONYMOUS: must be true or false
  ALLOWED_HOSTS: entry 2 must be a host's name or address, such as files.example or [::1], without a port
  MAX_FILE_BYTES: must be a whole number of bytes, such as 5368709120
  PORT: must be a whole number
  METRICS_PORT: must be at most 65535
  DRAIN_SECONDS: must be at least 0
  LOG_LEVEL: must be one of 'debug', 'info', 'warning' or 'error'
  API_TOKENS_FILE: API_TOKENS is set too; set only one of them
  JWT_SECRET: JWT_JWKS_FILE is set too; set only one of them
  JWT_ISSUER: is not set, but JWT_JWKS_FILE is; JWTs need it
  JWT_AUDIENCE: is not set, but JWT_JWKS_FILE is; JWTs need it
  STAGING_DIR: cannot be written (No such file or directory); name a directory that this user may write to
  BUCKETT is not a variable of this program; did you mean BUCKET?
  JWT_JWKS is not a variable of this program; did you mean JWT_JWKS_FILE or JWT_JWKS_URL?
  THREADS is no longer read; MAX_CONCURRENT_REQUESTS has replaced it"""
    )


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("not-json-secret", "is not valid JSON"),
        ('{"name": "a"}', "must be a list"),
        ('["a"]', "entry 1 must be an object"),
        ('[{"name":"a","verbs":[],"sha256":"%s"}]' % ("0" * 64), "entry 1 verbs must not be empty"),
        ('[{"name":"a","verbs":["list"],"sha256":"0"}]', "entry 1 sha256 does not have the right form"),
    ],
)
def test_a_wrong_token_entry_is_reported_with_the_rest(
    environment: Callable[..., None], value: str, problem: str
) -> None:
    """An API_TOKENS that does not parse does not hide what else is wrong."""
    environment(API_TOKENS=value, BUCKET=None)
    with pytest.raises(SettingsError) as caught:
        Settings.from_environment()

    assert f"  API_TOKENS: {problem} (" in str(caught.value)
    assert "  BUCKET: is not set" in str(caught.value)


def test_a_wrong_configuration_makes_no_directory(
    environment: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A command with a wrong configuration leaves no staging directory where it was called."""
    environment(BUCKET=None, STAGING_DIR=None)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SettingsError):
        Settings.from_environment()

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("BUCKETT", "BUCKET"),
        ("S3API_TOKENN", "S3API_TOKEN"),
        ("API_TOKEN", "API_TOKENS"),
        ("ALLOWED_HOST", "ALLOWED_HOSTS"),
        ("ALLOW_ORIGINS", "ALLOWED_ORIGINS"),
        ("S3_PUBLIC_ENDPOINT", "S3_PUBLIC_ENDPOINT_URL"),
        ("AWS_REGON", "AWS_REGION"),
        ("JWT_JWKS", "JWT_JWKS_URL"),
        ("THREADS", "MAX_CONCURRENT_REQUESTS"),
    ],
)
def test_a_misspelt_variable_is_named(environment: Callable[..., None], name: str, meant: str) -> None:
    """So is a variable of an earlier version. The service starts: another program may use that name."""
    environment(**{name: "1"})
    Settings.from_environment()
    ((named, sentence),) = Settings.unread_variables()

    assert named == name
    assert meant in sentence


def test_other_programs_variables_are_not_named(environment: Callable[..., None]) -> None:
    """Variables of the shell, of ECS, Kubernetes and AWS tools look like none of the service's."""
    others = (
        "PATH HOME HOSTNAME SHLVL LANG PWD TERM USER VIRTUAL_ENV S3API_TOKEN S3API_URL S3API_TOKEN_FILE "
        "AWS_ENDPOINT_URL_STS AWS_ENDPOINT_URL_S3 AWS_PROFILE AWS_EXECUTION_ENV AWS_SESSION_TOKEN "
        "ECS_CONTAINER_METADATA_URI_V4 AWS_CONTAINER_CREDENTIALS_RELATIVE_URI KUBERNETES_SERVICE_HOST "
        "S3API_SERVICE_HOST S3API_PORT S3API_PORT_5000_TCP_ADDR GUNICORN_CMD_ARGS PROMETHEUS_MULTIPROC_DIR"
    )
    environment(**dict.fromkeys(others.split(), "x"))

    assert list(Settings.unread_variables()) == []


def test_an_empty_variable_is_an_absent_one(environment: Callable[..., None]) -> None:
    """An empty variable means what an absent one does, for boto3 too."""
    environment(AWS_ENDPOINT_URL="", API_TOKENS="", PORT="", WEB_CONCURRENCY="")
    settings = Settings.from_environment()

    assert (settings.s3_endpoint_url, settings.api_tokens, settings.port) == (None, (), 5000)
    assert settings.web_concurrency == 1
    assert not {"AWS_ENDPOINT_URL", "WEB_CONCURRENCY"} & os.environ.keys()


def test_hosts_and_origins_are_words(environment: Callable[..., None]) -> None:
    """Several values of a variable have commas or spaces between them, and no case."""
    environment(ALLOWED_HOSTS="Files.example, [::1]", ALLOWED_ORIGINS="https://A.example http://b.example:81")
    settings = Settings.from_environment()

    assert settings.allowed_hosts == ("files.example", "[::1]")
    assert settings.allowed_origins == ("https://a.example", "http://b.example:81")


def test_settings_never_show_a_secret(environment: Callable[..., None]) -> None:
    """Printing the settings shows no key."""
    environment()

    assert SIGNING_KEY not in repr(Settings.from_environment())


# --- tokens


def run(*arguments: str, **options: Any) -> click.testing.Result:
    return click.testing.CliRunner().invoke(main, arguments, **options)


def test_a_new_token_works(environment: Callable[..., None]) -> None:
    """The printed entry accepts the printed token."""
    made = run("token", "new", "--name", "ci", "--verbs", "read,write", "--prefix", "builds/")
    token = made.stdout.strip()
    entry = made.stderr.splitlines()[-1]
    environment(API_TOKENS=f"[{entry}]")
    caller = Tokens(Settings.from_environment().api_tokens, allow_anonymous=False).identify(f"Bearer {token}")

    assert made.exit_code == 0
    assert (caller.name, sorted(caller.verbs), caller.prefix) == ("ci", ["read", "write"], "builds/")
    assert token not in entry
    assert len(token) > 40


@pytest.mark.parametrize(
    ("arguments", "named"),
    [(["--name", "a b"], "--name"), (["--name", "a", "--verbs", "read,admin"], "admin"), ([], "--name")],
)
def test_a_bad_token_request(arguments: list[str], named: str) -> None:
    """Invalid options for a token are refused with what to change."""
    made = run("token", "new", *arguments)

    assert made.exit_code == 2
    assert named in made.stderr


# --- the doctor


def report(**changes: Any) -> BucketReport:
    good: dict[str, Any] = {
        "region": "eu-west-1",
        "clock_skew": timedelta(seconds=1),
        "versioning": True,
        "abort_incomplete_days": 1,
        "has_abort_rule": True,
        "old_version_days": 90,
        "has_old_version_rule": True,
        "cors_exposes_etag": True,
    }
    return BucketReport(**{**good, **changes})


class Reports(MemoryStore):
    """A store whose presigned requests have the status given, and S3's by default."""

    credentials = "the task role"

    def __init__(
        self, result: BucketReport | failures.FileError, status: int | None = None, *, from_s3: bool = True
    ) -> None:
        super().__init__(endpoint="https://s3.example")
        self._result = result
        self._status = status
        self._from_s3 = from_s3

    def report(self) -> BucketReport:
        if isinstance(self._result, failures.FileError):
            raise self._result
        return self._result

    def delete_without_trace(self, name: str) -> bool:
        raise AssertionError(name)

    def send_presigned(self, method: str, url: str, body: bytes = b"") -> PresignedAnswer:
        assert url.startswith("memory://")
        assert bool(body) == (method == "PUT")
        return PresignedAnswer(self._status or (404 if method == "GET" else 200), from_s3=self._from_s3)


@pytest.mark.parametrize(
    ("changes", "check", "verdict"),
    [
        ({}, "bucket", Verdict.OK),
        ({"region": "us-east-1"}, "region", Verdict.FAILED),
        ({"region": None}, "region", Verdict.UNKNOWN),
        ({"clock_skew": timedelta(minutes=6)}, "clock", Verdict.ADVICE),
        ({"clock_skew": timedelta(minutes=16)}, "clock", Verdict.FAILED),
        ({"clock_skew": None}, "clock", Verdict.UNKNOWN),
        ({"versioning": False}, "versioning", Verdict.ADVICE),
        ({"versioning": None}, "versioning", Verdict.UNKNOWN),
        ({"has_abort_rule": False}, "incomplete uploads", Verdict.ADVICE),
        ({"has_old_version_rule": False}, "old versions", Verdict.ADVICE),
        ({"has_old_version_rule": None}, "old versions", Verdict.UNKNOWN),
        ({"cors_exposes_etag": False}, "CORS", Verdict.ADVICE),
    ],
)
def test_a_finding_for_each_check(
    tmp_path: Path, changes: dict[str, Any], check: str, verdict: Verdict
) -> None:
    """Each thing that is wrong is one finding, and the others stay well."""
    findings = diagnose(Reports(report(**changes)), settings_for(tmp_path))

    assert {finding.check: finding.verdict for finding in findings}[check] is verdict
    assert sum(finding.verdict is not Verdict.OK for finding in findings) == (verdict is not Verdict.OK)
    assert len(findings) == 14


@pytest.mark.parametrize(
    ("status", "from_s3", "public", "verdict"),
    [
        (403, True, None, Verdict.FAILED),
        (403, True, "https://files.example", Verdict.FAILED),
        (404, False, None, Verdict.FAILED),
        (404, False, "https://files.example", Verdict.NOT_CHECKED),
    ],
)
def test_who_answers_at_the_public_endpoint(
    tmp_path: Path, status: int, from_s3: bool, public: str | None, verdict: Verdict
) -> None:
    """S3's refusal is a failure. Another server at a public endpoint may not be what clients reach there."""
    store = Reports(report(), status, from_s3=from_s3)
    findings = diagnose(store, settings_for(tmp_path, s3_public_endpoint_url=public))

    assert {finding.check: finding.verdict for finding in findings}["signed upload"] is verdict
    assert store.uploads == {}


def test_a_bucket_that_is_not_there_is_the_only_finding(tmp_path: Path) -> None:
    """Without a bucket, the doctor reports only that."""
    (finding,) = diagnose(Reports(failures.BucketNotFound("no such bucket")), settings_for(tmp_path))

    assert finding.verdict is Verdict.FAILED


def test_the_doctor_on_a_real_bucket(
    ministack_s3: S3, bucket_name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line a check; a bare bucket passes with advice, one that is not there fails."""
    ministack_s3.make_bucket(bucket_name)
    for name, value in service_environment(ministack_s3, bucket_name, tmp_path).items():
        monkeypatch.setenv(name, value)
    bare = run("doctor")
    monkeypatch.setenv("BUCKET", "day02-not-there")
    missing = run("doctor")

    assert bare.exit_code == 0, bare.output
    lines = bare.stdout.splitlines()
    assert [line.split(":")[0].split(maxsplit=1)[1] for line in lines] == [
        "bucket",
        "credentials",
        "region",
        "clock",
        "list",
        "read",
        "write",
        "delete",
        "public endpoint",
        "signed upload",
        "versioning",
        "incomplete uploads",
        "old versions",
        "CORS",
    ]
    assert "advice  versioning" in bare.stdout
    assert missing.exit_code == 1
    assert "day02-not-there" in missing.stdout


def test_the_doctor_says_what_is_not_configured(environment: Callable[..., None]) -> None:
    """A wrong environment is reported as by the service."""
    environment(BUCKET=None)
    outcome = run("doctor")

    assert outcome.exit_code == 1
    assert "BUCKET" in outcome.stderr


def test_a_refused_look_is_unknown(seaweedfs_s3: S3, bucket_name: str) -> None:
    """A configuration that may not be read is reported as unknown, not as absent."""
    seaweedfs_s3.make_bucket(bucket_name)
    store = s3_store(seaweedfs_s3, bucket_name)
    refused = S3("x", seaweedfs_s3.url, {"AWS_ACCESS_KEY_ID": "no", "AWS_SECRET_ACCESS_KEY": "no"})
    other = s3_store(refused, bucket_name)

    assert look(lambda: store._api.get_bucket_versioning(Bucket=bucket_name), "") is not None
    assert look(lambda: other._api.get_bucket_versioning(Bucket=bucket_name), "") is None


# --- health, logs, metrics


def test_the_probe(ministack_service: Service) -> None:
    """The container's probe is 0 for a URL that answers 200, else 1."""
    until(lambda: health.probe(f"{ministack_service.url}/livez") == 0, "the service answers the probe")
    assert health.probe(f"{ministack_service.url}/nope") == 1
    assert health.probe("http://127.0.0.1:9/livez") == 1


def test_one_line_a_request_and_no_secret_in_it(ministack_service: Service) -> None:
    """Each request is one line with its id, and no query string, token or upload id is in any."""
    service = ministack_service
    requests.put(service.at("/upload/", "logged.txt"), data=b"x", timeout=10)
    url = requests.get(service.at("/download/", "logged.txt"), timeout=10).json()["content"]
    secret = {"Authorization": "Bearer s3api_secret-token", "X-Request-Id": "find-this-one"}
    requests.get(service.at("/list_files?prefix=secret-prefix"), headers=secret, timeout=10)
    plan = requests.post(service.at("/uploads"), json={"name": "big", "size": 1 << 27}, timeout=10).json()[
        "content"
    ]
    requests.delete(f"{service.url}/uploads/{plan['id']}", timeout=10)
    lines = until(
        lambda: [line for line in service.log_lines() if line.get("request_id") == "find-this-one"],
        "the request is logged",
    )
    text = service.log_path.read_text()

    assert [line["event"] for line in lines] == ["request"]
    assert (lines[0]["status"], lines[0]["code"], lines[0]["route"]) == (401, "unauthorized", "/list_files")
    signature = url.partition("X-Amz-Signature=")[2][:64]
    for secret_text in ("s3api_secret-token", "secret-prefix", signature, plan["id"], SIGNING_KEY):
        assert secret_text not in text


def test_the_service_says_once_what_it_serves(
    ministack_s3: S3, ministack_service: Service, tmp_path: Path
) -> None:
    """One line at the start has version, revision, bucket, region and endpoint, whatever the workers."""
    assert ministack_service
    settings = {"revision": "abc123", "web_concurrency": 2, "threads": 8}
    with running_service(ministack_s3, "day02-shared", tmp_path, **settings) as service:
        started = until(
            lambda: [line for line in service.log_lines() if line["event"] == "started"], "the service starts"
        )
        warnings = [line["event"] for line in service.log_lines() if line["level"] == "warning"]
    after = [line for line in service.log_lines() if line["event"] == "started"]

    assert after == started
    assert {key: started[0][key] for key in ("version", "revision", "bucket", "region", "endpoint")} == {
        "version": s3api.__version__,
        "revision": "abc123",
        "bucket": "day02-shared",
        "region": "eu-west-1",
        "endpoint": ministack_s3.url,
    }
    assert warnings == ["The variable THREADS is no longer read; MAX_CONCURRENT_REQUESTS has replaced it"]


def test_probes_are_logged_at_debug_level_while_the_service_is_well(
    make_client: Callable[..., FlaskClient], store: MemoryStore, caplog: pytest.LogCaptureFixture
) -> None:
    """Load balancers ask often. A failed probe is logged like any other request."""
    caplog.set_level("DEBUG", "s3api")
    client = make_client()
    for path in ("/livez", "/readyz", "/healthz", "/"):
        client.get(path).close()
    store.fails_with = failures.StoreUnavailable("S3 cannot be reached; try again")
    make_client().get("/readyz").close()
    lines = [record for record in caplog.records if record.getMessage() == "request"]

    assert observability._PROBES == worker.PROBES
    assert [(vars(line)["fields"]["route"], line.levelname) for line in lines] == [
        ("/livez", "DEBUG"),
        ("/readyz", "DEBUG"),
        ("/healthz", "DEBUG"),
        ("/", "INFO"),
        ("/readyz", "INFO"),
    ]


def test_a_request_fits_a_line_of_a_terminal(
    ministack_s3: S3, ministack_service: Service, tmp_path: Path
) -> None:
    """The log for people has one line of at most 80 columns for an ordinary request, and no probes."""
    assert ministack_service
    with running_service(ministack_s3, "day02-shared", tmp_path, log_format="console") as service:
        requests.get(f"{service.url}/livez", timeout=10)
        missing = requests.get(service.at("/download/", "a.csv"), timeout=10).json()
        requests.get(f"{service.url}/list_files", timeout=10)
        log = until(
            lambda: (text := service.log_path.read_text(), "/list_files" in text and text)[1],
            "the requests are logged",
        )
    lines = [line for line in log.splitlines() if " GET " in line]

    assert [re.sub(r"[0-9.]+ ms|[0-9]{2}:[0-9]{2}:[0-9]{2}", "…", line) for line in lines] == [
        f"… info    GET /download/a.csv 404 … code=file_not_found request_id={missing['request_id']}",
        f"… info    GET /list_files 200 … request_id={lines[1][-16:]}",
    ]
    assert len(lines[1]) <= 80


def test_the_cause_of_a_failure_is_logged_not_told(
    client: FlaskClient, store: MemoryStore, caplog: pytest.LogCaptureFixture
) -> None:
    """The log has the cause under the request id, without what a URL's query holds; the client a sentence."""
    error = failures.StoreUnavailable("S3 cannot be reached; try again")
    error.__cause__ = RuntimeError(
        'arn:aws:iam::1:role/x at "http://s3/a?X-Amz-Signature=secret&b=c": refused'
    )
    store.fails_with = error
    answer = client.get("/list_files", headers={"X-Request-Id": "abc"})

    assert "arn:" not in answer.text
    assert answer.get_json()["request_id"] == "abc"
    (said,) = [record for record in caplog.records if record.levelname == "ERROR"]
    fields: dict[str, Any] = vars(said)["fields"]
    assert (said.getMessage(), fields["request_id"]) == ("request_failed", "abc")
    assert fields["cause"] == 'RuntimeError: arn:aws:iam::1:role/x at "http://s3/a?…": refused'


def test_metrics_have_a_port_of_their_own(ministack_service: Service) -> None:
    """Requests are counted by route, never by name, and not on the public port."""
    requests.get(ministack_service.at("/download/", "counted-nowhere.txt"), timeout=10)
    requests.request("MADEUP", ministack_service.url, timeout=10)
    # Each is counted when its answer is out, so either may be counted first.
    counted = (
        's3api_requests_total{method="GET",route="/download/<name:name>",status="404"}',
        'method="other"',
    )
    metrics = until(
        lambda: (
            text := requests.get(ministack_service.metrics_url, timeout=10).text,
            all(line in text for line in counted) and text,
        )[1],
        "the requests are counted",
    )

    assert "MADEUP" not in metrics
    assert "counted-nowhere" not in metrics
    assert requests.get(ministack_service.at("/metrics"), timeout=10).status_code == 404


def test_metrics_are_for_known_hosts(ministack_service: Service) -> None:
    """A page under a name that leads to this machine (DNS rebinding) reads no metrics."""
    rebound = requests.get(ministack_service.metrics_url, headers={"Host": "evil.test"}, timeout=10)

    assert (rebound.status_code, rebound.text) == (421, "")


def test_a_token_entry_is_printed_whole() -> None:
    """The printed entry is what the configuration reads."""
    entry = TokenEntry(name="a", verbs=frozenset({"read", "list"}), prefix="p/", sha256="0" * 64)

    assert TokenEntry.model_validate_json(manage.entry_json(entry)) == entry
