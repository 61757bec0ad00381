"""The OpenAPI document: true to the code in both directions, and to the running service under fuzzing."""

from __future__ import annotations

import base64
import json
import operator
import re
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import requests
import schemathesis
from click.testing import CliRunner
from hypothesis import strategies as st
from schemathesis.config import SchemathesisConfig

from s3api import headers, manage
from s3api.__main__ import main
from s3api.app import create_app
from s3api.auth import ALL_VERBS, hash_token, new_token
from s3api.file_store import PartPlan
from s3api.signed_values import Signer
from s3api.upload_links import Terms
from support.memory_store import MemoryStore
from support.servers import ROOT, S3, SIGNING_KEY, Service
from support.stores import settings_for

STATIC = ROOT / "services" / "s3api" / "static" / "openapi.json"
DOCUMENT: dict[str, Any] = json.loads(STATIC.read_text(encoding="utf-8"))
# The document does not describe itself, nor the pages for people.
UNDOCUMENTED = {"/openapi.json", "/docs", "/docs/{asset}", "/ui", "/ui/{asset}", "/upload_links/{link}/"}

TOKEN, ENTRY = new_token("fuzz", ALL_VERBS, "")
NAMES = ["a b.txt", "ü+(1).csv", "a//b", "emoji-😀/日本語", "100%25.txt"]
UPLOAD_ID = Signer(SIGNING_KEY).upload_id(PartPlan("a b.txt", "no-such-upload", 20 << 20, 8 << 20, "nonce"))
FINGERPRINT = hash_token(ENTRY.sha256)[:16]
LINKS = [
    Signer(SIGNING_KEY).upload_link(
        Terms(target, 1 << 20, True, int(time.time()) + 86_400, "fuzz", FINGERPRINT)
    )
    for target in ("fuzzed/", "fuzzed.txt")
]

# Statuses that answer data which the document allows. The first are the tool's own; an operation adds what a
# schema cannot know.
ANSWERS = ["2xx", "3xx", "401", "403", "404", "409"]


def _operation(path: str, *answers: str, **checks: dict[str, Any]) -> dict[str, Any]:
    accepted = {"expected-statuses": [*ANSWERS, *answers]}
    return {"include-path": path, "checks": {"positive_data_acceptance": accepted, **checks}}


schemathesis.serializer.alias("application/offset+octet-stream", "application/octet-stream")
schema = schemathesis.openapi.from_dict(
    DOCUMENT,
    config=SchemathesisConfig.from_dict(
        {
            "dictionaries": {
                "names": {"values": NAMES},
                "uploads": {"values": [UPLOAD_ID]},
                "links": {"values": LINKS},
            },
            "parameters": {
                "path.name": {"dictionary": "names", "probability": 0.5},
                "path.upload_id": {"dictionary": "uploads", "probability": 0.5},
                "path.link": {"dictionary": "links", "probability": 0.7},
            },
            "auth": {"openapi": {"bearer": {"bearer": TOKEN}}},
            "generation": {"mode": "all", "max-examples": 30, "deterministic": True},
            "operations": [
                # A cursor is what was given out, and is signed.
                _operation("/list_files", "400"),
                _operation("/versions", "400"),
                _operation("/versions/{name}", "400"),
                _operation("/restore", "400"),
                _operation("/copy/folder", "400"),
                _operation("/move/folder", "400"),
                # If-Match holds one ETag, and a source is not copied over itself.
                _operation("/copy", "400", "412"),
                _operation("/move", "400", "412"),
                _operation("/restore/{name}", "400", "412"),
                # The prefix and the file's own name make a name together; in a form everything is text, so
                # there is no wrong type of a field.
                _operation("/upload", "400", negative_data_rejection={"enabled": False}),
                # A digest must be that of the body, `If-None-Match: *` refuses a name that is taken, and a
                # coding may be one that is not kept.
                _operation("/upload/{name}", "400", "412", "415"),
                # An ETag may be another's, or none.
                _operation("/delete/{name}", "400", "412"),
                _operation("/uploads/{upload_id}/complete", "400", "412"),
                # A size may be above the limit, a media type may have two parameters of the same name, a
                # coding may be one that is not kept, and a part size may not fit.
                _operation("/uploads", "400", "413", "415"),
                # A part may be outside the plan.
                _operation("/uploads/{upload_id}/parts", "400"),
                # A prefix and names may be given together.
                _operation("/archive", "400"),
                # tus 1.0.0: another version is 412, also if the header is missing; unknown headers are not
                # refused, metadata must name a file, and bytes must have their checksum.
                *(
                    _operation(
                        path,
                        *("400", "410", "412", "413", "460"),
                        negative_data_rejection={"enabled": False},
                        missing_required_header={"enabled": False},
                    )
                    for path in ("/tus", "/tus/{upload_id}")
                ),
                # A link has a name or a prefix, and limits within those of the service.
                _operation("/upload_links", "400"),
                # As for a raw upload. A link of a folder has another URL than one of a file.
                _operation("/upload_links/{link}", "400", "412", "415"),
                _operation("/upload_links/{link}/{name}", "400", "412", "415"),
                # A condition may not hold, and a range may lie outside the file.
                _operation("/files/{name}", "412", "416"),
            ],
        }
    ),
)


