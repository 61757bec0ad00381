"""Upload links: what the holder of a URL may do without a token, and when the URL stops working.

The rules are those of decision 0050.
"""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

import jwt
import pytest
import requests
from botocore.exceptions import ClientError
from flask.testing import FlaskClient
from pydantic import SecretStr
from werkzeug.test import TestResponse

from s3api.app import create_app
from s3api.auth import new_token
from s3api.failures import FileError
from s3api.manage import entry_json
from s3api.s3_errors import _MEANINGS, S3Errors
from s3api.services import services_of
from s3api.settings import TokenEntry
from support.memory_store import MemoryStore
from support.raw_client import RawClient
from support.servers import S3, Service, need, until
from support.stores import put, settings_for

TOKEN, ENTRY = new_token("writer", frozenset({"write"}), "inbox/")
AUTHORIZED = {"Authorization": f"Bearer {TOKEN}"}
#: Werkzeug reads a body without a length only if its server says that the stream ends.
UNKNOWN_LENGTH = {"wsgi.input_terminated": True}
JWT_SECRET = "a secret of 32 characters or more"


def changed(**values: Any) -> TokenEntry:
    """The entry of the same token, with other rights."""
    return ENTRY.model_copy(update=values)


@pytest.fixture
def make(tmp_path: Path, store: MemoryStore) -> Callable[..., FlaskClient]:
    """A client of a task with these settings. All tasks share the signing key and the store."""

    def made(**values: Any) -> FlaskClient:
        given = {"allow_anonymous": False, "api_tokens": (ENTRY,), **values}
        return create_app(settings_for(tmp_path, **given), store).test_client()

    return made


@pytest.fixture
def client(make: Callable[..., FlaskClient]) -> FlaskClient:
    return make()


def create(client: FlaskClient, headers: dict[str, str] = AUTHORIZED, **terms: Any) -> TestResponse:
    return client.post("/upload_links", json=terms, headers=headers)


def link_to(client: FlaskClient, **terms: Any) -> str:
    """The path of a new link, as the service sees it."""
    answer = create(client, **terms)
    assert answer.status_code == 201, answer.text
    assert answer.json
    return f"/{answer.json['content']['path']}"


def code_of(answer: TestResponse) -> tuple[int, str]:
    assert answer.json
    return answer.status_code, answer.json["code"]


# --- what a link allows


def test_a_link_of_a_name_takes_that_file(client: FlaskClient, store: MemoryStore) -> None:
    """The holder uploads to the name of the link. The answer does not name the bucket."""
    link = link_to(client, name="inbox/report.csv")
    answer = client.put(link, data=b"a,b\n", headers={"Content-Language": "de"})

    assert answer.status_code == 200
    assert answer.json
    assert answer.json["content"][0]["name"] == "inbox/report.csv"
    assert store.bucket not in answer.text
    stored = store.objects["inbox/report.csv"]
    assert (stored.data, stored.content_type, stored.kept) == (
        b"a,b\n",
        "text/csv",
        {"Content-Language": "de"},
    )


def test_a_link_of_a_folder_takes_files_below_it(client: FlaskClient, store: MemoryStore) -> None:
    """The URL ends with a slash, so that `curl -T <file> <url>` adds the name of the file."""
    link = link_to(client, prefix="inbox/2026/")
    answers = [client.put(f"{link}{name}", data=b"x") for name in ("a.txt", "b%20c.txt", "photos/d.jpg")]

    assert link.endswith("/")
    assert [answer.status_code for answer in answers] == [200, 200, 200]
    assert set(store.objects) == {"inbox/2026/a.txt", "inbox/2026/b c.txt", "inbox/2026/photos/d.jpg"}


@pytest.mark.parametrize("name", ["../x", "a/../../x", "%2e%2e/x", "/x", "", "a%0ab", "..%2fx", "x" * 1024])
def test_no_name_leaves_the_folder(client: FlaskClient, store: MemoryStore, name: str) -> None:
    """A name that is not valid alone, or together with the folder, stores nothing."""
    answer = client.put(f"{link_to(client, prefix='inbox/')}{name}", data=b"x")

    assert answer.status_code in (400, 405)
    assert store.objects == {}


