"""Checks AWS Signature Version 4 in a header, in a presigned URL, and in the fields of a form.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html
https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-authentication-HTTPPOST.html
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import posixpath
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from urllib.parse import parse_qsl, quote, unquote_to_bytes

ALGORITHM = "AWS4-HMAC-SHA256"
UNSIGNED_PAYLOAD = "UNSIGNED-PAYLOAD"
#: How far a client's clock may differ from ours, as on AWS.
CLOCK_SKEW = timedelta(minutes=15)
LONGEST_PRESIGNED = timedelta(days=7)


@dataclass(frozen=True)
class Request:
    """A request as it was received: the path is percent-encoded, the header fields are in order."""

    method: str
    path: bytes
    query: bytes
    headers: Sequence[tuple[bytes, bytes]]
    client_address: str = ""

    @cached_property
    def fields(self) -> Mapping[str, list[bytes]]:
        """The values of each header field, by its name in lower case."""
        found: dict[str, list[bytes]] = {}
        for name, value in self.headers:
            found.setdefault(name.decode("latin-1").lower(), []).append(value)
        return found

    @cached_property
    def parameters(self) -> Sequence[tuple[str, str]]:
        """The parameters of the query.

        Each byte becomes one character, so different values stay different.
        """
        return parse_qsl(self.query.decode("latin-1"), keep_blank_values=True, encoding="latin-1")

    def values(self, name: str) -> list[str]:
        """The values of a field, without spaces and tabs around them (RFC 9110, section 5.5)."""
        return [value.decode("latin-1").strip(" \t") for value in self.fields.get(name, ())]

    def header(self, name: str) -> str:
        """The value of a field that may occur only once; empty if it is missing."""
        return _only(self.values(name), name)

    def parameter(self, name: str) -> str:
        return _only([value for key, value in self.parameters if key == name], name)

    def has_parameter(self, name: str) -> bool:
        return any(key.lower() == name.lower() for key, _ in self.parameters)


def _only(values: Sequence[str], name: str) -> str:
    if len(values) > 1:
        raise Rejected(400, "InvalidRequest", f"{name} is given more than once.")
    return values[0] if values else ""


@dataclass(frozen=True)
class Secret:
    """The secret of an access key. `token` is the session's token if the key belongs to a session."""

    key: str = field(repr=False)
    token: str = field(default="", repr=False)


SecretOf = Callable[[str], Secret | None]