@pytest.fixture(scope="module")
def fuzzed(ministack_s3: S3, make_service: Callable[..., Service]) -> Service:
    """A service that wants a token, so that what answers without one is found."""
    bucket = ministack_s3.make_bucket("day02-fuzzed", versioned=True)
    entries = f"[{manage.entry_json(ENTRY)}]"
    service = make_service(ministack_s3, bucket, api_tokens=entries, allow_anonymous=False)
    client = ministack_s3.client()
    for name in NAMES:
        client.put_object(Bucket=bucket, Key=name, Body=b"some bytes to read ranges of")
    return service


@schema.parametrize()
def test_operation_answers_as_its_document_says(case: schemathesis.Case[Any], fuzzed: Service) -> None:
    """Whatever is sent, right or wrong, the answer is one that the document describes, and never a 500."""
    response = case.call(base_url=fuzzed.url)

    assert response.status_code not in (500, 502, 503), response.text
    case.validate_response(response)


# --- the same operations, with headers and targets that the document does not describe

#: Dates in the calendar and outside it, in the three forms of RFC 9110, section 5.6.7, and in none.
DATES = st.one_of(
    st.builds(
        "{}, {:02d} {} {} {:02d}:{:02d}:{:02d} GMT".format,
        st.sampled_from(["Mon", "Sun", "mon", "Xyz"]),
        st.integers(0, 32),
        st.sampled_from(["Jan", "Feb", "Dec", "Foo"]),
        st.sampled_from(["0000", "0001", "1969", "1970", "2027", "9999", "10000", "99999999999"]),
        *(st.integers(0, 61),) * 3,
    ),
    st.builds("Monday, {:02d}-Jan-{:02d} 00:00:00 GMT".format, st.integers(0, 32), st.integers(0, 99)),
    st.builds("Mon Jan {:2d} 00:00:00 {:04d}".format, st.integers(0, 32), st.integers(0, 9999)),
    st.sampled_from(
        [
            *("9999999999", "-1", "1 Jan 9999999999 00:00:00", "Mon, 01 Jan 99999999999 00:00:00 GMT"),
            *("Mon, 01 Jan 2027 00:00:00 +9999999999999", "Fri, 31 Dec 9999 23:59:59 -2359"),
        ]
    ),
)
#: Header values; requests sends text as Latin-1.
TEXT = st.text(st.characters(min_codepoint=0x21, max_codepoint=0xFF, exclude_categories=["Cc"]), max_size=30)
NUMBERS = st.sampled_from(["", "0", "4", "28", "-1", "+1", "007", "9" * 18, "9" * 40, "9" * 5000, "x"])
TAGS = st.sampled_from(['"a"', 'W/"a"', "*", '"', "a", ',"a",,', '"ü"', '""', 'w/"a"', "W/*"])
DIGEST = base64.b64encode(bytes(32)).decode()
DIGESTS = st.sampled_from(
    [
        *(f"sha-256=:{DIGEST}:", f"SHA-256={DIGEST}", f"sha-512=:{DIGEST}:", f"crc32c=:{DIGEST}:"),
        *(DIGEST, "sha-256=::", "sha-256=:=:", "sha-256=?1", "=", ",", "sha-256=:" + "A" * 5000 + ":"),
    ]
)
QUALITIES = st.sampled_from(
    ["*", "*;q=0", "identity;q=0", "gzip;q=1.0000", ";q", "a;q=nan", "application/x-ndjson", "*/*;q=9,", "/"]
)
CONDITIONAL: dict[str, st.SearchStrategy[str]] = {
    name: values | TEXT
    for name, values in {
        "If-Match": TAGS,
        "If-None-Match": TAGS,
        "If-Modified-Since": DATES,
        "If-Unmodified-Since": DATES,
    }.items()
}
OF_READS = {
    **CONDITIONAL,
    "If-Range": TAGS | DATES | TEXT,
    "Range": st.builds("bytes={}-{}".format, NUMBERS, NUMBERS) | st.just("bytes=0-1,3-4") | TEXT,
    "Accept": QUALITIES | TEXT,
    "Accept-Encoding": QUALITIES | TEXT,
}
OF_WRITES = {
    **CONDITIONAL,
    "Content-Range": st.builds("bytes {}-{}/{}".format, NUMBERS, NUMBERS, NUMBERS) | TEXT,
    **dict.fromkeys(headers.DIGESTS, DIGESTS | TEXT),
    "Content-Encoding": st.sampled_from(["gzip", "identity", "aws-chunked", "gzip, gzip", ","]) | TEXT,
    "Content-Language": st.sampled_from(["de", "-", "de;q=1"]) | TEXT,
}
OF_ALL = {
    **dict.fromkeys(["Accept-Language", "Accept-Charset", "TE"], QUALITIES | TEXT),
    # Not `chunked` alone: the body that is sent is not in chunks.
    "Transfer-Encoding": st.sampled_from(["gzip", "identity", "gzip, chunked", "chunked;a=b", "xchunked"]),
    "Expect": st.sampled_from(["100-continue", "100-CONTINUE", "tea"]),
    "Origin": st.sampled_from(["null", "https://a.test", "\xff"]),
    **dict.fromkeys(["Forwarded", "X-Forwarded-Host", "X-Forwarded-Prefix"], TEXT),
    **dict.fromkeys(["X-Request-Id", "traceparent", "Cookie"], TEXT),
}
#: What is added to the path and to the query, as it is.
ENDINGS = st.sampled_from(
    [
        *([""] * 60),
        *(
            "%FF",
            "%C0%AF",
            "%ED%A0%80",
            "%00",
            "%0D%0AX:%20y",
            "%2F..%2F..",
            "/%2e%2e",
            "%EF%BF%BE",
            "/",
            "//",
        ),
        *(
            "%25",
            "%2525",
            "%E2%80%AE",
            "e%CC%81",
            "+",
            ";a=b",
            "?",
            "?&",
            "?x=1",
            "?prefix=%FF",
            "?limit=%00",
        ),
        *(
            "?limit=1&limit=2",
            "?limit=1_0",
            "?cursor=a",
            "?details",
            "?redirect=maybe",
            "?%FF=1",
            "?=",
            "?a=%",
        ),
    ]
)
#: What the framing of a request, whatever the operation, can be refused with.
FRAMING = {417, 431, 501}