def test_a_link_replaces_no_file(client: FlaskClient, store: MemoryStore) -> None:
    """An existing file is 412, in a sentence for the holder, whatever the condition of the request."""
    put(store, "inbox/old", b"old")
    for link in (link_to(client, name="inbox/old"), f"{link_to(client, prefix='inbox/')}old"):
        answer = client.put(link, data=b"new")
        conditional = client.put(link, data=b"new", headers={"If-Match": "*"})

        assert code_of(answer) == (412, "file_exists")
        assert store.bucket not in answer.text
        assert conditional.status_code == 400
    assert store.objects["inbox/old"].data == b"old"


@pytest.mark.parametrize("code", sorted(_MEANINGS.keys() - {"304"}))
def test_no_failure_names_the_bucket(client: FlaskClient, store: MemoryStore, code: str) -> None:
    """Whatever S3 answers to an upload, the holder does not learn where its files go."""
    link = link_to(client, prefix="inbox/")
    errors = S3Errors(store.bucket, "eu-central-2", checks_owner=True)
    with pytest.raises(FileError) as failed, errors("put_object", "inbox/a"):
        raise ClientError({"Error": {"Code": code, "Message": ""}}, "PutObject")
    store.fails_with = failed.value
    answer = client.put(f"{link}a", data=b"x")

    assert answer.status_code >= 400
    assert code_of(answer)[1] == failed.value.code
    for secret in (store.bucket, "eu-central-2", "BUCKET_OWNER", "AWS_REGION"):
        assert secret not in answer.text


def test_a_link_with_overwrite_replaces_a_file(client: FlaskClient, store: MemoryStore) -> None:
    """Only the creator decides it. The holder can still ask not to replace."""
    put(store, "inbox/old", b"old")
    link = link_to(client, name="inbox/old", overwrite=True)

    assert code_of(client.put(link, data=b"new", headers={"If-None-Match": "*"})) == (412, "file_exists")
    assert client.put(link, data=b"new").status_code == 200
    assert store.objects["inbox/old"].data == b"new"


def test_a_link_allows_nothing_else(client: FlaskClient, store: MemoryStore) -> None:
    """A link is no token: it neither lists, reads, deletes nor makes links, and has no other method."""
    put(store, "inbox/old", b"old")
    link = link_to(client, prefix="inbox/")
    value = link.split("/")[2]
    bearer = {"Authorization": f"Bearer {value}"}

    for method in ("GET", "DELETE", "POST", "PATCH"):
        assert client.open(f"{link}old", method=method).status_code == 405, method
    for path in ("/list_files", "/files/inbox/old", "/download/inbox/old", "/whoami"):
        assert client.get(path, headers=bearer).status_code == 401
    assert create(client, bearer, prefix="inbox/").status_code == 401
    assert code_of(client.get(f"/uploads/{value}/parts", headers=AUTHORIZED)) == (404, "upload_not_found")


def test_a_link_says_what_it_allows(client: FlaskClient) -> None:
    """GET describes the link to its holder, with the values that the creator got."""
    made = create(client, prefix="inbox/", max_bytes=10, expires=600)
    assert made.json
    content = made.json["content"]
    told = client.get(f"/{content['path']}")

    assert told.json
    assert told.json["content"] == {
        "prefix": "inbox/",
        "max_bytes": 10,
        "overwrite": False,
        "expires_at": content["expires_at"],
    }
    assert content["url"] == f"http://localhost/{content['path']}"
    assert made.headers["Location"] == content["path"]
    ends = datetime.fromisoformat(content["expires_at"])
    assert timedelta(seconds=500) < ends - datetime.now(UTC) <= timedelta(seconds=600)


def test_the_wrong_kind_of_url_is_explained(client: FlaskClient) -> None:
    """A link of a folder needs a name after it, and a link of a file has none."""
    folder, file = link_to(client, prefix="inbox/"), link_to(client, name="inbox/a")

    for answer in (client.put(folder.rstrip("/"), data=b"x"), client.put(f"{file}/a", data=b"x")):
        assert code_of(answer) == (400, "bad_request")


