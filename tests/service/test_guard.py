"""The guard's decisions, from requests alone; botocore signs as the stock client."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import botocore.session
import pytest
from botocore.auth import HmacV1QueryAuth, S3SigV4Auth, S3SigV4PostAuth, S3SigV4QueryAuth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import example, given
from hypothesis import strategies as st

from guard.guard import READY, Answer, Guard, Wanted, cross_origin
from guard.keys import _kept, installed
from guard.signatures import Request, Secret

HOST = "127.0.0.1:4566"
PAGE = "http://127.0.0.1:5000"
SECRETS = {"known": Secret("a secret"), "session": Secret("another", "token")}
GUARD = Guard(frozenset({HOST, "aws:4566"}), frozenset({PAGE}), SECRETS.get)
ALL_SERVICES = Guard(frozenset({HOST}), frozenset(), SECRETS.get, services=frozenset())
KNOWN = Credentials("known", "a secret")
SESSION = Credentials("session", "another", "token")


def request_of(signed: AWSRequest, **more: str) -> Request:
    """The request as it goes over the wire."""
    prepared = signed.prepare()
    url = urlsplit(prepared.url)
    headers = [("Host", url.netloc), *prepared.headers.items(), *more.items()]
    fields = [(name.encode(), one if isinstance(one, bytes) else one.encode()) for name, one in headers]
    return Request(prepared.method, url.path.encode(), url.query.encode(), fields)


def headed(
    url: str = "/bucket/key",
    *,
    method: str = "GET",
    credentials: Credentials = KNOWN,
    headers: Mapping[str, str] | None = None,
    host: str = HOST,
) -> AWSRequest:
    signed = AWSRequest(method, f"http://{host}{url}", headers=dict(headers or {}), data=b"")
    S3SigV4Auth(credentials, "s3", "eu-west-1").add_auth(signed)
    return signed


def presigned(
    url: str = "/bucket/key", *, seconds: int = 60, credentials: Credentials = KNOWN, method: str = "GET"
) -> AWSRequest:
    signed = AWSRequest(method, f"http://{HOST}{url}")
    S3SigV4QueryAuth(credentials, "s3", "eu-west-1", expires=seconds).add_auth(signed)
    return signed


def changed(request: Request, **fields: Any) -> Request:
    return Request(
        **{"method": request.method, "path": request.path, "query": request.query, "headers": request.headers}
        | fields
    )


def without(request: Request, name: str) -> list[tuple[bytes, bytes]]:
    return [one for one in request.headers if one[0].lower() != name.encode()]


def with_header(request: Request, name: str, *values: str) -> Request:
    """The request with exactly these values of a header field."""
    added = [(name.encode(), value.encode()) for value in values]
    return changed(request, headers=[*without(request, name.lower()), *added])


def code(answer: Answer | Wanted | None) -> str:
    assert isinstance(answer, Answer), answer
    assert 400 <= answer.status < 500
    return answer.code


# --- who may come in


KEYS = [
    "/",
    "/bucket?list-type=2&prefix=a%20b%2F",
    "/bucket/a%20b/%C3%BC%2B%281%29",
    "/b/../x//y",
    "/b?delete=",
]


@pytest.mark.parametrize("url", KEYS)
@pytest.mark.parametrize("credentials", [KNOWN, SESSION], ids=["key", "session"])
def test_what_is_signed_passes(url: str, credentials: Credentials) -> None:
    """Requests that botocore signs pass: in the header and as URLs, of a key and of a session."""
    meta = {"x-amz-meta-note": "  two   spaces "}

    assert GUARD.decide(request_of(headed(url, credentials=credentials, headers=meta, method="PUT"))) is None
    assert GUARD.decide(request_of(presigned(url, credentials=credentials))) is None


def test_a_path_may_be_written_otherwise() -> None:
    """Browsers and curl send some characters unencoded that SDKs percent-encode; the path is the same."""
    signed = request_of(presigned("/bucket/%281%29%21%2A"))

    assert GUARD.decide(changed(signed, path=b"/bucket/(1)!*")) is None


def test_bodies_that_are_not_hashed_pass() -> None:
    """UNSIGNED-PAYLOAD and the chunked uploads of the SDKs sign their own words in place of a hash."""
    for word in (
        "UNSIGNED-PAYLOAD",
        "STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
        "STREAMING-UNSIGNED-PAYLOAD-TRAILER",
    ):
        signed = headed(method="PUT", headers={"X-Amz-Content-SHA256": word})

        assert GUARD.decide(request_of(signed)) is None


def test_the_documented_example() -> None:
    """The presigned URL in AWS's documentation of the S3 API has the signature that is computed here."""
    # https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html, "Example: GET an object"
    key = "AKIAIOSFODNN7EXAMPLE"
    query = (
        f"X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={key}%2F20130524%2Fus-east-1%2Fs3%2Faws4_request"
        "&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host&X-Amz-Signature="
        "aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"
    )
    host = "examplebucket.s3.amazonaws.com"
    asked = Request("GET", b"/test.txt", query.encode(), [(b"host", host.encode())])
    secrets = {key: Secret("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")}

    def at(moment: datetime) -> Guard:
        return Guard(frozenset({host}), frozenset(), secrets.get, now=lambda: moment)

    start = datetime(2013, 5, 24, tzinfo=UTC)
    assert at(start + timedelta(days=1)).decide(asked) is None
    assert code(at(start + timedelta(days=1, seconds=1)).decide(asked)) == "AccessDenied"
    assert code(at(start - timedelta(minutes=16)).decide(asked)) == "RequestTimeTooSkewed"