class Rejected(Exception):
    """Why a signature is refused: an HTTP status, an error code of S3, and a message without secrets."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


def wrong_version() -> Rejected:
    """The error for another version, such as 2, with which boto3 presigns by default."""
    return Rejected(
        400, "InvalidRequest", f"The authorization mechanism is not supported. Please use {ALGORITHM}."
    )


def _incomplete(message: str) -> Rejected:
    return Rejected(400, "AuthorizationHeaderMalformed", message)


@dataclass(frozen=True)
class Claim:
    """The parts of a signature, as the request states them."""

    credential: str
    moment: str
    signature: str
    token: str
    signed_headers: Sequence[str] = ()

    @cached_property
    def scope(self) -> tuple[str, str, str, str]:
        """The access key, the day, the region and the service."""
        parts = self.credential.split("/")
        if len(parts) != 5 or not all(parts) or parts[4] != "aws4_request":
            raise _incomplete("The credential must be <key>/<day>/<region>/<service>/aws4_request.")
        return parts[0], parts[1], parts[2], parts[3]

    @cached_property
    def signed_at(self) -> datetime:
        if not re.fullmatch(r"[0-9]{8}T[0-9]{6}Z", self.moment, re.ASCII):
            raise _incomplete("X-Amz-Date must have the form 20260131T235959Z.")
        if self.moment[:8] != self.scope[1]:
            raise _incomplete("X-Amz-Date and the credential name different days.")
        try:
            return datetime.strptime(self.moment, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        except ValueError:
            raise _incomplete("X-Amz-Date is not a valid date and time.") from None

    def secret(self, secret_of: SecretOf, services: Collection[str]) -> Secret:
        """The secret of the access key. `services` may be signed for; empty means all."""
        key, _, _, service = self.scope
        if services and service not in services:
            raise Rejected(403, "AccessDenied", f"Sign for one of these services: {', '.join(services)}.")
        secret = secret_of(key)
        if secret is None:
            raise Rejected(403, "InvalidAccessKeyId", "The access key does not exist here.")
        if not _same(secret.token, self.token):
            raise Rejected(403, "InvalidToken", "The session token does not belong to the access key.")
        return secret

    def check(self, secret: Secret, text: str) -> None:
        """Raise `Rejected` unless the text was signed with the secret."""
        _, day, region, service = self.scope
        key = f"AWS4{secret.key}".encode()
        for step in (day, region, service, "aws4_request"):
            key = hmac.digest(key, step.encode("latin-1"), "sha256")
        if not _same(hmac.new(key, text.encode("latin-1"), "sha256").hexdigest(), self.signature):
            raise Rejected(
                403, "SignatureDoesNotMatch", "The signature does not belong to this request and access key."
            )


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode(), other.encode())


# --- a signed request


def is_presigned(request: Request) -> bool:
    names = ("X-Amz-Algorithm", "X-Amz-Signature", "AWSAccessKeyId")
    return any(request.has_parameter(name) for name in names)


def claim_of_header(request: Request) -> Claim:
    """Read the signature from the field Authorization."""
    algorithm, _, rest = request.header("authorization").partition(" ")
    if algorithm != ALGORITHM:
        raise wrong_version()
    pairs = [part.strip().partition("=") for part in rest.split(",")]
    parts = {name: value for name, _, value in pairs}
    if len(pairs) != 3 or parts.keys() != {"Credential", "SignedHeaders", "Signature"}:
        raise _incomplete("Authorization must have a Credential, SignedHeaders and a Signature.")
    return Claim(
        parts["Credential"],
        request.header("x-amz-date"),
        parts["Signature"],
        request.header("x-amz-security-token"),
        parts["SignedHeaders"].split(";"),
    )


def claim_of_query(request: Request) -> Claim:
    """Read the signature from the parameters of a presigned URL."""
    if request.parameter("X-Amz-Algorithm") != ALGORITHM:
        raise wrong_version()
    return Claim(
        request.parameter("X-Amz-Credential"),
        request.parameter("X-Amz-Date"),
        request.parameter("X-Amz-Signature"),
        request.parameter("X-Amz-Security-Token"),
        request.parameter("X-Amz-SignedHeaders").split(";"),
    )


def check_time(claim: Claim, request: Request, now: datetime, *, presigned: bool) -> None:
    if claim.signed_at - now > CLOCK_SKEW:
        raise Rejected(
            403, "RequestTimeTooSkewed", "The request is signed in the future: compare the clocks."
        )
    if not presigned:
        if now - claim.signed_at > CLOCK_SKEW:
            raise Rejected(403, "RequestTimeTooSkewed", "The request was signed too long ago.")
        return
    seconds = request.parameter("X-Amz-Expires")
    if (
        not re.fullmatch(r"[0-9]{1,6}", seconds, re.ASCII)
        or timedelta(seconds=int(seconds)) > LONGEST_PRESIGNED
    ):
        raise Rejected(400, "AuthorizationQueryParametersError", "X-Amz-Expires must be 0 to 604800 seconds.")
    if now - claim.signed_at > timedelta(seconds=int(seconds)):
        raise Rejected(403, "AccessDenied", "Request has expired")


def check_headers(claim: Claim, request: Request, *, presigned: bool) -> None:
    """Raise `Rejected` unless `host` and all `x-amz-*` are signed, so that nothing can be added later."""
    signed = set(claim.signed_headers)
    needed = {"host", *(name for name in request.fields if name.startswith("x-amz-"))}
    if presigned:
        needed.discard("x-amz-content-sha256")  # has no meaning there, but some clients send it
    if needed - signed:
        raise Rejected(403, "AccessDenied", "There were headers present in the request which were not signed")


def payload_hash(claim: Claim, request: Request, *, presigned: bool) -> str | None:
    """The hash of the body that the client has signed; None if the guard must hash the body itself.

    Only S3 accepts the hash that the client states. S3 compares it with the body while it receives the body.
    """
    if claim.scope[3] != "s3":
        return None
    if "x-amz-content-sha256" in claim.signed_headers:
        return request.header("x-amz-content-sha256")
    if presigned:
        return UNSIGNED_PAYLOAD
    raise Rejected(400, "MissingSecurityHeader", "X-Amz-Content-Sha256 is missing.")


def text_to_sign(claim: Claim, request: Request, body_hash: str) -> str:
    """The string that the client must have signed."""
    canonical = "\n".join(
        [
            request.method,
            _canonical_path(request.path, claim.scope[3]),
            _canonical_query(request.parameters),
            *(f"{name}:{_canonical_values(request, name)}" for name in claim.signed_headers),
            "",
            ";".join(claim.signed_headers),
            body_hash,
        ]
    )
    scope = claim.credential.partition("/")[2]
    digest = hashlib.sha256(canonical.encode("latin-1")).hexdigest()
    return f"{ALGORITHM}\n{claim.moment}\n{scope}\n{digest}"


def _canonical_path(path: bytes, service: str) -> str:
    """For S3: the decoded path, encoded once.

    For other services: the normalised path as sent, encoded again.
    """
    if service == "s3":
        return quote(unquote_to_bytes(path), safe="/-_.~")
    normal = posixpath.normpath(path.decode("latin-1"))
    slash = "/" if path.endswith(b"/") and normal != "/" else ""
    return quote(f"/{normal.lstrip('/')}{slash}", safe="/-_.~", encoding="latin-1")


def _canonical_query(parameters: Sequence[tuple[str, str]]) -> str:
    def encode(text: str) -> str:
        return quote(text, safe="-_.~", encoding="latin-1")

    pairs = sorted((encode(name), encode(value)) for name, value in parameters if name != "X-Amz-Signature")
    return "&".join(f"{name}={value}" for name, value in pairs)


def _canonical_values(request: Request, name: str) -> str:
    return ",".join(re.sub("  +", " ", value) for value in request.values(name))


# --- a signed form


def check_form(fields: Mapping[str, str], secret_of: SecretOf, now: datetime) -> None:
    """Raise `Rejected` unless the form's policy is signed and not expired. S3 checks its conditions."""
    if "awsaccesskeyid" in fields:
        raise wrong_version()
    if fields.get("x-amz-algorithm") != ALGORITHM:
        raise Rejected(403, "AccessDenied", "The form is not signed.")
    claim = Claim(
        fields.get("x-amz-credential", ""),
        fields.get("x-amz-date", ""),
        fields.get("x-amz-signature", ""),
        fields.get("x-amz-security-token", ""),
    )
    secret = claim.secret(secret_of, {"s3"})
    if claim.signed_at - now > CLOCK_SKEW:
        raise Rejected(403, "RequestTimeTooSkewed", "The form is signed in the future: compare the clocks.")
    policy = fields.get("policy", "")
    claim.check(secret, policy)
    try:
        until = datetime.fromisoformat(json.loads(base64.b64decode(policy, validate=True))["expiration"])
        expired = now >= until
    except (ValueError, TypeError, KeyError, RecursionError):
        raise Rejected(400, "InvalidPolicyDocument", "The policy has no valid expiration.") from None
    if expired:
        raise Rejected(403, "AccessDenied", "Invalid according to Policy: Policy expired.")