@pytest.mark.parametrize(("overwrite", "read"), [(False, False), (True, True)])
def test_a_body_that_waits_is_not_read_in_vain(
    client: FlaskClient, store: MemoryStore, overwrite: bool, read: bool
) -> None:
    """With `Expect: 100-continue`, a client learns that the file exists before it sends the body: RFC 9110,
    section 10.1.1."""
    put(store, "inbox/old", b"old")
    link = link_to(client, name="inbox/old", overwrite=overwrite)
    sent = io.BytesIO(b"new")
    answer = client.put(link, input_stream=sent, headers={"Content-Length": "3", "Expect": "100-Continue"})

    assert answer.status_code == (200 if overwrite else 412)
    assert (sent.tell() == 3) is read


# --- the size


def test_a_file_above_the_size_is_refused(client: FlaskClient, store: MemoryStore) -> None:
    """`max_bytes` is the limit for each file: announced, and while a body of unknown length arrives."""
    link = link_to(client, prefix="inbox/", max_bytes=4)
    chunked = {"Transfer-Encoding": "chunked"}

    assert client.put(f"{link}fits", data=b"1234").status_code == 200
    assert code_of(client.put(f"{link}more", data=b"12345")) == (413, "file_too_large")
    unknown = client.put(
        f"{link}more", input_stream=io.BytesIO(b"12345"), headers=chunked, environ_base=UNKNOWN_LENGTH
    )
    assert code_of(unknown) == (413, "file_too_large")
    assert set(store.objects) == {"inbox/fits"}


def test_the_limit_of_the_service_is_that_of_a_link(make: Callable[..., FlaskClient]) -> None:
    """A link without `max_bytes` has the limit of the service, and `max_bytes` may be as large."""
    client = make(max_file_bytes=100)
    wanted: tuple[dict[str, Any], ...] = ({}, {"max_bytes": 100})
    for terms in wanted:
        made = create(client, name="inbox/a", **terms)
        assert made.json
        assert made.json["content"]["max_bytes"] == 100
    assert create(client, name="inbox/a", max_bytes=101).status_code == 400


def test_the_limit_of_the_service_counts_at_each_use(make: Callable[..., FlaskClient]) -> None:
    """A link that was created under a larger limit does not exceed the limit of now."""
    link = link_to(make(max_file_bytes=100), name="inbox/a", max_bytes=50)

    assert code_of(make(max_file_bytes=10).put(link, data=b"x" * 11)) == (413, "file_too_large")


# --- creating a link


@pytest.mark.parametrize(
    "terms",
    [
        {},
        {"name": "inbox/a", "prefix": "inbox/"},
        {"prefix": "inbox"},
        {"prefix": ""},
        {"prefix": "/"},
        {"prefix": "inbox/../"},
        {"prefix": "a\n/"},
        {"name": "inbox/"},
        {"name": "../a"},
        {"name": ""},
        {"prefix": "inbox/", "max_bytes": 0},
        {"prefix": "inbox/", "max_bytes": "5"},
        {"prefix": "inbox/", "max_bytes": 5 * 1024**3 + 1},
        {"prefix": "inbox/", "expires": 59},
        {"prefix": "inbox/", "expires": 604_801},
        {"prefix": "inbox/", "expires": True},
        {"prefix": "inbox/", "overwrite": "true"},
        {"prefix": "inbox/", "more": 1},
    ],
    ids=json.dumps,
)
def test_terms_that_are_not_valid_are_refused(client: FlaskClient, terms: dict[str, Any]) -> None:
    """A link has exactly one target, and limits within those of the service."""
    assert create(client, **terms).status_code == 400


def test_only_a_caller_who_may_write_there_creates_a_link(make: Callable[..., FlaskClient]) -> None:
    """The verb and the prefix of the token decide, as for an upload."""
    client = make()

    assert create(client, {}, prefix="inbox/").status_code == 401
    assert code_of(create(client, prefix="other/")) == (403, "forbidden")
    assert code_of(create(client, name="other")) == (403, "forbidden")
    reader = make(api_tokens=(changed(verbs=frozenset({"read", "list", "delete"})),))
    assert code_of(create(reader, prefix="inbox/")) == (403, "forbidden")


