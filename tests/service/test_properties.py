"""Names and cursors of any kind: valid ones come back unchanged, others are refused."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import pytest
import requests
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from werkzeug.http import parse_options_header

from s3api.app import create_app
from s3api.failures import InvalidName
from s3api.names import check_name, guess_content_type
from s3api.presentation import disposition
from s3api.schemas import NAME_SCHEMA
from support.memory_store import MemoryStore
from support.servers import S3, Service
from support.stores import settings_for

# The same examples every time in CI; new ones on a developer's machine.
COMMON = settings(derandomize=os.environ.get("CI") == "true")
MANY = settings(COMMON, max_examples=settings().max_examples * 2)
REAL = settings(COMMON, max_examples=40)

# Half of the letters are those that others got wrong.
AWKWARD = " +%&#?=;,'\"()!*~$@:|<>[]{}^`._-0aZéü\u0301日ß😀\u200b\u2028\u202e\ufeff\U0001fffe\U0010ffff"
LETTERS = st.one_of(
    st.sampled_from(AWKWARD + "/"),
    st.characters(codec="utf-8", exclude_categories=["Cc"], exclude_characters="\ufffe\uffff"),
)
ANY_LETTERS = st.one_of(st.sampled_from("./\\\0\n\r\x7f\x85\ud800\ufffe\uffff" + AWKWARD), st.characters())


def allowed(name: str) -> bool:
    """The rule, as the contract has it."""
    try:
        length = len(name.encode())
    except UnicodeEncodeError:
        return False
    return (
        1 <= length <= 1024
        and not any(unicodedata.category(letter) == "Cc" or letter in "\\\ufffe\uffff" for letter in name)
        and not name.startswith("/")
        and {".", ".."}.isdisjoint(name.split("/"))
    )


def _stretched(text: str, length: int) -> str:
    """The text again and again, up to a length in bytes."""
    whole = text.encode() * (length // len(text.encode()) + 1)
    return whole[:length].decode(errors="ignore")


SHORT_NAMES = st.text(LETTERS, min_size=1, max_size=40)
LONG_NAMES = st.builds(_stretched, SHORT_NAMES, st.sampled_from([255, 256, 1023, 1024]))
NAMES = st.one_of(SHORT_NAMES, LONG_NAMES).filter(allowed)
TOO_LONG = st.builds(lambda name: name + "x" * (1025 - len(name.encode())), SHORT_NAMES)
BAD_NAMES = st.one_of(
    st.text(ANY_LETTERS, min_size=1, max_size=40),
    SHORT_NAMES.map(lambda name: f"/{name}"),
    st.builds("{}/{}/{}".format, SHORT_NAMES, st.sampled_from([".", ".."]), SHORT_NAMES),
    TOO_LONG,
).filter(lambda name: not allowed(name))


# --- what is a name


@MANY
@given(st.one_of(st.text(ANY_LETTERS), NAMES, BAD_NAMES))
@example("")
@example("...")
@example("a/..")
@example("é" * 512)
@example("é" * 513)
def test_rule_of_names(name: str) -> None:
    """`check_name` takes what the contract allows, unchanged, and nothing else."""
    try:
        found = check_name(name)
    except InvalidName:
        found = None

    assert found == (name if allowed(name) else None)


@MANY
@given(st.one_of(st.text(ANY_LETTERS, max_size=60), SHORT_NAMES, BAD_NAMES))
@example("a\n")
@example("\u2028/../x")
def test_document_has_the_same_rule(name: str) -> None:
    """The pattern in the OpenAPI document allows the same names, but for what counts bytes."""
    assume(not re.search(r"[\ud800-\udfff]", name) and len(name.encode()) <= 1024)

    assert (re.fullmatch(str(NAME_SCHEMA["pattern"]), name) is not None) == allowed(name)


@MANY
@given(NAMES)
@example('quo"te')
@example("100%")
@example("a//")
def test_disposition_tells_the_own_name(name: str) -> None:
    """Content-Disposition is ASCII on one line, and parses back to the name's last segment."""
    value = disposition(name, guess_content_type(name))
    kind, options = parse_options_header(value)

    assert value.isascii()
    assert value.isprintable()
    assert kind in ("inline", "attachment")
    assert options == {"filename": [segment for segment in name.split("/") if segment][-1]}