noisy = schemathesis.openapi.from_dict(
    DOCUMENT,
    config=SchemathesisConfig.from_dict(
        {
            "dictionaries": {
                "names": {"values": NAMES},
                "uploads": {"values": [UPLOAD_ID]},
                "links": {"values": LINKS},
            },
            "parameters": {
                "path.name": {"dictionary": "names", "probability": 0.8},
                "path.upload_id": {"dictionary": "uploads", "probability": 0.8},
            },
            "auth": {"openapi": {"bearer": {"bearer": TOKEN}}},
            "generation": {"mode": "positive", "max-examples": 60, "deterministic": True},
            "phases": {"coverage": {"enabled": False}, "examples": {"enabled": False}},
        }
    ),
)


@noisy.hook
def before_generate_case(
    context: schemathesis.HookContext, strategy: st.SearchStrategy[schemathesis.Case[Any]]
) -> st.SearchStrategy[schemathesis.Case[Any]]:
    """Add one or two headers of the operation's kind to each request, and to some any other header."""
    assert context.operation is not None
    own = OF_READS if context.operation.method.upper() in ("GET", "HEAD", "OPTIONS") else OF_WRITES
    noise = _some(own, 1, 2) | st.builds(operator.or_, _some(own, 0, 1), _some(OF_ALL, 1, 1))

    def disturbed(case: schemathesis.Case[Any], added: dict[str, str]) -> schemathesis.Case[Any]:
        case.headers.update({name: value.strip() for name, value in added.items()})
        return case

    return st.builds(disturbed, strategy, noise)


