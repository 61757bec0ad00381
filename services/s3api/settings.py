"""Configuration: one frozen `Settings`, and the only place that reads the environment."""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    AliasChoices,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails, InitErrorDetails, PydanticCustomError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from s3api.bucket import check_origin
from s3api.misspelt_variables import CLIENT, unread
from s3api.private import NotPrivate, check_folder, lock_path, make_folder, open_private

MiB = 1024 * 1024
GiB = 1024 * MiB

Verb = Literal["list", "read", "write", "delete"]


class SettingsError(Exception):
    """The environment is not a valid configuration; the message names every wrong variable."""


class TokenEntry(BaseModel):
    """One API token, as configured: never the token itself, only its SHA-256."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")]
    verbs: Annotated[frozenset[Verb], Field(min_length=1)]
    prefix: str = ""
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    expires: AwareDatetime | None = None


def _check_http_url(value: str) -> str:
    scheme, _, rest = value.partition("://")
    if scheme not in ("http", "https") or not rest:
        raise ValueError("must be a URL that begins with http:// or https://")
    if "@" in rest or "?" in rest or "#" in rest:
        raise ValueError("must not carry credentials, a query or a fragment")
    return value.rstrip("/")


def _check_jwks_url(value: str) -> str:
    parts = urlsplit(value)
    on_loopback = parts.hostname in ("localhost", "127.0.0.1", "::1")
    if not parts.hostname or (parts.scheme != "https" and not (parts.scheme == "http" and on_loopback)):
        raise ValueError("must be a URL that begins with https://; http:// is allowed on loopback only")
    if "@" in parts.netloc or parts.fragment:
        raise ValueError("must not carry credentials or a fragment")
    return value


HttpUrl = Annotated[str, AfterValidator(_check_http_url)]


def _words(value: object) -> object:
    return value.lower().replace(",", " ").split() if isinstance(value, str) else value


def _entries(value: object) -> object:
    """The value of API_TOKENS. pydantic-settings would report text that is not JSON, and nothing else."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError:
        raise ValueError("is not valid JSON") from None


def _check_entries(entries: tuple[TokenEntry, ...]) -> tuple[TokenEntry, ...]:
    if len({entry.name for entry in entries}) != len(entries):
        raise ValueError("two entries have the same name")
    return entries


def parse_entries(text: str) -> tuple[TokenEntry, ...]:
    """The entries of a JSON list. Raises `ValueError`, without a value, for any other text."""
    listed = _entries(text)
    if not isinstance(listed, list):
        raise ValueError("must be a JSON list")  # noqa: TRY004 - pydantic expects it
    try:
        return _check_entries(tuple(map(TokenEntry.model_validate, listed)))
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False)[0]
        raise ValueError(
            f"has an entry with a wrong {' '.join(map(str, problem['loc'])) or 'form'}"
        ) from None