# --- who may not


def test_other_addresses() -> None:
    """A request for a name that an attacker's DNS points at loopback is refused (DNS rebinding)."""
    good = request_of(headed())
    for hosts in (
        ["evil.test"],
        ["evil.test:4566"],
        ["127.0.0.1:4567"],
        ["127.0.0.1"],
        ["bucket.localhost:4566"],
        [HOST, HOST],
        [HOST, "evil.test"],
        [f"{HOST}, evil.test"],
        [""],
        [],
    ):
        answer = GUARD.decide(with_header(good, "Host", *hosts))

        assert isinstance(answer, Answer)
        assert answer.status == 403, hosts
        assert "address" in answer.message
    assert GUARD.decide(request_of(headed(host="aws:4566"))) is None


@pytest.mark.parametrize("method", ["GET", "PUT", "POST", "DELETE", "OPTIONS"])
def test_other_origins(method: str) -> None:
    """A page of another origin gets nothing, even if it signs with the right keys."""
    good = with_header(request_of(headed(method=method)), "Access-Control-Request-Method", "PUT")
    for origins in (
        ["http://evil.test"],
        ["null"],
        ["https://127.0.0.1:5000"],
        ["http://127.0.0.1:50000"],
        ["HTTP://127.0.0.1:5000"],
        [f"{PAGE}/"],
        [PAGE, "http://evil.test"],
        [PAGE, PAGE],
        [""],
        ["file://"],
    ):
        answer = GUARD.decide(with_header(good, "Origin", *origins))

        assert isinstance(answer, Answer)
        assert answer.status == 403, origins
        assert "origin" in answer.message
        assert GUARD.allowed_origin(with_header(good, "Origin", *origins)) == ""
    assert GUARD.decide(with_header(good, "Origin", PAGE)) is None


def test_preflights_of_the_page() -> None:
    """A browser does not sign preflights. Those of the page pass, but only if they are really preflights."""
    bare = Request("OPTIONS", b"/bucket/key", b"", [(b"Host", HOST.encode())])
    page = with_header(bare, "Origin", PAGE)
    preflight = with_header(page, "Access-Control-Request-Method", "PUT")

    assert GUARD.decide(preflight) is None
    assert code(GUARD.decide(page)) == "AccessDenied"
    assert code(GUARD.decide(with_header(bare, "Access-Control-Request-Method", "PUT"))) == "AccessDenied"
    assert code(GUARD.decide(changed(preflight, method="PUT"))) == "AccessDenied"