# --- names that go round


class Memory:
    """The app over a store in memory, and a client of it."""

    def __init__(self, directory: Path) -> None:
        self.store = MemoryStore()
        self.client: Any = create_app(settings_for(directory), self.store).test_client()

    def __repr__(self) -> str:
        return "Memory()"  # Hypothesis shows it with every example that fails

    def clear(self) -> None:
        self.store.objects.clear()
        self.store.uploads.clear()


@pytest.fixture(scope="module")
def memory(tmp_path_factory: pytest.TempPathFactory) -> Memory:
    return Memory(tmp_path_factory.mktemp("memory"))


@pytest.fixture(scope="module")
def real(ministack_s3: S3, make_service: Callable[..., Service]) -> Service:
    """A service whose bucket holds nothing but what an example puts there."""
    return make_service(ministack_s3, ministack_s3.make_bucket("day02-properties"))


def _form(own_name: str, prefix: str, data: bytes) -> tuple[bytes, dict[str, str]]:
    """The form as browsers and curl send it.

    They write a quotation mark as %22 and a percent sign as it is, so a name with %22 in it needs the other
    spelling, in full.
    """
    file_name = f'filename="{own_name.replace(chr(34), "%22")}"'
    if "%22" in own_name:
        file_name = f"filename*=UTF-8''{quote(own_name, safe='')}"
    body = (
        f'--b0b\r\nContent-Disposition: form-data; name="prefix"\r\n\r\n{prefix}\r\n'
        f'--b0b\r\nContent-Disposition: form-data; name="file"; {file_name}\r\n\r\n'
    ).encode("utf-8", "surrogatepass")
    return body + data + b"\r\n--b0b--\r\n", {"Content-Type": "multipart/form-data; boundary=b0b"}


def _split(name: str) -> tuple[str, str]:
    head, slash, own = name.rpartition("/")
    return head + slash, own


def _url(route: str, name: str) -> str:
    return f"{route}{quote(name, safe='')}"


def _path(route: str, name: str) -> dict[str, str]:
    """A decoded path as a server passes it on; a test client would normalise it."""
    return {"PATH_INFO": (route + name).encode("utf-8", "surrogatepass").decode("latin-1")}


@MANY
@given(NAMES)
@example("%22")
@example('a"b\u2028.txt')
@example("dir/")
def test_name_goes_round_in_memory(memory: Memory, name: str) -> None:
    """A name is the same by form, raw body and plan, in a listing, a download and a deletion."""
    memory.clear()
    client = memory.client
    prefix, own = _split(name)
    body, headers = _form(own, prefix, b"form")
    formed = client.post("/upload", data=body, headers=headers)

    if own:
        assert formed.json["content"][0]["name"] == name, formed.text
    else:
        assert (formed.status_code, formed.json["message"]) == (404, "The file '' was not found")
    assert client.put(_url("/upload/", name), data=b"raw").json["content"][0]["name"] == name
    assert list(memory.store.objects) == [name]
    planned = client.post("/uploads", json={"name": name, "size": 1}).json["content"]
    if planned["method"] == "POST":
        assert planned["fields"]["key"] == name
    else:
        assert [upload.name for upload in memory.store.uploads.values()] == [name]
    assert client.get("/list_files").json["content"] == [name]
    assert client.get("/list_files", query_string={"prefix": name}).json["content"] == [name]
    signed = client.get(_url("/download/", name)).json
    assert unquote(urlsplit(signed["content"]).path) == f"/{name}"
    assert signed["message"] == f"Successfully generated presigned url for '{name}'"
    assert client.get(_url("/files/", name)).data == b"raw"
    deleted = client.delete(_url("/delete/", name)).json
    assert deleted["message"] == f"Successfully deleted file '{name}' on s3 bucket 'day02-memory'"
    assert memory.store.objects == {}