def _file(parse: Callable[[str], object]) -> AfterValidator:
    """The file of a setting must be readable, and `parse` must accept its content."""

    def check(path: Path) -> Path:
        try:
            parse(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise ValueError(f"the file cannot be read ({error.strerror})") from None
        except json.JSONDecodeError:
            raise ValueError("the file is not valid JSON") from None
        except UnicodeDecodeError:
            raise ValueError("the file is not UTF-8") from None
        except ValueError as error:
            raise ValueError(f"the file {error}") from None
        return path

    return AfterValidator(check)


def _pattern(pattern: str, what: str) -> AfterValidator:
    def check(value: str) -> str:
        if not re.fullmatch(pattern, value):
            raise ValueError(what)
        return value

    return AfterValidator(check)


#: In the environment, words with commas or spaces between them.
Words = (NoDecode, BeforeValidator(_words))
HostName = Annotated[
    str,
    _pattern(
        r"\[[0-9a-f:.]+\]|[a-z0-9._-]{1,253}",
        "must be a host's name or address, such as files.example or [::1], without a port",
    ),
]
Origin = Annotated[str, AfterValidator(check_origin)]


class Settings(BaseSettings):
    """Everything that can be configured; every field is the environment variable of that name in capitals.

    Sizes are bytes, times are seconds. AWS credentials are not here: boto3 finds and refreshes them.
    docs/configuration.md is generated from the fields' docstrings.
    """

    model_config = SettingsConfigDict(
        frozen=True,
        extra="ignore",
        env_ignore_empty=True,
        hide_input_in_errors=True,
        populate_by_name=True,
        # Where Docker puts secrets, each a file named as its setting; the environment comes first.
        secrets_dir="/run/secrets" if Path("/run/secrets").is_dir() else None,
    )

    project_name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")] = "day02"
    """The name in the greeting of `GET /`."""
    bucket: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$")]
    """The bucket whose files are served."""
    bucket_owner: Annotated[str, Field(pattern=r"^[0-9]{12}$")] | None = None
    """The 12 digits of the AWS account that must own the bucket. S3 then refuses the service's own requests
    to a bucket of another account; presigned URLs are not checked. Not set: any owner. Terraform sets it."""
    aws_region: Annotated[
        str, Field(min_length=1, validation_alias=AliasChoices("AWS_REGION", "AWS_DEFAULT_REGION"))
    ] = "eu-west-1"
    """The bucket's region."""
    s3_endpoint_url: Annotated[
        HttpUrl | None, Field(validation_alias=AliasChoices("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"))
    ] = None
    """The URL of an S3-compatible server that is used instead of AWS."""
    s3_public_endpoint_url: HttpUrl | None = None
    """The URL at which clients reach that S3, if it differs. Presigned URLs are signed for it."""

    signing_key: Annotated[SecretStr, Field(min_length=32)]
    """At least 32 characters, the same for all tasks of a service. It signs cursors, upload ids and upload
    links."""
    api_tokens: Annotated[
        tuple[TokenEntry, ...], NoDecode, BeforeValidator(_entries), AfterValidator(_check_entries)
    ] = ()
    """A JSON list of token entries; `s3api token new` makes an entry."""
    api_tokens_file: Annotated[Path, _file(parse_entries)] | None = None
    """A file with the JSON list of API_TOKENS, instead of that variable. The service reads it again when it
    changes, without a restart. If the new content is not valid, the last valid one stays in use."""
    jwt_issuer: Annotated[str, Field(min_length=1)] | None = None
    """The `iss` of the JWTs that are accepted as tokens. Needs `JWT_AUDIENCE` and one of `JWT_JWKS_URL`,
    `JWT_JWKS_FILE` and `JWT_SECRET`. Not set: JWTs are refused."""
    jwt_audience: Annotated[str, Field(min_length=1)] | None = None
    """The `aud` that these JWTs must have: a name of this service."""
    jwt_jwks_url: Annotated[str, AfterValidator(_check_jwks_url)] | None = None
    """The https URL (http on loopback) of the issuer's public keys, a JWK set. The keys are for RS256,
    ES256 or EdDSA."""
    jwt_jwks_file: Annotated[Path, _file(json.loads)] | None = None
    """A file with the issuer's public keys, a JWK set. The service reads it again when it changes."""
    jwt_secret: Annotated[SecretStr, Field(min_length=32)] | None = None
    """At least 32 random characters that the issuer signs JWTs with (HS256). The issuer and the service share
    it."""
    jwt_max_seconds: Annotated[int, Field(ge=60, le=604_800)] = 3600
    """A JWT that is valid for longer than this is refused."""
    allow_anonymous: bool = False
    """`true` allows requests without a token to do everything. Meant for development on loopback."""
    allowed_hosts: Annotated[tuple[HostName, ...], *Words] = ()
    """The host names that the service answers to, without ports, separated by commas. Requests for other
    hosts are answered 421, except `/livez`, `/readyz` and `/healthz`. `localhost`, `127.0.0.1` and `[::1]`
    are always allowed. Not set: only these on loopback, otherwise every host."""
    allowed_origins: Annotated[tuple[Origin, ...], *Words] = ()
    """Origins of other sites whose web pages may use the service, such as `https://files.example`, separated
    by commas. They cannot read its answers. It is for the service's own page behind a proxy that changes the
    host."""
    cors_origins: Annotated[tuple[Origin, ...], *Words] = ()
    """Origins whose web pages may use the service and read its answers (CORS), such as `https://app.example`,
    separated by commas. `*` is refused. Not set: none."""
    trusted_proxy_hops: Annotated[int, Field(ge=0, le=8)] = 0
    """The number of proxies in front of the service whose `X-Forwarded-*` headers are believed."""

    max_file_bytes: Annotated[int, Field(ge=1, le=5 * 1024 * GiB)] = 5 * GiB
    """The size of the largest file, for every kind of upload."""
    staging_dir: Path = Path("uploads")
    """The directory where the files of a form wait for their upload to S3. The service removes only what it
    has written there. It refuses to start with a directory that another user owns or can replace."""
    staging_max_bytes: Annotated[int, Field(ge=1)] = 2 * GiB
    """The limit for all forms that wait there at the same time, counted as their bytes arrive; above it a
    form is answered 507. One caller gets at most seven eighths of it."""
    download_url_seconds: Annotated[int, Field(ge=1, le=604_800)] = 120
    """How long a presigned download URL is valid if the request does not say it."""
    max_download_url_seconds: Annotated[int, Field(ge=60, le=604_800)] = 604_800
    """The longest life of a presigned download URL that a request may ask for with `expires`. With temporary
    credentials, such as those of a role, a URL expires with them at the latest."""
    upload_url_seconds: Annotated[int, Field(ge=1, le=604_800)] = 900
    """How long a presigned upload URL is valid."""
    max_upload_link_seconds: Annotated[int, Field(ge=0, le=31_536_000)] = 604_800
    """The longest life of an upload link. A smaller value also shortens the links that exist; 0 ends all of
    them and allows no new ones."""
    upload_buffer_bytes: Annotated[int, Field(ge=1, le=16 * GiB)] = 32 * MiB
    """The memory of a worker process for raw uploads of unknown length that are larger than 256 KiB. Each of
    them holds what has arrived of its current part: up to 8 MiB, or more if `MAX_FILE_BYTES` is above 78 GiB.
    When all of it is in use, uploads wait for each other."""
    upload_wait_seconds: Annotated[float, Field(ge=0, le=300)] = 10
    """An upload that waits for that memory is answered 503 once no other upload has freed any for this
    long. So is any request that has waited this long for its place among MAX_CONCURRENT_REQUESTS."""
    multipart_threshold_bytes: Annotated[int, Field(ge=5 * MiB, le=5 * GiB)] = 64 * MiB
    """A planned upload of this size or more goes to S3 in parts."""

    s3_connect_timeout_seconds: Annotated[float, Field(gt=0, le=60)] = 2
    """The time limit for a connection to S3."""
    s3_read_timeout_seconds: Annotated[float, Field(gt=0, le=300)] = 5
    """The time limit for S3's answer to a small request. The service repeats a request once after a temporary
    failure, so a client waits at most about twice this time."""
    s3_transfer_timeout_seconds: Annotated[float, Field(gt=0, le=900)] = 30
    """The longest pause of S3 during a transfer. S3 must also send each 256 KiB of a download within this
    time."""
    client_stall_seconds: Annotated[float, Field(gt=0, le=300)] = 20
    """The longest pause of a client that sends a body or reads an answer. It is also the time limit for the
    head of a request, and for the first byte of a new connection."""
    client_min_bytes_per_second: Annotated[int, Field(ge=1, le=1_000_000)] = 1024
    """The least rate of a request body. Waiting uses up a credit of CLIENT_STALL_SECONDS, and bytes renew it
    at this rate. When it is used up, the answer is 408 and nothing is stored: after about 22 s at a tenth of
    the rate, after minutes just below it. The connection of a client that reads its answer more slowly is
    closed."""

    host: str = "127.0.0.1"
    """The address that the API listens on."""
    port: Annotated[int, Field(ge=0, le=65_535)] = 5000
    """The port that the API listens on; 0 takes a free one."""
    metrics_port: Annotated[int, Field(ge=0, le=65_535)] = 9100
    """The port of `/metrics`, at the same address; 0 switches it off."""
    metrics_log_seconds: Annotated[int, Field(ge=0, le=3600)] | None = None
    """How often each worker writes its metrics into the log, in the embedded metric format of CloudWatch; 0
    switches it off. Not set: 60 in a task of ECS, otherwise 0."""
    web_concurrency: Annotated[int, Field(ge=1, le=64)] = 1
    """The number of worker processes; each uses at most one core. `MAX_CONCURRENT_REQUESTS`,
    `UPLOAD_BUFFER_BYTES` and the limit of connections (at most 10,000, fewer if the process may open fewer
    files) apply to each process. Draining, the staging budget and the metrics are shared."""
    max_concurrent_requests: Annotated[int, Field(ge=1, le=512)] = 64
    """The number of requests that a worker process serves at once. Others wait. `/livez`, `/readyz` and
    `/healthz` never wait."""
    drain_seconds: Annotated[float, Field(ge=0, le=900)] = 0
    """After SIGTERM, how long `/readyz` and `/healthz` fail while requests are still accepted, so that a
    load balancer stops sending them."""
    graceful_seconds: Annotated[int, Field(ge=1, le=3600)] = 30
    """After that, how long requests in progress may take."""
    keepalive_seconds: Annotated[int, Field(ge=1, le=4100)] = 75
    """How long an idle connection is kept for the next request. It must be longer than the idle timeout of a
    load balancer, which must be the side that closes first."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """The least important lines that are logged."""
    log_format: Literal["auto", "json", "console"] = "auto"
    """`auto` is `console` on a terminal, and `json` otherwise."""

    revision: Annotated[str, Field(max_length=64)] = "unknown"
    """The commit that the service was built from. The first line of its log has it. The image sets it."""

    @model_validator(mode="wrap")
    @classmethod
    def _check_together(cls, given: dict[str, Any], check: ModelWrapValidatorHandler[Self]) -> Self:
        """Check settings that depend on each other, and report them with those that are wrong alone."""
        known = {name.upper() for name, value in given.items() if value not in (None, ())}
        problems: list[ErrorDetails | InitErrorDetails] = [
            {"type": PydanticCustomError("together", problem), "loc": (), "input": None}
            for problem in _problems_of_tokens(known)
        ]
        try:
            settings = check(given)
        except ValidationError as error:
            problems = [*error.errors(include_url=False), *problems]
        if problems:
            raise ValidationError.from_exception_data(cls.__name__, problems, hide_input=True)  # type: ignore[arg-type]
        return settings

    @property
    def accepts_jwts(self) -> bool:
        return self.jwt_issuer is not None

    @property
    def has_tokens(self) -> bool:
        """Whether tokens are configured, in any of the ways."""
        return bool(self.api_tokens) or self.api_tokens_file is not None or self.accepts_jwts

    @property
    def seconds_between_metrics(self) -> int:
        """METRICS_LOG_SECONDS, or its default."""
        if self.metrics_log_seconds is not None:
            return self.metrics_log_seconds
        # ECS sets it in every container:
        # https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task-metadata-endpoint-v4.html
        return 60 if "ECS_CONTAINER_METADATA_URI_V4" in os.environ else 0

    @classmethod
    def from_environment(cls, **overrides: Any) -> Settings:
        """Read the environment.

        Raises:
            SettingsError: a variable is missing or wrong. The message names each and never shows a value.
        """
        # An empty variable means an absent one. boto3 and gunicorn would take it for a value.
        for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "WEB_CONCURRENCY"):
            if os.environ.get(name) == "":
                del os.environ[name]
        try:
            settings = cls(**overrides)
        except ValidationError as error:
            problems = _explain(error)
            # The default directory is made only for a service that starts.
            if named := os.environ.get("STAGING_DIR"):
                problems += _problems_of_staging(Path(named))
        else:
            problems = _problems_of_staging(settings.staging_dir)
            if not problems:
                return settings
        problems += [f"{name} {what}" for name, what in cls.unread_variables()]
        raise SettingsError("\n  ".join(["The configuration is not valid.", *problems]))

    @classmethod
    def unread_variables(cls) -> Iterator[tuple[str, str]]:
        """The variables of the environment that look like a setting but are none, with what to do."""
        known = {name.upper() for name in cls.model_fields} | CLIENT
        for field in cls.model_fields.values():
            if isinstance(field.validation_alias, AliasChoices):
                known.update(str(name) for name in field.validation_alias.choices)
        return unread(os.environ, known)


_OTHER_NAMES = {"AWS_ENDPOINT_URL_S3": "AWS_ENDPOINT_URL", "AWS_REGION": "AWS_DEFAULT_REGION"}

_HINTS = {
    "BUCKET": "the name of an existing S3 bucket, such as day02-files",
    "BUCKET_OWNER": "the 12 digits of the AWS account that owns the bucket",
    "SIGNING_KEY": "32 characters or more that every task shares; "
    'python3 -c "import secrets; print(secrets.token_urlsafe(32))" makes one',
    "API_TOKENS": "a JSON list of entries, each printed by `s3api token new`",
    "PROJECT_NAME": "1 to 63 letters, digits, dots, dashes and underscores; the first is a letter or a digit",
    "JWT_SECRET": "32 random characters or more, the same as the application has",
    "WEB_CONCURRENCY": "the number of worker processes, a whole number from 1 to 64",
}

#: The sentences for pydantic's kinds of errors, with the fields of their context.
_SENTENCES = {
    "missing": "is not set",
    "int_parsing": "must be a whole number",
    "float_parsing": "must be a number",
    "bool_parsing": "must be true or false",
    "greater_than": "must be more than {gt:.15g}",
    "greater_than_equal": "must be at least {ge:.15g}",
    "less_than_equal": "must be at most {le:.15g}",
    "literal_error": "must be one of {expected}",
    "string_too_short": "must have at least {min_length} characters",
    "too_short": "must not be empty",
    "tuple_type": "must be a list",
    "model_type": "must be an object",
    "string_too_long": "must have at most {max_length} characters",
    "string_pattern_mismatch": "does not have the right form",
    "extra_forbidden": "is not a field of an entry",
}


def _explain(error: ValidationError) -> list[str]:
    """The variables that are not valid, with what to do."""
    lines = []
    for problem in error.errors(include_url=False, include_input=False):
        if not problem["loc"]:  # it is about several variables, and its message begins with one of them
            lines.append(problem["msg"].removeprefix("Value error, "))
            continue
        variable, *inner = (str(part) for part in problem["loc"])
        variable = variable.upper()
        if variable not in os.environ:
            variable = _OTHER_NAMES.get(variable, variable)
        if inner and inner[0].isdigit():
            inner[0] = f"entry {int(inner[0]) + 1}"
        what = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "int_parsing" and variable.endswith("_BYTES"):
            example = Settings.model_fields[variable.lower()].default
            what = f"must be a whole number of bytes, such as {example}"
        elif sentence := _SENTENCES.get(problem["type"]):
            what = sentence.format(**problem.get("ctx", {}))
        if problem["type"] == "too_short" and problem["ctx"]["min_length"] > 1:  # a secret
            what = f"must have at least {problem['ctx']['min_length']} characters"
        hint = f" ({_HINTS[variable]})" if variable in _HINTS else ""
        lines.append(f"{variable}: {' '.join([*inner, what])}{hint}")
    return lines


def _problems_of_tokens(given: Collection[str]) -> Iterator[str]:
    """What is wrong with the choice of the settings of tokens. Each sentence begins with a variable."""
    if "API_TOKENS" in given and "API_TOKENS_FILE" in given:
        yield "API_TOKENS_FILE: API_TOKENS is set too; set only one of them"
    names = [name for name in ("JWT_ISSUER", "JWT_AUDIENCE") if name in given]
    sources = [name for name in ("JWT_JWKS_URL", "JWT_JWKS_FILE", "JWT_SECRET") if name in given]
    for name in sources[1:]:
        yield f"{name}: {sources[0]} is set too; set only one of them"
    if not names and not sources:
        return
    for name in ("JWT_ISSUER", "JWT_AUDIENCE"):
        if name not in given:
            yield f"{name}: is not set, but {(sources or names)[0]} is; JWTs need it"
    if not sources:
        yield "JWT_JWKS_URL: is not set; JWTs need it, or JWT_JWKS_FILE or JWT_SECRET, for their keys"


def _problems_of_staging(directory: Path) -> list[str]:
    try:
        make_folder(directory)
        check_folder(directory)
        with tempfile.TemporaryFile(dir=directory):
            pass
        os.close(open_private(lock_path(directory), os.O_RDWR | os.O_CREAT))
    except NotPrivate as error:
        return [f"STAGING_DIR: {error}; name a directory that belongs to the user of the service"]
    except OSError as error:
        return [
            f"STAGING_DIR: cannot be written ({error.strerror}); name a directory that this user may write to"
        ]
    return []