@pytest.mark.parametrize(
    "path",
    [
        "/_ministack/reset",
        "/_ministack/config",
        "/_localstack/health",
        "/_aws/execute-api/x",
        "/_emulator/permissions",
        "/_alb/x",
        "/%5fministack/reset",
        "/%5F%6Dinistack/reset",
        "//_ministack/reset",
        "/%2f_ministack/reset",
        "/health",
        "/health/",
        "/_guard/other",
    ],
)
def test_administration(path: str) -> None:
    """The emulators' own endpoints are closed, however they are written, and to the owner of the keys too."""
    answer = GUARD.decide(request_of(headed(path, method="POST")))

    assert isinstance(answer, Answer)
    assert (answer.status, answer.code) == (403, "AccessDenied")
    assert "administration" in answer.message


@pytest.mark.parametrize("key", ["_ministack/reset", "health", "../_x", "a/_localstack/b"])
def test_keys_like_administration(key: str) -> None:
    """An object may have any name: only the first segment of a path decides whether it is administration."""
    assert GUARD.decide(request_of(headed(f"/bucket/{key}"))) is None


def test_readiness_says_nothing_else() -> None:
    """A health check gets 204 or 503 without a body; foreign pages and hosts are refused."""
    asked = Request("GET", READY.encode(), b"", [(b"Host", HOST.encode())])
    waiting = Guard(GUARD.hosts, GUARD.origins, SECRETS.get, is_ready=lambda: False)

    assert GUARD.decide(asked) == Answer(204)
    assert waiting.decide(asked) == Answer(503)
    assert Answer(503).body == b""
    assert code(GUARD.decide(with_header(asked, "Origin", "http://evil.test"))) == "AccessDenied"
    assert code(GUARD.decide(with_header(asked, "Host", "evil.test"))) == "AccessDenied"
    assert code(GUARD.decide(changed(asked, method="POST"))) == "AccessDenied"


def test_targets_that_are_no_path() -> None:
    """The absolute form (RFC 9112, section 3.2.2) and `*` could mean another address than Host does."""
    good = request_of(headed())
    for target in (b"http://evil.test/bucket/key", b"*", b"bucket/key", b""):
        assert code(GUARD.decide(changed(good, path=target))) == "InvalidRequest"


def wrong_key() -> Request:
    return request_of(headed(credentials=Credentials("test", "test")))


def wrong_secret() -> Request:
    return request_of(headed(credentials=Credentials("known", "test")))


def wrong_secret_in_url() -> Request:
    return request_of(presigned(credentials=Credentials("known", "test")))


def no_session_token() -> Request:
    return request_of(headed(credentials=Credentials("session", "another")))


def token_of_another() -> Request:
    return request_of(headed(credentials=Credentials("session", "another", "other")))


def other_method() -> Request:
    return changed(request_of(presigned()), method="DELETE")


def other_path() -> Request:
    return changed(request_of(presigned()), path=b"/bucket/other")


def more_query() -> Request:
    good = request_of(presigned())
    return changed(good, query=good.query + b"&versionId=1")


def longer_life() -> Request:
    good = request_of(presigned())
    return changed(good, query=good.query.replace(b"Expires=60", b"Expires=61"))


def no_signature() -> Request:
    good = request_of(presigned())
    return changed(good, query=b"&".join(one for one in good.query.split(b"&") if b"Signature" not in one))


def unsigned_header() -> Request:
    return with_header(request_of(presigned(method="PUT")), "x-amz-copy-source", "/bucket/secret")


def unsigned_target() -> Request:
    return with_header(request_of(headed()), "X-Amz-Target", "AmazonEC2ContainerServiceV20141113.RunTask")


