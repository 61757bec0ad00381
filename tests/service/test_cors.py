"""CORS: which answers the page of another origin may read. https://fetch.spec.whatwg.org/#http-cors-protocol."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from flask.testing import FlaskClient
from werkzeug.routing import Rule

from deploy.environments import environment as deploy_environment
from deploy.steps import Failed
from s3api import bucket, cors
from s3api.app import create_app
from s3api.settings import Settings, SettingsError
from support.memory_store import MemoryStore
from support.raw_client import Answer, RawClient
from support.servers import ROOT, S3, Service
from support.stores import put, settings_for

LISTED, OTHER = "https://app.example", "https://evil.example"
MakeClient = Callable[..., FlaskClient]


def path_of(rule: Rule) -> str:
    return re.sub(r"<[^>]+>", "x", rule.rule)


def rules() -> list[Rule]:
    app = create_app(settings_for(Path("unused")), MemoryStore())
    return list(app.url_map.iter_rules())


def methods_by_path() -> Mapping[str, set[str]]:
    found: dict[str, set[str]] = {}
    for rule in rules():
        found.setdefault(path_of(rule), set()).update(rule.methods or ())
    return found


def words(value: str | None) -> set[str]:
    return set(re.split(r", *", value)) if value else set()


@pytest.fixture(scope="module")
def service(ministack_s3: S3, make_service: Callable[..., Service]) -> Service:
    """A service that needs a token, which no preflight has."""
    bucket_name = ministack_s3.make_bucket("day02-cors")
    return make_service(
        ministack_s3, bucket_name, cors_origins=f"{LISTED} http://b.example:81", allow_anonymous="false"
    )


def ask(service: Service, method: str, path: str, **headers: object) -> Answer:
    with RawClient(service.url) as client:
        client.begin(method, path, Connection="close", **headers)
        return client.answer()


# --- preflights


def test_every_route_and_method_has_a_preflight(service: Service) -> None:
    """Over a socket, without a token: the answer names the methods of the route, and is kept for two hours.

    Fetch standard, "CORS-preflight fetch": the status must be ok, the method must be among the allowed ones,
    and `*` among the allowed headers does not cover Authorization.
    """
    for path, methods in methods_by_path().items():
        for method in methods:
            answer = ask(
                service,
                "OPTIONS",
                path,
                Origin=LISTED,
                Access_Control_Request_Method=method,
                Access_Control_Request_Headers="authorization,content-type,if-none-match",
            )
            assert (answer.status, answer.body) == (204, b""), (method, path)
            assert method in words(answer.headers["Access-Control-Allow-Methods"])
            assert words(answer.headers["Access-Control-Allow-Methods"]) == methods
            assert words(answer.headers["Access-Control-Allow-Headers"]) == {"*", "Authorization"}
            assert answer.headers["Access-Control-Allow-Origin"] == LISTED
            assert answer.headers["Access-Control-Max-Age"] == "7200"
            assert "Origin" in words(answer.headers["Vary"])
            assert "Access-Control-Allow-Credentials" not in answer.headers


@pytest.mark.parametrize(
    ("headers", "path", "status"),
    [
        ({"Origin": OTHER, "Access-Control-Request-Method": "PUT"}, "/upload/a", 405),
        ({"Origin": "null", "Access-Control-Request-Method": "PUT"}, "/upload/a", 405),
        ({"Origin": LISTED.upper(), "Access-Control-Request-Method": "PUT"}, "/upload/a", 405),
        ({"Origin": f"{LISTED}:8443", "Access-Control-Request-Method": "PUT"}, "/upload/a", 405),
        ({"Origin": f"{LISTED}.evil.example", "Access-Control-Request-Method": "PUT"}, "/upload/a", 405),
        ({"Access-Control-Request-Method": "PUT"}, "/upload/a", 405),
        ({"Origin": LISTED}, "/upload/a", 405),
        ({"Origin": LISTED, "Access-Control-Request-Method": "GET"}, "/nothing", 404),
    ],
)
def test_other_requests_with_options_are_no_preflights(
    make_client: MakeClient, headers: Mapping[str, str], path: str, status: int
) -> None:
    """Another origin, no origin, no method that is asked for, or nothing at the URL: answered as before."""
    answer = make_client(cors_origins=[LISTED]).options(path, headers=headers)

    assert answer.status_code == status
    assert "Access-Control-Allow-Methods" not in answer.headers
    assert ("Access-Control-Allow-Origin" in answer.headers) == (headers.get("Origin") == LISTED)


def test_a_preflight_of_an_unknown_host_is_refused(make_client: MakeClient) -> None:
    """DNS rebinding: the host is checked first, as for every request."""
    client = make_client(cors_origins=[LISTED])
    asked = {"Origin": LISTED, "Access-Control-Request-Method": "GET", "Host": "evil.example"}

    assert client.options("/list_files", headers=asked).status_code == 421


# --- answers


def test_the_answers_to_a_listed_origin_can_be_read(make_client: MakeClient, store: MemoryStore) -> None:
    """Success, every kind of refusal, a redirect, a 304 and a stream: each names the origin, once."""
    put(store, "a")
    client = make_client(cors_origins=[LISTED], max_file_bytes=10)
    etag = client.get("/files/a").headers["ETag"]
    origin = {"Origin": LISTED}
    answers = {
        200: client.get("/list_files", headers=origin),
        302: client.get("/download/a?redirect=true", headers=origin),
        304: client.get("/files/a", headers={**origin, "If-None-Match": etag}),
        400: client.get("/list_files?limit=0", headers=origin),
        401: client.get("/list_files", headers={**origin, "Authorization": "Bearer wrong"}),
        404: client.get("/files/missing", headers=origin),
        405: client.delete("/list_files", headers=origin),
        413: client.put("/upload/b", headers=origin, data=b"more than ten bytes"),
        415: client.post("/uploads", headers={**origin, "Content-Type": "text/plain"}, data=b"{}"),
        421: client.get("/list_files", headers={**origin, "Host": "evil.example"}),
    }
    stream = client.get("/list_files", headers={**origin, "Accept": "application/x-ndjson"})

    assert {status: answer.status_code for status, answer in answers.items()} == {one: one for one in answers}
    for answer in (*answers.values(), stream):
        assert answer.headers.getlist("Access-Control-Allow-Origin") == [LISTED], answer.status_code
        assert words(answer.headers["Access-Control-Expose-Headers"]) == set(cors.EXPOSED)
        assert "Origin" in words(answer.headers["Vary"])
        assert "Access-Control-Allow-Credentials" not in answer.headers
    assert words(stream.headers["Vary"]) == {"Accept", "Origin"}


def test_the_answers_to_others_say_that_they_depend_on_the_origin(make_client: MakeClient) -> None:
    """Fetch standard, "CORS protocol and HTTP caches": Vary, also if the origin is missing or another one."""
    client = make_client(cors_origins=[LISTED])
    for headers in ({}, {"Origin": OTHER}, {"Origin": f"{LISTED}, {OTHER}"}, {"Origin": "null"}):
        answer = client.get("/", headers=headers)

        assert words(answer.headers["Vary"]) == {"Origin"}
        assert not [name for name, _ in answer.headers if name.startswith("Access-Control-")]


def test_without_the_setting_no_answer_mentions_cors(client: FlaskClient) -> None:
    """Off by default: a preflight is 405, and no answer depends on the origin."""
    asked = {"Origin": LISTED, "Access-Control-Request-Method": "GET"}
    for answer in (client.options("/list_files", headers=asked), client.get("/", headers={"Origin": LISTED})):
        assert not [name for name, _ in answer.headers if name.startswith("Access-Control-")]
        assert "Origin" not in words(answer.headers.get("Vary"))
    assert client.options("/list_files", headers=asked).status_code == 405


def test_without_the_setting_no_request_does_work_for_cors(make_client: MakeClient) -> None:
    """Not one function more runs before or after a request."""
    counts = [
        [len(functions[None]) for functions in (app.before_request_funcs, app.after_request_funcs)]
        for app in (make_client().application, make_client(cors_origins=[LISTED]).application)
    ]

    assert counts[1] == [one + 1 for one in counts[0]]


def test_a_listed_page_may_also_change_files(make_client: MakeClient, store: MemoryStore) -> None:
    """CORS_ORIGINS includes what ALLOWED_ORIGINS permits: a service without tokens serves the page."""
    put(store, "a")
    client = make_client(cors_origins=[LISTED])

    assert client.delete("/delete/a", headers={"Origin": OTHER}).status_code == 403
    assert client.delete("/delete/a", headers={"Origin": LISTED}).status_code == 200


def test_every_header_of_the_contract_is_exposed(make_client: MakeClient, store: MemoryStore) -> None:
    """Each header that the OpenAPI document or a read answers with is exposed, or readable by every page.

    The others are for the browser itself. https://fetch.spec.whatwg.org/#cors-safelisted-response-header-name
    """
    document = json.loads((ROOT / "services" / "s3api" / "static" / "openapi.json").read_text())
    documented = {
        header
        for operations in document["paths"].values()
        for operation in operations.values()
        for response in operation["responses"].values()
        for header in response.get("headers", ())
    }
    put(store, "a")
    client = make_client(cors_origins=[LISTED])
    reads = client.get("/files/a", headers={"Range": "bytes=0-1", "Origin": LISTED}).headers.keys()
    safe = ("Cache-Control", "Content-Length", "Content-Type", "Last-Modified")
    for_browsers = {"Content-Security-Policy", "Cross-Origin-Resource-Policy", "Vary"}
    for_browsers |= {"X-Content-Type-Options", "X-Frame-Options"}
    cors_itself = {"Access-Control-Allow-Origin", "Access-Control-Expose-Headers"}

    left = (documented | set(reads)) - {*safe, *cors.EXPOSED} - for_browsers - cors_itself

    assert left == set()


# --- configuration


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("*", "a wildcard would let every web page use the service"),
        ("https://*.app.example", "a wildcard would let every web page use the service"),
        ("null", "the origin of every sandboxed page"),
        ("https://app.example/", "without a slash at the end"),
        ("https://app.example/path", "without a path"),
        ("app.example", "a scheme, a host"),
        ("ftp://app.example", "a scheme, a host"),
        ("https://app.example:443", "the port 443, which browsers leave out"),
        ("http://app.example:80", "the port 80, which browsers leave out"),
        ("https://app.example:0", "a port if not the default"),
        ("https://app.example:65536", "a port if not the default"),
        ("https://café.example", "a scheme, a host"),
        ("https://a.example https://b.example/", "without a slash at the end"),
    ],
)
def test_what_is_no_origin_stops_the_start(monkeypatch: pytest.MonkeyPatch, value: str, reason: str) -> None:
    """An origin that no browser sends would never match: the start and `make bucket` say what is wrong."""
    monkeypatch.setenv("BUCKET", "day02-a")
    monkeypatch.setenv("SIGNING_KEY", "x" * 32)
    monkeypatch.setenv("CORS_ORIGINS", value)
    with pytest.raises(SettingsError) as caught:
        Settings.from_environment()
    with pytest.raises(Failed, match=re.escape(reason)):
        deploy_environment("day02", {"CORS_ORIGINS": value})

    assert "  CORS_ORIGINS" in str(caught.value)
    assert reason in str(caught.value)
    assert "app.example" not in str(caught.value)


def test_the_bucket_gets_the_same_origins(ministack_s3: S3, bucket_name: str) -> None:
    """`make bucket` reads CORS_ORIGINS as the service does; on the emulated AWS, its own page stays."""
    value = "https://App.example, http://[::1]:81"
    aws = deploy_environment("prod", {"CORS_ORIGINS": value})
    emulated = deploy_environment("local", {"CORS_ORIGINS": value, "PORT": "5001"}).emulated
    assert emulated is not None
    s3 = ministack_s3.client()
    bucket.make(s3, bucket_name, "eu-west-1", emulated.origins)

    rules = s3.get_bucket_cors(Bucket=bucket_name)["CORSRules"]

    assert aws.pages == ["https://app.example", "http://[::1]:81"]
    assert deploy_environment("prod", {}).pages == []
    assert [rule["AllowedOrigins"] for rule in rules] == [
        ["http://127.0.0.1:5001", "http://localhost:5001", "https://app.example", "http://[::1]:81"]
    ]