@REAL
@given(NAMES)
@example("%22")
@example("a//b")
@example("dir/")
@example("\U0001fffe\U0001ffff")
@example("${filename}")
@example("😀" * 256)
def test_name_goes_round_in_s3(real: Service, name: str) -> None:
    """The same on real S3, where presigned requests carry the name as well."""
    prefix, own = _split(name)
    body, headers = _form(own, prefix, b"form")
    formed = requests.post(real.at("/upload"), data=body, headers=headers, timeout=60)

    if own:
        assert formed.json()["content"][0]["name"] == name, formed.text
        assert requests.get(real.at("/files/", name), timeout=60).content == b"form"
    raw = requests.put(real.at("/upload/", name), data=b"raw", timeout=60)
    assert raw.json()["content"][0]["name"] == name, raw.text
    assert requests.get(real.at("/list_files"), timeout=60).json()["content"] == [name]
    signed = requests.get(real.at("/download/", name), timeout=60).json()["content"]
    assert requests.get(signed, timeout=60).content == b"raw"
    deleted = requests.delete(real.at("/delete/", name), timeout=60)
    assert deleted.status_code == 200, deleted.text

    planned = requests.post(real.at("/uploads"), json={"name": name, "size": 4}, timeout=60).json()
    plan = planned["content"]
    if plan["method"] == "POST":
        files = {"file": ("any", b"post")}
        posted = requests.post(plan["url"], data=plan["fields"], files=files, timeout=60)
        assert posted.ok, posted.text
    else:
        asked = requests.post(real.at(f"/uploads/{plan['id']}/parts"), json={"parts": [1]}, timeout=60)
        [part] = asked.json()["content"]
        assert requests.put(part["url"], data=b"post", timeout=60).ok
        assert requests.post(real.at(f"/uploads/{plan['id']}/complete"), timeout=60).ok
    assert requests.get(real.at("/files/", name), timeout=60).content == b"post"
    bulk = requests.post(real.at("/delete"), json={"files": [name]}, timeout=60).json()
    assert bulk["content"] == [{"name": name, "deleted": True}]
    assert requests.get(real.at("/list_files"), timeout=60).json()["content"] == []


@settings(REAL, max_examples=20)
@given(st.sets(NAMES, min_size=1, max_size=6))
@example({"a", "a/", "a//", "a//b", "a/b"})
@example({"a b", "a+b", "a%20b", "a%2Bb"})
def test_names_at_the_boundary_of_a_page_in_s3(real: Service, names: set[str]) -> None:
    """Each name ends a page, and begins the next, without being lost, doubled or changed."""
    try:
        for name in names:
            assert requests.put(real.at("/upload/", name), data=b"", timeout=60).ok
        found = list(_pages(lambda query: requests.get(real.at("/list_files"), query, timeout=60).json()))

        assert found == sorted(names, key=str.encode)
    finally:
        requests.post(real.at("/delete"), json={"files": sorted(names)}, timeout=60)


def _pages(ask: Callable[[dict[str, Any]], dict[str, Any]], **query: Any) -> Iterator[str]:
    """What the pages hold, prefixes too."""
    cursor: dict[str, Any] = {}
    while True:
        page = ask({"limit": 1, **query, **cursor})
        yield from sorted([*page["content"], *page.get("prefixes", ())], key=str.encode)
        if "next" not in page:
            return
        cursor = {"cursor": page["next"]}


# --- names that go nowhere


@MANY
@given(BAD_NAMES)
@example("../etc/passwd")
@example("a/./b")
@example("a\0b")
@example("a\\;b")
@example("C:\\\\b")
@example("\ud800")
@example("x" * 1025)
def test_bad_name_never_reaches_the_store(memory: Memory, name: str) -> None:
    """A name that is not allowed is 400 by every way in, and the store never hears of it."""
    memory.clear()
    client = memory.client
    prefix, own = _split(name)
    body, headers = _form(own, prefix, b"form")
    formed = [client.post("/upload", data=body, headers=headers)] if own else []
    answers = [
        client.put("/", environ_overrides=_path("/upload/", name), data=b"raw"),
        client.get("/", environ_overrides=_path("/files/", name)),
        client.get("/", environ_overrides=_path("/download/", name)),
        client.delete("/", environ_overrides=_path("/delete/", name)),
        client.post("/", environ_overrides=_path("/restore/", name)),
        client.post("/uploads", json={"name": name, "size": 1}),
    ]
    bulk = client.post("/delete", json={"files": [name]}).json

    assert bulk["content"] == [{"name": name, "deleted": False, "code": "invalid_file_name"}]
    for answer in answers:
        assert (answer.status_code, answer.json["code"]) == (400, "invalid_file_name"), answer.request.path
    for answer in formed:
        assert answer.status_code in (400, 404)
    assert memory.store.objects == {}
    assert memory.store.uploads == {}