def two_signatures() -> Request:
    good = request_of(presigned())
    return with_header(good, "Authorization", "AWS4-HMAC-SHA256 Credential=x")


def version_2() -> Request:
    signed = AWSRequest("GET", f"http://{HOST}/bucket/key")
    HmacV1QueryAuth(KNOWN, expires=60).add_auth(signed)
    return request_of(signed)


def other_service() -> Request:
    signed = AWSRequest("POST", f"http://{HOST}/", data=b"Action=ListUsers")
    SigV4Auth(KNOWN, "iam", "us-east-1").add_auth(signed)
    return request_of(signed)


def other_address_signed() -> Request:
    return with_header(request_of(headed(host="aws:4566")), "Host", HOST)


def basic() -> Request:
    return with_header(request_of(headed()), "Authorization", "Basic a25vd246YSBzZWNyZXQ=")


def twice() -> Request:
    good = request_of(headed())
    return with_header(good, "Authorization", *good.values("authorization") * 2)


def nothing() -> Request:
    return Request("DELETE", b"/bucket/key", b"", [(b"Host", HOST.encode())])


FORGED: dict[Callable[[], Request], str] = {
    wrong_key: "InvalidAccessKeyId",
    wrong_secret: "SignatureDoesNotMatch",
    wrong_secret_in_url: "SignatureDoesNotMatch",
    no_session_token: "InvalidToken",
    token_of_another: "InvalidToken",
    other_method: "SignatureDoesNotMatch",
    other_path: "SignatureDoesNotMatch",
    more_query: "SignatureDoesNotMatch",
    longer_life: "SignatureDoesNotMatch",
    no_signature: "SignatureDoesNotMatch",
    unsigned_header: "AccessDenied",
    unsigned_target: "AccessDenied",
    two_signatures: "InvalidArgument",
    version_2: "InvalidRequest",
    other_service: "AccessDenied",
    other_address_signed: "SignatureDoesNotMatch",
    basic: "InvalidRequest",
    twice: "InvalidRequest",
    nothing: "AccessDenied",
}


@pytest.mark.parametrize("forged", FORGED, ids=lambda one: one.__name__)
def test_forged(forged: Callable[[], Request]) -> None:
    """A request without a valid signature is refused with S3's codes, which clients show."""
    assert code(GUARD.decide(forged())) == FORGED[forged]


def test_the_clock() -> None:
    """A signature in a header is valid for 15 minutes, one in a URL as long as the URL says."""
    now = datetime.now(UTC)

    def at(**later: int) -> Guard:
        return Guard(GUARD.hosts, GUARD.origins, SECRETS.get, now=lambda: now + timedelta(**later))

    request, url = request_of(headed()), request_of(presigned(seconds=3600))

    assert at(minutes=14).decide(request) is None
    assert code(at(minutes=16).decide(request)) == "RequestTimeTooSkewed"
    assert code(at(minutes=-16).decide(request)) == "RequestTimeTooSkewed"
    assert at(minutes=59).decide(url) is None
    assert code(at(minutes=61).decide(url)) == "AccessDenied"
    assert code(GUARD.decide(request_of(presigned(seconds=604_801)))) == "AuthorizationQueryParametersError"


def test_calls_of_other_services_are_signed_with_their_body() -> None:
    """Where other services than S3 are emulated, the body's own hash is what must be signed."""
    for path in ("/", "/2015-03-31/functions/a%20b/"):
        signed = AWSRequest("POST", f"http://{HOST}{path}", data=b"Action=ListUsers")
        SigV4Auth(KNOWN, "iam", "us-east-1").add_auth(signed)
        request = request_of(signed)

        assert ALL_SERVICES.decide(request) is Wanted.BODY
        assert ALL_SERVICES.decide_body(request, Wanted.BODY, b"Action=ListUsers", whole=True) is None
        other = ALL_SERVICES.decide_body(request, Wanted.BODY, b"Action=DeleteUser", whole=True)
        assert code(other) == "SignatureDoesNotMatch"
        part = ALL_SERVICES.decide_body(request, Wanted.BODY, b"Action=ListUsers", whole=False)
        assert code(part) == "EntityTooLarge"