def _some(
    kinds: Mapping[str, st.SearchStrategy[str]], least: int, most: int
) -> st.SearchStrategy[dict[str, str]]:
    names = st.lists(st.sampled_from(sorted(kinds)), min_size=least, max_size=most, unique=True)
    return names.flatmap(lambda chosen: st.fixed_dictionaries({name: kinds[name] for name in chosen}))


@noisy.given(ending=ENDINGS)
@noisy.parametrize()
def test_any_headers_and_targets_are_answered(
    case: schemathesis.Case[Any], ending: str, fuzzed: Service
) -> None:
    """Each answer is documented, each refusal in the envelope, and what RFC 9110 decides is so."""
    request = requests.Request(**_request(case, fuzzed.url)).prepare()
    path, _, query = str(request.url).partition("?")
    added = ending.partition("?")
    request.url = path + added[0] + "?" + "&".join(part for part in (query, added[2]) if part)
    request.url = request.url.removesuffix("?")
    with requests.Session() as session:
        answer = session.send(request, timeout=60, allow_redirects=False)

    _check_envelope(answer)
    documented = {int(status) for status in case.operation.definition.raw["responses"]} | FRAMING
    # With another ending it can be another operation, or none.
    assert answer.status_code in documented or (added[0] and answer.status_code in (404, 405)), answer.text
    _check_meaning(answer, request.headers)


def _request(case: schemathesis.Case[Any], url: str) -> dict[str, Any]:
    sent = case.as_transport_kwargs(base_url=url)
    return {name: value for name, value in sent.items() if name not in ("timeout", "allow_redirects")}


def _check_envelope(answer: requests.Response) -> None:
    """An error is in the envelope, with the id that the header has too."""
    assert answer.status_code not in (500, 502, 503), answer.text
    assert answer.headers["X-Request-Id"]
    if answer.status_code >= 400 and answer.request.method != "HEAD":
        told = answer.json()
        assert told["status"] == answer.status_code
        assert told["request_id"] == answer.headers["X-Request-Id"]
        assert told["message"]
        assert told["code"]