@pytest.mark.parametrize(
    ("wanted", "longest", "life"),
    [
        (None, 604_800, 86_400),
        (None, 86_399, 86_399),
        (60, 604_800, 60),
        (604_800, 604_800, 604_800),
    ],
)
def test_the_life_of_a_link(
    make: Callable[..., FlaskClient],
    monkeypatch: pytest.MonkeyPatch,
    wanted: int | None,
    longest: int,
    life: int,
) -> None:
    """It is a day if the request does not say it, and at most that of the service."""
    now = int(time.time())
    monkeypatch.setattr(time, "time", lambda: now + 0.5)
    made = create(make(max_upload_link_seconds=longest), name="inbox/a", expires=wanted)

    assert made.json
    ends = datetime.fromisoformat(made.json["content"]["expires_at"])
    assert ends == datetime.fromtimestamp(now + life, UTC)


def test_links_that_are_switched_off(make: Callable[..., FlaskClient]) -> None:
    """With a longest life of 0 no link is created, and the answer names the setting."""
    answer = create(make(max_upload_link_seconds=0), name="inbox/a")

    assert code_of(answer) == (403, "forbidden")
    assert "MAX_UPLOAD_LINK_SECONDS" in answer.text


# --- the end of a link


def test_a_link_expires(client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """After its time, every use is 410 and says so."""
    now = int(time.time())
    monkeypatch.setattr(time, "time", lambda: float(now))
    link = link_to(client, prefix="inbox/", expires=60)
    monkeypatch.setattr(time, "time", lambda: now + 59.9)
    assert client.put(f"{link}a", data=b"x").status_code == 200
    monkeypatch.setattr(time, "time", lambda: now + 60.0)

    for answer in (client.get(link), client.put(f"{link}a", data=b"x")):
        assert code_of(answer) == (410, "upload_link_gone")
        assert answer.json
        assert answer.json["message"] == "The upload link has expired; ask for a new link"


@pytest.mark.parametrize(
    "now",
    [
        {"api_tokens": (new_token("other", frozenset({"write"}), "")[1],)},
        {"api_tokens": (new_token("writer", frozenset({"write"}), "inbox/")[1],)},
        {"api_tokens": (changed(verbs=frozenset({"read"})),)},
        {"api_tokens": (changed(prefix="inbox/2026/"),)},
        {"api_tokens": (changed(expires=datetime(2020, 1, 1, tzinfo=UTC)),)},
        {"api_tokens": (), "allow_anonymous": True},
        {"max_upload_link_seconds": 0},
    ],
    ids=["removed", "renewed", "without-write", "narrower", "expired", "anonymous", "switched-off"],
)
def test_a_link_ends_with_the_rights_of_its_creator(
    make: Callable[..., FlaskClient], store: MemoryStore, now: dict[str, Any]
) -> None:
    """Each use looks for the creator's token, as it is configured then."""
    link = link_to(make(), prefix="inbox/")

    assert code_of(make(**now).put(f"{link}a", data=b"x")) == (410, "upload_link_gone")
    assert store.objects == {}
    assert make().put(f"{link}a", data=b"x").status_code == 200  # also of another task


def test_a_link_ends_when_the_file_of_tokens_changes(
    tmp_path: Path, make: Callable[..., FlaskClient]
) -> None:
    """A token that is removed from API_TOKENS_FILE ends its links without a restart (decision 0045)."""
    path = tmp_path / "tokens.json"
    path.write_text(f"[{entry_json(ENTRY)}]")
    client = make(api_tokens=(), api_tokens_file=path)
    link = link_to(client, prefix="inbox/")

    assert client.put(f"{link}a", data=b"x").status_code == 200
    path.write_text("[]  ")
    assert code_of(client.put(f"{link}b", data=b"x")) == (410, "upload_link_gone")


def test_a_link_ends_with_its_token_at_the_latest(make: Callable[..., FlaskClient]) -> None:
    """The answer tells it: `expires_at` is the end of the token, if that comes first."""
    end = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=90)
    made = create(make(api_tokens=(changed(expires=end),)), prefix="inbox/", expires=3600)

    assert made.json
    assert datetime.fromisoformat(made.json["content"]["expires_at"]) == end