# --- forms


BOUNDARY = "a-boundary"


def form(
    credentials: Credentials = KNOWN, *, seconds: int = 60, **more: str
) -> tuple[Request, list[tuple[str, str]]]:
    """A signed form for `key`, as `generate_presigned_post` makes it, and the request that carries it."""
    until = (datetime.now(UTC) + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")
    signed = AWSRequest("POST", f"http://{HOST}/bucket")
    signed.context["s3-presign-post-fields"] = {}
    signed.context["s3-presign-post-policy"] = {"expiration": until, "conditions": [{"key": "key"}]}
    S3SigV4PostAuth(credentials, "s3", "eu-west-1").add_auth(signed)
    fields = {**signed.context["s3-presign-post-fields"], "key": "key", **more}
    content = ("Content-Type", f"multipart/form-data; boundary={BOUNDARY}")
    headers = [(name.encode(), value.encode()) for name, value in (("Host", HOST), content)]
    return Request("POST", b"/bucket", b"", headers), list(fields.items())


def encoded(fields: list[tuple[str, str]], *, file: bytes = b"data") -> bytes:
    lines = b"".join(
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
        for name, value in fields
    )
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n'.encode()
    return lines + head + file + f"\r\n--{BOUNDARY}--\r\n".encode()


def decided(request: Request, body: bytes) -> Answer | Wanted | None:
    wanted = GUARD.decide(request)
    if not isinstance(wanted, Wanted):
        return wanted
    return GUARD.decide_body(request, wanted, body[:wanted], whole=len(body) < wanted)


@pytest.mark.parametrize("credentials", [KNOWN, SESSION], ids=["key", "session"])
def test_signed_forms_pass(credentials: Credentials) -> None:
    """A signed form passes, with a small file and with one that is larger than what is looked at."""
    for file in (b"", b"data", b"x" * 2 * Wanted.FORM):
        request, fields = form(credentials)

        assert GUARD.decide(request) is Wanted.FORM
        assert decided(request, encoded(fields, file=file)) is None


def test_forged_forms() -> None:
    """A form without a valid signature is refused, and so is one whose fields cannot be parsed."""
    request, fields = form()
    names = [name for name, _ in fields]
    for name in ("policy", "x-amz-signature", "x-amz-credential", "x-amz-date", "x-amz-algorithm"):
        code(decided(request, encoded([one for one in fields if one[0] != name])))
        code(decided(request, encoded([*fields, fields[names.index(name)]])))
        code(decided(request, encoded([(key, "0" if key == name else value) for key, value in fields])))
    for credentials, expected in (
        (Credentials("test", "test"), "InvalidAccessKeyId"),
        (Credentials("known", "test"), "SignatureDoesNotMatch"),
        (Credentials("session", "another"), "InvalidToken"),
    ):
        other, forged = form(credentials)
        assert code(decided(other, encoded(forged))) == expected
    late, expired = form(seconds=-1)
    assert code(decided(late, encoded(expired))) == "AccessDenied"
    long = encoded([("x-ignore-me", "x" * Wanted.FORM), *fields])
    assert code(decided(request, long)) == "MalformedPOSTRequest"
    assert code(decided(request, b"")) == "MalformedPOSTRequest"
    assert code(decided(with_header(request, "Content-Type", "multipart/form-data"), encoded(fields)))


def test_a_policy_without_an_end() -> None:
    """A policy that was signed but never expires, or is no policy, is refused."""
    endless: list[Any] = [{}, [], "x", *({"expiration": end} for end in (1, "soon", "2099-01-01T00:00:00"))]
    for policy in endless:
        signed = AWSRequest("POST", f"http://{HOST}/bucket")
        signed.context["s3-presign-post-fields"] = {}
        signed.context["s3-presign-post-policy"] = {"conditions": []}
        S3SigV4PostAuth(KNOWN, "s3", "eu-west-1").add_auth(signed)
        fields = dict(signed.context["s3-presign-post-fields"])
        fields["policy"] = base64.b64encode(json.dumps(policy).encode()).decode()
        signer = S3SigV4PostAuth(KNOWN, "s3", "eu-west-1")
        signed.context["timestamp"] = fields["x-amz-date"]
        fields["x-amz-signature"] = signer.signature(fields["policy"], signed)
        request, _ = form()

        assert code(decided(request, encoded(list(fields.items())))) == "InvalidPolicyDocument"


@pytest.mark.parametrize(
    "change",
    [
        {"path": b"/bucket/key"},
        {"path": b"/bucket/key/", "query": b"uploads"},
        {"query": b"delete"},
        {"method": "PUT"},
    ],
)
def test_forms_mean_nothing_else(change: dict[str, Any]) -> None:
    """A signed form is a signature for the upload of a form, and for no other call."""
    request, fields = form()

    assert code(decided(changed(request, **change), encoded(fields))) == "AccessDenied"
    assert code(decided(with_header(request, "X-Amz-Target", "x"), encoded(fields))) == "AccessDenied"


def test_a_form_is_a_call_of_s3() -> None:
    """An emulator without S3 takes no form, also with a valid signature: it could be another call there."""
    request, _ = form()
    without_s3 = Guard(frozenset({HOST}), frozenset(), SECRETS.get, services=frozenset({"ecs", "logs"}))

    assert code(without_s3.decide(request)) == "AccessDenied"
    assert ALL_SERVICES.decide(request) is Wanted.FORM


# --- any bytes at all

AUTHORIZATION = (
    b"AWS4-HMAC-SHA256 Credential=known/20260101/eu-west-1/s3/aws4_request, "
    b"SignedHeaders=host;x-amz-date;x-amz-content-sha256, Signature=00"
)
PART = b'--b\r\nContent-Disposition: form-data; name="'
TEXT = st.binary(max_size=40)
NAMES = st.sampled_from(
    [
        b"Host",
        b"Origin",
        b"Authorization",
        b"X-Amz-Date",
        b"x-amz-content-sha256",
        b"x-amz-security-token",
        b"Content-Type",
        b"Access-Control-Request-Method",
    ]
)
VALUES = st.one_of(
    TEXT,
    st.sampled_from(
        [
            HOST.encode(),
            PAGE.encode(),
            b"multipart/form-data; boundary=b",
            b"20260101T000000Z",
            AUTHORIZATION,
        ]
    ),
)
QUERIES = st.one_of(
    TEXT,
    st.lists(
        st.tuples(
            st.sampled_from(
                [b"X-Amz-Algorithm", b"X-Amz-Credential", b"X-Amz-Date", b"X-Amz-Expires", b"X-Amz-Signature"]
            ),
            st.one_of(TEXT, st.sampled_from([b"AWS4-HMAC-SHA256", b"known/1/2/s3/aws4_request", b"60"])),
        ).map(b"=".join)
    ).map(b"&".join),
)


@given(
    method=st.sampled_from(["GET", "PUT", "POST", "DELETE", "HEAD"]),
    path=st.one_of(TEXT, TEXT.map(lambda rest: b"/" + rest)),
    query=QUERIES,
    headers=st.lists(st.tuples(st.one_of(NAMES, TEXT), VALUES), max_size=8).map(
        lambda some: [(b"Host", HOST.encode()), *(one for one in some if one[0] != b"Host")]
    ),
    body=st.one_of(TEXT, st.binary().map(lambda rest: PART + rest)),
)
@example("GET", b"/\xff", b"X-Amz-Date=\xff", [(b"Host", HOST.encode()), (b"Authorization", b"\xff")], b"")
def test_any_bytes(
    method: str, path: bytes, query: bytes, headers: list[tuple[bytes, bytes]], body: bytes
) -> None:
    """The guard decides about any bytes without an error, and nothing unsigned passes."""
    request = Request(method, path, query, headers)
    decision = GUARD.decide(request)
    if isinstance(decision, Wanted):
        decision = GUARD.decide_body(request, decision, body, whole=True)

    assert isinstance(decision, Answer)
    assert decision.status == 204 or 400 <= decision.status < 500
    assert b"a secret" not in decision.body


@given(data=st.data())
def test_any_change_of_a_signed_request(data: st.DataObject) -> None:
    """A signed request does not pass with another byte in path or query, unless it means the same."""
    good = request_of(presigned("/bucket/some%20key?versionId=1"))
    part = data.draw(st.sampled_from(["path", "query"]))
    value = bytearray(getattr(good, part))
    value[data.draw(st.integers(0, len(value) - 1))] = data.draw(st.integers(0, 255))
    other = changed(good, **{part: bytes(value)})
    same = (other.path, sorted(other.parameters)) == (good.path, sorted(good.parameters))

    assert same or isinstance(GUARD.decide(other), Answer)


# --- what pages may read


def test_answers_for_pages() -> None:
    """Only the page of the allowed origin can read an answer, whatever the emulator sends."""
    any_page = [("access-control-allow-origin", "*"), ("access-control-max-age", "9"), ("ETag", "x")]
    other = [("Access-Control-Allow-Origin", "http://evil.test"), ("ETag", "x")]

    assert cross_origin(any_page, "") == [("ETag", "x")]
    assert cross_origin(other, PAGE) == [("ETag", "x")]
    assert ("Access-Control-Allow-Origin", PAGE) in cross_origin(any_page, PAGE)
    assert ("Access-Control-Allow-Origin", "*") not in cross_origin(any_page, PAGE)
    assert cross_origin([], PAGE) == []
    assert cross_origin([], PAGE, always=True) == [("Access-Control-Allow-Origin", PAGE), ("Vary", "Origin")]


# --- the keys


def test_the_file_of_keys_is_one_of_aws_tools(tmp_path: Any) -> None:
    """The file has everything that boto3 and the AWS CLI need, and makes them presign with version 4."""
    keys = installed(tmp_path)
    session = botocore.session.Session()
    session.set_config_variable("credentials_file", str(tmp_path / "credentials"))
    client: Any = session.create_client("s3", endpoint_url=f"http://{HOST}")
    url = client.generate_presigned_url("get_object", {"Bucket": "bucket", "Key": "key"})
    guard = Guard(frozenset({HOST}), frozenset(), keys.secret_of)

    assert guard.decide(request_of(AWSRequest("GET", url))) is None
    assert "%2Feu-west-1%2Fs3%2F" in url


def test_keys_are_made_once_for_their_owner_alone(tmp_path: Any) -> None:
    """Keys are random, kept, and private, also where an earlier version left the directory open."""
    directory = tmp_path / "keys"
    directory.mkdir(mode=0o755)
    first, again = installed(directory), installed(directory)
    other = installed(tmp_path / "other")
    modes = {path.name: path.stat().st_mode & 0o777 for path in directory.iterdir()}

    assert (first.access_key, first.secret.key) == (again.access_key, again.secret.key)
    assert first.secret.key != other.secret.key
    assert modes == {"credentials": 0o600, "signing_key": 0o600}
    assert directory.stat().st_mode & 0o777 == 0o700
    assert first.secret.key not in repr(first)
    assert first.secret_of(first.access_key) == first.secret
    assert first.secret_of("test") is None


def test_a_key_is_private_before_it_is_written(tmp_path: Any) -> None:
    """The file has its mode before it has the key, so no other user can open it in between."""
    path = tmp_path / "signing_key"
    modes: list[int] = []

    def make() -> str:
        modes.extend(file.stat().st_mode & 0o777 for file in tmp_path.iterdir())
        return "key"

    assert _kept(path, make, None) == "key"
    assert modes == [0o600]
    assert list(tmp_path.iterdir()) == [path]