def _check_meaning(answer: requests.Response, sent: Mapping[str, str]) -> None:
    """RFC 9110: what the status says follows from what was sent."""
    writes = answer.request.method not in ("GET", "HEAD", "OPTIONS")
    conditions = set(CONDITIONAL).intersection(sent)
    if answer.status_code == 206:  # section 15.3.7
        assert "Range" in sent
        first, last, _ = re.split("[-/]", answer.headers["Content-Range"].removeprefix("bytes "))
        assert len(answer.content) == int(last) - int(first) + 1 == int(answer.headers["Content-Length"])
    if answer.status_code == 304:  # section 15.4.5
        assert {"If-None-Match", "If-Modified-Since"} & conditions
        assert not answer.content
    if answer.status_code == 412:  # section 15.5.13
        other_version = "/tus" in str(answer.request.url) and sent.get("Tus-Resumable") != "1.0.0"
        assert conditions - {"If-Modified-Since"} or other_version
    if answer.status_code == 416:  # section 15.5.17
        assert "Range" in sent
        assert answer.headers["Content-Range"].startswith("bytes */")
    if answer.status_code == 417:  # section 15.5.18
        assert sent["Expect"].lower() != "100-continue"
    if answer.status_code == 501:
        assert "Transfer-Encoding" in sent
    if answer.ok:
        assert "Transfer-Encoding" not in sent  # RFC 9112, section 6.1
        assert sent.get("Expect", "100-continue").lower() == "100-continue"
        assert not writes or "Content-Range" not in sent  # section 14.5


def test_fuzzing_leaves_a_healthy_service(fuzzed: Service) -> None:
    """After all of it the service is ready, nothing is staged, and no request has failed unexpectedly."""
    ready = requests.get(f"{fuzzed.url}/readyz", timeout=10)

    assert ready.status_code == 200, ready.text
    assert fuzzed.staged() == []
    assert [line for line in fuzzed.log_lines() if line.get("code") == "internal_error"] == []


def test_committed_document_is_the_generated_one() -> None:
    """The committed document is what the code generates; `make docs` makes it so."""
    generated = CliRunner().invoke(main, ["openapi"], catch_exceptions=False)

    assert generated.exit_code == 0
    assert generated.output == STATIC.read_text(encoding="utf-8")


def test_document_is_valid_openapi() -> None:
    """The document is valid OpenAPI 3.1, each of its schemas included."""
    assert DOCUMENT["openapi"].startswith("3.1.")
    schema.validate()


#: Generated clients name their functions by these: a change breaks the code of their users.
OPERATIONS = {
    "greet",
    "tus_options",
    "create_tus_upload",
    "read_tus_offset",
    "append_tus_upload",
    "override_tus_method",
    "terminate_tus_upload",
    "livez",
    "readyz",
    "healthz",
    "whoami",
    "list_files",
    "upload",
    "upload_raw",
    "plan_upload",
    "plan_upload_form",
    "sign_parts",
    "list_parts",
    "complete_upload",
    "abort_upload",
    "download",
    "read_archive",
    "read_file",
    "head_download",
    "head_file",
    "delete",
    "delete_many",
    "restore",
    "restore_folder",
    "list_versions",
    "list_versions_of",
    "copy",
    "copy_folder",
    "move",
    "move_folder",
    "create_upload_link",
    "read_upload_link",
    "upload_by_link",
    "upload_into_link",
}
#: And their types by these.
SCHEMAS = {
    "Aborted",
    "AbortedUpload",
    "CallerDetails",
    "Completed",
    "CompletedUpload",
    "CopiedFile",
    "Copy",
    "CopyFolderRequest",
    "CopyRequest",
    "CopyResult",
    "CopyResults",
    "CreatedUploadLink",
    "DeleteRequest",
    "DeleteResult",
    "DeleteResults",
    "DetailedFiles",
    "Envelope",
    "Failure",
    "FileDetails",
    "FileList",
    "FileNames",
    "FileVersions",
    "Identity",
    "MultipartPlan",
    "NewUploadLink",
    "PartUrl",
    "PartUrls",
    "PartUrlsRequest",
    "PostPlan",
    "PresignedUrl",
    "PutPlan",
    "ReadUploadLink",
    "RestoreRequest",
    "RestoreResult",
    "RestoreResults",
    "RestoredFile",
    "UploadForm",
    "UploadLinkDetails",
    "UploadLinkRequest",
    "UploadPlan",
    "UploadPlanRequest",
    "UploadedFile",
    "UploadedFiles",
    "UploadedPart",
    "UploadedParts",
    "Version",
}