# --- cursors


@MANY
@given(
    names=st.sets(SHORT_NAMES.filter(allowed), max_size=12),
    limit=st.integers(1, 13),
    prefix=st.sampled_from(["", "a", "a/", "é", " "]),
    delimiter=st.sampled_from(["", "/", "+"]),
)
def test_pages_give_every_name_once(
    memory: Memory, names: set[str], limit: int, prefix: str, delimiter: str
) -> None:
    """Whatever is asked for, the pages hold each name, or what it rolls up to, once and in order."""
    memory.clear()
    for name in {prefix + name for name in names if allowed(prefix + name)} | names:
        memory.client.put(_url("/upload/", name), data=b"-")
    rolled = set()
    for name in memory.store.objects:
        if name.startswith(prefix):
            head, found, _ = name.removeprefix(prefix).partition(delimiter) if delimiter else ("", "", "")
            rolled.add(prefix + head + found if found else name)
    query = {"limit": limit, "prefix": prefix, "delimiter": delimiter}
    pages = _pages(lambda asked: memory.client.get("/list_files", query_string=asked).json, **query)

    assert list(pages) == sorted(rolled, key=str.encode)


@MANY
@given(data=st.data(), prefix=st.sampled_from(["", "a", "a/"]))
def test_altered_cursor_is_refused(memory: Memory, data: st.DataObject, prefix: str) -> None:
    """A cursor of which a letter is changed, added or left out is 400."""
    memory.clear()
    for name in ("a/1", "a/2", "a/3"):
        memory.client.put(_url("/upload/", name), data=b"-")
    query = {"prefix": prefix, "limit": 1}
    cursor = memory.client.get("/list_files", query_string=query).json["next"]
    at = data.draw(st.integers(0, len(cursor)))
    until = data.draw(st.integers(at, min(len(cursor), at + 2)))
    put = data.draw(st.text(st.one_of(st.sampled_from("AZaz09-_.=+/ "), LETTERS), max_size=2))
    altered = cursor[:at] + put + cursor[until:]
    assume(altered != cursor)
    answer = memory.client.get("/list_files", query_string={**query, "cursor": altered})

    assert (answer.status_code, answer.json["code"]) == (400, "invalid_cursor")
    assert memory.client.get("/list_files", query_string={**query, "cursor": cursor}).status_code == 200


@MANY
@given(
    ours=st.tuples(st.sampled_from(["", "a"]), st.sampled_from(["", "/"])),
    theirs=st.tuples(SHORT_NAMES.filter(allowed), st.sampled_from(["", "/", "a"])),
)
def test_cursor_of_another_query_is_refused(
    memory: Memory, ours: tuple[str, str], theirs: tuple[str, str]
) -> None:
    """A cursor belongs to the prefix and the delimiter that it was given out for."""
    assume(ours != theirs)
    memory.clear()
    for name in ("a1", "a2", "a3"):
        memory.client.put(_url("/upload/", name), data=b"-")
    given_for = {"prefix": ours[0], "delimiter": ours[1], "limit": 1}
    cursor = memory.client.get("/list_files", query_string=given_for).json["next"]
    used_with = {"prefix": theirs[0], "delimiter": theirs[1], "limit": 1, "cursor": cursor}
    answer = memory.client.get("/list_files", query_string=used_with)

    assert (answer.status_code, answer.json["code"]) == (400, "invalid_cursor")


@MANY
@given(st.text(max_size=200))
def test_cursor_that_never_was_is_refused(memory: Memory, cursor: str) -> None:
    """Text that the service did not sign is not a cursor."""
    answer = memory.client.get("/list_files", query_string={"cursor": cursor})

    assert (answer.status_code, answer.json["code"]) == (400, "invalid_cursor")