def test_a_link_of_a_jwt_outlives_it(
    make: Callable[..., FlaskClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    """JWTs are valid for minutes. Their links end by themselves, or with the settings for JWTs."""
    settings = {"jwt_issuer": "me", "jwt_audience": "files", "jwt_secret": SecretStr(JWT_SECRET)}
    claims = {"iss": "me", "aud": "files", "sub": "u", "verbs": ["write"], "prefix": "inbox/"}
    token = jwt.encode({**claims, "exp": int(time.time()) + 60}, JWT_SECRET, "HS256")
    client = make(**settings)
    made = create(client, {"Authorization": f"Bearer {token}"}, prefix="inbox/", expires=7200)
    assert made.json
    link = f"/{made.json['content']['path']}"
    later = time.time() + 3600
    monkeypatch.setattr(time, "time", lambda: later)

    assert client.put(f"{link}a", data=b"x").status_code == 200
    assert code_of(make().put(f"{link}b", data=b"x")) == (410, "upload_link_gone")


def test_a_link_does_not_tell_who_a_jwt_is_for(
    make: Callable[..., FlaskClient], caplog: pytest.LogCaptureFixture
) -> None:
    """Every holder can read the signed terms, and the `sub` can be an address. The log has both names."""
    settings = {"jwt_issuer": "me", "jwt_audience": "files", "jwt_secret": SecretStr(JWT_SECRET)}
    client = make(**settings)
    creators = set()
    for number, subject in enumerate(("ann@example.org", "ann@example.org", "bob@example.org")):
        claims = {"iss": "me", "aud": "files", "sub": subject, "verbs": ["write"], "prefix": "inbox/"}
        token = jwt.encode({**claims, "exp": int(time.time()) + 60}, JWT_SECRET, "HS256")
        with caplog.at_level("INFO", "s3api"):
            made = create(client, {"Authorization": f"Bearer {token}"}, prefix="inbox/")
        assert made.json
        path = made.json["content"]["path"]
        terms = services_of(client.application).signer.read_upload_link(path.split("/")[1])[0]
        creators.add(terms[4])
        (fields,) = [one.fields for one in caplog.records if one.msg == "upload_link_created"]  # type: ignore[attr-defined]
        caplog.clear()

        assert "example" not in json.dumps(terms)
        assert fields["caller"] == f"jwt:{subject}"
        assert fields["link"] == f"upload_link:{terms[4]}"
        assert client.put(f"/{path}{number}", data=b"x").status_code == 200
    assert len(creators) == 2


def test_a_link_of_anonymous_ends_with_anonymous_access(make: Callable[..., FlaskClient]) -> None:
    """A configured token that is called "anonymous" does not keep it alive."""
    made = create(make(allow_anonymous=True, api_tokens=()), {}, prefix="inbox/")
    assert made.json
    link = f"/{made.json['content']['path']}"
    tokens = (changed(name="anonymous"),)

    assert code_of(make(api_tokens=tokens).put(f"{link}a", data=b"x")) == (410, "upload_link_gone")
    assert make(allow_anonymous=True).put(f"{link}a", data=b"x").status_code == 200


def test_a_smaller_longest_life_shortens_existing_links(
    make: Callable[..., FlaskClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    """So an operator can end old links without a new signing key."""
    now = 1_796_543_210
    monkeypatch.setattr(time, "time", lambda: float(now))
    link = link_to(make(), prefix="inbox/", expires=7200)
    shorter = make(max_upload_link_seconds=600)

    told = shorter.get(link).json
    assert told
    assert datetime.fromisoformat(told["content"]["expires_at"]) == datetime.fromtimestamp(now + 600, UTC)
    monkeypatch.setattr(time, "time", lambda: now + 600.0)
    assert code_of(shorter.put(f"{link}a", data=b"x")) == (410, "upload_link_gone")


@pytest.mark.parametrize("value", ["x", "a.b.c", "%ff", "x" * 4000], ids=["x", "dots", "bytes", "long"])
def test_a_link_that_was_not_signed_is_unknown(client: FlaskClient, value: str) -> None:
    """It is 404 or 400, and the answer does not repeat it."""
    answer = client.put(f"/upload_links/{value}/a", data=b"x")

    assert answer.status_code in (400, 404)
    assert value == "x" or value not in answer.text


def test_a_changed_link_and_other_signed_values_are_unknown(client: FlaskClient) -> None:
    """The signature covers the terms, and is not that of a cursor or of an upload id."""
    value = link_to(client, name="inbox/a").split("/")[2]
    payload, when, signature = value.rsplit(".", 2)
    upload = services_of(client.application).signer
    others = [f"{payload}x.{when}.{signature}", f"{payload}.{when}.{signature[:-4]}AAAA"]
    others.append(upload.cursor(["a"], "b"))

    for other in others:
        answer = client.put(f"/upload_links/{other}", data=b"x")
        assert code_of(answer) == (404, "upload_link_not_found")


def test_a_link_of_another_version_is_gone(client: FlaskClient) -> None:
    """A later version can change the terms. Its links are refused, and nothing fails."""
    value = services_of(client.application).signer.upload_link(["inbox/"])

    assert code_of(client.get(f"/upload_links/{value}/")) == (410, "upload_link_gone")


# --- web pages, and the secret


def test_a_foreign_page_may_not_use_a_link(make: Callable[..., FlaskClient]) -> None:
    """The rules for origins are those of every upload: CORS_ORIGINS allows a page."""
    origin = {"Origin": "https://app.example"}
    link = link_to(make(), prefix="inbox/")
    allowed = make(cors_origins=("https://app.example",))
    preflight = {**origin, "Access-Control-Request-Method": "PUT"}

    assert code_of(make().put(f"{link}a", data=b"x", headers=origin)) == (403, "forbidden")
    assert allowed.options(f"{link}a", headers=preflight).headers["Access-Control-Allow-Methods"] == "PUT"
    answer = allowed.put(f"{link}a", data=b"x", headers=origin)
    assert answer.headers["Access-Control-Allow-Origin"] == "https://app.example"
    assert answer.status_code == 200


def test_another_host_is_refused(make: Callable[..., FlaskClient]) -> None:
    """A page under another name of this machine could use a link otherwise (DNS rebinding)."""
    link = link_to(make(), prefix="inbox/")
    other = make(allowed_hosts=("files.example",), host="0.0.0.0")

    assert code_of(other.put(f"{link}a", data=b"x", headers={"Host": "evil.example"})) == (
        421,
        "unknown_host",
    )


def test_answers_keep_the_url_secret(client: FlaskClient) -> None:
    """No cache keeps an answer, and no request from it has the URL as its Referer."""
    link = link_to(client, prefix="inbox/")
    answers = [client.get(link), client.put(f"{link}a", data=b"x"), client.get("/upload_links/x")]

    for answer in [*answers, client.post(link)]:
        assert answer.headers["Referrer-Policy"] == "no-referrer"
        assert answer.headers["Cache-Control"] == "no-store"


HTML = {"Accept": "text/html"}


def test_a_browser_is_led_to_the_page(client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """The link of a file has no slash at its end. The page also explains a link that has expired."""
    link = link_to(client, name="inbox/a", expires=60)
    valid = client.get(link, headers=HTML)
    later = time.time() + 61
    monkeypatch.setattr(time, "time", lambda: later)
    expired = client.get(link, headers=HTML)

    for answer in (valid, expired):
        assert answer.status_code == 302
        assert urljoin(f"http://localhost{link}", answer.headers["Location"]) == f"http://localhost{link}/"
        assert answer.headers["Vary"] == "Accept"


@pytest.mark.parametrize(
    "segment",
    [
        *("https:evil.example", "http:evil.example", "mailto:a", "javascript:alert(1)", "..", "%2e%2e", "."),
        *("a%3Fb", "a%23b", "a%0d%0aX-Evil:%201", "%5cevil.example", "%e2%80%a8", "x"),
    ],
)
@pytest.mark.parametrize("slash", ["", "/"])
def test_a_browser_is_led_nowhere_by_what_is_no_link(client: FlaskClient, segment: str, slash: str) -> None:
    """A segment of the URL is no destination (CWE-601) and no header. RFC 3986, section 4.2: a first segment
    with a colon is a scheme."""
    answer = client.get(f"/upload_links/{segment}{slash}", headers=HTML)

    assert "Location" not in answer.headers
    assert answer.status_code == (200 if slash and answer.mimetype == "text/html" else 404)


@pytest.mark.parametrize("extra", ["%0d%0aX-Evil:%201", "%3F", "%23", "%5c"])
def test_a_signed_link_with_more_characters_keeps_its_redirect_valid(client: FlaskClient, extra: str) -> None:
    """Base64 ignores characters outside its alphabet, so a signature can be spelled in several ways."""
    link = link_to(client, name="inbox/a")
    answer = client.get(f"{link[:-5]}{extra}{link[-5:]}", headers=HTML)

    assert answer.status_code in (302, 404)
    assert "X-Evil" not in answer.headers
    followed = urlsplit(urljoin("http://localhost/upload_links/x", answer.headers.get("Location", "")))
    assert (followed.netloc, followed.query, followed.fragment) == ("localhost", "", "")


def test_the_url_has_the_host_and_the_path_of_the_proxy(make: Callable[..., FlaskClient]) -> None:
    """Behind a trusted proxy the URL is the one that clients can reach."""
    forwarded = {
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Host": "files.example",
        "X-Forwarded-Prefix": "/s3",
    }
    made = create(make(trusted_proxy_hops=1, host="0.0.0.0"), {**AUTHORIZED, **forwarded}, prefix="inbox/")

    assert made.json
    content = made.json["content"]
    assert content["url"] == f"https://files.example/s3/{content['path']}"


# --- the running service


@pytest.fixture(scope="module")
def service(seaweedfs_s3: S3, make_service: Callable[..., Service]) -> Service:
    bucket = seaweedfs_s3.make_bucket("day02-upload-links")
    return make_service(
        seaweedfs_s3, bucket, allow_anonymous="false", api_tokens=f"[{entry_json(ENTRY)}]", web_concurrency=2
    )


def made_by(service: Service, **terms: Any) -> str:
    answer = requests.post(f"{service.url}/upload_links", json=terms, headers=AUTHORIZED, timeout=60)
    assert answer.status_code == 201, answer.text
    url: str = answer.json()["content"]["url"]
    return url


def test_curl_uploads_by_a_link(service: Service, seaweedfs_s3: S3, tmp_path: Path) -> None:
    """`curl -T <file> <url>` works for both kinds of links, and a second time it is 412."""
    need(shutil.which("curl"), "this test needs curl")
    (tmp_path / "photo.jpg").write_bytes(b"jpg" * 1000)

    def curl(url: str) -> int:
        command = ["curl", "-sS", "-o", "answer", "-w", "%{http_code}", "-T", "photo.jpg", url]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True)
        return int(done.stdout)

    folder, name = made_by(service, prefix="inbox/curl/"), made_by(service, name="inbox/named.jpg")

    assert [curl(folder), curl(name), curl(folder), curl(name)] == [200, 200, 412, 412]
    assert {"inbox/curl/photo.jpg", "inbox/named.jpg"} <= set(seaweedfs_s3.keys("day02-upload-links"))


def test_the_size_is_refused_before_the_body_is_sent(service: Service) -> None:
    """With `Expect: 100-continue` a client never sends the body: RFC 9110, section 10.1.1."""
    url = made_by(service, name="inbox/large", max_bytes=1000)
    with RawClient(service.url) as client:
        client.begin("PUT", url.removeprefix(service.url), Content_Length="1001", Expect="100-continue")
        answer = client.answer()

    assert answer.status == 413


def test_a_link_is_never_in_the_log(service: Service) -> None:
    """A line has the name of the file and of the link's creator, but no part of the link."""
    folder = made_by(service, prefix="inbox/")
    value = folder.rstrip("/").rpartition("/")[2]
    paths = [
        ("PUT", f"/upload_links/{value}/logged.txt"),
        ("GET", f"/upload_links/{value}"),
        ("GET", f"/upload_links/{value}/"),
        ("DELETE", f"/upload_links/{value}/x"),
        ("GET", f"//upload_links//{value}/"),
        ("PUT", f"/UPLOAD_LINKS/{value[:-3]}/x"),
        ("PUT", f"/upload_links/{value[:-3]}/x"),
        ("GET", f"/upload_links%2f{value}"),
        ("GET", f"/files/{value}"),
    ]
    for method, path in paths:
        requests.request(method, f"{service.url}{path}", timeout=60)
    last = requests.get(f"{service.url}/whoami", timeout=60).headers["X-Request-Id"]
    until(lambda: last in service.log_path.read_text(), "the log has the requests")
    lines = [line for line in service.log_lines() if str(line.get("path", "")).endswith("/logged.txt")]

    assert value[:20] not in service.log_path.read_text()
    assert value.rpartition(".")[2][:20] not in service.log_path.read_text()
    assert [(line["path"], line["caller"], line["route"]) for line in lines] == [
        ("/upload_links/…/logged.txt", "upload_link:writer", "/upload_links/<link>/<name:name>")
    ]