def form_fields(content_type: str, body: bytes) -> Mapping[str, str]:
    """The fields of a form (RFC 7578) before its file, by their names in lower case.

    `body` may end anywhere in the file. Raise `Rejected` if it ends within the fields or repeats a field.
    """
    boundary = re.search(r'boundary=(?:"([^"\r\n]{1,70})"|([^\s;"]{1,70}))', content_type, re.IGNORECASE)
    if not boundary:
        raise _malformed_form("The form has no boundary.")
    line = b"--" + (boundary[1] or boundary[2]).encode("latin-1")
    found: dict[str, str] = {}
    parts = (b"\r\n" + body).split(b"\r\n" + line)
    for number, part in enumerate(parts[1:], start=1):
        if part.startswith(b"--"):
            return found
        head, _, value = part.partition(b"\r\n\r\n")
        name = re.search(rb'content-disposition: *form-data;.*?\bname="([^"]*)"', head, re.IGNORECASE)
        if not name:
            break
        key = name[1].decode("latin-1").lower()
        if key == "file":
            return found
        if key in found:
            raise _malformed_form("A field of the form occurs twice.")
        if number == len(parts) - 1:
            break
        found[key] = value.decode("latin-1")
    raise _malformed_form("The form's fields are not well-formed, or too long, or come after its file.")


def _malformed_form(message: str) -> Rejected:
    return Rejected(400, "MalformedPOSTRequest", message)