def _operations() -> list[dict[str, Any]]:
    return [operation for operations in DOCUMENT["paths"].values() for operation in operations.values()]


def _nested(value: object) -> Iterator[dict[str, Any]]:
    """Every object in the document."""
    if isinstance(value, dict):
        yield value
    for one in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _nested(one)


def test_document_has_the_names_that_generators_use() -> None:
    """Each operation has an id of its own and each schema one name."""
    assert sorted(operation["operationId"] for operation in _operations()) == sorted(OPERATIONS)
    assert set(DOCUMENT["components"]["schemas"]) == SCHEMAS


def test_document_has_examples() -> None:
    """Every schema that is not made of others alone shows a value, or has a field that does."""
    without = {
        name
        for name, schema in DOCUMENT["components"]["schemas"].items()
        if "properties" in schema and not any("examples" in one for one in _nested(schema))
    }

    assert without == set()


def test_document_describes_every_parameter() -> None:
    """The description is at the parameter, where programs show it (OpenAPI 3.1.1, Parameter Object)."""
    parameters = [one for operation in _operations() for one in operation.get("parameters", [])]
    archive = {one["name"]: one for one in DOCUMENT["paths"]["/archive"]["get"]["parameters"]}

    assert [one["name"] for one in parameters if not one.get("description")] == []
    assert "without `prefix` and `name`, all files of the bucket" in archive["prefix"]["description"]


def test_document_has_no_null_defaults_and_only_anchored_patterns() -> None:
    """JSON Schema 2020-12, section 6.3.3: a pattern that is not anchored matches anywhere in the value."""
    found = list(_nested(DOCUMENT))
    patterns = {one["pattern"] for one in found if isinstance(one.get("pattern"), str)}

    assert [one for one in found if "default" in one and one["default"] is None] == []
    assert len(patterns) >= 4
    assert {pattern for pattern in patterns if not (pattern[0] == "^" and pattern[-1] == "$")} == set()


def test_document_has_the_answers_that_every_operation_can_give() -> None:
    """Every operation can fail with 500 and with a Host that is not valid, 400; a body has a limit, 413."""
    lacking = {
        (operation["operationId"], status)
        for operation in _operations()
        for status in ("400", "500", *(("413",) if "requestBody" in operation else ()))
        if status not in operation["responses"]
    }

    assert lacking == set()


def test_document_and_routes_are_the_same(tmp_path: Path) -> None:
    """Every route and method of the service is in the document, and nothing else is."""
    rules = create_app(settings_for(tmp_path), MemoryStore()).url_map.iter_rules()
    served = {
        (method, path)
        for rule in rules
        if (path := re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule)) not in UNDOCUMENTED
        for method in rule.methods or ()
    }
    documented = {
        (method.upper(), path)
        for path, operations in DOCUMENT["paths"].items()
        for method in operations
        if method in {"get", "head", "post", "put", "patch", "delete", "options", "trace"}
    }
    # Every GET answers to HEAD as well, which HTTP itself says; the document does where HEAD is of use.
    implied = {("HEAD", path) for method, path in documented if method == "GET"}

    assert served - implied == documented - implied
    assert implied <= served
    assert {("HEAD", "/files/{name}"), ("HEAD", "/download/{name}")} <= documented


def test_operations_declare_who_may(tmp_path: Path) -> None:
    """The document asks for a token wherever the service does."""
    client = create_app(
        settings_for(tmp_path, api_tokens=(ENTRY,), allow_anonymous=False), MemoryStore()
    ).test_client()
    asked = {}
    for path, operations in DOCUMENT["paths"].items():
        for method, operation in operations.items():
            url = path.replace("{name}", "a").replace("{upload_id}", "a")
            status = client.open(url, method=method.upper()).status_code
            asked[method, path] = (status == 401, bool(operation.get("security")))

    assert {where: found for where, found in asked.items() if found[0] != found[1]} == {}
